"""What a training run is told: `TrainConfig`, and the neuron that it names."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.library import resolve, resolve_recorded
from lnm_codegen.neuron import Neuron


@dataclass(frozen=True)
class TrainConfig:
    """One run, whole: the same config on the same machine gives the same numbers.

    Attributes:
        family: A built-in family, a .toml file, file.py:function or module:function.
        arguments: What the family is called with, beside `v_min`.
        v_min: Lower clamp of the charged potential, for a built-in family that takes one; without
            it a polynomial of degree 2 or more may run away. None for none.
        data: A name of `data.DATASETS`.
        data_dir: Folder of its files, where it has any.
        limit: Use only so many training and test images.
        channels: Output channels of each block, conv - batch norm - neuron - pool.
        time_steps: T; the image is shown so many times.
        epochs: Passes over the training images.
        batch: Images in a step of the optimiser.
        lr: Learning rate of the weights (Adam), which falls to 0 as a half cosine.
        lr_neuron: The same for what the neurons learn.
        weight_decay: L2 penalty of the weights; what the neurons learn has none.
        clip: Largest gradient norm, of the weights and of the neurons' parameters apart.
        penalty: Weight of `curve.slope_penalty`; 0 leaves it out.
        seed: Of weights and shuffling.
        backend: Of the neuron layers: "auto", "c" or "torch".
        threads: CPU threads; None leaves PyTorch's number.
    """

    family: str = "lnm"
    arguments: dict[str, Any] = field(default_factory=dict)
    v_min: float | None = -2.0
    data: str = "digits"
    data_dir: Path | None = None
    limit: int | None = None
    channels: tuple[int, ...] = (16, 32)
    time_steps: int = 4
    epochs: int = 10
    batch: int = 32
    lr: float = 1e-2
    lr_neuron: float = 1e-2
    weight_decay: float = 0.0
    clip: float = 1.0
    penalty: float = 0.0
    seed: int = 0
    backend: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        for word in ("time_steps", "epochs", "batch", "limit", "threads"):
            value = getattr(self, word)
            optional = word in ("limit", "threads")
            if not (optional and value is None):
                _check(word, value, isinstance(value, int) and value >= 1, "an integer >= 1")
        for word in ("lr", "lr_neuron", "weight_decay", "penalty"):
            value = getattr(self, word)
            _check(word, value, math.isfinite(value) and value >= 0, "a number >= 0")
        clamp = self.v_min is None or math.isfinite(self.v_min)
        _check("v_min", self.v_min, clamp, "a finite number or None")
        _check("clip", self.clip, self.clip > 0, "a number > 0")
        sound = len(self.channels) > 0 and all(c >= 1 for c in self.channels)
        _check("channels", self.channels, sound, "one or more integers >= 1")
        _check("seed", self.seed, 0 <= self.seed < 2**63, "an integer from 0 to 2**63 - 1")

    def as_json(self) -> dict[str, Any]:
        """Return what json can write."""
        fields = asdict(self)
        fields["data_dir"] = None if self.data_dir is None else str(self.data_dir)
        return {**fields, "channels": list(self.channels)}


def _check(word: str, value: Any, sound: bool, accepted: str) -> None:
    if not sound:
        raise ModelError(f"train: {word} is {value!r}. Accepted: {accepted}.")


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
    if takes_clamp(config.family):
        arguments.setdefault("v_min", config.v_min)
    if recorded:
        neuron = resolve_recorded(config.family, arguments)
    else:
        neuron = resolve(config.family, **arguments)
    if len(neuron.inputs) != 1 or len(neuron.output) != 1:
        raise ModelError(
            f"train: {neuron.name} has {len(neuron.inputs)} inputs and {len(neuron.output)}"
            " outputs. Accepted: a neuron with one of each."
        )
    return neuron
