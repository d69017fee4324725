"""Base of the networks: their task, their neuron layers, time as a batch axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language.neuron import Neuron, require_one_port
from lnm_codegen.nn.chain import Chain, mean_over_time
from lnm_codegen.nn.fusion.fuse import fuse
from lnm_codegen.nn.fusion.pair import Pair
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.layer import NormNeuron
from lnm_codegen.train.runs.config import ONE_PORT
from lnm_codegen.validation import (
    require_bool,
    require_integer,
    require_integers,
    require_one_of,
    wrong,
)

Shape: TypeAlias = tuple[int, int, int]
"""(C, H, W)."""


@dataclass(frozen=True, slots=True)
class Task:
    """The inputs and the output of a network.

    Attributes:
        sample: Shape of one sample without the batch: (C, H, W) of an image, (T, *features) of a
            sequence, (T, C, H, W) of event frames.
        classes: Length of the output.
        kind: "image" for (N, C, H, W), repeated for `time_steps` steps; "sequence" for
            (T, N, *features).
        per_step: The network has an output at each step.
        padded: Samples have different lengths; the steps behind the end of one are NaN.
    """

    sample: tuple[int, ...]
    classes: int
    kind: str = "image"
    per_step: bool = False
    padded: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample", require_integers("models", "sample", self.sample))
        require_integer("models", "classes", self.classes)
        require_one_of("models", "kind", self.kind, ("image", "sequence"))
        require_bool("models", "per_step", self.per_step)
        if self.kind == "image" and len(self.sample) != 3:
            raise wrong("models", "sample of kind 'image'", self.sample, "(C, H, W)")
        if self.kind == "sequence" and len(self.sample) < 2:
            raise wrong("models", "sample of kind 'sequence'", self.sample, "(T, *features)")

    @property
    def features(self) -> tuple[int, ...]:
        """Shape of the input of one step."""
        return self.sample if self.kind == "image" else self.sample[1:]


class Network(nn.Module):
    """A spiking network. Its readout, if that has neurons of its own, is called `readout`.

    Shape:
        images (N, C, H, W) or sequences (T, N, *features) -> logits (N, classes), or
        (T, N, classes) if the task is per step.
    """

    @property
    def neurons(self) -> tuple[NeuronLayer, ...]:
        """The neuron layers, first to last, without those of the readout."""
        return tuple(
            module
            for name, module in self.named_modules()
            if isinstance(module, NeuronLayer) and not name.startswith("readout.")
        )

    def chain(self) -> Chain:
        """Return the network as a chain of modules.

        Raises:
            UnsupportedError: The network has branches or feedback.
        """
        raise UnsupportedError(
            f"network: {type(self).__name__}",
            "it is no chain of layers",
            "the networks feedforward, recurrent, conv, vgg11, vggsnn and the ResNets",
        )

    def fuse(self, fused: bool) -> None:
        """Change normalisations and the neurons after them into `NormNeuron`s, if `fused`."""
        if require_bool("models", "fused", fused):
            fuse(self)


class FrameNetwork(Network):
    """A network for images or event frames, with a linear readout of the features of each step.

    Args:
        time_steps: T of an image; None for event frames.
        per_step: Read out each step; otherwise the mean over time.

    Shape:
        images (N, C, H, W), or event frames (T, N, C, H, W) -> logits (N, classes), or
        (T, N, classes) if `per_step`.
    """

    readout: nn.Linear

    def __init__(self, time_steps: int | None, per_step: bool) -> None:
        super().__init__()
        self.time_steps, self.per_step = time_steps, per_step

    def features(self, x_seq: Tensor) -> Tensor:
        """Return the features (T, N, F) of frames (T, N, C, H, W)."""
        raise NotImplementedError

    def chained(
        self,
        modules: Iterable[tuple[str, nn.Module]],
        inputs: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Chain:
        """Return the chain of modules that give the features, then the readout.

        `inputs` are those of the chain.

        The readout is linear, so the mean of its outputs is its output for the mean.
        """
        last = (("flatten", nn.Flatten()), ("readout", self.readout))
        return Chain((*modules, *last), self.time_steps, "mean", inputs=inputs or {})

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        features = self.features(repeated(x, self.time_steps))
        logits: Tensor = self.readout(features if self.per_step else mean_over_time(features))
        return logits


def neurons_of(network: nn.Module) -> tuple[NeuronLayer, ...]:
    """Return the neuron layers of a network, first to last.

    Those of the readout of a `Network` are left out. A network of the user has all of them, in the
    order of `named_modules`.
    """
    if isinstance(network, Network):
        return network.neurons
    return tuple(m for m in network.modules() if isinstance(m, NeuronLayer))


def names_of(network: nn.Module) -> str:
    """Return the names of the neurons of a network, each once: "lif", or "lif and li"."""
    return " and ".join(dict.fromkeys(layer.neuron.name for layer in neurons_of(network)))


def parameter_groups(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the weights, and separately the parameters of the neurons.

    Weight and bias of a `NormNeuron` are weights.
    """
    layers = [m for m in network.modules() if isinstance(m, NeuronLayer)]
    learned = [p for layer in layers for p in layer.parameters() if not _normalises(layer, p)]
    known = {id(p) for p in learned}
    return [p for p in network.parameters() if id(p) not in known], learned


def _normalises(layer: NeuronLayer, parameter: nn.Parameter) -> bool:
    if not isinstance(layer, NormNeuron):
        return False
    norm = layer.normalisation
    return parameter is norm.weight or parameter is norm.bias


def before_neuron(norm: str, neuron: str, shortcut: bool = False) -> Pair:
    """Return the pair of a normalisation that runs `over_steps`, and the neurons after it."""
    return Pair(norm, neuron, shortcut, flattened=True)


def repeated(x: Tensor, time_steps: int | None) -> Tensor:
    """Return images at each of `time_steps` steps, with time stride 0; or a sequence unchanged."""
    return x if time_steps is None else x.expand(time_steps, *x.shape)


def over_steps(module: Callable[[Tensor], Tensor], x_seq: Tensor) -> Tensor:
    """Run a module without memory on (T, N, *), with time as one more batch axis.

    A sequence of time stride 0 (a repeated image) is computed once. Batch statistics are then the
    same, except for the factor N/(N-1) of the running variance.
    """
    steps, batch = x_seq.shape[:2]
    if x_seq.stride(0) == 0:
        once = module(x_seq[0])
        return once.expand(steps, *once.shape)
    out = module(x_seq.flatten(0, 1))
    return out.reshape(steps, batch, *out.shape[1:])


def require_steps(where: str, task: Task, time_steps: int | None) -> int | None:
    """Return T of an image, 4 by default, or None for a sequence; or raise ModelError."""
    if task.kind == "image":
        steps: int = require_integer(where, "time_steps", 4 if time_steps is None else time_steps)
        return steps
    if time_steps is not None:
        accepted = "None for a sequence, which has its own number of steps"
        raise wrong(where, "time_steps", time_steps, accepted, "Leave time_steps out.")
    return None


def require_frames(
    where: str, neuron: Neuron, task: Task, time_steps: int | None
) -> tuple[Shape, int | None]:
    """Return (C, H, W) of one step, and T of an image; or raise ModelError."""
    require_one_port(where, neuron, ONE_PORT)
    if len(task.features) != 3:
        accepted = "images (C, H, W) or event frames (T, C, H, W)"
        raise wrong(where, "the shape of one step", task.features, accepted)
    channels, height, width = task.features
    return (channels, height, width), require_steps(where, task, time_steps)
