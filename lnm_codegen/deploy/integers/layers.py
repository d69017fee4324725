"""Layers of neurons in fixed point: numbers that round to 0 or 1, outputs that differ from float.

A network of integers may predict the same classes as in float although its neurons do not have the
same spikes. So formats are compared on the inputs that reached each layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from lnm_codegen.analysis.charge import emits_spikes
from lnm_codegen.compiler.arguments import parameters_of
from lnm_codegen.compiler.fixed import interpret_fixed, needed_numbers, prepared_values, program_of
from lnm_codegen.compiler.interpret import interpret
from lnm_codegen.compiler.lost import Lost, keeping_formats, lost_error
from lnm_codegen.deploy.integers.real import RealNeurons
from lnm_codegen.deploy.network import LayerTrace, layer_parameters
from lnm_codegen.errors import ModelError
from lnm_codegen.hardware.notes import rounded_note, zero_note
from lnm_codegen.ir.declarations import Extent
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.network.nodes import IntegerNetwork, NeuronStage, size_of
from lnm_codegen.ir.operators import Role
from lnm_codegen.ir.types import Fixed, FixedSpec

MOST_OUTPUTS = 1 << 20
"""Most outputs of a layer that are compared, in whole samples."""
NOTED = 0.1
"""Outputs that differ, per output that is not 0 in float, above which a layer is noted."""


def require_layers(
    neurons: Iterable[RealNeurons],
    specs: Mapping[str, FixedSpec],
    traces: Mapping[str, LayerTrace],
) -> None:
    """Raise ModelError where a number that neurons need rounds to 0, on recorded inputs."""
    for stage in neurons:
        lost, difference = _needed(stage, specs[stage.name], traces[stage.name].x_seq)
        if lost:
            raise lost_error(f"formats: {stage.name}", lost, difference)


def keeping(stage: RealNeurons, spec: FixedSpec, x_seq: Tensor) -> FixedSpec:
    """Return a spec in which coefficients that neurons need have formats that keep them.

    Raises:
        ModelError: A constant that the neurons need rounds to 0.
    """
    names = {*program_of(stage.layer.neuron, spec).kernel.input_names(Role.PARAM)}
    lost, _ = _needed(stage, spec, x_seq)
    if not lost:
        return spec
    formats = keeping_formats([one for one in lost if one.name in names])
    kept = FixedSpec(spec.default, {n: Fixed(b.width, b.frac) for n, b in formats.items()})
    others, difference = _needed(stage, kept, x_seq)
    if others:
        error = lost_error(f"formats: {stage.name}", others, difference)
        remedy = "Make each constant an lnm.param(..., learnable=False), which gets its own format."
        raise ModelError(error.where, error.problem, remedy=remedy)
    return kept


def _needed(stage: RealNeurons, spec: FixedSpec, x_seq: Tensor) -> tuple[list[Lost], float]:
    """Return the numbers that neurons need and that round to 0, on recorded inputs."""
    neuron, shape = stage.layer.neuron, tuple(x_seq.shape)
    extent = Extent(1, shape[2], size_of(shape[3:]))
    raw = parameters_of(neuron, layer_parameters(stage.layer), extent, np.dtype(np.float64))
    x = _float64(x_seq).reshape(*shape[:2], -1)
    program = program_of(neuron, spec)
    return needed_numbers(neuron, program, raw, extent, {neuron.inputs[0].name: x})


def _float64(x: Tensor) -> Array:
    return np.asarray(x.detach().double().cpu().numpy())


@dataclass(frozen=True, slots=True)
class Differing:
    """Outputs of a layer that differ by half a spike or more from float; of numbers, by 1/10.

    Attributes:
        outputs: Outputs that were compared.
        differing: Those that differ.
        active: Those that are not 0 in float.
        sums: Mean difference of the sums over time, divided by the time steps.
        are_spikes: The outputs are spikes.
    """

    outputs: int
    differing: int
    active: int
    sums: float
    are_spikes: bool

    @property
    def share(self) -> float:
        """Share of the outputs that differ."""
        return self.differing / self.outputs

    def __str__(self) -> str:
        """Return a sentence without a full stop."""
        noun, what = ("spike", "a spike") if self.are_spikes else ("output", "one that is not 0")
        return (
            f"a{'n' * (noun == 'output')} {noun} differs in {100 * self.share:.3g} % of the steps,"
            f" and {100 * self.active / self.outputs:.3g} % have {what} in float"
        )


def differing(stage: RealNeurons, spec: FixedSpec, x_seq: Tensor) -> Differing:
    """Compare a layer with float on the first samples of its recorded inputs."""
    neuron = stage.layer.neuron
    values: dict[str, Any] = layer_parameters(stage.layer)
    count = max(1, MOST_OUTPUTS // max(x_seq[:, :1].numel(), 1))
    x = _float64(x_seq[:, :count])
    exact = interpret(neuron, x, **values).out
    found = interpret_fixed(neuron, x, spec=spec, **values).out
    are_spikes = emits_spikes(neuron)
    with np.errstate(invalid="ignore"):
        limit = 0.5 if are_spikes else NOTED * float(np.nanmax(np.abs(exact), initial=0.0))
        differs = ~(np.abs(exact - found) < limit) & (exact != found)
    sums = float(np.mean(np.abs((exact - found).sum(0)))) / len(exact)
    counts = int(differs.sum()), int(np.count_nonzero(exact))
    return Differing(exact.size, *counts, sums, are_spikes)


def differing_notes(
    neurons: Iterable[RealNeurons], network: IntegerNetwork, traces: Mapping[str, LayerTrace]
) -> list[str]:
    """Return `layer: sentence` for each layer in which many outputs differ from float."""
    programs = {s.name: s.program for s in network.stages if isinstance(s, NeuronStage)}
    found = []
    for stage in neurons:
        own = differing(stage, programs[stage.name].spec, traces[stage.name].x_seq)
        if own.differing > NOTED * max(own.active, 1):
            found.append(f"{stage.name}: {own}")
    return found


def zero_notes(network: IntegerNetwork, neurons: Iterable[RealNeurons]) -> list[str]:
    """Return `layer: sentence` for each layer of neurons that has such numbers."""
    layers = iter(neurons)
    found: list[str] = []
    for stage, shape in zip(network.stages, network.shapes()[:-1], strict=True):
        if not isinstance(stage, NeuronStage):
            continue
        layer = next(layers).layer
        extent = Extent(1, shape[0], size_of(shape[1:]))
        raw = parameters_of(layer.neuron, layer_parameters(layer), extent, np.dtype(np.float64))
        reals = {n: a.ravel().tolist() for n, a in prepared_values(stage.program, raw).items()}
        integers = {
            n: np.repeat(a, len(reals[n]) // len(a)).tolist() for n, a in stage.coefficients
        }
        for note in (zero_note(integers), rounded_note(stage.program, integers, reals)):
            found += [f"{stage.name}: {note}"] if note is not None else []
    return found
