"""Sentences about the samples and the scores of a network, for the README files of its folders."""

from __future__ import annotations

from lnm_codegen.ir.network.nodes import (
    FlattenStage,
    IntegerNetwork,
    NeuronStage,
    WeightStage,
    size_of,
)


def order_text(network: IntegerNetwork) -> str:
    """Return the order of the integers of a sample."""
    shape, size = network.input_shape, size_of(network.input_shape)
    if len(shape) == 3:
        _, height, width = shape
        inside = (
            f"A time step has the shape (C, H, W) = ({', '.join(map(str, shape))}); element"
            f" (c, h, w) is its number (c * {height} + h) * {width} + w."
        )
    else:
        inside = f"A time step has {size} elements, element 0 first."
    steps = network.time_steps
    if network.repeated:
        return f"{inside} A sample is one time step; the network repeats it {steps} times."
    return (
        f"{inside} The {steps} time steps follow one another, the first step first:"
        f" element i of step t is number t * {size} + i of a sample."
    )


def score_text(network: IntegerNetwork) -> str:
    """Return the meaning of a score."""
    steps = network.time_steps
    source = _outputs(network)
    over = {
        "mean": f"the sum over the {steps} time steps of {source}; its mean is the sum / {steps}",
        "last": f"{source}, in the last of {steps} time steps",
        "max": f"the maximum over the {steps} time steps of {source}",
    }[network.over]
    label = "the class of the largest score, the lowest class of equal scores"
    return f"The score of class k is {over}. The label is {label}."


def conversion_text(network: IntegerNetwork) -> str:
    """Return the integer of a real input."""
    if network.input.are_spikes:
        return "An input is a spike; other numbers are not accepted."
    return f"The integer of a real input a is {integer_text(network, 'a')}."


def integer_text(network: IntegerNetwork, real: str) -> str:
    """Return the formula of the integer k of a real input with the name `real`."""
    span = network.input
    if span.are_spikes:
        return f"k = {real}"
    return f"k = floor({real} * 2^{span.frac} + 1/2), saturated to {span.low} to {span.high}"


def _outputs(network: IntegerNetwork) -> str:
    """Return the output k of the last stage with a name, in words."""
    stage = next(s for s in reversed(network.stages) if not isinstance(s, FlattenStage))
    match stage:
        case WeightStage():
            return f"output k of the layer `{stage.name}`"
        case NeuronStage():
            what = "spike" if stage.values.are_spikes else f"output `{stage.output.name}`"
            return f"the {what} of neuron k of `{stage.name}`"
        case _:
            return "value k of the last pooling"
