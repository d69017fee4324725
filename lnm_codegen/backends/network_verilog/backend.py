"""Verilog-2005 of a feed-forward network in integers, bit-exact to the NumPy interpreter.

It writes rtl/ (events and synapse of each linear layer, readout, top, weights), arrays/ (a folder
for each distinct array of neurons, as `lnm emit` writes it for one neuron), tb/ (golden vectors),
model/ (the same network in C), formal/, and manifest.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lnm_codegen.backends.base import MANIFEST, Source
from lnm_codegen.backends.network_c import emit_c
from lnm_codegen.backends.network_verilog.layers import (
    LANES,
    Layer,
    events_module,
    layers_of,
    memory_files,
    synapse_module,
)
from lnm_codegen.backends.network_verilog.testbench import proofs, stream_widths, testbench_files
from lnm_codegen.backends.network_verilog.top import (
    NeuronArray,
    arrays_of,
    described,
    family_of,
    last_bits,
    most_cycles,
    readout_module,
    sample_size,
    top_module,
)
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.design import require_length
from lnm_codegen.backends.verilog.folder import VERSION, listed
from lnm_codegen.files import packed_arrays
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import (
    IntegerNetwork,
    Integers,
    NeuronStage,
    conversion_text,
    order_text,
    score_text,
)
from lnm_codegen.options import VERSION as PACKAGE_VERSION

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


# Files beside the modules of a network: manifest, Makefile, README, `.core`, programs, C.


FORM = "network"
"""Name of the only form of the circuit."""


def form_files(
    network: IntegerNetwork, layers: Sequence[Layer], arrays: Mapping[str, NeuronArray]
) -> tuple[str, ...]:
    """Return the modules of the network, the top last."""
    found = [
        f"arrays/{array.name}/{file}"
        for array in {a.name: a for a in arrays.values()}.values()
        for file in array.files
    ]
    for layer in layers:
        found += [f"rtl/{network.name}_{layer.name}_{word}.v" for word in ("events", "synapse")]
    return (*found, f"rtl/{network.name}_readout.v", f"rtl/{network.name}_network.v")


def folder_files(
    network: IntegerNetwork,
    layers: Sequence[Layer],
    arrays: Mapping[str, NeuronArray],
    samples: Integers,
    scores: Integers,
) -> dict[str, str]:
    """Return the files beside modules, testbench and proofs, without the manifest.

    `samples` are (S, values), the time steps of a sample one after another.
    """
    name = network.name
    files = form_files(network, layers, arrays)
    first = slice(0, 4)
    model = emit_c(network, samples[first], np.asarray(scores)[first]).source
    taken, given, _ = stream_widths(network, layers, arrays)
    size = sample_size(network)
    view = {"family": family_of(network), "name": name}
    harness = view | {"size": size, "classes": network.classes, "given": given, "taken": taken}
    return {
        "README.md": render("network_verilog/readme.md.j2", _readme(network, layers, arrays)),
        "Makefile": render(
            "network_verilog/makefile.j2",
            view | {"files": " ".join(files), "samples": len(samples)},
        ),
        f"{name}.core": render(
            "network_verilog/core.j2",
            view
            | {
                "files": files,
                "memories": memory_names(network, layers),
                "vectors": [f"{name}_inputs.hex", f"{name}_results.hex"],
            },
        ),
        f"tb/{name}_verilator.cpp": render("network_verilog/verilator.cpp.j2", harness),
        f"tb/test_{name}.py": render("network_verilog/cocotb.py.j2", view),
        **{f"model/{path}": text for path, text in model.files.items()},
    }


def memory_names(network: IntegerNetwork, layers: Sequence[Layer]) -> list[str]:
    """Return the names of the .hex files of rtl/."""
    name = network.name
    found = [memory_files(layer, f"{name}_{layer.name}", family_of(network)) for layer in layers]
    return [path.removeprefix("rtl/") for files in found for path in files]


def sample_entry(network: IntegerNetwork) -> dict[str, int]:
    """Return the numbers of a sample and of its scores, as in the manifest."""
    return {"inputs": sample_size(network), "scores": network.classes}


def layer_entries(layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Return the layers as in the manifest."""
    return [
        {
            "layer": layer.stage.name,
            "inputs": layer.inputs,
            "outputs": layer.outputs,
            "weight_bits": layer.stage.bits,
            "accumulator_bits": layer.accumulator,
            "bound": layer.bound,
            "lanes": layer.lanes,
            "cycles_per_event": layer.rows,
            "weight_memory_bits": layer.depth * layer.lanes * layer.stage.bits,
        }
        for layer in layers
    ]


def manifest(
    network: IntegerNetwork,
    layers: Sequence[Layer],
    arrays: Mapping[str, NeuronArray],
    vectors: int,
    files: Iterable[str],
) -> str:
    """Return the text of manifest.json; `files` are the other files of the folder."""
    name, most = network.name, most_cycles(layers, arrays)
    widths = stream_widths(network, layers, arrays)
    multipliers = sum(layer.multipliers for layer in layers)
    multipliers += sum(arrays[x.neurons.name].multipliers for x in layers if x.neurons)
    content: dict[str, Any] = {
        "manifest": VERSION,
        "generator": f"lnm_codegen {PACKAGE_VERSION}",
        "license": "0BSD",
        "name": name,
        "kind": FORM,
        "lanes": max(layer.lanes for layer in layers),
        "load_port": layers[0].loadable,
        "sample": sample_entry(network),
        "vectors": vectors,
        "arrays": sorted({array.name for array in arrays.values()}),
        "layers": layer_entries(layers),
        "forms": {
            FORM: {
                "top": f"{name}_{FORM}",
                "files": list(form_files(network, layers, arrays)),
                "testbench": f"tb/{name}_{FORM}_tb.v",
                "latency": most,
                "interval": most,
                "multipliers": multipliers,
            }
        },
        "simulation_files": [],
        "streams": {
            "s_axis_tdata": {"width": widths[0], "values": described(network.input)},
            "m_axis_tdata": {"width": widths[1], "values": described(network.scores)},
            "m_axis_tuser": {"width": widths[2], "values": "class of the largest score so far"},
        },
        "coefficients": [],
        "emitted": listed(files),
    }
    return json.dumps(content, indent=2) + "\n"


def _readme(
    network: IntegerNetwork, layers: Sequence[Layer], arrays: Mapping[str, NeuronArray]
) -> dict[str, object]:
    widths = stream_widths(network, layers, arrays)

    def row(layer: Layer) -> str:
        array = None if layer.neurons is None else arrays[layer.neurons.name].name
        cells = (
            layer.stage.name,
            layer.inputs,
            layer.outputs,
            layer.stage.bits,
            layer.accumulator,
            layer.rows,
            f"`{array}`" if array else "readout",
        )
        return f"| {' | '.join(map(str, cells))} |"

    return {
        "family": family_of(network),
        "name": network.name,
        "steps": network.time_steps,
        "classes": network.classes,
        "size": sample_size(network),
        "repeated": network.repeated,
        "rows": [row(layer) for layer in layers],
        "most": most_cycles(layers, arrays),
        "in_bits": widths[0],
        "out_bits": widths[1],
        "label_bits": widths[2],
        "in_note": described(network.input),
        "out_note": described(network.scores),
        "conversion": conversion_text(network),
        "order": order_text(network),
        "score_meaning": score_text(network),
        "loadable": layers[0].loadable,
    }
