"""What the files common to every package are filled with."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from typing import Protocol

from lnm_codegen.backends.plan import Plan
from lnm_codegen.backends.triton.expr import enclosed
from lnm_codegen.backends.triton.host import function_name
from lnm_codegen.ir.declarations import Param

Words = tuple[str, ...]


class TargetWords(Protocol):
    """What a target says of itself in the common files."""

    @property
    def summary(self) -> str:
        """What it is, in a few words."""
        ...

    @property
    def requirements(self) -> str:
        """What a machine must have."""
        ...

    @property
    def test_text(self) -> str:
        """Where the test runs and where it skips."""
        ...

    @property
    def dependencies(self) -> Words:
        """Distributions that are installed with it."""
        ...

    @property
    def data(self) -> Words:
        """Patterns of the files that are not Python."""
        ...

    @property
    def on_gpu(self) -> bool:
        """Whether tensors lie on a GPU."""
        ...


@dataclass(frozen=True, slots=True)
class PackageView:
    """The view of the common templates."""

    family: str
    name: str
    module: str
    layer: str
    distribution: str
    equations: Words
    summary: str
    requirements: Words
    test_text: Words
    dependencies: str
    has_data: bool
    data: str
    io: str
    real: str
    by_rows: bool
    by_channels: bool
    axes: int
    shape_text: str
    introduction: Words
    types_text: Words
    use_text: Words
    takes_channels: bool
    takes_shape: bool
    inputs: str
    outputs: str
    states: str
    parameters: Words
    counts: str
    head: Words
    run: Words
    input_names: Words
    parameter_texts: tuple[tuple[str, str], ...]
    start_names: Words
    returned_lines: Words
    inputs_text: str
    inputs_tuple: str
    out_text: str
    shapes_text: str
    one_output: bool
    one_result: bool
    layer_arguments: str
    example: Words
    signature_lines: Words


def class_name(module: str) -> str:
    """Return the layer's name: `CubaLif` for `cuba_lif`."""
    name = "".join(word[:1].upper() + word[1:] for word in module.split("_"))
    return f"{name}Layer" if name == module else name


def package_view(plan: Plan, target: TargetWords) -> PackageView:
    """Return the view of a model on a target."""
    model = plan.model
    module = function_name(model.name)
    inputs = tuple(f"{x}_seq" for x in model.inputs)
    outputs = tuple(f"{o}_seq" for o in model.outputs)
    starts = tuple(f"{s}_init" for s in plan.states)
    names = tuple(p.name for p in model.params)
    defaults = [
        f"{s}_init={_number(d.init)}" for s, d in zip(plan.states, model.states, strict=True)
    ]
    pers = {p.per for p in model.params}
    by_channels = "channel" in pers
    takes_shape = "neuron" in pers
    arguments = "shape=SAMPLE" if takes_shape else "channels=SAMPLE[0]" if by_channels else ""
    example = arguments.replace("SAMPLE[0]", "128").replace("SAMPLE", "(128,)")
    returned = ", ".join((*outputs, *(f"{s}_final" for s in plan.states)))
    shape_text = "(T, N, C, *) with channels on axis 2" if by_channels else "(T, N, *)"
    signature = [*inputs, *names, *defaults]
    return PackageView(
        family=model.family,
        name=model.name,
        module=module,
        layer=class_name(module),
        distribution=f"{module}-neuron",
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
        by_channels=by_channels,
        axes=3 if by_channels else 2,
        shape_text=shape_text if by_channels else f"{shape_text} with at least two axes",
        introduction=_paragraph(
            f"The spiking neuron `{model.family}` for PyTorch: {target.summary}, forward and"
            " backward over time each one fused loop."
        ),
        types_text=_paragraph(
            f"Sequences are {model.dtype}, contiguous (T, N, *) (others are copied); states,"
            f" parameters and arithmetic are {model.real}.",
            *_rows_text(model.params),
        ),
        use_text=_paragraph(
            f"`layer({', '.join(inputs)}, return_state=True)` also returns the states after the"
            " last step, by name; `state=` takes such a dict. Behind the layer is a function, which"
            f" returns {returned}:"
        ),
        takes_channels=by_channels and not takes_shape,
        takes_shape=takes_shape,
        inputs=_tuple(inputs),
        outputs=_tuple(outputs),
        states=f"{{{', '.join(f'{_text(s.name)}: {_number(s.init)}' for s in model.states)}}}",
        parameters=tuple(_declaration(p) for p in model.params),
        counts=f"*(None,) * {len(plan.counts)}, " if plan.counts else "",
        head=enclosed(f"def {module}(", signature, "):"),
        run=enclosed("return run_sequence(", [*map(_bare_tuple, (inputs, names, starts))], ")", 4),
        input_names=inputs,
        parameter_texts=tuple((p.name, _shape_text(p)) for p in model.params),
        start_names=starts,
        returned_lines=_paragraph(f"{returned}."),
        inputs_text=", ".join(inputs),
        inputs_tuple=_bare_tuple(inputs)[1:-1],
        out_text=", ".join(outputs),
        shapes_text=f"{', '.join(inputs)} {_star(by_channels)} -> {', '.join(outputs)} (same)",
        one_output=len(outputs) == 1,
        one_result=len(outputs) == 1 and not starts,
        layer_arguments=arguments,
        example=(
            f"layer = {class_name(module)}({example}){'.cuda()' if target.on_gpu else ''}",
            *(f"{x} = torch.randn({_example(model.dtype, target.on_gpu)})" for x in inputs),
            f"{', '.join(outputs)} = layer({', '.join(inputs)})",
        ),
        signature_lines=enclosed(f"{module}(", signature, ")", 4),
    )


def _paragraph(*sentences: str) -> Words:
    """Return sentences as lines; what stands in backticks is not torn."""
    whole = re.sub("`[^`]*`", lambda code: code[0].replace(" ", "\0"), " ".join(sentences))
    lines = textwrap.wrap(whole, 92, break_long_words=False, break_on_hyphens=False)
    return tuple(line.replace("\0", " ") for line in lines)


def _star(by_channels: bool) -> str:
    return "(T, N, C, *)" if by_channels else "(T, N, *)"


def _example(dtype: str, on_gpu: bool) -> str:
    words = ["16", "8", "128"]
    words += [f"dtype=torch.{dtype}"] if dtype != "float32" else []
    return ", ".join([*words, *(['device="cuda"'] if on_gpu else [])])


def _rows_text(params: tuple[Param, ...]) -> Words:
    places = {"channel": "channel, which is axis 2", "neuron": "neuron of a sample"}
    named = {per: [f"`{p.name}`" for p in params if p.per == per] for per in places}
    return tuple(
        f"One row for each {places[per]}: {', '.join(names)}."
        for per, names in named.items()
        if names
    )


def _shape_text(p: Param) -> str:
    """Return the shape of a parameter in words."""
    rows = {"layer": (), "channel": ("C",), "neuron": ("C", "*")}[p.per]
    shape = (*rows, str(p.size)) if p.size is not None else rows
    kind = f"({', '.join(shape)}{',' if len(shape) == 1 else ''})" if shape else "A number"
    return kind if p.learnable else f"{kind}; has no gradient"


def _declaration(p: Param) -> str:
    """Return the arguments of a `Parameter` in model.py."""
    size = "()" if p.size is None else f"({p.size},)"
    if isinstance(p.init, tuple):
        init = f"({', '.join(map(_number, p.init))}{',' if len(p.init) == 1 else ''})"
    else:
        init = _number(p.init)
    return f"{_text(p.name)}, {_text(p.per)}, {size}, {init}, learnable={p.learnable}"


def _number(value: object) -> str:
    assert isinstance(value, float | int)
    return repr(float(value))


def _text(word: str) -> str:
    return json.dumps(word)


def _quoted(words: Words) -> str:
    return ", ".join(map(_text, words))


def _tuple(words: Words) -> str:
    """Return a tuple of strings in Python."""
    return f"({_quoted(words)}{',' if len(words) == 1 else ''})"


def _bare_tuple(words: Words) -> str:
    """Return a tuple of names in Python."""
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"
