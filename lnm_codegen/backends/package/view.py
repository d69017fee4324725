"""View of the files that every package has."""

from __future__ import annotations

import json
import re
import textwrap

from lnm_codegen.backends.base import Model
from lnm_codegen.backends.package.targets import Target, Words, distribution, module_name
from lnm_codegen.backends.plan import Plan
from lnm_codegen.backends.python import enclosed, function_name, shape_text, tuple_text
from lnm_codegen.ir.declarations import Param


def class_name(module: str) -> str:
    """Return the layer's name: `CubaLif` for `cuba_lif`."""
    name = "".join(word[:1].upper() + word[1:] for word in module.split("_"))
    return f"{name}Layer" if name == module else name


def package_view(plan: Plan, target: Target) -> dict[str, object]:
    """Return the view of a model on a target."""
    model = plan.model
    module = module_name(model.name, target.name)
    outputs = tuple(f"{o}_seq" for o in model.outputs)
    starts = tuple(f"{s}_init" for s in plan.states)
    return dict(
        family=model.family,
        module=module,
        function=function_name(model.name),
        layer=class_name(function_name(model.name)),
        distribution=distribution(model.name, target.name),
        equations=model.equations,
        summary=target.summary,
        requirements=_paragraph(target.requirements),
        test_text=_paragraph(
            f"`tests/test_{module}.py` compares outputs and gradients with the same neuron in plain"
            f" PyTorch (`tests/reference.py`). {target.test_text}"
        ),
        dependencies=_quoted(target.dependencies),
        has_data=bool(target.data),
        data=_quoted(target.data),
        io=model.dtype,
        real=model.real,
        by_rows=plan.finest != "layer",
        introduction=_paragraph(
            f"The spiking neuron `{model.family}` for PyTorch: {target.summary}, forward and"
            " backward over time each one fused loop nest."
        ),
        types_text=_paragraph(
            f"Sequences are {model.dtype}, contiguous (T, N, *) (others are copied); states,"
            f" parameters and arithmetic are {model.real}.",
            *_rows_text(model.layer_params),
        ),
        has_further=len(model.inputs) > 1,
        outputs=tuple_text(tuple(map(_text, outputs))),
        states=f"{{{', '.join(f'{_text(s.name)}: {_number(s.init)}' for s in model.states)}}}",
        parameters=tuple(_declaration(p) for p in model.params),
        has_draws=any(p.draw is not None for p in model.layer_params),
        counts=f"*(None,) * {len(plan.counts)}, " if plan.counts else "",
        parameter_texts=tuple((p.name, shape_text(p, "C", "*")) for p in model.params),
        start_names=starts,
        out_text=", ".join(outputs),
        one_output=len(outputs) == 1,
        one_result=len(outputs) == 1 and not starts,
        **_shapes(plan, target),
        **_starts(model),
        **_signature(plan),
    )


def _starts(model: Model) -> dict[str, object]:
    """Return the part of the view that has the parameters with which states begin."""
    taken = {p.name for p in model.params}
    own = {p.name: _declaration(p) for p in model.starts.values() if p.name not in taken}
    pairs = (f"{_text(s)}: {_text(p.name)}" for s, p in model.starts.items())
    return dict(
        starts=f"{{{', '.join(pairs)}}}" if model.starts else "",
        start_parameters=tuple(own.values()),
        owned="LAYER_PARAMETERS" if model.starts else "PARAMETERS",
    )


def _shapes(plan: Plan, target: Target) -> dict[str, object]:
    """Return the part of the view that depends on the granularity of parameters."""
    model = plan.model
    pers = {p.per for p in model.layer_params}
    by_channels, takes_shape = "channel" in pers, "neuron" in pers
    inputs, outputs = (", ".join(f"{q}_seq" for q in of) for of in (model.inputs, model.outputs))
    sequences = "(T, N, C, *)" if by_channels else "(T, N, *)"
    axes = "channels on axis 2" if by_channels else "at least two axes"
    arguments = "shape=SAMPLE" if takes_shape else "channels=SAMPLE[0]" if by_channels else ""
    example = arguments.replace("SAMPLE[0]", "128").replace("SAMPLE", "(128,)")
    tensor = ", ".join(
        ["16", "8", "128"]
        + [f"dtype=torch.{model.dtype}"] * (model.dtype != "float32")
        + ['device="cuda"'] * target.on_gpu
    )
    layer = class_name(function_name(model.name))
    return dict(
        by_channels=by_channels,
        axes=3 if by_channels else 2,
        shape_text=f"{sequences} with {axes}",
        takes_channels=by_channels and not takes_shape,
        takes_shape=takes_shape,
        shapes_text=f"{inputs} {sequences} -> {outputs} (same)",
        layer_arguments=arguments,
        example=(
            f"layer = {layer}({example}){'.cuda()' if target.on_gpu else ''}",
            *(f"{x}_seq = torch.randn({tensor})" for x in model.inputs),
            f"{outputs} = layer({inputs})",
        ),
    )


def _signature(plan: Plan) -> dict[str, object]:
    """Return the part of the view that has the arguments and the results of the function."""
    model = plan.model
    function = function_name(model.name)
    inputs = tuple(f"{x}_seq" for x in model.inputs)
    starts = tuple(f"{s}_init" for s in plan.states)
    names = tuple(p.name for p in model.params)
    defaults = (f"{s.name}_init={_number(s.init)}" for s in model.states)
    signature = [*inputs, *names, *defaults]
    returned = ", ".join(
        (*(f"{o}_seq" for o in model.outputs), *(f"{s}_final" for s in plan.states))
    )
    taken = [tuple_text(words) for words in (inputs, names, starts)]
    return dict(
        use_text=_paragraph(
            f"`layer({', '.join(inputs)}, return_state=True)` also returns the states after the"
            " last step, by name; `state=` takes such a dict. The layer calls a function that"
            f" returns {returned}:"
        ),
        trained_text=_paragraph(
            *_initial_text(model.layer_params),
            "`layer.load_state_dict(trained.state_dict())` gives it those of `trained`, a"
            " trained `NeuronLayer` of the same neuron. A state_dict without constants, such as one"
            " of another library, loads too: the constants then keep their values.",
            *(_start_text(state, p) for state, p in model.starts.items()),
        ),
        inputs=tuple_text(tuple(map(_text, inputs))),
        head=enclosed(f"def {function}(", signature, "):"),
        run=enclosed("return run_sequence(", taken, ")", 4),
        input_names=inputs,
        returned_lines=_paragraph(f"{returned}."),
        inputs_text=", ".join(inputs),
        inputs_tuple=tuple_text(inputs)[1:-1],
        signature_lines=enclosed(f"{function}(", signature, ")", 4),
    )


def _start_text(state: str, param: Param) -> str:
    """Return where the layer and the function take a learned initial state."""
    shape = {
        "layer": "one number",
        "channel": f"for (N, C, H, W) `{param.name}.reshape(-1, 1, 1)`",
        "neuron": f"`{param.name}` itself",
    }[param.per]
    return (
        f"The layer begins `{state}` with `{param.name}`."
        f" The function takes it as `{state}_init`: {shape}."
    )


def _paragraph(*sentences: str) -> Words:
    """Return sentences as lines; code in backticks stays on one line."""
    whole = re.sub("`[^`]*`", lambda code: code[0].replace(" ", "\0"), " ".join(sentences))
    lines = textwrap.wrap(whole, 92, break_long_words=False, break_on_hyphens=False)
    return tuple(line.replace("\0", " ") for line in lines)


def _initial_text(params: tuple[Param, ...]) -> Words:
    drawn = ", ".join(f"`{p.name}`" for p in params if p.draw is not None)
    if not drawn:
        return ("A new layer has the initial values of the definition.",)
    return (
        f"A new layer draws {drawn} at random, as a `NeuronLayer` of the same neuron does.",
        "After one `torch.manual_seed` both have the same numbers.",
        "All other parameters have the initial values of the definition.",
    )


def _rows_text(params: tuple[Param, ...]) -> Words:
    places = {"channel": "channel (axis 2)", "neuron": "neuron of a sample"}
    named = {per: [f"`{p.name}`" for p in params if p.per == per] for per in places}
    return tuple(
        f"Parameters with one value for each {places[per]}: {', '.join(names)}."
        for per, names in named.items()
        if names
    )


def _declaration(p: Param) -> str:
    """Return the arguments of a `Parameter` in model.py."""
    size = "()" if p.size is None else f"({p.size},)"
    init = tuple_text([*map(_number, p.init)]) if isinstance(p.init, tuple) else _number(p.init)
    return f"{_text(p.name)}, {_text(p.per)}, {size}, {init}, learnable={p.learnable}"


def _number(value: object) -> str:
    assert isinstance(value, float | int)
    return repr(float(value))


def _text(word: str) -> str:
    return json.dumps(word)


def _quoted(words: Words) -> str:
    return ", ".join(map(_text, words))
