"""Reports of a benchmark: a table, a CSV file and a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lnm_codegen.bench.suite import Row
from lnm_codegen.files import write_whole

HEADER = (
    "T", "what", "ns", "forward", "backward", "x floor", "x layer", "bytes", "first s", "cached s",
)  # fmt: skip


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells under `HEADER`; times are in ns per neuron and time step."""
    return [
        (
            str(row.steps),
            row.what,
            f"{row.ns:.3f}",
            f"{row.forward:.3f}" if row.forward else "",
            f"{row.backward:.3f}" if row.backward else "",
            f"{row.floor:.2f}",
            f"{row.layer:.2f}",
            *(_short(value) for value in (row.peak_bytes, row.first_call, row.cached)),
        )
        for row in rows
    ]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write all fields of all rows as CSV."""
    write_table([_rounded(asdict(row)) for row in rows], path)


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows with the same keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue())


def _rounded(row: dict[str, object]) -> dict[str, object]:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def write_figure(rows: Sequence[Row], path: Path) -> None:
    """Plot the time of each subject and of the floor against T, with log scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for what in dict.fromkeys(row.what for row in rows):
        points = sorted((row.steps, row.ns) for row in rows if row.what == what)
        style = {"color": "black", "linestyle": "--"} if what == "floor" else {"marker": "o"}
        axes.plot(*zip(*points, strict=True), label=what, **style)  # type: ignore[arg-type]
    axes.set(xscale="log", yscale="log", xlabel="time steps T", ylabel="ns per neuron and step")
    axes.set_title(f"{rows[0].neuron}, forward and backward, {rows[0].dtype}, {rows[0].device}")
    axes.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
