"""Kernels with one fault: a barrier less, a mask turned, operands swapped, an address off by one.

They are the controls of the interpreter: a run must notice them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from tests.ptx.machine import Machine
from tests.ptx.operations import Operation, decode
from tests.ptx.program import Address, Immediate, Instruction, Kernel


@dataclass(frozen=True)
class Mutant:
    """A kernel with a fault at an instruction."""

    kernel: Kernel
    kind: str
    index: int
    changed: Kernel

    def __str__(self) -> str:
        return f"{self.kind} {self.kernel.name} {self.index}: {self.kernel.code[self.index].text}"


def mutants(kernel: Kernel) -> Iterator[Mutant]:
    """Yield a kernel's mutants of every kind: `barrier`, `mask`, `shuffle`, `address`."""
    for index, i in enumerate(kernel.code):
        if i.name == "bar" and "warp" not in i.words:
            yield Mutant(kernel, "barrier", index, kernel.without(index))
        if i.guard is not None and i.name in ("ld", "st", "red"):
            turned = replace(i, sense=not i.sense)
            yield Mutant(kernel, "mask", index, kernel.changed(index, turned))
        if i.name == "shfl":
            for turned in _shuffles(i):
                yield Mutant(kernel, "shuffle", index, kernel.changed(index, turned))
        if i.name in ("ld", "st", "red", "ldmatrix", "stmatrix") and "param" not in i.words:
            yield Mutant(kernel, "address", index, kernel.changed(index, _off_by_one(i)))


def _shuffles(i: Instruction) -> Iterator[Instruction]:
    """Yield a shuffle with its two numbers swapped, and one from the thread itself."""
    target, value, by, clamp, members = i.operands
    yield replace(i, operands=(target, value, clamp, by, members))
    yield replace(i, operands=(target, value, Immediate(0), clamp, members))


def _off_by_one(i: Instruction) -> Instruction:
    """Return an access whose address is one number further."""

    def moved(operand: Any) -> Any:
        if isinstance(operand, Address):
            return replace(operand, offset=operand.offset + i.type.bytes * _count(i))
        return operand

    return replace(i, operands=tuple(map(moved, i.operands)))


def _count(i: Instruction) -> int:
    if i.name in ("ldmatrix", "stmatrix"):
        return 8  # rows of 16 bytes
    return {"v2": 2, "v4": 4}.get(next((w for w in i.words if w in ("v2", "v4")), ""), 1)


@contextmanager
def in_place_of(kernel: Kernel, changed: Kernel) -> Iterator[None]:
    """Launch another kernel where a kernel would be launched."""
    plain = Machine.launch

    def launch(self: Machine, launched: Kernel, *given: Any) -> None:
        plain(self, changed if launched is kernel else launched, *given)

    with mock.patch.object(Machine, "launch", launch):
        yield


def has_nothing_to_order(kernel: Kernel, index: int) -> str | None:
    """Return why a barrier orders no accesses to shared memory, or None if it may.

    Along no path is there an access between the barrier before it, or the beginning, and it; or
    none between it and the barrier after it, or the end; or all of both are loads.
    """
    operations = [decode(i) for i in kernel.code]
    before, after = (_accesses(kernel, operations, index, backwards) for backwards in (True, False))
    if not before:
        return "no access to shared memory before it"
    if not after:
        return "no access to shared memory after it"
    if not (before | after) & {"st"}:
        return "loads of shared memory before and after it"
    return None


def accesses_before(kernel: Kernel, index: int) -> str:
    """Return the names of accesses to shared memory and shuffles before a barrier, sorted.

    They are those between the barrier or branch before it, and it.
    """
    names = set()
    for i in reversed(kernel.code[:index]):
        if i.name in ("bar", "bra"):
            break
        if "shared" in i.words or i.name == "shfl":
            names.add(i.name)
    return " ".join(sorted(names))


def _accesses(kernel: Kernel, operations: list[Operation], index: int, backwards: bool) -> set[str]:
    """Return the accesses to shared memory that paths from a barrier meet before another."""
    edges: list[list[int]] = [[] for _ in kernel.code]
    for k, operation in enumerate(operations):
        guarded = kernel.code[k].guard is not None
        targets = [operation.jump] if operation.jump is not None else []
        if (operation.jump is None and not operation.ends) or guarded:
            targets.append(k + 1)
        for target in targets:
            if target < len(edges):
                edges[target if backwards else k].append(k if backwards else target)
    found, seen, ready = set(), set(), list(edges[index])
    while ready:
        at = ready.pop()
        if at in seen:
            continue
        seen.add(at)
        i = kernel.code[at]
        if operations[at].together == "block":
            continue
        if "shared" in i.words or i.name == "cp":  # a copy stores when it is waited for
            found.add("st" if i.name in ("st", "stmatrix", "cp") else "ld")
        ready += edges[at]
    return found
