"""`lnm.nn.register`: programs of `torch.export` with generated kernels, in another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export import Dim

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.operators import operator_of
from tests.refusals import refused

# torch.export.load of PyTorch 2.11 warns of its own buffer.
pytestmark = pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")

OTHER_PROCESS = """
import torch, lnm_codegen as lnm
lnm.nn.NeuronLayer(lnm.get("lif", learn_tau=True), backend="c")(torch.ones(2, 1, 3))
try:
    torch.export.load("net.pt2")
except Exception as error:
    print(type(error).__name__)
print(lnm.nn.register(lnm.get("lif", learn_tau=True), detach_reset=True, record=("v",)))
x, out, grads = torch.load("expected.pt")
net = torch.export.load("net.pt2").module()
got, recorded = net(x)
assert torch.equal(got, out)
assert torch.equal((recorded["v"] >= 1).float(), out)
got.square().sum().backward()
assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
"""


def network(**options: object) -> nn.Sequential:
    torch.manual_seed(0)
    neuron = lnm.get("lif", learn_tau=True)
    return nn.Sequential(nn.Linear(3, 3), NeuronLayer(neuron, backend="c", **options))


@pytest.mark.slow
@pytest.mark.needs_cc
def test_a_program_in_another_process(tmp_path: Path) -> None:
    """A call of a layer registers nothing; `register` does. Gradients are as before saving."""
    net, x = network(detach_reset=True, record=("v",)), 8 * torch.randn(4, 2, 3)
    with pytest.warns(UserWarning, match="recorded.* was assigned during export"):
        program = torch.export.export(net, (x,))
    torch.export.save(program, tmp_path / "net.pt2")
    out = net(x)[0]
    grads = torch.autograd.grad(out.square().sum(), list(net.parameters()))
    torch.save((x, out.detach(), grads), tmp_path / "expected.pt")
    ran = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    unknown, name = ran.stdout.split()
    assert unknown.endswith("Error")
    assert name == lnm.nn.register(net[1])


@pytest.mark.needs_cc
def test_a_saved_program_for_any_length(tmp_path: Path) -> None:
    """Exported under `no_grad`, one program serves every T and N. Loading once failed."""
    net = network()
    with torch.no_grad():
        sizes = ({0: Dim("T"), 1: Dim("N")},)
        program = torch.export.export(net, (torch.randn(4, 2, 3),), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    for steps, batch in ((1, 1), (4, 2), (40, 5)):
        x = 8 * torch.randn(steps, batch, 3)
        spikes = net(x)
        assert torch.equal(loaded(x), spikes)
    assert spikes.any()


def test_names() -> None:
    """A layer stands for its neuron, reset and records; arguments replace those of the layer."""
    neuron = lnm.get("lif")
    name = f"lnm::{operator_of(neuron, 'c').name}"
    assert lnm.nn.register(neuron) == lnm.nn.register(NeuronLayer(neuron)) == name
    assert lnm.nn.register(neuron, backend="triton") != name
    detached = lnm.nn.register(neuron, detach_reset=True)
    assert lnm.nn.register(NeuronLayer(neuron, detach_reset=True)) == detached != name
    assert lnm.nn.register(NeuronLayer(neuron), detach_reset=True) == detached
    recording = NeuronLayer(neuron, record="v")
    assert lnm.nn.register(neuron, record="v") == lnm.nn.register(recording) != name
    counting = NeuronLayer(neuron, record="stats", interval=(-1, 1))
    assert lnm.nn.register(counting) != lnm.nn.register(neuron, record="stats")


def test_refusals() -> None:
    """Each argument by its parts."""
    neuron = lnm.get("lif")
    with refused(lnm.ModelError, "register", "neuron_or_layer is 'lif'", "an lnm.Neuron or a"):
        lnm.nn.register("lif")
    with refused(lnm.ModelError, "register", "'torch'", "c, triton, cuda"):
        lnm.nn.register(neuron, backend="torch")
    with refused(lnm.ModelError, "register", "detach_reset is 'no'", "True, False"):
        lnm.nn.register(neuron, detach_reset="no")
    integers = NeuronLayer(neuron, arithmetic=lnm.Fixed(16, 12))
    problem = "computes in integers, which have no operator"
    with refused(lnm.UnsupportedError, "lif", problem, remedy="Use a layer without arithmetic."):
        lnm.nn.register(integers)
    with refused(lnm.ModelError, "NeuronLayer", "no record 'h'", "v, stats"):
        lnm.nn.register(neuron, record=("h",))
