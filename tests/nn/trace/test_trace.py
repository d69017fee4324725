"""Neurons from functions: the traced neuron computes what the function computes on tensors."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import lnm_codegen as lnm
from tests.refusals import assert_refused, refused
from tests.strategies import few

T, N, FILE = 12, 64, "/home/me/neuron.py"
JELLYS = "spikingjelly.activation_based.surrogate"


class Step(torch.autograd.Function):
    """A surrogate of a user: fires at z > 0, slope 1/(1 + z**2)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z > 0).to(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return grad / (1 + z**2)


spiked = Step.apply


def reference(
    f: Callable[..., Any],
    x: Any,
    states: dict[str, float],
    params: dict[str, float],
    grad: Any,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run a function of outputs and states on tensors of float64; return outputs and gradients."""
    x_seq = torch.tensor(x, requires_grad=True)
    given = {k: torch.tensor(p, dtype=torch.float64, requires_grad=True) for k, p in params.items()}
    now = {k: torch.full_like(x_seq[0], v) for k, v in states.items()}
    outs = []
    for x_t in x_seq:
        out, *after = f(x=x_t, **now, **given)
        after = after[0].values() if isinstance(after[0], dict) else after
        now = dict(zip(states, after, strict=True))
        outs.append(out.expand_as(x_t) + torch.zeros_like(x_t).requires_grad_())
    out = torch.stack(outs)
    (out * torch.tensor(grad)).sum().backward()
    grads = {"x": x_seq.grad, **{k: p.grad for k, p in given.items()}}
    return out.detach().numpy(), {
        k: np.zeros(()) if g is None else g.numpy() for k, g in grads.items()
    }


def assert_same(
    f: Callable[..., Any], states: dict[str, float], params: dict[str, float], scale: float = 1.0
) -> lnm.Neuron:
    """Compare the traced neuron of a function with the function itself, on random input."""
    rng = np.random.default_rng(0)
    x = rng.normal(0.3, 1.0, (T, 1, N)) * scale
    grad = rng.normal(size=x.shape)
    neuron = lnm.trace(f, states=states, inputs=["x"], params=params)
    out, grads = reference(f, x, states, params, grad)
    ours = lnm.interpret(neuron, x, grad_out=grad, dtype="float64")
    np.testing.assert_allclose(ours.out, out, rtol=1e-9, atol=1e-9)
    for name, value in grads.items():
        np.testing.assert_allclose(ours.grads[name], value, rtol=1e-7, atol=1e-9, err_msg=name)
    return neuron


def written(body: str, arguments: str = "x, v", **names: Any) -> Callable[..., Any]:
    """Return a function f of a file FILE, whose body begins at line 2."""
    found = {"torch": torch, "np": np, "math": math, "spiked": spiked, **names}
    text = f"def f({arguments}):\n    " + body.replace("; ", "\n    ")
    exec(compile(text, FILE, "exec"), found)
    return found["f"]  # type: ignore[no-any-return]


def traced(f: Callable[..., Any], **given: Any) -> lnm.Neuron:
    return lnm.trace(f, **({"states": {"v": 0.0}, "inputs": ["x"]} | given))


def test_a_leaky_neuron_has_the_phases_of_one() -> None:
    """The charge is found in a function of outputs and states."""

    def lif(x, v, tau, v_threshold):
        h = v + (x - v) / tau
        s = spiked(h - v_threshold)
        return s, h * (1 - s)

    neuron = assert_same(lif, {"v": 0.0}, {"tau": 2.0, "v_threshold": 0.5})
    v = neuron.states[0]
    assert [str(s) for s, _ in neuron.charge] == ["v"]
    assert str(dict(neuron.reset)[v]) == "v*(1 - spike)"
    assert neuron.name == "lif"
    assert neuron.spikes == ("spike",)


def test_phases_are_those_of_a_neuron() -> None:
    """`reset` gives the value taken where the neuron spikes."""

    def plain(x, v, tau):
        return {"charge": {"v": v + (x - v) / tau}, "fire": v - 1.0, "reset": {"v": v - 1.0}}

    traced = lnm.trace(plain, states={"v": 0.1}, inputs=["x"], params={"tau": 3.0})
    v, x, tau = lnm.state("v", init=0.1), lnm.input("x"), lnm.param("tau", init=3.0)
    written = lnm.Neuron(
        charge={v: v + (x - v) / tau}, fire=v - 1, reset={v: lnm.where(lnm.spike, v - 1, v)},
        name="plain",
    )  # fmt: skip
    assert str(lnm.lower(traced)) == str(lnm.lower(written))


def test_a_reset_with_detached_spikes_is_detach_reset() -> None:
    """Every spike in reset is detached, so where(spike, ...) has no gradient of the spike."""

    def f(x, v):
        h = 0.8 * v + x
        s = spiked(h - 1)
        d = s.detach()
        return s, torch.where(d.bool(), 0.25, h) - 0.125 * d

    neuron = assert_same(f, {"v": 0.0}, {})
    assert neuron.detach_reset
    assert "stop_gradient" not in str(neuron)


def test_a_detached_and_an_attached_spike_keep_their_gradients() -> None:
    def f(x, v):
        h = 0.8 * v + x
        s = spiked(h - 1)
        return s * h, h - 0.5 * s - 0.25 * s.detach() * h

    assert not assert_same(f, {"v": 0.0}, {}).detach_reset


def test_several_states_and_spikes() -> None:
    """A spike of the step before, adaptation, and a spike that is detached inside another's z."""

    def f(x, v, w, s_prev, a):
        low = spiked(v - 0.5)
        h = a * v + x - 0.3 * s_prev
        k = w + 0.1 * (h - w)
        s = spiked(h - 0.5 - k * low.detach())
        return s + 0.5 * k, h - s * 0.7, k + 0.2 * s, s

    assert_same(f, {"v": 0.1, "w": 0.0, "s_prev": 0.0}, {"a": 0.7})


def test_operations_in_place_change_the_tensor() -> None:
    """An alias changes with it, as it does in PyTorch."""

    def f(x, v, a):
        h = v * a
        alias = h
        h += x
        h.mul_(0.5).clamp_(min=-1.0)
        return torch.tanh(alias), alias.sin() + torch.nn.functional.relu(h)

    assert_same(f, {"v": 0.0}, {"a": 0.9})


ALIASES = (
    "contiguous()", "float()", "to(x)", "to(x.dtype)", "to('cpu')", "type_as(x)", "__pos__()",
)  # fmt: skip
COPIES = ("clone()", "to(x, copy=True)", "to(x, False, True)")
SHARED = {"detach()": "detach", "double()": "double", "to(torch.float64)": "double"}


@pytest.mark.parametrize("text", ALIASES)
def test_what_returns_its_tensor_is_an_alias(text: str) -> None:
    """A change in place of `v.contiguous()` changes v, here for float32 in PyTorch too."""
    v = torch.zeros(1)
    assert eval(f"v.{text}", {"v": v, "x": v}) is v
    f = written(f"h = v.{text}; h += x; s = spiked(h - 1); return s, v * (1 - s)")
    same = written("h = v + x; s = spiked(h - 1); return s, h * (1 - s)")
    assert str(traced(f)) == str(traced(same))


@pytest.mark.parametrize("text", COPIES)
def test_a_copy_is_no_alias(text: str) -> None:
    assert_same(written(f"h = v.{text}; h += x; return h, torch.sin(v)"), {"v": 0.3}, {})


@pytest.mark.parametrize("changed", ["d", "v"])
@pytest.mark.parametrize("text", SHARED)
def test_shared_memory_is_not_changed_in_place(changed: str, text: str) -> None:
    problem = f"on a tensor that may share its memory with another, by torch.{SHARED[text]}"
    with refused(lnm.ModelError, f"{FILE}:3", problem, remedy="without the in-place form"):
        traced(written(f"d = v.{text}; {changed} += x; return v, d"))


@pytest.mark.parametrize("p", [(0.4, -0.3), (-0.3, 0.4), (0.25, 0.25), (0.5, 0.0)])
def test_bounds_of_clamp_in_any_order(p: tuple[float, float]) -> None:
    """min(max(x, low), high), and PyTorch's gradients of x and of both bounds, also at ties."""

    def f(x, v, low, high):
        h = torch.where(x > 0.6, 0.25 + 0 * x, x)
        return torch.clamp(h, low, high) + torch.clamp(x, 0.6, 0.2) * x, v

    assert_same(f, {"v": 0.0}, {"low": p[0], "high": p[1]})


def test_literal_tensors_the_method_where_and_no_grad() -> None:
    """`torch.tensor(0.5)` counts as a tensor; what `no_grad` contains has no gradient."""

    def f(x, v, a):
        with torch.no_grad():
            k = v * a
            s = spiked(k + x)
        h = torch.maximum(v * a + x, torch.tensor(-0.5).to(x)) + 0.3 * k * a
        return h * a, h.where(h > k, x * a) - 0.2 * s

    assert_same(f, {"v": 0.1}, {"a": 0.7})

    in_place = written("with torch.no_grad():;     v *= 2; return v, v + x")
    problem = "torch.mul_, an operation in place, where gradients are disabled"
    with refused(lnm.ModelError, f"{FILE}:3", problem, remedy="Write it without"):
        traced(in_place)


@pytest.mark.timeout(60)
def test_a_function_without_end_is_refused() -> None:
    """A loop that reads a value twice, and one that nests deeper than Python's stack."""
    loop = "for _ in range({}):;     v = {}; return v, v"
    problem = "the expression of this value has more than 80000 operations; a value"
    with refused(lnm.ModelError, f"{FILE}:3", problem, remedy="Use fewer"):
        traced(written(loop.format(60, "torch.where(v > 0.5, v * 0.9, v + x)")))
    with refused(lnm.ModelError, "trace deep", "nested too deeply", remedy="Use fewer"):
        traced(written(loop.format(600, "torch.sin(v) + x")), name="deep")


JELLY = {
    "ATan": {"alpha": 3.0}, "Sigmoid": {"alpha": 2.0}, "Rect": {"alpha": 0.7}, "Erf": {},
    "SoftSign": {}, "PiecewiseQuadratic": {"alpha": 0.8}, "PiecewiseExp": {"alpha": 1.5},
    "SuperSpike": {}, "NonzeroSignLogAbs": {}, "PiecewiseLeakyReLU": {"w": 0.5, "c": 0.1},
    "S2NN": {}, "QPseudoSpike": {}, "LeakyKReLU": {},
}  # fmt: skip
SNNTORCH: dict[str, dict[str, float]] = {
    "atan": {"alpha": 3.0}, "sigmoid": {"slope": 5.0}, "fast_sigmoid": {"slope": 4.0},
    "straight_through_estimator": {}, "spike_rate_escape": {}, "heaviside": {},
}  # fmt: skip


@pytest.mark.parametrize("name", [*JELLY, *SNNTORCH])
@pytest.mark.filterwarnings("ignore")
def test_surrogates_of_the_libraries(name: str) -> None:
    """Spike and slope are the library's on a grid of no kink but the tie; NaN is no spike."""
    if name in JELLY:
        sg = getattr(pytest.importorskip(JELLYS, exc_type=ImportError), name)(**JELLY[name])
    else:
        sg = getattr(pytest.importorskip("snntorch.surrogate"), name)(**SNNTORCH[name])

    def f(x, v):
        s = sg(x)
        return s, v * 0.5 + s

    neuron = lnm.trace(f, states={"v": 0.0}, inputs=["x"])
    x = np.array([[[*np.linspace(-2, 2, 37), np.nan]]])
    out, grads = reference(f, x, {"v": 0.0}, {}, np.ones_like(x))
    ours = lnm.interpret(neuron, x, grad_out=1.0, dtype="float64")
    np.testing.assert_array_equal(ours.out, out)
    assert out[0, 0, 18] == (x[0, 0, 18] == 0 and name in JELLY)  # snnTorch fires at > 0
    np.testing.assert_allclose(ours.grads["x"][..., :-1], grads["x"][..., :-1], rtol=1e-11)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_cores_of_flexsn() -> None:
    """They call SpikingJelly's functions, with a slope as the second argument."""
    sigmoid = pytest.importorskip(JELLYS, exc_type=ImportError).sigmoid

    def core(x, v, u, a, b):
        current = a * u + x
        h = v + (current - v) / b
        s = sigmoid.apply(h - 0.5, 4.0)
        return s, h * (1.0 - s), current

    assert_same(core, {"v": 0.0, "u": 0.0}, {"a": 0.6, "b": 2.5})


def update(states, current):
    v, u = states["v"], states["u"]
    dv = 0.04 * v**2 + 5 * v + 140 - u + current
    return {"v": v + dv, "u": u + 0.02 * (0.2 * v - u)}


def reset(states, spk, threshold):
    fired = spk.detach().bool()
    v = torch.where(fired, torch.full_like(states["v"], -65.0), states["v"])
    return {"v": v, "u": torch.where(fired, states["u"] + 8.0, states["u"])}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_equations_of_snntorch() -> None:
    """An Izhikevich neuron in the form that snnTorch's neuron_from_equations takes.

    It calls update, then the surrogate at v - threshold, then reset (its documentation).
    """
    sg = pytest.importorskip("snntorch.surrogate").atan(alpha=2.0)

    def izhikevich(x, v, u, threshold):
        new = update({"v": v, "u": u}, x)
        spk = sg(new["v"] - threshold)
        return spk, reset(new, spk, threshold)

    assert_same(izhikevich, {"v": -65.0, "u": -13.0}, {"threshold": 30.0}, scale=20.0)


FORMS = (
    "({a} + {b})", "({a} - {b})", "torch.mul({a}, {b}).tanh()", "torch.tanh(x + {a})",
    "(x + {a}).sigmoid()", "torch.sin(v + {a})", "(p + {a}).cos()",
    "torch.exp(-torch.abs(v + {a} + 0.0293))", "torch.log(1.5 + torch.tanh(v + {a}) ** 2)",
    "torch.sqrt(1 + torch.square(x + {a}))", "torch.clamp(x + {a}, -0.437, 0.713)",
    "(v + {a}).clamp(min=-0.317)", "torch.relu(x + {a} - 0.0391)",
    "torch.maximum(x + {a}, v * 1.017 + {b})", "torch.min(x + {a}, {b} + v * 0.983)",
    "torch.pow(v + {a}, 2)", "torch.where(x + {a} > v + 0.0237, {b} + x, v - {b})",
    "({a} + x) / (1.5 + torch.cos(v + {b}))",
    "torch.where((x > {a} + 0.0311) & ~(v < 0.107) | (x == {b} + 0.0061), x, v)",
    "(v + {a}).detach() * (x + {b})", "torch.nn.functional.leaky_relu(x + {a} + 0.0457)",
    "((x > 0.203).to(x) + {a}) * 0.5", "torch.lerp(x + {a}, v + {b}, 0.3)",
    "(v + {a}).masked_fill(x > 0, 0.3)", "torch.nn.functional.silu(v + {a})",
    "spiked(x + {a} - 0.2171) * ({b} + v)",
    "torch.sign(x + {a} - 0.0417) * (v + {b})",
    "torch.nn.functional.hardtanh(x + {a} + 0.0173, -0.313, 0.427)",
)  # fmt: skip


@st.composite
def terms(draw: Any, depth: int = 3) -> str:
    """Draw the text of an expression over x, v and p, of moderate values.

    Odd constants in comparisons avoid ties, x + (v - x) > v, which rounding decides in PyTorch.
    """
    leaf = st.sampled_from(("x", "v", "p", "torch.full_like(v, 0.5)"))
    if depth == 0:
        return draw(leaf)
    a, b = draw(terms(depth - 1)), draw(terms(depth - 1))
    return draw(st.sampled_from(FORMS)).format(a=a, b=b)


@settings(few, max_examples=8)
@given(terms(2), terms(1))
@example("torch.where((x > 0.2) & ~(v < 0.107), -torch.exp(-torch.abs(v + x)), v)", "+x")
def test_operations_are_those_of_pytorch(out: str, after: str) -> None:
    """Random functions: values and gradients equal PyTorch's own, step after step."""
    f = written(f"h = torch.tanh({after}); return {out}, h + x*v*p*0.1", "x, v, p")
    try:
        assert_same(f, {"v": 0.1931}, {"p": 0.4})
    except lnm.ModelError as error:
        assume("a spike depends on another spike" not in error.problem)
        raise


def test_each_operation_alone() -> None:
    """One that the random functions may not draw."""
    for form in FORMS:
        out = form.format(a="0.1 * v", b="0.2 * x")
        f = written(f"return {out} + 0.3 * v, torch.tanh(x + p * v)", "x, v, p")
        assert_same(f, {"v": 0.1931}, {"p": 0.4})


BOOLS = (
    "a.where(b, c)", "torch.where(a, b, c)", "x.where(a, v)", "torch.where(a, b, 3.0)", "a + b",
    "a.to(x.device) + b", "torch.add(a, b)", "True + a", "a + 1", "(a * b) + c",
    "torch.maximum(a, b) + c",
    "torch.min(a, b) + c", "a.detach() + b", "torch.where(a, b, True) + c",
    "torch.where(a, b, c) + a", "a.masked_fill(b, 2.0) + c", "torch.ones_like(a) + b",
    "torch.full_like(a, 3.0) + b", "torch.zeros_like(a) + b",
    "torch.ones_like(a, dtype=torch.float64) + b", "torch.sign(a) + b", "torch.heaviside(a, b) + c",
)  # fmt: skip


@pytest.mark.parametrize("text", BOOLS)
def test_operations_on_bools_are_those_of_pytorch(text: str) -> None:
    """bool + bool is `or`, and a method `where` of a bool selects it by another condition."""
    start = "a, b, c = v > 0.13, x > 0.21, x + v < 0.3"
    end = "return out.double() + v, torch.tanh(x + 0.5 * v)"
    assert_same(written(f"{start}; out = {text}; {end}"), {"v": 0.1}, {})


WEIGHT, SETTINGS = torch.ones(3), {"tau": 2.0}
CONDITION = "needs the value of a traced condition"
OPERATIONS = [
    ("if v > 1: v = v - 1; return v, v + x", CONDITION, "torch.where"),
    ("return v, max(v, x)", CONDITION, "torch.where"),
    ("return v, torch.erfinv(v) + x", "torch.erfinv has no counterpart", ""),
    ("return v, (v + x).cumsum(0)", "torch.cumsum has no counterpart", ""),
    ("return v, (v + x) % 2", "the operator % has no counterpart", ""),
    ("return v, math.exp(v) + x", "float() needs the value", ""),
    ("return v, np.exp(v) + x", "numpy.exp received a traced tensor", "torch.exp"),
    ("return v, v + x.long()", "torch.long has no counterpart", ""),
    ("return v, v[0] + x", "the operator [] has no counterpart", ""),
    ("return v, x + v.item()", "item() needs the value", ""),
    # Captured values.
    ("return v, v*W + x", "W is a captured Tensor of shape (3,)", "Pass 'W' in params."),
    ("return v, v*A + x", "A is a captured ndarray", "Pass 'A' in params."),
    ("return v, (lambda a: a*B)(v) + x", "B is a captured number, 0.5", "Pass 'B' in params."),
    ("return v, v/S['tau'] + x", "S is a captured collection", "Pass 'S' in params."),
    ("return v, v/o.tau + x", "o is a captured object of class O", "Pass 'o' in params."),
    ("return v, v/O.tau + x", "O.tau is a captured number, 2.0", "Pass 'tau' in params."),
]


class Options:
    tau = 2.0


Options.__name__ = "O"


@pytest.mark.parametrize(("body", "problem", "remedy"), OPERATIONS)
def test_an_operation_without_a_counterpart_and_a_captured_value(
    body: str, problem: str, remedy: str
) -> None:
    """The error begins with the user's line, also in a helper, and names the operation."""
    names = {"W": WEIGHT, "A": np.ones(2), "B": 0.5, "S": SETTINGS, "o": Options(), "O": Options}
    f = written(body, **names)
    helped = written("v = v + 0*x; return v, v + helper(x, v)[1]", helper=f)
    for function in (f, helped):
        with refused(lnm.ModelError, f"{FILE}:2", problem, remedy=remedy):
            traced(function)


def test_captures_of_closures_defaults_partials_methods_and_helpers() -> None:
    tau = 2.0

    def closure(x, v):
        return v, v / tau + x

    line = f"{__file__}:{closure.__code__.co_firstlineno + 1}"
    with refused(lnm.ModelError, line, "tau is a captured number, 2.0"):
        traced(closure)
    with refused(lnm.ModelError, "trace", "functools.partial", remedy="Pass them in params."):
        traced(functools.partial(lambda x, v, a: (v, v * a + x), a=0.5))
    with refused(lnm.ModelError, "trace", "'a', which is no state", remedy="params={'a': 0.5}"):
        traced(lambda x, v, a=0.5: (v, v * a + x))
    with refused(lnm.ModelError, "trace", "a method, which reads an object of class Linear"):
        traced(torch.nn.Linear(1, 1).forward)
    with refused(lnm.ModelError, "trace", accepted="a function of Python"):
        traced(torch.nn.Linear(1, 1))


def test_numbers_in_the_text_and_constants_of_libraries_are_no_captures() -> None:
    def f(x, v):
        a = torch.tensor(0.5)
        return v, v * math.pi + torch.pi * x + a

    assert assert_same(f, {"v": 0.1}, {}).params == ()


RESULTS: list[tuple[Callable[..., Any], str, str]] = [
    (lambda x, v: v + x, "f returned the traced tensor v + x", "(outputs, states)"),
    (lambda x, v: (v + x,), "f returned 1 values, for 1 states", "outputs, then one value"),
    (lambda x, v: (v + x, {}), "f returns no value of the states v", "a value for each state"),
    (lambda x, v: (v, {"v": x, "w": v}), "no state 'w'", "v"),
    (lambda x, v: {"charge": {"v": x}, "fires": v}, "unknown key 'fires'", "fire"),
    (lambda x, v: {"charge": v}, "it is the traced tensor v", "a dict"),
    (lambda x, v: {"charge": {"w": v}}, "no state 'w'", "v"),
    (lambda x, v: {"charge": {"v": x + v}, "reset": {"v": 0.0}}, "reset without fire", ""),
    (lambda x, v: (v, "0"), "'0'", "numbers"),
    (lambda x, v: (spiked(v + x - spiked(v - 1)), v + x), "a spike depends on another spike", ""),
]


@pytest.mark.parametrize(("f", "problem", "accepted"), RESULTS)
def test_another_result_is_refused(f: Callable[..., Any], problem: str, accepted: str) -> None:
    with refused(lnm.ModelError, None, problem, accepted) as caught:
        traced(f)
    assert caught.value.where.startswith("trace traced")
    assert ("Detach that spike" in caught.value.remedy) == ("spike" in problem)


def test_a_surrogate_that_is_no_step_is_refused() -> None:
    class Soft(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor) -> Tensor:
            return torch.sigmoid(z)

    def f(x, v):
        return Soft.apply(v), v + x

    with refused(lnm.ModelError, None, "Soft is sigmoid(z) for z", "1 where its first argument"):
        traced(f)


def test_arguments_are_validated() -> None:
    """Names, their kinds, and a parameter that is declared with lnm.param."""

    def f(x, v, theta):
        return v, theta[0] + theta[1] * v + theta[-1] * v**2 + x

    tau = lnm.param("theta", size=2, init=(0.1, 0.2), learnable=False, per="channel")
    neuron = traced(f, params={"theta": tau})
    assert [(p.name, p.size, p.learnable, p.per) for p in neuron.params] == [
        ("theta", 2, False, "channel")
    ]
    assert traced(f, params={"theta": torch.ones(3)}).params[0].size == 3
    assert_refused(
        """
trace
    traced(f) >> f takes 'theta', which is no state
    traced(f, params={"theta": [1.0, 2.0], "a": 1.0}) >> f takes no 'a'
    traced(f, params={"v": 1.0}) >> 'v' is declared twice
    traced(f, inputs="x") >> inputs is 'x' >> a list of names
    traced(f, params={"b": tau}) >> the parameter 'theta' is given for 'b'
""",
        {"traced": traced, "f": f, "tau": tau},
    )
    with refused(lnm.ModelError, None, "an operation on the whole vector 'theta'"):
        traced(lambda x, v, theta: (v, v * theta + x), params={"theta": [1.0, 2.0]})


def test_the_base_of_autograd_is_as_before() -> None:
    """Tracing leaves no trace in PyTorch, also after an error."""
    with pytest.raises(lnm.ModelError):
        traced(lambda x, v: (v, max(v, x)))
    assert "apply" not in vars(torch.autograd.Function.__mro__[1])
    z = torch.ones(2, requires_grad=True)
    spiked(z).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [0.5, 0.5]
