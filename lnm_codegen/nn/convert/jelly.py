"""Layers of SpikingJelly, version 0.0.0.0.14 and 2.x (`spikingjelly.activation_based.neuron`).

They fire at >= and keep their states from call to call until `reset()`, in both step modes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lnm_codegen.families.cuba_lif import cuba_lif
from lnm_codegen.families.exponential import eif
from lnm_codegen.families.integrate_and_fire import if_
from lnm_codegen.families.izhikevich import izhikevich
from lnm_codegen.families.klif import klif
from lnm_codegen.families.lif import lif
from lnm_codegen.families.plif import plif
from lnm_codegen.families.qif import qif
from lnm_codegen.language.functions import stop_gradient
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import spike
from lnm_codegen.nn.arguments import is_recomputed
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
LAYERS = "spikingjelly.activation_based.layer."
"""Package of other layers."""
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


NODES: dict[str, Callable[[Any, dict[str, Any]], Made]] = {
    "IFNode": _if, "LIFNode": _lif, "ParametricLIFNode": _plif, "QIFNode": _qif, "EIFNode": _eif,
    "KLIFNode": _klif, "IzhikevichNode": _izhikevich, "CUBALIFNode": _cuba_lif,
}  # fmt: skip
"""Classes that are converted."""
