"""Compilers: clang with and without OpenMP, libraries without a compiler, what the user reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.backends.c.backend import FLAGS
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn.load import c as load
from lnm_codegen.nn.load.c import OPENMP, SIMD, Compiler, compiler, openmp_error
from tests.refusals import refused

ROOT = Path(__file__).parents[3]
MODEL = plan_of(lnm.get("if"))
CLANG = shutil.which("clang++")
QUICK = ("-std=c++17", "-fPIC", "-shared")
needs_cc = pytest.mark.needs_cc
needs_clang = pytest.mark.skipif(CLANG is None, reason="clang++ is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the test's own; no compiler and no warning is remembered."""
    monkeypatch.setenv("LNM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("lnm_codegen.nn.load.warn._WARNED", set())
    compiler.cache_clear()
    yield tmp_path / "cache"
    compiler.cache_clear()


def use(monkeypatch: pytest.MonkeyPatch, command: object) -> None:
    monkeypatch.setenv("CXX", str(command))
    compiler.cache_clear()


def without_openmp(path: Path, real: str) -> Path:
    """Write a compiler that refuses OpenMP, as clang does without libomp."""
    path.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do if [ "$word" = -fopenmp ]; then\n'
        "  echo \"probe.cpp:1:10: fatal error: 'omp.h' file not found\" >&2; exit 1\nfi; done\n"
        f'exec {real} "$@"\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


# ---- without a compiler ----


@needs_cc
def test_a_library_is_found_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler's version is no condition for it; source, flags and CPU are."""
    monkeypatch.setattr(load, "flags", lambda: QUICK)
    library = load.build(MODEL)
    use(monkeypatch, tmp_path / "none")
    assert load.build(MODEL) == library
    assert load.is_built(MODEL)
    other = plan_of(lnm.get("if"), dtype="float64")
    assert not load.is_built(other)
    with refused(lnm.ToolError, "c", "no C++ compiler found"):
        load.build(other)
    for name, value in (("flags", lambda: (*QUICK, "-O1")), ("cpu", lambda: "another CPU")):
        with monkeypatch.context() as changed:
            changed.setattr(load, name, value)
            assert not load.is_built(MODEL), name
    library.write_bytes(library.read_bytes()[:1000])
    assert not load.is_built(MODEL)
    with refused(lnm.ToolError, "c", "no C++ compiler found"):
        load.build(MODEL)


@needs_cc
def test_the_newest_library_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two compilers left one each."""
    monkeypatch.setattr(load, "flags", lambda: QUICK)
    libraries = []
    for k, version in enumerate(("1", "2", "0")):
        tool = Compiler((compiler().path,), version)
        with monkeypatch.context() as changed:
            changed.setattr(load, "compiler", lambda tool=tool: tool)
            libraries.append(load.build(MODEL))
        os.utime(libraries[-1], (k + 1, k + 1))
    assert len(set(libraries)) == 3
    use(monkeypatch, tmp_path / "none")
    assert load.build(MODEL) == libraries[-1]


def test_windows_has_the_backend_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` runs it, with one warning."""
    monkeypatch.setattr(sys, "platform", "win32")
    compiler.cache_clear()
    layer, x = lnm.nn.NeuronLayer(lnm.get("if")), torch.ones(2, 1, 2)
    with pytest.warns(RuntimeWarning, match="^c: Windows has no C kernels. Use backend='torch'"):
        out = layer(x)
    assert out.tolist() == [[[1.0, 1.0]]] * 2


LAYER = """
import torch, lnm_codegen as lnm
layer = lnm.nn.NeuronLayer(lnm.get("if"), arithmetic={arithmetic})
x = torch.full((3, 1, 2), 0.6)
print(layer(x).flatten().tolist(), layer._dispatch.backend_of(x))
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


@pytest.mark.slow
@needs_cc
@pytest.mark.parametrize(
    "arithmetic", ["None", pytest.param("lnm.Fixed(16, 12)", marks=pytest.mark.slow)]
)
def test_auto_runs_a_library_without_a_compiler(tmp_path: Path, arithmetic: str) -> None:
    """A process that compiles, then one that has no compiler, in floating point and in integers."""
    spikes = "[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]"
    for environment in ({}, {"CXX": str(tmp_path / "none")}):
        done = run(LAYER.format(arithmetic=arithmetic), **environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{spikes} c\n", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        "layer(x)",
        pytest.param("torch.nn.Sequential(layer)(x)", marks=pytest.mark.slow),
        pytest.param("torch.compile(layer, backend='eager')(x)", marks=pytest.mark.slow),
    ],
)
def test_the_warning_of_a_missing_compiler_shows_the_users_line(tmp_path: Path, call: str) -> None:
    """From eager mode, from `nn.Sequential` and from `torch.compile`."""
    script = tmp_path / "mine.py"
    script.write_text(
        "import torch, lnm_codegen as lnm\n"
        "layer, x = lnm.nn.NeuronLayer(lnm.get('if')), torch.ones(2, 1, 2)\n"
        f"def forward():\n    return {call}\n"
        "forward()\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CXX": str(tmp_path / "none")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, line = done.stderr.splitlines()
    assert first.startswith(f"{script}:4: RuntimeWarning: c: no C++ compiler found")
    assert line.strip() == f"return {call}"


# ---- the first compilation ----


@needs_cc
@pytest.mark.parametrize("terminal", [True, False])
def test_a_compilation_is_announced_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool
) -> None:
    """One line, once; none elsewhere."""
    monkeypatch.setattr(load, "flags", lambda: QUICK)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    load.build(MODEL)
    folder = os.environ["LNM_CACHE"]
    line = f"lnm_codegen: compiling if for the CPU (once; kept in {folder})\n"
    assert capsys.readouterr().err == (line if terminal else "")
    load.build(MODEL)
    assert capsys.readouterr().err == ""


# ---- OpenMP ----


@needs_cc
def test_a_compiler_with_openmp() -> None:
    """The one that the marker asks for has it; no compiler at all says why not."""
    assert openmp_error(compiler()) is None
    assert openmp_error(Compiler(("/no/such/compiler",), "")) == "No such file or directory"
    assert openmp_error(Compiler(("/bin/false",), "")) == "no message"


@needs_cc
def test_without_openmp_one_thread_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIMD stays; the library of another key is built again when OpenMP comes."""
    real = compiler().path
    monkeypatch.setattr(load, "flags", lambda: (*QUICK, OPENMP))
    commands: list[tuple[str, ...]] = []
    compile_ = load._compile

    def noted(source: object, library: Path, tool: Compiler, options: tuple[str, ...]) -> None:
        commands.append(options)
        compile_(source, library, tool, options)

    monkeypatch.setattr(load, "_compile", noted)
    use(monkeypatch, without_openmp(tmp_path / "cxx", real))
    models = (MODEL, MODEL, plan_of(lnm.get("if"), dtype="float64"))
    with pytest.warns(RuntimeWarning) as caught:
        single, again, other = [load.build(model) for model in models]
    assert single == again != other
    assert [str(w.message) for w in caught] == [
        f"c: {tmp_path}/cxx has no OpenMP ('omp.h' file not found), so kernels run on one thread."
        " Install libomp-dev or g++, or set CXX to a compiler with OpenMP."
    ]
    assert caught[0].filename == __file__
    assert commands == [(*QUICK, SIMD)] * 2
    (tmp_path / "cxx").write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    openmp_error.cache_clear()
    assert load.build(MODEL) != single
    assert commands[2:] == [(*QUICK, OPENMP)]


CASES = [("lif", {}), ("lnm", {"degree": 3, "per": "channel"})]
PROGRAM = """
import sys, torch, lnm_codegen as lnm
torch.manual_seed(0)
for name, arguments in {cases!r}:
    layer = lnm.nn.NeuronLayer(lnm.get(name, **arguments), channels=3, backend="c")
    x = torch.randn(33, 5, 3, 7).requires_grad_()
    out = layer(x)
    out.backward(torch.randn(out.shape))
    for tensor in (out, x.grad, *(p.grad for p in layer.parameters())):
        print(tensor.detach().double().view(torch.int64).sum().item())
"""


@needs_clang
@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("openmp", [True, False])
def test_clang_builds_what_gcc_builds(tmp_path: Path, openmp: bool) -> None:
    """Outputs and gradients are bit-exact; without libomp there is one warning."""
    code = PROGRAM.format(cases=CASES)
    assert CLANG is not None
    tool = Compiler((CLANG,), "")
    if openmp and (problem := openmp_error(tool)) is not None:
        pytest.skip(f"clang++ has no OpenMP: {problem}")
    command = CLANG if openmp else str(without_openmp(tmp_path / "clang", CLANG))
    expected, found = run(code), run(code, CXX=command)
    assert (expected.returncode, expected.stderr) == (0, "")
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) > 4
    assert found.stdout == expected.stdout
    assert found.stderr.count("RuntimeWarning: c: ") == (not openmp)


@needs_clang
@needs_cc
@pytest.mark.slow
def test_clang_passes_the_check_of_a_family(tmp_path: Path) -> None:
    """`lnm check lnm` with clang and no OpenMP."""
    command = "import sys\nfrom lnm_codegen.cli import run\nsys.exit(run(['check', 'lnm']))\n"
    assert CLANG is not None
    done = run(command, CXX=str(without_openmp(tmp_path / "clang", CLANG)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "c float32  c float64" in done.stdout


def test_the_flags_have_openmp() -> None:
    """Otherwise no compiler is examined."""
    assert OPENMP in FLAGS
