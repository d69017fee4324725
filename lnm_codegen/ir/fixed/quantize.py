"""Quantization of real kernels: every format, shift, rounding and saturation is decided here.

A node adds at most two terms: nodes, constants or products of two of these. Products and this sum
are exact. A sum with a product (a multiply-add of Horner's scheme) is rounded once to the format
of its node, then saturated. Any other sum saturates. The operands of products and sums are nodes
with formats of their own: a nested expression, also the rest of a longer sum, becomes the node
`<let>_1`, `<let>_2`, ..., which rounds and saturates. A product with a spike selects between the
other factor and zero. A value that only comparisons read is neither rounded nor saturated, so that
comparisons are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir import nodes as real
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.kernel import Role, names_of
from lnm_codegen.ir.nodes import BinaryOp, CompareOp, UnaryOp
from lnm_codegen.ir.passes.simplify import undetach
from lnm_codegen.ir.polynomial import is_product
from lnm_codegen.ir.types import BOOL, MOST_BITS, REAL, Bits, Fixed, FixedSpec

WIDE = FixedSpec(Fixed(30, 0))
"""Format that names the nodes; it holds constants up to 2**29."""


def quantize(program: real.Program, spec: FixedSpec) -> fx.Program:
    """Return the fixed-point program of the forward step.

    Raises:
        UnsupportedError: A function or a division in the step; an intermediate of more than
            `MOST_BITS` bits.
        ModelError: A constant that does not fit its format; a name of the spec that is not a
            node, or that of an exact one.
    """
    quantizer = _Quantizer(undetach(program.forward), spec)
    kernel = quantizer.kernel()
    names, after = quantizer.nodes, quantizer.after
    others = {let.target.name for let in kernel.body} - {*names, *after}
    for name, _ in spec.nodes:
        if name in others:
            problem = f"{name!r} is exact and has no format"
            raise ModelError(program.name, problem, names, f"Omit {name}.")
        if name not in names:
            remedy = "Name one of these, or give the neuron the arguments that the spec is for."
            problem = f"the spec has a format for {name!r}, which is not a node"
            raise ModelError(program.name, problem, names, remedy)
    return fx.Program(program.name, spec, program.prepare, kernel)


def node_names(program: real.Program) -> list[str]:
    """Return the names that a spec may have, if `quantize` accepts the step: inputs and nodes.

    Others are states after the step, which have the format of the state, and exact Lets:
    conditions, spikes and values that only comparisons read.
    """
    quantizer = _Quantizer(undetach(program.forward), WIDE)
    quantizer.kernel()
    return quantizer.nodes


@dataclass(frozen=True, slots=True)
class _Term:
    """Addend: an exact magnitude and its sign."""

    magnitude: fx.Expr
    negative: bool = False

    def negated(self) -> _Term:
        return _Term(self.magnitude, not self.negative)


class _Quantizer:
    _let: real.Let  # whose node is made

    def __init__(self, source: real.Kernel, spec: FixedSpec) -> None:
        self._source, self._spec = source, spec
        self._body: list[fx.Let] = []
        self._exact = _compared_only(source)
        self._vars: dict[str, fx.Var] = {}
        self._names = names_of(source)
        self.nodes: list[str] = []  # with a format in the spec
        self.after = {f"{name}_next": name for name in source.input_names(Role.STATE)}

    def kernel(self) -> fx.Kernel:
        source = self._source
        inputs = []
        for port in source.inputs:
            var = fx.Var(port.var.name, self._spec[port.var.name].bits)
            self._vars[var.name] = var
            self.nodes.append(var.name)
            inputs.append(fx.Port(var, port.role))
        for let in source.body:
            self._let = let
            self._vars[let.target.name] = self._bound(let)
        results = tuple(fx.Port(self._vars[p.var.name], p.role) for p in source.results)
        return fx.Kernel(source.name, tuple(inputs), tuple(self._body), results)

    def _bound(self, let: real.Let) -> fx.Var:
        name, value = let.target.name, let.value
        if let.target.type is BOOL:
            return self._emit(name, self._condition(value))
        flag = self._flag(value)
        if flag is not None and name not in self.after:
            return self._emit(name, flag)
        if name in self._exact:
            return self._emit(name, self._sum(value))
        exactly = self._sum(value)
        if name not in self.after:
            self.nodes.append(name)
        return self._emit(name, _cast(exactly, self._format(name)))

    def _format(self, name: str) -> Fixed:
        """Return the format of a node; a state has one format before and after the step."""
        return self._spec[self.after.get(name, name)]

    def _emit(self, name: str, value: fx.Expr) -> fx.Var:
        for node in fx.walk(value):
            kind = fx.type_of(node)
            if isinstance(kind, Bits) and kind.width > MOST_BITS:
                problem = f"an exact intermediate has {kind.width} bits"
                accepted = f"at most {MOST_BITS} bits"
                remedy = f"Give narrower formats, or one of {MOST_BITS // 2} bits for all nodes."
                raise UnsupportedError(self._where(), problem, accepted, remedy)
        var = fx.Var(name, fx.type_of(value))
        self._body.append(fx.Let(var, value, self._let.phase))
        return var

    def _where(self) -> str:
        return f"{self._source.name}.{self._let.phase.value}, {self._let.target.name}"

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
        return fx.Compare(op, *_aligned(self._sum(lhs), self._sum(rhs)))

    def _flag(self, e: real.Expr) -> fx.Expr | None:
        """Return the condition if `e` is one as the number 1 or 0, else None."""
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
                inner = self._term(arg) if is_product(arg) else _Term(self._node(arg))
                return inner.negated()
            case real.Binary(BinaryOp.ADD, lhs, rhs):
                return self._added(self._addend(lhs), self._addend(rhs))
            case real.Binary(BinaryOp.SUB, lhs, rhs):
                subtracted = self._addend(rhs).negated()
                return self._added(self._addend(lhs), subtracted)
            case real.Binary(BinaryOp.MUL, lhs, rhs):
                return self._product(lhs, rhs)
            case real.Fma(a, b, c):
                return self._added(self._product(a, b), self._addend(c))
            case real.Select(cond, then, orelse) if self._flag(e) is None:
                branches = _aligned(self._node(then), self._node(orelse))
                return _Term(fx.Select(self._condition(cond), *branches))
            case real.Detach(arg) if self._flag(e) is None:
                return self._term(arg)
            case _:
                return _Term(self._node(e))

    def _addend(self, e: real.Expr) -> _Term:
        """Return an operand of a sum: a product or a negation exactly, anything else as a node."""
        negated = isinstance(e, real.Unary) and e.op is UnaryOp.NEG
        return self._term(e) if negated or is_product(e) else _Term(self._node(e))

    def _added(self, a: _Term, b: _Term) -> _Term:
        left, right = _aligned(a.magnitude, b.magnitude)
        if a.negative and not b.negative:
            return _Term(fx.Sum(SumOp.SUB, right, left))
        op = SumOp.ADD if a.negative == b.negative else SumOp.SUB
        return _Term(fx.Sum(op, left, right), a.negative)

    def _product(self, lhs: real.Expr, rhs: real.Expr) -> _Term:
        a, a_negative = _magnitude(lhs)
        b, b_negative = _magnitude(rhs)
        negative = a_negative != b_negative
        for factor, other in ((a, b), (b, a)):
            flag = self._flag(factor)
            if flag is not None:
                value = self._node(other)
                return _Term(fx.Select(flag, value, fx.zero(fx.bits_of(value))), negative)
        return _Term(fx.Product(self._node(a), self._node(b)), negative)

    def _node(self, e: real.Expr) -> fx.Expr:
        """Return a name or a constant; any other expression becomes a Let with its own format."""
        flag = self._flag(e)
        if flag is not None:
            bits = Bits(2, 0)
            return fx.Select(flag, fx.Const(1, bits, Fraction(1)), fx.zero(bits))
        match e:
            case real.Var(name, _):
                return self._vars[name]
            case real.Const(value, _):
                return self._constant(value)
            case real.Call(fn, _):
                raise self._unsupported(repr(fn.value))
            case real.Binary(BinaryOp.DIV, _, _):
                raise self._unsupported("a division by a value that changes from step to step")
        exact = self._sum(e)
        name = self._names.numbered(f"{self._let.target.name}_", 1)
        self.nodes.append(name)
        return self._emit(name, _cast(exact, self._spec[name]))

    def _constant(self, value: Fraction) -> fx.Const:
        bits = self._format(self._let.target.name).bits
        integer = bits.nearest(value)
        if not bits.holds(integer):
            problem = f"the constant {float(value):g} does not fit {bits}"
            raise ModelError(self._where(), problem, bits.limits, "Give more integer bits.")
        return fx.Const(integer, bits, value)

    def _unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(
            self._where(),
            f"{what} has no fixed-point form",
            remedy="Use a polynomial, or a backend that computes in floating point.",
        )


def _aligned(a: fx.Expr, b: fx.Expr) -> tuple[fx.Expr, fx.Expr]:
    """Return both numbers with their points aligned."""
    places = fx.bits_of(a).frac - fx.bits_of(b).frac
    return _shifted(a, -places), _shifted(b, places)


def _cast(e: fx.Expr, to: Fixed) -> fx.Expr:
    """Return `e` rounded and saturated to a format, unless it has that format."""
    places = fx.bits_of(e).frac - to.frac
    e = fx.Round(e, places, to.rounding) if places > 0 else _shifted(e, -places)
    return e if fx.bits_of(e).width == to.width else fx.Saturate(e, to.width)


def _shifted(e: fx.Expr, places: int) -> fx.Expr:
    if places <= 0:
        return e
    if isinstance(e, fx.Const) and not e.integer and not e.real:
        return fx.zero(Bits(e.bits.width + places, e.bits.frac + places))
    return fx.Shift(e, places)


def _magnitude(e: real.Expr) -> tuple[real.Expr, bool]:
    """Return `e` without its signs, and whether it is negated."""
    negative = False
    while isinstance(e, real.Unary) and e.op is UnaryOp.NEG:
        e, negative = e.arg, not negative
    return e, negative


def _compared_only(kernel: real.Kernel) -> set[str]:
    """Return the names of the Lets that only comparisons read."""
    compared: set[str] = set()
    other = {p.var.name for p in kernel.results}
    for let in kernel.body:
        for node in real.walk(let.value):
            into = compared if isinstance(node, real.Spike | real.Compare) else other
            into |= {c.name for c in real.children(node) if isinstance(c, real.Var)}
        if isinstance(let.value, real.Var):
            other.add(let.value.name)
    return compared - other
