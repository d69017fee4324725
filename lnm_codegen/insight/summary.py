"""Summary of an analysis in five lines: training, accuracy, behaviour, stability, spikes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lnm_codegen.insight.analysis import RunAnalysis
from lnm_codegen.insight.energy.cost import FP32
from lnm_codegen.insight.layer import LayerAnalysis
from lnm_codegen.validation import counted

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
    proven = {x.name: x for x in layers if _is_proven(x)}
    rest = [layer.name for layer in layers if layer.name not in proven]
    text = (
        "States bounded for inputs up to the largest observed:"
        f" proven for {len(proven)} of {counted(len(layers), 'layer')}"
    )
    if any(_examined(x) < len(x.rows) for x in proven.values()):
        text += ", for the rows examined"
    text += f"; not for {_names(rest)}." if rest else "."
    rows = sum(sum(x.classes.values()) for x in layers if x.modes is not None)
    if rows:
        growing = sum(x.classes.get(label, 0) for x in layers for label in GROWING)
        text += f" The linear step of {growing} of {counted(rows, 'row')} grows."
    return text


def _is_proven(layer: LayerAnalysis) -> bool:
    return not isinstance(layer.certificate, str) and layer.certificate.holds


def _examined(layer: LayerAnalysis) -> int:
    return 0 if isinstance(layer.certificate, str) else layer.certificate.rows


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _spikes(found: RunAnalysis) -> str:
    report = found.energy
    silent = [x.activity.fired.flatten() == 0 for x in found.layers if x.activity is not None]
    count, total = sum(int(x.sum()) for x in silent), sum(len(x) for x in silent)
    return (
        f"{report.spikes:,.1f} spikes an inference, {report.rate:.4f} per neuron and step;"
        f" {count} of {counted(total, 'neuron')} silent. {report.total(FP32).total:,.0f} pJ an"
        " inference in fp32 at 45 nm, by convention."
    )
