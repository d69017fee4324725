"""A user's script, fully typed: define a neuron, train it, generate code, run the reference.

`tests/test_types.py` runs it, and has mypy and basedpyright check it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

import lnm_codegen as lnm
from lnm_codegen.options import BackendName, SchemeName


@lnm.family
def adaptive(tau: float = 2.0, degree: int = 2) -> lnm.Neuron:
    """Return a neuron with a threshold that adapts."""
    v, a = lnm.state("v"), lnm.state("a", init=0.0)
    x = lnm.input("x")
    decay = lnm.param("decay", init=1 / tau)
    theta = lnm.param("theta", size=degree + 1, init=[0.0, 0.5, *[0.0] * (degree - 1)])
    drive = lnm.poly(v, theta) + x * theta[0] - 0.5 * a
    gate = lnm.sigmoid(decay) * lnm.exp(-(v**2)) / (1 + lnm.abs(v))
    charge = lnm.clip(drive + gate, -2, 4)
    rest = lnm.where((v > 0) & (x < 1), lnm.tanh(v), 0)
    return lnm.Neuron(
        charge={v: charge, a: lnm.max(0.9 * a, 0) + rest},
        fire=v - 1 - a,
        reset=lnm.hard_reset(v, 0.0) | {a: a + lnm.spike},
        output={"spikes": lnm.spike},
        surrogate=lnm.surrogate.atan(alpha=2.0),
    )


class Block(nn.Module):
    """A linear layer and neurons."""

    def __init__(self, neuron: lnm.Neuron, backend: BackendName = "auto") -> None:
        super().__init__()
        self.linear: nn.Linear = nn.Linear(8, 4)
        self.neurons: lnm.nn.NeuronLayer = lnm.nn.NeuronLayer(
            neuron, channels=4, backend=backend, step_mode="m"
        )

    @override
    def forward(self, x_seq: Tensor) -> Tensor:
        """Return spikes (T, N, 4)."""
        return self.neurons(self.linear.forward(x_seq))


def train(block: Block, x_seq: Tensor, target: Tensor) -> float:
    """Make one step, and return the loss."""
    loss = nn.functional.mse_loss(block.forward(x_seq).mean(0), target)
    torch.autograd.backward(loss)
    with torch.no_grad():
        for parameter in block.parameters():
            if parameter.grad is not None:
                _ = parameter.sub_(parameter.grad, alpha=0.1)
    return loss.item()


def generate(neuron: lnm.Neuron, folder: Path, scheme: SchemeName = "estrin") -> list[Path]:
    """Write C++ and a circuit."""
    code = lnm.emit(neuron, "c", dtype="float64", scheme=scheme)
    circuit = lnm.emit(lnm.get("lif"), "verilog", spec=lnm.Fixed(16, 12, rounding="truncate"))
    return [*code.write(folder / "c"), *circuit.write(folder / "verilog")]


def main() -> None:
    """Run everything."""
    neuron = adaptive(tau=3.0)
    x_seq = torch.rand(6, 3, 8)
    loss = train(Block(neuron.with_per("channel"), backend="torch"), x_seq, torch.zeros(3, 4))
    layer = lnm.nn.NeuronLayer(lnm.get("lif", tau=4.0), backend="torch")
    network = nn.Sequential(nn.Linear(8, 8), layer)
    last, state = layer(x_seq, return_state=True)
    again = layer.forward(x_seq, state={"v": state["v"]})
    print(loss, network, last.shape, again.mean().item(), layer.step_mode, layer.backend)
    result = lnm.interpret(neuron, np.ones((5, 1, 2)), grad_out=1.0, dtype="float32")
    program = lnm.lower(neuron, scheme="horner")
    print(result.out.shape, sorted(result.grads), program.name)
    with tempfile.TemporaryDirectory() as folder:
        print(len(generate(neuron, Path(folder))))
    config = lnm.train.TrainConfig(family="lif", epochs=1, backend="torch")
    print(config.family, lnm.train.run(config).epochs[-1].test_accuracy)
    try:
        _ = lnm.get("lif", tau=0)
    except lnm.ModelError as error:
        print(error.where, error.problem)


if __name__ == "__main__":
    main()
