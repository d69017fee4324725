"""Layers of SpikingJelly, version 0.0.0.0.14 and 2.x (`spikingjelly.activation_based.neuron`).

They fire at >= and keep their states from call to call until `reset()`, in both step modes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lnm_codegen.families.cuba_lif import cuba_lif
from lnm_codegen.families.integrate_and_fire import if_
from lnm_codegen.families.izhikevich import izhikevich
from lnm_codegen.families.lif import lif
from lnm_codegen.families.plif import plif
from lnm_codegen.families.qif import qif
from lnm_codegen.language.functions import exp, stop_gradient, where
from lnm_codegen.language.neuron import Neuron, hard_reset, soft_reset
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import input, param, spike, state
from lnm_codegen.nn.convert.recipe import (
    NOTHING,
    Protocol,
    Recipe,
    kind_of,
    name_of,
    number_of,
    optional_number,
    require,
    symbol_of,
    with_step_end,
)
from lnm_codegen.nn.convert.slopes import jelly_slope
from lnm_codegen.nn.convert.values import Kept, kept
from lnm_codegen.nn.layer import NeuronLayer

PREFIX = "spikingjelly.activation_based.neuron"
"""Module of the classes; in 2.x, a package."""


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


def protocol_of(old: Any, neuron: Neuron | None = None) -> Protocol:
    """Return the calls of a layer: those of `NeuronLayer`, with states that are kept."""
    stores = getattr(old, "store_v_seq", False) and neuron is None
    layer = VoltageLayer if stores else NeuronLayer
    return Protocol(layer, old.step_mode, carry_state=True)


def recipe_of(old: Any) -> Recipe:
    """Return the recipe of a layer of SpikingJelly.

    Raises:
        UnsupportedError: A class or an option without an equal here.
    """
    name = name_of(old)
    precision = getattr(old, "_neuron_precision", None)
    require(old, precision is None, f"its precision is {precision}")
    slope = jelly_slope(name, old.surrogate_function)
    require(old, not slope.strict, "its surrogate fires at > 0, not at >= 0")
    v_reset = optional_number(old, "v_reset")
    common = {
        "v_threshold": number_of(old, "v_threshold"),
        "v_reset": v_reset,
        "surrogate": slope.surrogate,
    }
    neuron, tensors, scale = NODES[kind_of(old, NODES)](old, common)
    neuron = detached(neuron, v_reset) if old.detach_reset else neuron
    for state_name, value in old._memories_rv.items():
        own = {"c": "current"}.get(state_name, state_name)
        start = symbol_of(neuron, own).decl.init  # type: ignore[union-attr]
        same = isinstance(value, int | float) and value == start
        require(old, same, f"its reset value of {state_name} is {value!r}, not {start!r}")
    if getattr(old, "store_v_seq", False):
        by = symbol_of(neuron, scale) if scale else 1
        neuron = with_step_end(neuron, v_reset, bool(old.detach_reset), by)
    return Recipe(neuron, protocol_of(old), tensors, slope.reason)


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
    """Return numbers that are attributes of a layer, by name."""
    return {name: number_of(old, name) for name in names}


Made: TypeAlias = tuple[Neuron, Kept, str]
"""Neuron, its parameters that are tensors, and the parameter that scales the reset, or ""."""


def _if(old: Any, common: dict[str, Any]) -> Made:
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
    neuron = klif(number_of(old, "tau"), bool(old.decay_input), scaled, **common)
    return neuron, kept(name_of(old), {"k": old.k}), "k" if scaled else ""


def _eif(old: Any, common: dict[str, Any]) -> Made:
    return eif(**_numbers(old, "tau", "delta_T", "theta_rh", "v_rest"), **common), NOTHING, ""


NODES: dict[str, Callable[[Any, dict[str, Any]], Made]] = {
    "IFNode": _if, "LIFNode": _lif, "ParametricLIFNode": _plif, "QIFNode": _qif, "EIFNode": _eif,
    "KLIFNode": _klif, "IzhikevichNode": _izhikevich, "CUBALIFNode": _cuba_lif,
}  # fmt: skip
"""Classes that are converted."""


def klif(
    tau: float,
    decay_input: bool,
    scale_reset: bool,
    v_threshold: float,
    v_reset: float | None,
    surrogate: Surrogate,
) -> Neuron:
    """Return KLIF (SpikingJelly `KLIFNode`; arXiv 2302.09238).

    charge   u = v + (x - (v - r)) / tau, or v - (v - r) / tau + x;  h = max(k*u, 0)
    fire     spike = H(h - v_threshold)
    reset    hard to v_reset, or soft by v_threshold; with scale_reset, of h/k by v_threshold/k
    """
    rest = v_reset or 0.0
    v, x, t = state("v", init=rest), input("x"), param("tau", init=tau, learnable=False)
    k = param("k", init=1.0)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    u = v + (x - (v - rest)) / t if decay_input else v - (v - rest) / t + x
    h, amount = (v / k, threshold / k) if scale_reset else (v, threshold)
    after = h - spike * amount if v_reset is None else where(spike, v_reset, h)
    h = where(k * u > 0, k * u, 0)  # whose slope at 0 is 0, as PyTorch's relu
    return Neuron({v: h}, v - threshold, {v: after}, surrogate=surrogate, name="klif")


def eif(
    tau: float,
    delta_T: float,
    theta_rh: float,
    v_rest: float,
    v_threshold: float,
    v_reset: float | None,
    surrogate: Surrogate,
) -> Neuron:
    """Return the exponential integrate-and-fire neuron (SpikingJelly `EIFNode`).

    charge   h = v + (x + v_rest - v + delta_T * exp((v - theta_rh) / delta_T)) / tau
    fire     spike = H(h - v_threshold)
    reset    hard to v_reset, or soft by v_threshold
    """
    v, x, t = state("v", init=v_reset or 0.0), input("x"), param("tau", init=tau, learnable=False)
    sharpness = param("delta_T", init=delta_T, learnable=False)
    rheobase = param("theta_rh", init=theta_rh, learnable=False)
    rest = param("v_rest", init=v_rest, learnable=False)
    threshold = param("v_threshold", init=v_threshold, learnable=False)
    growth = sharpness * exp((v - rheobase) / sharpness)
    reset = soft_reset(v, threshold) if v_reset is None else hard_reset(v, v_reset)
    charge = {v: v + (x + rest - v + growth) / t}
    return Neuron(charge, v - threshold, reset, surrogate=surrogate, name="eif")
