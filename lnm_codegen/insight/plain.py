"""An analysis as plain data, for JSON."""

from __future__ import annotations

from typing import Any

from lnm_codegen.insight.analysis import LayerAnalysis, RunAnalysis
from lnm_codegen.insight.classes import FLAT, INTEGRATOR
from lnm_codegen.insight.dynamics import STEPS, RowDynamics
from lnm_codegen.insight.history import ABSENT, summary
from lnm_codegen.insight.watch import Seen


def as_dict(found: RunAnalysis) -> dict[str, Any]:
    """Return all numbers of an analysis."""
    return {
        "run": str(found.folder),
        "network": found.network,
        "equations": list(found.equations),
        "config": found.config,
        "split": found.split,
        "samples": found.samples,
        "accuracy": found.accuracy,
        "diversity": found.diversity,
        "thresholds": {"integrator": INTEGRATOR, "flat": FLAT},
        "layers": [_layer(layer) for layer in found.layers],
        "energy": found.energy.as_dict(),
    }


def _layer(layer: LayerAnalysis) -> dict[str, Any]:
    told = layer.certificate
    return {
        "name": layer.name,
        "neuron": layer.layer.neuron.name,
        "learned": layer.learned,
        "per": layer.rows.per,
        "rows": len(layer.rows),
        "analyzed_rows": layer.chosen,
        "classes": layer.classes,
        "dynamics": layer.dynamics
        if isinstance(layer.dynamics, str)
        else [_row(row) for row in layer.dynamics],
        "curve": {"v": layer.z.tolist(), "h": layer.curve.T.tolist()},
        "certificate": told if isinstance(told, str) else told.as_json(),
        "seen": None if layer.seen is None else _seen(layer.seen),
        "response": None
        if layer.response is None
        else {
            "steps": STEPS,
            "x": layer.response.currents.tolist(),
            "rates": layer.response.rates.T.tolist(),
        },
        "history": ABSENT
        if layer.history is None
        else {name: summary(values) for name, values in layer.history.items()},
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


def _seen(seen: Seen) -> dict[str, Any]:
    edges, counts = seen.charged.trimmed()
    return {
        "shape": list(seen.shape),
        "steps": seen.steps,
        "x": list(seen.input),
        "v": [float(seen.visited[:, 0].min()), float(seen.visited[:, 1].max())],
        "v_by_row": seen.visited.tolist(),
        "charged": {"edges": edges, "counts": counts, "not_finite": seen.charged.lost},
        "firing_rate": float(seen.fired.mean()),
        "silent": float((seen.fired == 0).double().mean()),
        "firing_rates": seen.fired.flatten().tolist(),
    }
