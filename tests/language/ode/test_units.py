"""Names of units, and their spelling in messages."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lnm_codegen.language.ode.units import none, power, product, spelled, unit_named

SIZES = {
    "mV": (-3, "volt"), "volt": (0, "volt"), "kvolt": (3, "volt"), "ms": (-3, "second"),
    "us": (-6, "second"), "second": (0, "second"), "nS": (-9, "siemens"), "Mohm": (6, "ohm"),
    "msiemens": (-3, "siemens"), "pA": (-12, "amp"), "amp": (0, "amp"), "nampere": (-9, "amp"),
    "uF": (-6, "farad"), "pfarad": (-12, "farad"), "cm": (-2, "metre"), "cm2": (-4, "metre**2"),
    "metre2": (0, "metre**2"), "umeter3": (-18, "metre**3"), "kHz": (3, "1/second"),
    "hertz": (0, "1/second"), "mM": (0, "mole/metre**3"), "mol": (0, "mole"),
    "kilogram": (0, "kilogram"), "gram": (-3, "kilogram"), "damp": (-1, "amp"),
    "dametre": (1, "metre"), "radian": (0, "1"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_exact(name: str) -> None:
    """Brian2's names, as powers of ten of SI units."""
    unit = unit_named(name)
    assert unit is not None
    exponent, base = SIZES[name]
    assert unit.size == Fraction(10) ** exponent
    assert spelled(unit.dims) == base


@pytest.mark.parametrize("name", [*"mhngCVSAsxIwFM", "e", "tau", "cm4", "ms2", "kV", "mVm", "V2"])
def test_names_of_a_model_are_no_units(name: str) -> None:
    """Nor are single letters, which pint takes for a metre, an hour or a gram."""
    assert unit_named(name) is None


def test_products_are_spelled_in_units() -> None:
    """Rates and densities by name, others by base units."""
    names = ("mV", "ms", "uF", "cm2", "Mohm", "pA")
    volt, second, farad, area, ohm, amp = (unit_named(n).dims for n in names)  # type: ignore[union-attr]
    per = Fraction(-1)
    assert spelled(none()) == "1"
    assert spelled(product(volt, power(second, per))) == "volt/second"
    assert spelled(product(farad, power(area, per))) == "farad/metre**2"
    assert spelled(product(ohm, amp)) == "volt"
    assert spelled(power(second, Fraction(1, 2))) == "second**1/2"
