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
from typing import Any, cast, get_args

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.language.functions import ExprLike, Where, as_expr, replaced
from lnm_codegen.language.phases import Assignments, Named, assignments, named, outputs, surrogates
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import (
    SCOPE,
    Declared,
    Granularity,
    Input,
    Param,
    Spike,
    State,
    check_bool,
    check_name,
    spike,
)
from lnm_codegen.language.wellformed import check_added, check_neuron, declared_in, used_symbols
from lnm_codegen.validation import did_you_mean


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
    output: Named
    surrogates: tuple[tuple[str, Surrogate], ...]
    detach_reset: bool
    counts: Named
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
        if name is not None:
            check_name(name, "neuron")
        name = name or (scope.family if scope else "neuron")
        set_ = object.__setattr__
        set_(self, "name", name)
        set_(self, "charge", assignments(charge or {}, f"{name}.charge", State))
        if fire is None or not isinstance(fire, Mapping):
            fire = {} if fire is None else {spike: fire}
        set_(self, "fire", assignments(fire, f"{name}.fire", Spike))
        set_(self, "reset", assignments(reset or {}, f"{name}.reset", State))
        set_(self, "output", outputs(output, self.fire, name))
        set_(self, "surrogates", surrogates(surrogate, self.fire, name))
        check_bool(detach_reset, f"{name}: detach_reset")
        set_(self, "detach_reset", detach_reset)
        set_(self, "counts", ())
        used = used_symbols(self)
        _set_symbols(self, tuple(scope.symbols) if scope else used)
        check_neuron(self, used)

    def __repr__(self) -> str:
        return f"<neuron {self.name}: states {', '.join(s.name for s in self.states) or 'none'}>"

    @property
    def spikes(self) -> tuple[str, ...]:
        """Names of the spikes, in order."""
        return tuple(s.name for s, _ in self.fire)

    def with_detach_reset(self, detach_reset: bool) -> Neuron:
        """Return the same neuron with `detach_reset` set, True or False."""
        check_bool(detach_reset, f"{self.name}: detach_reset")
        return _copy(self, detach_reset=detach_reset)

    def with_outputs(self, **more: ExprLike) -> Neuron:
        """Return the same neuron with further named outputs after its own.

        Raises:
            ModelError: A name that is taken or reserved, an expression that is none or reads what
                the neuron does not have.
        """
        where = f"{self.name}.with_outputs"
        return _copy(self, output=self.output + self._named(more, where))

    def with_counts(self, **counts: ExprLike) -> Neuron:
        """Return the same neuron with expressions that are summed over steps and neurons.

        Raises:
            ModelError: As for `with_outputs`.
        """
        where = f"{self.name}.with_counts"
        return _copy(self, counts=self.counts + self._named(counts, where))

    def _named(self, more: Mapping[str, ExprLike], where: str) -> Named:
        # A symbol declared before `with_per` means that of the same declaration here.
        own = {(s.name, s.order): s for s in self.symbols}
        pairs = tuple(
            (word, replaced(e, {s: own.get((s.name, s.order), s) for s in declared_in(e)}))
            for word, e in named(more, where)
        )
        check_added(self, where, pairs)
        return pairs

    def with_per(self, per: Granularity | Mapping[str, Granularity]) -> Neuron:
        """Return the same neuron with its learnable parameters at another granularity.

        Args:
            per: One word for every learnable parameter, or a word by parameter name.

        Raises:
            ModelError: No such parameter, or no such word.
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

        def moved(pairs: tuple[tuple[Any, sympy.Expr], ...]) -> tuple[tuple[Any, Any], ...]:
            return tuple((key, replaced(e, table)) for key, e in pairs)

        phases = ("charge", "fire", "reset", "output", "counts")
        new = _copy(self, **{phase: moved(getattr(self, phase)) for phase in phases})
        _set_symbols(new, tuple(table.get(s, s) for s in self.symbols))
        return new


def _granularities(neuron: Neuron, per: Any) -> dict[str, Granularity]:
    """Return the words of `with_per` by parameter name, checked."""
    if not isinstance(per, str | Mapping):
        raise ModelError(neuron.name, f"per is {per!r}", "a word, or a dict of words by parameter")
    known = {p.name for p in neuron.params}
    for word in () if isinstance(per, str) else per:
        if not known:
            raise ModelError(
                neuron.name,
                f"per names {word!r}, but the neuron has no parameters",
                "an empty dict",
                "Leave per out.",
            )
        if word not in known:
            raise ModelError(
                neuron.name,
                f"per names {word!r}, which is no parameter",
                ", ".join(sorted(known)),
                did_you_mean(str(word), known),
            )
    for word in (per,) if isinstance(per, str) else per.values():
        if word not in get_args(Granularity):
            raise ModelError(neuron.name, f"per is {word!r}", "'layer', 'channel', 'neuron'")
    if isinstance(per, str):
        return {p.name: cast("Granularity", per) for p in neuron.params if p.learnable}
    return dict(per)


def _set_symbols(neuron: Neuron, symbols: tuple[Declared, ...]) -> None:
    """Set the declared symbols, and what follows from them."""
    params = dict.fromkeys(s.decl for s in symbols if isinstance(s.decl, Param))
    fields = {
        "symbols": symbols,
        "states": tuple(s for s in symbols if isinstance(s.decl, State)),
        "inputs": tuple(s for s in symbols if isinstance(s.decl, Input)),
        "params": tuple(params),
    }
    for field, value in fields.items():
        object.__setattr__(neuron, field, value)


def _copy(neuron: Neuron, **fields: Any) -> Neuron:
    """`dataclasses.replace` for a class whose `__init__` takes other arguments."""
    new = object.__new__(Neuron)
    for field in Neuron.__dataclass_fields__:
        object.__setattr__(new, field, fields.get(field, getattr(neuron, field)))
    return new
