"""`lnm.nn.register`: programs of `torch.export` with generated kernels, in another process."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, NormNeuron
from lnm_codegen.nn.operators import operator_of
from tests.cases import CASES
from tests.refusals import assert_refused, refused

# torch.export.load of PyTorch 2.11 warns of its own buffer.
pytestmark = pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")

OTHER_PROCESS = """
import sys, torch, lnm_codegen as lnm
lif, kind = lnm.get("lif", learn_tau=True), sys.argv[1]
if kind == "layer":
    lnm.nn.NeuronLayer(lif, backend="c")(torch.ones(2, 1, 3))
    try:
        torch.export.load("net.pt2")
    except Exception as error:
        print(type(error).__name__)
    print(lnm.nn.register(lif, detach_reset=True, record=("v",)))
else:
    print(lnm.nn.register(lnm.nn.NormNeuron(lif, 3, shortcut=True, backend="c")))
inputs, expected, grads = torch.load("expected.pt")
net = torch.export.load("net.pt2").module()
out = net(*inputs)
if kind == "layer":
    out, recorded = out
    assert torch.equal((recorded["v"] >= 1).float(), out)
assert torch.equal(out, expected)
out.square().sum().backward()
assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
"""


def network(neuron: lnm.Neuron, **options: object) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), NeuronLayer(neuron, backend="c", **options))


class Block(nn.Module):
    """A block whose inputs have names, so that their sizes may be dynamic."""

    def __init__(self) -> None:
        super().__init__()
        lif = lnm.get("lif", learn_tau=True)
        self.block = NormNeuron(lif, 3, shortcut=True, backend="c")

    def forward(self, c: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return self.block(c, r)


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.filterwarnings("ignore:.*recorded.* was assigned during export:UserWarning")
@pytest.mark.parametrize("kind", ["layer", "training", "evaluation"])
def test_a_program_in_another_process(kind: str, tmp_path: Path) -> None:
    """A call of a layer registers nothing; `register` does. Gradients are as before saving."""
    sizes: Any = {0: Dim("T", max=4096), 1: Dim("N")}
    if kind == "layer":
        net: Any = network(lnm.get("lif", learn_tau=True), detach_reset=True, record=("v",))
        inputs, shapes = [8 * torch.randn(4, 2, 3)], None
    else:
        net, inputs = Block().train(kind == "training"), [torch.randn(9, 7, 3, 5) for _ in "cr"]
        shapes = {"c": sizes, "r": sizes}
    first = tuple(x[:4, :2].contiguous() for x in inputs)
    program = torch.export.export(copy.deepcopy(net), first, dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "net.pt2")
    out = net(*inputs)
    out = out[0] if kind == "layer" else out
    grads = torch.autograd.grad(out.square().sum(), list(net.parameters()))
    torch.save((inputs, out.detach(), grads), tmp_path / "expected.pt")
    command = [sys.executable, "-c", OTHER_PROCESS, kind]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    *unknown, name = ran.stdout.split()
    assert all(word.endswith("Error") for word in unknown)
    assert name == lnm.nn.register(net[1] if kind == "layer" else net.block)


@pytest.mark.needs_cc
def test_a_saved_program_for_any_length(tmp_path: Path) -> None:
    """Exported under `no_grad`, one program serves every T and N. Loading once failed."""
    net = network(CASES["lif-learned"](), channels=3)
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
    assert lnm.nn.register(lnm.get("lif", tau=3.0)) == name  # values do not matter
    assert lnm.nn.register(lnm.get("plif")) != name
    assert lnm.nn.register(neuron, backend="triton") != name
    detached = lnm.nn.register(neuron, detach_reset=True)
    assert lnm.nn.register(NeuronLayer(neuron, detach_reset=True)) == detached != name
    assert lnm.nn.register(NeuronLayer(neuron), detach_reset=True) == detached
    recording = NeuronLayer(neuron, record="v")
    assert lnm.nn.register(neuron, record="v") == lnm.nn.register(recording) != name
    counting = NeuronLayer(neuron, record="stats", interval=(-1, 1))
    assert lnm.nn.register(counting) != lnm.nn.register(neuron, record="stats")


MODEL = """
register
    register("lif") >> neuron_or_layer is 'lif' >> an lnm.Neuron or a
    register(LIF, backend="torch") >> 'torch' >> c, triton, cuda
    register(LIF, detach_reset="no") >> detach_reset is 'no' >> True, False
NeuronLayer
    register(LIF, record=("h",)) >> no record 'h' >> v, stats
"""


def test_refusals() -> None:
    """Each argument by its parts."""
    assert_refused(MODEL, {"register": lnm.nn.register, "LIF": lnm.get("lif")})
    integers = NeuronLayer(lnm.get("lif"), arithmetic=lnm.Fixed(16, 12))
    problem = "computes in integers, which have no operator"
    with refused(lnm.UnsupportedError, "lif", problem, remedy="Use a layer without arithmetic."):
        lnm.nn.register(integers)
