"""Bytes of code for a Cortex-M4."""

from __future__ import annotations

import pytest

from lnm_codegen.errors import ToolError
from lnm_codegen.hardware import microcontroller
from lnm_codegen.hardware.microcontroller import program_size
from lnm_codegen.hardware.tools import missing
from tests.refusals import refused

FILES = {
    "a.h": "extern const int table[5];\n",
    "a.c": '#include "a.h"\nconst int table[5] = {1};\nstatic int held[3];\n'
    "int f(int x) { return held[x] += table[x]; }\n",
}


def test_sections() -> None:
    if problem := missing("arm-none-eabi-gcc"):
        pytest.skip(problem)
    size = program_size(FILES, "a.c")
    assert size is not None
    assert (size.constants, size.memory) == (20, 12)
    assert 8 <= size.code <= 64
    with refused(ToolError, "arm-none-eabi-gcc"):
        program_size({"a.c": "int f(void) { return y; }"}, "a.c")


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microcontroller, "find", lambda word: None)
    assert program_size(FILES, "a.c") is None
