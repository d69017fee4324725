"""`analyze_run`: everything that `lnm analyze RUN` says, as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.compiler.model import equations
from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.insight.classes import CLASSES
from lnm_codegen.insight.dynamics import PLACES, Response, RowDynamics, dynamics, response
from lnm_codegen.insight.energy.report import EnergyReport, batch_size, energy
from lnm_codegen.insight.history import moved, read_history
from lnm_codegen.insight.rows import probe
from lnm_codegen.insight.watch import Seen, watch
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.parameters import ParameterSets, parameter_sets
from lnm_codegen.train.runs.saved import Run
from lnm_codegen.train.stability.certificate import Certificate, certificate
from lnm_codegen.train.stability.curve import charge_curve, learned_text

ROWS = 128
"""Rows of a layer that are looked at one by one."""


@dataclass(frozen=True)
class LayerAnalysis:
    """One neuron layer.

    Attributes:
        name: Its path in the network.
        layer: Itself.
        rows: Its parameters, row by row.
        chosen: The rows that were looked at one by one, evenly spread where there are many.
        seen: What it met on the test samples; None where it has no state.
        z: Potentials of the curve, from the least visited to the threshold and a little beyond.
        curve: Charged potential at z without input, (P, chosen); empty where it has no state.
        dynamics: Of each chosen row, or why they cannot be told.
        certificate: For inputs up to the largest one met, or why there is none.
        response: f-I curves of the chosen rows; None where there are none.
        history: Parameter -> (epochs + 1, rows, elements); None where the run kept none.
    """

    name: str
    layer: NeuronLayer = field(repr=False)
    rows: ParameterSets = field(repr=False)
    chosen: list[int]
    seen: Seen | None
    z: Tensor = field(repr=False)
    curve: Tensor = field(repr=False)
    dynamics: tuple[RowDynamics, ...] | str
    certificate: Certificate | str
    response: Response | None
    history: dict[str, Tensor] | None

    @property
    def classes(self) -> dict[str, int]:
        """Class -> how many of the chosen rows are of it, the most frequent first."""
        if isinstance(self.dynamics, str):
            return {}
        found = Counter(row.label for row in self.dynamics)
        order = sorted(found, key=lambda label: (-found[label], CLASSES.index(label)))
        return {label: found[label] for label in order}

    @property
    def learned(self) -> str:
        """What it learned, in a line."""
        return learned_text(self.layer)


@dataclass(frozen=True)
class RunAnalysis:
    """A trained network.

    Attributes:
        folder: Of the run.
        network: Name of its network and neuron.
        equations: Of its neuron.
        config: The run's, as plain data.
        split: "test", or "held-out" where the run kept training samples back to choose by.
        samples: How many of that split were run.
        accuracy: On them.
        layers: First to last.
        energy: Of an inference, on the same samples.
    """

    folder: Path
    network: str
    equations: tuple[str, ...]
    config: dict[str, Any]
    split: str
    samples: int
    accuracy: float
    layers: tuple[LayerAnalysis, ...]
    energy: EnergyReport

    @property
    def diversity(self) -> str:
        """How many classes there are across layers, in a line."""
        told = [layer for layer in self.layers if layer.classes]
        if not told:
            return "Classes of behaviour: none can be told of this neuron."
        total: Counter[str] = Counter()
        for layer in told:
            total.update(layer.classes)
        rows, other = sum(total.values()), total.pop("other", 0)
        rest = f"; {other} of no class" if other else ""
        parts = ", ".join(f"{label} {total[label]}" for label in CLASSES if total[label])
        layers = f"{len(told)} layer" + ("s" if len(told) > 1 else "")
        if len(total) < 2:
            only = next(iter(total), "none")
            return f"One class of behaviour in {layers} ({rows} rows{rest}), not two: {only}."
        heads = list(dict.fromkeys(next(iter(layer.classes)) for layer in told))
        across = (
            f"the layers' most frequent ones are {len(heads)}: {', '.join(heads)}"
            if len(heads) > 1
            else f"the most frequent one is {heads[0]} in every layer"
        )
        return (
            f"{len(total)} classes of behaviour in {layers} ({parts} of {rows} rows{rest});"
            f" {across}."
        )


def analyze_run(run: Run, limit: int | None = None, rows: int = ROWS) -> RunAnalysis:
    """Analyse a run.

    Args:
        run: Of `load_run`.
        limit: Use only so many samples of the run's test split.
        rows: Look at no more than so many rows of a layer one by one.

    Raises:
        ModelError: No neuron layer, no test samples, a limit below 1.
    """
    for word, value in (("limit", limit), ("rows", rows)):
        if value is not None and value < 1:
            raise ModelError("analyze", f"{word} is {value!r}", "an integer >= 1")
    layers = run.network.neurons
    if not layers:
        raise ModelError("analyze", f"{run.folder} has no neuron layer")
    paths = {id(module): name for name, module in run.network.named_modules()}
    run.network.eval()
    watched = watch(run.network, layers, samples_of(run, limit))
    counts = energy(run.network, samples_of(run, limit))
    kept = read_history(run.folder)
    found = [
        _layer(paths[id(layer)], layer, seen, moved(kept, k, layer), rows)
        for k, (layer, seen) in enumerate(zip(layers, watched.layers, strict=True))
    ]
    config = run.config.as_json()
    return RunAnalysis(
        folder=run.folder,
        network=f"{type(run.network).__name__} of {layers[0].neuron.name} on {run.data.name}",
        equations=tuple(equations(layers[0].neuron)),
        config=config,
        split="held-out" if run.config.validation else "test",
        samples=watched.samples,
        accuracy=watched.accuracy,
        layers=tuple(found),
        energy=counts,
    )


def samples_of(run: Run, limit: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of the test split; the last one is cut at the limit."""
    left = limit
    axis = 1 if run.data.kind == "sequence" else 0
    for x, labels in run.data.batches(run.data.test, batch_size(run.data)):
        number = labels.shape[-1] if left is None else min(left, labels.shape[-1])
        if number == 0:
            return
        yield x.narrow(axis, 0, number), labels.narrow(-1, 0, number)
        left = None if left is None else left - number


def _layer(
    name: str,
    layer: NeuronLayer,
    seen: Seen | None,
    history: dict[str, Tensor] | None,
    most: int,
) -> LayerAnalysis:
    rows = parameter_sets(layer)
    chosen = rows.spread(most)
    absent = f"{layer.neuron.name} did not run, or has no state."
    told: tuple[RowDynamics, ...] | str = absent
    promised: Certificate | str = absent
    z, curve, answer = torch.empty(0), torch.empty(0, len(chosen)), None
    if seen is not None:
        told = dynamics(layer, rows, chosen, seen)
        z = _places(layer, seen)
        with torch.no_grad():
            curve = charge_curve(probe(layer.neuron, rows, chosen), z)
        try:
            largest = max(abs(end) for end in seen.input)
            promised = certificate(probe(layer.neuron, rows, chosen), largest)
        except LnmError as error:
            promised = str(error)
        if len(layer.neuron.inputs) == 1 and layer.neuron.spikes:
            answer = response(layer, rows, chosen, seen.input)
    return LayerAnalysis(
        name=name, layer=layer, rows=rows, chosen=chosen, seen=seen, z=z, curve=curve,
        dynamics=told, certificate=promised, response=answer, history=history,
    )  # fmt: skip


def _places(layer: NeuronLayer, seen: Seen) -> Tensor:
    """Return where the curve is drawn: what was visited and [0, threshold], with a margin."""
    threshold: Tensor | None = getattr(layer, "v_threshold", None)
    top = 1.0 if threshold is None else float(threshold.max())
    low, high = min(0.0, float(seen.visited[:, 0].min())), max(top, float(seen.visited[:, 1].max()))
    low, high = max(low, -1e6), min(high, 1e6)
    margin = 0.05 * (high - low)
    return torch.linspace(low - margin, high + margin, PLACES, dtype=torch.float64)
