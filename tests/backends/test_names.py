"""Names of a neuron in generated code: any name works, or is refused before code is written."""

from __future__ import annotations

import ast
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
from lnm_codegen.backends import package as packages
from lnm_codegen.backends import torch as torch_backend
from lnm_codegen.backends.c.backend import C
from lnm_codegen.backends.cuda import backend as cuda_backend
from lnm_codegen.backends.cuda.kernels import CudaPlan
from lnm_codegen.backends.names import (
    Scope,
    collisions,
    marked,
    renamed,
    require_no_collision,
)
from lnm_codegen.backends.plan import SIZES, Plan
from lnm_codegen.backends.triton import backend as triton_backend
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.load.c import compiler
from tests.backends.cuda.host import run_host
from tests.backends.scopes import c_scopes, python_scopes
from tests.backends.words import WORDS, accepted, neuron_named, neurons
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


# ---- the declared scopes, against the text ----


def in_the_text(backend: str, plan: Plan) -> list[Scope]:
    """Return the scopes of the code that a backend would write for a plan."""
    if backend == "c":
        return c_scopes(C()._files(plan))
    if backend == "cuda":
        return c_scopes(cuda_backend._files(CudaPlan(plan)))
    module = torch_backend._module(plan) if backend == "torch" else ""
    if backend == "triton":
        found = collisions(triton_backend.kernel_scopes(plan))
        inner = renamed(plan, "own_{}_".format) if found else plan
        module = triton_backend._module(plan, inner)
    functions, outer = python_scopes(module)
    return [*functions.values(), outer]


@rotations
@pytest.mark.parametrize("backend", ["c", "cuda", "torch", "triton"])
def test_what_is_accepted_has_no_collision_in_the_text(backend: str, rotation: int) -> None:
    """The code of the same neuron with marked names is read; that of a package with it."""
    compared = 0
    for _, neuron in neurons(rotation):
        if isinstance(emitted(neuron, backend), UnsupportedError):
            continue
        compared += 1
        for dtype in ("float32", "bfloat16") if backend == "c" else ("float32",):
            twin = renamed(plan_of(neuron, dtype=dtype), marked)
            assert not collisions(in_the_text(backend, twin)), neuron
    assert compared > 5


@pytest.mark.parametrize(
    "words",
    [WORDS[k::8] for k in (0,)]
    + [pytest.param(WORDS[k::8], marks=pytest.mark.slow) for k in range(1, 8)],
    ids=lambda words: words[0],
)
def test_one_word_alone_has_no_collision_in_the_text(words: list[str]) -> None:
    """An affix of Triton for one word would hide that another is not declared."""
    for word in filter(accepted, words):
        for role in (0, 2, 4):
            others = ["first_", "second_", "third_", "fourth_", "fifth_", "sixth_", "seventh_"]
            others[role] = word
            neuron = neuron_named(others)
            if not isinstance(emitted(neuron, "triton"), UnsupportedError):
                twin = renamed(plan_of(neuron), marked)
                assert not collisions(in_the_text("triton", twin)), word


@pytest.mark.parametrize("backend", packages.TARGETS)
def test_what_a_package_accepts_has_no_collision_in_the_text(backend: str) -> None:
    for _, neuron in neurons(0):
        plan = plan_of(neuron)
        if collisions(packages.scopes_of(plan)):
            continue
        files = packages._files(renamed(plan, marked), packages.TARGETS[backend])
        for path, text in files.items():
            functions, module = python_scopes(text) if path.endswith(".py") else ({}, set())
            assert not collisions([*functions.values(), module]), path


@pytest.mark.parametrize("word", ["lane", "mask", "x_row", "v_next_now", "theta_ptr"])
def test_an_affix_separates_the_names_of_triton(word: str) -> None:
    """Names in the kernels get one on a collision alone; the interface never has it."""
    v, u, x, theta = lnm.state("v"), lnm.state("u"), lnm.input("x"), lnm.param("theta", init=0.5)
    w = lnm.state(word)
    neuron = lnm.Neuron(
        charge={v: theta * v + x, u: u / 2 + w, w: w / 2 + x}, fire=v - 1, name="mine"
    )
    text = lnm.emit(neuron, "triton").files["mine.py"]
    assert "own_v_" in text
    assert f"{word}_init" in text.split("def forward(")[1]
    assert "own_" not in lnm.emit(lnm.get("lif"), "triton").files["lif.py"]


@pytest.mark.parametrize("state", ["grad", "sum"])
def test_a_state_may_have_the_name_of_a_prefix(state: str) -> None:
    """`grad_next` is a state after the step, and not the gradient of `next`."""
    v, lane = lnm.state(state), lnm.input("lane")
    neuron = lnm.Neuron(charge={v: v / 2 + lane}, fire=v - 1, reset=lnm.hard_reset(v), name="mine")
    text = lnm.emit(neuron, "triton").files["mine.py"]
    ast.parse(text)
    assert f"own_{state}__next = " in text


# ---- the comparison itself ----


def test_renamed_keeps_the_affixes_of_the_compiler() -> None:
    """Every name has its mark within `grad_`, `sum_`, `_next` and the index of an element."""
    model = renamed(plan_of(lnm.get("lnm")), marked)
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
