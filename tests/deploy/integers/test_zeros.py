"""Notes on the numbers of a network that round to 0."""

from __future__ import annotations

from dataclasses import replace

import lnm_codegen as lnm
from lnm_codegen.deploy.integers.convert import default_formats, integer_network
from lnm_codegen.deploy.integers.zeros import zero_notes
from tests.deploy.integers.runs import chained, images, layer, real


def test_a_layer_whose_coefficients_round_to_0_has_a_note() -> None:
    """Of one layer, in its format; none where each number keeps a bit."""
    network = chained()
    neuron = lnm.get("lnm", degree=2, theta=(1e-4, 0.5, 1e-4), per="channel")
    network.first = layer(neuron, 4, 6, 6)
    run = real(network)
    formats = default_formats(run, images(), width=24)
    own = "second: theta_2 is 0 in this format, so that each step multiplies by 0"  # as declared
    assert zero_notes(integer_network(run, formats), run) == [own]
    few = replace(formats, neurons=formats.neurons | {"first": lnm.FixedSpec(lnm.Fixed(12, 8))})
    assert zero_notes(integer_network(run, few), run) == [
        "first: theta_2 is 0 in this format, so that each step multiplies by 0",
        "first: theta_0 rounds to 0 in this format",
        own,
    ]
