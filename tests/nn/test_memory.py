"""`keep_pages`: a process keeps the pages of freed tensors."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from lnm_codegen.nn import keep_pages, memory

REPEATED = """
import resource, sys, torch
from lnm_codegen.nn import keep_pages
kept = keep_pages() if sys.argv[1] == "kept" else False
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(1 << 24).add_(1.0)
before = faults()
for _ in range(10):
    torch.ones(1 << 24).add_(1.0)
print(kept, faults() - before)
"""


def faults(how: str) -> tuple[bool, int]:
    command = [sys.executable, "-c", REPEATED, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_pages_are_reused():
    """Ten tensors of 64 MiB: the default takes new pages for each, a keeping process none."""
    huge_pages = 10 * (1 << 26) // (1 << 21)  # the fewest that the system can hand out
    default, kept = faults("default"), faults("kept")
    assert (default[0], kept[0]) == (False, True)
    assert default[1] >= huge_pages > 2 * kept[1]


def test_another_c_library(monkeypatch):
    """Without `mallopt` nothing changes, and the result says so."""
    for library in (object(), None):
        monkeypatch.setattr(memory.ctypes, "CDLL", lambda name, found=library: found)
        assert keep_pages() is False
