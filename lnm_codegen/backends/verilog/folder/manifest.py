"""`manifest.json`: description of a folder of Verilog, for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lnm_codegen.backends.earlier import MANIFEST
from lnm_codegen.backends.verilog.array.stream import data_width, stream_fields
from lnm_codegen.backends.verilog.core.ecp5 import simulation_files
from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.parts import CircuitDesign
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.types import Bits
from lnm_codegen.options import VERSION as PACKAGE_VERSION

VERSION = 1


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the circuit, with its cycles and multipliers.

    Attributes:
        name: "comb", "core", "seq" or "array".
        modules: Its modules in rtl/, without the prefix; the last one is the top.
        latency: Cycles from an input to its result.
        interval: Cycles from one input to the next.
        multipliers: Multipliers in the source.
        more: Further entries of the manifest, by key.
        vectors: The file of its golden vectors, in tb/.
        count: Number of its golden vectors.
        fields: Name and width of each field of a vector, from the left.
        sequence: Vectors from one set of initial states to the next; 0 for independent vectors, or
            a single run.
    """

    name: str
    modules: tuple[str, ...]
    latency: int
    interval: int
    multipliers: int
    more: tuple[tuple[str, int], ...] = ()
    vectors: str = ""
    count: int = 0
    fields: tuple[tuple[str, int], ...] = ()
    sequence: int = 0


def listed(files: Iterable[str]) -> list[str]:
    """Return the entry that lists the files of a folder, with the manifest."""
    return sorted({*files, MANIFEST})


def relisted(text: str, files: Iterable[str]) -> str:
    """Return the text of a manifest that lists the files of a folder with more files."""
    return json.dumps(json.loads(text) | {"emitted": listed(files)}, indent=2) + "\n"


def manifest(design: CircuitDesign, forms: tuple[Form, ...], files: Iterable[str]) -> str:
    """Return the text of manifest.json; `files` are the other files of the folder."""
    model, spec = design.model, design.model.program.spec
    content: dict[str, Any] = {
        "manifest": VERSION,
        "generator": f"lnm_codegen {PACKAGE_VERSION}",
        "license": "0BSD",
        "name": design.name,
        "family": model.family,
        "equations": list(model.equations),
        "format": str(spec.default),
        "rounding": spec.default.rounding.value,
        "formats": {name: f"{fixed} {fixed.rounding.value}" for name, fixed in spec.nodes},
        "neurons": design.rtl.neurons,
        "coefficients_on": design.rtl.coefficients,
        "multiplier": design.rtl.multiplier,
        "shift_add": design.rtl.shift_add,
        "vectors": design.rtl.vectors,
        "forms": {form.name: _form(design, form) for form in forms},
        "simulation_files": list(simulation_files(design)),
        "ports": {
            "states": [_port(v) for v in design.states],
            "inputs": [_port(v) for v in design.inputs],
            "coefficients": [_port(v) for v in design.coefficients],
            "outputs": [_port(v) for v in design.outputs],
        },
        "coefficients": [
            {
                "name": c.name,
                "format": str(c.bits),
                "integers": list(c.integers),
                "values": [float(c.bits.value(k)) for k in c.integers],
                "rounded_from": list(c.reals),
                **({"formula": c.formula} if c.formula else {}),
            }
            for c in model.coefficients
        ],
        "initial_states": {s.name: s.init for s in model.states},
        "emitted": listed(files),
    }
    return json.dumps(content, indent=2) + "\n"


def _form(design: CircuitDesign, form: Form) -> dict[str, Any]:
    return {
        "top": f"{design.name}_{form.name}",
        "files": [f"rtl/{design.name}_{module}.v" for module in form.modules],
        "testbench": f"tb/{design.name}_{form.name}_tb.v",
        "latency": form.latency,
        "interval": form.interval,
        "multipliers": form.multipliers,
        **dict(form.more),
        "vectors": {
            "file": f"tb/{form.vectors}",
            "count": form.count,
            "fields": [{"name": name, "width": width} for name, width in form.fields],
            **({"sequence": form.sequence} if form.sequence else {}),
        },
        **(_stream(design) if form.name == "array" else {}),
    }


def _stream(design: CircuitDesign) -> dict[str, Any]:
    """Return the layout of the data of the array's streams."""
    return {
        f"{port}_tdata": {
            "width": data_width(fields),
            "fields": [{"name": f.var.name, "low": f.low, "width": f.width} for f in fields],
        }
        for port, fields in zip(("s_axis", "m_axis"), stream_fields(design), strict=True)
    }


def _port(var: fx.Var) -> dict[str, Any]:
    frac = var.type.frac if isinstance(var.type, Bits) else 0
    return {"name": var.name, "width": width_of(var) or 1, "frac": frac}
