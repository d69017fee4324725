"""Coverage: over all shapes, nearly every instruction of each kernel runs.

`python -m pytest tests/ptx/test_coverage.py -s` prints the share of each kernel, and each run of
instructions that no shape reaches, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

from tests.backends.triton.checks import constants
from tests.backends.triton.runs import build, run
from tests.cases import BLOCKS, CASES, ZOO
from tests.ptx.counters import Counters
from tests.ptx.machine import Machine
from tests.ptx.program import Instruction
from tests.ptx.triton_launch import compiled
from tests.test_agree import check, neuron_of, reference

LEAST = 0.95
NEURONS = ((3, 7, 23), (4, 3, 48))
"""More than one program of each kernel; rows that are not aligned to 16 bytes, and that are."""
FEW = ((1, 3, 7), (1, 1, 16))
LARGE = "numbers of 2**32 or more: 2**32 neurons would fill 16 GiB"
EMPTY = "a chunk without a step: each chunk has at least one"


def unreached(counters: Counters) -> Iterator[list[tuple[int, Instruction]]]:
    """Yield runs of adjacent instructions that have not acted."""
    run: list[tuple[int, Instruction]] = []
    for index, instruction in enumerate(counters.kernel.code):
        if counters.acted[index]:
            if run:
                yield run
            run = []
        else:
            run.append((index, instruction))
    if run:
        yield run


def reason(run: list[tuple[int, Instruction]]) -> str | None:
    """Return why no shape reaches a run of instructions, or None.

    A division of 64 bits is taken where an operand has more than 32, and is alone with its branch.
    A chunk without a step has zeros in place of what its steps would compute: moves alone, and the
    address of the step.
    """
    names = {i.name for _, i in run}
    if names & {"div", "rem"} and names <= {"div", "rem", "bra", "mul", "sub", "cvt"}:
        return LARGE if len(run) <= 4 else None
    if len(run) > 8 and names <= {"mov", "shl", "add", "bra", "sub", "mul"}:
        return EMPTY
    return None


def sweep(case: str, machine: Machine) -> None:
    """Execute a neuron of Triton over shapes that reach its paths; numbers are within bounds."""
    built = build(neuron_of(case))

    def go(
        shape: tuple[int, ...], levels: int = 4096, spread: int = 131072, chunk: int = 0
    ) -> None:
        a, b = reference(case, shape)
        chunk = chunk or built.module._CHUNK
        changed = {"_ONE_LEVEL": levels, "_SPREAD": spread, "_CHUNK": chunk}
        with constants(built, **changed), compiled(machine):
            check(run(built, a), b, "float32")

    for many, few in zip(NEURONS, FEW, strict=True):
        for steps in (1, 29):
            go((steps, *many))
        for steps in range(17, 33):  # every number of steps in the last chunk
            go((steps, *few))
        go((37, *many), levels=8)
        go((40, *many), levels=8, spread=4)
        for steps, levels in ((11, 4096), (11, 5), (5, 4096)):  # the kernel of short sequences
            go((steps, *many), levels=levels, chunk=4)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CASES | ZOO | BLOCKS)
def test_coverage(case: str) -> None:
    """At least 95 % of what shapes can reach; the rest is printed with its reason."""
    machine, problems = Machine(), []
    sweep(case, machine)
    for counters in machine.counters.values():
        kernel, explained = counters.kernel, 0
        print(f"{case} {kernel.name}: {counters.coverage:.1%} of {len(kernel.code)} instructions")
        for run_ in unreached(counters):
            why = reason(run_)
            explained += len(run_) if why else 0
            print(f"    {run_[0][0]} to {run_[-1][0]}: {why or run_[0][1].text}")
        share = sum(counters.acted) / (len(kernel.code) - explained)
        if share < LEAST:
            problems.append((kernel.name, len(kernel.code), share))
    assert not problems
