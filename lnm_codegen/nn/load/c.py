"""C kernels: generated C++, compiled to a shared library in the cache, called through ctypes.

The key of a library is its source, the flags, the compiler's version and the CPU's features. A
build has a temporary name until it is complete, so that several processes may build at once.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.c.backend import CHUNK, FLAGS, C
from lnm_codegen.backends.plan import FAR, SIZES, checkpoints, plan_of
from lnm_codegen.errors import ToolError, reason
from lnm_codegen.nn.function import Arguments, Kernels, addresses
from lnm_codegen.nn.load.cache import entry, sound_bytes, usable_cache, write_digest

_TIMEOUT = 300


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: its command and the first line of its `--version`."""

    command: tuple[str, ...]
    version: str

    @property
    def path(self) -> str:
        """The executable."""
        return self.command[0]


@cache
def compiler() -> Compiler:
    """Return the C++ compiler: $CXX (with arguments, such as "ccache g++"), g++ or clang++.

    Raises:
        ToolError: None is found.
    """
    wanted = os.environ.get("CXX")
    try:
        commands = [shlex.split(wanted)] if wanted else [["g++"], ["clang++"], ["c++"]]
    except ValueError as error:
        raise ToolError(
            "c", f"CXX is {wanted!r}: {reason(error)}", remedy="Give a command, such as g++."
        ) from None
    for words in commands:
        path = shutil.which(words[0]) if words else None
        if path:
            return _with_version((path, *words[1:]))
    raise ToolError(
        "c",
        f"no C++ compiler found ({wanted or 'g++, clang++ or c++'})",
        remedy="Install g++, or use backend='torch'.",
    )


def _with_version(command: tuple[str, ...]) -> Compiler:
    try:
        shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolError(
            "c", f"{command[0]} cannot be run: {reason(error)}", remedy="Set CXX to a C++ compiler."
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


class CKernels(Kernels):
    """Kernels of a model in a loaded library.

    Both functions take one struct of 64-bit words: sizes, threads, addresses and strides.
    """

    def __init__(self, model: Model, library: Path, chunk: int, far: int) -> None:
        plan = plan_of(model)
        super().__init__(plan)
        self.library, self._chunk, self._far = library, chunk, far
        loaded = load_library(library)
        self._forward = self._function(loaded, f"{model.name}_forward", plan.forward_fields)
        self._backward = self._function(loaded, f"{model.name}_backward", plan.backward_fields)

    @staticmethod
    def _function(loaded: ctypes.CDLL, name: str, fields: Sized) -> tuple[Any, struct.Struct]:
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
        return function, struct.Struct(f"{len(SIZES) + 1 + len(fields)}q")

    def saved_size(self, time_steps: int, neurons: int) -> int:
        """Return the number of elements in the saved states."""
        return checkpoints(time_steps, neurons, len(self.states), self._chunk, self._far)

    def forward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the forward kernel."""
        _run(*self._forward, sizes, arguments)

    def backward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the backward kernel."""
        _run(*self._backward, sizes, arguments)


def _run(function: Any, words: struct.Struct, sizes: Sequence[int], arguments: Arguments) -> None:
    if function(words.pack(*sizes, torch.get_num_threads(), *addresses(arguments))):
        raise ToolError("c", "the kernel runs out of memory", remedy="Use a smaller batch.")


@cache
def load_c(model: Model, chunk: int = CHUNK, far: int = FAR) -> CKernels:
    """Build (or find in the cache) and load the C kernels of a model.

    Each chunk has `chunk` steps; from `far` steps on, fewer states are saved (`backends.plan`).

    Raises:
        ToolError: There is no compiler, or it fails; the message has its first error.
    """
    return CKernels(model, build(model, chunk, far), chunk, far)


def load_library(path: Path) -> ctypes.CDLL:
    """Return a loaded library, or raise ToolError."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise ToolError(
            "c",
            f"cannot load {path}: {reason(error)}",
            remedy="Set LNM_CACHE to a folder whose files may be executed.",
        ) from None


def build(model: Model, chunk: int = CHUNK, far: int = FAR) -> Path:
    """Return the library of a model; see `built`."""
    return built(model.name, C(chunk, far).emit(model), beside="example.c")


def built(name: str, source: Source, beside: str) -> Path:
    """Return the library of a C++ source, compiled if the cache has none that is sound.

    The file `beside` is no part of the library.
    """
    tool, options = compiler(), flags()
    parts = [
        *(f"{n}\n{t}" for n, t in source.files.items() if n != beside),
        *options,
        *tool.command[1:],
        tool.version,
        _cpu(),
    ]
    folder = entry(name, parts)
    library = folder / f"{name}.so"
    if sound_bytes(library) is not None:
        return library
    with usable_cache("c"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if sound_bytes(library) is None:
                shutil.rmtree(folder, ignore_errors=True)
                _compile(source, library, tool, options)
    return library


def _compile(source: Source, library: Path, tool: Compiler, options: tuple[str, ...]) -> None:
    target = library.parent
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as folder:
        work = Path(folder) / "entry"
        source.write(work)
        command = [*tool.command, *options, "-o", library.name, source.entry]
        try:
            done = subprocess.run(
                command, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError("c", f"{tool.path} cannot run: {reason(error)}") from None
        if done.returncode:
            lines = [x for x in done.stderr.splitlines() if "error" in x] or ["no message"]
            raise ToolError(
                "c", f"{tool.path} failed: {lines[0]}", remedy=f"Command: {' '.join(command)}."
            )
        write_digest(work / library.name)
        os.replace(work, target)
