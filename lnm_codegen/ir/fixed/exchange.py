"""Fixed-point programs as JSON and back, exactly: `program.json` beside a circuit.

    {"format": "lnm_codegen.fixed", "version": 1, "name": ...,
     "spec": {"default": {"width": 16, "frac": 12, "rounding": "half_up"}, "nodes": {...}},
     "prepare": kernel, "kernel": kernel}
    kernel = {"name", "inputs": [port], "body": [let], "results": [port]}
    node   = {"node": "round", "arg": node, "places": 12, "rounding": "half_up"}, ...

Bits are written Q4.12, rationals "-3/8". A file is read by closed tables and then checked as the
compiler's own kernels are: no word in it is ever run.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lnm_codegen.errors import InternalError, ModelError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.records import FIXED, REAL, Reader, integer, keyed, named, one_of, record
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.fixed.verify import faults
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Fixed, Rounding
from lnm_codegen.ir.verify import verify

FORMAT, VERSION = "lnm_codegen.fixed", 1


def to_json(program: fx.Program) -> str:
    """Return a program as JSON text, two spaces deep."""
    spec = program.spec
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": program.name,
        "spec": {
            "default": _written(spec.default),
            "nodes": {name: _written(fixed) for name, fixed in spec.nodes},
        },
        "prepare": record(program.prepare, REAL),
        "kernel": record(program.kernel, FIXED),
    }
    text = json.dumps(content, indent=2)
    # The innermost objects, nodes without a node below and ports of a kernel, on a line each.
    return re.sub(r"\{[^{}\[\]]*\}", lambda m: re.sub(r"\s*\n\s*", " ", m[0]), text) + "\n"


def from_json(text: str, where: str = "program.json") -> fx.Program:
    """Return the program that a JSON text holds.

    Args:
        text: What `to_json` wrote.
        where: The file it comes from, for messages.

    Raises:
        ModelError: It is no JSON, has a key or word that does not belong, or is not well formed.
    """
    try:
        return _program(_loaded(text, where), where)
    except RecursionError:
        raise ModelError(where, "nested too deep") from None


def _loaded(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except _Twice as error:
        raise ModelError(where, f"the key {error.args[0]!r} stands twice in an object") from None
    except json.JSONDecodeError as error:
        raise ModelError(where, f"no JSON: {error}") from None
    except ValueError:
        raise ModelError(where, "a number has too many digits") from None


class _Twice(Exception):
    """A key that an object has twice."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def _program(content: Any, where: str) -> fx.Program:
    keys = ("format", "version", "name", "spec", "prepare", "kernel")
    given = keyed(content, keys, where)
    one_of(given["format"], (FORMAT,), f"{where}: format")
    one_of(given["version"], (VERSION,), f"{where}: version")
    prepare = Reader(REAL).read("Kernel", given["prepare"], f"{where}: prepare")
    kernel = Reader(FIXED).read("Kernel", given["kernel"], f"{where}: kernel")
    try:
        verify(prepare)
    except InternalError as error:
        raise ModelError(f"{where}: prepare: {error.args[0]}") from None
    for fault in faults(kernel):
        raise ModelError(f"{where}: kernel", str(fault))
    made = {p.var.name for p in prepare.results}
    for var in kernel.input_vars(Role.PARAM):
        if var.name not in made:
            raise ModelError(where, f"kernel takes {var.name!r}, which prepare does not give")
    spec = _spec(given["spec"], f"{where}: spec")
    return fx.Program(named(given["name"], f"{where}: name"), spec, prepare, kernel)


def _written(fixed: Fixed) -> dict[str, Any]:
    return {"width": fixed.width, "frac": fixed.frac, "rounding": fixed.rounding.value}


def _spec(value: Any, where: str) -> FixedSpec:
    given = keyed(value, ("default", "nodes"), where)
    nodes = given["nodes"]
    if not isinstance(nodes, dict):
        raise ModelError(f"{where}.nodes", f"{nodes!r} is no object of formats by name")
    return FixedSpec(
        _fixed(given["default"], f"{where}.default"),
        {named(n, f"{where}.nodes"): _fixed(f, f"{where}.nodes.{n}") for n, f in nodes.items()},
    )


def _fixed(value: Any, where: str) -> Fixed:
    given = keyed(value, ("width", "frac", "rounding"), where)
    rounding = one_of(given["rounding"], tuple(r.value for r in Rounding), f"{where}.rounding")
    width, frac = (integer(given[key], f"{where}.{key}") for key in ("width", "frac"))
    try:
        return Fixed(width, frac, rounding)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
