"""Layers of SpikingJelly, version 0.0.0.0.14 and 2.x (`spikingjelly.activation_based.neuron`).

They fire at >= and keep their states from call to call until `reset()`, in both step modes. The
containers of one layer that feed its spikes back become one layer with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lnm_codegen.errors import ShapeError
from lnm_codegen.families.integrate_and_fire import clif, cuba_lif, if_, klif, li, lif, plif
from lnm_codegen.families.quadratic import eif, izhikevich, qif
from lnm_codegen.language.binding import bind
from lnm_codegen.language.functions import Where, replaced, sigmoid, stop_gradient, where
from lnm_codegen.language.neuron import Neuron, hard_reset, soft_reset
from lnm_codegen.language.surrogate import Surrogate, from_slope
from lnm_codegen.language.symbols import input, param, spike, spike_named, state
from lnm_codegen.nn.arguments import is_recomputed
from lnm_codegen.nn.convert.recipe import (
    NOTHING,
    Kept,
    Protocol,
    Recipe,
    RenamedLayer,
    Weights,
    is_hooked,
    is_plain,
    kept,
    kind_of,
    name_of,
    number_of,
    optional_number,
    require,
    symbol_of,
    with_step_end,
)
from lnm_codegen.nn.convert.slopes import TINY, Slope, jelly_slope
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.recurrent import RecurrentLayer

PREFIX = "spikingjelly.activation_based.neuron"
"""Module of the classes; in 2.x, a package."""
LAYERS = "spikingjelly.activation_based.layer."
"""Package of other layers."""
_STAYS = "It can stay: lnm.nn.reset resets it."
_RANDOM = f"It is random, as no neuron here is. {_STAYS}"
_PARALLEL = f"It weights all time steps at once, and keeps no potential from step to step. {_STAYS}"
_ONLINE = (
    "Its neuron is lnm.get('lif'). Train with step_mode='s' and call layer.detach() before each "
    "step."
)
_LEVELS = f"It is part of a converted artificial network, for inference. {_STAYS}"
_FEEDBACK = (
    "It feeds its spikes back through a convolution. Its neuron is lnm.get('{}'): write the "
    "feedback in your forward."
)
REMEDIES = {
    "PSN": _PARALLEL, "MaskedPSN": _PARALLEL, "SlidingPSN": _PARALLEL,
    "OTTTLIFNode": _ONLINE, "SLTTLIFNode": _ONLINE,
    "FlexSN": "Give its core to lnm.trace, and put lnm.nn.NeuronLayer(neuron) in its place.",
    "DSRIFNode": f"Its gradient is that of firing rates, not of its steps. {_STAYS}",
    "DSRLIFNode": f"Its gradient is that of firing rates, not of its steps. {_STAYS}",
    "HalfThresholdIFNode": _LEVELS, "ActivationAwareIFNode": _LEVELS, "STBIFNode": _LEVELS,
    "FewSpikeNode": _LEVELS,
    "MPBNBaseNode": f"It normalises the potential over the batch at each step. {_STAYS}",
    "ILCIFNode": _FEEDBACK.format("if"), "ILCLIFNode": _FEEDBACK.format("lif"),
    "ILCCUBALIFNode": _FEEDBACK.format("cuba_lif"),
    "NoisyBaseNode": _RANDOM, "NoisyNonSpikingBaseNode": _RANDOM,
}  # fmt: skip
"""Class that is not converted -> what to do about it."""
_NORMS = {
    f"{kind}{axes}d" for kind in ("BatchNorm", "ThresholdDependentBatchNorm") for axes in (1, 2, 3)
}


def is_batch_norm(kind: type) -> bool:
    """Report whether a class of SpikingJelly computes what PyTorch's batch normalisation does."""
    return kind.__module__.startswith(LAYERS) and kind.__name__ in _NORMS


class VoltageLayer(NeuronLayer):
    """A layer of SpikingJelly with store_v_seq: `v_seq` has v after the reset of every step.

    (T, N, *). A multi-step call replaces it. A single-step call appends a step, until `reset()`.
    """

    v_seq: Tensor | None = None

    def forward(self, x_seq: Tensor, **options: Any) -> Any:  # type: ignore[override]
        """Run the layer and store v."""
        result = super().forward(x_seq, **options)
        is_pair = not isinstance(result[0], Tensor)  # (outputs, state)
        out, v = result[0] if is_pair else result
        if self.step_mode == "s":
            v = v.unsqueeze(0)
            v = v if self.v_seq is None else torch.cat((self.v_seq, v))
        if not is_recomputed():
            self.v_seq = v
        return (out, result[1]) if is_pair else out

    def reset(self) -> None:
        """Discard states, records and `v_seq`."""
        super().reset()
        self.v_seq = None

    def detach(self) -> None:
        """Cut the states and `v_seq` from the graph."""
        super().detach()
        self.v_seq = None if self.v_seq is None else self.v_seq.detach()


class ReadoutLayer(NeuronLayer):
    """A layer with the results of SpikingJelly's NonSpiking nodes, (T, N, *) -> (N, *).

    `decode` is "max-mem", "max-abs-mem", "mean-mem" or "last_mem": the largest potential, that of
    the largest magnitude, the mean or the last one. With any other value, a call returns the list
    of the potentials. Each call begins with the initial states.
    """

    decode: str | None = None

    def forward(self, x_seq: Tensor, **options: Any) -> Any:  # type: ignore[override]
        """Run the layer and reduce the potentials over time."""
        v_seq: Any = super().forward(x_seq, **options)
        match self.decode:
            case "max-mem":
                return v_seq.max(0).values
            case "max-abs-mem":
                high, low = v_seq.max(0).values, v_seq.min(0).values
                is_high = high.abs() > low.abs()
                return high * is_high + low * is_high.logical_not()
            case "mean-mem":
                return v_seq.mean(0)
            case "last_mem":
                return v_seq[-1]
        return list(v_seq.unbind())


class GatedLayer(NeuronLayer):
    """A layer with the calls of SpikingJelly's GatedLIFNode, (T, N, C, H, W) -> the same.

    `conduct`, (T,) or (T, C), has the conductance of each time step before the sigmoid. A call
    begins with the potential of the last one, and without a spike.
    """

    conduct: Tensor

    def forward(self, x_seq: Tensor, **options: Any) -> Any:  # type: ignore[override]
        """Run the layer over the time steps of `conduct`."""
        steps = self.conduct.shape[0]
        if x_seq.dim() != 5 or x_seq.shape[0] < steps or self.step_mode != "m":
            problem = f"x_seq is {tuple(x_seq.shape)}, step_mode {self.step_mode!r}"
            accepted = f"(T, N, C, H, W) with T = {steps} in step_mode 'm'"
            raise ShapeError(self.neuron.name, problem, accepted)
        g = self.conduct.sigmoid().to(x_seq.dtype).reshape(steps, 1, -1, 1, 1)
        out = super().forward(x_seq[:steps], g, **options)
        self._state = {n: v for n, v in self._state.items() if n != "s_prev"}
        return out


class JellyLayer(RenamedLayer):
    """A layer in the place of an ElementWiseRecurrentContainer."""


class JellyRecurrentLayer(RenamedLayer, RecurrentLayer):
    """A layer in the place of a LinearRecurrentContainer, (T, N, inputs) -> (T, N, H)."""


CONTAINERS = ("LinearRecurrentContainer", "ElementWiseRecurrentContainer")


def is_container(module: Any) -> bool:
    """Report whether a module is a recurrent container whose layer is converted with it."""
    kind = type(module)
    if kind.__name__ not in CONTAINERS or not f"{kind.__module__}.".startswith(LAYERS):
        return False
    inner = module.sub_module
    is_known = f"{type(inner).__module__}.".startswith(f"{PREFIX}.")
    if not is_known or type(inner).__name__ not in NODES or is_hooked(inner):
        return False
    if kind.__name__ == CONTAINERS[0]:
        return is_plain(module.rc)
    return _read(module.element_wise_function) is not None


@cache
def _read(function: Callable[..., Any]) -> Neuron | None:
    """Return a neuron whose output is f(y, x), or None for a function that cannot be traced."""
    from lnm_codegen.nn.trace.trace import trace

    try:
        return trace(lambda y, x: (function(y, x), {"y": y}), states={"y": 0.0}, inputs=["x"])
    except Exception:  # LnmError, or one of the function itself
        return None


def protocol_of(old: Any, neuron: Neuron | None = None) -> Protocol:
    """Return the calls of a layer: those of `NeuronLayer`, with states that are kept."""
    if is_container(old):
        return _of_container(old, neuron)
    name = kind_of(old, KNOWN)
    if name in _READOUTS:
        return Protocol(ReadoutLayer, attributes={"decode": old.decode})
    if name == "GatedLIFNode" and neuron is None:
        return Protocol(GatedLayer, carry_state=True)
    stores = getattr(old, "store_v_seq", False) and neuron is None
    layer = VoltageLayer if stores and name != "ComplementaryLIFNode" else NeuronLayer
    return Protocol(layer, getattr(old, "step_mode", "m"), carry_state=True)


def recipe_of(old: Any) -> Recipe:
    """Return the recipe of a layer of SpikingJelly.

    Raises:
        UnsupportedError: A class or an option without an equal here.
    """
    if is_container(old):
        return _container(old)
    name, kind = name_of(old), kind_of(old, KNOWN)
    if kind in _READOUTS:
        return Recipe(_READOUTS[kind](old), protocol_of(old))
    precision = getattr(old, "_neuron_precision", None)
    require(old, precision is None, f"its precision is {precision}", "Remove the precision.")
    counts = kind == "ILIFNode"  # whose surrogate is that of a number
    slope = _NO_SLOPE if counts else jelly_slope(name, old.surrogate_function)
    require(old, not slope.strict, "its surrogate fires at > 0, not at >= 0")
    if kind == "GatedLIFNode":
        neuron, tensors = _gated(old, slope.surrogate)
        return Recipe(neuron, protocol_of(old), tensors, slope.reason)
    v_reset = optional_number(old, "v_reset")
    common = {
        "v_threshold": number_of(old, "v_threshold"),
        "v_reset": v_reset,
        "surrogate": slope.surrogate,
    }
    neuron, tensors, scale = NODES[kind](old, common)
    detach = bool(old.detach_reset) and kind != "ComplementaryLIFNode"  # which ignores it
    neuron = detached(neuron, v_reset) if detach else neuron
    for state_name, value in old._memories_rv.items():
        own = {"c": "current"}.get(state_name, state_name)
        start = symbol_of(neuron, own).decl.init  # type: ignore[union-attr]
        same = isinstance(value, int | float) and value == start
        problem = f"its reset value of {state_name} is {value!r}, not {start!r}"
        require(old, same, problem, "Set it back, and set the state after each reset instead.")
    protocol = protocol_of(old)
    if protocol.layer is VoltageLayer:
        neuron = _with_v_seq(neuron, v_reset, detach, scale)
    return Recipe(neuron, protocol, tensors, slope.reason)


def _of_container(old: Any, neuron: Neuron | None) -> Protocol:
    """Return the calls of a container."""
    mode, inner = old.step_mode, old.sub_module
    renamed: dict[str, tuple[str, ...]] = {f"sub_module.{n}": (n,) for n in inner._parameters}
    if type(old).__name__ == CONTAINERS[1]:
        require(old, neuron is None, "its function belongs to its neuron")
        return Protocol(JellyLayer, mode, True, {"renamed": renamed})
    size, rc = old.rc.out_features, old.rc
    outputs = rc.in_features - size
    require(old, outputs == size, f"its layer has {outputs} outputs and {size} inputs")
    values = {"weight": rc.weight[:, :size].detach(), "recurrent": rc.weight[:, size:].detach()}
    given = {"weight": rc.weight, "recurrent": rc.weight}
    renamed |= {"rc.weight": ("weight", "recurrent"), "rc.bias": ("bias",)}
    if rc.bias is not None:
        values["bias"] = given["bias"] = rc.bias
    attributes = {"renamed": renamed, "split": size}
    return Protocol(JellyRecurrentLayer, mode, True, attributes, weights=Weights(values, given))


def _container(old: Any) -> Recipe:
    """Return the recipe of a container, which has the neuron and the tensors of its layer."""
    found = recipe_of(old.sub_module)
    stores = found.protocol.layer is not NeuronLayer
    require(old, not stores, "its layer has store_v_seq", "Set store_v_seq=False.")
    feeds = _read(old.element_wise_function) if type(old).__name__ == CONTAINERS[1] else None
    neuron = found.neuron if feeds is None else _fed(found.neuron, feeds)
    return replace(found, neuron=neuron, protocol=_of_container(old, None))


def _fed(neuron: Neuron, feeds: Neuron) -> Neuron:
    """Return a neuron with x[t] = f(y[t-1], x[t]) in place of x, where y is its output.

    The gradient through y stays, also with detach_reset.
    """
    y, x = state("y"), neuron.inputs[0]
    own: dict[Any, Any] = {feeds.states[0]: y, feeds.inputs[0]: x}
    table: dict[Any, Any] = {x: bind(replaced(feeds.output[0][1], own), "x_fed")}
    for symbol, definition in neuron.bindings:
        table[symbol] = bind(replaced(definition, table), symbol.name)
    charge, fire, reset, output = (
        {key: replaced(e, table) for key, e in pairs}
        for pairs in (neuron.charge, neuron.fire, neuron.reset, neuron.output)
    )
    if neuron.detach_reset:
        reset = {key: _fixed(e, [*fire]) for key, e in reset.items()}
    reset[y] = next(iter(output.values()))
    surrogates = {s: dict(neuron.surrogates)[s.name] for s, _ in neuron.fire}
    return Neuron(charge, fire, reset, output, surrogates, name=f"{neuron.name}_fed")


def _fixed(reset: Any, spikes: list[Any]) -> Any:
    """Return a reset whose spikes are constants to the derivative."""
    constant = {s: stop_gradient(s) for s in spikes}
    if isinstance(reset, Where) and reset.args[0] in constant:
        s, then, orelse = reset.args
        reset = s * then + (1 - s) * orelse
    return replaced(reset, constant)


def _with_v_seq(neuron: Neuron, v_reset: float | None, detach: bool, scale: str) -> Neuron:
    """Return the neuron with a second output, v after the reset; see `with_step_end`."""
    if len(neuron.fire) == 1:
        by = symbol_of(neuron, scale) if scale else 1
        return with_step_end(neuron, v_reset, detach, by)
    after = dict(neuron.reset)[symbol_of(neuron, "v")]
    spikes = {s: stop_gradient(s) for s, _ in neuron.fire}
    return neuron.with_outputs(v_seq=after.xreplace(spikes) if detach else after)


def detached(neuron: Neuron, v_reset: float | None) -> Neuron:
    """Return the neuron with detach_reset, which in SpikingJelly concerns v alone.

    w of an Izhikevich neuron keeps the gradient of its spike.
    """
    if len(neuron.reset) == 1:
        return neuron.with_detach_reset(True)
    v, s = symbol_of(neuron, "v"), stop_gradient(spike)
    threshold = symbol_of(neuron, "v_threshold")
    after = v - s * threshold if v_reset is None else s * v_reset + (1 - s) * v
    return Neuron(
        dict(neuron.charge),
        dict(neuron.fire),
        dict(neuron.reset) | {v: after},
        surrogate=dict(neuron.surrogates)["spike"],
        name=neuron.name,
    )


def _numbers(old: Any, *names: str) -> dict[str, Any]:
    return {name: number_of(old, name) for name in names}


Made: TypeAlias = tuple[Neuron, Kept, str]
"""Neuron, its parameters that are tensors, and the parameter that scales the reset, or ""."""


def _if(_old: Any, common: dict[str, Any]) -> Made:
    return if_(**common), NOTHING, ""


def _lif(old: Any, common: dict[str, Any]) -> Made:
    tau = number_of(old, "tau")
    return lif(tau=tau, decay_input=bool(old.decay_input), **common), NOTHING, ""


def _plif(old: Any, common: dict[str, Any]) -> Made:
    return plif(decay_input=bool(old.decay_input), **common), kept(name_of(old), {"w": old.w}), ""


def _qif(old: Any, common: dict[str, Any]) -> Made:
    numbers = _numbers(old, "tau", "v_c", "a0", "v_rest")
    return qif(**numbers, **common), NOTHING, ""


def _izhikevich(old: Any, common: dict[str, Any]) -> Made:
    numbers = _numbers(old, "tau", "v_c", "a0", "v_rest", "tau_w", "a", "b")
    neuron = izhikevich(**numbers, **common)
    start = number_of(old, "w_rest")
    return neuron.with_init(w=start), NOTHING, ""


def _cuba_lif(old: Any, common: dict[str, Any]) -> Made:
    decays = number_of(old, "c_decay"), number_of(old, "v_decay")
    return cuba_lif(*decays, **common), NOTHING, ""


def _klif(old: Any, common: dict[str, Any]) -> Made:
    scaled = bool(old.scale_reset)
    tau = number_of(old, "tau")
    neuron = klif(tau=tau, decay_input=bool(old.decay_input), scale_reset=scaled, **common)
    return neuron, kept(name_of(old), {"k": old.k}), "k" if scaled else ""


def _eif(old: Any, common: dict[str, Any]) -> Made:
    return eif(**_numbers(old, "tau", "delta_T", "theta_rh", "v_rest"), **common), NOTHING, ""


def _simple_if(_old: Any, common: dict[str, Any]) -> Made:
    return if_(**common).with_init(v=0.0), NOTHING, ""


def _simple_lif(old: Any, common: dict[str, Any]) -> Made:
    require(old, common["v_reset"] is not None, "its calls fail with v_reset=None")
    neuron, tensors, scale = _lif(old, common)
    return neuron.with_init(v=0.0), tensors, scale


def _clif(old: Any, common: dict[str, Any]) -> Made:
    require(old, common.pop("v_reset") is None, "v_reset is a number, which its calls ignore")
    stores = getattr(old, "store_state_seqs", False)
    require(old, not stores, "store_state_seqs=True", "Set it to False.")
    return clif(tau=number_of(old, "tau"), **common), NOTHING, ""


def _raf(old: Any, common: dict[str, Any]) -> Made:
    """Return the resonator, with a = exp(b*dt) and w = omega*dt.

    charge   u' = a*(u*cos(w) - v*sin(w)) + x;  h = a*(u*sin(w) + v*cos(w))
    fire     spike = H(h - v_threshold)
    reset    v hard to v_reset; soft by v_threshold where v_reset is None
    """
    b, omega, dt = (number_of(old, name) for name in ("b", "omega", "dt"))
    reset = common["v_reset"]
    v, u, x = state("v", init=reset or 0.0), state("u"), input("x")
    threshold = param("v_threshold", init=common["v_threshold"], learnable=False)
    decay, cosine, sine = math.exp(b * dt), math.cos(omega * dt), math.sin(omega * dt)
    neuron = Neuron(
        {u: decay * (u * cosine - v * sine) + x, v: decay * (u * sine + v * cosine)},
        v - threshold,
        soft_reset(v, threshold) if reset is None else hard_reset(v, reset),
        surrogate=common["surrogate"],
        name="raf",
    )
    return neuron, NOTHING, ""


def _ternary(charge: Callable[[Any, dict[str, Any]], Made]) -> Callable[..., Made]:
    """Return the maker of a neuron with a spike of each sign.

    fire     up = H(h - v_threshold),  down = H(-h - v_threshold)
    reset    h - (up - down)*v_threshold, or s*v_reset + (1 - s)*h with s = up + down
    output   up - down
    """

    def made(old: Any, common: dict[str, Any]) -> Made:
        neuron, tensors, scale = charge(old, common)
        v, threshold = symbol_of(neuron, "v"), symbol_of(neuron, "v_threshold")
        up, down, v_reset = spike_named("up"), spike_named("down"), common["v_reset"]
        hard = 0 if v_reset is None else (up + down) * v_reset + (1 - up - down) * v
        return (
            Neuron(
                dict(neuron.charge),
                {up: v - threshold, down: -v - threshold},
                {v: v - (up - down) * threshold if v_reset is None else hard},
                output={"out": up - down},
                surrogate=common["surrogate"],
                name=f"ternary_{neuron.name}",
            ),
            tensors,
            scale,
        )

    return made


def _i_lif(old: Any, common: dict[str, Any]) -> Made:
    """Return the neuron that emits round(clip(u, 0, max_count)) spikes, u = h/v_threshold.

    A half is rounded to the nearest even integer, so that spike k occurs at u > k - 1/2 for odd k,
    and at >= for even k. The slope of the count is 1 for grad_min <= u <= grad_max: that of
    `window`, which adds 0 to the count.
    """
    function = old.surrogate_function
    known = type(function).__name__ == "MultiLevelSpikeCount" and function.spiking
    require(old, known, "its surrogate is no MultiLevelSpikeCount with spiking=True")
    most = int(function.max_spike_count)
    require(old, most <= 16, f"it emits up to {most} spikes in a step, more than 16")
    low, high = float(function.grad_min), float(function.grad_max)
    (v, x), tau = (state("v"), input("x")), number_of(old, "tau")
    t = param("tau", init=tau, learnable=False)
    threshold = param("v_threshold", init=common["v_threshold"], learnable=False)
    spikes = [spike_named(f"spike_{k}") for k in range(1, most + 1)]
    window, u = spike_named("window"), v / threshold
    levels: dict[Any, Any] = {s: u - (k - 0.5) for k, s in enumerate(spikes, 1)}
    levels |= {s: bind(levels[s], f"above_{s.name}") - TINY for s in spikes[::2]}
    count = sum(spikes) + window - stop_gradient(window)
    inside = from_slope(lambda z: where(z < 0, 0, where(z <= high - low, 1, 0)), "window")
    neuron = Neuron(
        {v: v - v / t + x},
        levels | {window: u - low},
        {v: v - count * threshold},
        output={"count": count},
        surrogate={**dict.fromkeys(spikes, _NO_SLOPE.surrogate), window: inside},
        name="i_lif",
    )
    return neuron, NOTHING, ""


_NO_SLOPE = Slope(from_slope(lambda z: 0 * z, "none"), strict=False)

_GATES = (
    "alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset",
)  # fmt: skip
"""Learned tensors of a GatedLIFNode, () or (C,), each before a sigmoid."""


def _gated(old: Any, surrogate: Surrogate) -> tuple[Neuron, Kept]:
    """Return the neuron of a GatedLIFNode, `glif` with the library's names of parameters.

    charge   k = 1 - alpha*(1 - tau)
             h = k*v - (1 - alpha)*linear_decay + (1 - beta*(1 - g))*x
                 - k*v*gamma*s_prev - (1 - gamma)*v_subreset*s_prev
    fire     spike = H(h - v_threshold)
    reset    s_prev = spike

    g is the second input.
    """
    tensors = {name: getattr(old, name) for name in _GATES}
    per = {n: "channel" if t.dim() else "layer" for n, t in tensors.items()}
    sizes = {t.shape[0] for t in tensors.values() if t.dim()}
    known = all(t.dim() < 2 for t in tensors.values()) and len(sizes) <= 1
    require(old, known and old.conduct.dim() in (1, 2), "tensors of other shapes than () and (C,)")
    own = Kept(tensors, tensors, per, None, next(iter(sizes), None))  # type: ignore[arg-type]
    a, b, c, decay, threshold, leak, amount = (sigmoid(own.symbol(name)) for name in _GATES)
    v, s_prev, x, g = state("v"), state("s_prev"), input("x"), input("g")
    kept_v = (1 - a * (1 - decay)) * v
    late = kept_v * c * s_prev + (1 - c) * amount * s_prev
    neuron = Neuron(
        {v: kept_v - (1 - a) * leak + (1 - b * (1 - g)) * x - late},
        v - threshold,
        {s_prev: spike},
        surrogate=surrogate,
        name="glif",
    )
    return neuron, own


NODES: dict[str, Callable[[Any, dict[str, Any]], Made]] = {
    "IFNode": _if, "LIFNode": _lif, "ParametricLIFNode": _plif, "QIFNode": _qif, "EIFNode": _eif,
    "KLIFNode": _klif, "IzhikevichNode": _izhikevich, "CUBALIFNode": _cuba_lif,
    "SimpleIFNode": _simple_if, "SimpleLIFNode": _simple_lif, "ComplementaryLIFNode": _clif,
    "RAFNode": _raf, "TernaryIFNode": _ternary(_if), "TernaryLIFNode": _ternary(_lif),
    "ILIFNode": _i_lif,
}  # fmt: skip
"""Classes that are converted, beside those of `KNOWN`."""


def _integrator(_old: Any) -> Neuron:
    """Return the sum of the input, v + x."""
    v = state("v")
    return Neuron({v: v + input("x")}, output={"out": v}, name="integrator")


_READOUTS: dict[str, Callable[[Any], Neuron]] = {
    "NonSpikingIFNode": _integrator,
    "NonSpikingLIFNode": lambda old: li(tau=number_of(old, "tau")),
}
"""Classes without spikes, which begin each call anew."""

KNOWN = (*NODES, "GatedLIFNode", *_READOUTS)
"""All classes that are converted."""
