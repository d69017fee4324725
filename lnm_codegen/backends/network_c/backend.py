"""C99 of a network in integers, bit-exact to the NumPy interpreter, for microcontrollers.

It writes `<name>.h`, `<name>.c`, `<name>_tables.h` (constants), an example `main.c` with
`<name>_vectors.h`, a Makefile for the host and for arm-none-eabi, a README, and `cortex_m4/`, the
start of a program on an emulated Cortex-M4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.integer_c.expr import called
from lnm_codegen.backends.names import require_no_header
from lnm_codegen.backends.network_c.layers import (
    Accumulation,
    StageCode,
    pool_code,
    weight_code,
)
from lnm_codegen.backends.network_c.neurons import neuron_code
from lnm_codegen.backends.network_c.tables import CArray, integer_type, literal, memory
from lnm_codegen.backends.network_c.vectors import vectors_view
from lnm_codegen.backends.render import render_files
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.network.nodes import (
    FlattenStage,
    IntegerNetwork,
    Integers,
    NeuronStage,
    PoolStage,
    ValueSpan,
    WeightStage,
    conversion_text,
    order_text,
    score_text,
    size_of,
)
from lnm_codegen.ir.types import Bits

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
        scores: Their scores (S, classes).
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
            case FlattenStage():
                pass  # the order is the same


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
    constant = network.stages[: network.constant_stages]
    return network.repeated and all(isinstance(stage, FlattenStage) for stage in constant)


def _view(
    network: IntegerNetwork,
    codes: list[tuple[int, StageCode]],
    tables: list[CArray],
    arrays: list[CArray],
) -> dict[str, object]:
    scores, last = network.scores, network.values()[-1]
    step: list[str] = []
    name = "x"
    start = [
        f"start_stage_{k}();"
        for k, stage in enumerate(network.stages)
        if isinstance(stage, NeuronStage) and stage.initial
    ]
    constant = network.constant_stages
    if _keeps_input(network):
        count = size_of(network.input_shape)
        start.append(f"for (int k = 0; k < {count}; ++k) input[k] = x[k];")
        name = "input"
    for k, code in codes:
        (start if k < constant else step).append(f"stage_{k}({name}, {code.output.name});")
        name = code.output.name
    score = {
        "mean": f"scores[k] += {name}[k];",
        "last": f"scores[k] = {name}[k];",
        "max": f"scores[k] = {name}[k] > scores[k] ? {name}[k] : scores[k];",
    }[network.over]
    shape = " x ".join(map(str, network.input_shape))
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
        time_steps=network.time_steps,
        inputs=size_of(network.input_shape),
        shape=shape,
        input_note=_note("An input", network.input),
        input_type=integer_type((network.input.low, network.input.high)),
        score_note=_note("A score", scores),
        score_type=integer_type((scores.low, scores.high)),
        run_note=repeats if network.repeated else "x has all time steps, one after another.",
        repeated=network.repeated,
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
