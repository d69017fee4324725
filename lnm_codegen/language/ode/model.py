"""`lnm.ode`: a neuron from ordinary differential equations in text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, get_args

from lnm_codegen.errors import ModelError
from lnm_codegen.language.names import require_name
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.ode.build import Given, built
from lnm_codegen.language.ode.methods import MethodName
from lnm_codegen.language.ode.quantities import ACCEPTED, Quantity, Value, quantity
from lnm_codegen.language.ode.units import unit_named
from lnm_codegen.language.surrogate import Surrogate
from lnm_codegen.language.symbols import SCOPE, Scope
from lnm_codegen.language.text.cost import quoted
from lnm_codegen.validation import require_integer, require_one_of, wrong

_NOTHING: Mapping[str, Value] = MappingProxyType({})


def ode(
    text: str,
    *,
    parameters: Mapping[str, Value] = _NOTHING,
    dt: Value,
    method: MethodName = "euler",
    threshold: str | None = None,
    reset: str | None = None,
    refractory: Value | None = None,
    learnable: Iterable[str] = (),
    inputs: Iterable[str] | None = None,
    init: Mapping[str, Value] = _NOTHING,
    substeps: int = 1,
    surrogate: Surrogate | None = None,
    name: str = "ode",
) -> Neuron:
    """Return the neuron of differential equations in Brian2's notation.

    Units are checked and removed: states, inputs and parameters are numbers in SI units, a
    potential in volts. Names that are neither defined nor parameters are inputs, constant during a
    step. Where no name is free, an input `x` that no equation reads sets T and the shape.

    Args:
        text: Equations, one a line: `dv/dt = (R*I - v)/tau : volt` for a state,
            `I = g*(E - v) : amp` for a subexpression, `tau : second` for a parameter or an input.
            Flags: (unless refractory), (constant), (constant over dt).
        parameters: Name -> a number, or text with units such as "10*ms".
        dt: The time step, > 0. Where it is a number, time has no unit.
        method: "euler"; "rk2", the midpoint rule; "rk4"; "exponential_euler", for rates that are
            linear in their own state; "exact", for systems that are linear in all states.
        threshold: Condition of a spike, "v > -50*mV". z is the difference of its sides, so a spike
            occurs at equality too, for `>` as for `>=`. None for a neuron that never spikes, whose
            output is the first state.
        reset: Assignments at a spike, "v = Vr; w += b", one after the other.
        refractory: Time from a spike to the next one at least, "5*ms", rounded down to steps; or a
            condition, "v > -20*mV", that blocks spikes as long as it holds after one. Parameters
            that a time reads are constants of the neuron.
        learnable: Names of parameters that are learnable. `neuron.with_per("channel")` gives each
            channel its own value.
        inputs: Names of the inputs, in their order. Any other name that has no value is then an
            error, so that a misspelt name does not become an input. Without it, the inputs that
            lines declare come first, in the order of the lines, then the others by first use.
        init: State -> its value before the first step, 0 by default.
        substeps: Number of steps of `method` in one step dt.
        surrogate: Slope of the spike; atan(alpha=2) by default, for z in SI units.
        name: Name of the neuron.

    Raises:
        ModelError: A text that is not of the grammar, units that do not agree (the message shows
            both sides), or a method that does not fit the equations (it names the term).

    Example:
        >>> lif = ode("dv/dt = (R*I - v)/tau : volt", parameters={"R": "50*Mohm", "tau": "10*ms"},
        ...           dt="0.1*ms", threshold="v > 15*mV", reset="v = 0*mV", refractory="2*ms")
        >>> [s.name for s in lif.inputs]
        ['I']
    """
    require_name("ode: neuron", name)
    require_one_of("ode", "method", method, get_args(MethodName))
    require_integer("ode", "substeps", substeps)
    step = quantity("ode", "dt", dt)
    if (step.dims and step.dims != _time()) or not step.number > 0:
        raise wrong("ode", "dt", dt, 'a number > 0, or a time > 0 such as "0.1*ms"')
    if method == "exact" and substeps > 1:
        problem = f"substeps is {substeps} with method='exact'"
        raise ModelError("ode", problem, "1, since one exact step has no error")
    given = Given(
        equations=text,
        threshold=threshold,
        reset=reset,
        refractory=refractory,
        values=_quantities("parameters", parameters),
        starts=_quantities("init", init),
        learnable=_names("learnable", learnable, 'names of parameters, ["tau"]'),
        inputs=None if inputs is None else _names("inputs", inputs, 'names of inputs, ["x"]'),
        dt=step,
    )
    declarations = SCOPE.set(Scope(name, []))
    try:
        return built(given, method, substeps, surrogate)
    except RecursionError:
        problem = "an expression is nested too deeply"
        raise ModelError("ode", problem, remedy="Split the expression.") from None
    finally:
        SCOPE.reset(declarations)


def _time() -> Any:
    unit = unit_named("second")
    return unit and unit.dims


def _quantities(word: str, given: Any) -> dict[str, Quantity]:
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise wrong("ode", word, given, f"a dict: name -> {ACCEPTED}")
    return {key: quantity(f"ode: {word}", key, value) for key, value in given.items()}


def _names(word: str, given: Any, accepted: str) -> tuple[str, ...]:
    names = () if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
    if (not names and given not in ((), [])) or not all(isinstance(name, str) for name in names):
        raise wrong("ode", word, given, accepted)
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"ode: {word}", f"{quoted(name)} is listed more than once", accepted)
    return names
