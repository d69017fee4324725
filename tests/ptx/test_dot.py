"""Products of matrices in Triton's PTX, executed: a recurrence over time, 16 rows in a program.

Numbers are multiples of 2**-6, and so few and small that every sum is exact: bits must be equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

import triton
import triton.language as tl

from tests.ptx.machine import Machine
from tests.ptx.matrix import TARGETS, slow
from tests.ptx.memory import Fault
from tests.ptx.mutants import has_nothing_to_order, in_place_of, mutants
from tests.ptx.program import Kernel, UnknownPtx
from tests.ptx.triton_launch import compiled

STEPS, ROWS = 3, 21
FORMS = {"bf16": ("ieee", 3), "tf32x3": ("tf32x3", 1), "ieee": ("ieee", 1), "float64": ("ieee", 1)}
"""Form -> precision of a product, and the terms that the matrix is the sum of."""


@triton.jit
def recurrent(
    c, u, value, x, fed, steps: tl.int64, rows: tl.int64,
    TILE: tl.constexpr, WIDTH: tl.constexpr, PART: tl.constexpr, TERMS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """x[t] = c[t] + fed[t-1] U, fed[t] = value[t] if x[t] > 0 else 0; U is a sum of terms."""
    n = (tl.program_id(0) * TILE + tl.arange(0, TILE))[:, None]
    h = tl.arange(0, WIDTH)[None, :]
    k = tl.arange(0, PART)
    for t in range(steps):
        at = (t * rows + n) * WIDTH
        total = tl.load(c + at + h, mask=n < rows, other=0.0)
        for first in range(0, WIDTH, PART):
            mask = (n < rows) & (t > 0)
            before = at - rows * WIDTH + (first + k)[None, :]
            numbers = tl.load(fed + before, mask=mask, other=0.0)
            for term in tl.static_range(TERMS):
                part = tl.load(u + (term * WIDTH + first + k)[:, None] * WIDTH + h)
                numbers = numbers.to(part.dtype)
                total = tl.dot(numbers, part, acc=total, input_precision=PRECISION)
        tl.store(x + at + h, total, mask=n < rows)
        fires = tl.where(total > 0, tl.load(value + at + h, mask=n < rows, other=0.0), 0.0)
        tl.store(fed + at + h, fires, mask=n < rows)
        tl.debug_barrier()  # other threads read these numbers


def drawn(form: str, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return c, U and values: U has 18 bits and values 1, or U has 4 bits and values 13."""
    rng = np.random.default_rng(0)
    u_bits, value_bits = (18, 0) if form == "bf16" else (4, 13)
    shape = (STEPS, ROWS, width)
    c = rng.integers(-64, 65, shape)
    u = rng.integers(-(2**u_bits) + 1, 2**u_bits, (width, width))
    value = rng.integers(2**value_bits // 2, 2**value_bits, shape) | 1
    return c / 64, u / 64, value / (1 if form == "bf16" else 64)


def terms_of(u: np.ndarray, count: int) -> torch.Tensor:
    """Return numbers of bfloat16 whose sum is U."""
    terms, rest = [], torch.from_numpy(u)
    for _ in range(count):
        terms.append(rest.to(torch.bfloat16))
        rest = rest - terms[-1].to(torch.float64)
    return torch.stack(terms)


def executed(
    form: str, target: str, machine: Machine, width: int = 64, tile: int = 16, **changed: Any
) -> np.ndarray:
    """Return x of all steps."""
    precision, terms = FORMS[form]
    real = torch.float64 if form == "float64" else torch.float32
    c, u, value = drawn(form, width)
    options = {"num_warps": 4, "num_stages": 3, "PRECISION": precision, "TERMS": terms} | changed
    matrix = terms_of(u, options["TERMS"]) if form == "bf16" else torch.from_numpy(u).to(real)
    given = [torch.from_numpy(c).to(real), matrix, torch.from_numpy(value).to(real)]
    out = [torch.full(c.shape, torch.nan, dtype=real) for _ in "xf"]
    with compiled(machine, target):
        recurrent[(-(-ROWS // tile),)](
            *given, *out, STEPS, ROWS,
            TILE=tile, WIDTH=width, PART=min(32, width), enable_fp_fusion=False, **options,
        )  # fmt: skip
    return out[0].numpy()


def expected(form: str, width: int) -> np.ndarray:
    """Return x by NumPy, in float64."""
    c, u, value = drawn(form, width)
    x, fed = [], np.zeros((ROWS, width))
    for t in range(STEPS):
        x.append(c[t] + fed @ u)
        fed = np.where(x[-1] > 0, value[t], 0)
    return np.array(x)


def names(machine: Machine) -> set[str]:
    """Return the base opcodes of what has run."""
    (counters,) = machine.counters.values()
    code = zip(counters.kernel.code, counters.acted, strict=True)
    return {instruction.name for instruction, acted in code if acted}


CASES = [
    pytest.param(
        form, target, *launch,
        marks=() if form in ("bf16", "tf32x3") and launch == (64, 4, 3) else slow,
    )
    for form in FORMS
    for target in TARGETS
    for launch in ((64, 4, 3), (64, 8, 1), (16, 4, 1), (32, 8, 3), (256, 8, 2))
    if form in ("bf16", "tf32x3") or launch[0] < 256
]  # fmt: skip


@pytest.mark.parametrize(("form", "target", "width", "warps", "stages"), CASES)
def test_sums_are_exact(form: str, target: str, width: int, warps: int, stages: int) -> None:
    """In lockstep and in a random order of warps, of two programs of which one is not full."""
    for machine in (Machine(), Machine("warps", seed=1)):
        got = executed(form, target, machine, width, num_warps=warps, num_stages=stages)
        np.testing.assert_array_equal(got, expected(form, width))
        assert ("mma" in names(machine)) == (form != "ieee")
        assert ("cp" in names(machine)) >= (stages == 3 and width == 64)


@pytest.mark.parametrize(
    ("form", "changed"), [("bf16", {"TERMS": 2}), ("tf32x3", {"PRECISION": "tf32"})]
)
def test_fewer_bits_are_not_exact(form: str, changed: dict[str, Any]) -> None:
    """Two terms of bfloat16, and one product of TF32: the numbers have more bits."""
    got = executed(form, "sm_90", Machine(), **changed)
    np.testing.assert_array_equal(got[0], expected(form, 64)[0])
    assert not np.array_equal(got, expected(form, 64))


@pytest.mark.parametrize("form", ["bf16", pytest.param("tf32x3", marks=slow)])
@pytest.mark.parametrize("target", ["sm_90", pytest.param("sm_80", marks=slow)])
def test_faults_are_noticed(form: str, target: str) -> None:
    """No wait for copies; one barrier less, of those that have something to order.

    The last is that of the source: barriers of the next step may do in its place.
    """
    machine = Machine()
    executed(form, target, machine)
    (made,) = machine.counters

    def notices(changed: Kernel) -> bool:
        with in_place_of(made, changed):
            try:
                return not np.array_equal(executed(form, target, Machine()), expected(form, 64))
            except Fault:
                return True

    hasty = made
    for index in made.where("cp"):
        if "wait_group" in made.code[index].words:
            hasty = hasty.without(index)
    with in_place_of(made, hasty), pytest.raises(Fault, match="not waited for"):
        executed(form, target, Machine())
    *barriers, _ = [m for m in mutants(made) if m.kind == "barrier"]
    needed = [m for m in barriers if not has_nothing_to_order(made, m.index)]
    assert len(needed) > 3
    assert not [str(m) for m in needed if not notices(m.changed)]


def test_tiles_of_64_rows_are_not_known() -> None:
    """For sm_90 they are products of four warps, of which 16 rows have none."""
    with pytest.raises(UnknownPtx, match=r"fence\.proxy\.async|wgmma"):
        executed("bf16", "sm_90", Machine(), tile=64)
