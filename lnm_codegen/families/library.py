"""Lookup of neurons by name, from a text definition, or from a Python file.

`call_function` and `function_of` take other functions of a user's file or module, such as one that
returns samples, or a loss function.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.language.family import Family, require_returned
from lnm_codegen.language.misuse import as_number, as_numbers, building
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.text.definition import load as load
from lnm_codegen.validation import did_you_mean, require_arguments, require_known, shown


def get(name: str, **arguments: Any) -> Neuron:
    """Return a neuron of a built-in family, `get("lnm", degree=3)`.

    Numbers may be given as arrays or tensors too, `get("lif", tau=torch.tensor(4.0))`. One element
    in any shape is a number, except in an argument that takes a sequence.

    Raises:
        ModelError: An unknown family, or an argument that it does not take.
    """
    build = FAMILIES[require_known("get", "family", name, FAMILIES)]
    kinds = {p.name: str(p.annotation) for p in build.signature.parameters.values()}
    return build(
        **{
            word: as_numbers(value) if "Sequence" in kinds.get(word, "") else as_number(value)
            for word, value in arguments.items()
        }
    )


def require_reference(where: str, word: str, reference: Any) -> str:
    """Return a text, which may name a neuron; raise ModelError for a neuron or anything else."""
    if not isinstance(reference, str):
        accepted = "the name of a built-in family, a .toml file, or file.py:function, as text"
        remedy = "Write neuron.to_toml() to a .toml file and give its name."
        kind = f"{word} is a {type(reference).__name__}, not a text"
        raise ModelError(where, kind, accepted, remedy if isinstance(reference, Neuron) else "")
    return reference


def resolve(reference: str, /, **arguments: Any) -> Neuron:
    """Return the neuron of a reference, as the command line takes it.

    Args:
        reference: One of
            `lif`                  a built-in family;
            `my_lif.toml`          a text definition, which takes no arguments and runs no code;
            `file.py:function`     a function of a Python file, which is imported, that is, run;
            `module:function`      a function of a module, installed or in the current folder.
            The function is a family, any callable that returns a Neuron, or a Neuron itself.
        **arguments: Arguments of the family or the callable.

    Raises:
        ModelError: An unknown reference, an argument that is not taken, or an exception of the
            user's code, with file and line.
    """
    require_reference("resolve", "reference", reference)
    if reference.endswith(".toml"):
        _refuse_arguments(reference, "a text definition", arguments)
        return load(reference)
    place, colon, name = reference.rpartition(":")
    if colon:
        return _from_python(reference, place, name, arguments)
    if reference not in FAMILIES:
        hint = did_you_mean(reference, FAMILIES)
        if reference.endswith(".py"):
            hint = f"Name the function too: {reference}:function."
        accepted = (*FAMILIES, "a .toml file", "file.py:function", "module:function")
        raise ModelError(repr(reference), "no built-in family", accepted, hint)
    return FAMILIES[reference](**arguments)


def resolve_recorded(reference: str, arguments: dict[str, Any]) -> Neuron:
    """Return the neuron of a reference and its arguments, both recorded in a file.

    A Python file or a module is imported, as `resolve` does. But no function of it is called,
    except a family: a file of unknown origin could name `os:abort`, or `os:system` with a command.

    Raises:
        ModelError: See `resolve`; the name of anything but a family or a neuron.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or reference.endswith(".toml"):
        return resolve(reference, **arguments)
    return _from_python(reference, place, name, arguments, recorded=True)


def is_missing(reference: str) -> bool:
    """Report whether the file or module of a reference cannot be found.

    A package may be imported for that, as Python does for a module in it.
    """
    place, colon, _ = reference.rpartition(":")
    file = Path(reference if reference.endswith(".toml") else place)
    if file.suffix in (".toml", ".py"):
        return not file.exists()
    if not colon:
        return False
    with _search_path(Path.cwd()):
        try:
            spec = _guarded(None, place, "finding it", _built, importlib.util.find_spec, place)
            return spec is None or spec.origin is None  # a folder of that name is no module
        except LnmError as error:
            return isinstance(error.__cause__, ModuleNotFoundError)


def _refuse_arguments(reference: str, kind: str, arguments: dict[str, Any]) -> None:
    if arguments:
        given = ", ".join(f"{key}={shown(value)}" for key, value in arguments.items())
        problem = f"{kind} takes no arguments, given {given}"
        raise ModelError(reference, problem, remedy="Write the values into it.")


def _from_python(
    reference: str, place: str, name: str, arguments: dict[str, Any], recorded: bool = False
) -> Neuron:
    with _imported(place) as module:
        target = _member(module, place, name)
        if recorded and not isinstance(target, Family | Neuron):
            problem = f"a {type(target).__name__}, which a run folder cannot record"
            accepted = "a family or an lnm.Neuron"
            raise ModelError(reference, problem, accepted, "Write @lnm.family above it.")
        return _neuron(module, reference, target, arguments)


def call_function(
    reference: str,
    arguments: Mapping[str, Any],
    offered: Mapping[str, Callable[[], Any]] | None = None,
) -> Any:
    """Return what a function of a file or module of the user returns; see `function_of`.

    With `offered`, a class may stand for the function.

    Args:
        reference: `file.py:function` or `module:function`.
        arguments: Arguments of the function, by name.
        offered: Further arguments, each with a function that returns its value. They are given
            where the signature names them and `arguments` does not.

    Raises:
        ModelError: As for `function_of`; an argument that the function does not take, or an
            exception of the user's code, with file and line.
    """
    with _own_function(reference, or_class=offered is not None) as (module, function):
        named = inspect.signature(function).parameters
        more = {
            word: value()
            for word, value in (offered or {}).items()
            if word in named and word not in arguments
        }
        _require_arguments(reference, function, {**arguments, **more})
        return _guarded(module, reference, "calling it", function, **arguments, **more)


def function_of(reference: str) -> Callable[..., Any]:
    """Return a function of a file or module of the user.

    A run folder records the reference, and readers of the folder call the function again. A folder
    of unknown origin could name `shutil:rmtree` with a path. So the function must be written in
    the file or module that the reference names, and that must be neither part of Python nor of an
    installed package.

    Raises:
        ModelError: No such function, or one written elsewhere.
    """
    with _own_function(reference) as (_, function):
        return function


@contextmanager
def _own_function(
    reference: str, or_class: bool = False
) -> Iterator[tuple[ModuleType, Callable[..., Any]]]:
    place, _, name = reference.rpartition(":")
    with _imported(place) as module:
        kinds = "function or class" if or_class else "family, function or neuron"
        function = _member(module, place, name, kinds)
        _require_own(reference, module, function, or_class)
        yield module, function


def _require_own(reference: str, module: ModuleType, function: Any, or_class: bool) -> None:
    """Raise ModelError unless a function is written in a module that is not installed."""
    accepted = "a function that is written in the file or module that you name"
    is_function = inspect.isfunction(function) or (or_class and inspect.isclass(function))
    if not is_function or function.__module__ != module.__name__:
        kind = type(function).__name__
        problem = "it is imported there" if is_function else f"a {kind}"
        raise ModelError(reference, problem, accepted, "Write a function that returns it.")
    file = Path(getattr(module, "__file__", None) or "").resolve()
    library = Path(sysconfig.get_path("stdlib")).resolve()
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    package = Path(__file__).resolve().parents[1]
    if installed or not file.is_file() or {library, package} & set(file.parents):
        problem = "a function of Python or of an installed package, which a run folder cannot name"
        remedy = "Call it in a function of a file of your own."
        raise ModelError(reference, problem, accepted, remedy)


@contextmanager
def _imported(place: str) -> Iterator[ModuleType]:
    """Import a Python file or a module; its folder is searched for imports meanwhile."""
    is_file = place.endswith(".py")
    file = Path(place)
    if is_file and not file.is_file():
        problem = "a directory" if file.is_dir() else "no such file"
        raise ModelError(place, problem, remedy="Give the path of a Python file.")
    with _search_path(file.resolve().parent if is_file else Path.cwd()):
        yield _import_file(file) if is_file else _import_module(place)


@contextmanager
def _search_path(folder: Path) -> Iterator[None]:
    """Append `folder` to the search path of imports."""
    entry = str(folder)
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path[:] = [path for path in sys.path if path is not entry]  # an equal one is another's


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Loader that compiles the source at each import, without `__pycache__`."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_file(file: Path) -> ModuleType:
    """Run a Python file as a module at each call, so that an edit takes effect."""
    name = f"_lnm_file_{file.stem}"
    loader = _SourceLoader(name, str(file))
    module = ModuleType(name)
    module.__file__, module.__loader__ = loader.path, loader
    sys.modules[name] = module  # for dataclasses and pickle
    try:
        _guarded(module, str(file), "importing it", _built, loader.exec_module, module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        accepted = "file.py:function or module:function"
        raise ModelError(repr(name), "neither a Python file nor a module", accepted)
    importlib.invalidate_caches()  # a file written since the last import
    try:
        module: ModuleType = _guarded(
            None, name, "importing it", _built, importlib.import_module, name
        )
    except ModelError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}."):
            problem = f"no module {cause.name!r}, installed or in the current folder"
            remedy = "For a file write its path, file.py:function."
            raise ModelError(name, problem, remedy=remedy) from error
        raise
    return module


def _built(run: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run the user's code that builds expressions."""
    with building():
        return run(*args, **kwargs)


def _guarded(
    module: ModuleType | None,
    where: str,
    doing: str,
    run: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Run the user's code; its exception becomes one line and remains as the cause.

    The line begins with the file of `module`, if that is given, and the number of its last line
    in the traceback.
    """
    try:
        return run(*args, **kwargs)
    except LnmError as error:
        line = _line(module, error.__cause__) or _line(module, error)
        if not line:
            raise
        raise error.within(line) from error
    except (Exception, SystemExit) as error:
        message = " ".join(str(error).split()).rstrip(".") or "no message"
        problem = f"{doing} raised {type(error).__name__}: {message}"
        raise ModelError(_line(module, error) or where, problem) from error


def _line(module: ModuleType | None, error: BaseException | None) -> str:
    """Return "file.py:12", the last line of the module in a traceback, or an empty string."""
    file = getattr(module, "__file__", None)
    if file is None or error is None:
        return ""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f"{file}:{error.lineno}"
    lines = traceback.walk_tb(error.__traceback__)
    numbers = [number for frame, number in lines if frame.f_code.co_filename == file]
    return f"{file}:{numbers[-1]}" if numbers else ""


def _member(
    module: ModuleType, place: str, name: str, kinds: str = "family, function or neuron"
) -> Any:
    members = vars(module)
    if name in members:
        return members[name]
    offers = [key for key, value in members.items() if _is_offered(module, key, value)]
    classes = [k for k, v in members.items() if inspect.isclass(v) and _is_written(module, k, v)]
    found = offers + classes * ("class" in kinds)
    accepted = found or f"none; it has no {kinds}"
    raise ModelError(place, f"no {name!r} in it", accepted, did_you_mean(name, found))


def _is_offered(module: ModuleType, key: str, value: Any) -> bool:
    """Report whether a member is a public family or neuron, or a function written there."""
    own = inspect.isfunction(value) and _is_written(module, key, value)
    return own or (not key.startswith("_") and isinstance(value, Family | Neuron))


def _is_written(module: ModuleType, key: str, value: Any) -> bool:
    return not key.startswith("_") and value.__module__ == module.__name__


def _neuron(module: ModuleType, reference: str, target: Any, arguments: dict[str, Any]) -> Neuron:
    if isinstance(target, Neuron):
        _refuse_arguments(reference, "a neuron", arguments)
        return target
    if not callable(target):
        accepted = "a family, a function that returns an lnm.Neuron, or an lnm.Neuron"
        raise ModelError(reference, f"a {type(target).__name__}", accepted)
    if not isinstance(target, Family):  # a family validates its own arguments
        _require_arguments(reference, target, arguments)
    made = _guarded(module, reference, "calling it", _built, target, **arguments)
    return require_returned(reference, made)


def _require_arguments(reference: str, function: Any, arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without one
        return
    require_arguments(reference, signature, (), arguments)
