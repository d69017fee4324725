"""Random networks in integers, and samples for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np

import lnm_codegen as lnm
from lnm_codegen.compiler.fixed import neuron_stage
from lnm_codegen.ir.network.interpret import interpret_network, score_rows
from lnm_codegen.ir.network.nodes import (
    OVER,
    SPIKES,
    AddStage,
    AnyStage,
    BranchStage,
    FlattenStage,
    IntegerNetwork,
    NeuronStage,
    PoolStage,
    ValueSpan,
    WeightStage,
    operands,
    values_of_bits,
    width_of,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits

NEURONS = {
    "lif": lambda: lnm.get("lif", tau=3.0),
    "cubic": lambda: lnm.get("lnm", degree=3, v_min=-2.0),
    "coupled": lambda: lnm.get("lnm", states=2, degree=2, v_min=-2.0, v_max=2.0),
    "adlif": lambda: lnm.get("adlif"),
    "ternary": lambda: lnm.get("ternary"),
}
FIRING = ["lif", "cubic", "coupled", "adlif"]
Draw: TypeAlias = Callable[..., IntegerNetwork]
SPECS = (lnm.Fixed(16, 12), lnm.Fixed(12, 8), lnm.Fixed(20, 14, "convergent"), lnm.Fixed(9, 5))


def random_network(
    rng: np.random.Generator, name: str = "net", *, as_circuit: bool = False, alike: bool = False
) -> IntegerNetwork:
    """Return a network of one to three layers of neurons, convolutional or not, some recurrent.

    With `as_circuit` it has a form in Verilog: one initial state a layer, and no repeated sample
    for a recurrent first layer. With `alike` its neurons differ in their coefficients alone.
    """
    same = ()
    if alike:
        same = list(NEURONS)[rng.integers(len(NEURONS))], SPECS[rng.integers(len(SPECS))]
    is_conv = rng.random() < 0.4
    shape: tuple[int, ...] = (2, 5, 6) if is_conv else (int(rng.integers(1, 9)),)
    values = SPIKES if rng.random() < 0.3 else values_of_bits(Bits(int(rng.integers(4, 13)), 3))
    start, stages = (shape, values), []

    def add(stage: AnyStage) -> None:
        nonlocal shape, values
        stages.append(stage)
        shape, values = stage.output_shape(shape), stage.output_values(values)

    def add_neurons() -> None:
        spec = SPECS[rng.integers(len(SPECS))]
        name = list(NEURONS)[rng.integers(len(NEURONS))]
        name, spec = same or (name, spec)
        neuron, has_feedback = NEURONS[name](), len(shape) == 1 and name != "ternary"
        delay = int(rng.integers(1, 4)) if has_feedback and rng.random() < 0.4 else 0
        add(random_weights(rng, f"w{len(stages)}", shape, values, spec.bits, delay=delay))
        if len(shape) == 3 and min(shape[1:]) > 3 and rng.random() < 0.5:
            add(PoolStage("max", 2))
        made = neuron_stage(f"n{len(stages)}", neuron, spec, shape)
        shifted = _shifted(made, shape, rng, is_one_start=as_circuit)
        add(replace(shifted, initial=made.initial) if alike else shifted)

    if is_conv:
        add_neurons()
        add(PoolStage(("sum", "max")[rng.integers(2)], 2))
        if rng.random() < 0.5:
            add_neurons()
        add(FlattenStage())
    if not is_conv or rng.random() < 0.5:
        add_neurons()
    if as_circuit and rng.random() < 0.5:
        add_neurons()
    add(random_weights(rng, "readout", shape, values, Bits(int(rng.integers(8, 33)), 4), 4))
    if (
        not alike and rng.random() < 0.5 and stages[-1].output.width <= 30
    ):  # its products have twice the width
        spec = lnm.Fixed(stages[-1].output.width, 4)
        add(neuron_stage("readout.neuron", lnm.get("li", tau=2.0), spec, shape))
    over = OVER[rng.integers(len(OVER))]
    steps, repeated = int(rng.integers(1, 6)), bool(rng.random() < 0.5)
    repeated = repeated and not (as_circuit and getattr(stages[0], "delay", 0))
    network = IntegerNetwork(name, steps, repeated, *start, tuple(stages), over)
    return require_network(network)


def residual_network(
    rng: np.random.Generator, name: str = "net", *, as_circuit: bool = False, alike: bool = False
) -> IntegerNetwork:
    """Return a network of one to three residual blocks, convolutional or not.

    A block adds spikes behind its neurons, currents before them, or currents that stay currents.
    Its shortcut is the identity, or weights. `alike` is that of `random_network`.
    """
    one = rng.choice(FIRING), SPECS[rng.integers(len(SPECS))]
    is_conv = rng.random() < 0.5
    shape: tuple[int, ...] = (2, 4, 5) if is_conv else (int(rng.integers(2, 7)),)
    channels = int(rng.integers(2, 5))
    values = SPIKES if rng.random() < 0.3 else values_of_bits(Bits(int(rng.integers(4, 13)), 3))
    shapes, spans, stages = [shape], [values], list[AnyStage]()

    def add(stage: AnyStage) -> int:
        k = len(stages)
        shapes.append(stage.output_shape(*operands(k, stage, shapes)))
        spans.append(stage.output_values(*operands(k, stage, spans)))
        stages.append(stage)
        return k

    def weights(output: Bits) -> int:
        label, at = f"w{len(stages)}", (shapes[-1], spans[-1])
        return add(random_weights(rng, label, *at, output, channels, keeps_size=True))

    def spec() -> lnm.Fixed:
        return one[1] if alike else SPECS[rng.integers(len(SPECS))]

    def neurons(form: lnm.Fixed) -> int:
        kind = one[0] if alike else rng.choice(FIRING)
        made = neuron_stage(
            f"n{len(stages)}", NEURONS[kind](), one[1] if alike else form, shapes[-1]
        )
        shifted = _shifted(made, shapes[-1], rng, is_one_start=as_circuit)
        return add(replace(shifted, initial=made.initial) if alike else shifted)

    def shortcut(origin: int, output: Bits) -> int:
        """Return the stage that is added to the last one, which may be behind the last."""
        if shapes[origin + 1] == shapes[-1] and rng.random() < 0.6:
            return origin
        last = len(stages) - 1
        add(BranchStage(origin))
        weights(output)
        return last

    ahead = -1
    if as_circuit or rng.random() < 0.7:
        form = spec()
        ahead = weights(form.bits)
        if rng.random() < 0.7:
            ahead = neurons(form)
    for _ in range(int(rng.integers(1, 4))):
        kind, form, last = rng.choice(["spikes", "before", "currents"]), spec(), spec()
        if kind == "currents" and isinstance(stages[-1] if stages else None, WeightStage):
            neurons(lnm.Fixed(stages[-1].output.width, stages[-1].output.frac))
        weights(form.bits)
        neurons(form)
        weights(last.bits)
        if kind == "spikes":
            neurons(last)
        other = shortcut(ahead, last.bits)
        is_behind = other == len(stages) - 3
        if kind == "spikes" and is_behind:
            neurons(last)
        output = None if kind == "spikes" else spec().bits
        ahead = add(AddStage(other, output))
        if kind != "spikes" and (kind == "before" or rng.random() < 0.5):
            ahead = neurons(lnm.Fixed(output.width, output.frac))
    if len(shapes[-1]) == 3:
        add(PoolStage("sum", 2))
        add(FlattenStage())
    final = Bits(int(rng.integers(8, 33)), 4)
    add(random_weights(rng, "readout", shapes[-1], spans[-1], final, 4))
    over, steps = OVER[rng.integers(len(OVER))], int(rng.integers(1, 6))
    repeated = bool(rng.random() < 0.5) and not as_circuit
    return require_network(
        IntegerNetwork(name, steps, repeated, shape, values, tuple(stages), over)
    )


def random_weights(
    rng: np.random.Generator,
    name: str,
    shape: tuple[int, ...],
    values: ValueSpan,
    output: Bits,
    outputs: int | None = None,
    delay: int = 0,
    *,
    keeps_size: bool = False,
) -> WeightStage:
    """Return a linear layer or a convolution whose sums are of the size of its output."""
    outputs = outputs or int(rng.integers(1, 7))
    kernel = tuple(int(rng.integers(1, min(3, n) + 1)) for n in shape[1:])
    if keeps_size and kernel:
        kernel = (int(rng.choice([1, 3])),) * 2
    bits = int(rng.integers(2, 17))
    limit = 1 << (bits - 1)
    inputs = shape[0] + (outputs if delay else 0)
    weight = rng.integers(-limit, limit, (outputs, inputs, *kernel))
    count = int(np.prod(weight.shape[1:]))
    per = outputs if rng.random() < 0.5 else 1
    factor = rng.integers(1, 1 << 15, per) if rng.random() < 0.3 else np.ones(per, int)
    size = np.log2(limit * max(values.magnitude, 1) * np.sqrt(count)) + np.log2(factor)
    shift = np.round(size - output.width + rng.integers(0, 3, per)).astype(int)
    bias = rng.integers(-count * limit, count * limit + 1, outputs)
    stride = int(rng.integers(1, 3)) if kernel and not keeps_size else 1
    padding = int(rng.integers(0, 2)) if kernel and not keeps_size else 0
    made = WeightStage(
        name=name,
        kind="conv" if kernel else "linear",
        weight=weight,
        bits=bits,
        bias=bias,
        multiplier=factor,
        shift=np.clip(shift, -8, 40),
        accumulator=63,
        output=output,
        stride=stride,
        padding=kernel[0] // 2 if kernel and keeps_size else padding,
        delay=delay,
    )
    bound = made.bound(values)
    object.__setattr__(made, "accumulator", width_of((-bound, bound)))
    return made


def extreme_network(
    rng: np.random.Generator,
    name: str = "net",
    *,
    as_circuit: bool = False,
    drawn: Draw = random_network,
    share: float = 1.0,
) -> IntegerNetwork:
    """Return a random network at its ends, which saturates often.

    Weights and biases of a share of the layers are the smallest or the largest, shifts are smaller,
    some below 0.
    """
    network, stages = drawn(rng, name, as_circuit=as_circuit), []
    for stage, values in zip(network.stages, network.values(), strict=False):
        if isinstance(stage, WeightStage) and (share == 1 or rng.random() < share):
            limit = 1 << (stage.bits - 1)
            most = int(np.prod(stage.weight.shape[1:])) * limit
            stage = replace(
                stage,
                weight=np.where(rng.random(stage.weight.shape) < 0.5, -limit, limit - 1),
                bias=np.where(rng.random(stage.bias.shape) < 0.5, -most, most),
                shift=np.clip(stage.shift - rng.integers(0, 12, stage.shift.shape), -8, 40),
            )
            bound = stage.bound(values)
            stage = replace(stage, accumulator=width_of((-bound, bound)))
        stages.append(stage)
    return require_network(replace(network, stages=tuple(stages)))


def extreme_residual(
    rng: np.random.Generator, name: str = "net", *, as_circuit: bool = False
) -> IntegerNetwork:
    """Return a random residual network, of which one layer in five is at its ends."""
    return extreme_network(rng, name, as_circuit=as_circuit, drawn=residual_network, share=0.2)


DRAWS = (random_network, extreme_network, residual_network, extreme_residual)


def _shifted(
    stage: NeuronStage, shape: tuple[int, ...], rng: np.random.Generator, is_one_start: bool
) -> NeuronStage:
    """Return neurons some of whose coefficients and initial states differ by channel or neuron."""
    counts = (1, shape[0], int(np.prod(shape)))
    starts = (1,) if is_one_start else counts
    kernel = stage.program.kernel
    bits = {p.var.name: p.var.type for p in kernel.inputs}

    def spread(name: str, array: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
        count = sizes[rng.integers(len(sizes))]
        near = array[0] + rng.integers(-9, 10, count) if count > 1 else array[:1]
        return np.clip(near, bits[name].low, bits[name].high)

    return NeuronStage(
        stage.name,
        stage.program,
        tuple((n, spread(n, a, counts)) for n, a in stage.coefficients),
        tuple((n, spread(n, a, starts)) for n, a in stage.initial),
    )


def random_samples(rng: np.random.Generator, network: IntegerNetwork, count: int) -> np.ndarray:
    """Return samples: (N, *), or (T, N, *) for a network of sequences."""
    lead = (count,) if network.repeated else (network.time_steps, count)
    size = (*lead, *network.input_shape)
    samples = rng.integers(network.input.low, network.input.high + 1, size)
    if count > 1:  # one sample without any event
        samples[(1,) if network.repeated else (slice(None), 1)] = 0
    return samples


def lively_seed(
    seed: int, drawn: Draw = random_network, count: int = 4, *, as_circuit: bool = False
) -> int:
    """Return the first seed from `seed` on whose scores need the samples and each layer's weights.

    The scores of half of all random networks are those of a bias alone.
    """
    for k in range(seed, seed + 300):
        rng = np.random.default_rng(k)
        network = drawn(rng, as_circuit=as_circuit)
        samples = random_samples(rng, network, count)

        def scores(network: IntegerNetwork, samples: np.ndarray = samples) -> np.ndarray:
            return score_rows(network, interpret_network(network, samples).scores)

        found = scores(network)
        others = [scores(other) for other in _with_other_weights(network)]
        if (found != found[:1]).any() and all((found != other).any() for other in others):
            return k
    raise AssertionError("every network drawn is silent")


def _with_other_weights(network: IntegerNetwork) -> Iterator[IntegerNetwork]:
    """Yield the network with every bit of the weights of one layer inverted, for each layer."""
    for k, (stage, values) in enumerate(zip(network.stages, network.values(), strict=False)):
        if isinstance(stage, WeightStage):
            other = replace(stage, weight=-1 - stage.weight).fitted(values)
            yield replace(network, stages=(*network.stages[:k], other, *network.stages[k + 1 :]))


def rows(network: IntegerNetwork, samples: np.ndarray) -> np.ndarray:
    """Return samples as the generated C reads them: (N, values), time before features."""
    if network.repeated:
        return samples.reshape(len(samples), -1)
    return np.moveaxis(samples, 0, 1).reshape(samples.shape[1], -1)
