"""Search of widths for a target in accuracy."""

from __future__ import annotations

import pytest
import torch

from lnm_codegen.deploy.integers.convert import default_formats, integer_network
from lnm_codegen.deploy.integers.real import WeightFormat
from lnm_codegen.deploy.integers.search import (
    NEURON,
    WEIGHTS,
    WidthSearch,
    _least,
    integer_accuracy,
)
from lnm_codegen.errors import ModelError
from tests.deploy.integers.runs import chained, images, real
from tests.refusals import refused


@pytest.fixture(scope="module")
def labelled():
    """A network, and samples whose labels are its own predictions."""
    network, x = real(chained()), images(48)
    with torch.no_grad():
        return network, [(x, network.network(x).argmax(1))]


def test_the_target_holds_and_bits_are_few(labelled) -> None:
    network, batches = labelled
    found = WidthSearch(network, images(), batches, 10.0).result()
    assert found.accuracy.lost <= found.accuracy.points_broken <= 10.0
    made = integer_network(network, found.formats)
    again = integer_accuracy(network.network, made, batches)
    assert again == found.accuracy
    bits = [f.bits for f in found.formats.weights.values()]
    widths = [spec.default.width for spec in found.formats.neurons.values()]
    assert max(bits) < WEIGHTS[1]
    assert max(widths) < NEURON
    loose = WidthSearch(network, images(), batches, 100.0).result()
    fewer = [f.bits for f in loose.formats.weights.values()]
    assert sum(fewer) < sum(bits)
    # formats too narrow for a coefficient were chosen where every loss is allowed
    made = integer_network(network, loose.formats)
    assert integer_accuracy(network.network, made, batches) == loose.accuracy


def test_inputs_beyond_the_default_width() -> None:
    """The neurons of a search have up to 28 bits, so it accepts what 16 bits do not hold."""
    large, x = chained(), images()
    with torch.no_grad():
        large.norm.weight *= 2e4
        large.norm.bias *= 2e4
        batches = [(x, large(x).argmax(1))]
    network = real(large)
    with refused(ModelError, "formats: first, x"):
        default_formats(network, x)
    assert WidthSearch(network, x, batches, 10.0).result().accuracy.points_broken <= 10.0


def test_readouts_keep_fraction_bits(labelled) -> None:
    """A layer that never spikes has fraction bits, since the accuracy depends on them."""
    network, batches = labelled
    found = WidthSearch(network, images(), batches, 2.5).result()
    assert found.formats.neurons["readout"].default.frac >= 1


def test_fixed_bits_come_last(labelled) -> None:
    network, batches = labelled
    form = WeightFormat(3, "layer")
    found = WidthSearch(network, images(), batches, 5.0, form, fixed_bits=True).result()
    assert {f.bits for f in found.formats.weights.values()} == {3}
    assert {f.per for f in found.formats.weights.values()} == {"layer"}
    made = integer_network(network, found.formats)
    assert integer_accuracy(network.network, made, batches) == found.accuracy


def test_a_target_out_of_reach(labelled) -> None:
    network, batches = labelled
    with refused(ModelError, "net", "the largest widths lose", "at most -1", "--lost"):
        WidthSearch(network, images(), batches, -1.0).result()


def test_bisection() -> None:
    for least in range(2, 17):
        assert _least((2, 16), lambda width, least=least: width >= least) == least
