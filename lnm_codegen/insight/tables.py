"""Tables of an analysis as text, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lnm_codegen.analysis.linear.modes import Modes, class_note, number
from lnm_codegen.analysis.report import response_lines
from lnm_codegen.insight.analysis import RunAnalysis
from lnm_codegen.insight.energy.cost import FP32, INT8, LEMAIRE
from lnm_codegen.insight.energy.layers import Synapses
from lnm_codegen.insight.energy.report import EnergyReport
from lnm_codegen.insight.layer import LayerAnalysis
from lnm_codegen.insight.learned import spreads
from lnm_codegen.plot.subject import MOST_CURVES
from lnm_codegen.validation import counted

_MOST_SETS = 16
"""Largest number of parameter sets in a table of fixed points."""


@dataclass(frozen=True)
class Table:
    """Header and rows of text. Every column but the first holds numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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
    return Table(header, tuple(rows))


def learned_table(layers: Sequence[LayerAnalysis]) -> Table:
    """Return the spread of each learned number over the rows of its layer, raw as it is stored."""
    several = len(layers) > 1
    rows = [
        (f"{layer.name}.{name}" if several else name, f"{s.mean:.4g}", f"{s.deviation:.3g}",
         *(f"{q:.4g}" for q in s.quartiles), s.signs)
        for layer in layers
        for name, s in spreads(layer.layer).items()
    ]  # fmt: skip
    header = ("parameter", "mean", "deviation", "least", "25 %", "median", "75 %", "greatest",
              "negative")  # fmt: skip
    return Table(header, tuple(rows))


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
    return Table(header, tuple(rows))


def _points_table(layer: LayerAnalysis) -> Table:
    rows = []
    for row in () if isinstance(layer.dynamics, str) else layer.dynamics[:_MOST_SETS]:
        points = "; ".join(f"{p.v:.4g} ({p.kind}, {p.slope:.3g})" for p in row.points)
        slopes = f"[{row.slopes[0]:.3g}, {row.slopes[1]:.3g}]"
        over = f"[{row.interval[0]:.3g}, {row.interval[1]:.3g}]"
        rows.append((row.place, row.label, points or "none", slopes, over))
    header = ("row", "class", "fixed points (kind, slope)", "slopes", "over")
    return Table(header, tuple(rows))


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
    return Table(header, tuple(rows))


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
