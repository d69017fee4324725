"""Neurons of a network in integers, from a definition, formats and parameter values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lnm_codegen.compiler.arguments import parameters_of, start_of
from lnm_codegen.compiler.fixed import bits_of, prepared_integers, program_of, rounded
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Extent
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.network.nodes import NeuronStage, Shape, size_of
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron, require_one_port


def neuron_stage(
    name: str,
    neuron: Neuron,
    spec: Fixed | FixedSpec,
    shape: Shape,
    values: Mapping[str, Any] | None = None,
) -> NeuronStage:
    """Return the neurons of a layer in integers.

    Args:
        name: Name of the layer.
        neuron: Its neuron, with one input and one output.
        spec: Formats.
        shape: (C, *) of the neurons of a time step.
        values: Parameters by name, as for `lnm.interpret`; the declared `init` otherwise.

    Raises:
        ModelError: A constant, a parameter or an initial state that does not fit its format; the
            place begins with the layer.
        UnsupportedError: The neuron has no fixed-point form.
    """
    require_one_port(name, neuron)
    try:
        return _stage(name, neuron, spec, shape, values or {})
    except ModelError as error:
        raise error.within(name) from None


def _stage(
    name: str,
    neuron: Neuron,
    spec: Fixed | FixedSpec,
    shape: Shape,
    values: Mapping[str, Any],
) -> NeuronStage:
    program, kind = program_of(neuron, spec), np.dtype(np.float64)
    extent = Extent(1, shape[0], size_of(shape[1:]))
    raw = parameters_of(neuron, values, extent, kind)
    start = start_of(neuron, None, shape, kind, raw, extent)

    def initial(state: str, array: Array) -> Array:
        word = f"the initial value of state {state!r}"
        return _fewest(rounded(neuron.name, word, array, bits_of(program, state)), shape)

    return NeuronStage(
        name,
        program,
        tuple((n, _fewest(a, shape)) for n, a in prepared_integers(program, raw).items()),
        tuple((n, initial(n, a)) for n, a in start.items()),
    )


def _fewest(array: Array, shape: Shape) -> Array:
    """Return the fewest numbers that give each neuron its own: one, one a channel, or all."""
    flat = array.reshape(-1)
    if np.all(flat == flat[0]):
        return flat[:1]
    rows = flat.reshape(shape[0], -1)
    return rows[:, 0] if np.all(rows == rows[:, :1]) else flat
