"""Passes of `lower`: those that `on_pass` reports are those that the head of the module lists."""

from __future__ import annotations

import re
from typing import Any

import pytest

import lnm_codegen as lnm
from lnm_codegen.compiler import pipeline
from lnm_codegen.ir.nodes import Kernel, Program

KERNELS = ("forward", "backward", "prepare", "prepare_backward")


def reported(scheme: Any) -> tuple[list[tuple[str, Kernel]], Program]:
    """Return (pass, kernel) in order, and the program, of a neuron whose sums are nested."""
    found: list[tuple[str, Kernel]] = []
    neuron = lnm.get("lnm", states=2, degree=2)
    program = lnm.lower(neuron, scheme, on_pass=lambda *pair: found.append(pair))
    return found, program


def test_the_table_of_passes_is_that_of_the_hook() -> None:
    """Which pass runs on which kernel; it once listed `fold` for `forward` alone."""
    head = pipeline.__doc__ or ""
    table = re.findall(r"^    (\w+)  +\S.*?  +(all four|\w+(?:, \w+)*)$", head, re.MULTILINE)
    assert len(table) == 12
    listed = {
        (name, kernel)
        for name, kernels in table
        for kernel in (KERNELS if kernels == "all four" else kernels.split(", "))
    }
    seen = {
        (name, kernel.name.removeprefix("lnm_states2").removeprefix("_") or "forward")
        for scheme in ("horner", "estrin")
        for name, kernel in reported(scheme)[0]
    }
    assert listed == seen


@pytest.mark.parametrize("scheme", ["horner", "estrin"])
def test_the_last_report_of_each_kernel_is_that_of_the_program(scheme: str) -> None:
    """The first report is the one of `build`."""
    found, program = reported(scheme)
    assert found[0][0] == "build"
    last = {kernel.name: kernel for _, kernel in found}
    assert len(last) == 4
    for kernel in (program.forward, program.backward, program.prepare, program.prepare_backward):
        assert last[kernel.name] is kernel
