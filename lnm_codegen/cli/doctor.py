"""`lnm doctor`: report on the machine. The exit status is always 0."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from lnm_codegen.cli.output import print_json, print_table
from lnm_codegen.errors import LnmError
from lnm_codegen.sections import Table

_SIMD = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "asimd", "sve")


@dataclass(frozen=True)
class Finding:
    """A part: found or not, its version or the reason, its purpose."""

    part: str
    found: bool
    detail: str
    needed_for: str


def doctor(*, json: bool = False) -> None:
    """Report on the tools, packages and devices of this machine."""
    findings = examine()
    if json:
        print_json([asdict(f) for f in findings])
        return
    rows = [(f.part, "yes" if f.found else "no", f.detail, f.needed_for) for f in findings]
    print_table(Table(("part", "found", "detail", "needed for"), rows))


def examine() -> list[Finding]:
    """Probe every part. A probe that fails counts as not found."""
    parts: tuple[tuple[str, Callable[[], str], str], ...] = (
        ("python", platform.python_version, "everything"),
        ("torch", lambda: _package("torch"), "layers, training, the torch backend"),
        ("triton", lambda: _package("triton"), "the triton backend"),
        (
            "matplotlib",
            lambda: _package("matplotlib"),
            "figures: lnm train, lnm analyze",
        ),
        ("scikit-learn", lambda: _package("sklearn", "scikit-learn"), "the data set digits"),
        ("CUDA device", _cuda, "running the triton and cuda backends"),
        ("C++ compiler", _compiler, "running the c backend (code generation works without it)"),
        ("OpenMP", _openmp, "several threads in the c backend"),
        ("CPU SIMD", _simd, "speed of the c backend"),
        ("cache folder", _cache, "keeping compiled kernels"),
        ("C kernels", _kernels, "backend c; without them 'auto' runs eager PyTorch"),
        *_circuit_tools(),
        ("fashion-mnist", _fashion_mnist, "training on it (digits needs no files)"),
    )
    return [_look(*part) for part in parts]


def _look(part: str, probe: Callable[[], str], needed_for: str) -> Finding:
    try:
        return Finding(part, True, probe(), needed_for)
    except (LnmError, ImportError, OSError, subprocess.SubprocessError) as error:
        return Finding(part, False, " ".join(str(error).split()), needed_for)


def _package(module: str, name: str | None = None) -> str:
    importlib.import_module(module)
    return metadata.version(name or module)


def _cuda() -> str:
    from lnm_codegen.nn.check import cuda_device

    name = cuda_device()
    if name is None:
        raise ImportError("none that PyTorch can use")
    return name


def _compiler() -> str:
    from lnm_codegen.nn.load.c import compiler

    found = compiler()
    return f"{' '.join(found.command)} ({found.version})"


def _openmp() -> str:
    from lnm_codegen.nn.load.c import OPENMP, compiler, openmp_error

    problem = openmp_error(compiler())
    if problem is not None:
        raise OSError(f"the compiler refuses {OPENMP}: {problem}")
    return f"yes, {os.cpu_count()} CPUs"


def _simd() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    lines = [x for x in text.splitlines() if x.startswith(("flags", "Features"))]
    words = set(" ".join(lines).split())
    found = [w for w in _SIMD if w in words]
    if not found:
        raise OSError(f"none of {', '.join(_SIMD)}")
    return " ".join(found)


def _cache() -> str:
    from lnm_codegen.nn.load.cache import cache_folder

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return f"{folder}, writable; LNM_CACHE names another"
    except OSError as error:
        raise OSError(
            f"{folder}: {error.strerror}. Set LNM_CACHE to a folder that can be written."
        ) from None


def _kernels() -> str:
    """Compile and load a small library, as a layer does at its first call."""
    from lnm_codegen.nn.bits import compiling_folder

    folder, error = compiling_folder()
    if error is None:
        return f"compiled and loaded in {folder}"
    return f"'auto' compiles into {folder}, 'c' is an error: {error.problem}. {error.remedy}"


def _circuit_tools() -> tuple[tuple[str, Callable[[], str], str], ...]:
    """Return the tools that `lnm verify` and `lnm synth` call."""
    from lnm_codegen.hardware.tools import TOOLS, missing, version

    def probe(word: str) -> str:
        reason = missing(word)
        if reason is not None:
            raise FileNotFoundError(reason.removeprefix(f"{word} "))
        return version(word) or "found"

    tools = tuple(
        (word, partial(probe, word), f"circuits: {tool.needed_for}")
        for word, tool in TOOLS.items()
        if word not in ("g++", "make")
    )
    packages = tuple(
        (name, partial(_package, name), f"circuits: {purpose}")
        for name, purpose in (("cocotb", "simulation"), ("apytypes", "the integer models"))
    )
    return (*tools, *packages)


def _fashion_mnist() -> str:
    from lnm_codegen.train.data.images import DEBIAN_FOLDER

    if not any(DEBIAN_FOLDER.glob("train-images-idx3-ubyte*")):
        raise FileNotFoundError(
            f"not in {DEBIAN_FOLDER}. Run apt-get install dataset-fashion-mnist, or give --data-dir"
            " to lnm train."
        )
    return str(DEBIAN_FOLDER)
