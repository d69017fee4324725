"""The Python of README, pages of docs/ and docstrings runs as it stands."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
from inspect import ismodule
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer

import lnm_codegen.nn.layer
from lnm_codegen.cli import app

ROOT = Path(__file__).parent.parent


PAGES = [
    "README.md",
    "docs/architecture.md",
    "docs/definitions.md",
    "docs/explanation/backward.md",
    "docs/explanation/semantics.md",
    "docs/hardware.md",
    "docs/ode.md",
    "docs/nir.md",
    "docs/network.md",
    "docs/onnx.md",
    "docs/pytorch.md",
    "docs/reference/fusion.md",
    "docs/reference/language.md",
    "docs/reference/transforms.md",
    "docs/start.md",
    "docs/training.md",
    "docs/index.md",
    *sorted(f"docs/howto/{p.name}" for p in (ROOT / "docs/howto").glob("*.md")),
]
NEEDED = {
    "docs/onnx.md": ["onnxruntime"],
    "docs/start.md": ["matplotlib"],
    "docs/howto/choose.md": ["matplotlib"],
    "docs/howto/compare.md": ["matplotlib", "scipy", "sklearn"],
    "docs/howto/exchange.md": ["nir", "onnxscript"],
    "docs/howto/own_data.md": ["matplotlib"],
    "docs/howto/report.md": ["matplotlib", "sklearn"],
}
"""Page -> packages of extras that its code needs."""
NO_PYTHON = {"docs/howto/index.md"}
"""Pages that only list others."""
SLOW = {"docs/pytorch.md", "docs/training.md"} | {
    f"docs/howto/{name}.md"
    for name in (
        "channel",
        "compare",
        "exchange",
        "gradient",
        "mixed",
        "own_data",
        "quantise",
        "report",
    )
}
"""Pages that compile several kernels, or export or train a network."""


_KEPT: list[object] = []
"""Names of pages with a process group: the end of one waits for its thread, which may wait for
Python's lock, and no timeout ends that."""


def blocks(path: str) -> str:
    """Return the Python blocks of a page, in order."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


# torch.export itself instantiates each autograd Function that it traces.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[pytest.mark.slow] * (p in SLOW)) for p in PAGES if p not in NO_PYTHON],
)
def test_the_python_of_a_page_runs(path, tmp_path, monkeypatch, capsys):
    """A page's code is true today; architecture.md asserts what it tells."""
    monkeypatch.chdir(tmp_path)
    code = blocks(path)
    for package in NEEDED.get(path, ()):
        pytest.importorskip(package, reason=f"{package} is not installed")
    assert re.search(r"import lnm_codegen|from lnm_codegen", code)
    names = {"__name__": "page"}
    if "init_process_group" in code:
        _KEPT.append(names)
    exec(compile(code, path, "exec"), names)


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_the_python_of_the_conversion_page_runs(tmp_path, monkeypatch, capsys):
    """Its printed reports are those that it shows."""
    for library in ("spikingjelly.activation_based", "snntorch", "norse.torch"):
        pytest.importorskip(library, exc_type=ImportError)
    test_the_python_of_a_page_runs("docs/convert.md", tmp_path, monkeypatch, capsys)
    text = (ROOT / "docs/convert.md").read_text(encoding="utf-8")
    shown = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#   ")]
    printed = " ".join(capsys.readouterr().out.split())
    for line in shown[:2]:
        assert " ".join(line.split()) in printed
    assert "0.00% of the spikes differ" in printed


@pytest.mark.slow
def test_the_experiment_file_of_the_page_trains(tmp_path):
    """docs/training.md shows a whole file."""
    from lnm_codegen.train import run
    from lnm_codegen.train.runs.config import read_toml

    text = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    file = tmp_path / "exp.toml"
    file.write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL).group(1))
    config = read_toml(file)
    assert config.network_arguments == {"hidden": (128, 128)}
    assert len(run(config).epochs) == 3


def test_architecture_names_files_that_exist():
    """Each file that the page names by a path stands in the repository."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    paths = {f"/{p.relative_to(ROOT)}" for p in ROOT.glob("lnm_codegen/**/*.*")}
    paths |= {f"/{p.relative_to(ROOT)}" for p in ROOT.glob("tests/**/*.py")}
    named = set(re.findall(r"`([\w/]+\.(?:py|j2|h))`", text))
    assert len(named) > 20
    assert not [name for name in named if not any(p.endswith(f"/{name}") for p in paths)]


def command_lines():
    """Return (page, arguments of `lnm`) for each call in a block of shell commands."""
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.split(r" 2?> | \| ", line)[0]
                called = re.match(r"\s*(?:lnm|.* -m lnm_codegen\.cli) (.*)", command)
                if called:
                    found.append((page.name, called[1]))
    return found


def require_options(arguments):
    """Raise an error for an unknown verb or option, a missing value, or a surplus word."""
    verb, *words = shlex.split(arguments, comments=True)
    verbs = typer.main.get_command(app)
    command = verbs.get_command(typer.Context(verbs), verb)
    options, surplus, _ = command.make_parser(typer.Context(command)).parse_args(words)
    assert not surplus
    assert "--" not in str(options), "an option where a value is missing"


def test_the_command_lines_of_the_pages_have_options_that_exist():
    """docs/howto/own_data.md had `--validation`. Values are not examined."""
    lines = command_lines()
    assert len(lines) > 50
    for page, arguments in lines:
        try:
            require_options(arguments)
        except Exception as error:
            pytest.fail(f"{page}: lnm {arguments}: {error}")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("trian", "no command 'trian'"),
        ("train --validation 15", "(?i)no such option"),
        ("train --resume --out  # DIR", "requires an argument"),
        ("emit lif --out --name", "a value is missing"),
        ("verify DIR DIR", r"not \['DIR'\]"),
    ],
)
def test_command_lines_that_do_not_exist_are_found(arguments, problem):
    """A verb, an option, a value at the end or within the line, a word too many."""
    with pytest.raises(Exception, match=problem):
        require_options(arguments)


def test_the_page_of_the_public_api_is_complete():
    """Every public name and verb, and the version of every file format."""
    import lnm_codegen as lnm
    from lnm_codegen import cli, insight, plot, train
    from lnm_codegen.backends.verilog import folder
    from lnm_codegen.deploy.integers import emit, source
    from lnm_codegen.hardware import result
    from lnm_codegen.ir.fixed import exchange as fixed
    from lnm_codegen.ir.network import exchange as network

    text = (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    names = {*lnm.__all__, *lnm.nn.__all__, "trace", *cli.VERBS}
    for package in (insight, plot):
        names |= {n for n, value in vars(package).items() if n[0] != "_" and not ismodule(value)}
    assert not names - set(re.findall(r"`([\w-]+)`", text))
    assert train.__all__
    for module in (fixed, network):
        assert f'`"format": "{module.FORMAT}"`, `"version": {module.VERSION}`' in text
    assert f"`{source.FORMAT}` {source.VERSION}, `{emit.FORMAT}` {emit.VERSION}" in text
    assert f'`"manifest": {folder.VERSION}`' in text
    assert f'`"report": {result.VERSION}`' in text


def path_of_the_reader():
    """Return the pages above "These pages are the reader's path" in docs/index.md, and itself."""
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = text.partition("## Pages")[2].partition("These pages are the reader's path")[0]
    found = {ROOT / "docs" / link for link in re.findall(r"\((\S+\.md)\)", listed)}
    return {ROOT / "docs/index.md", *found, *(ROOT / "docs/howto").glob("*.md")}


def test_the_path_of_the_reader_is_short():
    """Start, tutorials, how-to, language and layers, semantics and backward."""
    pages = path_of_the_reader()
    assert len(pages) >= 30
    assert {*(ROOT / "docs/tutorials").glob("*.md")} <= pages
    assert sum(len(page.read_text(encoding="utf-8").split()) for page in pages) <= 25_000


def test_the_front_page_shows_what_the_evidence_has():
    """Times of ResNet-18, and size and clock of circuits."""
    front = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    speed = (ROOT / "docs/evidence/performance.md").read_text(encoding="utf-8")
    times = re.findall(r"█\S* (\d+) ms \|", front)
    rows = re.findall(r"\| (?:`resnet18`, T = 4)? ?\|? ?.*? \| (\d{3,4}) \| [\d.]+ \|", speed)
    assert len(times) == 3
    assert set(times) <= set(rows)
    circuits = (ROOT / "docs/evidence/circuits.md").read_text(encoding="utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in circuits if line[:1] == "|"
    ]
    core = rows[0].index("core: LUT, FF, DSP, MHz")
    named = {row[0]: row[core] for row in reversed(rows) if len(row) > core}  # the first table
    names = {"LIF": "lif", "LNM, degree 3": "lnm 3", "LNM, two states": "two-state 1"}
    for shown, name in names.items():
        lut, _, dsp, clock = named[name].split(", ")
        assert f"| {shown} | {lut} | {dsp} | {clock} |" in front


def test_the_figure_of_the_front_page_is_that_of_its_neuron():
    """Its texts; the widths of letters vary by version."""
    pytest.importorskip("matplotlib")
    from lnm_codegen.train.comparison.table import figure_data
    from scripts.docs import front

    def texts(svg):
        return [e.text for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]

    drawn = figure_data(front.figure)
    assert texts(front.FIGURE.read_bytes()) == texts(drawn)
    assert drawn.count(b"<path") == front.FIGURE.read_bytes().count(b"<path")


def slug(heading):
    """Return the anchor of a heading."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading.lower()))
    return plain.strip().replace(" ", "-")


def anchors_of(page):
    """Return the anchors of the headings of a page."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return {slug(heading) for heading in re.findall(r"^#+ (.*)", text, re.MULTILINE)}


def test_links_to_headings_lead_to_headings():
    """The build of the site tests them too, and is slow."""
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for link, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#([^)\s]+)\)", text):
            target = page.parent / link if link else page
            if target.suffix == ".md":
                assert anchor in anchors_of(target), f"{page.name}: {link}#{anchor}"


def test_docstring_examples():
    """The example of NeuronLayer runs."""
    assert doctest.testmod(lnm_codegen.nn.layer).failed == 0
    assert doctest.testmod(lnm_codegen.nn.layer).attempted > 0


def test_contributing_recipe_files_exist():
    """What these pages link to exists."""
    pages = ["README.md", "CONTRIBUTING.md", "experiments/README.md"]
    for folder in ("docs", "experiments/tables"):
        pages += [path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.md")]
    for page in pages:
        folder = (ROOT / page).parent
        text = (ROOT / page).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
            assert (folder / link).exists(), f"{page}: {link}"


@pytest.mark.needs_cc
def test_the_cpp_of_the_kernel_page_runs(tmp_path, monkeypatch):
    """Its build line compiles its caller, which counts the spikes of a layer."""
    import torch

    import lnm_codegen as lnm
    from lnm_codegen.backends.c.backend import FLAGS

    if shutil.which("g++") is None:
        pytest.skip("g++, which the page calls, is not installed")
    page = (ROOT / "docs/howto/kernel.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(blocks("docs/howto/kernel.md"), {})
    caller = re.search(r"```cpp\n(.*?)```", page, re.DOTALL).group(1)
    Path("main.cpp").write_text(caller)
    build = re.search(r"```sh\n(g\+\+ .*?)\n```", page, re.DOTALL).group(1)
    assert set(FLAGS) - {"-fPIC", "-shared"} <= set(build.split())
    subprocess.run([*build.split(), "-Wall", "-Wextra", "-Werror"], check=True)
    printed = subprocess.run(["./main"], check=True, capture_output=True, text=True).stdout
    expected = lnm.nn.NeuronLayer(lnm.get("lif"), backend="torch")(torch.full((20, 1, 6), 1.5))
    assert 0 < expected.sum() < 120
    assert printed == f"{expected.sum():g} spikes\n"
    for file in re.findall(r"`([\w.]+\.(?:h|cpp|c))`: ", page):
        assert Path("kernel/c/lif", file).is_file()
