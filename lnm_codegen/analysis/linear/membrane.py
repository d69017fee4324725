"""Neurons whose step is that of a leaky integrator, with or without current and threshold.

    i <- current_decay*i + current_gain*x          a current, in a neuron of two states
    v <- decay*v + gain*d + drift                  d is x, or the new current
    spike where v >= threshold, then v <- reset

The coefficients are expressions of parameters, and one spike is the output; or no spike, and v.
A charge that reads `where(v >= threshold, 0, v)` in place of v, as that of snnTorch's Leaky with
reset_mechanism="zero", has the same spikes: the reset is that of the step before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy

from lnm_codegen.analysis.charge import readable_inputs
from lnm_codegen.analysis.linear.step import Values, kernels_of
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.interpret import Array, run
from lnm_codegen.ir.names import Names
from lnm_codegen.language.functions import Where, min, replaced
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import Declared, is_spike

_MOST_BOUND = 8
_TINY = sympy.Rational(1, 10**20)
"""Largest difference from the threshold that stands for none."""


@dataclass(frozen=True)
class Membrane:
    """A neuron of this kind.

    Attributes:
        potential: Name of v; empty if the spike depends on x alone.
        current: Name of i, or empty.
        fires: It has a spike.
        strict: It spikes where v > threshold, not where v >= threshold.
    """

    neuron: Neuron
    potential: str
    current: str
    fires: bool
    strict: bool
    coefficients: Mapping[str, sympy.Expr] = field(repr=False)

    def values(self, params: Values, rows: int) -> dict[str, Array]:
        """Return the coefficients of R parameter sets, (R,) each.

        They are those of the head of this module, and `start`, the initial v, and `current_start`.
        """
        names = Names({s.name for s in self.neuron.symbols})
        keys = {names.fresh("value"): key for key in self.coefficients}
        output = {name: self.coefficients[key] for name, key in keys.items()}
        (x,) = readable_inputs(self.neuron)
        held: dict[str, Any] = {names.fresh("seen"): x}  # so that the neuron reads something
        reader = Neuron(charge={s: s for s in self.neuron.states}, output=output | held)
        kernels = kernels_of(reader, params, rows)
        given = {s.name: 0.0 for s in (*reader.states, *reader.inputs)}
        found = run(kernels.program.forward, {**kernels.table, **given})
        return {key: np.broadcast_to(np.asarray(found[n]), (rows,)) for n, key in keys.items()}


def membrane_of(neuron: Neuron, *, loose: bool = False) -> Membrane:
    """Return the leaky integrator that a neuron is; if `loose`, up to reset and initial states.

    Raises:
        UnsupportedError: It is none; the message names the first difference.
    """
    return _Reader(neuron, loose).membrane()


class _Reader:
    def __init__(self, neuron: Neuron, loose: bool) -> None:
        self._neuron, self._loose = neuron, loose
        self._found: dict[str, sympy.Expr] = {}
        self._bound: dict[sympy.Expr, sympy.Expr] = {}
        self._late = False  # the reset is in the next charge

    def _refuse(self, problem: str, accepted: str) -> UnsupportedError:
        return UnsupportedError(self._neuron.name, problem, accepted)

    def membrane(self) -> Membrane:
        neuron = self._neuron
        if len(neuron.bindings) > _MOST_BOUND:
            raise self._refuse(f"it has {len(neuron.bindings)} bound values", "plain expressions")
        for name, definition in neuron.bindings:
            self._bound[name] = replaced(definition, self._bound)
        if len(neuron.inputs) != 1 or len(neuron.states) > 2:
            problem = f"{len(neuron.inputs)} inputs and {len(neuron.states)} states"
            raise self._refuse(problem, "one input, and at most two states")
        v, strict = self._fire()
        self._output()
        current = next((s for s in neuron.states if s is not v), None)
        if v is None and neuron.states:
            raise self._refuse("the spike depends on x alone", "a spike that depends on a state")
        if v is not None:
            self._charge(v, current, strict)
            self._reset_unless_loose(v)
            if not self._loose:
                self._found["start"] = self._start(v)
        if current is not None and not self._loose:
            self._found["current_start"] = self._start(current)
        names = ["" if s is None else s.name for s in (v, current)]
        return Membrane(neuron, names[0], names[1], bool(neuron.fire), strict, self._found)

    def _fire(self) -> tuple[Declared | None, bool]:
        """Return the state that fires, or that is the output, and whether `>` does."""
        neuron = self._neuron
        if not neuron.fire:
            ((_, out),) = neuron.output if len(neuron.output) == 1 else (("", None),)
            if out not in neuron.states:
                raise self._refuse(f"no spike, and the output {out}", "a state as output")
            return out, False
        if len(neuron.fire) > 1:
            raise self._refuse(f"{len(neuron.fire)} spikes", "one spike")
        z, strict = _inclusive(replaced(neuron.fire[0][1], self._bound))
        poly = self._affine(z, "fire")
        read = [s for s in (*neuron.states, *neuron.inputs) if poly.coeff_monomial(s) != 0]
        if len(read) != 1 or poly.coeff_monomial(read[0]) != 1:
            raise self._refuse(f"fire is {z}", "v - v_threshold")
        self._found["threshold"] = -poly.coeff_monomial(1)
        return (read[0] if read[0] in neuron.states else None), strict

    def _output(self) -> None:
        neuron = self._neuron
        out = neuron.output[0][1] if len(neuron.output) == 1 else None
        if neuron.fire and out != neuron.fire[0][0]:
            texts = ", ".join(str(e) for _, e in neuron.output)
            raise self._refuse(f"the output is {texts}", "the spike")

    def _affine(self, expr: sympy.Expr, phase: str) -> Any:
        symbols = (*self._neuron.states, *self._neuron.inputs)
        if self._bound:
            expr = sympy.expand(replaced(expr, self._bound))
        # SymPy's Float(1) is not equal to 1.
        decimals = {f: sympy.Rational(repr(float(f))) for f in expr.atoms(sympy.Float)}
        try:
            poly = sympy.Poly(expr.xreplace(decimals), *symbols)
        except sympy.PolynomialError:
            poly = None
        if poly is None or poly.total_degree() > 1:
            raise self._refuse(f"{phase} is {_short(expr)}", "an affine function of states and x")
        return poly

    def _charge(self, v: Declared, current: Declared | None, strict: bool) -> None:
        charges = dict(self._neuron.charge)
        x = self._neuron.inputs[0]
        charge = self._without_late_reset(charges.get(v, v), v, strict)
        poly = self._affine(charge, f"the charge of {v}")
        found = self._found
        found["decay"], found["drift"] = poly.coeff_monomial(v), poly.coeff_monomial(1)
        found["gain"] = poly.coeff_monomial(x)
        if current is None:
            return
        own = self._affine(charges.get(current, current), f"the charge of {current}")
        decay, gain = own.coeff_monomial(current), own.coeff_monomial(x)
        if own.coeff_monomial(v) != 0 or own.coeff_monomial(1) != 0 or gain == 0:
            problem = f"state {current}, of charge {_short(own.as_expr())}, is no current"
            raise self._refuse(problem, f"a multiple of {current}, plus a multiple of x")
        if sympy.simplify(poly.coeff_monomial(current) * gain - found["gain"] * decay) != 0:
            problem = f"the charge of {v} reads {current} of the step before"
            raise self._refuse(problem, f"a charge of {v} that reads the new {current}")
        found["gain"] = sympy.cancel(found["gain"] / gain)
        found["current_decay"], found["current_gain"] = decay, gain

    def _without_late_reset(self, charge: sympy.Expr, v: Declared, strict: bool) -> sympy.Expr:
        """Return a charge with v in place of `where(v > threshold, 0, v)`, if it has that alone."""
        threshold = self._found.get("threshold")
        late = [w for w in charge.atoms(Where) if v in getattr(w.operands[0], "free_symbols", ())]
        if threshold is None or not late:
            return charge
        kind = sympy.StrictGreaterThan if strict else sympy.GreaterThan
        (condition, then, kept), *others = [w.operands for w in late]
        known = isinstance(condition, kind) and (condition.lhs, condition.rhs) == (v, threshold)
        alone = v not in replaced(charge, {late[0]: sympy.Integer(0)}).free_symbols
        if others or not known or then != 0 or kept != v or not alone:
            problem = f"the charge of {v} resets it a step late: {_short(charge)}"
            accepted = "a hard reset to a number, as that of Leaky with reset_mechanism='zero'"
            raise self._refuse(problem, accepted)
        self._late = True
        return replaced(charge, {late[0]: v})

    def _reset_unless_loose(self, v: Declared) -> None:
        try:
            self._reset(v)
        except UnsupportedError:
            if not self._loose:
                raise

    def _reset(self, v: Declared) -> None:
        resets = dict(self._neuron.reset)
        if self._late and not resets:
            self._found["reset"] = sympy.Integer(0)
            return
        for state in resets:
            if state is not v:
                raise self._refuse(f"the reset of {state} is {resets[state]}", f"a reset of {v}")
        value = resets.get(v, v)
        if not self._neuron.fire:
            if value != v:
                problem = f"the reset of {v} is {_short(value)}"
                raise self._refuse(problem, "no reset without a spike")
            return
        if not isinstance(value, Where):
            kind = "none" if value == v else _short(value)
            raise self._refuse(f"the reset of {v} is {kind}", "a hard reset to a number")
        on, then, kept = value.operands
        dynamic = {*self._neuron.states, *self._neuron.inputs}
        read = then.free_symbols & dynamic or [s for s in then.free_symbols if is_spike(s)]
        if not is_spike(on) or kept != v or read:
            raise self._refuse(f"the reset of {v} is {_short(value)}", "a hard reset to a number")
        self._found["reset"] = then

    def _start(self, state: Declared) -> sympy.Expr:
        if state.start is not None:
            return state.start
        init = getattr(state.decl, "init", 0.0)
        if callable(init):
            raise self._refuse(f"a function initialises {state}", "a number, or a parameter")
        return sympy.Rational(float(init))


def _inclusive(z: sympy.Expr) -> tuple[sympy.Expr, bool]:
    """Return z of a spike, and whether it occurs at z > 0 alone.

    Then z is `where(a > b, z, min(z, 0) - tiny)`, z = a - b, or z - tiny.
    """
    if not isinstance(z, Where):
        tiny, rest = (-z).as_coeff_Add()
        return (-rest, True) if 0 < tiny <= _TINY else (z, False)
    condition, then, orelse = z.operands
    if isinstance(condition, sympy.StrictGreaterThan):
        tiny = sympy.expand(min(then, 0) - orelse)
        if sympy.expand(condition.lhs - condition.rhs - then) == 0 and tiny.is_positive:
            return then, bool(tiny <= _TINY)
    return z, False


def _short(expr: Any) -> str:
    text = str(expr)
    return text if len(text) <= 60 else f"{text[:57]}..."
