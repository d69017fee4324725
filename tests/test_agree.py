"""Agreement of every backend with `lnm.interpret`: one matrix of backend, type, neuron and shape.

`bounds.py` computes the tolerance of each number: a first-order bound of the error of its own
operations, in the type of the backend. The factor SLACK allows other operations: the torch backend
has no fused multiply-add, and differentiates by autograd. Inputs are drawn so that no comparison
lies within rounding of a tie; spikes must then be equal. Without exp and its kin the kernels are
bit-exact to the float32 interpreter, but for reductions of parameter gradients.

Quick runs take a pairwise covering array of the matrix over few neurons, slow ones the product.
Triton's interpreter owns a process, in which `tests/backends/triton` checks the rows of Triton.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from tests.bounds import Num, Reference, bounded
from tests.cases import BLOCKS, CASES, ZOO, Results, arguments, exact, run
from tests.strategies import Arguments, neurons, shared, two_state_arguments

SLACK = 3
EPSILON = {"float32": float(np.finfo("float32").eps), "float64": float(np.finfo("float64").eps)}
TINY = {"float32": 1e-36, "float64": 1e-300}
NARROW = {"bfloat16": 1.01 * 2.0**-7, "float16": 1.01 * 2.0**-11}
"""16-bit type -> relative error of a sequence that is stored; Triton's interpreter truncates the
mantissa of a bfloat16."""

CALLING = (
    "plif", "plif-neuron", "glif-steps", "alif", "lnm-pole", "brf", "adlif", "dendrite", "gate"
)  # fmt: skip
BITWISE = [c for c in CASES if c not in CALLING]
"""Cases without exp and its kin, which round otherwise in each library."""


class Row(NamedTuple):
    """One combination: `shape` is batch, channels and inner axes; `mode` is one of MODES."""

    backend: str
    dtype: str
    case: str
    shape: tuple[int, ...]
    steps: int
    mode: str


MODES = ("plain", "wide", "trajectory", "poisoned")
"""Arguments near the declared values; four times as wide, for one step; each step of a trajectory
by itself, from the interpreter's states; with infinities and NaN."""
SHAPES = ((2, 3, 4), (3, 1, 23), (5, 6), (3, 37, 13), (0, 3, 4))
"""(3, 37, 13): 1443 neurons, two tiles, a tail of 419, of which 35 in a part of a block."""
STEPS = (5, 0, 1, 17, 33)
EVERY = (
    (1, 1, 1, 1), (5, 2, 3, 4), (16, 1, 2, 9), (17, 3, 1, 23), (33, 2, 3, 11), (4, 3, 37, 13),
    (257, 1, 3, 11), (5, 6, 5), (3, 2, 4, 32), (15, 2, 3, 5), (31, 2, 3, 5), (48, 2, 3, 5),
    (0, 2, 3, 4), (3, 0, 3, 4), (3, 2, 3, 0), (0, 0, 3, 4), (2, 2, 0, 4),
)  # fmt: skip
"""Time steps and shapes of slow runs."""

QUICK = {
    ("torch", "float32"): ("lif", "izhikevich-learned", "lnm-3", "dendrite", "gate", "held"),
    ("torch", "float64"): ("lnm-4", "lnm-matrix", "decided", "clif"),
    ("c", "float32"): ("lnm-3", "lnm-4", "dendrite", "gate"),
    ("c", "float64"): ("lif",),
    ("cuda", "float32"): ("lnm-4", "dendrite"),
    ("onnx", "float32"): ("lif", "lnm-4", "dendrite", "gate"),
    ("onnx", "float64"): ("lnm-matrix", "held"),
    ("triton", "float32"): ("lnm-4",),
    ("triton", "bfloat16"): ("lif",),
}
"""Backend and type -> cases of quick runs."""


LAYOUTS = ("lif", "lnm-3", "lnm-4", "lnm-matrix", "glif-steps", "gate")
KERNELS = [(*kind, case) for kind, cases in QUICK.items() for case in cases]


def is_possible(row: Sequence[Any]) -> bool:
    """Report whether the first values of a row can be combined: kernel, shape, steps, mode."""
    (backend, dtype, _), shape, steps, mode = [*row, *(SHAPES[0], 1, "plain")[len(row) - 1 :]]
    size = int(np.prod(shape))
    if backend == "onnx" and not (steps and size and len(shape) == 3):
        return False  # its rank is fixed, and onnxruntime scans no empty sequence
    if mode == "poisoned" and (size < 6 or dtype in NARROW):
        return False
    return mode == "plain" or bool(steps and size and (mode != "wide" or steps == 1))


@cache
def quick_rows() -> tuple[Row, ...]:
    """Return a pairwise covering array of KERNELS, SHAPES, STEPS and MODES; its order is fixed.

    The library may end before the last pairs. The loop adds rows for them. Where the library is
    not installed it makes all rows, twice as many.
    """
    levels = [KERNELS, SHAPES, STEPS, MODES]
    rows: list[Any] = []
    with suppress(ModuleNotFoundError):
        from allpairspy import AllPairs

        rows = [*map(tuple, AllPairs(levels, filter_func=is_possible))]
    found = {pair for row in rows for pair in combinations(row, 2)}
    for row in filter(is_possible, product(*levels)):
        if not found.issuperset(combinations(row, 2)):
            rows.append(row)
            found.update(combinations(row, 2))
    return tuple(Row(*kernel, *rest) for kernel, *rest in rows)


def marked(backend: str, dtype: str, case: str, *marks: pytest.MarkDecorator) -> Any:
    """Return the parameters of a kernel, one that is compiled marked so."""
    needs = [pytest.mark.needs_cc] * (backend in ("c", "cuda"))
    return pytest.param(backend, dtype, case, marks=[*needs, *marks])


@pytest.mark.parametrize(
    ("backend", "dtype", "case"),
    [marked(*kernel) for kernel in KERNELS if kernel[0] != "triton"],
)
def test_pairs(backend, dtype, case):
    """Every two of backend, type, neuron, shape, time steps and mode meet in a row."""
    rows = [row for row in quick_rows() if row[:3] == (backend, dtype, case)]
    assert rows
    for row in rows:
        check_row(row)


PRODUCT = [
    marked(backend, dtype, case)
    for case in CASES | ZOO
    for backend in ("c", "torch", "onnx", "cuda")
    for dtype in ("float32", "float64")
    if backend in ("c", "torch") or (case in CASES and (backend, dtype) != ("cuda", "float64"))
]
PRODUCT += [
    marked("cuda", dtype, case)
    for dtype in ("float64", *NARROW)
    for case in ("lif", "lnm-3", "lnm-4", "dendrite")
]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("backend", "dtype", "case"), PRODUCT)
def test_product(backend, dtype, case):
    """Every case in both types: chunks, tiles, blocks, tails, nothing at all, and every mode."""
    check_every(backend, dtype, case)


def check_every(backend: str, dtype: str, case: str) -> None:
    """Check the rows of one kernel."""
    rows = [(*shape, "plain") for shape in EVERY]
    rows += [(1, 40, 3, 5, "wide"), (48, 2, 3, 5, "trajectory"), (18, 2, 3, 6, "poisoned")]
    for steps, *shape, mode in rows:
        row = Row(backend, dtype, case, tuple(shape), steps, mode)
        if 0 in shape[1:] and {p.per for p in neuron_of(case).params} != {"layer"}:
            continue
        if case == "tc_lif" and mode == "plain" and steps > 33:
            continue  # nothing damps its oscillation: bounds of more steps are too wide
        if dtype in NARROW and mode == "poisoned":
            continue  # the interpreter has no such type
        if backend == "onnx" and (0 in (steps, *shape) or len(shape) < 3):
            continue
        check_row(row)


def results(neuron: lnm.Neuron, a: Arguments, backend: str, dtype: str, **layout: Any) -> Results:
    """Run a backend: a layer, the kernels of a GPU without one, or a model in onnxruntime."""
    match backend:
        case "cuda":
            from tests.backends.cuda.host import run_host

            return run_host(neuron, a, dtype, **layout)
        case "onnx":
            from tests.backends.onnx.runs import results

            return results(neuron, a, dtype)
        case "triton":
            from tests.backends.triton import runs

            own = {"repeated": ("stretch", 0), "ends": ("wanted", False)}
            own |= {"one_state": ("scalar_state", True)}
            given: Any = dict(own.get(name, (name, value)) for name, value in layout.items())
            return runs.run(runs.build(neuron, dtype), a, **given)
        case _:
            return run(neuron, a, backend, dtype)


@contextmanager
def two_levels(backend: str, neuron: lnm.Neuron, steps: int) -> Iterator[None]:
    """Save states at two levels beyond so many steps."""
    if backend == "cuda":
        from tests.backends.cuda.host import host_kernels

        with host_kernels(neuron, "float32").far(steps):
            yield
        return
    from tests.backends.triton.checks import constants
    from tests.backends.triton.runs import build

    with constants(build(neuron), _ONE_LEVEL=steps):
        yield


def check_layouts(backend: str, case: str) -> None:
    """The bits of plain arguments, whatever the memory that kernels of a GPU read and write."""
    neuron = neuron_of(case)

    def drawn(*shape: int) -> Arguments:
        return arguments(neuron, np.random.default_rng(sum(shape)), shape)

    def same(a: Arguments, expected: Results, **layout: Any) -> None:
        got, wanted = results(neuron, a, backend, "float32", **layout).arrays(), expected.arrays()
        assert got
        for name, array in got.items():  # absent ends are no results
            np.testing.assert_array_equal(array, wanted[name], err_msg=f"{layout} {name}")

    def plain(a: Arguments) -> Results:
        return results(neuron, a, backend, "float32")

    a = drawn(20, 2, 3, 24)
    same(a, plain(a), shift=1)  # off the alignment of vectors
    x, grads = ([np.broadcast_to(s[:1], s.shape) for s in table] for table in (a.x_seq, a.grad_out))
    once = replace(a, x_seq=tuple(x), grad_out=tuple(grads))
    same(once, plain(once), repeated=True)  # stride 0 reads one row again and again
    first = replace(a, state={n: np.full_like(s, s.flat[0]) for n, s in a.state.items()})
    for shift in (0, 1):
        same(first, plain(first), one_state=True, shift=shift)
    none = replace(a, grad_state={n: np.zeros_like(g) for n, g in a.grad_state.items()})
    same(none, plain(none), ends=False)
    for steps in (21, 64, 97):
        far = drawn(steps, 1, 3, 5)
        expected = plain(far)
        with two_levels(backend, neuron, 20):
            same(far, expected)
    for further in neuron.inputs[1:]:
        for inner, count in ((144, 1), (72, 2), (24, 3), (12, 3), (1, 72), (2, 36)):
            b = replace(a, x_seq=(a.x_seq[0], shared(a.x_seq[1], inner, count)))
            expected, sharing = plain(b), {further.name: (inner, count)}
            same(b, expected, sharing=sharing)
            with two_levels(backend, neuron, 8):
                same(b, expected, sharing=sharing)


@pytest.mark.needs_cc
@pytest.mark.parametrize(
    "case", ["dendrite", *(pytest.param(c, marks=pytest.mark.slow) for c in LAYOUTS)]
)
def test_layouts_of_cuda(case):
    check_layouts("cuda", case)


def check_row(row: Row) -> None:
    """Compare a backend with the interpreter."""
    neuron, shape = neuron_of(row.case), (row.steps, *row.shape)
    if row.mode == "poisoned":
        return check_poisoned(row)
    if row.mode == "trajectory":
        a, b = along_a_trajectory(row.case, shape, row.dtype)
    elif 0 in shape:
        return check_empty(row, arguments(neuron, np.random.default_rng(0), shape))
    else:
        a, b = reference(row.case, shape, 4.0 if row.mode == "wide" else 1.0, row.dtype)
    got = results(neuron, a, row.backend, row.dtype)
    check(got, b, row.dtype, [s.name for s in neuron.inputs])
    if row.backend in ("c", "cuda", "triton") and row.dtype == "float32" and row.case in BITWISE:
        expected = a.interpret(neuron, dtype="float32")
        reduced = [p.name for p in neuron.params]
        for mine, theirs in (
            (got.outputs, expected.outputs), (got.states, expected.states),
            (got.grads, {n: g for n, g in expected.grads.items() if n not in reduced}),
        ):  # fmt: skip
            for name, array in theirs.items():
                np.testing.assert_array_equal(mine[name], array, err_msg=f"{row} {name}")


def check_empty(row: Row, a: Arguments) -> None:
    """T = 0 returns states and their gradients unchanged; N = 0 gives empty results and zeros."""
    got = results(neuron_of(row.case), a, row.backend, row.dtype)
    kind = "float64" if row.dtype == "float64" else "float32"
    expected = a.interpret(neuron_of(row.case), dtype=kind)
    for mine, theirs in (
        (got.outputs, expected.outputs), (got.states, expected.states), (got.grads, expected.grads)
    ):  # fmt: skip
        for name, array in mine.items():
            assert array.shape == theirs[name].shape
            np.testing.assert_array_equal(array, theirs[name], err_msg=f"{row} {name}")


@cache
def along_a_trajectory(
    case: str, shape: tuple[int, ...], dtype: str
) -> tuple[Arguments, Reference]:
    """Return each step of the interpreter's trajectory as a sample of one step."""
    neuron = neuron_of(case)
    a = arguments(neuron, np.random.default_rng(5), shape)
    kind = dtype if dtype in NARROW else "float32"

    def folded(array: np.ndarray) -> np.ndarray:
        return held(array.reshape(1, -1, *shape[2:]), kind)

    states = {n: folded(v)[0] for n, v in a.interpret(neuron).trajectory.items()}
    step = Arguments(
        tuple(map(folded, a.x_seq)), states, a.params, tuple(map(folded, a.grad_out)),
        {n: folded(a.grad_out[0])[0] for n in states},
    )  # fmt: skip
    return settle(neuron, step, np.random.default_rng(6), kind=kind)


def check_poisoned(row: Row) -> None:
    """Finite exactly where the interpreter is; a spike of NaN is 0; other neurons do not change."""
    neuron, shape = neuron_of(row.case), (row.steps, *row.shape)
    a, _ = reference(row.case, shape)
    clean = results(neuron, a, row.backend, row.dtype)
    bad = Arguments(tuple(x.copy() for x in a.x_seq), a.state, a.params, a.grad_out, a.grad_state)
    numbers = (np.inf, -np.inf, np.nan, np.nan, np.inf)
    for x in bad.x_seq:
        for k, (t, value) in enumerate(zip((3, 5, 7, -1, 0), numbers, strict=True)):
            x.reshape(row.steps, -1)[t % row.steps, k] = value
    got = results(neuron, bad, row.backend, row.dtype)
    expected = bad.interpret(neuron, dtype=row.dtype)
    learned = {p.name for p in neuron.params}
    for mine, theirs, before in (
        (got.outputs, expected.outputs, clean.outputs),
        (got.states, expected.states, clean.states), (got.grads, expected.grads, clean.grads),
    ):  # fmt: skip
        for name, array in mine.items():
            what, both = f"{row} {name}", np.isfinite(array)
            np.testing.assert_array_equal(both, np.isfinite(theirs[name]), err_msg=what)
            if name in learned:
                continue
            lanes = [x.reshape(-1, int(np.prod(row.shape)))[:, 5:] for x in (array, before[name])]
            np.testing.assert_array_equal(*lanes, err_msg=what)
            tolerance = 2e-3 if row.dtype == "float32" else 1e-9
            np.testing.assert_allclose(
                array[both], theirs[name][both], tolerance, tolerance, err_msg=what
            )


@cache
def neuron_of(case: str) -> lnm.Neuron:
    return (CASES | ZOO | BLOCKS)[case]()


def held(array: Any, dtype: str) -> np.ndarray:
    """Return float64 numbers that float32 and the type hold too."""
    return torch.as_tensor(exact(array)).to(getattr(torch, dtype)).double().numpy()


@cache
def reference(
    case: str, shape: tuple[int, ...], wide: float = 1.0, dtype: str = "float32"
) -> tuple[Arguments, Reference]:
    """Return arguments without open comparisons, and the interpreter's results with bounds.

    Sequences and states hold numbers of a 16-bit type, if one is given.
    """
    neuron = neuron_of(case)
    rng = np.random.default_rng(sum(map(ord, case)) + sum(shape))
    a = arguments(neuron, rng, shape)
    a.x_seq = tuple(exact(x * wide) for x in a.x_seq)
    a.state = {n: exact(v * wide) for n, v in a.state.items()}
    kind = dtype if dtype in NARROW else "float32"
    if kind in NARROW:
        a.x_seq, a.grad_out = (tuple(held(x, kind) for x in t) for t in (a.x_seq, a.grad_out))
    return settle(neuron, a, rng, kind=kind)


class Unsettled(AssertionError):
    """A neuron whose comparisons stay open, whatever the arguments."""


def settle(
    neuron: lnm.Neuron,
    a: Arguments,
    rng: np.random.Generator,
    epsilon: float = EPSILON["float32"],
    kind: str = "float32",
) -> tuple[Arguments, Reference]:
    """Draw neurons with an open comparison again, until there is none."""
    for _ in range(20):
        b = bounded(neuron, a.x_seq, a.state, a.params, a.grad_out, a.grad_state, epsilon)
        if not b.doubtful.any():
            check_reference(neuron, a, b)
            return a, b
        for array in (*a.x_seq, *a.state.values()):
            array[..., b.doubtful] = held(rng.uniform(-1, 1, array[..., b.doubtful].shape), kind)
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


def check(got: Results, b: Reference, dtype: str, inputs: Collection[str] = ()) -> None:
    """Assert that every number is within its own bound; sequences of 16 bits are rounded once."""
    real, unit = ("float32", NARROW[dtype]) if dtype in NARROW else (dtype, 0.0)
    for what, table, expected in (
        ("output", got.outputs, b.outputs),
        ("final", got.states, b.states),
        ("grad", got.grads, b.grads),
    ):
        for name, array in table.items():
            is_sequence = what == "output" or name in inputs
            within(f"{what} {name}", array, expected[name], real, unit * is_sequence)


def within(what: str, got: np.ndarray, expected: Num, dtype: str, unit: float = 0.0) -> None:
    """Assert that numbers are within their bound, and a relative error of `unit`."""
    assert got.dtype == dtype, what
    assert got.shape == expected.value.shape, what
    if not got.size:
        return
    allowed = SLACK * EPSILON[dtype] * expected.error + TINY[dtype]
    allowed = allowed + unit * np.abs(expected.value) + 1e-7 * (unit > 0)
    off = np.abs(got - expected.value)
    worst = np.unravel_index(np.argmax(off / allowed), off.shape)
    assert (off <= allowed).all(), (
        f"{what}{list(map(int, worst))}: {got[worst]!r}, expected {expected.value[worst]!r},"
        f" off by {off[worst]:.3g}, allowed {allowed[worst]:.3g}"
    )


CONSTANT = {"decided": {"spike": "always", "s_off": "never"}}
"""Case -> spikes that its parameters decide."""
WITHOUT_GRADIENT = {
    "refractory_lif": {"pause"}, "leaky-at-once": {"r"}, "fitzhugh_nagumo": {"last"},
}  # fmt: skip
"""Case -> states whose gradient is 0 by definition."""
COMPARED = {case for cases in QUICK.values() for case in cases}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c in COMPARED else pytest.mark.slow) for c in CASES | ZOO],
)
def test_every_spike_occurs_and_every_gradient_is_found(case):
    """Otherwise the matrix omits resets, compares zeros, or omits bits. `held` had no spike."""
    neuron = neuron_of(case)
    counts, numbers, moving = dict.fromkeys(neuron.spikes, 0.0), 0, set()
    for shape in EVERY[3:6]:
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
    p = lnm.lower(neuron)
    values = [x.value for k in (p.prepare, p.forward, p.backward) for x in k.body]
    has_calls = any(isinstance(n, ir.Call) for v in values for n in ir.walk(v))
    assert case in ZOO or has_calls == (case in CALLING)


@pytest.mark.parametrize(
    ("backend", "dtype", "case"),
    [
        *(marked("torch", d, c) for c in ("if", "lif", "gate") for d in ("float32", "float64")),
        marked("c", "float32", "gate"),
        marked("c", "float32", "lnm-3"),
        *(marked(b, "float32", c, pytest.mark.slow)
          for c in ("if", "lif", "cuba_lif", "ternary") for b in ("c", "torch")),
    ],
)  # fmt: skip
def test_exact_ties_fire(backend, dtype, case):
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
    (got,) = run(neuron, a, backend, dtype).outputs.values()
    np.testing.assert_array_equal(got, expected)


def check_random(neuron: lnm.Neuron, seed: int, backend: str, dtype: str) -> None:
    """Compare a drawn neuron; one that always ties, such as max(0.5*x, x/2), is not drawn."""
    rng = np.random.default_rng(seed)
    a = arguments(neuron, rng, (3, 2, 3, 5))
    try:
        a, b = settle(neuron, a, rng, EPSILON[dtype])
    except Unsettled:
        reject()
    check(results(neuron, a, backend, dtype), b, dtype)


def drawn(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


GRAMMAR = neurons(stops=True, binds=True)
RANDOM = {
    "torch": ("torch", 8, GRAMMAR),
    "onnx": ("onnx", 4, GRAMMAR),
    "many in torch": ("torch", 60, GRAMMAR),
    "many in onnx": ("onnx", 300, GRAMMAR),
    "many in c": ("c", 60, GRAMMAR),
    "two states in torch": ("torch", 15, two_state_arguments()),
    "two states in c": ("c", 2, two_state_arguments(degrees=(1, 2))),  # higher ones compile long
}
"""Backend, number of examples, and the strategy of neurons or of arguments of `lnm`."""


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(
            key, marks=[pytest.mark.slow] * (" " in key) + [pytest.mark.needs_cc] * (key[-1] == "c")
        )
        for key in RANDOM
    ],
)
@pytest.mark.timeout(1800)
def test_random_neurons(key):
    """Autograd through random neurons equals the symbolic backward; in both types."""
    backend, count, strategy = RANDOM[key]

    @drawn(count)
    @given(strategy, st.integers(0, 2**32 - 1))
    def every(neuron, seed):
        if isinstance(neuron, dict):
            neuron = lnm.get("lnm", **neuron)
        for dtype in ("float64", "float32"):
            check_random(neuron, seed, backend, dtype)

    every()
