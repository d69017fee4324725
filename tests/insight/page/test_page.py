"""Pages of `lnm analyze RUN` and `lnm report`: complete, self-contained, and equal to the JSON."""

from __future__ import annotations

import io
import json
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lnm_codegen.cli import run as command
from lnm_codegen.insight import analyze_run
from lnm_codegen.insight.figures import grid_figure
from lnm_codegen.insight.page import run_page
from lnm_codegen.train import TrainConfig, load, load_run, run

HOSTILE = "<script>alert(1)<"
"""Name of a folder. The folder of the family below it ends the element."""
FAMILY = """
import lnm_codegen as lnm

@lnm.family
def two(per: str = "channel") -> lnm.Neuron:
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("i_in")
    m = lnm.param("A", 4, init=(0.5, -0.6, 0.6, 0.5), per=per)
    charge = {v: m[0] * v + m[1] * w + x, w: m[2] * v + m[3] * w}
    return lnm.Neuron(charge=charge, fire=v - 1, reset=lnm.soft_reset(v, 1.0))
"""
VOID = {"meta", "link", "img", "br", "hr", "input", "base"}


class Page(HTMLParser):
    """Elements, identifiers, links, headings, summary, paragraphs and tables of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.figures: list[dict[str, str]] = []
        self.tables: list[list[list[str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.tags.add(tag)
        self.attributes += found.items()
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag == "svg":
            self.figures.append(found)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of three neurons. The first lies in a folder, and has a family, of a hostile name."""
    base = tmp_path_factory.mktemp("page")
    file = base / HOSTILE / "script>.py"
    file.parent.mkdir()
    file.write_text(FAMILY)
    data = load("digits", limit=16)
    common = {"epochs": 2, "batch": 16, "limit": 16, "backend": "torch", "threads": 1}
    small = TrainConfig(**common, network_arguments={"channels": (2, 3), "time_steps": 2})  # type: ignore[arg-type]
    two = replace(small, family=f"{file}:two")
    run(two, base / HOSTILE / "<img src=x onerror=alert(2)> $\\frac{$", data=data)
    run(replace(small, arguments={"degree": 2}), base / "lnm", data=data)
    run(replace(small, family="lif"), base / "lif", data=data)
    return base


def hostile_run(runs: Path) -> Path:
    return runs / HOSTILE / "<img src=x onerror=alert(2)> $\\frac{$"


@pytest.fixture(scope="module")
def both(
    runs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """Text and JSON of the hostile run's page, and of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    files = folder / "run.html", folder / "report.html"
    one = ("analyze", hostile_run(runs), "--samples", 8, "--figure", folder / "grid.png")
    pair = ("report", runs / "lnm", "--baseline", runs / "lif", "--no-synth")
    found = []
    for words, file in zip((one, pair), files, strict=True):
        with redirect_stdout(io.StringIO()) as printed:
            assert command([str(word) for word in (*words, "--json", "--html", file)]) == 0
        found.append(json.loads(printed.getvalue()))
    first, second = found
    assert second["files"] == [str(files[1])]
    return (files[0].read_text(), first), (files[1].read_text(), second)


def test_pages_stand_alone_and_escape_every_name(
    both: tuple[tuple[str, Any], tuple[str, Any]],
) -> None:
    """No script, no address, no handler; anchors are unique and links lead to them."""
    for text, data in both:
        page = Page(text)
        assert text.startswith("<!DOCTYPE html>\n")
        assert not page.tags & {"script", "img", "link", "iframe", "object", "embed", "image"}
        assert "http:" not in text
        assert "https:" not in text
        assert "default-src 'none'" in text
        assert not [key for key, _ in page.attributes if key.startswith("on") or key == "src"]
        assert len(page.ids) == len(set(page.ids))
        assert set(page.links) <= {f"#{name}" for name in page.ids}
        assert {f"#{name}" for name in page.ids if name.startswith("layer-")} <= set(page.links)
        assert page.figures
        assert all(f["role"] == "img" and len(f["aria-label"]) > 20 for f in page.figures)
        assert len(page.texts["h1"]) == 1
        terms = [line.strip() for line in page.texts["dt"]]
        assert len(terms) == 5
        assert dict(zip(terms, page.texts["dd"], strict=True)) == data["summary"]
        assert text.index("<dl>") < min(text.index(tag) for tag in ("<table", "<svg", "<nav"))
    text, data = both[0]
    page = Page(text)
    assert page.texts["h1"] == [hostile_name(data)]
    settings = dict(row for row in page.tables[-1][1:])
    assert settings["family"] == data["config"]["family"]
    assert "<script>" in settings["family"]
    assert "constant input i_in<" in text


def hostile_name(data: Any) -> str:
    return Path(data["run"]).name


def test_names_of_layers_are_escaped(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is the working folder, whose name is the title."""
    monkeypatch.chdir(runs / "lif")
    found = analyze_run(load_run("."), limit=4)
    name = "</title></style><script>alert('x')</script>"
    page = Page(run_page(replace(found, layers=(replace(found.layers[0], name=name),))))
    assert "script" not in page.tags
    assert page.texts["h1"] == ["lif"]
    assert grid_figure(found).get_suptitle().startswith("lif: ")
    assert f"Layer 1: {name} " in page.texts["h2"]
    assert page.tables[0][1][0] == name


def test_numbers_of_a_run_are_those_of_its_json(
    both: tuple[tuple[str, Any], tuple[str, Any]],
) -> None:
    text, data = both[0]
    page = Page(text)
    layers, energy, *points, settings = page.tables
    low, high = data["accuracy_interval"]
    assert data["accuracy"] == data["correct"] / data["predictions"]
    accuracy = f"{100 * data['accuracy']:.2f} % of {data['samples']} {data['split']} samples"
    assert data["summary"]["Accuracy"].startswith(
        f"{accuracy}, 95 % interval {100 * low:.2f} to {100 * high:.2f} %"
    )
    for row, layer in zip(layers[1:], data["layers"], strict=True):
        seen = layer["seen"]
        states = (f"{n} in [{a:.3g}, {b:.3g}]" for n, (a, b) in seen["states"].items())
        assert row[:7] == [
            layer["name"], str(layer["rows"]),
            ", ".join(f"{name} {n}" for name, n in layer["classes"].items()),
            f"{seen['firing_rate']:.4f}", f"{100 * seen['silent']:.1f} %", ", ".join(states),
            "[{:.3g}, {:.3g}]".format(*seen["x"]),
        ]  # fmt: skip
    whole = data["energy"]
    for row, layer in zip(energy[1:-1], whole["layers"], strict=True):
        assert row[0] == layer["name"]
        assert [number(cell) for cell in row[-3:]] == [
            round(layer["pj"][by]["total"]) for by in ("fp32", "int8", "lemaire")
        ]
        counts = [layer.get("mac"), layer.get("ac")]
        assert [number(cell) for cell in row[1:3]] == [round(n or 0) for n in counts]
        if layer["kind"] == "neurons":
            assert row[3:5] == [f"{layer['spikes']:,.1f}", f"{layer['firing_rate']:.4f}"]
            assert number(row[5]) == round(layer["mul"] + layer["add"])
    assert energy[-1][3] == f"{whole['spikes']:,.1f}"
    assert [number(cell) for cell in energy[-1][-3:]] == [
        round(whole["pj"][by]["total"]) for by in ("fp32", "int8", "lemaire")
    ]
    for table, layer in zip(points[::2], data["layers"], strict=True):
        for row, (name, spread) in zip(table[1:], layer["parameters"].items(), strict=True):
            least, _, median, _, greatest = spread["quartiles"]
            assert [row[k] for k in (0, 1, 3, 5, 7)] == [
                name, *(f"{value:.4g}" for value in (spread["mean"], least, median, greatest))
            ]  # fmt: skip
    for table, layer in zip(points[1::2], data["layers"], strict=True):
        for row, one in zip(table[1:], layer["dynamics"], strict=True):
            first = one["eigenvalues"][0]
            assert row[:2] == [one["place"], one["class"]]
            assert row[4] == f"{first['radius']:.4g}"
            assert row[5] == f"{first['frequency']:.4g}"
    kept = {key: value for key, value in data["config"].items() if value is not None}
    assert dict(settings[1:]) == {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in kept.items()
    }


def number(cell: str) -> int:
    return round(float(cell.replace(",", ""))) if cell else 0


def test_numbers_of_a_comparison_are_those_of_its_json(
    both: tuple[tuple[str, Any], tuple[str, Any]],
) -> None:
    text, data = both[1]
    whole, *layers = Page(text).tables
    runs = [data["run"], data["baseline"]]
    assert whole[0][1:] == [one["folder"] for one in runs]
    words = ("accuracy", "accuracy_fixed", "agreement_one_step", "agreement_free_running")
    for row, word, places in zip(whole[1:], words, (2, 2, 4, 4), strict=True):
        assert row[1:] == [f"{100 * one[word]:.{places}f} %" for one in runs]
    shares = {
        "firing rate in fixed point": ("firing_rate_fixed", 2),
        "outputs that differ: free running": ("mismatch_free_running", 4),
        "outputs that differ: in the network": ("mismatch_in_network", 4),
        "inputs that saturate": ("saturated_inputs", 4),
    }
    counts = {"bits of all coefficients": "coefficient_bits", "cycles of a sample":
              "cycles_per_image", "bits of a neuron's states": "state_bits"}  # fmt: skip
    assert len(layers) == len(runs[0]["layers"])
    for table, pair in zip(layers, zip(*(r["layers"].values() for r in runs), strict=True),
                           strict=True):  # fmt: skip
        rows = {row[0]: row[1:] for row in table[1:]}
        for title, (word, places) in shares.items():
            assert rows[title] == [f"{100 * one[word]:.{places}f} %" for one in pair]
        for title, word in counts.items():
            assert rows[title] == [str(one[word]) for one in pair]
    bits = [sum(x["state_memory_bits"] for x in one["layers"].values()) for one in runs]
    assert f"{bits[0]:,} against {bits[1]:,} bits" in data["summary"]["Circuit"]
    assert "--no-synth" in data["summary"]["Circuit"]
    fixed = [f"{100 * one['accuracy_fixed']:.2f} %" for one in runs]
    assert re.findall(r"(\S+ %) \(95", data["summary"]["Accuracy in fixed point"]) == fixed


@pytest.mark.slow
def test_pages_fit_a_phone_and_a_desktop(
    both: tuple[tuple[str, Any], tuple[str, Any]], tmp_path: Path
) -> None:
    """Nothing outside a box that scrolls is wider than the window."""
    from tests.test_site import WIDTHS, look_at

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    names = ["run.html", "report.html"]
    for name, (text, _) in zip(names, both, strict=True):
        (tmp_path / name).write_text(text)
    found = look_at(tmp_path, names, tmp_path / "profile", browser)
    assert len(found) == len(names) * len(WIDTHS)
    assert not [one for one in found if one["over"] or one["wide"]]
    (tmp_path / "bad.html").write_text(both[0][0].replace("<h1>", '<h1 style="width:2000px">'))
    bad = look_at(tmp_path, ["bad.html"], tmp_path / "profile", browser)
    assert all(one["over"] and one["wide"] for one in bad)
