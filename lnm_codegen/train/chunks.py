"""Sequences in chunks of K time steps, for truncated backpropagation (`tbptt`).

The layers keep their states from chunk to chunk, and gradients stop at the borders. So training on
T steps needs the memory of K steps, beside the input. A module that keeps memory of its own from
call to call has `reset()`, and `detach()` if the memory has a gradient.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.nn.hooks import evaluating
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.states import reset
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.models.base import Network
from lnm_codegen.train.models.own import device_of, few
from lnm_codegen.train.runs.config import LOSSES, TrainConfig

_CLOSE = 1e-4
"""Tolerance of outputs in chunks, relative to the largest output. They are in float64."""


def chunks(x: Tensor, labels: Tensor, steps: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the chunks of sequences (T, N, *), the last of which may be shorter, and their labels.

    Labels (N,) are those of every chunk.
    """
    size = len(x) if steps is None else steps
    for begin in range(0, len(x), size):
        end = begin + size
        yield x[begin:end], labels[begin:end] if labels.dim() > 1 else labels


@contextmanager
def carrying(network: nn.Module) -> Iterator[None]:
    """Let every layer keep its states from call to call until the context ends.

    The first call begins with the initial states. Afterwards no state is kept.
    """
    layers = [m for m in network.modules() if isinstance(m, NeuronLayer) and not keeps(m)]
    reset(network)
    try:
        for layer in layers:
            layer.carry_state = True
        yield
    finally:
        for layer in layers:
            layer.carry_state = False
        reset(network)


def keeps(layer: NeuronLayer) -> bool:
    """Report whether a layer keeps its states from call to call."""
    return layer.step_mode == "s" or layer.carry_state


def detach(network: nn.Module) -> None:
    """Cut all that modules keep from call to call from the graph, by their method `detach()`."""
    for module in network.modules():
        method = getattr(module, "detach", None)
        if callable(method):
            method()


class RunningReadout:
    """Readout of a sequence so far: its logits (N, classes), reduced over time.

    Logits (T, N, classes) are reduced by their mean. Of a network that returns (N, classes), `over`
    is the reduction of its readout.

    Args:
        network: The network. For one of the user that returns (N, classes), these are the logits
            so far.
    """

    def __init__(self, network: nn.Module) -> None:
        is_built_in = isinstance(network, Network)
        readout = getattr(network, "readout", None)
        self._over = getattr(readout, "over", "mean") if is_built_in else "last"
        self._before: Tensor | None = None
        self._steps = 0

    def add(self, logits: Tensor, steps: int) -> Tensor:
        """Return the logits so far, with those of a chunk of `steps`; the others are constants."""
        over = "mean" if logits.dim() == 3 else self._over
        so_far = logits.mean(0) if logits.dim() == 3 else logits
        if self._before is not None and over == "mean":
            share = steps / (self._steps + steps)
            so_far = self._before * (1 - share) + so_far * share
        elif self._before is not None and over == "max":
            so_far = torch.maximum(self._before, so_far)
        self._before, self._steps = so_far.detach(), self._steps + steps
        return so_far


def require_chunks(network: nn.Module, data: Dataset, config: TrainConfig) -> None:
    """Raise ModelError unless chunks of `tbptt` steps of a sequence give the outputs of the whole.

    A network of the user is run both ways, on a copy in float64, on training samples and on random
    inputs at which neurons fire.
    """
    steps = config.tbptt or data.sample[0]
    if config.loss not in LOSSES or config.metric is not None:
        word = "metric" if config.loss in LOSSES else "loss"
        problem = f"tbptt is {steps}, with a {word} function of your own"
        raise ModelError("train", problem, f"the losses {', '.join(LOSSES)}", "Leave out tbptt.")
    if data.padded:
        problem = f"tbptt is {steps}, and the samples of {data.name} have different lengths"
        raise ModelError("train", problem, "samples of one length", "Leave out tbptt.")
    if data.kind != "sequence":
        problem = f"tbptt is {steps}, and the samples of {data.name} are images"
        raise ModelError("train", problem, "sequences", "Leave out tbptt.")
    if isinstance(network, Network) or steps >= data.sample[0]:
        return
    x = few(data)[: 2 * steps].to(device_of(network))
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=draw).to(x)
    size = x.abs().max()
    own = _in_float64(network)
    for inputs in (x, x + 3 * size * noise, 30 * (1 + size) * noise):
        whole, parts = _outputs(own, inputs, None), _outputs(own, inputs, steps)
        if whole.shape != parts.shape or not _is_close(whole, parts):
            raise ModelError(
                "train",
                f"tbptt is {steps}, and outputs in chunks of {steps} steps are not those of the"
                " whole sequence: the network has memory that no module keeps from call to call,"
                " reduces its outputs over time, or has T in a reshape, such as nn.Unflatten",
                "a network whose memory its neuron layers keep",
                "Return the logits of each step, (T, N, classes). Keep memory of your own in a"
                " module with the methods reset() and detach(); see docs/howto/long.md.",
            )


def _in_float64(network: nn.Module) -> nn.Module:
    """Return a copy of a network in float64 on the backend torch, which compiles nothing."""
    reset(network)
    own = copy.deepcopy(network).double()
    for layer in own.modules():
        if isinstance(layer, NeuronLayer) and layer.arithmetic is None:
            layer.backend = "torch"
    return own


def _outputs(network: nn.Module, x: Tensor, steps: int | None) -> Tensor:
    """Return the outputs of a sequence at once, or in chunks; of the last one if (N, classes)."""
    with evaluating(network), torch.no_grad():
        if steps is None:
            reset(network)
            whole: Tensor = network(x.double())
            return whole
        with carrying(network):
            found = [network(part) for part in torch.split(x.double(), steps)]
    return torch.cat(found) if found[0].dim() == 3 else found[-1]


def _is_close(a: Tensor, b: Tensor) -> bool:
    a, b = a.nan_to_num(), b.nan_to_num()
    return bool(((a - b).abs() <= _CLOSE * a.abs().max()).all())
