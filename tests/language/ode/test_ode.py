"""`lnm.ode` as a whole: Brian2's runs, names, backends, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from tests.language.ode.brian import CASES, EVERY, FILE, currents
from tests.refusals import refused

ROOT = Path(__file__).parents[3]
RECORDED = json.loads(FILE.read_text(encoding="utf-8"))
LIF = "dv/dt = (R*I - v)/tau : volt"
VALUES = {"R": "50*Mohm", "tau": "10*ms"}


def compare(case: str, steps: int) -> int:
    """Compare the first steps of a case with Brian2's and return the number of spikes."""
    model, method, dt, recorded_steps = CASES[case]
    words = ("parameters", "threshold", "reset", "refractory", "init")
    neuron = lnm.ode(model["text"], dt=dt, method=method, **{word: model[word] for word in words})
    result = lnm.interpret(neuron, currents(model["scale"], recorded_steps)[:steps])
    recorded = RECORDED[case]
    spikes = [np.nonzero(result.out[:, i])[0].tolist() for i in range(3)]
    assert spikes == [[k for k in train if k < steps] for train in recorded["spikes"]]
    for name, values in recorded["states"].items():
        theirs = np.array(values).T
        ours = result.trajectory[name][::EVERY]
        tolerance = 1e-9 * np.ptp(theirs)
        np.testing.assert_allclose(ours, theirs[: len(ours)], rtol=0, atol=tolerance, err_msg=name)
    return sum(map(len, spikes))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_whole_runs_are_brians(case: str) -> None:
    """In float64 every spike has Brian2's step and every state its value, to 1e-9 of its range."""
    assert compare(case, CASES[case][3]) > 5


@pytest.mark.parametrize("case", ["lif-euler", "adex-rk2"])
def test_the_first_spikes_are_brians(case: str) -> None:
    """The same for the beginning of two runs."""
    assert compare(case, 500) > 1


def test_import_leaves_pint_alone() -> None:
    """It is imported with the first unit."""
    code = "import sys, lnm_codegen as lnm; lnm.ode; print('pint' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout == "False\n"


def test_names_and_numbers() -> None:
    """The order of the text, numbers in SI units, and a reset of two statements."""
    neuron = lnm.ode(
        "dv/dt = (R*(I + J) - v - w)/tau : volt\ndw/dt = -w/tau : volt\nJ : amp\ntau : second",
        parameters={**VALUES, "jump": "0.5*mV"},
        dt="0.1*ms",
        threshold="v > 15*mV",
        reset="w = jump; w += 0.5*mV; v = w/2",
        learnable=["tau"],
        init={"v": "5*mV"},
        surrogate=lnm.surrogate.atan(100),
        name="cell",
    )
    assert neuron.name == "cell"
    assert [s.name for s in neuron.inputs] == ["J", "I"]
    assert [(s.name, s.decl.init) for s in neuron.states] == [("v", 0.005), ("w", 0.0)]
    params = {p.name: (p.init, p.learnable) for p in neuron.params}
    assert params == {"R": (5e7, False), "tau": (0.01, True), "jump": (0.0005, False)}
    big = np.full((1, 1), 4e-7)
    result = lnm.interpret(neuron, big, 0 * big)
    assert result.out[0, 0] == 1
    assert result.states["w"][0] == 0.001
    assert result.states["v"][0] == 0.0005


def test_without_a_threshold_the_output_is_the_first_state() -> None:
    """After the step; `exact` has no error."""
    neuron = lnm.ode("dv/dt = (x - v)/tau : 1\ndw/dt = v : 1", parameters={"tau": 5}, dt=1)
    result = lnm.interpret(neuron, np.ones((3, 1)))
    np.testing.assert_allclose(result.out[:, 0], 1 - 0.8 ** np.arange(1, 4))
    assert neuron.spikes == ()


@pytest.mark.parametrize("operator", [">", ">="])
def test_equality_fires(operator: str) -> None:
    """z is the difference of the sides, so both operators fire at equality."""
    neuron = lnm.ode("dv/dt = x : 1", dt=1, threshold=f"v {operator} 1", reset="v = 0")
    assert lnm.interpret(neuron, np.array([[0.5], [0.5], [0.25]])).out[:, 0].tolist() == [0, 1, 0]


def test_conditions_are_joined() -> None:
    """`and` takes the smaller z, `or` the larger one, `not` its negative; `<` turns it round."""
    x = np.linspace(-2, 2, 41)[None]
    for condition, wanted in {
        "v > -1 and v < 1": (x >= -1) & (x <= 1),
        "v < -1 or (v > 1)": (x <= -1) | (x >= 1),
        "-1 < v < 1": (x >= -1) & (x <= 1),
        "not (v > 1)": x <= 1,
        "not (v > -1 and v < 1)": (x <= -1) | (x >= 1),
    }.items():
        neuron = lnm.ode("dv/dt = x : 1", dt=1, threshold=condition)
        np.testing.assert_array_equal(lnm.interpret(neuron, x).out, wanted)


def test_a_parameter_that_the_reset_changes_is_a_state() -> None:
    """A threshold that grows at each spike, which no rate decays."""
    text = "dv/dt = x : 1\ntheta : 1"
    neuron = lnm.ode(
        text, parameters={"theta": 1}, dt=1, threshold="v > theta", reset="v = 0; theta *= 2"
    )
    result = lnm.interpret(neuron, np.ones((8, 1)))
    assert result.out[:, 0].tolist() == [1, 0, 1, 0, 0, 0, 1, 0]
    assert [s.name for s in neuron.states] == ["v", "theta"]


@pytest.mark.parametrize(
    ("start", "text", "value"),
    [
        ("0", "2*v", 0), ("0", "v**2", 0), ("0", "sqrt(v)", 0), ("1", "0.5*(v - 1)", 0),
        ("0", "max(2*v, v - 1)", 0), ("0", "v*x", 0), ("0", "exp(v)", 1),
        ("0", "exp(v - 1e9)", 0), ("3", "1/(v - 1)", 0.5),
    ],
)  # fmt: skip
def test_a_reset_may_compute_with_a_constant(start: str, text: str, value: float) -> None:
    """A constant that is exactly 0, such as 2*0 and 1 - 1, was no real number."""
    neuron = lnm.ode(
        "dv/dt = x : 1\nu : 1", dt=1, threshold="v > 1", reset=f"v = {start}; u = {text}",
        init={"u": 7},
    )  # fmt: skip
    assert lnm.interpret(neuron, np.full((1, 1), 2.0)).states["u"] == value


def test_a_subexpression_may_be_zero() -> None:
    """A current that is switched off."""
    text = "I = 0*pA : amp\ndv/dt = (100*Mohm*I + max(2*I, 0*pA)*ohm + x - v)/(10*ms) : volt"
    neuron = lnm.ode(text, dt="1*ms")
    assert lnm.interpret(neuron, np.ones((1, 1))).out == 0.1


def test_an_exponential_in_small_units() -> None:
    """Coefficients such as 1/(50*pA) exceed the bound on numbers in other exponents."""
    rate = "exp(I/(50*pA)) + exp(log(2)*I/(1*nA))"
    neuron = lnm.ode(f"dv/dt = ({rate})/second : 1", dt="1*second")
    result = lnm.interpret(neuron, np.full((1, 1), 1e-10), grad_out=1.0)
    np.testing.assert_allclose(result.out, np.exp(2) + 2**0.1, rtol=1e-12)
    np.testing.assert_allclose(
        result.grads["I"], np.exp(2) / 5e-11 + np.log(2) / 1e-9 * 2**0.1, rtol=1e-12
    )
    problem, accepted = "holds a number that is too large", "exp(b*log(a)) for a**b"
    with refused(lnm.ModelError, "ode: dv/dt", problem, accepted):
        lnm.ode("dv/dt = 2**(I/(1*nA))/second : 1", dt="1*second")


def test_a_division_by_zero_is_refused() -> None:
    """SymPy's evalf finds 1.6e178 for 1/(-1 + 1)."""
    neuron = lnm.ode("dv/dt = x : 1\nu : 1", dt=1, threshold="v > 1", reset="v = 1; u = x/(v - 1)")
    with refused(lnm.ModelError, "ode", "the constant 1/(-1 + 1) is not a finite real number"):
        lnm.lower(neuron)


def test_an_unused_input_sets_the_shape() -> None:
    """Each backend prints it; its gradient is 0."""
    neuron = lnm.ode("dv/dt = (1 - v)/tau : 1", parameters={"tau": 5}, dt=1, learnable=["tau"])
    assert [s.name for s in neuron.inputs] == ["x"]
    result = lnm.interpret(neuron, np.full((4, 2, 3), np.nan), grad_out=1.0)
    assert result.out.shape == (4, 2, 3)
    np.testing.assert_allclose(result.out[:, 0, 0], 1 - 0.8 ** np.arange(1, 5))
    assert not result.grads["x"].any()
    for backend in ("c", "cuda", "torch", "triton"):
        assert lnm.emit(neuron, backend).files
    layer = lnm.nn.NeuronLayer(neuron, backend="torch", dtype=torch.float64)
    out = layer(torch.zeros(4, 2, 3, dtype=torch.float64))
    np.testing.assert_allclose(out.detach().numpy(), result.out)
    out.sum().backward()
    assert float(layer.tau.grad) == pytest.approx(float(result.grads["tau"]))


@pytest.mark.slow
@pytest.mark.needs_cc
def test_backends_agree() -> None:
    """A conductance-based neuron with a refractory period: values and gradients of c and torch."""
    text = """
        dv/dt = (g_l*(E - v) + g*(E_e - v))/C : volt (unless refractory)
        dg/dt = (y - g)/tau : siemens
        """
    values = {"g_l": "10*nS", "E": "-70*mV", "E_e": "0*mV", "C": "200*pF", "tau": "5*ms"}
    neuron = lnm.ode(text, parameters=values, dt="1*ms", method="exponential_euler",
                     threshold="v > -55*mV", reset="v = E", refractory="3*ms", init={"v": "-70*mV"},
                     learnable=["tau", "E"], surrogate=lnm.surrogate.atan(100.0))  # fmt: skip
    y = np.random.default_rng(0).random((40, 2, 3)) * 2e-8
    reference = lnm.interpret(neuron, y, grad_out=1.0)
    assert 5 < reference.out.sum() < 200
    for backend in ("c", "torch"):
        layer = lnm.nn.NeuronLayer(neuron, backend=backend, dtype=torch.float64)
        given = torch.tensor(y, requires_grad=True)
        out = layer(given)
        out.sum().backward()
        np.testing.assert_array_equal(out.detach().numpy(), reference.out)
        np.testing.assert_allclose(given.grad.numpy(), reference.grads["y"], rtol=1e-9, atol=1e-6)
        for name, parameter in layer.named_parameters():
            assert float(parameter.grad) == pytest.approx(float(reference.grads[name]), rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "where", "problem", "accepted", "remedy"),
    [
        ({"text": "dv/dt = xi*v/tau : volt"}, "dv/dt", "'xi' is a random number", "", "Draw"),
        ({"text": "dv/dt = t*v/tau : volt"}, "dv/dt", "'t' is the time", "", "as an input"),
        ({"text": LIF.replace("volt", "mV")}, "dv/dt", "the unit 'mV' is not 1", "volt", "10*mV"),
        ({"text": LIF.replace("volt", "Volt")}, "dv/dt", "unknown unit 'Volt'", "mV", "'volt'"),
        ({"text": LIF.replace("(R", "exp(R")}, "dv/dt", "the argument of exp", "a number", ""),
        ({"text": f"{LIF}\nexp : 1"}, "name 'exp'", "the grammar has a function", "", "Choose"),
        ({"text": f"{LIF}\nmV : 1"}, "name 'mV'", "a unit has this name", "", "Choose"),
        ({"text": f"{LIF}\nI = J : amp\nJ = I : amp"}, "text", "I, J read one another", "", "Make"),
        ({"text": f"{LIF}\nw : 1"}, "w", "'w' is declared but no expression", "", "Remove"),
        (
            {"parameters": {**VALUES, "taum": 1}}, "parameters", "no text reads 'taum'",
            "I, R, tau, v", "",
        ),
        ({"parameters": {**VALUES, "R": "5*MOhm"}}, "parameters: R", "unknown unit", "mV", ""),
        ({"parameters": {**VALUES, "v": 1}}, "parameters", "'v' is a state", "", "init="),
        ({"inputs": ["I", "I"]}, "inputs", "'I' is listed more than once", "names of inputs", ""),
        (
            {"learnable": ["R", "R"]}, "learnable", "'R' is listed more than once", "names of par",
            "",
        ),
        (
            {"text": f"{LIF}\nw : volt", "parameters": {**VALUES, "w": "1*mV"},
             "learnable": ["w"], "threshold": "v > w", "reset": "w += 1*mV"},
            "learnable", "'w' is a state", "names of parameters", "a state that begins at 0",
        ),
        ({"learnable": ["v"]}, "learnable", "'v' is a state", "names of parameters", "Add"),
        ({"learnable": ["rho"]}, "learnable", "'rho' is no parameter", "R, tau", ""),
        ({"init": {"u": 1}}, "init", "'u' is not a state", "v", ""),
        ({"threshold": "v"}, "threshold", "'v' is not a condition", "a comparison", ""),
        ({"threshold": "v == R*I"}, "threshold", "'Eq(v, I*R)' has no sign", "v > V_th", ""),
        ({"inputs": ["i"]}, "dv/dt", "'I' has no value and is not one of inputs=", "", "mean 'i'?"),
        ({"inputs": []}, "dv/dt", "'I' has no value", "", "or its name in inputs="),
        (
            {"inputs": ["I"], "text": LIF.replace("tau", "Tau")}, "dv/dt", "'Tau' has no value",
            "", "Did you mean 'tau'?",
        ),
        (
            {"inputs": ["I"], "threshold": "v > 1*mV", "reset": "v = R9*I"}, "reset of v",
            "'R9' has no value", "", "Did you mean 'R'?",
        ),
        ({"inputs": ["I", "w"]}, "inputs", "no text reads 'w' as an input", "I", ""),
        ({"inputs": ["I", "R"]}, "inputs", "no text reads 'R' as an input", "I", ""),
        ({"reset": "v = 0*mV"}, "reset", "it needs a spike", "", "Give threshold= too."),
        ({"refractory": "1*ms"}, "refractory", "it needs a spike", "", "Give threshold= too."),
        ({"threshold": "v > 0*mV", "reset": "R = 1"}, "reset of R", "'R' is not a state", "v", ""),
        ({"threshold": "v > 0*mV", "reset": "v"}, "reset", "'v' is not an assign", "v = Vr", ""),
        (
            {"threshold": "v > 0*mV", "reset": "v += 1*mV) * (2"}, "reset of v",
            "'1*mV) * (2' is not an expression", "numbers", "",
        ),
    ],
)  # fmt: skip
def test_refusals(
    arguments: dict[str, Any], where: str, problem: str, accepted: str, remedy: str
) -> None:
    """One line names the place, the problem and the remedy."""
    given = {"text": LIF, "parameters": VALUES, "dt": "1*ms", **arguments}
    with refused(lnm.ModelError, f"ode: {where}", problem, accepted, remedy):
        lnm.ode(given.pop("text"), **given)


def test_inputs_may_be_listed() -> None:
    """A list of the free names changes nothing; `x` is the input of a text without free names."""
    given: dict[str, Any] = {"parameters": VALUES, "dt": "1*ms"}
    assert lnm.ode(LIF, inputs=["I"], **given).to_toml() == lnm.ode(LIF, **given).to_toml()
    for inputs in (["x"], []):
        neuron = lnm.ode("dv/dt = -v/tau : 1", parameters={"tau": 2}, dt=1, inputs=inputs)
        assert [s.name for s in neuron.inputs] == ["x"]


def test_the_order_of_the_inputs() -> None:
    """That of `inputs`, else that of the lines, then that of the first use."""
    text = "dv/dt = a + b + c + d : 1"
    for lines, inputs, order in (
        ("", None, "abcd"), ("d : 1\nb : 1", None, "dbac"), ("d : 1\nb : 1", "cadb", "cadb"),
    ):  # fmt: skip
        neuron = lnm.ode(f"{text}\n{lines}", dt=1, inputs=inputs and [*inputs])
        assert [s.name for s in neuron.inputs] == [*order]


def test_too_few_inputs_are_refused_with_a_hint() -> None:
    """A misspelt name is an input where `inputs` is not given."""
    neuron = lnm.ode("dv/dt = -v/tau + x + I1 : 1", parameters={"tau": 2}, dt=1)
    with refused(lnm.ShapeError, "ode", "1 inputs given", "x, I1", "unless inputs= lists them"):
        lnm.interpret(neuron, np.ones((3, 1)))
    with refused(lnm.ShapeError, "ode", "the call has 1 input", "x, I1", "A misspelt name"):
        lnm.nn.NeuronLayer(neuron)(torch.ones(3, 1))


@pytest.mark.parametrize("text", ["min(pi, 3)", "sign(exp(1))", "int(pi > 3)*2"])
def test_an_open_comparison_of_constants_is_no_number(text: str) -> None:
    """SymPy is not asked for the sign of pi - 3, so such a value has no float."""
    spiking = {"threshold": "v > 1"}
    for where, given in {
        "parameters: tau": {"parameters": {"tau": text}}, "dt": {"dt": text},
        "init: v": {"init": {"v": text}}, "refractory": {"refractory": text, **spiking},
    }.items():  # fmt: skip
        with refused(
            lnm.ModelError, f"ode: {where}", "compares constants", "a number", "Write its value."
        ):
            lnm.ode("dv/dt = (x - v)/tau : 1", **{"dt": 1, "parameters": {"tau": 2}, **given})


@pytest.mark.parametrize(
    ("word", "value", "accepted"),
    [
        ("dt", 0, "a time > 0"),
        ("dt", "-1*ms", "a time > 0"),
        ("dt", "1*mV", "a time > 0"),
        ("dt", True, "a number"),
        ("dt", [1], "a number"),
        ("method", "heun", "'rk4'"),
        ("learnable", "tau", "names of parameters"),
        ("inputs", "I", "names of inputs"),
        ("parameters", [("tau", 1)], "a dict"),
        ("init", None, "a dict"),
        ("substeps", 0, "an integer >= 1"),
    ],
)
def test_arguments_are_checked(word: str, value: Any, accepted: str) -> None:
    """The message shows the value."""
    given: dict[str, Any] = {"parameters": VALUES, "dt": "1*ms", word: value}
    with refused(lnm.ModelError, "ode", f"{word} is {value!r}", accepted):
        lnm.ode(LIF, **given)
