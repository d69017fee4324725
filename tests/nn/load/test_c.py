"""Compiled kernels: compilers, and a cache whose sound entries are used and others rebuilt."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.backends.c.backend import FLAGS
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn import eager
from lnm_codegen.nn.load import c as load
from lnm_codegen.nn.load import cache as cache_module
from lnm_codegen.nn.load.c import OPENMP, SIMD, Compiler, compiler, openmp_error
from lnm_codegen.nn.load.cache import sound_bytes
from lnm_codegen.nn.load.warn import warn_once
from tests.refusals import refused

ROOT = Path(__file__).parents[3]
MODEL = plan_of(lnm.get("if"))
OTHER = plan_of(lnm.get("if"), dtype="float64")
CLANG = shutil.which("clang++")
needs_cc = pytest.mark.needs_cc


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "flags", lambda: ("-std=c++17", "-fPIC", "-shared"))


def use(monkeypatch: pytest.MonkeyPatch, command: object) -> None:
    """Set CXX."""
    monkeypatch.setenv("CXX", str(command))
    compiler.cache_clear()


def script(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def without_openmp(path: Path, real: str) -> Path:
    """Write a compiler that refuses OpenMP, as clang does without libomp."""
    said = "probe.cpp:1:10: fatal error: 'omp.h' file not found"
    refusal = f'[ "$word" = -fopenmp ] && echo "{said}" >&2 && exit 1'
    return script(path, f'for word in "$@"; do {refusal}; done\nexec {real} "$@"')


def loads(library: Path) -> bool:
    """Report whether a library has the three functions."""
    found = ctypes.CDLL(str(library))
    return all(hasattr(found, f"if_{word}") for word in ("forward", "backward", "checkpoints"))


def entries(cache: Path) -> list[Path]:
    return [p for p in cache.iterdir() if p.suffix != ".lock"]


# ---- the cache ----


@needs_cc
@pytest.mark.parametrize("terminal", [True, False])
def test_a_build_leaves_one_entry_that_is_used(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    """A terminal shows one line of it, once; the second build has no lock and no compiler."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    library = load.build(MODEL)
    line = f"lnm_codegen: compiling if for the CPU (once; kept in {cache})\n"
    assert capsys.readouterr().err == (line if terminal else "")
    assert entries(cache) == [library.parent]
    assert sorted(p.name for p in library.parent.iterdir()) == [
        "example.c", "if.cpp", "if.h", "if.sha256", "if.so", "if_step.h",
    ]  # fmt: skip
    for name in ("FileLock", "_compile"):  # the folder may be read-only then
        monkeypatch.setattr(load, name, None)
    assert load.build(MODEL) == library
    assert capsys.readouterr().err == ""
    assert loads(library)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda so: so.write_bytes(so.read_bytes()[:1000]),
    "empty": lambda so: so.write_bytes(b""),
    "corrupt": lambda so: so.write_bytes(so.read_bytes()[:5000] + b"x" + so.read_bytes()[5001:]),
    "removed": lambda so: so.unlink(),
    "no digest": lambda so: so.with_suffix(".sha256").unlink(),
    "wrong digest": lambda so: so.with_suffix(".sha256").write_text("0" * 64),
}


@needs_cc
def test_a_damaged_entry_is_built_again() -> None:
    library = load.build(MODEL)
    for what, damage in DAMAGE.items():
        damage(library)
        assert sound_bytes(library) is None, what
        assert load.build(MODEL) == library
        assert sound_bytes(library) is not None, what
    assert loads(library)


@needs_cc
def test_what_makes_another_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Type, name, compiler version and flags do; where a parameter starts does not."""
    built: list[str] = []
    monkeypatch.setattr(load, "_compile", lambda _, library, *rest: built.append(library.parent))
    plans = [MODEL, OTHER, plan_of(lnm.get("if"), name="other"), plan_of(lnm.get("lif"))]
    for plan in plans:
        load.build(plan)
    tool = compiler()
    newer = dataclasses.replace(tool, version=f"{tool.version} and a patch")
    monkeypatch.setattr(load, "compiler", lambda: newer)
    load.build(MODEL)
    monkeypatch.setattr(load, "flags", lambda: (*FLAGS, "-O2"))
    load.build(MODEL)
    assert len({*built}) == len(built) == 6
    for start in (0.5, 0.75):
        load.build(plan_of(lnm.get("lnm", theta=(0, start, 0, 0))))
    assert built[-1] == built[-2]


@needs_cc
def test_a_library_is_found_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source, flags and CPU are conditions; of several compilers' libraries, the newest counts."""
    libraries = []
    for k, version in enumerate(("1", "2", "0")):
        tool = Compiler(compiler().command, version)
        with monkeypatch.context() as changed:
            changed.setattr(load, "compiler", lambda tool=tool: tool)
            libraries.append(load.build(MODEL))
        os.utime(libraries[-1], (k + 1, k + 1))
    assert len(set(libraries)) == 3
    use(monkeypatch, tmp_path / "none")
    assert load.build(MODEL) == libraries[-1]
    assert load.is_built(MODEL)
    assert not load.is_built(OTHER)
    with refused(lnm.ToolError, "c", "no C++ compiler found"):
        load.build(OTHER)
    for name, value in (("flags", lambda: ("-O1",)), ("cpu", lambda: "another CPU")):
        with monkeypatch.context() as changed:
            changed.setattr(load, name, value)
            assert not load.is_built(MODEL), name
    for library in libraries:
        DAMAGE["truncated"](library)
    assert not load.is_built(MODEL)
    with refused(lnm.ToolError, "c", "no C++ compiler found"):
        load.build(MODEL)


@needs_cc
def test_a_cache_that_cannot_be_used(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file has the path of the folder, or filelock has no locks there: "torch" needs no file."""

    def lock(path: Path) -> None:
        raise NotImplementedError("no flock")

    for module in (load, cache_module):
        monkeypatch.setattr(module, "FileLock", lock)
    problem, remedy = f"cannot use the cache folder {cache}: no flock", "Set LNM_CACHE to a folder"
    with refused(lnm.ToolError, "c", problem, remedy=remedy):
        load.build(MODEL)
    cache_module.remember("a", 1)
    assert cache_module.recall("a") is None
    cache = tmp_path / "file" / "cache"
    cache.parent.write_text("")
    monkeypatch.setenv("LNM_CACHE", str(cache))
    problem = f"cannot use the cache folder {cache}: Not a directory"
    with refused(lnm.ToolError, "c", problem, remedy=remedy):
        load.build(MODEL)
    assert eager._loaded(lnm.get("if")).multi_step is not None


def test_the_eager_module_is_written_again_when_altered(cache: Path) -> None:
    """Its file in the cache is compared in whole before it is imported."""
    load_module = eager.eager_module.__wrapped__
    path = Path(load_module(lnm.get("if")).__file__)
    assert path.is_relative_to(cache)
    text = path.read_bytes()
    for altered in (b"raise SystemExit\n", b"\xff"):  # the second is not UTF-8
        path.write_bytes(altered)
        module = load_module(lnm.get("if"))
        assert path.read_bytes() == text
    out, v = module.multi_step(torch.full((2, 3), 0.75), torch.zeros(3), v_threshold=torch.ones(()))
    assert out.sum(1).tolist() == [0.0, 3.0]
    assert v.tolist() == [0.0, 0.0, 0.0]


# ---- the compiler ----


@needs_cc
def test_cxx_is_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With arguments, as in CXX="ccache g++"; a relative path is one of this folder."""
    monkeypatch.chdir(tmp_path)
    mine = str(script(tmp_path / "my-g++", 'exec "$@"'))
    libraries = []
    for cxx, command in {
        f"{mine} g++": (mine, "g++"),
        "./my-g++ g++ -O1": (mine, "g++", "-O1"),  # a build runs in another folder
    }.items():
        use(monkeypatch, cxx)
        assert compiler().command == command
        monkeypatch.setattr(load, "_compile", lambda _, library, *rest: libraries.append(library))
        load.build(MODEL)
    assert libraries[0] != libraries[1]  # arguments are part of the key
    monkeypatch.delenv("CXX")
    compiler.cache_clear()
    first = next(path for path in map(shutil.which, ("g++", "clang++", "c++")) if path)
    assert compiler().path == first


REMEDY = "Install g++, or use backend='torch'."
WRONG_CXX = [
    (None, "no C++ compiler found (g++, clang++ or c++)", REMEDY),
    ("g++-99", "no C++ compiler found (g++-99)", REMEDY),
    ('g++ "', "CXX is 'g++ \"': No closing quotation", "Give a command, such as g++."),
    ("{notes}", "{notes} cannot be run: Exec format error", "Set CXX to a C++ compiler."),
]


@pytest.mark.parametrize(("cxx", "problem", "remedy"), WRONG_CXX)
def test_cxx_that_is_no_command(
    cxx: str | None, problem: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    notes.write_bytes(b"\x00not a program")
    notes.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    if cxx is not None:
        use(monkeypatch, cxx.format(notes=notes))
    with refused(lnm.ToolError, "c", problem.format(notes=notes), remedy=remedy):
        load.build(MODEL)


def test_windows_has_the_backend_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` runs it, with one warning."""
    monkeypatch.setattr(sys, "platform", "win32")
    layer, x = lnm.nn.NeuronLayer(lnm.get("if")), torch.ones(2, 1, 2)
    with pytest.warns(RuntimeWarning, match="^c: Windows has no C kernels. Use backend='torch'"):
        out = layer(x)
    assert out.tolist() == [[[1.0, 1.0]]] * 2


NOTED = "if.cpp:7: note: hm\nif.cpp:8:1: error: no such thing\nmore"
FAILURES = [
    (f"echo '{NOTED}' >&2; exit 1", "{} failed: if.cpp:8:1: error: no such thing"),
    ("echo killed >&2; exit 1", "{} failed: no message"),
    ("exec sleep 60", "timed out after 0.2 seconds"),
]


@pytest.mark.parametrize(("text", "problem"), FAILURES)
def test_a_compiler_that_fails(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    """The first error and the command; nothing is in the cache, and a sound compiler builds."""
    version = '[ "$1" = --version ] && echo "fake 1.0" && exit 0'
    tool = script(tmp_path / "cxx", f"{version}\n{text}")
    use(monkeypatch, tool)
    monkeypatch.setattr(load, "flags", lambda: ("-O3",))
    monkeypatch.setattr(load, "_TIMEOUT", 0.2)
    is_late = "sleep" in text
    kind = lnm.ToolError if is_late else load.CompileError
    remedy = "" if is_late else f"The command was '{tool} -O3 -o if.so if.cpp'."
    with refused(kind, "c", problem.format(tool), remedy=remedy) as caught:
        load.build(MODEL)
    assert caught.value.problem.startswith(f"{tool} cannot run: " if is_late else str(tool))
    assert entries(cache) == []
    script(tool, 'echo a library > "$3"')
    assert load.build(MODEL).read_text() == "a library\n"


@needs_cc
def test_openmp_errors() -> None:
    """The compiler that the marker asks for has OpenMP; no compiler at all says why not."""
    assert OPENMP in FLAGS
    assert openmp_error(compiler()) is None
    assert openmp_error(Compiler(("/no/such/compiler",), "")) == "No such file or directory"
    assert openmp_error(Compiler(("/bin/false",), "")) == "no message"


def test_without_openmp_one_thread_and_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIMD stays; the library of another key is built again when OpenMP comes."""
    monkeypatch.setattr(load, "flags", lambda: ("-O3", OPENMP))
    log, work = tmp_path / "log", 'for out; do [ "$last" = -o ] && touch "$out"; last=$out; done'
    tool = script(tmp_path / "real", f'{work}\n[ "$1" = --version ] || echo "$*" >> {log}')
    use(monkeypatch, without_openmp(tmp_path / "cxx", str(tool)))
    with pytest.warns(RuntimeWarning) as caught:
        single, again, other = [load.build(model) for model in (MODEL, MODEL, OTHER)]
    assert single == again != other
    assert [str(w.message) for w in caught] == [
        f"c: {tmp_path}/cxx has no OpenMP ('omp.h' file not found), so kernels run on one thread."
        " Install libomp-dev or g++, or set CXX to a compiler with OpenMP."
    ]
    assert caught[0].filename == __file__
    assert log.read_text() == f"-O3 {SIMD} -o if.so if.cpp\n" * 2
    script(tmp_path / "cxx", f'exec {tool} "$@"')
    openmp_error.cache_clear()
    assert load.build(MODEL) != single
    assert log.read_text().endswith(f"/probe\n-O3 {OPENMP} -o if.so if.cpp\n")


CALLS: dict[str, Callable[[Any], Any]] = {
    "layer": lambda layer: layer,
    "container": torch.nn.Sequential,
    "compiled": lambda layer: torch.compile(layer, backend="eager"),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_warning_of_a_missing_compiler_shows_the_users_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "none")
    layer = lnm.nn.NeuronLayer(lnm.get("if").with_init(v=0.5))
    with pytest.warns(RuntimeWarning, match="^c: no C") as caught:
        CALLS[name](layer)(torch.ones(2, 1, 2))
    assert [w.filename for w in caught if "c: no C" in str(w.message)] == [__file__]


def test_a_warning_that_a_filter_raised_is_not_lost() -> None:
    """As an error it interrupts the call, so a later call gives it again, and then never."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(RuntimeWarning, match="no compiler"):
                warn_once("no compiler")
    with pytest.warns(RuntimeWarning, match="no compiler"):
        warn_once("no compiler")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_once("no compiler")


# ---- other processes ----


def start(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def output(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


LAYER = """
import torch, lnm_codegen as lnm
layer = lnm.nn.NeuronLayer(lnm.get("if"), arithmetic={arithmetic})
x = torch.full((3, 1, 2), 0.6)
print(layer(x).flatten().tolist(), layer._dispatch.backend_of(x))
"""
SPIKES = "[0.0, 0.0, 1.0, 1.0, 0.0, 0.0] c\n"


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ["None", "lnm.Fixed(16, 12)"])
def test_processes_share_a_library(tmp_path: Path, cache: Path, arithmetic: str) -> None:
    """Two build at once and leave one entry; another has no compiler and runs it."""
    code = LAYER.format(arithmetic=arithmetic)
    for one in [start(code) for _ in range(2)]:
        assert output(one) == (0, SPIKES, "")
    assert sum(p.is_dir() for p in cache.iterdir()) == 1
    assert output(start(code, CXX=str(tmp_path / "none"))) == (0, SPIKES, "")


TRAINED = """
import sys, torch, lnm_codegen as lnm
torch.manual_seed(0)
for name, arguments in [("lif", {}), ("lnm", {"degree": 3, "per": "channel"})]:
    layer = lnm.nn.NeuronLayer(lnm.get(name, **arguments), channels=3, backend="c")
    x = torch.randn(33, 5, 3, 7).requires_grad_()
    out = layer(x)
    out.backward(torch.randn(out.shape))
    for tensor in (out, x.grad, *(p.grad for p in layer.parameters())):
        print(tensor.detach().double().view(torch.int64).sum().item())
"""
CHECK = "import sys\nfrom lnm_codegen.cli import run\nsys.exit(run(['check', 'lnm']))\n"


@pytest.mark.skipif(CLANG is None, reason="clang++ is not installed")
@needs_cc
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("openmp", [True, False])
def test_clang_builds_what_gcc_builds(tmp_path: Path, openmp: bool) -> None:
    """Outputs and gradients are bit-exact, and `lnm check` passes; one warning without libomp."""
    tool = Compiler((str(CLANG),), "")
    if openmp and (problem := openmp_error(tool)) is not None:
        pytest.skip(f"clang++ has no OpenMP: {problem}")
    command = str(CLANG if openmp else without_openmp(tmp_path / "clang", str(CLANG)))
    status, expected, err = output(start(TRAINED))
    assert (status, err) == (0, "")
    assert len(expected.splitlines()) > 4
    status, found, err = output(start(TRAINED, CXX=command))
    assert (status, found) == (0, expected), err
    assert err.count("RuntimeWarning: c: ") == (not openmp)
    if not openmp:
        status, found, err = output(start(CHECK, CXX=command))
        assert status == 0, found + err
        assert "c float32  c float64" in found
