"""Well-formed neurons: the phases of `lnm.Neuron` as pairs, and the rules that they obey.

A phase is a tuple of pairs: a symbol or name, and its expression.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Input, Param, SpikeDeclaration, State
from lnm_codegen.language.binding import Bindings, Bound, bindings_of, numbered, read_by
from lnm_codegen.language.bounds import require_expression
from lnm_codegen.language.functions import as_expr, replaced
from lnm_codegen.language.misuse import is_condition, no_margin
from lnm_codegen.language.names import require_name
from lnm_codegen.language.surrogate import Surrogate, atan
from lnm_codegen.language.symbols import Assignments, Declared, Named, is_spike, spike
from lnm_codegen.validation import did_you_mean, shown

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
    given = atan() if given is None else given
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
