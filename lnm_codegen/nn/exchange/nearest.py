"""The primitive of NIR nearest to a neuron layer that is none, on a sample, and how far it is.

Where only the reset or the initial state differs, the other equations are exact. A reset that is
not hard becomes one to the mean potential after a spike. Otherwise the node is a LIF per layer,

    h[t] = a*v[t-1] + b*x[t] + c        by least squares over the sample

with 0 <= a <= 0.999, the mean of h - z as threshold, and that reset. A neuron without a spike
becomes a LI of its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lnm_codegen.analysis.linear.affine import Membrane, membrane_of
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.names import Names
from lnm_codegen.nn.exchange.layers import Shape
from lnm_codegen.nn.exchange.primitives import (
    Primitive,
    coefficients_of,
    fields_of,
    layer_dtype,
    written,
)
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import values_of

Array = NDArray[np.float64]
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
