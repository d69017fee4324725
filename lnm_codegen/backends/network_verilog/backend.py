"""Verilog-2005 of a network in integers, bit-exact to the NumPy interpreter.

It writes rtl/ (events and synapse of each layer, poolings, readout, top, weights), arrays/ (a
folder for each distinct array of neurons, as `lnm emit` writes it for one neuron), tb/ (golden
vectors), model/ (the same network in C), formal/, and manifest.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lnm_codegen.backends.base import MANIFEST, Source
from lnm_codegen.backends.network_c import emit_c
from lnm_codegen.backends.network_verilog.arrays import NeuronArray, arrays_of, shared_array
from lnm_codegen.backends.network_verilog.axi import FORM as AXI
from lnm_codegen.backends.network_verilog.axi import axi_files, axi_view
from lnm_codegen.backends.network_verilog.layers import (
    LANES,
    Layer,
    Part,
    layer_entries,
    most_lanes,
    parts_of,
    sample_entry,
)
from lnm_codegen.backends.network_verilog.load import load_header, load_image, memories_for
from lnm_codegen.backends.network_verilog.modules import (
    add_module,
    events_module,
    feedback_module,
    memory_files,
    pool_module,
    synapse_module,
)
from lnm_codegen.backends.network_verilog.testbench import (
    patience_of,
    proofs,
    testbench_files,
    vector_files,
)
from lnm_codegen.backends.network_verilog.top import (
    MeanCycles,
    NetworkDesign,
    described,
    readout_module,
    top_module,
    turns_module,
)
from lnm_codegen.backends.network_verilog.vendor import vendor_files
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.design import require_length
from lnm_codegen.backends.verilog.folder import VERSION, listed
from lnm_codegen.files import packed_arrays
from lnm_codegen.ir.network.exchange import digest_of
from lnm_codegen.ir.network.interpret import interpret_network, sample_rows, score_rows
from lnm_codegen.ir.network.nodes import (
    IntegerNetwork,
    Integers,
    conversion_text,
    order_text,
    score_text,
)
from lnm_codegen.options import VERSION as PACKAGE_VERSION

SAMPLES = "tb/samples.npz"


@dataclass(frozen=True, eq=False)
class NetworkCircuit(NetworkDesign):
    """A design with its files, the `source`, and the number of its golden samples."""

    source: Source
    vectors: int

    def manifest(self, files: Iterable[str]) -> str:
        """Return the manifest of the folder with these files."""
        return manifest(self, self.vectors, files)


def sample_file(samples: Integers) -> dict[str, str | bytes]:
    """Return `tb/samples.npz`: samples as `interpret_network` takes them, for `lnm verify`."""
    kind = np.min_scalar_type(-int(np.abs(samples).max()) - 1)
    return {SAMPLES: packed_arrays({"x": samples.astype(kind)})}


def emit_circuit(
    network: IntegerNetwork,
    samples: Integers,
    lanes: int = LANES,
    loadable: bool = False,
    has_axi: bool = False,
    mean: MeanCycles | None = None,
    per_cycle: int = 1,
) -> NetworkCircuit:
    """Return the circuit of a valid network.

    Args:
        network: The network.
        samples: Samples of the golden vectors, (S, *), or (T, S, *) for a network of sequences.
        lanes: Most weights that a layer adds in one cycle.
        loadable: Trained numbers can be loaded through a port.
        has_axi: Write a wrapper for a system bus too.
        mean: The measured interval, for manifest and README.
        per_cycle: Most neurons of a layer that are updated in a cycle.

    Raises:
        UnsupportedError: A stage or neurons without a circuit; the place is the layer's name. A
            layer's name is too long.
    """
    parts, name = parts_of(network, lanes, loadable, per_cycle), network.name
    for part in parts:
        require_length(f"network {name}", f"{part.prefix}_neurons_array")
    found, rows = interpret_network(network, samples, trace=True), sample_rows(network, samples)
    arrays, shared = _arrays(
        network, parts, _inputs(network, parts, found.outputs), loadable, lanes
    )
    design = NetworkDesign(network, parts, arrays, shared, has_axi, per_cycle, mean)
    files: dict[str, str] = {}
    for pool in design.pools:
        files |= {f"rtl/{pool.prefix}.v": pool_module(pool)} | proofs(pool)
    for addition in design.additions:
        files |= {f"rtl/{addition.prefix}.v": add_module(addition)} | proofs(addition)
    for layer in design.layers:
        if layer.slice.is_first:
            files[f"rtl/{layer.events}.v"] = events_module(layer)
        files[f"rtl/{layer.prefix}_synapse.v"] = synapse_module(layer)
        if layer.stage.delay:
            files[f"rtl/{layer.prefix}_feedback.v"] = feedback_module(layer)
        files |= memory_files(layer) | proofs(layer)
    if design.takes_turns:
        files[f"rtl/{name}_turns.v"] = turns_module(design)
    files[f"rtl/{name}_readout.v"] = readout_module(design)
    files[f"rtl/{name}_network.v"] = top_module(design)
    scores = score_rows(network, found.scores)
    if has_axi:
        files |= axi_files(design, len(rows), patience_of(design))
    files |= testbench_files(design, rows, scores) | folder_files(design, rows, scores)
    files |= vendor_files(design, forms_of(design))
    for array in design.distinct_arrays:
        files |= {f"arrays/{array.name}/{p}": text for p, text in array.source.files.items()}
    files[MANIFEST] = manifest(design, len(rows), files)
    source = Source(files, f"rtl/{name}_network.v")
    return NetworkCircuit(
        network, parts, arrays, shared, has_axi, per_cycle, mean, source, len(rows)
    )


def design_of(network: IntegerNetwork, lanes: int, loadable: bool, per_cycle: int) -> NetworkDesign:
    """Return the design of a circuit, whose arrays have no golden vectors of samples."""
    lead = () if network.repeated else (network.time_steps,)
    value = min(max(0, network.input.low), network.input.high)
    outputs = interpret_network(
        network, np.full((*lead, 1, *network.input_shape), value), trace=True
    ).outputs
    parts = parts_of(network, lanes, loadable, per_cycle)
    arrays, shared = _arrays(network, parts, _inputs(network, parts, outputs), loadable, lanes)
    return NetworkDesign(network, parts, arrays, shared, False, per_cycle, None)


def _arrays(
    network: IntegerNetwork,
    parts: Sequence[Part],
    inputs: dict[str, Integers],
    loadable: bool,
    lanes: int,
) -> tuple[Mapping[str, NeuronArray], bool]:
    """Return name of a layer of neurons -> its array, and whether all layers take turns on one.

    They do so in the smallest circuit, of one lane, where their neurons are equal.
    """
    is_small = lanes == 1 and not loadable and all(part.slice.count == 1 for part in parts)
    one = shared_array(network.name, parts, inputs) if is_small else None
    if one is None:
        return arrays_of(parts, inputs, loadable, lanes), False
    return {part.neurons.name: one for part in parts if part.neurons is not None}, True


@dataclass(frozen=True, eq=False)
class LoadImage:
    """Other numbers for a circuit: the `source` of its image, with vectors, and its writes."""

    design: NetworkDesign
    source: Source
    writes: int


def emit_image(design: NetworkDesign, network: IntegerNetwork, samples: Integers) -> LoadImage:
    """Return the image that loads a network into a circuit, with golden vectors of samples.

    Raises:
        ModelError: The numbers do not fit the circuit.
    """
    memories, name = memories_for(design, network), design.name
    scores = score_rows(network, interpret_network(network, samples).scores)
    writes = sum(len(memory.rows) for memory in memories)
    view = {
        "family": name,
        "name": name,
        "writes": writes,
        "memories": [str(loaded) for loaded in design.memories],
        "widths": ", ".join(f"{word} {bits}" for word, bits in design.load_widths.items()),
    }
    files = {
        "README.md": render("network_verilog/load_readme.md.j2", view),
        f"{name}_load.hex": load_image(design, memories),
        f"{name}_load.h": load_header(design, memories),
        **vector_files(design, sample_rows(network, samples), scores),
    }
    return LoadImage(design, Source(files, f"{name}_load.hex"), writes)


def _inputs(
    network: IntegerNetwork, parts: Sequence[Part], outputs: Sequence[Integers]
) -> dict[str, Integers]:
    """Return name of a layer of neurons -> its inputs (samples, T, neurons)."""
    found, steps = {}, network.time_steps
    for part in parts:
        if part.neurons is not None:
            x = outputs[part.index]
            x = np.broadcast_to(x, (steps, *x.shape[1:])).reshape(steps, x.shape[1], -1)
            own = part.slice.of(x.T).T
            found[part.neurons.name] = np.swapaxes(own, 0, 1)
    return found


# Files beside the modules of a network: manifest, Makefile, README, `.core`, programs, C.


FORM = "network"
"""Name of the only form of the circuit."""


def form_files(design: NetworkDesign) -> tuple[str, ...]:
    """Return the modules of the network, the top last."""
    found = [f"arrays/{a.name}/{file}" for a in design.distinct_arrays for file in a.files]
    for part in design.parts:
        found += [f"rtl/{module}.v" for module in part.modules]
    if design.takes_turns:
        found.append(f"rtl/{design.name}_turns.v")
    return (*found, f"rtl/{design.name}_readout.v", f"rtl/{design.name}_network.v")


def forms_of(design: NetworkDesign) -> dict[str, tuple[str, ...]]:
    """Return the modules of each form: the network, and the network in its wrapper."""
    own = form_files(design)
    wrapper = {AXI: (*own, f"rtl/{design.name}_{AXI}.v")}
    return {FORM: own} | (wrapper if design.has_axi else {})


def folder_files(design: NetworkDesign, samples: Integers, scores: Integers) -> dict[str, str]:
    """Return the files beside modules, testbench and proofs, without the manifest.

    `samples` and `scores` are (S, values), the time steps of a sample one after another.
    """
    network, name, files = design.network, design.name, form_files(design)
    model = emit_c(network, samples[:4], scores[:4]).source
    taken, given, _ = design.stream_widths
    view = {"family": name, "name": name}
    harness = view | {"network": network, "given": given, "taken": taken}
    makefile = view | {
        "forms": "",
        "form": FORM,
        "driven": "",
        "targets": "",
        "variables": [f"FILES := {' '.join(files)}"],
        "samples": len(samples),
        "proofs": True,
        "reloads": design.loadable,
        "wrapper": AXI if design.has_axi else "",
    }
    memories = [file for layer in design.layers for file in layer.memories]
    form = *(layer.lanes for layer in design.layers), design.loadable
    fusesoc = view | {
        "library": "networks",
        "revision": int(digest_of(network, *form), 16),  # another network is another version
        "description": f"{name}, a spiking network in integers",
        "top": f"{name}_{FORM}",
        "forms": [FORM],
        "rtl": files,
        "more": [
            "memories:",
            "  files:",
            *(f"    - rtl/{file}: {{copyto: {file}}}" for file in memories),
            "  file_type: user",
        ],
        "filesets": {"default": "rtl, memories", "sim": "rtl, memories", "lint": "rtl"},
        "memories": True,
        "benches": [f"tb/{name}_{FORM}_tb.v"],
        "vectors": [
            f"tb/{name}_{word}.hex: {{copyto: {name}_{word}.hex}}" for word in ("inputs", "results")
        ],
    }
    return {
        "README.md": render("network_verilog/readme.md.j2", _readme(design)),
        "Makefile": render("verilog/folder/makefile.j2", makefile),
        f"{name}.core": render("verilog/folder/core.j2", fusesoc),
        f"tb/{name}_verilator.cpp": render("network_verilog/verilator.cpp.j2", harness),
        f"tb/test_{name}.py": render("verilog/folder/cocotb.py.j2:network", view),
        **{f"model/{path}": text for path, text in model.files.items()},
    }


def manifest(design: NetworkDesign, vectors: int, files: Iterable[str]) -> str:
    """Return the text of manifest.json; `files` are the other files of the folder."""
    network, name, layers = design.network, design.name, design.layers
    most, widths = design.most_cycles, design.stream_widths
    multipliers = sum(layer.multipliers for layer in layers)
    instances = list(design.arrays.values())
    instances = instances[:1] if design.takes_turns else instances
    multipliers += sum(array.multipliers for array in instances)
    content: dict[str, Any] = {
        "manifest": VERSION,
        "generator": f"lnm_codegen {PACKAGE_VERSION}",
        "license": "0BSD",
        "name": name,
        "kind": FORM,
        "lanes": most_lanes(layers),
        "neurons_per_cycle": design.per_cycle,
        "load_port": design.loadable,
        "sample": sample_entry(network),
        "vectors": vectors,
        "arrays": sorted(array.name for array in design.distinct_arrays),
        "layers": layer_entries(layers),
        "forms": {
            form: {
                "top": f"{name}_{form}",
                "files": list(paths),
                "testbench": f"tb/{name}_{form}_tb.v",
                "latency": most,
                "interval": design.interval,
                **({"measured": asdict(design.mean)} if design.mean else {}),
                "multipliers": multipliers,
            }
            for form, paths in forms_of(design).items()
        },
        "simulation_files": [],
        "streams": {
            "s_axis_tdata": {"width": widths[0], "values": described(network.input)},
            "m_axis_tdata": {"width": widths[1], "values": described(design.scores)},
            "m_axis_tuser": {"width": widths[2], "values": "class of the largest score so far"},
        },
        "coefficients": [],
        "emitted": listed(files),
    }
    return json.dumps(content, indent=2) + "\n"


def _readme(design: NetworkDesign) -> dict[str, object]:
    network, widths = design.network, design.stream_widths

    def row(part: Part) -> str:
        array = design.array_of(part)
        own = (
            (part.stage.bits, part.accumulator, part.event_rows) if isinstance(part, Layer) else ()
        )
        is_layer, count = isinstance(part, Layer), part.slice.count
        cells = (
            part.title.removesuffix(part.slice.title),
            part.inputs if is_layer else part.inputs * count,
            part.outputs * count if count == 1 else f"{part.outputs * count} in {count} slices",
            *(own or ("", "", "")),
            f"{design.interval_of(part):,}",
            f"`{array.name}`" if array else design.next_of(part),
        )
        return f"| {' | '.join(map(str, cells))} |"

    return {
        "family": design.name,
        "name": design.name,
        "network": network,
        "most_slices": design.most_slices,
        "rows": [row(part) for part in design.parts if part.slice.is_first],
        "most": design.most_cycles,
        "interval": design.interval,
        "mean": design.mean,
        "in_bits": widths[0],
        "read_bits": design.input_bits,
        "out_bits": widths[1],
        "label_bits": widths[2],
        "in_note": described(network.input),
        "out_note": described(design.scores),
        "conversion": conversion_text(network),
        "order": order_text(network),
        "score_meaning": score_text(network),
        "loadable": design.loadable,
        "axi": axi_view(design) if design.has_axi else None,
        "has_windows": design.has_windows,
        "takes_turns": design.takes_turns,
        "memories": [str(loaded) for loaded in design.memories],
    }
