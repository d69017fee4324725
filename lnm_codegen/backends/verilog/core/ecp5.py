"""Multiplier of Lattice ECP5: a leaf that instantiates it, and a model of it for simulators."""

from __future__ import annotations

import textwrap

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.core.terms import multiplied
from lnm_codegen.backends.verilog.parts import CircuitDesign, separated
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx

FACTOR_BITS, PRODUCT_BITS = 18, 36
MODEL = "sim/MULT18X18D.v"


def ecp5_leaf(design: CircuitDesign) -> str:
    """Return `_mul` around a MULT18X18D with its output register."""
    pins = [f".A{k}(wide_a[{k}])" for k in range(FACTOR_BITS)]
    pins += [f".B{k}(wide_b[{k}])" for k in range(FACTOR_BITS)]
    pins += [f".P{k}(product[{k}])" for k in range(PRODUCT_BITS)]
    connections = textwrap.wrap(", ".join(pins), 92)
    return render("verilog/core/mul_ecp5.v.j2", {**design.heading, "connections": connections})


def ecp5_model(design: CircuitDesign) -> str:
    """Return a module that behaves as a MULT18X18D within `ecp5_leaf`."""
    a, b = ([f"{word}{k}" for k in range(FACTOR_BITS)] for word in "AB")
    inputs = [*a, *b, "SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB"]
    inputs += [f"{word}{k}" for word in ("CLK", "CE", "RST") for k in range(4)]
    outputs = [f"P{k}" for k in range(PRODUCT_BITS)]
    vectors = [
        f"wire signed [17:0] a = {{{', '.join(reversed(a))}}};",
        f"wire signed [17:0] b = {{{', '.join(reversed(b))}}};",
        "reg signed [35:0] p;",
        *(f"assign P{k} = p[{k}];" for k in range(PRODUCT_BITS)),
    ]
    pins = [*(f"input  wire {n}" for n in inputs), *(f"output wire {n}" for n in outputs)]
    view = {
        "family": design.model.family,
        "name": design.name,
        "ports": separated(pins),
        "vectors": vectors,
    }
    return render("verilog/core/mult18x18d.v.j2", view)


def simulation_files(design: CircuitDesign) -> tuple[str, ...]:
    """Return the files that simulators and linters read beside rtl/."""
    return (MODEL,) if design.rtl.multiplier == "ecp5" else ()


def check_factors(design: CircuitDesign) -> None:
    """Refuse factors that are too wide for the multiplier of ECP5, where the circuit uses it.

    Raises:
        UnsupportedError: A factor of more than 18 bits.
    """
    if design.rtl.multiplier != "ecp5":
        return
    printer = design.printer()
    for let in design.kernel.body:
        for product in multiplied(let.value, printer):
            width = max(fx.bits_of(e).width for e in (product.lhs, product.rhs))
            if width > FACTOR_BITS:
                raise UnsupportedError(
                    f"verilog: {design.name}",
                    f"a factor in {let.target.name} has {width} bits",
                    f"at most {FACTOR_BITS} for multiplier='ecp5'",
                    "Give narrower formats, or multiplier='generic' (--multiplier generic).",
                )
