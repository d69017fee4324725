"""What `interpret` may be given: arrays brought to their shapes, or one line that says why not."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.ir.declarations import Param
from lnm_codegen.ir.granularity import Extent
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.nodes import Program, Role
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import did_you_mean


def kind_of(dtype: Any) -> np.dtype[Any]:
    """Return the float type that `dtype` names, or raise ModelError."""
    try:
        kind: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.dtype("float64"), np.dtype("float32")):
        raise ModelError("interpret", f"dtype is {dtype!r}", "'float64', 'float32'")
    return kind


def numbers_of(what: str, value: Any, kind: np.dtype[Any], accepted: str) -> Array:
    """Return `value` as an array of `kind`.

    Raises:
        ShapeError: It is not of real numbers: text, complex numbers, None, rows of several
            lengths; `what` says what it was, `accepted` what it may be.
    """
    try:
        array = np.asarray(value)
        if _is_real(array):
            return array.astype(kind, copy=False)
        reason = f"is {_shown(value)}: not real numbers"
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        if "inhomogeneous" in said:
            said = "its rows differ in length"
        reason = f"is {_shown(value)}: {said}"
    raise ShapeError(f"{what} {reason}. Accepted: {accepted}.")


def _is_real(array: Array) -> bool:
    if array.dtype.kind == "O":
        return all(isinstance(e, numbers.Real) for e in array.flat)
    other = array.dtype.kind == "V" and array.dtype.names is None  # bfloat16 of other libraries
    return array.dtype.kind in "biuf" or other


def _shown(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"an array of {value.dtype}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def fitted(what: str, value: Any, shape: tuple[int, ...], kind: np.dtype[Any]) -> Array:
    """Return `value` broadcast to `shape`.

    Raises:
        ShapeError: It is not of real numbers, or does not broadcast; `what` says what it was.
    """
    array = numbers_of(what, value, kind, f"a number, or an array {shape}")
    try:
        return np.array(np.broadcast_to(array, shape))
    except ValueError:
        raise ShapeError(f"{what} has shape {array.shape}; expected {shape}.") from None


def check_names(neuron: Neuron, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ModelError if a name of `given` is not among `known`."""
    known = list(known)
    for name in given:
        if name not in known:
            raise ModelError(
                f"{neuron.name}: no {what} {name!r}. Declared: {', '.join(known) or 'none'}."
                f"{did_you_mean(name, known)}"
            )


def extent_of(params: tuple[Param, ...], shape: tuple[int, ...]) -> Extent:
    """Return batch, channels and inner of an input shape (T, N, C, *)."""
    pers = {p.per for p in params}
    if len(shape) < 2:
        raise ShapeError(f"x_seq has shape {shape}; expected (T, N, *) with at least two axes.")
    if pers & {"channel", "neuron"}:
        if len(shape) < 3 and "channel" in pers:
            raise ShapeError(f"x_seq has shape {shape}; expected (T, N, C, *), channels on axis 2.")
        channels = shape[2] if len(shape) > 2 else 1
        return Extent(shape[1], channels, int(np.prod(shape[3:], dtype=int)))
    return Extent(1, 1, int(np.prod(shape[1:], dtype=int)))


def inputs_of(neuron: Neuron, given: tuple[Any, ...], kind: np.dtype[Any]) -> dict[str, Array]:
    """Return the inputs by name, of one shape (T, N, *)."""
    if len(given) != len(neuron.inputs) or not given:
        names = ", ".join(s.name for s in neuron.inputs) or "none"
        raise ShapeError(neuron.name, f"{len(given)} inputs given; expected {names}")
    arrays = [
        numbers_of(f"{neuron.name}: input {s.name!r}", x, kind, "an array (T, N, *)")
        for s, x in zip(neuron.inputs, given, strict=True)
    ]
    for array in arrays:
        if array.ndim < 2 or array.shape != arrays[0].shape:
            shapes = ", ".join(str(a.shape) for a in arrays)
            raise ShapeError(neuron.name, f"inputs have shapes {shapes}; expected one (T, N, *)")
    return {s.name: a for s, a in zip(neuron.inputs, arrays, strict=True)}


def parameters_of(
    neuron: Neuron, given: Mapping[str, Any], extent: Extent, kind: np.dtype[Any]
) -> dict[str, Array]:
    """Return every scalar parameter by name, as (1, 1), (C, 1) or (C, I)."""
    check_names(neuron, "parameter", given, (p.name for p in neuron.params))
    raw: dict[str, Array] = {}
    for decl in neuron.params:
        value = given.get(decl.name, decl.init)
        if callable(value):
            raise ModelError(
                neuron.name,
                f"parameter {decl.name!r} is initialised by a function",
                remedy=f"Give its value, {decl.name}=...",
            )
        what = f"{neuron.name}: parameter {decl.name!r}"
        array = numbers_of(what, value, kind, "a number, or an array of them")
        rows = extent.rows(decl.per)
        if decl.size is not None:
            array = fitted(what, array, (*array.shape[:-1], decl.size), kind)
            array = array.reshape(-1, decl.size)
        else:
            array = array.reshape(-1, 1)
        if array.shape[0] not in (1, rows):
            raise ShapeError(
                neuron.name,
                (
                    f"parameter {decl.name!r} has {array.shape[0]} rows; expected {rows}, one per "
                    f"{decl.per}"
                ),
            )
        array = np.broadcast_to(array, (rows, array.shape[1]))
        raw |= {n: array[:, k] for k, n in enumerate(decl.element_names)}
    return _aligned(raw, neuron.params, extent)


def _aligned(raw: dict[str, Array], params: tuple[Param, ...], extent: Extent) -> dict[str, Array]:
    """Bring every scalar to (1, 1), (C, 1) or (C, I), so that granularities mix by broadcasting."""
    shape = {"layer": (1, 1), "channel": (extent.channels, 1)}
    shape["neuron"] = (extent.channels, extent.inner)
    return {n: raw[n].reshape(shape[p.per]) for p in params for n in p.element_names}


def start_of(
    neuron: Neuron, state: Mapping[str, Any] | None, shape: tuple[int, ...], kind: np.dtype[Any]
) -> dict[str, Array]:
    """Return the initial states, (N, *)."""
    names = [s.name for s in neuron.states]
    given = _by_name(neuron, "state", state, names)
    start = {}
    for symbol in neuron.states:
        value = given.get(symbol.name, symbol.decl.init)  # type: ignore[union-attr]
        if callable(value):
            raise ModelError(
                neuron.name,
                f"state {symbol.name!r} is initialised by a function",
                remedy=f"Give its value, state={{{symbol.name!r}: ...}}.",
            )
        start[symbol.name] = fitted(f"{neuron.name}: state {symbol.name!r}", value, shape, kind)
    return start


def _by_name(
    neuron: Neuron, what: str, given: Mapping[str, Any] | None, names: list[str]
) -> Mapping[str, Any]:
    """Return what is given for states by name, or raise ModelError."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ModelError(
            neuron.name,
            f"{what} is {_shown(given)}",
            f"a dict by state, {{{', '.join(f'{n!r}: ...' for n in names)}}}",
        )
    check_names(neuron, "state", given, names)
    return given


def seeds_of(
    neuron: Neuron,
    program: Program,
    grad_out: Any,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
) -> dict[str, Array]:
    """Return the gradient of each output, zero where none is given."""
    where = f"{neuron.name}: grad_out"
    names = program.forward.result_names(Role.OUTPUT)
    given = grad_out if isinstance(grad_out, tuple) else (grad_out,) * len(names)
    if len(given) != len(names):
        raise ShapeError(f"{where} has {len(given)} arrays; expected {', '.join(names)}.")
    return {
        n: fitted(where, 0 if g is None else g, shape, kind)
        for n, g in zip(names, given, strict=True)
    }


def final_gradients(
    neuron: Neuron,
    grad_state: Mapping[str, Any] | None,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
) -> dict[str, Array]:
    """Return the gradient of each final state, zero where none is given."""
    names = [s.name for s in neuron.states]
    given = _by_name(neuron, "grad_state", grad_state, names)
    where = f"{neuron.name}: grad_state"
    return {n: fitted(f"{where}[{n!r}]", given.get(n, 0), shape, kind) for n in names}
