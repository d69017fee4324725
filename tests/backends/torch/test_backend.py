"""The generated PyTorch module: it stands alone, reads well, and autograd goes through it."""

from __future__ import annotations

import ast
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from tests.cases import CASES


def module(neuron: lnm.Neuron, **options: Any) -> ModuleType:
    """Execute the emitted file."""
    source = lnm.emit(neuron, "torch", **options)
    made = ModuleType("generated")
    exec(source.files[source.entry], vars(made))
    return made


QUICK = ("lnm-4", "dendrite", "decided", "held", "gate")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES]
)
def test_every_file_stands_alone(case: str) -> None:
    """It imports torch alone, has four functions, and each name that one assigns is read."""
    source = lnm.emit(CASES[case](), "torch", name="mine")
    assert [source.entry] == list(source.files) == ["mine_torch.py"]
    assert f"from `{CASES[case]().name}`" in source.files[source.entry]
    tree = ast.parse(source.files[source.entry])
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(n) for n in imports] == ["import torch"]
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    assert [f.name for f in functions][-4:] == ["prepare", "step", "_stacked", "multi_step"]
    for function in functions:
        assert ast.get_docstring(function), function.name
        names = [n for n in ast.walk(function) if isinstance(n, ast.Name)]
        stored = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        assert stored <= {n.id for n in names if isinstance(n.ctx, ast.Load)}, function.name


def test_the_spike_of_zero_and_of_nan() -> None:
    """1 at z = 0, 0 at NaN."""
    made = module(lnm.get("if"))
    v = torch.tensor([1.0, np.nextafter(np.float32(1), np.float32(0)), float("nan")])
    spike, _ = made.step(v, torch.zeros(3), torch.tensor(1.0))
    assert spike.tolist() == [1.0, 0.0, 0.0]


def test_select_on_spike_selects_and_differentiates() -> None:
    """A NaN not taken does no harm to the value; the derivative is that of s*a + (1 - s)*b."""
    made = module(lnm.get("lif"))
    s = torch.tensor([1.0, 0.0], requires_grad=True)
    a = torch.tensor([2.0, float("nan")], requires_grad=True)
    b = torch.tensor([5.0, 7.0], requires_grad=True)
    out = made._select_on_spike(s, a, b)
    assert out.tolist() == [2.0, 7.0]
    grads = torch.autograd.grad(out.sum(), (s, a, b))
    assert grads[0].tolist()[0] == -3.0
    assert [g.tolist() for g in grads[1:]] == [[1.0, 0.0], [0.0, 1.0]]


def test_double_backward() -> None:
    """The gradient can be derived again: of a sequence without spikes, and of the slope at z."""
    v, x, theta = lnm.state("v"), lnm.input("x"), lnm.param("theta", size=3)
    smooth = module(lnm.Neuron(charge={v: lnm.poly(v, theta) + lnm.tanh(x)}, output={"out": v**2}))
    x_seq = torch.linspace(-0.4, 1.1, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    value = torch.tensor([0.1, 0.5, 0.2], dtype=torch.float64, requires_grad=True)

    def first(x_seq: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out, v = smooth.multi_step(x_seq, torch.zeros(4, dtype=torch.float64), theta=value)
        return torch.autograd.grad(out.sum() + v.sum(), (x_seq, value), create_graph=True)

    assert torch.autograd.gradcheck(first, (x_seq, value))

    fires = module(lnm.get("if"))  # slope 1 / (1 + (pi z)**2)
    x = torch.tensor([0.5, 1.25], dtype=torch.float64, requires_grad=True)
    spike, _ = fires.step(torch.zeros(2), x, torch.tensor(1.0, dtype=torch.float64))
    (grad,) = torch.autograd.grad(spike.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(grad.sum(), x)
    z = (x - 1).detach()
    assert torch.allclose(grad, 1 / (1 + (torch.pi * z) ** 2))
    assert torch.allclose(second, -2 * torch.pi**2 * z / (1 + (torch.pi * z) ** 2) ** 2)


def of_sequence(made: ModuleType, v_threshold: float = 1.0) -> Callable[[torch.Tensor], Any]:
    """Return the sum of the spikes of a sequence, as a function of x."""
    threshold = torch.tensor(v_threshold, dtype=torch.float64)

    def run(x: torch.Tensor) -> torch.Tensor:
        start = torch.zeros(x.shape[1:], dtype=x.dtype)
        return made.multi_step(x, start, tau=2 * threshold, v_threshold=threshold)[0].sum()

    return run


X = torch.linspace(-0.5, 3.5, 24, dtype=torch.float64).reshape(4, 2, 3)


def test_the_file_alone_under_torch_func() -> None:
    """Derivatives in reverse and in forward mode, for one sequence and for several."""
    run = of_sequence(module(lnm.get("lif")))
    leaf = X.clone().requires_grad_()
    (expected,) = torch.autograd.grad(run(leaf), leaf)
    assert run(X) > 0
    assert torch.equal(torch.func.grad(run)(X), expected)
    assert torch.equal(torch.func.vmap(torch.func.grad(run))(torch.stack([X, -X]))[0], expected)
    torch.testing.assert_close(torch.func.jacfwd(run)(X), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_file_alone_under_torch_compile(tmp_path: Path, monkeypatch: Any) -> None:
    """One graph, forward and backward, although a Function with forward mode is not traced."""
    source = lnm.emit(lnm.get("lif"), "torch", name="compiled_alone")
    source.write(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    torch._dynamo.reset()
    run = of_sequence(importlib.import_module("compiled_alone_torch"))
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    gradients = []
    for function in (run, compiled):
        leaf = X.clone().requires_grad_()
        gradients.append(torch.autograd.grad(function(leaf), leaf)[0])
    assert torch.equal(*gradients)


def test_no_steps() -> None:
    """T = 0: an empty sequence that takes a gradient, as in C; the states as they were."""
    x, v = torch.zeros(0, 3, requires_grad=True), torch.ones(3)
    out, final = module(lnm.get("if")).multi_step(x, v, v_threshold=torch.tensor(1.0))
    out.sum().backward()
    assert x.grad is not None
    assert (out.shape, x.grad.shape, final.tolist()) == ((0, 3), (0, 3), [1.0] * 3)


def test_constant_results_are_tensors() -> None:
    """A reset to a number, and a `where` of parameters: once a TypeError, once a SyntaxError."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p", init=0.5)
    neuron = lnm.Neuron(
        charge={v: lnm.tanh(v) * lnm.where(p > 0, 0.5, 0.25) + x}, fire=v - 1, reset={v: 0.5}
    )
    made = module(neuron)
    x_seq = torch.zeros(3, 2)
    out, final = made.multi_step(x_seq, torch.zeros(2), p=torch.tensor(0.5))
    assert out.shape == (3, 2)
    assert final.tolist() == [0.5, 0.5]
    assert "torch.full_like" in lnm.emit(neuron, "torch").files["neuron_torch.py"]


def test_a_constant_spike() -> None:
    """A neuron that fires in every step: once a NameError."""
    v, x = lnm.state("v"), lnm.input("x")
    for level, spikes in ((1.0, 1.0), (-1.0, 0.0)):
        made = module(lnm.Neuron(charge={v: v + x}, fire=level, reset=lnm.hard_reset(v, 0.0)))
        out, _ = made.multi_step(torch.ones(3, 2), torch.zeros(2))
        assert out.tolist() == [[spikes] * 2] * 3


def test_conditions_on_constants_run() -> None:
    """A clip of a constant: once a TypeError of torch.where."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: lnm.clip(lnm.exp(-0.05), 0, 1) * v + x}, output=v)
    out, _ = module(neuron).multi_step(torch.ones(2, 1), torch.zeros(1))
    assert out.flatten().tolist() == pytest.approx([1.0, 1.0 + math.exp(-0.05)])


@pytest.mark.parametrize("names", [("s1", "s_1"), ("sA", "sa"), ("s_1", "s1_2")])
def test_each_spike_has_its_own_surrogate_whatever_its_name(names: tuple[str, str]) -> None:
    """The classes of spikes differ where their names differ in `_` or in capitals alone."""
    v, x = lnm.state("v"), lnm.input("x")
    spikes = [lnm.spike_named(name) for name in names]
    neuron = lnm.Neuron(
        charge={v: v + x},
        fire={spike: v - 1 for spike in spikes},
        output={f"out_{k}": spike for k, spike in enumerate(spikes)},
        surrogate={spikes[0]: lnm.surrogate.atan(), spikes[1]: lnm.surrogate.sigmoid()},
    )
    made, given = module(neuron), torch.tensor([[0.8, 1.3]], dtype=torch.float64)
    for k in range(2):
        x_seq = given.clone().requires_grad_()
        made.multi_step(x_seq, torch.zeros((), dtype=torch.float64))[k].sum().backward()
        seeds = tuple(np.full((1, 2), float(j == k)) for j in range(2))
        want = lnm.interpret(neuron, given.numpy(), grad_out=seeds).grads["x"]
        np.testing.assert_allclose(x_seq.grad, want, rtol=1e-12)
