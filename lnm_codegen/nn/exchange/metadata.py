"""Our own neuron in the metadata of a node: written by `to_nir`, read back exactly.

    node.metadata["lnm"] = {
        "format": 1, "neuron": the definition as TOML text, "params": {name: values},
        "dt": step, "fields": digest of the fields of the node, and reports for people
    }

The text is read by the grammar of text definitions, and never runs. Other values are numbers. The
digest detects a node that another program has changed since.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron, require_one_port
from lnm_codegen.language.text.definition import read
from lnm_codegen.nn.exchange.layers import Shape
from lnm_codegen.nn.exchange.neurons import FIELDS
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import declared_axes, values_of, whole_shape
from lnm_codegen.options import BackendName
from lnm_codegen.validation import listed, require_known, shown

KEY = "lnm"
"""Key of our table in the metadata of a node or a graph."""
FORMAT = 1
_REQUIRED = ("format", "neuron", "params", "dt", "fields")
_REPORTS = (
    "discretisation", "fires", "reset", "exact", "why", "primitive", "spike_difference",
    "output_difference", "rate", "primitive_rate", "samples",
)  # fmt: skip
"""Keys for people, which reading ignores."""
_TYPES = {"float32": torch.float32, "float64": torch.float64}
_REMOVE = f"Remove {KEY!r} from the metadata to read the node's own equations."


def described(layer: NeuronLayer, node: Any, dt: float, **reports: Any) -> dict[str, Any]:
    """Return the table of a layer that becomes `node`.

    Raises:
        UnsupportedError: The neuron has no text form.
    """
    values = {n: v.detach().cpu() for n, v in values_of(layer).items()}
    params = {n: v.numpy() if v.dim() else v.item() for n, v in values.items()}  # HDF5's scalars
    return {
        "format": FORMAT,
        "neuron": _text(layer.neuron, values),
        "params": params,
        "dt": float(dt),
        "fields": _digest(node),
        **reports,
    }


def _text(neuron: Neuron, values: Mapping[str, torch.Tensor]) -> str:
    """Return the definition of a neuron, with means of `values` for the functions that draw them.

    Raises:
        ModelError: The neuron has no text form for another reason.
    """
    try:
        return neuron.to_toml()
    except ModelError:
        drawn = {p.name: p.size for p in neuron.params if callable(p.init)}
        means = {n: values[n].double().reshape(-1, k or 1).mean(0) for n, k in drawn.items()}
        return neuron.with_init(
            **{n: float(m) if drawn[n] is None else tuple(m.tolist()) for n, m in means.items()}
        ).to_toml()


def described_layer(
    where: str, node: Any, shape: Shape, dt: float, backend: BackendName = "auto"
) -> NeuronLayer:
    """Return the layer that a node's metadata describe.

    Raises:
        ModelError: The metadata are not of this form, belong to another dt, or the fields of the
            node have changed since.
    """
    where = f"{where}: metadata"
    table = _table(where, node.metadata, (*_REQUIRED, *_REPORTS))
    for key in _REQUIRED:
        if key not in table:
            raise ModelError(where, f"{key!r} is missing", listed(_REQUIRED), _REMOVE)
    kind = type(node).__name__
    if kind not in FIELDS:
        raise ModelError(where, f"a neuron in a node of class {kind}", FIELDS, _REMOVE)
    written = _number(where, "dt", table["dt"])
    if not math.isclose(written, dt, rel_tol=1e-9):
        problem = f"they are of a step of dt = {written:g}, not {dt:g}"
        raise ModelError(where, problem, f"dt = {written:g}", _REMOVE)
    if table["fields"] != _digest(node):
        problem = "the fields of the node have changed since they were written"
        raise ModelError(where, problem, remedy=_REMOVE)
    text = table["neuron"]
    if not isinstance(text, str):
        raise ModelError(where, f"neuron is {shown(text)}", "text", _REMOVE)
    neuron = read(text, f"{where}: neuron")
    require_one_port(where, neuron)
    params = _params(where, table["params"])
    dtype = torch.get_default_dtype()
    channels = shape[0] if shape else None
    layer = NeuronLayer(neuron, channels=channels, shape=shape, backend=backend, dtype=dtype)
    for name in params:
        require_known(where, "parameter", name, (p.name for p in neuron.params))
    with torch.no_grad():
        for param in neuron.params:
            axes = declared_axes(param, channels, shape)
            assert axes is not None
            accepted = whole_shape(param, axes)
            if param.name not in params:
                raise ModelError(where, f"parameter {param.name!r} is missing", remedy=_REMOVE)
            value = params[param.name]
            if tuple(value.shape) != accepted:
                problem = f"parameter {param.name!r} has shape {tuple(value.shape)}"
                raise ModelError(where, problem, str(accepted), _REMOVE)
            getattr(layer, param.name).copy_(value)
    return layer


def is_described(node: Any) -> bool:
    """Report whether a node has our neuron in its metadata, not only a note for people."""
    table = node.metadata.get(KEY) if isinstance(node.metadata, Mapping) else None
    return table is not None and not (isinstance(table, Mapping) and set(table) == {"folded"})


def graph_dtype(where: str, metadata: Any) -> torch.dtype | None:
    """Return the type of the parameters of a graph that `to_nir` wrote, or None.

    Raises:
        ModelError: Another format, or an unknown type.
    """
    if not isinstance(metadata, Mapping) or KEY not in metadata:
        return None
    table = _table(f"{where}: metadata", metadata, None)
    word = table.get("dtype")
    if word is not None and (not isinstance(word, str) or word not in _TYPES):
        raise ModelError(f"{where}: metadata", f"dtype is {shown(word)}", listed(_TYPES), _REMOVE)
    return None if word is None else _TYPES[word]


def _table(where: str, metadata: Mapping[str, Any], keys: tuple[str, ...] | None) -> dict[str, Any]:
    """Return our table; `keys` are the only ones that it may have."""
    table = metadata[KEY]
    if not isinstance(table, Mapping):
        raise ModelError(where, f"{KEY!r} is {shown(table)}", "a table", _REMOVE)
    found = {str(key): value for key, value in table.items()}
    written = found.get("format")
    if not isinstance(written, int | np.integer) or int(written) != FORMAT:
        problem = f"format is {shown(written)}"
        raise ModelError(where, problem, str(FORMAT), f"Update lnm_codegen. Or: {_REMOVE}")
    for key in found if keys is not None else ():
        if key not in (keys or ()):
            raise ModelError(where, f"unknown key {shown(key)}", listed(keys or ()), _REMOVE)
    return found


def _params(where: str, given: Any) -> dict[str, torch.Tensor]:
    if not isinstance(given, Mapping):
        raise ModelError(where, f"params is {shown(given)}", "a table of arrays", _REMOVE)
    found = {}
    for name, value in given.items():
        array = np.asarray(value)
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ModelError(where, f"parameter {name!r} is {shown(value)}", "numbers", _REMOVE)
        found[str(name)] = torch.as_tensor(array.astype(np.float64))
    return found


def _number(where: str, word: str, value: Any) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ModelError(where, f"{word} is {shown(value)}", "a number", _REMOVE)
    return float(array)


def _digest(node: Any) -> str:
    """Return a digest of the fields of a node, as float64 numbers."""
    found = hashlib.sha256(type(node).__name__.encode())
    for field in FIELDS[type(node).__name__]:
        array = np.ascontiguousarray(getattr(node, field), dtype=np.float64)
        found.update(f"{field}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()
