"""Small runs: their configs, the text of a family in a file, and readers of a run folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lnm_codegen.errors import ModelError
from lnm_codegen.train import TrainConfig
from tests.refusals import refused

SMALL = TrainConfig(
    arguments={"degree": 2}, network_arguments={"channels": (3, 3)}, epochs=2, batch=16, limit=48,
    backend="torch", threads=1,
)  # fmt: skip
ROWS = TrainConfig(
    family="lif", network="feedforward", network_arguments={"hidden": (3,)}, data="digits-rows",
    epochs=1, batch=16, limit=32, backend="torch", threads=1,
)  # fmt: skip
FAMILY = """
import lnm_codegen as lnm

@lnm.family
def mine(leak=0.5, surrogate=None):
    v, x = lnm.state("v"), lnm.input("x")
    return lnm.Neuron({v: leak * v + x}, v - 1, surrogate=surrogate)
"""


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@contextmanager
def stopped(place: Any, name: str, after: int) -> Iterator[None]:
    """Interrupt the call number `after` + 1 of a function."""
    function, calls = getattr(place, name), iter(range(after))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, call)
        with pytest.raises(KeyboardInterrupt):
            yield


@contextmanager
def kept(folder: Path, *parts: object, kind: type[ModelError] = ModelError) -> Iterator[None]:
    """Expect an error that leaves the files of a folder as they are."""
    before = contents(folder)
    with refused(kind, *parts):
        yield
    assert contents(folder) == before
