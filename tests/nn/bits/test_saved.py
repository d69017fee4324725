"""`pack_spikes`: gradients, bytes kept, and tensors that are not spikes."""

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
from lnm_codegen.nn import bits as saved
from lnm_codegen.nn.bits import BLOCK, LANES, packable
from tests.cases import CASES
from tests.refusals import refused
from tests.strategies import few


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

    def of(self, dtype: torch.dtype) -> list[Tensor]:
        return [t for t in self.kept.values() if t.dtype is dtype]


def lif(**options: Any) -> NeuronLayer:
    return NeuronLayer(lnm.get("lif"), **{"backend": "torch", **options})


def over_frames(layer: nn.Module, x_seq: Tensor) -> Tensor:
    """Apply a layer to T*N frames."""
    out: Tensor = layer(x_seq.flatten(0, 1))
    return out.unflatten(0, x_seq.shape[:2])


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

    def forward(self, x_seq: Tensor) -> Tensor:
        spikes = self.first(x_seq)
        spikes = self.block(over_frames(self.conv, spikes), spikes)
        current = over_frames(self.strided, spikes) + over_frames(self.pool, spikes)
        out: Tensor = self.readout(self.last(4 * current).flatten(2))
        return out


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
    return [out.detach(), given.grad, *found]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    """Expect the same bits, and gradients that are not all 0."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert all(bool(e.any()) for e in expected[:2])


@pytest.mark.parametrize("path", ["c", "torch"])
@settings(few, max_examples=8)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5), st.integers(2, 7)),
    st.sampled_from((torch.float32, torch.float64, torch.bfloat16)),
    st.booleans(),
)
def test_gradients_are_bit_exact(
    path: str, shape: tuple[int, ...], dtype: torch.dtype, is_last: bool
) -> None:
    """With and without bits, in any layout and number of spikes, with and without a compiler."""
    steps, batch, channels, size = shape
    net = Net("torch", channels, dtype)
    x = torch.randn(steps, batch + 1, channels, size, size + 1).to(dtype) + 0.8
    if is_last:
        x = x.transpose(2, 4).contiguous().transpose(2, 4)
    net(x)
    with pytest.MonkeyPatch.context() as patch:
        if path == "torch":
            patch.setattr(packing, "load_bits", lambda: None)
        counter = Counter()
        found = gradients(net, x, counter.count(), pack_spikes())
        assert len(counter.of(torch.uint8)) == 3
    assert_same(found, gradients(net, x))


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        *(pytest.param(d, marks=pytest.mark.slow) for d in (torch.double, torch.bfloat16)),
    ],
)
@pytest.mark.parametrize("is_last", [pytest.param(False, marks=pytest.mark.slow), True])
def test_gradients_of_c_kernels(dtype: torch.dtype, is_last: bool) -> None:
    """The kernels' own inputs may be bits too: the shortcut of the block."""
    net = Net("c", dtype=dtype)
    x = torch.randn(17, 3, 3, 9, 7).to(dtype) + 0.8
    if is_last:
        x = x.transpose(2, 4).contiguous().transpose(2, 4)
    net(x)
    counter = Counter()
    found = gradients(net, x, counter.count(), pack_spikes())
    assert len(counter.of(torch.uint8)) == 3
    assert_same(found, gradients(net, x))


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "last step": lambda s: s[-1],
    "channel": lambda s: s[:, :, 1:2],
    "every second": lambda s: s[..., ::2],
    "transposed": lambda s: s.transpose(0, -1),
    "frames": lambda s: s.flatten(0, 1),
    "all": lambda s: s.reshape(-1),
    "expanded": lambda s: s[:, :1].expand(-1, 3, *s.shape[2:]),
    "diagonal": lambda s: s.diagonal(0, -1, -2),
    "detached": lambda s: s.detach(),
    "windows": lambda s: s.unfold(-1, 2, 1),
}


@few
@given(
    st.lists(st.sampled_from(sorted(VIEWS)), max_size=1),
    st.sampled_from(((3, 2, 2, 4, 4), (1, 1, 2, 3, 2), (4, 3, 5, 7, 9))),
)
def test_views_are_recognised(names: list[str], shape: tuple[int, ...]) -> None:
    """A view reads the same numbers after packing, whatever part of memory it covers."""
    torch.manual_seed(len(names))
    x = torch.rand(shape) * 3

    def forward(counter: Counter, context: Any) -> Tensor:
        weight = torch.ones((), requires_grad=True)
        with counter.count(), context:
            view = lif()(x)
            for name in names:
                view = VIEWS[name](view)
            out = view * weight  # saves the view alone
        (grad,) = torch.autograd.grad(out, weight, torch.arange(out.numel()).view(out.shape) + 1.0)
        return grad

    counter = Counter()
    assert torch.equal(forward(counter, pack_spikes()), forward(Counter(), nullcontext()))
    (bits,) = counter.of(torch.uint8)
    assert bits.numel() == -(-x.numel() // BLOCK) * LANES


def bytes_kept(body: Callable[[Tensor], Tensor], c: Tensor, context: Any) -> float:
    """Return the bytes that autograd keeps for each element of c, small storages apart."""
    counter = Counter()
    with counter.count(), context:
        out = body(c)
    assert out.requires_grad
    return counter.bytes(least=c.numel() // 8) / c.numel()


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)]
)
def test_bytes_kept(dtype: torch.dtype) -> None:
    """An element-step keeps 12 bytes, 8 with a block, 4.125 with bits, and 2.125 in 16 bits."""
    channels = 4
    norm, neuron = nn.BatchNorm2d(channels), lif(backend="c")
    block = NormNeuron(lnm.get("lif"), channels, backend="c")
    conv = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype)
    c = torch.randn(4, 2, channels, 32, 32, dtype=dtype).requires_grad_()

    def separate(c: Tensor) -> Tensor:
        return over_frames(conv, neuron(over_frames(norm, c)))

    def fused(c: Tensor) -> Tensor:
        return over_frames(conv, block(c))

    if dtype is torch.float32:
        assert bytes_kept(separate, c, nullcontext()) == 12
        assert bytes_kept(separate, c, pack_spikes()) == 8.125
        assert bytes_kept(fused, c, nullcontext()) == 8
    assert bytes_kept(fused, c, pack_spikes()) == dtype.itemsize + 0.125


@pytest.mark.slow
@pytest.mark.needs_cc
def test_consumers_share_bits() -> None:
    """Two convolutions, a linear layer and a shortcut keep one tensor of bits."""
    shape = (4, 2, 4, 16, 16)
    block = NormNeuron(lnm.get("lif"), 4, shortcut=True, backend="c")
    convs = [nn.Conv2d(4, 4, 1) for _ in range(2)]
    x, counter = torch.randn(shape).requires_grad_(), Counter()
    with counter.count(), pack_spikes():
        spikes = lif(backend="c")(x)
        out = sum(over_frames(conv, spikes).sum() for conv in convs)
        out = out + nn.Linear(16, 3)(spikes).sum() + block(torch.randn(shape), spikes).sum()
    (bits,) = counter.of(torch.uint8)
    assert bits.numel() * 8 == x.numel()
    assert not any(bool(torch.equal(t.reshape(-1), spikes.reshape(-1)))
                   for t in counter.of(torch.float32) if t.numel() == spikes.numel())  # fmt: skip
    out.backward()


def test_other_tensors_are_kept_whole() -> None:
    """Average pooling, sums and copies of spikes are not spikes."""
    weight = torch.ones((), requires_grad=True)
    for derive in (
        lambda s: nn.functional.avg_pool1d(s.flatten(0, 1), 2),
        lambda s: s + s,
        lambda s: s.clone(),
        lambda s: s.bfloat16(),
        lambda s: s.view(torch.int32),
    ):
        counter = Counter()
        with counter.count(), pack_spikes():
            _ = derive(lif()(torch.rand(4, 2, 8) * 3)) * weight
        assert not counter.of(torch.uint8)
        assert len(counter.kept) == 1


@pytest.mark.parametrize(
    ("case", "names"),
    [("lif", ("spike",)), ("dendrite", ()), ("ternary", ()), ("gate", None), ("li", ())],
)
def test_outputs_that_are_spikes(case: str, names: tuple[str, ...] | None) -> None:
    """Ternary, counted and graded outputs stay whole, and `explain` says so."""
    neuron = CASES[case]() if case in CASES else lnm.get(case)
    if names is not None:
        assert packable(neuron) == names
    if len(neuron.inputs) == 1 and not any(p.per != "layer" for p in neuron.params):
        found = NeuronLayer(neuron, backend="torch").explain(torch.empty(4, 2))
        assert [name for name, packed in found.bits.items() if packed] == list(packable(neuron))
        words = [f"{n} {'as bits' if p else 'whole'}" for n, p in found.bits.items()]
        assert f"  pack_spikes     keeps {', '.join(words)}" in str(found).splitlines()


def test_ternary_spikes_are_kept_whole() -> None:
    """Values -1, 0 and 1 train as without the context; records are no spikes either."""
    torch.manual_seed(0)
    x = torch.randn(6, 3, 5) * 3
    net = nn.Sequential(NeuronLayer(lnm.get("ternary"), backend="torch"), nn.Linear(5, 2))
    counter = Counter()
    found = gradients(net, x, counter.count(), pack_spikes())
    assert not counter.of(torch.uint8)
    assert_same(found, gradients(net, x))


def test_memory_that_is_used_again() -> None:
    """A tensor at the address of spikes that were freed is no spike."""
    layer, weight = lif(), torch.ones((), requires_grad=True)
    seen = False
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


@pytest.mark.needs_cc
def test_spikes_changed_before_a_layer() -> None:
    """They are kept whole, also where the change has no version (on the CPU)."""
    x, linear = torch.rand(4, 2, 8) * 3, nn.Linear(8, 3)

    def run(change: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
        def forward(given: Tensor) -> Tensor:
            spikes = lif(backend="c")(given)
            change(spikes)
            out: Tensor = linear(spikes)
            return out

        return forward

    for change in (
        lambda s: s.mul_(0.5), lambda s: s.data.mul_(0.5), lambda s: s[0].zero_(),
    ):  # fmt: skip
        expected, counter = gradients(linear, x, run=run(change)), Counter()
        assert_same(gradients(linear, x, counter.count(), pack_spikes(), run=run(change)), expected)
        assert not counter.of(torch.uint8)


@pytest.mark.needs_cc
def test_spikes_changed_after_a_layer() -> None:
    """Bits have the values that the layer read, where PyTorch alone refuses the backward."""
    x, linear = torch.rand(4, 2, 8) * 3, nn.Linear(8, 3)

    def forward(given: Tensor) -> Tensor:
        spikes = lif(backend="c")(given)
        out: Tensor = linear(spikes)
        spikes.detach().mul_(0.5)
        return out

    expected = gradients(linear, x, run=lambda given: linear(lif(backend="c")(given)))
    assert_same(gradients(linear, x, pack_spikes(), run=forward), expected)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(linear, x, run=forward)


@pytest.mark.needs_cc
def test_spikes_changed_between_layers() -> None:
    """Each layer has the values that it read; the second does not share the bits of the first."""
    net = nn.ModuleList([nn.Linear(8, 3), nn.Linear(8, 3)])
    x, counter = torch.rand(4, 2, 8) * 3, Counter()

    def changed(given: Tensor) -> Tensor:
        spikes = lif(backend="c")(given)
        out: Tensor = net[0](spikes)
        spikes.neg_().add_(1)
        return out + net[1](spikes)

    def apart(given: Tensor) -> Tensor:
        spikes = lif(backend="c")(given)
        out: Tensor = net[0](spikes) + net[1](1 - spikes)
        return out

    found = gradients(net, x, counter.count(), pack_spikes(), run=changed)
    assert len(counter.of(torch.uint8)) == 1
    assert_same(found, gradients(net, x, run=apart))


def test_other_tensors_that_change() -> None:
    """A changed tensor that was kept whole is refused, as PyTorch does without hooks."""
    x, linear = torch.rand(4, 8, requires_grad=True), nn.Linear(8, 3)
    with pack_spikes():
        current = x * 2
        out = linear(current)
    current.detach().mul_(2)
    problem = "shape (4, 8) that the backward needs was changed in place: it has version 1"
    with refused(UnsupportedError, "pack_spikes", problem, remedy="Change a clone of it."):
        out.sum().backward()
    assert issubclass(UnsupportedError, RuntimeError)


def test_changes_in_place_that_pytorch_allows() -> None:
    """Operators save results after a change, and a second call updates running statistics."""
    norm = nn.BatchNorm1d(8)
    net = nn.Sequential(
        lif(), nn.Flatten(0, 1), nn.Linear(8, 8), norm, nn.ReLU(inplace=True), norm,
        nn.Sigmoid(), nn.Linear(8, 3), nn.Hardtanh(inplace=True),
    )  # fmt: skip
    x = torch.rand(4, 2, 8) * 3
    assert_same(gradients(net, x, pack_spikes()), gradients(net, x))


def test_every_forward_of_a_model() -> None:
    """`pack_spikes(model)` packs as the context does, also in a copy, and ends with an error."""
    net, x = Net("torch"), torch.randn(3, 2, 3, 5, 5) + 0.8
    net(x)
    expected = gradients(net, x)
    model = pack_spikes(copy.deepcopy(net))
    assert pack_spikes(model) is model  # the second call adds nothing
    for one in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        counter = Counter()
        assert_same(gradients(one, x, counter.count()), expected)
        assert len(counter.of(torch.uint8)) == 3
        with pytest.raises(RuntimeError):
            one(torch.ones(1, 1, 1, 1, 1))
        assert saved._THREAD.depth == 0
        assert not saved._THREAD.contexts
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
        out: Tensor = self.readout(self.neurons(x))
        return out


def test_a_hook_that_raises_leaves_the_outer_context_open() -> None:
    """A pre-hook before that of `pack_spikes`: the context of the outer model goes on."""

    def refuse(*_: Any) -> None:
        raise ValueError("refused")

    model = pack_spikes(Guarded())
    pack_spikes(model.part).register_forward_pre_hook(refuse, prepend=True)
    counter = Counter()
    gradients(model, torch.rand(4, 2, 8), counter.count())
    assert len(counter.of(torch.uint8)) == 1
    assert saved._THREAD.depth == 0
    assert not saved._THREAD.contexts


def test_the_context_ends_with_an_error() -> None:
    """An exception in the forward leaves no hooks behind."""
    with pytest.raises(KeyboardInterrupt), pack_spikes():
        raise KeyboardInterrupt
    spikes = lif()(torch.rand(4, 2, 8))
    assert not hasattr(spikes.untyped_storage(), "_lnm_spikes")
    current = torch.rand(4, 8, requires_grad=True) * 2
    out = nn.Linear(8, 3)(current)
    current.detach().mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_double_backward() -> None:
    """The gradient of a gradient reaches what the spikes depend on (backend "torch")."""
    net = nn.Sequential(lif(), nn.Linear(8, 5), nn.Tanh(), lif(), nn.Linear(5, 3))
    x = torch.randn(4, 2, 8) * 2

    def second(context: Any) -> list[Tensor]:
        given = x.clone().requires_grad_()
        with context:
            out = net(given).tanh().sum()
        params = [given, *net.parameters()]
        first = torch.autograd.grad(out, params, create_graph=True)
        norm = sum(g.square().sum() for g in first)
        return list(torch.autograd.grad(norm, params))  # type: ignore[arg-type]

    assert_same(second(pack_spikes()), second(nullcontext()))


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


def test_without_gradients() -> None:
    """Nothing is marked or kept."""
    for mode in (torch.no_grad(), torch.inference_mode()):
        with pack_spikes(), mode:
            spikes = lif()(torch.rand(4, 2, 8))
        assert not hasattr(spikes.untyped_storage(), "_lnm_spikes")
    assert not hasattr(lif()(torch.rand(4, 2, 8)).untyped_storage(), "_lnm_spikes")


def test_single_steps() -> None:
    """Each step has spikes of its own."""
    layer, linear = lif(step_mode="s"), nn.Linear(8, 3)
    x = torch.rand(5, 2, 8) * 3

    def run(given: Tensor) -> Tensor:
        layer.reset()
        return torch.stack([linear(layer(step)) for step in given])

    counter = Counter()
    found = gradients(linear, x, counter.count(), pack_spikes(), run=run)
    assert len(counter.of(torch.uint8)) == 5
    assert_same(found, gradients(linear, x, run=run))


def test_integer_arithmetic() -> None:
    """Spikes that a layer computes in integers are bits too."""
    net = nn.Sequential(lif(arithmetic=lnm.Fixed(16, 12)), nn.Linear(8, 3))
    x, counter = torch.rand(4, 2, 8) * 3, Counter()
    found = gradients(net, x, counter.count(), pack_spikes())
    assert len(counter.of(torch.uint8)) == 1
    assert_same(found, gradients(net, x))


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


@pytest.mark.parametrize("is_inside", [False, True])
def test_checkpointing(is_inside: bool) -> None:
    """Checkpointed parts keep their input and run again, around the context and within it."""
    net = nn.Sequential(nn.Linear(8, 8), lif(), nn.Linear(8, 8), lif(), nn.Linear(8, 3))
    x, calls = torch.rand(4, 2, 8) * 3, []
    expected = gradients(net, x)
    net[3].register_forward_hook(lambda *_: calls.append(1))

    def packed(given: Tensor) -> Tensor:
        with pack_spikes():
            out: Tensor = net(given)
        return out

    inner = packed if is_inside else net
    context: Any = nullcontext() if is_inside else pack_spikes()
    counter = Counter()
    found = gradients(
        net, x, counter.count(), context,
        run=lambda given: checkpoint(inner, given, use_reentrant=False),
    )  # fmt: skip
    assert_same(found, expected)
    assert counter.bytes() == 4 * x.numel()
    assert len(calls) == 2


def test_hooks_around_the_context() -> None:
    """`save_on_cpu` receives bits. The bits may return in another layout."""
    net, x = nn.Sequential(lif(), nn.Linear(8, 3)), torch.rand(4, 2, 8) * 3
    expected = gradients(net, x)
    assert_same(gradients(net, x, save_on_cpu(), pack_spikes()), expected)
    assert_same(gradients(net, x, pack_spikes(), pack_spikes()), expected)
    apart = saved_tensors_hooks(lambda t: torch.stack([t, t], -1)[..., 0], lambda t: t)
    assert_same(gradients(net, x, apart, pack_spikes()), expected)


def test_threads() -> None:
    """A decorated forward packs in every thread, as those of DataParallel; others do not."""

    class Packed(Net):
        forward = pack_spikes()(Net.forward)

    x = torch.randn(4, 3, 3, 6, 6) + 0.8
    net, plain = Packed("torch"), Net("torch")
    net(x), plain(x)
    plain.load_state_dict(net.state_dict())
    expected, counts, found = gradients(plain, x), [], []

    def work(net: nn.Module) -> None:
        counter = Counter()
        with counter.count():
            out = net(x)
        (grad,) = torch.autograd.grad(out.square().sum(), [net.readout.weight])  # type: ignore[list-item, union-attr]
        counts.append(len(counter.of(torch.uint8)))
        found.append(grad)

    with pack_spikes():
        for one in (net, net, plain):
            thread = threading.Thread(target=work, args=(one,))
            thread.start()
            thread.join()
    assert counts == [3, 3, 0]
    assert all(torch.equal(grad, expected[-2]) for grad in found)


def test_autocast() -> None:
    """Spikes of 16 bits are bits of 16-bit numbers; a copy cast by autocast is kept whole."""
    conv = nn.Conv2d(3, 3, 3, padding=1)
    net = nn.Sequential(conv, nn.Unflatten(0, (4, 2)), lif(), nn.Flatten(0, 1), nn.Conv2d(3, 2, 3))
    x, counter = torch.randn(8, 3, 6, 6) * 3, Counter()
    autocast = torch.autocast("cpu", torch.bfloat16)
    found = gradients(net, x, autocast, counter.count(), pack_spikes())
    assert len(counter.of(torch.uint8)) == 1
    assert_same(found, gradients(net, x, autocast))
    counter, linear = Counter(), nn.Linear(6, 2)
    run = nn.Sequential(lif(), linear)
    found = gradients(run, x, autocast, counter.count(), pack_spikes())
    assert not counter.of(torch.uint8)
    assert_same(found, gradients(run, x, autocast))


def test_torch_func() -> None:
    """Inside a transform the context does nothing."""
    net = nn.Sequential(lif(), nn.Linear(8, 3))
    x = torch.rand(4, 2, 8) * 3

    def loss(x: Tensor) -> Tensor:
        with pack_spikes():
            out: Tensor = net(x)
        return out.square().sum()

    given = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net(given).square().sum(), given)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
