"""Hardware reports of a trained network: resources, work and mismatch of each layer.

They hold no power or energy, because no open tool estimates them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from lnm_codegen.compiler.formats import format_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.deploy.arrays import LayerArray
from lnm_codegen.deploy.mismatch import LayerCounts, QuantizationMismatch
from lnm_codegen.deploy.network import neuron_layers
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.hardware.synth import Device, Measured, measure
from lnm_codegen.hardware.tools import temporary_folder
from lnm_codegen.ir.count import OPERATIONS, count


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
            "multipliers": array.manifest["forms"]["array"]["multipliers"],
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
            state_bits=sum(port["width"] for port in array.manifest["ports"]["states"]),
            coefficient_bits=sum(
                format_of(c["format"]).width * len(c["integers"])
                for c in array.manifest["coefficients"]
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
