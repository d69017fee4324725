"""The `_seq` form: a schedule as a module."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import declared, width_of
from lnm_codegen.backends.verilog.parts import Design, port, ports, separated
from lnm_codegen.backends.verilog.sequence.adder import adder_lines, multiplier_lines
from lnm_codegen.backends.verilog.sequence.schedule import Sequence
from lnm_codegen.backends.verilog.sequence.text import Counter, block


@dataclass(frozen=True, slots=True)
class _SeqView:
    family: str
    name: str
    head: tuple[str, ...]
    schedule: tuple[str, ...]
    latency: int
    interval: int
    ports: tuple[str, ...]
    localparams: tuple[str, ...]
    several: bool
    step_width: int
    last: str
    lines: tuple[str, ...]
    results: tuple[str, ...]


def seq_module(design: Design, sequence: Sequence) -> str:
    """Return the module of a schedule."""
    counter = Counter(sequence.count)
    lines = _lines(sequence, counter)
    targets = [f"out_{v.name}" for v in (*design.outputs, *design.states)]
    view = _SeqView(
        family=design.model.family,
        name=design.name,
        head=design.head,
        schedule=tuple(sequence.comments),
        latency=sequence.latency,
        interval=sequence.interval,
        ports=separated(_ports(design)),
        localparams=design.localparams((*lines, *sequence.results)),
        several=sequence.count > 1,
        step_width=counter.width,
        last=counter.is_step(sequence.count - 1),
        lines=tuple(f"    {line}" if line else "" for line in lines),
        results=tuple(f"{t} <= {r};" for t, r in zip(targets, sequence.results, strict=True)),
    )
    return render("verilog/sequence/seq.v.j2", view)


def _ports(design: Design) -> tuple[str, ...]:
    return (
        *(port("input ", word, None) for word in ("clk", "rst", "in_valid")),
        port("output", "in_ready", None),
        *ports("input ", design.states, "in_"),
        *ports("input ", design.inputs, "in_"),
        *ports("input ", design.coefficients, "in_"),
        port("output", "out_valid", None, "reg "),
        port("input ", "out_ready", None),
        *(port("output", f"out_{v.name}", width_of(v), "reg ") for v in design.outputs),
        *(port("output", f"out_{v.name}", width_of(v), "reg ") for v in design.states),
    )


def _lines(sequence: Sequence, counter: Counter) -> list[str]:
    """Return registers, logic, the multiplier, the adder, and the clock of the registers."""
    values = sequence.values
    registers = [f"{declared('reg', c.register, c.width)};" for c in values.captures]
    if sequence.sums:
        registers.append(f"{declared('reg', 'acc', sequence.sums.acc_width)};")
    if sequence.loads:
        width = max(load.operand.signal.width for load in sequence.loads)
        registers.append(f"{declared('reg', 'factor', width)};")
    unread = [name for name in values.ports if name not in values.read_ports]
    sinks = [f"wire {values.fresh(f'{name}_unused')} = &{{1'b0, in_{name}}};" for name in unread]
    multiplier = multiplier_lines(sequence, counter) if sequence.steps else []
    adder = adder_lines(sequence, sequence.sums, counter) if sequence.sums else []
    logic = [*sinks, *values.lines]
    return [*block(registers), *block(logic), *multiplier, *adder, *_clock(sequence, counter)]


def _clock(sequence: Sequence, counter: Counter) -> list[str]:
    """Return what the registers take, by cycle."""
    captures = sequence.values.captures
    if not captures:
        return []
    lines = ["", "always @(posedge clk) begin"]
    for cycle in sorted({c.cycle for c in captures}):
        taken = [f"{c.register} <= {c.text};" for c in captures if c.cycle == cycle]
        condition = f"    if ({counter.when(cycle)})"
        if len(taken) == 1:
            lines.append(f"{condition} {taken[0]}")
        else:
            lines += [f"{condition} begin", *(f"        {t}" for t in taken), "    end"]
    return [*lines, "end"]
