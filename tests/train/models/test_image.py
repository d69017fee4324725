"""Nets for images and event frames: published sizes, wiring, tdBN, backends, options."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cosine_similarity
from torch.utils._python_dispatch import TorchDispatchMode

import lnm_codegen as lnm
from lnm_codegen.nn import NormNeuron
from lnm_codegen.nn.norm.deferred import DeferredNorm
from lnm_codegen.train.models import Network, build, parameter_groups
from lnm_codegen.train.models.base import over_steps
from lnm_codegen.train.models.convolutional import (
    CONNECT,
    Builder,
    ConvNet,
    ConvNorm,
    MsBlock,
    SewBlock,
    TdBlock,
    threshold_of,
)
from lnm_codegen.train.models.transformer import Attention, Mlp
from tests.refusals import assert_refused

T, N, C = 3, 2, 5
IMAGE = (1, 8, 8)
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "conv": ("conv", {"channels": (3, 4)}),
    "vgg11": ("vgg11", {"width": 2}),
    "vggsnn": ("vggsnn", {"width": 2}),
    "resnet19": ("resnet19", {"width": 4}),
    "resnet20": ("resnet20", {"width": 2}),
    "resnet20 ms": ("resnet20", {"width": 2, "shortcut": "ms"}),
    "resnet18 sew": ("resnet18", {"width": 2, "shortcut": "sew", "stem": "imagenet"}),
    "transformer": ("transformer", {"width": 8, "depth": 1, "expansion": 2}),
}
QUICK = ("conv", "resnet20")
SOME = [pytest.param(w, marks=() if w in QUICK else pytest.mark.slow) for w in SMALL]


class Copies(TorchDispatchMode):
    """Count copies of frames that change their layout alone."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        out = function(*args, **(kwargs or {}))
        name = function.name()
        if any(word in name for word in ("copy", "clone", "contiguous")):
            given = args[1] if name.startswith("aten::copy_") else args[0]
            if given.dim() >= 4 and given.shape[-1] > 1 and given.dtype is out.dtype:
                self.found.append(tuple(given.shape))
        return out


@pytest.mark.needs_cc
@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_channels_last_copies_no_frames(name: str, fused: bool, precision: torch.dtype) -> None:
    """A step copies none, except for the gradient of ResNet's mean over pixels at its end."""
    network = build(
        name, lnm.get("lif"), (3, 32, 32), C, kind="image", backend="c", width=4, time_steps=T,
        fused=fused,
    )  # fmt: skip
    network.to(memory_format=torch.channels_last)
    for context in (nullcontext, lnm.nn.pack_spikes):
        with Copies() as copies, torch.autocast("cpu", precision, precision != torch.float32):
            with context():
                out = network(torch.randn(N, 3, 32, 32))
            out.float().sum().backward()
        assert copies.found == ([(T, N, 32, 4, 4)] if name == "resnet18" else [])


def net(which: str, backend: str = "torch", family: str = "lif", **more: Any) -> Network:
    """Return a small net, its weights the same at each call, that fires in every layer."""
    name, options = SMALL[which]
    kind = more.pop("kind", "image")
    size = 32 if name == "vgg11" else 16
    sample = (3, size, size) if kind == "image" else (T, 3, size, size)
    if kind == "image":
        more["time_steps"] = T
    torch.manual_seed(0)
    arguments = {"degree": 2, "per": "channel", "v_min": -2.0} if family == "lnm" else {}
    neuron = lnm.get(family, **arguments)
    network = build(name, neuron, sample, C, kind=kind, backend=backend, **options, **more)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | DeferredNorm):
            nn.init.constant_(module.weight, 2.0)
            nn.init.uniform_(module.bias, -0.5, 1.0)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 2.0)
    return network


def frames(which: str, *leading: int, seed: int = 1) -> Tensor:
    size = 32 if SMALL[which][0] == "vgg11" else 16
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*leading, 3, size, size, generator=generator)


def gradients(network: Network, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    logits = network(x)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
    (logits * weights).sum().backward()
    found = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert len(found) == len(list(network.parameters()))
    return logits.detach(), found


@pytest.mark.parametrize(
    ("name", "sample", "classes", "options", "count"),
    [
        ("resnet18", (3, 32, 32), 10, {}, 11_173_962),
        ("resnet18", (3, 224, 224), 1000, {"stem": "imagenet"}, 11_689_512),
        ("resnet34", (3, 224, 224), 1000, {"stem": "imagenet", "shortcut": "sew"}, 21_797_672),
        ("resnet20", (3, 32, 32), 10, {"shortcut": "ms"}, 272_474),
        ("vgg11", (3, 32, 32), 10, {}, 9_228_362),
        ("vggsnn", (2, 48, 48), 10, {}, 9_268_746),
    ],
)
def test_parameters_of_published_nets(
    name: str, sample: tuple[int, ...], classes: int, options: dict[str, Any], count: int
) -> None:
    """Those of the nets without spikes: a neuron layer's place has no weights.

    ResNet-18 and 34 are torchvision's with the 7x7 stem and 11.17 M with the 3x3; VGG-11 has one
    linear layer after its convolutions, which have no bias (9.23 M); VGGSNN is 9.27 M.
    """
    with torch.device("meta"):
        network = build(
            name, lnm.get("lif"), sample, classes, kind="image", backend="torch", **options
        )
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.slow
def test_neurons_of_resnet19() -> None:
    """The net of the tdBN paper has 1,442,048 neurons on CIFAR."""
    network = build("resnet19", lnm.get("lif"), (3, 32, 32), 10, kind="image", time_steps=1)
    seen: list[int] = []
    for layer in network.neurons:
        layer.register_forward_pre_hook(lambda module, given: seen.append(given[0].numel()))
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert (len(seen), sum(seen)) == (18, 1_442_048)


@pytest.mark.parametrize("which", list(SMALL))
def test_images_and_event_frames(which: str) -> None:
    """An image is the sequence of its copies, in logits and gradients, of every parameter.

    The first convolution runs once. The output is the mean of those of each step.
    """
    network, twin = (net(which, family="lnm", per_step=True, kind=k) for k in ("image", "sequence"))
    assert all(isinstance(layer, lnm.nn.NeuronLayer) for layer in network.neurons)
    images = frames(which, N)
    copies = images.repeat(T, 1, 1, 1, 1)
    found, expected = gradients(network, images), gradients(twin, copies)
    assert found[0].shape == (T, N, C)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert [n for n, g in found[1].items() if not g.abs().max() > 1e-9] == []
    for kind, x in (("image", images), ("sequence", copies)):
        once = net(which, family="lnm", kind=kind)
        torch.testing.assert_close(once(x), found[0].mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.needs_cc
@pytest.mark.parametrize(
    "which", [pytest.param(w, marks=() if w == "conv" else pytest.mark.slow) for w in SMALL]
)
def test_backends_agree(which: str) -> None:
    """Where no potential is within rounding of the threshold: spikes, then all gradients."""
    x = frames(which, N)
    found, expected = (
        gradients(net(which, backend, per_step=True), x) for backend in ("c", "torch")
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "which", [pytest.param(w, marks=() if w == "conv" else pytest.mark.slow) for w in SMALL]
)
@pytest.mark.parametrize(
    "backend", ["torch", pytest.param("c", marks=[pytest.mark.needs_cc, pytest.mark.slow])]
)
def test_autocast(which: str, backend: str) -> None:
    """Under bfloat16 autocast logits are bfloat16, and gradients float32 near those without it."""
    network, plain = net(which, backend), net(which, backend)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(frames(which, N))
    assert logits.dtype is torch.bfloat16
    logits.float().square().sum().backward()
    plain(frames(which, N)).square().sum().backward()
    found, expected = (
        {n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (network, plain)
    )
    assert found.keys() == expected.keys()
    for n, grad in found.items():
        assert grad.dtype is torch.float32, n
        assert grad.isfinite().all(), n
        assert grad.any(), n
        if which == "conv":  # rounding flips spikes, and in a deep net all that follow
            assert cosine_similarity(grad.flatten(), expected[n].flatten(), 0) > 0.9, n


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize("which", ["conv", "transformer"])
def test_compiled_whole(which: str) -> None:
    """One graph, with the same logits."""
    network = net(which, "c").eval()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    x = frames(which, N)
    torch.testing.assert_close(compiled(x), network(x))


def test_tdbn_is_batch_norm_over_time_too() -> None:
    """alpha * V * (x - mean) / sqrt(var + eps), mean and var over T, N, H and W."""
    torch.manual_seed(0)
    unit = ConvNorm(2, 4, scale=0.7)
    x_seq = torch.randn(T, N, 2, 6, 5)
    current = torch.stack([conv2d(x, unit.conv.weight, padding=1) for x in x_seq])
    mean = current.mean((0, 1, 3, 4), keepdim=True)
    var = current.var((0, 1, 3, 4), correction=0, keepdim=True)
    expected = 0.7 * (current - mean) / (var + 1e-5).sqrt()
    torch.testing.assert_close(unit(x_seq), expected, rtol=1e-4, atol=1e-5)
    once = unit(x_seq[0].expand(T, N, 2, 6, 5))
    torch.testing.assert_close(once, unit(x_seq[:1].repeat(T, 1, 1, 1, 1)))


def test_threshold_of_any_family() -> None:
    """Thresholds that are constant, learned, behind a sigmoid, adaptive, drawn at random."""
    cases = {
        lnm.get("lif", v_threshold=0.7): 0.7,
        lnm.get("cuba_lif"): 0.5,
        lnm.get("glif", per="channel"): 0.5,
        lnm.get("alif", form="lsnn"): 1.0,
        lnm.get("alif", tau_m=lambda generator, shape: 20 + torch.rand(shape)): 0.01,
        lnm.get("ternary", v_threshold=0.3): 0.3,
        lnm.get("li"): 1.0,
    }
    for neuron, threshold in cases.items():
        state = torch.get_rng_state()
        assert threshold_of(neuron) == pytest.approx(threshold)
        assert torch.equal(torch.get_rng_state(), state)


def test_scales_at_the_start() -> None:
    """alpha is 1, 1/sqrt(2) where two branches are added, 0 at the end of an "ms" branch."""
    neuron = lnm.get("lif", v_threshold=0.5)
    arguments: Any = (Builder(neuron, "torch"), (3, 8, 8), 4, 2)
    half = 0.5 / math.sqrt(2)
    expected: dict[Any, tuple[float, float, float]] = {
        TdBlock(*arguments): (0.5, half, half),
        MsBlock(*arguments): (0.5, 0.0, 0.5),
        SewBlock(*arguments, "add"): (0.5, 0.5, 0.5),
    }
    for block, scales in expected.items():
        weights = (block.first.norm.weight, block.second.norm.weight, block.short.norm.weight)
        for weight, scale in zip(weights, scales, strict=True):
            torch.testing.assert_close(weight, torch.full_like(weight, scale))


class Written:
    """Functions that a block is written with by hand: F, S and N from the block's own tensors."""

    def __init__(self, block: Any) -> None:
        self.block = block.eval()

    def conv(self, unit: ConvNorm, x_seq: Tensor, stride: int) -> Tensor:
        """Convolution and batch norm in evaluation, step after step."""
        norm, size = unit.norm, unit.conv.kernel_size[0]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        shift = norm.bias - norm.running_mean * scale
        weight = unit.conv.weight * scale[:, None, None, None]
        return torch.stack([conv2d(x, weight, shift, stride, size // 2) for x in x_seq])

    @staticmethod
    def fire(x_seq: Tensor) -> Tensor:
        """An IF neuron: threshold 1, hard reset to 0."""
        v, spikes = torch.zeros_like(x_seq[0]), []
        for x in x_seq:
            v = v + x
            spikes.append((v >= 1).to(x.dtype))
            v = v * (1 - spikes[-1])
        return torch.stack(spikes)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["tdbn", "ms", *CONNECT])
def test_blocks_are_wired_as_in_their_papers(kind: str, stride: int) -> None:
    torch.manual_seed(1)
    arguments: Any = (Builder(lnm.get("if"), "torch"), (4, 6, 6), 4 * stride, stride)
    kinds: dict[str, Any] = {"tdbn": TdBlock, "ms": MsBlock}
    block = kinds[kind](*arguments) if kind in kinds else SewBlock(*arguments, kind)
    assert block.after == (4 * stride, 6 // stride, 6 // stride)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 2.0, 4.0)
            nn.init.uniform_(module.bias, 0.0, 1.0)
    by = Written(block)
    x = torch.randn(T, N, 4, 6, 6) if kind == "ms" else (torch.rand(T, N, 4, 6, 6) < 0.4).float()
    short = by.conv(block.short, x, stride) if stride == 2 else x
    if kind == "ms":
        second = by.conv(block.first, by.fire(x), stride)
        expected = by.conv(block.second, by.fire(second), 1) + short
    else:
        branch = by.conv(block.second, by.fire(by.conv(block.first, x, stride)), 1)
        if kind == "tdbn":
            expected = by.fire(branch + short)
        else:
            a, s = by.fire(branch), by.fire(short) if stride == 2 else x
            expected = {"add": a + s, "and": a * s, "iand": (1 - a) * s}[kind]
    assert 0.05 < expected.abs().clamp(max=1).mean() < 0.95
    torch.testing.assert_close(block(x), expected)


def test_attention_and_mlp_written_by_hand() -> None:
    """q is masked by the channels where k and v spike together often enough; currents are added."""
    torch.manual_seed(2)
    build_layers, shape = Builder(lnm.get("if"), "torch"), (4, 3, 3)
    attention, mlp = Attention(build_layers, shape), Mlp(build_layers, shape, 2)
    for module in (*attention.modules(), *mlp.modules()):
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 2.0, 4.0)
            nn.init.uniform_(module.bias, 0.0, 1.0)
    by, u = Written(attention), torch.randn(T, N, *shape)
    s = by.fire(u)
    q, k, v = (by.fire(by.conv(w, s, 1)) for w in (attention.q, attention.k, attention.v))
    together = torch.zeros(T, N, 4)
    for row in range(3):
        for column in range(3):
            together += k[..., row, column] * v[..., row, column]
    mask = by.fire(together)
    assert 0 < mask.mean() < 1
    expected = u + by.conv(attention.out, q * mask[..., None, None], 1)
    torch.testing.assert_close(attention(u), expected, rtol=1e-4, atol=1e-5)
    by = Written(mlp)
    inner = by.fire(by.conv(mlp.first, by.fire(u), 1))
    torch.testing.assert_close(mlp(u), u + by.conv(mlp.second, inner, 1), rtol=1e-4, atol=1e-5)


def test_over_steps_runs_modules_without_memory() -> None:
    x_seq = torch.randn(T, N, 3)
    linear = nn.Linear(3, 4)
    torch.testing.assert_close(over_steps(linear, x_seq), linear(x_seq))
    shown = x_seq[:1].expand(T, N, 3)
    assert over_steps(linear, shown).stride(0) == 0


@pytest.mark.parametrize("which", SOME)
def test_fused_networks_are_those_of_separate_modules(which: str) -> None:
    """In float64: logits, gradients, parameters at the start, and keys; also in evaluation."""
    fused, plain = (net(which, kind="sequence", fused=f).double() for f in (True, False))
    assert any(isinstance(layer, NormNeuron) for layer in fused.neurons)
    assert not any(isinstance(layer, NormNeuron) for layer in plain.neurons)
    assert list(fused.state_dict()) == list(plain.state_dict())
    names = [[n for n, _ in network.named_parameters()] for network in (fused, plain)]
    assert names[0] == names[1]
    x = frames(which, T, N).double()
    found, expected = gradients(fused, x), gradients(plain, x)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(dict(fused.state_dict()), dict(plain.state_dict()))
    torch.testing.assert_close(fused.eval()(x), plain.eval()(x))
    if which == "resnet20":
        assert all(block.neuron_2.shortcut for block in fused.blocks)  # type: ignore[union-attr]


def test_names_in_the_state_dict() -> None:
    """A trained network is read by these names."""
    unit = [f"weights.{n}" for n in ("conv.weight", "norm.weight", "norm.bias")]
    names = [n for n in net("vgg11").state_dict() if "norm.running" not in n]
    assert [n for n in names if n.startswith(("layers.2.", "readout."))] == [
        *(f"layers.2.{n}" for n in (*unit, "weights.norm.num_batches_tracked", "neuron.tau",
                                    "neuron.v_threshold")),
        "readout.weight", "readout.bias",
    ]  # fmt: skip
    names = list(net("resnet19").state_dict())
    assert [n for n in names if n.startswith("blocks.3.") and n.endswith("weight")] == [
        f"blocks.3.{unit}.{part}.weight"
        for unit in ("first", "second", "short")
        for part in ("conv", "norm")
    ]
    assert {n.split(".")[0] for n in names} == {
        "stem", "stem_neuron", "blocks", "hidden", "hidden_neuron", "readout",
    }  # fmt: skip
    assert {n.split(".")[0] for n in net("transformer").state_dict()} == {
        "patches", "blocks", "last_neuron", "readout",
    }  # fmt: skip


REFUSALS = """
resnet18
    build("resnet18", shortcut="plain") >> shortcut is 'plain' >> 'tdbn', 'ms', 'sew'
    build("resnet18", connect="or") >> connect is 'or' >> 'add', 'and', 'iand'
resnet20
    build("resnet20", stem="small") >> stem is 'small' >> 'cifar', 'imagenet'
resnet34
    build("resnet34", width=0) >> width is 0 >> an integer >= 1
vgg11
    build("vgg11", depth=3) >> no option 'depth' >> width, pool, time_steps >> 'width'?
    build("vgg11") >> 5 poolings of an image of 16x16 pixels >> 32x32 or more
vggsnn
    build("vggsnn", pool="sum") >> pool is 'sum' >> 'max', 'avg'
    build("vggsnn", pool="") >> pool is '' >> 'max', 'avg'
transformer
    build("transformer", halvings=5) >> halvings is 5 >> an integer from 0 to 4
conv
    build("conv", time_steps=0) >> time_steps is 0 >> an integer >= 1
    build("conv", channels=()) >> channels is () >> one or more integers >= 1
    build("conv", channels=(2,) * 5) >> 5 blocks each halve an image of 16x16
        >> at most 4 channels
"""


def test_options_that_are_refused() -> None:
    def made(name: str, **options: Any) -> Network:
        return build(name, lnm.get("lif"), (3, 16, 16), C, kind="image", **options)

    assert_refused(REFUSALS, {"build": made})


def firing(network: ConvNet) -> ConvNet:
    """Return a network in evaluation whose layers fire; with its first weights none did."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | DeferredNorm):
            nn.init.constant_(module.weight, 4.0)
            nn.init.constant_(module.bias, 1.0)
    return network.eval()


def test_logits_and_parameter_shapes() -> None:
    rows = {"layer": ((), ()), "channel": ((3,), (5,)), "neuron": ((3, 8, 8), (5, 4, 4))}
    for per, shapes in rows.items():
        neuron = lnm.get("lnm", degree=2, per=per, v_min=-2.0)
        network = ConvNet(neuron, 10, IMAGE, (3, 5), backend="torch")
        assert network(torch.randn(6, *IMAGE)).shape == (6, 10)
        assert [layer.theta.shape for layer in network.neurons] == [(*r, 3) for r in shapes]
        weights, learned = parameter_groups(network)
        assert all(p is n.theta for p, n in zip(learned, network.neurons, strict=True))
        assert len(weights) + len(learned) == len(list(network.parameters()))


def test_first_convolution_runs_once_and_means_the_same() -> None:
    """An image shown T times costs one convolution, and equals T copies of it in evaluation."""
    network = firing(ConvNet(lnm.get("lif"), 10, IMAGE, (3, 5), time_steps=4, backend="torch"))
    batches = []
    network.blocks[0].conv.register_forward_hook(lambda m, i, o: batches.append(len(i[0])))
    images = torch.randn(6, *IMAGE)
    expanded = network.blocks(images.expand(4, *images.shape))
    copied = network.blocks(images.expand(4, *images.shape).contiguous())
    assert batches == [6, 24]
    assert torch.equal(expanded, copied)
    assert 0.02 < float(copied.detach().ne(0).float().mean()) < 0.98


def test_event_frames_and_outputs_at_each_step() -> None:
    """The mean of the outputs at each step is the output; frames run as they are."""
    once, each, frames = (
        firing(ConvNet(lnm.get("lif"), 10, IMAGE, (3, 5), steps, "torch", per_step))
        for steps, per_step in ((4, False), (4, True), (None, True))
    )
    for network in (each, frames):
        network.load_state_dict(once.state_dict())
    images = torch.randn(6, *IMAGE)
    logits = each(images)
    assert logits.shape == (4, 6, 10)
    assert float((logits[1:] - logits[:1]).detach().abs().max()) > 0.01
    torch.testing.assert_close(logits.mean(0), once(images))
    torch.testing.assert_close(frames(images.repeat(4, 1, 1, 1, 1)), logits)
