"""Words of C, C++ and CUDA: refused as names, with the language; every accepted name compiles."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.backends.base import Source
from lnm_codegen.backends.c.expr import c_meaning, cuda_meaning
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn.load.c import compiler
from lnm_codegen.options import TargetName
from tests.backends.cuda.host import host_text, run_host
from tests.backends.words import neuron_named
from tests.refusals import refused

C23 = """alignas alignof auto bool break case char const constexpr continue default do double else
    enum extern false float for goto if inline int long nullptr register restrict return short
    signed sizeof static static_assert struct switch thread_local true typedef typeof typeof_unqual
    union unsigned void volatile while _Atomic _BitInt _Complex _Decimal128 _Decimal32 _Decimal64
    _Generic _Imaginary _Noreturn""".split()
"""Keywords of ISO/IEC 9899:2024."""

CPP20 = """alignas alignof asm auto bool break case catch char char8_t char16_t char32_t class
    concept const consteval constexpr constinit const_cast continue co_await co_return co_yield
    decltype default delete do double dynamic_cast else enum explicit export extern false float for
    friend goto if inline int long mutable namespace new noexcept nullptr operator private protected
    public register reinterpret_cast requires return short signed sizeof static static_assert
    static_cast struct switch template this thread_local throw true try typedef typeid typename
    union unsigned using virtual void volatile wchar_t while
    and and_eq bitand bitor compl not not_eq or or_eq xor xor_eq""".split()
"""Keywords and alternative tokens of ISO/IEC 14882:2020."""

CUDA = """__global__ __device__ __host__ __shared__ __constant__ __managed__ __restrict__
    __noinline__ __forceinline__ __launch_bounds__ __grid_constant__
    threadIdx blockIdx blockDim gridDim warpSize""".split()
"""Execution spaces, memory spaces and variables of the CUDA C++ programming guide."""

MACROS = """BUFSIZ EOF EXIT_FAILURE EXIT_SUCCESS FILENAME_MAX FOPEN_MAX FP_NAN HUGE_VAL HUGE_VALF
    INFINITY INT8_MAX INT_FAST16_MIN INTPTR_MAX MATH_ERRNO MB_CUR_MAX M_E M_LN2 M_PI M_PI_2
    M_SQRT1_2 NAN NULL PTRDIFF_MAX RAND_MAX SEEK_SET SIG_ATOMIC_MIN SIZE_MAX TMP_MAX UINT64_MAX
    UINTMAX_MAX WCHAR_MAX WINT_MIN errno stderr stdin stdout""".split()
"""Macros without arguments of ISO/IEC 9899 in the headers that the generated files include."""

FREE = """
    E I V TAU INT V_MAX N_MIN RATE_WIDTH M_X FP_ CLOCK_0 NAN_rate null eof final override string
    std_dev array list signed_rate isnan signbit alloca main module half table task reg wire
    small sum malloc free printf exit abs gamma y0 j1 index remove time clock memcpy swap vector
    size_t min max dim3 cudarate
""".split()
"""Words that look reserved, and functions and types of libraries."""

TARGETS: dict[str, tuple[TargetName, dict[str, Any]]] = {
    "c": ("c", {}), "integer c": ("c", {"spec": lnm.Fixed(16, 12)}), "cuda": ("cuda", {})
}  # fmt: skip
slow = pytest.mark.slow


def neuron_with(word: str, role: str = "p") -> lnm.Neuron:
    """Return a neuron whose state, input, output, vector or parameter has this name."""
    names = {n: n for n in "vxywp"} | {role: word}
    v, x, p = lnm.state(names["v"]), lnm.input(names["x"]), lnm.param(names["p"], init=0.5)
    w, s = lnm.param(names["w"], size=2), lnm.spike_named("nullptr")  # a spike's name is free
    return lnm.Neuron(
        charge={v: p * v + w[0] * x + w[1]}, fire={s: v - 1}, reset={v: v - s},
        output={names["y"]: s + v}, name="own",
    )  # fmt: skip


def emitted(word: str, target: str, role: str = "p") -> Source:
    backend, options = TARGETS[target]
    return lnm.emit(neuron_with(word, role), backend, **options)


def test_every_reserved_word_has_a_meaning() -> None:
    """By language; CUDA has more. A word with a leading `_` is refused by the declaration."""
    for words, meaning in ((C23, "a keyword of C"), (CPP20, "a keyword of C"), (MACROS, "a macro")):
        for word in words:
            assert c_meaning(word).startswith(meaning) or word.startswith("_"), word
            assert cuda_meaning(word) == c_meaning(word)
    assert {cuda_meaning(w) for w in CUDA if w[0] != "_"} == {"a variable of CUDA"}
    assert not any(map(cuda_meaning, FREE))
    for word in CUDA[:2]:
        with refused(lnm.ModelError, None, ""):
            neuron_with(word)


@pytest.mark.parametrize("target", TARGETS)
def test_a_reserved_word_is_refused_in_every_role(target: str) -> None:
    """In one line, with the language; other words are free."""
    backend, remedy = TARGETS[target][0], "Rename the state, input, output, parameter"
    for word, meaning in (("constexpr", "a keyword of C"), ("NAN", "a macro of C")):
        for role in "vxyp" if word == "constexpr" else "p":
            problem = f"{word!r} is {meaning}"
            with refused(lnm.UnsupportedError, f"{backend}: own", problem, "", remedy):
                emitted(word, target, role)
    for word in ("constexpr", "int64_t", "NEURON_FUNCTION") if target != "integer c" else ():
        with refused(lnm.UnsupportedError, f"{backend}: own", f"{word!r}"):
            emitted(word, target, "w")  # a type or a macro: its field would not compile
    if target == "cuda":
        with refused(lnm.UnsupportedError, "cuda: own", "'gridDim' is a variable of CUDA"):
            emitted("gridDim", target)
    for word in FREE[::9]:
        assert emitted(word, target).files


@pytest.mark.needs_cc
def test_no_file_hides_a_header(tmp_path: Path) -> None:
    """Every header that the emitted C++ reads outside a subfolder is refused as a name."""
    included = [f"#include <{name}>" for name in ("math.h", "stdint.h", "string.h", "vector")]
    (tmp_path / "all.cpp").write_text("\n".join(included), encoding="utf-8")
    read = map(Path, ran(compiler().path, "-M", "all.cpp", folder=tmp_path).split())
    names = {p.stem for p in read if p.suffix == ".h" and p.parent.name == "include"}
    assert names >= {"math", "stdint", "string"}
    for name in filter(str.isidentifier, names):
        problem = f"the file {name}.h would hide the header of C with this name"
        with refused(lnm.UnsupportedError, f"emit: {name}", problem, remedy="Give another name."):
            lnm.emit(lnm.get("lif"), "c", name=name)
    v, x = lnm.state("v"), lnm.input("x")
    own = lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, reset=lnm.hard_reset(v), name="math")
    layer = lnm.nn.NeuronLayer(own, backend="c")  # here no other file searches the folder
    assert layer(torch.full((2, 1, 1), 1.5)).tolist() == [[[1.0]], [[1.0]]]
    assert lnm.emit(own, "c", name="other").files


# ---- with compilers ----


def ran(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[:1000]}{done.stderr[:2000]}"
    return done.stdout


def includes() -> list[list[str]]:
    """Return the options for the headers of CUDA's runtime; none if they are missing."""
    triton = pytest.importorskip("triton", reason="its wheel has the headers of CUDA's runtime")
    folder = Path(triton.__file__).parent / "backends/nvidia/include"
    return [["-I", str(folder)]] if (folder / "cuda_runtime_api.h").exists() else []


def commands(cuda: bool) -> Iterator[list[str]]:
    """Yield compilers with a language standard, C++ first."""
    for standard in ("c++17", "gnu++17", "gnu++20"):
        yield [compiler().path, "-x", "c++", f"-std={standard}"]
    path = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if path and not cuda:
        for standard in ("c99", "gnu17"):
            yield [path, "-x", "c", f"-std={standard}"]


@pytest.mark.needs_cc
@slow
@pytest.mark.parametrize("backend", TARGETS)
def test_macros_of_the_included_headers(backend: str, tmp_path: Path) -> None:
    """Every macro that replaces a word, and that a name could be, is refused."""
    target, options = TARGETS[backend]
    meaning = cuda_meaning if target == "cuda" else c_meaning
    files = lnm.emit(lnm.get("lif"), target, **options).files.values()
    lines = {line for text in files for line in text.splitlines() if line.startswith("#include <")}
    lines |= {"#include <omp.h>", "#include <time.h>", "#include <limits.h>"}
    c_headers = {line for line in lines if line.endswith(".h>")}
    paths = includes() if target == "cuda" else [[]]
    found = set()
    for command in [c for path in paths for c in ([*x, *path] for x in commands(bool(path)))]:
        shown = lines if "c++" in command else c_headers - {"#include <immintrin.h>"}
        (tmp_path / "all.h").write_text("\n".join(sorted(shown)))
        text = ran(*command, "-fopenmp", "-E", "-dM", "all.h", folder=tmp_path)
        found |= {line.split()[1] for line in text.splitlines() if line.startswith("#define ")}
    names = {word for word in found if word.isidentifier() and not word.startswith("_")}
    assert len(names) > 200 or not paths
    assert [word for word in sorted(names) if not meaning(word)] == []


@pytest.mark.needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("backend", TARGETS)
def test_free_words_compile(backend: str, tmp_path: Path) -> None:
    """Kernels and examples, in C++17 and C++20; the example of C in C99."""
    target, options = TARGETS[backend]
    for k in range(0, len(FREE) - 6, 7):
        neuron = neuron_named(FREE[k : k + 7], "channel")
        source = lnm.emit(neuron, target, **options)
        source.write(tmp_path)
        cpp = [compiler().path, "-fopenmp", "-fsyntax-only"]
        if target == "cuda":
            for path in includes():
                ran(*cpp, "-std=c++17", *path, "example.cpp", "mine_launch.cpp", folder=tmp_path)
            host = Path(run_host.__code__.co_filename).with_name("host.h")
            (tmp_path / "mine.cu").write_text(host_text(plan_of(neuron)))
            ran(*cpp, "-std=c++17", "-include", str(host), "-x", "c++", "mine.cu", folder=tmp_path)
            continue
        for standard in ("-std=c++17", "-std=gnu++20"):
            ran(*cpp, standard, source.entry, folder=tmp_path)
        c = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
        if c and "example.c" in source.files:
            ran(c, "-std=c99", "-fsyntax-only", "example.c", folder=tmp_path)
