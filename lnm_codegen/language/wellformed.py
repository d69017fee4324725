"""Rules of a well-formed neuron: each phase reads what it may, and every declaration is used."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.language.phases import Named, Phases
from lnm_codegen.language.symbols import Declared, Input, Param, State, is_spike
from lnm_codegen.validation import did_you_mean


def used_symbols(phases: Phases) -> tuple[Declared, ...]:
    """Return every declared symbol that the phases use, in the order of declaration."""
    found = {s for s, _ in (*phases.charge, *phases.reset)}
    for _, expr in (pair for phase in phases for pair in phase):
        found |= {s for s in declared_in(expr) if not is_spike(s)}
    return _with_whole_vectors(found)


def declared_in(expr: Any) -> set[Declared]:
    """Return the declared symbols that an expression reads, spikes too."""
    return {s for s in expr.free_symbols if isinstance(s, Declared)}


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


def check_neuron(
    name: str, phases: Phases, symbols: Sequence[Declared], used: Iterable[Declared]
) -> None:
    """Raise ModelError unless the phases and the declared symbols make a neuron.

    Args:
        name: Name of the neuron.
        phases: Its expressions.
        symbols: Its declarations.
        used: Those that `phases` use.
    """
    spikes = [s for s, _ in phases.fire]
    names = [s.name for s in (*symbols, *spikes)]
    params = dict.fromkeys(s.decl for s in symbols if isinstance(s.decl, Param))
    names += [p.name for p in params if p.size is not None]
    for word in names:
        if names.count(word) > 1:
            raise ModelError(name, f"{word!r} is declared twice", remedy="Rename one of them.")
    for phase, pairs in phases._asdict().items():
        reads_spikes = phase in ("reset", "output")
        known = {*symbols, *(spikes if reads_spikes else ())}
        for _, expr in pairs:
            _check_read(f"{name}.{phase}", expr, known, () if reads_spikes else spikes)
    assigned = {s for s, _ in (*phases.charge, *phases.reset)}
    for symbol in symbols:
        if isinstance(symbol.decl, State) and symbol not in assigned:
            raise ModelError(
                name,
                f"state {symbol.name!r} is set by neither charge nor reset",
                remedy="Give it an expression, or make it a parameter.",
            )
    if not any(isinstance(s.decl, Input) for s in symbols):
        raise ModelError(
            name,
            "no input",
            remedy="Declare at least one, lnm.input('x'); it gives the layer its shape.",
        )
    read = {s.decl for s in used}
    for symbol in symbols:
        if symbol.decl not in read:
            raise ModelError(
                name,
                f"{symbol.name!r} is declared but no expression reads it",
                remedy="Use it or remove the declaration.",
            )


def check_added(where: str, pairs: Named, taken: Collection[str], known: set[Declared]) -> None:
    """Raise ModelError unless `pairs` have names that are not taken, and read known symbols."""
    for word, expr in pairs:
        if word in taken:
            accepted = f"names other than {', '.join(taken)}"
            raise ModelError(where, f"{word!r} is there already", accepted)
        _check_read(f"{where}[{word}]", expr, known)


def _check_read(
    where: str, expr: Any, known: set[Declared], hidden: Collection[Declared] = ()
) -> None:
    for symbol in sorted(expr.free_symbols - known, key=str):
        if symbol in hidden:
            remedy = (
                "Only reset and output may; to use the last spike, keep it in a state: "
                "reset={s_prev: lnm.spike}."
            )
            raise ModelError(where, f"reads the spike {symbol.name!r}", remedy=remedy)
        names = sorted({s.name for s in known})
        remedy = did_you_mean(symbol.name, names)
        if symbol.name in names:
            remedy = f"Use this neuron's own {symbol.name!r}; another declaration has its name."
        raise ModelError(where, f"unknown symbol {symbol.name!r}", names, remedy)
