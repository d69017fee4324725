"""C kernels: generated C++, compiled to a shared library in the cache, called through ctypes.

The key of a library has two parts: its source, the flags and the CPU's features; and the compiler
with its arguments and version. A build has a temporary name until it is complete, so that several
processes may build at once.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from filelock import FileLock
from torch import Tensor, get_num_threads

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.c.backend import CHUNK, FLAGS, C
from lnm_codegen.backends.fixed import FixedModel, Rtl
from lnm_codegen.backends.integer_c import WORDS, FixedC, run_fields
from lnm_codegen.backends.loops import ABI
from lnm_codegen.backends.plan import FAR, SIZES, Plan, saved_size
from lnm_codegen.errors import InternalError, ToolError, reason
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.nn.function import Arguments, Kernels, addresses
from lnm_codegen.nn.load.cache import digest, entry, sound_bytes, usable_cache, write_digest
from lnm_codegen.nn.load.warn import warn_once

_TIMEOUT = 300
_NO_WRITES = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS)))
"""Words of a compiler whose files cannot be written."""

_saved_size = lru_cache(maxsize=1024)(saved_size)


class CKernels(Kernels):
    """Kernels of a model in a loaded library.

    Both functions take one struct of 64-bit words: its size and version, sizes, threads, addresses
    and strides.
    """

    def __init__(self, plan: Plan, library: Path, chunk: int, far: int) -> None:
        super().__init__(plan, plan.counts)
        self.library, self._chunk, self._far = library, chunk, far
        loaded = load_library(library)
        self._forward = self._function(loaded, f"{plan.name}_forward", plan.forward_fields)
        self._backward = self._function(loaded, f"{plan.name}_backward", plan.backward_fields)

    @staticmethod
    def _function(loaded: ctypes.CDLL, name: str, fields: Sized) -> tuple[Any, Any]:
        function = getattr(loaded, name)
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
        words = struct.Struct(f"{3 + len(SIZES) + len(fields)}q")
        return function, partial(words.pack, words.size, ABI)

    def saved_size(self, time_steps: int, neurons: int) -> int:
        """Return the number of elements in the saved states."""
        find = _saved_size if type(neurons) is type(time_steps) is int else saved_size  # or SymInt
        return find(time_steps, neurons, len(self.states), self._chunk, self._far)

    def forward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the forward kernel."""
        function, pack = self._forward
        if problem := function(pack(*sizes, get_num_threads(), *addresses(arguments))):
            raise kernel_error(problem)

    def backward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the backward kernel."""
        function, pack = self._backward
        if problem := function(pack(*sizes, get_num_threads(), *addresses(arguments))):
            raise kernel_error(problem)


def kernel_error(problem: int) -> ToolError | InternalError:
    """Return the error for what a kernel returned."""
    if problem == 1:
        return ToolError("c", "the kernel runs out of memory", remedy="Use a smaller batch.")
    return InternalError("c", f"the kernel refuses its arguments with error {problem}")


@cache
def load_c(
    plan: Plan, chunk: int = CHUNK, far: int = FAR, *, folder: Path | None = None
) -> CKernels:
    """Build (or find in the cache folder, or another `folder`) and load the C kernels of a model.

    Each chunk has `chunk` steps; from `far` steps on, fewer states are saved (`backends.plan`).

    Raises:
        ToolError: There is no compiler, or it fails, or the folder cannot be used.
    """
    return CKernels(plan, build(plan, chunk, far, folder), chunk, far)


def load_library(path: Path) -> ctypes.CDLL:
    """Return a loaded library, or raise ToolError."""
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        why = reason(error).removeprefix(f"{path}: ")
        raise ToolError(
            "c",
            f"cannot load a library from {path.parent.parent}: {why}",
            remedy="Set LNM_CACHE to a folder whose files may be executed.",
        ) from None


def build(plan: Plan, chunk: int = CHUNK, far: int = FAR, folder: Path | None = None) -> Path:
    """Return the library of a model; see `built`."""
    source = C(chunk, far, initial=False).emit(plan)
    return built(plan.name, source, beside="example.c", folder=folder)


def built(name: str, source: Source, beside: str, *, folder: Path | None = None) -> Path:
    """Return the library of a C++ source, compiled if the cache has none that is sound.

    `folder` takes the place of the cache folder.

    The file `beside` is not part of the library. Without a compiler, any compiler's library of this
    source, these flags and this CPU is returned: results do not depend on the compiler.

    Raises:
        ToolError: There is neither a compiler nor such a library, the compiler fails, or the
            folder cannot be used.
    """
    base = _base(name, source, beside, folder)
    try:
        tool = compiler()
    except ToolError:
        if (found := _newest(base, name)) is not None:
            return found
        raise
    options = flags()
    library = _library(base, name, tool, options)
    if sound_bytes(library) is not None:
        return library
    problem = openmp_error(tool) if OPENMP in options else None
    if problem is not None:
        options = tuple(SIMD if option == OPENMP else option for option in options)
        library = _library(base, name, tool, options)
    with usable_cache("c", folder):
        _build(name, source, library, tool, options)
    if problem is not None:
        warn_once(
            f"c: {tool.path} has no OpenMP ({problem}), so kernels run on one thread. Install"
            " libomp-dev or g++, or set CXX to a compiler with OpenMP."
        )
    return library


def is_built(plan: Plan) -> bool:
    """Report whether the cache has a library of a model, of any compiler."""
    try:
        base = _base(plan.name, C(initial=False).emit(plan), beside="example.c")
    except ToolError:  # there is no cache folder
        return False
    return _newest(base, plan.name) is not None


def _base(name: str, source: Source, beside: str, folder: Path | None = None) -> Path:
    """Return the path that the entries of a source have in common: it lacks the compiler's key."""
    texts = (f"{n}\n{t}" for n, t in source.files.items() if n != beside)
    return entry(name, [*texts, *flags(), cpu()], folder)


def _library(base: Path, name: str, tool: Compiler, options: tuple[str, ...]) -> Path:
    key = digest("\0".join([*tool.command[1:], tool.version, *options]).encode())[:8]
    return base.with_name(f"{base.name}-{key}") / f"{name}.so"


def _newest(base: Path, name: str) -> Path | None:
    """Return the sound library that was built last, of any compiler."""
    found = (p for p in base.parent.glob(f"{base.name}-*/{name}.so") if sound_bytes(p) is not None)
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _build(
    name: str, source: Source, library: Path, tool: Compiler, options: tuple[str, ...]
) -> None:
    """Compile a library, unless another process has done so."""
    folder = library.parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if sound_bytes(library) is None:
            shutil.rmtree(folder, ignore_errors=True)
            if sys.stderr is not None and sys.stderr.isatty():
                note = f"compiling {name} for the CPU (once; kept in {folder.parent})"
                print(f"lnm_codegen: {note}", file=sys.stderr)
            _compile(source, library, tool, options)


def _compile(source: Source, library: Path, tool: Compiler, options: tuple[str, ...]) -> None:
    target = library.parent
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as folder:
        work = Path(folder) / "entry"
        work.mkdir()
        for file, text in source.files.items():
            (work / file).write_text(text, encoding="utf-8")
        command = [*tool.command, *options, "-o", library.name, source.entry]
        try:
            done = subprocess.run(
                command, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT, check=False,
                env={**os.environ, "LC_ALL": "C"},  # the word "error" is looked for
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolError("c", f"{tool.path} cannot run: {reason(error)}") from None
        if done.returncode:
            for words in _NO_WRITES:
                if words in done.stderr:
                    remedy = "Free disk space, or set LNM_CACHE and TMPDIR to other folders."
                    raise ToolError("c", f"{tool.path} cannot write: {words}", remedy=remedy)
            lines = [x for x in done.stderr.splitlines() if "error" in x] or ["no message"]
            remedy = f"Set CXX to another compiler. The command was {' '.join(command)!r}."
            raise CompileError("c", f"{tool.path} failed: {lines[0]}", remedy=remedy)
        write_digest(work / library.name)
        os.replace(work, target)


# The C++ compiler of this machine: its command, its flags, the CPU, and whether it has OpenMP.


OPENMP = "-fopenmp"
"""Flag of threads and SIMD."""
SIMD = "-fopenmp-simd"
"""Flag that replaces it where the compiler lacks OpenMP's library: SIMD, one thread."""

_PROBE = """#include <omp.h>
int lnm_probe() {
    int n = 0;
#pragma omp parallel reduction(+ : n)
    n += omp_get_num_threads();
    return n;
}
"""
_SECONDS = 60


class CompileError(ToolError):
    """The compiler was found, and refused our source."""


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
        ToolError: None is found, or the system is Windows.
    """
    if sys.platform == "win32":
        raise ToolError("c", "Windows has no C kernels", remedy="Use backend='torch'.")
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
            return _with_version((os.path.abspath(path), *words[1:]))  # builds run elsewhere
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


@cache
def openmp_error(tool: Compiler) -> str | None:
    """Return why a library with OpenMP does not build, or None if it does."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.cpp")
            source.write_text(_PROBE, encoding="utf-8")
            command = [*tool.command, OPENMP, "-shared", "-fPIC", str(source)]
            done = subprocess.run(
                [*command, "-o", f"{folder}/probe"],
                capture_output=True, text=True, timeout=_SECONDS, check=False,
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return reason(error)
    if done.returncode == 0:
        return None
    lines = [x for x in done.stderr.splitlines() if "error" in x] or ["no message"]
    return lines[0].rpartition("error: ")[2]


def flags() -> tuple[str, ...]:
    """Return the compiler flags: AVX-512 in whole vectors where the CPU has it."""
    wide = ("-mprefer-vector-width=512",) if "avx512f" in cpu() else ()
    return (*FLAGS, *wide)


@cache
def cpu() -> str:
    """Return the CPU's model and features, on which `-march=native` depends."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    lines = [x for x in text.splitlines() if x.startswith(("flags", "Features", "model name"))]
    return "\n".join(dict.fromkeys(lines))


# Integer C models: compiled to a shared library in the cache, called through ctypes.


class CoefficientArgument(NamedTuple):
    """Coefficient of the C model: neuron n has values[n // inner % len(values)], int32."""

    values: Tensor
    inner: int


Argument: TypeAlias = Tensor | CoefficientArgument | int | None

_RUNS = {torch.int32: "", torch.float32: "_float", torch.float64: "_double"}


class FixedLibrary:
    """Functions of a model in a loaded library, one for each type of sequences."""

    def __init__(self, kernel: fx.Kernel, name: str, path: Path) -> None:
        self.path = path
        self._fields = run_fields(kernel)
        words = {"coefficient": 3, "number": 1, "stride": 1}
        count = len(WORDS) + sum(words[f.kind] for f in self._fields)
        self._words = struct.Struct(f"{count}q")
        loaded = load_library(path)
        self._runs = {
            dtype: getattr(loaded, f"{name}_model_run{suffix}") for dtype, suffix in _RUNS.items()
        }
        for run in self._runs.values():
            run.argtypes, run.restype = [ctypes.c_void_p], ctypes.c_int

    def run(
        self, time_steps: int, neurons: int, arguments: Mapping[str, Argument], dtype: torch.dtype
    ) -> None:
        """Run T steps of N neurons on fields of `run_fields` by name; missing ones are null.

        Sequences and states are of type `dtype`: int32, float32 or float64.
        """
        values = (arguments.get(f.name) for f in self._fields)
        words = chain.from_iterable(
            (v.values, len(v.values), v.inner) if isinstance(v, CoefficientArgument) else (v,)
            for v in values
        )
        head = self._words.size, ABI, time_steps, neurons, torch.get_num_threads()
        if problem := self._runs[dtype](self._words.pack(*head, *addresses(list(words)))):
            raise InternalError("c", f"the integer model refuses its arguments: error {problem}")


@cache
def load_fixed(program: fx.Program, folder: Path | None = None) -> FixedLibrary:
    """Build (or find in the cache folder, or another `folder`) and load a program's C model.

    Raises:
        ToolError: There is no compiler, or it fails, or the folder cannot be used.
    """
    name = program.name
    model = FixedModel(name, name, program, (), (), (), Rtl())
    values = f"{name}_model_coefficients.h"
    path = built(f"{name}_model", FixedC().emit(model), beside=values, folder=folder)
    return FixedLibrary(program.kernel, name, path)


def is_fixed_built(program: fx.Program) -> bool:
    """Report whether the cache has a library of a program. Call it where no compiler is."""
    try:
        load_fixed(program)
    except ToolError:
        return False
    return True
