"""Verilog-2005 of a feed-forward network in integers, bit-exact to the NumPy interpreter.

It writes rtl/ (events and synapse of each linear layer, readout, top, weights), arrays/ (a folder
for each distinct array of neurons, as `lnm emit` writes it for one neuron), tb/ (golden vectors),
model/ (the same network in C), formal/, and manifest.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.earlier import MANIFEST
from lnm_codegen.backends.network_verilog.arrays import NeuronArray, arrays_of, most_cycles
from lnm_codegen.backends.network_verilog.folder import folder_files, manifest
from lnm_codegen.backends.network_verilog.formal import proofs
from lnm_codegen.backends.network_verilog.layers import LANES, Layer, layers_of
from lnm_codegen.backends.network_verilog.memories import memory_files
from lnm_codegen.backends.network_verilog.synapse import events_module, synapse_module
from lnm_codegen.backends.network_verilog.testbench import testbench_files
from lnm_codegen.backends.network_verilog.top import (
    family_of,
    last_bits,
    readout_module,
    top_module,
)
from lnm_codegen.backends.verilog.design import require_length
from lnm_codegen.files import packed_arrays
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import IntegerNetwork, Integers, NeuronStage

SAMPLES = "tb/samples.npz"


@dataclass(frozen=True, eq=False)
class NetworkCircuit:
    """Generated Verilog of a network.

    Attributes:
        source: The files.
        layers: Its linear layers.
        arrays: Name of a layer of neurons -> its array.
    """

    source: Source
    layers: tuple[Layer, ...]
    arrays: Mapping[str, NeuronArray]

    @property
    def most_cycles(self) -> int:
        """A bound of the cycles of a sample."""
        return most_cycles(self.layers, self.arrays)


def sample_file(samples: Integers) -> dict[str, str | bytes]:
    """Return `tb/samples.npz`: samples as `interpret_network` takes them, for `lnm verify`."""
    kind = np.min_scalar_type(-int(np.abs(samples).max()) - 1)
    return {SAMPLES: packed_arrays({"x": samples.astype(kind)})}


def emit_circuit(
    network: IntegerNetwork, samples: Integers, lanes: int = LANES, loadable: bool = False
) -> NetworkCircuit:
    """Return the circuit of a valid network.

    Args:
        network: The network.
        samples: Samples of the golden vectors, (S, *), or (T, S, *) for a network of sequences.
        lanes: Most weights that a layer adds in one cycle.
        loadable: Weights can be loaded through a port.

    Raises:
        UnsupportedError: A stage or neurons without a circuit; the place is the layer's name. A
            layer's name is too long.
    """
    layers = layers_of(network, lanes, loadable)
    for layer in layers:
        require_length(f"network {network.name}", f"{network.name}_{layer.name}_neurons_array")
    found = interpret_network(network, samples, trace=True)
    arrays = arrays_of(network.name, layers, _inputs(network, found.outputs))
    rows = samples if network.repeated else np.moveaxis(samples, 0, 1)
    files = modules(network, layers, arrays)
    rows = rows.reshape(len(rows), -1)
    files |= testbench_files(network, layers, arrays, rows, found.scores)
    files |= folder_files(network, layers, arrays, rows, found.scores)
    for array in {a.name: a for a in arrays.values()}.values():
        files |= {f"arrays/{array.name}/{p}": text for p, text in array.source.files.items()}
    files[MANIFEST] = manifest(network, layers, arrays, len(rows), files)
    return NetworkCircuit(Source(files, f"rtl/{network.name}_network.v"), tuple(layers), arrays)


def modules(
    network: IntegerNetwork, layers: Sequence[Layer], arrays: Mapping[str, NeuronArray]
) -> dict[str, str]:
    """Return the files of rtl/ and formal/."""
    name, family = network.name, family_of(network)
    files: dict[str, str] = {}
    for layer in layers:
        prefix = f"{name}_{layer.name}"
        files[f"rtl/{prefix}_events.v"] = events_module(layer, family, prefix)
        files[f"rtl/{prefix}_synapse.v"] = synapse_module(layer, family, prefix)
        files |= memory_files(layer, prefix, family)
        files |= proofs(layer, family, prefix)
    files[f"rtl/{name}_readout.v"] = readout_module(network, last_bits(layers, arrays))
    files[f"rtl/{name}_network.v"] = top_module(network, layers, arrays)
    return files


def _inputs(network: IntegerNetwork, outputs: Sequence[Integers]) -> dict[str, Integers]:
    """Return name of a layer of neurons -> its inputs (samples, T, neurons)."""
    found = {}
    for k, stage in enumerate(network.stages):
        if isinstance(stage, NeuronStage):
            x = outputs[k - 1]
            x = np.broadcast_to(x, (network.time_steps, *x.shape[1:]))
            found[stage.name] = np.swapaxes(x, 0, 1)
    return found
