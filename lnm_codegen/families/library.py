"""`lnm.get`, `lnm.load`, `resolve`: neurons by name, from a text file, or from a Python file."""

from __future__ import annotations

import importlib
import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.families import FAMILIES, family_named
from lnm_codegen.language.family import Family
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.text.definition import load as load
from lnm_codegen.validation import did_you_mean


def get(name: str, **arguments: Any) -> Neuron:
    """Return a neuron of a built-in family, `get("lnm", degree=3)`.

    Raises:
        ModelError: No such family, or an argument it does not take.
    """
    return family_named(name)(**arguments)


def resolve(reference: str, /, **arguments: Any) -> Neuron:
    """Return the neuron that a reference names, as the command line takes it.

    Args:
        reference: One of
            `lif`                  a built-in family;
            `my_lif.toml`          a text definition, which takes no arguments and runs no code;
            `file.py:function`     the user's own Python file, which is imported, that is, run;
            `module:function`      likewise a module, installed or in the current folder.
            The function is a family, any callable that returns a Neuron, or a Neuron itself.
        **arguments: Passed to the family or the callable.

    Raises:
        ModelError: Nothing there by that name, an argument that is not taken, or what the user's
            code raised. Errors of lnm_codegen pass through as they are.
    """
    if reference.endswith(".toml"):
        _refuse_arguments(reference, "a text definition", arguments)
        return load(reference)
    place, colon, name = reference.rpartition(":")
    if colon:
        return _from_python(reference, place, name, arguments)
    if reference not in FAMILIES:
        hint = did_you_mean(reference, FAMILIES)
        if reference.endswith(".py"):
            hint = f" Name the function too: {reference}:function."
        raise ModelError(
            f"{reference!r}",
            "no built-in family",
            remedy=(
                f"Built in: {', '.join(FAMILIES)}. Accepted too: a .toml file, file.py:function, "
                f"module:function.{hint}"
            ),
        )
    return FAMILIES[reference](**arguments)


def resolve_recorded(reference: str, arguments: dict[str, Any]) -> Neuron:
    """Return the neuron of a reference that a file recorded, with the arguments it recorded.

    As `resolve`, but arguments go to a family alone: a file that someone else wrote could name any
    callable, `os:system` say, and its arguments would be the command.

    Raises:
        ModelError: As for `resolve`; arguments for what is no family.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or reference.endswith(".toml"):
        return resolve(reference, **arguments)
    return _from_python(reference, place, name, arguments, recorded=True)


def _refuse_arguments(reference: str, what: str, arguments: dict[str, Any]) -> None:
    if arguments:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise ModelError(
            reference,
            f"{what} takes no arguments, given {given}",
            remedy="Write the values into it.",
        )


def _from_python(
    reference: str, place: str, name: str, arguments: dict[str, Any], recorded: bool = False
) -> Neuron:
    is_file = place.endswith(".py")
    file = Path(place)
    if is_file and not file.is_file():
        what = "a directory" if file.is_dir() else "no such file"
        raise ModelError(place, str(what), remedy="Give the path of a Python file.")
    with _search_path(file.resolve().parent if is_file else Path.cwd()):
        module = _import_file(file) if is_file else _import_module(place)
        member = _member(module, place, name)
        if recorded and arguments and not isinstance(member, Family | Neuron):
            raise ModelError(
                reference,
                f"a {type(member).__name__}, and arguments are recorded for it",
                remedy="Accepted from a file: a family. Write @lnm.family above it.",
            )
        return _neuron(reference, member, arguments)


@contextmanager
def _search_path(folder: Path) -> Iterator[None]:
    """Let imports find `folder` after everything else, as a script finds its neighbours."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source at each import: a stale `__pycache__` is neither read nor written."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_file(file: Path) -> ModuleType:
    """Run a Python file as a module, anew at each call, so that an edit is seen."""
    name = f"_lnm_file_{file.stem}"
    loader = _SourceLoader(name, str(file))
    module = ModuleType(name)
    module.__file__, module.__loader__ = loader.path, loader
    sys.modules[name] = module  # dataclasses and pickle look it up
    try:
        _guarded(str(file), "importing it", loader.exec_module, module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ModelError(
            f"{name!r}", "neither a Python file nor a module", "file.py:function or module:function"
        )
    importlib.invalidate_caches()  # a file written since the last look
    try:
        module: ModuleType = _guarded(name, "importing it", importlib.import_module, name)
    except ModelError as error:
        missing = getattr(error.__cause__, "name", None)
        if isinstance(error.__cause__, ModuleNotFoundError) and f"{name}.".startswith(
            f"{missing}."
        ):
            raise ModelError(
                name,
                f"no module {missing!r}, installed or in the current folder",
                remedy="For a file write its path, file.py:function.",
            ) from error
        raise
    return module


def _guarded(where: str, doing: str, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run the user's code; what it raises becomes one line, with the original as its cause."""
    try:
        return run(*args, **kwargs)
    except LnmError:
        raise
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split()) or "no message"
        raise ModelError(f"{where}: {doing} raised {type(error).__name__}: {said}") from error


def _member(module: ModuleType, place: str, name: str) -> Any:
    members = vars(module)
    if name in members:
        return members[name]
    found = [key for key, value in members.items() if _offers(module, key, value)]
    raise ModelError(
        f"{place}: no {name!r} in it. Found: {', '.join(found) or 'no family, function or neuron'}."
        f"{did_you_mean(name, found)}"
    )


def _offers(module: ModuleType, key: str, value: Any) -> bool:
    """Say whether a member may be meant: a family or a neuron, or a function written there."""
    if key.startswith("_"):
        return False
    own = inspect.isfunction(value) and value.__module__ == module.__name__
    return own or isinstance(value, Family | Neuron)


def _neuron(reference: str, target: Any, arguments: dict[str, Any]) -> Neuron:
    if isinstance(target, Neuron):
        _refuse_arguments(reference, "a neuron", arguments)
        return target
    if not callable(target):
        raise ModelError(
            reference,
            f"a {type(target).__name__}",
            "a family, a function that returns an lnm.Neuron, or an lnm.Neuron",
        )
    if not isinstance(target, Family):  # a family checks its own
        _check_arguments(reference, target, arguments)
    neuron = _guarded(reference, "calling it", target, **arguments)
    if not isinstance(neuron, Neuron):
        raise ModelError(
            reference, f"returned {type(neuron).__name__}", remedy="It must return an lnm.Neuron."
        )
    return neuron


def _check_arguments(reference: str, target: Any, arguments: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # a builtin without one
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        accepted = list(signature.parameters)
        unknown = next((key for key in arguments if key not in accepted), "")
        raise ModelError(
            reference, str(error), ", ".join(accepted) or "none", did_you_mean(unknown, accepted)
        ) from None
