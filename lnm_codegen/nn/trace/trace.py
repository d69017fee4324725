"""`lnm.trace`: run a function once on traced values, and make a neuron of what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from lnm_codegen.errors import ModelError
from lnm_codegen.language.functions import as_expr
from lnm_codegen.language.misuse import as_number, as_numbers
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
    param,
    state,
)
from lnm_codegen.nn.trace.captured import require_no_captures
from lnm_codegen.nn.trace.graph import TraceNode
from lnm_codegen.nn.trace.returned import neuron_of
from lnm_codegen.nn.trace.spikes import recorded
from lnm_codegen.nn.trace.value import Traced, TracedVector, applied
from lnm_codegen.validation import shown, wrong


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
