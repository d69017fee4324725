"""Analysis of a trained network, as data.

`analyze` takes a network of your own. `analyze_run` takes a training run and adds what only a run
has: the content of `lnm analyze RUN`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.insight.energy.report import EnergyReport, batch_size, energy
from lnm_codegen.insight.layer import ALL_CLASSES, LayerAnalysis, analyze_layer
from lnm_codegen.insight.record import record
from lnm_codegen.language.neuron import brief
from lnm_codegen.nn.chain import IGNORED
from lnm_codegen.nn.hooks import evaluating
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.train.data.dataset import by_length
from lnm_codegen.train.figure import layer_history
from lnm_codegen.train.models.base import names_of, neurons_of
from lnm_codegen.train.runs.config import clamp_of
from lnm_codegen.train.runs.folder import HISTORY, read_tensors
from lnm_codegen.train.runs.saved import Run
from lnm_codegen.train.stability.layers import ROWS
from lnm_codegen.validation import counted, require_integer, wrong


@dataclass(frozen=True)
class NetworkAnalysis:
    """A trained network on samples.

    Attributes:
        samples: Number of samples.
        correct: Number of correct predictions on them.
        predictions: Number of predictions: one per sample, or one per labelled step. 0 for a run
            with a metric of its own, or with targets that are no classes.
        layers: Neuron layers, first to last.
        energy: Energy of an inference, on the same samples.
    """

    samples: int
    correct: int
    predictions: int
    layers: tuple[LayerAnalysis, ...]
    energy: EnergyReport

    @property
    def accuracy(self) -> float | None:
        """Share of correct predictions; None without predictions."""
        return self.correct / self.predictions if self.predictions else None

    @property
    def diversity(self) -> str:
        """Classes of behaviour over all layers, in a line."""
        classified = [layer for layer in self.layers if layer.classes]
        if not classified:
            return "Classes of behaviour: none apply to this neuron."
        total: Counter[str] = Counter()
        for layer in classified:
            total.update(layer.classes)
        rows, other = sum(total.values()), total.pop("other", 0)
        rest = f"; {other} of no class" if other else ""
        parts = ", ".join(f"{label} {total[label]}" for label in ALL_CLASSES if total[label])
        layers, all_rows = counted(len(classified), "layer"), counted(rows, "row")
        if len(total) < 2:
            only = next(iter(total), "none")
            return f"One class of behaviour in {layers} ({all_rows}{rest}): {only}."
        heads = list(dict.fromkeys(next(iter(layer.classes)) for layer in classified))
        across = (
            f"the most frequent class differs between layers: {', '.join(heads)}"
            if len(heads) > 1
            else f"the most frequent class is {heads[0]} in every layer"
        )
        many = f"{len(total)} classes of behaviour in {layers}"
        return f"{many} ({parts} of {all_rows}{rest}); {across}."


@dataclass(frozen=True)
class RunAnalysis(NetworkAnalysis):
    """The network of a training run, on samples of its data.

    Attributes:
        folder: Run folder.
        network: Names of the network, its neuron and its data.
        equations: Equations of the neuron.
        config: Configuration of the run, as plain data; `v_min` is None without a clamp.
        split: "test", or "held-out" if the samples were held out from the training samples.
        epochs: Epochs that the recorded history has, or None without a history.
    """

    folder: Path
    network: str
    equations: tuple[str, ...]
    config: dict[str, Any]
    split: str
    epochs: int | None


def analyze(
    module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, rows: int = ROWS
) -> NetworkAnalysis:
    """Analyse a network of your own.

    It runs in eval mode, twice on each batch. States that its layers keep are reset before each
    batch. Only a run has `history` and `movement`, which are None here.

    Args:
        module: A module with NeuronLayers. It returns logits (N, classes) or (T, N, classes).
        batches: Pairs of an input of the module and labels (N,), or (T, N) for each step, such as a
            `DataLoader`. All of them are kept in memory.
        rows: Largest number of rows of a layer that are analysed one by one.

    Raises:
        ModelError: Another argument, no neuron layer, a lazy one, or no samples.
        ShapeError: Logits or labels of another shape.
        UnsupportedError: A layer computes in integers.
    """
    if not isinstance(module, nn.Module):
        remedy = "For a training run use analyze_run(load_run(folder))."
        raise wrong("analyze", "module", module, "a torch.nn.Module", remedy)
    require_integer("analyze", "rows", rows)
    layers = {n: m for n, m in module.named_modules() if isinstance(m, NeuronLayer)}
    if not layers:
        raise ModelError("analyze", "the module has no NeuronLayer", "a network with one or more")
    for name, layer in layers.items():
        if layer.arithmetic is not None:
            problem = f"layer {name!r} computes in integers"
            raise UnsupportedError("analyze", problem, remedy="Analyse the layer in float.")
    pairs = _pairs(batches)
    with evaluating(module):
        recorded = record(module, layers.values(), pairs)
        counts = energy(module, pairs)
    found = zip(layers.items(), recorded.layers, strict=True)
    return NetworkAnalysis(
        samples=recorded.samples,
        correct=recorded.correct,
        predictions=recorded.predictions,
        layers=tuple(analyze_layer(*named, activity, None, rows) for named, activity in found),
        energy=counts,
    )


def _pairs(batches: Any) -> list[tuple[Tensor, Tensor]]:
    """Return the batches, or raise ModelError for anything that is not a pair of tensors."""
    accepted = "pairs (x, labels) of tensors"
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise wrong("analyze", "batches", batches, accepted)
    found = []
    for pair in batches:
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not is_pair or not all(isinstance(t, Tensor) for t in pair):
            raise ModelError("analyze", f"batches has a {type(pair).__name__}", accepted)
        found.append((pair[0], pair[1]))
    return found


def analyze_run(run: Run, limit: int | None = None, rows: int = ROWS) -> RunAnalysis:
    """Analyse a run.

    Args:
        run: Result of `load_run`.
        limit: Largest number of test samples, or None for all.
        rows: Largest number of rows of a layer that are analysed one by one.

    Raises:
        ModelError: No run, no neuron layer, no test samples, or a limit below 1.
    """
    if not isinstance(run, Run):
        remedy = "Use insight.analyze(module, batches) for a network of your own."
        raise wrong("analyze_run", "run", run, "the result of load_run", remedy)
    if limit is not None:
        require_integer("analyze", "limit", limit)
    require_integer("analyze", "rows", rows)
    layers = neurons_of(run.network)
    if not layers:
        raise ModelError("analyze", f"{run.folder} has no neuron layer")
    paths = {id(module): name for name, module in run.network.named_modules()}
    run.network.eval()
    has_accuracy = run.data.has_classes and run.config.metric is None
    recorded = record(run.network, layers, samples_of(run, limit), has_accuracy)
    counts = energy(run.network, samples_of(run, limit))
    history = read_history(run.folder)
    found = [
        analyze_layer(paths[id(x)], x, activity, history and layer_history(history, k, x), rows)
        for k, (x, activity) in enumerate(zip(layers, recorded.layers, strict=True))
    ]
    config = run.config.as_json() | {"v_min": clamp_of(run.config)}
    return RunAnalysis(
        folder=run.folder,
        network=f"{type(run.network).__name__} of {names_of(run.network)} on {run.data.name}",
        equations=_equations(layers),
        config=config,
        split="held-out" if run.data.is_held_out else "test",
        samples=recorded.samples,
        correct=recorded.correct,
        predictions=recorded.predictions,
        epochs=None if not history else min(len(values) for values in history.values()) - 1,
        layers=tuple(found),
        energy=counts,
    )


def _equations(layers: Sequence[NeuronLayer]) -> tuple[str, ...]:
    """Return the equations of a network's neurons, with their names if there are several."""
    found = dict.fromkeys((x.neuron.name, brief(x.neuron)) for x in layers)
    if len(found) == 1:
        return next(iter(found))[1]
    return tuple(f"{name}: {line}" for name, lines in found for line in lines)


def samples_of(run: Run, limit: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of the test split, up to the limit; samples of a batch have one length.

    Targets that are no classes become a label -100 for each sample.
    """
    left = limit
    axis = 1 if run.data.kind == "sequence" else 0
    for x, targets in run.data.batches(run.data.test, batch_size(run.data)):
        labels = targets
        if not run.data.has_classes:
            labels = torch.full((run.data.count(targets),), IGNORED)
        number = labels.shape[-1] if left is None else min(left, labels.shape[-1])
        if number == 0:
            return
        x, labels = x.narrow(axis, 0, number), labels.narrow(-1, 0, number)
        yield from by_length(x, labels) if run.data.padded else [(x, labels)]
        left = None if left is None else left - number


# History of the learned parameters during training, from history.safetensors.


ABSENT = f"unavailable: the run has no {HISTORY}"


def read_history(folder: Path) -> dict[str, Tensor] | None:
    """Return `<layer>.<parameter>` -> (epochs + 1, *shape), or None without a history file.

    Raises:
        ModelError: The file is damaged.
    """
    path = folder / HISTORY
    if not path.is_file():
        return None
    return read_tensors("run", path, "Delete it to continue without a history.")


def mean_and_deviation(values: Tensor) -> dict[str, list[list[float]]]:
    """Return mean and standard deviation over the rows, for each epoch and element."""
    spread = values.std(1) if values.shape[1] > 1 else torch.zeros_like(values[:, 0])
    return {"mean": values.mean(1).tolist(), "std": spread.tolist()}
