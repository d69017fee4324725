"""Module of the `_seq` form: a schedule as Verilog."""

from __future__ import annotations

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import declared
from lnm_codegen.backends.verilog.parts import CircuitDesign, indented, port, ports, separated
from lnm_codegen.backends.verilog.sequence.adder import adder_lines, multiplier_lines
from lnm_codegen.backends.verilog.sequence.counter import Counter, block
from lnm_codegen.backends.verilog.sequence.schedule import Sequence


def seq_module(design: CircuitDesign, sequence: Sequence) -> str:
    """Return the module of a schedule."""
    counter = Counter(sequence.count)
    lines = _lines(sequence, counter)
    results = zip(design.outer_results, sequence.results, strict=True)
    view = {
        **design.heading,
        "equations": design.model.equations,
        "schedule": sequence.comments,
        "latency": sequence.latency,
        "interval": sequence.interval,
        "ports": separated(
            (
                *(port("input", word) for word in ("clk", "rst", "in_valid")),
                port("output", "in_ready"),
                *ports("input", design.outer_inputs),
                port("output", "out_valid", kind="reg"),
                port("input", "out_ready"),
                *ports("output", design.outer_results, "reg"),
            )
        ),
        "localparams": design.localparams((*lines, *sequence.results)),
        "several": sequence.count > 1,
        "step_width": counter.width,
        "last": counter.is_step(sequence.count - 1),
        "lines": indented(lines),
        "results": [f"{name} <= {result};" for (name, _), result in results],
    }
    return render("verilog/sequence/seq.v.j2", view)


def _lines(sequence: Sequence, counter: Counter) -> list[str]:
    """Return registers, logic, the multiplier, the adder, and the clock of the registers."""
    values = sequence.values
    registers = [f"{declared('reg', c.register, c.width)};" for c in values.captures]
    if sequence.sums:
        registers.append(f"{declared('reg', '_acc', sequence.acc_width)};")
    if sequence.loads:
        registers.append(f"{declared('reg', '_factor', sequence.factor_width)};")
    unread = [name for name in values.ports if name not in values.read_ports]
    sinks = [
        f"wire {values.names.fresh(f'{name}_unused')} = &{{1'b0, in_{name}}};" for name in unread
    ]
    multiplier = multiplier_lines(sequence, counter) if sequence.steps else []
    adder = adder_lines(sequence, sequence.sums, counter) if sequence.sums else []
    logic = [*sinks, *values.lines]
    return [*block(registers), *block(logic), *multiplier, *adder, *_clock(sequence, counter)]


def _clock(sequence: Sequence, counter: Counter) -> list[str]:
    """Return the assignments to registers, by cycle."""
    captures = sequence.values.captures
    if not captures:
        return []
    lines = ["", "always @(posedge clk) begin"]
    for cycle in sorted({c.cycle for c in captures}):
        assigned = [f"{c.register} <= {c.text};" for c in captures if c.cycle == cycle]
        condition = f"    if ({counter.when(cycle)})"
        if len(assigned) == 1:
            lines.append(f"{condition} {assigned[0]}")
        else:
            lines += [f"{condition} begin", *(f"        {a}" for a in assigned), "    end"]
    return [*lines, "end"]
