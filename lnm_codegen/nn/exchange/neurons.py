"""Neurons of NIR as layers, and neuron layers as nodes: exact ones, the nearest, our metadata."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnm_codegen.analysis.linear.affine import Membrane, membrane_of
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.ir.kernel import Names
from lnm_codegen.language.functions import min, where
from lnm_codegen.language.neuron import Neuron, hard_reset, require_one_port
from lnm_codegen.language.symbols import Granularity, input, param, spike, state
from lnm_codegen.language.text.definition import read
from lnm_codegen.nn.exchange.layers import Shape, array_of
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import declared_axes, parameter_sets, values_of, whole_shape
from lnm_codegen.options import BackendName
from lnm_codegen.validation import listed, require_known, shown

# Neurons of NIR as layers: the equations of a node, discretised by forward Euler with step dt.
#
#     I, IF      h = v + dt*r*x
#     LI, LIF    h = v + (dt/tau)*(v_leak - v + r*x)
#     CubaLI     i <- i + (dt/tau_syn)*(w_in*x - i), and LI or LIF of the new i instead of x
#     CubaLIF
#     Threshold  h = x
#
#     IF, LIF, CubaLIF, Threshold    spike where h > v_threshold, then v = v_reset
#     I, LI, CubaLI                  the output is h
#
# These are the steps of Norse, snnTorch and SpikingJelly. The potential begins at v_leak, or at 0
# without a leak, and the current at 0. A potential equal to the threshold does not spike.


Array = NDArray[np.float64]

_LEAKY = ("tau", "r", "v_leak")
_CUBA = ("tau_syn", "tau_mem", "r", "v_leak", "w_in")
_FIRE = ("v_threshold", "v_reset")
FIELDS: dict[str, tuple[str, ...]] = {
    "I": ("r",),
    "IF": ("r", *_FIRE),
    "LI": _LEAKY,
    "LIF": (*_LEAKY, *_FIRE),
    "CubaLI": _CUBA,
    "CubaLIF": (*_CUBA, *_FIRE),
    "Threshold": ("threshold",),
}
"""Class of a node -> its fields, which become parameters of the neuron."""

TINY = 1e-30
"""What z = v - v_threshold is less where v == v_threshold, so that the neuron does not spike."""


def strict(v: Any, v_threshold: Any) -> Any:
    """Return z of a neuron that spikes where v > v_threshold; its derivative in v is 1.

    The `min` keeps TINY apart from v_threshold, in whose sum it would be rounded away.
    """
    return where(v > v_threshold, v - v_threshold, min(v - v_threshold, 0) - TINY)


def euler_neuron(kind: str, per: Mapping[str, Granularity], dt: float) -> Neuron:
    """Return the neuron of a node of class `kind`; its parameters are learnable, and have no value.

    Args:
        kind: A key of `FIELDS`.
        per: Field -> granularity.
        dt: Length of a step, in the unit of the time constants.
    """
    name = f"nir_{kind.lower()}"
    p = {field: param(field, init=1.0, per=per[field]) for field in FIELDS[kind]}
    x = input("x")
    if kind == "Threshold":
        return Neuron(fire=strict(x, p["threshold"]), name=name)
    leak, tau = p.get("v_leak"), p.get("tau", p.get("tau_mem"))
    v = state("v") if leak is None else state("v", init=leak)
    charge: dict[Any, Any] = {}
    drive: Any = x
    if "tau_syn" in p:
        current = state("current")
        drive = charge[current] = current + dt / p["tau_syn"] * (p["w_in"] * x - current)
    drive = p["r"] * drive
    charge[v] = v + dt * drive if tau is None else v + dt / tau * (leak - v + drive)  # type: ignore[operator]
    if "v_threshold" not in p:
        return Neuron(charge=charge, output={"out": v}, name=name)
    reset = hard_reset(v, p["v_reset"], on=spike)
    return Neuron(charge=charge, fire=strict(v, p["v_threshold"]), reset=reset, name=name)


def neuron_layer(
    where: str, node: Any, shape: Shape, dt: float, backend: BackendName = "auto"
) -> NeuronLayer:
    """Return the layer of a node of `FIELDS` for an input with the features `shape`.

    A field whose values are all equal becomes a parameter per layer; one that is equal within each
    channel, a parameter per channel; any other, a parameter per neuron.

    Raises:
        ModelError: A field is not finite, a time constant is not positive, or a step of forward
            Euler is unstable.
        ShapeError: A field does not have the shape of the input.
    """
    kind = type(node).__name__
    values = {f: _field(where, f, getattr(node, f), shape) for f in FIELDS[kind]}
    for field in ("tau", "tau_syn", "tau_mem"):
        if field in values:
            _require_stable(where, field, values[field], dt)
    coarse = {field: _coarsest(value) for field, value in values.items()}
    neuron = euler_neuron(kind, {field: per for field, (per, _) in coarse.items()}, dt)
    dtype = torch.get_default_dtype()
    layer = NeuronLayer(
        neuron, channels=shape[0] if shape else None, shape=shape, backend=backend, dtype=dtype
    )
    with torch.no_grad():
        for field, (_, value) in coarse.items():
            getattr(layer, field).copy_(torch.tensor(value))
    return layer


def _field(where: str, word: str, value: Any, shape: Shape) -> Array:
    array = array_of(where, word, value)
    if array.size != 1 and array.shape != shape:
        problem = f"{word} has shape {array.shape}, the input {shape} without T and N"
        raise ShapeError(where, problem, f"{shape}, or one number")
    return np.broadcast_to(array.reshape(()) if array.size == 1 else array, shape)


def _require_stable(where: str, word: str, tau: Array, dt: float) -> None:
    least = float(tau.min())
    if least <= 0:
        raise ModelError(where, f"{word} is {least:g}", "time constants > 0")
    if dt >= 2 * least:
        raise UnsupportedError(
            where,
            f"a step of dt = {dt:g} is unstable under forward Euler with {word} = {least:g}",
            f"dt < {2 * least:g}",
            "Give dt in the unit of the graph's time constants.",
        )


def _coarsest(value: Array) -> tuple[Granularity, Array]:
    """Return the coarsest granularity that holds the values, and them at that granularity."""
    if (value == value.flat[0]).all():
        return "layer", value.reshape(-1)[0]
    if value.ndim == 1:
        return "channel", value
    rows = value.reshape(value.shape[0], -1)
    if (rows == rows[:, :1]).all():
        return "channel", rows[:, 0]
    return "neuron", value


# Nodes of NIR that neuron layers are, exactly.
#
# From the coefficients of a leaky integrator (`analysis/linear/affine.py`), with a step dt:
#
#     tau = dt/(1 - decay)    r = gain/(1 - decay)    v_leak = drift/(1 - decay)     LIF, LI
#     r = gain/dt                                                                    IF, I
#
# and likewise tau_syn and w_in of a current. NIR spikes where v > v_threshold. A neuron that spikes
# where v >= v_threshold is written with the largest number below its threshold, of its own type:
# both conditions hold for the same numbers.


Numbers = NDArray[Any]
_CLOSE = 1e-6  # relative: what counts as the same number after rounding to float32
EXACT = "a step of I, IF, LI, LIF, CubaLI, CubaLIF or Threshold, with a hard reset"
REMEDY = "Give approximate=True to write the nearest primitive."


class Primitive(NamedTuple):
    """A node to be written.

    Attributes:
        node: The node.
        fires: How the neuron compares, or "never".
        reset: Its reset in words.
    """

    node: Any
    fires: str
    reset: str


def coefficients_of(layer: NeuronLayer, membrane: Membrane, shape: Shape) -> dict[str, Numbers]:
    """Return the coefficients of a layer as float64 arrays of the shape of its neurons."""
    sets = parameter_sets(layer)
    values = {name: value.double().numpy() for name, value in sets.values.items()}
    found = membrane.values(values, len(sets))
    ones = (1,) * (len(shape) - len(sets.shape)) if sets.shape else ()
    return {
        name: np.broadcast_to(
            (value[0] if not sets.shape else value.reshape(*sets.shape, *ones)), shape
        ).astype(np.float64)
        for name, value in found.items()
    }


def primitive_of(where: str, layer: NeuronLayer, shape: Shape, dt: float, nir: Any) -> Primitive:
    """Return the node that a layer is.

    Raises:
        UnsupportedError: It is none; the message names the first difference.
    """
    try:
        membrane = membrane_of(layer.neuron)
        found = coefficients_of(layer, membrane, shape)
        _require_start(membrane, found)
        fields = fields_of(where, membrane, found, dt)
    except UnsupportedError as error:
        place = where if error.where == where else f"{where}: {error.where}"
        raise UnsupportedError(place, error.problem, error.accepted or EXACT, REMEDY) from None
    reset = "hard" if membrane.fires and membrane.potential else "none"
    return written(nir, membrane, found, fields, layer_dtype(layer), reset)


def written(
    nir: Any,
    membrane: Membrane,
    found: Mapping[str, Numbers],
    fields: Mapping[str, Numbers],
    dtype: np.dtype[Any],
    reset: str,
) -> Primitive:
    """Return the node with these fields, and threshold and reset of the coefficients."""
    arrays = {name: np.array(value, dtype) for name, value in fields.items()}
    kind = {"r": "I", "tau": "LI", "tau_mem": "CubaLI"}
    leaky = next((k for field, k in reversed(kind.items()) if field in arrays), "Threshold")
    fires = "never"
    if membrane.fires:
        fires = "v > v_threshold" if membrane.strict else "v >= v_threshold"
        threshold = np.array(found["threshold"], dtype)
        if not membrane.strict:
            threshold = np.nextafter(threshold, np.array(-np.inf, dtype))
        if not membrane.potential:
            return Primitive(nir.Threshold(threshold=threshold), fires, reset)
        arrays["v_threshold"], arrays["v_reset"] = threshold, np.array(found["reset"], dtype)
        leaky += "F"
    return Primitive(getattr(nir, leaky)(**arrays), fires, reset)


def fields_of(
    where: str, membrane: Membrane, found: Mapping[str, Numbers], dt: float
) -> dict[str, Numbers]:
    """Return the fields of the equations, without threshold and reset.

    Raises:
        UnsupportedError: A potential that grows or oscillates, or one without a leak that drifts.
    """
    if not membrane.potential:
        return {}
    decay, gain, drift = found["decay"], found["gain"], found["drift"]
    _require_decay(where, membrane.potential, decay)
    if (decay == 1).any():
        if membrane.current or (decay != 1).any():
            accepted = "decays < 1, or decays of 1 without a current"
            raise UnsupportedError(where, "some potentials have no leak", accepted)
        if drift.any():
            raise UnsupportedError(where, "the potential drifts without a leak", "no constant")
        return {"r": gain / dt}
    if not membrane.current:
        return {"tau": dt / (1 - decay), "r": gain / (1 - decay), "v_leak": drift / (1 - decay)}
    if not np.isfinite(gain).all():  # of Norse, whose current is read before it decays
        raise UnsupportedError(where, f"{membrane.current} keeps nothing in a step", "tau_syn > dt")
    own = found["current_decay"]
    _require_decay(where, membrane.current, own)
    if (own == 1).any():
        raise UnsupportedError(where, "a current has no decay", "decays < 1")
    return {
        "tau_syn": dt / (1 - own),
        "tau_mem": dt / (1 - decay),
        "r": gain / (1 - decay),
        "v_leak": drift / (1 - decay),
        "w_in": found["current_gain"] / (1 - own),
    }


def _require_decay(where: str, name: str, decay: Numbers) -> None:
    for value in (decay.min(), decay.max()):
        if not -1 < value <= 1:
            problem = f"{name} is multiplied by {float(value):g} in a step"
            raise UnsupportedError(where, problem, "factors > -1 and <= 1")


def _require_start(membrane: Membrane, found: Mapping[str, Numbers]) -> None:
    """Raise UnsupportedError unless the states begin at rest, where readers begin."""
    if not membrane.potential:
        return
    decay = found["decay"]
    rest = np.where(decay == 1, 0, found["drift"] / np.where(decay == 1, 1, 1 - decay))
    for name, start, accepted in (
        (membrane.potential, found["start"], rest),
        (membrane.current, found.get("current_start", np.zeros(1)), np.zeros(1)),
    ):
        differs = ~np.isclose(start, accepted, rtol=_CLOSE, atol=_CLOSE)
        if differs.any():
            first, wanted = (
                np.broadcast_to(a, differs.shape)[differs][0] for a in (start, accepted)
            )
            problem = f"state {name} begins at {float(first):g}"
            raise UnsupportedError(membrane.neuron.name, problem, f"{float(wanted):g}, its rest")


def layer_dtype(layer: NeuronLayer) -> np.dtype[Any]:
    """Return the type of a layer's parameters: float64, or else float32."""
    kinds = {value.dtype for value in (*layer.parameters(), *layer.buffers())}
    return np.dtype("float64" if torch.float64 in kinds else "float32")


# The primitive of NIR nearest to a neuron layer that is none, on a sample, and how far it is.
#
# Where only the reset or the initial state differs, the other equations are exact. A reset that is
# not hard becomes one to the mean potential after a spike. Otherwise the node is a LIF per layer,
#
#     h[t] = a*v[t-1] + b*x[t] + c        by least squares over the sample
#
# with 0 <= a <= 0.999, the mean of h - z as threshold, and that reset. A neuron without a spike
# becomes a LI of its output.


_MOST_DECAY = 0.999


def nearest_of(
    where: str, layer: NeuronLayer, x_seq: Tensor, shape: Shape, dt: float, nir: Any
) -> Primitive:
    """Return the nearest node for inputs (T, N, *).

    Raises:
        UnsupportedError: The output is neither one spike nor a number of a neuron without spikes.
    """
    neuron = layer.neuron
    require_output(where, layer)
    dtype = layer_dtype(layer)
    path = _path_of(layer, x_seq)
    try:
        membrane = membrane_of(neuron, loose=True)
        found = coefficients_of(layer, membrane, shape)
        fields = fields_of(where, membrane, found, dt)
    except UnsupportedError:
        membrane, found = _fitted(path, shape, bool(neuron.fire), layer)
        fields = fields_of(where, membrane, found, dt)
    found = {"reset": np.full(shape, path.reset), **found}
    return written(nir, membrane, found, fields, dtype, "hard")


def require_output(where: str, layer: NeuronLayer) -> None:
    """Raise UnsupportedError where no primitive has the outputs of a neuron, not even nearly."""
    neuron = layer.neuron
    outputs = [e for _, e in neuron.output]
    spikes = [s for s, _ in neuron.fire]
    if len(neuron.inputs) != 1 or len(outputs) != 1:
        problem = f"{neuron.name} has {len(neuron.inputs)} inputs and {len(outputs)} outputs"
        raise UnsupportedError(where, problem, "one of each")
    if spikes and outputs[0] != spikes[0]:
        problem = f"the output of {neuron.name} is {outputs[0]}"
        raise UnsupportedError(where, problem, "one spike, or a value of a neuron without spikes")


@dataclass(frozen=True)
class _Path:
    """Potentials of a layer on its inputs, step by step, flat.

    Attributes:
        before: v before a step.
        x: The input.
        charged: h, or the output of a neuron without spikes.
        margin: z, or 0 of such a neuron.
        reset: Mean v after a reset, or 0.
    """

    before: Array
    x: Array
    charged: Array
    margin: Array
    reset: float


def _path_of(layer: NeuronLayer, x_seq: Tensor) -> _Path:
    """Return the potentials of a layer in float64."""
    neuron = layer.neuron
    names = Names({s.name for s in neuron.symbols} | {n for n, _ in neuron.output})
    z = neuron.fire[0][1] if neuron.fire else None
    reads = set() if z is None else z.free_symbols
    v = next((s for s in neuron.states if s in reads), None)
    if z is not None and v is None and neuron.states:
        v = neuron.states[0]
    charged, margin = names.fresh("charged"), names.fresh("margin")
    more = {charged: neuron.output[0][1] if v is None else v}
    probe = NeuronLayer(
        neuron.with_outputs(**more, **({} if z is None else {margin: z})),
        channels=x_seq.shape[2] if x_seq.dim() > 2 else None,
        shape=tuple(x_seq.shape[2:]),
        backend="torch",
        dtype=torch.float64,
    )
    state: Any = None
    rows: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for name, value in values_of(layer).items():
            getattr(probe, name).copy_(value)
        for x in x_seq.double().unbind(0):
            (spike, h, *more_z), state = probe(x[None], state=state, return_state=True)
            after = h[0] if v is None else state[v.name]
            rows.append((after, h[0], more_z[0][0] if more_z else h[0] * 0, spike[0]))
    after, h, margins, spikes = (torch.stack(r) for r in zip(*rows, strict=True))
    fired = spikes != 0
    reset = float(after[fired].mean()) if neuron.fire and fired.any() else 0.0
    later = (after[:-1], x_seq[1:].double(), h[1:], margins[1:])
    flat: list[Array] = [t.reshape(-1).numpy() for t in later]
    return _Path(flat[0], flat[1], flat[2], flat[3], reset)


def _fitted(
    path: _Path, shape: Shape, fires: bool, layer: NeuronLayer
) -> tuple[Membrane, dict[str, Array]]:
    """Return the leaky integrator that fits a path best, and its coefficients."""
    ones = np.ones_like(path.x)
    columns = [path.before, path.x, ones]
    good = np.isfinite([*columns, path.charged, path.margin]).all(0)
    kept = [c[good] for c in columns]
    h = path.charged[good]
    decay, gain, drift = np.linalg.lstsq(np.stack(kept, 1), h, rcond=None)[0]
    if not 0 <= decay <= _MOST_DECAY:
        decay = float(np.clip(decay, 0, _MOST_DECAY))
        rest = h - decay * kept[0]
        gain, drift = np.linalg.lstsq(np.stack(kept[1:], 1), rest, rcond=None)[0]
    values = {"decay": decay, "gain": gain, "drift": drift}
    if fires:
        values["threshold"] = float((h - path.margin[good]).mean()) if h.size else 1.0
    membrane = Membrane(layer.neuron, "v", "", fires, False, {})
    return membrane, {key: np.full(shape, float(value)) for key, value in values.items()}


# Our own neuron in the metadata of a node: written by `to_nir`, read back exactly.
#
#     node.metadata["lnm"] = {
#         "format": 1, "neuron": the definition as TOML text, "params": {name: values},
#         "dt": step, "fields": digest of the fields of the node, and reports for people
#     }
#
# The text is read by the grammar of text definitions, and never runs. Other values are numbers. The
# digest detects a node that another program has changed since.


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
    if not isinstance(table["fields"], str) or table["fields"] != _digest(node):
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
    found = hashlib.sha256(type(node).__name__.encode())
    for field in FIELDS[type(node).__name__]:
        array = np.ascontiguousarray(getattr(node, field), dtype=np.float64)
        found.update(f"{field}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()
