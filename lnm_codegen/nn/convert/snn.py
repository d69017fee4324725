"""Layers of snnTorch 1.x: Leaky, RLeaky, Synaptic, RSynaptic, Lapicque and Alpha.

They fire at >. With the delayed reset, a step subtracts what the potential of the step before
exceeded, so that the layer returns potentials above the threshold. `reset` in a formula is a
constant to the derivative, as snnTorch's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lnm_codegen.errors import ModelError
from lnm_codegen.language.binding import bind
from lnm_codegen.language.functions import clip, log, where
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import input, spike, state
from lnm_codegen.nn.convert.recipe import (
    TRACE,
    BroadcastLayer,
    Kept,
    Protocol,
    Recipe,
    RenamedLayer,
    Weights,
    is_plain,
    kept,
    kind_of,
    library_names,
    require,
)
from lnm_codegen.nn.convert.slopes import TINY, Slope, snn_slope
from lnm_codegen.nn.recurrent import RecurrentLayer

PREFIX = "snntorch._neurons"
"""Package of the classes."""

STATES = {
    "Leaky": ("mem",), "Lapicque": ("mem",), "Synaptic": ("syn", "mem"),
    "Alpha": ("syn_exc", "syn_inh", "mem"), "RLeaky": ("spk", "mem"),
    "RSynaptic": ("spk", "syn", "mem"),
}  # fmt: skip
"""Class -> states that a call takes and returns, in order; spk is the output."""
_RECURRENT = ("RLeaky", "RSynaptic")

_STAYS = "It can stay: lnm.nn.reset resets it."
_CONVOLUTION = (
    "Its neuron is lnm.get('{}'): write the convolution in your forward, and call the layer step "
    "by step."
)
_LSTM = f"It is an LSTM cell with a spike, and no neuron of one potential. {_STAYS}"
_PARALLEL = "It has weights and no reset: its potential is a filter of its input. It can stay."
REMEDIES = {
    "SLSTM": _LSTM, "SConv2dLSTM": _LSTM, "LeakyParallel": _PARALLEL, "LeakyKernel": _PARALLEL,
    "LinearLeaky": _PARALLEL, "StateLeaky": "It has no reset: its potential is a filter of its "
    "input. It can stay.", "AssociativeLeaky": _PARALLEL,
}  # fmt: skip
"""Class that is not converted -> what to do about it."""

_CHARGES = {"_base_sub": "subtract", "_base_zero": "zero", "_base_int": "none"}
"""Method of a layer that computes its charge -> reset in it."""

_AT_ONCE = {0: "subtract", 1: "zero"}
"""Value of `reset_mechanism_val` -> reset in the step of a spike."""


class SnnTorchCalls(RenamedLayer):
    """A single-step layer with the calls of snnTorch.

        spk, mem = layer(x, mem)        Leaky, Lapicque
        spk, mem = layer(x, spk, mem)        RLeaky
        spk, syn, mem = layer(x, syn, mem)        Synaptic
        spk, syn, mem = layer(x, spk, syn, mem)        RSynaptic
        spk, syn_exc, syn_inh, mem = layer(x, syn_exc, syn_inh, mem)        Alpha
        spk = layer(x)        init_hidden; with output=True also the states

    A state that is not given is that of the last call. A state of another shape than x becomes 0.
    With step_mode="m", x is a sequence (T, N, *), and may have `lengths`.
    `words` are the states that a call takes, and `passes` those of the neuron for them.
    The keys of an old state_dict load; a value that differs from a fixed option is an error.
    """

    words: tuple[str, ...] = ("mem",)
    passes: tuple[str, ...] = ("mem",)
    init_hidden: bool = False
    output: bool = False
    fixed: tuple[str, ...] = ()
    returns_states = True
    _checkpoint_remedy = "Leave the layer out, or give the call every state (init_hidden=False)."

    def forward(  # type: ignore[override]
        self,
        input_: Tensor,
        *states: Tensor | None,
        lengths: Tensor | None = None,
        **named: Tensor | None,
    ) -> Any:
        """Run one step, or a sequence."""
        if len(states) > len(self.words) or set(named) - set(self.words):
            problem = f"the call has states {', '.join(named) or len(states)}"
            raise ModelError(self.neuron.name, problem, self.words)
        given = dict(zip(self.words, states, strict=False)) | named
        if self.init_hidden and any(value is not None for value in given.values()):
            problem = f"the call has state {next(iter(given))!r}, and init_hidden is True"
            raise ModelError(self.neuron.name, problem, remedy="Call layer(x).")
        names = dict(zip(self.words, self.passes, strict=True))
        begun = {
            names[w]: v[None] if names[w] in self._own_states else v
            for w, v in given.items()
            if v is not None
        }
        rows = input_.shape if self.step_mode == "s" else input_.shape[1:]
        kept = {n: v for n, v in self._state.items() if n not in begun}
        kept = {n: v for n, v in kept.items() if v.shape[-len(rows) :] == rows}
        if len(begun) < len(self.neuron.states) + len(self._own_states):
            self._require_usable(*kept.values())
        begun = kept | {n: v for n, v in begun.items() if v.shape[-len(rows) :] == rows}
        out, final, *_ = super().forward(input_, state=begun, lengths=lengths, return_state=True)
        if self.init_hidden and not self.output:
            return out
        return (out, *(final[n] for w, n in names.items() if w != "spk"))

    def reset_mem(self) -> Any:
        """Discard the states, and return states of length 0 for the next call."""
        self.reset()
        device = next((v.device for v in self._values()), None)
        empty = tuple(torch.zeros(0, device=device) for _ in self.passes)
        return empty[0] if len(empty) == 1 else empty

    init_leaky = init_lapicque = init_synaptic = init_alpha = reset_mem
    init_rleaky = init_rsynaptic = reset_mem

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Load values of other shapes with as many elements, and require the fixed options."""
        own = dict(self.named_parameters(recurse=False)) | dict(self.named_buffers(recurse=False))
        for name, value in own.items():
            loaded = state_dict.get(prefix + name)
            if not isinstance(loaded, Tensor) or is_lazy(value) or is_lazy(loaded):
                continue
            if loaded.numel() != value.numel():
                continue
            state_dict[prefix + name] = loaded.reshape(value.shape)
            if name in self.fixed and not torch.equal(
                loaded.reshape(-1).cpu(), value.reshape(-1).cpu()
            ):
                error_msgs.append(f"{prefix}{name} is {loaded.tolist()}, here {value.tolist()}.")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        missing_keys[:] = [k for k in missing_keys if k.removeprefix(prefix) not in self.fixed]


class SnnTorchLayer(SnnTorchCalls, BroadcastLayer):
    """A layer of snnTorch without weights."""


class SnnTorchRecurrentLayer(SnnTorchCalls, RecurrentLayer):  # type: ignore[misc]
    """RLeaky or RSynaptic with a linear layer from each spike to each neuron."""


def protocol_of(old: Any, neuron: Neuron | None = None) -> Protocol:
    """Return the calls of a layer.

    Raises:
        UnsupportedError: The layer returns more states than the neuron has; it feeds its spikes
            back by a convolution, or without weights where another neuron is given.
    """
    words = passes = STATES[kind_of(old, STATES)]
    is_linear = words[0] == "spk" and is_plain(old.recurrent)
    if is_linear:
        sizes = old.recurrent.weight.shape
        found = f"its recurrent layer has {sizes[1]} inputs and {sizes[0]} outputs"
        require(old, sizes[0] == sizes[1], found, "Give it as many of both.")
    if words[0] == "spk" and not is_linear:
        remedy = _CONVOLUTION.format("leaky" if "syn" not in words else "synaptic")
        is_convolution = isinstance(old.recurrent, nn.Conv2d)
        found = "a convolution" if is_convolution else "another module than a plain nn.Linear"
        require(old, not old.all_to_all, f"it feeds its spikes back by {found}", remedy)
        remedy = (
            "Keep its neuron, or use lnm.nn.RecurrentLayer(neuron, size, recurrent='diagonal')."
        )
        require(old, neuron is None, "its weights V belong to its neuron", remedy)
    if is_linear:
        passes = ("feedback", *passes[1:])
    if neuron is not None:
        own = tuple(s.name for s in neuron.states)
        count = len(passes) - is_linear
        found = f"its calls return {count} states, and {neuron.name} has {len(own)}"
        require(old, len(own) >= count, found)
        passes = (*passes[:is_linear], *reversed(own[:count]))
    attributes: dict[str, Any] = {"words": words, "passes": passes}
    attributes |= {"init_hidden": old.init_hidden, "output": old.output}
    if not is_linear:
        if words[0] == "spk":
            attributes["renamed"] = {"recurrent.V": ()}  # the same as V
        return Protocol(SnnTorchLayer, "s", attributes=attributes)
    names = {"recurrent": old.recurrent.weight, "bias": old.recurrent.bias}
    attributes["renamed"] = {"recurrent.weight": ("recurrent",), "recurrent.bias": ("bias",)}
    weights = {n: value for n, value in names.items() if value is not None}
    return Protocol(
        SnnTorchRecurrentLayer, "s", attributes=attributes, weights=Weights(weights, weights)
    )


def recipe_of(old: Any) -> Recipe:
    """Return the recipe of a layer of snnTorch.

    Raises:
        UnsupportedError: An option without an equal here.
    """
    name = kind_of(old, STATES)
    require(
        old,
        not old.inhibition,
        "inhibition lets the neurons of a layer compete",
        "Set inhibition=False, and select the spikes in your forward.",
    )
    require(
        old,
        not old.state_quant,
        "state_quant quantizes the states",
        "Set state_quant=False, and set layer.arithmetic = lnm.Fixed(...) after the conversion.",
    )
    slope = snn_slope(name, old.spike_grad)
    tensors = {n: getattr(old, n) for n in (*_TENSORS[name.removeprefix("R")], "threshold")}
    protocol = protocol_of(old)
    if name in _RECURRENT and protocol.weights is None:
        tensors["V"] = old.V
    graded = kept(name, {"graded_spikes_factor": old.graded_spikes_factor})
    is_graded = not graded.is_only("graded_spikes_factor", 1)
    if is_graded:
        tensors["graded_spikes_factor"] = old.graded_spikes_factor
    if name == "Lapicque":
        learns = old.beta.requires_grad
        problem = "learn_beta: C keeps one graph of beta, for a single backward"
        require(old, not learns, problem, "Use Leaky, whose beta can be learned.")
    tensors_kept = kept(name, tensors)
    neuron = _neuron(name, tensors_kept, *_resets_of(old), slope)
    saved = old.state_dict()
    known = (library_names(type(old)) & set(old._buffers) & set(saved)) - set(tensors)
    protocol = replace(protocol, buffers=tuple(n for n in old._buffers if n in known))
    return Recipe(neuron, protocol, tensors_kept, slope.reason)


_TENSORS = {
    "Leaky": ("beta",), "Synaptic": ("alpha", "beta"), "Lapicque": ("R", "C", "time_step"),
    "Alpha": ("alpha", "beta"),
}  # fmt: skip
"""Class -> tensors of its charge."""


def _resets_of(old: Any) -> tuple[str, str]:
    """Return the reset in the charge of a layer, and that in the step of a spike.

    snnTorch selects the charge when it makes a layer. A new value of `reset_mechanism`, or one
    from a state_dict, changes only the reset in the step of a spike (`reset_delay=False`).

    Raises:
        UnsupportedError: The charge is not a method of the layer.
    """
    function = old.state_function
    known = getattr(function, "__self__", None) is old and function.__name__ in _CHARGES
    require(old, known, "state_function is not the layer's own", TRACE)
    charge, name = _CHARGES[function.__name__], kind_of(old, STATES)
    if getattr(old, "reset_delay", True) or name == "Alpha":
        return charge, "none"
    problem = "reset_delay=False, which its calls ignore, or fail at without a state spk"
    require(old, name != "RSynaptic", problem, "Set reset_delay=True.")
    return charge, _AT_ONCE.get(int(old.reset_mechanism_val), "none")


def _neuron(name: str, old: Kept, mechanism: str, at_once: str, slope: Slope) -> Neuron:
    """Return the neuron of a layer with these resets; see `_resets_of`.

    r = H(mem - threshold)
    u = beta*mem + x, or the sum of Synaptic or Lapicque, and beta is clamped to [0, 1]
    subtract: mem = u - r*threshold
    zero: mem = beta*(1 - r)*mem + x (Leaky), or (1 - r)*u
    RLeaky, RSynaptic: x + V*spk, spk of the step before, in place of x
    spk = H(mem - threshold)
    at once, subtract or zero: mem = mem - (spk - r)*threshold, or mem - (spk - r)*mem
    """
    x: Any = input("x")
    spk = state("spk") if "V" in old.given else None
    if spk is not None:
        x = bind(x + spk * old.symbol("V"), "x_fed")
    syn = state("syn") if name in ("Synaptic", "RSynaptic") else None
    mem, threshold = state("mem"), old.symbol("threshold")
    fired = mem > threshold if slope.strict else mem >= threshold
    if name == "Alpha":
        charge = _alpha(old, mem, x, where(fired, 1, 0), threshold, mechanism)
    else:
        charge = {} if syn is None else {syn: clip(old.symbol("alpha"), 0, 1) * syn + x}
        u = _sum(name, old, mem, x if syn is None else bind(charge[syn], "new_syn"))
        if mechanism == "zero":
            u = u.xreplace({mem: where(fired, 0, mem)}) if name == "Leaky" else where(fired, 0, u)
        charge[mem] = u - where(fired, threshold, 0) if mechanism == "subtract" else u
    out = (
        spike * old.symbol("graded_spikes_factor") if "graded_spikes_factor" in old.given else spike
    )
    reset: dict[Any, Any] = {} if spk is None else {spk: out}
    if at_once != "none":
        before = state("reset_before")
        charge[before] = where(fired, 1, 0)
        reset[mem] = mem - (spike - before) * (mem if at_once == "zero" else threshold)
    z: Any = mem - threshold
    return Neuron(
        charge,
        bind(z, "above") - TINY if slope.strict else z,
        reset,
        output=out,
        surrogate=slope.surrogate,
        name=name.lower(),
    )


def _sum(name: str, old: Kept, mem: Any, x: Any) -> Any:
    """Return the charged potential of Leaky, Synaptic or Lapicque before a reset."""
    if name == "Lapicque":
        r, c, step = (old.symbol(n) for n in ("R", "C", "time_step"))
        return x * r * (1 / (r * c)) * step + (1 - step / (r * c)) * mem
    return clip(old.symbol("beta"), 0, 1) * mem + x


def _alpha(old: Kept, mem: Any, x: Any, r: Any, threshold: Any, mechanism: str) -> dict[Any, Any]:
    """Return the charge of Alpha, whose potential is a sum of two currents.

    e = alpha*syn_exc + x;  i = beta*syn_inh - x, alpha and beta clamped to [0, 1]
    m = (log(alpha)/(log(beta) - log(alpha)) + 1)*(e + i)
    subtract: syn_exc = e - r*threshold;  syn_inh = i - r*i;  mem = m + r*syn_inh of before
    zero: each of e, i and m times (1 - r)
    """
    exc, inh = state("syn_exc"), state("syn_inh")
    alpha, beta = (clip(old.symbol(n), 0, 1) for n in ("alpha", "beta"))
    e, i = bind(alpha * exc + x, "exc"), bind(beta * inh - x, "inh")
    m = bind((log(alpha) / (log(beta) - log(alpha)) + 1) * (e + i), "sum")
    if mechanism == "subtract":
        return {exc: e - threshold * r, inh: i - i * r, mem: m + inh * r}
    if mechanism == "zero":
        return {exc: e - e * r, inh: i - i * r, mem: m - m * r}
    return {exc: e, inh: i, mem: m}
