"""Frozen nodes as JSON objects and back: one reader and one writer by the types of their fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from fractions import Fraction
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.ir import nodes as real
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import BinaryOp, CompareOp, Fn, Phase, Role, UnaryOp
from lnm_codegen.ir.types import MOST_BITS, Bits, Rounding, Type

Table = Mapping[str, type[Any]]

FIXED: Table = {
    "const": fx.Const, "var": fx.Var, "negate": fx.Negate, "sum": fx.Sum, "product": fx.Product,
    "shift": fx.Shift, "round": fx.Round, "saturate": fx.Saturate, "compare": fx.Compare,
    "not": fx.Not, "both": fx.Both, "either": fx.Either, "select": fx.Select,
    "Let": fx.Let, "Port": fx.Port, "Kernel": fx.Kernel,
}  # fmt: skip
REAL: Table = {
    "const": real.Const, "var": real.Var, "unary": real.Unary, "binary": real.Binary,
    "power": real.Power, "compare": real.Compare, "select": real.Select, "fma": real.Fma,
    "call": real.Call, "spike": real.Spike, "detach": real.Detach,
    "Let": real.Let, "Port": real.Port, "Kernel": real.Kernel,
}  # fmt: skip
"""Word -> class; the capital ones are no nodes of an expression."""

_ENUMS: dict[str, type[Enum]] = {
    e.__name__: e for e in (BinaryOp, UnaryOp, CompareOp, Fn, Phase, Role, Rounding, Type, fx.SumOp)
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RATIONAL = re.compile(r"-?[0-9]{1,1000}(/[0-9]{1,1000})?")
_BITS = re.compile(r"Q(-?[0-9]{1,2})\.([0-9]{1,2})")


def record(value: Any, table: Table) -> Any:
    """Return a node, a Let, a Port or a Kernel as what `json.dumps` takes."""
    match value:
        case Enum():
            return value.value
        case Bits() | Fraction():
            return str(value)
        case int() | str():
            return value
        case tuple():
            return [record(item, table) for item in value]
    word = next(word for word, cls in table.items() if type(value) is cls)
    written = {f.name: record(getattr(value, f.name), table) for f in fields(value)}
    return written if word[0].isupper() else {"node": word, **written}


class Reader:
    """Reads what `record` wrote with one table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, kind: str, value: Any, where: str) -> Any:
        """Return the value of a field.

        Args:
            kind: The annotation of the field, such as "Expr", "tuple[Let, ...]", "Rounding".
            value: What `json.loads` made of it.
            where: Its place, for messages.

        Raises:
            ModelError: It is not what the field holds.
        """
        if kind.startswith("tuple["):
            inner = kind.removeprefix("tuple[").removesuffix(", ...]")
            if not isinstance(value, list):
                raise _wrong(where, value, "a list")
            return tuple(self.read(inner, v, f"{where}[{k}]") for k, v in enumerate(value))
        if kind in _ENUMS:
            enum = _ENUMS[kind]
            return enum(one_of(value, [e.value for e in enum], where))
        match kind:
            case "Expr" | "Var":
                return self._node(kind, value, where)
            case "int":
                return integer(value, where)
            case "str":
                return _text(value, where)
            case "Fraction":
                return _rational(value, where)
            case "Bits":
                return _bits(value, where)
            case "Bits | Type":
                return Type.BOOL if value == Type.BOOL.value else _bits(value, where)
            case _:
                return self._fields(self._table[kind], value, where, ())

    def _node(self, kind: str, value: Any, where: str) -> Any:
        if not isinstance(value, dict) or "node" not in value:
            raise _wrong(where, value, 'an object with the key "node"')
        words = ["var"] if kind == "Var" else [w for w in self._table if w[0].islower()]
        word = one_of(value["node"], words, where)
        return self._fields(self._table[word], value, where, ("node",))

    def _fields(self, cls: type[Any], value: Any, where: str, more: tuple[str, ...]) -> Any:
        own = fields(cls)
        given = keyed(value, (*more, *(f.name for f in own)), where)
        found = {f.name: self.read(str(f.type), given[f.name], f"{where}.{f.name}") for f in own}
        if "name" in found and cls is not real.Const:  # that of a constant is a remark, such as pi
            named(found["name"], f"{where}.name")
        return cls(**found)


def keyed(value: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    """Return an object that has these keys and no others."""
    if not isinstance(value, dict):
        raise _wrong(where, value, f"an object with the keys {', '.join(keys)}")
    for key in value:
        if key not in keys:
            raise ModelError(where, f"unknown key {key!r}", keys)
    for key in keys:
        if key not in value:
            raise ModelError(
                where, f"the key {key!r} is missing", remedy=f"Needed: {', '.join(keys)}."
            )
    return value


def one_of(value: Any, accepted: Sequence[Any], where: str) -> Any:
    """Return a value that is one of those accepted."""
    if isinstance(value, bool) or value not in accepted:
        raise _wrong(where, value, ", ".join(str(a) for a in accepted))
    return value


def named(value: Any, where: str) -> str:
    """Return a name."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _wrong(where, value, "letters, digits and underscores, no digit first")
    return value


def integer(value: Any, where: str) -> int:
    """Return an integer of at most 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << MOST_BITS:
        raise _wrong(where, value, f"an integer of at most {MOST_BITS} bits")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise _wrong(where, value, "text")
    return value


def _rational(value: Any, where: str) -> Fraction:
    if isinstance(value, str) and _RATIONAL.fullmatch(value):
        above, _, below = value.partition("/")
        if int(below or 1):
            return Fraction(int(above), int(below or 1))
    raise _wrong(where, value, 'a rational number as text, such as "-3/8"')


def _bits(value: Any, where: str) -> Bits:
    found = _BITS.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        whole, frac = int(found[1]), int(found[2])
        if 1 <= whole + frac <= MOST_BITS:
            return Bits(whole + frac, frac)
    raise _wrong(where, value, f"a format of at most {MOST_BITS} bits, such as Q4.12")


def _wrong(where: str, value: Any, accepted: str) -> ModelError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return ModelError(where, f"{shown} is none of what belongs here", accepted)
