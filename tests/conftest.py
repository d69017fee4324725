"""Options, markers and the shared cache of compiled kernels."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# No test asserts a time: on a busy machine an example may take longer than hypothesis allows.
settings.register_profile("lnm", deadline=None)
settings.load_profile("lnm")

# Workers share the cores with the threads of the kernels: idle OpenMP threads must sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_OWN_CACHE = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite generated/ with the compiler's current output, then compare",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set one cache for the session; xdist workers inherit it, so a kernel is built once.

    LNM_TEST_CACHE names a cache that outlives the session, for quick reruns.
    """
    if hasattr(config, "workerinput"):
        return
    kept = os.environ.get("LNM_TEST_CACHE")
    folder = Path(kept) if kept else Path(tempfile.mkdtemp(prefix="lnm-test-cache-"))
    if not kept:
        config.stash[_OWN_CACHE] = folder
    os.environ["LNM_CACHE"] = str(folder)
    if config.option.markexpr == "not slow" and shutil.which("g++"):
        os.environ.setdefault("CXX", str(Path(__file__).with_name("quick_cxx")))
        os.environ["LNM_TEST_LIBRARIES"] = str(folder / "libraries")
    if config.getoption("--update-golden"):
        from tests.update_generated import update

        update()


def pytest_unconfigure(config: pytest.Config) -> None:
    folder = config.stash.get(_OWN_CACHE, None)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _warned_of_nothing() -> None:
    """What a test hears does not depend on the tests before it: each warns once anew."""
    if module := sys.modules.get("lnm_codegen.nn.load.warn"):
        module._WARNED.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, obstacle in (("needs_cc", _no_compiler), ("needs_cuda", _no_gpu)):
        needing = [item for item in items if item.get_closest_marker(marker)]
        reason = obstacle() if needing else None
        if reason:
            for item in needing:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """End a process whose GPU is lost, in which every later test would fail at once.

    xdist reports the test as crashed and starts another worker. Without xdist the session ends.
    """
    if not item.get_closest_marker("needs_cuda"):
        return
    import torch

    if not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        problem = f"{item.nodeid}: {error}"
        if not hasattr(item.config, "workerinput"):
            pytest.exit(problem, returncode=1)
        capture = item.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(problem, file=sys.stderr, flush=True)
        os._exit(1)


def _no_gpu() -> str | None:
    """Return why no GPU can be used, or None."""
    import torch

    return None if torch.cuda.is_available() else "PyTorch finds no GPU"


def _no_compiler() -> str | None:
    """Return why no C++ compiler can be used, or None."""
    from lnm_codegen.errors import ToolError
    from lnm_codegen.nn.load.c import compiler

    try:
        compiler()
    except ToolError as error:
        return str(error)
    return None
