"""`lnm.trace`: run a function once on traced values, and make a neuron of what it returns."""

from __future__ import annotations

import builtins
import dis
import functools
import inspect
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lnm_codegen.errors import ModelError
from lnm_codegen.language import functions as fn
from lnm_codegen.language.functions import as_expr
from lnm_codegen.language.misuse import as_number, as_numbers, is_array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import (
    SCOPE,
    Declared,
    Init,
    Numbers,
    Scope,
    Vector,
    input,
    is_spike,
    param,
    spike,
    spike_named,
    state,
)
from lnm_codegen.nn.trace.operations import number
from lnm_codegen.nn.trace.spikes import Spikes, TracedSpike, plain, recorded, settled
from lnm_codegen.nn.trace.value import (
    Traced,
    TracedVector,
    TraceNode,
    applied,
    charged,
    expression,
    is_library,
    replayed,
)
from lnm_codegen.validation import did_you_mean, shown, wrong


def trace(
    f: Callable[..., Any],
    *,
    states: Mapping[str, Init | Numbers | Declared],
    inputs: Sequence[str],
    params: Mapping[str, float | Sequence[float] | Numbers | Declared | Vector] | None = None,
    surrogate: Surrogate | None = None,
    detach_reset: bool = False,
    name: str | None = None,
) -> Neuron:
    """Return the neuron of a function of one neuron and one time step, written with PyTorch.

    The function takes inputs, states and parameters by name. It runs once, on values that record
    its operations. It returns one of

        {"charge": {"v": h}, "fire": z, "reset": {"v": r}, "output": y}
            phases as in `lnm.Neuron`: the argument v is the state of step t-1 in charge, and the
            charged one in the others. After the step, v is r where the neuron spikes, else h.
        (outputs, states)
            what leaves the neuron at step t, and its states after it, all from the states of step
            t-1. Either is a value, a tuple in the order of `states`, or a dict by name.
        (*outputs, *states)
            the same in one tuple, as the cores of SpikingJelly's FlexSN return it.

    Args:
        f: The function. Its text may contain numbers; every other number is an argument.
        states: State -> initial value, as `lnm.state` takes it.
        inputs: Names of the inputs, new at each step.
        params: Parameter -> initial value: a number, several of them for a vector, or an
            `lnm.param` of that name, which states granularity and learnability.
        surrogate: Slope of the spike of "fire"; atan(alpha=2) by default. In the other forms the
            function calls a surrogate of SpikingJelly or snnTorch, or its own
            `torch.autograd.Function`, and the neuron has the same slope.
        detach_reset: Makes every spike inside reset a constant to the derivative.
        name: Name of the neuron; that of the function by default.

    Raises:
        ModelError: An operation without a counterpart, or Python's control flow on a traced value,
            with the user's line; a captured tensor or number, with its name; another result.

    Example:
        >>> import lnm_codegen as lnm
        >>> def lif(x, v, tau):
        ...     return {"charge": {"v": v + (x - v) / tau}, "fire": v - 1.0, "reset": {"v": 0.0}}
        >>> lnm.trace(lif, states={"v": 0.0}, inputs=["x"], params={"tau": 2.0}).name
        'lif'
    """
    require_no_captures(f)
    own = getattr(f, "__name__", "")
    name = name or (own if own.isidentifier() else "traced")
    params = _mapping("params", {} if params is None else params)
    scope = SCOPE.set(Scope(name, []))
    try:
        declared = _declared(_mapping("states", states), inputs, params)
        given: dict[str, Any] = {word: _traced(symbol) for word, symbol in declared.items()}
        _require_parameters(f, given)
        nodes = {word: given[word].node for word in states}
        with torch.enable_grad(), _Literals(), recorded() as spikes:
            found = f(**given)
        return neuron_of(name, found, nodes, spikes, surrogate, detach_reset)
    except RecursionError:
        problem = "an expression is nested too deeply"
        raise ModelError(f"trace {name}", problem, remedy="Use fewer operations.") from None
    finally:
        SCOPE.reset(scope)


def _mapping(word: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise wrong("trace", word, value, "a dict, {name: initial value}")
    return value


def _declared(
    states: Mapping[str, Any], inputs: Any, params: Mapping[str, Any]
) -> dict[str, Declared | Vector]:
    """Declare states, inputs and parameters, in this order, and return them by name."""
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        raise wrong("trace", "inputs", inputs, 'a list of names, such as ["x"]')
    names = [*states, *inputs, *params]
    for word in names:
        if names.count(word) > 1:
            raise ModelError("trace", f"{word!r} is declared twice", remedy="Rename one of them.")
    found: dict[str, Declared | Vector] = {}
    for word, init in states.items():
        if isinstance(init, Declared):
            _adopt(init)
        found[word] = state(word, init)
    found |= {word: input(word) for word in inputs}
    return found | {word: _param(word, init) for word, init in params.items()}


def _param(word: str, init: Any) -> Declared | Vector:
    if isinstance(init, Declared | Vector):
        own = init.decl.name
        if own != word:
            problem = f"the parameter {own!r} is given for {word!r}"
            raise ModelError("trace", problem, remedy="Give both one name.")
        return _adopt(init)
    value = as_number(init)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return param(word, size=len(value), init=as_numbers(value))
    return param(word, init=value)


def _adopt(symbol: Declared | Vector) -> Declared | Vector:
    """Add a parameter that was declared outside to the neuron that is being defined."""
    scope = SCOPE.get()
    assert scope is not None
    elements = symbol if isinstance(symbol, Vector) else (symbol,)
    scope.symbols += [e for e in elements if e not in scope.symbols]
    return symbol


def _traced(symbol: Declared | Vector) -> Traced | TracedVector:
    if isinstance(symbol, Vector):
        return TracedVector(symbol.decl.name, tuple(Traced(TraceNode(e)) for e in symbol))
    return Traced(TraceNode(symbol))


def _require_parameters(f: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise ModelError unless the parameters of a function are the declared names."""
    parameters = inspect.signature(f).parameters.values()
    for parameter in parameters:
        kind = parameter.kind
        if kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            problem = f"f takes {parameter}, which has no name to pass it by"
            raise ModelError("trace", problem, "parameters by name")
        if kind is not parameter.VAR_KEYWORD and parameter.name not in given:
            problem = f"f takes {parameter.name!r}, which is no state, input or parameter"
            value = parameter.default
            remedy = "Declare it in states, inputs or params."
            if value is not parameter.empty:
                problem += f", and has the default {shown(value)}"
                remedy = f"Pass params={{{parameter.name!r}: {shown(value)}}}."
            raise ModelError("trace", problem, list(given), remedy)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        names = [p.name for p in parameters]
        for word in given:
            if word not in names:
                problem = f"f takes no {word!r}"
                raise ModelError("trace", problem, names, "Add the parameter, or leave it out.")


_FACTORIES = (torch.tensor, torch.as_tensor, torch.scalar_tensor)


class _Literals(TorchFunctionMode):
    """Context in which `torch.tensor(0.5)` is the number 0.5, and no tensor takes part."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Return a number for a tensor of one number; pass other calls on."""
        if function in _FACTORIES and args and isinstance(args[0], int | float):
            return Traced(TraceNode(as_expr(args[0])))
        if any(isinstance(a, Traced | TracedVector) for a in args):
            name = function.__name__
            return applied(name, *args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


# Numbers and tensors that a function reads from outside of its arguments and its text.
#
# They would become constants of the neuron, which no training changes and no layer saves.


_MISSING = object()
_FREE = (bool, str, ModuleType, FunctionType, BuiltinFunctionType, type, type(None), torch.dtype)


def require_no_captures(function: Callable[..., Any]) -> None:
    """Raise ModelError if a function, or one that it calls, has captured a number or a tensor.

    Modules, functions, classes, text, None, True and False are no such values. Functions of
    libraries, such as surrogates, may have numbers.

    Raises:
        ModelError: A captured value, with its name and the line that reads it.
    """
    if isinstance(function, functools.partial):
        given = [*map(str, range(len(function.args))), *function.keywords]
        problem = f"a functools.partial that fixes the arguments {', '.join(given)}"
        raise ModelError("trace", problem, "a function", "Pass them in params.")
    if isinstance(function, MethodType):
        problem = f"a method, which reads an object of class {type(function.__self__).__name__}"
        raise ModelError("trace", problem, "a function", "Pass what it reads in params.")
    if not isinstance(function, FunctionType):
        raise ModelError("trace", f"f is {shown(function)}", "a function of Python")
    _require(function, set())


def _require(function: FunctionType, seen: set[FunctionType]) -> None:
    if function in seen:
        return
    seen.add(function)
    for name, value, line in _read(function):
        problem = _problem(value)
        if problem:
            where = f"{function.__code__.co_filename}:{line}"
            accepted = "numbers in the text of the function, and its arguments"
            raise ModelError(
                where,
                f"{name} is {problem}",
                accepted,
                f"Pass {name.rpartition('.')[2]!r} in params.",
            )
        if isinstance(value, FunctionType) and not is_library(value.__module__):
            _require(value, seen)


def _problem(value: Any) -> str:
    """Return "a captured ..." for a value that would become a constant, or an empty string."""
    if isinstance(value, torch.Tensor) or is_array(value):
        return f"a captured {type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, _FREE):
        return ""
    if isinstance(value, numbers.Number):
        return f"a captured number, {shown(value)}"
    if isinstance(value, torch.nn.Module):
        owned = next(iter([*value.parameters(), *value.buffers()]), None)
        return "" if owned is None else "a captured module with parameters"
    if isinstance(value, list | tuple | set | dict):
        items = value.values() if isinstance(value, dict) else value
        return "a captured collection of values" if any(map(_problem, items)) else ""
    if isinstance(value, MethodType) and isinstance(value.__self__, type):
        return ""  # Function.apply
    if callable(value) and is_library(type(value).__module__):
        return ""
    return f"a captured object of class {type(value).__name__}"


def _read(function: FunctionType) -> Iterator[tuple[str, Any, int]]:
    """Yield name, value and line of everything that a function reads from outside of it."""
    closure = inspect.getclosurevars(function).nonlocals
    scopes: Mapping[str, Any] = {**vars(builtins), **function.__globals__}
    for code in _codes(function.__code__):
        chain, value, line = "", _MISSING, 0
        for step in dis.get_instructions(code):
            name = str(step.argval)
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and value is not _MISSING:
                member = _member(value, name)
                chain, value = chain if member is value else f"{chain}.{name}", member
                continue
            if value is not _MISSING:
                yield chain, value, line
            found = scopes if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") else {}
            found = closure if step.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF") else found
            line = (step.positions and step.positions.lineno) or line
            chain, value = name, found.get(name, _MISSING)


def _member(value: Any, name: str) -> Any:
    """Return an attribute that may be a captured value: of a user's module, or a class."""
    if isinstance(value, ModuleType):
        return _MISSING if is_library(value.__name__) else getattr(value, name, _MISSING)
    if isinstance(value, type):
        member = getattr(value, name, _MISSING)
        return member if isinstance(member, numbers.Number) or is_array(member) else _MISSING
    return value  # the object itself is what is captured


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


# The result of a traced function as the phases of a neuron.
#
# `{"charge": ...}` has the phases themselves. Of `(outputs, states)`, everything is read at step
# t-1. So no state has a charge, and fire, reset and output read the states as they were.


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
