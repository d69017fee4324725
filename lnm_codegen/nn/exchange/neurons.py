"""Neurons of NIR as layers: the equations of a node, discretised by forward Euler with step dt.

    I, IF      h = v + dt*r*x
    LI, LIF    h = v + (dt/tau)*(v_leak - v + r*x)
    CubaLI     i <- i + (dt/tau_syn)*(w_in*x - i), and LI or LIF of the new i instead of x
    CubaLIF
    Threshold  h = x

    IF, LIF, CubaLIF, Threshold    spike where h > v_threshold, then v = v_reset
    I, LI, CubaLI                  the output is h

These are the steps of Norse, snnTorch and SpikingJelly. The potential begins at v_leak, or at 0
without a leak, and the current at 0. A potential equal to the threshold does not spike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.language.functions import min, where
from lnm_codegen.language.neuron import Neuron, hard_reset
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.nn.exchange.layers import Shape, array_of
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.options import BackendName

Array = NDArray[np.float64]

_LEAKY = ("tau", "r", "v_leak")
_CUBA = ("tau_syn", "tau_mem", "r", "v_leak", "w_in")
_FIRE = ("v_threshold", "v_reset")
FIELDS: dict[str, tuple[str, ...]] = {
    "I": ("r",),
    "IF": ("r", *_FIRE),
    "LI": _LEAKY,
    "LIF": (*_LEAKY, *_FIRE),
    "CubaLI": _CUBA,
    "CubaLIF": (*_CUBA, *_FIRE),
    "Threshold": ("threshold",),
}
"""Class of a node -> its fields, which become parameters of the neuron."""

TINY = 1e-30
"""What z = v - v_threshold is less where v == v_threshold, so that the neuron does not spike."""


def strict(v: Any, v_threshold: Any) -> Any:
    """Return z of a neuron that spikes where v > v_threshold; its derivative in v is 1.

    The `min` keeps TINY apart from v_threshold, in whose sum it would be rounded away.
    """
    return where(v > v_threshold, v - v_threshold, min(v - v_threshold, 0) - TINY)


def euler_neuron(kind: str, per: Mapping[str, Granularity], dt: float) -> Neuron:
    """Return the neuron of a node of class `kind`; its parameters are learnable, and have no value.

    Args:
        kind: A key of `FIELDS`.
        per: Field -> granularity.
        dt: Length of a step, in the unit of the time constants.
    """
    name = f"nir_{kind.lower()}"
    p = {field: param(field, init=1.0, per=per[field]) for field in FIELDS[kind]}
    x = input("x")
    if kind == "Threshold":
        return Neuron(fire=strict(x, p["threshold"]), name=name)
    leak, tau = p.get("v_leak"), p.get("tau", p.get("tau_mem"))
    v = state("v") if leak is None else state("v", init=leak)
    charge: dict[Any, Any] = {}
    drive: Any = x
    if "tau_syn" in p:
        current = state("current")
        drive = charge[current] = current + dt / p["tau_syn"] * (p["w_in"] * x - current)
    drive = p["r"] * drive
    charge[v] = v + dt * drive if tau is None else v + dt / tau * (leak - v + drive)  # type: ignore[operator]
    if "v_threshold" not in p:
        return Neuron(charge=charge, output={"out": v}, name=name)
    reset = hard_reset(v, p["v_reset"], on=spike)
    return Neuron(charge=charge, fire=strict(v, p["v_threshold"]), reset=reset, name=name)


def neuron_layer(
    where: str, node: Any, shape: Shape, dt: float, backend: BackendName = "auto"
) -> NeuronLayer:
    """Return the layer of a node of `FIELDS` for an input with the features `shape`.

    A field whose values are all equal becomes a parameter per layer; one that is equal within each
    channel, a parameter per channel; any other, a parameter per neuron.

    Raises:
        ModelError: A field is not finite, a time constant is not positive, or a step of forward
            Euler is unstable.
        ShapeError: A field does not have the shape of the input.
    """
    kind = type(node).__name__
    values = {f: _field(where, f, getattr(node, f), shape) for f in FIELDS[kind]}
    for field in ("tau", "tau_syn", "tau_mem"):
        if field in values:
            _require_stable(where, field, values[field], dt)
    coarse = {field: _coarsest(value) for field, value in values.items()}
    neuron = euler_neuron(kind, {field: per for field, (per, _) in coarse.items()}, dt)
    dtype = torch.get_default_dtype()
    layer = NeuronLayer(
        neuron, channels=shape[0] if shape else None, shape=shape, backend=backend, dtype=dtype
    )
    with torch.no_grad():
        for field, (_, value) in coarse.items():
            getattr(layer, field).copy_(torch.tensor(value))
    return layer


def _field(where: str, word: str, value: Any, shape: Shape) -> Array:
    """Return a field with the shape of the input."""
    array = array_of(where, word, value)
    if array.size != 1 and array.shape != shape:
        problem = f"{word} has shape {array.shape}, the input {shape} without T and N"
        raise ShapeError(where, problem, f"{shape}, or one number")
    return np.broadcast_to(array.reshape(()) if array.size == 1 else array, shape)


def _require_stable(where: str, word: str, tau: Array, dt: float) -> None:
    least = float(tau.min())
    if least <= 0:
        raise ModelError(where, f"{word} is {least:g}", "time constants > 0")
    if dt >= 2 * least:
        raise UnsupportedError(
            where,
            f"a step of dt = {dt:g} is unstable under forward Euler with {word} = {least:g}",
            f"dt < {2 * least:g}",
            "Give dt in the unit of the graph's time constants.",
        )


def _coarsest(value: Array) -> tuple[Granularity, Array]:
    """Return the coarsest granularity that holds the values, and them at that granularity."""
    if (value == value.flat[0]).all():
        return "layer", value.reshape(-1)[0]
    if value.ndim == 1:
        return "channel", value
    rows = value.reshape(value.shape[0], -1)
    if (rows == rows[:, :1]).all():
        return "channel", rows[:, 0]
    return "neuron", value
