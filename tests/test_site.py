"""The site: its generated pages, its links, and, in headless Chromium, how its pages look.

The build needs the extra `docs` and npm, the look at the pages Chromium; without them these tests
are skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from lnm_codegen.families import FAMILIES
from scripts.docs import assets

ROOT = Path(__file__).parents[1]
WIDTHS = (390, 1440)
"""Widths of a phone and of a desktop, in pixels."""
EXTERNAL = ("http:", "https:", "mailto:", "data:", "javascript:")


def slow(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs the site, whose build counts to the time of the first of them."""
    return pytest.mark.slow(pytest.mark.timeout(1800)(test))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site with warnings as errors and return its folder."""
    needed = ("mkdocs", "material", "mkdocstrings_handlers", "matplotlib", "nbclient", "ipykernel")
    for package in (*needed, "mnist1d", "spikingjelly"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    try:
        for pin in assets.PINS:
            assets.fetch(pin, ROOT / "build" / "npm")
    except assets.MissingAssetError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("site")
    for command in (["scripts.docs.generate"], ["mkdocs", "build", "--quiet", "-d", str(folder)]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Page(HTMLParser):
    """Links, anchors, loaded files and prose of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors = {"", "__top"}
        self.prose = ""
        self._inside: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif "src" in found or (tag == "link" and found.get("rel") in ("stylesheet", "icon")):
            self.loaded.append(found.get("src") or found["href"])
        if tag in ("code", "pre", "script", "style", "math"):
            self._inside.append(tag)
        elif "arithmatex" in found.get("class", "").split():
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.prose += data


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Return path below the site -> its page."""
    files = sorted(site.rglob("*.html"))
    return {p.relative_to(site).as_posix(): Page(p) for p in files if p.name != "404.html"}


@slow
def test_links_of_the_site_lead_somewhere(site: Path, pages: dict[str, Page]) -> None:
    """Files and anchors exist."""
    lost = []
    for name, page in pages.items():
        for link in {*page.links, *page.loaded}:
            if link.startswith(EXTERNAL):
                continue
            parts = urlsplit(link)
            path = os.path.normpath(os.path.join(os.path.dirname(name), unquote(parts.path)))
            target = name if not parts.path else path
            if not (site / target).exists():
                lost.append(f"{name}: {link}")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                lost.append(f"{name}: {link}: no such anchor")
    assert not lost


@slow
def test_pages_load_nothing_from_another_host(pages: dict[str, Page]) -> None:
    """Scripts, styles, fonts and figures are files of the site."""
    loaded = {(name, file) for name, page in pages.items() for file in page.loaded}
    assert len(loaded) > len(pages)
    assert not [pair for pair in loaded if pair[1].startswith(("http", "//"))]


@slow
def test_every_family_has_its_page(pages: dict[str, Page]) -> None:
    """With its figures, and in the gallery."""
    for name in FAMILIES:
        figures = [file for file in pages[f"families/{name}.html"].loaded if file.endswith(".svg")]
        assert len(figures) >= 1 + (name != "li")
        assert f"{name}.html" in pages["families/index.html"].links


@slow
def test_every_notebook_has_its_page(site: Path, pages: dict[str, Page]) -> None:
    """With its outputs and, but for the one of commands and numbers, figures; and for download."""
    names = [path.stem for path in (ROOT / "docs" / "tutorials").glob("*.ipynb")]
    assert names
    for name in names:
        text = (site / "tutorials" / f"{name}.html").read_text(encoding="utf-8")
        assert (site / "tutorials" / f"{name}.ipynb").is_file()
        assert f"{name}.ipynb" in pages[f"tutorials/{name}.html"].links
        assert len(re.findall(r'class="[^"]*\boutput\b', text)) >= 5
    figures = pages["tutorials/invent.html"].loaded + pages["tutorials/equations.html"].loaded
    assert sum(file.endswith(".svg") for file in figures) >= 8


@slow
def test_no_page_shows_markdown(pages: dict[str, Page]) -> None:
    """The marks of a broken list, link or table would remain in the text."""
    marks = ("](", "$$", "\\(", "\n* ", "\n   * ", "| ---", ":::", "```")
    found = [(name, mark) for name, page in pages.items() for mark in marks if mark in page.prose]
    assert not found


LOOK = """<!doctype html><body><script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const clipped = (e, d) => {
  for (let p = e; p && p !== d.body; p = p.parentElement)
    if (d.defaultView.getComputedStyle(p).overflowX !== "visible") return true;
  return false;
};
async function look(page, width) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  const loaded = new Promise((done) => (frame.onload = done));
  frame.src = "/" + page;
  document.body.append(frame);
  await loaded;
  const d = frame.contentDocument;
  const raw = () => d.querySelectorAll("pre.mermaid").length +
    [...d.querySelectorAll(".arithmatex")].filter((e) => !e.querySelector(".katex")).length;
  for (let k = 0; k < 100 && raw(); k++) await wait(50);
  const wide = [...d.querySelectorAll(".md-content *, main *")].filter((e) =>
    e.getBoundingClientRect().right > width + 1 && !clipped(e, d));
  const found = { page, width, raw: raw(), errors: d.querySelectorAll(".katex-error").length,
    equations: d.querySelectorAll(".katex").length,
    diagrams: d.querySelectorAll("div.mermaid").length,
    over: d.documentElement.scrollWidth - d.documentElement.clientWidth,
    wide: wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 120)) };
  frame.remove();
  return found;
}
(async () => {
  const found = [];
  for (const [page, width] of TASKS) found.push(await look(page, width));
  await fetch("/found", { method: "POST", body: JSON.stringify(found) });
})();
</script>"""


def look_at(site: Path, names: list[str], folder: Path, browser: str) -> list[dict[str, object]]:
    """Open every page at each width in headless Chromium and return what a script found."""
    tasks = [(name, width) for width in WIDTHS for name in names]
    script = LOOK.replace("TASKS", json.dumps(tasks))
    found: list[dict[str, object]] = []
    done = threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(site))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.path != "/look":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(script.encode())
            return None

        def do_POST(self) -> None:
            found.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
    address = f"http://127.0.0.1:{server.server_port}/look"
    process = subprocess.Popen(
        [browser, *options, "--remote-debugging-port=0", "--window-size=1500,1000", address],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 1200
        while not done.wait(0.5):
            assert process.poll() is None, "the browser ended"
            assert time.monotonic() < end, "the browser did not finish"
    finally:
        process.terminate()
        process.wait()
        server.shutdown()
        server.server_close()
    return found


@slow
def test_pages_fit_a_phone_and_a_desktop(
    site: Path, pages: dict[str, Page], tmp_path: Path
) -> None:
    """Nothing is wider than the page, and every equation and diagram is drawn."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    found = look_at(site, list(pages), tmp_path, browser)
    assert len(found) == len(WIDTHS) * len(pages)
    wrong = [f for f in found if f["over"] or f["wide"] or f["raw"] or f["errors"]]
    assert not wrong
    assert sum(bool(f["equations"]) for f in found) >= len(WIDTHS) * (len(FAMILIES) - 1)
    assert sum(bool(f["diagrams"]) for f in found) >= len(WIDTHS)


@pytest.mark.slow
def test_the_look_finds_faults(tmp_path: Path) -> None:
    """A wide element, an equation that no script draws, and one with an error."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "bad.html").write_text(
        '<!doctype html><div class="md-content"><div style="width:2000px">wide</div>'
        '<span class="arithmatex">x</span><span class="katex-error">y</span></div>'
    )
    found = look_at(tmp_path / "site", ["bad.html"], tmp_path / "profile", browser)
    assert len(found) == len(WIDTHS)
    for one in found:
        assert (one["raw"], one["errors"]) == (1, 1)
        assert one["over"]
        assert one["wide"]
