"""Backend "torch" under `torch.compile`, `torch.export` and `torch.func`."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.export import Dim
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer
from tests.cases import CASES
from tests.refusals import refused

# torch.compile itself instantiates each Function that it traces; torch.export.load of 2.11 warns.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning"),
]

slow, needs_cc = pytest.mark.slow, pytest.mark.needs_cc
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")
LEARNABLE: dict[str, Any] = {
    "lif": {"learn_tau": True}, "plif": {}, "lnm": {}, "izhikevich": {"learnable": True},
    "cuba_lif": {"learnable": True}, "alif": {},
}  # fmt: skip


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return 2 * torch.randn(shape, dtype=dtype)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()


# ---- torch.compile ----


def sequence_of(layer: NeuronLayer) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Return a function that runs a layer on (T, N, *), step by step in single-step mode."""

    def run(x: Tensor) -> tuple[Tensor, ...]:
        if layer.step_mode == "m":
            out, state = layer(x, return_state=True)
        else:
            layer.reset()
            steps = [layer(step, return_state=True) for step in x.unbind(0)]
            out, state = torch.stack([out for out, _ in steps]), steps[-1][1]
        return (out, *state.values())

    return run


def with_gradients(run: Any, layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the results of a run and the gradients of input and parameters."""
    x = x.clone().requires_grad_()
    results = run(x)
    loss = sum((r * r).sum() for r in results)
    return [*results, *torch.autograd.grad(loss, [x, *layer.parameters()])]


# Dynamo once found no module of the generated code.
COMPILED = [
    ("lnm", "m", "aot_eager", True),
    *(pytest.param(f, "m", "aot_eager", True, marks=slow) for f in LEARNABLE if f != "lnm"),
    pytest.param("lnm", "m", "inductor", True, marks=[slow, needs_cc, quiet]),
    pytest.param("izhikevich", "m", "eager", False, marks=slow),
    pytest.param("izhikevich", "s", "eager", True, marks=slow),
    pytest.param("izhikevich", "s", "eager", False, marks=slow),
]


@pytest.mark.parametrize(("family", "step_mode", "backend", "fullgraph"), COMPILED)
def test_compiled_families(family: str, step_mode: Any, backend: str, fullgraph: bool) -> None:
    """Results and gradients are bit-exact to eager PyTorch, except in Inductor."""
    layer = NeuronLayer(lnm.get(family, **LEARNABLE[family]), backend="torch", step_mode=step_mode)
    run, x = sequence_of(layer), draw(3, 2, 3)
    compiled = torch.compile(run, backend=backend, fullgraph=fullgraph)
    expected, got = with_gradients(run, layer, x), with_gradients(compiled, layer, x)
    assert expected[0].sum() > 0
    tolerance = 1e-5 if backend == "inductor" else 0
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), run(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=[needs_cc, slow])])
def test_compiled_records_and_states(backend: str) -> None:
    """`state`, `return_state`, `record` of potentials and of counts, in bfloat16, in one graph.

    Counts were once read on the host in the graph, which a break ended.
    """
    layer = NeuronLayer(lnm.get("lif"), backend=backend, record=("v", "stats"))
    x, start = draw(3, 2, 3).bfloat16(), {"v": torch.rand(2, 3)}

    def run(x: Tensor) -> Any:
        return layer(x, state=start, return_state=True)

    out, state, seen = torch.compile(run, backend="eager", fullgraph=True)(x)
    expected = run(x)
    assert torch.equal(out, expected[0])
    assert torch.equal(state["v"], expected[1]["v"])
    assert torch.equal(seen["v"], expected[2]["v"])
    assert {n: float(c) for n, c in seen["stats"].items()} == expected[2]["stats"]


# ---- memory of states ----


def decaying() -> lnm.Neuron:
    """Return a neuron whose state b depends on itself and parameters alone."""
    v, b, x = lnm.state("v"), lnm.state("b", init=1.0), lnm.input("x")
    decay = lnm.param("decay", init=0.9, per="channel")
    return lnm.Neuron(
        charge={v: v / 2 + x, b: b * decay}, fire=v - b, reset=lnm.hard_reset(v), name="decaying"
    )


def runs(*first: Any) -> Any:
    """Return rows of (compiled, trains, one of two values); two or three of them are quick."""
    quick = {(False, False, first[0]), (False, True, first[1]), (True, True, 1)}
    every = itertools.product([False, True], [False, True], first)
    return [pytest.param(*row, marks=() if row in quick else slow) for row in every]


@pytest.mark.parametrize(("compiled", "trains", "per"), runs("layer", "channel"))
def test_each_neuron_has_a_state_of_its_own(per: str, trains: bool, compiled: bool) -> None:
    """Those of all neurons, or of a batch, once were one number, which an assignment changed."""
    layer = NeuronLayer(decaying().with_per({"decay": per}), channels=2, backend="torch")
    layer.carry_state = True
    x = draw(3, 2, 2).requires_grad_(trains)
    run = torch.compile(layer, backend="aot_eager") if compiled else layer
    _, state = run(x, return_state=True)
    for value in (state["b"], layer.b):
        assert value.stride() == (2, 1)
        with torch.no_grad():
            value[0, 0] = 5.0
            assert value.eq(5.0).sum() == 1


@pytest.mark.parametrize(("compiled", "trains", "steps"), runs(1, 3))
def test_no_two_tensors_are_one(steps: int, trains: bool, compiled: bool) -> None:
    """States that are the input, a parameter or another state once shared its memory."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p", init=0.5, per="neuron")
    last = lnm.state("last")
    charge = {v: v / 2 + x, lnm.state("same"): v / 2 + x, last: x}
    charge |= {lnm.state("again"): x, lnm.state("own"): p, lnm.state("before"): v}
    charge |= {lnm.state("given"): lnm.stop_gradient(x), lnm.state("delayed"): last}
    neuron = lnm.Neuron(charge=charge, fire=v - p, reset={}, name="shared")
    layer = NeuronLayer(neuron, shape=(2,), backend="torch")
    given = draw(steps, 1, 2).requires_grad_(trains)
    run = torch.compile(layer, backend="aot_eager") if compiled else layer
    out, after = run(given, return_state=True)
    tensors = [given, out, layer.p, *after.values()]
    assert len({t.untyped_storage().data_ptr() for t in tensors}) == len(tensors)
    want = lnm.interpret(neuron, given.detach().double().numpy())
    for name, value in after.items():
        assert value.detach().double().numpy() == pytest.approx(want.states[name])


def test_a_whole_state_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a plain neuron is the tensor that the last step computes."""
    layer, copies = NeuronLayer(lnm.get("lif"), backend="torch"), []
    clone = Tensor.clone
    monkeypatch.setattr(Tensor, "clone", lambda t, **o: copies.append(t) or clone(t, **o))
    layer(draw(3, 2, 3), return_state=True)
    assert not copies


# ---- torch.export ----


class Twice(nn.Module):
    """A layer whose inputs are one projection of x, with its final states."""

    def __init__(self, layer: NeuronLayer) -> None:
        super().__init__()
        self.project, self.layer = nn.Linear(3, 3), layer

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        inputs = [self.project(x)] * len(self.layer.neuron.inputs)
        out, state = self.layer(*inputs, return_state=True)
        return (*(out if isinstance(out, tuple) else (out,)), *state.values())


EXPORTED = [
    ("lif-learned", False),
    *(pytest.param(case, False, marks=slow) for case in ("dendrite", "lnm-4", "gate")),
    pytest.param("lif-learned", True, marks=slow),
]


@pytest.mark.parametrize(("case", "strict"), EXPORTED)
def test_exported_for_any_length(case: str, strict: bool, tmp_path: Path) -> None:
    """One program serves every T >= 1 and N, bit-exact, also saved and loaded."""
    net = Twice(NeuronLayer(CASES[case](), shape=(3,), backend="torch"))
    sizes = {"x": {0: Dim("T"), 1: Dim("N")}}
    program = torch.export.export(net, (draw(4, 2, 3),), dynamic_shapes=sizes, strict=strict)
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    for steps, batch in ((4, 2), (1, 1), (9, 5)):
        x = draw(steps, batch, 3)
        for mine, theirs in zip(loaded(x), net(x), strict=True):
            assert torch.equal(mine, theirs)
            assert not mine.requires_grad  # a program has no surrogates


def test_a_saved_program_has_counts(tmp_path: Path) -> None:
    """A `where` of two numbers was a tensor of the step, with which no program can be saved."""
    layer, x = NeuronLayer(lnm.get("lif"), backend="torch", record=("stats",)), draw(4, 2, 3)
    torch.export.save(torch.export.export(layer, (x,)), tmp_path / "net.pt2")
    out, records = torch.export.load(tmp_path / "net.pt2").module()(x)
    assert records["stats"]["spike"] == out.sum() == layer(x)[0].sum()


class Step(nn.Module):
    def __init__(self, layer: NeuronLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, v: Tensor) -> Any:
        out, state = self.layer(x, state={"v": v}, return_state=True)
        return out, state["v"]


def test_an_exported_step() -> None:
    """Single-step mode with `state` and `return_state`; the layer keeps no state of the trace."""
    layer = NeuronLayer(lnm.get("lif"), backend="torch", step_mode="s")
    x, v = draw(3, 2, 3), torch.zeros(2, 3)
    with pytest.warns(UserWarning, match="assigned during export"):
        program = torch.export.export(Step(layer), (x[0], v)).module()
    assert not layer.state
    for step in x:
        out, v = program(step, v)
        assert torch.equal(out, layer(step))


@slow
def test_a_program_needs_pytorch_alone(tmp_path: Path) -> None:
    """It runs in a process that has not imported this package."""
    layer, x = NeuronLayer(lnm.get("lnm"), backend="torch"), draw(6, 2, 3)
    sizes = ({0: Dim("T"), 1: Dim("N")},)
    program = torch.export.export(nn.Sequential(layer), (x[:4],), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "net.pt2")
    torch.save((x, layer(x).detach()), tmp_path / "expected.pt")
    code = f"""
import sys, torch
net = torch.export.load({str(tmp_path / "net.pt2")!r}).module()
x, expected = torch.load({str(tmp_path / "expected.pt")!r})
assert torch.equal(net(x), expected)
assert not any(name.startswith("lnm_codegen") for name in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


KEPT: list[Any] = [
    ("torch", {"step_mode": "s"}, False),
    ("torch", {"carry_state": True}, True),
    pytest.param("c", {"carry_state": True}, False, marks=needs_cc),
    pytest.param("c", {"step_mode": "s"}, True, marks=needs_cc),
]


@pytest.mark.parametrize(("backend", "options", "strict"), KEPT)
def test_kept_states_are_not_exported(backend: str, options: Any, strict: bool) -> None:
    """A program would begin each call with the initial states; once it did so in silence."""
    layer = NeuronLayer(lnm.get("lif"), backend=backend, **options)
    problem = "torch.export keeps no states from call to call"
    accepted = "carry_state=False with step_mode='m', or state= and return_state=True"
    with refused(lnm.UnsupportedError, "lif", problem, accepted, "carry_state to False"):
        torch.export.export(nn.Sequential(layer), (draw(4, 2, 3),), strict=strict)
    layer(draw(4, 2, 3))
    assert layer.state


@pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=[needs_cc, slow])])
def test_exported_counts(backend: str) -> None:
    """A program returns them as tensors."""
    layer = NeuronLayer(lnm.get("lif"), backend=backend, record=("stats",))
    program = torch.export.export(nn.Sequential(layer), (draw(4, 2, 3),)).module()
    x = draw(4, 2, 3)
    (out, got), (expected, stats) = program(x), layer(x)
    assert torch.equal(out, expected)
    assert {name: float(count) for name, count in got["stats"].items()} == stats["stats"]
    assert stats["stats"]["spike"] > 0


# ---- torch.func ----


@pytest.mark.parametrize(
    "case", ["lif", pytest.param("lif-learned", marks=slow), pytest.param("lnm-4", marks=slow)]
)
def test_compiled_vmap_of_a_layer(case: str) -> None:
    """`vmap` takes the name of a module from its repr, which Dynamo could not trace."""
    layer, x = NeuronLayer(CASES[case](), shape=(3,), backend="torch"), draw(5, 4, 2, 3)
    compiled = torch.compile(vmap(layer), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), torch.stack([layer(sample) for sample in x]))


TRANSFORMED = [
    "lif-learned", "dendrite",
    *(pytest.param(case, marks=slow) for case in ("lif", "lnm-4", "izhikevich-learned")),
]  # fmt: skip


@pytest.mark.parametrize("step_mode", ["m", "s"])
@pytest.mark.parametrize("v_reset", [0.0, None], ids=["hard", "soft"])
def test_outputs_and_states_changed_in_place(v_reset: float | None, step_mode: Any) -> None:
    """As in plain PyTorch and with backend "c". Both once ended in an error of autograd."""
    layer = NeuronLayer(lnm.get("lif", v_reset=v_reset), backend="torch", carry_state=True)
    layer.step_mode = step_mode
    xs, mask = (2 * draw(4, 3, 2, 5)).requires_grad_(), draw(2, 5)
    found = []
    for in_place in (False, True):
        layer.reset()
        total = torch.zeros(())
        for x in xs.unbind() if step_mode == "m" else xs.flatten(0, 1).unbind():
            out = layer(x)
            if in_place:
                out *= mask
                layer.v[0] = 0.0
            else:
                out = out * mask
                layer.v = torch.cat((torch.zeros(1, 5), layer.v[1:]))
            total = total + out.square().sum()
        (gradient,) = torch.autograd.grad(total + layer.v.sum(), xs)
        found.append(gradient)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found)


def double(neuron: lnm.Neuron) -> NeuronLayer:
    return NeuronLayer(neuron, shape=(3,), backend="torch", dtype=torch.float64)


def weighted(layer: NeuronLayer) -> Callable[..., Tensor]:
    """Return a loss of the inputs: a weighted sum of outputs and final states."""

    def loss(*inputs: Tensor) -> Tensor:
        out, state = layer(*inputs, return_state=True)
        results = (*(out if isinstance(out, tuple) else (out,)), *state.values())
        return sum((r * torch.linspace(1, 2, r.numel()).view(r.shape)).sum() for r in results)

    return loss


def autograd(loss: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    return torch.autograd.grad(loss(*leaves), leaves)


@pytest.fixture(params=TRANSFORMED)
def transformed(request: pytest.FixtureRequest) -> tuple[Any, list[Tensor], tuple[Tensor, ...]]:
    """Return a loss, its inputs (4, 2, 3), and their gradients by plain autograd."""
    neuron = CASES[request.param]()
    inputs = [draw(4, 2, 3, dtype=torch.float64) for _ in neuron.inputs]
    loss = weighted(double(neuron))
    return loss, inputs, autograd(loss, *inputs)


def test_grad_and_vmap(transformed: Any) -> None:
    """`grad`, `vmap` and their composition are bit-exact to plain autograd."""
    loss, inputs, expected = transformed
    every = tuple(range(len(inputs)))
    got = grad(loss, argnums=every)(*inputs)
    assert all(g.abs().sum() > 0 for g in got)
    assert all(torch.equal(g, e) for g, e in zip(got, expected, strict=True))
    batches = [torch.stack([x, x / 2, -x]) for x in inputs]
    values, slopes = vmap(loss)(*batches), vmap(grad(loss, argnums=every))(*batches)
    for k in range(3):
        sample = [b[k] for b in batches]
        assert torch.equal(values[k], loss(*sample))
        for got_, expected_ in zip(slopes, autograd(loss, *sample), strict=True):
            assert torch.equal(got_[k], expected_)


def test_counts_in_a_transform() -> None:
    """They are tensors, one for each sample. PyTorch's error of `.item()` ended such a call."""
    layer = NeuronLayer(lnm.get("lif"), backend="torch", record=("stats",))

    def counted(x: Tensor) -> tuple[Tensor, Any]:
        out, recorded = cast("tuple[Tensor, Any]", layer(x))
        return out.sum(), recorded["stats"]["spike"]

    x = 3 * torch.rand(4, 5, 2, 3)
    expected = [counted(one)[1] for one in x]
    assert expected[0] > 0
    assert vmap(counted)(x)[1].tolist() == expected
    assert vmap(grad(counted, has_aux=True))(x)[1].tolist() == expected
    assert grad(counted, has_aux=True)(x[0])[1] == expected[0]


def test_forward_mode(transformed: Any) -> None:
    """`jvp`, dual numbers and both Jacobians agree with plain autograd."""
    loss, inputs, expected = transformed
    tangents = [torch.randn_like(x) for x in inputs]
    slope = sum((g * t).sum() for g, t in zip(expected, tangents, strict=True))
    torch.testing.assert_close(jvp(loss, tuple(inputs), tuple(tangents))[1], slope)
    with forward_ad.dual_level():
        dual = loss(*map(forward_ad.make_dual, inputs, tangents))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, slope)
    every = tuple(range(len(inputs)))
    for jacobian in (jacrev, jacfwd):
        for got, gradient in zip(jacobian(loss, every)(*inputs), expected, strict=True):
            torch.testing.assert_close(got, gradient)


def test_second_derivatives(transformed: Any) -> None:
    """`hessian` (forward over reverse) agrees with double backward through plain autograd."""
    loss, inputs, _ = transformed
    x, *others = inputs
    direction = torch.randn_like(x)
    leaf = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(leaf, *others), leaf, create_graph=True)
    (second,) = torch.autograd.grad((first * direction).sum(), leaf)
    whole = hessian(loss)(x, *others)  # of surrogates, so not symmetric
    torch.testing.assert_close(torch.tensordot(direction, whole, 3), second)


@pytest.mark.parametrize("v_reset", [0.0, None], ids=["hard", "soft"])
def test_second_derivatives_of_lif(v_reset: float | None) -> None:
    """Equal to equations written here: the choice by a spike, in a hard reset, had none."""

    def spike(z: Tensor) -> Tensor:
        smooth = torch.atan(math.pi * z) / math.pi
        return (z >= 0).to(z.dtype) + smooth - smooth.detach()

    def written(x: Tensor) -> Tensor:
        v, fired = torch.zeros_like(x[0]), []
        for step in x:
            h = v + (step - v) / 2
            s = spike(h - 1)
            v = h - s if v_reset is None else (1 - s) * h
            fired.append(s)
        return torch.stack(fired)

    def product(function: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = x.clone().requires_grad_()
        (first,) = torch.autograd.grad((function(leaf) * w).sum(), leaf, create_graph=True)
        return torch.autograd.grad((first * direction).sum(), leaf)[0]

    neuron = lnm.get("lif", v_reset=v_reset)
    x, w, direction = (draw(5, 2, 3, dtype=torch.float64) for _ in range(3))
    x, layer = x + 0.8, double(neuron)
    expected = product(written)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(product(layer), expected)
    whole = hessian(lambda x: (layer(x) * w).sum())(x)
    torch.testing.assert_close(torch.tensordot(direction, whole, 3), expected)


@pytest.mark.parametrize("case", ["lnm-3", pytest.param("lif-learned", marks=slow)])
def test_gradients_of_parameters_for_each_sample(case: str) -> None:
    """vmap(grad(functional_call)) equals a loop over the samples."""
    layer, x = double(CASES[case]()), draw(4, 5, 3, dtype=torch.float64)
    params = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(params: dict[str, Tensor], sample: Tensor) -> Tensor:
        return functional_call(layer, params, (sample.unsqueeze(1),)).square().sum()

    got = vmap(grad(loss), in_dims=(None, 1))(params, x)
    for k in range(5):
        loss_of_one = layer(x[:, k : k + 1]).square().sum()
        found = torch.autograd.grad(loss_of_one, list(layer.parameters()))
        for name, expected in zip(got, found, strict=True):
            torch.testing.assert_close(got[name][k], expected, rtol=1e-12, atol=1e-14)
    assert all(g.abs().sum() > 0 for g in got.values())
