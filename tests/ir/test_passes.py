"""Passes of the compiler: kernels as text before and after, and random kernels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings

import lnm_codegen as lnm
from lnm_codegen.errors import InternalError
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.kernel import walk
from lnm_codegen.ir.nodes import Detach, Expr, Kernel, Role
from lnm_codegen.ir.passes.hoist import hoist
from lnm_codegen.ir.passes.polynomials import collect, estrin, horner, nest
from lnm_codegen.ir.passes.simplify import (
    at_unit_gradient,
    cse,
    dce,
    fold,
    inline,
    keep_results,
    undetach,
)
from lnm_codegen.ir.polynomial import is_polynomial
from lnm_codegen.ir.verify import verify, verify_program
from lnm_codegen.language.normalisation import channel_sums
from tests.ir.kernels import (
    PI,
    N,
    Stages,
    body,
    evaluated,
    identity,
    kernel,
    lets,
    ordered,
    raw_values,
    same_results,
)
from tests.refusals import refused
from tests.strategies import few, generators, neurons

SCHEMES = ("horner", "estrin")
CUBIC = "c0 + c1 * v + c2 * v**2 + c3 * v**3"
NESTED = "fma(fma(fma(c3, v, c2), v, c1), v, c0)"
UNDECIDED = "select(v < x, v, x)"

FOLD = {
    "1 * v": "v", "v * 1": "v", "v / 1": "v", "v + 0": "v", "0 + v": "v", "v - 0": "v",
    "2 + 1/3": "7/3", "2 * (1/3)": "2/3", "2 / (1/3)": "6", "1/3 - 2": "-5/3", "--v": "v",
    "(1 + 0) * (v + 0 * 2)": "v", "select(v < x, 0, 0)": "0", "detach(1/3)": "1/3",
    "detach(detach(v))": "detach(v)", "1 * pi": "pi", "pi * 1": "pi", "pi / 1": "pi",
    "0 + pi": "pi", "pi - 0": "pi", "pi - pi": "0",
    "select(1/3 < pi, v, x)": "v", "select(pi != pi, v, x)": "x",
    "select(not 1 >= 1, v, x)": "x", "select(1 > 2 and v < x, v, x)": "x",
    "select(v < x or 2 == 2, v, x)": "v", "select(v < x and 1 <= 2, v, x)": UNDECIDED,
    "select(2 < 1 or v < x, v, x)": UNDECIDED,
}  # fmt: skip
KEPT = [  # 0*v, v - v and v/v are NaN where v is not finite
    "0 * v", "v * 0", "v - v", "v / v", "0 / v", "v / 0", "1 / 0", "0 - v", "1 / v", "-1 * v",
    "select(v < x, v, v)", "pi * v", "select(v < x and v < x, v, x)",
]  # fmt: skip
COLLECT = {
    "p * (v - x)": "p * v - p * x",
    "(v + 1) * (v + 2)": "v * v + 3 * v + 2",
    "v * (v + 1)": "v * v + v",
    "(v + 1)**2": "t0 = v + 1; t0 * t0",
    "c2 * (v + 1)**3 + (c1 * (v + 1) + c0)": "t0 = v + 1; c2 * t0 * t0 * t0 + c1 * t0 + c0",
    "(v + 1) * (v + 2) * (v + 3)": "t0 = v * v + 3 * v + 2; t1 = v + 3; t0 * t1",
    "v - v": "0 * v",
    "p * v - p * v": "(p - p) * v",  # a NaN still reaches the result
    "(v + x) * (w + y)": "t0 = v + x; t1 = w + y; t0 * t1",
    "(v + x)**3": "t0 = v + x; t0 * t0 * t0",
    "c2 * (v + x)**2 + (c1 * (v + x) + c0)": "t0 = v + x; c2 * t0 * t0 + c1 * t0 + c0",
    "exp(v + x)": "t0 = v + x; exp(t0)",
    "exp(v) + exp(v) * x": "t0 = exp(v); t0 + t0 * x",
    "(v + x) / (w * w)": "t0 = v + x; t1 = w * w; t0 / t1",
    "select(2 * v < x, v * w, p)": "t0 = 2 * v; t1 = t0 < x; t2 = v * w; select(t1, t2, p)",
    "p * q / (p + c0)": "p * q / (p + c0)",
    "-(p * v)": "-(p * v)",
    "spike(v; slope 1 / (1 + v))": "spike(v; slope 1 / (1 + v))",
}
HORNER = {
    CUBIC: NESTED,
    f"{CUBIC} + x": f"{NESTED} + x",
    f"{CUBIC} + p * x": f"fma(p, x, {NESTED})",
    f"{CUBIC} - x": f"{NESTED} - x",
    "c0 + c1 * v + x": "fma(c1, v, c0) + x",
    "c1 * v - c0 + x": "fma(c1, v, -c0) + x",
    "x + c0 - c1 * v": "fma(-c1, v, c0) + x",
    "p * x + (y + c1 * v)": "fma(p, x, fma(c1, v, y))",
    "p * x + c1 * v": "fma(p, x, c1 * v)",
    "p * x - c1 * v": "fma(p, x, -(c1 * v))",
    f"p * x + q * w + ({CUBIC})": f"fma(p, x, fma(q, w, {NESTED}))",
    "p * x + c2 * v**2": "fma(p, x, c2 * v * v)",
    "x + c1 * v + c2 * v**2": "fma(fma(c2, v, c1), v, x)",
    "x + w + c2 * v**2": "fma(c2 * v, v, w) + x",
    f"{CUBIC.replace('v', 'x')} + w + p * v**2": (
        f"fma({NESTED[4:-8].replace('v', 'x')}, x, fma(p * v, v, c0) + w)"
    ),
    "x - w + p * y": "fma(p, y, x - w)",
    "v * v + 1": "fma(v, v, 1)",
    "c3 * v**3 + c0": "fma(c3 * v * v, v, c0)",
    "p * v**3": "p * v * v * v",
    "v**2": "v * v",
    "v**8": "v * v * (v * v) * (v * v * (v * v))",
    "v + x": "v + x",
    "p * v - q * x": "fma(-q, x, p * v)",
    "p * q": "p * q",
    "v * w + p * v": "(w + p) * v",
}
ESTRIN = {f"{CUBIC} + x": "fma(fma(c3, v, c2), v * v, fma(c1, v, c0)) + x"}


@pytest.mark.parametrize(
    ("pass_", "before", "after"),
    [
        *((fold, *row) for row in FOLD.items()),
        *((fold, text, None) for text in KEPT),
        *((collect, *row) for row in COLLECT.items()),
        *((horner, *row) for row in HORNER.items()),
        *((estrin, *row) for row in ESTRIN.items()),
    ],
)
def test_one_expression(pass_: Callable[[Kernel], Kernel], before: str, after: str | None) -> None:
    k = kernel(before)
    changed = pass_(k)
    if after is None:
        assert changed is k
    else:
        *first, last = after.split("; ") if not after.startswith("spike") else [after]
        assert body(verify(changed)) == [*first, f"h0 = {last}"]
        assert after != "pi" or changed.body[0].value == PI


@pytest.mark.parametrize(
    ("pass_", "values", "after"),
    [
        # Commutative operands may be turned; those of a difference may not.
        (cse, ["exp(v * x)", "w + x * v", "fma(v, x, w)", "fma(x, v, w)"],
         ["t0 = v * x", "h0 = exp(t0)", "h1 = w + t0", "h2 = fma(v, x, w)", "h3 = h2"]),
        (cse, ["v - x", "x - v"], ["h0 = v - x", "h1 = x - v"]),
        # A value that has a name is not computed again; parameters are as good as variables.
        (cse, ["v * x", "v * x + w"], ["h0 = v * x", "h1 = h0 + w"]),
        (cse, ["p * q * v", "p * q * x"], ["t0 = p * q", "h0 = t0 * v", "h1 = t0 * x"]),
        # The operand of a repeated sign gets a Let, the sign does not.
        (cse, ["fma(-(v * x), w, y)", "fma(-(v * x), y, w)"],
         ["t0 = v * x", "h0 = fma(-t0, w, y)", "h1 = fma(-t0, y, w)"]),
    ],
)  # fmt: skip
def test_several_expressions(
    pass_: Callable[[Kernel], Kernel], values: list[str], after: list[str]
) -> None:
    assert body(verify(pass_(kernel(*values)))) == after


@pytest.mark.parametrize(
    ("pass_", "before", "results", "after"),
    [
        (cse, ["t0 = v * x", "t1 = t0", "h = t1 + w"], "h", ["t0 = v * x", "h = t0 + w"]),
        (cse, ["h = v + x", "z = h", "a = z * z + w", "b = h * h + y"], "a b",
         ["h = v + x", "t0 = h * h", "a = t0 + w", "b = t0 + y"]),  # a copy shows a repetition
        # A result called t0 is no temporary: cse once gave its Let the name of a copy.
        (cse, ["t0 = v * x", "h = v * x"], "t0 h", ["t0 = v * x", "h = t0"]),
        (inline, ["t0 = v * x", "h = t0"], "t0 h", ["t0 = v * x", "h = t0"]),
        (inline, ["t0 = v * x", "t1 = t0 + w", "h = t1 - y"], "h", ["h = v * x + w - y"]),
        (inline, ["t0 = v * x", "h = t0 + t0"], "h", ["t0 = v * x", "h = t0 + t0"]),
        (inline, ["dh_dv = v * x", "h = dh_dv + w"], "h", ["dh_dv = v * x", "h = dh_dv + w"]),
        (dce, ["t0 = v * x", "t1 = t0 + w", "h = v + w"], "h", ["h = v + w"]),
        (partial(keep_results, names={"h"}), ["t0 = v", "h = w"], "t0 h", ["h = w"]),
        # The operand of a detached number takes the place of its name, and products are shared.
        (undetach, ["h0 = detach(v)", "h1 = h0 * x", "h2 = v * x"], "h1 h2",
         ["h1 = v * x", "h2 = h1"]),
        # Each nested sum is a Let; a polynomial of one variable stays, as does one not named.
        (partial(nest, targets={ir.Var("h0")}),
         ["h0 = c0 + c1 * v + c2 * (v * w) + c3 * v**2 + x", "h1 = p * v + x"], "h0 h1",
         ["t0 = c1 + c2 * w + c3 * v", "h0 = c0 + x + v * t0", "h1 = p * v + x"]),
    ],
)  # fmt: skip
def test_several_lets(
    pass_: Callable[[Kernel], Kernel], before: list[str], results: str, after: list[str]
) -> None:
    assert body(verify(pass_(lets(*before, results=results)))) == after


def test_nothing_to_do() -> None:
    k = kernel("v * w + x")
    assert nest(k, frozenset()) is k
    for neuron in (lnm.get("lif"), lnm.get("lif").with_detach_reset(True)):
        k = lnm.lower(neuron).forward
        assert undetach(k) is k


@pytest.mark.parametrize(("text", "expected"), [("0 * v", 0), ("v - v", 0), ("v / v", 1)])
def test_a_nan_reaches_the_result(text: str, expected: int) -> None:
    """Terms that cancel by hand are not finite if v is not."""
    k = kernel(text)
    values = {p.var.name: 1.0 for p in k.inputs}
    values["v"] = np.resize([np.nan, np.inf, -np.inf, 3.0], N)
    found = evaluated(fold(k), values)["h0"][:4]
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, expected])


def test_collect_comes_first() -> None:
    """A function inside a polynomial is a mistake of the pipeline."""
    with refused(InternalError, "polynomial", "contains Call", "", "Run collect first."):
        horner(kernel("p * exp(v) + y"))


def test_the_work_of_cse_is_linear_in_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was quadratic: each term read all terms before it again."""
    map_children, calls = ir.map_children, Counter[int]()

    def work(terms: int) -> int:
        def counted(e, f):
            calls[terms] += 1
            return map_children(e, f)

        total = kernel("v + " + " + ".join(f"x * {k + 2}" for k in range(terms)))
        monkeypatch.setattr(ir, "map_children", counted)
        cse(total)
        return calls[terms]

    assert work(90) < 3.5 * work(30)


@pytest.mark.parametrize(
    ("values", "prepared", "step"),
    [
        # Names say what was moved.
        (["1 / p * v", "2 * p * v", "sigmoid(p) * v", "(p - q) * v", "12 * v"],
         ["inv_p = 1 / p", "p_x2 = 2 * p", "sigmoid_p = sigmoid(p)", "p0 = p - q"],
         ["h0 = inv_p * v", "h1 = p_x2 * v", "h2 = sigmoid_p * v", "h3 = p0 * v", "h4 = 12 * v"]),
        # A sign is no work: subtraction and fma take it for nothing. A BOOL is no parameter.
        (["-p + v"], [], ["h0 = -p + v"]),
        (["select(p * q < 1, v, x)"], ["p0 = p * q"], ["h0 = select(p0 < 1, v, x)"]),
        (["c0 / q * v", "c1 + v"], ["p0 = c0 / q"], ["h0 = p0 * v", "h1 = c1 + v"]),
    ],
)  # fmt: skip
def test_hoist(values: list[str], prepared: list[str], step: list[str]) -> None:
    """PARAM ports that no Let reads are dropped; the new ones come last."""
    k = kernel(*values)
    prepare, moved = hoist(identity(k), k)
    assert (body(verify(prepare)), body(verify(moved))) == (prepared, step)
    params = moved.input_names(Role.PARAM)
    assert set(params) == {v.name for v in moved.reads} - {"v", "w", "x", "y"}
    new = [line.split(" = ")[0] for line in prepared]
    assert [*params] == [*(n for n in params if n not in new), *new]
    assert moved.input_names(Role.STATE) == ("v", "w")


def test_the_same_expression_is_prepared_once() -> None:
    one, other = kernel("1 / p * v"), kernel("x / (p + 1 / p)")
    prepare, first, second = hoist(identity(one), one, other)
    assert body(prepare) == ["inv_p = 1 / p", "p0 = p + 1 / p"]
    assert first.input_names(Role.PARAM) == ("inv_p",)
    assert second.input_names(Role.PARAM) == ("p0",)


def test_the_slope_of_a_spike_follows_its_argument() -> None:
    """`fire=w - 0.2` once left `z` in the slope after it had become a parameter."""
    k = lets("z = p - q", "fired = spike(z; slope 1 / (1 + z))", results="fired")
    prepare, moved = hoist(identity(k), k)
    assert body(verify(prepare)) == ["p0 = p - q"]
    assert body(verify(moved)) == ["fired = spike(p0; slope 1 / (1 + p0))"]


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_a_spike_that_parameters_decide_stays_in_the_step(reset: str) -> None:
    """It is a BOOL, no prepared parameter; `collect` once took it for a coefficient."""
    v, x, w = lnm.state("v"), lnm.input("x"), lnm.param("w", init=0.5)
    resets = {"soft": lnm.soft_reset(v, w), "hard": lnm.hard_reset(v, w)}
    neuron = lnm.Neuron(charge={v: v / 2 + x}, fire=w - 1, reset=resets[reset])
    program = lnm.lower(neuron, on_pass=lambda _, k: verify(k))
    assert body(program.prepare)[0] == "p0 = w - 1"
    assert "fired = spike(p0; slope 1 / ((pi**2) * p0**2 + 1))" in body(program.forward)


@pytest.mark.parametrize("word", ["t0", "t1"])
def test_a_port_named_like_a_temporary_keeps_its_name(word: str) -> None:
    """An input that is only copied to a state: once the copy was lost, and the state with it."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input(word)
    neuron = lnm.Neuron(charge={v: 0.5 * v + w + x, w: x}, fire=v - 1, reset={v: 0.0})
    program = lnm.lower(neuron)
    verify(program.forward)
    verify(program.backward)
    assert f"w_next = {word}" in body(program.forward)


def test_plif() -> None:
    """sigmoid(w) and 1 - sigmoid(w) are prepared; the step has one multiply-add."""
    program = lnm.lower(lnm.get("plif"))
    assert body(program.prepare) == ["sigmoid_w = sigmoid(w)", "p0 = 1 - sigmoid_w"]
    assert body(program.forward)[0] == "h = fma(sigmoid_w, x, p0 * v)"


def test_estrin_computes_a_square_once() -> None:
    assert body(lnm.lower(lnm.get("lnm", degree=5), "estrin").forward)[:2] == [
        "t0 = v * v",
        "h = fma(fma(theta_5, v, theta_4), t0 * t0, fma(fma(theta_3, v, theta_2), t0,"
        " fma(theta_1, v, theta_0))) + x",
    ]


def depth(e: Expr) -> int:
    """Return the longest chain of operations of `e`."""
    return 0 if ir.is_atom(e) else 1 + max(depth(c) for c in ir.children(e))


@pytest.mark.parametrize("degree", range(1, 9))
def test_polynomials_of_a_degree(degree: int) -> None:
    """Horner: a chain of `degree` multiply-adds, then the input. Estrin: of logarithmic length.

    The slope takes degree - 1. The gradient of a coefficient is that of the one before it times v.
    """
    neuron = lnm.get("lnm", degree=degree)
    for scheme, length in (("horner", degree), ("estrin", math.ceil(math.log2(degree + 1)))):
        program = lnm.lower(neuron, scheme)
        values = {let.target.name: let.value for let in program.forward.body}
        h = inline_all(program.forward, values["h"])
        assert (depth(h), h.rhs) == (length + 1, ir.Var("x"))
        assert sum(isinstance(e, ir.Fma) for e in ir.walk(values["h"])) == degree
    program = lnm.lower(neuron)
    slopes = [let.value for let in program.backward.body if let.target.name == "dh_dv"]
    assert sum(isinstance(n, ir.Fma) for e in slopes for n in ir.walk(e)) == max(degree - 1, 0)
    lines = body(program.backward)
    assert {"grad_theta_0 = grad_h", "grad_theta_1 = grad_h * v"} <= {*lines}
    for k in range(2, degree + 1):
        assert f"grad_theta_{k} = grad_theta_{k - 1} * v" in lines


def inline_all(k: Kernel, e: Expr) -> Expr:
    """Return `e` with the values of all temporaries."""
    table: dict[ir.Var, Expr] = {}
    for let in k.body:
        if let.target.name[0] == "t":
            table[let.target] = ir.substitute(let.value, table)
    return ir.substitute(e, table)


def test_gradients_of_parameters_alone() -> None:
    """A backward that takes each output's gradient as 1 reads no gradient."""
    program = at_unit_gradient(lnm.lower(channel_sums()))
    verify(program.backward)
    learned = keep_results(program.backward, {"grad_c", "grad_linear", "grad_quadratic"})
    assert {v.name for v in learned.reads} == {"c", "pivot", "d", "grad_linear"}
    assert {"grad_c = 0", "grad_linear = d"} <= {*body(program.backward)}
    assert "quadratic_x2" not in str(program.prepare)


def test_the_sums_are_gradients() -> None:
    """Of a neuron whose output has the gradient 1: sums of d and d**2 for each channel."""
    c = np.random.default_rng(0).normal(size=(4, 2, 3, 5))
    pivot = np.array([0.5, -1.0, 2.0])
    grads = lnm.interpret(channel_sums(), c, pivot=pivot, grad_out=1.0).grads
    d = c - pivot.reshape(3, 1)
    np.testing.assert_allclose(grads["linear"], d.sum((0, 1, 3)), rtol=1e-9)
    np.testing.assert_allclose(grads["quadratic"], (d**2).sum((0, 1, 3)), rtol=1e-9)


# Properties of the passes on random neurons.


def is_flat(k: Kernel) -> bool:
    """Report whether each Let is a polynomial, or one operator on atoms, parameters apart."""
    decided = {p.var for p in k.inputs if p.role is Role.PARAM}
    for let in k.body:
        e = let.value
        if ir.variables(e) <= decided and let.target.type is ir.REAL:
            decided.add(let.target)
        elif not is_polynomial(e):
            for child in ir.children(e):
                if not (ir.is_atom(child) or ir.variables(child) <= decided):
                    return False
    return True


def steps_with(kind: type[Expr], k: Kernel) -> list[Expr]:
    """Return the nodes of a kind that read more than parameters, which `hoist` moves."""
    params = {p.var for p in k.inputs if p.role is Role.PARAM}
    nodes = (e for let in k.body for e in ir.walk(let.value) if isinstance(e, kind))
    return [e for e in nodes if not ir.variables(e) <= params]


@settings(few, max_examples=20)
@given(neurons(stops=True, binds=True), generators())
def test_passes_keep_ports_and_values(neuron: lnm.Neuron, rng: np.random.Generator) -> None:
    """Bit for bit, or up to rounding; of every kind of number, or at finite arguments."""
    s = Stages(neuron)
    sums = {
        let.target for let in s.forward.body
        if isinstance(let.value, ir.Binary) and let.value.op in (ir.BinaryOp.ADD, ir.BinaryOp.SUB)
    }  # fmt: skip
    grads = {n: rng.uniform(-1, 1, N) for n in s.adjoint.input_names(Role.GRAD)}
    finite, special = (s.prepared(raw_values(neuron, rng, kind)) | grads for kind in (False, True))
    exact = (cse, dce, inline, lambda k: inline(cse(k)))
    for k, pass_ in product((s.built, s.forward, s.raw_adjoint, s.adjoint), exact):
        check(k, pass_, finite, bits=True)
        check(k, pass_, special, bits=True)
    check(s.built, fold, special, bits=False)
    for k, passes in (
        (s.built, (fold,)),
        (s.folded, (collect,)),
        (s.raw_adjoint, (fold, collect)),
        (s.forward, (horner, estrin, partial(nest, targets=sums))),
        (s.adjoint, (horner, estrin)),
    ):
        for pass_ in passes:
            after = check(k, pass_, finite, bits=False)
            assert pass_ not in (horner, estrin) or not steps_with(ir.Power, after)
            assert pass_ is not fold or fold(after) is after
    after = check(s.forward, undetach, finite, bits=True)
    left = [e for let in after.body for e in ir.walk(let.value) if isinstance(e, Detach)]
    assert all(ir.type_of(e) is not ir.REAL for e in left)
    assert is_flat(s.collected)
    assert is_flat(s.adjoint)
    whole, step = evaluated(s.collected, special), evaluated(s.forward, special)
    for name in whole.keys() | step.keys():
        np.testing.assert_array_equal(step[name], whole[name])


def check(k: Kernel, pass_: Callable[[Kernel], Kernel], values: dict, bits: bool) -> Kernel:
    after = verify(pass_(k))
    assert (after.inputs, after.results) == (k.inputs, k.results)
    same_results(k, after, values, bits)
    return after


def check_program(program: ir.Program) -> None:
    """Assert that no kernel repeats an operation, a sign apart, or has a dead Let or a power."""
    for k in (program.forward, program.backward, program.prepare, program.prepare_backward):
        nodes = [e for let in k.body for e in walk(ordered(let.value)) if not ir.is_atom(e)]
        count = Counter(e for e in nodes if not isinstance(e, ir.Unary))
        assert not [ir.expr_text(e) for e, n in count.items() if n > 1], k
        assert dce(k) == k
        assert not any(isinstance(e, ir.Power) for e in nodes)


@pytest.mark.parametrize("name", FAMILIES)
def test_programs_of_families(name: str) -> None:
    for scheme in SCHEMES:
        check_program(lnm.lower(lnm.get(name), scheme))


@few
@given(neurons(stops=True, binds=True))
def test_programs(neuron: lnm.Neuron) -> None:
    """Every pass leaves a valid kernel, from build to the end, under both schemes.

    No operator of the step has only parameters under it, a sign excepted.
    """
    seen: list[str] = []

    def check(name: str, kernel: Kernel) -> None:
        verify(kernel)
        seen.append(name)

    for scheme in SCHEMES:
        program = verify_program(lnm.lower(neuron, scheme, on_pass=check))
        check_program(program)
        for k in (program.forward, program.backward):
            results = {p.var for p in k.results}
            values = [let.value for let in k.body if let.target not in results]
            params = {p.var for p in k.inputs if p.role is Role.PARAM}
            for e in (n for value in values for n in ir.walk(value) if not ir.is_atom(n)):
                read = ir.variables(e)
                negated = isinstance(e, ir.Unary) and isinstance(e.arg, ir.Var)
                work = read and read <= params and not negated and ir.type_of(e) is not ir.BOOL
                assert not work, ir.expr_text(e)
    steps = "build fold collect dce hoist hoist backward dce fold collect nest"
    end = "hoist hoist hoist cse inline cse inline"
    prepare = "keep_results fold collect keep_results backward fold collect horner fold horner"
    last = "cse inline cse inline"
    ways = (f"{steps} {word} {word} {end} {prepare} {last}" for word in SCHEMES)
    assert seen == " ".join(ways).split()


@few
@given(neurons(stops=True, binds=True))
def test_the_adjoint_repeats_the_step_and_is_linear(neuron: lnm.Neuron) -> None:
    """Gradients times 2 give results times 2, zeros give zeros, bit for bit."""
    stages, rng = Stages(neuron), np.random.default_rng(0)
    forward = {let.target: let for let in stages.forward.body}
    for let in stages.raw_adjoint.body:
        if let.target in forward and not isinstance(forward[let.target].value, Detach):
            assert let == forward[let.target]
    k = stages.adjoint
    values = {port.var.name: rng.uniform(0.5, 1.5, 8) for port in k.inputs}
    once, double, none = (
        run(k, values | {n: factor * values[n] for n in k.input_names(Role.GRAD)})
        for factor in (1, 2, 0)
    )
    for name, value in once.items():
        np.testing.assert_array_equal(double[name], 2 * value)
        assert not np.any(none[name])
