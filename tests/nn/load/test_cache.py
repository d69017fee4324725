"""Machines where kernels cannot be compiled, written or loaded: what "auto" runs there."""

from __future__ import annotations

import ctypes
import os
import stat
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, NormNeuron
from lnm_codegen.nn.bits import compiling_folder, settle_cache
from lnm_codegen.nn.load import c as load
from lnm_codegen.nn.load import cache as module
from tests.refusals import refused

needs_cc = pytest.mark.needs_cc
X = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0)) * 2


def unwritable(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the cache folder one that cannot be written, also by root; return the problem."""
    (path / "file").write_text("")
    folder = path / "file" / "cache"
    monkeypatch.setenv("LNM_CACHE", str(folder))
    return f"cannot use the cache folder {folder}: Not a directory"


def private(path: Path) -> Path:
    return path / "temporary" / f"lnm_codegen-{os.geteuid()}"


def plain(run: Any, x: Tensor) -> Any:
    return run(x)


def compiled(layer: Any, x: Tensor) -> Any:
    torch._dynamo.reset()  # which keeps the graphs of equal layers
    return torch.compile(layer, backend="aot_eager", fullgraph=True)(x)


def exported(layer: Any, x: Tensor) -> Any:
    """Return the output of a program, which has no gradient."""
    return x * 0 + torch.export.export(layer, (X,)).module()(x)


def packed(layer: Any, x: Tensor) -> Any:
    with lnm.nn.pack_spikes():
        return layer(x) @ torch.eye(3, requires_grad=True)


LIF = lnm.get("lif")  # many tests share its kernels
layer, norm = partial(NeuronLayer, LIF), partial(NormNeuron, LIF, 3)
integers = partial(NeuronLayer, LIF, arithmetic=lnm.Fixed(16, 12))
PATHS: dict[str, tuple[Callable[[Any, Tensor], Any], Callable[..., Any]]] = {
    "layer": (plain, layer), "norm": (plain, norm), "integers": (plain, integers),
    "packed": (packed, layer), "compiled": (compiled, layer), "compiled norm": (compiled, norm),
    "exported": (exported, layer),
}  # fmt: skip
"""Path -> how a layer runs, and the layer."""
FIRST = ("layer", "norm", "integers")
QUICK = (*FIRST, "packed", "exported")


def results(path: str, backend: Any) -> list[Tensor]:
    """Return output and gradient of a path, or of a plain layer on "torch"."""
    x, (run, make) = X.clone().requires_grad_(), PATHS[path]
    out = (plain if backend == "torch" else run)(make(backend=backend), x)
    return [out, *torch.autograd.grad(out.sum(), x)]


def warned(run: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Return a result, and the warnings of this package."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run()
    texts = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
    return found, [t for t in texts if "Kernels" in t or "Eager PyTorch" in t]


def agree_with_torch(*paths: str) -> list[str]:
    """Compare "auto" with "torch" on some paths; return the warnings."""
    texts = []
    for path in paths:
        load.load_c.cache_clear()
        module._ELSEWHERE.clear()
        found, more = warned(lambda path=path: results(path, "auto"))
        many = 1 if path == "exported" else 2
        torch.testing.assert_close(found[:many], results(path, "torch")[:many])
        texts += more
    return texts


@needs_cc
@pytest.mark.parametrize(
    "paths", [(*QUICK, "compiled norm"), pytest.param(tuple(PATHS), marks=pytest.mark.slow)]
)
def test_auto_compiles_in_a_private_folder(
    paths: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning for all paths; a backend that the user named stays an error."""
    problem, folder = unwritable(tmp_path, monkeypatch), private(tmp_path)
    assert agree_with_torch(*paths) == [
        f"c: {problem}. Kernels are compiled into {folder} instead, which may not last."
        " Set LNM_CACHE to a folder that can be written."
    ]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    names = {p.name.partition("-")[0] for p in folder.iterdir() if p.is_dir()}
    assert names >= {"lif", "lif_norm", "lif_model", "channel_sums", "lnm_bits"}
    for path in FIRST:
        with refused(lnm.ToolError, "c", problem, remedy="Set LNM_CACHE to a folder"):
            results(path, "c")


@pytest.mark.parametrize(
    "path", [*QUICK, "compiled", pytest.param("compiled norm", marks=pytest.mark.slow)]
)
def test_auto_runs_eager_pytorch_where_nothing_can_be_written(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No compiled kernel and no file: the same numbers, and one warning with both reasons."""
    problem = unwritable(tmp_path, monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    (text,) = agree_with_torch(path)
    assert text.startswith(f"c: {problem}; and cannot use a private folder ")
    assert text.endswith("Eager PyTorch runs instead.")


def test_auto_after_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It exists, so that only a build shows it; several neurons have one reason."""
    monkeypatch.setenv("CXX", "/bin/false")
    (text,) = agree_with_torch(*FIRST, "packed")
    assert text.startswith("c: /bin/false failed: no message. Set CXX to another compiler.")
    for path in FIRST:
        with refused(load.CompileError, "c", "/bin/false failed", remedy="-o "):
            results(path, "c")
    run = layer()
    run(X)
    found = run.explain(X)
    assert (found.backend, found.others["c"]) == ("torch", "/bin/false failed: no message")


@needs_cc
def test_auto_where_the_cache_executes_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder can be written, but no library of it can be loaded (noexec)."""
    forbidden, whole = [str(cache)], ctypes.CDLL

    def refusing(path: str) -> ctypes.CDLL:
        if path.startswith(tuple(forbidden)):
            raise OSError(f"{path}: failed to map segment from shared object")
        return whole(path)

    monkeypatch.setattr(load.ctypes, "CDLL", refusing)
    problem = f"cannot load a library from {cache}: failed to map segment"
    (text,) = agree_with_torch(*FIRST, "packed")
    assert text.startswith(f"c: {problem}")
    assert "Set LNM_CACHE to a folder whose files may be executed." in text
    with refused(lnm.ToolError, "c", problem):
        results("layer", "c")
    forbidden.append(str(private(tmp_path)))
    monkeypatch.setattr(module, "_ELSEWHERE", {})
    load.load_c.cache_clear()
    (text,) = agree_with_torch("layer")
    assert f"; and cannot load a library from {private(tmp_path)}" in text


def test_a_full_disk_is_not_the_compiler(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that could write nothing is tried again in the private folder."""
    tool, log = tmp_path / "cxx", tmp_path / "log"
    said = "cxx: error: /tmp/x.s: No space left on device"
    tool.write_text(f'#!/bin/sh\npwd >> {log}; echo "{said}" >&2; exit 1\n')
    tool.chmod(0o755)
    monkeypatch.setenv("CXX", str(tool))
    with refused(lnm.ToolError, "c", f"{tool} cannot write: No space left", remedy="LNM_CACHE"):
        results("layer", "c")
    agree_with_torch("layer")
    assert f"{cache}/" in log.read_text()
    assert f"{private(tmp_path)}" in log.read_text()


@needs_cc
def test_training_in_integers_after_a_machine_with_a_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cache has the integer model, and not the kernel of its gradient."""
    with torch.no_grad():
        integers()(X)
    monkeypatch.setenv("CXX", "no-such-compiler")
    for one in (load.compiler, load.load_c, load.load_fixed):
        one.cache_clear()
    (text,) = agree_with_torch("integers")
    assert "no C++ compiler found (no-such-compiler)" in text


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No folder of the name "~" is made in the working folder."""
    monkeypatch.delenv("LNM_CACHE")
    monkeypatch.setattr(module.platformdirs, "user_cache_dir", lambda name: f"~/.cache/{name}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", "/bin/false")
    with refused(lnm.ToolError, "cache", "no home folder", remedy="Set LNM_CACHE"):
        module.cache_folder()
    agree_with_torch("layer")
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
def test_a_private_folder_is_private(what: str, tmp_path: Path) -> None:
    """A folder that other users could have prepared, or could replace, is not used."""
    assert module.private_folder() == module.private_folder() == private(tmp_path)
    module.private_folder().rmdir()
    SQUATS[what](private(tmp_path))
    with refused(lnm.ToolError, "cache", "other users can write in", remedy="Set TMPDIR"):
        module.private_folder()
    if what == "parent":
        private(tmp_path).parent.chmod(0o1777)
        assert module.private_folder().is_dir()


def test_a_module_without_a_file_shows_its_lines() -> None:
    """A traceback through it has the text of the generated line."""
    source = lnm.emit(lnm.get("if"), "torch")
    loaded = module.import_text(source, "if")
    with pytest.raises(Exception) as caught:  # noqa: PT011
        loaded.multi_step(None, None, v_threshold=None)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].line in {line.strip() for line in source.files[source.entry].splitlines()}


@needs_cc
def test_the_folder_of_compiled_kernels(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lnm doctor` reports it, and `lnm check` and `lnm bench` run every backend in it."""
    assert compiling_folder() == (cache, None)
    problem = unwritable(tmp_path, monkeypatch)
    folder, error = compiling_folder()
    assert folder == private(tmp_path)
    assert error is not None
    assert error.problem == problem
    _, texts = warned(settle_cache)
    assert len(texts) == 1
    assert os.environ["LNM_CACHE"] == str(folder)
    results("layer", "c")
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv("LNM_CACHE", str(tmp_path / "other"))
    load.compiler.cache_clear()
    settle_cache()
    assert os.environ["LNM_CACHE"] == str(tmp_path / "other")
