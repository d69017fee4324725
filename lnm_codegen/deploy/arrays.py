"""Neuron arrays of a trained network: a circuit for each neuron layer, tested on real data.

An array holds the neurons of one sample in the order of (C, H, W), channel 0 first. Its input is
the layer's input x after normalisation, rounded to the format of x. Its golden vectors are the
inputs that reached the layer for a few images; each image begins from the initial states. Files: a
folder for each array, with README.md and network.json beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.fixed import MOST_NEURONS, Rtl
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.backend import NeuronCircuit, circuit_of
from lnm_codegen.compiler.emit import fixed_model_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.deploy.mismatch import LayerCounts, QuantizationMismatch
from lnm_codegen.deploy.network import (
    LayerTrace,
    Normalisation,
    float64,
    layer_parameters,
    neuron_layers,
    trace_layers,
)
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.hardware.synth import Device, Measured, measure
from lnm_codegen.hardware.tools import temporary_folder
from lnm_codegen.ir.count import OPERATIONS, count
from lnm_codegen.ir.declarations import finest
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.nn.layer import NeuronLayer

VERSION = 1
MAX_UPDATES, MAX_IMAGES = 1 << 15, 4
"""Maximum of neuron updates and of images in golden vectors; one image is always included."""


@dataclass(frozen=True)
class LayerArray:
    """The circuit of one layer."""

    path: str  # path of the layer in the network
    spec: FixedSpec
    neurons: int  # neurons of one array
    copies: int  # arrays that hold the layer; 1 unless it has more neurons than an array can hold
    channels: int  # channels with their own coefficients; 1 if coefficients are per layer
    time_steps: int  # T, the ticks of an image
    images: int  # images of the golden vectors
    norm: Normalisation | None  # before the layer
    circuit: NeuronCircuit

    @property
    def name(self) -> str:
        """Name of the modules and the folder."""
        return self.circuit.design.name

    @property
    def source(self) -> Source:
        """The files of the circuit."""
        return self.circuit.source

    @property
    def input_format(self) -> Fixed:
        """The format of x."""
        return self.spec[self.circuit.design.inputs[0].name]

    @property
    def initial_states(self) -> dict[str, int]:
        """The integers with which the states begin."""
        return {s.name: s.init for s in self.circuit.design.model.states}

    @property
    def cycles(self) -> int:
        """Cycles of an image, from clear to its last result, without stalls.

        They are: clear and the cycle after it, T - 1 ticks, the inputs of the last tick, and the
        latency of the last input. Several arrays of one layer run at the same time.
        """
        (form,) = self.circuit.forms
        ticks = (self.time_steps - 1) * dict(form.more)["tick_cycles"]
        return 2 + ticks + self.neurons + form.latency


def arrays_of(
    network: nn.Module, specs: Mapping[str, FixedSpec], images: Tensor
) -> list[LayerArray]:
    """Return the circuit of every neuron layer, in the order of the network.

    Golden vectors use the first of the images, (N, C, H, W).

    Raises:
        ModelError: A parameter does not fit its format; the place begins with the layer.
        UnsupportedError: A layer has parameters per neuron, or a neuron has no circuit.
    """
    _, traces = trace_layers(network, images)
    layers = neuron_layers(network)
    found = []
    for name, layer in layers.items():
        try:
            found.append(_array(name, layer, specs[name], traces[name]))
        except ModelError as error:
            raise error.within(name) from None
    return found


def module_name(path: str) -> str:
    """Return the name of a layer's modules and folder: blocks_0_neuron."""
    name = path.replace(".", "_") or "neuron"
    return name if name[0].isalpha() else f"layer_{name}"


def _array(path: str, layer: NeuronLayer, spec: FixedSpec, trace: LayerTrace) -> LayerArray:
    neuron = layer.neuron
    per = finest(p.per for p in neuron.params)
    steps, count = trace.x_seq.shape[0], trace.neurons
    channels = int(trace.x_seq.shape[2]) if per == "channel" else 1
    copies = _copies(path, count, channels)
    neurons = count // copies
    images = min(len(trace.x_seq[0]), MAX_IMAGES, max(1, MAX_UPDATES // (steps * neurons)))
    x = float64(trace.x_seq[:, :images].flatten(2)[..., :neurons])
    model = fixed_model_of(
        neuron,
        spec,
        name=module_name(path),
        values=layer_parameters(layer),
        rtl=Rtl(
            forms=("array",),
            neurons=neurons,
            coefficients="memory" if channels > 1 else "constant",
        ),
        stimulus={neuron.inputs[0].name: np.swapaxes(x, 0, 1)},
    )
    circuit = circuit_of(model)
    return LayerArray(path, spec, neurons, copies, channels, steps, images, trace.norm, circuit)


def _copies(path: str, count: int, channels: int) -> int:
    """Return the smallest number of equally sized arrays that hold all neurons of the layer."""
    if count <= MOST_NEURONS:
        return 1
    if channels > 1:
        raise UnsupportedError(
            f"verilog: {path}",
            f"the layer has {count} neurons with coefficients per channel; it must fit one array",
            f"up to {MOST_NEURONS} neurons",
            "Use per='layer', or smaller images.",
        )
    copies = -(-count // MOST_NEURONS)
    while count % copies:
        copies += 1
    return copies


def sources_of(
    arrays: Sequence[LayerArray], title: str, origin: str, place: Path
) -> dict[Path, Source]:
    """Return the files of a network by folder: `place` and a subfolder for each array.

    `origin` names the network in a sentence: "the run runs/lnm3".
    """
    view = {
        "title": title,
        "origin": origin,
        "time_steps": arrays[0].time_steps,
        "rows": tuple(map(_row, arrays)),
        "layers": tuple((a.path, _lines(a)) for a in arrays),
    }
    network = {
        "network": VERSION,
        "origin": origin,
        "time_steps": arrays[0].time_steps,
        "layers": [_as_dict(a) for a in arrays],
    }
    shared = {
        "README.md": render("verilog/array/network.md.j2", view),
        "network.json": json.dumps(network, indent=2, allow_nan=False) + "\n",
    }
    return {place: Source(shared, "README.md"), **{place / a.name: a.source for a in arrays}}


def _row(a: LayerArray) -> str:
    neurons = f"{a.neurons}" if a.copies == 1 else f"{a.copies} x {a.neurons}"
    cells = (a.path, f"`{a.name}/`", neurons, a.channels, a.input_format, a.cycles)
    return f"| {' | '.join(str(c) for c in cells)} |"


def _lines(a: LayerArray) -> tuple[str, ...]:
    """Return the list items of a layer in the README."""
    lines = [f"* x: {a.input_format}, {a.input_format.bits.limits}."]
    if a.norm is None:
        lines.append("* No batch normalisation precedes the layer, so x is the layer's input.")
    else:
        scale, offset = (f"{v.min():.4g} to {v.max():.4g}" for v in (a.norm.scale, a.norm.offset))
        lines.append(f"* Normalisation `{a.norm.name}`: scale {scale}, offset {offset}.")
    if a.copies > 1:
        lines.append(
            f"* The layer has {a.copies * a.neurons} neurons, more than one array holds. It needs"
            f" {a.copies} arrays of {a.neurons} neurons; the golden vectors are those of the first."
        )
    held = "one row per channel, in a memory" if a.channels > 1 else "constants in the source"
    lines.append(f"* Coefficients: {held}.")
    starts = (
        f"{name} = {float(a.spec[name].bits.value(integer)):g}"
        for name, integer in a.initial_states.items()
    )
    lines.append(f"* Initial states: {', '.join(starts)}.")
    lines.append(f"* Golden vectors: {a.images} images of {a.time_steps} ticks.")
    return tuple(lines)


def _as_dict(a: LayerArray) -> dict[str, Any]:
    low, high = (float(end) for end in a.input_format.bits.interval)
    norm = a.norm and {
        "name": a.norm.name,
        "scale": a.norm.scale.tolist(),
        "offset": a.norm.offset.tolist(),
    }
    return {
        "path": a.path,
        "folder": a.name,
        "neurons": a.neurons,
        "copies": a.copies,
        "channels": a.channels,
        "x": {
            "format": str(a.input_format),
            "width": a.input_format.width,
            "frac": a.input_format.frac,
            "low": low,
            "high": high,
            "rounding": "half_up",
        },
        "normalisation": norm,
        "initial_states": a.initial_states,
        "cycles_per_image": a.cycles,
        "golden_images": a.images,
    }


# Hardware reports of a trained network: resources, work and mismatch of each layer.
#
# They hold no power or energy, because no open tool estimates them.


@dataclass(frozen=True)
class LayerReport:
    """A neuron layer: its circuit, its work and its spikes."""

    array: LayerArray
    state_bits: int  # of one neuron
    coefficient_bits: int  # of all channels
    operations: dict[str, int]  # kind -> number, of one neuron and step
    counts: LayerCounts
    measured: Measured | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of --json."""
        counts, array = self.counts, self.array
        return {
            "neurons": array.neurons * array.copies,
            "arrays": array.copies,
            "x": str(array.input_format),
            "formats": {"default": str(array.spec.default)}
            | {name: str(fixed) for name, fixed in array.spec.nodes},
            "state_bits": self.state_bits,
            "state_memory_bits": self.state_bits * array.neurons * array.copies,
            "coefficient_bits": self.coefficient_bits,
            "operations_per_step": self.operations | {"total": sum(self.operations.values())},
            "multipliers": array.circuit.forms[0].multipliers,
            "cycles_per_image": array.cycles,
            "firing_rate": counts.rate("fired"),
            "firing_rate_fixed": counts.rate("fired_fixed"),
            "mismatch_one_step": counts.share("one_step"),
            "mismatch_free_running": counts.share("free_running"),
            "mismatch_in_network": counts.share("in_network"),
            "saturated_inputs": counts.share("saturated"),
            "counts": asdict(counts),
            "resources": None if self.measured is None else self.measured.as_dict(),
        }


@dataclass(frozen=True)
class NetworkReport:
    """A network: its quantization mismatch, and its layers by path."""

    neuron: str
    mismatch: QuantizationMismatch
    layers: dict[str, LayerReport]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of --json."""
        found = self.mismatch
        return {
            "neuron": self.neuron,
            "images": found.images,
            "accuracy": found.accuracy,
            "accuracy_fixed": found.accuracy_fixed,
            "agreement_one_step": 1.0 - found.one_step_mismatch,
            "agreement_free_running": 1.0 - found.free_running_mismatch,
            "cycles_per_image": max(r.array.cycles for r in self.layers.values()),
            "layers": {path: layer.as_dict() for path, layer in self.layers.items()},
        }


def network_report(
    network: nn.Module,
    mismatch: QuantizationMismatch,
    arrays: Sequence[LayerArray],
    measured: Mapping[str, Measured],
) -> NetworkReport:
    """Return the report of a network; `measured` may lack layers."""
    layers = neuron_layers(network)
    reports = {}
    for array in arrays:
        found = count(lower(layers[array.path].neuron).forward)
        numbers = {word: getattr(found, word) for word in OPERATIONS} | dict(found.functions)
        reports[array.path] = LayerReport(
            array=array,
            state_bits=sum(state.bits.width for state in array.circuit.design.model.states),
            coefficient_bits=sum(
                c.bits.width * len(c.integers) for c in array.circuit.design.model.coefficients
            ),
            operations={word: number for word, number in numbers.items() if number},
            counts=mismatch.layers[array.path],
            measured=measured.get(array.path),
        )
    return NetworkReport(next(iter(layers.values())).neuron.name, mismatch, reports)


def measured_arrays(
    arrays: Sequence[LayerArray], device: Device, seeds: int
) -> dict[str, Measured]:
    """Return the synthesis result of each layer's array, by the layer's path."""
    found = {}
    for array in arrays:
        with temporary_folder() as folder:
            array.source.write(folder)
            circuit = read_circuit(folder, "report")
            found[array.path] = measure(circuit, circuit.forms["array"], device, seeds)
    return found
