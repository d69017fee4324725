"""Emitted C, C++ and CUDA: no reserved identifier, and no function that nothing calls."""

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
from tests.backends.c_names import EXTENSIONS, reserved, uncalled
from tests.backends.network_c.runs import emitted
from tests.cases import CASES, ZOO
from tests.networks import random_network, random_samples

EVERY = CASES | ZOO
SPECS = [lnm.Fixed(16, 12), lnm.Fixed(31, 16, "convergent"), lnm.Fixed(12, 8, "truncate")]
WARNINGS = ("-Wall", "-Wextra", "-Wunused-function", "-Werror")


def sources(neuron: lnm.Neuron) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield target and files of everything in C that is written for a neuron."""
    for dtype in DTYPES:
        for backend in ("c", "cuda"):
            with suppress(lnm.UnsupportedError):
                yield f"{backend} {dtype}", lnm.emit(neuron, backend, dtype=dtype).files
    for backend in ("c", "cuda"):
        with suppress(lnm.UnsupportedError):
            yield f"package {backend}", lnm.package(neuron, backend).files
    for spec in SPECS:
        with suppress(lnm.UnsupportedError, lnm.ModelError):
            yield f"integer c {spec}", lnm.emit(neuron, "c", spec=spec).files


def networks() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the C of some networks, of every kind of stage."""
    for seed in range(24):
        rng = np.random.default_rng(seed)
        network = random_network(rng)
        samples = random_samples(rng, network, 2)
        for accumulation in ACCUMULATIONS:
            made = emitted(network, samples, accumulation)
            yield f"network {seed} {accumulation}", made.source.files


def require_clean(target: str, files: Mapping[str, str]) -> None:
    """Assert both properties of the files of a folder."""
    for path, text in files.items():
        if path.endswith(EXTENSIONS):
            assert not reserved(text), (target, path)
    assert not uncalled(files), target


@pytest.mark.parametrize("case", EVERY)
def test_the_c_of_a_neuron(case: str) -> None:
    """The integer C of every neuron declared `_truncate_32`, its loops the macro `_inline`."""
    targets = []
    for target, files in sources(EVERY[case]()):
        require_clean(target, files)
        targets.append(target)
    assert targets


def test_the_c_of_networks() -> None:
    targets = []
    for target, files in networks():
        require_clean(target, files)
        targets.append(target)
    assert targets


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("#define _inline inline", {"_inline"}),
        ("static int _f(int x) { return x; }", {"_f"}),
        ("namespace {\nconstexpr int _block = 1;\n}", {"_block"}),
        ("int f(void) { int _result = 1, a__b = 2; return _result + a__b; }", {"a__b"}),
        ("struct S { int _Rows; };", {"_Rows"}),
        ("int f(int _x) { return _x; }  // _y", set()),
        ('extern "C" {\nint _g(void);\n}', {"_g"}),
        ('extern "C" int f(int _x) { return __builtin_popcount(_x); }', set()),
    ],
)
def test_reserved_identifiers_are_found(code: str, wanted: set[str]) -> None:
    assert reserved(code) == wanted


def test_uncalled_functions_are_found() -> None:
    code = "namespace {\nint f(int a) { return a; }\ntemplate <class T>\nT g(T) { return 1; }\n}\n"
    assert uncalled({"a.cpp": code}) == {"f", "g"}
    assert uncalled({"a.cpp": code + "int main() { return f(g(1)); }"}) == set()
    assert uncalled({"a.h": "static inline int h(void) { return 1; }", "a.c": "h();"}) == set()
    assert uncalled({"a.c": "static int h(void) { return 1; }", "b.c": "h();"}) == {"h"}


def compiled(files: Mapping[str, str], folder: Path, command: list[str], *extensions: str) -> None:
    """Compile every file with an extension; a warning fails."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for path in files:
        if path.endswith(extensions):
            line = [*command, *WARNINGS, "-S", "-o", "/dev/null", path]
            done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("case", EVERY)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_c_of_a_neuron_compiles_without_a_warning(
    compiler: str, case: str, tmp_path: Path
) -> None:
    """clang finds reserved identifiers by itself."""
    cpp = {"gcc": "g++", "clang": "clang++"}[compiler]
    if not (shutil.which(compiler) and shutil.which(cpp)):
        pytest.skip(f"{compiler} is not installed")
    more = ["-Wreserved-identifier"] if compiler == "clang" else []
    more += ["-Wno-unknown-pragmas"]
    for target, files in sources(EVERY[case]()):
        if "cuda" in target:
            continue
        folder = tmp_path / target.replace(" ", "_")
        folder.mkdir()
        compiled(files, folder, [compiler, "-std=c99", *more], ".c")
        compiled(files, folder, [cpp, "-std=c++17", *more], ".cpp")
        steps = {p: t for p, t in files.items() if p.endswith("_model_step.h")}
        for path in steps:
            use = {"use.c": f'#include "{path}"\n', "use.cpp": f'#include "{path}"\n'}
            compiled(steps | use, folder, [compiler, "-std=c99", *more], "use.c")
            compiled(steps | use, folder, [cpp, "-std=c++17", *more], "use.cpp")


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_c_of_networks_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    more = ["-Wreserved-identifier"] if compiler == "clang" else []
    for k, (_, files) in enumerate(networks()):
        if k % 8 < 2:
            own = {p: t for p, t in files.items() if "/" not in p}
            folder = tmp_path / str(k)
            folder.mkdir()
            compiled(own, folder, [compiler, "-std=c99", "-pedantic", *more], ".c")
