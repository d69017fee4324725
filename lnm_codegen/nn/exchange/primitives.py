"""Nodes of NIR that neuron layers are, exactly.

From the coefficients of a leaky integrator (`analysis/linear/affine.py`), with a step dt:

    tau = dt/(1 - decay)    r = gain/(1 - decay)    v_leak = drift/(1 - decay)     LIF, LI
    r = gain/dt                                                                    IF, I

and likewise tau_syn and w_in of a current. NIR spikes where v > v_threshold. A neuron that spikes
where v >= v_threshold is written with the largest number below its threshold, of its own type: both
conditions hold for the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lnm_codegen.analysis.linear.affine import Membrane, membrane_of
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.exchange.layers import Shape
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import parameter_sets

Array = NDArray[Any]
_CLOSE = 1e-6  # relative: what counts as the same number after rounding to float32
EXACT = "a step of I, IF, LI, LIF, CubaLI, CubaLIF or Threshold, with a hard reset"
REMEDY = "Give approximate=True to write the nearest primitive."


class Primitive(NamedTuple):
    """A node to be written.

    Attributes:
        node: The node.
        fires: How the neuron compares, or "never".
        reset: Its reset in words.
    """

    node: Any
    fires: str
    reset: str


def coefficients_of(layer: NeuronLayer, membrane: Membrane, shape: Shape) -> dict[str, Array]:
    """Return the coefficients of a layer as float64 arrays of the shape of its neurons."""
    sets = parameter_sets(layer)
    values = {name: value.double().numpy() for name, value in sets.values.items()}
    found = membrane.values(values, len(sets))
    ones = (1,) * (len(shape) - len(sets.shape)) if sets.shape else ()
    return {
        name: np.broadcast_to(
            (value[0] if not sets.shape else value.reshape(*sets.shape, *ones)), shape
        ).astype(np.float64)
        for name, value in found.items()
    }


def primitive_of(where: str, layer: NeuronLayer, shape: Shape, dt: float, nir: Any) -> Primitive:
    """Return the node that a layer is.

    Raises:
        UnsupportedError: It is none; the message names the first difference.
    """
    try:
        membrane = membrane_of(layer.neuron)
        found = coefficients_of(layer, membrane, shape)
        _require_start(membrane, found)
        fields = fields_of(where, membrane, found, dt)
    except UnsupportedError as error:
        place = where if error.where == where else f"{where}: {error.where}"
        raise UnsupportedError(place, error.problem, error.accepted or EXACT, REMEDY) from None
    reset = "hard" if membrane.fires and membrane.potential else "none"
    return written(nir, membrane, found, fields, layer_dtype(layer), reset)


def written(
    nir: Any,
    membrane: Membrane,
    found: Mapping[str, Array],
    fields: Mapping[str, Array],
    dtype: np.dtype[Any],
    reset: str,
) -> Primitive:
    """Return the node with these fields, and threshold and reset of the coefficients."""
    arrays = {name: np.array(value, dtype) for name, value in fields.items()}
    kind = {"r": "I", "tau": "LI", "tau_mem": "CubaLI"}
    leaky = next((k for field, k in reversed(kind.items()) if field in arrays), "Threshold")
    fires = "never"
    if membrane.fires:
        fires = "v > v_threshold" if membrane.strict else "v >= v_threshold"
        threshold = np.array(found["threshold"], dtype)
        if not membrane.strict:
            threshold = np.nextafter(threshold, np.array(-np.inf, dtype))
        if not membrane.potential:
            return Primitive(nir.Threshold(threshold=threshold), fires, reset)
        arrays["v_threshold"], arrays["v_reset"] = threshold, np.array(found["reset"], dtype)
        leaky += "F"
    return Primitive(getattr(nir, leaky)(**arrays), fires, reset)


def fields_of(
    where: str, membrane: Membrane, found: Mapping[str, Array], dt: float
) -> dict[str, Array]:
    """Return the fields of the equations, without threshold and reset.

    Raises:
        UnsupportedError: A potential that grows or oscillates, or one without a leak that drifts.
    """
    if not membrane.potential:
        return {}
    decay, gain, drift = found["decay"], found["gain"], found["drift"]
    _require_decay(where, membrane.potential, decay)
    if (decay == 1).any():
        if membrane.current or (decay != 1).any():
            accepted = "decays < 1, or decays of 1 without a current"
            raise UnsupportedError(where, "some potentials have no leak", accepted)
        if drift.any():
            raise UnsupportedError(where, "the potential drifts without a leak", "no constant")
        return {"r": gain / dt}
    if not membrane.current:
        return {"tau": dt / (1 - decay), "r": gain / (1 - decay), "v_leak": drift / (1 - decay)}
    if not np.isfinite(gain).all():  # of Norse, whose current is read before it decays
        raise UnsupportedError(where, f"{membrane.current} keeps nothing in a step", "tau_syn > dt")
    own = found["current_decay"]
    _require_decay(where, membrane.current, own)
    if (own == 1).any():
        raise UnsupportedError(where, "a current has no decay", "decays < 1")
    return {
        "tau_syn": dt / (1 - own),
        "tau_mem": dt / (1 - decay),
        "r": gain / (1 - decay),
        "v_leak": drift / (1 - decay),
        "w_in": found["current_gain"] / (1 - own),
    }


def _require_decay(where: str, name: str, decay: Array) -> None:
    for value in (decay.min(), decay.max()):
        if not -1 < value <= 1:
            problem = f"{name} is multiplied by {float(value):g} in a step"
            raise UnsupportedError(where, problem, "factors > -1 and <= 1")


def _require_start(membrane: Membrane, found: Mapping[str, Array]) -> None:
    """Raise UnsupportedError unless the states begin at rest, where readers begin."""
    if not membrane.potential:
        return
    decay = found["decay"]
    rest = np.where(decay == 1, 0, found["drift"] / np.where(decay == 1, 1, 1 - decay))
    for name, start, accepted in (
        (membrane.potential, found["start"], rest),
        (membrane.current, found.get("current_start", np.zeros(1)), np.zeros(1)),
    ):
        differs = ~np.isclose(start, accepted, rtol=_CLOSE, atol=_CLOSE)
        if differs.any():
            first, wanted = (
                np.broadcast_to(a, differs.shape)[differs][0] for a in (start, accepted)
            )
            problem = f"state {name} begins at {float(first):g}"
            raise UnsupportedError(membrane.neuron.name, problem, f"{float(wanted):g}, its rest")


def layer_dtype(layer: NeuronLayer) -> np.dtype[Any]:
    """Return the type of a layer's parameters: float64, or else float32."""
    kinds = {value.dtype for value in (*layer.parameters(), *layer.buffers())}
    return np.dtype("float64" if torch.float64 in kinds else "float32")
