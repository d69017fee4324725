"""The instructions of PTX that our kernels use: a table from base opcode to meaning.

A row is a function that is decorated with `operation`. It takes an instruction and returns what a
group of threads does for it. An instruction that has no row, or a modifier that its row does not
name, raises `UnknownPtx`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from tests.ptx import arithmetic
from tests.ptx.memory import Fault
from tests.ptx.program import (
    Address,
    Immediate,
    Instruction,
    Label,
    Negated,
    Operand,
    Parts,
    Register,
    Special,
    Symbol,
    Type,
    UnknownPtx,
    type_of,
)

if TYPE_CHECKING:
    from tests.ptx.machine import Group

Array = np.ndarray
Step: TypeAlias = "Callable[[Group, Array | None], None]"
"""What a group does, for the threads of a mask; None for all."""

B16, B32, B64, PRED = Type("b", 16), Type("b", 32), Type("b", 64), Type("p", 1)
U32, F32 = Type("u", 32), Type("f", 32)


@dataclass(frozen=True)
class Operation:
    """The meaning of an instruction.

    Attributes:
        step: What its threads do; None if it only moves them.
        together: Which threads must come to it together: none, a warp, or a block.
        jump: The index at which the threads go on, or None for the next.
        ends: True if the threads end.
    """

    step: Step | None
    together: Literal["", "warp", "block"] = ""
    jump: int | None = None
    ends: bool = False


TABLE: dict[str, Callable[[Instruction], Operation]] = {}
"""Base opcode -> what an instruction of it means."""


def operation(
    *names: str,
) -> Callable[[Callable[[Instruction], Any]], Callable[[Instruction], Any]]:
    """Enter a function in the table; it returns an `Operation`, or a step."""

    def entered(row: Callable[[Instruction], Any]) -> Callable[[Instruction], Any]:
        def made(instruction: Instruction) -> Operation:
            if "bf16" in instruction.words and instruction.name not in ("cvt", "setp", "mma"):
                raise UnknownPtx("arithmetic of bfloat16, which a register holds as bits")
            found = row(instruction)
            return found if isinstance(found, Operation) else Operation(found)

        TABLE.update(dict.fromkeys(names, made))
        return row

    return entered


@lru_cache(maxsize=2**15)  # a kernel with one instruction changed has the others of the kernel
def decode(instruction: Instruction) -> Operation:
    """Return the meaning of an instruction.

    Raises:
        UnknownPtx: The table does not have it.
    """
    if instruction.name not in TABLE:
        raise UnknownPtx(f"instruction {instruction.opcode}: {instruction.text}")
    try:
        return TABLE[instruction.name](instruction)
    except UnknownPtx as error:
        raise UnknownPtx(f"{error} in {instruction.opcode}: {instruction.text}") from None


# ---- operands ----


def reader(operand: Operand, kind: Type) -> Callable[[Group], Array]:
    """Return a function that reads an operand in a type; of a wider register the lower bits."""
    match operand:
        case Register(index=index, type=declared):
            if (declared.kind == "p") != (kind.kind == "p") or declared.bits < kind.bits:
                raise UnknownPtx(f"{operand.name} as {kind}")
            dtype = kind.dtype
            if declared.bits > kind.bits:
                narrow = np.dtype(f"u{kind.bytes}")
                return lambda g: g.values[index].astype(narrow).view(dtype)
            if dtype.kind in "ub":
                return lambda g: g.values[index]
            return lambda g: g.values[index].view(dtype)
        case Negated(register=register):
            return lambda g: ~g.values[register.index]
        case Immediate(bits=bits, floating=floating):
            if (kind.kind == "f" and floating != kind.bits) or floating not in (0, kind.bits):
                raise UnknownPtx("a number of another type")
            return lambda g: g.constant(bits, kind)
        case Special(name=name):
            return lambda g: g.special(name, kind)
        case Symbol() as symbol:
            return lambda g: g.constant(g.address_of(symbol), kind)
        case _:
            raise UnknownPtx(f"operand {operand}")


def writer(operand: Operand, kind: Type) -> Callable[[Group, Array, Array | None], None]:
    """Return a function that writes a register; one that is wider gets the sign, or zeros."""
    if operand is None:
        return lambda g, values, mask: None
    if not isinstance(operand, Register):
        raise UnknownPtx(f"operand {operand}")
    index, declared, dtype = operand.index, operand.type, kind.dtype
    if (declared.kind == "p") != (kind.kind == "p") or declared.bits < kind.bits:
        raise UnknownPtx(f"{operand.name} as {kind}")
    held = kind.held
    wide = held if declared.bits == kind.bits else np.dtype(f"{dtype.kind}{declared.bytes}")

    def write(g: Group, values: Array, mask: Array | None) -> None:
        assert values.dtype == dtype, (values.dtype, dtype)
        if wide is held:
            values = values.view(held)
        else:
            values = values.astype(wide).view(declared.held)
        g.values[index] = values if mask is None else np.where(mask, values, g.values[index])

    return write


def pure(
    i: Instruction, result: Type, sources: Sequence[Type], function: Callable[..., Array]
) -> Step:
    """Return the step that writes a function of the operands to the first of them."""
    if len(i.operands) != 1 + len(sources):
        raise UnknownPtx(f"{len(i.operands)} operands")
    write = writer(i.operands[0], result)
    reads = [reader(o, kind) for o, kind in zip(i.operands[1:], sources, strict=True)]
    return lambda g, mask: write(g, function(*[read(g) for read in reads]), mask)


def words_of(i: Instruction, *known: str) -> list[str]:
    """Return the modifiers before the type, or raise UnknownPtx for one that is not known."""
    for word in i.words[:-1]:
        if word not in known:
            raise UnknownPtx(f"modifier .{word}")
    return list(i.words[:-1])


def rounded(i: Instruction) -> Type:
    """Return the floating type of an instruction that rounds to nearest, and says so.

    Without .rn the assembler may fuse a product and a sum.
    """
    if "rn" not in words_of(i, "rn", "ftz"):
        raise UnknownPtx("a rounding that the assembler may leave out")
    if i.type.kind != "f" or i.type.bits == 16:
        raise UnknownPtx(f"type {i.type}")
    return i.type


def flushing(i: Instruction, function: Callable[..., Array]) -> Callable[..., Array]:
    """Return a function that takes and returns 0 for subnormal numbers, if .ftz asks for it."""
    if "ftz" not in i.words:
        return function
    if i.type != F32:
        raise UnknownPtx(f"modifier .ftz of {i.type}")
    flush = arithmetic.flushed
    return lambda *given: flush(function(*map(flush, given)))


def computed(i: Instruction, function: Callable[..., Array]) -> Callable[..., Array]:
    """Return a function whose NaN is one, whatever those of its operands; and as `flushing`."""
    function = flushing(i, function)

    def with_one_nan(*given: Array) -> Array:
        found = function(*given)
        is_nan = np.isnan(found)
        return np.where(is_nan, arithmetic.NAN[found.dtype], found) if is_nan.any() else found

    return with_one_nan


# ---- integers and floating point ----

_SIMPLE: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "not": np.invert,
}  # fmt: skip


def _carrying(i: Instruction, function: Callable[..., Array]) -> Step:
    """Return the step of a sum whose carry, or borrow, goes to the next instruction or comes in."""
    kind, sign = i.type, -1 if i.name in ("sub", "subc") else 1
    if kind.kind != "u" or kind.bits != 32:
        raise UnknownPtx(f"a carry of {kind}")
    write, reads = writer(i.operands[0], kind), [reader(o, kind) for o in i.operands[1:]]

    def step(g: Group, mask: Array | None) -> None:
        total = function(*(read(g) for read in reads))
        if i.name in ("addc", "subc", "madc"):
            total = total + sign * g.carry.astype(np.int64)
        write(g, total.astype(np.uint32), mask)
        if "cc" in i.words:
            carry = (total >> 32 & 1).astype(np.uint8)
            g.carry = carry if mask is None else np.where(mask, carry, g.carry)

    return step


@operation("add", "sub", "addc", "subc")
def _sum(i: Instruction) -> Step:
    kind, function = i.type, _SIMPLE[i.name[:3]]
    if words_of(i, "cc", "rn", "ftz") == ["cc"] or i.name in ("addc", "subc"):
        words_of(i, "cc")
        return _carrying(i, lambda a, b: function(a.astype(np.int64), b.astype(np.int64)))
    if kind.kind == "f":
        return pure(i, rounded(i), (kind, kind), computed(i, function))
    words_of(i)
    return pure(i, kind, (kind, kind), function)


@operation("and", "or", "xor", "not")
def _bits(i: Instruction) -> Step:
    words_of(i)
    if i.type.kind not in "bp":
        raise UnknownPtx(f"type {i.type}")
    return pure(i, i.type, (i.type,) * (len(i.operands) - 1), _SIMPLE[i.name])


@operation("neg", "abs")
def _sign(i: Instruction) -> Step:
    words_of(i, "ftz")
    function = np.negative if i.name == "neg" else np.absolute
    return pure(i, i.type, (i.type,), flushing(i, function))


@operation("copysign")
def _copysign(i: Instruction) -> Step:
    words_of(i)
    return pure(i, i.type, (i.type, i.type), lambda sign, size: np.copysign(size, sign))


@operation("min", "max")
def _extreme(i: Instruction) -> Step:
    keeps_nan = words_of(i, "NaN") == ["NaN"]
    if i.type.kind == "f":
        function = arithmetic.least if i.name == "min" else arithmetic.greatest
        return pure(i, i.type, (i.type,) * 2, lambda a, b: function(a, b, keeps_nan))
    return pure(i, i.type, (i.type,) * 2, np.minimum if i.name == "min" else np.maximum)


@operation("div")
def _quotient(i: Instruction) -> Step:
    if i.type.kind == "f":
        return pure(i, rounded(i), (i.type, i.type), computed(i, np.divide))
    words_of(i)
    return _dividing(i, arithmetic.divide)


@operation("rem")
def _remainder(i: Instruction) -> Step:
    words_of(i)
    return _dividing(i, arithmetic.remainder)


def _dividing(i: Instruction, function: Callable[[Array, Array], Array]) -> Step:
    """As `pure`; only the divisors of threads that act must not be 0."""
    write = writer(i.operands[0], i.type)
    first, second = (reader(o, i.type) for o in i.operands[1:])

    def step(g: Group, mask: Array | None) -> None:
        divisor = second(g)
        if mask is not None:
            divisor = np.where(mask, divisor, divisor.dtype.type(1))
        try:
            write(g, function(first(g), divisor), mask)
        except ZeroDivisionError as error:
            raise Fault(str(error)) from None

    return step


@operation("rcp", "sqrt")
def _root(i: Instruction) -> Step:
    kind = rounded(i)
    return pure(i, kind, (kind,), computed(i, np.sqrt if i.name == "sqrt" else np.reciprocal))


@operation("fma")
def _fma(i: Instruction) -> Step:
    kind = rounded(i)
    return pure(i, kind, (kind,) * 3, computed(i, arithmetic.fma))


@operation("mul", "mad", "madc")
def _product(i: Instruction) -> Step:
    """The product, or its lower or upper half; then a sum, with a carry in or out."""
    kind = i.type
    if kind.kind == "f":
        return pure(i, rounded(i), (kind, kind), computed(i, np.multiply))
    words = words_of(i, "lo", "hi", "wide", "cc")
    if "wide" in words:
        if "cc" in words or i.name == "madc":
            raise UnknownPtx("a carry of a wide product")
        wide = Type(kind.kind, 2 * kind.bits)
        more = (wide,) if i.name == "mad" else ()

        def widened(a: Array, b: Array, *c: Array) -> Array:
            whole = a.astype(wide.dtype) * b.astype(wide.dtype)
            return whole + c[0] if c else whole

        return pure(i, wide, (kind, kind, *more), widened)
    which = 1 if "hi" in words else 0
    if i.name == "mul":
        return pure(i, kind, (kind, kind), lambda a, b: arithmetic.product(a, b)[which])
    if "cc" not in words and i.name == "mad":
        return pure(i, kind, (kind,) * 3, lambda a, b, c: arithmetic.product(a, b)[which] + c)
    return _carrying(i, lambda a, b, c: arithmetic.product(a, b)[which].astype(np.int64) + c)


# ---- bits ----


@operation("shl", "shr")
def _shift(i: Instruction) -> Step:
    words_of(i)
    function = arithmetic.shift_left if i.name == "shl" else arithmetic.shift_right
    return pure(i, i.type, (i.type, U32), function)


@operation("shf")
def _funnel(i: Instruction) -> Step:
    side, mode = words_of(i, "l", "r", "wrap", "clamp")
    return pure(
        i, B32, (B32, B32, U32),
        lambda low, high, by: arithmetic.funnel(low, high, by, side == "l", mode == "wrap"),
    )  # fmt: skip


@operation("clz")
def _leading(i: Instruction) -> Step:
    words_of(i)
    return pure(i, U32, (i.type,), arithmetic.leading_zeros)


@operation("bfe")
def _extract(i: Instruction) -> Step:
    words_of(i)
    return pure(i, i.type, (i.type, U32, U32), arithmetic.extract)


@operation("bfi")
def _insert(i: Instruction) -> Step:
    words_of(i)
    return pure(i, i.type, (i.type, i.type, U32, U32), arithmetic.insert)


@operation("prmt")
def _permute(i: Instruction) -> Step:
    words_of(i)
    return pure(i, B32, (B32, B32, B32), arithmetic.permuted)


# ---- comparisons and choices ----

_ORDER: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater,
    "hs": np.greater_equal,
}  # fmt: skip
_LOGIC = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _compared(word: str, kind: Type) -> Callable[[Array, Array], Array]:
    """Return a comparison: of floats false for NaN, with a `u` at its end true, but for `ne`."""
    if kind.kind == "f" and word in ("num", "nan"):
        return lambda a, b: (np.isnan(a) | np.isnan(b)) == (word == "nan")
    if kind.kind == "f" and word in ("equ", "neu", "ltu", "leu", "gtu", "geu"):
        return lambda a, b: _ORDER[word[:2]](a, b) | np.isnan(a) | np.isnan(b)
    if word not in _ORDER or (word in ("lo", "ls", "hi", "hs") and kind.kind != "u"):
        raise UnknownPtx(f"comparison .{word} of {kind}")
    if kind.kind == "f" and word == "ne":
        return lambda a, b: (a != b) & ~np.isnan(a) & ~np.isnan(b)
    return _ORDER[word]


def _number(operand: Operand, kind: Type) -> Callable[[Group], Array]:
    """Return a function that reads an operand; a number in bfloat16 as float32."""
    read = reader(operand, kind)
    return (lambda g: arithmetic.from_bfloat16(read(g))) if kind.kind == "bf" else read


@operation("setp")
def _compare(i: Instruction) -> Step:
    known = (*_ORDER, *_LOGIC, "num", "nan", "equ", "neu", "ltu", "leu", "gtu", "geu", "ftz")
    comparison, *logic = (word for word in words_of(i, *known) if word != "ftz")
    kind, compared = (
        i.type,
        flushing(i, _compared(comparison, F32 if i.type.kind == "bf" else i.type)),
    )
    first, second = (_number(o, kind) for o in i.operands[1:3])
    targets = i.operands[0].items if isinstance(i.operands[0], Parts) else (i.operands[0],)
    writes = [writer(target, PRED) for target in targets]
    third = reader(i.operands[3], PRED) if logic else None
    if len(i.operands) != 3 + len(logic) or len(logic) > 1:
        raise UnknownPtx(f"{len(i.operands)} operands")

    def step(g: Group, mask: Array | None) -> None:
        found = compared(first(g), second(g))
        for write, holds in zip(writes, (found, ~found), strict=False):
            write(g, _LOGIC[logic[0]](holds, third(g)) if third else holds, mask)

    return step


@operation("selp")
def _select(i: Instruction) -> Step:
    words_of(i)
    return pure(i, i.type, (i.type, i.type, PRED), lambda a, b, p: np.where(p, a, b))


@operation("mov")
def _move(i: Instruction) -> Step:
    words_of(i)
    target, source = i.operands
    if isinstance(target, Parts):
        part = Type("b", i.type.bits // len(target.items))
        writes, read = [writer(t, part) for t in target.items], reader(source, i.type)

        def split(g: Group, mask: Array | None) -> None:
            whole = np.ascontiguousarray(read(g)).view(part.dtype).reshape(-1, len(writes))
            for k, write in enumerate(writes):
                write(g, whole[:, k].copy(), mask)

        return split
    if isinstance(source, Parts):
        part = Type("b", i.type.bits // len(source.items))
        reads, write = [reader(s, part) for s in source.items], writer(target, i.type)
        return lambda g, mask: write(
            g, np.stack([read(g) for read in reads], 1).view(i.type.dtype)[:, 0], mask
        )
    return pure(i, i.type, (i.type,), lambda a: a)


@operation("cvta")
def _to_space(i: Instruction) -> Step:
    if words_of(i, "to", "global") not in (["to", "global"], ["global"]):
        raise UnknownPtx("a space")
    return pure(i, i.type, (i.type,), lambda a: a)  # global addresses are generic ones


# ---- conversions ----


@operation("cvt")
def _convert(i: Instruction) -> Step:
    *words, to, source = i.words
    if to in ("f16x2", "bf16x2") and words == ["rn"] and source == "f32":
        narrow = _NARROW[to[:-2]]
        return pure(
            i, B32, (F32, F32),
            lambda high, low: narrow(high).astype("u4") << np.uint32(16) | narrow(low),
        )  # fmt: skip
    if (words, to, source) == (["rna"], "tf32", "f32"):
        return pure(i, B32, (F32,), arithmetic.tf32)
    target, kind = type_of(to), type_of(source)
    return pure(i, target, (kind,), _conversion(target, kind, words))


_NARROW: dict[str, Callable[[Array], Array]] = {
    "f16": lambda a: a.astype(np.float16).view(np.uint16),
    "bf16": arithmetic.bfloat16,
}


def _conversion(target: Type, kind: Type, words: list[str]) -> Callable[[Array], Array]:
    """Return a conversion; where it rounds, its modifier must say how."""
    if words in (["rni", "ftz"], ["rzi", "ftz"]) and kind.kind == "f":
        words = words[:1]  # a subnormal number, which .ftz takes for 0, becomes 0 anyhow
    match target.kind, kind.kind, words:
        case "bf", "f", ["rn"] if kind.bits == 32:
            return arithmetic.bfloat16
        case "f", "bf", [] if target.bits == 32:
            return arithmetic.from_bfloat16
        case "f", "f", [word] if target == kind and word in arithmetic.WHOLE:
            return arithmetic.WHOLE[word]
        case "f", "f", ["rn"] if target.bits < kind.bits:
            return lambda a: a.astype(target.dtype)
        case "f", "f", [] if target.bits > kind.bits:
            return lambda a: a.astype(target.dtype)
        case "f", "u" | "s", ["rn"] if target.bits >= 32:
            return lambda a: a.astype(target.dtype)
        case "u" | "s", "f", [word] if word in arithmetic.WHOLE:
            return lambda a: arithmetic.to_integer(a, target.dtype, word)
        case "u" | "s", "u" | "s", []:
            return lambda a: a.astype(target.dtype)
    raise UnknownPtx(f"conversion {words} of {kind} to {target}")


# ---- memory ----

_SPACES = ("global", "shared", "local", "param")
_COUNT = {"v2": 2, "v4": 4}


def _place(i: Instruction, operand: Operand, *spaces: str) -> tuple[str, Callable[[Group], Array]]:
    """Return the space of an access, named or among the words, and what computes its addresses."""
    if not isinstance(operand, Address):
        raise UnknownPtx(f"operand {operand}")
    spaces = spaces or tuple(word for word in i.words if word in _SPACES)
    if len(spaces) != 1:
        raise UnknownPtx("an access to a generic address")
    base, offset = operand.base, operand.offset
    if spaces == ("param",) and isinstance(base, Symbol):
        spaces = (base.space,)  # the parameters of a call are in local memory
    wide = Type("u", base.type.bits if isinstance(base, Register) else 64)
    read, by = reader(base, wide), np.array(offset).astype(wide.dtype)
    return spaces[0], lambda g: read(g) + by


def _accessed(i: Instruction, operand: Operand) -> tuple[Type, list[Any]]:
    """Return the type of the numbers of an access, and their operands."""
    words_of(i, *_SPACES, *_COUNT, {"ld": "nc", "st": "wb"}.get(i.name, ""))
    count = next((_COUNT[word] for word in i.words if word in _COUNT), 1)
    items = list(operand.items) if isinstance(operand, Parts) else [operand]
    if len(items) != count:
        raise UnknownPtx(f"{len(items)} operands of an access to {count}")
    return i.type, items


@operation("ld")
def _load(i: Instruction) -> Step:
    kind, items = _accessed(i, i.operands[0])
    space, place = _place(i, i.operands[1])
    writes, size = [writer(item, kind) for item in items], kind.bytes * len(items)

    def step(g: Group, mask: Array | None) -> None:
        lanes = slice(None) if mask is None else np.nonzero(mask)[0]
        raw = g.load(space, place(g)[lanes], size, lanes)
        if mask is not None:
            whole = np.zeros((g.count, size), np.uint8)
            whole[lanes] = raw
            raw = whole
        numbers = np.ascontiguousarray(raw).view(kind.dtype)
        for k, write in enumerate(writes):
            write(g, numbers[:, k].copy(), mask)

    return step


@operation("st")
def _store(i: Instruction) -> Step:
    kind, items = _accessed(i, i.operands[1])
    space, place = _place(i, i.operands[0])
    if space == "param":
        raise UnknownPtx("a store to a parameter")
    reads = [reader(item, kind) for item in items]

    def step(g: Group, mask: Array | None) -> None:
        lanes = slice(None) if mask is None else np.nonzero(mask)[0]
        numbers = np.stack([read(g)[lanes] for read in reads], 1)
        g.store(space, place(g)[lanes], np.ascontiguousarray(numbers).view(np.uint8), lanes)

    return step


@operation("red", "atom")
def _atomic(i: Instruction) -> Step:
    """An addition in global memory; `atom` returns what was there."""
    words_of(i, "global", "gpu", "relaxed", "acq_rel", "add")
    if "add" not in i.words or "global" not in i.words:
        raise UnknownPtx("an atomic operation")
    target, rest = (None, i.operands) if i.name == "red" else (i.operands[0], i.operands[1:])
    _, place = _place(i, rest[0])
    read, write = reader(rest[1], i.type), writer(target, i.type)

    def step(g: Group, mask: Array | None) -> None:
        lanes = np.arange(g.count) if mask is None else np.nonzero(mask)[0]
        found = np.zeros(g.count, i.type.dtype)
        found[lanes] = g.add_each(place(g)[lanes], read(g)[lanes], lanes)
        write(g, found, mask)

    return step


# ---- warps and blocks ----


@operation("shfl")
def _shuffle(i: Instruction) -> Operation:
    """A number of another thread of the warp; all 32 must take part."""
    _, mode = words_of(i, "sync", "bfly", "down", "up", "idx")
    target = i.operands[0]
    to, valid = target.items if isinstance(target, Parts) else (target, None)
    write, mark = writer(to, B32), writer(valid, PRED)
    value, *numbers = (reader(o, B32) for o in i.operands[1:])
    lane = np.arange(32)

    def step(g: Group, mask: Array | None) -> None:
        by, clamp, members = (n(g).view(np.int32).reshape(-1, 32).astype(int) for n in numbers)
        if (members != -1)[
            np.broadcast_to(True if mask is None else mask, g.count).reshape(-1, 32)
        ].any():
            raise Fault("a shuffle among fewer threads than a warp")
        by, segment, bound = by & 31, clamp >> 8 & 31, clamp & 31
        last = (lane & segment) | (bound & ~segment)
        match mode:
            case "up":
                source = lane - by
                inside = source >= last
            case "down":
                source = lane + by
                inside = source <= last
            case "bfly":
                source = lane ^ by
                inside = source <= last
            case _:
                source = (lane & segment) | (by & ~segment)
                inside = source <= last
        source = np.where(inside, source, lane)
        write(g, np.take_along_axis(value(g).reshape(-1, 32), source, 1).reshape(-1), mask)
        mark(g, inside.reshape(-1), mask)

    return Operation(step, "warp")


# ---- matrices that a warp holds ----


def _layout(rows: int, columns: int, packed: int) -> tuple[Array, Array]:
    """Return the row and the column of each number that a thread holds, (32, numbers).

    Thread t has `packed` numbers of row t // 4, from column packed * (t % 4) on; then those 8 rows
    below; then those 4 * packed columns further.
    """
    thread = np.arange(32)[:, None]
    shape = (columns // (4 * packed), rows // 8, packed)
    right, down, k = (index.reshape(-1) for index in np.indices(shape))
    return thread // 4 + 8 * down, packed * (4 * right + thread % 4) + k


def _items(operand: Operand, count: int) -> list[Any]:
    """Return the operands of a vector, which must be so many."""
    items = list(operand.items) if isinstance(operand, Parts) else [operand]
    if len(items) != count:
        raise UnknownPtx(f"{len(items)} operands in place of {count}")
    return items


def _lanes(g: Group, mask: Array | None) -> Array:
    """Return the indices of the threads that act."""
    return np.arange(g.count) if mask is None else np.nonzero(mask)[0]


def _matrices(
    i: Instruction, held: Operand, at: Operand
) -> tuple[list[Any], Callable[[Group, Array], tuple[Array, Array]], tuple[Array, Array]]:
    """Return the registers of 1, 2 or 4 matrices, what finds their rows, and the layout.

    A matrix has 8 rows of 16 bytes; thread 8*m + r has the address of row r of matrix m. A thread
    holds two numbers of 16 bits of each, or with .trans of its transpose.
    """
    row, column = _layout(8, 8, 2)
    match i.words:
        case "sync", "aligned", "m8n8", "x1" | "x2" | "x4" as number, "shared", "b16":
            where = (row, column)
        case "sync", "aligned", "m8n8", "x1" | "x2" | "x4" as number, "trans", "shared", "b16":
            where = (column, row)
        case _:
            raise UnknownPtx(f"a form of {i.name}")
    count = int(number[1])
    _, place = _place(i, at)

    def rows(g: Group, lanes: Array) -> tuple[Array, Array]:
        owners = lanes.reshape(-1, 32)[:, : 8 * count].reshape(-1)
        return place(g)[owners], owners

    return _items(held, count), rows, where


@operation("ldmatrix")
def _load_matrices(i: Instruction) -> Operation:
    items, rows, (row, column) = _matrices(i, *i.operands)
    writes = [writer(item, B32) for item in items]

    def step(g: Group, mask: Array | None) -> None:
        lanes = _lanes(g, mask)
        addresses, owners = rows(g, lanes)
        raw = np.ascontiguousarray(g.load("shared", addresses, 16, owners)).view(np.uint16)
        held = raw.reshape(-1, len(items), 8, 8)[:, :, row, column]
        words = np.ascontiguousarray(held).view(np.uint32)
        for m, write in enumerate(writes):
            found = np.zeros(g.count, np.uint32)
            found[lanes] = words[:, m].reshape(-1)
            write(g, found, mask)

    return Operation(step, "warp")


@operation("stmatrix")
def _store_matrices(i: Instruction) -> Operation:
    items, rows, (row, column) = _matrices(i, *i.operands[::-1])
    reads = [reader(item, B32) for item in items]

    def step(g: Group, mask: Array | None) -> None:
        lanes = _lanes(g, mask)
        addresses, owners = rows(g, lanes)
        words = np.stack([read(g)[lanes].reshape(-1, 32, 1) for read in reads], 1)
        matrices = np.empty((len(words), len(items), 8, 8), np.uint16)
        matrices[:, :, row, column] = words.view(np.uint16)
        g.store("shared", addresses, matrices.reshape(-1, 8).view(np.uint8), owners)

    return Operation(step, "warp")


_PRODUCTS = {
    ("m16n8k16", "f32", "bf16", "bf16", "f32"): (16, 16, 2),
    ("m16n8k8", "f32", "tf32", "tf32", "f32"): (16, 8, 1),
    ("m8n8k4", "f64", "f64", "f64", "f64"): (8, 4, 1),
}
"""Shape and types of D = A B + C -> rows and columns of A, and its numbers in a register."""
_NUMBERS: dict[str, Callable[[Array], Array]] = {
    "bf16": lambda bits: arithmetic.from_bfloat16(bits.view(np.uint16)),
    "tf32": lambda bits: (bits & arithmetic.TF32).view(np.float32),
    "f32": lambda bits: bits.view(np.float32),
    "f64": lambda bits: bits.view(np.float64),
}


def _matrix(
    operand: Operand, kind: str, rows: int, columns: int, packed: int
) -> Callable[[Group], Array]:
    """Return a function that reads a matrix of each warp, (warps, rows, columns), in float64."""
    row, column = _layout(rows, columns, packed)
    count = column.shape[1] // (2 if kind == "bf16" else 1)
    reads = [reader(item, B64 if kind == "f64" else B32) for item in _items(operand, count)]

    def read(g: Group) -> Array:
        numbers = _NUMBERS[kind](np.stack([read(g) for read in reads], 1))
        whole = np.empty((g.count // 32, rows, columns))
        whole[:, row, column] = numbers.reshape(-1, *column.shape)
        return whole

    return read


@operation("mma")
def _multiply_matrices(i: Instruction) -> Operation:
    """D = A B + C of a warp. `_layout` is that of A, the transpose of B, C and D.

    The lowest 13 bits of a factor in TF32 are ignored. PTX leaves the order and the rounding of a
    sum in float32 open. Here C and the products, which are exact, are added in float64 one after
    another, and the sum is rounded to float32. A sum in float64 is a chain of `fma`.
    """
    form, types = i.words[:2] + i.words[3:5], (*i.words[2:3], *i.words[5:])
    if form != ("sync", "aligned", "row", "col") or types not in _PRODUCTS:
        raise UnknownPtx("a form of mma")
    rows, columns, packed = _PRODUCTS[types]
    target, *sources = i.operands
    kind, result = types[2], type_of(types[1])
    first = _matrix(sources[0], kind, rows, columns, packed)
    second = _matrix(sources[1], kind, 8, columns, packed)
    third = _matrix(sources[2], types[1], rows, 8, 2)
    row, column = _layout(rows, 8, 2)
    writes = [writer(item, result) for item in _items(target, column.shape[1])]

    def step(g: Group, mask: Array | None) -> None:
        a, b, total = first(g), second(g), third(g)
        for k in range(columns):
            x, y = a[:, :, k, None], b[:, None, :, k]
            if kind == "f64":
                terms = np.broadcast_arrays(x, y, total)
                total = arithmetic.fma(*(term.reshape(-1) for term in terms)).reshape(total.shape)
            else:
                total = total + x * y
        found = total.astype(result.dtype)
        found[np.isnan(found)] = arithmetic.NAN[result.dtype]
        for k, write in enumerate(writes):
            write(g, found[:, row[:, k], column[:, k]].reshape(-1), mask)

    return Operation(step, "warp")


# ---- copies beside the execution of their threads ----


@operation("cp")
def _copy(i: Instruction) -> Step:
    """A copy from global to shared memory: of all its bytes, or of none, with zeros in their place.

    The source is read when the copy begins. The bytes come when their thread waits for them.
    """
    match i.words, i.operands:
        case ("async", "commit_group"), ():
            return lambda g, mask: g.commit(mask)
        case ("async", "wait_group"), (Immediate(bits=pending),):
            return lambda g, mask: g.wait(pending, mask)
        case ("async", cache, "shared", "global"), (to, source, Immediate(bits=size), *given):
            if size not in {"ca": (4, 8, 16), "cg": (16,)}.get(cache, ()) or len(given) > 1:
                raise UnknownPtx("a form of cp.async")
        case _:
            raise UnknownPtx("a form of cp")
    (_, there), (_, here) = _place(i, to, "shared"), _place(i, source, "global")
    count = reader(given[0] if given else Immediate(size), U32)

    def step(g: Group, mask: Array | None) -> None:
        lanes = _lanes(g, mask)
        counts, raw = count(g)[lanes], np.zeros((lanes.size, size), np.uint8)
        if not np.isin(counts, (0, size)).all():
            raise Fault("a copy of a part of its bytes")
        if (full := counts != 0).any():
            raw[full] = g.load("global", here(g)[lanes[full]], size, lanes[full])
        g.copy(there(g)[lanes], raw, lanes)

    return step


@operation("bar")
def _barrier(i: Instruction) -> Operation:
    if i.words == ("warp", "sync"):
        if i.operands != (Immediate(2**32 - 1),) and i.operands != (Immediate(-1),):
            raise UnknownPtx("a barrier of fewer threads than a warp")
        return Operation(None, "warp")
    if i.words != ("sync",) or i.operands != (Immediate(0),):
        raise UnknownPtx("a form of bar")
    return Operation(None, "block")


@operation("bra")
def _branch(i: Instruction) -> Operation:
    (target,) = i.operands
    if i.words not in ((), ("uni",)) or not isinstance(target, Label):
        raise UnknownPtx("a form of bra")
    return Operation(None, jump=target.index)


@operation("ret", "exit")
def _return(i: Instruction) -> Operation:
    return Operation(None, ends=True)


@operation("nop")
def _nothing(i: Instruction) -> Operation:
    return Operation(None)
