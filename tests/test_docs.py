"""The Python of README, pages of docs/ and docstrings runs as it stands."""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import lnm_codegen.nn.layer

ROOT = Path(__file__).parent.parent


QUICK = [
    "README.md",
    "docs/architecture.md",
    "docs/definitions.md",
    "docs/explanation/backward.md",
    "docs/explanation/semantics.md",
    "docs/hardware.md",
    "docs/howto/choose.md",
    "docs/network.md",
    "docs/ode.md",
    "docs/reference/fusion.md",
    "docs/reference/language.md",
]
SLOW = [
    "docs/index.md",
    "docs/nir.md",
    "docs/onnx.md",
    "docs/pytorch.md",
    "docs/reference/transforms.md",
    "docs/start.md",
    "docs/training.md",
    *sorted(
        f"docs/howto/{p.name}"
        for p in (ROOT / "docs/howto").glob("*.md")
        if p.name not in ("choose.md", "index.md") and "```python" in p.read_text("utf-8")
    ),
]
"""Pages that compile kernels, or export or train a network."""
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
    [*QUICK, *(pytest.param(p, marks=pytest.mark.slow) for p in SLOW)],
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


def test_docstring_examples():
    """The example of NeuronLayer runs."""
    assert doctest.testmod(lnm_codegen.nn.layer).failed == 0
    assert doctest.testmod(lnm_codegen.nn.layer).attempted > 0


@pytest.mark.slow
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
