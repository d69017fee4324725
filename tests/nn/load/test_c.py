"""Cache of compiled kernels: sound entries are used, others rebuilt, errors are one line."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
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
from lnm_codegen.nn.load.cache import sound_bytes
from tests.refusals import refused

ROOT = Path(__file__).parents[3]
MODEL = plan_of(lnm.get("if"))
needs_cc = pytest.mark.needs_cc


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the test's own, and nothing remembered of the compiler after it."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LNM_CACHE", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(load, "flags", lambda: ("-std=c++17", "-fPIC", "-shared"))  # quick
    forget = load.compiler.cache_clear
    forget()
    yield folder
    forget()


def script(path: Path, text: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def runs(library: Path) -> bool:
    """Report whether the library loads and has the three functions, in another process."""
    code = (
        f"import ctypes; x = ctypes.CDLL({str(library)!r});"
        " x.if_forward, x.if_backward, x.if_checkpoints"
    )
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_cc
def test_a_build_leaves_one_entry(cache: Path) -> None:
    """The library, its digest, the source, the lock; no temporary folder."""
    library = load.build(MODEL)
    assert sorted(p.name for p in library.parent.iterdir()) == [
        "example.c", "if.cpp", "if.h", "if.sha256", "if.so", "if_step.h",
    ]  # fmt: skip
    names = {library.parent.name}
    assert {p.name for p in cache.iterdir()} - {f"{n}.lock" for n in names} == names
    assert runs(library)


@needs_cc
def test_a_sound_entry_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second build calls no compiler."""
    first = load.build(MODEL)

    def never(*_: Any) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(load, "_compile", never)
    assert load.build(MODEL) == first


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda so: so.write_bytes(so.read_bytes()[:1000]),
    "empty": lambda so: so.write_bytes(b""),
    "corrupt": lambda so: so.write_bytes(so.read_bytes()[:5000] + b"x" + so.read_bytes()[5001:]),
    "removed": lambda so: so.unlink(),
    "no digest": lambda so: so.with_suffix(".sha256").unlink(),
    "wrong digest": lambda so: so.with_suffix(".sha256").write_text("0" * 64),
}


QUICK_DAMAGE = ("corrupt", "no digest")


@needs_cc
@pytest.mark.parametrize(
    "kinds", [QUICK_DAMAGE, pytest.param(tuple(DAMAGE), marks=pytest.mark.slow)]
)
def test_a_damaged_entry_is_built_again(kinds: tuple[str, ...]) -> None:
    """A cut or altered library is never loaded."""
    library = load.build(MODEL)
    for what in kinds:
        DAMAGE[what](library)
        assert sound_bytes(library) is None, what
        assert load.build(MODEL) == library
        assert sound_bytes(library) is not None, what
    assert runs(library)


@needs_cc
@pytest.mark.slow
def test_two_processes_build_at_once(cache: Path) -> None:
    """Both get the library, and one entry is left."""
    code = (
        "import torch, lnm_codegen as lnm\n"
        "x = torch.full((3, 1, 2), 0.6)\n"
        "print(lnm.nn.NeuronLayer(lnm.get('if'), backend='c')(x).flatten().tolist())\n"
    )
    command = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        assert out == "[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]\n"
    assert len([p for p in cache.iterdir() if p.is_dir()]) == 1


@needs_cc
def test_what_makes_another_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Type, name, compiler version and flags do; where a parameter starts does not."""
    built: list[Path] = []

    def compile_nothing(source: Any, library: Path, *_: Any) -> None:
        built.append(library.parent)

    monkeypatch.setattr(load, "_compile", compile_nothing)

    def key(model: Any) -> str:
        load.build(model)
        return built[-1].name

    plain = key(MODEL)
    assert key(MODEL) == plain
    others = {
        key(plan_of(lnm.get("if"), dtype="float64")),
        key(plan_of(lnm.get("if"), name="other")),
        key(plan_of(lnm.get("lif"))),
    }
    tool = load.compiler()
    newer = dataclasses.replace(tool, version=f"{tool.version} and a patch")
    monkeypatch.setattr(load, "compiler", lambda: newer)
    others.add(key(MODEL))
    monkeypatch.setattr(load, "flags", lambda: (*FLAGS, "-O2"))
    others.add(key(MODEL))
    assert len({plain, *others}) == 6
    thetas = [lnm.get("lnm", theta=(0, t, 0, 0)) for t in (0.5, 0.75)]
    assert len({key(plan_of(neuron)) for neuron in thetas}) == 1


@needs_cc
def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error for compiled kernels: a file has the path of the folder. "torch" needs no file."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "cache"
    monkeypatch.setenv("LNM_CACHE", str(folder))
    problem = f"cannot use the cache folder {folder}: Not a directory"
    with refused(lnm.ToolError, "c", problem, remedy="Set LNM_CACHE to a folder"):
        load.build(MODEL)
    assert eager._loaded(lnm.get("if")).multi_step is not None


@needs_cc
def test_a_cache_without_locks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """filelock raises NotImplementedError there; a measurement is then not kept."""

    def lock(path: Path) -> None:
        raise NotImplementedError("no flock")

    monkeypatch.setattr(load, "FileLock", lock)
    monkeypatch.setattr(cache_module, "FileLock", lock)
    problem = f"cannot use the cache folder {cache}: no flock"
    with refused(lnm.ToolError, "c", problem, remedy="Set LNM_CACHE to a folder"):
        load.build(MODEL)
    cache_module.remember("a", 1)
    assert cache_module.recall("a") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
@needs_cc
def test_a_read_only_cache(cache: Path) -> None:
    """A sound entry is used there; a new one is one line."""
    library = load.build(MODEL)
    cache.chmod(0o555)
    try:
        assert load.build(MODEL) == library
        with refused(lnm.ToolError, "c", "Permission denied"):
            load.build(plan_of(lnm.get("lif")))
    finally:
        cache.chmod(0o755)


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither g++ nor clang++ nor c++ on the path, or not the one that CXX names."""
    monkeypatch.setenv("PATH", str(tmp_path))
    remedy = "Install g++, or use backend='torch'."
    with refused(lnm.ToolError, "c", "(g++, clang++ or c++)", remedy=remedy):
        load.build(MODEL)
    monkeypatch.setenv("CXX", "g++-99")
    with refused(lnm.ToolError, "c", "no C++ compiler found (g++-99)", remedy=remedy):
        load.build(MODEL)


def failing(path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    monkeypatch.setattr(load, "flags", lambda: ("-O3",))
    tool = script(path, f'[ "$1" = --version ] && echo "fake 1.0" && exit 0\n{text}')
    monkeypatch.setenv("CXX", str(tool))
    return tool


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "if.cpp:7: note: hm\nif.cpp:8:1: error: no such thing\nmore",
            "if.cpp:8:1: error: no such thing",
        ),
        ("killed", "no message"),
    ],
)
def test_a_compiler_that_fails(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, shown: str
) -> None:
    """The first error and the command, and nothing in the cache."""
    tool = failing(tmp_path / "cxx", monkeypatch, f"cat >&2 <<'EOF'\n{said}\nEOF\nexit 1")
    remedy = f"The command was '{tool} -O3 -o if.so if.cpp'."
    with refused(load.CompileError, "c", f"{tool} failed: {shown}", remedy=remedy):
        load.build(MODEL)
    assert [p for p in cache.iterdir() if p.suffix != ".lock"] == []


def test_a_compiler_that_hangs(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended after the time limit."""
    tool = failing(tmp_path / "cxx", monkeypatch, "exec sleep 60")
    monkeypatch.setattr(load, "_TIMEOUT", 0.2)
    with refused(lnm.ToolError, "c", f"{tool} cannot run: ") as caught:
        load.build(MODEL)
    assert caught.value.problem.endswith("timed out after 0.2 seconds")
    assert [p for p in cache.iterdir() if p.suffix != ".lock"] == []


@needs_cc
def test_a_failure_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed build a sound compiler builds."""
    failing(tmp_path / "cxx", monkeypatch, "exit 1")
    with pytest.raises(lnm.ToolError):
        load.build(MODEL)
    monkeypatch.undo()
    monkeypatch.setenv("LNM_CACHE", str(tmp_path / "cache"))
    load.compiler.cache_clear()
    assert runs(load.build(MODEL))


@needs_cc
def test_cxx_chooses_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CXX goes before what is on the path."""
    real = load.compiler().path
    mine = script(tmp_path / "my-g++", f'exec {real} "$@"')
    monkeypatch.setenv("CXX", str(mine))
    load.compiler.cache_clear()
    assert load.compiler().path == str(mine)
    assert runs(load.build(MODEL))


def test_cxx_may_be_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one of this folder; a build runs in another."""
    mine = script(tmp_path / "my-g++", "echo mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", "./my-g++ -O1")
    load.compiler.cache_clear()
    assert load.compiler().command == (str(mine), "-O1")


@needs_cc
def test_cxx_may_have_arguments(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in CXX="ccache g++"."""
    real = load.compiler().path
    wrapper = script(tmp_path / "wrapper", 'exec "$@"')
    monkeypatch.setenv("CXX", f"{wrapper} {real}")
    load.compiler.cache_clear()
    assert load.compiler().command == (str(wrapper), real)
    library = load.build(MODEL)
    assert runs(library)
    monkeypatch.setenv("CXX", f"{wrapper} {real} -O1")
    load.compiler.cache_clear()
    assert load.build(MODEL) != library  # arguments are part of the key


@pytest.mark.parametrize(
    ("cxx", "problem", "remedy"),
    [
        ('g++ "', "CXX is 'g++ \"': No closing quotation", "Give a command, such as g++."),
        ("{0}", "{0} cannot be run: Exec format error", "Set CXX to a C++ compiler."),
    ],
)
def test_cxx_that_is_no_command(
    cxx: str, problem: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A string that is no shell command, and a file that is no program."""
    no_program = tmp_path / "notes"
    no_program.write_bytes(b"\x00not a program")
    no_program.chmod(0o755)
    monkeypatch.setenv("CXX", cxx.format(no_program))
    load.compiler.cache_clear()
    with refused(lnm.ToolError, "c", problem.format(no_program), remedy=remedy):
        load.compiler()


def test_the_eager_module_is_written_again_when_altered(cache: Path) -> None:
    """Its file in the cache is compared in whole before it is imported."""
    load_module = eager.eager_module.__wrapped__
    module = load_module(lnm.get("if"))
    path = Path(module.__file__)
    assert path.is_relative_to(cache)
    text = path.read_text(encoding="utf-8")
    path.write_text("raise SystemExit\n", encoding="utf-8")
    again = load_module(lnm.get("if"))
    assert path.read_text(encoding="utf-8") == text
    path.write_bytes(b"\xff")  # not UTF-8
    load_module(lnm.get("if"))
    assert path.read_text(encoding="utf-8") == text
    out, v = again.multi_step(torch.full((2, 3), 0.75), torch.zeros(3), v_threshold=torch.ones(()))
    assert out.sum(1).tolist() == [0.0, 3.0]
    assert v.tolist() == [0.0, 0.0, 0.0]
