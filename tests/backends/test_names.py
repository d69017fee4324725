"""Names of a neuron in generated code: any name works, or is refused before code is written."""

from __future__ import annotations

import gc
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.backends.names import (
    c_scopes,
    collisions,
    marked,
    python_scopes,
    renamed,
    require_no_collision,
)
from lnm_codegen.backends.plan import SIZES
from lnm_codegen.compiler.emit import model_of
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.load.c import compiler
from tests.backends.cuda.host import run_host
from tests.backends.words import neurons
from tests.cases import arguments, run
from tests.refusals import refused
from tests.test_agree import check, settle

ARGUMENTS = {*SIZES, "threads", "checkpoints"}
REFUSED = {
    "c": ARGUMENTS | {"std"},
    "cuda": ARGUMENTS,
    "torch": {"prepare", "step", "zip"},
}
"""Arguments and functions of the generated code, which a name would hide."""

SHAPE = (5, 2, 3, 4)

rotations = pytest.mark.parametrize(
    "rotation", [0, 3, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 4, 5, 6))]
)


def emitted(neuron: lnm.Neuron, backend: str, **options: Any) -> lnm.Source | UnsupportedError:
    try:
        return lnm.emit(neuron, backend, **options)
    except UnsupportedError as error:
        return error


def usable(backend: str, rotation: int, finest: str = "neuron") -> list[lnm.Neuron]:
    """Return the neurons that a backend accepts."""
    found = [neuron for _, neuron in neurons(rotation, finest)]
    found = [n for n in found if not isinstance(emitted(n, backend), UnsupportedError)]
    assert len(found) > 10  # each word that a backend refuses takes one of 17 neurons away
    return found


@rotations
@pytest.mark.parametrize("backend", REFUSED)
def test_a_refusal_names_a_word_of_the_interface(backend: str, rotation: int) -> None:
    """Every other word is accepted, whatever the templates call their variables."""
    for words, neuron in neurons(rotation):
        source = emitted(neuron, backend)
        if isinstance(source, UnsupportedError):
            named = {w for w in words if repr(w) in source.problem}
            assert named
            assert named <= REFUSED[backend]


@rotations
def test_triton_refuses_parameters_alone(rotation: int) -> None:
    """States, inputs and outputs get an affix in the kernels; arguments of the host have none."""
    for words, neuron in neurons(rotation):
        source = emitted(neuron, "triton")
        if isinstance(source, UnsupportedError):
            assert any(repr(word) in source.problem for word in words[4:])


@pytest.mark.needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("rotation", [0, 3, 5])
def test_c_and_cuda_agree_with_the_interpreter(rotation: int) -> None:
    """The code compiles, and no value is read in place of another."""
    for neuron in usable("c", rotation)[: 3 if rotation == 0 else None]:
        rng = np.random.default_rng(0)
        a, b = settle(neuron, arguments(neuron, rng, SHAPE), rng)
        check(run(neuron, a, "c", "float32"), b, "float32")
        if neuron in usable("cuda", rotation):
            check(run_host(neuron, a), b, "float32")


@rotations
def test_the_torch_module_agrees_with_the_interpreter(rotation: int) -> None:
    """Outputs and final states."""
    for neuron in usable("torch", rotation):
        a = arguments(neuron, np.random.default_rng(1), SHAPE)
        source, made = lnm.emit(neuron, "torch"), ModuleType("generated")
        exec(source.files[source.entry], vars(made))
        tensors = {n: torch.as_tensor(v) for n, v in (a.params | a.state).items()}
        channel = neuron.params[1].name
        tensors[channel] = tensors[channel].reshape(-1, 1)
        got = made.multi_step(torch.as_tensor(a.x_seq[0]), **tensors)
        expected = a.interpret(neuron)
        for mine, array in zip(
            got, (*expected.outputs.values(), *expected.states.values()), strict=True
        ):
            np.testing.assert_allclose(mine.numpy(), array, 1e-9, 1e-9)


@pytest.mark.needs_cc
def test_the_integer_model_compiles(tmp_path: Path) -> None:
    """As C++; the words of the interface are refused."""
    import subprocess

    accepted = 0
    for words, neuron in neurons(0, "channel"):
        source = emitted(neuron, "c", spec=lnm.Fixed(16, 12))
        if isinstance(source, UnsupportedError):
            named = {w for w in words if repr(w) in source.problem}
            assert named
            assert named <= ARGUMENTS
            continue
        shutil.rmtree(tmp_path)
        source.write(tmp_path)
        call = [compiler().path, "-std=c++17", "-fopenmp", "-fsyntax-only", source.entry]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:2000]
        accepted += 1
    assert accepted > 5


# ---- the comparison itself ----


def test_renamed_keeps_the_affixes_of_the_compiler() -> None:
    """Every name has its mark within `grad_`, `sum_`, `_next` and the index of an element."""
    model = renamed(model_of(lnm.get("lnm")), marked)
    assert model.name == "ñlnmñ"
    assert [p.name for p in model.params][:1] == ["ñthetañ"]
    names = {n for k in (model.program.forward, model.program.backward) for n in k.names}
    names |= model.program.prepare_backward.names
    assert {"ñvñ", "ñvñ_next", "grad_ñvñ_next", "grad_ñxñ", "ñthetañ_0", "grad_ñthetañ_0"} <= names
    assert any(name.startswith("sum_ñ") for name in names)
    assert all("ñ" in name for name in names)


def test_collisions_are_equal_identifiers() -> None:
    """A name equals a word of the code, or a word that is made of another name."""
    assert collisions([{"ñlaneñ", "lane", "mask"}]) == ["lane"]
    assert collisions([{"ñx_rowñ", "ñxñ_row"}, {"ñtotal_vñ", "total_ñvñ"}]) == ["total_v", "x_row"]
    assert collisions([{"ñlaneñ"}, {"lane"}]) == []


def test_words_of_the_language() -> None:
    """Identifiers with a mark alone count, also if they contain other letters than the name's."""

    def meaning(word: str) -> str:
        return "a keyword" if word in {"int", "x_int"} else ""

    require_no_collision("here", [{"int", "ñxñ"}], meaning)
    for word, marked_word in (("int", "ñintñ"), ("x_int", "ñxñ_int"), ("int", "ÑINTÑ".lower())):
        with refused(UnsupportedError, "here", f"{word!r} is a keyword", remedy="Rename the state"):
            require_no_collision("here", [{"char"}, {marked_word}], meaning)


def test_scopes_of_c() -> None:
    """Functions and structs; no comment, text, member, suffix of a number, own name.

    Of the directives, each scope has the macros.
    """
    text = """
#define WORD 1
typedef float real;

struct Tile {  // lanes
    real v[4];
};

inline real step(const Tile &tile, real step) {
    const char *text = "quoted";
    return std::min(tile.v[0], step * 0.5f); /* more */
}
"""
    scopes = [scope for scope in c_scopes({"a.h": text}) if scope]
    assert scopes[0] == {"typedef", "float", "real", "WORD"}
    assert scopes[1] == {"struct", "real", "v", "WORD"}
    assert {"tile", "Tile", "text", "char", "std", "WORD"} < scopes[2]
    assert not {"v", "quoted", "more", "f", "1", "define", "lanes", "min"} & scopes[2]


def test_scopes_of_python() -> None:
    """What a function binds and reads, and what the module binds or gives to its functions."""
    functions, module = python_scopes(
        "import math\nfrom os.path import join as j\nLIMIT = 3\n"
        "def f(a, *, b):\n    c = max(a, LIMIT)\n    return math.sin(b) + c\n"
    )
    assert functions == {"f": {"a", "b", "c", "max", "LIMIT", "math"}}
    assert module == {"math", "os", "j", "LIMIT", "f", "max"}


def test_scopes_of_python_in_several_threads() -> None:
    """Python code that runs during garbage collection lets another thread parse."""
    text = Path(__file__).read_text()
    expected = python_scopes(text)
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()

    def collecting(phase: str, info: dict[str, int]) -> None:
        sum(range(2000))

    gc.callbacks.append(collecting)
    try:
        sys.setswitchinterval(1e-6)
        gc.set_threshold(10, 2, 2)
        with ThreadPoolExecutor(8) as pool:
            assert all(found == expected for found in pool.map(python_scopes, [text] * 50))
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(collecting)


def test_a_collision_is_refused_in_one_line() -> None:
    """The message has the word."""
    v, x = lnm.state("zip"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, name="mine")
    with refused(UnsupportedError, "torch: mine", "the name 'zip'", remedy="Rename the state"):
        lnm.emit(neuron, "torch")
