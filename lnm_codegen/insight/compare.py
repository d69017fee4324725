"""Energy overhead of a trained network over the same network with another neuron."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lnm_codegen.errors import ModelError
from lnm_codegen.insight.energy.cost import CONVENTIONS, FP32
from lnm_codegen.insight.energy.report import EnergyReport, Overhead, overhead
from lnm_codegen.insight.energy.resnet19 import resnet19
from lnm_codegen.language.neuron import Neuron

if TYPE_CHECKING:
    from lnm_codegen.train.runs.saved import Run

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
