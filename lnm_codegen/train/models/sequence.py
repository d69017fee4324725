"""Fully connected networks for sequences, feed-forward and recurrent.

A layer k, with s_0 the input, charges its neurons with

    c_k[t] = norm(W_k s_{k-1}[t] + b_k)        feed-forward
    c_k[t] + U_k s_k[t-1]                      recurrent, feedback="layer"
    c_k[t] + U_k s_{k+1}[t-1]                  recurrent, feedback="down"

and the readout is W s[t] + b itself ("linear"), or a leaky integrator of it ("li").
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.errors import ModelError
from lnm_codegen.families.library import get
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.models.base import (
    Network,
    Task,
    check_choice,
    check_neuron,
    check_number,
    checked_sizes,
    checked_steps,
    over_steps,
    shown,
)
from lnm_codegen.train.models.recurrence import Stage, run_stages

NORMS = ("none", "batch", "layer")
READOUTS = ("li", "linear")
OVER = ("mean", "last", "max")
FEEDBACK = ("layer", "down")


class Dense(nn.Module):
    """Linear, norm, neuron: (T, N, inputs) -> (T, N, outputs)."""

    def __init__(
        self,
        neuron: Neuron,
        inputs: int,
        outputs: int,
        *,
        norm: str = "none",
        gain: float | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.linear = _linear(inputs, outputs, gain)
        norms = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        self.norm = norms[norm](outputs)
        self.neuron = NeuronLayer(neuron, channels=outputs, shape=(outputs,), backend=backend)

    def current(self, x_seq: Tensor) -> Tensor:
        """Return what the neurons are given, but for feedback."""
        return over_steps(lambda x: self.norm(self.linear(x)), x_seq)

    def forward(self, x_seq: Tensor) -> Tensor:
        """Run the layer."""
        spikes: Tensor = self.neuron(self.current(x_seq))
        return spikes


class Readout(nn.Module):
    """Spikes (T, N, F) -> logits (N, classes), or (T, N, classes).

    Args:
        features: F.
        task: Its classes, and whether each step has an answer.
        kind: "li" or "linear".
        over: What is taken over time: "mean", "last" or "max".
        tau: Time constant of the leaky integrators, in steps.
        gain: As for `FeedForward`.
        backend: Of the integrators.
    """

    def __init__(
        self,
        features: int,
        task: Task,
        *,
        kind: str = "li",
        over: str = "mean",
        tau: float = 2.0,
        gain: float | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.over, self.per_step = over, task.per_step
        self.linear = _linear(features, task.classes, gain)
        self.neuron = None
        if kind == "li":
            self.neuron = NeuronLayer(get("li", tau=tau), backend=backend)

    def forward(self, spikes: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor
        if self.neuron is not None or self.per_step or self.over == "max":
            values = self.linear(spikes)
            values = values if self.neuron is None else self.neuron(values)
            logits = values if self.per_step else _taken(values, self.over)
        else:  # linear, so the mean over time may come first
            logits = self.linear(_taken(spikes, self.over))
        return logits


def _taken(values: Tensor, over: str) -> Tensor:
    if over == "mean":
        return values.mean(0)
    return values[-1] if over == "last" else values.amax(0)


def _linear(inputs: int, outputs: int, gain: float | None) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    if gain is not None:
        bound = gain * (3 / inputs) ** 0.5
        nn.init.uniform_(linear.weight, -bound, bound)
    return linear


class FeedForward(Network):
    """Dense layers, then a readout.

    Args:
        neuron: Of every layer, one input and one output.
        task: Sequences of any features, which are flattened; or images, shown `time_steps` times.
        backend: Of the neuron layers.
        hidden: Neurons of each layer.
        norm: Between weights and neurons: "none", "batch" (over T and N) or "layer".
        readout: "li" (leaky integrators) or "linear".
        over: What the readout takes over time if not per step: "mean", "last" or "max".
        readout_tau: Time constant of "li", in steps, > 1.
        gain: Weights uniform with standard deviation gain/sqrt(inputs); None leaves PyTorch's
            default, which is gain 0.577. Biases are PyTorch's.
        time_steps: How often an image is shown; 4 by default.

    Shape:
        (T, N, *features), or images (N, C, H, W) -> (N, classes), or (T, N, classes) per step.

    Raises:
        ModelError: An option outside what is said here.
    """

    name = "feedforward"

    def __init__(
        self,
        neuron: Neuron,
        task: Task,
        *,
        backend: str = "auto",
        hidden: tuple[int, ...] = (128, 128),
        norm: str = "none",
        readout: str = "li",
        over: str = "mean",
        readout_tau: float = 2.0,
        gain: float | None = None,
        time_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_neuron(neuron)
        hidden = checked_sizes(self.name, "hidden", hidden)
        check_choice(self.name, "norm", norm, NORMS)
        check_choice(self.name, "readout", readout, READOUTS)
        check_choice(self.name, "over", over, OVER)
        if gain is not None:
            check_number(self.name, "gain", gain)
        self.time_steps = checked_steps(self.name, task, time_steps)
        inputs = torch.Size(task.features).numel()
        widths = zip((inputs, *hidden), hidden, strict=False)
        options: dict[str, Any] = {"gain": gain, "backend": backend}
        self.layers = nn.ModuleList(
            Dense(neuron, below, width, norm=norm, **options) for below, width in widths
        )
        self.readout = Readout(
            hidden[-1], task, kind=readout, over=over, tau=readout_tau, **options
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch."""
        x_seq = shown(x.flatten(1) if self.time_steps else x.flatten(2), self.time_steps)
        logits: Tensor = self.readout(self.hidden(x_seq))
        return logits

    def hidden(self, x_seq: Tensor) -> Tensor:
        """Return the spikes (T, N, H) of the last layer."""
        for layer in self.layers:
            x_seq = layer(x_seq)
        return x_seq


class Recurrent(FeedForward):
    """`FeedForward` whose layers hear spikes of the step before.

    Args:
        neuron, task, options: As there.
        feedback: "layer": each layer hears itself. "down": each hears the layer above it and the
            last hears none; this needs two layers, and norm="none", since the currents of the
            layers above the first are then known only step by step.
        recurrent_gain: U is an orthogonal matrix times this.
        carry_limit: Hold each gradient that is carried back from a step, of its states and
            currents, to this many times the largest that comes to a spike of the layer from above;
            None leaves them. Over some hundred steps they may overflow, and then clipping at the
            end comes too late.

    Shape:
        As there.

    Raises:
        ModelError: An option outside what is said here.
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
        check_choice(self.name, "feedback", feedback, FEEDBACK)
        check_number(self.name, "recurrent_gain", recurrent_gain)
        if carry_limit is not None:
            check_number(self.name, "carry_limit", carry_limit)
        self.carry_limit = carry_limit
        self.feedback = feedback
        widths = [layer.linear.out_features for layer in self._dense()]
        pairs = list(zip(widths, widths, strict=True))
        if feedback == "down":
            pairs = list(zip(widths[1:], widths, strict=False))
            if not pairs:
                raise ModelError(
                    "recurrent",
                    "feedback 'down' needs a layer above",
                    remedy="Give two or more in hidden, or feedback='layer'.",
                )
            if options.get("norm", "none") != "none":
                raise ModelError(
                    "recurrent",
                    f"norm {options['norm']!r} with feedback 'down'",
                    remedy="Accepted there: 'none'. Use feedback='layer'.",
                )
        self.recurrent = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairs)
        for back in self._backs():
            nn.init.orthogonal_(back.weight, recurrent_gain)

    def _dense(self) -> list[Dense]:
        return [layer for layer in self.layers if isinstance(layer, Dense)]

    def _backs(self) -> list[nn.Linear]:
        return [back for back in self.recurrent if isinstance(back, nn.Linear)]

    def hidden(self, x_seq: Tensor) -> Tensor:
        """Return the spikes (T, N, H) of the last layer."""
        layers, backs = self._dense(), self._backs()
        if self.feedback == "layer":
            for layer, back in zip(layers, backs, strict=True):
                stage, current_seq = Stage(layer.neuron, back=back), layer.current(x_seq)
                x_seq = run_stages([stage], current_seq, self.carry_limit)
            return x_seq
        stages = [Stage(layers[0].neuron, back=backs[0], source=1)]
        for k, layer in enumerate(layers[1:], start=1):
            if k < len(backs):
                stages.append(Stage(layer.neuron, layer.linear, backs[k], source=k + 1))
            else:
                stages.append(Stage(layer.neuron, layer.linear))
        return run_stages(stages, layers[0].current(x_seq), self.carry_limit)
