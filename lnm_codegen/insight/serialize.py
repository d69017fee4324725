"""Serialisation of an analysis to plain data, for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from lnm_codegen.analysis.linear.modes import EDGE, SLOW, Modes, poles_as_list
from lnm_codegen.analysis.linear.modes import FLAT as ALTERNATING
from lnm_codegen.insight.analysis import RunAnalysis
from lnm_codegen.insight.classes import FLAT, INTEGRATOR
from lnm_codegen.insight.dynamics import RESPONSE_STEPS, RowDynamics
from lnm_codegen.insight.history import ABSENT, mean_and_deviation
from lnm_codegen.insight.layer import LayerAnalysis
from lnm_codegen.insight.learned import spreads
from lnm_codegen.insight.record import Activity
from lnm_codegen.insight.summary import accuracy_interval, summary


def as_dict(found: RunAnalysis) -> dict[str, Any]:
    """Return all numbers of an analysis."""
    return {
        "run": str(found.folder),
        "network": found.network,
        "equations": list(found.equations),
        "config": found.config,
        "split": found.split,
        "samples": found.samples,
        "correct": found.correct,
        "predictions": found.predictions,
        "accuracy": found.accuracy,
        "accuracy_interval": accuracy_interval(found),
        "epochs": found.epochs,
        "summary": dict(summary(found)),
        "diversity": found.diversity,
        "thresholds": {
            "integrator": INTEGRATOR,
            "flat": FLAT,
            "slow_pole": SLOW,
            "alternating_pole": -ALTERNATING,
            "unstable_pole": 1 + EDGE,
        },
        "layers": [_layer(layer) for layer in found.layers],
        "energy": found.energy.as_dict(),
    }


def _layer(layer: LayerAnalysis) -> dict[str, Any]:
    proven = layer.certificate
    return {
        "name": layer.name,
        "neuron": layer.layer.neuron.name,
        "learned": layer.learned,
        "parameters": {name: asdict(spread) for name, spread in spreads(layer.layer).items()},
        "per": layer.rows.per,
        "rows": len(layer.rows),
        "analyzed_rows": layer.selected,
        "classes": layer.classes,
        "dynamics": _dynamics(layer),
        "typical": _typical(layer),
        "movement": None
        if layer.movement is None
        else {"epochs": list(layer.movement.epochs), "classes": layer.movement.classes},
        "curve": {"v": layer.z.tolist(), "h": layer.curve.T.tolist()},
        "certificate": proven if isinstance(proven, str) else proven.as_json(),
        "reset_gain": layer.threshold.gain,
        "threshold_factor": layer.threshold.factor,
        "seen": None if layer.activity is None else _activity(layer.activity),
        "response": None
        if layer.response is None
        else {
            "steps": RESPONSE_STEPS,
            "x": layer.response.currents.tolist(),
            "rates": layer.response.rates.T.tolist(),
        },
        "history": ABSENT
        if layer.history is None
        else {name: mean_and_deviation(values) for name, values in layer.history.items()},
    }


def _dynamics(layer: LayerAnalysis) -> str | list[dict[str, Any]]:
    if layer.modes is not None:
        return [_mode(layer, layer.modes, k) for k in range(len(layer.selected))]
    if isinstance(layer.dynamics, str):
        return layer.dynamics
    return [_row(row) for row in layer.dynamics]


def _typical(layer: LayerAnalysis) -> dict[str, Any] | None:
    if layer.typical is None or layer.responses is None:
        return None
    impulse, step = layer.responses
    return {
        "row": layer.selected[layer.typical],
        "place": layer.place(layer.typical),
        "impulse_response": impulse,
        "step_response": step,
    }


def _mode(layer: LayerAnalysis, modes: Modes, k: int) -> dict[str, Any]:
    return {
        "row": layer.selected[k],
        "place": layer.place(k),
        "class": modes.labels[k],
        "at": modes.at(k),
        "fixed_point": bool(modes.fixed[k]),
        "fires": bool(modes.fires[k]),
        "matrix": modes.matrix[k].tolist(),
        "eigenvalues": poles_as_list(modes.poles(k)),
    }


def _row(row: RowDynamics) -> dict[str, Any]:
    return {
        "row": row.row,
        "place": row.place,
        "class": row.label,
        "interval": list(row.interval),
        "slopes": list(row.slopes),
        "fixed_points": [{"v": p.v, "slope": p.slope, "kind": p.kind} for p in row.points],
    }


def _extent(ends: Tensor) -> list[float]:
    return [float(ends[:, 0].min()), float(ends[:, 1].max())]


def _activity(activity: Activity) -> dict[str, Any]:
    edges, counts = activity.charged.trimmed()
    return {
        "shape": list(activity.shape),
        "steps": activity.steps,
        "x": list(activity.input),
        "v": _extent(activity.visited),
        "v_by_row": activity.visited.tolist(),
        "states": {name: _extent(ends) for name, ends in activity.states.items()},
        "states_by_row": {name: ends.tolist() for name, ends in activity.states.items()},
        "charged": {"edges": edges, "counts": counts, "not_finite": activity.charged.lost},
        "firing_rate": float(activity.fired.mean()),
        "silent": float((activity.fired == 0).double().mean()),
        "firing_rates": activity.fired.flatten().tolist(),
    }
