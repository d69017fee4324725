"""Coefficients and constants of a network that are 0, or round to 0 or 1, in its formats."""

from __future__ import annotations

import numpy as np

from lnm_codegen.compiler.arguments import parameters_of
from lnm_codegen.compiler.fixed import prepared_values
from lnm_codegen.deploy.integers.convert import RealNetwork
from lnm_codegen.deploy.network import layer_parameters
from lnm_codegen.hardware.notes import rounded_note, zero_note
from lnm_codegen.ir.granularity import Extent
from lnm_codegen.ir.network.nodes import IntegerNetwork, NeuronStage, size_of


def zero_notes(network: IntegerNetwork, real: RealNetwork) -> list[str]:
    """Return `layer: sentence` for each layer of neurons that has such numbers."""
    neurons = iter(real.neurons)
    found: list[str] = []
    for stage, shape in zip(network.stages, network.shapes()[:-1], strict=True):
        if not isinstance(stage, NeuronStage):
            continue
        layer = next(neurons).layer
        extent = Extent(1, shape[0], size_of(shape[1:]))
        raw = parameters_of(layer.neuron, layer_parameters(layer), extent, np.dtype(np.float64))
        reals = {n: a.ravel().tolist() for n, a in prepared_values(stage.program, raw).items()}
        integers = {
            n: np.repeat(a, len(reals[n]) // len(a)).tolist() for n, a in stage.coefficients
        }
        for note in (zero_note(integers), rounded_note(stage.program, integers, reals)):
            found += [f"{stage.name}: {note}"] if note is not None else []
    return found
