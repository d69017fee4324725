"""A neuron: charge, fire, reset and output as SymPy expressions, for one neuron and one step.

| phase | reads | writes |
| --- | --- | --- |
| charge | states of step t-1, inputs, parameters | a new value per state, all at once |
| fire | charged states, inputs, parameters | z per spike; spike = 1 if z >= 0 else 0 |
| reset | charged states, spikes, inputs, parameters | the states of step t |
| output | charged states, spikes, inputs, parameters | what leaves the layer |

A state without a charge keeps its value; one without a reset keeps its charged value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.functions import ExprLike, Where, as_expr, check_functions, did_you_mean
from lnm_codegen.surrogate import Surrogate, atan
from lnm_codegen.symbols import (
    SCOPE,
    Declared,
    Granularity,
    Input,
    Param,
    Spike,
    State,
    check_identifier,
    check_name,
    is_spike,
    spike,
)

Assignments = tuple[tuple[Declared, sympy.Expr], ...]


def hard_reset(state: Declared, v_reset: ExprLike = 0.0, on: Declared = spike) -> dict[Any, Any]:
    """Return {state: where(spike, v_reset, state)}."""
    return {state: Where(on, as_expr(v_reset, "hard_reset"), state)}


def soft_reset(state: Declared, amount: ExprLike, on: Declared = spike) -> dict[Any, Any]:
    """Return {state: state - spike*amount}."""
    return {state: state - on * as_expr(amount, "soft_reset")}


@dataclass(frozen=True, init=False, repr=False)
class Neuron:
    """The definition of a neuron, checked when it is made and immutable afterwards.

    Args:
        charge: State -> its charged value.
        fire: z of `lnm.spike`, or spike -> z; None for a neuron that never spikes.
        reset: State -> its value after the step; may set a state that has no charge.
        output: What leaves the layer, an expression or name -> expression; the spike by default.
        surrogate: One for every spike, or spike -> surrogate. Default: atan(alpha=2).
        detach_reset: Makes every spike inside reset a constant to the derivative.
        name: An identifier; a family gives its own.

    Raises:
        ModelError: An expression reads what its phase may not, a state is never set, a function
            is not of the language, two declarations share a name.
    """

    name: str
    states: tuple[Declared, ...]
    inputs: tuple[Declared, ...]
    params: tuple[Param, ...]
    charge: Assignments
    fire: Assignments
    reset: Assignments
    output: tuple[tuple[str, sympy.Expr], ...]
    surrogates: tuple[tuple[str, Surrogate], ...]
    detach_reset: bool
    counts: tuple[tuple[str, sympy.Expr], ...]
    symbols: tuple[Declared, ...]

    def __init__(
        self,
        charge: Mapping[Any, Any] | None = None,
        fire: Any = None,
        reset: Mapping[Any, Any] | None = None,
        output: Any = None,
        surrogate: Surrogate | Mapping[Any, Surrogate] | None = None,
        detach_reset: bool = False,
        name: str | None = None,
    ) -> None:
        scope = SCOPE.get()
        name = name or (scope.family if scope else "neuron")
        check_identifier(name, "neuron")
        set_ = object.__setattr__
        set_(self, "name", name)
        set_(self, "charge", _assignments(charge or {}, f"{name}.charge", State))
        if fire is None or not isinstance(fire, Mapping):
            fire = {} if fire is None else {spike: fire}
        set_(self, "fire", _assignments(fire, f"{name}.fire", Spike))
        set_(self, "reset", _assignments(reset or {}, f"{name}.reset", State))
        set_(self, "output", _outputs(output, self.fire, name))
        set_(self, "surrogates", _surrogates(surrogate, self.fire, name))
        set_(self, "detach_reset", bool(detach_reset))
        set_(self, "counts", ())
        used = _used_symbols(self)
        declared = tuple(scope.symbols) if scope else used
        set_(self, "symbols", declared)
        set_(self, "states", _of(declared, State))
        set_(self, "inputs", _of(declared, Input))
        set_(self, "params", tuple(dict.fromkeys(s.decl for s in _of(declared, Param))))
        _check(self, used)

    def __repr__(self) -> str:
        return f"<neuron {self.name}: states {', '.join(s.name for s in self.states) or 'none'}>"

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the spikes, in order."""
        return tuple(s.name for s, _ in self.fire)

    def with_detach_reset(self, detach_reset: bool) -> Neuron:
        """Return the same neuron with `detach_reset` set."""
        return _copy(self, detach_reset=detach_reset)

    def with_outputs(self, **more: sympy.Expr) -> Neuron:
        """Return the same neuron with further named outputs after its own."""
        return _copy(self, output=self.output + tuple(more.items()))

    def with_counts(self, **counts: sympy.Expr) -> Neuron:
        """Return the same neuron with expressions that are summed over steps and neurons."""
        return _copy(self, counts=self.counts + tuple(counts.items()))

    def with_per(self, per: Granularity | Mapping[str, Granularity]) -> Neuron:
        """Return the same neuron with its learnable parameters at another granularity.

        Args:
            per: One word for every learnable parameter, or a word by parameter name.
        """
        if not isinstance(per, str | Mapping):
            raise ModelError(
                f"{self.name}: per is {per!r}. Accepted: a word, or a dict of words by parameter."
            )
        known = {p.name for p in self.params}
        for word in () if isinstance(per, str) else per:
            if word not in known:
                raise ModelError(
                    f"{self.name}: per names {word!r}, which is no parameter. Accepted:"
                    f" {', '.join(sorted(known))}.{did_you_mean(word, known)}"
                )
        for word in (per,) if isinstance(per, str) else per.values():
            if word not in ("layer", "channel", "neuron"):
                raise ModelError(
                    f"{self.name}: per is {word!r}. Accepted: 'layer', 'channel', 'neuron'."
                )

        def at(decl: Param) -> Param:
            if isinstance(per, str):
                return decl.with_per(per) if decl.learnable else decl
            return decl.with_per(per.get(decl.name, decl.per))

        return _copy(self, params=tuple(at(p) for p in self.params))


def _copy(neuron: Neuron, **fields: Any) -> Neuron:
    """`dataclasses.replace` for a class whose `__init__` takes other arguments."""
    new = object.__new__(Neuron)
    for field in Neuron.__dataclass_fields__:
        object.__setattr__(new, field, fields.get(field, getattr(neuron, field)))
    return new


def _of(symbols: tuple[Declared, ...], kind: type) -> tuple[Declared, ...]:
    return tuple(s for s in symbols if isinstance(s.decl, kind))


def _assignments(given: Mapping[Any, Any], where: str, kind: type) -> Assignments:
    if not isinstance(given, Mapping):
        raise ModelError(f"{where}: {given!r} is not a dict. Accepted: {{symbol: expression}}.")
    pairs = []
    for key, value in given.items():
        if not (isinstance(key, Declared) and isinstance(key.decl, kind)):
            made = "lnm.state" if kind is State else "lnm.spike_named"
            raise ModelError(
                f"{where}: the key {key!r} is not a {kind.__name__.lower()}. Accepted: symbols"
                f" made by {made}."
            )
        expr = as_expr(value, f"{where}[{key.name}]")
        check_functions(expr, f"{where}[{key.name}]")
        pairs.append((key, expr))
    return tuple(pairs)


def _outputs(output: Any, fire: Assignments, name: str) -> tuple[tuple[str, sympy.Expr], ...]:
    if output is None:
        if spike not in dict(fire):
            raise ModelError(
                f"{name}.output: the neuron has no spike named lnm.spike to put out. Give"
                " output=, an expression or {name: expression}."
            )
        output = spike
    if not isinstance(output, Mapping):
        expr = as_expr(output, f"{name}.output")
        output = {expr.name if isinstance(expr, Declared) and is_spike(expr) else "out": expr}
    if not output:
        raise ModelError(f"{name}.output: no output. Give an expression or {{name: expression}}.")
    pairs = []
    for key, value in output.items():
        if key != "spike":
            check_name(key, f"{name}.output")
        expr = as_expr(value, f"{name}.output[{key}]")
        check_functions(expr, f"{name}.output[{key}]")
        pairs.append((str(key), expr))
    return tuple(pairs)


def _surrogates(given: Any, fire: Assignments, name: str) -> tuple[tuple[str, Surrogate], ...]:
    given = atan() if given is None else given
    table = given if isinstance(given, Mapping) else {s: given for s, _ in fire}
    for key, value in table.items():
        if key not in dict(fire) or not isinstance(value, Surrogate):
            raise ModelError(
                f"{name}.surrogate: {key!r}: {value!r}. Accepted: a surrogate such as"
                " lnm.surrogate.atan(), or one for each spike of fire."
            )
    missing = [s.name for s, _ in fire if s not in table]
    if missing:
        raise ModelError(f"{name}.surrogate: none for {', '.join(missing)}. Give one per spike.")
    return tuple((s.name, table[s]) for s, _ in fire)


def _used_symbols(neuron: Neuron) -> tuple[Declared, ...]:
    """Return every declared symbol that the expressions use, in creation order."""
    exprs = [e for _, e in (*neuron.charge, *neuron.fire, *neuron.reset, *neuron.output)]
    found = {s for s, _ in (*neuron.charge, *neuron.reset)}
    for expr in exprs:
        found |= {s for s in expr.free_symbols if isinstance(s, Declared) and not is_spike(s)}
    return _whole_vectors(found)


def _whole_vectors(found: set[Declared]) -> tuple[Declared, ...]:
    """Add the elements of a vector that no expression reads, so that its shape stays."""
    symbols = sorted(found, key=lambda s: s.order)
    result: list[Declared] = []
    for symbol in symbols:
        decl = symbol.decl
        if not isinstance(decl, Param) or decl.size is None:
            result.append(symbol)
        elif not any(s.decl is decl for s in result):
            known = {s.name: s for s in symbols if s.decl is decl}
            first = symbol.order - decl.element_names.index(symbol.name)
            result += [
                known.get(n, Declared(n, decl, first + k)) for k, n in enumerate(decl.element_names)
            ]
    return tuple(result)


def _check(neuron: Neuron, used: tuple[Declared, ...]) -> None:
    declared = set(neuron.symbols)
    names: list[str] = [s.name for s in neuron.symbols] + list(neuron.spikes)
    names += [p.name for p in neuron.params if p.size is not None]
    for word in names:
        if names.count(word) > 1:
            raise ModelError(f"{neuron.name}: {word!r} is declared twice. Rename one of them.")
    phases = (
        ("charge", neuron.charge, False),
        ("fire", neuron.fire, False),
        ("reset", neuron.reset, True),
        ("output", neuron.output, True),
    )
    spikes = {s for s, _ in neuron.fire}
    for phase, pairs, may_read_spikes in phases:
        for _, expr in pairs:
            for symbol in sorted(expr.free_symbols, key=str):
                if is_spike(symbol) and symbol in spikes and may_read_spikes:
                    continue
                if symbol not in declared:
                    _refuse_symbol(neuron, phase, symbol, spikes if may_read_spikes else set())
    touched = {s for s, _ in (*neuron.charge, *neuron.reset)}
    for state in neuron.states:
        if state not in touched:
            raise ModelError(
                f"{neuron.name}: state {state.name!r} is set by neither charge nor reset. Give it"
                " an expression, or make it a parameter."
            )
    if not neuron.inputs:
        raise ModelError(
            f"{neuron.name}: no input. Declare at least one, lnm.input('x'); it gives the layer its"
            " shape."
        )
    read = {s.decl for s in used}
    for symbol in neuron.symbols:
        if symbol.decl not in read:
            raise ModelError(
                f"{neuron.name}: {symbol.name!r} is declared but no expression reads it. Use it or"
                " remove the declaration."
            )


def _refuse_symbol(neuron: Neuron, phase: str, symbol: Any, spikes: set[Declared]) -> None:
    if is_spike(symbol) and symbol in dict(neuron.fire):
        raise ModelError(
            f"{neuron.name}.{phase}: reads the spike {symbol.name!r}. Only reset and output may;"
            " to use the last spike, keep it in a state: reset={s_prev: lnm.spike}."
        )
    names = sorted({s.name for s in neuron.symbols} | {s.name for s in spikes})
    raise ModelError(
        f"{neuron.name}.{phase}: unknown symbol {symbol.name!r}. Declared:"
        f" {', '.join(names)}.{did_you_mean(symbol.name, names)}"
    )
