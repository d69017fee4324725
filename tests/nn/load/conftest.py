"""A cache folder and a folder for temporary files of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lnm_codegen.nn.bits import load_bits
from lnm_codegen.nn.load import c
from lnm_codegen.nn.load import cache as module


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache beside `temporary`; no compiler and no kernel is remembered."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("LNM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(module, "_ELSEWHERE", {})
    forgets = [one.cache_clear for one in (c.load_c, c.load_fixed, load_bits, c.compiler)]
    for forget in forgets:
        forget()
    yield tmp_path / "cache"
    for forget in forgets:
        forget()
