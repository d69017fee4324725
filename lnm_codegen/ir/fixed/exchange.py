"""Fixed-point programs as JSON and back, exactly: `program.json` of a circuit.

    {"format": "lnm_codegen.fixed", "version": 1, "name": ...,
     "spec": {"default": {"width": 16, "frac": 12, "rounding": "half_up"}, "nodes": {...}},
     "prepare": kernel, "kernel": kernel}
    kernel = {"name", "inputs": [port], "body": [let], "results": [port]}
    node   = {"node": "round", "arg": node, "places": 12, "rounding": "half_up"}, ...

Formats are written Q4.12, rationals "-3/8". The reader accepts the words of closed tables and then
verifies the kernels. It never executes text of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from fractions import Fraction
from typing import Any, get_args

from lnm_codegen.errors import ModelError
from lnm_codegen.files import json_lines, parse_json
from lnm_codegen.ir import kernel
from lnm_codegen.ir import nodes as real
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.kernel import Phase, Role
from lnm_codegen.ir.nodes import BinaryOp, CompareOp, Fn, UnaryOp
from lnm_codegen.ir.types import MOST_BITS, Bits, Fixed, FixedSpec, Rounding, Type
from lnm_codegen.ir.verify import faults
from lnm_codegen.validation import require_integer, require_one_of, shown

# JSON objects of kernels: a writer and a reader that follow the types of the fields.


Table = Mapping[str, type[Any]]


def _table(expressions: Any, kernel_class: type[Any]) -> Table:
    nodes = {cls.__name__.lower(): cls for cls in get_args(expressions)}
    more = {"Let": kernel.Let, "Port": kernel.Port, "Kernel": kernel_class, "Fixed": Fixed}
    return nodes | more


REAL, FIXED = _table(real.Expr, real.Kernel), _table(fx.Expr, fx.Kernel)
"""Word -> class; expressions are written in lower case."""

_ENUMS: dict[str, type[Enum]] = {
    e.__name__: e for e in (BinaryOp, UnaryOp, CompareOp, Fn, Phase, Role, Rounding, Type, fx.SumOp)
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RATIONAL = re.compile(r"(-?[0-9]{1,1000})(?:/([0-9]{1,1000}))?")
_BITS = re.compile(r"Q(-?[0-9]{1,2})\.([0-9]{1,2})")
_MOST = (1 << MOST_BITS) - 1


def record(value: Any, table: Table) -> Any:
    """Return an expression, a Let, a Port or a Kernel as JSON content."""
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


class JsonReader:
    """Reader of the content that `record` writes with one table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def read(self, kind: str, value: Any, where: str) -> Any:
        """Return the value of a field from its JSON content.

        `kind` is the annotation of the field, such as "Expr" or "tuple[Let[E, V], ...]".

        Raises:
            ModelError: The content does not fit the annotation.
        """
        if kind.startswith("tuple["):
            item = re.findall(r"\w+", kind)[1]
            if not isinstance(value, list):
                raise _refused(where, value, "a list")
            return tuple(self.read(item, v, f"{where}[{k}]") for k, v in enumerate(value))
        if kind in _ENUMS:
            enum = _ENUMS[kind]
            return enum(require_one_of(where, "the value", value, [e.value for e in enum]))
        match kind:
            case "Expr" | "Slope" | "E":
                return self._node([w for w in self._table if w[0].islower()], value, where)
            case "Var" | "V":
                return self._node(["var"], value, where)
            case "int":
                return require_integer(where, "the value", value, -_MOST, _MOST)
            case "str":
                if not isinstance(value, str) or not value.isprintable():
                    raise _refused(where, value, "printable text")
                return value
            case "Fraction":
                return _rational(value, where)
            case "Bits":
                return _bits(value, where)
            case "Bits | Type":
                return Type.BOOL if value == Type.BOOL.value else _bits(value, where)
            case _:
                return self._fields(self._table[kind], value, where)

    def _node(self, words: list[str], value: Any, where: str) -> Any:
        if not isinstance(value, dict) or "node" not in value:
            raise _refused(where, value, 'an object with the key "node"')
        word = require_one_of(where, "node", value["node"], words)
        return self._fields(self._table[word], value, where, "node")

    def _fields(self, cls: type[Any], value: Any, where: str, *more: str) -> Any:
        own = fields(cls)
        given = keyed(value, (*more, *(f.name for f in own)), where)
        found = {f.name: self.read(str(f.type), given[f.name], f"{where}.{f.name}") for f in own}
        if "name" in found and cls is not real.Const:  # the name of a constant is free text: pi/2
            named(found["name"], f"{where}.name")
        try:
            return cls(**found)
        except ModelError as error:
            raise error.within(where) from None


def keyed(value: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    """Return an object that has exactly these keys."""
    if not isinstance(value, dict):
        raise _refused(where, value, f"an object with the keys {', '.join(keys)}")
    for key in value:
        if key not in keys:
            raise ModelError(where, f"unknown key {key!r}", keys)
    for key in keys:
        if key not in value:
            raise ModelError(where, f"the key {key!r} is missing", remedy="Add the key.")
    return value


def named(value: Any, where: str) -> str:
    """Return an identifier of at most 128 characters."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _refused(where, value, "letters, digits and underscores, no digit first")
    return value


def _rational(value: Any, where: str) -> Fraction:
    found = _RATIONAL.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[2] or 1) == 0:
        raise _refused(where, value, 'a rational number as text, such as "-3/8"')
    return Fraction(int(found[1]), int(found[2] or 1))


def _bits(value: Any, where: str) -> Bits:
    found = _BITS.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 1 <= int(found[1]) + int(found[2]) <= MOST_BITS:
        raise _refused(where, value, f"a format of at most {MOST_BITS} bits, such as Q4.12")
    return Bits(int(found[1]) + int(found[2]), int(found[2]))


def _refused(where: str, value: Any, accepted: str) -> ModelError:
    return ModelError(where, f"the value is {shown(value)}", accepted)


FORMAT, VERSION = "lnm_codegen.fixed", 1


def to_json(program: fx.Program) -> str:
    """Return a program as JSON text, two spaces deep."""
    return json_lines(program_content(program), on_one_line=(dict,)) + "\n"


def program_content(program: fx.Program) -> dict[str, Any]:
    """Return a program as JSON content."""
    spec = program.spec
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": program.name,
        "spec": {
            "default": record(spec.default, FIXED),
            "nodes": {name: record(fixed, FIXED) for name, fixed in spec.nodes},
        },
        "prepare": record(program.prepare, REAL),
        "kernel": record(program.kernel, FIXED),
    }


def from_json(text: str, where: str = "program.json") -> fx.Program:
    """Return the program of a JSON text; messages name the file `where`.

    Raises:
        ModelError: The text is not JSON, has an unknown key or word, or is not well formed.
    """
    try:
        return program_from(parse_json(text, where), where)
    except RecursionError:
        raise ModelError(where, "nested too deep") from None


def program_from(content: Any, where: str) -> fx.Program:
    """Return the program of JSON content; errors as of `from_json`."""
    keys = ("format", "version", "name", "spec", "prepare", "kernel")
    given = keyed(content, keys, where)
    require_one_of(where, "format", given["format"], (FORMAT,))
    require_one_of(where, "version", given["version"], (VERSION,))
    prepare = JsonReader(REAL).read("Kernel", given["prepare"], f"{where}: prepare")
    kernel = JsonReader(FIXED).read("Kernel", given["kernel"], f"{where}: kernel")
    for part, own in (("prepare", prepare), ("kernel", kernel)):
        for fault in faults(own):
            raise ModelError(f"{where}: {part}", fault)
    for name in kernel.input_names(Role.PARAM):
        if name not in prepare.result_names(*Role):
            raise ModelError(where, f"kernel takes {name!r}, which prepare does not give")
    spec = _spec(given["spec"], f"{where}: spec")
    return fx.Program(named(given["name"], f"{where}: name"), spec, prepare, kernel)


def _spec(value: Any, where: str) -> FixedSpec:
    given = keyed(value, ("default", "nodes"), where)
    nodes = given["nodes"]
    if not isinstance(nodes, dict):
        raise ModelError(where, f"nodes is {shown(nodes)}", "an object of formats by name")

    def fixed(content: Any, place: str) -> Any:
        return JsonReader(FIXED).read("Fixed", content, f"{where}.{place}")

    formats = {named(n, f"{where}.nodes"): fixed(f, f"nodes.{n}") for n, f in nodes.items()}
    return FixedSpec(fixed(given["default"], "default"), formats)
