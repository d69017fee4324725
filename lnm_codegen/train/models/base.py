"""What every network shares: the task it is built for, its neuron layers, time as a batch axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.validation import require_one_of as check_choice
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer

KINDS = ("image", "sequence")


@dataclass(frozen=True, slots=True)
class Task:
    """What a network is shown and what it answers.

    Attributes:
        sample: Shape of one sample without the batch: (C, H, W) of an image, (T, *features) of a
            sequence, (T, C, H, W) of event frames.
        classes: Length of the answer.
        kind: "image" for (N, C, H, W), shown `time_steps` times; "sequence" for (T, N, *features).
        per_step: Whether each step has an answer.
    """

    sample: tuple[int, ...]
    classes: int
    kind: str = "image"
    per_step: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample", checked_sizes("models", "sample", self.sample))
        check_size("models", "classes", self.classes)
        check_choice("models", "kind", self.kind, KINDS)
        check_choice("models", "per_step", self.per_step, (True, False))
        axes = 3 if self.kind == "image" else 2
        if len(self.sample) < axes or (self.kind == "image" and len(self.sample) > axes):
            wanted = "(C, H, W)" if self.kind == "image" else "(T, *features)"
            raise ModelError("models", f"sample of kind {self.kind!r} is {self.sample}", wanted)

    @property
    def features(self) -> tuple[int, ...]:
        """Shape of what one step shows."""
        return self.sample if self.kind == "image" else self.sample[1:]


class Network(nn.Module):
    """A spiking network. Its readout, if it has neurons of its own, is called `readout`.

    Shape:
        images (N, C, H, W) or sequences (T, N, *features) -> logits (N, classes), or
        (T, N, classes) where the task is per step.
    """

    @property
    def neurons(self) -> tuple[NeuronLayer, ...]:
        """The neuron layers, first to last; those of the readout are not among them."""
        return tuple(
            module
            for name, module in self.named_modules()
            if isinstance(module, NeuronLayer) and not name.startswith("readout.")
        )


def parameter_groups(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the weights, and apart from them what the neurons learn."""
    layers = [m for m in network.modules() if isinstance(m, NeuronLayer)]
    learned = [p for layer in layers for p in layer.parameters()]
    known = {id(p) for p in learned}
    return [p for p in network.parameters() if id(p) not in known], learned


def shown(x: Tensor, time_steps: int | None) -> Tensor:
    """Return images shown `time_steps` times, by a time stride of 0; or a sequence as it is."""
    return x if time_steps is None else x.expand(time_steps, *x.shape)


def over_steps(module: Callable[[Tensor], Tensor], x_seq: Tensor) -> Tensor:
    """Run what has no memory on (T, N, *): time is one more batch axis to it.

    A sequence of time stride 0 (one frame, shown T times) is computed once. Batch statistics are
    the same then, but for the factor N/(N-1) of the running variance.
    """
    steps, batch = x_seq.shape[:2]
    if x_seq.stride(0) == 0:
        once = module(x_seq[0])
        return once.expand(steps, *once.shape)
    out = module(x_seq.flatten(0, 1))
    return out.reshape(steps, batch, *out.shape[1:])


def read(linear: nn.Module, features_seq: Tensor, per_step: bool) -> Tensor:
    """Return a linear readout of (T, N, F): at each step, or of the mean, which is its mean."""
    logits: Tensor = linear(features_seq if per_step else features_seq.mean(0))
    return logits


def check_neuron(neuron: Neuron) -> None:
    """Raise ModelError unless a neuron fits between two layers of weights."""
    if len(neuron.inputs) != 1 or len(neuron.output) != 1:
        raise ModelError(
            "models",
            f"{neuron.name} has {len(neuron.inputs)} inputs and {len(neuron.output)} outputs",
            "a neuron with one of each",
        )


def check_size(where: str, word: str, value: Any) -> None:
    """Raise ModelError unless `value` is an integer >= 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(where, f"{word} is {value!r}", "an integer >= 1")


def checked_sizes(where: str, word: str, values: Any) -> tuple[int, ...]:
    """Return integers >= 1, or one alone, as a tuple, or raise ModelError."""
    if isinstance(values, int):
        values = (values,)
    whole = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not whole or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values):
        raise ModelError(where, f"{word} is {values!r}", "one or more integers >= 1")
    return tuple(values)


def check_number(where: str, word: str, value: Any, low: float = 0.0) -> None:
    """Raise ModelError unless `value` is a finite number >= `low`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and isfinite(value) and value >= low):
        raise ModelError(where, f"{word} is {value!r}", f"a number >= {low:g}")


def checked_steps(where: str, task: Task, time_steps: int | None, default: int = 4) -> int | None:
    """Return T of an image, None for a sequence, which brings its own; or raise ModelError."""
    if task.kind == "image":
        steps = default if time_steps is None else time_steps
        check_size(where, "time_steps", steps)
        return steps
    if time_steps is not None:
        raise ModelError(
            where,
            f"time_steps is {time_steps!r}, and a sequence brings its own steps",
            remedy="Leave time_steps out.",
        )
    return None


def checked_frames(where: str, task: Task) -> tuple[int, int, int]:
    """Return (C, H, W) of what one step shows, or raise ModelError."""
    if len(task.features) != 3:
        raise ModelError(
            where,
            f"a step of the sample shows {task.features}",
            "images (C, H, W) or event frames (T, C, H, W)",
        )
    channels, height, width = task.features
    return channels, height, width
