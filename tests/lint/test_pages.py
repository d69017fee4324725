"""Pages, site, package data and workflow as files: names, links, bounds, versions.

What the Python of a page does is tested in `tests/test_docs.py`, the built site in
`tests/test_site.py`.
"""

from __future__ import annotations

import html
import importlib
import inspect
import os
import re
import shlex
import tarfile
import tomllib
from dataclasses import replace
from inspect import ismodule
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.cli import app
from lnm_codegen.families import FAMILIES
from lnm_codegen.options import VERSION
from scripts.docs import assets, docstring, links
from scripts.docs.tables import escaped, table

ROOT = Path(__file__).parents[2]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_architecture_names_files_that_exist():
    """Each file that the page names by a path stands in the repository."""
    text = read("docs/architecture.md")
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
        for block in re.findall(r"```sh\n(.*?)```", text, re.S):
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


def test_command_lines_that_do_not_exist_are_found() -> None:
    """A verb, an option, a value at the end or within the line, a word too many."""
    for arguments, problem in (
        ("trian", "no command 'trian'"),
        ("train --validation 15", "(?i)no such option"),
        ("train --resume --out  # DIR", "requires an argument"),
        ("emit lif --out --name", "a value is missing"),
        ("verify DIR DIR", r"not \['DIR'\]"),
    ):
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

    text = read("docs/reference/api.md")
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
    """Return the pages above "To look things up" in docs/index.md, and itself."""
    text = read("docs/index.md")
    listed = text.partition("## Pages")[2].partition("To look things up")[0]
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
    front = read("docs/index.md")
    speed = read("docs/evidence/performance.md")
    times = re.findall(r"█\S* (\d+) ms \|", front)
    rows = re.findall(r"\| (?:`resnet18`, T = 4)? ?\|? ?.*? \| (\d{3,4}) \| [\d.]+ \|", speed)
    assert len(times) == 3
    assert set(times) <= set(rows)
    circuits = read("docs/evidence/circuits.md").splitlines()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in circuits if line[:1] == "|"
    ]
    core = rows[0].index("core: LUT, FF, DSP, MHz")
    named = {row[0]: row[core] for row in reversed(rows) if len(row) > core}  # the first table
    names = {
        "LIF, tau = 2": "lif",
        "LNM, one state, degree 3": "lnm 3",
        "LNM, two states, degree 1": "two-state 1",
    }
    for shown, name in names.items():
        lut, _, dsp, clock = named[name].split(", ")
        assert f"| {shown} | {lut} | {dsp} | {clock} |" in front
    networks = read("docs/evidence/integer-networks.md")
    (network,) = re.findall(r"\| LNM, two states, degree 1 \| 6 \| 22 \|(.*)\|", networks)
    real, integers, lut, _, dsp, _, clock, *_ = (cell.strip() for cell in network.split("|"))
    assert f"has {integers} in integers, {real} in float" in front
    front = " ".join(front.split())
    assert f"has {lut} LUT and {dsp} DSP at {clock} MHz" in front
    (small,) = re.findall(r"\| LNM, two states, degree 1 \| 4 \| 1 \|(.*)\|", networks)
    lut, _, dsp = [cell.strip() for cell in small.split("|")][2:5]
    assert f"weights of 4 bits, has {lut} LUT and {dsp} DSP" in front


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


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    plain = [re.sub(r"\]\([^)]*\)", "", h.lower()) for h in re.findall(r"^#+ (.*)", text, re.M)]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def test_links_lead_to_files_and_headings() -> None:
    """The build of the site tests those of docs/ too, and is slow."""
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    pages += [ROOT / "experiments/README.md", *(ROOT / "experiments/tables").rglob("*.md")]
    for page in [*pages, *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for link, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)\s]*)\)", text):
            target = page.parent / link if link else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor and target.suffix == ".md":
                assert anchor in anchors_of(target), f"{page.name}: {link}#{anchor}"


def test_a_docstring_gives_every_argument_of_its_family() -> None:
    """The table of arguments on a family's page has a row for each argument, and no other."""
    for name, family in FAMILIES.items():
        parts = docstring.parts_of(inspect.getdoc(family) or "")
        described = {word for part in parts for word in part.arguments}
        selecting = {part.title.partition("=")[0] for part in parts if part.title}
        assert described | selecting == set(family.signature.parameters), name
        assert all(part.summary.strip().endswith(".") for part in parts), name
        assert "```text" in parts[0].body, f"{name}: no equations"


def entries_of(page: str, package: Any) -> set[str]:
    """Return the names of the entries that mkdocstrings adds to a page of docs/reference/.

    The entry of a package has no member that is a module too, as `nn.convert`.
    """
    found: set[str] = set()
    for path, options in re.findall(r"^::: lnm_codegen\.?(\S*)\n( +options: .*)?", page, re.M):
        one = package[path] if path else package
        if not one.is_module:
            found.add(one.name)
            continue
        is_shown = "show_if_no_docstring: true" in options
        members = {n: m for n, m in one.members.items() if m.is_public and not m.is_module}
        found |= {n for n, m in members.items() if is_shown or m.has_docstring}
    return found


def test_every_public_name_has_its_entry() -> None:
    """On the reference page of its package."""
    parsed = pytest.importorskip("griffe").load("lnm_codegen", search_paths=[ROOT])
    for page in ("lnm_codegen", "nn", "train", "plot"):
        package = importlib.import_module("lnm_codegen" + f".{page}" * (page != "lnm_codegen"))
        named = {n: getattr(package, n) for n in dir(package) if not n.startswith("_")}
        names = {n for n, value in named.items() if not inspect.ismodule(value)}
        assert len(names) > 5
        assert not names - entries_of(read(f"docs/reference/{page}.md"), parsed)


def test_escaped_text_is_shown_as_it_is() -> None:
    """Placeholders, comparisons and brackets of a cell are visible, also inside a paragraph."""
    markdown = pytest.importorskip("markdown")
    text = "DIR/<backend>/<name>/ is <family>_degree<N>, 0 < v_threshold, a*b*c, [x|y], `<kept>`"
    for source in (table(["meaning"], [[escaped(text)]]), escaped(text)):
        page = markdown.markdown(source, extensions=["tables"])
        shown = html.unescape(re.sub(r"</?\w+>", "", page))
        assert text.replace("`", "") in shown.replace("\\|", "|")


WORD = st.sampled_from(["howto", "families", "lif", "a_b"])
FOLDERS = st.lists(WORD, max_size=3)


@given(FOLDERS, WORD, FOLDERS, WORD)
def test_links_between_pages_do_not_change(
    here: list[str], page: str, there: list[str], target: str
) -> None:
    """A relative link from a page of docs/ to another one is the same in the site."""
    link = "/".join([*[".."] * len(here), *there, f"{target}.md"])
    text = f"[text]({link}#part)"
    found = links.adapted(text, "/".join([*here, f"{page}.md"]), None)
    normal = os.path.normpath("/".join([*here, link]))
    assert found == f"[text]({os.path.relpath(normal, '/'.join(here) or '.')}#part)"


def test_links_out_of_the_pages_go_to_the_code_host() -> None:
    """Without a code host the text remains; code blocks stay as they are.

    CHANGELOG.md links to docs/ and is a page itself; the folder of families has a gallery.
    """
    text, host = "[text](../../a_b.py#L3)", "https://example.org/repository"
    code = f"```python\n{text}\n```\n"
    for given_, page, place, expected in (
        (text, "howto/page.md", host, f"[text]({host}/blob/main/a_b.py)"),
        (text, "howto/page.md", None, "text"),
        (code, "howto/page.md", None, code),
        ("[a](docs/ode.md)", "CHANGELOG.md", None, "[a](ode.md)"),
        ("[a](../CHANGELOG.md)", "ode.md", None, "[a](CHANGELOG.md)"),
        ("[a](../../lnm_codegen/families/)", "howto/a.md", None, "[a](../families/index.md)"),
    ):
        assert links.adapted(given_, page, place) == expected


def test_an_archive_with_another_sum_is_refused(tmp_path: Path) -> None:
    """It is removed, so that the next build fetches it anew; nothing is unpacked."""
    pin = replace(assets.PINS[0], name="library", version="1.0", files=r"package/dist/a\.js")
    archive = tmp_path / pin.archive
    (tmp_path / "a.js").write_text("1")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "a.js", "package/dist/a.js")
        tar.add(tmp_path / "a.js", "package/dist/b.js")
    assert [p.name for p in assets.unpack(pin, archive, tmp_path / "out")] == ["a.js"]
    with pytest.raises(assets.AssetError, match="SHA-512") as refused:
        assets.fetch(pin, tmp_path)
    assert not isinstance(refused.value, assets.MissingAssetError)
    assert not archive.exists()


def test_the_core_and_its_extras() -> None:
    """What only training and figures need is in `train`, which the tests bring."""
    facts = tomllib.loads(read("pyproject.toml"))["project"]
    extras = facts["optional-dependencies"]
    core, train = (
        {re.split(r"[^\w-]", line)[0] for line in lines}
        for lines in (facts["dependencies"], extras["train"])
    )
    assert not {"matplotlib", "scikit-learn"} & core
    assert train == {"matplotlib", "scikit-learn", "scipy"}
    assert "train" in extras["test"][0]
    assert [d for d in facts["dependencies"] if d.startswith("triton")] == [
        "triton>=3.3; sys_platform == 'linux'"
    ]


def test_the_version_is_the_same_everywhere() -> None:
    """In pyproject.toml, options.py, CITATION.cff and the newest section of the changelog."""
    cited = re.search(r"^version: (\S+)\ndate-released: (\S+)$", read("CITATION.cff"), re.M)
    sections = re.findall(r"^## (\S+) \((\S+)\)$", read("CHANGELOG.md"), re.M)
    assert cited is not None
    assert tomllib.loads(read("pyproject.toml"))["project"]["version"] == VERSION == cited[1]
    assert sections[0] == cited.groups()


def test_the_workflow_runs_what_ci_runs() -> None:
    """The workflow has read permissions alone, pins its actions, and runs .ci/run and the site."""
    text = read(".github/workflows/ci.yml")
    actions = re.findall(r"uses: (\S+)", text)
    assert actions
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in actions)
    assert re.findall(r"^ *(\w+): (?:read|write)$", text, re.M) == ["contents"]
    assert "write" not in text
    commands = re.findall(r"- run: (.*)", text)
    assert ".ci/run" in commands
    assert "exec make test\n" in read(".ci/run")
    targets = re.findall(r"^([a-z-]+):", read("Makefile"), re.M)
    called = {c.split()[1] for c in commands if c.startswith("make ")}
    assert called == {"docs", "test-full"} <= set(targets)
    assert re.search(r"^test: setup lint ", read("Makefile"), re.M)
