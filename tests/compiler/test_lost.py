"""Numbers that a format rounds to 0: an error where the neuron needs them, silence where not."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.cli import run
from lnm_codegen.compiler.emit import fixed_model_of
from lnm_codegen.compiler.fixed import program_of
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.nodes import Role
from tests.refusals import refused

v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
Q4_12 = lnm.Fixed(16, 12)


def neuron(charge: Any, fire: Any = None, **more: Any) -> lnm.Neuron:
    """Return a neuron of v with a threshold of 1 and a soft reset."""
    phases = {v: charge} if not isinstance(charge, dict) else charge
    fire = v - 1 if fire is None else fire
    return lnm.Neuron(charge=phases, fire=fire, reset={v: v - lnm.spike}, name="own", **more)


def cubic(*theta: float) -> lnm.Neuron:
    """Return a polynomial of one state, with its coefficients as a parameter."""
    coefficients = lnm.param("theta", size=len(theta), init=theta)
    return neuron(lnm.poly(v, coefficients) + x)


NEEDED = {
    "all fractions in Q16.0": (neuron(0.5 * v + 0.3 * v**2 + 0.02 * v**3 + x), lnm.Fixed(16, 0)),
    "coefficients in Q16.0": (cubic(0.0, 0.4, 0.3, 0.05), lnm.Fixed(16, 0)),
    "one over tau": (lnm.get("lif", tau=1e4), Q4_12),
    "one over tau of 4": (lnm.get("lif", tau=4.0), lnm.Fixed(16, 0)),
    "a gain of the input": (neuron(0.9 * v + 0.001 * x, v - 0.02), lnm.Fixed(16, 8)),
    "a threshold of 0": (lnm.get("lif", v_threshold=0.3), lnm.Fixed(16, 0)),
    "a threshold below a bit": (lnm.get("lif", v_threshold=1e-5), Q4_12),
    "a slow second state": (neuron({v: 0.9 * v + x - w, w: w + 1e-4 * (v - w)}), Q4_12),
    "an output": (neuron(0.5 * v + x, output={"y": 7e-3 * v}), lnm.Fixed(16, 6)),
    "large units": (neuron(0.9 * v + 0.3 * x, v - 100), lnm.Fixed(16, 0)),
}
UNNEEDED = {
    "a last coefficient": (cubic(1e-4, 0.5, 1e-4, 1e-4), Q4_12),
    "a memory below a bit": (cubic(0.0, 1e-4), Q4_12),
    "less than a unit in any step": (lnm.get("lif", tau=1e6), lnm.Fixed(8, 6)),
    "a limit of a clamp": (neuron(lnm.clip(0.5 * v + x, -1e-5, 2)), Q4_12),
    "a reset": (lnm.get("lif", v_reset=1e-5), Q4_12),
    "no number": (cubic(0.0, 0.5, 0.0, 0.0), Q4_12),
}


@pytest.mark.parametrize("case", NEEDED)
def test_numbers_that_the_neuron_needs_are_refused(case: str) -> None:
    """In every path that takes a format. The message has the value and a format that keeps it."""
    own, spec = NEEDED[case]
    with pytest.raises(ModelError, match="to 0 in Q") as caught:
        lnm.quantize(own, spec)
    for backend in ("c", "verilog"):
        with refused(ModelError, caught.value.where, caught.value.problem):
            lnm.emit(own, backend, spec=spec)
    formats = re.findall(r"Q(\d+)\.(\d+) for (\w+)", caught.value.accepted)
    assert "lnm.clip" in caught.value.remedy
    assert formats
    nodes = {n: lnm.Fixed(int(whole) + int(frac), int(frac)) for whole, frac, n in formats}
    default = nodes.pop("default", spec)
    lnm.quantize(own, lnm.FixedSpec(default, nodes))


@pytest.mark.parametrize("case", UNNEEDED)
def test_numbers_without_an_effect_may_vanish(case: str) -> None:
    own, spec = UNNEEDED[case]
    lnm.quantize(own, spec)
    lnm.emit(own, "c", spec=spec)


def test_values_decide_and_not_the_declared_ones() -> None:
    """A trained parameter may be lost where its initial value is not, and the other way round."""
    spec, kept, small = lnm.Fixed(12, 4), (0.0, 0.5, 0.25, 0.125), (0.0, 0.02, 0.03, 0.5)
    lnm.emit(cubic(*kept), "c", spec=spec)
    lnm.emit(cubic(*small), "c", spec=spec, values={"theta": kept})
    for call in (
        lambda: lnm.emit(cubic(*kept), "c", spec=spec, values={"theta": small}),
        lambda: lnm.quantize(cubic(*small), spec),
    ):
        with refused(ModelError, "own", "theta_1 = 0.02, theta_2 = 0.03 round to 0 in Q8.4"):
            call()


def test_channels_count_for_themselves() -> None:
    """One channel of four loses its input; the message says how many."""
    own = lnm.get("plif", per="channel")
    values = {"w": [0.0, 0.0, -9.5, 0.0]}
    with refused(ModelError, "plif", " (1 of 4 values) rounds to 0 in Q4.12"):
        fixed_model_of(own, Q4_12, values=values)
    fixed_model_of(own, lnm.Fixed(24, 20), values=values)


def test_a_stimulus_is_what_the_neuron_is_compared_on() -> None:
    """A number that these inputs never use may vanish."""
    own = neuron(0.5 * v + x + 0.02 * x * x * x)
    spec, rtl = lnm.Fixed(16, 4), lnm.Rtl(forms=("array",), neurons=2)
    rng = np.random.default_rng(0)
    small = {"x": rng.uniform(0, 0.5, (2, 16, 2))}
    lnm.emit(own, "verilog", spec=spec, rtl=rtl, stimulus=small)
    with refused(ModelError, "own", "0.02 rounds to 0 in Q12.4"):
        lnm.emit(own, "verilog", spec=spec, rtl=rtl, stimulus={"x": small["x"] * 12})


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=4), st.integers(6, 31), st.integers(0, 12))
def test_what_is_accepted_has_no_lost_input(theta: list[float], width: int, frac: int) -> None:
    """The input reaches the state in every format that is accepted."""
    assume(frac < width)
    gain = theta[0]
    assume(abs(gain) > 2.0 ** -(frac + 1))
    coefficients = lnm.param("theta", size=len(theta), init=theta)
    charge = sum((coefficients[k] * v**k for k in range(1, len(theta))), coefficients[0] * x)
    own = lnm.Neuron(charge={v: charge}, fire=v - 0.5, reset={v: 0}, name="own")
    try:
        program = lnm.quantize(own, lnm.Fixed(width, frac))
    except ModelError as error:
        assert "to 0 in Q" in error.problem or "does not fit" in error.problem  # noqa: PT017
        return
    assert program == program_of(own, lnm.Fixed(width, frac))
    assert "x" in program.kernel.input_names(Role.INPUT)


def test_the_commands_refuse_too(tmp_path, capsys) -> None:
    """`lnm emit --format` wrote the circuit with a note."""
    command = ["emit", "lif", "--set", "tau=1e4", "--out", str(tmp_path / "out")]
    for backend in ("c", "verilog"):
        assert run([*command, "--backend", backend, "--format", "16.12"]) == 2
        assert "inv_tau = 0.0001 rounds to 0 in Q4.12" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    spec = tmp_path / "own.toml"
    spec.write_text('default = "16.12"\n[nodes]\ninv_tau = "18.17"\n')
    assert run([*command, "--backend", "c", "--format", str(spec)]) == 0


def test_the_search_keeps_the_numbers(capsys) -> None:
    """An error of 0.1 a step allowed 0 for 0.01, the gain of the input."""
    assert run(["quantize", "lif", "--set", "tau=200", "--error", "0.1", "--x=-2,2", "--json"]) == 0
    out = capsys.readouterr().out
    frac = int(re.search(r'"inv_tau": \{[^}]*"frac": (\d+)', out)[1])  # type: ignore[index]
    assert np.floor(2.0**frac / 200 + 0.5) >= 1


def test_advice_names_no_argument_that_the_neuron_lacks(tmp_path, capsys) -> None:
    """`v_min=-2` was advised for any neuron."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import lnm_codegen as lnm\n\n\n@lnm.family\ndef wild():\n"
        "    v, x = lnm.state('v'), lnm.input('x')\n"
        "    return lnm.Neuron(charge={v: 0.5 * v + 0.3 * v**2 + 0.2 * v**3 + x}, fire=v - 1)\n"
    )
    assert run(["quantize", f"{file}:wild", "--error", "0.01"]) == 2
    err = capsys.readouterr().err
    assert "with --x" in err
    assert "lnm.clip" in err
    assert "v_min=-2" not in err
