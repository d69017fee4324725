"""C99 of a network in integers, bit-exact to the NumPy interpreter, for microcontrollers.

It writes `<name>.h`, `<name>.c`, `<name>_tables.h` (constants), an example `main.c` with
`<name>_vectors.h`, a Makefile for the host and for arm-none-eabi, a README, and `cortex_m4/`, the
start of a program on an emulated Cortex-M4.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.c.expr import c_meaning
from lnm_codegen.backends.integer_c import FUNCTIONS, CArray, called, literal, step_view
from lnm_codegen.backends.names import require_no_header, variable_name, with_names
from lnm_codegen.backends.render import render, render_files
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import Span
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.network.nodes import (
    AddStage,
    BranchStage,
    FlattenStage,
    IntegerNetwork,
    Integers,
    NeuronStage,
    PoolStage,
    Shape,
    ValueSpan,
    WeightStage,
    conversion_text,
    operands,
    order_text,
    score_text,
    size_of,
    sources_of,
    width_of,
)
from lnm_codegen.ir.types import Bits

# Arrays of the generated C: types of integers, constants, and bytes of memory.


def integer_type(span: Span) -> str:
    """Return the smallest signed type of C that holds every integer of a span."""
    width = width_of(span)
    return f"int{next(size for size in (8, 16, 32, 64) if width <= size)}_t"


def constants(name: str, array: Integers, note: str = "") -> CArray:
    """Return a constant array of the smallest type."""
    kind = integer_type((int(array.min()), int(array.max())))
    text = ", ".join(literal(int(k)) for k in np.asarray(array).reshape(-1))
    return CArray(name, kind, array.size, note, tuple(textwrap.wrap(text, 108)))


def memory(name: str, span: Span, size: int, note: str = "") -> CArray:
    """Return an array of the smallest type that holds every integer of a span."""
    return CArray(name, integer_type(span), size, note)


# Functions of the generated C: one for each stage of a network.


Accumulation = Literal["events", "dense"]
ACCUMULATIONS: tuple[Accumulation, ...] = ("events", "dense")


@dataclass(frozen=True, slots=True)
class StageCode:
    """A stage in C: a function (a, y), of an addition (a, b, y), its constants and its memory.

    Attributes:
        text: The function `stage_<k>`.
        constants: Constant arrays.
        memory: Arrays in memory, without the output.
        output: The output, an array of its own.
        sums: Numbers of 32 and of 64 bits in the shared accumulators.
    """

    text: str
    constants: tuple[CArray, ...]
    memory: tuple[CArray, ...]
    output: CArray
    sums: tuple[int, int] = (0, 0)


def weight_code(
    k: int, stage: WeightStage, shape: Shape, values: ValueSpan, accumulation: Accumulation
) -> StageCode:
    """Return the code of a linear layer or a convolution.

    "events" adds the weights of every input that is not zero: the work is in proportion to the
    spikes. "dense" multiplies every input.
    """
    out, outputs = stage.output_shape(shape), stage.channels
    size = 32 if stage.accumulator <= 32 else 64
    events = accumulation == "events"
    order = (1, 2, 3, 0) if stage.kind == "conv" else (1, 0)
    weight = stage.weight.transpose(order) if events else stage.weight
    tables = [
        constants(f"weight_{k}", weight, f"{stage.bits} bits"),
        constants(f"bias_{k}", stage.bias),
    ]
    lines, more = _requantized(k, stage, values, size)
    tables += more
    note = f"{stage.name}: {_text(shape)} to {_text(out)}, {stage.output}"
    view: dict[str, object] = dict(
        k=k,
        note=note,
        input_type=integer_type((values.low, values.high)),
        output_type=integer_type((stage.output.low, stage.output.high)),
        weight_type=tables[0].type,
        sum_type=f"int{size}_t",
        outputs=outputs,
        lines=lines,
    )
    factor = "" if values.are_spikes else " * value"
    if size == 64:
        factor = factor and " * (int64_t)value"
    view |= {"factor": factor, "sums": f"sums_{size}"} if events else {}
    held: tuple[CArray, ...] = ()
    if stage.kind == "linear":
        feedback, held = _feedback(k, stage, values, size)
        view |= {"inputs": shape[0], "fed": feedback}
    else:
        kernel = stage.weight.shape[2:]
        view |= dict(
            channels=shape[0],
            height=shape[1],
            width=shape[2],
            out_height=out[1],
            out_width=out[2],
            kernel_height=kernel[0],
            kernel_width=kernel[1],
            stride=stage.stride,
            padding=stage.padding,
        )
        if events:
            down = _taps(stage, shape[1], out[1], kernel[0])
            across = _taps(stage, shape[2], out[2], kernel[1])
            names = ("down_first", "down_last", "across_first", "across_last")
            pairs = zip(names, (*down, *across), strict=True)
            tables += [constants(f"{name}_{k}", array) for name, array in pairs]
    text = render(f"network_c/{stage.kind}_{accumulation}.c.j2", view)
    count = size_of(out) if events else 0
    output = memory(f"y_{k}", (stage.output.low, stage.output.high), size_of(out), stage.name)
    sums = (count, 0) if size == 32 else (0, count)
    return StageCode(text, tuple(tables), held, output, sums)


def _feedback(
    k: int, stage: WeightStage, values: ValueSpan, size: int
) -> tuple[dict[str, object] | None, tuple[CArray, ...]]:
    """Return what the code of a recurrent layer needs, and the memory of its spikes."""
    if not stage.delay:
        return None, ()
    count, is_long = stage.fed, stage.delay > 1
    spike = f" * (int{size}_t){literal(1 << values.frac)}" if values.frac else ""
    arrays = [CArray(f"fed_{k}", "int8_t", stage.delay * count, f"spikes before {stage.name}")]
    if is_long:
        arrays.append(CArray(f"place_{k}", "int32_t", 1, f"of the oldest in fed_{k}"))
    place = f"place_{k}[0] + " if is_long else ""
    view: dict[str, object] = dict(
        delay=stage.delay,
        size=stage.delay * count,
        last=(stage.delay - 1) * count,
        place=place,
        row=f"fed_{k} + place_{k}[0]" if is_long else f"fed_{k}",
        events=f"w[o]{spike}",
        dense=f"(int{size}_t)*w++ * fed[i]{spike}",
    )
    return view, tuple(arrays)


def _taps(stage: WeightStage, size: int, out: int, kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last output row that each input row reaches; last < first: none."""
    row = np.arange(size) + stage.padding
    first = np.maximum(-((kernel - 1 - row) // stage.stride), 0)
    return first, np.minimum(row // stage.stride, out - 1)


def _requantized(
    k: int, stage: WeightStage, values: ValueSpan, size: int
) -> tuple[tuple[str, ...], list[CArray]]:
    """Return the lines that turn `sum` of output o into `out`, and their constant arrays."""
    shifts = stage.shifts
    pairs = list(zip(stage.scaled_spans(values), shifts, strict=True))
    low = min(_shifted(span[0], s) for span, s in pairs)
    high = max(_shifted(span[1], s) for span, s in pairs)
    most = max(max(-a, b) + ((1 << s) >> 1 if s > 0 else 0) for (a, b), s in pairs)
    factor = 1 << max(0, -min(shifts))  # printed also where every sum is 0
    wide = 64 if max(most, -low, high, factor) >= 1 << 31 else size
    kind, tables, lines = f"int{wide}_t", [], []
    value = "sum" if wide == size else f"({kind})sum"
    factors = {*stage.multipliers}
    if factors != {1}:
        one = len(factors) == 1
        if not one:
            tables.append(constants(f"multiplier_{k}", stage.multiplier))
        value = f"{value} * {factors.pop() if one else f'multiplier_{k}[o]'}"
    shift = shifts[0]
    if len({*shifts}) == 1:
        if shift > 0:
            value = f"fixed_half_up_{wide}({value}, {shift})"
        elif shift:
            value = f"{value} * (({kind})1 << {-shift})"
    else:
        tables.append(constants(f"shift_{k}", stage.shift))
        lines += [f"const {kind} scaled = {value};", f"const int places = shift_{k}[o];"]
        right = f"fixed_half_up_{wide}(scaled, places)" if max(shifts) > 0 else ""
        left = f"scaled * (({kind})1 << -places)" if min(shifts) <= 0 else ""
        value = f"places > 0 ? {right} : {left}" if right and left else right or left
    if low < stage.output.low or high > stage.output.high:
        value = f"fixed_saturate_{wide}({value}, {stage.output.width})"
    output = integer_type((stage.output.low, stage.output.high))
    return (*lines, f"const {output} out = ({output})({value});"), tables


def _shifted(value: int, shift: int) -> int:
    return value << -shift if shift <= 0 else (value + (1 << (shift - 1))) >> shift


def pool_code(k: int, stage: PoolStage, shape: Shape, values: ValueSpan) -> StageCode:
    """Return the code of a pooling."""
    out, after = stage.output_shape(shape), stage.output_values(values)
    ends = (after.low, after.high)
    view: Mapping[str, object] = dict(
        k=k,
        note=f"{stage.kind} of {stage.size}x{stage.size}: {_text(shape)} to {_text(out)}",
        input_type=integer_type((values.low, values.high)),
        output_type=integer_type(ends),
        channels=out[0],
        height=shape[1],
        width=shape[2],
        out_height=out[1],
        out_width=out[2],
        size=stage.size,
        is_sum=stage.kind == "sum",
        low=values.low,
    )
    text = render("network_c/pool.c.j2", view)
    return StageCode(text, (), (), memory(f"y_{k}", ends, size_of(out), f"{stage.kind} of a pool"))


def add_code(k: int, stage: AddStage, shape: Shape, spans: Sequence[ValueSpan]) -> StageCode:
    """Return the code of an addition of two stages."""
    after, exact = stage.output_values(*spans), stage.exact(*spans)
    places = exact.frac - after.frac
    half = (1 << places) >> 1
    wide = 32 if width_of(stage.held(*spans)) <= 32 else 64
    kind = f"int{wide}_t"

    def addend(name: str, left: int) -> str:
        value = f"({kind}){name}[i]"
        return f"{value} * {literal(1 << left)}" if left else value

    value = "sum"
    if places:
        value = f"fixed_half_up_{wide}({value}, {places})"
    if stage.output is not None:
        rounded = ((exact.low + half) >> places, (exact.high + half) >> places)
        if rounded[0] < after.low or rounded[1] > after.high:
            value = f"fixed_saturate_{wide}({value}, {stage.output.width})"
    own, other = (integer_type((span.low, span.high)) for span in spans)
    left, right = stage.places(*spans)
    bits = (after.low, after.high)
    view: dict[str, object] = dict(
        k=k,
        note=f"sums with stage {stage.other}: {_text(shape)}",
        input_type=own,
        other_type=other,
        output_type=integer_type(bits),
        sum_type=kind,
        count=size_of(shape),
        addends=f"{addend('a', left)} + {addend('b', right)}",
        value=value,
    )
    text = render("network_c/add.c.j2", view)
    return StageCode(text, (), (), memory(f"y_{k}", bits, size_of(shape), "sums of two stages"))


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


# Functions of the generated C for neurons: a step of one neuron, and the neurons of a stage.


_TAKEN = frozenset("int8_t int16_t int32_t int64_t result INT64_C FIXED_POINT_FUNCTION".split())
"""Types, the local variable and macros of every network."""
_FIXED = {f"fixed_{name}" for name in FUNCTIONS}
_TAKEN |= _FIXED | {name.upper() for name in _FIXED}
_MACROS = ("TIME_STEPS", "INPUTS", "CLASSES", "SCORES", "SAMPLES", "H", "TABLES_H", "VECTORS_H")
"""Macros of a network, after its name in capitals."""


@dataclass(frozen=True, slots=True)
class _Held:
    """Numbers of a coefficient or initial numbers of a state, and their name in the network."""

    origin: str
    integers: Integers
    table: str  # name of the constant array, if there are several numbers
    state: str = ""  # name of the array in memory
    type: str = ""  # of its elements

    def number(self, neurons: int) -> str:
        """Return the number of neuron n, in channel c."""
        if len(self.integers) == 1:
            return literal(int(self.integers[0]))
        return f"{self.table}[{'n' if len(self.integers) == neurons else 'c'}]"


def neuron_code(
    network: str, k: int, stage: NeuronStage, shape: Shape, values: ValueSpan
) -> StageCode:
    """Return the code of a stage of neurons in the network of this name.

    A coefficient with one value is a constant of the step, so that the compiler and the bounds of
    its intermediates know it.
    """
    macros = {f"{network.upper()}_{word}" for word in _MACROS}
    whole, names = _legal(stage.program.kernel, _TAKEN | macros | {f"result_{k}"})
    coefficients = {
        names[n]: _Held(n, a, f"coefficient_{k}_{i}") for i, (n, a) in enumerate(stage.coefficients)
    }
    states = {}
    for i, (n, a) in enumerate(stage.initial):
        bits = stage.program.kernel.bits(n)
        type_ = integer_type((bits.low, bits.high))
        states[names[n]] = _Held(n, a, f"start_{k}_{i}", f"state_{k}_{i}", type_)
    known = {names[n]: span for n, span in stage.known.items()}
    kernel = _with_constants(whole, {n: int(h.integers[0]) for n, h in coefficients.items()
                                     if len(h.integers) == 1})  # fmt: skip
    neurons, held = size_of(shape), (*coefficients.values(), *states.values())

    def argument(name: str) -> str:
        if name in states:
            return f"{states[name].state}[n]"
        return coefficients[name].number(neurons) if name in coefficients else "x[n]"

    view = dict(
        k=k,
        note=f"{stage.name}: {stage.program.name}, {neurons} neurons",
        step=_step(k, kernel, known),
        input_type=integer_type((values.low, values.high)),
        output_type=integer_type((stage.values.low, stage.values.high)),
        neurons=neurons,
        channels=shape[0],
        inner=neurons // shape[0],
        per_channel=any(len(h.integers) not in (1, neurons) for h in held),
        arguments=", ".join(argument(v.name) for v in kernel.input_vars(*Role)),
        updates=tuple(f"{h.state}[n] = ({h.type})result.{n}_next;" for n, h in states.items()),
        output=kernel.result_names(Role.OUTPUT)[0],
        starts=tuple(f"{h.state}[n] = {h.number(neurons)};" for h in states.values()),
    )
    tables = tuple(
        constants(h.table, h.integers, f"{h.origin} of {stage.name}")
        for h in held
        if len(h.integers) > 1
    )
    arrays = tuple(
        CArray(h.state, h.type, neurons, f"{h.origin} of {stage.name}") for h in states.values()
    )
    output = memory(f"y_{k}", (stage.values.low, stage.values.high), neurons, stage.name)
    return StageCode(render("network_c/neurons.c.j2", view), tables, arrays, output)


def _with_constants(kernel: fx.Kernel, single: dict[str, int]) -> fx.Kernel:
    """Return the step with numbers in place of the names of inputs."""

    def value(e: fx.Expr) -> fx.Expr:
        if isinstance(e, fx.Var) and e.name in single and isinstance(e.type, Bits):
            return fx.Const(single[e.name], e.type, e.type.value(single[e.name]))
        return fx.map_children(e, value)

    inputs = tuple(p for p in kernel.inputs if p.var.name not in single)
    return replace(kernel.map_values(value), inputs=inputs)


def _legal(kernel: fx.Kernel, taken: Set[str]) -> tuple[fx.Kernel, dict[str, str]]:
    """Return the kernel with names that neither C nor the code takes, and old name -> new name."""
    own = {p.var.name for p in kernel.inputs} | {let.target.name for let in kernel.body}

    def legal(name: str) -> str:
        new = name
        while new in taken or c_meaning(new) or (new != name and new in own):
            new += "_"
        return new

    twin = with_names(kernel, lambda name: variable_name(name, legal))
    return twin, {name: variable_name(name, legal) for name in own}


def _step(k: int, kernel: fx.Kernel, known: dict[str, Span]) -> str:
    """Return the function of one step of one neuron."""
    inputs = kernel.input_vars(*Role)
    formats = tuple(f"{v.name} {v.type}" for v in inputs)
    arguments = ", ".join(f"int32_t {v.name}" for v in inputs)
    view = step_view(kernel, known) | {"k": k, "formats": formats, "arguments": arguments}
    return render("network_c/step.c.j2", view)


# Samples of the example program, with the scores that the NumPy interpreter gives.


def vectors_view(network: IntegerNetwork, samples: Integers, scores: Integers) -> dict[str, object]:
    """Return the view of `<name>_vectors.h`.

    `samples` and `scores` are (S, values), the time steps of a sample one after another.
    """
    return dict(
        name=network.name,
        upper=network.name.upper(),
        samples=len(samples),
        sample_inputs=tuple(map(_lines, samples)),
        sample_scores=tuple(map(_lines, scores)),
    )


def _lines(row: Integers) -> tuple[str, ...]:
    return tuple(textwrap.wrap(", ".join(literal(int(k)) for k in row.reshape(-1)), 104))


TAKEN = frozenset(("all", "run", "qemu", "size", "clean", "cortex_m4", "main", "makefile"))
"""Targets of the Makefile, and files and folders of the example: no names of its executable."""


@dataclass(frozen=True, slots=True)
class NetworkSource:
    """Generated C of a network.

    Attributes:
        source: The files.
        constants: Bytes of weights, biases, shifts and coefficients.
        memory: Bytes of static memory: states, outputs of stages, accumulators, scores.
    """

    source: Source
    constants: int
    memory: int


def emit_c(
    network: IntegerNetwork,
    samples: Integers,
    scores: Integers,
    accumulation: Accumulation = "events",
) -> NetworkSource:
    """Return the C of a valid network.

    Args:
        network: The network.
        samples: Inputs of the example's samples (S, values), of all time steps.
        scores: Their scores (S, values).
        accumulation: "events" adds the weights of inputs that are not zero; "dense" multiplies all.

    Raises:
        UnsupportedError: The name is that of a header of C, or one of `TAKEN`.
    """
    codes = list(_codes(network, accumulation))
    tables = [array for _, code in codes for array in code.constants]
    arrays = _memory(network, [code for _, code in codes])
    name = network.name
    templates = {
        f"{name}.h": "network.h",
        f"{name}.c": "network.c",
        f"{name}_tables.h": "tables.h",
        "main.c": "main.c",
        f"{name}_vectors.h": "vectors.h",
        "Makefile": "Makefile",
        "README.md": "readme.md",
        "cortex_m4/startup.c": "startup.c",
        "cortex_m4/link.ld": "link.ld",
    }
    require_no_header(f"emit: {name}", templates)
    if name in TAKEN:
        problem = "the Makefile or the folder of the example has this name"
        raise UnsupportedError(f"emit: {name}", problem, remedy="Give another name.")
    view = _view(network, codes, tables, arrays) | vectors_view(network, samples, scores)
    files = render_files({p: f"network_c/{t}.j2" for p, t in templates.items()}, view)
    total = sum(array.bytes for array in arrays)
    return NetworkSource(Source(files, f"{name}.c"), sum(t.bytes for t in tables), total)


def _codes(network: IntegerNetwork, accumulation: Accumulation) -> Iterator[tuple[int, StageCode]]:
    """Yield the index and the code of each stage with code."""
    shapes, values = network.shapes(), network.values()
    for k, stage in enumerate(network.stages):
        match stage:
            case WeightStage():
                yield k, weight_code(k, stage, shapes[k], values[k], accumulation)
            case PoolStage():
                yield k, pool_code(k, stage, shapes[k], values[k])
            case NeuronStage():
                yield k, neuron_code(network.name, k, stage, shapes[k], values[k])
            case AddStage():
                yield k, add_code(k, stage, shapes[k], operands(k, stage, values))
            case FlattenStage() | BranchStage():
                pass  # the numbers are those of the stage that it reads


def _memory(network: IntegerNetwork, codes: list[StageCode]) -> list[CArray]:
    """Return the arrays in memory: those of the stages, shared accumulators, scores."""
    arrays = [array for code in codes for array in (*code.memory, code.output)]
    for size, column in ((32, 0), (64, 1)):
        count = max((code.sums[column] for code in codes), default=0)
        if count:
            arrays.append(CArray(f"sums_{size}", f"int{size}_t", count, "accumulators"))
    if _keeps_input(network):
        values = network.input
        note, size = "the repeated input", size_of(network.input_shape)
        arrays.append(memory("input", (values.low, values.high), size, note))
    ends = (network.scores.low, network.scores.high)
    return [*arrays, memory("scores", ends, network.classes)]


def _keeps_input(network: IntegerNetwork) -> bool:
    """Report whether the steps of a repeated sample read the sample itself."""
    arrays = _arrays_read(network)
    steps = range(network.constant_stages, len(network.stages))
    read = {arrays[n] for k in steps for n in sources_of(k, network.stages[k])}
    return network.repeated and -1 in read


def _arrays_read(network: IntegerNetwork) -> dict[int, int]:
    """Return stage -> the stage whose array has its outputs; -1 is the input."""
    found = {-1: -1}
    for k, stage in enumerate(network.stages):
        is_same = isinstance(stage, FlattenStage | BranchStage)
        found[k] = found[sources_of(k, stage)[0]] if is_same else k
    return found


def _view(
    network: IntegerNetwork,
    codes: list[tuple[int, StageCode]],
    tables: list[CArray],
    arrays: list[CArray],
) -> dict[str, object]:
    scores, last = network.scores, network.values()[-1]
    step: list[str] = []
    arrays_read, outputs = _arrays_read(network), {k: code.output.name for k, code in codes}
    outputs[-1] = "input" if _keeps_input(network) else "x"
    start = [
        f"start_stage_{k}();"
        for k, stage in enumerate(network.stages)
        if isinstance(stage, NeuronStage) and stage.initial
    ]
    constant = network.constant_stages
    if _keeps_input(network):
        count = size_of(network.input_shape)
        start.append(f"for (int k = 0; k < {count}; ++k) input[k] = x[k];")
    recurrent = {
        k
        for k, stage in enumerate(network.stages)
        if isinstance(stage, WeightStage) and stage.delay
    }
    start += [f"start_feed_{k}();" for k in sorted(recurrent)]
    for k, _ in codes:
        read = [outputs[arrays_read[n]] for n in sources_of(k, network.stages[k])]
        call = f"stage_{k}({', '.join((*read, outputs[k]))});"
        (start if k < constant else step).append(call)
        if k - 1 in recurrent:
            step.append(f"feed_{k - 1}({outputs[k]});")
    name = outputs[arrays_read[len(network.stages) - 1]]
    score = {
        "mean": f"scores[k] += {name}[k];",
        "last": f"scores[k] = {name}[k];",
        "max": f"scores[k] = {name}[k] > scores[k] ? {name}[k] : scores[k];",
        "step": f"scores[k] = {name}[k];",
    }[network.over]
    shape = " x ".join(map(str, network.input_shape))
    by_step = network.over == "step"
    repeats = "x has the values of one time step, which repeats."
    return dict(
        title=f"{len(network.stages)} stages, {network.time_steps} time steps, {network.classes}"
        " classes, in integers.",
        memory_bytes=sum(array.bytes for array in arrays),
        constant_bytes=sum(table.bytes for table in tables),
        memory=tuple(arrays),
        tables=tuple(tables),
        stages=tuple(code.text for _, code in codes),
        functions=called(code.text for _, code in codes),
        network=network,
        inputs=size_of(network.input_shape),
        shape=shape,
        input_note=_note("An input", network.input),
        input_type=integer_type((network.input.low, network.input.high)),
        score_note=_note("A score", scores),
        score_type=integer_type((scores.low, scores.high)),
        by_step=by_step,
        run_note=repeats if network.repeated else "x has all time steps, one after another.",
        start_lines=tuple(start),
        step_lines=tuple(step),
        start_argument="x" if network.repeated else "",
        step_argument="" if network.repeated else "x",
        conversion=conversion_text(network),
        order=order_text(network),
        score_meaning=score_text(network),
        score_start=literal(last.low) if network.over == "max" else "0",
        score_line=score,
    )


def _note(word: str, values: ValueSpan) -> str:
    if values.are_spikes:
        return f"{word} is 0 or 1."
    bits = Bits(values.width, values.frac)
    return f"{word} k encodes k / 2^{values.frac}, {values.low} to {values.high} ({bits})."
