"""Small kernels for tests of the interpreter."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from tests.ptx.machine import Machine
from tests.ptx.memory import Memory
from tests.ptx.program import Kernel, parse, type_of

HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"
REGISTERS = (
    ".reg .pred %p<9>;.reg .b16 %h<9>;.reg .b32 %r<33>;.reg .b64 %d<33>;.reg .f32 %f<9>;"
    ".reg .f64 %g<9>;"
)
PREFIX = {"pred": "%p", "16": "%h", "8": "%h", "32": "%r", "64": "%d"}


def kernel(body: str, params: int = 4, shared: int = 0) -> Kernel:
    """Return a kernel `k` with 64-bit parameters `k_0`, ..., and shared memory `held`."""
    names = ", ".join(f".param .u64 k_{n}" for n in range(params))
    held = f".shared .align 16 .b8 held[{shared}];" if shared else ""
    return parse(f"{HEADER}.entry k({names}) {{ {REGISTERS} {held} {body} }}")["k"]


def run(
    made: Kernel,
    *given: np.ndarray | int,
    grid: int = 1,
    block: int = 32,
    machine: Machine | None = None,
    memory: Memory | None = None,
) -> Machine:
    """Execute a kernel on arrays and numbers, and return the machine."""
    machine, memory = machine or Machine(), memory or Memory()
    words = [memory.add(x) if isinstance(x, np.ndarray) else x for x in given]
    words += [0] * (len(made.params) - len(words))
    machine.launch(made, grid, block, 0, struct.pack(f"<{len(words)}q", *words), memory)
    return machine


def computed(instruction: str, result: str, *sources: tuple[str, np.ndarray]) -> np.ndarray:
    """Return what an instruction makes of arrays, one thread for each number.

    The text names the registers `{0}`, the result, and `{1}`, ...; arrays are bits, and of
    predicates bytes.
    """
    kinds = [type_of(word) for word in (result, *(word for word, _ in sources))]
    count = len(sources[0][1])
    lines = ["mov.u32 %r30, %tid.x; mov.u32 %r31, %ctaid.x; mad.lo.u32 %r32, %r31, 32, %r30;"]
    names = []
    for k, kind in enumerate(kinds):
        names.append(f"{PREFIX.get(str(kind), PREFIX.get(str(kind.bits), ''))}{k}")
        size = max(kind.bytes, 1)
        lines.append(f"ld.param.u64 %d30, [k_{k}]; mad.wide.u32 %d{20 + k}, %r32, {size}, %d30;")
    for k, kind in enumerate(kinds[1:], 1):
        if str(kind) == "pred":
            lines.append(f"ld.global.u8 %h8, [%d{20 + k}]; setp.ne.u16 %p{k}, %h8, 0;")
        else:
            lines.append(f"ld.global.b{kind.bits} {names[k]}, [%d{20 + k}];")
    lines.append(instruction.format(*names) + ";")
    if result == "pred":
        lines.append("selp.b16 %h8, 1, 0, %p0; st.global.u8 [%d20], %h8;")
    else:
        lines.append(f"st.global.b{kinds[0].bits} [%d20], {names[0]};")
    made = kernel(" ".join(lines) + " ret;", len(kinds))
    out = np.zeros(count, f"u{max(kinds[0].bytes, 1)}")
    run(made, out, *(array for _, array in sources), grid=count // 32)
    return out


def bits(numbers: Sequence[int], width: int) -> np.ndarray:
    """Return integers as bits of a width."""
    return np.array([n & ((1 << width) - 1) for n in numbers], f"u{width // 8}")
