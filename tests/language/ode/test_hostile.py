"""Texts of unknown origin: no execution, no second of CPU time, no error but LnmError."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sympy.core.cache import clear_cache

import lnm_codegen as lnm
from tests.language.ode import hostile

METHODS = ["euler", "exponential_euler", "exact", "rk2", "rk4"]
SECOND = 1.0


def attempt(text: str, **arguments: Any) -> bool:
    """Return whether a text is accepted; a refusal is one line, within a second of CPU time.

    A second measurement, without SymPy's cache, excludes a garbage collection of the test's own
    objects: the time of a text itself repeats.
    """
    spent, refusal = measured(text, arguments)
    if spent >= SECOND:
        clear_cache()
        spent, refusal = measured(text, arguments)
    assert spent < SECOND, (text, arguments)
    assert "\n" not in refusal
    return not refusal


def measured(text: str, arguments: dict[str, Any]) -> tuple[float, str]:
    """Return the CPU time of a call in seconds, and its refusal or an empty text."""
    begin, refusal = time.process_time(), ""
    try:
        lnm.ode(text, **{"dt": 1, **arguments})
    except lnm.ModelError as error:
        refusal = str(error)
    return time.process_time() - begin, refusal


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Import pint, which does not count."""
    assert lnm.ode("dv/dt = (x - v)/(10*ms) : volt", dt="1*ms")


@pytest.fixture
def no_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse what executes text."""
    import builtins

    import sympy

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("text was executed")

    monkeypatch.setattr(sympy, "sympify", refuse)
    monkeypatch.setattr(builtins, "eval", refuse)


@pytest.mark.usefixtures("no_execution")
def test_the_corpus() -> None:
    """Every second text with Euler's method; every fifth expression in each other place."""
    accepted = [attempt(text) for text in hostile.corpus()[::2]]
    assert 10 < sum(accepted) < len(accepted) / 2
    for text in hostile.EXPRESSIONS[::5]:
        attempt(hostile.LIF, threshold=f"v > {text}", reset=f"v = {text}", refractory=text)
        attempt(hostile.LIF, parameters={"tau": text})


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("method", METHODS)
def test_the_whole_corpus(method: Any) -> None:
    """Every text with every method, and in every other place."""
    for text in hostile.corpus():
        attempt(text, method=method)
    for text in (*hostile.EXPRESSIONS, *hostile.TEXTS):
        for more in (
            {"threshold": text, "reset": text, "refractory": text},
            {"threshold": f"v > {text}", "reset": f"v = {text}"},
            {"threshold": "v > 1", "refractory": text},
            {"dt": text}, {"parameters": {"tau": text}}, {"init": {"v": text}},
        ):  # fmt: skip
            attempt(hostile.LIF, method=method, **more)
        attempt(hostile.LIF.replace(": 1", f": {text}"), method=method)


ARGUMENTS = st.fixed_dictionaries(
    {"method": st.sampled_from(METHODS)},
    optional={
        "threshold": hostile.conditions,
        "reset": hostile.resets,
        "refractory": hostile.conditions,
        "substeps": st.integers(1, 3),
    },
)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("examples", [40, pytest.param(5_000, marks=pytest.mark.slow)])
def test_random_texts(examples: int) -> None:
    @settings(
        max_examples=examples, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(hostile.texts, ARGUMENTS)
    def check(text: str, arguments: dict[str, Any]) -> None:
        attempt(text, **arguments)

    check()
