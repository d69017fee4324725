"""What a training run is told: `TrainConfig`, and the neuron that it names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.families.library import resolve, resolve_recorded
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import SURROGATES

CHOICES: Mapping[str, tuple[str, ...]] = {
    "loss": ("mean", "tet"),
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("cosine", "constant"),
    "precision": ("float32", "bfloat16", "float16"),
    "backend": ("auto", "c", "torch", "triton", "cuda"),
}
"""The fields that are words, and what they accept."""

MOST_THREADS = 1024
COUNTS = ("epochs", "batch", "limit", "threads")
NATURAL = ("validation", "warmup", "evaluate_every")
AMOUNTS = ("lr", "lr_neuron", "weight_decay", "penalty", "penalty_slope")
SHARES = ("ema", "label_smoothing", "tet_weight")


@dataclass(frozen=True)
class TrainConfig:
    """One run, whole: the same config on the same machine gives the same numbers.

    Attributes:
        family: A built-in family, a .toml file, file.py:function or module:function.
        arguments: What the family is called with, beside `v_min`.
        v_min: Lower clamp of the charged potential, for a built-in family that takes one; without
            it a polynomial of degree 2 or more may run away. None for none.
        network: A name of `models.MODELS`.
        network_arguments: Its options, such as {"channels": (16, 32), "time_steps": 4}.
        data: A name of `data.DATASETS`.
        data_dir: Folder of its files, where it has any.
        data_arguments: Further options of the set.
        limit: Use only so many training and test samples.
        validation: Hold so many training samples out and test on them; the test set is then not
            read. 0 tests on the test set.
        augment: Crop, flip and shift the training samples, as the set defines it.
        loss: "mean", cross-entropy of the mean logits, or "tet", of the logits of every step.
        tet_weight: Lambda of `losses.tet`, 0 to 1.
        label_smoothing: 0 to 1.
        epochs: Passes over the training samples.
        batch: Samples in a step of the optimiser, over all processes.
        optimizer: "adam", "adamw", or "sgd" with momentum 0.9.
        lr: Learning rate of the weights.
        lr_neuron: Learning rate of what the neurons learn; 0 freezes it.
        schedule: "cosine", a half cosine to 0, or "constant".
        warmup: Epochs in which both rates rise from 0 first.
        weight_decay: Of the weights; what the neurons learn has none.
        clip: Largest gradient norm, of the weights and of the neurons' parameters apart.
        penalty: Weight of `stability.slope_penalty`; 0 leaves it out.
        penalty_slope: The slope up to which no penalty is due. Over a long sequence 1.05 to the
            power of T is large: give 1 or less.
        project: X: after each step bring theta back to where the potential stays in
            [v_min, v_threshold] for |x| <= X; None leaves it out.
        ema: Decay per step of an exponential moving average of all weights, which is then what
            is tested and kept; 0 for none.
        evaluate_every: Test after every so many epochs, and after the last; 0 the last alone.
        neurons_from: A run folder whose learned neuron parameters this one begins with.
        neurons_order: Which layer of that run each layer takes them from, 0 the first.
        precision: "float32", or autocast to "bfloat16" or "float16".
        compile: Put the network through `torch.compile`.
        deterministic: Let PyTorch use deterministic algorithms alone.
        device: "cpu", "cuda" or "cuda:1".
        seed: Of weights, shuffling and augmentation.
        backend: Of the neuron layers.
        threads: CPU threads; None leaves PyTorch's number.
        tensorboard: Write events for TensorBoard too.
    """

    family: str = "lnm"
    arguments: dict[str, Any] = field(default_factory=dict)
    v_min: float | None = -2.0
    network: str = "conv"
    network_arguments: dict[str, Any] = field(default_factory=dict)
    data: str = "digits"
    data_dir: Path | None = None
    data_arguments: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    validation: int = 0
    augment: bool = False
    loss: str = "mean"
    tet_weight: float = 0.05
    label_smoothing: float = 0.0
    epochs: int = 10
    batch: int = 32
    optimizer: str = "adam"
    lr: float = 1e-2
    lr_neuron: float = 1e-2
    schedule: str = "cosine"
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 1.0
    penalty: float = 0.0
    penalty_slope: float = 1.05
    project: float | None = None
    ema: float = 0.0
    evaluate_every: int = 1
    neurons_from: Path | None = None
    neurons_order: tuple[int, ...] | None = None
    precision: str = "float32"
    compile: bool = False
    deterministic: bool = False
    device: str = "cpu"
    seed: int = 0
    backend: str = "auto"
    threads: int | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for word in COUNTS:
            value = getattr(self, word)
            optional = word in ("limit", "threads") and value is None
            sound = optional or (_is_int(value) and value >= 1)
            _check(word, value, sound, "an integer >= 1")
        for word in NATURAL:
            value = getattr(self, word)
            _check(word, value, _is_int(value) and value >= 0, "an integer >= 0")
        for word in AMOUNTS:
            value = getattr(self, word)
            _check(word, value, _is_number(value) and value >= 0, "a number >= 0")
        for word in SHARES:
            value = getattr(self, word)
            _check(word, value, _is_number(value) and 0 <= value < 1, "a number from 0, below 1")
        for word, accepted in CHOICES.items():
            value = getattr(self, word)
            _check(word, value, value in accepted, ", ".join(accepted))
        clamp = self.v_min is None or _is_number(self.v_min)
        _check("v_min", self.v_min, clamp, 'a finite number or "none"')
        clips = isinstance(self.clip, int | float) and not isinstance(self.clip, bool)
        _check("clip", self.clip, clips and self.clip > 0, "a number > 0")
        few = self.threads is None or self.threads <= MOST_THREADS
        _check("threads", self.threads, few, f"an integer from 1 to {MOST_THREADS}")
        ordered = self.neurons_order is None or self.neurons_from is not None
        _check("neurons_order", self.neurons_order, ordered, "none where neurons_from is none")
        bound = self.project is None or (_is_number(self.project) and self.project > 0)
        _check("project", self.project, bound, 'a number > 0 or "none"')
        seeds = _is_int(self.seed) and 0 <= self.seed < 2**63
        _check("seed", self.seed, seeds, "an integer from 0 to 2**63 - 1")
        if self.warmup >= self.epochs:
            _check("warmup", self.warmup, self.warmup == 0, f"less than epochs, {self.epochs}")

    def as_json(self) -> dict[str, Any]:
        """Return what json can write."""
        fields = asdict(self)
        paths = {k: None if fields[k] is None else str(fields[k]) for k in PATHS}
        order = None if self.neurons_order is None else list(self.neurons_order)
        return {**fields, **paths, "neurons_order": order}


PATHS = ("data_dir", "neurons_from")
"""The fields that are paths, and text in a file."""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(word: str, value: Any, sound: bool, accepted: str) -> None:
    if not sound:
        raise ModelError("train", f"{word} is {value!r}", accepted)


def takes_clamp(family: str) -> bool:
    """Say whether `family` is a built-in one that takes `v_min`."""
    found = FAMILIES.get(family)
    return found is not None and "v_min" in found.signature.parameters


def neuron_of(config: TrainConfig, recorded: bool = False) -> Neuron:
    """Return the neuron of every spiking layer.

    Args:
        config: It names the family.
        recorded: The config was read from a file; see `library.resolve_recorded`.

    Raises:
        ModelError: No such family, arguments it does not take, or a neuron the network cannot
            use: it must have one input and one output.
    """
    arguments = dict(config.arguments)
    if isinstance(arguments.get("surrogate"), str):
        arguments["surrogate"] = {"kind": arguments["surrogate"]}
    if isinstance(arguments.get("surrogate"), dict):
        arguments["surrogate"] = _surrogate_of(arguments["surrogate"])
    if takes_clamp(config.family):
        arguments.setdefault("v_min", config.v_min)
    if recorded:
        neuron = resolve_recorded(config.family, arguments)
    else:
        neuron = resolve(config.family, **arguments)
    if len(neuron.inputs) != 1 or len(neuron.output) != 1:
        raise ModelError(
            "train",
            f"{neuron.name} has {len(neuron.inputs)} inputs and {len(neuron.output)} outputs",
            "a neuron with one of each",
        )
    return neuron


def _surrogate_of(table: Mapping[str, Any]) -> Any:
    """Return the surrogate of {"kind": "atan", "alpha": 3.0}."""
    kind = table.get("kind")
    if kind not in SURROGATES:
        raise ModelError(
            "train",
            f"surrogate kind is {kind!r}",
            f"""{", ".join(SURROGATES)}, as in {{kind = "atan", alpha = 3.0}}""",
        )
    try:
        return SURROGATES[kind](**{k: v for k, v in table.items() if k != "kind"})
    except TypeError as error:
        taken = ", ".join(signature(SURROGATES[kind]).parameters) or "none"
        raise ModelError("train", f"surrogate {kind}: {error}", taken) from None
