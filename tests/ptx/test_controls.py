"""Controls: kernels of `lnm` with a fault, which a run must notice, by a `Fault` or by other bits.

A barrier that can be deleted unnoticed needs a reason: that no access to shared memory is before
it or after it (`has_nothing_to_order`), or one of `REASONS`. Of the other kinds a share must be
noticed; what is not leaves every result as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from tests.backends.cuda.host import run_host
from tests.cases import Results
from tests.ptx import cuda_launch
from tests.ptx.machine import Machine
from tests.ptx.matrix import slow
from tests.ptx.memory import Fault
from tests.ptx.mutants import (
    Mutant,
    accesses_before,
    has_nothing_to_order,
    in_place_of,
    mutants,
)
from tests.ptx.program import Kernel
from tests.test_agree import neuron_of, reference

Run = Callable[[Machine], Results]

BACKENDS = (
    "triton",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.needs_cc,
            pytest.mark.skipif(cuda_launch.compiler() is None, reason=cuda_launch.MISSING),
        ],
    ),
)
LEAST = {"mask": 0.9, "shuffle": 0.7, "address": 0.9}
"""Kind -> the share of mutants that must be noticed.

A shuffle of Triton moves the halves of a float64 one by one: the lower half of a sum is lost where
the sum is rounded to float32.
"""
REASONS = {
    ("triton", "_sums_kernel", ""): "It begins the loop over rows, whose end only loads. A program "
    "has one row in these runs.",
    ("triton", "_sums_kernel", "ld shfl"): "A warp loads four numbers of a sum, one of them from "
    "where it then stores the sum. No other warp loads from there since the barrier before.",
    ("cuda", "lnm_backward_kernel", "ld"): "Before it, a tile loads sums of its warps, or each "
    "thread a number that the same thread clears for the next tile. The barrier of that clearing "
    "comes before other accesses.",
}
"""Backend, kernel, and accesses between it and the barrier or branch before -> why it may go.

One barrier each, but one for each sum after shuffles.
"""
SAMPLE = 6
"""Mutants of a kind that quick runs take, spread over the kernels."""


@cache
def scenarios(backend: str, case: str) -> tuple[Run, ...]:
    """Return runs that read rows aligned and not, and several tiles in a block."""

    def on_triton(shape: tuple[int, ...]) -> Run:
        from tests.backends.triton.runs import build, run
        from tests.ptx.triton_launch import compiled

        def go(machine: Machine) -> Results:
            with compiled(machine):
                return run(build(neuron_of(case)), reference(case, shape)[0])

        return go

    def on_cuda(shape: tuple[int, ...], grid: int | None) -> Run:
        def go(machine: Machine) -> Results:
            with cuda_launch.compiled(machine):
                return run_host(neuron_of(case), reference(case, shape)[0], grid=grid)

        return go

    def sums(machine: Machine) -> Results:
        neuron = neuron_of(case)
        with cuda_launch.compiled(machine):
            many = cuda_launch.reduced(neuron, "float32", (1, 70000, 8, 67))
            several = cuda_launch.reduced(neuron, "float32", (1, 2, 3, 67), grid=1)
        return Results({}, {}, many | {f"{name}, one block": x for name, x in several.items()})

    if backend == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
        return tuple(on_triton(x) for x in ((18, 1, 3, 7), (18, 1, 2, 16), (18, 3, 7, 23)))
    return (
        sums,
        on_cuda((18, 2, 3, 7), None),
        on_cuda((18, 3, 7, 53), 1),
        on_cuda((18, 4, 4, 72), 1),
    )


@cache
def expected(go: Run) -> tuple[dict[str, np.ndarray], tuple[Kernel, ...]]:
    """Return the results of a run without a fault, and the kernels that ran."""
    machine = Machine()
    return go(machine).arrays(), tuple(machine.counters)


def drawn(backend: str, case: str, kind: str, count: int | None) -> list[Mutant]:
    """Return the mutants of a kind whose instruction a run reaches, or a part of them."""
    kernels = dict.fromkeys(k for go in scenarios(backend, case) for k in expected(go)[1])
    reached: dict[Kernel, set[int]] = {kernel: set() for kernel in kernels}
    for go in scenarios(backend, case):
        machine = Machine()
        go(machine)
        for kernel, counters in machine.counters.items():
            reached[kernel] |= {k for k, acted in enumerate(counters.acted) if acted}
    found = [m for kernel in kernels for m in mutants(kernel) if m.kind == kind]
    found = [m for m in found if m.index in reached[m.kernel]]
    return found if count is None else found[:: max(1, len(found) // count)]


def notices(go: Run, mutant: Mutant, machine: Machine) -> bool:
    """Report whether a run with a mutant raises, or gives other bits."""
    before, kernels = expected(go)
    if mutant.kernel not in kernels:
        return False
    with in_place_of(mutant.kernel, mutant.changed):
        try:
            after = go(machine).arrays()
        except Fault:
            return True
    return not all(np.array_equal(after[n], x, equal_nan=True) for n, x in before.items())


def is_noticed(backend: str, case: str, mutant: Mutant) -> bool:
    return any(notices(go, mutant, Machine()) for go in scenarios(backend, case))


@slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", ["lnm-2", "lnm-4"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_barrier_is_needed(backend: str, case: str) -> None:
    """Each one that is deleted is noticed, in lockstep and in a random order, or has a reason."""
    unnoticed: dict[tuple[str, str, str], list[Mutant]] = {}
    found = drawn(backend, case, "barrier", None)
    for mutant in found:
        if is_noticed(backend, case, mutant):
            continue
        if not has_nothing_to_order(mutant.kernel, mutant.index):
            key = (backend, mutant.kernel.name, accesses_before(mutant.kernel, mutant.index))
            unnoticed.setdefault(key, []).append(mutant)
    assert len(found) >= 10
    for key, several in unnoticed.items():
        assert key in REASONS, [str(mutant) for mutant in several]
        assert len(several) == 1 or "shfl" in key[2], [str(mutant) for mutant in several]


@slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_random_order_notices_barriers(backend: str) -> None:
    """Without the detection of races too, the results of warps in another order are wrong."""
    case, wrong = "lnm-2", 0
    go = scenarios(backend, case)[{"triton": 2, "cuda": 1}[backend]]  # several blocks
    found = [m for m in drawn(backend, case, "barrier", None) if m.kernel in expected(go)[1]]
    for mutant in found:
        wrong += notices(go, mutant, Machine("warps", seed=3, races=False))
    assert wrong >= 3, (wrong, len(found))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [SAMPLE, pytest.param(None, marks=slow)])
@pytest.mark.parametrize("kind", LEAST)
@pytest.mark.parametrize("backend", BACKENDS)
def test_most_faults_are_noticed(backend: str, kind: str, count: int | None) -> None:
    """Negated masks, swapped operands and another distance of shuffles, addresses off by one."""
    case = "lnm-2"
    found = drawn(backend, case, kind, count)
    if kind == "mask" and backend == "cuda":
        assert not found  # nvcc branches around accesses
        return
    missed = [str(mutant) for mutant in found if not is_noticed(backend, case, mutant)]
    share = 1 - len(missed) / len(found)
    print(f"{backend} {kind}: {len(found) - len(missed)} of {len(found)} noticed")
    assert len(found) >= 5
    assert share >= LEAST[kind], missed
