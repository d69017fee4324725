"""Bound values and sub-steps: meaning, names, copies, refusals, and a cost linear in k."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.language.binding import Bound, bindings_of
from lnm_codegen.language.neuron import equations
from tests.cases import fitzhugh
from tests.refusals import assert_refused, refused
from tests.strategies import arguments_for, few, generators, neurons, shapes

v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
p = lnm.param("p", init=0.5)


def neuron(charge: Any, **more: Any) -> lnm.Neuron:
    return lnm.Neuron(charge=charge, **({"output": {"out": v, "given": x}} | more))


def written_out(neuron: lnm.Neuron) -> lnm.Neuron:
    """Return the neuron with each bound value replaced by its definition."""
    table: dict[Any, Any] = {}

    def whole(e: Any) -> Any:
        args = [whole(a) for a in e.args]
        return table.get(e, e) if not args else e.func(*args)

    for symbol, definition in neuron.bindings:
        table[symbol] = whole(definition)
    return lnm.Neuron(
        charge={s: whole(e) for s, e in neuron.charge},
        fire={s: whole(e) for s, e in neuron.fire},
        reset={s: whole(e) for s, e in neuron.reset},
        output={n: whole(e) for n, e in neuron.output},
        surrogate={s: dict(neuron.surrogates)[s.name] for s, _ in neuron.fire},
        detach_reset=neuron.detach_reset,
        name=neuron.name,
    )


@settings(few, max_examples=6)
@given(neurons(binds=True), generators(), shapes())
def test_a_bound_value_is_its_expression(n, rng, shape):
    """Values and gradients are those of the neuron without bound values, in every phase."""
    plain = written_out(n)
    assert not plain.bindings
    a = arguments_for(n, rng, shape)
    ours, theirs = a.interpret(n), a.interpret(plain)
    for kind in ("outputs", "states", "grads"):
        for name, value in getattr(ours, kind).items():
            other = getattr(theirs, kind)[name]
            np.testing.assert_allclose(other, value, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_phase_computes_a_bound_value_once():
    """Two charges share it; a phase after the charge computes it from the charged states."""
    b = lnm.bind(v * x, "b")
    n = neuron({v: v + b, w: w - b}, reset={v: b}, output={"out": b})
    lets = [f"{let.target.name} = {ir.expr_text(let.value)}" for let in lnm.lower(n).forward.body]
    assert lets == ["b = x * v", "h = b + v", "h_w = w - b", "b_2 = x * h", "out = b_2",
                    "v_next = b_2", "w_next = h_w"]  # fmt: skip
    result = lnm.interpret(n, np.full((1, 1), 2.0), state={"v": [3.0], "w": [1.0]})
    assert (result.out[0, 0], result.states["v"][0], result.states["w"][0]) == (18, 18, -5)


def test_what_needs_no_name_is_returned():
    """A number, a symbol, a bound value."""
    assert lnm.bind(2) == 2
    assert lnm.bind(v) is v
    assert lnm.bind(1.0 * v) is v
    assert lnm.bind(lnm.spike) is lnm.spike
    b = lnm.bind(v + x)
    assert lnm.bind(b) is b


@pytest.mark.slow
def test_no_pass_expands_it():
    """A power of a sum of powers: degree 4096 written out, two short Lets here."""
    inner = v**64 + x
    with refused(lnm.ModelError, "neuron.charge[v]", "a polynomial has degree 4096"):
        neuron({v: inner**64})
    n = neuron({v: lnm.bind(inner) ** 64})
    assert len(lnm.lower(n).forward.body) < 24
    found = lnm.interpret(n, np.zeros((1, 1)), state={"v": [1.0]}, grad_out=(1.0, 0.0))
    assert found.out[0, 0] == 1
    assert found.grads["v"][0] == 4096


def test_names():
    """Equal names are numbered in the order of their making, beside the names of the neuron."""
    first, second = lnm.bind(v + x, "k"), lnm.bind(v - x, "k")
    third, taken = lnm.bind(first * second, "k"), lnm.bind(v * x, "w")
    n = neuron({v: third + taken, w: w / 2})
    assert equations(n)[:6] == (
        "bound   k = v + x", "bound   k_2 = v - x", "bound   k_3 = k*k_2", "bound   w_2 = v*x",
        "charge  v <- k_3 + w_2", "charge  w <- w/2",
    )  # fmt: skip
    assert "k_3 = k_2 * k" in str(lnm.lower(n).forward)
    assert "\\text{bound} & k_{3} = k \\, k_{2}" in n._repr_latex_()
    assert str(lnm.bind(v + 1)) == "bound"


def test_further_outputs():
    """They read bound values of the neuron, before and after a change of it, and new ones."""
    old, again = lnm.bind(p * v, "k"), lnm.bind(p * x, "k")
    n = neuron({v: old + again}).with_per("channel")
    new = lnm.bind(again + 1, "k")
    n = n.with_outputs(a=2 * old, b=new + again).with_counts(c=lnm.bind(3 * new, "k"))
    assert [f"{s} = {e}" for s, e in n.bindings] == [
        "k = p*v", "k_2 = p*x", "k_3 = k_2 + 1", "k_4 = 3*k_3",
    ]  # fmt: skip
    assert str(dict(n.output)["b"]) == "k_2 + k_3"
    read = {s for _, e in n.bindings for s in e.free_symbols}
    assert read <= {*n.symbols, *(s for s, _ in n.bindings)}
    result = lnm.interpret(n, np.full((1, 1, 1), 4.0), state={"v": [[2.0]]})
    assert [float(o[0, 0, 0]) for o in result.outputs.values()] == [3, 4, 3, 5]
    assert result.counts == {"c": 9}
    with refused(lnm.ModelError, "neuron.with_outputs[d]", "'w' is a symbol of another neuron"):
        n.with_outputs(d=lnm.bind(w + v))


def test_a_symbol_from_a_pickle_has_no_definition():
    """Alone it is a symbol of another neuron; its own neuron knows it."""
    b = lnm.bind(v + x, "b")
    n = pickle.loads(pickle.dumps(neuron({v: b * 2})))
    (stranger,) = (s for s, _ in n.bindings)
    assert isinstance(stranger, Bound)
    assert stranger.definition is None
    assert bindings_of([stranger]) == ()
    assert str(dict(n.with_outputs(more=stranger).output)["more"]) == "b"
    with refused(lnm.ModelError, "neuron.charge", "'b' is a symbol of another neuron"):
        neuron({v: stranger + 1})


def test_substeps():
    """The values of each sub-step are bound; the words name them, with the number of the step."""
    seen = []

    def euler(a, b):
        seen.append((str(a), str(b)))
        return a + (b + x) / 4, b - a / 4

    last = lnm.substeps(2, euler, v=v, w=w)
    assert seen == [("v", "w"), ("v_1", "w_1")]
    assert [str(e) for e in last] == ["v_2", "w_2"]
    n = neuron({v: last[0], w: last[1]})
    a, b, i = 0.5, -0.25, 2.0
    found = lnm.interpret(n, np.full((1, 1), i), state={"v": [a], "w": [b]})
    for _ in range(2):
        a, b = a + (b + i) / 4, b - a / 4
    assert (found.states["v"][0], found.states["w"][0]) == (a, b)
    (alone,) = lnm.substeps(1, lambda a: a / 2, v=v)
    assert str(alone) == "v_1"
    assert lnm.substeps(3, lambda a: [a], v=v) == (v,)


REFUSALS = """
substeps >> from 1 to 1000
    lnm.substeps(0, lambda a: a, v=v) >> k is 0
    lnm.substeps(1001, lambda a: a, v=v) >> k is 1001
    lnm.substeps(2.0, lambda a: a, v=v) >> k is 2.0
    lnm.substeps(2, v, v=v) >> step is v >> a function of expressions
    lnm.substeps(2, lambda: v) >> no values >> v=v, w=w
    lnm.substeps(2, lambda a, b: (a, b, a), v=v, w=w) >> step returned 3 expressions
        >> one for each of v, w
    lnm.substeps(2, lambda a: a, v=v, w=w) >> step: too many positional arguments
        >> a function of v, w
?
    lnm.substeps(1, lambda a: "a", v=v) >> bind 'v_1': 'a' is a str >> numbers
    lnm.bind(v + 1, "a b") >> bound value 'a b': not an identifier
    lnm.bind(v + 1, "grad_v") >> bound value 'grad_v': generated code makes names
    lnm.bind(v**65, "k") >> bind 'k': the exponent in v**65 is too large
    neuron({v: lnm.bind(v + lnm.spike)}, fire=v) >> neuron.charge: reads the spike
    lnm.surrogate.from_slope(lambda z: lnm.bind(1 / (1 + z**2), "k"))
        >> surrogate 'custom': the formula reads k >> z and numbers
    neuron({v: lnm.substeps(1000, lambda a: a / 2 + x, v=lnm.bind(v + x))[0]})
        >> neuron: it reads 1001 bound values >> at most 1000 >> use fewer sub-steps
    fitzhugh(1, lambda value, name: value)
        >> fitzhugh.charge[v]: a polynomial has degree 81 >> at most 64
"""


def test_refusals() -> None:
    """The last one is the RK4 step of FitzHugh-Nagumo, written out."""
    assert_refused(REFUSALS, globals())


def runge_kutta(x: Any, start: Any, a: float, epsilon: float, k: int) -> tuple[Any, Any]:
    """Return the trajectory (T + 1, 2, N) of FitzHugh-Nagumo and the states it fires in, by NumPy.

    Each time step has the length 1/4 and k sub-steps of the classical Runge-Kutta method.
    """
    h = 0.25 / k

    def slope(s: Any, x: Any) -> Any:
        return np.stack([s[0] - s[0] ** 3 / 3 - s[1] + x, epsilon * (s[0] + a - 0.8 * s[1])])

    states = [np.array(start)]
    for now in x:
        s = states[-1]
        for _ in range(k):
            first = slope(s, now)
            second = slope(s + h / 2 * first, now)
            third = slope(s + h / 2 * second, now)
            fourth = slope(s + h * third, now)
            s = s + h / 6 * (first + 2 * second + 2 * third + fourth)
        states.append(s)
    return np.array(states), np.array(states)[1:, 0] >= 1


def test_fitzhugh_nagumo_is_its_runge_kutta_method() -> None:
    """States and spikes of 150 steps, which fire, are those of a loop in NumPy."""
    k, rng = 3, np.random.default_rng(0)
    x, start = rng.normal(0.6, 0.3, (150, 3)), rng.normal(0, 0.5, (2, 3))
    neuron, first = fitzhugh(k).with_per("layer"), {"v": start[0], "w": start[1]}
    found = lnm.interpret(neuron, x, state=first, a=0.7, epsilon=0.08)
    states, fires = runge_kutta(x, start, 0.7, 0.08, k)
    assert 0.05 < fires.mean() < 0.95
    np.testing.assert_array_equal(found.outputs["spike"], fires)
    for n, name in enumerate("vw"):
        np.testing.assert_allclose(found.trajectory[name], states[:-1, n], rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(found.states[name], states[-1, n], rtol=1e-11, atol=1e-11)


@pytest.mark.slow
def test_sub_steps_converge_to_the_differential_equation() -> None:
    """The error falls with the fourth power of the length: 16 times for twice the sub-steps."""
    x, start = np.full((40, 1), 0.7), np.array([[0.1], [0.2]])
    exact = runge_kutta(x, start, 0.75, 0.125, 256)[0][-1, :, 0]
    errors = []
    for k in (1, 2, 4):
        found = lnm.interpret(
            fitzhugh(k).with_per("layer"), x, state={"v": start[0], "w": start[1]}
        ).states
        errors.append(max(abs(found["v"][0] - exact[0]), abs(found["w"][0] - exact[1])))
    ratios = [coarse / fine for coarse, fine in itertools.pairwise(errors)]
    assert all(12 < ratio < 22 for ratio in ratios), ratios


def test_gradients_of_sub_steps_are_finite_differences() -> None:
    """Of the loop in NumPy, of a sum of potentials: each input, initial state and parameter."""
    k, rng = 2, np.random.default_rng(1)
    x, start, given = rng.normal(0.5, 0.4, (5, 2)), rng.normal(0, 0.6, (2, 2)), (0.7, 0.08)
    weights, last = rng.normal(size=(5, 2)), rng.normal(size=(2, 2))

    def loss(x: Any, start: Any, a: float, epsilon: float) -> float:
        states = runge_kutta(x, start, a, epsilon, k)[0]
        return float((weights * states[1:, 0]).sum() + (last * states[-1]).sum())

    def slope(place: int, index: tuple[int, ...] = ()) -> float:
        ends = []
        for step in (1e-5, -1e-5):
            moved = [np.array(e) for e in (x, start, *given)]
            moved[place][index] += step
            ends.append(loss(*moved))  # type: ignore[arg-type]
        return (ends[0] - ends[1]) / 2e-5

    grads = lnm.interpret(
        fitzhugh(k).with_per("layer"), x, state={"v": start[0], "w": start[1]}, a=given[0],
        epsilon=given[1], grad_out=(0.0, weights), grad_state={"v": last[0], "w": last[1]},
    ).grads  # fmt: skip
    for index in np.ndindex(x.shape):
        assert grads["x"][index] == pytest.approx(slope(0, index), rel=1e-6, abs=1e-8)
    for n, name in enumerate("vw"):
        for lane in range(2):
            wanted = slope(1, (n, lane))
            assert grads[name][lane] == pytest.approx(wanted, rel=1e-6, abs=1e-8)
    assert grads["epsilon"].sum() == pytest.approx(slope(3), rel=1e-6, abs=1e-8)
    assert grads["a"].sum() == pytest.approx(slope(2), rel=1e-6, abs=1e-8)


def sizes(k: int) -> tuple[int, ...]:
    program = lnm.lower(fitzhugh(k))
    kernels = (program.forward, program.backward)
    longest = (max(len(str(x.value)) for x in kernel.body) for kernel in kernels)
    return (*(len(kernel.body) for kernel in kernels), *longest, len(program.prepare.body))


@pytest.mark.slow
def test_kernels_grow_in_proportion_to_the_sub_steps():
    """Lets are added, not enlarged, also in sums of gradients; `prepare` stays as it is."""
    eight, sixteen, more = sizes(8), sizes(16), sizes(32)
    for low, middle, high in zip(eight[:2], sixteen[:2], more[:2], strict=True):
        assert high - middle <= 2 * (middle - low) + 8
    assert max(more[2:4]) <= 1.5 * max(eight[2:4])
    assert eight[4] == more[4]


@pytest.mark.slow
def test_many_sub_steps_do_not_exhaust_the_stack():
    """100 sub-steps of ten bound values."""
    n = fitzhugh(100)
    lnm.lower(n)
    assert pickle.loads(pickle.dumps(n)) == copy.deepcopy(n)


def test_a_bound_value_of_another_process_is_not_taken_for_a_new_one():
    """Orders begin anew in each process; a copy from a pickle may have that of a new value."""
    n = pickle.loads(pickle.dumps(neuron({v: lnm.bind(v + x) * 2})))
    ((old, _),) = n.bindings
    new: Any = Bound(old.name, old.decl, old.order, v * 10 + 7)
    more = n.with_outputs(q=new + 1)
    assert str(dict(more.output)["q"]) == "bound_2 + 1"
    assert [(s.name, str(e)) for s, e in more.bindings] == [
        ("bound", "v + x"), ("bound_2", "10*v + 7")
    ]  # fmt: skip
    again = more.with_outputs(r=new - 1)  # the same value is not computed twice
    assert len(again.bindings) == 2
