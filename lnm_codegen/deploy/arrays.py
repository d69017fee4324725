"""One neuron array for each neuron layer of a trained network, tested on the network's own data.

An array holds the neurons of one sample in the order of (C, H, W), channel 0 first. What it
receives is x as the layer does, after normalisation, rounded to the format of x; its golden vectors
are what reached the layer for a few images, each from the initial states, T ticks long.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.verilog.rtl import MOST_NEURONS, Rtl
from lnm_codegen.compiler.emit import emit
from lnm_codegen.deploy.network import Normalisation, Seen, neuron_layers, parameters_of, see
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.granularity import finest
from lnm_codegen.ir.types import Fixed
from lnm_codegen.nn import NeuronLayer

UPDATES, MOST_IMAGES = 1 << 15, 4
"""Golden vectors of a layer: so many updates or one image, and no more than so many images."""


@dataclass(frozen=True)
class LayerArray:
    """The circuit of one layer.

    Attributes:
        path: Of the layer in the network.
        name: Of the modules and the folder.
        spec: The formats.
        neurons: How many the array holds.
        copies: How many such arrays hold the layer; 1 unless it has more than an array can hold.
        channels: How many rows of coefficients there are; 1 where they are the layer's.
        time_steps: T, the ticks of an image.
        images: How many the golden vectors are of.
        norm: The batch normalisation before the layer.
        source: The files.
    """

    path: str
    name: str
    spec: FixedSpec
    neurons: int
    copies: int
    channels: int
    time_steps: int
    images: int
    norm: Normalisation | None
    source: Source

    @property
    def manifest(self) -> dict[str, Any]:
        """What manifest.json of the folder holds."""
        found: dict[str, Any] = json.loads(self.source.files["manifest.json"])
        return found

    @property
    def input_format(self) -> Fixed:
        """The format of x."""
        return self.spec[self.manifest["ports"]["inputs"][0]["name"]]

    @property
    def cycles(self) -> int:
        """Cycles of an image, from clear to its last result, where nothing stalls.

        Clear and the cycle after it; T - 1 ticks; the inputs of the last; then the way of the last
        input through the pipeline. A layer in several arrays takes no longer: they run at once.
        """
        form = self.manifest["forms"]["array"]
        ticks = (self.time_steps - 1) * int(form["tick_cycles"])
        return 2 + ticks + self.neurons + int(form["latency"])


def arrays_of(
    network: nn.Module, specs: Mapping[str, FixedSpec], images: Tensor
) -> list[LayerArray]:
    """Return the circuit of every neuron layer, in the order of the network.

    Args:
        network: In eval mode.
        specs: Path of each layer -> its formats.
        images: (N, C, H, W); the golden vectors are of the first.

    Raises:
        ModelError: A parameter that does not fit its format.
        UnsupportedError: Parameters per neuron, a neuron without a circuit.
    """
    _, seen = see(network, images)
    layers = neuron_layers(network)
    return [_array(n, layer, specs[n], seen[n]) for n, layer in layers.items()]


def module_name(path: str) -> str:
    """Return a layer's path as a name of modules and folders: blocks_0_neuron."""
    name = path.replace(".", "_") or "neuron"
    return name if name[0].isalpha() else f"layer_{name}"


def _array(path: str, layer: NeuronLayer, spec: FixedSpec, seen: Seen) -> LayerArray:
    neuron, name = layer.neuron, module_name(path)
    per = finest(p.per for p in neuron.params)
    steps, count = seen.x_seq.shape[0], seen.neurons
    channels = int(seen.x_seq.shape[2]) if per == "channel" else 1
    copies = _copies(path, count, channels)
    neurons = count // copies
    images = min(len(seen.x_seq[0]), MOST_IMAGES, max(1, UPDATES // (steps * neurons)))
    x = seen.x_seq[:, :images].flatten(2)[..., :neurons].double().cpu().numpy()
    source = emit(
        neuron,
        "verilog",
        name=name,
        spec=spec,
        values=parameters_of(layer),
        rtl=Rtl(
            forms=("array",),
            neurons=neurons,
            coefficients="memory" if channels > 1 else "constant",
        ),
        stimulus={neuron.inputs[0].name: np.swapaxes(x, 0, 1)},
    )
    return LayerArray(path, name, spec, neurons, copies, channels, steps, images, seen.norm, source)


def _copies(path: str, count: int, channels: int) -> int:
    """Return how many arrays hold a layer: the fewest of one size that fit."""
    if count <= MOST_NEURONS:
        return 1
    if channels > 1:
        raise UnsupportedError(
            "verilog",
            (
                f"{path} has {count} neurons with coefficients per channel; an array holds "
                f"{MOST_NEURONS}"
            ),
            remedy="Use per='layer', or smaller images.",
        )
    copies = -(-count // MOST_NEURONS)
    while count % copies:
        copies += 1
    return copies
