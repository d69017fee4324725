"""An installable folder around a neuron's generated sources: it needs PyTorch, and nothing of ours.

    pyproject.toml, README.md
    <name>/__init__.py    the function <name> and the layer <Name>
    <name>/model.py       names, types, parameters
    <name>/function.py    checks and the autograd.Function      one text for every target
    <name>/layer.py       the torch.nn.Module
    <name>/kernels.py     the target's kernels on tensors       and what builds and launches them
    <name>/...            the sources as the backend emits them
    tests/                the package against the torch backend's module

`package_view.py` says what the common files are filled with, `package_targets.py` what a target
adds.
"""

from __future__ import annotations

import sys

from lnm_codegen.backends import BACKENDS
from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.package.targets import TARGETS
from lnm_codegen.backends.package.view import PackageView, package_view
from lnm_codegen.backends.plan import plan_of
from lnm_codegen.backends.render import render
from lnm_codegen.errors import ModelError, UnsupportedError

_COMMON = {
    "__init__.py": "init.py.j2",
    "model.py": "model.py.j2",
    "function.py": "function.py.j2",
    "layer.py": "layer.py.j2",
}
_TAKEN = frozenset(
    """torch triton numpy pytest cuda setuptools reference kernels generated launches Sequence
    run_sequence run bits evaluate leaf per_neuron package_run reference_run Arguments Layer INPUTS
    IO OUTPUTS PARAMETERS REAL STATES DEVICES DEVICE SAMPLE NEURONS NOISE VISIBLE TOLERANCE
    obstacle pytestmark""".split()
)
"""Names that a package has or imports itself, and so cannot have."""
_MODULE_ATTRIBUTES = frozenset(
    """training forward backward T_destination call_super_init dump_patches add_module apply
    bfloat16 buffers children compile cpu cuda double eval extra_repr float get_buffer
    get_extra_state get_parameter get_submodule half ipu load_state_dict modules mtia named_buffers
    named_children named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory state_dict to to_empty train type xpu zero_grad""".split()
)
"""What a parameter of a `torch.nn.Module` cannot be called."""


def package(model: Model, backend: str) -> Source:
    """Return an installable folder for a model: a function, a layer, sources and a test.

    Args:
        model: What `compiler.model_of` gives.
        backend: "c", "cuda" or "triton".

    Returns:
        The files; the entry is the package's `__init__.py`.

    Raises:
        ModelError: No package is made for the backend, or none can have the model's name.
        UnsupportedError: A number to begin with is a function, which no file can hold, a parameter
            has the name of an attribute of `torch.nn.Module`, or the backend refuses the model.
    """
    if not isinstance(backend, str) or backend not in TARGETS:
        accepted = ", ".join(repr(name) for name in TARGETS)
        raise ModelError("package", f"backend is {backend!r}", accepted)
    _check(model)
    plan, target = plan_of(model), TARGETS[backend]
    sources = {target.renamed(n): t for n, t in BACKENDS[backend].emit(model).files.items()}
    view = package_view(plan, target)
    folder = view.module
    inner = {
        **{path: _filled(template, view) for path, template in _COMMON.items()},
        **target.files(plan, view),
        **sources,
    }
    reference = BACKENDS["torch"].emit(model)
    files = {
        "README.md": _filled("readme.md.j2", view),
        "pyproject.toml": _filled("pyproject.toml.j2", view),
        **{f"{folder}/{path}": text for path, text in inner.items()},
        "tests/reference.py": reference.files[reference.entry],
        f"tests/test_{folder}.py": _filled("test.py.j2", view),
    }
    return Source(files, f"{folder}/__init__.py")


def _filled(template: str, view: PackageView) -> str:
    return render(f"package/{template}", view)


def _check(model: Model) -> None:
    if model.name in _TAKEN or model.name in sys.stdlib_module_names:
        raise ModelError(
            "package",
            f"a package called {model.name!r} would hide another module or name",
            remedy="Give the model another name.",
        )
    inits = {d.name: d.init for d in model.states} | {p.name: p.init for p in model.params}
    for name, init in inits.items():
        if callable(init):
            raise UnsupportedError(
                f"package: {model.name}",
                f"the init of {name!r} is a function, which a file cannot hold",
                remedy="Give numbers.",
            )
    for p in model.params:
        if p.name in _MODULE_ATTRIBUTES:
            raise UnsupportedError(
                f"package: {model.name}",
                f"parameter {p.name!r} has the name of an attribute of torch.nn.Module",
                remedy="Rename it.",
            )
