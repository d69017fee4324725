"""Multiplier, adder and clamp of the `_seq` form as Verilog lines."""

from __future__ import annotations

from lnm_codegen.backends.verilog.expr import Printer, declared, sign_extended
from lnm_codegen.backends.verilog.sequence.counter import Counter, block
from lnm_codegen.backends.verilog.sequence.schedule import Load, Operand, Sequence
from lnm_codegen.backends.verilog.sequence.sums import Sums, clamp_lines, least, unread


def multiplier_lines(sequence: Sequence, counter: Counter) -> list[str]:
    """Return the factors and the multiplier."""
    values, steps = sequence.values, sequence.steps
    acc, factor = sequence.acc_width, sequence.factor_width
    a_width, b_width = factor_widths(sequence)
    lines: list[str] = []
    printer = Printer({}, {}, 0, {}, values.names, lines)

    def at(operand: Operand | None, own: str, own_width: int, width: int, stem: str) -> str:
        if operand is not None:
            return operand.at(width, printer, stem)
        return sign_extended(own, own_width, width)

    a = {k: at(s.a, "_acc", acc, a_width, f"_step_{k}") for k, s in steps.items()}
    b = {k: at(s.b, "_factor", factor, b_width, f"_step_{k}") for k, s in steps.items()}
    loads = [(x, x.operand.at(factor, printer, "_factor")) for x in sequence.loads]
    sums, width = sequence.sums, a_width + b_width
    is_partly_unused = sums is None or sums.dropped > 0 or sums.width < width
    return [
        *block(lines),
        *_factor_clock(loads, counter),
        "",
        *counter.selected("_factor_a", a_width, a),
        *counter.selected("_factor_b", b_width, b),
        f"{declared('wire', '_product', width)};",
        f"{sequence.design.name}_mul #(.A_WIDTH({a_width}), .B_WIDTH({b_width}))",
        "    _multiplier (.clk(clk), .ce(1'b1), .a(_factor_a), .b(_factor_b), .p(_product));",
        *(["wire _product_unused = &{1'b0, _product};"] if is_partly_unused else []),
    ]


def factor_widths(sequence: Sequence) -> tuple[int, int]:
    """Return the widths of the two inputs of the multiplier."""
    steps = sequence.steps.values()
    return (
        max(s.a.signal.width if s.a else sequence.acc_width for s in steps),
        max(s.b.signal.width if s.b else sequence.factor_width for s in steps),
    )


def _factor_clock(loads: list[tuple[Load, str]], counter: Counter) -> list[str]:
    """Return the assignments to `_factor`; constants first, as synchronous sets and resets."""
    if not loads:
        return []
    ordered = sorted(loads, key=lambda pair: (not pair[0].constant, -pair[0].cycle))
    lines = ["", "always @(posedge clk)"]
    for k, (load, text) in enumerate(ordered):
        word = "else if" if k else "if"
        lines.append(f"    {word} ({counter.when(load.cycle)}) _factor <= {text};")
    return lines


def adder_lines(sequence: Sequence, sums: Sums, counter: Counter) -> list[str]:
    """Return the adder, the clamp and the accumulator."""
    steps = {k: s for k, s in sequence.steps.items() if s.addend is not None}
    width = sums.width - sums.zeros
    negative = [k for k, s in steps.items() if s.subtracted]
    lines, total = [], "_wide + _addend"
    if len(negative) == len(steps):
        total = "_addend - _wide"
    elif negative:
        lines.append(f"wire _subtracting = {' || '.join(map(counter.is_step, negative))};")
        total = "_subtracting ? (_addend - _wide) : (_addend + _wide)"
    passed = sums.zeros > sums.dropped
    low = f"_product[{sums.zeros - 1}:{sums.dropped}]"
    return [
        "",
        f"{declared('reg', '_sum', sums.width - sums.dropped)};",
        *counter.selected("_addend", width, {k: s.addend or "" for k, s in steps.items()}),
        f"{declared('wire', '_wide', width)} = {_wide(sequence, sums)};",
        *lines,
        f"{declared('wire', '_total', width)} = {total};",
        "always @(posedge clk)",
        f"    if (_adding) _sum <= {f'{{_total, {low}}}' if passed else '_total'};",
        "",
        *_clamp(sequence, sums, counter),
    ]


def _wide(sequence: Sequence, sums: Sums) -> str:
    """Return the product at the adder's width, without the low bits that bypass the adder."""
    width = sum(factor_widths(sequence))
    if width >= sums.width:
        return f"_product[{sums.width - 1}:{sums.zeros}]"
    sign = f"{{{sums.width - width}{{_product[{width - 1}]}}}}"
    return f"{{{sign}, _product[{width - 1}:{sums.zeros}]}}"


def _clamp(sequence: Sequence, sums: Sums, counter: Counter) -> list[str]:
    first = [f"    if (in_ready) _acc <= {sequence.first};"] if sequence.first else []
    word = "else if" if first else "if"
    if len(sums.fits) == 1:
        (shape,) = sums.fits
        wires, below, value = clamp_lines(sums, shape, "")
        clamped = [f"    {word} (_clamping) _acc <= {value};"]
        if below:
            clamped = [
                f"    {word} (_clamping) begin",
                f"        if ({below}) _acc <= {least(shape.width)};",
                f"        else _acc <= {value};",
                "    end",
            ]
        return [*_unused_bits(sums), *wires, "always @(posedge clk)", *first, *clamped]
    lines: list[str] = []
    texts: dict[int, str] = {}
    for k, shape in enumerate(sums.fits):
        wires, below, value = clamp_lines(sums, shape, f"_{k}")
        text = f"{below} ? {least(shape.width)} : {value}" if below else value
        name = f"_clamped_{k}"
        lines += [*wires, f"{declared('wire', name, shape.width)} = {text};"]
        wide = sign_extended(name, shape.width, sums.acc_width)
        texts |= {step: wide for step, s in sequence.steps.items() if s.shape == shape}
    texts = dict(sorted(texts.items()))
    return [
        *_unused_bits(sums),
        *lines,
        *counter.selected("_clamped", sums.acc_width, texts),
        "always @(posedge clk)",
        *first,
        f"    {word} (_clamping) _acc <= _clamped;",
    ]


def _unused_bits(sums: Sums) -> list[str]:
    """Return a wire that reads the bits of the sum that no rounding or clamp reads."""
    bits = unread(sums)
    return [f"wire _sum_unused = &{{1'b0, {bits}}};"] if bits else []
