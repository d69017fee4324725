"""Neuron arrays of a trained network: a circuit for each neuron layer, tested on real data.

An array holds the neurons of one sample in the order of (C, H, W), channel 0 first. Its input is
the layer's input x after normalisation, rounded to the format of x. Its golden vectors are the
inputs that reached the layer for a few images; each image begins from the initial states.
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
from lnm_codegen.deploy.network import (
    LayerTrace,
    Normalisation,
    layer_parameters,
    neuron_layers,
    trace_layers,
)
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.granularity import finest
from lnm_codegen.ir.types import Fixed
from lnm_codegen.nn import NeuronLayer

UPDATES, MOST_IMAGES = 1 << 15, 4
"""Limits of a layer's golden vectors: neuron updates (or one image), and images."""


@dataclass(frozen=True)
class LayerArray:
    """The circuit of one layer.

    Attributes:
        path: Path of the layer in the network.
        name: Name of the modules and the folder.
        spec: The formats.
        neurons: Neurons of one array.
        copies: Arrays that hold the layer; 1 unless it has more neurons than an array can hold.
        channels: Rows of coefficients; 1 where they are per layer.
        time_steps: T, the ticks of an image.
        images: Images of the golden vectors.
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
        """The content of manifest.json."""
        return dict(json.loads(self.source.files["manifest.json"]))

    @property
    def input_format(self) -> Fixed:
        """The format of x."""
        return self.spec[self.manifest["ports"]["inputs"][0]["name"]]

    @property
    def cycles(self) -> int:
        """Cycles of an image, from clear to its last result, without stalls.

        They are: clear and the cycle after it, T - 1 ticks, the inputs of the last tick, and the
        latency of the last input. Several arrays of one layer run at the same time.
        """
        form = self.manifest["forms"]["array"]
        ticks = (self.time_steps - 1) * int(form["tick_cycles"])
        return 2 + ticks + self.neurons + int(form["latency"])


def arrays_of(
    network: nn.Module, specs: Mapping[str, FixedSpec], images: Tensor
) -> list[LayerArray]:
    """Return the circuit of every neuron layer, in the order of the network.

    Args:
        network: A network in eval mode.
        specs: Path of each layer -> its formats.
        images: (N, C, H, W); the golden vectors use the first ones.

    Raises:
        ModelError: A parameter that does not fit its format.
        UnsupportedError: Parameters per neuron, a neuron without a circuit.
    """
    _, traces = trace_layers(network, images)
    layers = neuron_layers(network)
    return [_array(n, layer, specs[n], traces[n]) for n, layer in layers.items()]


def module_name(path: str) -> str:
    """Return the name of a layer's modules and folder: blocks_0_neuron."""
    name = path.replace(".", "_") or "neuron"
    return name if name[0].isalpha() else f"layer_{name}"


def _array(path: str, layer: NeuronLayer, spec: FixedSpec, trace: LayerTrace) -> LayerArray:
    neuron, name = layer.neuron, module_name(path)
    per = finest(p.per for p in neuron.params)
    steps, count = trace.x_seq.shape[0], trace.neurons
    channels = int(trace.x_seq.shape[2]) if per == "channel" else 1
    copies = _copies(path, count, channels)
    neurons = count // copies
    images = min(len(trace.x_seq[0]), MOST_IMAGES, max(1, UPDATES // (steps * neurons)))
    x = trace.x_seq[:, :images].flatten(2)[..., :neurons].double().cpu().numpy()
    source = emit(
        neuron,
        "verilog",
        name=name,
        spec=spec,
        values=layer_parameters(layer),
        rtl=Rtl(
            forms=("array",),
            neurons=neurons,
            coefficients="memory" if channels > 1 else "constant",
        ),
        stimulus={neuron.inputs[0].name: np.swapaxes(x, 0, 1)},
    )
    return LayerArray(
        path, name, spec, neurons, copies, channels, steps, images, trace.norm, source
    )


def _copies(path: str, count: int, channels: int) -> int:
    """Return the number of arrays: the fewest of one size that hold the layer."""
    if count <= MOST_NEURONS:
        return 1
    if channels > 1:
        raise UnsupportedError(
            f"verilog: {path}",
            f"an array of {count} neurons with coefficients per channel",
            f"up to {MOST_NEURONS} neurons",
            "Use per='layer', or smaller images.",
        )
    copies = -(-count // MOST_NEURONS)
    while count % copies:
        copies += 1
    return copies
