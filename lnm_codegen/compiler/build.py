"""Translation of SymPy equations to the forward kernel, the last module that uses SymPy."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import reduce
from typing import Any

import sympy
from sympy.core.relational import Relational

from lnm_codegen.errors import InternalError, ModelError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.kernel import Names, is_temporary
from lnm_codegen.ir.nodes import BinaryOp, Expr, Fn, Kernel, Let, Phase, Port, Role, Var
from lnm_codegen.language.binding import bindings_of
from lnm_codegen.language.functions import CALLS, Where, as_decimal, stop_gradient
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate, Z
from lnm_codegen.language.symbols import Declared, is_spike

_DIGITS = 40


def build(neuron: Neuron) -> Kernel:
    """Return the forward kernel of one neuron and one time step.

    Ports: STATE `v`, INPUT `x`, PARAM `tau` or `theta_0`... -> OUTPUT as named, STATE `v_next`.
    In the body, `h` is the charged state (`h_w` of a state w), `z` a fire expression, `fired` the
    spike as a condition.
    """
    return _Builder(neuron).run()


class _Builder:
    def __init__(self, neuron: Neuron) -> None:
        self._neuron = neuron
        params = [name for p in neuron.step_params for name in p.element_names]
        states = [s.name for s in neuron.states]
        inputs = [s.name for s in neuron.inputs]
        self._inputs = tuple(
            Port(Var(name), role)
            for names, role in ((states, Role.STATE), (inputs, Role.INPUT), (params, Role.PARAM))
            for name in names
        )
        outputs = [name for name, _ in (*neuron.output, *neuron.counts)]
        self._outputs = frozenset(outputs)  # one may be called t0
        taken = [*params, *states, *inputs, *outputs, *neuron.spikes]
        self._names = Names([*taken, *(f"{s}_next" for s in states)])
        self._body: list[Let] = []
        self._phase = Phase.CHARGE
        self._env: dict[sympy.Symbol, Expr] = {
            s: Var(s.name) for s in neuron.symbols if not is_spike(s)
        }
        self._bindings = dict(neuron.bindings)
        self._memo: dict[sympy.Basic, Expr] = {}
        self._conditions: dict[Any, Var] = {}

    def run(self) -> Kernel:
        self._charge()
        fired = self._fire()
        reset_spikes = fired
        if self._neuron.detach_reset:
            reset_spikes = {
                s: self._bind(f"{v.name}_detached", ir.Detach(v)) for s, v in fired.items()
            }
        self._enter(Phase.OUTPUT, fired)
        outputs = [self._output(name, e) for name, e in self._neuron.output]
        counts = [self._output(name, e) for name, e in self._neuron.counts]
        self._enter(Phase.RESET, reset_spikes)
        results = [Port(v, Role.OUTPUT) for v in outputs]
        reset = dict(self._neuron.reset)
        for state in self._neuron.states:
            value = self._value(reset.get(state, state))
            results.append(Port(self._bind(f"{state.name}_next", value, fresh=False), Role.STATE))
        results += [Port(v, Role.COUNT) for v in counts]
        return Kernel(self._neuron.name, self._inputs, tuple(self._body), tuple(results))

    def _charge(self) -> None:
        charged = {}
        for state, expr in self._neuron.charge:
            name = "h" if state.name == "v" else f"h_{state.name}"
            charged[state] = self._bind(self._names.fresh(name), self._value(expr), fresh=False)
        self._env.update(charged)

    def _fire(self) -> dict[Declared, Var]:
        self._enter(Phase.FIRE, {})
        surrogates = dict(self._neuron.surrogates)
        fired = {}
        for spike, expr in self._neuron.fire:
            suffix = "" if spike.name == "spike" else f"_{spike.name}"
            z = self._bind(f"z{suffix}", self._value(expr))
            node = ir.Spike(z, self._slope(surrogates[spike.name], z))
            fired[spike] = self._bind(f"fired{suffix}", node)
        return fired

    def _slope(self, surrogate: Surrogate, z: Var) -> Expr:
        body, memo, env = self._body, self._memo, self._env
        self._body, self._memo, self._env = [], {}, {Z: z}
        slope = self._lower(surrogate.slope)
        for let in reversed(self._body):
            slope = ir.substitute(slope, {let.target: let.value})
        self._body, self._memo, self._env = body, memo, env
        return slope

    def _output(self, name: str, expr: sympy.Expr) -> Var:
        value = self._value(expr)
        ports = {p.var.name for p in self._inputs}
        target = name if name not in ports else self._names.fresh(f"{name}_out")
        return self._bind(target, value, fresh=False)

    def _enter(self, phase: Phase, spikes: dict[Declared, Var]) -> None:
        self._phase = phase
        self._memo = {}
        self._env.update({s: ir.Select(v, ir.ONE, ir.ZERO) for s, v in spikes.items()})
        self._conditions = dict(spikes)

    def _bind(self, name: str, value: Expr, *, fresh: bool = True) -> Var:
        target = Var(self._names.fresh(name) if fresh else name, ir.type_of(value))
        last = self._body[-1] if self._body else None
        made = value.name if isinstance(value, Var) and is_temporary(value.name) else ""
        if last is not None and last.target == value and made and made not in self._outputs:
            self._body[-1] = replace(last, target=target)  # the temporary gets this name
            self._memo = {k: target if v == value else v for k, v in self._memo.items()}
        else:
            self._body.append(Let(target, value, self._phase))
        return target

    def _value(self, e: Any) -> Expr:
        """Lower an expression after the bound values that it reads, in their order."""
        for symbol, definition in bindings_of([e], self._bindings):
            if symbol not in self._memo:
                self._memo[symbol] = self._bind(symbol.name, self._lower(definition))
        return self._lower(e)

    def _lower(self, e: Any) -> Expr:
        if e not in self._memo:
            value = self._node(e)
            named = isinstance(value, ir.Select | ir.Call | ir.Detach)
            if named and not isinstance(e, sympy.Symbol):
                value = self._bind(self._names.temporary(), value, fresh=False)
            self._memo[e] = value
        return self._memo[e]

    def _node(self, e: Any) -> Expr:
        if isinstance(e, sympy.Symbol):
            return self._env[e]
        if isinstance(e, sympy.Expr) and e.is_number:
            return _constant(e, self._neuron.name)
        if isinstance(e, sympy.Add):
            return self._sum(e)
        if isinstance(e, sympy.Mul):
            return self._product(e)
        if isinstance(e, sympy.Pow):
            return self._power(e.base, e.exp)
        if isinstance(e, Where):
            cond, then, orelse = e.operands
            return ir.Select(self._condition(cond), self._lower(then), self._lower(orelse))
        if isinstance(e, stop_gradient):
            return ir.Detach(self._lower(e.args[0]))
        for kind, name in CALLS.items():
            if isinstance(e, kind):  # a function of one argument
                return ir.Call(Fn(name), self._lower(e.args[0]))
        raise InternalError("build", f"no rule for {type(e).__name__} in {e}")

    def _sum(self, e: sympy.Add) -> Expr:
        total: Expr | None = None
        for term in e.as_ordered_terms(order="lex"):  # independent of hashes
            negative = bool(term.could_extract_minus_sign()) and not term.is_Add
            part = self._lower(-term if negative else term)
            total = ir.signed_sum(total, part, negative)
        return ir.ZERO if total is None else total

    def _product(self, e: sympy.Mul) -> Expr:
        number, rest = e.as_coeff_Mul()
        above: list[sympy.Expr] = []
        below: list[sympy.Expr] = []
        for factor in sympy.Mul.make_args(rest):
            inverse = isinstance(factor, sympy.Pow) and factor.exp.is_negative
            if inverse and not self._only_params(factor):
                below.append(1 / factor)
            else:
                above.append(factor)
        above.sort(key=lambda f: not self._only_params(f))
        factors = [self._lower(f) for f in above]
        if number == -1:
            tree = ir.neg(_chain(factors))
        else:
            tree = _chain(([] if number == 1 else [self._lower(number)]) + factors)
        return ir.div(tree, _chain([self._lower(f) for f in below])) if below else tree

    def _only_params(self, e: sympy.Basic) -> bool:
        params = {n for p in self._neuron.step_params for n in p.element_names}
        return all(s.name in params for s in e.free_symbols)

    def _power(self, base: sympy.Expr, exponent: sympy.Expr) -> Expr:
        exponent = as_decimal(exponent)
        if exponent.is_Integer and exponent > 0:
            return ir.Power(self._lower(base), int(exponent))
        if exponent.is_negative:
            return ir.div(ir.ONE, self._lower(base**-exponent))
        if exponent == sympy.Rational(1, 2):
            return ir.Call(Fn.SQRT, self._lower(base))
        if base == sympy.E:
            return ir.Call(Fn.EXP, self._lower(exponent))
        return self._real_power(base, exponent)

    def _real_power(self, base: sympy.Expr, exponent: sympy.Expr) -> Expr:
        """Return a power that is no polynomial, by functions whose slope at base 0 is infinite.

        At 0 they have the base 1, because a slope of 0/0 would spoil the gradient. The value there
        is that of `_edge`.
        """
        if base.is_number:
            return self._rooted(self._lower(base), self._lower(sympy.log(base)), exponent)
        b = self._atom(self._lower(base))
        at_zero: Expr = ir.Compare(ir.CompareOp.EQ, b, ir.ZERO)
        if not exponent.is_number:
            p = self._lower(exponent)
            at_zero = ir.Binary(BinaryOp.AND, at_zero, ir.Compare(ir.CompareOp.GE, p, ir.ZERO))
        zero = self._atom(at_zero)
        safe = self._atom(ir.Select(zero, ir.ONE, b))
        power = self._rooted(safe, ir.Call(Fn.LOG, safe), exponent)
        return ir.Select(zero, self._edge(b, exponent), power)

    def _edge(self, b: Expr, exponent: sympy.Expr) -> Expr:
        """Return an expression with the value and the slope of `b` to a power >= 0 at 0.

        Above 1 the slope is 0, below 1 infinite. It is 1 for an exponent of 1, and where the
        exponent is no constant also below 1, so that a learned exponent keeps gradients finite.
        The square has slope 0 and keeps an infinite gradient from becoming 0.
        """
        square = ir.Power(b, 2)
        if exponent.is_number:
            return square if exponent > 1 else ir.Call(Fn.SQRT, b)
        p = self._lower(exponent)
        low = ir.Select(ir.Compare(ir.CompareOp.GT, p, ir.ZERO), b, ir.ONE)
        return ir.Select(ir.Compare(ir.CompareOp.GT, p, ir.ONE), square, low)

    def _rooted(self, base: Expr, log: Expr, exponent: sympy.Expr) -> Expr:
        """Return a power of a base, by its root or its logarithm."""
        if exponent.is_Rational and exponent.q == 2:
            return ir.Power(ir.Call(Fn.SQRT, base), int(exponent.p))
        # sympy.exp would turn exp(n * log(b)) into b**n again.
        return ir.Call(Fn.EXP, ir.mul(self._lower(exponent), log))

    def _atom(self, value: Expr) -> Expr:
        """Return a value that is used several times under a name."""
        if ir.is_atom(value):
            return value
        return self._bind(self._names.temporary(), value, fresh=False)

    def _condition(self, e: Any) -> Expr:
        if e in self._conditions:
            return self._conditions[e]
        if isinstance(e, Relational):
            return ir.Compare(ir.CompareOp(e.rel_op), self._lower(e.lhs), self._lower(e.rhs))
        if isinstance(e, sympy.Not):
            return ir.Unary(ir.UnaryOp.NOT, self._condition(e.args[0]))
        if isinstance(e, sympy.And | sympy.Or):
            op = BinaryOp.AND if isinstance(e, sympy.And) else BinaryOp.OR
            conditions = map(self._condition, sorted(e.args, key=sympy.default_sort_key))
            return reduce(lambda a, b: ir.Binary(op, a, b), conditions)
        raise InternalError("build", f"no rule for the condition {e}")


def _chain(factors: list[Expr]) -> Expr:
    return reduce(ir.mul, factors) if factors else ir.ONE


def _constant(e: sympy.Expr, where: str) -> ir.Const:
    """Return a number exactly, or to 40 digits under its symbolic name."""
    value = _summed(as_decimal(e))
    if not isinstance(value, sympy.Rational):
        value = value.evalf(_DIGITS)
    if isinstance(value, sympy.Rational):
        return ir.Const(Fraction(int(value.p), int(value.q)))
    if not isinstance(value, sympy.Float) or not value.is_finite:
        raise ModelError(where, f"the constant {e} is not a finite real number ({value})")
    tiny = float(value) == 0  # its Fraction may have a million digits
    return ir.Const(Fraction(0 if tiny else str(value)), str(e))


def _summed(e: Any) -> Any:
    """Return a number with sums and products evaluated, which a substitution leaves unevaluated.

    Powers stay, since they may be huge, except those of 0: `evalf` finds 1e178 for 1/(-1 + 1).
    """
    if not e.args:
        return e
    args = [_summed(a) for a in e.args]
    return e.func(*args, evaluate=e.is_Add or e.is_Mul or args[0] == 0)
