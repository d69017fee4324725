from fractions import Fraction as Q

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.analysis import Interval, integer_bits, prepared_parameters, ranges
from lnm_codegen.analysis.exact import nodes_of
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.ir import interpret
from tests.analysis.exactly import families, inside, intervals, trace
from tests.cases import fitzhugh
from tests.refusals import refused
from tests.strategies import arguments_for, examples, few, generators, neurons

CUBIC = (0.02, 0.85, 0.11, -0.06)
FAMILIES = families()


def test_every_horner_partial_of_the_cubic():
    found = ranges(
        lnm.get("lnm", degree=3, theta=CUBIC), states={"v": (-2, 2)}, inputs={"x": (-1, 1)}
    )
    assert {n: str(found[n]) for n in ("h_1", "h_2", "h_3", "h", "z", "fired", "v_next")} == {
        "h_1": "[-0.01, 0.23]",
        "h_2": "[0.39, 0.900417]",
        "h_3": "[-0.813503, 1.68]",
        "h": "[-1.8135, 2.68]",  # f(v) + x: separable
        "z": "[-2.8135, 1.68]",
        "fired": "[0, 1]",
        "v_next": "[-1.8135, 1]",  # 0 where fired, h < v_threshold elsewhere
    }
    assert all(i.tight for i in found.values())


@pytest.mark.parametrize(
    ("neuron", "after"),
    [
        (lnm.get("lif", v_reset=None), "[-1.5, 1]"),
        (lnm.get("lif", v_reset=None, v_threshold=0.25), "[-1.5, 0.75]"),
        (lnm.get("ternary"), "[-0.5, 0.5]"),
        (lnm.get("lnm", degree=3, theta=CUBIC, v_min=-1.0), "[-1, 1]"),
        (lnm.get("lnm", degree=2, theta=(0, 0.5, 0.3), form="B"), "[-0.208333, 1]"),
        (lnm.get("li"), "[-1.5, 1]"),
        (lnm.get("lnm", degree=2, theta=(0, 0, 0.625)), "[-1, 1]"),  # h without a constant term
    ],
)
def test_resets_and_clamps_are_seen_through(neuron, after):
    """The branch taken is refined by its condition; f(v + x) counts as univariate in v + x."""
    found = ranges(neuron, states={"v": (-2, 1)}, inputs={"x": (-1, 1)})
    assert str(found["v_next"]) == after
    assert found["v_next"].tight


@pytest.mark.parametrize("neuron", FAMILIES, ids=[n.name for n in FAMILIES])
@pytest.mark.parametrize("scheme", ["horner", "estrin"])
def test_nodes_are_those_of_quantize(neuron, scheme):
    """Same names in the same order, so that a range goes with its format."""
    kernel = lnm.quantize(neuron, lnm.Fixed(16, 12), scheme).kernel
    nodes = nodes_of(lnm.lower(neuron, scheme))
    assert [let.target.name for let in nodes.body] == [let.target.name for let in kernel.body]


@examples(60)
@given(st.sampled_from(FAMILIES), st.sampled_from(["horner", "estrin"]), st.data())
def test_values_of_the_families_lie_inside(neuron, scheme, data):
    """Every node of the step, in exact arithmetic at points of the box."""
    states = {s.name: Interval(*data.draw(intervals())) for s in neuron.states}
    inputs = {s.name: Interval(*data.draw(intervals())) for s in neuron.inputs}
    found = ranges(neuron, states=states, inputs=inputs, scheme=scheme)
    numbers = prepared_parameters(neuron, scheme=scheme)
    points = {n: inside(data.draw, i) for n, i in (states | inputs).items()}
    for name, value in trace(nodes_of(lnm.lower(neuron, scheme)), numbers | points).items():
        if name in found:
            assert value in found[name], name


@few
@given(neurons(stops=True, binds=True), generators())
def test_values_of_random_neurons_lie_inside(neuron, rng):
    """Floating point, so within rounding; functions that are not monotone are refused."""
    arguments = arguments_for(neuron, rng, (1, 64, 1))  # one value of each parameter
    states = {n: (float(a.min()), float(a.max())) for n, a in arguments.state.items()}
    names = [s.name for s in neuron.inputs]
    seen = dict(zip(names, arguments.x_seq, strict=True))
    inputs = {n: (float(a.min()), float(a.max())) for n, a in seen.items()}
    try:
        found = ranges(neuron, states=states, inputs=inputs, values=arguments.params)
    except UnsupportedError:  # a sine, say; the messages are tested below
        assume(False)
    kernel = nodes_of(lnm.lower(neuron))
    env = {n: float(v) for n, v in prepared_parameters(neuron, arguments.params).items()}
    env |= {n: a.reshape(-1) for n, a in (arguments.state | seen).items()}
    for let in kernel.body:
        env[let.target.name] = interpret.evaluate(let.value, env, np.dtype("float64"))
    for name in (let.target.name for let in kernel.body):
        values = np.asarray(env[name], float)
        slack = 1e-9 * (1 + float(found[name].magnitude))
        assert values.min() >= float(found[name].low) - slack, name
        assert values.max() <= float(found[name].high) + slack, name


def test_ends_that_are_tight_are_met():
    """A dense grid of the box comes as near to both ends as its spacing allows."""
    neuron = lnm.get("lnm", degree=3, theta=CUBIC, v_reset=None)
    found = ranges(neuron, states={"v": (-2, 2)}, inputs={"x": (-1, 1)})
    v, x = np.meshgrid(np.linspace(-2, 2, 401), np.linspace(-1, 1, 401))
    after = lnm.interpret(neuron, x.reshape(1, -1), state={"v": v.reshape(-1)}).states["v"]
    assert float(found["v_next"].low) == pytest.approx(after.min(), abs=1e-3)
    assert float(found["v_next"].high) == pytest.approx(after.max(), abs=1e-2)


@lnm.family
def twice_decided():
    v, x = lnm.state("v"), lnm.input("x")
    out = lnm.where(lnm.spike, 1, 3) * lnm.where(lnm.spike, 3, 1) + lnm.where(v < 2, 0, v)
    return lnm.Neuron(charge={v: v + x}, fire=v - 1, reset=lnm.hard_reset(v), output={"out": out})


def test_branches_that_exclude_each_other_are_left_out():
    """1 and 3 never meet 1 and 3; v is above 2 only where the neuron fired."""
    found = ranges(twice_decided(), states={"v": (-1, 1)}, inputs={"x": (0, 2)})
    assert (str(found["out"]), found["out"].tight) == ("[3, 6]", True)


@lnm.family
def with_functions():
    v, x = lnm.state("v"), lnm.input("x")
    charge = lnm.where(v < 0, 0.1 * v, 0.5 * lnm.exp(v)) + lnm.tanh(x) / (2 + v**2)
    return lnm.Neuron(charge={v: charge}, fire=v - 1, reset=lnm.hard_reset(v, 0))


def test_functions_are_outward_and_domains_are_named():
    found = ranges(with_functions(), states={"v": (-1, 1)}, inputs={"x": (0, 1)})
    v, x = np.linspace(-1, 1, 201)[:, None], np.linspace(0, 1, 101)
    h = np.where(v < 0, 0.1 * v, 0.5 * np.exp(v)) + np.tanh(x) / (2 + v**2)
    assert float(found["h"].low) <= h.min()
    assert h.max() <= float(found["h"].high) < h.max() + 0.2
    assert not found["h"].tight


@lnm.family
def with_sine():
    v, x = lnm.state("v"), lnm.input("x")
    return lnm.Neuron(charge={v: lnm.sin(v) + x}, fire=v - 1, reset=lnm.hard_reset(v, 0))


@lnm.family
def with_quotient():
    v, x = lnm.state("v"), lnm.input("x")
    return lnm.Neuron(charge={v: x / v}, fire=v - 1, reset=lnm.hard_reset(v, 0))


BOX = {"states": {"v": (-1, 1)}, "inputs": {"x": (-1, 1)}}


@pytest.mark.parametrize(
    ("changed", "error", "problem", "accepted", "remedy"),
    [
        ({"states": {}}, ModelError, "no interval for state 'v'", "",
         "Give v = (low, high); in text, v=LOW,HIGH."),
        ({"states": {"v": (0, 1), "w": 0}}, ModelError, "no state 'w'", "v", ""),
        ({"inputs": {"x": (1, -1)}}, ModelError, "input 'x' is [1, -1]: low exceeds high",
         "low <= high", ""),
        ({"inputs": {"x": (0, float("inf"))}}, ModelError, "input 'x' is inf", "finite", ""),
        ({"inputs": {"x": (0, 1, 2)}}, ModelError, "input 'x' is (0, 1, 2)",
         "a number, or a pair (low, high)", ""),
        ({"values": {"tao": 2.0}}, ModelError, "no parameter 'tao'", "tau, v_threshold", "'tau'"),
        ({"values": {"tau": [2.0, 3.0]}}, ShapeError, "parameter 'tau' has 2 values", "1", ""),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(changed, error, problem, accepted, remedy):
    with refused(error, "lif", problem, accepted, remedy):
        ranges(lnm.get("lif"), **(BOX | changed))


def test_functions_without_a_range():
    accepted = "polynomials, selects, exp, log, sqrt, tanh, sigmoid"
    with refused(UnsupportedError, "with_sine, h", "'sin' is not monotone", accepted):
        ranges(with_sine(), **BOX)
    problem, remedy = "the divisor lies in [-1, 1], which holds 0", "Give narrower intervals."
    with refused(UnsupportedError, "with_quotient, h", problem, remedy=remedy):
        ranges(with_quotient(), **BOX)


def test_a_program_takes_its_prepared_parameters_as_intervals():
    """All thetas of a layer at once: the range for every slope in [0, 1/2]."""
    program = lnm.lower(lnm.get("lif"))
    values = {"v_threshold": 1, "p0": (0, Q(1, 2)), "inv_tau": Q(1, 2)}
    found = ranges(program, states={"v": (-2, 1)}, inputs={"x": (-1, 1)}, values=values)
    assert found["h"] == Interval(Q(-3, 2), Q(1))


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [
        ("-1", "0", 1),
        ("-1", "1", 2),
        ("0", "0.98", 1),
        ("0", "0.99", 2),
        ("-1.01", "0", 2),
        ("-8", "7.9", 4),
    ],
)  # fmt: skip
def test_integer_bits(low, high, bits):
    assert integer_bits(Interval(Q(low), Q(high)), 6) == bits


def test_a_range_that_may_be_too_wide_is_not_tight():
    """A reset decided by v and x bounds w + b*spike only from outside: a grid stays inside."""
    neuron = lnm.get("izhikevich", a=0.3, b=0.2)
    box = {"states": {"v": (-1, 1), "w": (-1, 1)}, "inputs": {"x": (-1, 1)}}
    found = ranges(neuron, **box)["w_next"]
    assert not found.tight
    grid = np.meshgrid(*(np.linspace(-1, 1, 41) for _ in range(3)))
    v, w, x = (a.reshape(-1) for a in grid)
    after = lnm.interpret(neuron, x.reshape(1, -1), state={"v": v, "w": w}).states["w"]
    assert float(found.low) <= after.min() < after.max() <= float(found.high)


@pytest.mark.slow
def test_bound_values_cost_the_same_each():
    """Ranges of a chain of them hold what occurs; written out it has a degree beyond any memory."""
    neuron = fitzhugh(8)
    states, inputs = {"v": (-0.5, 0.5), "w": (-0.25, 0.25)}, {"x": (-0.25, 0.25)}
    found = ranges(neuron, states=states, inputs=inputs)
    rng = np.random.default_rng(0)
    x = rng.uniform(*inputs["x"], (1, 2000, 1))
    start = {n: rng.uniform(low, high, (2000, 1)) for n, (low, high) in states.items()}
    for name, value in lnm.interpret(neuron, x, state=start).states.items():
        reached = found[f"{name}_next"]
        assert value.min() in reached
        assert value.max() in reached
        assert reached.width < 4


def test_a_range_beyond_use_is_refused():
    """Intervals of a chain that diverges grow without bound; their ends would fill the memory."""
    wide = {"states": {"v": (-9, 9), "w": (-9, 9)}, "inputs": {"x": (-9, 9)}}
    with refused(UnsupportedError, problem="its range exceeds 1.84467e+19", remedy="narrower"):
        ranges(fitzhugh(8), **wide)
