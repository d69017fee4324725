"""Texts of equations: their lines, names of units, and units that must agree."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

import lnm_codegen as lnm
from lnm_codegen.language.ode.equations import Equation, equations_of
from lnm_codegen.language.ode.units import none, power, product, spelled, unit_named
from tests.refusals import assert_refused

BOTH = "one unit on both sides"
PLAIN = "a number without a unit"
FORMS = "dNAME/dt = EXPRESSION : UNIT, NAME = EXPRESSION : UNIT, NAME : UNIT"
UNIT = "Write ': 1' for a number without a unit."
TAU = {"tau": "10*ms"}


def test_the_three_forms() -> None:
    """A comment may hold any character; an equation ends with the line of its colon."""
    text = """
    # Grüße: dw/dt = 1 : 1
    dv/dt = (E - v  # a comment: here
             + I)/tau : volt (unless refractory)
    I = g*E \\
        : amp (constant over dt)
    tau : second (constant)
    """
    assert equations_of(text) == (
        Equation("rate", "v", "(E - v + I)/tau", "volt", ("unless refractory",)),
        Equation("subexpression", "I", "g*E", "amp", ("constant over dt",)),
        Equation("parameter", "tau", "", "second", ("constant",)),
    )


LINES = """
ode: text >> FORMS >> UNIT
    equations_of("dv/dt = -v") >> 'dv/dt = -v' has no unit
    equations_of("dv/dt = -v : ") >> 'dv/dt = -v :' has no unit
    equations_of("dv/dx = -v : 1") >> 'dv/dx = -v : 1' is not an equation >> FORMS
    equations_of("") >> no differential equation >> dNAME/dt = EXPRESSION : UNIT >> Write
    equations_of("dv/dt = v : 1 (a") >> has flags without ')' >> (FLAG)
    equations_of("dv/dt = v : 1\\nv : 1") >> 'v' is defined twice >> >> Remove
    equations_of("dv/dt = µ : 1") >> the character 'µ' in 'dv/dt = µ : 1' >> printable
    equations_of("x" * 20_001) >> it has 20001 characters >> at most 20000
    equations_of("\\n".join(f"p{i} : 1" for i in range(101))) >> 101 equations >> at most 100
ode: dv/dt >> (unless refractory)
    equations_of("dv/dt = v : 1 (unless refactory)") >> the flag 'unless refactory'
        >> (unless refractory) >> Did you mean 'unless refractory'?
    equations_of("dv/dt = v : 1 (constant)") >> the flag 'constant'
    equations_of("dv/dt = : 1") >> the expression is empty >> FORMS
ode >> equations in quotes
    equations_of(3) >> text is 3
"""


def built(text: str, **given: Any) -> lnm.Neuron:
    return lnm.ode(text, **{"parameters": TAU, "dt": "1*ms", **given})


def cell(**given: Any) -> lnm.Neuron:
    return built("dv/dt = (x - v)/tau : volt", **given)


UNITS = """
? >> BOTH
    built("dv/dt = tau*v/tau : volt")
        >> ode: dv/dt: dv/dt has the unit volt/second, 'tau*v/tau' the unit volt.
    built("dv/dt = -v/tau + 1 : 1") >> ode: dv/dt: '-v/tau' has the unit 1/second and is added to
        '1', which has the unit 1.
    built("dv/dt = (I - v)/tau : volt\\ndw/dt = (I - w)/tau : amp")
        >> ode: dw/dt: 'I' has the unit volt and is added to 'w', which has the unit amp.
    built("dv/dt = (a - v)/tau : volt\\na = 3*amp*g : volt\\ng : siemens")
        >> ode: a: a has the unit volt, '3*amp*g' the unit amp*siemens.
    built("dv/dt = where(v > 1*ms, v, v)/tau : volt")
        >> ode: dv/dt: 'v' has the unit volt and is compared with '1*ms', which has the unit second.
    built("dv/dt = clip(v, 0*mV, 1*amp)/tau : volt") >> ode: dv/dt: 'v' has the unit volt and is an
        argument with '1*amp', which has the unit amp.
    built("dv/dt = exp(v)*volt/tau : volt") >> ode: dv/dt: the argument of exp, 'v', has the unit
        >> PLAIN
    built("dv/dt = 2**v*volt/tau : volt") >> ode: dv/dt: the exponent, 'v', has the unit volt
        >> PLAIN
    built("dv/dt = v**x*volt/tau : volt") >> ode: dv/dt: the base of a varying exponent, 'v',
        >> PLAIN
    cell(parameters={"tau": 10}) >> ode: dv/dt: dv/dt has the unit volt/second, '(x - v)/tau'
    cell(dt=1) >> ode: dv/dt: dv/dt has the unit volt, '(x - v)/tau' the unit volt/second
    cell(threshold="v > 1") >> ode: threshold: 'v' has the unit volt and is compared with '1'
    cell(threshold="v > v/2", reset="v = 1") >> ode: reset of v: v has the unit volt, '1' the
    cell(threshold="v > v/2", refractory=2) >> ode: refractory: the time has the unit 1, dt the
    cell(init={"v": "1*ms"}) >> ode: init: v has the unit volt, its value the unit second
    built("dv/dt = (x - v)/tau : 1\\ntau : 1", dt=1)
        >> ode: parameters: tau has the unit 1, its value the unit second
"""


@pytest.mark.parametrize("table", [LINES, UNITS], ids=["lines", "units"])
def test_refusals(table: str) -> None:
    """The line names the equation or the text; both sides of a disagreement are shown."""
    assert_refused(table, globals())


@pytest.mark.parametrize(
    "text",
    [
        "dv/dt = (x - v)/tau : volt",
        "dv/dt = (x*y - v)/tau : volt\ndw/dt = (y - w)/tau : amp",  # x is in ohm
        "dv/dt = (sqrt(x)*mV - v)/tau : volt",
        "dv/dt = where(v > 0, -v, 0)/tau : volt",
        "dv/dt = (abs(v)**2/v - v)/tau : volt",
        "dv/dt = (x**(1/2)*mV**0.5 - v)/tau : volt",
        "dv/dt = (v*dt/tau - v)/tau : volt",
        "dv/dt = (int(v > 1*mV)*mV - v)/tau : volt",
        "dv/dt = (x - v)*(3*mV)**0/tau : volt",
        "dv/dt = (x - v)*exp(0**0)/tau : volt",
    ],
)
def test_agreement(text: str) -> None:
    """An input takes the unit that fits; a literal 0 has any unit."""
    assert built(text)


def test_a_plain_dt_gives_time_no_unit() -> None:
    """`: 1` is accepted on both sides, and units of other quantities are still checked."""
    assert built("dv/dt = (x - v)/tau : 1\ntau : 1", parameters={"tau": 10}, dt=1)
    assert cell(parameters={"tau": 10}, dt=0.5)


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


def test_sizes_are_exact() -> None:
    """Brian2's names, as powers of ten of SI units; no single letters, as pint has for a metre."""
    for name, (exponent, base) in SIZES.items():
        unit = unit_named(name)
        assert unit is not None, name
        assert unit.size == Fraction(10) ** exponent
        assert spelled(unit.dims) == base
    for name in [*"mhngCVSAsxIwFM", "e", "tau", "cm4", "ms2", "kV", "mVm", "V2"]:
        assert unit_named(name) is None, name


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
