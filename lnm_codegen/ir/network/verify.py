"""Validation of a network in integers: sizes, spans, widths, accumulators."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.network.nodes import (
    OVER,
    AddStage,
    AnyStage,
    BranchStage,
    FlattenStage,
    IntegerNetwork,
    Integers,
    NeuronStage,
    PoolStage,
    Shape,
    ValueSpan,
    WeightStage,
    operands,
    size_of,
    sources_of,
    width_of,
)
from lnm_codegen.ir.types import MOST_BITS, Bits
from lnm_codegen.ir.verify import faults
from lnm_codegen.validation import (
    require_bool,
    require_integer,
    require_integers,
    require_one_of,
    wrong,
)

MOST_STEPS, MOST_VALUES = 1 << 16, 1 << 20
"""Largest T, and most values of a time step."""
MULTIPLIER_BITS = 16
MOST_MULTIPLIER = (1 << (MULTIPLIER_BITS - 1)) - 1
SHIFTS = (-31, 62)
MOST_NAME = 64
"""Most characters of a name."""
_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{MOST_NAME - 1}}}")


def require_network(network: IntegerNetwork, where: str = "network") -> IntegerNetwork:
    """Return the network if it is valid.

    Raises:
        ModelError: A size, a span or a width does not fit; the place names the stage.
    """
    name = network.name
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "main":
        accepted = f"up to {MOST_NAME} of a to z, 0 to 9 and _, a letter first, and not main"
        raise wrong(where, "name", name, accepted)
    require_integer(where, "time_steps", network.time_steps, 1, MOST_STEPS)
    require_bool(where, "repeated", network.repeated)
    require_one_of(where, "over", network.over, OVER)
    shape = require_integers(where, "the shape of the input", network.input_shape)
    if len(shape) not in (1, 3):
        raise wrong(where, "the shape of the input", shape, "(F,) or (C, H, W)")
    if not network.stages:
        raise ModelError(where, "no stages", "one or more")
    names = [s.name for s in network.stages if hasattr(s, "name")]
    _require_values(where, "the input", network.input, shape)
    frac = network.input.frac
    require_integer(where, "the number of fraction bits of the input", frac, 0, MOST_BITS)
    shapes, values = [shape], [network.input]
    for k, stage in enumerate(network.stages):
        title = f", {stage.name}" if isinstance(stage, WeightStage | NeuronStage) else ""
        place = f"{where}: stage {k}{title}"
        _require_sources(place, k, stage)
        own = operands(k, stage, shapes), operands(k, stage, values)
        _require_stage(place, stage, *own)
        if isinstance(stage, WeightStage):
            _require_feedback(place, stage, (*network.stages[k + 1 :], None)[0])
        shapes.append(stage.output_shape(*own[0]))
        values.append(stage.output_values(*own[1]))
        _require_values(place, "the output", values[-1], shapes[-1])
    shape = shapes[-1]
    read = {n for k, stage in enumerate(network.stages) for n in sources_of(k, stage)}
    unread = [k for k in range(len(network.stages) - 1) if k not in read]
    if unread or isinstance(network.stages[-1], BranchStage):
        problem = f"no stage reads stage {unread[0]}" if unread else "the last stage is a branch"
        raise ModelError(where, problem, "stages of which the last one has the scores")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError(where, f"two stages have the name {twice!r}", "names that differ")
    if len(shape) != 1:
        raise ModelError(where, f"the scores have shape {shape}", "(classes,)", "Add a flatten.")
    if network.scores.width > MOST_BITS:
        problem = f"a score has {network.scores.width} bits"
        raise ModelError(where, problem, f"at most {MOST_BITS} bits")
    return network


def _require_values(where: str, word: str, values: ValueSpan, shape: Shape) -> None:
    if values.low > values.high or values.width > 32:
        problem = f"{word} is {values.low} to {values.high}"
        raise ModelError(where, problem, "integers of at most 32 bits")
    if min(shape) < 1 or size_of(shape) > MOST_VALUES:
        raise ModelError(where, f"{word} has shape {shape}", f"1 to {MOST_VALUES} values")


def _require_sources(where: str, k: int, stage: AnyStage) -> None:
    """Raise ModelError where a stage reads one that is not well before it."""
    if isinstance(stage, AddStage | BranchStage):
        word = "other" if isinstance(stage, AddStage) else "origin"
        require_integer(where, word, sources_of(k, stage)[-1], -1, k - 2)


def _require_stage(
    where: str, stage: AnyStage, shapes: list[Shape], spans: list[ValueSpan]
) -> None:
    shape, values = shapes[0], spans[0]
    match stage:
        case AddStage():
            _require_addition(where, stage, shapes, spans)
        case BranchStage():
            pass
        case WeightStage():
            _require_weights(where, stage, shape, values)
        case PoolStage(kind, size):
            require_one_of(where, "kind", kind, ("sum", "max"))
            require_integer(where, "size", size)
            _require_axes(where, shape, 3)
        case FlattenStage():
            _require_axes(where, shape, 3)
        case NeuronStage():
            _require_neurons(where, stage, shape, values)


def _require_addition(
    where: str, stage: AddStage, shapes: list[Shape], spans: list[ValueSpan]
) -> None:
    if shapes[0] != shapes[1]:
        problem = f"it adds shapes {shapes[0]} and {shapes[1]}"
        raise ModelError(where, problem, "two equal shapes")
    exact, output = stage.exact(*spans), stage.output
    if max(stage.places(*spans)) > MOST_BITS or width_of(stage.held(*spans)) > MOST_BITS:
        problem = f"a sum of {exact.width} bits"
        raise ModelError(where, problem, f"at most {MOST_BITS} bits")
    if output is not None and not 2 <= output.width <= 32:
        raise ModelError(where, f"output is {output}", "a format of 2 to 32 bits")


def _require_axes(where: str, shape: Shape, axes: int) -> None:
    if len(shape) != axes:
        accepted = "(C, H, W)" if axes == 3 else "(F,)"
        raise ModelError(where, f"its input has shape {shape}", accepted)


def _require_weights(where: str, stage: WeightStage, shape: Shape, values: ValueSpan) -> None:
    require_one_of(where, "kind", stage.kind, ("linear", "conv"))
    axes = 1 if stage.kind == "linear" else 3
    _require_axes(where, shape, axes)
    require_integer(where, "bits", stage.bits, 2, 16)
    require_integer(where, "stride", stage.stride)
    require_integer(where, "padding", stage.padding, 0)
    require_integer(where, "delay", stage.delay, 0, MOST_STEPS)
    weight = stage.weight
    inputs = shape[0] + (weight.shape[0] if stage.delay and weight.ndim else 0)
    if weight.ndim != axes + 1 or weight.shape[1] != inputs or 0 in weight.shape:
        fed = " + outputs" * (stage.delay > 0)
        accepted = f"(outputs, {shape[0]}{fed}{'' if axes == 1 else ', KH, KW'})"
        raise ModelError(where, f"weight has shape {weight.shape}", accepted)
    if axes == 3 and min(stage.output_shape(shape)) < 1:
        problem = f"a kernel of {weight.shape[2]}x{weight.shape[3]} on {shape[1]}x{shape[2]} values"
        raise ModelError(where, problem, "a kernel within the padded input")
    outputs, limit = stage.channels, 1 << (stage.bits - 1)
    _require_array(where, "weight", weight, [weight.shape], -limit, limit - 1)
    _require_array(where, "bias", stage.bias, [(outputs,)], -(1 << 62), 1 << 62)
    per = [(1,), (outputs,)]
    _require_array(where, "multiplier", stage.multiplier, per, 1, MOST_MULTIPLIER)
    _require_array(where, "shift", stage.shift, per, *SHIFTS)
    require_integer(where, "accumulator", stage.accumulator, 2, MOST_BITS)
    bound = stage.bound(values)
    need = width_of((-bound, bound))
    if stage.accumulator < need:
        problem = f"accumulator is {stage.accumulator} bits, and a sum can be {bound}"
        raise ModelError(where, problem, f"{need} bits or more")
    for factor, shift in zip(stage.multipliers, stage.shifts, strict=True):
        if width_of((-bound * factor, bound * factor)) + max(1, -shift) > MOST_BITS:
            problem = f"a sum of {need} bits times {factor}, shifted by {shift}"
            raise ModelError(where, problem, f"at most {MOST_BITS} bits")
    if not 2 <= stage.output.width <= 32:
        raise ModelError(where, f"output is {stage.output}", "a format of 2 to 32 bits")


def _require_feedback(where: str, stage: WeightStage, after: AnyStage | None) -> None:
    """Raise ModelError where a delay has no spikes of neurons after the layer."""
    if not stage.delay:
        return
    accepted = "a linear layer, with neurons after it that emit spikes"
    if stage.kind != "linear":
        raise ModelError(where, f"a layer of kind {stage.kind!r} with a delay", accepted)
    if not isinstance(after, NeuronStage) or isinstance(after.output.type, Bits):
        raise ModelError(where, f"a delay of {stage.delay} without spikes after it", accepted)


def _require_array(
    where: str, word: str, array: Integers, shapes: Sequence[Shape], low: int, high: int
) -> None:
    if not np.issubdtype(array.dtype, np.signedinteger):
        raise ModelError(where, f"{word} is of {array.dtype}", "signed integers")
    if array.shape not in shapes:
        accepted = " or ".join(map(str, dict.fromkeys(shapes)))
        raise ModelError(where, f"{word} has shape {array.shape}", accepted)
    outside = array[(array < low) | (array > high)]
    if outside.size:
        raise ModelError(where, f"{word} holds {outside.flat[0]}", f"{low} to {high}")


def _require_widths(where: str, kernel: fx.Kernel) -> None:
    """Raise ModelError unless inputs, states, coefficients and nodes are as narrow as a `Fixed`."""
    found = [(p.var.name, fx.bits_of(p.var).width) for p in kernel.inputs]
    for let in kernel.body:
        clamps = (e for e in fx.walk(let.value) if isinstance(e, fx.Saturate))
        found += [(let.target.name, e.width) for e in clamps]
    for name, width in found:
        if width > 32:
            raise ModelError(where, f"{name!r} has {width} bits", "at most 32 bits")


def _require_neurons(where: str, stage: NeuronStage, shape: Shape, values: ValueSpan) -> None:
    kernel = stage.program.kernel
    for fault in faults(kernel):
        raise ModelError(where, fault)
    _require_widths(where, kernel)
    inputs, outputs = kernel.input_vars(Role.INPUT), kernel.result_vars(Role.OUTPUT)
    if len(inputs) != 1 or len(outputs) != 1:
        problem = f"a neuron with {len(inputs)} inputs and {len(outputs)} outputs"
        raise ModelError(where, problem, "one of each")
    bits = inputs[0].type
    assert isinstance(bits, Bits), "an input of a kernel is a number"
    if values.frac != bits.frac or not (bits.low <= values.low and values.high <= bits.high):
        problem = f"its input is {values.low} to {values.high} with {values.frac} fraction bits"
        raise ModelError(where, problem, f"integers of {bits}")
    given = (Role.PARAM, "coefficients", stage.coefficients), (Role.STATE, "states", stage.initial)
    for role, word, table in given:
        names = [name for name, _ in table]
        if sorted(names) != sorted(kernel.input_names(role)):
            expected = ", ".join(kernel.input_names(role)) or "none"
            raise ModelError(where, f"{word} are {', '.join(names) or 'none'}", expected)
        for name, integers in table:
            bits, per = kernel.bits(name), [(1,), (shape[0],), (size_of(shape),)]
            _require_array(where, f"{word[:-1]} {name!r}", integers, per, bits.low, bits.high)
