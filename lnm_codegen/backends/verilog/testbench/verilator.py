"""`tb/NAME_verilator.cpp`: a program that compares each form in Verilator with the C model."""

from __future__ import annotations

from lnm_codegen.backends.fixed import Coefficient
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array.stream import StreamField, data_width, stream_fields
from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.folder.manifest import Form
from lnm_codegen.backends.verilog.parts import CircuitDesign
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Bits

WIDEST = 64
"""Most bits of stream data that the program handles as one number."""

_PATIENCE = 16
"""Most cycles for a vector, gaps and stalls included, as a multiple of the interval."""


def verilator_forms(design: CircuitDesign, forms: tuple[Form, ...]) -> tuple[str, ...]:
    """Return the forms that the program drives: an array only where its data is one number."""
    wide = max(map(data_width, stream_fields(design))) > WIDEST
    return tuple(form.name for form in forms if not (form.name == "array" and wide))


def verilator_program(design: CircuitDesign, forms: tuple[Form, ...]) -> str:
    """Return a main program of Verilator that compares a form with the C model's step."""
    words = verilator_forms(design, forms)
    states, inputs, held = design.states, design.inputs, design.coefficients
    moving = (*states, *inputs)
    tables = [c for c in design.model.coefficients if c.name in {v.name for v in held}]
    array_ports = held if design.rtl.coefficients == "port" else ()
    starts = {s.name: s.init for s in design.model.states}
    results = _results(design)
    next_inputs = [f"row.{v.name} = next.{v.name};" for v in inputs]
    view = {
        **design.heading,
        "patience": _PATIENCE * max((form.interval for form in forms), default=1),
        "fields": [f"int32_t {v.name};" for v in (*moving, *held)],
        "draws": [_drawn(v) for v in moving],
        "coefficient_draws": [_drawn(v) for v in held],
        "step": _step(design),
        "advances": [f"row.{s.name} = (int32_t)result.{results[s].name};" for s in states],
        "starts": [f"row.{v.name} = {starts[v.name]};" for v in states],
        **{form: form in words for form in ("comb", "core", "seq", "array")},
        "comb_inputs": [
            *next_inputs,
            *(f"row.{v.name} = next.{v.name};" for v in held),
            *(_driven(v.name, v) for v in inputs),
            *(_driven(f"in_{v.name}", v) for v in held),
        ],
        "comb_same": _same(results, ""),
        "core_inputs": [_driven(name, v) for name, v in design.outer_inputs],
        "core_same": _same(results, "out_"),
        "neurons": design.rtl.neurons,
        "tables": [_table(c) for c in tables],
        "table_reads": [f"row.{c.name} = {c.name}_of[{_channel(design, c)}];" for c in tables],
        "array_coefficients": [_driven(f"in_{v.name}", v, "rows[0]") for v in array_ports],
        "array_takes": next_inputs,
        "array_data": " | ".join(_packed(f) for f in stream_fields(design)[0]) or "0",
        "array_same": " && ".join(
            _equal(f"(data >> {f.low})", f.var, results[f.var]) for f in stream_fields(design)[1]
        ),
    }
    return render("verilog/testbench/verilator.cpp.j2", view)


def _results(design: CircuitDesign) -> dict[fx.Var, fx.Var]:
    """Return output or state -> the result of the model that its port shows."""
    states = zip(design.states, design.next_states, strict=True)
    return {**{v: v for v in design.outputs}, **dict(states)}


def _drawn(var: fx.Var) -> str:
    assert isinstance(var.type, Bits)
    return f"row.{var.name} = drawn({var.type.width}, {var.type.frac});"


def _step(design: CircuitDesign) -> str:
    """Return the call of the model's step, with the coefficients that are constants in it."""
    held = {v.name for v in design.coefficients}
    values = {c.name: c.integers[0] for c in design.model.coefficients}
    arguments = [
        f"row.{v.name}" if v.name in held or v.name not in values else str(values[v.name])
        for v in design.model.program.kernel.input_vars(*Role)
    ]
    return f"{design.name}_model_step({', '.join(arguments)})"


def _driven(port: str, var: fx.Var, row: str = "row") -> str:
    return f"b.dut.{port} = bits({row}.{var.name}, {width_of(var)});"


def _same(results: dict[fx.Var, fx.Var], prefix: str) -> str:
    return " && ".join(
        _equal(f"b.dut.{prefix}{port.name}", port, result) for port, result in results.items()
    )


def _equal(text: str, port: fx.Var, result: fx.Var) -> str:
    width = width_of(port)
    if width is None:
        return f"({text} & 1) == (expected.{result.name} != 0)"
    return f"number({text}, {width}) == expected.{result.name}"


def _packed(field: StreamField) -> str:
    return f"bits(row.{field.var.name}, {field.padded}) << {field.low}"


def _table(c: Coefficient) -> str:
    return f"static const int32_t {c.name}_of[] = {{{', '.join(map(str, c.integers))}}};"


def _channel(design: CircuitDesign, c: Coefficient) -> str:
    members = design.rtl.neurons // design.model.channels
    return f"n / {members}" if len(c.integers) > 1 else "0"
