"""The multiplier of Lattice ECP5: the leaf that instantiates it, and a model of it to simulate."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.core.terms import multiplied
from lnm_codegen.backends.verilog.parts import Design, separated
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx

WIDEST = 18
"""Bits of a factor."""

PRODUCT = 36
MODEL = "sim/MULT18X18D.v"
_CONTROLS = ("CLK", "CE", "RST")
_MODES = ("SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB")


@dataclass(frozen=True, slots=True)
class _LeafView:
    family: str
    name: str
    connections: tuple[str, ...]


def ecp5_leaf(design: Design) -> str:
    """Return `_mul` around a MULT18X18D with its output register."""
    pins = [f".A{k}(wide_a[{k}])" for k in range(WIDEST)]
    pins += [f".B{k}(wide_b[{k}])" for k in range(WIDEST)]
    pins += [f".P{k}(product[{k}])" for k in range(PRODUCT)]
    view = _LeafView(design.model.family, design.name, _wrapped(pins))
    return render("verilog/core/mul_ecp5.v.j2", view)


@dataclass(frozen=True, slots=True)
class _ModelView:
    name: str
    ports: tuple[str, ...]
    vectors: tuple[str, ...]


def ecp5_model(design: Design) -> str:
    """Return a module that behaves as a MULT18X18D does as `ecp5_leaf` uses it."""
    a, b = ([f"{word}{k}" for k in range(WIDEST)] for word in "AB")
    inputs = [*a, *b, *_MODES, *(f"{word}{k}" for word in _CONTROLS for k in range(4))]
    outputs = [f"P{k}" for k in range(PRODUCT)]
    vectors = [
        *_vector("wire signed [17:0] a = ", a),
        *_vector("wire signed [17:0] b = ", b),
        "reg signed [35:0] p;",
        *(f"assign P{k} = p[{k}];" for k in range(PRODUCT)),
    ]
    listed = separated(
        (*(f"input  wire {n}" for n in inputs), *(f"output wire {n}" for n in outputs))
    )
    return render("verilog/core/mult18x18d.v.j2", _ModelView(design.name, listed, tuple(vectors)))


def _vector(head: str, bits: list[str]) -> list[str]:
    return [f"{head}{{{', '.join(reversed(bits))}}};"]


def _wrapped(items: list[str]) -> tuple[str, ...]:
    return tuple(textwrap.wrap(", ".join(items), 92))


def simulation_files(design: Design) -> tuple[str, ...]:
    """Return the files that simulators and linters read beside rtl/."""
    return (MODEL,) if design.rtl.multiplier == "ecp5" else ()


def check_factors(design: Design) -> None:
    """Refuse factors that are too wide for the multiplier that is asked for.

    Raises:
        UnsupportedError: More than 18 bits for ECP5's.
    """
    if design.rtl.multiplier != "ecp5":
        return
    printer = design.printer({}, set())
    for let in design.kernel.body:
        for product in multiplied(let.value, printer):
            width = max(fx.bits_of(e).width for e in (product.lhs, product.rhs))
            if width > WIDEST:
                raise UnsupportedError(
                    f"verilog: {design.name}",
                    (
                        f"a factor in {let.target.name} has {width} bits; the multiplier of ECP5 takes "
                        f"{WIDEST}"
                    ),
                    remedy="Give narrower formats, or multiplier='generic'.",
                )
