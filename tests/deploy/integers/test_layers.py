"""Layers of a network in fixed point: numbers that round to 0, outputs that differ from float."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.compiler.fixed import interpret_fixed
from lnm_codegen.compiler.interpret import interpret
from lnm_codegen.deploy import emit_network
from lnm_codegen.deploy.integers.convert import default_formats, integer_network, zero_notes
from lnm_codegen.deploy.network import layer_parameters, trace_layers
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.network.nodes import NeuronStage
from tests.deploy.integers.runs import chained, images, layer, real
from tests.refusals import refused


def test_a_layer_whose_coefficients_round_to_0_has_a_note() -> None:
    """Of one layer, in its format; none where each number keeps a bit."""
    network = chained()
    neuron = lnm.get("lnm", degree=2, theta=(1e-4, 0.5, 1e-4), per="channel")
    network.first = layer(neuron, 4, 6, 6)
    run = real(network)
    formats = default_formats(run, images(), width=24)
    own = "second: theta_2 is 0 in this format, so that each step multiplies by 0"  # as declared
    assert zero_notes(integer_network(run, formats), run.neurons) == [own]
    few = replace(formats, neurons=formats.neurons | {"first": lnm.FixedSpec(lnm.Fixed(12, 8))})
    assert zero_notes(integer_network(run, few), run.neurons) == [
        "first: theta_2 is 0 in this format, so that each step multiplies by 0",
        "first: theta_0 rounds to 0 in this format",
        own,
    ]


v, x = lnm.state("v"), lnm.input("x")


def own(charge, threshold: float = 1.0) -> lnm.Neuron:
    """Return a neuron with a soft reset."""
    reset = {v: v - threshold * lnm.spike}
    return lnm.Neuron(charge={v: charge}, fire=v - threshold, reset=reset, name="own")


def network_of(neuron: lnm.Neuron, scale: float) -> tuple[nn.Sequential, torch.Tensor]:
    """Return a network of one layer of neurons, and samples."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(10, 24), lnm.nn.NeuronLayer(neuron), nn.Linear(24, 4))
    return module, torch.rand(24, 60, 10) * scale


def spikes(module: nn.Sequential, samples: torch.Tensor) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Return the spikes of the layer in float and in the emitted integers, and the notes."""
    made = emit_network(module, samples)
    layer = module[1]
    x_seq = trace_layers(module, samples)[1]["1"].x_seq.detach().double().numpy()
    (stage,) = (s for s in made.network.stages if isinstance(s, NeuronStage))
    values = layer_parameters(layer)
    integers = interpret_fixed(layer.neuron, x_seq, spec=stage.program.spec, **values)
    return interpret(layer.neuron, x_seq, **values).out, integers.out, made.notes


POLYNOMIALS = {
    "cubic": own(0.5 * v + 0.3 * v**2 + 0.02 * v**3 + x),
    "falling cubic": own(0.5 * v + 0.2 * v**2 - 0.05 * v**3 + x),
    "quadratic": own(0.8 * v + 0.4 * v * v + x),
    "clipped": own(lnm.clip(0.5 * v + 0.3 * v**2 + 0.02 * v**3 + x, -2, 2)),
    "large threshold": own(0.9 * v + 40 * x, 100.0),
}


QUICK = [("cubic", 1.0), ("quadratic", 8.0), ("falling cubic", 8.0), ("clipped", 8.0)]
QUICK += [("large threshold", 8.0)]


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        pytest.param(name, scale, marks=[pytest.mark.slow] * ((name, scale) not in QUICK))
        for name in POLYNOMIALS
        for scale in (1.0, 8.0)
    ],
)
def test_integers_have_the_spikes_of_float(name: str, scale: float) -> None:
    """Potentials that diverge led to Q16.0: the fractions of a polynomial became 0, with a note."""
    expected, found, notes = spikes(*network_of(POLYNOMIALS[name], scale))
    differing = np.abs(expected - found).sum() / expected.sum()
    noted = any("a spike differs" in note for note in notes)
    assert differing < (0.3 if noted else 0.1)


def test_layers_whose_spikes_differ_have_a_note() -> None:
    """The predicted classes may be equal all the same."""
    expected, found, notes = spikes(*network_of(lnm.get("lif", tau=1e3), 1e3))
    share = 100 * np.abs(expected - found).mean()
    assert share > 1
    assert f"1: a spike differs in {share:.3g} % of the steps" in notes[0]


def test_a_coefficient_that_is_needed_gets_a_format_of_its_own() -> None:
    """The layer has 14 fraction bits, in which 1 / tau is 0."""
    module, samples = network_of(lnm.get("lif", tau=4e4), 2.0)
    made = emit_network(module, samples)
    (stage,) = (s for s in made.network.stages if isinstance(s, NeuronStage))
    assert dict(stage.coefficients)["inv_tau"] > 0
    assert [n for n, _ in stage.program.spec.nodes] == ["inv_tau"]


def test_a_constant_that_is_needed_is_refused() -> None:
    slow = own(v + 2e-5 * (x - v), 1e-3)
    module, samples = network_of(slow, 2.0)
    problem = "2e-05 rounds to 0 in Q3.13, and the neuron needs it"
    with refused(ModelError, "formats: 1", problem, "", "lnm.param(..., learnable=False)"):
        emit_network(module, samples)
