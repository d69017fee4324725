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

import json
import re
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.files import parse_json
from lnm_codegen.ir import verify as real
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed import verify as fixed
from lnm_codegen.ir.fixed.json_objects import FIXED, REAL, JsonReader, keyed, named, record
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import FixedSpec
from lnm_codegen.validation import require_one_of, shown

FORMAT, VERSION = "lnm_codegen.fixed", 1


def to_json(program: fx.Program) -> str:
    """Return a program as JSON text, two spaces deep."""
    spec = program.spec
    content = {
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
    text = json.dumps(content, indent=2)
    # The innermost objects, such as ports, take one line each.
    return re.sub(r"\{[^{}\[\]]*\}", lambda m: re.sub(r"\s*\n\s*", " ", m[0]), text) + "\n"


def from_json(text: str, where: str = "program.json") -> fx.Program:
    """Return the program of a JSON text; messages name the file `where`.

    Raises:
        ModelError: The text is not JSON, has an unknown key or word, or is not well formed.
    """
    try:
        return _program(parse_json(text, where), where)
    except RecursionError:
        raise ModelError(where, "nested too deep") from None


def _program(content: Any, where: str) -> fx.Program:
    keys = ("format", "version", "name", "spec", "prepare", "kernel")
    given = keyed(content, keys, where)
    require_one_of(where, "format", given["format"], (FORMAT,))
    require_one_of(where, "version", given["version"], (VERSION,))
    prepare = JsonReader(REAL).read("Kernel", given["prepare"], f"{where}: prepare")
    kernel = JsonReader(FIXED).read("Kernel", given["kernel"], f"{where}: kernel")
    for part, faults in (("prepare", real.faults(prepare)), ("kernel", fixed.faults(kernel))):
        for fault in faults:
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
