"""Layers of a network as circuits: sizes, widths and cycles of each synapse."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.network.nodes import (
    AnyStage,
    FlattenStage,
    IntegerNetwork,
    NeuronStage,
    PoolStage,
    ValueSpan,
    WeightStage,
    size_of,
    width_of,
)
from lnm_codegen.ir.types import Bits

LANES = 4
"""Weights that a synapse adds in one cycle, by default."""
MOST_LANES = 64
FEWEST_ROWS = 4
"""Least rows of accumulators: a row is written three cycles after it is read."""
DRAIN = 8
"""Cycles from the last event of a time step to its first sum, and from the last sum on."""
ACCEPTED = "linear layers, each before neurons or the readout, and a flatten of the input"


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer, and the neurons that follow it, if any.

    Attributes:
        name: Name of the layer in Verilog.
        stage: Its weights.
        neurons: The next neurons, or None.
        values: Values of its inputs.
        value_bits: Width of an input; a spike has 1 bit without a sign.
        is_spike: Inputs are spikes.
        inputs: Inputs of a time step.
        lanes: Weights that are added in one cycle.
        steps: Time steps of a sample.
        constant: The sums of one time step serve all steps.
        loadable: Weights can be loaded, so that any weight may occur.
        of: Number of layers of the network.
    """

    name: str
    stage: WeightStage
    neurons: NeuronStage | None
    values: ValueSpan
    value_bits: int
    is_spike: bool
    inputs: int
    lanes: int
    steps: int
    constant: bool
    loadable: bool
    of: int

    @property
    def outputs(self) -> int:
        """Number of sums."""
        return self.stage.channels

    @property
    def rows(self) -> int:
        """Cycles of an event: rows of weights and accumulators, at least `FEWEST_ROWS`."""
        return max(-(-self.outputs // self.lanes), FEWEST_ROWS)

    @property
    def depth(self) -> int:
        """Rows of weights in the memory."""
        return self.inputs * self.rows

    @property
    def address_bits(self) -> int:
        """Width of the address of a row of weights."""
        return bits_for(self.depth)

    @property
    def bound(self) -> int:
        """The largest magnitude of an accumulator."""
        if not self.loadable:
            return self.stage.bound(self.values)
        weights = self.inputs << (self.stage.bits - 1)
        return weights * self.values.magnitude + max(abs(int(b)) for b in self.stage.bias)

    @property
    def accumulator(self) -> int:
        """Width of an accumulator."""
        return max(self.stage.accumulator, width_of((-self.bound, self.bound)), self.addend_bits)

    @property
    def addend_bits(self) -> int:
        """Width of a weight, or of its product with an input that is a number."""
        return self.stage.bits + (0 if self.is_spike else self.value_bits)

    @property
    def right(self) -> int:
        """Places of the common right shift, after shifts to the left by `amounts`."""
        return max(0, *(self.stage.shift_of(k) for k in range(self.outputs)))

    @property
    def amounts(self) -> tuple[int, ...]:
        """Shift to the left of each sum before the common right shift."""
        return tuple(self.right - self.stage.shift_of(k) for k in range(self.outputs))

    @property
    def factors(self) -> tuple[int, ...]:
        """Multiplier of each sum."""
        return tuple(self.stage.multiplier_of(k) for k in range(self.outputs))

    @property
    def product_bits(self) -> int:
        """Width of a sum times its multiplier."""
        return self.accumulator + (width_of((0, max(self.factors))) if self.multiplies else 0)

    @property
    def shifted_bits(self) -> int:
        """Width of the largest product after its shift to the left."""
        pairs = zip(self.factors, self.amounts, strict=True)
        need = 0
        for k, (factor, amount) in enumerate(pairs):
            low, high = self.stage.scaled_span(self.values, k)
            if self.loadable:
                low, high = -self.bound * factor, self.bound * factor
            need = max(need, width_of((low, high)) + amount)
        return max(need, self.product_bits, self.right + 1)

    @property
    def multiplies(self) -> bool:
        """Whether a multiplier is not 1."""
        return set(self.factors) != {1}

    @property
    def multipliers(self) -> int:
        """Products in the source."""
        return (0 if self.is_spike else self.lanes) + self.multiplies

    @property
    def most_cycles(self) -> int:
        """Most cycles of a sample without the neurons: every input is an event."""
        taken = 1 if self.constant else self.steps
        return taken * self.depth + self.steps * (self.outputs + 2 * DRAIN)


def layers_of(network: IntegerNetwork, lanes: int = LANES, loadable: bool = False) -> list[Layer]:
    """Return the layers of a feed-forward network of linear layers.

    Raises:
        UnsupportedError: Another stage, or neurons without a linear layer before them.
    """
    shapes, values = network.shapes(), network.values()
    found: list[Layer] = []
    names: set[str] = set()
    before: AnyStage | None = None
    count = sum(isinstance(stage, WeightStage) for stage in network.stages)
    for k, stage in enumerate(network.stages):
        _require_linear(network, k, stage, before)
        after = network.stages[k + 1] if k + 1 < len(network.stages) else None
        if isinstance(stage, WeightStage):
            is_spike = _gives_spikes(network, before)
            constant = k < network.constant_stages
            ends = constant and k + 1 == network.constant_stages
            found.append(
                Layer(
                    name=_fresh(stage.name, names),
                    stage=stage,
                    neurons=after if isinstance(after, NeuronStage) else None,
                    values=values[k],
                    value_bits=1 if is_spike else _value_bits(before, values[k]),
                    is_spike=is_spike,
                    inputs=size_of(shapes[k]),
                    lanes=min(lanes, -(-stage.channels // FEWEST_ROWS)),
                    steps=1 if constant and not ends else network.time_steps,
                    constant=ends,
                    loadable=loadable,
                    of=count,
                )
            )
        before = before if isinstance(stage, FlattenStage) else stage
    return found


def _require_linear(
    network: IntegerNetwork, k: int, stage: AnyStage, before: AnyStage | None
) -> None:
    """Refuse a stage without a circuit."""
    name = getattr(stage, "name", f"stage {k}")
    if isinstance(stage, PoolStage):
        problem = f"a pooling of kind {stage.kind!r} has no circuit"
    elif isinstance(stage, WeightStage) and stage.kind == "conv":
        problem = "a convolution has no circuit"
    elif isinstance(stage, NeuronStage) and not isinstance(before, WeightStage):
        problem = "these neurons have no linear layer before them"
    else:
        return
    raise UnsupportedError(
        f"network {network.name}: {name}", problem, ACCEPTED, "Use --backend c for this network."
    )


def _gives_spikes(network: IntegerNetwork, before: AnyStage | None) -> bool:
    if before is None:
        return network.input.are_spikes
    return isinstance(before, NeuronStage) and not isinstance(before.output.type, Bits)


def _value_bits(before: AnyStage | None, values: ValueSpan) -> int:
    """Return the width of the numbers that reach a layer."""
    if isinstance(before, NeuronStage) and isinstance(before.output.type, Bits):
        return before.output.type.width
    return before.output.width if isinstance(before, WeightStage) else values.width


def _fresh(name: str, taken: set[str]) -> str:
    """Return a name for modules that no other layer has."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII).lower()
    while word in taken:
        word += "_"
    taken.add(word)
    return word


def bits_for(count: int) -> int:
    """Return the width of a number below `count`."""
    return max(1, (count - 1).bit_length())
