"""Real kernels to fixed-point kernels: every format, shift, rounding and saturation decided here.

A product is exact. A sum of products (a multiply-add of Horner's scheme) is exact too, and rounded
once to the format of its node, then saturated; any other sum saturates. What a product or a sum
takes are nodes, each with a format of its own: a nested expression becomes the node `<let>_1`,
`<let>_2`, ... A product with a spike is a choice between its factor and zero. Comparisons are
exact: what serves comparisons alone is neither rounded nor saturated.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir import nodes as real
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.nodes import BinaryOp, UnaryOp
from lnm_codegen.ir.operators import CompareOp, Phase, Role
from lnm_codegen.ir.types import BOOL, MOST_BITS, REAL, Bits, Fixed


def quantize(program: real.Program, spec: FixedSpec) -> fx.Program:
    """Return the fixed-point program of the forward step.

    Raises:
        UnsupportedError: A function or a division in the step; a number wider than the models hold.
        ModelError: A constant that does not fit, a spec that names no node.
    """
    kernel = _Quantizer(program.forward, spec).kernel()
    after = {f"{v.name}_next" for v in kernel.input_vars(Role.STATE)}  # has the state's own format
    names = [p.var.name for p in kernel.inputs]
    names += [let.target.name for let in kernel.body if let.target.name not in after]
    for name, _ in spec.nodes:
        if name not in names:
            raise ModelError(
                program.name,
                f"the spec names {name!r}, which is no node",
                names,
                "Name one of these, or give the neuron the arguments that the spec was found for.",
            )
    return fx.Program(program.name, spec, program.prepare, kernel)


@dataclass(frozen=True, slots=True)
class _Term:
    """What is added: `magnitude`, exact, with a sign in front."""

    magnitude: fx.Expr
    negative: bool = False


class _Quantizer:
    def __init__(self, source: real.Kernel, spec: FixedSpec) -> None:
        self._source, self._spec = source, spec
        self._body: list[fx.Let] = []
        self._exact = _compared_only(source)
        self._vars: dict[str, fx.Var] = {}
        self._taken = {let.target.name for let in source.body}
        self._taken |= {p.var.name for p in (*source.inputs, *source.results)}
        self._states = {p.var.name for p in source.inputs if p.role is Role.STATE}
        self._let: real.Let = real.Let(real.Var(""), real.ZERO, Phase.CHARGE)

    def kernel(self) -> fx.Kernel:
        source = self._source
        inputs = []
        for port in source.inputs:
            var = fx.Var(port.var.name, self._spec[port.var.name].bits)
            self._vars[var.name] = var
            inputs.append(fx.Port(var, port.role))
        for let in source.body:
            self._let = let
            self._vars[let.target.name] = self._bound(let)
        results = tuple(fx.Port(self._vars[p.var.name], p.role) for p in source.results)
        return fx.Kernel(source.name, tuple(inputs), tuple(self._body), results)

    def _bound(self, let: real.Let) -> fx.Var:
        name = let.target.name
        value = let.value
        if let.target.type is BOOL:
            return self._emit(name, self._condition(value))
        flag = self._flag(value)
        if flag is not None and not self._is_state(name):
            return self._emit(name, flag)
        if name in self._exact:
            return self._emit(name, self._sum(value))
        return self._emit(name, self._cast(self._sum(value), self._format(name)))

    def _is_state(self, name: str) -> bool:
        return name.removesuffix("_next") in self._states and name.endswith("_next")

    def _format(self, name: str) -> Fixed:
        return self._spec[name.removesuffix("_next") if self._is_state(name) else name]

    def _emit(self, name: str, value: fx.Expr) -> fx.Var:
        for node in fx.walk(value):
            kind = fx.type_of(node)
            if isinstance(kind, Bits) and kind.width > MOST_BITS:
                raise UnsupportedError(
                    self._where(),
                    f"an exact intermediate has {kind.width} bits; the models hold {MOST_BITS}",
                    remedy="Give narrower formats.",
                )
        var = fx.Var(name, fx.type_of(value))
        self._body.append(fx.Let(var, value, self._let.phase))
        return var

    def _where(self) -> str:
        phase, name = self._let.phase.value, self._let.target.name
        return f"{self._source.name}.{phase}, {name}"

    def _condition(self, e: real.Expr) -> fx.Expr:
        match e:
            case real.Var(name, _):
                return self._vars[name]
            case real.Detach(arg):
                return self._condition(arg)
            case real.Spike(arg, _):
                return self._compare(CompareOp.GE, arg, real.ZERO)
            case real.Compare(op, lhs, rhs):
                return self._compare(op, lhs, rhs)
            case real.Unary(UnaryOp.NOT, arg):
                return fx.Not(self._condition(arg))
            case real.Binary(BinaryOp.AND, lhs, rhs):
                return fx.Both(self._condition(lhs), self._condition(rhs))
            case real.Binary(BinaryOp.OR, lhs, rhs):
                return fx.Either(self._condition(lhs), self._condition(rhs))
            case real.Select(cond, then, orelse):
                chosen = self._condition(cond)
                yes = fx.Both(chosen, self._condition(then))
                return fx.Either(yes, fx.Both(fx.Not(chosen), self._condition(orelse)))
            case _:
                raise self._unsupported(type(e).__name__.lower())

    def _compare(self, op: CompareOp, lhs: real.Expr, rhs: real.Expr) -> fx.Expr:
        a, b = self._aligned(self._sum(lhs), self._sum(rhs))
        return fx.Compare(op, a, b)

    def _flag(self, e: real.Expr) -> fx.Expr | None:
        """Return the condition whose number, 1 or 0, `e` is, if it is one."""
        match e:
            case real.Select(cond, then, orelse) if (then, orelse) == (real.ONE, real.ZERO):
                return self._condition(cond)
            case real.Var(name, type_) if type_ is REAL and self._vars[name].type is BOOL:
                return self._vars[name]
            case real.Detach(arg):
                return self._flag(arg)
            case _:
                return None

    def _sum(self, e: real.Expr) -> fx.Expr:
        """Return `e` exactly, as a sum of nodes and of products of nodes."""
        term = self._term(e)
        return fx.Negate(term.magnitude) if term.negative else term.magnitude

    def _term(self, e: real.Expr) -> _Term:
        match e:
            case real.Unary(UnaryOp.NEG, arg):
                inner = self._term(arg) if _is_product(arg) else _Term(self._node(arg))
                return _Term(inner.magnitude, not inner.negative)
            case real.Binary(BinaryOp.ADD, lhs, rhs):
                return self._added(self._addend(lhs), self._addend(rhs))
            case real.Binary(BinaryOp.SUB, lhs, rhs):
                subtracted = self._addend(rhs)
                negated = _Term(subtracted.magnitude, not subtracted.negative)
                return self._added(self._addend(lhs), negated)
            case real.Binary(BinaryOp.MUL, lhs, rhs):
                return self._product(lhs, rhs)
            case real.Fma(a, b, c):
                return self._added(self._product(a, b), self._addend(c))
            case real.Select(cond, then, orelse) if self._flag(e) is None:
                yes, no = self._aligned(self._node(then), self._node(orelse))
                return _Term(fx.Select(self._condition(cond), yes, no))
            case real.Detach(arg) if self._flag(e) is None:
                return self._term(arg)
            case _:
                return _Term(self._node(e))

    def _addend(self, e: real.Expr) -> _Term:
        """Return what stands beside a plus: a product as it is, anything else as a node."""
        if _is_product(e):
            return self._term(e)
        if isinstance(e, real.Unary) and e.op is UnaryOp.NEG:
            return self._term(e)
        return _Term(self._node(e))

    def _added(self, a: _Term, b: _Term) -> _Term:
        left, right = self._aligned(a.magnitude, b.magnitude)
        if a.negative and not b.negative:
            return _Term(fx.Sum(SumOp.SUB, right, left))
        op = SumOp.ADD if a.negative == b.negative else SumOp.SUB
        return _Term(fx.Sum(op, left, right), a.negative)

    def _product(self, lhs: real.Expr, rhs: real.Expr) -> _Term:
        negative = False
        factors = []
        for factor in (lhs, rhs):
            while isinstance(factor, real.Unary) and factor.op is UnaryOp.NEG:
                factor, negative = factor.arg, not negative
            factors.append(factor)
        for factor, other in ((factors[0], factors[1]), (factors[1], factors[0])):
            flag = self._flag(factor)
            if flag is not None:
                value = self._node(other)
                zero = fx.Const(0, fx.bits_of(value), Fraction(0))
                return _Term(fx.Select(flag, value, zero), negative)
        return _Term(fx.Product(self._node(factors[0]), self._node(factors[1])), negative)

    def _node(self, e: real.Expr) -> fx.Expr:
        """Return a node: a name, a constant, or what becomes a Let with a format of its own."""
        flag = self._flag(e)
        if flag is not None:
            bits = Bits(2, 0)
            one, zero = (fx.Const(k, bits, Fraction(k)) for k in (1, 0))
            return fx.Select(flag, one, zero)
        match e:
            case real.Var(name, _):
                return self._vars[name]
            case real.Const(value, _):
                return self._constant(value)
            case real.Call(fn, _):
                raise self._unsupported(repr(fn.value))
            case real.Binary(BinaryOp.DIV, _, _):
                raise self._unsupported("a division by what changes from step to step")
        exact = self._sum(e)
        name = self._fresh()
        return self._emit(name, self._cast(exact, self._spec[name]))

    def _constant(self, value: Fraction) -> fx.Const:
        bits = self._format(self._let.target.name).bits
        integer = bits.nearest(value)
        if not bits.holds(integer):
            low, high = bits.interval
            raise ModelError(
                self._where(),
                (
                    f"the constant {float(value):g} does not fit {bits}, which holds {float(low):g} to "
                    f"{float(high):g}"
                ),
                remedy="Give more integer bits.",
            )
        return fx.Const(integer, bits, value)

    def _fresh(self) -> str:
        k = 1
        stem = self._let.target.name
        while f"{stem}_{k}" in self._taken:
            k += 1
        self._taken.add(f"{stem}_{k}")
        return f"{stem}_{k}"

    def _unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(
            self._where(),
            f"{what} has no fixed-point form",
            remedy="Use a polynomial, or a backend that computes in floating point.",
        )

    @staticmethod
    def _aligned(a: fx.Expr, b: fx.Expr) -> tuple[fx.Expr, fx.Expr]:
        """Return both with the point at one place."""
        places = fx.bits_of(a).frac - fx.bits_of(b).frac
        return _shifted(a, -places), _shifted(b, places)

    @staticmethod
    def _cast(e: fx.Expr, to: Fixed) -> fx.Expr:
        """Return `e` rounded and saturated to a format, where it is not of it already."""
        places = fx.bits_of(e).frac - to.frac
        if places > 0:
            e = fx.Round(e, places, to.rounding)
        e = _shifted(e, -places)
        if fx.bits_of(e).width != to.width:
            e = fx.Saturate(e, to.width)
        return e


def _shifted(e: fx.Expr, places: int) -> fx.Expr:
    if places <= 0:
        return e
    if isinstance(e, fx.Const) and not e.integer and not e.real:
        return fx.Const(0, Bits(e.bits.width + places, e.bits.frac + places), e.real)
    return fx.Shift(e, places)


def _is_product(e: real.Expr) -> bool:
    return isinstance(e, real.Binary) and e.op is BinaryOp.MUL


def _compared_only(kernel: real.Kernel) -> set[str]:
    """Return the Lets that nothing but comparisons reads."""
    compared: set[str] = set()
    other = {p.var.name for p in kernel.results}
    for let in kernel.body:
        for node in real.walk(let.value):
            into = compared if isinstance(node, real.Spike | real.Compare) else other
            into |= {c.name for c in real.children(node) if isinstance(c, real.Var)}
        if isinstance(let.value, real.Var):
            other.add(let.value.name)
    return compared - other
