"""Installable package of a neuron: it requires PyTorch, and nothing of this project.

pyproject.toml, README.md
<name>/__init__.py    the function <name> and the layer <Name>
<name>/model.py       names, types, parameters
<name>/draws.py       random initial values, if there are any
<name>/function.py    argument validation and the autograd.Function    equal for all targets
<name>/layer.py       the torch.nn.Module
<name>/kernels.py     the target's kernels on tensors                  and their loader
<name>/...            the sources of the backend
tests/                the package against the module of the torch backend
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from lnm_codegen.backends import BACKENDS
from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.names import MARK, collisions, marked, python_scopes, renamed
from lnm_codegen.backends.package.draws import draw_files
from lnm_codegen.backends.package.targets import TARGETS, Target, module_name
from lnm_codegen.backends.package.view import package_view
from lnm_codegen.backends.plan import Plan, plan_of
from lnm_codegen.backends.render import render_files
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.declarations import Known
from lnm_codegen.options import PackageName
from lnm_codegen.validation import listed, wrong

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


def package(model: Model, backend: PackageName) -> Source:
    """Return an installable folder: a function, a layer, sources and a test.

    Args:
        model: The model.
        backend: "c", "cuda" or "triton".

    Raises:
        ModelError: No package exists for the backend, or no package can have the model's name.
        UnsupportedError: An initial number is a function or drawn by one of your own, a parameter
            has the name of an attribute of `torch.nn.Module`, or the backend refuses the model.
    """
    if not isinstance(backend, str) or backend not in TARGETS:
        raise wrong("package", "backend", backend, listed(TARGETS))
    _require_supported(model)
    target, sources = TARGETS[backend], BACKENDS[backend].emit(model).files
    twin = replace(renamed(model, marked), name=model.name + MARK)
    _require_no_collision(model, _files(plan_of(twin), target))
    folder = module_name(model.name, target.name)
    reference = BACKENDS["torch"].emit(model)
    files = _files(plan_of(model), target)
    files |= {f"{folder}/{target.module or path}": text for path, text in sources.items()}
    files |= {"tests/reference.py": reference.files[reference.entry]}
    files[f"tests/test_{folder}.py"] = files.pop(f"tests/test_{folder}.py")  # read it last
    return Source(files, f"{folder}/__init__.py")


def _files(plan: Plan, target: Target) -> dict[str, str]:
    """Return every file but the sources and the reference, in the order of reading."""
    folder = module_name(plan.model.name, target.name)
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
    own = draw_files(plan.model) | target.files(plan)
    return files | {f"{folder}/{path}": text for path, text in own.items()}


def _require_supported(model: Model) -> None:
    if model.name in _REQUIRED or model.name in sys.stdlib_module_names:
        raise _hidden(model)
    where = f"package: {model.name}"
    inits = {d.name: d.init for d in model.states} | {p.name: p.init for p in model.layer_params}
    for name, init in inits.items():
        if callable(init):
            problem = f"the init of {name!r} is a function, which no file can contain"
            raise UnsupportedError(where, problem, remedy="Give numbers.")
    for p in model.layer_params:
        if p.draw is not None and not isinstance(p.draw.sample, Known):
            problem = f"the draw of {p.name!r} is a function, which no file can contain"
            remedy = f"Give numbers: neuron.with_init({p.name}=...)"
            remedy += "." if p.size else ", or draw=Draw(Uniform(...))."
            raise UnsupportedError(where, problem, remedy=remedy)
        if p.name in MODULE_ATTRIBUTES:
            problem = f"parameter {p.name!r} has the name of an attribute of torch.nn.Module"
            raise UnsupportedError(where, problem, remedy="Rename the parameter.")


def _require_no_collision(model: Model, files: Mapping[str, str]) -> None:
    """Raise an error if two identifiers of a Python file, with marks, collide."""
    where = f"package: {model.name}"
    for path, text in files.items():
        functions, module = python_scopes(text) if path.endswith(".py") else ({}, set())
        for word in collisions([*functions.values(), module]):
            if word == model.name:
                raise _hidden(model)
            problem = f"the package has another variable or function with the name {word!r}"
            raise UnsupportedError(where, problem, remedy="Rename the parameter.")


def _hidden(model: Model) -> ModelError:
    problem = f"a package with the name {model.name!r} would hide another module or function"
    return ModelError("package", problem, remedy="Give the model another name.")
