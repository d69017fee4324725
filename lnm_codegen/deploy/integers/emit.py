"""Source of a network in integers, in C or Verilog, and every file of its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from torch import Tensor, nn

from lnm_codegen.backends.base import MANIFEST, Source, write_files
from lnm_codegen.backends.network_c import ACCUMULATIONS, Accumulation, NetworkSource, emit_c
from lnm_codegen.backends.network_verilog.backend import (
    LoadImage,
    NetworkCircuit,
    design_of,
    emit_circuit,
    emit_image,
    sample_file,
)
from lnm_codegen.backends.network_verilog.layers import LANES, MOST_LANES, MOST_PER_CYCLE, form_in
from lnm_codegen.backends.network_verilog.top import MeanCycles
from lnm_codegen.compiler.formats import spec_line
from lnm_codegen.deploy.integers.convert import integer_samples
from lnm_codegen.deploy.network import neuron_layers
from lnm_codegen.errors import ModelError
from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.network.exchange import digest_of, network_files, read_network
from lnm_codegen.ir.network.interpret import interpret_network, sample_rows, score_rows
from lnm_codegen.ir.network.nodes import (
    IntegerNetwork,
    NeuronStage,
    WeightStage,
    integer_text,
    size_of,
)
from lnm_codegen.ir.network.verify import MOST_NAME
from lnm_codegen.ir.types import Bits
from lnm_codegen.language.neuron import brief
from lnm_codegen.options import NetworkTargetName
from lnm_codegen.validation import require_bool, require_integer, require_one_of

GOLDEN: Mapping[NetworkTargetName, int] = {"c": 4, "verilog": 8}
"""Samples of the example in C, and most of a testbench."""
BENCH_STEPS = 512
"""Time steps of a testbench, whose simulation is slow; at least one sample."""
MOST_VECTORS = 10_000
"""Most samples of an example or a testbench."""
ONLY_FOR: Mapping[str, NetworkTargetName] = {
    "accumulate": "c",
    "lanes": "verilog",
    "neurons_per_cycle": "verilog",
    "load_port": "verilog",
    "axi": "verilog",
}
"""Option -> the only backend that it applies to."""
NONE: Mapping[str, str | bytes] = MappingProxyType({})
"""No further files."""


@dataclass(frozen=True, slots=True)
class NetworkTarget:
    """Target of a network; None is the default.

    Attributes:
        backend: "c" or "verilog".
        vectors: Samples of the example in C, by default 4, or of the testbench, by default up to 8.
        accumulate: Sums in C: "events" (default) adds the weights of inputs that are not zero,
            "dense" multiplies all.
        lanes: Weights that a layer in Verilog adds in a cycle, by default 4. With 1, neurons share
            one multiplier.
        neurons_per_cycle: Most neurons of a layer in Verilog that are updated in a cycle, by
            default 1: the layer has as many slices of its channels as divide them.
        load_port: A port in Verilog by which trained numbers are loaded.
        axi: A wrapper in Verilog for a system bus: AXI4-Stream and registers on AXI4-Lite.
    """

    backend: NetworkTargetName
    vectors: int | None = None
    accumulate: Accumulation | None = None
    lanes: int | None = None
    neurons_per_cycle: int | None = None
    load_port: bool = False
    axi: bool = False

    def count(self, time_steps: int = 1) -> int:
        """Return the samples of the example or of the testbench, for samples of T time steps."""
        if self.vectors is not None:
            return self.vectors
        most = GOLDEN[self.backend]
        return most if self.backend == "c" else max(1, min(most, BENCH_STEPS // time_steps))

    def require(self, where: str, option: Callable[[str], str] = str) -> None:
        """Raise ModelError where a value is not accepted; `option` gives the word of a field."""
        require_bool(where, option("load_port"), self.load_port)
        require_bool(where, option("axi"), self.axi)
        for word, only in ONLY_FOR.items():
            if getattr(self, word) not in (None, False) and self.backend != only:
                problem = f"{option(word)} with {option('backend')} {self.backend}"
                remedy = f"Omit {option(word)}."
                raise ModelError(where, problem, f"{option('backend')} {only}", remedy)
        require_integer(where, option("vectors"), self.count(), 1, MOST_VECTORS)
        if self.accumulate is not None:
            require_one_of(where, option("accumulate"), self.accumulate, ACCUMULATIONS)
        if self.lanes is not None:
            require_integer(where, option("lanes"), self.lanes, 1, MOST_LANES)
        if self.neurons_per_cycle is not None:
            word, count = option("neurons_per_cycle"), self.neurons_per_cycle
            require_integer(where, word, count, 1, MOST_PER_CYCLE)


@dataclass(frozen=True, eq=False)
class EmittedNetwork:
    """Source of a network in integers.

    Attributes:
        network: The network, for `interpret_network`.
        made: The generated source, with its sizes.
        data: Path -> `network.json`, its arrays, and with Verilog the samples for `lnm verify`.
        notes: A sentence for each layer of neurons with numbers that are 0, or round to 0 or 1.
    """

    network: IntegerNetwork
    made: NetworkSource | NetworkCircuit | LoadImage
    data: Mapping[str, str | bytes]
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> Source:
        """The generated source."""
        return self.made.source

    def files(
        self,
        sections: Sequence[str] = (),
        more: Mapping[str, str | bytes] = NONE,
        end: str = "",
    ) -> dict[str, str | bytes]:
        """Return path -> text or data of every file of the folder.

        Args:
            sections: Further sections of the README, before its own.
            more: Further files.
            end: The last section of the README.
        """
        data = {**self.data, **more}
        text = completed(self.source.files[README], sections, data, end)
        files = {**self.source.files, **data, README: text}
        if isinstance(self.made, NetworkCircuit):
            files[MANIFEST] = self.made.manifest(files)
        return files

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every file below `folder`, as `Source.write` does, and return their paths."""
        return write_files(folder, self.files())


def with_unique_name(network: IntegerNetwork, target: NetworkTarget) -> IntegerNetwork:
    """Return a network for a target under the default name: in Verilog it ends with its digest.

    The modules of two networks, or of one with other lanes, then differ in their names, so that
    one design can have both.
    """
    if target.backend == "c":
        return network
    more = [n for n in (target.neurons_per_cycle,) if n not in (None, 1)]
    digest = digest_of(network, target.lanes or LANES, target.load_port, *more)
    return replace(network, name=f"{network.name[: MOST_NAME - 1 - len(digest)]}_{digest}")


def emit_integers(
    network: IntegerNetwork,
    samples: Tensor,
    target: NetworkTarget,
    notes: Sequence[str] = (),
    mean: MeanCycles | None = None,
) -> EmittedNetwork:
    """Return the source of a network.

    Args:
        network: A valid network.
        samples: Real inputs (N, *), or (T, N, *) for a network of sequences. The first ones are
            those of the example or of the testbench. A folder of Verilog has all of them.
        target: A valid target.
        notes: Those of the result.
        mean: The measured interval of the circuit, for its manifest and README.

    Raises:
        ShapeError: The input is spikes, and a number is neither 0 nor 1.
        UnsupportedError: The backend cannot express the network, or accept its name.
    """
    inputs = integer_samples(network, samples.cpu().numpy())
    count = target.count(network.time_steps)
    golden = inputs[:count] if network.repeated else inputs[:, :count]
    files = network_files(network)
    if target.backend == "verilog":
        lanes, per_cycle = target.lanes or LANES, target.neurons_per_cycle or 1
        circuit = emit_circuit(
            network, golden, lanes, target.load_port, target.axi, mean, per_cycle
        )
        return EmittedNetwork(network, circuit, files | sample_file(inputs), tuple(notes))
    scores = interpret_network(network, golden).scores
    rows, scores = sample_rows(network, golden), score_rows(network, scores)
    program = emit_c(network, rows, scores, target.accumulate or "events")
    return EmittedNetwork(network, program, files, tuple(notes))


def emit_reload(
    circuit: Circuit, network: IntegerNetwork, samples: Tensor, notes: Sequence[str] = ()
) -> EmittedNetwork:
    """Return the image that loads a network into a circuit on disk.

    Args:
        circuit: The folder of a network with a load port.
        network: A valid network of the same form.
        samples: Real inputs, at least as many as the circuit's testbench has.
        notes: Those of the result.

    Raises:
        ModelError: The circuit has no load port, too few samples, or the network does not fit.
    """
    design = design_of(read_network(circuit.folder), *form_in(circuit.manifest))
    count = circuit.manifest["vectors"]
    network = replace(network, name=design.name)
    inputs = integer_samples(network, samples.cpu().numpy())
    found = len(sample_rows(network, inputs))
    if found < count:
        raise ModelError("reload", f"{found} samples", f"{count}, as in {circuit.folder}/tb")
    golden = inputs[:count] if network.repeated else inputs[:, :count]
    image = emit_image(design, network, golden)
    return EmittedNetwork(network, image, network_files(network), tuple(notes))


# Normalisation of the samples of a network, from values of the data to real inputs.
#
# `network.json` describes arithmetic alone. `lnm deploy` writes input.json beside it:
#
#     {"format": "lnm_codegen.network_input", "version": 1, "data": name, "raw": [low, high],
#      "mean": [...], "deviation": [...]}


FILE = "input.json"
FORMAT, VERSION = "lnm_codegen.network_input", 1


@dataclass(frozen=True, slots=True)
class InputScale:
    """Real inputs a = (r - mean) / deviation of values r of the data, computed in float32.

    With n numbers of each, the first n-th of the elements of a time step has the first, and so on:
    a channel of an image, or a feature.

    Attributes:
        data: Name of the data set.
        raw: The lowest and the highest r of the test samples.
        mean: One number, or n.
        deviation: As many numbers.
    """

    data: str
    raw: tuple[float, float]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @property
    def is_identity(self) -> bool:
        """Whether every a is r."""
        return not any(self.mean) and all(d == 1 for d in self.deviation)

    def file(self) -> str:
        """Return the text of input.json."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "data": self.data,
            "raw": self.raw,
            "mean": self.mean,
            "deviation": self.deviation,
        }
        return f"{json.dumps(content, indent=2)}\n"


def input_scale(data: str, scale: tuple[Tensor, Tensor], samples: Tensor) -> InputScale:
    """Return the normalisation of a data set.

    Args:
        data: Its name.
        scale: Its mean and deviation, one of each, or one for each channel or feature.
        samples: Test samples before normalisation.
    """
    mean, deviation = np.broadcast_arrays(*(part.numpy() for part in scale))
    low, high = _shortest(np.array([samples.min(), samples.max()]))
    return InputScale(data, (low, high), _shortest(mean), _shortest(deviation))


def _shortest(numbers: Array) -> tuple[float, ...]:
    """Return the shortest decimals that read back as these numbers in float32."""
    flat = numbers.astype(np.float32).reshape(-1)
    return tuple(float(np.format_float_scientific(number)) for number in flat)


# README of a network's folder: its formats, neurons, input and files.


README = "README.md"
FOLDER = "\n## Folder\n\n| path | contents |\n| --- | --- |\n"
"""The head of the table of files in the README of a backend."""
FILES = {
    "network.json": "the network in integers: its stages",
    "network.npz": "the arrays of `network.json`: weights, biases, scales, coefficients",
    "input.json": "mean and deviation of the input, as in the section Input",
    "run.json": "a digest of the trained weights, with which `lnm` recognises the run",
}
"""File beside those of the backend -> its contents."""


def completed(readme: str, sections: Sequence[str], files: Collection[str], end: str) -> str:
    """Return a README with further sections before its own, and further files in its table.

    Args:
        readme: The text of a backend, with a table of the folder.
        sections: From a heading to an empty line.
        files: Names of all files; those of `FILES` become rows of the table.
        end: The last section, or an empty text.
    """
    rows = "".join(f"| `{name}` | {text} |\n" for name, text in FILES.items() if name in files)
    head, mark, rest = readme.replace(FOLDER, FOLDER + rows).partition("\n## ")
    return "\n".join((head, *sections)) + f"{mark}{rest}{end}"


def network_section(title: str, rows: Sequence[tuple[str, str]], network: nn.Module) -> str:
    """Return a table, and the equations of the neurons of a network."""
    lines = [f"## {title}", "", "| | |", "| --- | --- |", *(_row(*row) for row in rows), ""]
    for names, equations in _neurons(network).items():
        lines += [f"The neurons of {names}, in real numbers:", ""]
        lines += [*(f"    {line}" for line in equations), ""]
    return "\n".join(lines)


def formats_text(network: IntegerNetwork) -> str:
    """Return the format of the input, the weights and the neurons of each layer."""
    span = network.input
    found = [f"input {'spikes' if span.are_spikes else Bits(span.width, span.frac)}"]
    for stage in network.stages:
        if isinstance(stage, WeightStage):
            found.append(f"`{stage.name}` weights of {stage.bits} bits")
        elif isinstance(stage, NeuronStage):
            found.append(f"`{stage.name}` {spec_line(stage.program.spec)}")
    return "; ".join(found)


def input_section(scale: InputScale, network: IntegerNetwork) -> str:
    """Return the formula from a value of the data to the integer of an input."""
    low, high = map(_number, scale.raw)
    is_scaled, parts = not scale.is_identity, len(scale.mean)
    lines = [
        "## Input",
        "",
        f"The samples of `{scale.data}` are {'' if is_scaled else 'not '}normalised. A value r of"
        f" the data, {low} to {high} in the test samples, gives the integer k of the input:",
        "",
    ]
    if is_scaled:
        mean, deviation = (
            map(_number, (scale.mean[0], scale.deviation[0]))
            if parts == 1
            else ("mean", "deviation")
        )
        lines.append(f"    a = {'r' if mean == '0' else f'(r - {mean})'} / {deviation}")
    lines += [f"    {integer_text(network, 'a' if is_scaled else 'r')}", ""]
    if parts > 1:
        lines += ["| elements of a time step | mean | deviation |", "| --- | --- | --- |"]
        lines += [*_parts(scale, size_of(network.input_shape)), ""]
    if is_scaled:
        lines += ["A subtraction and a division are each rounded to float32.", ""]
    return "\n".join(lines)


def _parts(scale: InputScale, size: int) -> Iterator[str]:
    """Yield a row for each channel or feature of a time step with `size` elements."""
    count = size // len(scale.mean)
    for k, numbers in enumerate(zip(scale.mean, scale.deviation, strict=True)):
        elements = f"{k * count} to {(k + 1) * count - 1}" if count > 1 else f"{k}"
        yield f"| {' | '.join((elements, *map(_number, numbers)))} |"


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _row(name: str, text: str) -> str:
    escaped = text.replace("|", r"\|")
    return f"| {name} | {escaped} |"


def _neurons(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the names of the layers with the same equations -> these."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, layer in neuron_layers(network).items():
        found.setdefault(brief(layer.neuron), []).append(f"`{name}`")
    return {", ".join(names): lines for lines, names in found.items()}
