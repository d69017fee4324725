"""The network: shapes, direct encoding computed once, neurons' parameters apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from lnm_codegen.nn.norm.deferred import DeferredNorm
from lnm_codegen.train.models import parameter_groups
from lnm_codegen.train.models.convolutional import ConvNet
from tests.refusals import refused

IMAGE = (1, 8, 8)


def firing(network: ConvNet) -> ConvNet:
    """Return a network in evaluation whose layers fire; with its first weights none did."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | DeferredNorm):
            nn.init.constant_(module.weight, 4.0)
            nn.init.constant_(module.bias, 1.0)
    return network.eval()


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_logits_and_parameter_shapes(per: str) -> None:
    neuron = lnm.get("lnm", degree=2, per=per, v_min=-2.0)
    network = ConvNet(neuron, 10, IMAGE, (3, 5), backend="torch")
    assert network(torch.randn(6, *IMAGE)).shape == (6, 10)
    rows = {"layer": ((), ()), "channel": ((3,), (5,)), "neuron": ((3, 8, 8), (5, 4, 4))}[per]
    assert [layer.theta.shape for layer in network.neurons] == [(*r, 3) for r in rows]
    weights, learned = parameter_groups(network)
    assert [p is layer.theta for p, layer in zip(learned, network.neurons, strict=True)] == [
        True
    ] * 2
    assert len(weights) + len(learned) == len(list(network.parameters()))


def test_first_convolution_runs_once_and_means_the_same() -> None:
    """An image shown T times costs one convolution, and equals T copies of it in evaluation."""
    network = firing(ConvNet(lnm.get("lif"), 10, IMAGE, (3, 5), time_steps=4, backend="torch"))
    batches = []
    network.blocks[0].conv.register_forward_hook(lambda m, i, o: batches.append(len(i[0])))
    images = torch.randn(6, *IMAGE)
    expanded = network.blocks(images.expand(4, *images.shape))
    copied = network.blocks(images.expand(4, *images.shape).contiguous())
    assert batches == [6, 24]
    assert torch.equal(expanded, copied)
    assert 0.02 < float(copied.detach().ne(0).float().mean()) < 0.98


def test_event_frames_and_outputs_at_each_step() -> None:
    """The mean of the outputs at each step is the output; frames run as they are."""
    once, each, frames = (
        firing(ConvNet(lnm.get("lif"), 10, IMAGE, (3, 5), steps, "torch", per_step))
        for steps, per_step in ((4, False), (4, True), (None, True))
    )
    for network in (each, frames):
        network.load_state_dict(once.state_dict())
    images = torch.randn(6, *IMAGE)
    logits = each(images)
    assert logits.shape == (4, 6, 10)
    assert float((logits[1:] - logits[:1]).detach().abs().max()) > 0.01
    torch.testing.assert_close(logits.mean(0), once(images))
    torch.testing.assert_close(frames(images.repeat(4, 1, 1, 1, 1)), logits)


def test_too_many_blocks() -> None:
    with refused(ModelError, "conv", "4 blocks each halve an image of 8x8", "at most 3 channels"):
        ConvNet(lnm.get("lif"), 10, IMAGE, (2, 2, 2, 2))
