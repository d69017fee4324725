"""Agreement of units: both sides are shown, and inputs take the unit that fits."""

from __future__ import annotations

from typing import Any

import pytest

import lnm_codegen as lnm
from tests.refusals import refused

BOTH = "one unit on both sides"
PLAIN = "a number without a unit"
TAU = {"tau": "10*ms"}


@pytest.mark.parametrize(
    ("text", "where", "problem", "accepted"),
    [
        (
            "dv/dt = tau*v/tau : volt",
            "dv/dt",
            "dv/dt has the unit volt/second, 'tau*v/tau' the unit volt",
            BOTH,
        ),
        (
            "dv/dt = -v/tau + 1 : 1",
            "dv/dt",
            "'-v/tau' has the unit 1/second and is added to '1', which has the unit 1",
            BOTH,
        ),
        (
            "dv/dt = (I - v)/tau : volt\ndw/dt = (I - w)/tau : amp",
            "dw/dt",
            "'I' has the unit volt and is added to 'w', which has the unit amp",
            BOTH,
        ),
        (
            "dv/dt = (a - v)/tau : volt\na = 3*amp*g : volt\ng : siemens",
            "a",
            "a has the unit volt, '3*amp*g' the unit amp*siemens",
            BOTH,
        ),
        (
            "dv/dt = where(v > 1*ms, v, v)/tau : volt",
            "dv/dt",
            "'v' has the unit volt and is compared with '1*ms', which has the unit second",
            BOTH,
        ),
        (
            "dv/dt = clip(v, 0*mV, 1*amp)/tau : volt",
            "dv/dt",
            "'v' has the unit volt and is an argument with '1*amp', which has the unit amp",
            BOTH,
        ),
        (
            "dv/dt = exp(v)*volt/tau : volt",
            "dv/dt",
            "the argument of exp, 'v', has the unit",
            PLAIN,
        ),
        ("dv/dt = 2**v*volt/tau : volt", "dv/dt", "the exponent, 'v', has the unit volt", PLAIN),
        ("dv/dt = v**x*volt/tau : volt", "dv/dt", "the base of a varying exponent, 'v',", PLAIN),
    ],
)
def test_disagreement_shows_both_sides(text: str, where: str, problem: str, accepted: str) -> None:
    """The place is the equation."""
    with refused(lnm.ModelError, f"ode: {where}", problem, accepted):
        lnm.ode(text, parameters=TAU, dt="1*ms")


@pytest.mark.parametrize(
    ("arguments", "where", "problem"),
    [
        ({"parameters": {"tau": 10}}, "dv/dt", "dv/dt has the unit volt/second, '(x - v)/tau'"),
        ({"dt": 1}, "dv/dt", "dv/dt has the unit volt, '(x - v)/tau' the unit volt/second"),
        ({"threshold": "v > 1"}, "threshold", "'v' has the unit volt and is compared with '1'"),
        ({"threshold": "v > v/2", "reset": "v = 1"}, "reset of v", "v has the unit volt, '1' the"),
        (
            {"threshold": "v > v/2", "refractory": 2},
            "refractory",
            "the time has the unit 1, dt the",
        ),
        ({"init": {"v": "1*ms"}}, "init", "v has the unit volt, its value the unit second"),
    ],
)
def test_disagreement_outside_the_equations(
    arguments: dict[str, Any], where: str, problem: str
) -> None:
    """Threshold, reset, period, initial values and dt are checked too."""
    with refused(lnm.ModelError, f"ode: {where}", problem, BOTH):
        lnm.ode("dv/dt = (x - v)/tau : volt", **{"parameters": TAU, "dt": "1*ms", **arguments})


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
        "dv/dt = (x - v)*exp(0**0)/tau : volt",  # a literal 0 has any unit
    ],
)
def test_agreement(text: str) -> None:
    """An input takes the unit that fits; a literal 0 has any unit."""
    assert lnm.ode(text, parameters=TAU, dt="1*ms")


def test_a_plain_dt_gives_time_no_unit() -> None:
    """`: 1` is accepted on both sides, and units of other quantities are still checked."""
    assert lnm.ode("dv/dt = (x - v)/tau : 1\ntau : 1", parameters={"tau": 10}, dt=1)
    assert lnm.ode("dv/dt = (x - v)/tau : volt", parameters={"tau": 10}, dt=0.5)
    with refused(
        lnm.ModelError, "ode: parameters", "tau has the unit 1, its value the unit second"
    ):
        lnm.ode("dv/dt = (x - v)/tau : 1\ntau : 1", parameters=TAU, dt=1)
