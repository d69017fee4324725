"""Build and load: generated C++ to a shared library in the user's cache, called through ctypes.

A cache entry is a folder named by a hash of the source, the flags, the compiler's version and the
CPU's features. It is made under a temporary name and renamed, so that two processes may build at
once; an entry that is truncated or corrupt is built again.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from lnm_codegen.backends import BACKENDS
from lnm_codegen.backends.base import Model
from lnm_codegen.backends.c_plan import SIZES, Plan, plan_of
from lnm_codegen.errors import ToolError

FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp",
    "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
_TIMEOUT = 300


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: how to call it, what it says its version is."""

    path: str
    version: str


@cache
def compiler() -> Compiler:
    """Return the C++ compiler: $CXX, g++ or clang++.

    Raises:
        ToolError: None is found.
    """
    wanted = os.environ.get("CXX")
    for name in (wanted,) if wanted else ("g++", "clang++", "c++"):
        path = shutil.which(name)
        if path:
            shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            return Compiler(path, shown.stdout.splitlines()[0] if shown.stdout else name)
    raise ToolError(
        f"c: no C++ compiler found ({wanted or 'g++, clang++ or c++'}). Install g++, or use"
        " backend='torch'."
    )


def flags() -> tuple[str, ...]:
    """Return the compiler flags: AVX-512 in whole vectors where the CPU has it."""
    wide = ("-mprefer-vector-width=512",) if "avx512f" in _cpu() else ()
    return (*FLAGS, *wide)


@cache
def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    lines = [x for x in text.splitlines() if x.startswith(("flags", "Features", "model name"))]
    return "\n".join(dict.fromkeys(lines))


def cache_folder() -> Path:
    """Return the folder of compiled kernels: $LNM_CACHE, or the user's cache folder."""
    return Path(os.environ.get("LNM_CACHE") or platformdirs.user_cache_dir("lnm_codegen"))


@dataclass(frozen=True)
class CKernel:
    """A loaded library: its functions, and the argument structs as ctypes classes."""

    plan: Plan
    forward_arguments: type[ctypes.Structure]
    backward_arguments: type[ctypes.Structure]
    forward: Any
    backward: Any
    checkpoints: Any
    library: Path


@cache
def load_c(model: Model) -> CKernel:
    """Build (or find in the cache) and load the C kernels of a model.

    Raises:
        ToolError: No compiler, or it failed; the message has its first error.
    """
    path = build(model)
    plan = plan_of(model)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ToolError(
            f"c: cannot load {path}: {error}. Set LNM_CACHE to a folder whose files may be run."
        ) from None
    functions = [getattr(library, f"{model.name}_{w}") for w in ("forward", "backward")]
    for function in functions:
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    checkpoints = getattr(library, f"{model.name}_checkpoints")
    checkpoints.argtypes, checkpoints.restype = [ctypes.c_int64] * 2, ctypes.c_int64
    return CKernel(
        plan,
        _struct(f"{model.name}_forward_arguments", plan.forward_fields),
        _struct(f"{model.name}_backward_arguments", plan.backward_fields),
        functions[0],
        functions[1],
        checkpoints,
        path,
    )


def _struct(name: str, fields: tuple[tuple[str, str], ...]) -> type[ctypes.Structure]:
    shared = [(n, ctypes.c_int64) for n in SIZES]
    own = [
        (text.split()[-1].lstrip("*"), ctypes.c_void_p if "*" in text else ctypes.c_int64)
        for text, _ in fields
    ]
    return type(name, (ctypes.Structure,), {"_fields_": [*shared, *own]})


def build(model: Model) -> Path:
    """Return the library of a model, compiled now if the cache has no sound one."""
    source = BACKENDS["c"].emit(model)
    tool, options = compiler(), flags()
    built = {n: t for n, t in source.files.items() if n != "example.c"}  # that one has the inits
    parts = [*(f"{n}\n{t}" for n, t in built.items()), *options, tool.version, _cpu()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    entry = cache_folder() / f"{model.name}-{key}"
    library = entry / f"{model.name}.so"
    if _is_sound(library):
        return library
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{entry}.lock"):
            if not _is_sound(library):
                shutil.rmtree(entry, ignore_errors=True)
                _compile(source.write, source.entry, entry, library.name, tool, options)
    except OSError as error:
        raise ToolError(
            f"c: cannot use the cache folder {cache_folder()}: {error.strerror or error}. Set"
            " LNM_CACHE to a folder that can be written."
        ) from None
    return library


def _is_sound(library: Path) -> bool:
    try:
        digest = library.with_suffix(".sha256").read_text(encoding="utf-8")
        return hashlib.sha256(library.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def _compile(
    write: Any, entry_file: str, entry: Path, name: str, tool: Compiler, options: tuple[str, ...]
) -> None:
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix=".building-") as folder:
        work = Path(folder) / "entry"
        write(work)
        command = [tool.path, *options, "-o", name, entry_file]
        try:
            done = subprocess.run(
                command, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError(f"c: {tool.path} could not run: {error}.") from None
        if done.returncode:
            lines = [x for x in done.stderr.splitlines() if "error" in x] or ["no message"]
            raise ToolError(f"c: {tool.path} failed: {lines[0]}. Command: {' '.join(command)}")
        library = work / name
        digest = hashlib.sha256(library.read_bytes()).hexdigest()
        library.with_suffix(".sha256").write_text(digest, encoding="utf-8")
        os.replace(work, entry)
