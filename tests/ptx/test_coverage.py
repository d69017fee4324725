"""Coverage: over all shapes, nearly every instruction of each kernel runs.

`python -m pytest tests/ptx/test_coverage.py -s` prints the share of each kernel, and each run of
instructions that no shape reaches, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lnm_codegen.backends.cuda.kernels import jobs_of
from tests.backends.cuda import test_backend as host
from tests.backends.cuda.host import host_kernels, run_host
from tests.cases import BLOCKS, CASES, ZOO
from tests.ptx import cuda_launch
from tests.ptx.counters import Counters
from tests.ptx.machine import Machine
from tests.ptx.program import Instruction
from tests.strategies import Arguments
from tests.test_agree import BITWISE, check, neuron_of, reference

LEAST = 0.95
LEAST_OF = {
    "tc_lif_sums_kernel": 0.88,  # 130 instructions are such a copy
    "decided_sums_kernel": 0.83,  # 307
    "fitzhugh_sums_kernel": 0.81,  # 300
}
"""Lower shares: a copy of a loop over rows or channels, for a batch with sums of rows and without
sums of tiles. Both counts grow with the batch: there is no such batch."""
NEURONS = ((3, 7, 23), (4, 3, 48))
"""More than one program of each kernel; rows that are not aligned to 16 bytes, and that are."""
FEW = ((1, 3, 7), (1, 1, 16))
MANY_TILES = (1, 600, 2, 5)
"""More tiles of samples than a reduction of parameters per neuron reads at a time."""
LARGE = "numbers of 2**32 or more: 2**32 neurons would fill 16 GiB"
EMPTY = "a chunk without a step: each chunk has at least one"
UNROLLED = (
    "a loop over shared memory, unrolled by 4: it runs at most twice, or a multiple of 4 times"
)
FAR = 40
"""Time steps beyond which saved states of CUDA have two levels, in place of 4096."""
SUMS = ((1, 1, 1, 1), (1, 70000, 8, 67), (1, 400, 40, 1500), (1, 7, 5, 3, 11), (1, 24, 2, 2500))
"""Shapes of the second launch alone."""
NARROW_SUMS = ((1, 1, 1, 1), (1, 1, 1, 3), (1, 1300000, 2, 2), (1, 7, 5, 3, 11), (1, 24, 2, 2500))
"""The same where one block gathers all rows of the sample, each in a loop over the batch."""
WITHOUT_SAMPLES = (1, 0, 8, 1500)
"""A batch without samples, in more neurons than a block has threads."""


def with_far_angles(a: Arguments) -> Arguments:
    """Return arguments whose sines take the path of numbers beyond 2**17; `checks` has values."""
    turn = {"phi", "omega"} & a.params.keys()
    return Arguments(
        tuple(1e6 * x for x in a.x_seq),
        {n: 1e6 * v for n, v in a.state.items()},
        a.params | {n: 1e7 * a.params[n] for n in turn},
        a.grad_out,
        a.grad_state,
    )


Run = list[tuple[int, Instruction]]
"""Adjacent instructions and their indices."""


def unreached(counters: Counters) -> Iterator[Run]:
    """Yield runs of adjacent instructions that have not acted."""
    run: Run = []
    for index, instruction in enumerate(counters.kernel.code):
        if counters.acted[index]:
            if run:
                yield run
            run = []
        else:
            run.append((index, instruction))
    if run:
        yield run


def reason(run: Run) -> str | None:
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


def reason_on_cuda(run: Run) -> str | None:
    """Return why no shape reaches a run of instructions of CUDA, or None.

    A quotient of 64 bits is by a power of 2 in places, and moves go with it.
    """
    names = {i.name for _, i in run}
    accesses = [i for _, i in run if i.name in ("ld", "st")]
    if names <= {"div", "rem", "bra", "mul", "sub", "cvt", "mov", "shl", "shr"}:
        return LARGE if len(run) <= 8 and names & {"div", "rem", "shr"} else None
    if names <= {"ld", "st", "add", "shl", "setp", "mov", "bra"} and len(run) <= 32:
        return UNROLLED if accesses and all("shared" in i.words for i in accesses) else None
    return None


def sweep_on_cuda(case: str, machine: Machine, every: bool) -> None:
    """Execute a neuron of CUDA over shapes and absent arguments; bits are those of the host."""
    lengths = (*range(1, 34), *range(41, 74), 100) if every else (2, 15, 16, 33, 41, 57, 100)
    neuron = neuron_of(case)
    kernels = host_kernels(neuron, "float32")
    plan = kernels.cuda.plan
    absent = {f"grad_{x}_seq" for x in plan.inputs} | {f"{q}_sum" for q in plan.counts}
    absent |= {f"grad_{p.name}" for p in plan.learnable}

    def go(shape: tuple[int, ...], **options: Any) -> None:
        a = host.drawn(case, shape)
        with cuda_launch.compiled(machine):
            got = run_host(neuron, a, **options)
        if case in BITWISE:
            host.same(got, run_host(neuron, a, **options))

    with kernels.far(FAR):
        for many, few in zip(NEURONS, FEW, strict=True):
            for steps in (0, 1, 29):
                go((steps, *many))
            for steps in lengths:
                go((steps, *few))
            for steps in (*range(1, 18), 100) if every else (2, 17, 100):
                go((steps, *few), absent=["checkpoints"])
            for steps in (5, 100):
                go((steps, *few), absent=absent, ends=False, one_state=True)
            if case not in BITWISE:
                for steps in (18, 57):
                    with cuda_launch.compiled(machine):
                        run_host(neuron, with_far_angles(host.drawn(case, (steps, *many))))
            for name in plan.inputs[1:]:  # one number for each channel, and for each sample
                for sharing in ((many[2], many[1]), (1, many[1] * many[2])):
                    with cuda_launch.compiled(machine):
                        run_host(neuron, host.drawn(case, (5, *many)), sharing={name: sharing})
        for shape in ((18, 4, 4, 72), (18, 3, 7, 53)):
            go(shape, grid=1)
        gathers = any(not job.is_direct and job.per == "layer" for job in jobs_of(plan))
        sums = NARROW_SUMS if gathers else SUMS
        for shape in sums if plan.backward_launches == 2 else ():
            with cuda_launch.compiled(machine):
                cuda_launch.reduced(neuron, "float32", shape)
                cuda_launch.reduced(neuron, "float32", WITHOUT_SAMPLES, grid=1)


def sweep_on_triton(case: str, machine: Machine, every: bool) -> None:
    """Execute a neuron of Triton over shapes that reach its paths; numbers are within bounds."""
    from tests.backends.triton.checks import constants
    from tests.backends.triton.runs import build, run
    from tests.ptx.triton_launch import compiled

    built = build(neuron_of(case))

    def go(
        shape: tuple[int, ...], levels: int = 4096, spread: int = 131072, chunk: int = 0
    ) -> None:
        a, b = reference(case, shape)
        chunk = chunk or built.module._CHUNK
        changed = {"_ONE_LEVEL": levels, "_SPREAD": spread, "_CHUNK": chunk}
        with constants(built, **changed), compiled(machine):
            check(run(built, a), b, "float32")
            if shape[1:] in NEURONS:
                run(built, a, scalar_state=True)
                if case not in BITWISE:
                    run(built, with_far_angles(a))

    for many, few in zip(NEURONS, FEW, strict=True):
        for steps in (1, 29):
            go((steps, *many))
        for steps in range(17, 33) if every else (17, 24, 32):  # steps in the last chunk
            go((steps, *few))
        go((37, *many), levels=8)
        go((37, *many), levels=8, spread=4)
        for steps, levels in ((11, 4096), (11, 5), (5, 4096)):  # the kernel of short sequences
            go((steps, *many), levels=levels, chunk=4)
    go(MANY_TILES)


def covered(
    case: str,
    machine: Machine,
    sweep: Callable[[str, Machine, bool], None],
    why: Callable[[Run], str | None],
) -> None:
    """Assert that at least 95 % of what shapes can reach ran; more shapes run where few do not."""
    sweep(case, machine, False)
    if short_of(machine, why):
        sweep(case, machine, True)
    for counters in machine.counters.values():
        kernel = counters.kernel
        print(f"{case} {kernel.name}: {counters.coverage:.1%} of {len(kernel.code)} instructions")
        for run in unreached(counters):
            print(f"    {run[0][0]} to {run[-1][0]}: {why(run) or run[0][1].text}")
    assert not short_of(machine, why)


def short_of(machine: Machine, why: Callable[[Run], str | None]) -> list[tuple[str, int, float]]:
    """Return the kernels of which too little ran: name, instructions, share."""
    found = []
    for counters in machine.counters.values():
        explained = sum(len(run) for run in unreached(counters) if why(run))
        share = sum(counters.acted) / (len(counters.kernel.code) - explained)
        if share < LEAST_OF.get(counters.kernel.name, LEAST):
            found.append((counters.kernel.name, len(counters.kernel.code), share))
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CASES | ZOO | BLOCKS)
def test_coverage_of_triton(case: str) -> None:
    """At least 95 % of what shapes can reach; the rest is printed with its reason."""
    pytest.importorskip("triton", reason="Triton is not installed")
    covered(case, Machine(), sweep_on_triton, reason)


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.timeout(3600)
@pytest.mark.skipif(cuda_launch.compiler() is None, reason=cuda_launch.MISSING)
@pytest.mark.parametrize("case", CASES | ZOO | BLOCKS)
def test_coverage_of_cuda(case: str) -> None:
    """At least 95 % of what shapes and absent arguments can reach; the rest as for Triton."""
    covered(case, Machine(), sweep_on_cuda, reason_on_cuda)
