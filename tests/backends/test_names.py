"""Names of a neuron in generated code: any name works, or is refused before code is written."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.backends import package as packages
from lnm_codegen.backends import torch as torch_backend
from lnm_codegen.backends.base import Source
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
from tests.backends.scopes import c_scopes, python_scopes
from tests.backends.words import WORDS, accepted, neuron_named, neurons
from tests.cases import arguments
from tests.refusals import refused
from tests.test_agree import check, results, settle

ARGUMENTS = {*SIZES, "threads", "checkpoints"}
REFUSED = {
    "c": ARGUMENTS | {"std"},
    "cuda": ARGUMENTS,
    "torch": {"prepare", "step", "zip"},
    "integer c": ARGUMENTS,
}
"""Arguments and functions of the generated code, which a name would hide."""

slow = pytest.mark.slow
rotations = pytest.mark.parametrize(
    "rotation", [0, *(pytest.param(k, marks=slow) for k in range(1, 7))]
)


def emitted(neuron: lnm.Neuron, backend: str, **options: Any) -> Source | UnsupportedError:
    try:
        return lnm.emit(neuron, backend, **options)
    except UnsupportedError as error:
        return error


def accepted_by(backend: str, rotation: int, finest: str = "neuron") -> Iterator[lnm.Neuron]:
    """Yield the neurons that a backend accepts; a refusal names a word of the interface.

    Triton refuses parameters alone: other names get an affix in the kernels, and the host's none.
    """
    count = 0
    for words, neuron in neurons(rotation, finest):
        options = {"spec": lnm.Fixed(16, 12)} if backend == "integer c" else {}
        source = emitted(neuron, backend.removeprefix("integer "), **options)
        if not isinstance(source, UnsupportedError):
            count += 1
            yield neuron
            continue
        named = {w for w in words if repr(w) in source.problem}
        assert named
        assert named <= (set(words[4:]) if backend == "triton" else REFUSED[backend])
    assert count > (5 if backend in ("triton", "integer c") else 10)  # of 17


@slow
@pytest.mark.needs_cc
@pytest.mark.parametrize("rotation", [0, 3, 5])
def test_c_and_cuda_agree_with_the_interpreter(rotation: int) -> None:
    """The code compiles, and no value is read in place of another."""
    cuda = {*accepted_by("cuda", rotation)}
    for neuron in [*accepted_by("c", rotation)][: 3 if rotation == 0 else None]:
        rng = np.random.default_rng(0)
        a, b = settle(neuron, arguments(neuron, rng, (5, 2, 3, 4)), rng)
        for backend in ("c", "cuda") if neuron in cuda else ("c",):
            check(results(neuron, a, backend, "float32"), b, "float32")


@rotations
def test_the_torch_module_agrees_with_the_interpreter(rotation: int) -> None:
    """Outputs and final states."""
    for neuron in accepted_by("torch", rotation):
        a = arguments(neuron, np.random.default_rng(1), (5, 2, 3, 4))
        source, made = lnm.emit(neuron, "torch"), ModuleType("generated")
        exec(source.files[source.entry], vars(made))
        tensors = {n: torch.as_tensor(v) for n, v in (a.params | a.state).items()}
        channel = neuron.params[1].name
        tensors[channel] = tensors[channel].reshape(-1, 1)
        got = made.multi_step(torch.as_tensor(a.x_seq[0]), **tensors)
        found = a.interpret(neuron)
        expected = (*found.outputs.values(), *found.states.values())
        for mine, array in zip(got, expected, strict=True):
            np.testing.assert_allclose(mine.numpy(), array, 1e-9, 1e-9)


@slow
@pytest.mark.needs_cc
def test_the_integer_model_compiles(tmp_path: Path) -> None:
    """As C++."""
    for neuron in accepted_by("integer c", 0, "channel"):
        shutil.rmtree(tmp_path)
        source = lnm.emit(neuron, "c", spec=lnm.Fixed(16, 12))
        source.write(tmp_path)
        call = [compiler().path, "-std=c++17", "-fopenmp", "-fsyntax-only", source.entry]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:2000]


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
    for neuron in accepted_by(backend, rotation):
        for dtype in ("float32", "bfloat16") if backend == "c" and rotation else ("float32",):
            twin = renamed(plan_of(neuron, dtype=dtype), marked)
            scopes = in_the_text(backend, twin)
            assert not collisions(scopes), neuron
            assert sum(any("ñ" in word for word in scope) for scope in scopes) > 3


@slow
@pytest.mark.parametrize("words", [WORDS[k::8] for k in range(8)], ids=lambda words: words[0])
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
    for k, (_, neuron) in enumerate(neurons(0)):
        plan = plan_of(neuron)
        if k % 4 or collisions(packages.scopes_of(plan)):
            continue
        files = packages._files(renamed(plan, marked), packages.TARGETS[backend])
        for path, text in files.items():
            functions, module = python_scopes(text) if path.endswith(".py") else ({}, set())
            assert not collisions([*functions.values(), module]), path


@pytest.mark.parametrize("word", ["lane", "x_row", "v_next_now", "theta_ptr"])
def test_an_affix_separates_the_names_of_triton(word: str) -> None:
    """Names in the kernels get one on a collision alone; the interface never has it."""
    v, u, x, theta = lnm.state("v"), lnm.state("u"), lnm.input("x"), lnm.param("theta", init=0.5)
    w = lnm.state(word)
    charge = {v: theta * v + x, u: u / 2 + w, w: w / 2 + x}
    text = lnm.emit(lnm.Neuron(charge, v - 1, name="mine"), "triton").files["mine.py"]
    assert f"own_{word}_ = _initial(own_{word}__init" in text
    assert f"def mine(x_seq, theta, v_init=0.0, u_init=0.0, {word}_init=0.0):" in text
    assert "own_" not in lnm.emit(lnm.get("lif"), "triton").files["lif.py"]


@pytest.mark.parametrize("state", ["grad", "sum"])
def test_a_state_may_have_the_name_of_a_prefix(state: str) -> None:
    """`grad_next` is a state after the step, and not the gradient of `next`."""
    v, lane = lnm.state(state), lnm.input("lane")
    neuron = lnm.Neuron(charge={v: v / 2 + lane}, fire=v - 1, reset=lnm.hard_reset(v), name="mine")
    text = lnm.emit(neuron, "triton").files["mine.py"]
    ast.parse(text)
    assert f"own_{state}__next = " in text


def test_words_of_the_host_are_refused() -> None:
    """A builtin, an argument of `forward` that is not a parameter, a module; not `neuron`."""
    for backend, state, param, name, word in (
        ("torch", "zip", "w", "mine", "zip"),
        ("triton", "v", "block", "mine", "block"),
        ("triton", "v", "w", "math", "math"),
    ):
        v, x, w = lnm.state(state), lnm.input("x"), lnm.param(param)
        neuron = lnm.Neuron(charge={v: v * w + x}, fire=v - 1, name=name)
        problem = f"the name {word!r}"
        with refused(UnsupportedError, f"{backend}: {name}", problem, remedy="Rename the state"):
            lnm.emit(neuron, backend)
    neuron = lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1)  # its default name is a local there
    assert "def neuron(x_seq, v_init=0.0):" in lnm.emit(neuron, "triton").files["neuron.py"]


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
