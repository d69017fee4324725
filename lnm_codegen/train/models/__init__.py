"""Spiking networks by name, with any neuron.

Every constructor takes (neuron, task, *, backend, time_steps, fused, **options). `time_steps` is T
of an image, 4 by default. `fused`, True by default, runs normalisation and neurons as one kernel
(`lnm.nn.fuse`). docs/networks.md describes each network.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.select import BACKENDS
from lnm_codegen.options import BackendName
from lnm_codegen.train.models.base import Network as Network
from lnm_codegen.train.models.base import Task as Task
from lnm_codegen.train.models.base import names_of as names_of
from lnm_codegen.train.models.base import neurons_of as neurons_of
from lnm_codegen.train.models.base import parameter_groups as parameter_groups
from lnm_codegen.train.models.convolutional import (
    RESNET18,
    RESNET19,
    RESNET20,
    RESNET34,
    VGG11,
    VGGSNN,
    ResNet,
    Vgg,
    conv_net,
)
from lnm_codegen.train.models.sequence import FeedForward, Recurrent
from lnm_codegen.train.models.transformer import Transformer
from lnm_codegen.validation import require_known, require_one_of, wrong

MODELS: dict[str, Callable[..., Network]] = {
    "conv": conv_net,
    "feedforward": FeedForward,
    "recurrent": Recurrent,
    "vgg11": partial(Vgg, VGG11),
    "vggsnn": partial(Vgg, VGGSNN),
    "resnet18": partial(ResNet, RESNET18),
    "resnet19": partial(ResNet, RESNET19),
    "resnet20": partial(ResNet, RESNET20),
    "resnet34": partial(ResNet, RESNET34),
    "transformer": Transformer,
}
"""Name of `NETWORKS` -> its constructor, which `build` calls."""
PADDED = ("feedforward", "recurrent")
"""Networks for samples of different lengths."""


def build(
    name: str,
    neuron: Neuron,
    sample: tuple[int, ...],
    classes: int,
    *,
    kind: str,
    per_step: bool = False,
    padded: bool = False,
    backend: BackendName = "auto",
    **options: Any,
) -> Network:
    """Return a network with fresh weights.

    Args:
        name: A key of `MODELS`.
        neuron: Neuron of every layer, with one input and one output.
        sample: Shape of one sample: (C, H, W) of an image, (T, *features) of a sequence.
        classes: Length of the output.
        kind: "image" or "sequence".
        per_step: The network has an output at each step.
        padded: Samples have different lengths, and end with steps of NaN; see `unpadded`.
        backend: Backend of the neuron layers.
        options: Options of the network, `options_of(name)`.

    Raises:
        ModelError: An unknown network or option, or a value out of its range.
    """
    require_network_options(name, options)
    require_one_of("models", "backend", backend, BACKENDS)
    task = Task(sample, classes, kind, per_step, padded)
    if padded and name not in PADDED:
        accepted = f"{' or '.join(PADDED)}, for samples of different lengths"
        raise wrong("models", "network", name, accepted)
    return MODELS[name](neuron, task, backend=backend, **options)


def require_network_options(name: str, options: Iterable[str]) -> None:
    """Raise ModelError unless a network of this name has options of these names."""
    known = options_of(require_known("models", "network", name, MODELS))
    for word in options:
        require_known(name, "option", word, known)


def options_of(name: str) -> tuple[str, ...]:
    """Return the options of a network, those of its base class first."""
    constructor = MODELS[name]
    levels: list[Any] = [constructor]
    if inspect.isclass(constructor):
        levels = [c.__init__ for c in reversed(constructor.__mro__) if issubclass(c, Network)]
    words = [
        parameter.name
        for level in levels
        for parameter in inspect.signature(level).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name != "backend"
    ]
    return tuple(dict.fromkeys(words))
