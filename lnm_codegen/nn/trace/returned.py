"""The result of a traced function as the phases of a neuron.

`{"charge": ...}` has the phases themselves. Of `(outputs, states)`, everything is read at step t-1.
So no state has a charge, and fire, reset and output read the states as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.language import functions as fn
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import Declared, is_spike, spike, spike_named
from lnm_codegen.nn.trace.graph import TraceNode, charged, replayed
from lnm_codegen.nn.trace.operations import number
from lnm_codegen.nn.trace.spikes import Spikes, TracedSpike, plain, settled
from lnm_codegen.nn.trace.value import Traced, expression
from lnm_codegen.validation import did_you_mean, shown

_FORMS = (
    '{"charge": {state: value}, "fire": z, "reset": {state: value}}, (outputs, states), or one'
    " tuple (*outputs, *states)"
)
_PHASES = ("charge", "fire", "reset", "output")


def neuron_of(
    name: str,
    found: Any,
    states: Mapping[str, TraceNode],
    spikes: Spikes,
    surrogate: Surrogate | None,
    detach_reset: bool,
) -> Neuron:
    """Return the neuron of a function's result.

    Args:
        name: Name of the neuron, which begins the errors.
        found: The result.
        states: Nodes of the states of step t-1 by name.
        spikes: The spikes that the function made.
        surrogate: Surrogate of "fire", or None.
        detach_reset: As in `Neuron`.
    """
    where = f"trace {name}"
    if isinstance(found, Mapping):
        symbols = {word: node.value for word, node in states.items()}
        fields = _phases(where, found, symbols, spikes, surrogate)
    elif isinstance(found, tuple | list):
        if surrogate is not None:
            problem = "surrogate is given, and f returns outputs and states"
            raise ModelError(where, problem, remedy="Call the surrogate in f.")
        fields = _step(where, found, states, spikes)
    else:
        raise ModelError(where, f"f returned {shown(found)}", _FORMS)
    detach_reset = detach_reset or fields.pop("detach_reset", False)
    return Neuron(**fields, detach_reset=detach_reset, name=name)


def _expr(where: str, value: Any) -> Any:
    """Return the expression of a traced value or a number."""
    try:
        return expression(value)
    except ModelError as error:
        raise ModelError(where, error.problem, error.accepted, error.remedy) from None


def _phases(
    where: str,
    found: Mapping[str, Any],
    states: Mapping[str, Any],
    spikes: Spikes,
    surrogate: Surrogate | None,
) -> dict[str, Any]:
    for key in found:
        if key not in _PHASES:
            raise ModelError(where, f"unknown key {key!r}", _PHASES, did_you_mean(key, _PHASES))
    charge = _by_state(f"{where}: charge", found.get("charge", {}), states)
    reset = _by_state(f"{where}: reset", found.get("reset", {}), states)
    fields: dict[str, Any] = {"charge": charge, "output": _outputs(where, found.get("output"))}
    z = found.get("fire")
    if z is None:
        if reset:
            raise ModelError(where, "reset without fire", remedy='Give "fire".')
        return fields
    z = _expr(f"{where}: fire", z)
    called = next((s for s in spikes.made if s.symbol == z), None)
    if called is not None:
        z, surrogate = called.fire(number(called.z.value)), surrogate or called.surrogate
    if len(spikes.made) > (called is not None):
        problem = "f calls a surrogate outside fire, and returns phases"
        raise ModelError(where, problem, remedy="Return z, and give surrogate= to lnm.trace.")
    fields["fire"], fields["surrogate"] = z, surrogate
    fields["reset"] = {s: fn.where(spike, value, s) for s, value in reset.items()}
    return fields


def _by_state(where: str, given: Any, states: Mapping[str, Any]) -> dict[Any, Any]:
    """Return {state: expression} of a dict by name."""
    if not isinstance(given, Mapping):
        raise ModelError(where, f"it is {shown(given)}", "a dict, {state: value}")
    _require_states(where, given, states)
    return {states[key]: _expr(f"{where}: {key}", value) for key, value in given.items()}


def _require_states(where: str, given: Iterable[Any], states: Mapping[str, Any]) -> None:
    for key in given:
        if key not in states:
            raise ModelError(where, f"no state {key!r}", states, did_you_mean(key, states))


def _outputs(where: str, given: Any) -> Any:
    if isinstance(given, Mapping):
        return {key: _expr(f"{where}: output: {key}", value) for key, value in given.items()}
    return None if given is None else _expr(f"{where}: output", given)


def _step(
    where: str, found: Sequence[Any], states: Mapping[str, TraceNode], spikes: Spikes
) -> dict[str, Any]:
    """Return the fields of a neuron whose function reads the states of step t-1."""
    given, after = _split(where, found, states)
    listed = given if isinstance(given, Mapping) else dict(enumerate(_listed(given)))
    outputs = {key: _node(f"{where}: output {key}", value) for key, value in listed.items()}
    new = {key: _node(f"{where}: states: {key}", value) for key, value in after.items()}
    read = _used([*outputs.values(), *new.values()], spikes)
    roots = [*outputs.values(), *new.values(), *(s.z for s in read)]
    at = charged(list(states.values()), list(new.values()), roots)
    table: dict[TraceNode, Any] = {
        node: state.value for node, state in zip(at, states.values(), strict=True) if node
    }
    charge = {table[node]: number(node.value) for node in at if node}
    exprs = {key: number(replayed(node, table)) for key, node in outputs.items()}
    reset = {states[k].value: number(replayed(node, table)) for k, node in new.items()}
    kept = {state: e for state, e in reset.items() if state != e or state not in charge}
    undetached = plain(kept, [s.symbol for s in read])
    last = {x for e in (*exprs.values(), *kept.values()) for x in e.free_symbols}
    used = [s for s in read if s.symbol in last]
    z = {s: number(replayed(s.z, table)) for s in read}
    steps = {s.symbol: s.step(z[s]) for s in read}
    names = _spike_names(used, list(exprs.values()))
    renamed: dict[Any, Any] = {s.symbol: names[s] for s in used}
    return {
        "charge": charge,
        "fire": {names[s]: _apart(where, settled(s.fire(z[s]), steps)) for s in used} or None,
        "reset": {s: fn.replaced(e, renamed) for s, e in (undetached or kept).items()},
        "output": _named({key: fn.replaced(e, renamed) for key, e in exprs.items()}),
        "surrogate": {names[s]: s.surrogate for s in used} or None,
        "detach_reset": undetached is not None,
    }


def _node(where: str, value: Any) -> TraceNode:
    """Return the node of a traced value or a number."""
    if isinstance(value, Traced):
        return value.node
    return TraceNode(_expr(where, value))


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple | list) else (value,)


def _split(
    where: str, found: Sequence[Any], states: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any]]:
    """Return outputs, and states by name, of either form."""
    count = len(states)
    if len(found) == 2 and any(isinstance(part, tuple | list | Mapping) for part in found):
        outputs, after = found
        if isinstance(after, Mapping):
            _require_states(f"{where}: states", after, states)
            missing = [name for name in states if name not in after]
            if missing:
                problem = f"f returns no value of the states {', '.join(missing)}"
                raise ModelError(where, problem, "a value for each state")
            return outputs, after
        after = _listed(after)
    else:
        outputs, after = found[: len(found) - count], found[len(found) - count :]
    if len(after) != count or not len(_listed(outputs)):
        problem = f"f returned {len(found)} values, for {count} states"
        raise ModelError(where, problem, f"outputs, then one value for each of {', '.join(states)}")
    return outputs, dict(zip(states, after, strict=True))


def _used(roots: Sequence[TraceNode], spikes: Spikes) -> list[TracedSpike]:
    """Return the spikes that outputs and states read, directly or through other spikes."""
    used: dict[TracedSpike, None] = {}
    left = list(roots)
    while left:
        read = number(left.pop().value).free_symbols
        for one in spikes.made:
            if one.symbol in read and one not in used:
                used[one] = None
                left.append(one.z)
    return [s for s in spikes.made if s in used]


def _apart(where: str, expr: Any) -> Any:
    """Return a fire expression; refuse one whose gradient goes through another spike."""
    if any(is_spike(s) for s in expr.free_symbols):
        problem = "a spike depends on another spike of the same time step"
        remedy = "Detach that spike, or store it in a state and read it in the next step."
        raise ModelError(where, problem, remedy=remedy)
    return expr


def _spike_names(
    used: Sequence[TracedSpike], outputs: Sequence[Any]
) -> dict[TracedSpike, Declared]:
    """Return the names of spikes: `spike` for the first that is an output, or else the first."""
    symbols = [s.symbol for s in used]
    first = next((e for e in outputs if e in symbols), symbols[0] if symbols else None)
    others = [s for s in used if s.symbol != first]
    names = {s: spike_named(f"spike_{k}") for k, s in enumerate(others, 2)}
    return names | {s: spike for s in used if s.symbol == first}


def _named(exprs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return outputs with names: given ones, that of a spike, or `out`, `out_2`, ..."""
    names: dict[str, Any] = {}
    for key, e in exprs.items():
        word = key if isinstance(key, str) else e.name if is_spike(e) else "out"
        if word in names and not isinstance(key, str):
            word = f"{word}_out" if f"{word}_out" not in names else f"{word}_{key + 1}"
        names[word] = e
    return names
