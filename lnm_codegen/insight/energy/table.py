"""Energies of trained networks against the same network with another neuron, and their table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnm_codegen.errors import ModelError
from lnm_codegen.insight.energy.cost import CONVENTIONS, FP32
from lnm_codegen.insight.energy.report import EnergyReport, Overhead, energy, overhead
from lnm_codegen.insight.energy.resnet19 import resnet19, resnet19_overhead
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.train.models.base import neurons_of
from lnm_codegen.train.runs.saved import Run, load_run

if TYPE_CHECKING:
    from lnm_codegen.train.runs.saved import Run


# Energy overhead of a trained network over the same network with another neuron.


SAME = (
    "data", "data_dir", "data_arguments", "limit", "validation", "network", "network_arguments"
)  # fmt: skip
"""Fields of the config that are equal in runs that differ in their neuron alone."""


@dataclass(frozen=True)
class Comparison:
    """Overheads in percent, under each convention.

    Attributes:
        baseline: Folder of the other run.
        rates: Mean spikes per neuron and step, of the run and of the baseline.
        network: Convention -> overhead of this network.
        resnet19: Convention -> overhead of these neurons in ResNet-19 at these rates, T = 4.
    """

    baseline: Path
    rates: tuple[float, float]
    network: dict[str, Overhead]
    resnet19: dict[str, Overhead]

    @property
    def lines(self) -> tuple[str, ...]:
        """Figures of fp32 as text."""
        here, large = self.network[FP32.name], self.resnet19[FP32.name]
        return (
            f"Over {self.baseline}: {_text(here)}; mean rate {self.rates[0]:.4f} against"
            f" {self.rates[1]:.4f} (fp32).",
            f"In ResNet-19's layer sizes at these rates, T = 4: {_text(large)}.",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "baseline": str(self.baseline),
            "rates": list(self.rates),
            "network": {name: _plain(o) for name, o in self.network.items()},
            "resnet19": {name: _plain(o) for name, o in self.resnet19.items()},
        }


def require_same_network(where: str, run: Run, baseline: Run) -> None:
    """Raise ModelError unless two runs have the same samples and the same network."""
    for word in SAME:
        a, b = (getattr(r.config, word) for r in (run, baseline))
        if a != b:
            raise ModelError(
                where,
                f"{word} is {a!r} in {run.folder} and {b!r} in {baseline.folder}",
                "runs that differ in their neuron alone",
            )


def compare_energy(
    report: EnergyReport, neuron: Neuron, baseline: EnergyReport, other: Neuron, folder: Path
) -> Comparison:
    """Compare two networks that differ in their neuron alone, on the same samples.

    Raises:
        ModelError: Their layers of weights differ.
    """
    for a, b in zip(report.synapses, baseline.synapses, strict=False):
        if (a.name, a.dense, a.weights) != (b.name, b.dense, b.weights):
            there = f"{b.name} there has {b.weights} and {b.dense:g}"
            raise _different(
                f"{a.name} has {a.weights} weights and {a.dense:g} products; {there}", folder
            )
    if len(report.synapses) != len(baseline.synapses):
        raise _different(
            f"{len(report.synapses)} layers of weights; there {len(baseline.synapses)}", folder
        )
    large = resnet19(neuron, report.rate), resnet19(other, baseline.rate)
    return Comparison(
        folder,
        (report.rate, baseline.rate),
        {by.name: overhead(report, baseline, by) for by in CONVENTIONS},
        {by.name: overhead(*large, by) for by in CONVENTIONS},
    )


def _different(what: str, folder: Path) -> ModelError:
    return ModelError(
        "analyze", f"{folder} is another network: {what}", "a run that differs in its neuron alone"
    )


def _text(found: Overhead) -> str:
    return (
        f"{found.total:+.1f} % energy, of it {found.neuron:+.1f} % by the neurons' updates and"
        f" {found.rates:+.1f} % by spikes"
    )


def _plain(found: Overhead) -> dict[str, float]:
    return {"total": found.total, "neuron": found.neuron, "rates": found.rates}


# Table of an experiment: energies of trained networks and of a baseline.


def energy_rows(
    folders: Sequence[Path], baseline: Path, limit: int | None = None
) -> list[dict[str, Any]]:
    """Return a row for the baseline and one for each run.

    A row has the counts of an inference on the test split, and for each convention the energy in
    pJ and the overhead over the baseline. Two columns are fp32 overheads in the layer sizes of
    ResNet-19, T = 4, at the measured mean rates:

    * `resnet19`: the neurons as they are, each at its own rate.
    * `resnet19_folded`: an LNM without theta_0 against LIF, h = lambda*v + x, both at the rate of
      the LNM. It compares with published figures, which are derived from operation counts.

    Args:
        folders: Runs that differ from the baseline in their neuron alone.
        baseline: A run, such as one of LIF.
        limit: Largest number of test samples, or None for all.

    Raises:
        ModelError: A folder that is not a run, or a run of another network.
    """
    base = load_run(baseline)
    counts = energy(base.network, base.data, limit=limit)
    rows = [_row(base, counts, base, counts)]
    for folder in folders:
        run = load_run(folder)
        rows.append(_row(run, energy(run.network, run.data, limit=limit), base, counts))
    return rows


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as the text of a CSV file."""
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(run: Run, report: EnergyReport, base: Run, counts: EnergyReport) -> dict[str, Any]:
    neuron, other = (neurons_of(r.network)[0].neuron for r in (run, base))
    compare_energy(report, neuron, counts, other, base.folder)  # refuses another network
    row: dict[str, Any] = {
        "run": str(run.folder), "family": run.config.family, "data": run.config.data,
        "network": run.config.network, "seed": run.config.seed, "samples": report.samples,
        "steps": report.steps, "rate": report.rate, "mac": report.mac, "ac": report.ac,
        "spikes": report.spikes,
        "neuron_mul": sum(n.updates * n.operations.mul for n in report.neurons),
        "neuron_add": sum(n.updates * n.operations.add for n in report.neurons),
    }  # fmt: skip
    for by in CONVENTIONS:
        found = overhead(report, counts, by)
        row[f"pj_{by.name}"] = report.total(by).total
        row[f"overhead_{by.name}"] = found.total
        row[f"overhead_{by.name}_neuron"] = found.neuron
        row[f"overhead_{by.name}_rates"] = found.rates
    large = overhead(resnet19(neuron, report.rate), resnet19(other, counts.rate))
    row |= {"resnet19": large.total, "resnet19_neuron": large.neuron, "resnet19_rates": large.rates}
    row["resnet19_folded"] = ""
    if run.config.family == "lnm" and run.config.arguments.get("states", 1) == 1:
        degree = int(run.config.arguments.get("degree", 3))
        row["resnet19_folded"] = resnet19_overhead(report.rate, degree).total
    return row
