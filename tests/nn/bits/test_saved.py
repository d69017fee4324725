"""`pack_spikes`, also under `torch.compile`: gradients, bytes kept, and tensors that are whole."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.nn import NeuronLayer, NormNeuron, pack_spikes
from lnm_codegen.nn import bits as packing
from lnm_codegen.nn.bits import BLOCK, LANES, packable
from tests.cases import CASES
from tests.layers import assert_close, assert_equal, slow
from tests.refusals import refused
from tests.strategies import few

pytestmark = [
    pytest.mark.needs_cc,
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


class Counter:
    """Storages that autograd keeps while `count` is active, by address; none is freed."""

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}

    @contextmanager
    def count(self) -> Iterator[None]:
        with saved_tensors_hooks(self._keep, lambda kept: kept):
            yield

    def _keep(self, tensor: Tensor) -> Tensor:
        self.kept[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor.detach()

    def bytes(self, least: int = 0) -> int:
        """Return the bytes of the storages that have at least so many."""
        sizes = (t.untyped_storage().nbytes() for t in self.kept.values())
        return sum(size for size in sizes if size >= least)

    @property
    def bits(self) -> list[Tensor]:
        return [t for t in self.kept.values() if t.dtype is torch.uint8]


def lif(**options: Any) -> NeuronLayer:
    return NeuronLayer(lnm.get("lif"), **{"backend": "c", **options})


def over_frames(layer: nn.Module, x_seq: Tensor) -> Any:
    """Apply a layer to T*N frames."""
    return layer(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2])


class Net(nn.Module):
    """Convolutions after spikes, a shortcut of spikes, pooling, and a linear readout."""

    def __init__(self, backend: str, channels: int = 3, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        like: Any = {"backend": backend, "dtype": dtype}
        self.first = NeuronLayer(lnm.get("lif"), **like)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype)
        self.block = NormNeuron(lnm.get("lif", tau=1.5), channels, shortcut=True, **like)
        self.strided = nn.Conv2d(channels, channels, 1, stride=2, dtype=dtype)
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self.last = NeuronLayer(lnm.get("plif"), **like)
        self.readout = nn.LazyLinear(4, dtype=dtype)

    def forward(self, x_seq: Tensor) -> Any:
        spikes = self.first(x_seq)
        spikes = self.block(over_frames(self.conv, spikes), spikes)
        current = over_frames(self.strided, spikes) + over_frames(self.pool, spikes)
        return self.readout(self.last(4 * current).flatten(2))


def gradients(net: nn.Module, x: Tensor, *contexts: Any, run: Any = None) -> list[Tensor]:
    """Return outputs and gradients of a forward in these contexts."""
    given = x.detach().requires_grad_()
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        out = net(given) if run is None else run(given)
    net.zero_grad()
    out.square().sum().backward()
    found = [p.grad for p in net.parameters() if p.grad is not None]
    assert given.grad is not None
    assert given.grad.any()
    return [out.detach(), given.grad, *found]


def compiled(body: Any, backend: Any = "aot_eager", **options: Any) -> Any:
    """Return a function or a module as one graph."""
    torch._dynamo.reset()
    return torch.compile(body, backend=backend, fullgraph=True, **options)


# ---- gradients ----


@pytest.mark.parametrize(
    ("path", "backend"), [("c", "torch"), ("torch", "torch"), slow("c", "c"), slow("torch", "c")]
)
@settings(few, max_examples=6)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(2, 7)),
    st.sampled_from((torch.float32, torch.float64, torch.bfloat16)),
    st.booleans(),
)
def test_gradients_are_bit_exact(
    path: str, backend: str, shape: tuple[int, ...], dtype: torch.dtype, is_last: bool
) -> None:
    """In any layout and number of spikes, with and without a compiler.

    The kernels' own inputs may be bits too: the shortcut of the block.
    """
    steps, batch, channels, size = shape
    net = Net(backend, channels, dtype)
    x = torch.randn(steps, batch + 1, channels, size, size + 1).to(dtype) + 0.8
    if is_last:
        x = x.transpose(2, 4).contiguous().transpose(2, 4)
    net(x)
    with pytest.MonkeyPatch.context() as patch:
        if path == "torch":
            patch.setattr(packing, "load_bits", lambda: None)
        counter = Counter()
        found = gradients(net, x, counter.count(), pack_spikes())
        assert len(counter.bits) == 3
    assert_equal(found, gradients(net, x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("place", ["around", "inside", "hooks", "inductor"])
def test_gradients_of_a_compiled_network(place: str) -> None:
    """A context around the compiled network, one inside, hooks of the network; dynamic sizes."""
    net = Net("c")
    net(torch.zeros(1, 1, 3, 6, 6))
    packed = pack_spikes(copy.deepcopy(net)) if place == "hooks" else net

    def inside(given: Tensor) -> Any:
        with pack_spikes():
            return net(given)

    is_around, kind = place in ("around", "inductor"), {}
    if place == "inductor":
        kind = {"backend": "inductor", "dynamic": True}
    run = compiled(inside if place == "inside" else packed, **kind)
    for steps in (4, 5):
        counter, context = Counter(), pack_spikes() if is_around else nullcontext()
        x = torch.randn(steps, 3, 3, 6, 6) + 0.8
        found = gradients(packed, x, counter.count(), context, run=run)
        assert len(counter.bits) == 3
        assert_close(found, gradients(net, x), 1e-5 if kind else 0)


def linear_net(**options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), lif(**options), nn.Linear(16, 3))


def stepwise(net: Any) -> Any:
    def run(given: Tensor) -> Tensor:
        net[1].reset()
        return torch.stack([net(x) for x in given])

    return run


def changed(change: Callable[[Tensor], Any]) -> Any:
    def made(net: Any) -> Any:
        def run(given: Tensor) -> Any:
            spikes = net[1](net[0](given))
            change(spikes)
            return net[2](spikes)

        return run

    return made


def recomputed(net: Any) -> Any:
    return lambda given: net[2](checkpoint(net[:2], given, use_reentrant=False))


def packed_within(net: Any) -> Any:
    return lambda given: checkpoint(pack_spikes()(net.forward), given, use_reentrant=False)


def in_place() -> nn.Sequential:
    """Operators save results after a change; a second call updates running statistics."""
    norm = nn.BatchNorm1d(8)
    return nn.Sequential(
        lif(), nn.Flatten(0, 1), nn.Linear(8, 8), norm, nn.ReLU(inplace=True), norm,
        nn.Sigmoid(), nn.Linear(8, 3), nn.Hardtanh(inplace=True),
    )  # fmt: skip


def ternary() -> nn.Sequential:
    layer = NeuronLayer(lnm.get("ternary"), backend="torch")
    return nn.Sequential(nn.Linear(8, 16), layer, nn.Linear(16, 3))


def gaps() -> Any:
    return saved_tensors_hooks(lambda t: torch.stack([t, t], -1)[..., 0], lambda t: t)


def autocast() -> Any:
    return torch.autocast("cpu", torch.bfloat16)


KEPT: dict[str, tuple[Any, ...]] = {
    "linear": (linear_net, 1),
    "steps": (lambda: linear_net(step_mode="s"), 4, stepwise),  # each step has its own spikes
    "integers": (lambda: linear_net(arithmetic=lnm.Fixed(16, 12)), 1),
    "ternary": (ternary, 0),
    "changed": (linear_net, 0, changed(lambda s: s.mul_(0.5))),
    "without a version": (linear_net, 0, changed(lambda s: s.data.mul_(0.5))),
    "changed in part": (linear_net, 0, changed(lambda s: s[0].zero_())),
    "in place": (in_place, 1),
    "16 bits": (linear_net, 1, None, autocast),
    "cast": (lambda: nn.Sequential(lif(), nn.Linear(8, 3)), 0, None, autocast),
    "checkpoint": (linear_net, 1, recomputed),
    "within a checkpoint": (linear_net, 0, packed_within),
    "twice": (linear_net, 1, None, pack_spikes),
    "on the CPU": (linear_net, None, None, save_on_cpu),
    "in another layout": (linear_net, None, None, gaps),
}
"""Case -> network, tensors of bits, how it runs, and hooks around, which receive what is kept."""
TRACED = ("linear", "steps", "ternary", "changed", "16 bits", "checkpoint")


@pytest.mark.parametrize(
    ("case", "traced"), [*((c, False) for c in KEPT), *(slow(c, True) for c in TRACED)]
)
def test_what_is_kept_as_bits(case: str, traced: bool) -> None:
    """Gradients are those without the context, eagerly and in a graph."""
    torch.manual_seed(0)
    build, count, runs, around = (*KEPT[case], None, None)[:4]
    net, x, counter = build(), torch.rand(4, 2, 8) * 3, Counter()
    run, around = (runs or (lambda net: net))(net), around or nullcontext
    counted = nullcontext() if count is None else counter.count()
    body = compiled(run) if traced else run
    found = gradients(net, x, counted, around(), pack_spikes(), run=body)
    assert len(counter.bits) == (0 if traced and case == "checkpoint" else count or 0)
    assert_equal(found, gradients(net, x, around(), run=run))


def test_double_backward() -> None:
    """The gradient of a gradient reaches what the spikes depend on (backend "torch")."""
    first, second = lif(backend="torch"), lif(backend="torch")
    net = nn.Sequential(first, nn.Linear(8, 5), nn.Tanh(), second, nn.Linear(5, 3))
    x = torch.randn(4, 2, 8) * 2

    def twice(context: Any) -> list[Tensor]:
        given = x.clone().requires_grad_()
        with context:
            out = net(given).tanh().sum()
        params = [given, *net.parameters()]
        once = torch.autograd.grad(out, params, create_graph=True)
        norm = sum(g.square().sum() for g in once)
        return list(torch.autograd.grad(norm, params))  # type: ignore[arg-type]

    found = twice(pack_spikes())
    assert_equal(found, twice(nullcontext()))
    assert found[0].any()


# ---- what is kept ----


VIEWS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda s: s, lambda s: s[-1], lambda s: s[:, :, 1:2], lambda s: s[..., ::2],
    lambda s: s.transpose(0, -1), lambda s: s.flatten(0, 1), lambda s: s.reshape(-1),
    lambda s: s[:, :1].expand(-1, 3, *s.shape[2:]), lambda s: s.diagonal(0, -1, -2),
    lambda s: s.detach(), lambda s: s.unfold(-1, 2, 1),
)  # fmt: skip
OTHERS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda s: nn.functional.avg_pool2d(s.flatten(0, 1), 2), lambda s: s + s, lambda s: s.clone(),
    lambda s: s.bfloat16(), lambda s: s.view(torch.int32),
)  # fmt: skip


@pytest.mark.parametrize("view", [*VIEWS, *OTHERS], ids=lambda _: "")
def test_views_are_recognised(view: Callable[[Tensor], Tensor]) -> None:
    """A view reads the same numbers after packing; sums and copies of spikes are kept whole."""
    for shape in ((3, 2, 2, 4, 4), (1, 1, 2, 3, 2), (4, 3, 5, 7, 9)):
        x, found, counter = torch.rand(shape) * 3, [], Counter()
        for contexts in ([counter.count(), pack_spikes()], []):
            weight = torch.ones((), requires_grad=True)
            with ExitStack() as stack:
                for context in contexts:
                    stack.enter_context(context)
                out = view(lif()(x)) * weight  # saves the view alone
            numbers = torch.arange(out.numel()).view(out.shape) + 1.0
            found += torch.autograd.grad(out, weight, numbers.to(out.dtype))
        assert torch.equal(*found)
        sizes = [bits.numel() for bits in counter.bits]
        assert sizes == [-(-x.numel() // BLOCK) * LANES] * (view in VIEWS)
        assert len(counter.kept) == 1


def bytes_kept(body: Callable[[Tensor], Tensor], c: Tensor, context: Any) -> float:
    """Return the bytes that autograd keeps for each element of c, small storages apart."""
    counter = Counter()
    with counter.count(), context:
        assert body(c).requires_grad
    return counter.bytes(least=c.numel() // 8) / c.numel()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_kept(dtype: torch.dtype) -> None:
    """An element-step keeps 12 bytes, 8 with a block, 4.125 with bits, and 2.125 in 16 bits."""
    norm, neuron = nn.BatchNorm2d(4), lif()
    block = NormNeuron(lnm.get("lif"), 4, backend="c")
    conv = nn.Conv2d(4, 4, 3, padding=1, dtype=dtype)
    c = torch.randn(4, 2, 4, 32, 32, dtype=dtype)

    def separate(c: Tensor) -> Tensor:
        return over_frames(conv, neuron(over_frames(norm, c)))

    def fused(c: Tensor) -> Tensor:
        return over_frames(conv, block(c))

    if dtype is torch.float32:
        assert bytes_kept(separate, c.requires_grad_(), nullcontext()) == 12
        assert bytes_kept(separate, c, pack_spikes()) == 8.125
    turned = c.detach().transpose(2, 4).contiguous().transpose(2, 4)
    for each in (c.requires_grad_(), turned.requires_grad_()):
        for body in (fused, compiled(fused)):
            assert bytes_kept(body, each, nullcontext()) == 2 * dtype.itemsize
            assert bytes_kept(body, each, pack_spikes()) == dtype.itemsize + 0.125


def test_bytes_kept_in_a_graph() -> None:
    """The context decides at each call: the graph with bits serves no call outside."""
    net, x = linear_net(), torch.randn(8, 64, 8)
    run, counters = compiled(net), [Counter(), Counter()]
    found = gradients(net, x, counters[0].count(), pack_spikes(), run=run)
    assert_equal(found, gradients(net, x, counters[1].count(), run=run))
    assert_equal(found, gradients(net, x))
    spikes = 8 * 64 * 16
    assert counters[1].bytes() - counters[0].bytes() == 4 * spikes - spikes // 8


@pytest.mark.parametrize(
    ("case", "names"),
    [("lif", ("spike",)), ("dendrite", ()), ("ternary", ()), ("gate", ("spike",)), ("li", ())],
)
def test_outputs_that_are_spikes(case: str, names: tuple[str, ...]) -> None:
    """Ternary, counted and graded outputs stay whole, and `explain` says so."""
    neuron = CASES[case]()
    assert packable(neuron) == names
    if case != "dendrite":
        found = NeuronLayer(neuron, backend="torch").explain(torch.empty(4, 2))
        assert tuple(name for name, packed in found.bits.items() if packed) == names
        words = [f"{n} {'as bits' if p else 'whole'}" for n, p in found.bits.items()]
        assert f"  pack_spikes     keeps {', '.join(words)}" in str(found).splitlines()


def test_memory_that_is_used_again() -> None:
    """A tensor at the address of spikes that were freed is no spike."""
    layer, weight, seen = lif(backend="torch"), torch.ones((), requires_grad=True), False
    with pack_spikes():
        for _ in range(50):
            spikes = layer(torch.rand(4, 2, 8).mul_(3))
            address = spikes.data_ptr()
            del spikes
            other = [torch.randn(4, 2, 8) for _ in range(8)]
            for tensor in other:
                seen |= tensor.data_ptr() == address
                (grad,) = torch.autograd.grad((tensor * weight).sum(), weight)
                assert torch.equal(grad, tensor.sum())
    assert seen


# ---- changes in place ----


def test_spikes_changed_after_a_layer() -> None:
    """Bits have the values that each layer read, where PyTorch alone refuses the backward."""
    net = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 3)])
    x, counter = torch.rand(4, 2, 8) * 3, Counter()

    def run(change: Callable[[Tensor], Any], second: Callable[[Tensor], Any]) -> Any:
        def forward(given: Tensor) -> Any:
            spikes = lif()(given)
            out = net[0](spikes)
            change(spikes)
            return out + second(spikes)

        return forward

    negated, apart = run(lambda s: s.neg_().add_(1), net[1]), run(len, lambda s: net[1](1 - s))
    found = gradients(net, x, counter.count(), pack_spikes(), run=negated)
    assert len(counter.bits) == 1  # the second layer does not share those of the first
    assert_equal(found, gradients(net, x, run=apart))
    halved, kept = run(lambda s: s.detach().mul_(0.5), lambda s: 0), run(len, lambda s: 0)
    assert_equal(gradients(net, x, pack_spikes(), run=halved), gradients(net, x, run=kept))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(net, x, run=halved)


def test_other_tensors_that_change() -> None:
    """A changed tensor that was kept whole is refused, as PyTorch does without hooks."""
    for context in (pack_spikes(), nullcontext()):
        with context:
            current = torch.rand(4, 8, requires_grad=True) * 2
            out = nn.Linear(8, 3)(current)
        current.detach().mul_(2)
        with pytest.raises(RuntimeError) as caught:
            out.sum().backward()
        if isinstance(context, nullcontext):  # an ended context leaves no hooks behind
            assert "modified by an inplace operation" in str(caught.value)
            continue
        error = caught.value
        assert isinstance(error, UnsupportedError)
        problem = "shape (4, 8) that the backward needs was changed in place: it has version 1"
        assert (error.where, error.remedy) == ("pack_spikes", "Change a clone of it.")
        assert problem in error.problem


# ---- contexts ----


def assert_closed() -> None:
    assert packing._THREAD.depth == 0
    assert not packing._THREAD.contexts


def test_every_forward_of_a_model() -> None:
    """`pack_spikes(model)` packs as the context does, also in a copy, and ends with an error."""
    net, x = Net("torch"), torch.randn(3, 2, 3, 5, 5) + 0.8
    net(x)
    expected = gradients(net, x)
    model = pack_spikes(copy.deepcopy(net))
    assert pack_spikes(model) is model  # the second call adds nothing
    for one in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        counter = Counter()
        assert_equal(gradients(one, x, counter.count()), expected)
        assert len(counter.bits) == 3
        with pytest.raises(RuntimeError):
            one(torch.ones(1, 1, 1, 1, 1))
        assert_closed()
    with refused(ModelError, "pack_spikes", "model is int", "a torch.nn.Module"):
        pack_spikes(3)


class Guarded(nn.Module):
    """Calls a part that raises, and then goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.part, self.neurons, self.readout = nn.Identity(), lif(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        with pytest.raises(ValueError, match="refused"):
            self.part(x)
        return self.readout(self.neurons(x))


def test_errors_in_a_context() -> None:
    """A pre-hook that raises before that of `pack_spikes` leaves the outer context open."""

    def refuse(*_: Any) -> None:
        raise ValueError("refused")

    model, counter = pack_spikes(Guarded()), Counter()
    pack_spikes(model.part).register_forward_pre_hook(refuse, prepend=True)
    gradients(model, torch.rand(4, 2, 8) * 3, counter.count())
    assert len(counter.bits) == 1
    assert_closed()
    with pytest.raises(KeyboardInterrupt), pack_spikes():
        raise KeyboardInterrupt
    assert_closed()


def test_without_gradients() -> None:
    """Nothing is marked or kept."""
    for contexts in ((pack_spikes(), torch.no_grad()), (pack_spikes(), torch.inference_mode()), ()):
        with ExitStack() as stack:
            for context in contexts:
                stack.enter_context(context)
            spikes = lif()(torch.rand(4, 2, 8))
        assert not hasattr(spikes.untyped_storage(), "_lnm_spikes")


def test_backward_twice() -> None:
    """A retained graph unpacks again; a freed one is refused by PyTorch."""
    x, linear = torch.rand(4, 2, 8) * 3, nn.Linear(8, 3)
    with pack_spikes():
        out = linear(lif()(x)).sum()
    out.backward(retain_graph=True)
    assert linear.weight.grad is not None
    once = linear.weight.grad.clone()
    out.backward()
    assert torch.equal(linear.weight.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        out.backward()


def test_the_graph_is_freed() -> None:
    """Neither hooks nor marks refer to the graph, which is freed without the garbage collector."""
    net = nn.Sequential(nn.Linear(8, 8), lif(), nn.Linear(8, 3), nn.Sigmoid())
    gc.collect()
    gc.disable()
    try:
        with pack_spikes():
            hidden = net[:2](torch.rand(4, 2, 8))
            out = net[2:](hidden)
        freed = [weakref.ref(t.untyped_storage()) for t in (hidden, out)]
        del hidden, out
        assert [ref() for ref in freed] == [None, None]
    finally:
        gc.enable()


def test_threads() -> None:
    """A decorated forward packs in every thread, as those of DataParallel; others do not."""

    class Packed(nn.Sequential):
        forward = pack_spikes()(nn.Sequential.forward)

    plain, x, found = linear_net(), torch.randn(4, 5, 8) * 3, []
    expected = gradients(plain, x)

    def work(net: nn.Module) -> None:
        counter = Counter()
        found.append((gradients(net, x, counter.count()), len(counter.bits)))

    with pack_spikes():
        for net in (Packed(*plain), Packed(*plain), plain):
            thread = threading.Thread(target=work, args=(net,))
            thread.start()
            thread.join()
    assert [count for _, count in found] == [1, 1, 0]
    assert_equal([grads for grads, _ in found], [expected] * 3)


@pytest.mark.parametrize("traced", [False, slow(True)])
def test_torch_func(traced: bool) -> None:
    """Inside a transform the context does nothing."""
    net = nn.Sequential(lif(backend="torch"), nn.Linear(8, 3))
    x = torch.rand(4, 2, 8) * 3

    @pack_spikes()
    def loss(x: Tensor) -> Tensor:
        return net(x).square().sum()

    def grad(x: Tensor) -> Tensor:
        return torch.func.grad(loss)(x)

    given = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net(given).square().sum(), given)
    torch.testing.assert_close((compiled(grad) if traced else grad)(x), expected)


# ---- operators ----


def test_the_operator_refuses_other_numbers() -> None:
    """Bits of a number that is neither 0 nor 1 would be a wrong gradient."""
    problem = "an output of a layer, of shape (3,), is neither 0 nor 1"
    remedy = "Call the layer outside of the context."
    with refused(UnsupportedError, "pack_spikes", problem, "spikes", remedy):
        torch.ops.lnm.pack_spikes(torch.tensor([0.0, 1.0, 0.5]))


@pytest.mark.parametrize("shape", [(0, 4), (3, 5), (2, 512)])
def test_operators(shape: tuple[int, ...]) -> None:
    """The operators agree with their shapes, and give back the spikes in their layout."""
    for spikes in ((torch.rand(shape) > 0.5).double(), (torch.rand(shape[::-1]) > 0.5).float().T):
        taken = (torch.ops.lnm.pack_spikes(spikes), spikes.shape, spikes.stride(), spikes.dtype)
        found = torch.ops.lnm.unpack_spikes(*taken)
        assert torch.equal(found, spikes)
        assert found.stride() == spikes.stride()
        checks = ("test_schema", "test_faketensor")
        torch.library.opcheck(torch.ops.lnm.pack_spikes.default, (spikes,), test_utils=checks)
        torch.library.opcheck(torch.ops.lnm.unpack_spikes.default, taken, test_utils=checks)


@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
@pytest.mark.parametrize("strict", [False, slow(True)])
def test_programs_of_evaluation(strict: bool) -> None:
    """An exported program, and a graph without gradients, have no bits."""
    net, x, graphs = pack_spikes(linear_net()), torch.randn(4, 5, 8), []
    with pack_spikes():
        program = torch.export.export(net, (x,), strict=strict)
    assert "pack_spikes" not in str(program.graph)

    def keep(module: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(str(module.graph))
        return module

    run = compiled(net, keep)
    with torch.no_grad():
        run(x)
    run(x)
    assert ["pack_spikes" in graph for graph in graphs] == [False, True]
