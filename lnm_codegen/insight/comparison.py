"""Comparison of two networks in fixed point, `lnm report`: tables, sections and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from lnm_codegen.deploy.arrays import LayerReport, NetworkReport
from lnm_codegen.deploy.mismatch import LayerCounts, QuantizationMismatch
from lnm_codegen.insight.tables import interval_text, sample_interval
from lnm_codegen.plot.axes import STATE_COLORS
from lnm_codegen.sections import Detail, Panel, Section, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NO_POWER = "Power and energy are not reported, since no open tool estimates them."
Cell: TypeAlias = Callable[[LayerReport], str]


@dataclass(frozen=True)
class FixedComparison:
    """Two networks in fixed point that differ in their neuron.

    Attributes:
        names: Folders of the run and of its baseline.
        reports: Their reports, with the same layers.
        data: Name of the data set.
        format: Format of the nodes, as given.
        device: Name of the chip.
        note: Why resources are not measured, or None.
    """

    names: tuple[str, str]
    reports: tuple[NetworkReport, NetworkReport]
    data: str
    format: str
    device: str
    note: str | None

    @property
    def title(self) -> str:
        """Neurons and number of samples."""
        run, baseline = self.reports
        return f"{run.neuron} against {baseline.neuron}, {run.mismatch.images} test samples"

    @property
    def layers(self) -> dict[str, str]:
        """Path of each layer -> its title."""
        return {
            path: f"{path}, {layer.array.neurons * layer.array.copies} neurons"
            for path, layer in self.reports[0].layers.items()
        }

    @property
    def source(self) -> str:
        """Origin of the resources."""
        return self.note or f"resources and Fmax: of the array, on {self.device}"


def whole_table(found: FixedComparison) -> Table:
    """Return the table of the networks, with a column for each run."""
    rows = [(title, *(cell(r.mismatch) for r in found.reports)) for title, cell in _WHOLE]
    return Table(("", *found.names), rows, "Networks", numbers=True)


def layer_table(found: FixedComparison, path: str) -> Table:
    """Return the table of a layer, with a column for each run."""
    layers = [r.layers[path] for r in found.reports]
    rows = [(title, *(cell(layer) for layer in layers)) for title, cell in _LAYER]
    return Table(("", *found.names), rows, found.layers[path], numbers=True)


def comparison_sections(found: FixedComparison) -> list[Section]:
    """Return a section for the networks, one for each layer, and one for the resources."""
    whole = (whole_table(found), Detail((), _panels(found), found.title))
    layers = [
        Section(f"Layer {k}: {title}", (layer_table(found, path),))
        for k, (path, title) in enumerate(found.layers.items(), start=1)
    ]
    return [Section("Networks", whole), *layers, Section("Resources", (_NO_POWER, found.source))]


def comparison_summary(found: FixedComparison) -> tuple[tuple[str, str], ...]:
    """Return the title and the text of each of five lines."""
    accuracy = (_accuracy(r.mismatch) for r in found.reports)
    differ = (f"{_percent(r.mismatch.free_running_mismatch, 4)}" for r in found.reports)
    bits = (
        f"{sum(x.state_bits * x.array.neurons * x.array.copies for x in r.layers.values()):,}"
        for r in found.reports
    )
    rates = (_percent_or_dash(_rate(r), 2) for r in found.reports)
    return (
        ("Compared", f"{found.title} of {found.data}, format {found.format}"),
        ("Accuracy in fixed point", " against ".join(accuracy)),
        ("Outputs that differ", f"{' against '.join(differ)} of the steps, free running"),
        ("Circuit", f"{_circuit(found)}; {' against '.join(bits)} bits of states"),
        ("Spikes", f"{' against '.join(rates)} of the steps, in fixed point"),
    )


def _panels(found: FixedComparison) -> list[Panel]:
    """Return bars for each layer: differing outputs, firing rates, LUT where measured."""
    kinds: list[tuple[str, str, Callable[[LayerReport], float | None]]] = [
        ("outputs that differ, free running", "% of the steps",
         lambda r: 100 * r.counts.share("free_running")),
        ("firing rate in fixed point", "% of the steps",
         _fired_percent),
    ]  # fmt: skip
    if found.note is None:
        kinds.append(("LUT of the array", "LUT", _lut))
    made = []
    for title, unit, value in kinds:
        values = tuple([value(x) for x in r.layers.values()] for r in found.reports)
        text = f"Bars for each layer: {title}"
        draw = partial(_draw_bars, title=title, unit=unit, names=found.names, values=values)
        made.append(Panel(text, draw))
    return made


def _draw_bars(
    axis: Axes,
    title: str,
    unit: str,
    names: Sequence[str],
    values: Sequence[Sequence[float | None]],
) -> None:
    axis.set_title(title)
    for k, (name, own) in enumerate(zip(names, values, strict=True)):
        bars = {n + 1 + 0.4 * (k - 0.5): v for n, v in enumerate(own) if v is not None}
        axis.bar(
            list(bars),
            list(bars.values()),
            0.36,
            color=STATE_COLORS[k],
            label=f"{k + 1}: {name.replace('$', '')[-24:]}",
        )
    axis.set_xlabel("layer")
    axis.set_ylabel(unit)
    axis.locator_params(axis="x", integer=True)


def _accuracy(found: QuantizationMismatch) -> str:
    """Return the accuracy in fixed point, with its interval if it has one, and in float."""
    interval = sample_interval(found.correct_fixed, found.predictions, found.images)
    spread = f"{found.predictions:,} predictions"
    if interval is not None:
        spread = f"95 % interval {interval_text(interval)}"
    return f"{_percent(found.accuracy_fixed)} ({spread}; float {_percent(found.accuracy)})"


def _circuit(found: FixedComparison) -> str:
    if found.note is not None:
        return found.note
    sums = (
        f"{sum(_lut(x) * x.array.copies for x in r.layers.values()):,.0f}" for r in found.reports
    )
    return f"{' against '.join(sums)} LUT in all arrays, on {found.device}"


def _lut(layer: LayerReport) -> float:
    return 0.0 if layer.measured is None else float(layer.measured.resources.lut)


def _rate(report: NetworkReport) -> float | None:
    """Return the firing rate of the layers with spikes, or None if there are none."""
    every = [x.counts for x in report.layers.values() if x.counts.fired_fixed is not None]
    return sum(every, LayerCounts()).rate("fired_fixed") if every else None


def _fired_percent(layer: LayerReport) -> float | None:
    rate = layer.counts.rate("fired_fixed")
    return None if rate is None else 100 * rate


def _percent(share: float, places: int = 2) -> str:
    return f"{100 * share:.{places}f} %"


def _percent_or_dash(share: float | None, places: int = 2) -> str:
    return "-" if share is None else _percent(share, places)


def _cost(word: str) -> Cell:
    def cell(layer: LayerReport) -> str:
        return "-" if layer.measured is None else str(layer.measured.resources.as_dict()[word])

    return cell


def _fmax(layer: LayerReport) -> str:
    median = None if layer.measured is None else layer.measured.median
    return "-" if median is None else f"{median:.0f}"


def _share(word: str) -> Cell:
    return lambda layer: _percent(layer.counts.share(word), 4)


def _firing(word: str) -> Cell:
    return lambda layer: _percent_or_dash(layer.counts.rate(word))


_WHOLE: tuple[tuple[str, Callable[[QuantizationMismatch], str]], ...] = (
    ("accuracy in float", lambda a: _percent(a.accuracy)),
    ("accuracy in fixed point", lambda a: _percent(a.accuracy_fixed)),
    ("outputs equal: one step from the same state", lambda a: _percent(1 - a.one_step_mismatch, 4)),
    ("outputs equal: free running", lambda a: _percent(1 - a.free_running_mismatch, 4)),
)
"""Rows of a network's table: title, cell."""

_LAYER: tuple[tuple[str, Cell], ...] = (
    ("format of x", lambda r: str(r.array.input_format)),
    ("bits of a neuron's states", lambda r: str(r.state_bits)),
    ("bits of all coefficients", lambda r: str(r.coefficient_bits)),
    *((word, _cost(word)) for word in ("LUT", "FF", "DSP", "BRAM")),
    ("Fmax, MHz", _fmax),
    ("cycles of a sample", lambda r: str(r.array.cycles)),
    ("operations of a neuron and step", lambda r: str(sum(r.operations.values()))),
    ("firing rate in float", _firing("fired")),
    ("firing rate in fixed point", _firing("fired_fixed")),
    ("outputs that differ: one step", _share("one_step")),
    ("outputs that differ: free running", _share("free_running")),
    ("outputs that differ: in the network", _share("in_network")),
    ("inputs that saturate", _share("saturated")),
)
"""Rows of a layer's table: title, cell."""
