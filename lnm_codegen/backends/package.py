"""Installable package of a neuron: it requires PyTorch, and nothing of this project.

pyproject.toml, README.md
<name>/__init__.py    the function <name> and the layer <Name>
<name>/model.py      names, types, parameters
<name>/draws.py       random initial values, if there are any
<name>/function.py    argument validation and the autograd.Function    equal for all targets
<name>/layer.py       the torch.nn.Module
<name>/kernels.py     the target's kernels on tensors                  and their loader
<name>/...            the sources of the backend
tests/                the package against the module of the torch backend
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from lnm_codegen.backends import BACKENDS
from lnm_codegen.backends.base import Source
from lnm_codegen.backends.c.backend import FLAGS as C_FLAGS
from lnm_codegen.backends.cuda import launches as cuda_launches
from lnm_codegen.backends.cuda.backend import FLAGS as CUDA_FLAGS
from lnm_codegen.backends.cuda.kernels import CudaPlan
from lnm_codegen.backends.loops import ABI
from lnm_codegen.backends.names import Scope, collisions, names_of, scope
from lnm_codegen.backends.plan import Plan
from lnm_codegen.backends.render import (
    enclosed,
    function_name,
    in_lines,
    render,
    render_files,
    shape_text,
    tuple_text,
)
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.declarations import Known, Matrix, Param, PolePair, Poles, Uniform
from lnm_codegen.options import PackageName
from lnm_codegen.validation import listed, wrong

# Targets of packages: the loaders of their kernels, and their words in the README.


Words = tuple[str, ...]

_TORCH, _TRITON = "torch>=2.6", "triton>=3.3"


class Target(NamedTuple):
    """A backend that packages are made for.

    Attributes:
        summary: The kernels, in a few words.
        requirements: Requirements of a machine, as sentences.
        test_text: Conditions under which the test is skipped, as a sentence.
        dependencies: Distributions that are installed with the package.
        data: Patterns of the files that are not Python.
        on_gpu: True if tensors are on a GPU.
        files: A plan to the files of this target.
        module: Name of the backend's file in the package; "" keeps the names.
        name: The backend, the end of the package's name: packages of one neuron on several
            backends can be installed together.
    """

    summary: str
    requirements: str
    test_text: str
    dependencies: Words
    data: Words
    on_gpu: bool
    files: Callable[[Plan], dict[str, str]]
    name: str
    module: str = ""


def module_name(name: str, backend: str) -> str:
    """Return the name of the module that is imported, for a neuron's name."""
    return f"{function_name(name)}_{backend}"


def distribution(name: str, backend: str) -> str:
    """Return the name of the distribution."""
    return f"{function_name(name)}-neuron-{backend}"


def _loaders(
    backend: str, templates: dict[str, str], plan: Plan, **words: object
) -> dict[str, str]:
    name = plan.name
    shared = dict(
        family=plan.family,
        name=name,
        module=module_name(name, backend),
        distribution=distribution(name, backend),
    )
    return render_files({f: f"package/{t}" for f, t in templates.items()}, shared | words)


def _flag_lines(flags: Words) -> Words:
    half = -(-len(flags) // 2)
    rows = (flags[:half], flags[half:])
    return tuple(" ".join(f'"{flag}",' for flag in row) for row in rows)


def _c_files(plan: Plan) -> dict[str, str]:
    name = plan.name
    return _loaders(
        "c",
        {"kernels.py": "c_kernels.py.j2", "build.py": "c_build.py.j2", "cache.py": "cache.py.j2"},
        plan,
        sources=f'"{name}.cpp", "{name}.h", "{name}_step.h"',
        flags=_flag_lines(C_FLAGS),
        abi=ABI,
    )


def _triton_files(plan: Plan) -> dict[str, str]:
    view = dict(family=plan.family)
    return {"kernels.py": render("package/triton_kernels.py.j2", view)}


def _cuda_files(plan: Plan) -> dict[str, str]:
    name = plan.name
    templates = {"kernels.py": "cuda/kernels.py.j2", "build.py": "cuda/build.py.j2"}
    loaders = _loaders(
        "cuda",
        templates | {"cache.py": "cache.py.j2"},
        plan,
        headers=f'"{name}_layout.h", "{name}_step.h"',
        flags=_flag_lines(CUDA_FLAGS),
        abi=ABI,
    )
    return loaders | {"launches.py": launches_text(plan)}


def launches_text(plan: Plan) -> str:
    """Return our module of sizes and launches, with the numbers of one neuron."""
    numbers = CudaPlan(plan).launches
    text = Path(cuda_launches.__file__).read_text(encoding="utf-8")
    body = text.partition('"""\n\n')[2]
    view = dict(plan=plan, body=body, numbers=numbers._asdict().items())
    return render("package/cuda/launches.py.j2", view)


TARGETS = {
    "c": Target(
        summary="C++ kernels for CPUs",
        requirements="PyTorch, and a C++17 compiler with OpenMP: `$CXX`, else g++, clang++ or c++."
        " The first call compiles the kernels for the CPU of the machine, into `$XDG_CACHE_HOME`"
        " (`~/.cache`).",
        test_text="It is skipped without a compiler.",
        dependencies=(_TORCH,),
        data=("*.cpp", "*.h", "*.c"),
        on_gpu=False,
        files=_c_files,
        name="c",
    ),
    "cuda": Target(
        summary="CUDA C kernels for NVIDIA GPUs",
        requirements="PyTorch, an NVIDIA GPU (compute capability 8.0 or later) with its driver, and"
        " a compiler: NVRTC (`pip install cuda-bindings nvidia-cuda-nvrtc`, of a CUDA version that"
        " the driver supports) or nvcc on PATH. The first call compiles the kernels for the GPU of"
        " the machine, into `$XDG_CACHE_HOME` (`~/.cache`).",
        test_text="It is skipped without a GPU or a compiler.",
        dependencies=(_TORCH,),
        data=("*.cu", "*.cpp", "*.h"),
        on_gpu=True,
        files=_cuda_files,
        name="cuda",
    ),
    "triton": Target(
        summary="Triton kernels for NVIDIA GPUs",
        requirements="PyTorch and Triton, and a GPU. With `TRITON_INTERPRET=1` in the environment,"
        " Triton's interpreter runs the kernels on a CPU, slowly, for trials and tests.",
        test_text="It is skipped without a GPU, unless `TRITON_INTERPRET=1` is set.",
        dependencies=(_TORCH, _TRITON),
        data=(),
        on_gpu=True,
        files=_triton_files,
        name="triton",
        module="generated.py",  # the neuron's own name may be a keyword, and is the function's
    ),
}
"""Every backend that packages are made for."""


# View of the files that every package has.


def class_name(module: str) -> str:
    """Return the layer's name: `CubaLif` for `cuba_lif`."""
    name = "".join(word[:1].upper() + word[1:] for word in module.split("_"))
    return f"{name}Layer" if name == module else name


def package_view(plan: Plan, target: Target) -> dict[str, object]:
    """Return the view of a model on a target."""
    module = module_name(plan.name, target.name)
    outputs = tuple(f"{o}_seq" for o in plan.outputs)
    starts = tuple(f"{s}_init" for s in plan.states)
    starts_of_states = (f"{_text(s.name)}: {_number(s.init)}" for s in plan.declared_states)
    return dict(
        family=plan.family,
        module=module,
        function=function_name(plan.name),
        layer=class_name(function_name(plan.name)),
        distribution=distribution(plan.name, target.name),
        equations=plan.equations,
        summary=target.summary,
        requirements=_paragraph(target.requirements),
        test_text=_paragraph(
            f"`tests/test_{module}.py` compares outputs and gradients with the same neuron in plain"
            f" PyTorch (`tests/reference.py`). {target.test_text}"
        ),
        dependencies=_quoted(target.dependencies),
        has_data=bool(target.data),
        data=_quoted(target.data),
        io=plan.dtype,
        real=plan.real,
        by_rows=plan.finest != "layer",
        introduction=_paragraph(
            f"The spiking neuron `{plan.family}` for PyTorch: {target.summary}, forward and"
            " backward over time each one fused loop nest."
        ),
        types_text=_paragraph(
            f"Sequences are {plan.dtype}, contiguous (T, N, *) (others are copied); states,"
            f" parameters and arithmetic are {plan.real}.",
            *_rows_text(plan.layer_params),
        ),
        has_further=len(plan.inputs) > 1,
        outputs=tuple_text(tuple(map(_text, outputs))),
        states=f"{{{', '.join(starts_of_states)}}}",
        parameters=tuple(_declaration(p) for p in plan.params),
        has_draws=any(p.draw is not None for p in plan.layer_params),
        counts=f"*(None,) * {len(plan.counts)}, " if plan.counts else "",
        parameter_texts=tuple((p.name, shape_text(p, "C", "*")) for p in plan.params),
        start_names=starts,
        out_text=", ".join(outputs),
        one_output=len(outputs) == 1,
        one_result=len(outputs) == 1 and not starts,
        **_shapes(plan, target),
        **_starts(plan),
        **_signature(plan),
    )


def _starts(plan: Plan) -> dict[str, object]:
    """Return the part of the view that has the parameters with which states begin."""
    taken = {p.name for p in plan.params}
    own = {p.name: _declaration(p) for p in plan.starts.values() if p.name not in taken}
    pairs = (f"{_text(s)}: {_text(p.name)}" for s, p in plan.starts.items())
    return dict(
        starts=f"{{{', '.join(pairs)}}}" if plan.starts else "",
        start_parameters=tuple(own.values()),
        owned="LAYER_PARAMETERS" if plan.starts else "PARAMETERS",
    )


def _shapes(plan: Plan, target: Target) -> dict[str, object]:
    """Return the part of the view that depends on the granularity of parameters."""
    pers = {p.per for p in plan.layer_params}
    by_channels, takes_shape = "channel" in pers, "neuron" in pers
    inputs, outputs = (", ".join(f"{q}_seq" for q in of) for of in (plan.inputs, plan.outputs))
    sequences = "(T, N, C, *)" if by_channels else "(T, N, *)"
    axes = "channels on axis 2" if by_channels else "at least two axes"
    arguments = "shape=SAMPLE" if takes_shape else "channels=SAMPLE[0]" if by_channels else ""
    example = arguments.replace("SAMPLE[0]", "128").replace("SAMPLE", "(128,)")
    tensor = ", ".join(
        ["16", "8", "128"]
        + [f"dtype=torch.{plan.dtype}"] * (plan.dtype != "float32")
        + ['device="cuda"'] * target.on_gpu
    )
    layer = class_name(function_name(plan.name))
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
            *(f"{x}_seq = torch.randn({tensor})" for x in plan.inputs),
            f"{outputs} = layer({inputs})",
        ),
    )


def _signature(plan: Plan) -> dict[str, object]:
    """Return the part of the view that has the arguments and the results of the function."""
    function = function_name(plan.name)
    inputs = tuple(f"{x}_seq" for x in plan.inputs)
    starts = tuple(f"{s}_init" for s in plan.states)
    names = tuple(p.name for p in plan.params)
    defaults = (f"{s.name}_init={_number(s.init)}" for s in plan.declared_states)
    signature = [*inputs, *names, *defaults]
    returned = ", ".join(
        (*(f"{o}_seq" for o in plan.outputs), *(f"{s}_final" for s in plan.states))
    )
    taken = [tuple_text(words) for words in (inputs, names, starts)]
    return dict(
        use_text=_paragraph(
            f"`layer({', '.join(inputs)}, return_state=True)` also returns the states after the"
            " last step, by name; `state=` takes such a dict. The layer calls a function that"
            f" returns {returned}:"
        ),
        trained_text=_paragraph(
            *_initial_text(plan.layer_params),
            "`layer.load_state_dict(trained.state_dict())` gives it those of `trained`, a"
            " trained `NeuronLayer` of the same neuron. A state_dict without constants, such as one"
            " of another library, loads too: the constants then keep their values.",
            *(_start_text(state, p) for state, p in plan.starts.items()),
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
    return in_lines(re.findall(r"(?:`[^`]*`|\S)+", " ".join(sentences)), 92)


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


# Random initial values of a package's layer, as lines of Python.
#
# `nn.parameters.initial_values` draws those of a `NeuronLayer`. The lines call PyTorch's generator
# in the same order, so both layers draw the same numbers after the same seed.


_AXES = {"layer": "()", "channel": "sample[:1]", "neuron": "sample"}
"""Granularity -> the leading axes of a parameter, in the package's words."""


def draw_files(plan: Plan) -> dict[str, str]:
    """Return the module that draws; none if no parameter is drawn. Every sample is `Known`."""
    drawn = [p for p in plan.layer_params if p.draw is not None]
    if not drawn:
        return {}
    view = dict(
        family=plan.family,
        lines=_draw_lines(drawn),
        has_vectors=any(p.size is not None for p in drawn),
    )
    return {"draws.py": render("package/draws.py.j2", view)}


def _draw_lines(params: Iterable[Param]) -> tuple[str, ...]:
    """Return the statements that add the drawn values to `values`."""
    current: dict[tuple[Known, str], dict[int, str]] = {}
    joint: list[tuple[Known, str, dict[int, str]]] = []
    for p in params:
        assert p.draw is not None
        assert isinstance(p.draw.sample, Known)
        key = (p.draw.sample, p.per)
        if key not in current or p.draw.part in current[key]:
            current[key] = {}
            joint.append((*key, current[key]))
        current[key][p.draw.part] = p.name
    return tuple(line for sample, per, names in joint for line in _lines(sample, _AXES[per], names))


def _lines(sample: Known, axes: str, names: dict[int, str]) -> tuple[str, ...]:
    """Return the statements of one draw; `names` are the parameters of its parts."""
    before: tuple[str, ...] = ()
    match sample:
        case Uniform(ends):
            values = {0: _uniform(axes, ends)}
        case Matrix(poles, first, size):
            before = (_poles(poles, axes), "c, s = phi.cos(), phi.sin()")
            rows = {0: "r * c, -r * s", 1: "r * s, r * c"}
            values = {k: f"coefficients({row}, {first}, {size})" for k, row in rows.items()}
        case PolePair(poles):
            before, values = (_poles(poles, axes),), {0: "r.logit()", 1: "phi"}
    return (*before, *(f'values["{name}"] = {values[part]}' for part, name in names.items()))


def _poles(poles: Poles, axes: str) -> str:
    return f"r, phi = {_uniform(axes, poles.radius)}, {_uniform(axes, poles.angle)}"


def _uniform(axes: str, ends: tuple[float, float]) -> str:
    return f"uniform({axes}, {ends[0]!r}, {ends[1]!r})"


_REQUIRED = ("torch", "triton", "numpy", "pytest", "setuptools", "cuda", "layer", "draws")
"""Modules that a package, its test or its build imports, and must not hide."""

MODULE_ATTRIBUTES = frozenset(
    """training forward T_destination call_super_init dump_patches add_module apply bfloat16
    buffers children compile cpu cuda double eval extra_repr float get_buffer get_extra_state
    get_parameter get_submodule half ipu load_state_dict modules mtia named_buffers named_children
    named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory state_dict to to_empty train type xpu zero_grad""".split()
)
"""Attributes of every torch.nn.Module: no parameter of a layer can have their names."""


def package(plan: Plan, backend: PackageName) -> Source:
    """Return an installable folder: a function, a layer, sources and a test.

    Args:
        plan: The plan.
        backend: "c", "cuda" or "triton".

    Raises:
        ModelError: No package exists for the backend, or no package can have the model's name.
        UnsupportedError: An initial number is a function or drawn by one of your own, a parameter
            has the name of an attribute of `torch.nn.Module`, or the backend refuses the plan.
    """
    if not isinstance(backend, str) or backend not in TARGETS:
        raise wrong("package", "backend", backend, listed(TARGETS))
    _require_supported(plan)
    target, sources = TARGETS[backend], BACKENDS[backend].emit(plan).files
    _require_no_collision(plan)
    folder = module_name(plan.name, target.name)
    reference = BACKENDS["torch"].emit(plan)
    files = _files(plan, target)
    files |= {f"{folder}/{target.module or path}": text for path, text in sources.items()}
    files |= {"tests/reference.py": reference.files[reference.entry]}
    files[f"tests/test_{folder}.py"] = files.pop(f"tests/test_{folder}.py")  # read it last
    return Source(files, f"{folder}/__init__.py")


def _files(plan: Plan, target: Target) -> dict[str, str]:
    """Return every file but the sources and the reference, in the order of reading."""
    folder = module_name(plan.name, target.name)
    templates = {
        "README.md": "readme.md.j2",
        "pyproject.toml": "pyproject.toml.j2",
        f"{folder}/__init__.py": "init.py.j2",
        f"{folder}/model.py": "model.py.j2",
        f"{folder}/function.py": "function.py.j2",
        f"{folder}/layer.py": "layer.py.j2",
        f"tests/test_{folder}.py": "test.py.j2",
    }
    common = {path: f"package/{template}" for path, template in templates.items()}
    files = render_files(common, package_view(plan, target))
    own = draw_files(plan) | target.files(plan)
    return files | {f"{folder}/{path}": text for path, text in own.items()}


def _require_supported(plan: Plan) -> None:
    if plan.name in _REQUIRED or plan.name in sys.stdlib_module_names:
        raise _hidden(plan)
    where = f"package: {plan.name}"
    inits = {d.name: d.init for d in plan.declared_states} | {
        p.name: p.init for p in plan.layer_params
    }
    for name, init in inits.items():
        if callable(init):
            problem = f"the init of {name!r} is a function, which no file can contain"
            raise UnsupportedError(where, problem, remedy="Give numbers.")
    for p in plan.layer_params:
        if p.draw is not None and not isinstance(p.draw.sample, Known):
            problem = f"the draw of {p.name!r} is a function, which no file can contain"
            remedy = f"Give numbers: neuron.with_init({p.name}=...)"
            remedy += "." if p.size else ", or draw=Draw(Uniform(...))."
            raise UnsupportedError(where, problem, remedy=remedy)
        if p.name in MODULE_ATTRIBUTES:
            problem = f"parameter {p.name!r} has the name of an attribute of torch.nn.Module"
            raise UnsupportedError(where, problem, remedy="Rename the parameter.")


def scopes_of(plan: Plan) -> list[Scope]:
    """Return the scopes of the templates in which a name of the plan can equal another word."""
    names = dict(names_of(plan)) | {"layer": (class_name(function_name(plan.name)),)}
    errors = "RuntimeError TypeError ValueError"
    return [
        scope(
            names,
            "INPUTS IO OUTPUTS PARAMETERS REAL STATES Learned NamedTuple Sequence any contextlib"
            f" getattr int isinstance kernels len map math max run_sequence staticmethod suppress"
            f" torch tuple type zip {errors}",
            name="{}",
        ),
        scope(names, f"OUTPUTS PARAMETERS REAL STATES STARTS Learned torch {errors}", layer="{}"),
        scope(names, "run_sequence", param="{}", input="{}_seq", state="{}_init"),
    ]


def _require_no_collision(plan: Plan) -> None:
    for word in collisions(scopes_of(plan)):
        if word == plan.name:
            raise _hidden(plan)
        problem = f"the package has another variable or function with the name {word!r}"
        where = f"package: {plan.name}"
        raise UnsupportedError(where, problem, remedy="Rename the parameter.")


def _hidden(plan: Plan) -> ModelError:
    problem = f"a package with the name {plan.name!r} would hide another module or function"
    return ModelError("package", problem, remedy="Give the model another name.")
