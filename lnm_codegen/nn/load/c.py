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
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
import torch
from filelock import FileLock
from torch import Tensor

from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.c.backend import CHUNK, C
from lnm_codegen.backends.plan import FAR, SIZES, checkpoints, plan_of
from lnm_codegen.errors import ToolError
from lnm_codegen.nn.function import Kernels

FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp",
    "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
_TIMEOUT = 300


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: how to call it, what it says its version is."""

    command: tuple[str, ...]
    version: str

    @property
    def path(self) -> str:
        """The program that is run."""
        return self.command[0]


@cache
def compiler() -> Compiler:
    """Return the C++ compiler: $CXX (with arguments, such as "ccache g++"), g++ or clang++.

    Raises:
        ToolError: None is found.
    """
    wanted = os.environ.get("CXX")
    try:
        choices = [shlex.split(wanted)] if wanted else [["g++"], ["clang++"], ["c++"]]
    except ValueError as error:
        raise ToolError(
            "c", f"CXX is {wanted!r}: {error}", remedy="Give a command, such as g++."
        ) from None
    for words in choices:
        path = shutil.which(words[0]) if words else None
        if path:
            return _asked((path, *words[1:]))
    raise ToolError(
        "c",
        f"no C++ compiler found ({wanted or 'g++, clang++ or c++'})",
        remedy="Install g++, or use backend='torch'.",
    )


def _asked(command: tuple[str, ...]) -> Compiler:
    """Return a compiler with what it says its version is."""
    try:
        shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolError(
            "c",
            f"{command[0]} cannot be run: {error.strerror}",
            remedy="Set CXX to a C++ compiler.",
        ) from None
    return Compiler(command, shown.stdout.splitlines()[0] if shown.stdout else command[0])


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


class CKernels(Kernels):
    """The kernels of a model in a loaded library.

    Both functions take one struct of 64-bit words: sizes, threads, addresses and strides.
    """

    def __init__(self, model: Model, library: Path, chunk: int, far: int) -> None:
        plan = plan_of(model)
        super().__init__(plan)
        self.library, self._chunk, self._far = library, chunk, far
        loaded = ctypes.CDLL(str(library))
        self._forward = self._function(loaded, f"{model.name}_forward")
        self._backward = self._function(loaded, f"{model.name}_backward")
        self._forward_words = _words(len(plan.forward_fields))
        self._backward_words = _words(len(plan.backward_fields))

    @staticmethod
    def _function(loaded: ctypes.CDLL, name: str) -> Any:
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
        return function

    def checkpoints(self, time_steps: int, neurons: int) -> int:
        """Return how many numbers the checkpoints hold."""
        return checkpoints(time_steps, neurons, len(self.states), self._chunk, self._far)

    def forward(self, sizes: Sequence[int], arguments: Sequence[Tensor | int | None]) -> None:
        """Run the forward kernel."""
        _run(self._forward, self._forward_words, sizes, arguments)

    def backward(self, sizes: Sequence[int], arguments: Sequence[Tensor | int | None]) -> None:
        """Run the backward kernel."""
        _run(self._backward, self._backward_words, sizes, arguments)


def _words(fields: int) -> struct.Struct:
    return struct.Struct(f"{len(SIZES) + 1 + fields}q")


def _run(
    function: Any,
    words: struct.Struct,
    sizes: Sequence[int],
    arguments: Sequence[Tensor | int | None],
) -> None:
    addresses = [a if isinstance(a, int) else 0 if a is None else a.data_ptr() for a in arguments]
    if function(words.pack(*sizes, torch.get_num_threads(), *addresses)):
        raise ToolError(
            "c", "out of memory while running the kernel", remedy="Use a smaller batch."
        )


@cache
def load_c(model: Model, chunk: int = CHUNK, far: int = FAR) -> CKernels:
    """Build (or find in the cache) and load the C kernels of a model.

    Args:
        model: What the backend receives.
        chunk: Steps between two states that are kept, and
        far: the T from which on fewer are; see `backends.plan.checkpoints`.

    Raises:
        ToolError: No compiler, or it failed; the message has its first error.
    """
    path = build(model, chunk, far)
    with loading(path):
        return CKernels(model, path, chunk, far)


@contextmanager
def loading(path: Path) -> Iterator[None]:
    """Say in one line why a library cannot be loaded."""
    try:
        yield
    except OSError as error:
        raise ToolError(
            "c",
            f"cannot load {path}: {error}",
            remedy="Set LNM_CACHE to a folder whose files may be run.",
        ) from None


def build(model: Model, chunk: int = CHUNK, far: int = FAR) -> Path:
    """Return the library of a model, compiled now if the cache has no sound one."""
    return built(model.name, C(chunk, far).emit(model), beside="example.c")


def built(name: str, source: Source, beside: str) -> Path:
    """Return the library of a source, compiled now if the cache has no sound one.

    Args:
        name: Of the library.
        source: C++.
        beside: A file of it that holds values, and no part of the library.
    """
    tool, options = compiler(), flags()
    parts = [
        *(f"{n}\n{t}" for n, t in source.files.items() if n != beside),
        *options,
        *tool.command[1:],
        tool.version,
        _cpu(),
    ]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    entry = cache_folder() / f"{name}-{key}"
    library = entry / f"{name}.so"
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
            "c",
            f"cannot use the cache folder {cache_folder()}: {error.strerror or error}",
            remedy="Set LNM_CACHE to a folder that can be written.",
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
        command = [*tool.command, *options, "-o", name, entry_file]
        try:
            done = subprocess.run(
                command, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError("c", f"{tool.path} could not run: {error}") from None
        if done.returncode:
            lines = [x for x in done.stderr.splitlines() if "error" in x] or ["no message"]
            raise ToolError(
                "c", f"{tool.path} failed: {lines[0]}", remedy=f"Command: {' '.join(command)}"
            )
        library = work / name
        digest = hashlib.sha256(library.read_bytes()).hexdigest()
        library.with_suffix(".sha256").write_text(digest, encoding="utf-8")
        os.replace(work, entry)
