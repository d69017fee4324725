"""`lnm.ode` as a whole: Brian2's runs, names, refractory periods, refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from tests.language.ode.brian import CASES, EVERY, FILE, currents
from tests.refusals import assert_refused, refused

RECORDED = json.loads(FILE.read_text(encoding="utf-8"))
LIF = "dv/dt = (R*I - v)/tau : volt"
VALUES = {"R": "50*Mohm", "tau": "10*ms"}


@pytest.mark.parametrize(
    ("case", "steps", "least"),
    [
        ("lif-euler", 500, 1),
        ("adex-rk2", 500, 1),
        *(pytest.param(case, CASES[case][3], 5, marks=pytest.mark.slow) for case in CASES),
    ],
)
def test_runs_are_brians(case: str, steps: int, least: int) -> None:
    """In float64 every spike has Brian2's step and every state its value, to 1e-9 of its range."""
    model, method, dt, recorded_steps = CASES[case]
    words = ("parameters", "threshold", "reset", "refractory", "init")
    neuron = lnm.ode(model["text"], dt=dt, method=method, **{word: model[word] for word in words})
    result = lnm.interpret(neuron, currents(model["scale"], recorded_steps)[:steps])
    recorded = RECORDED[case]
    spikes = [np.nonzero(result.out[:, i])[0].tolist() for i in range(3)]
    assert spikes == [[k for k in train if k < steps] for train in recorded["spikes"]]
    assert sum(map(len, spikes)) > least
    for name, values in recorded["states"].items():
        theirs = np.array(values).T
        ours = result.trajectory[name][::EVERY]
        tolerance = 1e-9 * np.ptp(theirs)
        np.testing.assert_allclose(ours, theirs[: len(ours)], rtol=0, atol=tolerance, err_msg=name)


def test_names_and_numbers() -> None:
    """The order of the text, numbers in SI units, and a reset of two statements."""
    neuron = lnm.ode(
        "dv/dt = (R*(I + J) - v - w)/tau : volt\ndw/dt = -w/tau : volt\nJ : amp\ntau : second",
        parameters={**VALUES, "jump": "0.5*mV"}, dt="0.1*ms", threshold="v > 15*mV",
        reset="w = jump; w += 0.5*mV; v = w/2", learnable=["tau"], init={"v": "5*mV"},
        surrogate=lnm.surrogate.atan(100), name="cell",
    )  # fmt: skip
    assert neuron.name == "cell"
    assert [s.name for s in neuron.inputs] == ["J", "I"]
    assert [(s.name, s.decl.init) for s in neuron.states] == [("v", 0.005), ("w", 0.0)]
    params = {p.name: (p.init, p.learnable) for p in neuron.params}
    assert params == {"R": (5e7, False), "tau": (0.01, True), "jump": (0.0005, False)}
    big = np.full((1, 1), 4e-7)
    result = lnm.interpret(neuron, big, 0 * big)
    assert result.out[0, 0] == 1
    assert (result.states["w"][0], result.states["v"][0]) == (0.001, 0.0005)


def test_without_a_threshold_the_output_is_the_first_state() -> None:
    """After the step."""
    neuron = lnm.ode("dv/dt = (x - v)/tau : 1\ndw/dt = v : 1", parameters={"tau": 5}, dt=1)
    result = lnm.interpret(neuron, np.ones((3, 1)))
    np.testing.assert_allclose(result.out[:, 0], 1 - 0.8 ** np.arange(1, 4))
    assert neuron.spikes == ()


def test_conditions() -> None:
    """z is the difference of the sides, so `>` and `>=` fire at equality.

    `and` takes the smaller z, `or` the larger one, `not` its negative; `<` turns it round.
    """
    x = np.linspace(-2, 2, 41)[None]
    for condition, wanted in {
        "v > 1": x >= 1,
        "v >= 1": x >= 1,
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
    neuron = lnm.ode(
        "dv/dt = x : 1\ntheta : 1", parameters={"theta": 1}, dt=1, threshold="v > theta",
        reset="v = 0; theta *= 2",
    )  # fmt: skip
    result = lnm.interpret(neuron, np.ones((8, 1)))
    assert result.out[:, 0].tolist() == [1, 0, 1, 0, 0, 0, 1, 0]
    assert [s.name for s in neuron.states] == ["v", "theta"]


@pytest.mark.parametrize(
    ("start", "text", "value"),
    [
        ("0", "2*v", 0), ("0", "sqrt(v)", 0), ("1", "0.5*(v - 1)", 0), ("0", "v*x", 0),
        ("0", "max(2*v, v - 1)", 0), ("0", "exp(v)", 1), ("0", "exp(v - 1e9)", 0),
        ("3", "1/(v - 1)", 0.5),
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
    assert lnm.interpret(lnm.ode(text, dt="1*ms"), np.ones((1, 1))).out == 0.1


def test_an_exponential_in_small_units() -> None:
    """Coefficients such as 1/(50*pA) exceed the bound on numbers in other exponents."""
    rate = "exp(I/(50*pA)) + exp(log(2)*I/(1*nA))"
    neuron = lnm.ode(f"dv/dt = ({rate})/second : 1", dt="1*second")
    result = lnm.interpret(neuron, np.full((1, 1), 1e-10), grad_out=1.0)
    np.testing.assert_allclose(result.out, np.exp(2) + 2**0.1, rtol=1e-12)
    slope = np.exp(2) / 5e-11 + np.log(2) / 1e-9 * 2**0.1
    np.testing.assert_allclose(result.grads["I"], slope, rtol=1e-12)


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


def built(text: str = LIF, **given: Any) -> lnm.Neuron:
    return lnm.ode(text, **{"parameters": VALUES, "dt": "1*ms", **given})


def spiking(**given: Any) -> lnm.Neuron:
    return built(**{"threshold": "v > 0*mV", **given})


JUMP = {"parameters": {**VALUES, "w": "1*mV"}, "threshold": "v > w", "reset": "w += 1*mV"}
REFUSALS = """
ode: dv/dt >> >> Did you mean 'tau'?
    built("dv/dt = xi*v/tau : volt") >> 'xi' is a random number >> >> Draw
    built("dv/dt = t*v/tau : volt") >> 't' is the time >> >> as an input
    built(LIF.replace("volt", "mV")) >> the unit 'mV' is not 1 >> volt >> 10*mV
    built(LIF.replace("volt", "Volt")) >> unknown unit 'Volt' >> mV >> 'volt'
    built(LIF.replace("(R", "exp(R")) >> the argument of exp >> a number
    built(inputs=["i"]) >> 'I' has no value and is not one of inputs= >> >> mean 'i'?
    built(inputs=[]) >> 'I' has no value >> >> or its name in inputs=
    built(LIF.replace("tau", "Tau"), inputs=["I"]) >> 'Tau' has no value
    built("dv/dt = 2**(I/(1*nA))/second : 1", parameters={}, dt="1*second")
        >> holds a number that is too large >> exp(b*log(a)) for a**b
ode: learnable >> names of parameters
    built(learnable=["R", "R"]) >> 'R' is listed more than once
    built(learnable=["v"]) >> 'v' is a state >> names of parameters >> Add
    built(learnable=["rho"]) >> 'rho' is no parameter >> R, tau
    built(f"{LIF}\\nw : volt", learnable=["w"], **JUMP)
        >> 'w' is a state >> names of parameters >> a state that begins at 0
ode: inputs >> I
    built(inputs=["I", "w"]) >> no text reads 'w' as an input
    built(inputs=["I", "R"]) >> no text reads 'R' as an input
    built(inputs=["I", "I"]) >> 'I' is listed more than once >> names of inputs
ode: parameters >> I, R, tau, v
    built(parameters={**VALUES, "taum": 1}) >> no text reads 'taum'
    built(parameters={**VALUES, "v": 1}) >> 'v' is a state >> >> init=
?
    built(f"{LIF}\\nexp : 1") >> ode: name 'exp': the grammar has a function >> >> Choose
    built(f"{LIF}\\nmV : 1") >> ode: name 'mV': a unit has this name >> >> Choose
    built(f"{LIF}\\nI = J : amp\\nJ = I : amp") >> ode: text: the subexpressions I, J read
        one another >> >> Make
    built(f"{LIF}\\nw : 1") >> ode: w: 'w' is declared but no expression >> >> Remove
    built(parameters={**VALUES, "R": "5*MOhm"}) >> ode: parameters: R: unknown unit >> mV
    built(init={"u": 1}) >> ode: init: 'u' is not a state >> v
    built(threshold="v") >> ode: threshold: 'v' is not a condition >> a comparison
    built(threshold="v == R*I") >> ode: threshold: the condition 'Eq(v, I*R)' has
        no sign >> v > V_th
    built(threshold=3) >> ode: threshold: 3 is not a text >> a condition such as "v > -50*mV"
    spiking(inputs=["I"], reset="v = R9*I") >> ode: reset of v: 'R9' has no value >>
        >> Did you mean 'R'?
    built(reset="v = 0*mV") >> ode: reset: it needs a spike >> >> Give threshold= too.
    built(refractory="1*ms") >> ode: refractory: it needs a spike >> >> Give threshold= too.
    spiking(reset="R = 1") >> ode: reset of R: 'R' is not a state >> v
    spiking(reset="v") >> ode: reset: 'v' is not an assign >> v = Vr
    spiking(reset="v += 1*mV) * (2") >> ode: reset of v: '1*mV) * (2' is not an expression
        >> numbers
    spiking(refractory="-1*ms") >> ode: refractory: the time '-1*ms' is -1 steps dt >> 0 to 16777216
    spiking(refractory="2**40*ms") >> ode: refractory: the time '2**40*ms' is 1.09951e+12 steps dt
    spiking(refractory="v") >> ode: refractory: unknown name 'v'
    spiking(refractory=[1]) >> ode: refractory is [1]
ode >> a time > 0
    built(dt=0) >> dt is 0
    built(dt="-1*ms") >> dt is '-1*ms'
    built(dt="1*mV") >> dt is '1*mV'
    built(dt=True) >> dt is True >> a number
    built(dt=[1]) >> dt is [1] >> a number
    built(method="heun") >> method is 'heun' >> 'rk4'
    built(method="exact", substeps=2) >> substeps is 2 with method='exact' >> 1, since
    built(learnable="tau") >> learnable is 'tau' >> names of parameters
    built(inputs="I") >> inputs is 'I' >> names of inputs
    built(parameters=[("tau", 1)]) >> parameters is [('tau', 1)] >> a dict
    built(init=None) >> init is None >> a dict
    built(substeps=0) >> substeps is 0 >> an integer >= 1
"""


def test_refusals() -> None:
    assert_refused(REFUSALS, globals())


def test_inputs() -> None:
    """Their order is that of `inputs`, else that of the lines, then that of the first use."""
    assert built(inputs=["I"]).to_toml() == built().to_toml()
    for inputs in (["x"], []):
        neuron = lnm.ode("dv/dt = -v/tau : 1", parameters={"tau": 2}, dt=1, inputs=inputs)
        assert [s.name for s in neuron.inputs] == ["x"]
    text = "dv/dt = a + b + c + d : 1"
    for lines, listed, order in (
        ("", None, "abcd"), ("d : 1\nb : 1", None, "dbac"), ("d : 1\nb : 1", "cadb", "cadb"),
    ):  # fmt: skip
        neuron = lnm.ode(f"{text}\n{lines}", dt=1, inputs=listed and [*listed])
        assert [s.name for s in neuron.inputs] == [*order]


def test_too_few_inputs_are_refused_with_a_hint() -> None:
    """A misspelt name is an input where `inputs` is not given."""
    neuron = lnm.ode("dv/dt = -v/tau + x + I1 : 1", parameters={"tau": 2}, dt=1)
    with refused(lnm.ShapeError, "ode", "1 inputs given", "x, I1", "unless inputs= lists them"):
        lnm.interpret(neuron, np.ones((3, 1)))
    with refused(lnm.ShapeError, "ode", "the call has 1 input", "x, I1", "A misspelt name"):
        lnm.nn.NeuronLayer(neuron)(torch.ones(3, 1))


@pytest.mark.parametrize("text", ["min(pi, 3)", "int(pi > 3)*2"])
def test_an_open_comparison_of_constants_is_no_number(text: str) -> None:
    """SymPy is not asked for the sign of pi - 3, so such a value has no float."""
    for where, given in {
        "parameters: tau": {"parameters": {"tau": text}}, "dt": {"dt": text},
        "init: v": {"init": {"v": text}}, "refractory": {"refractory": text, "threshold": "v > 1"},
    }.items():  # fmt: skip
        problem, remedy = "compares constants", "Write its value."
        with refused(lnm.ModelError, f"ode: {where}", problem, "a number", remedy):
            lnm.ode("dv/dt = (x - v)/tau : 1", **{"dt": 1, "parameters": {"tau": 2}, **given})


TWO = "dv/dt = (x - v)/tau : 1 (unless refractory)\ndw/dt = (v - w)/tau : 1"


def spikes(refractory: Any, method: Any = "euler", text: str = TWO) -> tuple[Any, Any]:
    """Return the steps of the spikes and v before each step, under a constant input."""
    values = {"tau": 4, "t_r": 3} if "t_r" in str(refractory) else {"tau": 4}
    neuron = lnm.ode(text, parameters=values, dt=1, method=method, threshold="v > 1",
                     reset="v = 0", refractory=refractory)  # fmt: skip
    result = lnm.interpret(neuron, np.full((40, 1), 3.0))
    return np.nonzero(result.out[:, 0])[0], result.trajectory["v"][:, 0]


@pytest.mark.parametrize(
    "method",
    [
        "euler",
        *(pytest.param(m, marks=pytest.mark.slow) for m in ("exponential_euler", "rk2", "exact")),
    ],
)
def test_a_time_blocks_that_many_steps(method: str) -> None:
    """After a spike at step n the next one waits for step n + time/dt at least; v is paused."""
    plain, _ = spikes(None, method)
    interval = plain[1] - plain[0]
    for time in (0, 1, 2, 5):
        found, v = spikes(time, method)
        assert found[0] == plain[0]
        assert set(np.diff(found)) == {interval + max(time - 1, 0)}
        assert np.all(v[found[0] + 1 : found[0] + 1 + max(time, 1)] == 0)
        assert v[found[0] + 1 + max(time, 1)] > 0
    found, v = spikes(9, method, TWO.replace(" (unless refractory)", ""))
    assert set(np.diff(found)) == {9}  # the period then blocks spikes alone
    assert v.max() > 1


def test_a_time_of_a_parameter_is_a_number() -> None:
    """It is read at its initial value, and is no parameter of the neuron.

    `with_init` set the membrane's tau and left the period's.
    """
    np.testing.assert_array_equal(spikes("t_r")[0], spikes(3)[0])
    np.testing.assert_array_equal(spikes("t_r - 2*dt/2")[0], spikes(2)[0])
    neuron = lnm.ode("dv/dt = (x - v)/tau : 1", parameters={"tau": 4}, dt=1, threshold="v > 1",
                     reset="v = 0", refractory="tau")  # fmt: skip
    assert neuron.params == ()
    with refused(lnm.ModelError, "ode", "no state or parameter 'tau'"):
        neuron.with_init(tau=2)
    x = np.full((12, 1), 5.0)
    assert np.nonzero(lnm.interpret(neuron, x).out[:, 0])[0].tolist() == [0, 4, 8]


def test_a_condition_ends_the_period() -> None:
    """One spike for each time above threshold, although z >= 0 in every step of it."""
    text, x = "dv/dt = x - v : 1", np.array([0, 2, 2, 2, 0, 0, 2, 2, 0.0])[:, None]
    for more, out in (
        ({}, [0, 1, 1, 1, 0, 0, 1, 1, 0]),
        ({"refractory": "v > 1"}, [0, 1, 0, 0, 0, 0, 1, 0, 0]),
    ):
        neuron = lnm.ode(text, dt=1, threshold="v > 1", **more)
        assert lnm.interpret(neuron, x).out[:, 0].tolist() == out


def test_the_name_of_the_counter_is_free() -> None:
    """A state `refractory` of the text keeps its name."""
    neuron = lnm.ode("drefractory/dt = x : 1", dt=1, threshold="refractory > 1", refractory=3)
    assert [s.name for s in neuron.states] == ["refractory", "refractory_2"]
