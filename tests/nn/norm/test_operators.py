"""`NormNeuron` under `torch.compile` and `torch.export`, on C kernels."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.nn import NormNeuron
from lnm_codegen.nn.operators import batch_operator_of

pytestmark = pytest.mark.needs_cc

NEURONS = {
    "lif": lnm.get("lif"),
    "per neuron": lnm.get("lnm", degree=2, theta=(0.1, 0.5, -0.1), per="neuron"),
}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def gradients(run: Any, block: NormNeuron, *inputs: torch.Tensor) -> list[torch.Tensor]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = run(*leaves)
    grads = torch.autograd.grad((out * inputs[0]).sum(), [*leaves, *block.parameters()])
    return [out.detach(), *grads, *block.buffers()]


@pytest.mark.parametrize("name", ["lif", pytest.param("per neuron", marks=pytest.mark.slow)])
@pytest.mark.parametrize("norm", ["batch", pytest.param("affine", marks=pytest.mark.slow)])
@pytest.mark.parametrize("training", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dynamic", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_compiled_whole(name: str, norm: Any, training: bool, dynamic: bool) -> None:
    """No graph break, and the bits of eager mode, running statistics included."""
    options = {"shape": (3, 4, 5)} if name == "per neuron" else {}
    block = NormNeuron(NEURONS[name], 3, norm, shortcut=True, backend="c", **options)
    block.train(training)
    same = copy.deepcopy(block)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    for steps, batch in ((5, 2), (7, 3)):
        inputs = [draw(steps, batch, 3, 4, 5, seed=k) for k in range(2)]
        got, expected = gradients(compiled, block, *inputs), gradients(same, same, *inputs)
        for mine, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_the_operator_passes_the_checks_of_pytorch() -> None:
    """Schema, shapes of fake tensors, and registration of the gradient."""
    neuron = lnm.normalised(NEURONS["lif"], True)
    operator = getattr(torch.ops.lnm, batch_operator_of(neuron, "c").name).default
    tensors = [draw(3, 2, 4, 5, seed=k).requires_grad_() for k in range(2)]
    tensors += [torch.zeros(1), torch.tensor(2.0), torch.tensor(1.0)]
    tensors += [torch.ones(4, requires_grad=True), torch.zeros(4, requires_grad=True)]
    for options in ((1e-5, None, True, True), (1e-5, None, False, True)):
        checked = torch.library.opcheck(operator, (*tensors, *options))
        assert set(checked.values()) == {"SUCCESS"}


PROGRAM = """
import sys, torch, lnm_codegen as lnm
block = lnm.nn.NormNeuron(lnm.get("lif"), 3, shortcut=True, backend="c")
print(lnm.nn.register(block))
program = torch.export.load(sys.argv[1])
c, r, expected = torch.load(sys.argv[2])
assert torch.equal(program.module()(c, r), expected)
"""


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_exported(training: bool, tmp_path: Any) -> None:
    """A program of `torch.export` gives the bits of the block, also in another process."""
    block = NormNeuron(NEURONS["lif"], 3, shortcut=True, backend="c").train(training)
    c, r = draw(4, 2, 3, 5), draw(4, 2, 3, 5, seed=1)
    sizes = {0: torch.export.Dim("steps", max=4096), 1: torch.export.Dim("batch")}
    shapes = {"c": sizes, "r": sizes}

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = copy.deepcopy(block)

        def forward(self, c: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
            return self.block(c, r)

    program = torch.export.export(Named(), (c, r), dynamic_shapes=shapes)
    wider = [draw(9, 7, 3, 5, seed=k) for k in (2, 3)]
    expected = block(*wider).detach()
    assert torch.equal(program.module()(*wider).detach(), expected)
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save((*wider, expected), tmp_path / "case.pt")
    paths = [str(tmp_path / "program.pt2"), str(tmp_path / "case.pt")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("lnm::lif_norm_c_")
