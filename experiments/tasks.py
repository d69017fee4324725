"""Tasks of docs/evidence/results.md: rows of tables, rows to compare them with, published marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import places


@dataclass(frozen=True)
class Task:
    """A task of the page.

    Attributes:
        name: Name of its figure, and of its table in the page.
        title: Heading of its section.
        plan: The present experiment. Each of its rows is in the table as soon as it has a result.
        earlier: Row of `plan`, or a name -> rows of earlier experiments, as (plan, row), that are
            shown until the present row has all its seeds.
        references: Rows that the others are compared with: the first one with all its seeds.
        published: Name -> test accuracy in percent; the page has the sources.
        steps: Length T of a sequence, for the number of spikes of an inference; 0 for none.
        variants: Rows of `plan` with one of these texts in their name are in a table of their own.
        degrees: Compare each polynomial of degree 2 or 3 with degree 1 of the same row instead.
        ranks: p is that of a rank test, which was fixed before the first run.
    """

    name: str
    title: str
    plan: str
    earlier: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    references: tuple[str, ...] = ()
    published: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    variants: tuple[str, ...] = ()
    degrees: bool = False
    ranks: bool = False

    def sources(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """Return every row of the table with its (plan, row), the present experiment first."""
        names = [
            row.name for row in places.read_plan(self.plan).rows if not self.is_variant(row.name)
        ]
        present = {name: ((self.plan, name),) for name in names}
        present_first = [*present, *(name for name in self.earlier if name not in present)]
        return {name: present.get(name, ()) + self.earlier.get(name, ()) for name in present_first}

    def is_variant(self, row: str) -> bool:
        """Report whether a row of the present experiment is in the table of variants."""
        return any(text in row for text in self.variants)


FREE, POLE = (f"LNM two states, degree 1, {form}" for form in ("free", "pole"))
MNIST1D = {"logistic regression": 32, "MLP": 68, "GRU": 91, "CNN": 94}


def of(plan: str, **rows: str) -> dict[str, tuple[tuple[str, str], ...]]:
    return {name: ((plan, row),) for name, row in rows.items()}


TASKS = (
    Task(
        "mnist1d_feedforward",
        "MNIST-1D, feed-forward",
        "mnist1d_neurons",
        {
            f"{FREE}, channel": (("mnist1d_two_states", FREE),),
            f"{POLE}, channel": (("mnist1d_two_states", POLE),),
            **of(
                "mnist1d_feedforward", LIF="LIF, hard", PLIF="PLIF, channel, soft",
                GLIF="GLIF, channel",
            ),
            **of("mnist1d_feedforward", QIF="QIF, channel, hard"),
            "LNM degree 1, channel": (("mnist1d_feedforward", "LNM degree 1, channel, soft"),),
            "LNM degree 3, channel": (("mnist1d_feedforward", "LNM degree 3, channel, soft"),),
            "PLIF, 300 epochs": (("mnist1d_longer_search", "PLIF, channel, soft"),),
            "LNM degree 3, channel, 300 epochs": (
                ("mnist1d_longer_search", "LNM degree 3, channel, soft"),
            ),
        },
        (f"{FREE}, channel",), MNIST1D, steps=40,
        variants=(", layer", "frozen as learned", "two states, degree 2"),
    ),
    Task(
        "ecg_qtdb",
        "ECG-QTDB, recurrent",
        "ecg_qtdb_neurons",
        {
            **of("ecg_qtdb", LIF="LIF, soft", ALIF="ALIF"),
            "LNM degree 1": (("ecg_qtdb", "LNM degree 1, soft, no clamps"),),
            "LNM degree 2": (("ecg_qtdb", "LNM degree 2, soft, wide clamps"),),
            "LNM degree 3": (("ecg_qtdb", "LNM degree 3, soft, wide clamps"),),
        },
        (POLE, "LIF"), {"ALIF": 85.9, "BRF": 86.8},
        steps=1301,
    ),
    Task(
        "mnist1d_recurrent",
        "MNIST-1D, recurrent",
        "mnist1d_recurrent_neurons",
        {
            **of(
                "mnist1d_recurrent", PLIF="PLIF, weights at 0.01", LIF="LIF, weights at 0.01",
                QIF="QIF, weights at 0.01", GLIF="GLIF",
            ),
            "LNM degree 1": (("mnist1d_recurrent", "LNM degree 1, penalty, weights at 0.01"),),
            "LNM degree 2": (("mnist1d_recurrent", "LNM degree 2, penalty, weights at 0.01"),),
            "LNM degree 3": (("mnist1d_recurrent", "LNM degree 3, penalty, weights at 0.01"),),
            "LNM degree 4": (("mnist1d_recurrent", "LNM degree 4"),),
        },
        (POLE, "PLIF"), MNIST1D, steps=40,
    ),
    Task("curvature", "Curvature", "curvature", degrees=True),
    Task(
        "gated_memory", "Gated memory, again", "gated_memory", {}, ("LNM degree 1",), ranks=True,
    ),
    Task(
        "mnist_permuted", "PS-MNIST", "mnist_permuted", {}, (POLE, "LIF"),
        {"LIF": 80.3, "GLIF": 90.5, "ALIF": 94.3, "BRF": 95.2, "TC-LIF": 95.4},
        steps=784,
    ),
    Task(
        "mnist_permuted_recurrent", "PS-MNIST, recurrent", "mnist_permuted_recurrent", {}, (POLE,),
        {"ALIF": 94.3, "BRF": 95.2, "TC-LIF": 95.4, "DelRec": 96.2, "PMSN": 97.2},
        steps=784,
    ),
    Task(
        "fashion_conv", "Fashion-MNIST, convolutional", "fashion_conv_neurons", {}, ("PLIF",),
        {"IF": 93.08, "LIF": 94.47, "PLIF": 94.74},
    ),
    Task(
        "cifar10", "CIFAR-10, JPEG copy", "cifar10", {}, ("LIF",),
        {"PLIF": 93.50, "LIF": 94.51, "GLIF": 94.88, "PSN": 95.3, "QIF": 96.86},
    ),
    Task(
        "fashion_columns", "Fashion-MNIST by columns", "fashion_columns", {}, ("LIF",),
        {"IF": 77.4, "IF, synapse filter": 80.4, "IF, feedback": 81.4},
        steps=28,
    ),
)  # fmt: skip
"""In the order of the page. Of an earlier experiment each neuron has its variant with the highest
mean on the test set."""
