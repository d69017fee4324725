"""Source of a network in integers, in C or Verilog, and every file of its folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from lnm_codegen.backends.base import Source, write_files
from lnm_codegen.backends.earlier import MANIFEST
from lnm_codegen.backends.network_c.backend import NetworkSource, emit_c
from lnm_codegen.backends.network_c.layers import ACCUMULATIONS, Accumulation
from lnm_codegen.backends.network_verilog.backend import NetworkCircuit, emit_circuit, sample_file
from lnm_codegen.backends.network_verilog.layers import LANES, MOST_LANES
from lnm_codegen.backends.verilog.folder.manifest import relisted
from lnm_codegen.deploy.integers.convert import integer_samples
from lnm_codegen.deploy.integers.readme import README, completed
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.network.exchange import network_files
from lnm_codegen.ir.network.interpret import interpret_network, sample_rows
from lnm_codegen.ir.network.nodes import IntegerNetwork
from lnm_codegen.options import NetworkTargetName
from lnm_codegen.validation import require_bool, require_integer, require_one_of

GOLDEN: Mapping[NetworkTargetName, int] = {"c": 4, "verilog": 8}
"""Samples of the example in C, and of a testbench."""
MOST_VECTORS = 10_000
"""Most samples of an example or a testbench."""
ONLY_FOR: Mapping[str, NetworkTargetName] = {
    "accumulate": "c",
    "lanes": "verilog",
    "load_port": "verilog",
}
"""Option -> the only backend that it applies to."""
NONE: Mapping[str, str | bytes] = MappingProxyType({})
"""No further files."""


@dataclass(frozen=True, slots=True)
class NetworkTarget:
    """Target of a network; None is the default.

    Attributes:
        backend: "c" or "verilog".
        vectors: Samples of the example in C, by default 4, or of the testbench, by default 8.
        accumulate: Sums in C: "events" (default) adds the weights of inputs that are not zero,
            "dense" multiplies all.
        lanes: Weights that a layer in Verilog adds in a cycle, by default 4.
        load_port: A port in Verilog by which weights are loaded.
    """

    backend: NetworkTargetName
    vectors: int | None = None
    accumulate: Accumulation | None = None
    lanes: int | None = None
    load_port: bool = False

    @property
    def count(self) -> int:
        """Samples of the example or of the testbench."""
        return GOLDEN[self.backend] if self.vectors is None else self.vectors

    def require(self, where: str, option: Callable[[str], str] = str) -> None:
        """Raise ModelError where a value is not accepted; `option` gives the word of a field."""
        require_bool(where, option("load_port"), self.load_port)
        for word, only in ONLY_FOR.items():
            if getattr(self, word) not in (None, False) and self.backend != only:
                problem = f"{option(word)} with {option('backend')} {self.backend}"
                remedy = f"Omit {option(word)}."
                raise ModelError(where, problem, f"{option('backend')} {only}", remedy)
        require_integer(where, option("vectors"), self.count, 1, MOST_VECTORS)
        if self.accumulate is not None:
            require_one_of(where, option("accumulate"), self.accumulate, ACCUMULATIONS)
        if self.lanes is not None:
            require_integer(where, option("lanes"), self.lanes, 1, MOST_LANES)


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
    made: NetworkSource | NetworkCircuit
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
        if MANIFEST in files:
            files[MANIFEST] = relisted(self.source.files[MANIFEST], files)
        return files

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every file below `folder`, as `Source.write` does, and return their paths."""
        return write_files(folder, self.files())


def emit_integers(
    network: IntegerNetwork, samples: Tensor, target: NetworkTarget, notes: Sequence[str] = ()
) -> EmittedNetwork:
    """Return the source of a network.

    Args:
        network: A valid network.
        samples: Real inputs (N, *), or (T, N, *) for a network of sequences. The first ones are
            those of the example or of the testbench. A folder of Verilog has all of them.
        target: A valid target.
        notes: Those of the result.

    Raises:
        ShapeError: The input is spikes, and a number is neither 0 nor 1.
        UnsupportedError: The backend cannot express the network, or accept its name.
    """
    inputs = integer_samples(network, samples.cpu().numpy())
    golden = inputs[: target.count] if network.repeated else inputs[:, : target.count]
    files = network_files(network)
    if target.backend == "verilog":
        circuit = emit_circuit(network, golden, target.lanes or LANES, target.load_port)
        return EmittedNetwork(network, circuit, files | sample_file(inputs), tuple(notes))
    scores = interpret_network(network, golden).scores
    rows = sample_rows(network, golden)
    program = emit_c(network, rows, scores, target.accumulate or "events")
    return EmittedNetwork(network, program, files, tuple(notes))
