"""Neuron: charge, fire, reset and output as SymPy expressions, for one neuron and one time step.

| phase | reads | writes |
| --- | --- | --- |
| charge | states of step t-1, inputs, parameters | a new value per state, all at once |
| fire | charged states, inputs, parameters | z per spike; spike = 1 if z >= 0 else 0 |
| reset | charged states, spikes, inputs, parameters | the states of step t |
| output | charged states, spikes, inputs, parameters | the outputs of the layer |

A state without a charge keeps its value; one without a reset keeps its charged value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, get_args

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Granularity, Input, Param, Prologue, State
from lnm_codegen.language import display
from lnm_codegen.language.binding import Bindings
from lnm_codegen.language.functions import ExprLike, Where, as_expr, replaced
from lnm_codegen.language.names import require_name
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import (
    SCOPE,
    Assignments,
    Declared,
    Named,
    require_init,
    spike,
)
from lnm_codegen.language.text.written import written
from lnm_codegen.language.wellformed import (
    Phases,
    added,
    phases_of,
    surrogates,
    symbols_of,
    with_bindings,
)
from lnm_codegen.validation import did_you_mean, require_bool, require_known, require_one_of, wrong


def hard_reset(state: Declared, v_reset: ExprLike = 0.0, on: Declared = spike) -> dict[Any, Any]:
    """Return {state: where(spike, v_reset, state)}."""
    return {state: Where(on, as_expr(v_reset, "hard_reset"), state)}


def soft_reset(state: Declared, amount: ExprLike, on: Declared = spike) -> dict[Any, Any]:
    """Return {state: state - spike*amount}."""
    return {state: state - on * as_expr(amount, "soft_reset")}


@dataclass(frozen=True, init=False, repr=False)
class Neuron:
    """Definition of a neuron, valid and immutable.

    Args:
        charge: State -> its charged value.
        fire: z of `lnm.spike`, or spike -> z; None for a neuron that never spikes.
        reset: State -> its value after the step; may set a state that has no charge.
        output: An expression or name -> expression; the spike by default.
        surrogate: One for every spike, or a spike or its name -> surrogate. The default is
            atan(alpha=2).
        detach_reset: Makes every spike inside reset a constant to the derivative.
        name: An identifier; the family's name inside a family.

    Raises:
        ModelError: An expression reads a symbol that its phase may not read, a state is never set,
            a function is not of the language, or two declarations share a name.
    """

    name: str
    states: tuple[Declared, ...]
    inputs: tuple[Declared, ...]
    params: tuple[Param, ...]
    charge: Assignments
    fire: Assignments
    reset: Assignments
    output: Named
    surrogates: tuple[tuple[str, Surrogate], ...]
    detach_reset: bool
    counts: Named
    bindings: Bindings
    symbols: tuple[Declared, ...]
    prologue: Prologue | None

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
        if name is not None:
            require_name("neuron", name)
        name = name or (scope.family if scope else "neuron")
        phases = phases_of(name, charge, fire, reset, output)
        slopes = surrogates(f"{name}.surrogate", surrogate, phases.fire)
        require_bool(name, "detach_reset", detach_reset)
        symbols = symbols_of(name, phases, scope.symbols if scope else None)
        phases, bindings = with_bindings(name, phases, symbols)
        _set(self, name=name, surrogates=slopes, detach_reset=detach_reset, counts=())
        _set(self, prologue=None)
        _set(self, **phases._asdict(), bindings=bindings, **_by_kind(symbols))

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_latex_(self) -> str:
        return display.latex(self)

    def to_toml(self) -> str:
        """Return a definition as text; `lnm.load` of a file with it gives the same neuron.

        The kernels of both are equal. A surrogate by a formula is written as its slope.

        Raises:
            ModelError: A function as initial value, other than the draws of built-in families; a
                normalised neuron; an expression beyond the bounds of text definitions.
        """
        return written(self)

    @cached_property
    def step_params(self) -> tuple[Param, ...]:
        """The parameters that a time step reads: all but those that are only initial values."""
        starts = {s.decl.param for s in self.states}  # type: ignore[union-attr]
        if starts == {""}:
            return self.params
        parts = (self.charge, self.fire, self.reset, self.output, self.counts, self.bindings)
        read = {s.name for pairs in parts for _, e in pairs for s in e.free_symbols}
        return tuple(p for p in self.params if p.name not in starts or p.name in read)

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the spikes, in order."""
        return tuple(s.name for s, _ in self.fire)

    def with_detach_reset(self, detach_reset: bool) -> Neuron:
        """Return the same neuron with `detach_reset` set, True or False."""
        return _copy(self, detach_reset=require_bool(self.name, "detach_reset", detach_reset))

    def with_outputs(self, **more: ExprLike) -> Neuron:
        """Return the same neuron with further named outputs after its own.

        Raises:
            ModelError: A name that is taken or reserved, no expression, or a symbol that the neuron
                does not declare.
        """
        outputs, bindings = self._added("with_outputs", more)
        return _copy(self, output=self.output + outputs, bindings=bindings)

    def with_counts(self, **counts: ExprLike) -> Neuron:
        """Return the same neuron with expressions that are summed over time steps and neurons.

        Raises:
            ModelError: See `with_outputs`.
        """
        more, bindings = self._added("with_counts", counts)
        return _copy(self, counts=self.counts + more, bindings=bindings)

    def _added(self, method: str, more: Mapping[str, ExprLike]) -> tuple[Named, Bindings]:
        taken = [word for word, _ in (*self.output, *self.counts)]
        where = f"{self.name}.{method}"
        return added(where, more, taken, self.symbols, self.fire, self.bindings)

    def with_per(self, per: Granularity | Mapping[str, Granularity]) -> Neuron:
        """Return the same neuron with its learnable parameters at another granularity.

        Args:
            per: One word for every learnable parameter, or a word by parameter name.

        Raises:
            ModelError: An unknown parameter or word.
        """
        at = _granularities(self, per)
        decls = {p: p.with_per(at.get(p.name, p.per)) for p in self.params}
        table: dict[Any, Any] = {
            s: Declared(s.name, decls[s.decl], s.order)
            for s in self.symbols
            if isinstance(s.decl, Param) and decls[s.decl] != s.decl
        }
        if not table:
            return self
        parts = self._parts(table)
        return _copy(self, **parts, **_by_kind(tuple(table.get(s, s) for s in self.symbols)))

    def with_init(self, **values: Any) -> Neuron:
        """Return the same neuron with other initial values of states or parameters.

        Args:
            **values: Name -> a number, or as many as a vector parameter has. A parameter is no
                longer drawn at random. Learned values per channel stay in a layer.

        Raises:
            ModelError: An unknown name, or another value.
        """
        known = {s.name: s.decl for s in self.states} | {p.name: p for p in self.params}
        decls: dict[Any, Any] = {}
        for word, value in values.items():
            old: Any = known[require_known(self.name, "state or parameter", word, known)]
            where = f"{self.name}.with_init: {word}"
            if isinstance(old, State) and old.param:
                raise ModelError(
                    where, "its initial value is a parameter", remedy=f"Set {old.param}."
                )
            size, is_state = getattr(old, "size", None), isinstance(old, State)
            decls[old] = old.with_init(require_init(where, value, size, is_state))
        for state in (s.decl for s in self.states):
            if isinstance(state, State) and state.param in values:
                decls[state] = state.with_init(decls[known[state.param]].init)
        table: dict[Any, Any] = {}
        for s in sorted(self.symbols, key=lambda s: s.start is not None):
            if s.decl in decls:
                table[s] = Declared(s.name, decls[s.decl], s.order, table.get(s.start, s.start))
        parts = {
            word: tuple((table.get(key, key), e) for key, e in pairs)
            for word, pairs in self._parts(table).items()
        }
        return _copy(self, **parts, **_by_kind(tuple(table.get(s, s) for s in self.symbols)))

    def with_prologue(
        self,
        prologue: Prologue,
        bindings: Bindings,
        table: Mapping[Any, Any],
        symbols: tuple[Declared, ...],
        name: str,
    ) -> Neuron:
        """Return a neuron whose first input is a bound value; see `normalisation.normalised`.

        Args:
            prologue: The input and the parameters that the value reads.
            bindings: All bound values of the new neuron, in order.
            table: The input and the present bound values -> what replaces them.
            symbols: The declared symbols of the new neuron.
            name: Its name.
        """
        parts = self._parts(table) | {"bindings": bindings}
        return _copy(self, **parts, prologue=prologue, name=name, **_by_kind(symbols))

    def _parts(self, table: Mapping[Any, Any]) -> dict[str, Any]:
        """Return phases, counts and bound values with the symbols of a table replaced."""
        words = (*Phases._fields, "counts", "bindings")
        return {
            word: tuple((key, replaced(e, table)) for key, e in getattr(self, word))
            for word in words
        }


def require_one_port(where: str, neuron: Neuron, remedy: str = "") -> None:
    """Raise ModelError unless a neuron has one input and one output."""
    if len(neuron.inputs) != 1 or len(neuron.output) != 1:
        problem = f"{neuron.name} has {len(neuron.inputs)} inputs and {len(neuron.output)} outputs"
        raise ModelError(where, problem, "a neuron with one of each", remedy)


def _granularities(neuron: Neuron, per: Any) -> dict[str, Granularity]:
    """Return the valid granularities of `with_per` by parameter name."""
    if not isinstance(per, str | Mapping) or not all(isinstance(word, str) for word in per):
        raise wrong(neuron.name, "per", per, "a word, or a dict of words by parameter")
    table = {p.name: per for p in neuron.params if p.learnable} if isinstance(per, str) else per
    known = sorted(p.name for p in neuron.params)
    for word in table:
        if word not in known:
            remedy = did_you_mean(word, known) if known else "Leave per out."
            problem = f"per names {word!r}, which is not a parameter"
            raise ModelError(neuron.name, problem, known or "an empty dict", remedy)
    for word in (per,) if isinstance(per, str) else per.values():
        require_one_of(neuron.name, "per", word, get_args(Granularity))
    return dict(table)


def _by_kind(symbols: tuple[Declared, ...]) -> dict[str, Any]:
    """Return the fields of a neuron that follow from its declared symbols."""
    return {
        "symbols": symbols,
        "states": tuple(s for s in symbols if isinstance(s.decl, State)),
        "inputs": tuple(s for s in symbols if isinstance(s.decl, Input)),
        "params": tuple(dict.fromkeys(s.decl for s in symbols if isinstance(s.decl, Param))),
    }


def _copy(neuron: Neuron, **changes: Any) -> Neuron:
    """`dataclasses.replace` for a class whose `__init__` takes other arguments."""
    new = object.__new__(Neuron)
    _set(new, **{f.name: getattr(neuron, f.name) for f in fields(neuron)} | changes)
    return new


def _set(neuron: Neuron, **values: Any) -> None:
    for field, value in values.items():
        object.__setattr__(neuron, field, value)
