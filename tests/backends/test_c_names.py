"""Emitted C and C++: no warning, no reserved identifier, and no function that nothing calls.

C and C++ reserve identifiers with an underscore and a capital, C++ those with two underscores
anywhere, and both those with an underscore at file scope: clang warns of them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.network_c import ACCUMULATIONS
from lnm_codegen.backends.plan import DTYPES
from tests.backends.network_c.runs import emitted
from tests.cases import CASES, ZOO
from tests.networks import random_network, random_samples

EVERY = CASES | ZOO
SPECS = [lnm.Fixed(16, 12), lnm.Fixed(31, 16, "convergent"), lnm.Fixed(12, 8, "truncate")]
WARNINGS = ("-Wall", "-Wextra", "-Wunused-function", "-Wno-unknown-pragmas", "-Werror")
slow = pytest.mark.slow
compilers = pytest.mark.parametrize("compiler", ["clang", pytest.param("gcc", marks=slow)])


def sources(neuron: lnm.Neuron) -> Iterator[Mapping[str, str]]:
    """Yield the files of everything in C that is written for a neuron, and a header of CUDA."""
    for dtype in DTYPES:
        yield lnm.emit(neuron, "c", dtype=dtype).files
        with suppress(lnm.UnsupportedError):
            cuda = lnm.emit(neuron, "cuda", dtype=dtype).files.items()
            yield {path: text for path, text in cuda if path.endswith(".h")}
    yield lnm.package(neuron, "c").files
    for spec in SPECS:
        with suppress(lnm.UnsupportedError, lnm.ModelError):
            yield lnm.emit(neuron, "c", spec=spec).files


def require_no_warning(compiler: str, files: Mapping[str, str], folder: Path) -> None:
    """Read every source, and headers of a step of integers and of a launcher by themselves."""
    cpp = {"gcc": "g++", "clang": "clang++"}[compiler]
    if not (shutil.which(compiler) and shutil.which(cpp)):
        pytest.skip(f"{compiler} is not installed")
    use = {f"use_{end}": f'#include "{path}"\n' for path in files for end in (".c", ".cpp")
           if path.endswith(("_model_step.h", "_launch.h"))}  # fmt: skip
    for path, text in {**files, **use}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    more = ["-Wreserved-identifier"] if compiler == "clang" else []
    c = [compiler, "-std=c99", "-pedantic", "-Wsign-conversion"]
    for command, end in ((c, ".c"), ([cpp, "-std=c++17"], ".cpp")):
        if found := [path for path in (*files, *use) if path.endswith(end)]:
            last = "-fsyntax-only" if compiler == "clang" else "-c"  # which finds what is unused
            line = [*command, *WARNINGS, *more, last, *found]
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


@compilers
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c == "gated" else slow) for c in EVERY]
)
def test_the_c_of_a_neuron(compiler: str, case: str, tmp_path: Path) -> None:
    """The integer C of every neuron declared `_truncate_32`, its loops the macro `_inline`."""
    for k, files in enumerate(sources(EVERY[case]())):
        require_no_warning(compiler, files, tmp_path / str(k))


@compilers
@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=slow) for k in range(1, 24))])
def test_the_c_of_networks(compiler: str, seed: int, tmp_path: Path) -> None:
    """Of every kind of stage."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    samples = random_samples(rng, network, 2)
    for accumulation in ACCUMULATIONS:
        files = emitted(network, samples, accumulation).source.files
        own = {path: text for path, text in files.items() if "/" not in path}
        require_no_warning(compiler, own, tmp_path / accumulation)


@compilers
def test_reserved_identifiers_and_uncalled_functions(compiler: str, tmp_path: Path) -> None:
    """The controls."""
    reserved = {"a.cpp": "int f(int a__b);\nint f(int a__b) { return a__b; }\n"}
    uncalled = {"a.c": "static int h(void) { return 1; }\n"}
    for files in (reserved, uncalled) if compiler == "clang" else (uncalled,):
        with pytest.raises(AssertionError, match=r"reserved|unused"):
            require_no_warning(compiler, files, tmp_path)
        (tmp_path / next(iter(files))).unlink()
