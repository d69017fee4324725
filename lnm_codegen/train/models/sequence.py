"""Fully connected networks for sequences, feed-forward and recurrent.

The neurons of layer k, with s_0 the input, receive the currents

    c_k[t] = norm(W_k s_{k-1}[t] + b_k)        feed-forward
    c_k[t] + U_k s_k[t-1]                      recurrent, feedback="layer"
    c_k[t] + U_k s_{k+1}[t-1]                  recurrent, feedback="down"

and the readout is W s[t] + b itself ("linear"), or its leaky integral ("li").
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.families.library import get
from lnm_codegen.ir.network.nodes import REDUCED, OverTime
from lnm_codegen.language.neuron import Neuron, require_one_port
from lnm_codegen.nn.chain import Chain, over_time
from lnm_codegen.nn.exchange.graph import Parts
from lnm_codegen.nn.fusion.pair import Pair
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.options import BackendName
from lnm_codegen.train.data.dataset import unpadded
from lnm_codegen.train.models.base import (
    Network,
    Task,
    before_neuron,
    over_steps,
    repeated,
    require_steps,
)
from lnm_codegen.train.models.recurrence import Memory, Stage, run_stages
from lnm_codegen.train.runs.config import ONE_PORT
from lnm_codegen.validation import require_integers, require_number, require_one_of, wrong


class FeedForward(Network):
    """Dense layers, then a readout. The features of a step, or an image, are flattened.

    Args, besides those of every network:
        hidden: Neurons of each layer.
        norm: Normalisation before the neurons: "none" or None, "batch" (over T and N) or "layer".
        readout: "li" (leaky integrators) or "linear".
        over: Reduction of the readout over time, if not per step: "mean", "last" or "max".
        readout_tau: Time constant of "li", in steps, > 1.
        gain: Weights are uniform with standard deviation gain/sqrt(inputs); None keeps PyTorch's
            default, which is gain 0.577. Biases are PyTorch's.

    Raises:
        ModelError: An option out of its range.
    """

    name = "feedforward"

    def __init__(
        self,
        neuron: Neuron,
        task: Task,
        *,
        backend: BackendName = "auto",
        hidden: tuple[int, ...] = (128, 128),
        norm: str | None = "none",
        readout: str = "li",
        over: str = "mean",
        readout_tau: float = 2.0,
        gain: float | None = None,
        time_steps: int | None = None,
        fused: bool = True,
    ) -> None:
        super().__init__()
        require_one_port(self.name, neuron, ONE_PORT)
        self.widths = hidden = require_integers(self.name, "hidden", hidden)
        norm = "none" if norm is None else require_one_of(self.name, "norm", norm, tuple(NORMS))
        require_one_of(self.name, "readout", readout, ("li", "linear"))
        require_one_of(self.name, "over", over, REDUCED)
        require_number(self.name, "gain", gain, low=0, optional=True)
        self.time_steps = require_steps(self.name, task, time_steps)
        self.padded, self._features = task.padded, task.features
        if task.padded and norm == "batch":
            accepted = "'none' or 'layer', for samples of different lengths"
            raise wrong(self.name, "norm", norm, accepted)
        inputs = torch.Size(task.features).numel()
        self.layers = nn.ModuleList(
            Dense(linear_of(below, width, gain), norm, neuron, backend)
            for below, width in zip((inputs, *hidden), hidden, strict=False)
        )
        linear = linear_of(hidden[-1], task.classes, gain)
        li = NeuronLayer(get("li", tau=readout_tau), backend=backend) if readout == "li" else None
        self.readout = Readout(linear, li, over, task.per_step)
        self.fuse(fused)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return the normalisations over T and N, and their neurons."""
        has_batch = isinstance(self.layers[0].norm, nn.BatchNorm1d)
        count = len(self.layers) if has_batch else 0
        return tuple(before_neuron(f"layers.{k}.norm", f"layers.{k}.neuron") for k in range(count))

    def chain(self) -> Chain:
        """Return the network as a chain of modules."""
        if self.padded:
            problem = "its samples have different lengths"
            raise UnsupportedError(f"network: {self.name}", problem, "samples of equal lengths")
        modules: list[tuple[str, nn.Module]] = [("", nn.Flatten())]
        for k in range(len(self.layers)):
            names = (f"layers.{k}.{word}" for word in ("linear", "norm", "neuron"))
            modules += [(name, self.get_submodule(name)) for name in names]
        modules.append(("readout.linear", self.readout.linear))
        if self.readout.neuron is not None:
            modules.append(("readout.neuron", self.readout.neuron))
        over = "step" if self.readout.per_step else self.readout.over
        return Chain(tuple(modules), self.time_steps, cast("OverTime", over))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        x_seq = repeated(x.flatten(1) if self.time_steps else x.flatten(2), self.time_steps)
        x_seq, lengths = unpadded(x_seq) if self.padded else (x_seq, None)
        logits: Tensor = self.readout(self.hidden(x_seq, lengths), lengths)
        return logits

    def hidden(self, x_seq: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the spikes (T, N, H) of the last layer; see `NeuronLayer` for the lengths."""
        for layer in self.layers:
            x_seq = layer(x_seq, lengths)
        return x_seq


class Recurrent(FeedForward):
    """`FeedForward` whose layers also receive spikes of the previous step.

    Args, besides those of `FeedForward`:
        feedback: Source of these spikes. "layer": the layer itself. "down": the layer above, none
            for the last layer; this needs two layers, and norm="none", because the currents of the
            layers above the first are then known only step by step.
        recurrent_gain: U is an orthogonal matrix times this.
        carry_limit: Bound of each gradient that is carried back from a step, of its states and
            currents, in units of the largest gradient of a spike of the last layer; None for no
            bound. Over some hundred steps they may overflow, and clipping at the end is then too
            late.

    Raises:
        ModelError: An option out of its range.
    """

    name = "recurrent"

    def __init__(
        self,
        neuron: Neuron,
        task: Task,
        *,
        feedback: str = "layer",
        recurrent_gain: float = 1.0,
        carry_limit: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(neuron, task, **options)
        require_one_of(self.name, "feedback", feedback, ("layer", "down"))
        require_number(self.name, "recurrent_gain", recurrent_gain, low=0)
        require_number(self.name, "carry_limit", carry_limit, low=0, optional=True)
        self.carry_limit = carry_limit
        self.feedback = feedback
        sources = self.widths
        if feedback == "down" and task.padded:
            accepted = "'layer', for samples of different lengths"
            raise wrong(self.name, "feedback", feedback, accepted)
        if feedback == "down":
            sources, norm = sources[1:], options.get("norm", "none")
            remedy = "Set feedback='layer'."
            if not sources:
                problem = "feedback is 'down' with one hidden layer"
                raise ModelError(self.name, problem, "two or more in hidden", remedy)
            if norm not in ("none", None):
                raise wrong(self.name, "norm", norm, "'none' with feedback='down'", remedy)
        pairs = zip(sources, self.widths, strict=False)
        backs = [nn.Linear(source, width, bias=False) for source, width in pairs]
        for back in backs:
            nn.init.orthogonal_(back.weight, recurrent_gain)
        self.recurrent = nn.ModuleList(backs)
        self._last: list[Memory] = [{} for _ in self.widths]

    def reset(self) -> None:
        """Discard the spikes of the last call, which layers with `carry_state` receive."""
        for last in self._last:
            last.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": [{} for _ in self.widths]}

    def chain(self) -> Chain:
        """Return the network as a chain of modules."""
        if self.feedback != "layer":
            problem, accepted = f"feedback={self.feedback!r}", "feedback='layer'"
            raise UnsupportedError(f"network: {self.name}", problem, accepted)
        backs = cast("list[nn.Linear]", list(self.recurrent))
        return replace(
            super().chain(), feedback={f"layers.{k}.neuron": u for k, u in enumerate(backs)}
        )

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return no pair: the neurons receive feedback, step by step."""
        return ()

    def nir_parts(self) -> Parts:
        """Return modules and edges for `lnm.nn.to_nir`.

        Raises:
            UnsupportedError: The network reads images, or reduces its readout over time.
        """
        if self.time_steps is not None or not self.readout.per_step:
            problem = "a network for images, or with a readout over time"
            raise UnsupportedError(self.name, problem, "sequences, with an output at each step")
        chains = [["input"]]
        modules: dict[str, nn.Module] = {}
        if len(self._features) > 1:
            modules["flatten"] = nn.Flatten()
            chains[0].append("flatten")
        for name in [f"layers.{k}" for k in range(len(self.layers))] + ["readout"]:
            for part in ("linear", "norm", "neuron"):
                module = getattr(self.get_submodule(name), part, None)
                if module is not None and type(module) is not nn.Identity:
                    modules[f"{name}.{part}"] = module
                    chains[0].append(f"{name}.{part}")
        chains[0].append("output")
        for k in range(len(self.recurrent)):
            source = k if self.feedback == "layer" else k + 1
            modules[f"recurrent.{k}"] = self.recurrent[k]
            ends = (f"layers.{source}.neuron", f"layers.{k}.neuron")
            chains.append([ends[0], f"recurrent.{k}", ends[1]])
        edges = [edge for chain in chains for edge in pairwise(chain)]
        return Parts(modules, edges, self._shapes_of(modules))

    def _shapes_of(self, modules: dict[str, nn.Module]) -> dict[str, tuple[int, ...]]:
        """Return the features of the output of each module, which are those of its linear layer."""
        inputs = self.layers[0].linear.in_features  # type: ignore[union-attr]
        shapes: dict[str, tuple[int, ...]] = {"flatten": (int(inputs),)}  # type: ignore[arg-type]
        for name, module in modules.items():
            if isinstance(module, nn.Linear):
                shapes[name] = (module.out_features,)
            elif name != "flatten":
                shapes[name] = shapes[name.rpartition(".")[0] + ".linear"]
        return shapes

    def hidden(self, x_seq: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the spikes (T, N, H) of the last layer."""
        layers: list[Any] = list(self.layers)
        backs: list[Any] = list(self.recurrent)
        if self.feedback == "layer":
            for layer, back, last in zip(layers, backs, self._last, strict=True):
                stage, current_seq = Stage(layer.neuron, back=back), layer.current(x_seq)
                x_seq = run_stages([stage], current_seq, self.carry_limit, last, lengths)
            return x_seq
        stages = [Stage(layers[0].neuron, back=backs[0], source=1)]
        for k, layer in enumerate(layers[1:], start=1):
            if k < len(backs):
                stages.append(Stage(layer.neuron, layer.linear, backs[k], source=k + 1))
            else:
                stages.append(Stage(layer.neuron, layer.linear))
        current_seq = layers[0].current(x_seq)
        return run_stages(stages, current_seq, self.carry_limit, self._last[0])


# Dense layers and the readout of networks for sequences.


NORMS = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Dense(nn.Module):
    """Linear, norm, neuron: (T, N, inputs) -> (T, N, outputs).

    Attributes:
        batch_norm: The norm is "batch", in this module or in a fused neuron.
    """

    def __init__(self, linear: nn.Linear, norm: str, neuron: Neuron, backend: BackendName) -> None:
        super().__init__()
        width = linear.out_features
        self.linear, self.norm, self.batch_norm = linear, NORMS[norm](width), norm == "batch"
        self.neuron = NeuronLayer(neuron, channels=width, shape=(width,), backend=backend)

    def current(self, x_seq: Tensor) -> Tensor:
        """Return the currents of the neurons, without feedback.

        The batch statistics of one repeated sample need its T equal values: one value has none.
        """
        if self.training and x_seq.shape[1] == 1 and isinstance(self.norm, nn.BatchNorm1d):
            x_seq = x_seq.contiguous()
        return over_steps(lambda x: self.norm(self.linear(x)), x_seq)

    def norm_pairs(self) -> tuple[Pair, ...]:
        """Return no pair: a network may add feedback to the currents."""
        return ()

    def forward(self, x_seq: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run the layer."""
        neuron: Any = self.neuron  # a fused one takes no lengths
        spikes: Tensor = neuron(self.current(x_seq), **lengths_to(lengths))
        return spikes


class Readout(nn.Module):
    """Readout of spikes (T, N, F): logits (N, classes), or (T, N, classes) per step.

    Args:
        linear: From F to the classes.
        integrator: Leaky integrators of its outputs, or None.
        over: Reduction over time: "mean", "last" or "max".
        per_step: Return the logits of each step.
    """

    def __init__(
        self, linear: nn.Linear, integrator: NeuronLayer | None, over: str, per_step: bool
    ) -> None:
        super().__init__()
        self.over, self.per_step = over, per_step
        self.linear, self.neuron = linear, integrator

    def forward(self, spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits; those of steps behind the end of a sample count in no reduction."""
        logits: Tensor
        neuron: Any = self.neuron
        if neuron is not None or self.per_step or self.over == "max":
            logits = self.linear(spikes)
            logits = logits if neuron is None else neuron(logits, **lengths_to(lengths))
            return logits if self.per_step else over_time(self.over, logits, lengths)
        logits = self.linear(over_time(self.over, spikes, lengths))  # linear: the mean comes first
        return logits


def lengths_to(lengths: Tensor | None) -> dict[str, Tensor]:
    """Return the keyword argument of a layer, absent for samples of one length."""
    return {} if lengths is None else {"lengths": lengths}


def linear_of(inputs: int, outputs: int, gain: float | None) -> nn.Linear:
    """Return a linear layer; with a gain, weights are uniform with deviation gain/sqrt(inputs)."""
    linear = nn.Linear(inputs, outputs)
    if gain is not None:
        bound = gain * (3 / inputs) ** 0.5
        nn.init.uniform_(linear.weight, -bound, bound)
    return linear
