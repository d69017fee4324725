"""CUDA's PTX, executed: the checks that the kernels pass as C++ on the host, on PTX.

The checks are the tests of `tests/backends/cuda/test_backend.py` themselves. Where C++ for the host
computes exp and its kin otherwise, numbers are compared with bounds, and bits elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lnm_codegen.errors import UnsupportedError
from tests.backends.cuda import test_backend as host
from tests.backends.cuda.host import run_host
from tests.ptx.cuda_launch import MISSING, compiled, compiler, reduced
from tests.ptx.machine import Machine
from tests.ptx.matrix import QUICK, SHAPES, TYPES, every, shapes, slow
from tests.test_agree import BITWISE, check, check_layouts, neuron_of, reference

pytestmark = [
    pytest.mark.needs_cc,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(compiler() is None, reason=MISSING),
]


@every
def test_numbers(case: str, dtype: str, target: str) -> None:
    """The bits of the same source as C++ for the host, sums included; numbers within bounds."""
    neuron = neuron_of(case)
    for shape in shapes(case):
        a, b = reference(case, shape)
        for shift in (0, 1):
            with compiled(Machine(), target):
                got = run_host(neuron, a, dtype, shift=shift)
            if dtype in ("float32", "float64"):
                check(got, b, dtype)
            if case in BITWISE:
                host.same(got, run_host(neuron, a, dtype, shift=shift))


@pytest.mark.parametrize("case", ["lif", *(pytest.param(c, marks=slow) for c in QUICK[1:])])
def test_any_order_of_warps(case: str) -> None:
    """The bits of lockstep, sums included, whatever the order of blocks and warps."""
    a, _ = reference(case, SHAPES[0])
    found = []
    for machine in (Machine(), Machine("warps", seed=1), Machine("warps", seed=2)):
        with compiled(machine):
            found.append(run_host(neuron_of(case), a))
    for other in found[1:]:
        host.same(other, found[0])


@pytest.mark.parametrize("case", ["lnm-2", pytest.param("lnm-4", marks=slow)])
def test_sums_of_large_layers(case: str) -> None:
    """The second launch alone, on as many partial sums as no test makes: the bits of the host."""
    neuron = neuron_of(case)
    for shape in ((1, 1, 1, 1), (1, 70000, 8, 67), (1, 400, 40, 1500), (1, 7, 5, 3, 11)):
        expected = reduced(neuron, "float32", shape)
        with compiled(Machine()):
            got = reduced(neuron, "float32", shape)
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(
            case, dtype, marks=() if (case, dtype) == ("lif", "float32") else slow,
        )
        for case in ("lif", "lnm-1", "lnm-2", "lnm-3") for dtype in TYPES
    ],
)  # fmt: skip
def test_accesses_are_coalesced(case: str, dtype: str) -> None:
    """Each warp moves as few sectors as its bytes fill; shared memory has no bank conflict.

    The sums of a block in float64 have: each thread adds numbers that are adjacent.
    """
    machine, neuron = Machine(traffic=True), neuron_of(case)
    with compiled(machine):
        run_host(neuron, host.drawn(case, (20, 2, 4, 128)), dtype)
    for kernel, counters in machine.counters.items():
        moved, shared = counters.of("global"), counters.of("shared")
        assert moved.least <= moved.units <= moved.least + 2 * (dtype == "float64"), kernel.name
        assert shared.units == shared.least or dtype == "float64", kernel.name


CHECKS: tuple[tuple[Callable[..., None], tuple[Any, ...]], ...] = (
    *((host.test_every_sixteen_bit_number, (dtype,)) for dtype in TYPES[2:]),
    *((check_layouts, ("cuda", case)) for case in ("lif", "lnm-3", "dendrite", "glif-steps")),
    (host.test_counts, ()),
    (host.test_absent_results, ()),
    (host.test_sums_of_coarser_parameters, ()),
    (host.test_sums_against_float64, ()),
    *((host.test_small_tiles_compute_the_same, (tile,)) for tile in host.TILES),
)
"""Checks of the host, and their arguments."""


@slow
@pytest.mark.parametrize(
    ("function", "given"),
    [pytest.param(f, g, id="-".join(map(str, (f.__name__, *g)))) for f, g in CHECKS],
)
def test_checks(function: Callable[..., None], given: tuple[Any, ...]) -> None:
    """Layouts, edges, counts, tiles and the rest."""
    with compiled(Machine()):
        function(*given)


@slow
def test_random_neurons() -> None:
    """Random neurons from the front end's grammar."""
    from hypothesis import assume, given
    from hypothesis import strategies as st

    from tests.strategies import neurons
    from tests.test_agree import EPSILON, Unsettled, arguments, drawn, settle

    @drawn(30)
    @given(neurons(stops=True, binds=True), st.integers(0, 2**32 - 1))
    def every(neuron: Any, seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            a, b = settle(neuron, arguments(neuron, rng, (3, 2, 3, 5)), rng, EPSILON["float32"])
        except Unsettled:
            assume(False)
        try:
            with compiled(Machine()):
                got = run_host(neuron, a)
        except UnsupportedError:
            assume(False)
        check(got, b, "float32")

    every()
