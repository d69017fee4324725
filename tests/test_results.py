"""Pages of results: what experiments/write.py writes, and the claims in them."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "experiments"
sys.path.insert(0, str(FOLDER))

import comparison  # noqa: E402
import energy  # noqa: E402
import figures  # noqa: E402
import headline  # noqa: E402
import outcome  # noqa: E402
import places  # noqa: E402
import summary  # noqa: E402
import write  # noqa: E402
from page import lines_of  # noqa: E402
from tasks import TASKS, Task  # noqa: E402

import lnm_codegen as lnm  # noqa: E402
from lnm_codegen.train.comparison.plan import PlannedRun  # noqa: E402
from lnm_codegen.train.comparison.results import COLUMNS  # noqa: E402
from lnm_codegen.train.comparison.significance import difference, half_width, holm  # noqa: E402
from lnm_codegen.train.comparison.table import ComparisonRow, p_text, row_of  # noqa: E402
from lnm_codegen.train.runs.config import neuron_of  # noqa: E402

PAGE = ROOT / "docs" / "evidence" / "results.md"


def words(svg: str) -> list[str]:
    """Return the texts of a figure; widths of letters, and so coordinates, vary by version."""
    return [e.text or "" for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]


@pytest.fixture(scope="module")
def files() -> dict[Path, str]:
    return write.files()


def test_the_pages_show_the_results(files: dict[Path, str]) -> None:
    """Tables, sentences and figures are what `python experiments/write.py` writes."""
    for path, text in files.items():
        shown = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        if path.suffix == ".svg":
            assert words(shown) == words(text), name
        else:
            assert shown == text, name
            kinds = re.findall(r"<!-- (\w+): ", shown)
            assert len(kinds) == shown.count("<!-- end -->"), name
            assert set(kinds) <= set(write.KINDS), name
    drawn = {path for path in files if path.suffix == ".svg"}
    assert set((ROOT / "docs" / "figures").glob("*.svg")) <= drawn  # no figure is left over


def test_tasks_name_rows_of_their_plans() -> None:
    """Each task has a section of the page, with the published marks of its figure."""
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- summary: ") == len(TASKS)
    for task in TASKS:
        sources = task.sources()
        for plan, row in (source for found in sources.values() for source in found):
            assert row in [r.name for r in places.read_plan(plan).rows]
        assert set(task.references) <= set(sources)
        for plan in {plan for found in sources.values() for plan, _ in found if task.steps}:
            rows = places.read_plan(plan).rows
            assert all("hidden" in row.config.network_arguments for row in rows)
        section = page.partition(f"\n## {task.title}\n")[2].partition("\n## ")[0]
        assert section.count(f"<!-- summary: {task.name} -->") == 1, task.name
        published = " ".join(section.partition("Published, in %")[2].split())
        for name, mark in task.published.items():
            assert f"{name} {mark}" in published


def test_plans_and_results_keep_their_form() -> None:
    """Rows of two states have it in their name; results have the columns of a comparison."""
    for plan in FOLDER.glob("*.toml"):
        for row in places.read_plan(plan.stem).rows:
            assert (row.config.arguments.get("states") == 2) == ("two states" in row.name), row.name
    for path in (FOLDER / "results").glob("*.csv"):
        if not path.stem.endswith((".energy", ".dynamics")):
            with path.open(newline="", encoding="utf-8") as file:
                columns = tuple(csv.DictReader(file).fieldnames or ())
            assert columns in (COLUMNS, COLUMNS[:-1])


def test_the_claim_of_the_readme_holds() -> None:
    """Two states are above every other row of the figure, with p corrected for all of them."""
    *others, ours = headline.rows()
    parts = [difference(ours.values, row.values) for row in others]
    known = [part for part in parts if part is not None]
    assert len(known) == len(others)
    assert min(part.low for part in known) > 0
    corrected = holm([part.p for part in known])
    assert max(corrected) < 0.01
    best = max(range(len(others)), key=lambda k: others[k].mean)
    part, p = known[best], corrected[best]
    name = others[best].name.partition(" (")[0]
    for text in (
        f"two states with learned coefficients reach {ours.test} % (n = {ours.n} seeds)",
        f"{name}, the second-best, is {part.mean:.1f} percentage points lower"
        f" (95 % interval {part.low:.1f} to {part.high:.1f}; p = {p_text(p)})",
    ):
        assert text in readme()
    (alt,) = re.findall(r"!\[(.*)\]\(docs/headline\.svg\)", readme())
    assert re.findall(r"\d+\.\d", alt) == [f"{row.mean:.1f}" for row in (*others, ours)]
    # Both ratios of ResNet-18 are those of the summary of performance.md.
    speeds = (ROOT / "docs/evidence/performance.md").read_text(encoding="utf-8")
    found = re.findall(r"(\d\.\d+) times as fast", readme())
    assert len(found) == 2
    assert f"{found[0]} times as fast; {found[1]} times its compiled one" in speeds


def readme() -> str:
    """Return the README, with every run of white space as one space."""
    return " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def row_in(plan: str, row: str) -> ComparisonRow:
    return row_of(places.read_plan(plan), places.records(plan), row)


ECG, MNIST = "ecg_qtdb_neurons", "mnist1d_neurons"


FREE_ROW, POLE_ROW = (f"LNM two states, degree 1, {form}, channel" for form in ("free", "pole"))
DRAWN = "LNM two states, degree 1, frozen as drawn"
PAIRS = [
    (MNIST, FREE_ROW, f"{DRAWN}, channel"),
    (MNIST, FREE_ROW, "LNM two states, degree 1, free, layer"),
    (MNIST, POLE_ROW, "LNM two states, degree 1, pole, layer"),
    (MNIST, FREE_ROW, "LNM two states, degree 2, free, channel"),
    (MNIST, "LNM degree 1, channel", "LNM degree 3, channel"),
    (ECG, "LNM two states, degree 1, free", DRAWN),
    (ECG, "LNM two states, degree 1, pole", DRAWN),
    (ECG, DRAWN, "LNM degree 1"),
]
"""Plan and two rows whose difference a hand-written sentence has."""


def difference_of(name: str, row: str, other: str) -> str:
    found = difference(row_in(name, row).values, row_in(name, other).values)
    assert found is not None
    return in_words(found.mean, found.low, found.high)


def paired_difference_of(form: str) -> str:
    """Return the difference of runs that learned and runs of frozen neurons, of the same seeds."""
    row = f"LNM two states, degree 1, {form}, channel"
    learned, frozen = (
        {r.seed: 100 * r.accuracy for r in row_in(MNIST, n).ended}
        for n in (row, f"{row}, frozen as learned")
    )
    apart = [learned[seed] - accuracy for seed, accuracy in frozen.items()]
    mean, half = sum(apart) / len(apart), half_width(apart)
    assert half is not None
    return in_words(mean, mean - half, mean + half)


def test_the_pages_have_the_differences_of_their_sentences() -> None:
    text = page_of_results()
    for pair in PAIRS:
        assert difference_of(*pair) in text, pair
    for form in ("free", "pole"):
        assert paired_difference_of(form) in text


def by_hand() -> str:
    """Return the hand-written text of the page, with every run of white space as one space."""
    page = PAGE.read_text(encoding="utf-8")
    return " ".join(re.sub(r"<!-- \w+: .*?<!-- end -->", "", page, flags=re.DOTALL).split())


def test_every_number_of_a_hand_written_sentence_is_a_result() -> None:
    """Means with their intervals, differences, Holm's p, and the range of a difference."""
    text = by_hand()
    rows = [(task, comparison.shown(task)) for task in TASKS]
    tests = {row.test for _, found in rows for row in found}
    tests |= {row_in(MNIST, f"{row}, frozen as learned").test for row in (FREE_ROW, POLE_ROW)}
    means = re.findall(r"(\d+\.\d ± \d+\.\d) %", text)
    assert len(means) >= 8
    assert set(means) <= tests
    said = re.findall(r"-?\d\.\d points \(-?\d\.\d to -?\d\.\d\)", text)
    assert len(said) >= 5
    assert set(said) <= {*(difference_of(*pair) for pair in PAIRS), paired_difference_of("free")}
    corrected = {task.name: comparison.differences(task, found) for task, found in rows}
    texts = {p_text(p) for found in corrected.values() for _, p in found.values()}
    assert re.findall(r"Holm's p ([<=] [\d.]+\d)(?: and ([\d.]+\d))?", text) == [
        ("< 0.0001", ""), ("= 0.0049", "0.014"),
    ]  # fmt: skip
    assert {"< 0.0001", "0.0049", "0.014"} <= texts
    widest = max(part.high for part, _ in corrected["fashion_conv"].values())
    assert f"Gains over PLIF up to {widest:.1f} points" in text


def test_the_claims_of_the_page_hold() -> None:
    """Curvature is above degree 1 on gated memory alone; many rows chose the highest rate."""
    rows = {task.name: comparison.shown(task) for task in TASKS}
    curved = comparison.differences(next(t for t in TASKS if t.degrees), rows["curvature"])
    assert not [k for k, (part, p) in curved.items() if part.mean > 0 and p < 0.05]
    best = {name: max(found, key=lambda row: row.mean).name for name, found in rows.items()}
    assert [name for name, row in best.items() if row.startswith("LNM two states, degree 1")] == [
        "mnist1d_feedforward", "ecg_qtdb", "mnist1d_recurrent", "mnist_permuted",
        "mnist_permuted_recurrent",
    ]  # fmt: skip
    highest = [
        name
        for name, found in rows.items()
        if 3 * sum(summary.is_highest(row, "lr") for row in found) >= len(found)
    ]
    assert len(highest) == 6
    assert "On six tasks, a third or more of the rows" in by_hand()


def test_the_energies_of_the_page_are_those_of_the_tables() -> None:
    """Times the energy of LIF: in the network itself, and at the layer sizes of ResNet-19."""

    def times(plan: str, row: str, word: str = "overhead_fp32") -> float:
        lines = [line for line in lines_of(energy.path_of(plan)) if line["run"] == row]
        return 1 + sum(float(line[word]) for line in lines) / len(lines) / 100

    text, two = by_hand(), "LNM two states, degree 1, "
    both = [times(MNIST, FREE_ROW), times(ECG, f"{two}pole")]
    deep = [times(MNIST, FREE_ROW, "resnet19"), times(ECG, f"{two}pole", "resnet19")]
    for form, here, there in zip(("free", "pole"), both, deep, strict=True):
        said = f"Two states ({form}) take {here:.1f} times the energy of LIF, and {there:.1f} times"
        assert said in text
    rivals = " and ".join(f"{times(MNIST, row):.1f}" for row in ("adlif", "rf"))
    assert f"`rf` take {rivals} times" in text
    every = [*both, times(MNIST, POLE_ROW), times(ECG, f"{two}free")]
    assert f"take {min(every):.1f} to {max(every):.1f} times the energy of LIF" in text


def in_words(mean: float, low: float, high: float) -> str:
    """Return a difference in points with its interval."""
    return f"{mean:.1f} points ({low:.1f} to {high:.1f})".replace("-0.0", "0.0")


def page_of_results() -> str:
    """Return the page and those of all rows, with every run of white space as one space."""
    paths = (PAGE, *sorted((FOLDER / "tables").glob("*.md")))
    return " ".join("".join(p.read_text(encoding="utf-8") for p in paths).split())


def test_ranks_and_means_must_have_one_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One high value may raise the mean of a row whose other values are below."""
    p, order = comparison.ranked([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])
    assert (p, order) == (pytest.approx(2 / 70), -8)
    task = Task("small", "Small", "new", references=("LIF",), ranks=True)
    monkeypatch.setattr(comparison, "TASKS", (task,))
    add("new", "LIF", [0.50, 0.51, 0.52, 0.53, 0.54])
    add("new", "PLIF", [0.45, 0.46, 0.47, 0.48, 0.99])
    add("new", "LNM degree 2", [0.60, 0.61, 0.62, 0.63, 0.64])
    rows = comparison.shown(task)
    found = {rows[k].name: p for k, (_, p) in comparison.differences(task, rows).items()}
    assert found == {"LNM degree 2": pytest.approx(2 * 2 / 252), "PLIF": 1.0}


SMALL = """
[data]
name = "digits-rows"
[network]
name = "feedforward"
hidden = [10, 20]
[train]
epochs = 2
[final]
seeds = [0, 1, 2]
""" + "".join(
    f'[[row]]\nname = "{name}"\n{family}\n'
    for name, family in (
        ("LIF", 'family = "lif"'),
        ("PLIF", 'family = "plif"'),
        ("LNM degree 1", 'family = "lnm"\ndegree = 1'),
        ("LNM degree 2", 'family = "lnm"\ndegree = 2'),
    )
)
SMALL_TASK = Task(
    "small", "Small", "new", {"LIF": (("old", "LIF"),), "QIF": (("old", "PLIF"),)}, ("PLIF", "LIF"),
    {"GRU": 91}, steps=8,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("new", "old"):
        (tmp_path / f"{name}.toml").write_text(SMALL)
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(places, "FOLDER", tmp_path)
    monkeypatch.setattr(places, "RESULTS", tmp_path / "results")
    for module in (comparison, outcome, summary):
        monkeypatch.setattr(module, "TASKS", (SMALL_TASK,))
    return tmp_path


def add(plan: str, row: str, accuracies: Sequence[float]) -> None:
    for seed, accuracy in enumerate(accuracies):
        values = {
            "accuracy": accuracy, "train_accuracy": 1, "rates": "0.5 0.25", "outside": "0 0",
            "parameters": 7, "seconds_per_epoch": 1,
        }  # fmt: skip
        add_line(plan, row, values, seed=seed)


def add_line(
    plan: str, row: str, values: dict[str, object], *, setting: int = 0, seed: int = 0
) -> None:
    runs = places.runs(plan)
    settings = runs.plan.row(row)
    config = settings.settings[min(setting, len(settings.settings) - 1)]
    run = PlannedRun(row, "final", setting, seed, config)
    runs.results.add(run, (*settings.shown, "")[setting], values)


def test_only_complete_rows_are_compared(folder: Path) -> None:
    """Until the present row has all its seeds, that of the earlier experiment is shown too."""
    assert summary.table("small")[0].startswith("No row of [new]")
    assert outcome.overview()[2:] == [
        "| [Small](#small) | not run |  |  |  | none |  |  | GRU 91 |"
    ]
    add("old", "LIF", [0.70, 0.71, 0.72])
    add("new", "LIF", [0.90, 0.91])
    lines = summary.table("small")
    assert [line for line in lines if line.startswith("| LIF")] == [
        "| LIF | 2 of 3 | 90.5 ± 6.4 |  |  | 7 | 80 |",
        "| LIF (B) | 3 | 71.0 ± 2.5 | reference |  | 7 | 80 |",
    ]
    assert "| too few seeds |  |  |  | none |  |  | GRU 91 |" in outcome.overview()[2]
    assert [line.split(" | ")[1] for line in summary.experiments()[2:]] == ["1 of 4", "1"]
    add("new", "LNM degree 2", [0.95, 0.96, 0.97])
    add("new", "LNM degree 1", [0.705, 0.715, 0.735])
    assert "| LIF | 1 | 0 | 1 | LNM degree 2 | 96.0 ± 2.5 | 3 | GRU 91 |" in outcome.overview()[2]
    call = '`lnm.get("lnm", degree=2, v_min=-2.0)` | lr = 0.01, lr_neuron = 0.01'
    assert outcome.calls()[2:] == [f"| Small | LNM degree 2 | {call} |"]
    rows = summary.labelled(comparison.shown(SMALL_TASK))
    assert [row.name for row in rows] == ["LNM degree 2", "LIF (A)", "LNM degree 1", "LIF (B)"]


def test_rows_that_are_not_recommended(folder: Path) -> None:
    """Nothing is above the reference, which is no reason; settings of final runs are not mixed."""
    add("new", "PLIF", [0.5, 0.51, 0.6])
    add("new", "LIF", [0.5, 0.52, 0.6])
    assert "| PLIF | 0 | 0 | 1 | none |  |  | GRU 91 |" in outcome.overview()[2]
    assert len(outcome.calls()) == 2
    add_line("new", "LIF", {"accuracy": 0.9}, setting=1, seed=2)
    with pytest.raises(ValueError, match="new: LIF: final runs of several settings"):
        comparison.shown(SMALL_TASK)


def test_the_neuron_to_use_can_be_made() -> None:
    """The call of the page is that of the experiment."""
    for task in TASKS:
        rows = comparison.shown(task)
        taken = comparison.taken_of(task, rows, comparison.differences(task, rows))
        if taken is None:
            continue
        call = outcome.call_of(taken)
        made, trained = eval(call, {"lnm": lnm}), neuron_of(taken.config)
        assert str(lnm.lower(made)) == str(lnm.lower(trained))
        starts = [[(p.name, str(p.init), str(p.draw)) for p in n.params] for n in (made, trained)]
        assert starts[0] == starts[1]
        assert call in page_of_results()


def test_a_figure(folder: Path) -> None:
    """Points of each row; words of figures, tables and variants are those of the pages."""
    add("new", "LIF", [0.90, 0.91])
    add("new", "LNM degree 2", [0.95, 0.96, 0.97])
    rows = comparison.shown(SMALL_TASK)
    (axis,) = figures.accuracies(rows, {"GRU": 91, "logistic": 32}, "test").axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["LNM degree 2", "LIF"]
    assert sorted(axis.lines[1].get_xdata()) == pytest.approx([95, 96, 97])
    assert axis.lines[2].get_markerfacecolor() == "white"  # LIF lacks a seed
    assert figures.panels(rows, "test").axes[0].lines[0].get_xdata()[0] == pytest.approx(96)
    colours = [figures.colour_of(n) for n in ("x: LNM two states", "LNM degree 1", "LIF, a", "brf")]
    assert colours == [figures.DARK, figures.LIGHT, figures.GREY, figures.ORANGE]


def test_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is filled once; a second call writes nothing."""
    (folder / "README.md").write_text("a\n<!-- overview: tasks -->\n<!-- end -->\nb\n")
    monkeypatch.setattr(write, "ROOT", folder)
    monkeypatch.setattr(write, "TASKS", (SMALL_TASK,))
    monkeypatch.setattr(write, "pages", lambda: [folder / "README.md"])
    monkeypatch.setattr(headline, "svg", lambda: "<svg/>")
    add("new", "LIF", [0.90, 0.91])
    write.main()
    page = (folder / "README.md").read_text()
    assert page.startswith("a\n<!-- overview: tasks -->\n\n| task ")
    assert page.endswith("|\n\n<!-- end -->\nb\n")
    assert (folder / "docs" / "headline.svg").read_text() == "<svg/>"
    assert (folder / "docs" / "figures" / "small.svg").is_file()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    write.main()
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert after == before
