"""`cse`, `dce`, `inline`: no repeated work, no dead code, temporaries inlined."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Call, Fma, Fn, Kernel, Let, Phase, Port, Role, Unary, Var
from lnm_codegen.ir.passes.simplify import cse, dce, inline, keep_results
from lnm_codegen.ir.verify import verify
from tests.ir.passes.kernels import (
    P,
    Q,
    Stages,
    V,
    W,
    X,
    Y,
    body,
    kernel,
    raw_values,
    same_bits,
    same_ports,
    subexpressions,
    with_gradients,
)
from tests.strategies import few, generators, neurons

add, sub, mul = ir.add, ir.sub, ir.mul


def test_a_repeated_subexpression_becomes_a_let():
    """Also with commutative operands turned."""
    k = cse(kernel(Call(Fn.EXP, mul(V, X)), add(W, mul(X, V)), Fma(V, X, W), Fma(X, V, W)))
    assert body(k) == [
        "t0 = v * x", "h0 = exp(t0)", "h1 = w + t0", "h2 = fma(v, x, w)", "h3 = h2",
    ]  # fmt: skip


def test_a_let_that_is_there_is_used():
    """A value that has a name is not computed again under another."""
    k = cse(kernel(mul(V, X), add(mul(V, X), W)))
    assert body(k) == ["h0 = v * x", "h1 = h0 + w"]


def test_subtraction_does_not_commute():
    """v - x and x - v are two values."""
    k = cse(kernel(sub(V, X), sub(X, V)))
    assert body(k) == ["h0 = v - x", "h1 = x - v"]


def lets(*pairs: tuple[Var, ir.Expr], results: tuple[Var, ...]) -> Kernel:
    ports = tuple(Port(v, Role.STATE) for v in (V, W, X, Y))
    made = tuple(Let(target, value, Phase.CHARGE) for target, value in pairs)
    return Kernel("k", ports, made, tuple(Port(r, Role.OUTPUT) for r in results))


T0, T1, H = Var("t0"), Var("t1"), Var("h")


def test_copies_are_seen_through():
    """`t1 = t0` is no Let of its own."""
    k = cse(lets((T0, mul(V, X)), (T1, T0), (H, add(T1, W)), results=(H,)))
    assert body(k) == ["t0 = v * x", "h = t0 + w"]


def test_dce():
    """A Let that no result needs is dropped, and its operands with it."""
    k = lets((T0, mul(V, X)), (T1, add(T0, W)), (H, add(V, W)), results=(H,))
    assert body(dce(k)) == ["h = v + w"]
    assert body(keep_results(lets((T0, V), (H, W), results=(T0, H)), {"h"})) == ["h = w"]


def test_inline():
    """A temporary that is read once is inlined; a Let with another name stays."""
    k = lets((T0, mul(V, X)), (T1, add(T0, W)), (H, sub(T1, Y)), results=(H,))
    assert body(inline(k)) == ["h = v * x + w - y"]
    k = lets((T0, mul(V, X)), (H, add(T0, T0)), results=(H,))
    assert body(inline(k)) == ["t0 = v * x", "h = t0 + t0"]
    named = Var("dh_dv")
    k = lets((named, mul(V, X)), (H, add(named, W)), results=(H,))
    assert body(inline(k)) == ["dh_dv = v * x", "h = dh_dv + w"]


@few
@given(neurons(stops=True, binds=True), generators())
def test_keep_every_bit(neuron, rng):
    """On every kind of number, forward and adjoint; the ports stay."""
    stages = Stages(neuron)
    for special in (False, True):
        values = stages.prepared(raw_values(neuron, rng, special))
        for before in (stages.built, stages.forward, stages.raw_adjoint, stages.adjoint):
            given = with_gradients(before, values, rng)
            for pass_ in (cse, dce, inline):
                after = verify(pass_(before))
                same_ports(before, after)
                same_bits(before, after, given)
            same_bits(before, inline(cse(before)), given)


def twice(k: Kernel) -> list[str]:
    """Return the repeated operations; a sign does not count."""
    count = Counter(e for e in subexpressions(k) if not isinstance(e, Unary))
    return [ir_text(e) for e, n in count.items() if n > 1]


def ir_text(e: ir.Expr) -> str:
    return body(kernel(e))[0]


@few
@given(neurons(stops=True, binds=True))
def test_nothing_is_computed_twice(neuron):
    """A final kernel repeats no operation and has no dead Let."""
    for scheme in ("horner", "estrin"):
        program = lnm.lower(neuron, scheme)
        for k in (program.forward, program.backward, program.prepare, program.prepare_backward):
            assert twice(k) == []
            assert dce(k) == k


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scheme", ["horner", "estrin"])
def test_nothing_is_computed_twice_in_a_family(name, scheme):
    """The same for the families."""
    program = lnm.lower(lnm.get(name), scheme)
    for k in (program.forward, program.backward, program.prepare, program.prepare_backward):
        assert twice(k) == []


def test_the_work_is_linear_in_a_sum(monkeypatch):
    """It was quadratic: each term read all terms before it again."""
    map_children, calls = ir.map_children, Counter[int]()

    def work(terms: int) -> int:
        def counted(e, f):
            calls[terms] += 1
            return map_children(e, f)

        total: ir.Expr = V
        for k in range(terms):
            total = add(total, mul(X, ir.const(k + 2)))
        monkeypatch.setattr(ir, "map_children", counted)
        cse(kernel(total))
        return calls[terms]

    assert work(90) < 3.5 * work(30)


def test_a_result_keeps_its_name():
    """An output called t0 is no temporary: cse once gave its Let the name of a copy."""
    k = verify(cse(lets((T0, mul(V, X)), (H, mul(V, X)), results=(T0, H))))
    assert body(k) == ["t0 = v * x", "h = t0"]
    assert body(inline(k)) == ["t0 = v * x", "h = t0"]


def test_a_copy_seen_through_may_show_a_repetition():
    """z = h makes z*z and h*h one value, which one look at the kernel as it was misses."""
    z, a, b = Var("z"), Var("a"), Var("b")
    pairs = [(H, add(V, X)), (z, H), (a, add(mul(z, z), W)), (b, add(mul(H, H), Y))]
    assert twice(cse(lets(*pairs, results=(a, b)))) == []


def test_what_stands_under_a_repeated_sign_is_shared():
    """-(v*x) twice is v*x once: the operand of the sign gets a Let, the sign does not."""
    product = ir.neg(mul(V, X))
    k = cse(kernel(Fma(product, W, Y), Fma(product, Y, W)))
    assert body(k) == ["t0 = v * x", "h0 = fma(-t0, w, y)", "h1 = fma(-t0, y, w)"]


def test_parameters_are_as_good_as_variables():
    """A product of parameters is shared like any other."""
    k = cse(kernel(mul(mul(P, Q), V), mul(mul(P, Q), X)))
    assert body(k) == ["t0 = p * q", "h0 = t0 * v", "h1 = t0 * x"]


@pytest.mark.parametrize("word", ["t0", "t1"])
def test_a_port_named_like_a_temporary_keeps_its_name(word: str) -> None:
    """An input that is only copied to a state: once the copy was lost, and the state with it."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input(word)
    neuron = lnm.Neuron(charge={v: 0.5 * v + w + x, w: x}, fire=v - 1, reset={v: 0.0})
    program = lnm.lower(neuron)
    verify(program.forward)
    verify(program.backward)
    assert f"w_next = {word}" in str(program.forward)
