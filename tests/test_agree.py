"""Agreement of every backend with `lnm.interpret` up to rounding.

`bounds.py` computes the tolerance of each number: a first-order bound of the error of its own
operations, in the type of the backend. The factor SLACK allows other operations: the torch backend
has no fused multiply-add, and differentiates by autograd. Inputs are drawn so that no comparison
lies within rounding of a tie; spikes must then be equal.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from tests.bounds import Num, Reference, bounded
from tests.cases import (
    BLOCKS,
    CASES,
    FEW,
    FEW_IN_C,
    FEW_IN_FLOAT64,
    FEW_OF_ZOO,
    ZOO,
    Results,
    arguments,
    exact,
    run,
)
from tests.strategies import Arguments, neurons, two_state_arguments

SLACK = 3
EPSILON = {"float32": float(np.finfo("float32").eps), "float64": float(np.finfo("float64").eps)}
TINY = {"float32": 1e-36, "float64": 1e-300}

SEQUENCES = (
    (1, 1, 1, 1),
    (5, 2, 3, 4),
    (16, 1, 2, 9),
    (17, 3, 1, 23),
    (33, 2, 3, 11),
    (4, 3, 37, 13),  # 1443 neurons: two tiles, a tail of 419, of which 35 in a part of a block
)
LONG = (257, 1, 3, 11)
QUICK = {
    ("c", "float32"): FEW_IN_C,
    ("c", "float64"): FEW_IN_FLOAT64,
    ("torch", "float32"): FEW,
    ("torch", "float64"): (*CASES, *FEW_OF_ZOO),
}
EMPTY = ((0, 2, 3, 4), (3, 0, 3, 4), (3, 2, 3, 0), (0, 0, 3, 4), (2, 2, 0, 4))


@cache
def neuron_of(case: str) -> lnm.Neuron:
    return (CASES | ZOO | BLOCKS)[case]()


@cache
def reference(case: str, shape: tuple[int, ...], wide: float = 1.0) -> tuple[Arguments, Reference]:
    """Return arguments without open comparisons, and the interpreter's results with bounds."""
    neuron = neuron_of(case)
    rng = np.random.default_rng(sum(map(ord, case)) + sum(shape))
    a = arguments(neuron, rng, shape)
    a.x_seq = tuple(exact(x * wide) for x in a.x_seq)
    a.state = {n: exact(v * wide) for n, v in a.state.items()}
    return settle(neuron, a, rng)


class Unsettled(AssertionError):
    """A neuron whose comparisons stay open, whatever the arguments."""


def settle(
    neuron: lnm.Neuron, a: Arguments, rng: np.random.Generator, epsilon: float = EPSILON["float32"]
) -> tuple[Arguments, Reference]:
    """Draw neurons with an open comparison again, until there is none."""
    for _ in range(20):
        b = bounded(neuron, a.x_seq, a.state, a.params, a.grad_out, a.grad_state, epsilon)
        if not b.doubtful.any():
            check_reference(neuron, a, b)
            return a, b
        for array in (*a.x_seq, *a.state.values()):
            array[..., b.doubtful] = exact(rng.uniform(-1, 1, array[..., b.doubtful].shape))
    raise Unsettled("no arguments without an open comparison in 20 draws")


def check_reference(neuron: lnm.Neuron, a: Arguments, b: Reference) -> None:
    """Assert that the values with bounds are those of the interpreter."""
    result = a.interpret(neuron)
    for mine, theirs in (
        (b.outputs, result.outputs), (b.states, result.states), (b.grads, result.grads)
    ):  # fmt: skip
        assert set(mine) == set(theirs)
        for name, number in mine.items():
            np.testing.assert_allclose(theirs[name], number.value, 1e-9, 1e-9, err_msg=name)


def check(got: Results, b: Reference, dtype: str) -> None:
    """Assert that every number is within its own bound."""
    for what, table, expected in (
        ("output", got.outputs, b.outputs),
        ("final", got.states, b.states),
        ("grad", got.grads, b.grads),
    ):
        for name, array in table.items():
            within(f"{what} {name}", array, expected[name], dtype)


def within(what: str, got: np.ndarray, expected: Num, dtype: str) -> None:
    assert got.dtype == dtype, what
    assert got.shape == expected.value.shape, what
    if not got.size:
        return
    allowed = SLACK * EPSILON[dtype] * expected.error + TINY[dtype]
    off = np.abs(got - expected.value)
    worst = np.unravel_index(np.argmax(off / allowed), off.shape)
    assert (off <= allowed).all(), (
        f"{what}{list(map(int, worst))}: {got[worst]!r}, expected {expected.value[worst]!r},"
        f" off by {off[worst]:.3g}, allowed {allowed[worst]:.3g}"
    )


def combinations() -> list[object]:
    """Return every case, backend and type; the C kernels of most cases are slow tests."""
    found = []
    for case in CASES | ZOO:
        for dtype in ("float32", "float64"):
            for backend in ("c", "torch"):
                marks = [pytest.mark.needs_cc] if backend == "c" else []
                if case not in QUICK[backend, dtype]:
                    marks.append(pytest.mark.slow)
                found.append(pytest.param(case, backend, dtype, marks=marks))
    return found


every = pytest.mark.parametrize(("case", "backend", "dtype"), combinations())
in_c = pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.needs_cc) for c in CASES])


CONSTANT = {"decided": {"spike": "always", "s_off": "never"}}
"""Case -> spikes that its parameters decide."""
WITHOUT_GRADIENT = {
    "refractory_lif": {"pause"}, "leaky-at-once": {"r"}, "fitzhugh_nagumo": {"last"},
}  # fmt: skip
"""Case -> states whose gradient is 0 by definition."""


@pytest.mark.parametrize("case", CASES | ZOO)
def test_every_spike_occurs_and_every_gradient_is_found(case):
    """Otherwise these comparisons omit resets, or compare zeros. `held` once had no spike."""
    neuron = neuron_of(case)
    counts, numbers, moving = dict.fromkeys(neuron.spikes, 0.0), 0, set()
    for shape in SEQUENCES[3:]:
        a, b = reference(case, shape)
        probe = neuron.with_outputs(**{f"is_{s.name}": s for s, _ in neuron.fire})
        seen = lnm.interpret(probe, *a.x_seq, state=a.state, **a.params).outputs
        counts = {name: n + seen[f"is_{name}"].sum() for name, n in counts.items()}
        numbers += a.x_seq[0].size
        moving |= {name for name, grad in b.grads.items() if grad.value.any()}
    always = {name: "always" for name, n in counts.items() if n == numbers}
    constant = always | {name: "never" for name, n in counts.items() if n == 0}
    assert constant == CONSTANT.get(case, {})
    learned = {p.name for p in neuron.params if p.learnable}
    leaves = {s.name for s in (*neuron.inputs, *neuron.states)} | learned
    assert leaves - moving == WITHOUT_GRADIENT.get(case, set())


@every
def test_sequences(case, backend, dtype):
    """Whole sequences: outputs, final states, every gradient; chunks, tiles, blocks and tails."""
    for shape in SEQUENCES:
        a, b = reference(case, shape)
        check(run(neuron_of(case), a, backend, dtype), b, dtype)


@every
def test_one_step_from_given_states(case, backend, dtype):
    """One step from states and inputs four times as wide, where a sequence may diverge."""
    a, b = reference(case, (1, 40, 3, 5), wide=4.0)
    check(run(neuron_of(case), a, backend, dtype), b, dtype)


@every
def test_along_a_trajectory(case, backend, dtype):
    """Step by step along the interpreter's own trajectory: each step from the same state."""
    neuron = neuron_of(case)
    shape = (48, 2, 3, 5)
    a = arguments(neuron, np.random.default_rng(5), shape)
    states = a.interpret(neuron).trajectory

    def folded(array: np.ndarray) -> np.ndarray:
        return exact(array.reshape(1, -1, *shape[2:]))

    step = Arguments(
        x_seq=tuple(folded(x) for x in a.x_seq),
        state={n: folded(v)[0] for n, v in states.items()},
        params=a.params,
        grad_out=tuple(folded(g) for g in a.grad_out),
        grad_state={n: folded(a.grad_out[0])[0] for n in states},
    )
    step, b = settle(neuron, step, np.random.default_rng(6))
    check(run(neuron, step, backend, dtype), b, dtype)


@every
@pytest.mark.slow
def test_long_sequences(case, backend, dtype):
    """257 steps: seventeen chunks, the last of one step."""
    if case == "tc_lif":
        pytest.skip("nothing damps its oscillation, so that the bounds of 257 steps are too wide")
    a, b = reference(case, LONG)
    check(run(neuron_of(case), a, backend, dtype), b, dtype)


@pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=pytest.mark.needs_cc)])
@pytest.mark.parametrize("case", ["lif", "lnm-4", "dendrite"])
def test_long_sequences_of_some(case, backend):
    """257 steps, for a few kernels in every run."""
    a, b = reference(case, LONG)
    check(run(neuron_of(case), a, backend, "float32"), b, "float32")


@every
def test_empty(case, backend, dtype):
    """T = 0 returns states and their gradients unchanged; N = 0 gives empty results and zeros."""
    neuron = neuron_of(case)
    for shape in EMPTY:
        if 0 in shape[2:] and {p.per for p in neuron.params} != {"layer"}:
            continue  # a parameter with no rows
        a = arguments(neuron, np.random.default_rng(0), shape)
        got, expected = run(neuron, a, backend, dtype), a.interpret(neuron, dtype=dtype)
        for name, array in got.outputs.items():
            assert array.shape == shape
            np.testing.assert_array_equal(array, expected.outputs[name])
        for name, array in got.states.items():
            np.testing.assert_array_equal(array, expected.states[name])
        for name, array in got.grads.items():
            np.testing.assert_array_equal(array, expected.grads[name], err_msg=f"{name} {shape}")


CALLING = (
    "plif", "plif-neuron", "glif-steps", "alif", "lnm-pole", "brf", "adlif", "dendrite", "gate"
)  # fmt: skip
BITWISE = [c for c in CASES if c not in CALLING]


@pytest.mark.parametrize("case", CASES)
def test_calling_cases_have_calls(case):
    """exp and its kin round otherwise in each library, so that bits are compared without them."""
    p = lnm.lower(neuron_of(case))
    values = [x.value for k in (p.prepare, p.forward, p.backward) for x in k.body]
    has_calls = any(isinstance(n, ir.Call) for v in values for n in ir.walk(v))
    assert has_calls == (case in CALLING)


@pytest.mark.needs_cc
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in FEW_IN_C else pytest.mark.slow) for c in BITWISE]
)
def test_float32_bits_of_c(case):
    """Without exp and the like, C is bit-exact with the float32 interpreter, gradients included.

    Only reductions of parameter gradients have another order.
    """
    neuron = neuron_of(case)
    for shape in SEQUENCES:
        a, _ = reference(case, shape)
        got, expected = run(neuron, a, "c", "float32"), a.interpret(neuron, dtype="float32")
        for name, array in got.outputs.items():
            np.testing.assert_array_equal(array, expected.outputs[name], err_msg=name)
        for name in got.states:
            np.testing.assert_array_equal(got.states[name], expected.states[name], err_msg=name)
        for name in [*(s.name for s in neuron.inputs), *got.states]:
            np.testing.assert_array_equal(got.grads[name], expected.grads[name], err_msg=name)


@pytest.mark.parametrize(
    ("case", "backend"),
    [
        pytest.param(
            case,
            backend,
            marks=[pytest.mark.needs_cc] * (backend == "c")
            + [pytest.mark.slow] * (backend == "c" and case not in FEW_IN_C),
        )
        for case in ("if", "lif", "cuba_lif", "ternary", "gate", "lnm-3")
        for backend in ("torch", "c")
    ],
)
def test_exact_ties_fire(case, backend):
    """z = 0 fires: inputs on a grid of quarters and states 0, where arithmetic is exact."""
    neuron = neuron_of(case)
    params = {p.name: np.asarray(p.init) for p in neuron.params}
    if case == "lnm-3":
        params["theta"] = np.asarray((0.0, 0.5, 0.25, 0.0))
    x = np.arange(-8, 9).reshape(1, 17, 1, 1) / 4.0
    zero = {s.name: np.zeros(x.shape[1:]) for s in neuron.states}
    a = Arguments((x,), zero, params, (np.ones(x.shape),), zero)
    expected = a.interpret(neuron).out
    threshold = params.get("v_threshold", params.get("level"))
    at = x[0] == (2 * threshold if case == "lif" else threshold)
    assert at.any()
    assert (expected[0][at] == 1).all()
    for dtype in ("float32", "float64") if backend == "torch" else ("float32",):
        np.testing.assert_array_equal(
            next(iter(run(neuron, a, backend, dtype).outputs.values())), expected
        )


@every
def test_infinities_and_nans(case, backend, dtype):
    """Finite exactly where the interpreter is; a spike of NaN is 0; other neurons do not change."""
    neuron = neuron_of(case)
    shape = (18, 2, 3, 6)
    a, _ = reference(case, shape)
    clean = run(neuron, a, backend, dtype)
    poisoned = Arguments(
        tuple(x.copy() for x in a.x_seq), a.state, a.params, a.grad_out, a.grad_state
    )
    for x in poisoned.x_seq:
        x[3, 0, :, 0], x[5, 0, :, 1], x[7, 1, :, 2] = np.inf, -np.inf, np.nan
        x[17, 1, :, 3], x[0, 0, :, 4] = np.nan, np.inf
    got = run(neuron, poisoned, backend, dtype)
    expected = poisoned.interpret(neuron, dtype=dtype)
    lanes = np.ones(shape[1:], bool)
    for n, i in ((0, 0), (0, 1), (1, 2), (1, 3), (0, 4)):
        lanes[n, :, i] = False
    names = [s.name for s in neuron.inputs] + list(got.states)
    for what, mine, theirs, before in (
        *(("output", got.outputs[n], expected.outputs[n], clean.outputs[n]) for n in got.outputs),
        *(("final", got.states[n], expected.states[n], clean.states[n]) for n in got.states),
        *((f"grad {n}", got.grads[n], expected.grads[n], clean.grads[n]) for n in names),
    ):
        np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(theirs), err_msg=what)
        np.testing.assert_array_equal(mine[..., lanes], before[..., lanes], err_msg=what)
        both = np.isfinite(mine)
        tolerance = 2e-3 if dtype == "float32" else 1e-9
        np.testing.assert_allclose(
            mine[both], theirs[both], rtol=tolerance, atol=tolerance, err_msg=what
        )
    for p in neuron.params:
        if p.learnable:
            mine, theirs = got.grads[p.name], expected.grads[p.name]
            np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(theirs), err_msg=p.name)


@pytest.mark.parametrize("case", ["lif-learned", pytest.param("lnm-4", marks=pytest.mark.slow)])
@pytest.mark.parametrize("detached", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        pytest.param("c", "float32", marks=[pytest.mark.needs_cc, pytest.mark.slow]),
        ("torch", "float64"),
    ],
)
def test_detach_reset_of_the_layer(case, detached, backend, dtype):
    """`detach_reset` given to the layer is that of the neuron."""
    neuron = neuron_of(case).with_detach_reset(detached)
    shape = (17, 2, 3, 5)
    a = arguments(neuron, np.random.default_rng(1), shape)
    a, b = settle(neuron, a, np.random.default_rng(2))
    check(run(neuron, a, backend, dtype), b, dtype)


@pytest.mark.needs_cc
@pytest.mark.parametrize(
    "case",
    [
        "lif",
        "lnm-4",
        pytest.param("cuba_lif-learned", marks=pytest.mark.slow),
        pytest.param("izhikevich-learned", marks=pytest.mark.slow),
    ],
)
def test_chunk_edges(case):
    """Around multiples of the chunk: correct, and bit-exact with 1 and 2 threads."""
    threads = torch.get_num_threads()
    for steps in (15, 16, 17, 31, 32, 33, 48):
        neuron = neuron_of(case)
        a, b = reference(case, (steps, 2, 3, 5))
        check(run(neuron, a, "c", "float32"), b, "float32")
        try:
            first, second = (
                torch.set_num_threads(n) or run(neuron, a, "c", "float32") for n in (1, 2)
            )
        finally:
            torch.set_num_threads(threads)
        for name, array in first.arrays().items():
            np.testing.assert_array_equal(array, second.arrays()[name], err_msg=name)


def check_random(neuron: lnm.Neuron, seed: int, backend: str, dtype: str) -> None:
    """Compare a drawn neuron; one that always ties, such as max(0.5*x, x/2), is not drawn."""
    rng = np.random.default_rng(seed)
    a = arguments(neuron, rng, (3, 2, 3, 5))
    try:
        a, b = settle(neuron, a, rng, EPSILON[dtype])
    except Unsettled:
        reject()
    check(run(neuron, a, backend, dtype), b, dtype)


def drawn(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@drawn(25)
@given(neurons(stops=True, binds=True), st.integers(0, 2**32 - 1))
def test_random_neurons_in_torch(neuron, seed):
    """Autograd through random neurons equals the symbolic backward; float64 and float32."""
    check_random(neuron, seed, "torch", "float64")
    check_random(neuron, seed, "torch", "float32")


@pytest.mark.slow
@drawn(60)
@given(neurons(stops=True, binds=True), st.integers(0, 2**32 - 1))
def test_many_random_neurons_in_torch(neuron, seed):
    """More random neurons, in both types."""
    check_random(neuron, seed, "torch", "float64")
    check_random(neuron, seed, "torch", "float32")


@pytest.mark.slow
@drawn(15)
@given(two_state_arguments(), st.integers(0, 2**32 - 1))
def test_random_polynomials_of_two_states_in_torch(arguments, seed):
    """Autograd through any parametrisation, reset, clamp and granularity."""
    neuron = lnm.get("lnm", **arguments)
    check_random(neuron, seed, "torch", "float64")
    check_random(neuron, seed, "torch", "float32")


@pytest.mark.slow
@pytest.mark.needs_cc
@drawn(2)
@given(two_state_arguments(degrees=(1, 2)), st.integers(0, 2**32 - 1))
def test_random_polynomials_of_two_states_in_c(arguments, seed):
    """A degree of 3 is among the cases; a compiler takes long for higher ones."""
    check_random(lnm.get("lnm", **arguments), seed, "c", "float64")


@pytest.mark.needs_cc
@pytest.mark.slow
@pytest.mark.timeout(1800)
@drawn(60)
@given(neurons(stops=True, binds=True), st.integers(0, 2**32 - 1))
def test_random_neurons_in_c(neuron, seed):
    """Random neurons, in both types."""
    check_random(neuron, seed, "c", "float64")
    check_random(neuron, seed, "c", "float32")
