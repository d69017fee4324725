"""`lnm.nn.fuse`: outputs, gradients, keys and reports of the models that it changes."""

from __future__ import annotations

import copy
import pickle
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
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


def convolved(kernel: Any = 3) -> nn.Module:
    """Return a holder of a convolution, a normalisation and neurons; `of` gives it a forward."""
    made: Any = nn.Module()
    made.conv, made.bn, made.sn = nn.Conv2d(C, C, kernel, padding=1), norm(), layer()
    return made


def single() -> Any:
    """Return a holder of a normalisation, two layers that run step by step, and an identity."""
    made: Any = nn.Module()
    made.bn, made.sn, made.other = norm(), layer(step_mode="s"), layer(step_mode="s")
    made.between = nn.Identity()
    return made


def tied() -> nn.Module:
    made = nn.Module()
    made.steps = in_sequence(norm())
    return made


def of(body: str, more: str = "", held: Callable[[], Any] = single, **attributes: Any) -> Any:
    """Return a model whose forward of (m, x) and more has a body; m is the model."""
    names: dict[str, Any] = {"torch": torch, "nn": nn, "Tensor": Tensor, "Sequence": Sequence}
    exec(f"def forward(m, x{more}):\n    " + body.replace("; ", "\n    "), names)
    model = held()
    model.__class__ = type("Model", (nn.Module,), {"forward": names["forward"]})
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def vector() -> nn.Module:
    """`x.shape[:2]` restores time, and the shortcut has T numbers on the last axis."""
    made: nn.Module = of(
        "y = m.bn(m.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2]);"
        " return nn.functional.pad(m.sn(y + m.shortcut), (0, 2))",
        held=lambda: convolved((3, 5)),
        shortcut=nn.Parameter(torch.tensor([0.5, -0.5, 1.0, 0.0])),
    )
    return made


def keyword() -> nn.Module:
    """Calls by keyword, and arguments that no branch depends on."""
    made: nn.Module = of(
        f"y = m.bn(input=m.conv(input=gain * x.flatten(0, 1))).unflatten(0, ({T}, {N}));"
        " y = nn.functional.pad(m.sn(y), (0, 0), mode=mode);"
        " return torch.clamp(y, max=limit, min=0.0)",
        ', gain=2.0, mode="constant", *, limit=None',
        convolved,
    )
    return made


TWICE = "return m.steps(2 * m.steps(x))"


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "sequence": (lambda: in_sequence(norm()), 1),
    "nested": (
        lambda: nn.Sequential(nn.Sequential(*in_sequence(norm())[:-1]), nn.Identity(), layer()),
        1,
    ),
    "vector as shortcut": (vector, 1),
    "keywords": (keyword, 1),
    "twice in a call": (lambda: of(TWICE, held=tied), 1),
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


IN_PLACE = {
    "another name of the tensor": (
        "y = 2 * x; same = y; y += 1; y *= 3; y //= 2; y %= 4; return m.sn(m.bn(x) + same)"
    ),
    "a buffer, beside a shortcut": (
        "out = m.sn(m.bn(x) + x / 2); m.rate.mul_(0.5); m.rate.add_(0.5 * out.detach().mean());"
        " return out"
    ),
}


@pytest.mark.parametrize("what", IN_PLACE)
def test_a_traced_forward_changes_in_place(what: str) -> None:
    """A trace once changed the buffer itself, and its forward left out an operation."""
    plain = of(IN_PLACE[what]).double()
    plain.register_buffer("rate", torch.ones(()))
    fused = copy.deepcopy(plain)
    assert len(fuse(fused).fused) == 1
    assert fused.rate == 1
    for x in drawn():
        assert torch.equal(fused(x), plain(x))
    assert (plain.rate < 1) == ("buffer" in what)
    assert fused.rate == plain.rate


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
    plain, r = of("return m.sn(m.bn(x) + r)", ", r").train(training), SHORTCUTS[which]
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


FIRED, CROSSED = "return m.sn(m.bn(x))", "return m.sn(m.between(m.bn(x)))"


def replaced(model: nn.Module, path: str) -> nn.Module:
    """Return a model in which an object has a forward of its own."""
    module = model.get_submodule(path)
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


class SeqToANNContainer(nn.Sequential):
    """SpikingJelly's, which flattens T and N before its modules."""

    def forward(self, x_seq: Tensor) -> Tensor:
        out: Tensor = super().forward(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2])
        return out


def steps(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(*modules, layer(step_mode="s"))


def hooked(model: nn.Module, path: str, backward: bool = False) -> nn.Module:
    module = model.get_submodule(path)
    if backward:
        module.register_full_backward_hook(lambda *_: None)
    else:
        module.register_forward_hook(lambda module, args, out: out * 0.5)
    return model


def unflattened(backward: bool) -> nn.Module:
    model = nn.Sequential(norm(), nn.Unflatten(0, (T, N)), layer())
    return hooked(model, "1", backward)


def with_attribute() -> nn.Module:
    last = layer(step_mode="s")
    last.norm = nn.Linear(2, 2)
    return nn.Sequential(norm(), last)


def shared() -> nn.Module:
    one = norm()
    return nn.Sequential(one, layer(step_mode="s"), one, layer(step_mode="s"))


BEFORE, REPLACED = "changed in place before sn runs", "was replaced on the object"
TYPE, BRANCH = "torch.fx cannot trace it: it tests the type of a value", "another branch where "
FORWARDS: list[tuple[str, str, str]] = [
    # A shortcut; the input, through a view, as the base of a view, by `out=` and by an operator.
    ("", "r = 2 * x; y = m.bn(x) + r; r *= 0; return m.sn(y)", BEFORE),
    ("", "c = 2 * x; y, d = m.bn(c), c.view(-1, 3); d.relu_(); return m.sn(y)", BEFORE),
    (
        "",
        "c = 2 * x; y = m.bn(c.chunk(2)[0]); nn.functional.relu(c, True); return m.sn(y)",
        BEFORE,
    ),
    ("", "c = 2 * x; y = m.bn(c); torch.mul(x, 2, out=c.flatten(1)); return m.sn(y)", BEFORE),
    (
        "",
        "c = x.clone(); d = torch.add(x, x, out=c); y = m.bn(c); d.relu_(); return m.sn(y)",
        BEFORE,
    ),
    ("", "c = 2 * x; y = m.bn(c); c %= 2; return m.sn(y)", BEFORE),
    # Branches.
    (", mask=None", "y = m.bn(x); return y if mask is None else m.sn(y)", f"{BRANCH}mask is None"),
    (
        ", skip: 'Tensor | None'",
        "return m.sn(m.bn(x) if skip is None else m.bn(x) + skip)",
        f"{BRANCH}skip is None",
    ),
    (
        ", spikes=True",
        "y = m.bn(x); return y if spikes is False else m.sn(y)",
        f"{BRANCH}spikes is False",
    ),
    (  # two defaults select it, and neither selects it alone
        ", a=None, b=None",
        "y = m.bn(x); return y if a is None and b is None else m.sn(y)",
        f"{BRANCH}a is None and b is None",
    ),
    (
        ", **options",
        "y = m.bn(x); return y if options.get('mask') is None else m.sn(y)",
        f"{BRANCH}**options is {{}}",
    ),
    (
        ", mask=None",
        "y = m.bn(x); return y[len(x) - 1] if mask is None else m.sn(y)",
        "torch.fx cannot trace it where mask is None: 'len'",
    ),
    ("", "y = m.bn(x); return m.sn(y) if not isinstance(x, Tensor) else y", TYPE),
    ("", "return m.sn(m.bn(x[0] if isinstance(x, Sequence) else x))", TYPE),
    ("", "y = m.bn(x); return y if torch.is_tensor(x) else m.sn(y)", TYPE),
    ("", "return m.sn(m.bn(x if x.sum() > 0 else -x))", "torch.fx cannot trace it"),
    ("", "y = m.bn(x); return m.sn(y) if m.training else m.other(y)", "depends on the mode"),
    # Readers.
    ("", "y = m.bn(x); return m.sn(y) + m.other(y)", "several readers"),
    ("", "return m.sn(torch.relu(m.bn(x)))", "its output goes to relu"),
    ("", "return m.sn(torch.add(m.bn(x), x, alpha=2))", "its output goes to add"),
]
LOGS = "out = m.sn(m.bn(x)); {}.append(out); return out"
CHANGING: dict[str, Callable[[], Any]] = {
    "attributes": lambda: of(f"m.calls = m.calls + 1; {FIRED}", calls=0),
    "a list": lambda: of(LOGS.format("m.log"), log=[]),
    "a nested list": lambda: of(LOGS.format("m.log['of'][0]"), log={"of": (deque(),)}),
    "a tensor": lambda: of(f"m.seen.mul_(0.5); {FIRED}", seen=torch.ones(())),
}
LEFT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no layer": (lambda: nn.Sequential(norm(), nn.ReLU()), "no NeuronLayer follows it"),
    "axis": (lambda: nn.Sequential(norm(nn.BatchNorm3d), layer()), "it normalises axis 1"),
    "affine": (lambda: in_sequence(norm(affine=False)), "no weight and no bias"),
    "tracking": (lambda: in_sequence(norm(track_running_stats=False)), "no running statistics"),
    "tracking ended": (untracked, "no running statistics"),
    **{
        f"a parameter {name}": (lambda n=name: named(n), f"a state or parameter '{name}'")
        for name in ("norm", "shortcut", "defer")
    },
    **{
        f"a state {name}": (lambda n=name: named(n, True), f"a state or parameter '{name}'")
        for name in ("channels", "normalisation")
    },
    "also alone": (
        lambda: of(
            "y = m.steps[2](x.flatten(0, 1)).unflatten(0, x.shape[:2]);"
            " return torch.cat((m.steps(x), y))", held=tied,
        ),
        "steps.2 runs more than once",
    ),
    "neurons also alone": (
        lambda: of("return torch.cat((m.steps(x), m.steps[4](x)))", held=tied),
        "steps.4 runs more than once",
    ),
    **{
        f"forward of {path}": (
            lambda path=path: replaced(nn.Sequential(of(TWICE, held=tied)), path), REPLACED
        )
        for path in ("0.steps.2", "0.steps.4", "0.steps")
    },
    "hooks": (lambda: hooked(steps(norm()), "0"), "it has hooks"),
    "hooks of an identity": (lambda: hooked(steps(norm(), nn.Identity()), "1"), "1 has hooks"),
    "hooks of an identity in a traced forward": (
        lambda: hooked(of(CROSSED), "between"), "between has hooks"
    ),
    "hooks of Unflatten": (lambda: unflattened(False), "1 has hooks"),
    "backward hooks of Unflatten": (lambda: unflattened(True), "1 has hooks"),
    "hooks of a container": (
        lambda: hooked(nn.Sequential(SeqToANNContainer(norm()), layer()), "0"), "0 has hooks"
    ),
    "backward hooks of a sequence": (
        lambda: hooked(steps(nn.Sequential(norm())), "0", True), "no NeuronLayer follows it"
    ),
    "forward of an identity": (
        lambda: replaced(of(CROSSED), "between"), "the forward of between was replaced"
    ),
    "an attribute norm": (with_attribute, "1 has an attribute 'norm'"),
    "subclass": (
        lambda: nn.Sequential(norm(), Other(lnm.get("lif"), step_mode="s")), "1 is a Other"
    ),
    "not converted": (
        lambda: of(FIRED, sn=LIFNode()),
        "sn is a LIFNode of spikingjelly: convert the model first (lnm.nn.convert)",
    ),
    "not converted, in a sequence": (
        lambda: nn.Sequential(norm(), LIFNode()), "1 is a LIFNode of spikingjelly: convert"
    ),
    "integers": (
        lambda: nn.Sequential(norm(), layer(step_mode="s", arithmetic=lnm.Fixed(16, 12))),
        "computes in integers",
    ),
    "shared": (shared, "several paths"),
    **{name: (make, "changes its attributes") for name, make in CHANGING.items()},
    **{body: (partial(of, body, more), why) for more, body, why in FORWARDS},
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


def test_a_trace_leaves_no_value() -> None:
    """A tensor with a NaN that no call changes is no obstacle."""
    listed, nested, tensor = (CHANGING[n]() for n in ("a list", "a nested list", "a tensor"))
    for model in (listed, nested, tensor):
        fuse(model)
    assert (len(listed.log), len(nested.log["of"][0]), tensor.seen) == (0, 0, 1)
    undefined = of(FIRED, seen=torch.tensor([1.0, torch.nan]))
    assert len(fuse(undefined).fused) == 1


def test_data_parallel_is_refused() -> None:
    """Its copies of the layer would read the normalisation of the first GPU."""
    steps = nn.Flatten(0, 1), nn.BatchNorm2d(3), nn.Unflatten(0, (4, 2))
    model = nn.Sequential(*steps, NeuronLayer(lnm.get("lif"), backend="torch"))
    for module in model:
        module._replicate_for_data_parallel()
    fuse(model)
    with refused(UnsupportedError, "fuse", "DataParallel", remedy="DistributedDataParallel"):
        model[1]._replicate_for_data_parallel()


def test_an_interrupt_leaves_the_model_as_it_was() -> None:
    """The mode and the attributes of a module whose forward is traced."""
    interrupt = "if not m.training: raise KeyboardInterrupt"
    model = of(f"m.calls = m.calls + 1; {interrupt}; {FIRED}", calls=0)
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
