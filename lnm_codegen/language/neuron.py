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

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, get_args

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import (
    Granularity,
    Init,
    Input,
    Param,
    Prologue,
    SpikeDeclaration,
    State,
)
from lnm_codegen.language.binding import Bindings, Bound, bindings_of, numbered, read_by
from lnm_codegen.language.bounds import require_expression
from lnm_codegen.language.functions import ExprLike, Where, as_expr, replaced
from lnm_codegen.language.misuse import is_condition, no_margin
from lnm_codegen.language.surrogate import DEFAULT, Surrogate
from lnm_codegen.language.symbols import (
    SCOPE,
    Assignments,
    Declared,
    Named,
    is_spike,
    require_init,
    require_name,
    spike,
)
from lnm_codegen.language.text.written import written
from lnm_codegen.validation import (
    did_you_mean,
    require_bool,
    require_known,
    require_one_of,
    shown,
    wrong,
)

_LONGEST_LINE = 160
_LONGEST_VECTOR = 6
_MOST_BOUND = 20
_DETACHED = "reset   spikes inside it have no derivative (detach_reset)"
_LONGEST_NUMBER, _DIGITS = 10, 8
"""Digits of a number that is printed as it is; significant digits of any other."""


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
        return text(self)

    def _repr_latex_(self) -> str:
        return latex(self)

    def __deepcopy__(self, memo: Any) -> Neuron:
        return self

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


# Well-formed neurons: the phases of `lnm.Neuron` as pairs, and the rules that they obey.
#
# A phase is a tuple of pairs: a symbol or name, and its expression.


_RESETS = "Write lnm.hard_reset(v, 0.0), lnm.soft_reset(v, 1.0), or None for no reset."
_SURROGATES = "a surrogate such as lnm.surrogate.atan(), or one for each spike of fire"


class Phases(NamedTuple):
    """Expressions of a neuron by phase."""

    charge: Assignments
    fire: Assignments
    reset: Assignments
    output: Named


def phases_of(name: str, charge: Any, fire: Any, reset: Any, output: Any) -> Phases:
    """Return the arguments of `Neuron` as phases; see there."""
    if not isinstance(fire, Mapping):
        fire = {} if fire is None else {spike: fire}
    charged = _assignments(f"{name}.charge", {} if charge is None else charge, State)
    for key, z in fire.items():
        if is_condition(z):
            raise no_margin(z, f"{name}.fire[{key}]")
    fired = _assignments(f"{name}.fire", fire, SpikeDeclaration)
    after = _assignments(f"{name}.reset", {} if reset is None else reset, State, _RESETS)
    return Phases(charged, fired, after, _outputs(f"{name}.output", output, fired))


def _assignments(where: str, given: Any, kind: type, remedy: str = "") -> Assignments:
    """Return {symbol: expression} as pairs; every symbol is declared as `kind`: state or spike."""
    if not isinstance(given, Mapping):
        raise ModelError(where, f"{shown(given)} is not a dict", "{symbol: expression}", remedy)
    for key in given:
        if not (isinstance(key, Declared) and isinstance(key.decl, kind)):
            noun, made = ("state", "state") if kind is State else ("spike", "spike_named")
            raise ModelError(
                where, f"the key {shown(key)} is not a {noun}", f"symbols made by lnm.{made}"
            )
    return tuple((s, require_expression(f"{where}[{s.name}]", e)) for s, e in given.items())


def _outputs(where: str, output: Any, fire: Assignments) -> Named:
    if output is None:
        if spike not in dict(fire):
            problem = "no spike is named lnm.spike, the default output"
            remedy = "Give output=, an expression or {name: expression}."
            raise ModelError(where, problem, remedy=remedy)
        output = spike
    if not isinstance(output, Mapping):
        expr = as_expr(output, where)
        output = {expr.name if isinstance(expr, Declared) and is_spike(expr) else "out": expr}
    if not output:
        raise ModelError(where, "no output", remedy="Give an expression or {name: expression}.")
    return _named(where, output)


def _named(where: str, given: Mapping[Any, Any]) -> Named:
    names = [key if key == "spike" else require_name(where, key) for key in given]
    return tuple((n, require_expression(f"{where}[{n}]", given[n])) for n in names)


def surrogates(where: str, given: Any, fire: Assignments) -> tuple[tuple[str, Surrogate], ...]:
    """Return one surrogate per spike, in the order of `fire`; keys are spikes or their names."""
    if given is not None and not isinstance(given, Surrogate | Mapping):
        raise ModelError(where, f"{shown(given)} is not a surrogate", _SURROGATES)
    if isinstance(given, Surrogate) and not fire:
        raise ModelError(where, "given, but the neuron has no spike", remedy="Remove it.")
    given = DEFAULT() if given is None else given
    table = given if isinstance(given, Mapping) else {s: given for s, _ in fire}
    spikes = [s.name for s, _ in fire]
    found: dict[str, Surrogate] = {}
    for key, value in table.items():
        name = key.name if isinstance(key, Declared) else key
        if name not in spikes:
            raise ModelError(where, f"fire has no spike {shown(name)}", ", ".join(spikes) or "none")
        if name in found:
            raise ModelError(where, f"{name!r} occurs twice", "one surrogate for each spike")
        if not isinstance(value, Surrogate):
            raise ModelError(where, f"{name!r} has {shown(value)}", _SURROGATES)
        require_expression(f"{where}[{name}]", value.slope)
        found[name] = value
    missing = [s.name for s, _ in fire if s.name not in found]
    if missing:
        raise ModelError(where, f"none for {', '.join(missing)}", remedy="Give one per spike.")
    return tuple((s.name, found[s.name]) for s, _ in fire)


def _declared_in(expr: Any) -> set[Declared]:
    """Return the declared symbols that an expression reads, spikes too."""
    return {s for s in read_by(expr) if isinstance(s, Declared) and not isinstance(s, Bound)}


def with_bindings(
    where: str, phases: Phases, symbols: Sequence[Declared]
) -> tuple[Phases, Bindings]:
    """Return the phases and the bound values that they read, with names of their own."""
    bindings = bindings_of(e for pairs in phases for _, e in pairs)
    taken = [*_names_of(symbols), *(s.name for s, _ in phases.fire), *(n for n, _ in phases.output)]
    table = numbered(where, bindings, taken)
    if not table:
        return phases, bindings

    def moved(pairs: Any) -> Any:
        return tuple((table.get(key, key), replaced(e, table)) for key, e in pairs)

    return Phases(*map(moved, phases)), moved(bindings)


def _names_of(symbols: Sequence[Declared]) -> list[str]:
    """Return the names of symbols, and those of vectors."""
    params = dict.fromkeys(s.decl for s in symbols if isinstance(s.decl, Param))
    return [*(s.name for s in symbols), *(p.name for p in params if p.size is not None)]


def _with_whole_vectors(found: Iterable[Declared]) -> tuple[Declared, ...]:
    """Add the elements of a vector that no expression reads, so that it keeps its length.

    The order of declaration identifies the elements of one vector: an expression of a copied neuron
    may hold symbols of the copy and of the original, which are equal but not identical.
    """
    result: dict[int, Declared] = {}
    for symbol in found:
        result[symbol.order] = symbol
        decl = symbol.decl
        if isinstance(decl, Param) and decl.size is not None:
            first = symbol.order - decl.element_names.index(symbol.name)
            for k, name in enumerate(decl.element_names):
                result.setdefault(first + k, Declared(name, decl, first + k))
    return tuple(result[order] for order in sorted(result))


def symbols_of(
    name: str, phases: Phases, declared: Sequence[Declared] | None
) -> tuple[Declared, ...]:
    """Return the symbols of a neuron in the order of declaration.

    Args:
        name: Name of the neuron.
        phases: Its expressions.
        declared: Declarations of its family; None takes those that the expressions use.

    Raises:
        ModelError: The phases and the symbols do not make a neuron.
    """
    found = {s for s, _ in (*phases.charge, *phases.reset)}
    for _, expr in (pair for phase in phases for pair in phase):
        found |= {s for s in _declared_in(expr) if not is_spike(s)}
    found |= {s.start for s in found if s.start is not None}
    used = _with_whole_vectors(found)
    symbols = used if declared is None else tuple(declared)
    spikes = [s for s, _ in phases.fire]
    names = [*_names_of(symbols), *(s.name for s in spikes)]
    for word in names:
        if names.count(word) > 1:
            remedy = "Rename one of them. A neuron cannot read the symbols of another neuron."
            raise ModelError(name, f"{word!r} is declared twice", remedy=remedy)
    for phase in ("charge", "reset"):
        for state, _ in getattr(phases, phase):
            _require_read(f"{name}.{phase}", state, {*symbols})
    for state in symbols:
        if state.start is not None:
            _require_read(f"state {state.name!r}", state.start, {*symbols})
    for phase, pairs in phases._asdict().items():
        reads_spikes = phase in ("reset", "output")
        known = {*symbols, *(spikes if reads_spikes else ())}
        for _, expr in pairs:
            _require_read(f"{name}.{phase}", expr, known, () if reads_spikes else spikes)
    for problem, remedy in _omissions(phases, symbols, used):
        raise ModelError(name, problem, remedy=remedy)
    return symbols


def _omissions(
    phases: Phases, symbols: Sequence[Declared], used: Iterable[Declared]
) -> Iterator[tuple[str, str]]:
    """Yield a problem and its remedy for each expression or declaration that is missing."""
    assigned = {s for s, _ in (*phases.charge, *phases.reset)}
    for symbol in symbols:
        if isinstance(symbol.decl, State) and symbol not in assigned:
            problem = f"state {symbol.name!r} is set by neither charge nor reset"
            yield problem, "Give it an expression, or make it a parameter."
    if not any(isinstance(s.decl, Input) for s in symbols):
        yield "no input", "Declare at least one, lnm.input('x'); it gives the layer its shape."
    read = {s.decl for s in used}
    for symbol in symbols:
        if symbol.decl in read and not getattr(symbol.decl, "read", True):
            problem = f"{symbol.name!r} has read = false, and an expression reads it"
            yield problem, "Leave read out."
        if symbol.decl not in read and getattr(symbol.decl, "read", True):
            problem = f"{symbol.name!r} is declared but no expression reads it"
            yield problem, "Use it or remove the declaration."


def added(
    where: str,
    given: Mapping[str, Any],
    taken: Collection[str],
    symbols: Sequence[Declared],
    fire: Assignments,
    bindings: Bindings,
) -> tuple[Named, Bindings]:
    """Return further outputs or counts of a neuron as pairs, and all its bound values.

    A symbol that was declared before `with_per` stands for its present declaration.
    """
    named, spikes = _named(where, given), tuple(s for s, _ in fire)
    present = {(s.name, s.order): s for s in symbols}
    bound = {s.order: (s, e) for s, e in bindings}
    table: dict[Any, Any] = {
        s: present.get((s.name, s.order), s) for _, e in named for s in _declared_in(e)
    }
    more: Bindings = ()
    for s, e in bindings_of(e for _, e in named):
        known, definition = bound.get(s.order, (None, None))
        if known is not None and definition == replaced(e, table):
            table[s] = known
        else:  # new, although a neuron of another process may have a value of the same order
            more += ((s, e),)
    names = [*_names_of(symbols), *(s.name for s in spikes), *taken, *given]
    names += [s.name for s, _ in bindings]
    table |= numbered(where, more, names)
    bindings += tuple((table.get(s, s), replaced(e, table)) for s, e in more)
    pairs = tuple((word, replaced(e, table)) for word, e in named)
    for word, expr in pairs:
        if word in taken:
            accepted = f"names other than {', '.join(taken)}"
            raise ModelError(where, f"{word!r} already exists", accepted)
        _require_read(f"{where}[{word}]", expr, {*symbols, *spikes}, own=dict(bindings))
    return pairs, bindings


def _require_read(
    where: str,
    expr: Any,
    known: set[Declared],
    hidden: Collection[Declared] = (),
    own: Mapping[Any, Any] | None = None,
) -> None:
    for symbol in sorted(read_by(expr, own) - known, key=str):
        if symbol in hidden:
            remedy = (
                "Only reset and output may; to read the spike of the previous step, store it in"
                " a state: reset={s_prev: lnm.spike}."
            )
            raise ModelError(where, f"reads the spike {symbol.name!r}", remedy=remedy)
        names, word = sorted({s.name for s in known}), symbol.name
        problem, remedy = f"unknown symbol {word!r}", did_you_mean(word, names)
        if isinstance(symbol, Declared) and not is_spike(symbol):
            problem = f"{word!r} is a symbol of another neuron, or declared outside this one"
            remedy = (
                f"Use this neuron's own {word!r}." if word in names else "Declare it in this one."
            )
        elif word in names:
            remedy = f"Use the declared symbol, not sympy.Symbol({word!r})."
        raise ModelError(where, problem, names, remedy)


# Equations and declarations of a neuron, as lines of text and in LaTeX.


def equations(neuron: Neuron) -> tuple[str, ...]:
    """Return the definition as lines of text: phase, symbol, expression."""
    lines = [f"bound   {s} = {e}" for s, e in neuron.bindings]
    lines += [f"charge  {s} <- {e}" for s, e in neuron.charge]
    lines += [f"fire    {s} = [{e} >= 0]" for s, e in neuron.fire]
    lines += [f"reset   {s} <- {e}" for s, e in neuron.reset]
    return (*lines, *(f"output  {name} = {e}" for name, e in neuron.output))


def slopes(neuron: Neuron) -> tuple[str, ...]:
    """Return what derivatives depend on beside the equations: the slope of each spike, in a line.

    A surrogate of the library is named, with its argument.
    """
    lines = [
        f"slope   d {spike}/dz = {_rounded(s.slope)}" + (f"  ({s})" if s.arguments else "")
        for spike, s in neuron.surrogates
    ]
    return (*lines, _DETACHED) if neuron.detach_reset else tuple(lines)


def brief(neuron: Neuron) -> tuple[str, ...]:
    """Return the definition as in `equations`, for reading.

    More than 20 bound values become one line, and long numbers have 8 significant digits.
    """
    bound = [f"bound   {s} = {_rounded(e)}" for s, e in neuron.bindings]
    if len(bound) > _MOST_BOUND:
        bound = [f"bound   {len(bound)} values (neuron.bindings holds them)"]
    lines = [f"charge  {s} <- {_rounded(e)}" for s, e in neuron.charge]
    lines += [f"fire    {s} = [{_rounded(e)} >= 0]" for s, e in neuron.fire]
    lines += [f"reset   {s} <- {_rounded(e)}" for s, e in neuron.reset]
    return (*bound, *lines, *(f"output  {name} = {_rounded(e)}" for name, e in neuron.output))


def _rounded(expr: Any) -> Any:
    """Return an expression whose numbers have at most 8 significant digits, or are short."""
    numbers = expr.atoms(sympy.Rational, sympy.Float)
    long = [n for n in numbers if sum(map(str.isdigit, str(n))) > _LONGEST_NUMBER]
    return replaced(expr, {n: sympy.Float(n, _DIGITS) for n in long}) if long else expr


def text(neuron: Neuron) -> str:
    """Return name, equations, surrogates and declarations, a line each; long ones are cut."""
    lines = [*brief(neuron)]
    lines += [f"slope   d {spike}/dz = {s.slope}  ({s.name})" for spike, s in neuron.surrogates]
    if neuron.detach_reset:
        lines.append(_DETACHED)
    lines += [f"state   {s} {_initial(s.decl)}" for s in neuron.states]
    lines += [f"input   {s}" for s in neuron.inputs]
    for p in neuron.params:
        drawn = "" if p.draw is None else ", drawn in a layer"
        lines.append(f"param   {p.name} {_start(p.init)}{drawn}, {_kind(p)}")
    return "\n".join([f"neuron {neuron.name}", *(f"  {_cut(line)}" for line in lines)])


def latex(neuron: Neuron) -> str:
    """Return equations and declarations as an array in LaTeX, a row each, between `$` signs."""
    rows = [("bound", f"{_tex(s)} = {_tex(e)}") for s, e in neuron.bindings]
    rows += [("charge", rf"{_tex(s)} \leftarrow {_tex(e)}") for s, e in neuron.charge]
    rows += [("fire", rf"{_tex(s)} = \left[{_tex(e)} \geq 0\right]") for s, e in neuron.fire]
    rows += [("reset", rf"{_tex(s)} \leftarrow {_tex(e)}") for s, e in neuron.reset]
    rows += [("output", f"{_tex_name(name)} = {_tex(e)}") for name, e in neuron.output]
    declared = (
        ("states", [_tex(s) + _tex_initial(s.decl) for s in neuron.states]),
        ("inputs", [_tex(s) for s in neuron.inputs]),
        ("parameters", [_tex_name(p.name) + _tex_start(p.init) for p in neuron.params]),
    )
    rows += [(kind, r",\; ".join(items)) for kind, items in declared if items]
    lines = [rf"{_upright(neuron.name)} &", *(rf"\text{{{kind}}} & {row}" for kind, row in rows)]
    body = " \\\\\n".join(lines)
    return f"$\\displaystyle \\begin{{array}}{{ll}}\n{body}\n\\end{{array}}$"


def _kind(param: Param) -> str:
    per = "" if param.per == "layer" and not param.learnable else f" per {param.per}"
    return ("learnable" if param.learnable else "constant") + per


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..."


def _initial(state: Any) -> str:
    return f"= {state.param}" if state.param else _start(state.init)


def _tex_initial(state: Any) -> str:
    return f" = {_tex_name(state.param)}" if state.param else _tex_start(state.init)


def _start(init: Init) -> str:
    return f"drawn by {_name_of(init)}" if callable(init) else f"= {_numbers(init, '...')}"


def _tex_start(init: Init) -> str:
    """Return the initial value after a symbol: = number, = (vector), or ~ distribution."""
    if callable(init):
        return rf" \sim {_upright(_name_of(init))}"
    return f" = {_numbers(init, chr(92) + 'ldots')}"


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _numbers(init: Any, ellipsis: str) -> str:
    """Return a number, or at most six of a vector."""
    if not isinstance(init, tuple):
        return f"{init + 0.0:g}"  # + 0.0: so that -0.0 becomes 0
    shown = [f"{value + 0.0:g}" for value in init[:_LONGEST_VECTOR]]
    more = [ellipsis] if len(init) > _LONGEST_VECTOR else []
    return f"[{', '.join([*shown, *more])}]"


def _tex(expr: Any) -> str:
    names = {symbol: _tex_name(symbol.name) for symbol in expr.free_symbols}
    return str(sympy.latex(expr, symbol_names=names, mul_symbol=r" \, "))


def _tex_name(name: str) -> str:
    r"""Return a name as SymPy writes it, `\theta_{0}`; several Latin letters stand upright."""
    return re.sub(r"^[A-Za-z]{2,}", r"\\mathrm{\g<0>}", str(sympy.latex(sympy.Symbol(name))))


def _upright(name: str) -> str:
    return r"\mathrm{" + re.sub(r"[^A-Za-z0-9]", lambda m: "\\" + m[0], name) + "}"
