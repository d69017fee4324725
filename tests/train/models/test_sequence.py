"""Feed-forward and recurrent nets for sequences: wiring, gradients, backends, options."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

import lnm_codegen as lnm
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn import NormNeuron, fuse
from lnm_codegen.nn.chain import mean_over_time
from lnm_codegen.train.models import MODELS, Network, build
from tests.refusals import assert_refused, refused

T, N, F, C = 7, 4, 3, 5
BACKENDS = pytest.mark.parametrize(
    "backend", ["torch", pytest.param("c", marks=pytest.mark.needs_cc)]
)
FEEDBACK = pytest.mark.parametrize("feedback", ["layer", "down"])
FAMILIES = {
    "lnm": {"degree": 2, "per": "channel", "v_min": -2.0},
    "plif": {"per": "neuron", "v_reset": None},
    "ternary": {},
    "cuba_lif": {"learnable": True},
    "izhikevich": {},
    "alif": {},
    "glif": {"per": "channel"},
}


def learned_start() -> lnm.Neuron:
    """Initial states that are learned, one of a parameter that the step reads."""
    rest, start = lnm.param("rest", init=0.25, per="neuron"), lnm.param("start", init=-0.125)
    v, w, x = lnm.state("v", init=rest), lnm.state("w", init=start), lnm.input("x")
    return lnm.Neuron(
        charge={v: v + (x - v) / 2 - w / 4, w: w * 0.75 + v / 8},
        fire=v - 1,
        reset=lnm.hard_reset(v, rest),
        name="learned_start",
    )


def neuron_of(name: str) -> lnm.Neuron:
    return learned_start() if name == "learned_start" else lnm.get(name, **FAMILIES[name])


def net(name: str = "recurrent", neuron: Any = None, backend: str = "torch", **options: Any) -> Any:
    """Return a double-precision net of two layers whose weights depend on the options alone."""
    torch.manual_seed(0)
    neuron = lnm.get("lif") if neuron is None else neuron
    given: dict[str, Any] = {"hidden": (8, 6), "gain": 4.0, **options}
    return build(name, neuron, (T, F), C, kind="sequence", backend=backend, **given).double()


def inputs(*shape: int, seed: int = 1) -> Tensor:
    shape = shape or (T, N, F)
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def gradients(network: Network, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logits and the gradients of a loss that weighs each logit differently."""
    logits = network(x)
    network.zero_grad()
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
    (logits * weights).sum().backward()
    found = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert len(found) == len(list(network.parameters()))
    return logits.detach(), found


def test_shapes_and_reductions_over_time() -> None:
    """Outputs at each step, reduced over time, are those of the net with one output."""
    for name, readout in itertools.product(("feedforward", "recurrent"), ("li", "linear")):
        steps = net(name, readout=readout, per_step=True)(inputs())
        assert steps.shape == (T, N, C)
        for over, want in (("mean", steps.mean(0)), ("last", steps[-1]), ("max", steps.amax(0))):
            logits = net(name, readout=readout, over=over)(inputs())
            assert logits.shape == (N, C)
            torch.testing.assert_close(logits, want)


def test_li_readout_is_a_leaky_integrator() -> None:
    """v[t] = v[t-1] + (W s[t] + b - v[t-1]) / tau, apart from the neurons."""
    network = net("feedforward", per_step=True, readout_tau=4.0)
    spikes, v = network.hidden(inputs()), torch.zeros(N, C)
    expected = []
    for s in spikes:
        v = v + (network.readout.linear(s) - v) / 4.0
        expected.append(v)
    torch.testing.assert_close(network(inputs()), torch.stack(expected))
    assert [layer.neuron.name for layer in network.neurons] == ["lif", "lif"]


def test_gradient_reaches_every_parameter() -> None:
    for name, options in (
        ("feedforward", {"norm": "batch"}),
        ("recurrent", {"norm": "layer"}),
        ("recurrent", {"feedback": "down", "hidden": (8, 6, 5)}),
    ):
        _, found = gradients(net(name, neuron_of("lnm"), **options), inputs())
        # A bias before batch normalisation has no effect: its gradient is rounding.
        small = [n for n, g in found.items() if g.abs().max() < 1e-9]
        is_batch = options.get("norm") == "batch"
        assert all(n.endswith("linear.bias") and is_batch for n in small)


class Fire(torch.autograd.Function):
    """The spike of lif, with the slope of atan(alpha=2)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return grad / (1 + (torch.pi * z) ** 2)


@pytest.mark.needs_cc
@FEEDBACK
def test_recurrent_net_is_the_loop_written_by_hand(feedback: str) -> None:
    """LIF, tau = 2, hard reset: spikes of t-1 of the same layer, or of the one above, come back."""
    hidden = (8, 6, 5)
    network = net(backend="c", feedback=feedback, hidden=hidden, readout="linear", per_step=True)
    twin = net(backend="c", feedback=feedback, hidden=hidden, readout="linear", per_step=True)
    fire = Fire.apply
    v, s = ([torch.zeros(N, width).double() for width in hidden] for _ in range(2))
    logits = []
    for x in inputs():
        before = s
        s = []
        for k, layer in enumerate(twin.layers):
            current = layer.linear(s[k - 1] if k else x)
            if feedback == "layer":
                current = current + before[k] @ twin.recurrent[k].weight.T
            elif k + 1 < len(hidden):
                current = current + before[k + 1] @ twin.recurrent[k].weight.T
            h = v[k] + (current - v[k]) / 2
            s.append(fire(h - 1))
            v[k] = h * (1 - s[k])
        logits.append(twin.readout.linear(s[-1]))
    twin.forward = lambda _: torch.stack(logits)  # type: ignore[method-assign]
    found, expected = gradients(network, inputs()), gradients(twin, inputs())
    assert 0.05 < s[-1].mean() < 0.95
    torch.testing.assert_close(found, expected)


def test_any_family() -> None:
    """Neurons of several states, of signed spikes, with parameters per neuron."""
    for family in (*FAMILIES, "learned_start"):
        logits, found = gradients(net(neuron=neuron_of(family)), inputs())
        assert logits.isfinite().all()
        assert all(g.isfinite().all() for g in found.values())


@pytest.mark.needs_cc
@pytest.mark.slow
@FEEDBACK
@pytest.mark.parametrize(
    ("family", "limit"),
    [("alif", None), ("plif", None), ("learned_start", None), ("learned_start", 0.01)],
)
def test_backends_agree(family: str, limit: float | None, feedback: str) -> None:
    """The function on the C kernels, and autograd through the layers."""
    x, options = inputs(), {"feedback": feedback, "readout": "linear", "carry_limit": limit}
    found, expected = (
        gradients(net("recurrent", neuron_of(family), b, **options), x) for b in ("c", "torch")
    )
    assert any(g.abs().max() > 1e-6 for n, g in found[1].items() if n.startswith("recurrent."))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@BACKENDS
def test_without_feedback_it_is_the_feed_forward_net(backend: str) -> None:
    neuron = neuron_of("plif") if backend == "torch" else None
    plain = net("feedforward", neuron, backend, readout="linear")
    network = net("recurrent", neuron, backend, readout="linear", recurrent_gain=0.0)
    found, expected = gradients(network, inputs()), gradients(plain, inputs())
    shared = {n: g for n, g in found[1].items() if not n.startswith("recurrent.")}
    torch.testing.assert_close((found[0], shared), expected)


@pytest.mark.parametrize("name", ["feedforward", "recurrent"])
def test_image_shown_is_the_sequence_of_copies(name: str) -> None:
    """Direct encoding computes the first layer's weights once and means T copies of the image."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"hidden": (8,), "gain": 2.0, "backend": "torch"}
    network = build(name, lnm.get("lif"), (1, 2, 3), C, kind="image", time_steps=T, **options)
    torch.manual_seed(0)
    sequence = build(name, lnm.get("lif"), (T, 6), C, kind="sequence", **options)
    images = inputs(N, 1, 2, 3).float()
    rows: list[int] = []
    network.layers[0].linear.register_forward_pre_hook(lambda m, i: rows.append(len(i[0])))
    copies = images.flatten(1).expand(T, N, 6).contiguous()
    torch.testing.assert_close(network(images), sequence(copies))
    assert rows == [N]


@BACKENDS
@FEEDBACK
def test_hooks_see_whole_sequences(backend: str, feedback: str) -> None:
    """Currents with feedback, their spikes, inputs of U and W: once each, after the loop."""
    network = net(backend=backend, feedback=feedback, readout="linear", per_step=True)
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Any:
        def see(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            assert name not in seen
            seen[name] = (given[0], out)

        return see

    handles = [
        module.register_forward_hook(hook(n))
        for n, module in network.named_modules()
        if isinstance(module, nn.Linear | lnm.nn.NeuronLayer)
    ]
    with torch.no_grad():
        logits = network(inputs())
        for handle in handles:
            handle.remove()
        assert torch.equal(network(inputs()), logits)
    names = {n for n, m in network.named_modules() if isinstance(m, nn.Linear)}
    assert names <= set(seen)
    spikes = [seen[f"layers.{k}.neuron"][1] for k in range(2)]
    torch.testing.assert_close(network.readout.linear(spikes[1]), logits)
    source = 0 if feedback == "layer" else 1
    assert torch.equal(seen["recurrent.0"][0], spikes[source][:-1])
    current = seen["layers.0.linear"][1].reshape(T, N, -1).clone()
    current[1:] += seen["recurrent.0"][1]
    torch.testing.assert_close(seen["layers.0.neuron"][0], current)


@pytest.mark.parametrize(
    "backend", ["torch", pytest.param("c", marks=[pytest.mark.needs_cc, pytest.mark.slow])]
)
@FEEDBACK
def test_layers_record_whole_sequences(backend: str, feedback: str) -> None:
    network, x = net(backend=backend, feedback=feedback), inputs()
    logits = network(x)
    for layer in network.neurons:
        layer.record = ("v",)
    assert torch.equal(network(x), logits)
    for layer, width in zip(network.neurons, (8, 6), strict=True):
        assert layer.recorded["v"].shape == (T, N, width)
        assert not layer.recorded["v"].requires_grad


@BACKENDS
def test_layers_of_one_step_or_of_different_modes_are_refused(backend: str) -> None:
    """No backend ignores the option."""
    network = net(backend=backend, feedback="down")
    for name, value, usual in (("carry_state", True, False), ("step_mode", "s", "m")):
        setattr(network.neurons[1], name, value)
        with refused(UnsupportedError, "lif", "keeps its states", "step_mode='m'", "every layer"):
            network(inputs())
        setattr(network.neurons[1], name, usual)
    network(inputs())


@BACKENDS
@FEEDBACK
def test_carried_parts_are_the_whole(backend: str, feedback: str) -> None:
    """States and spikes pass from call to call until a reset; hooks change nothing.

    Sequences without steps or samples pass too.
    """
    network, x = net(backend=backend, feedback=feedback), inputs()
    want = network.hidden(x)
    assert bool(want[: T // 2].any())
    for hooked in (False, True):
        if hooked:
            for module in (*network.neurons, *network.recurrent):
                module.register_forward_hook(lambda *_: None)
        for layer in network.neurons:
            layer.carry_state = True
        for _ in range(2):
            lnm.nn.reset(network)
            parts = [network.hidden(part) for part in x.tensor_split(3)]
            assert torch.equal(torch.cat(parts), want)
        for layer in network.neurons:
            layer.carry_state = False
        assert torch.equal(network.hidden(x), want)
    network = net(backend=backend, feedback=feedback, carry_limit=1.0)
    for shape in ((0, N, F), (T, 0, F)):
        x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        spikes = network.hidden(x)
        assert spikes.shape == (*shape[:2], 6)
        (spikes + network.readout.linear.weight.sum()).sum().backward()


@pytest.mark.needs_cc
def test_hooks_of_saved_tensors_may_change_layouts() -> None:
    """Saved tensors with gaps in memory were read as if they had none. No second derivative."""
    network, x = net(backend="c", readout="linear"), inputs()
    weights, found = list(network.parameters()), []
    for pack in (lambda t: torch.stack([t, t], -1)[..., 0], lambda t: t):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            loss = network(x).sum()
        found.append(torch.autograd.grad(loss, weights))
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected)
    with refused(UnsupportedError, "RecurrentLayer", "double backward", remedy="backend='torch'"):
        torch.autograd.grad(network(x).sum(), weights, create_graph=True)


@pytest.mark.parametrize(
    ("name", "options", "backend"),
    [
        ("feedforward", {}, "torch"),
        ("recurrent", {"feedback": "down"}, "torch"),
        pytest.param("recurrent", {}, "c", marks=pytest.mark.needs_cc),
        *(pytest.param(n, o, "c", marks=[pytest.mark.needs_cc, pytest.mark.slow])
          for n, o in (("feedforward", {}), ("recurrent", {"feedback": "down"}))),
    ],
)  # fmt: skip
def test_autocast(name: str, options: dict[str, Any], backend: str) -> None:
    """Under bfloat16 autocast logits are bfloat16, and gradients float32 near those without it."""
    network, plain = (net(name, None, backend, readout="linear", **options) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        logits = network.float()(inputs().float())
    assert logits.dtype is torch.bfloat16
    logits.float().square().sum().backward()
    plain.float()(inputs().float()).square().sum().backward()
    for found, expected in zip(network.parameters(), plain.parameters(), strict=True):
        assert found.grad.dtype is torch.float32
        assert found.grad.isfinite().all()
        assert cosine_similarity(found.grad.flatten(), expected.grad.flatten(), 0) > 0.8


@pytest.mark.needs_cc
@pytest.mark.parametrize("name", [pytest.param("feedforward", marks=pytest.mark.slow), "recurrent"])
def test_compiled_whole(name: str) -> None:
    """One graph, the loop unrolled; the same logits and gradients."""
    network = net(name, None, "c", readout="linear", per_step=True)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    expected = gradients(network, inputs(2, N, F))
    logits = compiled(inputs(2, N, F))
    torch.testing.assert_close(logits, expected[0])
    network.zero_grad()
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
    (logits * weights).sum().backward()
    found = {n: p.grad for n, p in network.named_parameters()}
    torch.testing.assert_close(found, expected[1])


def test_batch_statistics_of_one_image_are_those_of_its_steps() -> None:
    """As in the fused network: the mean is that of the image, and its variance 0."""
    found = []
    for name, fused in (("feedforward", True), ("feedforward", False), ("recurrent", False)):
        torch.manual_seed(0)
        network = build(
            name, lnm.get("lif"), (1, 2, 3), C, kind="image", backend="torch", hidden=(8,),
            norm="batch", fused=fused,
        )  # fmt: skip
        network(torch.ones(1, 1, 2, 3))
        found.append(network.layers[0].norm)  # type: ignore[index]
    for norm in found[1:]:
        torch.testing.assert_close(norm.running_mean, found[0].running_mean)
        torch.testing.assert_close(norm.running_var, torch.full((8,), 0.9))
    torch.testing.assert_close(found[0].running_var, torch.full((8,), 0.9))


def test_names_in_the_state_dict() -> None:
    """A trained network is read by these names."""
    names = list(net(neuron=neuron_of("lnm"), norm="layer").state_dict())
    assert names == [
        *(f"layers.{k}.{n}" for k in range(2) for n in
          ("linear.weight", "linear.bias", "norm.weight", "norm.bias", "neuron.theta",
           "neuron.v_threshold")),
        "readout.linear.weight", "readout.linear.bias", "readout.neuron.tau",
        "recurrent.0.weight", "recurrent.1.weight",
    ]  # fmt: skip


def test_gains() -> None:
    """W has standard deviation gain / sqrt(inputs); U is orthogonal times recurrent_gain."""
    network = net(hidden=(200, 100), gain=1.5, recurrent_gain=0.5)
    weight, back = network.layers[1].linear.weight, network.recurrent[0].weight
    assert weight.std().item() * 200**0.5 == pytest.approx(1.5, rel=0.02)
    torch.testing.assert_close(back @ back.T, 0.25 * torch.eye(200).double(), atol=1e-5, rtol=0)


def test_batch_normalisation_is_fused_without_feedback() -> None:
    """`feedforward` equals its separate modules in float64; `recurrent` keeps them."""
    task: Any = ((T, F), C)
    networks = []
    for fused in (True, False):
        torch.manual_seed(0)
        options = {"norm": "batch", "hidden": (7, 6), "gain": 2.0, "fused": fused}
        made = build(
            "feedforward", lnm.get("lif"), *task, kind="sequence", backend="torch", **options
        )
        networks.append(made.double())
    fused_net, plain = networks
    assert [isinstance(layer, NormNeuron) for layer in fused_net.neurons] == [True, True]
    assert list(fused_net.state_dict()) == list(plain.state_dict())
    x = torch.randn(T, N, F, dtype=torch.float64)
    torch.testing.assert_close(fused_net(x), plain(x))
    torch.testing.assert_close(dict(fused_net.state_dict()), dict(plain.state_dict()))
    recurrent = build("recurrent", lnm.get("lif"), *task, kind="sequence", norm="batch")
    assert not any(isinstance(layer, NormNeuron) for layer in recurrent.neurons)
    assert "no NeuronLayer follows it" in fuse(recurrent).left[0].reason


REFUSALS = """
models
    of("recurent") >> no network 'recurent' >> MODELS >> 'recurrent'?
    of("feedforward", fused=1) >> fused is 1 >> True, False
    of("feedforward", backend="rust") >> backend is 'rust'
        >> 'auto', 'c', 'triton', 'cuda', 'torch'
    build("feedforward", LIF, (3, 8), C, kind="image") >> sample of kind 'image' is (3, 8)
        >> (C, H, W)
    build("feedforward", LIF, (3,), C, kind="sequence") >> sample of kind 'sequence' is (3,)
        >> (T, *features)
    build("feedforward", LIF, (3, 8), C, kind="video") >> kind is 'video' >> 'image', 'sequence'
recurrent
    of("recurrent", feedbck="layer") >> no option 'feedbck' >> OPTIONS >> 'feedback'?
    of("recurrent", feedback="up") >> feedback is 'up' >> 'layer', 'down'
    of("recurrent", feedback="down", hidden=(4,)) >> 'down' with one hidden layer >> two or more
        >> Set feedback='layer'.
    of("recurrent", feedback="down", norm="batch") >> norm is 'batch'
        >> 'none' with feedback='down' >> Set feedback='layer'.
    of("recurrent", recurrent_gain=-1) >> recurrent_gain is -1 >> >= 0
    of("recurrent", carry_limit=-1) >> carry_limit is -1 >> >= 0 or None
feedforward
    of("feedforward", hidden=(4, 0)) >> hidden is (4, 0) >> one or more integers >= 1
    of("feedforward", time_steps=4) >> time_steps is 4 >> None for a sequence
        >> Leave time_steps out.
    build("feedforward", gated(), (T, F), C, kind="sequence") >> gated has 2 inputs and 1 outputs
        >> one of each >> --network file.py:Net
li
    of("feedforward", readout_tau=1.0) >> tau is 1.0 >> a number > 1
resnet18
    of("resnet18") >> the shape of one step is (3,) >> images (C, H, W)
conv
    build("conv", gated(), (1, 8, 8), C, kind="image") >> 2 inputs >> >> --network file.py:Net
"""


def gated() -> lnm.Neuron:
    v, x, g = lnm.state("v"), lnm.input("x"), lnm.input("g")
    return lnm.Neuron(charge={v: v * g + x}, fire=v - 1, reset=lnm.hard_reset(v), name="gated")


def test_refusals() -> None:
    """Files and options write "none" for None, which is accepted."""

    def of(name: str, **options: Any) -> Network:
        return build(name, lnm.get("lif"), (T, F), C, kind="sequence", **options)

    options = "hidden, norm, readout, over, readout_tau, gain, time_steps, fused, feedback"
    names = {**globals(), "MODELS": ", ".join(MODELS), "OPTIONS": options, "LIF": lnm.get("lif")}
    assert_refused(REFUSALS, {**names, "of": of})
    for more in ({}, {"feedback": "down"}):
        assert torch.equal(net(norm=None, **more)(inputs()), net(norm="none", **more)(inputs()))


@pytest.mark.needs_cc
@FEEDBACK
def test_carried_gradients_are_bounded(feedback: str) -> None:
    """Both loops are equal; a limit above all gradients changes nothing, a low one bounds them.

    Potentials that fall as 1.3**t carry gradients that grow equally.
    """
    neuron = lnm.get("lnm", degree=1, theta=(0.0, 1.3))
    x = torch.randn((40, 3, 4), generator=torch.Generator().manual_seed(1)) - 1.0
    found: dict[tuple[str, float | None], list[torch.Tensor]] = {}
    for backend in ("torch", "c"):
        for limit in (None, 1e30, 2.0):
            torch.manual_seed(0)
            network = build(
                "recurrent", neuron, (40, 4), 3, kind="sequence", hidden=(6, 6), backend=backend,
                feedback=feedback, recurrent_gain=3.0, carry_limit=limit, gain=2.0,
            )  # fmt: skip
            network(x).square().sum().backward()
            found[backend, limit] = [p.grad for p in network.parameters()]
    for limit in (None, 1e30, 2.0):
        for a, b in zip(found["torch", limit], found["c", limit], strict=True):
            assert torch.allclose(a, b, rtol=2e-3, atol=1e-4 * float(b.abs().max()))
    for a, b in zip(found["c", None], found["c", 1e30], strict=True):
        assert torch.equal(a, b)
    free, held = (float(found["c", limit][0].abs().max()) for limit in (None, 2.0))
    if feedback == "layer":
        assert held < 0.1 * free
    else:  # resets end most paths there: the limit acts, and the largest gradient is as before
        assert 0.5 * free < held < 2 * free
        assert held != free


def test_a_mean_over_any_number_of_steps() -> None:
    """An exported readout takes the mean over the steps of its call, as `Tensor.mean` does."""

    class Readout(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return mean_over_time(x)

    steps = torch.export.Dim("T", min=2, max=64)
    program = torch.export.export(Readout(), (torch.rand(6, 2, 3),), dynamic_shapes=({0: steps},))
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.rand(50, 2, 3).to(dtype)
        assert torch.equal(mean_over_time(x), x.mean(0))
    x = torch.rand(9, 2, 3)
    assert torch.equal(program.module()(x), x.mean(0))
