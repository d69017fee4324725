"""Neurons whose states, inputs, outputs and parameters have names that generated code uses."""

from __future__ import annotations

from collections.abc import Iterator

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError

WORDS = """
    INLINE
    sum malloc printf free main backward std vector ramp ones Array check repeated print_all
    lane mask column first row chunk place origin left slot channel part inside step every
    section skip width workspace partials groups group group_rows wanted row_inner rows member at
    other slab slabs tile tiles total totals parts total_v x_row x_rows v_now v_steps x_ahead t n i
    k p a c io sums starts spacing kept steps number whole pass place_at block size shape sizes
    columns programs prepared stacked select zip range max tl triton ctx grad like spikes lanes
    result format value index frac count_x x_value kTile kLanes kChunk Rows Chunk Pack CHUNK LANES
    Neuron prepare step_forward step_advance step_backward prepare_backward neuron_exp neuron_tanh
    power_of_two half_up_32 saturate_64 time_steps neurons sample channels inner threads checkpoints
""".split()
"""Variables, functions and constants of the templates, and words made from names of a model."""


def accepted(word: str) -> bool:
    """Report whether the language accepts a name."""
    try:
        lnm.state(word)
    except ModelError:
        return False
    return True


def neuron_named(words: list[str], finest: str = "neuron") -> lnm.Neuron:
    """Return a neuron with seven names: two states, an input, an output, three parameters."""
    v, u, x = lnm.state(words[0]), lnm.state(words[1]), lnm.input(words[2])
    leak = lnm.param(words[4], init=0.5)
    gain = lnm.param(words[5], init=0.75, per="channel")
    weight = lnm.param(words[6], size=2, init=(0.25, -0.5), per=finest)
    return lnm.Neuron(
        charge={v: leak * v + gain * x + weight[0] * u, u: lnm.exp(-leak) * u + weight[1] * x},
        fire=v - 1,
        reset={v: lnm.where(lnm.spike, 0, v)},
        output={words[3]: lnm.spike + u},
        name="mine",
    )


def neurons(rotation: int, finest: str = "neuron") -> Iterator[tuple[list[str], lnm.Neuron]]:
    """Yield neurons that use every word once, in roles that depend on the rotation."""
    words = [word for word in WORDS if accepted(word)]
    words = words[rotation:] + words[:rotation]
    for k in range(0, len(words) - 6, 7):
        yield words[k : k + 7], neuron_named(words[k : k + 7], finest)
