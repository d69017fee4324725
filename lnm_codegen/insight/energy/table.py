"""Table of an experiment: energies of trained networks and of a baseline."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lnm_codegen.insight.compare import compare_energy
from lnm_codegen.insight.energy.cost import CONVENTIONS
from lnm_codegen.insight.energy.report import EnergyReport, energy, overhead
from lnm_codegen.insight.energy.resnet19 import resnet19, resnet19_overhead
from lnm_codegen.train.models import neurons_of
from lnm_codegen.train.runs.saved import Run, load_run


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
