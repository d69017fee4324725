"""`lnm.nn.fuse`: outputs, gradients, keys and reports of the models that it changes."""

from __future__ import annotations

import copy
import pickle
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.nn import FuseReport, NeuronLayer, NormNeuron, fuse
from lnm_codegen.nn.fusion.fuse import FusedPair
from lnm_codegen.nn.norm.deferred import DeferredNorm
from lnm_codegen.nn.norm.layer import neuron_inputs
from tests.refusals import refused

T, N, C = 4, 2, 3
SHAPE = (T, N, C, 6, 6)


def layer(**options: Any) -> NeuronLayer:
    return NeuronLayer(lnm.get("plif"), backend="torch", **options)


def norm(kind: Callable[..., nn.Module] = nn.BatchNorm2d, **options: Any) -> Any:
    """Return a normalisation whose neurons fire."""
    made: Any = kind(C, **options)
    if made.affine:
        nn.init.constant_(made.weight, 2.0)
        nn.init.constant_(made.bias, 0.5)
    return made


class Residual(nn.Module):
    """Two normalised convolutions and a shortcut, as users write them."""

    def __init__(self, down: bool, in_place: bool) -> None:
        super().__init__()
        self.conv_1, self.bn_1, self.sn_1 = nn.Conv2d(C, C, 3, padding=1), norm(), layer()
        self.conv_2, self.bn_2, self.sn_2 = nn.Conv2d(C, C, 3, padding=1), norm(), layer()
        self.down = nn.Sequential(nn.Conv2d(C, C, 1), norm()) if down else None
        self.in_place, self.note = in_place, "kept"

    def forward(self, x: Tensor) -> Tensor:
        time = (x.shape[0], x.shape[1])
        y = self.sn_1(self.bn_1(self.conv_1(x.flatten(0, 1))).unflatten(0, time))
        y = self.bn_2(self.conv_2(y.flatten(0, 1))).unflatten(0, time)
        short = x if self.down is None else self.down(x.flatten(0, 1)).unflatten(0, time)
        if self.in_place:
            y += short
        else:
            y = short + y
        out: Tensor = self.sn_2(y)
        return out


def in_sequence(*norms: nn.Module, neuron: NeuronLayer | None = None) -> nn.Sequential:
    conv = nn.Conv2d(C, C, 3, padding=1)
    steps = nn.Flatten(0, 1), conv, *norms, nn.Unflatten(0, (T, N))
    return nn.Sequential(*steps, layer() if neuron is None else neuron)


class Vector(nn.Module):
    """`x.shape[:2]` restores time, and the shortcut has T numbers on the last axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.sn = nn.Conv2d(C, C, (3, 5), padding=1), norm(), layer()
        self.shortcut = nn.Parameter(torch.tensor([0.5, -0.5, 1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        return nn.functional.pad(self.sn(y + self.shortcut), (0, 2))


class Keyword(nn.Module):
    """Calls by keyword, and arguments that no branch depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.sn = nn.Conv2d(C, C, 3, padding=1), norm(), layer()

    def forward(
        self, x: Tensor, gain: float = 2.0, mode: str = "constant", *, limit: Any = None
    ) -> Tensor:
        y = self.bn(input=self.conv(input=gain * x.flatten(0, 1))).unflatten(0, (T, N))
        return torch.clamp(nn.functional.pad(self.sn(y), (0, 0), mode=mode), max=limit, min=0.0)


class Tied(nn.Module):
    """A sequence of modules that runs twice in a call."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = in_sequence(norm())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.steps(2 * self.steps(x))
        return out


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "sequence": (lambda: in_sequence(norm()), 1),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(*in_sequence(norm())[:-1]), nn.Identity(), layer()),
        1,
    ),
    "vector as shortcut": (Vector, 1),
    "keywords": (Keyword, 1),
    "twice in a call": (Tied, 1),
    "residual": (lambda: Residual(down=False, in_place=False), 2),
    "residual with a convolution": (lambda: Residual(down=True, in_place=True), 2),
    "two blocks": (lambda: nn.Sequential(Residual(True, False), Residual(False, True)), 4),
}


def passes(model: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    out = model(x)
    out.backward(grad)
    return out.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def drawn(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("which", MODELS)
def test_a_fused_model_is_the_model(which: str) -> None:
    """In float64: spikes, gradients, running statistics, evaluation; every key and name stays."""
    make, count = MODELS[which]
    torch.manual_seed(1)
    plain = make().double()
    fused = copy.deepcopy(plain)
    objects = {n: p for n, p in fused.named_parameters()}
    report = fuse(fused)
    assert len(report.fused) == count
    assert sum(isinstance(m, NormNeuron) for m in fused.modules()) == count
    assert all(p is objects[n] for n, p in fused.named_parameters())
    for seed in range(2):
        x, grad = drawn(seed), drawn(seed + 10)
        got, expected = passes(fused, x, grad), passes(plain, x, grad)
        assert torch.equal(got[0], expected[0])
        assert 0.05 < got[0].mean() < 0.95
        torch.testing.assert_close(got[1], expected[1], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(dict(fused.state_dict()), dict(plain.state_dict()))
    assert list(fused.state_dict()) == list(plain.state_dict())
    x = drawn(5)
    assert torch.equal(fused.eval()(x), plain.eval()(x))
    assert torch.equal(copy.deepcopy(fused)(x), fused(x))
    again = fuse(fused)
    assert (again.fused, again.left) == ((), report.left)


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize(
    "which", ["sequence", pytest.param("residual with a convolution", marks=pytest.mark.slow)]
)
def test_fused_models_compile(which: str) -> None:
    """`torch.compile` without a graph break, on the C kernels."""
    torch.manual_seed(1)
    model = MODELS[which][0]()
    fuse(model)
    for module in model.modules():
        if isinstance(module, NeuronLayer):
            module.backend = "c"
    x = drawn().float()
    expected = copy.deepcopy(model)(x)
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), expected)


def test_a_traced_forward_keeps_its_object() -> None:
    """Class name, attributes and `isinstance` stay; pickling is refused."""
    block = Residual(down=False, in_place=False)
    fuse(block)
    assert isinstance(block, Residual)
    assert (type(block).__name__, block.note) == ("Residual", "kept")
    with refused(UnsupportedError, "fuse", "traced forward", remedy="it is incomplete"):
        pickle.dumps(block)
    whole = in_sequence(norm())
    fuse(whole)
    x = drawn().float()
    assert torch.equal(pickle.loads(pickle.dumps(whole)).eval()(x), whole.eval()(x))


class Aliased(nn.Module):
    """`x += y` changes a tensor that has another name."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.sn = norm(), layer(step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        doubled = 2 * x
        same = doubled
        doubled += 1
        doubled *= 3
        doubled //= 2
        doubled %= 4
        out: Tensor = self.sn(self.bn(x) + same)
        return out


def test_a_traced_forward_changes_in_place() -> None:
    plain = Aliased().double()
    fused = copy.deepcopy(plain)
    assert len(fuse(fused).fused) == 1
    assert torch.equal(fused(drawn()[0]), plain(drawn()[0]))


def test_single_step() -> None:
    """A plain BatchNorm directly before a layer that runs step by step."""
    plain = nn.Sequential(norm(), layer(step_mode="s")).double()
    fused = copy.deepcopy(plain)
    assert fuse(fused).fused == (FusedPair("0", "1"),)
    for x in drawn():
        assert torch.equal(fused(x), plain(x))
    torch.testing.assert_close(dict(fused.state_dict()), dict(plain.state_dict()))


def test_frozen_statistics_stay_frozen() -> None:
    """A normalisation in eval mode keeps its mode in a model that trains."""
    plain = in_sequence(norm()).double()
    plain[2].eval()
    fused = copy.deepcopy(plain)
    fuse(fused)
    x = drawn()
    assert torch.equal(fused(x), plain(x))
    assert fused[2].num_batches_tracked == 0


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn, self.sn, self.other = norm(), layer(step_mode="s"), layer(step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        out: Tensor = self.sn(y) + self.other(y)
        return out


class Adds(Twice):
    """The shortcut is an argument."""

    def forward(self, x: Tensor, r: Any) -> Tensor:
        out: Tensor = self.sn(self.bn(x) + r)
        return out


SHORTCUTS: dict[str, Any] = {
    "number": 0.25,
    "integer": 1,
    "tensor of a number": torch.tensor(0.5, dtype=torch.float64),
    "int64": torch.arange(6),
    "float64": drawn(3, (C, 1, 6)),
    "larger": drawn(3, (5, N, C, 6, 6)).float(),
    "more neurons": drawn(3, (N, C, 6, 4)).float(),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("which", SHORTCUTS)
def test_a_shortcut_is_any_summand(which: str, training: bool) -> None:
    """Of other types and shapes than c: outputs, states, gradients and statistics."""
    plain, r = Adds().train(training), SHORTCUTS[which]
    fused = copy.deepcopy(plain)
    fuse(fused)
    assert isinstance(fused.sn, NormNeuron)
    assert fused.sn.shortcut
    for seed in range(2):
        x = drawn(seed, (N, C, 6, 1 if which == "more neurons" else 6)).float()
        found = []
        for model in (fused, plain):
            given = x.clone().requires_grad_()
            out = model(given, r)
            out.square().sum().backward()
            found.append((out, given.grad, model.bn.weight.grad, model.sn.v))
            model.sn.detach()
        assert 0.05 < found[0][0].mean() < 0.95
        assert torch.equal(found[0][0], found[1][0])
        if not training:
            (read,) = neuron_inputs(fused.sn, (x, r))
            torch.testing.assert_close(read, plain.bn(x) + r, rtol=1e-5, atol=1e-6)
            with refused(ShapeError, "plif", "input 'r'"):
                fused.sn.explain(x, 0.25)
        torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dict(fused.state_dict()), dict(plain.state_dict()))


def named(name: str, is_state: bool = False) -> nn.Module:
    """Return a model whose neuron has a parameter or a state of a name."""
    word = name if is_state else "v"
    v, x, p = lnm.state(word), lnm.input("x"), lnm.param("w" if is_state else name, init=0.5)
    neuron = lnm.Neuron(charge={v: v * p + x}, fire=v - 1, reset=lnm.hard_reset(v), name="named")
    return nn.Sequential(norm(), NeuronLayer(neuron, backend="torch", step_mode="s"))


def test_a_parameter_named_weight() -> None:
    """It is that of the neuron, also in `reset_parameters`."""
    model = named("weight")
    assert len(fuse(model).fused) == 1
    with torch.no_grad():
        model[1].weight.fill_(2.0)
    model[1].reset_parameters()
    assert model[1].weight == 0.5
    assert torch.equal(model[0].weight, torch.full((C,), 2.0))


class Modal(Twice):
    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        out: Tensor = self.sn(y) if self.training else self.other(y)
        return out


class Counting(Twice):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        out: Tensor = self.sn(self.bn(x))
        return out


class Logging(Twice):
    """A list that the forward fills: a trace once left its own values there."""

    def __init__(self) -> None:
        super().__init__()
        self.log: Any = []

    def kept(self) -> Any:
        return self.log

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.sn(self.bn(x))
        self.kept().append(out)
        return out


class Nested(Logging):
    def __init__(self) -> None:
        super().__init__()
        self.log = {"of": (deque(),)}

    def kept(self) -> Any:
        return self.log["of"][0]


class Undefined(Twice):
    """A tensor with a NaN that no call changes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.tensor([1.0, torch.nan])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.sn(self.bn(x))
        return out


class Unregistered(Twice):
    """A tensor that is no buffer, changed in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.ones(())

    def forward(self, x: Tensor) -> Tensor:
        self.seen.mul_(0.5)
        out: Tensor = self.sn(self.bn(x))
        return out


class Averaging(nn.Module):
    """A buffer that each call changes, beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.sn = norm(), layer(step_mode="s")
        self.register_buffer("rate", torch.ones(()))

    def forward(self, c: Tensor, r: Tensor) -> Tensor:
        out: Tensor = self.sn(self.bn(c) + r)
        self.rate.mul_(0.5)
        self.rate.add_(0.5 * out.detach().mean())
        return out


class Dynamic(Twice):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.sn(self.bn(x if x.sum() > 0 else -x))
        return out


class Reader(Twice):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.sn(torch.relu(self.bn(x)))
        return out


class Before(nn.Module):
    """The shortcut changes in place after the addition and before the neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.sn = norm(), layer(step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        other = 2 * x
        y = self.bn(x) + other
        other *= 0
        out: Tensor = self.sn(y)
        return out


class Optional(Twice):
    """An argument that is None selects another branch."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.bn(x)
        return y if mask is None else self.sn(y)


class Required(Twice):
    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        y: Tensor = self.bn(x)
        if skip is not None:
            y = y + skip
        out: Tensor = self.sn(y)
        return out


class Flag(Twice):
    def forward(self, x: Tensor, spikes: bool = True) -> Tensor:
        y: Tensor = self.bn(x)
        return y if spikes is False else self.sn(y)


class Both(Twice):
    """Two defaults select a branch that neither selects alone."""

    def forward(self, x: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> Tensor:
        y: Tensor = self.bn(x)
        return y if a is None and b is None else self.sn(y)


class Further(Twice):
    def forward(self, x: Tensor, **options: Any) -> Tensor:
        y: Tensor = self.bn(x)
        return y if options.get("mask") is None else self.sn(y)


class Length(Twice):
    """A branch that cannot be traced."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.bn(x)
        return y[len(x) - 1] if mask is None else self.sn(y)


class Typed(Twice):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(x)
        return self.sn(y) if not isinstance(x, Tensor) else y


class IsTensor(Twice):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(x)
        return y if torch.is_tensor(x) else self.sn(y)


class Listed(Twice):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.sn(self.bn(x[0] if isinstance(x, Sequence) else x))
        return out


class ThroughView(Twice):
    """Another shape of the input changes in place."""

    def forward(self, x: Tensor) -> Tensor:
        c = 2 * x
        y, d = self.bn(c), c.view(-1, 3)
        d.relu_()
        out: Tensor = self.sn(y)
        return out


class BaseOfView(Twice):
    """The input is a part of a tensor that changes in place."""

    def forward(self, x: Tensor) -> Tensor:
        whole = 2 * x
        first = whole.chunk(2)[0]
        y = self.bn(first)
        nn.functional.relu(whole, True)
        out: Tensor = self.sn(y)
        return out


class Written(Twice):
    def forward(self, x: Tensor) -> Tensor:
        c = 2 * x
        y = self.bn(c)
        torch.mul(x, 2, out=c.flatten(1))
        out: Tensor = self.sn(y)
        return out


class Same(Twice):
    """The result of an operation with `out=` is that tensor."""

    def forward(self, x: Tensor) -> Tensor:
        c = torch.empty_like(x)
        same = torch.add(x, x, out=c)
        y = self.bn(c)
        same.relu_()
        out: Tensor = self.sn(y)
        return out


class Remainder(Twice):
    def forward(self, x: Tensor) -> Tensor:
        c = 2 * x
        y = self.bn(c)
        c %= 2
        out: Tensor = self.sn(y)
        return out


class Stray(Tied):
    """The normalisation of a sequence of modules also runs on its own."""

    def forward(self, x: Tensor) -> Tensor:
        alone: Tensor = self.steps[2](x.flatten(0, 1)).unflatten(0, (T, N))
        return torch.cat((self.steps(x), alone))


class StrayNeurons(Tied):
    """The neurons of a sequence of modules also run on their own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.steps(x), self.steps[4](x)))


def replaced(*path: str) -> nn.Module:
    """Return a model in which an object has a forward of its own."""
    model = nn.Sequential(Tied())
    module = model.get_submodule(".".join(path))
    forward = module.forward
    module.forward = lambda *inputs: forward(*inputs)  # type: ignore[method-assign]
    return model


def untracked() -> nn.Module:
    """Return a model whose statistics are no longer tracked."""
    made = norm()
    made.track_running_stats = False
    return in_sequence(made)


class Other(NeuronLayer):
    pass


class LIFNode(nn.Identity):
    """A layer of SpikingJelly, by its module."""

    __module__ = "spikingjelly.activation_based.neuron.lif"


class Unconverted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn, self.sn = norm(), LIFNode()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.sn(self.bn(x))
        return out


def hooked() -> nn.Module:
    made = norm()
    made.register_forward_hook(lambda *_: None)
    return nn.Sequential(made, layer(step_mode="s"))


class Crossed(nn.Module):
    """An `nn.Identity` in a traced forward."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.between, self.sn = norm(), nn.Identity(), layer(step_mode="s")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.sn(self.between(self.bn(x)))
        return out


class SeqToANNContainer(nn.Sequential):
    """SpikingJelly's, which flattens T and N before its modules."""

    def forward(self, x_seq: Tensor) -> Tensor:
        out: Tensor = super().forward(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2])
        return out


def hooked_between(model: nn.Module, path: str, backward: bool = False) -> nn.Module:
    module = model.get_submodule(path)
    if backward:
        module.register_full_backward_hook(lambda *_: None)
    else:
        module.register_forward_hook(lambda module, args, out: out * 0.5)
    return model


def replaced_between(model: Crossed) -> nn.Module:
    model.between.forward = torch.neg  # type: ignore[method-assign]
    return model


def with_attribute() -> nn.Module:
    last = layer(step_mode="s")
    last.norm = nn.Linear(2, 2)
    return nn.Sequential(norm(), last)


def shared() -> nn.Module:
    one = norm()
    return nn.Sequential(one, layer(step_mode="s"), one, layer(step_mode="s"))


LEFT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no layer": (lambda: nn.Sequential(norm(), nn.ReLU()), "no NeuronLayer follows it"),
    "axis": (lambda: nn.Sequential(norm(nn.BatchNorm3d), layer()), "it normalises axis 1"),
    "affine": (lambda: in_sequence(norm(affine=False)), "no weight and no bias"),
    "tracking": (lambda: in_sequence(norm(track_running_stats=False)), "no running statistics"),
    "tracking ended": (untracked, "no running statistics"),
    "changed in place": (Before, "changed in place before sn runs"),
    "changed through a view": (ThroughView, "changed in place before sn runs"),
    "base of a view changed": (BaseOfView, "changed in place before sn runs"),
    "changed by out=": (Written, "changed in place before sn runs"),
    "changed as the result of out=": (Same, "changed in place before sn runs"),
    "changed by an operator": (Remainder, "changed in place before sn runs"),
    "default": (Optional, "another branch where mask is None"),
    "None": (Required, "another branch where skip is None"),
    "flag": (Flag, "another branch where spikes is False"),
    "two defaults": (Both, "another branch where a is None and b is None"),
    "further arguments": (Further, "another branch where **options is {}"),
    "default without a trace": (Length, "torch.fx cannot trace it where mask is None: 'len'"),
    "isinstance": (Typed, "torch.fx cannot trace it: it tests the type of a value"),
    "isinstance of an abstract class": (Listed, "it tests the type of a value"),
    "is_tensor": (IsTensor, "torch.fx cannot trace it: it tests the type of a value"),
    "a parameter norm": (lambda: named("norm"), "a state or parameter 'norm'"),
    "a parameter shortcut": (lambda: named("shortcut"), "a state or parameter 'shortcut'"),
    "a parameter defer": (lambda: named("defer"), "a state or parameter 'defer'"),
    "a state channels": (lambda: named("channels", True), "a state or parameter 'channels'"),
    "a state normalisation": (
        lambda: named("normalisation", True), "a state or parameter 'normalisation'"
    ),
    "also alone": (Stray, "steps.2 runs more than once"),
    "neurons also alone": (StrayNeurons, "steps.4 runs more than once"),
    "forward of a normalisation": (
        lambda: replaced("0", "steps", "2"), "was replaced on the object"
    ),
    "forward of neurons": (lambda: replaced("0", "steps", "4"), "was replaced on the object"),
    "forward of a sequence": (lambda: replaced("0", "steps"), "was replaced on the object"),
    "hooks": (hooked, "it has hooks"),
    "hooks of an identity": (
        lambda: hooked_between(nn.Sequential(norm(), nn.Identity(), layer(step_mode="s")), "1"),
        "1 has hooks",
    ),
    "hooks of an identity in a traced forward": (
        lambda: hooked_between(Crossed(), "between"), "between has hooks"
    ),
    "hooks of Unflatten": (
        lambda: hooked_between(nn.Sequential(norm(), nn.Unflatten(0, (T, N)), layer()), "1"),
        "1 has hooks",
    ),
    "backward hooks of Unflatten": (
        lambda: hooked_between(nn.Sequential(norm(), nn.Unflatten(0, (T, N)), layer()), "1", True),
        "1 has hooks",
    ),
    "hooks of a container": (
        lambda: hooked_between(nn.Sequential(SeqToANNContainer(norm()), layer()), "0"),
        "0 has hooks",
    ),
    "backward hooks of a sequence": (
        lambda: hooked_between(
            nn.Sequential(nn.Sequential(norm()), layer(step_mode="s")), "0", backward=True
        ),
        "no NeuronLayer follows it",
    ),
    "forward of an identity": (
        lambda: replaced_between(Crossed()), "the forward of between was replaced"
    ),
    "an attribute norm": (with_attribute, "1 has an attribute 'norm'"),
    "subclass": (
        lambda: nn.Sequential(norm(), Other(lnm.get("lif"), step_mode="s")), "1 is a Other"
    ),
    "not converted": (
        Unconverted, "sn is a LIFNode of spikingjelly: convert the model first (lnm.nn.convert)"
    ),
    "not converted, in a sequence": (
        lambda: nn.Sequential(norm(), LIFNode()), "1 is a LIFNode of spikingjelly: convert"
    ),
    "integers": (
        lambda: nn.Sequential(norm(), layer(step_mode="s", arithmetic=lnm.Fixed(16, 12))),
        "computes in integers",
    ),
    "shared": (shared, "several paths"),
    "two readers": (Twice, "several readers"),
    "mode": (Modal, "depends on the mode"),
    "attributes": (Counting, "changes its attributes"),
    "a list": (Logging, "changes its attributes"),
    "a nested list": (Nested, "changes its attributes"),
    "a tensor": (Unregistered, "changes its attributes"),
    "control flow": (Dynamic, "torch.fx cannot trace it"),
    "function": (Reader, "its output goes to relu"),
}  # fmt: skip


@pytest.mark.parametrize("which", LEFT)
def test_what_is_left_and_why(which: str) -> None:
    """The model stays as it is, and the report has the reason."""
    make, reason = LEFT[which]
    model = make()
    kinds = [type(m) for m in model.modules()]
    report = fuse(model)
    assert not report.fused
    assert reason in report.left[0].reason
    assert [type(m) for m in model.modules()] == kinds
    assert not any(isinstance(m, DeferredNorm) for m in model.modules())


@pytest.mark.parametrize("kind", [Logging, Nested, Unregistered])
def test_a_trace_leaves_no_value(kind: Any) -> None:
    model = kind()
    fuse(model)
    if kind is Unregistered:
        assert model.seen == 1
    else:
        assert not model.kept()


def test_a_tensor_that_no_call_changes_is_no_obstacle() -> None:
    assert len(fuse(Undefined()).fused) == 1


def test_a_traced_forward_changes_its_buffers() -> None:
    """A trace once changed the buffer itself, and its forward left out an operation."""
    plain = Averaging().double()
    fused = copy.deepcopy(plain)
    assert len(fuse(fused).fused) == 1
    assert fused.rate == 1
    for seed in range(3):
        c, r = drawn(seed)[0], drawn(seed + 10)[0]
        assert torch.equal(fused(c, r), plain(c, r))
    assert 0 < plain.rate < 1
    assert fused.rate == plain.rate


def test_data_parallel_is_refused() -> None:
    """Its copies of the layer would read the normalisation of the first GPU."""
    steps = nn.Flatten(0, 1), nn.BatchNorm2d(3), nn.Unflatten(0, (4, 2))
    model = nn.Sequential(*steps, NeuronLayer(lnm.get("lif"), backend="torch"))
    for module in model:
        module._replicate_for_data_parallel()
    fuse(model)
    with refused(UnsupportedError, "fuse", "DataParallel", remedy="DistributedDataParallel"):
        model[1]._replicate_for_data_parallel()


class Interrupted(Counting):
    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        if not self.training:
            raise KeyboardInterrupt
        return super().forward(x)


def test_an_interrupt_leaves_the_model_as_it_was() -> None:
    """The mode and the attributes of a module whose forward is traced."""
    model = Interrupted()
    before = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        fuse(model)
    assert vars(model) == before


def test_the_report_in_words() -> None:
    report = fuse(nn.Sequential(norm(), layer(step_mode="s"), norm(), nn.ReLU()))
    first, pair, left, other = str(report).splitlines()
    assert (first, pair, left) == ("Fused: 1.", "  0 -> 1", "Left as they are: 1.")
    assert other.startswith("  2: no NeuronLayer follows it")
    assert str(fuse(nn.Linear(2, 2))) == str(FuseReport()) == "No batch normalisation."
    with refused(ModelError, "fuse", "model is 3", "a torch.nn.Module"):
        fuse(3)  # type: ignore[arg-type]


def test_an_optimiser_goes_on() -> None:
    """It was made before; its parameters are those of the fused model."""
    model = in_sequence(norm())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    fuse(model)
    before = model[2].weight.detach().clone()
    model(drawn().float()).sum().backward()
    optimiser.step()
    assert not torch.equal(model[2].weight, before)


@pytest.mark.parametrize("kind", ["BatchNorm2d", "ThresholdDependentBatchNorm2d", "container"])
def test_spikingjelly(kind: str) -> None:
    """Its normalisations in step mode m, and its container that flattens T and N."""
    jelly = pytest.importorskip("spikingjelly.activation_based.layer")
    first: nn.Module
    if kind == "BatchNorm2d":
        first = norm(jelly.BatchNorm2d, step_mode="m")
    elif kind == "container":
        first = jelly.SeqToANNContainer(nn.Conv2d(C, C, 3), norm())
    else:
        first = jelly.ThresholdDependentBatchNorm2d(1.0, 2.0, C)
    plain = nn.Sequential(first, layer()).double()
    fused = copy.deepcopy(plain)
    report = fuse(fused)
    assert [pair.neuron for pair in report.fused] == ["1"]
    shape = plain(drawn()).shape
    fused(drawn())
    got, expected = (passes(m, drawn(), drawn(9, shape)) for m in (fused, plain))
    assert torch.equal(got[0], expected[0])
    torch.testing.assert_close(got[1], expected[1], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(dict(fused.state_dict()), dict(plain.state_dict()))


def test_running_statistics_anew() -> None:
    """`update_bn` finds no fused normalisation, with which the loop of the page agrees.

    A fused network is no `_BatchNorm`, which `convert_sync_batchnorm` would replace.
    """
    steps = nn.Flatten(0, 1), norm(momentum=0.3), nn.Unflatten(0, (T, N)), layer()
    separate = nn.Sequential(*steps, nn.Flatten(0, 1), nn.BatchNorm2d(C))
    fused = copy.deepcopy(separate)
    fuse(fused)
    batches = [torch.randn(SHAPE) + k for k in range(3)]
    (own,) = [m.normalisation for m in fused.modules() if isinstance(m, NormNeuron)]
    own.reset_running_stats()
    own.momentum = None
    for model in (separate, fused):
        update_bn(batches, model)
    for one, other in zip(separate.buffers(), fused.buffers(), strict=True):
        torch.testing.assert_close(one, other)
    kinds = [type(m) for m in fused]
    assert [type(m) for m in nn.SyncBatchNorm.convert_sync_batchnorm(fused)][:4] == kinds[:4]
