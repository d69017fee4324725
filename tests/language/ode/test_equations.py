"""Lines of an ODE text: forms, comments, continuation, flags."""

from __future__ import annotations

import pytest

import lnm_codegen as lnm
from lnm_codegen.language.ode.equations import Equation, equations_of
from tests.refusals import refused

FORMS = "dNAME/dt = EXPRESSION : UNIT, NAME = EXPRESSION : UNIT, NAME : UNIT"
UNIT = "Write ': 1' for a number without a unit."


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


@pytest.mark.parametrize(
    ("text", "where", "problem", "accepted", "remedy"),
    [
        ("", "ode: text", "no differential equation", "dNAME/dt = EXPRESSION : UNIT", "Write"),
        ("dv/dt = -v", "ode: text", "'dv/dt = -v' has no unit", FORMS, UNIT),
        ("dv/dt = -v : ", "ode: text", "'dv/dt = -v :' has no unit", FORMS, UNIT),
        ("dv/dx = -v : 1", "ode: text", "'dv/dx = -v : 1' is not an equation", FORMS, ""),
        ("dv/dt = : 1", "ode: dv/dt", "the expression is empty", FORMS, ""),
        ("dv/dt = v : 1 (a", "ode: text", "has flags without ')'", "(FLAG)", ""),
        (
            "dv/dt = v : 1 (unless refactory)",
            "ode: dv/dt",
            "the flag 'unless refactory'",
            "(unless refractory)",
            "Did you mean 'unless refractory'?",
        ),
        ("dv/dt = v : 1 (constant)", "ode: dv/dt", "the flag 'constant'", "(unless", ""),
        ("dv/dt = v : 1\nv : 1", "ode: text", "'v' is defined twice", "", "Remove"),
        ("dv/dt = µ : 1", "ode: text", "the character 'µ' in 'dv/dt = µ : 1'", "printable", ""),
        ("x" * 20_001, "ode: text", "it has 20001 characters", "at most 20000", ""),
        (
            "\n".join(f"p{i} : 1" for i in range(101)),
            "ode: text",
            "101 equations",
            "at most 100",
            "",
        ),
        (3, "ode", "text is 3", "equations in quotes", ""),
    ],
)
def test_refusals(text: str, where: str, problem: str, accepted: str, remedy: str) -> None:
    """The line names the equation or the text."""
    with refused(lnm.ModelError, where, problem, accepted, remedy):
        equations_of(text)
