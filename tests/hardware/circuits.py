"""Circuits on disk for tests of verification."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import lnm_codegen as lnm
from lnm_codegen.hardware.folder import Circuit, read_circuit

Q4_12 = lnm.Fixed(16, 12)
FEW, MANY = 100, 2000
"""Golden vectors of a circuit: of quick tests, and the default."""
THETA = {1: (0.0, 0.9), 2: (0.02, 0.85, 0.11), 3: (0.02, 0.85, 0.11, -0.06)}


@cache
def _source(neuron: lnm.Neuron, spec: Any, forms: tuple[str, ...], name: str, vectors: int) -> Any:
    rtl = lnm.Rtl(forms=forms, neurons=16, vectors=vectors)
    return lnm.emit(neuron, "verilog", spec=spec, name=name, rtl=rtl)


@cache
def _cubic(degree: int, options: tuple[tuple[str, Any], ...]) -> lnm.Neuron:
    return lnm.get("lnm", degree=degree, theta=THETA[degree], **dict(options))


def write(
    folder: Path,
    degree: int = 1,
    forms: tuple[str, ...] = ("comb", "core"),
    name: str = "unit",
    vectors: int = FEW,
    **options: Any,
) -> Circuit:
    """Write a circuit of lnm and read it back."""
    neuron = _cubic(degree, tuple(options.items()))
    return write_neuron(folder, neuron, forms=forms, name=name, vectors=vectors)


def write_neuron(
    folder: Path,
    neuron: lnm.Neuron,
    spec: lnm.Fixed | lnm.FixedSpec = Q4_12,
    forms: tuple[str, ...] = ("comb", "core", "seq", "array"),
    name: str = "unit",
    vectors: int = FEW,
) -> Circuit:
    """Write a circuit of a neuron, emitted once, and read it back."""
    _source(neuron, spec, forms, name, vectors).write(folder)
    return read_circuit(folder, "verify")


def replace(path: Path, old: str, new: str) -> None:
    """Replace one occurrence of a text in a file, which must contain it."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
