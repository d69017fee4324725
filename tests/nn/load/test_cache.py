"""Machines where kernels cannot be compiled, written or loaded: what "auto" runs there."""

from __future__ import annotations

import ctypes
import os
import stat
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.nn.bits import compiling_folder, load_bits, settle_cache
from lnm_codegen.nn.load import c as fixed
from lnm_codegen.nn.load import c as load
from lnm_codegen.nn.load import cache as module
from lnm_codegen.nn.load import warn
from lnm_codegen.nn.load.c import CompileError
from tests.refusals import refused

needs_cc = pytest.mark.needs_cc
X = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0)) * 2


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, a cache beside it, and nothing loaded or warned of."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("LNM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(load, "flags", lambda: ("-std=c++17", "-fPIC", "-shared"))  # quick
    monkeypatch.setattr(module, "_ELSEWHERE", {})
    monkeypatch.setattr(warn, "_WARNED", set())
    caches = (load.load_c, fixed.load_fixed, load_bits, load.compiler)
    forgets = [one.cache_clear for one in caches]
    for forget in forgets:
        forget()
    torch._dynamo.reset()  # which keeps the graphs of equal layers
    yield folder
    for forget in forgets:
        forget()


def unwritable(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the cache folder one that cannot be written, also by root; return the problem."""
    (path / "file").write_text("")
    folder = path / "file" / "cache"
    monkeypatch.setenv("LNM_CACHE", str(folder))
    return f"cannot use the cache folder {folder}: Not a directory"


def _layer(backend: Any) -> list[torch.Tensor]:
    return _results(lnm.nn.NeuronLayer(lnm.get("lif", learn_tau=True), backend=backend))


def _norm(backend: Any) -> list[torch.Tensor]:
    return _results(lnm.nn.NormNeuron(lnm.get("if"), 3, backend=backend))


def _integer(backend: Any) -> list[torch.Tensor]:
    neuron = lnm.get("lif", learn_tau=True)
    return _results(lnm.nn.NeuronLayer(neuron, backend=backend, arithmetic=lnm.Fixed(16, 12)))


def _compiled(backend: Any) -> list[torch.Tensor]:
    layer = lnm.nn.NeuronLayer(lnm.get("lif", tau=3.0), backend=backend)
    return _results(torch.compile(layer, backend="aot_eager", fullgraph=True))


def _compiled_norm(backend: Any) -> list[torch.Tensor]:
    layer = lnm.nn.NormNeuron(lnm.get("lif", tau=3.0), 3, backend=backend)
    return _results(torch.compile(layer, backend="aot_eager", fullgraph=True))


def _exported(backend: Any) -> list[torch.Tensor]:
    layer = lnm.nn.NeuronLayer(lnm.get("lif", tau=3.5), backend=backend)
    return [torch.export.export(layer, (X,)).module()(X)]


def _packed(backend: Any) -> list[torch.Tensor]:
    layer = lnm.nn.NeuronLayer(lnm.get("lif"), backend=backend)
    with lnm.nn.pack_spikes():
        return _results(lambda x: layer(x) @ torch.ones(3, 2, requires_grad=True))


def _results(run: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    x = X.clone().requires_grad_()
    out = run(x)
    out.sum().backward()
    assert x.grad is not None
    return [out.detach(), x.grad]


PATHS = (_layer, _norm, _integer, _compiled, _compiled_norm, _exported, _packed)


def warned(run: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Return a result, and the warnings of this package."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run()
    texts = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
    return found, [t for t in texts if "Kernels" in t or "Eager PyTorch" in t]


def agrees_with_torch(run: Callable[[Any], list[torch.Tensor]]) -> None:
    for found, expected in zip(run("auto"), run("torch"), strict=True):
        torch.testing.assert_close(found, expected)


@needs_cc
def test_auto_compiles_in_a_private_folder(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning for all paths; a backend that the user named stays an error."""
    problem = unwritable(tmp_path, monkeypatch)
    _, texts = warned(lambda: [agrees_with_torch(run) for run in PATHS])
    folder = temporary / f"lnm_codegen-{os.geteuid()}"
    assert texts == [
        f"c: {problem}. Kernels are compiled into {folder} instead, which may not last."
        " Set LNM_CACHE to a folder that can be written."
    ]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = {p.name.partition("-")[0] for p in folder.iterdir() if p.is_dir()}
    assert names >= {"lif", "if_norm", "lif_model", "channel_sums", "lnm_bits"}
    for run in (_layer, _norm, _integer):
        with refused(lnm.ToolError, "c", problem, remedy="Set LNM_CACHE to a folder"):
            run("c")


@pytest.mark.parametrize("run", PATHS)
def test_auto_runs_eager_pytorch_where_nothing_can_be_written(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No compiled kernel and no file: the same numbers, and one warning with both reasons."""
    problem = unwritable(tmp_path, monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    _, texts = warned(lambda: agrees_with_torch(run))
    (text,) = texts
    assert text.startswith(f"c: {problem}; and cannot use a private folder ")
    assert text.endswith("Eager PyTorch runs instead.")


def test_auto_after_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It exists, so that only a build shows it; several neurons have one reason."""
    monkeypatch.setenv("CXX", "/bin/false")
    _, texts = warned(lambda: [agrees_with_torch(run) for run in PATHS])
    (text,) = texts
    assert text.startswith("c: /bin/false failed: no message. Set CXX to another compiler.")
    for run in (_layer, _norm, _integer):
        with refused(CompileError, "c", "/bin/false failed", remedy="-o "):
            run("c")
    layer = lnm.nn.NeuronLayer(lnm.get("lif"))
    layer(X)
    found = layer.explain(X)
    assert found.backend == "torch"
    assert found.others["c"] == "/bin/false failed: no message"


@needs_cc
def test_auto_where_the_cache_executes_nothing(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder can be written, but no library of it can be loaded (noexec)."""
    forbidden, whole = [str(tmp_path / "cache")], ctypes.CDLL

    def refusing(path: str) -> ctypes.CDLL:
        if path.startswith(tuple(forbidden)):
            raise OSError(f"{path}: failed to map segment from shared object")
        return whole(path)

    monkeypatch.setattr(load.ctypes, "CDLL", refusing)
    problem = f"cannot load a library from {tmp_path}/cache: failed to map segment"
    _, texts = warned(lambda: [agrees_with_torch(run) for run in PATHS])
    (text,) = texts
    assert text.startswith(f"c: {problem}")
    assert "Set LNM_CACHE to a folder whose files may be executed." in text
    with refused(lnm.ToolError, "c", problem):
        _layer("c")
    forbidden.append(str(temporary))
    monkeypatch.setattr(module, "_ELSEWHERE", {})
    load.load_c.cache_clear()
    _, (text,) = warned(lambda: agrees_with_torch(_layer))
    assert f"; and cannot load a library from {temporary}/lnm_codegen-" in text


def test_a_full_disk_is_not_the_compiler(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that could write nothing is tried again in the private folder."""
    tool = tmp_path / "cxx"
    said = "cxx: error: /tmp/x.s: No space left on device"
    tool.write_text(f'#!/bin/sh\npwd >> {tmp_path}/log; echo "{said}" >&2; exit 1\n')
    tool.chmod(0o755)
    monkeypatch.setenv("CXX", str(tool))
    with refused(lnm.ToolError, "c", f"{tool} cannot write: No space left", remedy="LNM_CACHE"):
        _layer("c")
    warned(lambda: agrees_with_torch(_layer))
    places = (tmp_path / "log").read_text()
    assert f"{tmp_path}/cache/" in places
    assert f"{temporary}/lnm_codegen-" in places


@needs_cc
def test_training_in_integers_after_a_machine_with_a_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cache has the integer model, and not the kernel of its gradient."""
    neuron = lnm.get("lif", learn_tau=True)
    with torch.no_grad():
        lnm.nn.NeuronLayer(neuron, arithmetic=lnm.Fixed(16, 12))(X)
    monkeypatch.setenv("CXX", "no-such-compiler")
    for one in (load.compiler, load.load_c, fixed.load_fixed):
        one.cache_clear()
    _, (text,) = warned(lambda: agrees_with_torch(_integer))
    assert "no C++ compiler found (no-such-compiler)" in text


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No folder of the name "~" is made in the working folder."""
    monkeypatch.delenv("LNM_CACHE")
    monkeypatch.setattr(module.platformdirs, "user_cache_dir", lambda name: f"~/.cache/{name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", "/bin/false")
    with refused(lnm.ToolError, "cache", "no home folder", remedy="Set LNM_CACHE"):
        module.cache_folder()
    warned(lambda: agrees_with_torch(_layer))
    module.remember("a", 1)
    assert module.recall("a") is None
    assert not (tmp_path / "~").exists()


SQUATS: dict[str, Callable[[Path], object]] = {
    "group": lambda folder: (folder.mkdir(), folder.chmod(0o770)),
    "others": lambda folder: (folder.mkdir(), folder.chmod(0o701)),
    "link": lambda folder: folder.symlink_to(folder.parent),
    "file": lambda folder: folder.write_text(""),
    "parent": lambda folder: folder.parent.chmod(0o777),
}


@pytest.mark.parametrize("what", SQUATS)
def test_a_private_folder_is_private(what: str, temporary: Path) -> None:
    """A folder that other users could have prepared, or could replace, is not used."""
    assert module.private_folder() == module.private_folder()
    module.private_folder().rmdir()
    SQUATS[what](temporary / f"lnm_codegen-{os.geteuid()}")
    with refused(lnm.ToolError, "cache", "other users can write in", remedy="Set TMPDIR"):
        module.private_folder()
    if what == "parent":
        temporary.chmod(0o1777)
        assert module.private_folder().is_dir()


def test_a_module_without_a_file_shows_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback through it has the text of the generated line."""
    unwritable(tmp_path, monkeypatch)
    source = lnm.emit(lnm.get("if"), "torch")
    loaded = module.import_text(source, "if")
    try:
        loaded.step("v")
    except TypeError:
        pass
    with pytest.raises(Exception) as caught:  # noqa: PT011
        loaded.multi_step(None, None, v_threshold=None)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].line in {line.strip() for line in source.files[source.entry].splitlines()}


@needs_cc
def test_the_folder_of_compiled_kernels(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lnm doctor` reports it, and `lnm check` and `lnm bench` run every backend in it."""
    assert compiling_folder() == (tmp_path / "cache", None)
    problem = unwritable(tmp_path, monkeypatch)
    folder, error = compiling_folder()
    assert folder == temporary / f"lnm_codegen-{os.geteuid()}"
    assert error is not None
    assert error.problem == problem
    _, texts = warned(settle_cache)
    assert len(texts) == 1
    assert os.environ["LNM_CACHE"] == str(folder)
    _layer("c")
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv("LNM_CACHE", str(tmp_path / "other"))
    load.compiler.cache_clear()
    settle_cache()
    assert os.environ["LNM_CACHE"] == str(tmp_path / "other")
