"""Interval of a layer's potential, on which the penalty and the projection act."""

from __future__ import annotations

from typing import cast

from lnm_codegen.analysis.charge import lower_clamp, potential_of
from lnm_codegen.families.common import LOWEST
from lnm_codegen.ir.declarations import State
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.models.norm import threshold_of


def interval_of(layer: NeuronLayer, low: float | None = None) -> tuple[float, float]:
    """Return the interval [v_min, V] of a layer with its present parameters.

    V is the threshold, its mean over the layer; see `threshold_of`. v_min is the first of these:

    * the lower clamp of the charge (`analysis.charge.lower_clamp`);
    * `low`, if given;
    * -2, if the initial potential is above -2;
    * two distances to the threshold below the initial potential, for potentials in mV.

    The interval is empty, v_min >= V, if the neuron begins far above its threshold.
    """
    threshold = getattr(layer, "v_threshold", None)
    high = threshold_of(layer.neuron) if threshold is None else float(threshold.detach().mean())
    clamp = lower_clamp(layer.neuron) if layer.neuron.states else None
    if clamp is not None or low is not None:
        return cast("float", low if clamp is None else clamp), high
    start = _initial_potential(layer)
    return LOWEST if start > LOWEST else start + LOWEST * (high - start), high


def _initial_potential(layer: NeuronLayer) -> float:
    """Return the initial potential, its mean over the layer; a random one counts as 0."""
    if not layer.neuron.states:
        return 0.0
    decl = cast("State", potential_of(layer.neuron).decl)
    if decl.param:
        return float(getattr(layer, decl.param).detach().mean())
    return float(decl.init) if isinstance(decl.init, int | float) else 0.0
