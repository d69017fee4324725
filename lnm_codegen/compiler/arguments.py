"""Arguments of `interpret`: arrays brought to their shapes, or an error in one line."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from lnm_codegen.errors import ModelError, ShapeError, reason
from lnm_codegen.ir.declarations import Extent, Param, State
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import require_known, require_one_of, shown, wrong

SINGLE = Extent(1, 1, 1)
"""One neuron."""
NAMES_REMEDY = "Give each. A misspelt name in lnm.ode is an input too, unless inputs= lists them."
AXES_REMEDY = "Give an axis of length 1 where the input repeats."


def kind_of(dtype: Any) -> np.dtype[Any]:
    """Return the float type of a name or of a type of NumPy, or raise ModelError."""
    given = dtype.type if isinstance(dtype, np.dtype) else dtype
    names: dict[Any, str] = {float: "float64", np.float64: "float64", np.float32: "float32"}
    name = names.get(given, dtype) if isinstance(given, type) else dtype
    kind: np.dtype[Any] = np.dtype(
        require_one_of("interpret", "dtype", name, ("float64", "float32"))
    )
    return kind


def extent_of(params: tuple[Param, ...], shape: tuple[int, ...]) -> Extent:
    """Return batch, channels and inner of an input shape (T, N, C, *)."""
    pers = {p.per for p in params}
    if len(shape) < 2:
        raise ShapeError("x_seq", f"the shape is {shape}", "(T, N, *), two axes or more")
    if len(shape) < 3 and "channel" in pers:
        raise ShapeError("x_seq", f"the shape is {shape}", "(T, N, C, *), channels on axis 2")
    if pers & {"channel", "neuron"}:
        channels = shape[2] if len(shape) > 2 else 1
        return Extent(shape[1], channels, int(np.prod(shape[3:], dtype=int)))
    return Extent(1, 1, int(np.prod(shape[1:], dtype=int)))


def input_shape(
    own: Sequence[int], shape: Sequence[int], has_time: bool = True, *, is_strict: bool = False
) -> tuple[int, ...] | None:
    """Return the shape of a further input with as many axes as the first input's, or None.

    Args:
        own: Shape of the further input. (T,) has one number for each time step; any other shape is
            aligned at the last axis.
        shape: Shape of the first input, (T, N, *).
        has_time: False for one time step, `shape` (N, *).
        is_strict: Return None for (T,) where the last axis has T elements too.

    Returns:
        A shape in which each axis has length 1 or that of `shape`; None if there is no such shape.
    """
    missing = len(shape) - len(own)
    if is_strict and _is_ambiguous(own, shape, has_time):
        return None
    if has_time and len(own) == 1 and own[0] == shape[0]:
        return (own[0], *(1,) * missing)
    padded = (*(1,) * missing, *own)
    pairs = zip(padded, shape, strict=False)
    return padded if missing >= 0 and all(n in (1, full) for n, full in pairs) else None


def _is_ambiguous(own: Sequence[int], shape: Sequence[int], has_time: bool) -> bool:
    """Report whether a vector has as many elements as the time axis and as the last axis."""
    return has_time and len(own) == 1 and 1 != own[0] == shape[0] == shape[-1]


def misfit(own: Sequence[int], shape: Sequence[int], has_time: bool = True) -> tuple[str, str]:
    """Return the problem of a further input that does not fit, and what is accepted."""
    problem, ones = f"has shape {tuple(own)}", (1,) * (len(shape) - 1)
    if _is_ambiguous(own, shape, has_time):
        accepted = f"{(*own, *ones)} for time, or {(*ones, *own)} for the last axis"
        return f"{problem}, and both T and the last axis are {own[0]}", accepted
    time = f"({shape[0]},), or " if has_time else ""
    return problem, f"{time}a shape that broadcasts to {tuple(shape)}"


def inputs_of(neuron: Neuron, given: tuple[Any, ...], kind: np.dtype[Any]) -> dict[str, Array]:
    """Return the inputs by name, expanded to the shape of the first, (T, N, *), without copies."""
    names = [s.name for s in neuron.inputs]
    if len(given) != len(names) or not given:
        accepted = f"one array for each of {', '.join(names) or 'no input'}"
        remedy = NAMES_REMEDY if given and len(given) < len(names) else ""
        raise ShapeError(neuron.name, f"{len(given)} inputs given", accepted, remedy)
    accepted = "an array (T, N, *)"
    arrays = {
        name: _array(neuron.name, f"input {name!r}", x, kind, accepted)
        for name, x in zip(names, given, strict=True)
    }
    shape = arrays[names[0]].shape
    if len(shape) < 2:
        problem = f"input {names[0]!r} has shape {shape}"
        raise ShapeError(neuron.name, problem, "(T, N, *), two axes or more")
    for name, array in arrays.items():
        own = input_shape(array.shape, shape, is_strict=True)
        if own is None:
            problem, accepted = misfit(array.shape, shape)
            raise ShapeError(neuron.name, f"input {name!r} {problem}", accepted, AXES_REMEDY)
        arrays[name] = np.broadcast_to(array.reshape(own), shape)
    return arrays


def parameters_of(
    neuron: Neuron,
    given: Mapping[str, Any],
    extent: Extent,
    kind: np.dtype[Any],
    params: tuple[Param, ...] | None = None,
) -> dict[str, Array]:
    """Return every scalar parameter by name, as (1, 1), (C, 1) or (C, I).

    Parameters of different granularity then combine by broadcasting. `params` are those of the
    neuron by default.
    """
    params = neuron.params if params is None else params
    for name in given:
        require_known(neuron.name, "parameter", name, (p.name for p in params))
    axes = {"layer": (1, 1), "channel": (extent.channels, 1)}
    axes["neuron"] = (extent.channels, extent.inner)
    raw: dict[str, Array] = {}
    for decl in params:
        word, count = f"parameter {decl.name!r}", extent.values(decl.per)
        value = _value(neuron, word, given.get(decl.name, decl.init), _number_remedy(decl.name))
        array = _array(neuron.name, word, value, kind, "a number, or an array of them")
        if decl.size is not None:
            array = _fitted(neuron.name, word, array, (*array.shape[:-1], decl.size), kind)
        array = array.reshape(-1, decl.size or 1)
        if len(array) not in (1, count):
            accepted = f"1 or {count}, one per {decl.per}" if count > 1 else "1"
            raise ShapeError(neuron.name, f"{word} has {len(array)} values", accepted)
        array = np.broadcast_to(array, (count, array.shape[1]))
        raw |= {n: array[:, k].reshape(axes[decl.per]) for k, n in enumerate(decl.element_names)}
    return raw


def start_of(
    neuron: Neuron,
    state: Mapping[str, Any] | None,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
    raw: Mapping[str, Array],
    extent: Extent = SINGLE,
) -> dict[str, Array]:
    """Return the initial states, (N, *): given ones, then parameters, then the declared `init`.

    `raw` are the parameters of `parameters_of` for this extent.
    """
    given = _by_state(neuron, "state", state)
    start = {}
    for symbol in neuron.states:
        decl = cast("State", symbol.decl)
        name, word = symbol.name, f"state {symbol.name!r}"
        if name in given:
            value = given[name]
        elif decl.param:
            value = np.broadcast_to(raw[decl.param], extent.shape).reshape(shape)
        else:
            value = decl.init
        value = _value(neuron, word, value, f"Pass state={{{name!r}: ...}} to the call.")
        start[name] = _fitted(neuron.name, word, value, shape, kind)
    return start


def output_gradients(
    neuron: Neuron, names: tuple[str, ...], grad_out: Any, shape: tuple[int, ...], kind: Any
) -> dict[str, Array]:
    """Return the gradient of each output, zero for None."""
    given = grad_out if isinstance(grad_out, tuple) else (grad_out,) * len(names)
    if len(given) != len(names):
        accepted = f"one array for each of {', '.join(names)}"
        raise ShapeError(neuron.name, f"grad_out has {len(given)} arrays", accepted)
    return {
        n: _fitted(neuron.name, "grad_out", 0 if g is None else g, shape, kind)
        for n, g in zip(names, given, strict=True)
    }


def state_gradients(
    neuron: Neuron, grad_state: Mapping[str, Any] | None, shape: tuple[int, ...], kind: Any
) -> dict[str, Array]:
    """Return the gradient of each final state, zero for an absent one."""
    given = _by_state(neuron, "grad_state", grad_state)
    words = {s.name: f"grad_state[{s.name!r}]" for s in neuron.states}
    return {n: _fitted(neuron.name, w, given.get(n, 0), shape, kind) for n, w in words.items()}


def _by_state(neuron: Neuron, word: str, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return the given values by state, {} for None."""
    names = [s.name for s in neuron.states]
    if given is not None and not isinstance(given, Mapping):
        example = ", ".join(f"{n!r}: ..." for n in names)
        raise wrong(neuron.name, word, given, f"a dict by state, {{{example}}}")
    for name in given or ():
        require_known(neuron.name, "state", name, names)
    return given or {}


def _value(neuron: Neuron, word: str, value: Any, remedy: str) -> Any:
    if callable(value):
        problem = f"{word} is initialised by a function"
        raise ModelError(neuron.name, problem, remedy=remedy)
    return value


def _number_remedy(name: str) -> str:
    """Return the remedy for a parameter without a number, also where no call takes its value."""
    return (
        f"Pass {name}=... to lnm.interpret, or call neuron.with_init({name}=...). Better, give"
        " lnm.param a number as init and the random values as draw=Draw(...), as layers draw."
    )


def _fitted(
    where: str, word: str, value: Any, shape: tuple[int, ...], kind: np.dtype[Any]
) -> Array:
    """Return `value` broadcast to `shape`, or raise ShapeError."""
    accepted = f"a number, or an array {shape}"
    array = _array(where, word, value, kind, accepted)
    try:
        return np.array(np.broadcast_to(array, shape))
    except ValueError:
        raise ShapeError(where, f"{word} has shape {array.shape}", accepted) from None


def _array(where: str, word: str, value: Any, kind: np.dtype[Any], accepted: str) -> Array:
    """Return `value` as an array of `kind`, or raise ShapeError unless it has real numbers."""
    problem = "not real numbers"
    try:
        array = np.asarray(value)
        if _is_real(array):
            return array.astype(kind, copy=False)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        rows_differ = "inhomogeneous" in str(error)
        problem = "its rows differ in length" if rows_differ else reason(error)
    given = f"an array of {value.dtype}" if hasattr(value, "dtype") else shown(value)
    raise ShapeError(where, f"{word} is {given}: {problem}", accepted)


def _is_real(array: Array) -> bool:
    if array.dtype.kind == "O":
        return all(isinstance(e, numbers.Real) for e in array.flat)
    other = array.dtype.kind == "V" and array.dtype.names is None  # bfloat16 of other libraries
    return array.dtype.kind in "biuf" or other
