"""Triton's PTX, executed: the checks that Triton's interpreter runs, on what would run on a GPU.

A check is a function of `tests/backends/triton/checks.py`; its docstring says what it pins. Quick
runs have one target and float32, and cases whose kernels differ most.
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is not installed")

import lnm_codegen as lnm
from tests.backends.triton import checks
from tests.backends.triton.runs import build, run
from tests.cases import arguments
from tests.ptx.machine import Machine
from tests.ptx.matrix import QUICK, SHAPES, TARGETS, every, shapes, slow
from tests.ptx.triton_launch import compiled
from tests.test_agree import BITWISE, check, neuron_of, reference

CHECKS = (
    "edges", "granularities", "small_types:bfloat16", "small_types:float16", "layouts:lif",
    "layouts:lnm-4", "layouts:dendrite", "layouts:glif-steps", "channels_last", "counts",
    "non_finite", "function",
    "words:0", "words:3", "words:5", "random_neurons:30",
)  # fmt: skip


@pytest.mark.timeout(900)
@every
def test_numbers(case: str, dtype: str, target: str) -> None:
    """Every number within its own bound; without exp and its kin, the bits of NumPy.

    16 bits: the bits of the float32 interpreter, rounded once to nearest even.
    """
    neuron, narrow = neuron_of(case), dtype in ("bfloat16", "float16")
    for shape in shapes(case):
        a, b = reference(case, shape)
        if narrow:
            a = checks.held(a, dtype)
        with compiled(Machine(), target):
            got = run(build(neuron, dtype), a)
        if not narrow:
            check(got, b, dtype)
        if case in BITWISE and dtype != "float64":
            expected = a.interpret(neuron, dtype="float32")
            inputs = [s.name for s in neuron.inputs]
            pairs = [(got.outputs[n], x) for n, x in expected.outputs.items()]
            pairs += [(got.grads[n], expected.grads[n]) for n in inputs]
            for mine, theirs in pairs:
                np.testing.assert_array_equal(mine, checks.narrowed(theirs, dtype))
            for name in got.states:
                np.testing.assert_array_equal(got.states[name], expected.states[name])
                np.testing.assert_array_equal(got.grads[name], expected.grads[name])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", ["lif", *(pytest.param(c, marks=slow) for c in QUICK[1:])])
def test_any_order_of_warps(case: str) -> None:
    """The bits of lockstep, sums included, whatever the order of blocks and warps."""
    a, _ = reference(case, SHAPES[0])
    found = []
    for machine in (Machine(), Machine("warps", seed=1), Machine("warps", seed=2)):
        with compiled(machine):
            found.append(run(build(neuron_of(case)), a).arrays())
    for other in found[1:]:
        for name, array in found[0].items():
            np.testing.assert_array_equal(array, other[name], err_msg=name)


@slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", TARGETS)
def test_sine_of_large_numbers(target: str) -> None:
    """Beyond 2**31 the sine of float64 calls a function, which no other test reaches."""
    x = lnm.input("x")
    wave = lnm.Neuron(
        fire=lnm.sin(x) - 0.5, surrogate=lnm.surrogate.sigmoid(), output={"wave": lnm.sin(x)},
        name="wave",
    )  # fmt: skip
    rng = np.random.default_rng(3)
    a = arguments(wave, rng, (3, 2, 3, 11))
    size = a.x_seq[0].shape
    a.x_seq = (rng.choice([-1, 1], size) * 2.0 ** rng.uniform(20, 1000, size),)
    machine = Machine()
    with compiled(machine, target):
        got = run(build(wave, "float64"), a)
    np.testing.assert_allclose(got.outputs["wave"], np.sin(a.x_seq[0]), rtol=1e-15)
    kernels = machine.counters.items()
    assert any(c.acted[k.where("clz")[0]] for k, c in kernels if k.where("clz"))


@slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("word", CHECKS)
def test_checks(word: str, target: str) -> None:
    """Layouts, edges, sharing, counts and the rest."""
    name, *given = word.split(":")
    with compiled(Machine(), target):
        getattr(checks, name)(*given)
