"""The multiplier, the adder and the clamp of the `_seq` form as text."""

from __future__ import annotations

from lnm_codegen.backends.verilog.expr import Printer, declared
from lnm_codegen.backends.verilog.sequence.schedule import Load, Operand, Sequence
from lnm_codegen.backends.verilog.sequence.sums import Sums, clamp_lines, least, unread
from lnm_codegen.backends.verilog.sequence.text import Counter, block


def multiplier_lines(sequence: Sequence, counter: Counter) -> list[str]:
    """Return the factors and the multiplier."""
    values, steps = sequence.values, sequence.steps
    factor = max((load.operand.signal.width for load in sequence.loads), default=0)
    a_width, b_width = factor_widths(sequence)
    lines: list[str] = []
    printer = Printer({}, {}, 0, {}, values.taken, lines)
    acc = sequence.sums.acc_width if sequence.sums else 0

    def at(operand: Operand | None, own: str, own_width: int, width: int, stem: str) -> str:
        if operand is not None:
            return operand.at(width, printer, stem)
        more = width - own_width
        return f"{{{{{more}{{{own}[{own_width - 1}]}}}}, {own}}}" if more else own

    a = {k: at(s.a, "acc", acc, a_width, f"step_{k}") for k, s in steps.items()}
    b = {k: at(s.b, "factor", factor, b_width, f"step_{k}") for k, s in steps.items()}
    loads = [(x, x.operand.at(factor, printer, "factor")) for x in sequence.loads]
    sums, width = sequence.sums, a_width + b_width
    partly = sums is None or sums.dropped > 0 or sums.width < width
    return [
        *block(lines),
        *_factor_clock(loads, counter),
        "",
        *counter.chosen("factor_a", a_width, a),
        *counter.chosen("factor_b", b_width, b),
        f"{declared('wire', 'product', width)};",
        f"{sequence.design.name}_mul #(.A_WIDTH({a_width}), .B_WIDTH({b_width}))",
        "    multiplier (.clk(clk), .ce(1'b1), .a(factor_a), .b(factor_b), .p(product));",
        *(["wire product_unused = &{1'b0, product};"] if partly else []),
    ]


def factor_widths(sequence: Sequence) -> tuple[int, int]:
    """Return the widths of the factors of the multiplier."""
    acc = sequence.sums.acc_width if sequence.sums else 0
    factor = max((load.operand.signal.width for load in sequence.loads), default=0)
    steps = sequence.steps.values()
    return (
        max(s.a.signal.width if s.a else acc for s in steps),
        max(s.b.signal.width if s.b else factor for s in steps),
    )


def _factor_clock(loads: list[tuple[Load, str]], counter: Counter) -> list[str]:
    """Return what `factor` takes: constants first, which are then its sets and resets."""
    if not loads:
        return []
    ordered = sorted(loads, key=lambda pair: (not pair[0].constant, -pair[0].cycle))
    lines = ["", "always @(posedge clk)"]
    for k, (load, text) in enumerate(ordered):
        word = "else if" if k else "if"
        lines.append(f"    {word} ({counter.when(load.cycle)}) factor <= {text};")
    return lines


def adder_lines(sequence: Sequence, sums: Sums, counter: Counter) -> list[str]:
    """Return the adder, the clamp and the accumulator."""
    steps = {k: s for k, s in sequence.steps.items() if s.addend is not None}
    width = sums.width - sums.zeros
    negative = [k for k, s in steps.items() if s.subtracted]
    lines, total = [], "wide + addend"
    if len(negative) == len(steps):
        total = "addend - wide"
    elif negative:
        lines.append(f"wire subtracting = {' || '.join(map(counter.is_step, negative))};")
        total = "subtracting ? (addend - wide) : (addend + wide)"
    passed = sums.zeros > sums.dropped
    low = f"product[{sums.zeros - 1}:{sums.dropped}]"
    return [
        "",
        f"{declared('reg', 'sum', sums.width - sums.dropped)};",
        *counter.chosen("addend", width, {k: s.addend or "" for k, s in steps.items()}),
        f"{declared('wire', 'wide', width)} = {_wide(sequence, sums)};",
        *lines,
        f"{declared('wire', 'total', width)} = {total};",
        "always @(posedge clk)",
        f"    if (adding) sum <= {f'{{total, {low}}}' if passed else 'total'};",
        "",
        *_clamp(sequence, sums, counter),
    ]


def _wide(sequence: Sequence, sums: Sums) -> str:
    """Return the product without the bits below every addend, at the width of the sum."""
    width = sum(factor_widths(sequence))
    if width >= sums.width:
        return f"product[{sums.width - 1}:{sums.zeros}]"
    sign = f"{{{sums.width - width}{{product[{width - 1}]}}}}"
    return f"{{{sign}, product[{width - 1}:{sums.zeros}]}}"


def _clamp(sequence: Sequence, sums: Sums, counter: Counter) -> list[str]:
    first = [f"    if (in_ready) acc <= {sequence.first};"] if sequence.first else []
    word = "else if" if first else "if"
    if len(sums.fits) == 1:
        (shape,) = sums.fits
        wires, below, value = clamp_lines(sums, shape, "")
        clamped = [f"    {word} (clamping) acc <= {value};"]
        if below:
            clamped = [
                f"    {word} (clamping) begin",
                f"        if ({below}) acc <= {least(shape.width)};",
                f"        else acc <= {value};",
                "    end",
            ]
        return [*_sunk(sums), *wires, "always @(posedge clk)", *first, *clamped]
    lines: list[str] = []
    texts: dict[int, str] = {}
    for k, shape in enumerate(sums.fits):
        wires, below, value = clamp_lines(sums, shape, f"_{k}")
        text = f"{below} ? {least(shape.width)} : {value}" if below else value
        name, more = f"clamped_{k}", sums.acc_width - shape.width
        lines += [*wires, f"{declared('wire', name, shape.width)} = {text};"]
        sign = f"{name}[{shape.width - 1}]"
        wide = f"{{{{{more}{{{sign}}}}}, {name}}}" if more else name
        texts |= {step: wide for step, s in sequence.steps.items() if s.shape == shape}
    texts = dict(sorted(texts.items()))
    return [
        *_sunk(sums),
        *lines,
        *counter.chosen("clamped", sums.acc_width, texts),
        "always @(posedge clk)",
        *first,
        f"    {word} (clamping) acc <= clamped;",
    ]


def _sunk(sums: Sums) -> list[str]:
    """Return a reader of the bits of the sum that roundings and clamps leave out."""
    bits = unread(sums)
    return [f"wire sum_unused = &{{1'b0, {bits}}};"] if bits else []
