"""`tb/NAME_verilator.cpp`: each form in Verilator against the C model."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.integer_c.model import Coefficient
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array.stream import Field, data_width, fields
from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.folder.manifest import Form
from lnm_codegen.backends.verilog.parts import Design
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits

WIDEST = 64
"""Bits of stream data that the program handles as one number."""

_PATIENCE = 16
"""Cycles for a vector, gaps and stalls among them, in which a result has to come."""


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    patience: int
    fields: tuple[str, ...]
    draws: tuple[str, ...]
    coefficient_draws: tuple[str, ...]
    step: str
    advances: tuple[str, ...]
    starts: tuple[str, ...]
    comb: bool
    core: bool
    seq: bool
    array: bool
    comb_inputs: tuple[str, ...]
    comb_same: str
    core_inputs: tuple[str, ...]
    core_same: str
    neurons: int
    tables: tuple[str, ...]
    table_reads: tuple[str, ...]
    array_coefficients: tuple[str, ...]
    array_takes: tuple[str, ...]
    array_data: str
    array_same: str


def verilator_forms(design: Design, forms: tuple[Form, ...]) -> tuple[str, ...]:
    """Return the forms that the program drives: an array only where its data is one number."""
    taken, given = fields(design.inputs), fields((*design.states, *design.outputs))
    wide = max(data_width(taken), data_width(given)) > WIDEST
    return tuple(form.word for form in forms if not (form.word == "array" and wide))


def verilator_bench(design: Design, forms: tuple[Form, ...]) -> str:
    """Return a main of Verilator that compares with the C model's step."""
    words = verilator_forms(design, forms)
    moving = (*design.states, *design.inputs)
    held = design.coefficients
    array_held = held if design.rtl.coefficients == "port" else ()
    longest = max((form.interval for form in forms), default=1)
    states = zip(design.states, design.next_states, strict=True)
    starts = {s.name: s.init for s in design.model.states}
    view = _View(
        family=design.model.family,
        name=design.name,
        patience=_PATIENCE * longest,
        fields=tuple(f"int32_t {v.name};" for v in (*moving, *held)),
        draws=tuple(f"row.{v.name} = {_drawn(v)};" for v in moving),
        coefficient_draws=tuple(f"row.{v.name} = {_drawn(v)};" for v in held),
        step=_step(design),
        advances=tuple(f"row.{s.name} = (int32_t)result.{after.name};" for s, after in states),
        starts=tuple(f"row.{v.name} = {starts[v.name]};" for v in design.states),
        comb="comb" in words,
        core="core" in words,
        seq="seq" in words,
        array="array" in words,
        comb_inputs=(
            *(f"row.{v.name} = next.{v.name};" for v in (*design.inputs, *held)),
            *(_driven(v.name, v) for v in design.inputs),
            *(_driven(f"in_{v.name}", v) for v in held),
        ),
        comb_same=_same(design, ""),
        core_inputs=tuple(_driven(f"in_{v.name}", v) for v in (*moving, *held)),
        core_same=_same(design, "out_"),
        neurons=design.rtl.neurons,
        tables=tuple(_table(c) for c in _held(design)),
        table_reads=tuple(
            f"row.{c.name} = {c.name}_of[{_channel(design, c)}];" for c in _held(design)
        ),
        array_coefficients=tuple(_driven(f"in_{v.name}", v, "rows[0]") for v in array_held),
        array_takes=tuple(f"row.{v.name} = next.{v.name};" for v in design.inputs),
        array_data=" | ".join(_packed(f) for f in fields(design.inputs)) or "0",
        array_same=_same_data(design),
    )
    return render("verilog/testbench/verilator.cpp.j2", view)


def _drawn(var: fx.Var) -> str:
    assert isinstance(var.type, Bits)
    return f"drawn({var.type.width}, {var.type.frac})"


def _step(design: Design) -> str:
    """Return the call of the model's step; coefficients that are constants stand in it."""
    held = {v.name for v in design.coefficients}
    values = {c.name: c.integers[0] for c in design.model.coefficients}
    taken = [
        f"row.{v.name}" if v.name in held or v.name not in values else str(values[v.name])
        for v in design.model.program.kernel.input_vars(*Role)
    ]
    return f"{design.name}_model_step({', '.join(taken)})"


def _driven(port: str, var: fx.Var, row: str = "row") -> str:
    return f"b.dut.{port} = bits({row}.{var.name}, {width_of(var)});"


def _pairs(design: Design) -> list[tuple[fx.Var, fx.Var]]:
    """Return outputs and states of a port, with the result of the model that each shows."""
    states = zip(design.states, design.next_states, strict=True)
    return [*((v, v) for v in design.outputs), *states]


def _same(design: Design, prefix: str) -> str:
    return " && ".join(
        _equal(f"b.dut.{prefix}{port.name}", port, result) for port, result in _pairs(design)
    )


def _equal(text: str, port: fx.Var, result: fx.Var) -> str:
    width = width_of(port)
    if width is None:
        return f"({text} & 1) == (expected.{result.name} != 0)"
    return f"number({text}, {width}) == expected.{result.name}"


def _same_data(design: Design) -> str:
    results = {port.name: result for port, result in _pairs(design)}
    placed = fields((*design.states, *design.outputs))
    return " && ".join(_equal(f"(data >> {f.low})", f.var, results[f.var.name]) for f in placed)


def _packed(field: Field) -> str:
    return f"bits(row.{field.var.name}, {field.padded}) << {field.low}"


def _held(design: Design) -> tuple[Coefficient, ...]:
    names = {v.name for v in design.coefficients}
    return tuple(c for c in design.model.coefficients if c.name in names)


def _table(c: Coefficient) -> str:
    return f"static const int32_t {c.name}_of[] = {{{', '.join(map(str, c.integers))}}};"


def _channel(design: Design, c: Coefficient) -> str:
    members = design.rtl.neurons // design.model.channels
    return f"n / {members}" if len(c.integers) > 1 else "0"
