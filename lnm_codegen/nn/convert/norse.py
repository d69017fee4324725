"""Layers of Norse 1.x: those of `STATES`.

They fire at >. A cell takes (x, state) and returns (out, state); without a state, each call begins
anew. The others do the same with a sequence. Recurrent layers have weights W and U,
and the spikes z of the last step in their state.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.language.binding import bind
from lnm_codegen.language.functions import exp
from lnm_codegen.language.neuron import Neuron, hard_reset, soft_reset
from lnm_codegen.language.symbols import Declared, input, spike, state
from lnm_codegen.nn.convert.recipe import (
    BroadcastLayer,
    Kept,
    Protocol,
    Recipe,
    RenamedLayer,
    Weights,
    kept,
    kind_of,
    name_of,
    number,
    require,
)  # fmt: skip
from lnm_codegen.nn.convert.slopes import TINY, Slope, norse_slope
from lnm_codegen.nn.recurrent import RecurrentLayer
from lnm_codegen.options import StepMode

PREFIX = "norse.torch.module"
"""Package of the classes."""

_RECURRENT = (
    "It has weights. Its neuron without them is {}: put the weights in modules of their own, and "
    "call the layer step by step."
)
_WEIGHTS = {
    "LIFAdExRecurrent": "that of norse.LIFAdExCell", "LIFExRecurrent": "that of norse.LIFExCell",
    "IzhikevichRecurrent": "that of norse.IzhikevichCell", "LILinear": "that of norse.LICell",
    "LIFRefracRecurrent": "lnm.get('refractory_lif', tau_syn=...)",
}  # fmt: skip
REMEDIES = {
    f"{name}{cell}": _RECURRENT.format(neuron)
    for name, neuron in _WEIGHTS.items()
    for cell in ("", "Cell")
} | {
    "LIFRefracCell": "lnm.get('refractory_lif', tau_syn=...) has its spikes, and no gradient "
    "through the refractory period.",
}
"""Class that is not converted -> what to do about it."""


class NorseCalls(RenamedLayer):
    """A layer with the calls of Norse: (x, state) -> (out, state).

    `state` is a NamedTuple of the library where the neuron has its states, else a dict. Without it,
    a call begins with the initial states, or with `carry_state` where the last call ended.
    A state_dict of Norse has no parameter of the neuron. It loads, and they keep their values.
    """

    states_of: Callable[..., Any] = dict
    returns_states = True

    @property
    def needs_states(self) -> bool:
        """Whether a call without a state begins anew."""
        return not self.carry_state

    def forward(self, input_tensor: Tensor, state: Any = None) -> Any:  # type: ignore[override]
        """Run one step, or a sequence."""
        given: Any = None if self.carry_state else {}
        if state is not None:
            given = dict(state) if isinstance(state, dict) else state._asdict()
        if given and "z" in given and self._own_states:
            given["feedback"] = given.pop("z")[None]
        out, final = super().forward(input_tensor, state=given, return_state=True)
        if not self.carry_state:
            self._state = {}
        if self._own_states:
            final["z"] = final.pop("feedback")[0]
        return out, self.states_of(**final)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Load the parameters; all of them may be missing."""
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        own = {f"{prefix}{param.name}" for param in self.neuron.params}
        if not own & set(state_dict):
            missing_keys[:] = [key for key in missing_keys if key not in own]


class NorseLayer(NorseCalls, BroadcastLayer):
    """A layer of Norse without weights."""


class NorseRecurrentLayer(NorseCalls, RecurrentLayer):  # type: ignore[misc]
    """A recurrent layer of Norse; `z` of its state are the last spikes."""


STATES = {
    "LIFCell": ("lif", "LIFFeedForwardState"),
    "LIF": ("lif", "LIFFeedForwardState"),
    "LIFBoxCell": ("lif_box", "LIFBoxFeedForwardState"),
    "LICell": ("leaky_integrator", "LIState"),
    "LI": ("leaky_integrator", "LIState"),
    "LIBoxCell": ("leaky_integrator_box", "LIBoxState"),
    "IAFCell": ("iaf", "IAFFeedForwardState"),
    "IAF": ("iaf", "IAFFeedForwardState"),
    "IzhikevichCell": ("izhikevich", "IzhikevichState"),
    "Izhikevich": ("izhikevich", "IzhikevichState"),
    "LIFExCell": ("lif_ex", "LIFExFeedForwardState"),
    "LIFEx": ("lif_ex", "LIFExFeedForwardState"),
    "LIFAdExCell": ("lif_adex", "LIFAdExFeedForwardState"),
    "LIFAdEx": ("lif_adex", "LIFAdExFeedForwardState"),
    "LSNNCell": ("lsnn", "LSNNFeedForwardState"),
    "LSNN": ("lsnn", "LSNNFeedForwardState"),
    "LIFRecurrentCell": ("lif", "LIFState"),
    "LIFRecurrent": ("lif", "LIFState"),
    "LSNNRecurrentCell": ("lsnn", "LSNNState"),
    "LSNNRecurrent": ("lsnn", "LSNNState"),
}
"""Class -> module of `norse.torch.functional` and NamedTuple of its state."""


def protocol_of(old: Any, neuron: Neuron | None = None) -> Protocol:
    """Return the calls of a layer."""
    name = kind_of(old, STATES)
    step_mode: StepMode = "s" if name.endswith("Cell") else "m"
    require(
        old,
        not getattr(old, "record_states", False),
        "record_states=True",
        "Set it to False, and set layer.record and layer.return_recorded=False afterwards.",
    )
    states_of: Any = dict
    if neuron is None:
        module, kind = STATES[name]
        states_of = getattr(sys.modules[f"norse.torch.functional.{module}"], kind)
    attributes: dict[str, Any] = {"states_of": states_of}
    if "Recurrent" not in name:
        return Protocol(NorseLayer, step_mode, attributes=attributes)
    attributes["renamed"] = {"input_weights": ("weight",), "recurrent_weights": ("recurrent",)}
    given = {"weight": old.input_weights, "recurrent": old.recurrent_weights}
    has_autapses = old.autapses or bool(old.recurrent_weights.diagonal().any())
    weights = Weights(given, given, has_autapses)
    return Protocol(NorseRecurrentLayer, step_mode, attributes=attributes, weights=weights)


def recipe_of(old: Any) -> Recipe:
    """Return the recipe of a layer of Norse.

    Raises:
        UnsupportedError: A parameter or an option without an equal here.
    """
    name = kind_of(old, STATES)
    made, names = NODES[name.removesuffix("Cell").removesuffix("Recurrent")]
    fields = {n: getattr(old.p, n) for n in names}
    if made is _iaf and not isinstance(old.p.v_reset, nn.Parameter):
        fields["v_reset"] = torch.as_tensor(old.p.v_reset).detach()  # a call makes it require one
    own = kept(name_of(old), fields)
    neuron = made(old, own)
    if "Recurrent" in name and "detach" in old.activation.__code__.co_names:
        neuron = neuron.with_detach_reset(True)
    step = f"norse.torch.functional.{STATES[name][0]}"
    found = f"{old.activation.__module__}.{old.activation.__name__}"
    own_step = "lif_step" if "LIF" in name else "lsnn_step"
    ends = own_step if "Recurrent" in name else "_feed_forward_step"
    known = found.startswith(f"{step}.") and found.endswith(ends)
    require(old, known, f"its step is {found}", f"Use that of {step}, with adjoint=False.")
    fallback = getattr(old.state_fallback, "__name__", "")
    require(old, fallback == "initial_state", "state_fallback is not the layer's own")
    return Recipe(neuron, protocol_of(old), own)


def _start(old: Any, own: Kept, name: str) -> Declared:
    """Declare a parameter that is also the initial potential, without a gradient as in Norse."""
    problem = f"{name}, also an initial value, requires a gradient"
    require(old, not own.learns(name), problem, f"Give {name}.detach() to the parameters.")
    return own.symbol(name)


def _slope(old: Any) -> Slope:
    return norse_slope(name_of(old), old.p.method, old.p.alpha)


def _strict(v: Any, threshold: Any) -> Any:
    return bind(v - threshold, "above") - TINY


def _lif(old: Any, own: Kept) -> Neuron:
    """Return LIF with a current.

    charge   i_new = i + x;  h = v + dt*tau_mem_inv*(v_leak - v + i_new);
             i = i_new - dt*tau_syn_inv*i_new
    fire     spike = H(h - v_th), at >
    reset    hard to v_reset
    """
    rest = _start(old, own, "v_leak")
    v, i, x = state("v", init=rest), state("i"), input("x")
    syn, mem, threshold, reset = (own.symbol(n) for n in _LIF if n != "v_leak")
    new = bind(i + x, "i_new")
    return Neuron(
        {v: v + old.dt * mem * (rest - v + new), i: new - old.dt * syn * new},
        _strict(v, threshold),
        hard_reset(v, reset),
        surrogate=_slope(old).surrogate,
        name="norse_lif",
    )


def _lif_ex(old: Any, own: Kept) -> Neuron:
    """Return the exponential LIF with a current, `_lif` with another charge of v.

    charge   h = v + dt*tau_mem_inv*(v_leak - v + delta_T*exp((v - v_th)/delta_T) + i_new)
    """
    return _exponential(old, own, adapts=False)


def _lif_adex(old: Any, own: Kept) -> Neuron:
    """Return the adaptive exponential LIF, `_lif_ex` with an adaptation a.

    charge   h = v + dt*tau_mem_inv*(v_leak - v + delta_T*exp((v - v_th)/delta_T) + i_new - a)
             a' = a + dt*tau_ada_inv*(adaptation_current*(v - v_leak) - a)
    reset    a' + adaptation_spike*spike
    """
    return _exponential(old, own, adapts=True)


def _exponential(old: Any, own: Kept, adapts: bool) -> Neuron:
    rest = _start(old, own, "v_leak")
    v, i, x = state("v", init=rest), state("i"), input("x")
    syn, mem, threshold, reset = (own.symbol(n) for n in _LIF if n != "v_leak")
    sharpness = own.symbol("delta_T")
    new = bind(i + x, "i_new")
    drive = rest - v + sharpness * exp((v - threshold) / sharpness) + new
    charge: dict[Any, Any] = {i: new - old.dt * syn * new}
    resets = hard_reset(v, reset)
    if adapts:
        a = state("a")
        drive -= a
        coupling = own.symbol("adaptation_current")
        charge[a] = a + old.dt * own.symbol("tau_ada_inv") * (coupling * (v - rest) - a)
        resets |= {a: a + own.symbol("adaptation_spike") * spike}
    return Neuron(
        {v: v + old.dt * mem * drive} | charge,
        _strict(v, threshold),
        resets,
        surrogate=_slope(old).surrogate,
        name="norse_lif_adex" if adapts else "norse_lif_ex",
    )


def _lsnn(old: Any, own: Kept) -> Neuron:
    """Return the neuron of an LSNN, whose threshold is b; the current charges v a step later.

    charge   h = v + dt*tau_mem_inv*(v_leak - v + i);  i' = i - dt*tau_syn_inv*i + x
             b' = b + dt*tau_adapt_inv*(v_th - b)
    fire     spike = H(h - b'), at >
    reset    v hard to v_reset;  b' + beta*spike
    """
    rest, base = _start(old, own, "v_leak"), _start(old, own, "v_th")
    v, i, b, x = state("v", init=rest), state("i"), state("b", init=base), input("x")
    syn, mem, adapt, reset, jump = (
        own.symbol(n) for n in ("tau_syn_inv", "tau_mem_inv", "tau_adapt_inv", "v_reset", "beta")
    )
    return Neuron(
        {
            v: v + old.dt * mem * (rest - v + i),
            i: i - old.dt * syn * i + x,
            b: b + old.dt * adapt * (base - b),
        },
        _strict(v, b),
        hard_reset(v, reset) | {b: b + jump * spike},
        surrogate=_slope(old).surrogate,
        name="norse_lsnn",
    )


def _lif_box(old: Any, own: Kept) -> Neuron:
    """Return LIF without a current.

    charge   h = v + dt*tau_mem_inv*(x + v_leak - v)
    fire     spike = H(h - v_th), at >
    reset    hard to v_reset; with reset_subtract soft by v_th
    """
    rest = _start(old, own, "v_leak")
    v, x = state("v", init=rest), input("x")
    mem, threshold, reset = (own.symbol(n) for n in _BOX if n != "v_leak")
    method = old.p.reset_method
    found = (getattr(method, "__module__", ""), getattr(method, "__name__", repr(method)))
    known = found[0] == "norse.torch.functional.reset"
    soft = found[1] == "reset_subtract"
    require(old, known and (soft or found[1] == "reset_value"), f"reset_method {found[1]}")
    return Neuron(
        {v: v + old.dt * mem * (x + rest - v)},
        _strict(v, threshold),
        soft_reset(v, threshold) if soft else hard_reset(v, reset),
        surrogate=_slope(old).surrogate,
        name="norse_lif_box",
    )


def _iaf(old: Any, own: Kept) -> Neuron:
    """Return integrate-and-fire: h = v + x, which begins at v_reset."""
    reset, threshold = _start(old, own, "v_reset"), own.symbol("v_th")
    v, x = state("v", init=reset), input("x")
    return Neuron(
        {v: v + x},
        _strict(v, threshold),
        hard_reset(v, reset),
        surrogate=_slope(old).surrogate,
        name="norse_iaf",
    )


def _li(old: Any, own: Kept) -> Neuron:
    """Return the leaky integrator, whose output is its potential.

    charge   i_new = i + x;  v = v + dt*tau_mem_inv*(v_leak - v + i_new);
             i = i_new - dt*tau_syn_inv*i_new
    """
    rest = _start(old, own, "v_leak")
    v, i, x = state("v", init=rest), state("i"), input("x")
    syn, mem = own.symbol("tau_syn_inv"), own.symbol("tau_mem_inv")
    new = bind(i + x, "i_new")
    charge = {v: v + old.dt * mem * (rest - v + new), i: new - old.dt * syn * new}
    return Neuron(charge, output=v, name="norse_li")


def _li_box(old: Any, own: Kept) -> Neuron:
    """Return the leaky integrator without a current: v = v + dt*tau_mem_inv*(v_leak - v + x)."""
    rest = _start(old, own, "v_leak")
    v, x = state("v", init=rest), input("x")
    charge = {v: v + old.dt * own.symbol("tau_mem_inv") * (rest - v + x)}
    return Neuron(charge, output=v, name="norse_li_box")


def _izhikevich(old: Any, own: Kept) -> Neuron:
    """Return Izhikevich's neuron, h = tau_inv*dt.

    charge   v' = v + h*(sq*v**2 + mn*v + bias - u + x);  u' = u + h*a*(b*v - u)
    fire     spike = H(v' - v_th), at >
    reset    v hard to c;  u' + d*spike
    """
    starts = {
        n: number(name_of(old), n, s.detach()) for n, s in old.spiking_method.s._asdict().items()
    }
    v, u, x = state("v", init=starts["v"]), state("u", init=starts["u"]), input("x")
    p = {n: own.symbol(n) for n in _IZHIKEVICH}
    h = p["tau_inv"] * old.dt
    return Neuron(
        {
            v: v + h * (p["sq"] * v**2 + p["mn"] * v + p["bias"] - u + x),
            u: u + h * p["a"] * (p["b"] * v - u),
        },
        _strict(v, p["v_th"]),
        hard_reset(v, p["c"]) | {u: u + p["d"] * spike},
        surrogate=_slope(old).surrogate,
        name="norse_izhikevich",
    )


_LIF = ("tau_syn_inv", "tau_mem_inv", "v_leak", "v_th", "v_reset")
_BOX = ("tau_mem_inv", "v_leak", "v_th", "v_reset")
_IZHIKEVICH = ("a", "b", "c", "d", "sq", "mn", "bias", "v_th", "tau_inv")
_LSNN = (*_LIF, "tau_adapt_inv", "beta")
_EX = (*_LIF, "delta_T")
_ADEX = (*_EX, "tau_ada_inv", "adaptation_current", "adaptation_spike")
NODES: dict[str, tuple[Callable[[Any, Kept], Neuron], tuple[str, ...]]] = {
    "LIF": (_lif, _LIF),
    "LIFEx": (_lif_ex, _EX),
    "LIFAdEx": (_lif_adex, _ADEX),
    "LSNN": (_lsnn, _LSNN),
    "LIFBox": (_lif_box, _BOX),
    "IAF": (_iaf, ("v_reset", "v_th")),
    "LI": (_li, ("tau_syn_inv", "tau_mem_inv", "v_leak")),
    "LIBox": (_li_box, ("tau_mem_inv", "v_leak")),
    "Izhikevich": (_izhikevich, _IZHIKEVICH),
}
"""Class without "Cell" -> its neuron and the fields of `p` that the neuron reads."""
