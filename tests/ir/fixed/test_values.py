"""Values of fixed-point kernels against exact rationals and apytypes; their passes and spans."""

from __future__ import annotations

import math
from fractions import Fraction

import apytypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.compiler.arguments import extent_of, parameters_of
from lnm_codegen.compiler.fixed import integers, prepared_integers, program_of
from lnm_codegen.errors import InternalError
from lnm_codegen.hardware.verify.steps import run_apytypes
from lnm_codegen.ir import nodes as real
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp, always_fits, span, spans
from lnm_codegen.ir.interpret import run, trace, without_places
from lnm_codegen.ir.nodes import BinaryOp, CompareOp, Role, UnaryOp
from lnm_codegen.ir.passes.simplify import compare_sides, fold_zeros
from lnm_codegen.ir.types import BOOL, Bits, Rounding
from lnm_codegen.ir.verify import verify
from tests.analysis.exactly import COMPARE
from tests.refusals import refused
from tests.strategies import arguments_for, few, generators, neurons

MODES = ("half_up", "truncate", "convergent")


def nearest(value: Fraction, rounding: str) -> int:
    """Return an integer near `value`."""
    if rounding == "truncate":
        return math.floor(value)
    if rounding == "half_up":
        return math.floor(value + Fraction(1, 2))
    return round(value)  # of a Fraction: ties to even


APY = {
    "half_up": apytypes.QuantizationMode.RND, "truncate": apytypes.QuantizationMode.TRN,
    "convergent": apytypes.QuantizationMode.RND_CONV,
}  # fmt: skip


@pytest.mark.parametrize("rounding", MODES)
def test_rounding(rounding):
    """At every tie of small numbers, and as wide as the models hold: against Fractions.

    The modes are AP_RND, AP_TRN and AP_RND_CONV: against apytypes.
    """
    rng = np.random.default_rng(0)
    wide = [2**61 - 1, -(2**61), *rng.integers(-(2**61), 2**61 - 1, 40)]
    for places in range(1, 61):
        values = np.array([*range(-64, 65), *wide])
        found = without_places(values, places, Rounding(rounding))
        expected = [nearest(Fraction(int(v), 2**places), rounding) for v in values]
        assert found.tolist() == expected
    values = np.concatenate([np.arange(-32, 32) * 2**7, rng.integers(-(2**30), 2**30, 900)])
    for places in (1, 8, 20):
        array = apytypes.APyFixedArray(values.tolist(), frac_bits=20, bits=40)
        cast = array.cast(int_bits=30, frac_bits=20 - places, quantization=APY[rounding])
        found = without_places(values, places, Rounding(rounding))
        assert (cast.to_numpy() * 2.0 ** (20 - places)).astype(int).tolist() == found.tolist()


class Exact:
    """One step of the real kernel of a neuron in Fractions, every node in one format.

    Products and comparisons are exact. A sum of products and nodes is rounded once and saturated.
    Constants and parameters are rounded to the nearest, ties up.
    """

    def __init__(self, neuron: lnm.Neuron, spec: lnm.Fixed, scheme: str) -> None:
        self.kernel = lnm.lower(neuron, scheme).forward
        self.unit = Fraction(1, 2**spec.frac)
        self.spec = spec

    def step(self, values: dict[str, Fraction]) -> dict[str, Fraction | bool]:
        self.env: dict[str, Fraction | bool] = dict(values)
        exact = self._only_compared()
        for let in self.kernel.body:
            if let.target.type is BOOL:
                value = self.condition(let.value)
            elif self.is_flag(let.value) or let.target.name in exact:
                value = self.whole(let.value)
            else:
                value = self.format(self.whole(let.value))
            self.env[let.target.name] = value
        return self.env

    def format(self, value: Fraction) -> Fraction:
        k = nearest(value / self.unit, self.spec.rounding.value)
        bits = self.spec.bits
        return min(max(k, bits.low), bits.high) * self.unit

    def constant(self, value: Fraction) -> Fraction:
        return nearest(value / self.unit, "half_up") * self.unit

    def _only_compared(self) -> set[str]:
        """A Let that only a comparison reads."""
        inside, outside = set(), {p.var.name for p in self.kernel.results}

        def visit(e: real.Expr, compared: bool) -> None:
            if isinstance(e, real.Var):
                (inside if compared else outside).add(e.name)
            for child in real.children(e):
                visit(child, isinstance(e, real.Compare | real.Spike))

        for let in self.kernel.body:
            visit(let.value, False)
        return inside - outside

    def condition(self, e: real.Expr) -> bool:
        match e:
            case real.Var(name, _):
                return bool(self.env[name])
            case real.Detach(arg):
                return self.condition(arg)
            case real.Spike(arg, _):
                return self.whole(arg) >= 0
            case real.Compare(op, a, b):
                x, y = self.whole(a), self.whole(b)
                return COMPARE[op](x, y)
            case real.Unary(UnaryOp.NOT, arg):
                return not self.condition(arg)
            case real.Binary(BinaryOp.AND, a, b):
                return self.condition(a) and self.condition(b)
            case real.Binary(BinaryOp.OR, a, b):
                return self.condition(a) or self.condition(b)
            case real.Select(cond, then, orelse):
                return self.condition(then if self.condition(cond) else orelse)
        raise AssertionError(e)

    def is_flag(self, e: real.Expr) -> bool:
        match e:
            case real.Select(_, then, orelse):
                return (then, orelse) == (real.ONE, real.ZERO)
            case real.Var(name, _):
                return isinstance(self.env[name], bool)
            case real.Detach(arg):
                return self.is_flag(arg)
        return False

    def whole(self, e: real.Expr) -> Fraction:
        """Return the exact value of a sum of products and nodes."""
        if self.is_flag(e):
            return Fraction(self.condition(e.cond if isinstance(e, real.Select) else e))
        match e:
            case real.Unary(UnaryOp.NEG, arg):
                return -self.addend(arg)
            case real.Binary(BinaryOp.ADD, a, b):
                return self.addend(a) + self.addend(b)
            case real.Binary(BinaryOp.SUB, a, b):
                return self.addend(a) - self.addend(b)
            case real.Binary(BinaryOp.MUL, a, b):
                return self.factor(a) * self.factor(b)
            case real.Fma(a, b, c):
                return self.factor(a) * self.factor(b) + self.addend(c)
            case real.Select(cond, then, orelse):
                return self.node(then if self.condition(cond) else orelse)
            case real.Detach(arg):
                return self.whole(arg)
        return self.node(e)

    def addend(self, e: real.Expr) -> Fraction:
        if isinstance(e, real.Binary) and e.op is BinaryOp.MUL:
            return self.whole(e)
        if isinstance(e, real.Unary):
            return -self.addend(e.arg)
        return self.node(e)

    def factor(self, e: real.Expr) -> Fraction:
        return -self.factor(e.arg) if isinstance(e, real.Unary) else self.node(e)

    def node(self, e: real.Expr) -> Fraction:
        if isinstance(e, real.Const) and not self.is_flag(e):
            return self.constant(e.value)
        if isinstance(e, real.Var):
            return Fraction(self.env[e.name])
        return self.whole(e) if self.is_flag(e) else self.format(self.whole(e))


def values_for(neuron, program, spec, rng, count):
    """Draw integers for every input of the kernel: corners, and numbers near the declared ones."""
    shape = (1, 1, 1, count)
    given_ = arguments_for(neuron, rng, (1, 1, 1, 1))
    raw = parameters_of(neuron, given_.params, extent_of(neuron.params, (1, 1, 1, 1)), np.float64)
    table = {n: int(v.flat[0]) for n, v in prepared_integers(program, raw).items()}
    bits = spec.bits
    for port in program.kernel.inputs:
        if port.role is not Role.PARAM:
            wide = rng.integers(bits.low, bits.high + 1, count)
            near = integers(rng.uniform(-1.5, 1.5, count), bits)
            table[port.var.name] = np.where(rng.random(count) < 0.5, near, wide)
            table[port.var.name][:2] = bits.low, bits.high
    return shape, table


@settings(few, max_examples=20)
@given(
    neurons(fixed=True), generators(), st.sampled_from(MODES), st.sampled_from(["horner", "estrin"])
)
def test_random_neurons_against_exact_rationals(neuron, rng, rounding, scheme):
    """Every value that a step names, in a format where much saturates and in the default one."""
    for form in ((10, 6), (16, 12)):
        spec = lnm.Fixed(*form, rounding)
        program = lnm.quantize(neuron, spec, scheme)
        _, table = values_for(neuron, program, spec, rng, 12)
        found = trace(program.kernel, table)
        exact = Exact(neuron, spec, scheme)
        types = {let.target.name: let.target.type for let in program.kernel.body}
        for k in range(12):
            now = {n: Fraction(int(np.ravel(v)[k % np.size(v)])) for n, v in table.items()}
            step = exact.step({n: v * exact.unit for n, v in now.items()})
            for name in (let.target.name for let in exact.kernel.body):
                kind = types[name]
                unit = Fraction(1, 2**kind.frac) if isinstance(kind, Bits) else 1
                array = np.broadcast_to(found[name], (12,))
                assert int(array[k]) * unit == step[name], f"{name}\n{program.kernel}"


MIXED = {
    "v": lnm.Fixed(18, 12), "x": lnm.Fixed(12, 8), "h": lnm.Fixed(14, 9, "truncate"),
}  # fmt: skip


def test_a_mixed_spec_against_apytypes():
    """Points at different places."""
    program = lnm.quantize(
        lnm.get("lnm", degree=3, v_min=-2.0), lnm.FixedSpec(lnm.Fixed(16, 12), MIXED)
    )
    rng = np.random.default_rng(2)
    table = {}
    for port in program.kernel.inputs:
        bits = port.var.type
        table[port.var.name] = rng.integers(bits.low, bits.high + 1, 500)
    expected, found = run(program.kernel, table), run_apytypes(program.kernel, table)
    for name, array in expected.items():
        assert found[name].tolist() == array.tolist()


def test_real_numbers_to_integers():
    """To the nearest, ties up, saturated; NaN is 0; without a warning."""
    bits = lnm.Fixed(8, 4).bits
    values = [0.03125, -0.03125, 0.09375, 7.9375, 7.97, 9, -8, -9, math.inf, -math.inf, math.nan]
    values += [0.49999999999999994 / 16, 1e308, -1e308]
    found = integers(values, bits)
    assert found.tolist() == [1, 0, 2, 127, 127, 127, -128, -128, 127, -128, 0, 0, 127, -128]


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (Bits(16, 12), "-8 to 7.99976"),
        (Bits(8, 7), "-1 to 0.992188"),
        (Bits(32, 31), "-1 to 0.9999999995"),  # once "-1 to 1"
        (Bits(20, 0), "-524288 to 524287"),
        (Bits(24, 0), "-8388608 to 8388607"),
        (Bits(63, 62), "-1 to 4611686018427387903/4611686018427387904"),
    ],
)
def test_limits_fit(bits, text):
    """The text of a limit never rounds to a number that is refused."""
    assert bits.limits == text


@settings(max_examples=40)
@given(st.integers(2, 32), st.data())
def test_limits_of_any_format_fit(width, data):
    """Both ends are accepted as they are written."""
    bits = lnm.Fixed(width, data.draw(st.integers(0, width - 1))).bits
    low, high = map(Fraction, bits.limits.split(" to "))
    assert bits.holds(bits.nearest(low))
    assert bits.holds(bits.nearest(high))


def test_a_sequence():
    """`interpret_fixed` is the kernel step by step, from the state to the state."""
    neuron, spec = lnm.get("lnm", degree=2, v_reset=None), lnm.Fixed(12, 8)
    x = np.random.default_rng(0).uniform(-1, 2, (9, 2, 3))
    result = lnm.interpret_fixed(neuron, x, spec=spec, theta=(0.1, 0.5, 0.25), state={"v": 0.5})
    table = prepared_integers(
        result.program,
        parameters_of(neuron, {"theta": (0.1, 0.5, 0.25)}, extent_of((), x.shape), np.float64),
    )
    v = integers(np.full((2, 3), 0.5), spec.bits)
    for t in range(9):
        assert (result.trajectory["v"][t] == v).all()
        step = run(result.program.kernel, {**table, "v": v, "x": integers(x[t], spec.bits)})
        assert (result.outputs["spike"][t] == step["spike"]).all()
        v = step["v_next"]
    assert (result.states["v"] == v).all()
    assert (result.value("v") == v / 256).all()
    assert result.out.dtype == np.float64
    assert 0 < result.out.mean() < 1


def test_an_output_may_have_the_name_of_a_state():
    """It is the output that `value` returns, as `interpret` names it."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    neuron = lnm.Neuron(
        charge={v: v + x, w: v - w}, fire=v - 1, reset={v: 0.0}, output={"v": v, "w": 2 * w}
    )
    given = np.full((3, 1, 2), 0.75)
    fixed = lnm.interpret_fixed(neuron, given, spec=lnm.Fixed(16, 12))
    real = lnm.interpret(neuron, given)
    assert list(fixed.outputs) == list(real.outputs) == ["v", "w"]
    for name, array in real.outputs.items():
        assert (fixed.value(name) == array).all()
    assert (fixed.out == real.outputs["v"]).all()
    assert (fixed.states["w"] / 4096 == real.states["w"]).all()


V, W = fx.Var("v", Bits(4, 2)), fx.Var("w", Bits(3, 2))


def const(integer: int, width: int = 4) -> fx.Const:
    return fx.Const(integer, Bits(width, 2), Fraction(integer, 4))


def inputs_of(kernel: fx.Kernel, rng: np.random.Generator, count: int = 200):
    """Draw integers of every input's format, the ends among them."""
    values = {}
    for port in kernel.inputs:
        bits = port.var.type
        drawn = rng.integers(bits.low, bits.high, count, endpoint=True)
        drawn[:3] = (bits.low, bits.high, 0)
        values[port.var.name] = rng.permutation(drawn)
    return values


def spec_of(kernel: fx.Kernel, rng: np.random.Generator) -> lnm.FixedSpec:
    """Draw formats for some inputs of a kernel."""
    modes = ("half_up", "truncate", "convergent")
    return lnm.FixedSpec(
        lnm.Fixed(14, 9, str(rng.choice(modes))),
        {
            p.var.name: lnm.Fixed(int(rng.integers(6, 18)), int(rng.integers(2, 5)))
            for p in kernel.inputs
            if rng.random() < 0.3
        },
    )


@settings(few, max_examples=20)
@given(neurons(fixed=True), generators())
def test_passes_keep_values(neuron, rng):
    """Of random kernels, which stay well formed. Spans hold every value: a clamp may go."""
    plain = program_of(neuron, lnm.Fixed(14, 9)).kernel
    kernel = program_of(neuron, spec_of(plain, rng)).kernel
    values = inputs_of(kernel, rng)

    direct = verify(compare_sides(kernel))
    expected, found = run(kernel, values), run(direct, values)
    assert all(np.all(found[n] == expected[n]) for n in expected)
    read = {v for let in direct.body for v in fx.variables(let.value)}
    assert {let.target for let in direct.body} <= read | {p.var for p in direct.results}

    fixed = {v.name: int(values[v.name][0]) for v in kernel.input_vars(Role.PARAM)}
    values |= {n: np.full(200, k) for n, k in fixed.items()}
    inside = spans(kernel, fixed)
    env = trace(kernel, values)
    for name, (low, high) in inside.items():
        assert low <= env[name].min() <= env[name].max() <= high, name
    again = trace(kernel.map_values(lambda e: _unclamped(e, inside)), values)
    assert all(np.all(again[n] == env[n]) for n in env)

    zeros = dict.fromkeys((n for n in fixed if rng.random() < 0.4), 0)
    values |= dict.fromkeys(zeros, np.zeros(200, np.int64))
    folded = verify(fold_zeros(kernel, zeros))
    env, again = trace(kernel, values), trace(folded, values)
    assert all(np.all(again[n] == env[n]) for n in env)
    products = (e for x in folded.body for e in fx.walk(x.value) if isinstance(e, fx.Product))
    for node in products:
        assert not {node.lhs, node.rhs} & {fx.Var(n, fx.type_of(node.lhs)) for n in zeros}


def _unclamped(e: fx.Expr, env) -> fx.Expr:
    """Return `e` without the clamps that never act."""
    e = fx.map_children(e, lambda c: _unclamped(c, env))
    if isinstance(e, fx.Saturate) and always_fits(e, env):
        return e.arg
    return e


def test_direct_compares_the_sides():
    """`z = h - v_threshold; z >= 0` becomes one comparison, and the difference goes."""
    kernel = compare_sides(lnm.quantize(lnm.get("lnm", degree=1), lnm.Fixed(16, 12)).kernel)
    lets = {let.target.name: let.value for let in kernel.body}
    assert "z" not in lets
    h, threshold = (fx.Var(n, Bits(16, 12)) for n in ("h", "v_threshold"))
    assert lets["fired"] == fx.Compare(CompareOp.GE, h, threshold)


def test_zeros_leave_what_is_none():
    """A parameter of another value, and one that is not known."""
    kernel = lnm.quantize(lnm.get("lnm", degree=1), lnm.Fixed(16, 12)).kernel
    assert fold_zeros(kernel, {"theta_1": 1}) == kernel
    assert fold_zeros(kernel, {}) == kernel
    assert fold_zeros(kernel, {"theta_0": 0}) == kernel  # it is added
    first = fold_zeros(kernel, {"theta_1": 0}).body[0].value
    zero = fx.Const(0, Bits(32, 24), Fraction(0))
    assert zero in set(fx.walk(first))


ENV = {"v": (-8, 7), "w": (-4, 3)}

SPANS = [
    (const(3), (3, 3)),
    (V, (-8, 7)),
    (fx.Negate(V), (-7, 8)),
    (fx.Sum(SumOp.ADD, V, W), (-12, 10)),
    (fx.Sum(SumOp.SUB, V, W), (-11, 11)),
    (fx.Product(V, W), (-28, 32)),
    (fx.Product(V, V), (0, 64)),
    (fx.Product(fx.Var("p", Bits(4, 2)), fx.Var("p", Bits(4, 2))), (4, 25)),
    (fx.Shift(V, 2), (-32, 28)),
    (fx.Round(V, 1, Rounding.TRUNCATE), (-4, 3)),
    (fx.Round(V, 1, Rounding.HALF_UP), (-4, 4)),
    (fx.Round(V, 1, Rounding.CONVERGENT), (-4, 4)),
    (fx.Saturate(V, 3), (-4, 3)),
    (fx.Saturate(W, 4), (-4, 3)),
    (fx.Select(fx.Compare(CompareOp.LT, V, W), V, const(9, 5)), (-8, 9)),
]  # fmt: skip


@pytest.mark.parametrize(("e", "expected"), SPANS, ids=lambda x: type(x).__name__)
def test_the_span_of_every_node(e, expected):
    """The least and the greatest integer."""
    assert span(e, ENV | {"p": (2, 5)}) == expected


def test_conditions_have_no_span():
    """The span of a condition is a mistake of the caller."""
    with refused(InternalError, "spans", "Compare is not a number"):
        span(fx.Compare(CompareOp.LT, V, W), ENV)


@given(st.data())
def test_the_span_of_rounding_is_reached(data):
    """Every rounding of every operand stays inside, and the ends of the interval are near."""
    low = data.draw(st.integers(-100, 100))
    high = data.draw(st.integers(low, 120))
    places = data.draw(st.integers(1, 5))
    rounding = data.draw(st.sampled_from(Rounding))
    e = fx.Round(fx.Var("a", Bits(9, 5)), places, rounding)
    kernel = fx.Kernel(
        "k",
        (fx.Port(fx.Var("a", Bits(9, 5)), Role.INPUT),),
        (fx.Let(fx.Var("b", fx.bits_of(e)), e, lnm.ir.kernel.Phase.CHARGE),),
        (fx.Port(fx.Var("b", fx.bits_of(e)), Role.OUTPUT),),
    )
    values = run(kernel, {"a": np.arange(low, high + 1)})["b"]
    first, last = span(e, {"a": (low, high)})
    assert first <= values.min() <= first + 1
    assert last - 1 <= values.max() <= last
