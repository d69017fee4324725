"""Fixtures of training: a few digits, and runs that neither draw nor lower a neuron twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import lnm_codegen as lnm
from lnm_codegen.language.family import Family
from lnm_codegen.train import Dataset, load
from lnm_codegen.train.runs import runner
from lnm_codegen.train.runs.folder import RunFolder

SAVE, DRAW, BUILD = RunFolder.save_figure, runner.run_figure, Family.__call__


@pytest.fixture(scope="module", autouse=True)
def _quick_runs() -> Iterator[None]:
    """Most of the time of a small training is that of its figure and of lowering.

    A family returns the same neuron for the same arguments, and a copy of a neuron is itself.
    `drawn` restores the figure.
    """
    built: dict[tuple[Any, str], lnm.Neuron] = {}

    def build(self: Any, /, *args: Any, **kwargs: Any) -> lnm.Neuron:
        key = self, repr((args, kwargs))
        if key not in built or " at 0x" in key[1]:
            built[key] = BUILD(self, *args, **kwargs)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "run_figure", lambda *_: None)
        patch.setattr(RunFolder, "save_figure", lambda self, _: self._write("figure.png", b"blank"))
        patch.setattr(Family, "__call__", build)
        patch.setattr(lnm.Neuron, "__deepcopy__", lambda self, memo: self, raising=False)
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "run_figure", DRAW)
    monkeypatch.setattr(RunFolder, "save_figure", SAVE)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", limit=48)


@pytest.fixture(scope="session")
def rows() -> Dataset:
    return load("digits-rows", limit=32)
