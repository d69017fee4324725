"""An analysis of a run: sections and a summary for a terminal and a page, data for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lnm_codegen.analysis.linear.modes import EDGE, SLOW, Modes, class_note, number, poles_as_list
from lnm_codegen.analysis.linear.modes import FLAT as ALTERNATING
from lnm_codegen.analysis.report import response_lines
from lnm_codegen.insight.analysis import ABSENT, RunAnalysis, mean_and_deviation
from lnm_codegen.insight.energy.cost import FP32, INT8, LEMAIRE, Synapses
from lnm_codegen.insight.energy.report import EnergyReport
from lnm_codegen.insight.figures import panels
from lnm_codegen.insight.layer import FLAT, INTEGRATOR, RESPONSE_STEPS, LayerAnalysis, RowDynamics
from lnm_codegen.insight.record import Activity
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.plot.subject import MOST_CURVES
from lnm_codegen.sections import Detail, Lines, Part, Section, Table
from lnm_codegen.validation import counted

# Tables of an analysis as text, for the terminal and the page.


_MOST_SETS = 16
"""Largest number of parameter sets in a table of fixed points."""


def layers_table(found: RunAnalysis) -> Table:
    """Return a row for each neuron layer; the states visited are those after the reset."""
    rows = []
    for layer in found.layers:
        activity = layer.activity
        classes = ", ".join(f"{name} {n}" for name, n in layer.classes.items())
        total = str(len(layer.rows))
        if len(layer.selected) < len(layer.rows):
            total = f"{len(layer.selected)} of {total}"
        numbers = ("-", "-", "-", "-")
        if activity is not None:
            numbers = (
                f"{float(activity.fired.mean()):.4f}",
                f"{100 * float((activity.fired == 0).double().mean()):.1f} %",
                ", ".join(f"{n} in {_interval(ends)}" for n, ends in activity.states.items()),
                f"[{activity.input[0]:.3g}, {activity.input[1]:.3g}]",
            )
        rows.append((layer.name, total, classes or "-", *numbers, certificate_line(layer)))
    header = ("layer", "rows", "classes", "rate", "silent", "visited", "x range", "certificate")
    return Table(header, rows, "Neuron layers", numbers=True)


def learned_table(layer: LayerAnalysis) -> Table:
    """Return the spread of each learned number over the rows of a layer, raw as it is stored."""
    rows = [
        (name, f"{s.mean:.4g}", f"{s.deviation:.3g}", *(f"{q:.4g}" for q in s.quartiles), s.signs)
        for name, s in spreads(layer.layer).items()
    ]
    header = ("parameter", "mean", "deviation", "least", "25 %", "median", "75 %", "greatest",
              "negative")  # fmt: skip
    return Table(header, rows, f"Learned numbers of {layer.name}", numbers=True)


def _interval(ends: Tensor) -> str:
    return f"[{float(ends[:, 0].min()):.3g}, {float(ends[:, 1].max()):.3g}]"


def rows_note(layer: LayerAnalysis) -> str:
    """Return which rows are analysed, listed and drawn, if that is not all of them."""
    total, analysed = len(layer.rows), len(layer.selected)
    parts = []
    if analysed < total:
        parts.append(f"{analysed} of {total} rows are analysed, evenly spaced.")
    if layer.labels and analysed > _MOST_SETS:
        ends = f"{layer.place(0)} to {layer.place(_MOST_SETS - 1)}"
        parts.append(f"The table lists the first {_MOST_SETS} of {analysed} rows: {ends}.")
    if analysed > MOST_CURVES:
        parts.append(f"A panel draws the curves of {MOST_CURVES} rows, evenly spaced.")
    return " ".join(parts)


def typical_lines(layer: LayerAnalysis) -> tuple[str, ...]:
    """Return the responses of the typical row of a layer with several states."""
    if layer.typical is None or layer.responses is None:
        return ()
    row = f"{layer.place(layer.typical)} ({layer.labels[layer.typical]})"
    lines = response_lines(layer.layer.neuron, *layer.responses)
    return tuple(f"linear step of the typical row, {row}: {line}" for line in lines)


def classes_note(found: RunAnalysis) -> str:
    """Return a note on the classes of the layers, or an empty text."""
    return class_note([label for layer in found.layers for label in layer.labels])


def certificate_line(layer: LayerAnalysis) -> str:
    """Return the certificate of a layer, in a few words."""
    found = layer.certificate
    if isinstance(found, str):
        return found
    total = counted(len(layer.rows), "row")
    part = f"{found.rows} of {total}: " if found.rows < len(layer.rows) else ""
    if found.holds:
        kept = ", ".join(f"{n} in [{a:.4g}, {b:.4g}]" for n, (a, b) in found.states.items())
        return f"{part}{kept} for |x| <= {found.x_max:.3g}"
    count = f"proven for {found.certified} of {counted(found.rows, 'row')}"
    return f"{part}{count}, |x| <= {found.x_max:.3g}; {found.reason}"


def dynamics_table(layer: LayerAnalysis) -> Table:
    """Return the fixed points, or the poles, of the first rows of a layer."""
    return _points_table(layer) if layer.modes is None else _poles_table(layer, layer.modes)


def _poles_table(layer: LayerAnalysis, modes: Modes) -> Table:
    rows = []
    for k, row in enumerate(layer.selected[:_MOST_SETS]):
        at = ", ".join(f"{n} = {v:.4g}" for n, v in modes.at(k).items())
        where = at if modes.fixed[k] else f"{at} (no fixed point)"
        poles = modes.poles(k)
        values = "; ".join(number(p.value, 4) for p in poles)
        first = poles[0]
        rows.append(
            (layer.rows.place(row), modes.labels[k], where, values, f"{first.radius:.4g}",
             f"{first.frequency:.4g}", f"{first.damping_time:.4g}")
        )  # fmt: skip
    header = ("row", "class", "point", "eigenvalues", "radius", "cycles a step", "damping time")
    return Table(header, rows, f"Poles of {layer.name}")


def _points_table(layer: LayerAnalysis) -> Table:
    rows = []
    for row in () if isinstance(layer.dynamics, str) else layer.dynamics[:_MOST_SETS]:
        points = "; ".join(f"{p.v:.4g} ({p.kind}, {p.slope:.3g})" for p in row.points)
        slopes = f"[{row.slopes[0]:.3g}, {row.slopes[1]:.3g}]"
        over = f"[{row.interval[0]:.3g}, {row.interval[1]:.3g}]"
        rows.append((row.place, row.label, points or "none", slopes, over))
    header = ("row", "class", "fixed points (kind, slope)", "slopes", "over")
    return Table(header, rows, f"Fixed points of {layer.name}")


def energy_table(report: EnergyReport) -> Table:
    """Return counts and energies of an inference: a row for each layer, then the total."""
    rows = []
    for layer in report.layers:
        prices = tuple(f"{report.cost(layer, by).total:,.0f}" for by in (FP32, INT8, LEMAIRE))
        if isinstance(layer, Synapses):
            done = f"{report.operations(layer):,.0f}"
            counts = ("", done) if layer.spiking else (done, "")
            rows.append((layer.name, *counts, "", "", "", "", *prices))
            continue
        work = layer.operations
        each = f"{work.mul} mul {work.add} add"
        fired = (f"{layer.spikes:,.1f}", f"{layer.rate:.4f}")
        rows.append(
            (layer.name, "", "", *(fired if layer.fires else ("", "")),
             f"{layer.updates * (work.mul + work.add):,.0f}", each, *prices)
        )  # fmt: skip
    whole = tuple(f"{report.total(by).total:,.0f}" for by in (FP32, INT8, LEMAIRE))
    work_done = sum(n.updates * (n.operations.mul + n.operations.add) for n in report.neurons)
    rows.append(
        ("total", f"{report.mac:,.0f}", f"{report.ac:,.0f}", f"{report.spikes:,.1f}",
         f"{report.rate:.4f}", f"{work_done:,.0f}", "", *whole)
    )  # fmt: skip
    header = ("layer", "MAC", "AC", "spikes", "rate", "neuron operations", "an update",
              "pJ fp32", "pJ int8", "pJ lemaire")  # fmt: skip
    return Table(header, rows, "Energy of an inference", numbers=True)


def energy_note(report: EnergyReport) -> str:
    """Return a note on the counts of the table."""
    share = report.updates(FP32).total / max(report.total(FP32).total, 1e-300)
    free = dict(unpriced for n in report.neurons for unpriced in n.operations.unpriced)
    text = (
        f"Per inference, mean over {report.samples} samples, T = {report.steps:g}. AC are"
        f" measured, with fan-out {report.fan_out}; the encoder counts {report.encoder}. Neuron"
        f" updates take {100 * share:.1f} % of the fp32 energy. Energies at 45 nm: fp32 add 0.9,"
        " mul 3.7 pJ; int8 0.03, 0.2 pJ; lemaire adds memory and addressing. These are conventions,"
        " not measurements of a chip."
    )
    if not free:
        return text
    return f"{text} Not counted: {', '.join(f'{n} {word}' for word, n in sorted(free.items()))}."


_CHARGES = (
    "The figure of a charge shows the charged potential after a step without input over the"
    " potential before it. On the diagonal the potential stays: filled points are stable, hollow"
    " points are unstable. The interval that the samples visit is shaded. LIF, h = 0.5·v, is dashed"
    " if the potential begins at 0."
)
_POLES = (
    "The figure of poles shows the eigenvalues of the linear step of each row. A deviation dies out"
    " if all are inside the unit circle; it oscillates along those off the real axis. Hollow points"
    " are the eigenvalues before training, and grey lines their paths. Responses are those of the"
    " typical row: of the most frequent class, the row whose first eigenvalue is nearest to the"
    " median."
)


def sections(found: RunAnalysis, notes: Sequence[str] = ()) -> list[Section]:
    """Return the sections of an analysis; `notes` follow the table of energies."""
    kept = {key: value for key, value in found.config.items() if value is not None}
    values = (value if isinstance(value, str) else json.dumps(value) for value in kept.values())
    settings = Table(("setting", "value"), [*zip(kept, values, strict=True)], "Settings of the run")
    has_poles = {layer.modes is not None for layer in found.layers}
    helped = Detail([_POLES if poles else _CHARGES for poles in sorted(has_poles)])
    energy: tuple[Part, ...] = (energy_table(found.energy), energy_note(found.energy), *notes)
    return [
        Section("Neuron", (Lines(found.equations),)),
        Section("Layers", (layers_table(found), classes_note(found), helped)),
        Section("Energy of an inference", energy),
        *(
            Section(f"Layer {k}: {layer.name}", _layer_parts(layer))
            for k, layer in enumerate(found.layers, start=1)
        ),
        Section("Settings of the run", (Detail((settings,)),)),
    ]


def _layer_parts(layer: LayerAnalysis) -> list[Part]:
    certificate = f"Certificate: {certificate_line(layer)}"
    points: tuple[Part, ...] = (dynamics_table(layer), rows_note(layer)) if layer.labels else ()
    found: list[Part] = [layer.learned, certificate, learned_table(layer)]
    found.append(Detail(points, panels(layer), layer.name))
    found += [*typical_lines(layer), layer.advice]
    if not layer.labels:
        found.append(f"No fixed points and no class: {layer.dynamics}")
    if layer.history is None:
        found.append(f"The history of the parameters is {ABSENT}.")
    if lost := 0 if layer.activity is None else layer.activity.charged.lost:
        problem = "not finite, or 2**20 or more in magnitude"
        found.append(f"{lost} charged potentials are excluded from the histogram: {problem}.")
    return found


# Summary of an analysis in five lines: training, accuracy, behaviour, stability, spikes.


QUANTILE = 1.959963984540054
"""Of the standard normal distribution, for an interval of 95 %."""
GROWING = ("unstable but reset", "diverging")
"""Classes of rows whose linear step grows."""
_MOST_NAMES = 3


def wilson(correct: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of independent predictions.

        (p + z**2/(2*n) -+ z*sqrt(p*(1 - p)/n + z**2/(4*n**2))) / (1 + z**2/n)

    E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.

    Args:
        correct: Number of correct predictions.
        count: n, their number, at least 1.
    """
    p, z2 = correct / count, QUANTILE**2
    middle = p + z2 / (2 * count)
    reach = QUANTILE * math.sqrt(p * (1 - p) / count + z2 / (4 * count**2))
    whole = 1 + z2 / count
    return max(min((middle - reach) / whole, p), 0.0), min(max((middle + reach) / whole, p), 1.0)


def accuracy_interval(found: RunAnalysis) -> tuple[float, float] | None:
    """Return the 95 % interval of the accuracy over samples, or None; see `sample_interval`."""
    return sample_interval(found.correct, found.predictions, found.samples)


def sample_interval(correct: int, predictions: int, samples: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a share of correct predictions.

    None if a sample has several predictions, which depend on each other.
    """
    return wilson(correct, predictions) if samples and predictions == samples else None


def accuracy_text(found: RunAnalysis) -> str:
    """Return the accuracy with its number of samples, and its interval if it has one."""
    if found.accuracy is None:
        return f"not reported, on {found.samples} {found.split} samples"
    samples = f"{100 * found.accuracy:.2f} % of {found.samples} {found.split} samples"
    interval = accuracy_interval(found)
    if interval is None:
        return f"{samples}, {found.predictions} predictions"
    return f"{samples}, 95 % interval {interval_text(interval)}"


def interval_text(interval: tuple[float, float]) -> str:
    """Return an interval of shares in percent."""
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f} %"


def summary(found: RunAnalysis) -> tuple[tuple[str, str], ...]:
    """Return the title and the text of each line."""
    return (
        ("Trained", _trained(found)),
        ("Accuracy", f"{accuracy_text(found)}. One run: the spread over seeds is not known."),
        ("Learned", found.diversity),
        ("Stability", _stability(found.layers)),
        ("Spikes and energy", _spikes(found)),
    )


def _trained(found: RunAnalysis) -> str:
    configured = int(found.config["epochs"])
    epochs = counted(configured, "epoch")
    if found.epochs is None:
        epochs += " configured"
    elif found.epochs != configured:
        epochs = f"{found.epochs} of {epochs}"
    layers = counted(len(found.layers), "neuron layer")
    return f"{found.network}, {layers}, {epochs}, seed {found.config['seed']}"


def _stability(layers: Sequence[LayerAnalysis]) -> str:
    """Return which layers have a certificate, and how many rows grow without input."""
    proven = {
        x.name: (x, x.certificate)
        for x in layers
        if not isinstance(x.certificate, str) and x.certificate.holds
    }
    rest = [layer.name for layer in layers if layer.name not in proven]
    text = (
        "States bounded for inputs up to the largest observed:"
        f" proven for {len(proven)} of {counted(len(layers), 'layer')}"
    )
    if any(found.rows < len(x.rows) for x, found in proven.values()):
        text += ", for the rows examined"
    if rest:
        more = f" and {len(rest) - _MOST_NAMES} more" if len(rest) > _MOST_NAMES else ""
        text += f"; not for {', '.join(rest[:_MOST_NAMES])}{more}"
    text += "."
    rows = sum(sum(x.classes.values()) for x in layers if x.modes is not None)
    if rows:
        growing = sum(x.classes.get(label, 0) for x in layers for label in GROWING)
        text += f" The linear step of {growing} of {counted(rows, 'row')} grows."
    return text


def _spikes(found: RunAnalysis) -> str:
    report = found.energy
    silent = [x.activity.fired.flatten() == 0 for x in found.layers if x.activity is not None]
    count, total = sum(int(x.sum()) for x in silent), sum(len(x) for x in silent)
    return (
        f"{report.spikes:,.1f} spikes an inference, {report.rate:.4f} per neuron and step;"
        f" {count} of {counted(total, 'neuron')} silent. {report.total(FP32).total:,.0f} pJ an"
        " inference in fp32 at 45 nm, by convention."
    )


# Serialisation of an analysis to plain data, for JSON.


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


# Spread of the learned parameters of a layer over its rows.


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of one learned number over the rows of a layer.

    Attributes:
        rows: Number of values.
        mean: Mean.
        deviation: Standard deviation, with divisor `rows` - 1.
        quartiles: Least value, 25 %, 50 % and 75 % quantile, and greatest value.
        negative: Number of values below 0.
    """

    rows: int
    mean: float
    deviation: float
    quartiles: tuple[float, ...]
    negative: int

    @property
    def signs(self) -> str:
        """Return "16 of 128", or "-" if no or every value is negative."""
        differ = 0 < self.negative < self.rows
        return f"{self.negative} of {self.rows}" if differ else "-"


def spreads(layer: NeuronLayer) -> dict[str, Spread]:
    """Return number -> its spread, of every learned number with several rows."""
    found = {}
    for param in layer.neuron.params:
        tensor = getattr(layer, param.name).detach().double().cpu()
        values = tensor.reshape(-1, param.size or 1).numpy()
        if not param.learnable or len(values) < 2:
            continue
        for name, column in zip(param.element_names, values.T, strict=True):
            quartiles = tuple(np.quantile(column, np.linspace(0, 1, 5)).tolist())
            numbers = (float(column.mean()), float(column.std(ddof=1)), quartiles)
            found[name] = Spread(len(column), *numbers, int((column < 0).sum()))
    return found
