"""Execute the kernels of one neuron, and print what ran: `python -m tests.ptx lif`.

    python -m tests.ptx CASE [--backend triton|cuda] [--target sm_80|sm_90] [--dtype float32]
                        [--shape 33,2,3,11] [--mode lockstep|warps] [--seed 0] [--listing]

CASE is a name of `tests/cases.py`. Each number is compared with its bound. Then each kernel has a
line: instructions in its text, those that ran, instructions that warps issued for each
element-step, bytes that its accesses to global memory ask for, sectors of 32 bytes beside the
least number of them, passes through the banks of shared memory beside the least. `--listing`
prints the instructions that did not run. `--shape` may be given several times.
"""

from __future__ import annotations

import argparse
import math

from tests.ptx.machine import Machine
from tests.ptx.matrix import SHAPES, TARGETS, TYPES
from tests.test_agree import check, neuron_of, reference


def main() -> None:
    """Execute, compare, print."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m tests.ptx", None, __doc__, formatter_class=plain)
    parser.add_argument("case")
    parser.add_argument("--backend", choices=("triton", "cuda"), default="triton")
    parser.add_argument("--target", choices=TARGETS, default="sm_90")
    parser.add_argument("--dtype", choices=TYPES, default="float32")
    parser.add_argument("--shape", action="append", help="T,N,C,...")
    parser.add_argument("--mode", choices=("lockstep", "warps"), default="lockstep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--listing", action="store_true")
    given = parser.parse_args()
    machine = Machine(given.mode, given.seed, traffic=True)
    elements = 0
    for text in given.shape or [",".join(map(str, shape)) for shape in SHAPES]:
        shape = tuple(map(int, text.split(",")))
        a, b = reference(given.case, shape)
        got = executed(given.backend, given.case, a, given.dtype, given.target, machine)
        if given.dtype in ("float32", "float64"):
            check(got, b, given.dtype)
        elements += math.prod(shape)
    print(f"{elements} element-steps; every number is within its bound")
    for kernel, counters in machine.counters.items():
        memory, shared = counters.of("global"), counters.of("shared")
        print(
            f"{kernel.name}: {len(kernel.code)} instructions, {counters.coverage:.1%} ran,"
            f" {counters.launches} launches; {counters.instructions / elements:.2f} issued by warps"
            f" and {memory.bytes / elements:.1f} bytes for each element-step;"
            f" {memory.units} sectors, at least {memory.least}; {shared.units} passes, at least"
            f" {shared.least}"
        )
        if given.listing:
            print(*(f"    {index}: {text}" for index, text in counters.unreached), sep="\n")


def executed(
    backend: str, case: str, a: object, dtype: str, target: str, machine: Machine
) -> object:
    """Return the results of a neuron's kernels."""
    neuron = neuron_of(case)
    if backend == "cuda":
        from tests.backends.cuda.host import run_host
        from tests.ptx.cuda_launch import compiled as on_cuda

        with on_cuda(machine, target):
            return run_host(neuron, a, dtype)
    from tests.backends.triton.runs import build, run
    from tests.ptx.triton_launch import compiled as on_triton

    with on_triton(machine, target):
        return run(build(neuron, dtype), a)


if __name__ == "__main__":
    main()
