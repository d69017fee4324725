"""What a well-formed neuron is, one rule per function: who may read what, and that all is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lnm_codegen.errors import ModelError
from lnm_codegen.language.phases import Named
from lnm_codegen.language.symbols import Declared, Param, is_spike
from lnm_codegen.validation import did_you_mean

if TYPE_CHECKING:
    from lnm_codegen.language.neuron import Neuron


def used_symbols(neuron: Neuron) -> tuple[Declared, ...]:
    """Return every declared symbol that the expressions use, in creation order."""
    exprs = [e for _, e in (*neuron.charge, *neuron.fire, *neuron.reset, *neuron.output)]
    found = {s for s, _ in (*neuron.charge, *neuron.reset)}
    for expr in exprs:
        found |= {s for s in declared_in(expr) if not is_spike(s)}
    return _whole_vectors(found)


def declared_in(expr: Any) -> set[Declared]:
    """Return the declared symbols that an expression reads, spikes too."""
    return {s for s in expr.free_symbols if isinstance(s, Declared)}


def _whole_vectors(found: set[Declared]) -> tuple[Declared, ...]:
    """Add the elements of a vector that no expression reads, so that its shape stays.

    Elements belong together by the order of their making: in a copy of a neuron an expression may
    hold symbols of either, equal but not the same.
    """
    result: dict[int, Declared] = {}
    for symbol in sorted(found, key=lambda s: s.order):
        result[symbol.order] = symbol
        decl = symbol.decl
        if isinstance(decl, Param) and decl.size is not None:
            first = symbol.order - decl.element_names.index(symbol.name)
            for k, name in enumerate(decl.element_names):
                result.setdefault(first + k, Declared(name, decl, first + k))
    return tuple(result[order] for order in sorted(result))


def check_neuron(neuron: Neuron, used: tuple[Declared, ...]) -> None:
    """Raise ModelError unless every rule below holds."""
    _names_differ(neuron)
    _phases_read_what_they_may(neuron)
    _states_are_set(neuron)
    _has_an_input(neuron)
    _declarations_are_read(neuron, used)


def check_added(neuron: Neuron, where: str, pairs: Named) -> None:
    """Raise ModelError unless `pairs` may stand beside the neuron's outputs and counts."""
    taken = [word for word, _ in (*neuron.output, *neuron.counts)]
    for word, expr in pairs:
        if word in taken:
            raise ModelError(
                where, f"{word!r} is there already", f"names other than {', '.join(taken)}"
            )
        _reads_what_it_may(neuron, f"{where}[{word}]", expr, may_read_spikes=True)


def _names_differ(neuron: Neuron) -> None:
    names: list[str] = [s.name for s in neuron.symbols] + list(neuron.spikes)
    names += [p.name for p in neuron.params if p.size is not None]
    for word in names:
        if names.count(word) > 1:
            raise ModelError(
                neuron.name, f"{word!r} is declared twice", remedy="Rename one of them."
            )


def _phases_read_what_they_may(neuron: Neuron) -> None:
    phases = (
        ("charge", neuron.charge, False),
        ("fire", neuron.fire, False),
        ("reset", neuron.reset, True),
        ("output", neuron.output, True),
    )
    for phase, pairs, may_read_spikes in phases:
        for _, expr in pairs:
            _reads_what_it_may(neuron, f"{neuron.name}.{phase}", expr, may_read_spikes)


def _reads_what_it_may(neuron: Neuron, where: str, expr: Any, may_read_spikes: bool) -> None:
    spikes = {s for s, _ in neuron.fire}
    known = {*neuron.symbols, *(spikes if may_read_spikes else ())}
    for symbol in sorted(expr.free_symbols - known, key=str):
        if symbol in spikes:
            raise ModelError(
                where,
                f"reads the spike {symbol.name!r}",
                remedy=(
                    "Only reset and output may; to use the last spike, keep it in a state: "
                    "reset={s_prev: lnm.spike}."
                ),
            )
        names = sorted({s.name for s in known})
        raise ModelError(
            f"{where}: unknown symbol {symbol.name!r}. Declared: {', '.join(names)}."
            f"{did_you_mean(symbol.name, names)}"
        )


def _states_are_set(neuron: Neuron) -> None:
    touched = {s for s, _ in (*neuron.charge, *neuron.reset)}
    for state in neuron.states:
        if state not in touched:
            raise ModelError(
                neuron.name,
                f"state {state.name!r} is set by neither charge nor reset",
                remedy="Give it an expression, or make it a parameter.",
            )


def _has_an_input(neuron: Neuron) -> None:
    if not neuron.inputs:
        raise ModelError(
            neuron.name,
            "no input",
            remedy="Declare at least one, lnm.input('x'); it gives the layer its shape.",
        )


def _declarations_are_read(neuron: Neuron, used: tuple[Declared, ...]) -> None:
    read = {s.decl for s in used}
    for symbol in neuron.symbols:
        if symbol.decl not in read:
            raise ModelError(
                neuron.name,
                f"{symbol.name!r} is declared but no expression reads it",
                remedy="Use it or remove the declaration.",
            )
