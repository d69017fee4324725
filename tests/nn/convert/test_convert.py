"""`convert` on models: replacement in place, other neurons, and the report."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, conversion_report
from lnm_codegen.nn.convert.convert import BATCH, STEPS, WIDTH
from lnm_codegen.nn.convert.jelly import KNOWN
from lnm_codegen.nn.convert.recipe import library_names
from lnm_codegen.nn.convert.snn import STATES
from tests.nn.convert.peers import Own, converted, refusal, statuses
from tests.refusals import assert_refused, refused

jelly: Any = pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)
snn: Any = pytest.importorskip("snntorch")
norse: Any = pytest.importorskip("norse.torch")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def test_the_model_is_changed_in_place() -> None:
    """In any container; a layer with two paths stays one layer; mode and type are kept."""
    shared = jelly.LIFNode(step_mode="m")
    block = nn.ModuleDict({"a": shared, "b": nn.ModuleList([shared, nn.ReLU()])})
    model = nn.Sequential(nn.Linear(2, 2), block).double().eval()
    assert lnm.nn.convert(model) is model
    new: Any = block["a"]
    assert type(new) is NeuronLayer  # so that lnm.nn.fuse fuses it
    assert block["b"][0] is new
    assert (new.step_mode, new.carry_state, new.training) == ("m", True, False)
    assert new.tau.dtype is torch.float64
    assert [str(one.path) for one in conversion_report(model).layers] == ["1.a"]
    assert lnm.nn.convert(model)[1]["a"] is lnm.nn.convert(new) is new


# ---- warnings ----


def relu() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU())


def psn() -> Any:
    return jelly.PSN(T=2, surrogate_function=None)


class Block(jelly.BaseNode):  # type: ignore[name-defined, misc]
    """A spiking layer with another one inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = jelly.LIFNode()


WARNED: list[tuple[Callable[[], nn.Module], list[str]]] = [
    # `convert` is not for a ReLU. It returned the model unchanged and said nothing.
    (relu, ["convert: no layer of this Sequential was replaced"]),
    (
        lambda: nn.Sequential(jelly.LIFNode(), psn(), nn.Sequential(psn(), jelly.OTTTLIFNode())),
        [
            "convert: 3 of 4 spiking layers stay as they are: 1, 2.0 (spikingjelly.PSN: no neuron"
            " for PSN. It weights", "; 2.1 (spikingjelly.OTTTLIFNode: ",
        ],
    ),
    (
        lambda: nn.Sequential(Block()),
        [
            "convert: 2 of 2 spiking layers stay",
            "0.inner (spikingjelly.LIFNode: it is inside of another spiking layer",
        ],
    ),
    (
        lambda: nn.Sequential(snn.SLSTM(2, 2), snn.Leaky(beta=0.9, init_hidden=True)),
        [
            "convert: 1 of 2 spiking layers stay as they are: 0 (snntorch.SLSTM",
            "snntorch.utils.reset and reset_hidden do not reset converted layers",
        ],
    ),
    (
        lambda: lnm.nn.convert(nn.Sequential(jelly.LIFNode(), jelly.IFNode())),
        ["convert: this Sequential is converted already: its 2 spiking layers are of lnm.nn."],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "texts"), WARNED)
def test_each_call_warns_once(make: Any, texts: list[str]) -> None:
    """At the user's line, also after another call of the process warned, and for a given neuron."""
    for neuron in (None, lnm.get("lif") if make is relu else lambda old: None):
        model = make()
        for begin in (texts, texts[:1]):  # a second conversion leaves the same layers
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                lnm.nn.convert(model, neuron)
            (one,) = seen
            assert (one.category, one.filename) == (RuntimeWarning, __file__)
            assert str(one.message).startswith(texts[0])
            assert all(text in str(one.message) for text in begin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lnm.nn.convert(nn.Sequential(jelly.LIFNode()))  # nothing to say


class OwnSurrogate(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return Own.apply(z)  # type: ignore[no-any-return]


def test_strict_raises_and_changes_nothing() -> None:
    """States of layers that would be measured, and attributes, stay too."""
    own = jelly.LIFNode(surrogate_function=OwnSurrogate())
    model = nn.Sequential(own, psn())
    own(torch.ones(1, 3))
    before, layers, v = [dict(vars(module)) for module in model.modules()], list(model), own.v
    problem = "1 of 2 spiking layers stay as they are: 1 (spikingjelly.PSN: no neuron for PSN"
    with refused(lnm.UnsupportedError, "convert", problem, remedy="leave out strict=True"):
        lnm.nn.convert(model, strict=True)
    assert list(model) == layers
    assert own.v is v
    assert [dict(vars(module)) for module in model.modules()] == before
    with refused(lnm.UnsupportedError, "convert", "no layer of this ReLU was replaced"):
        lnm.nn.convert(nn.ReLU(), strict=True)
    net = lnm.nn.convert(nn.Sequential(own), strict=True)
    assert isinstance(net[0], NeuronLayer)
    with pytest.warns(RuntimeWarning, match="is converted already: its 1 spiking layers"):
        lnm.nn.convert(net, strict=True)
    two = lnm.Neuron(fire=lnm.input("x") + lnm.input("y") - 1, name="two")
    names = {"lnm": lnm, "net": nn.Sequential(jelly.IFNode()), "two": two}
    assert_refused(
        """
convert
    lnm.nn.convert(net, strict=1) >> strict is 1
    lnm.nn.convert(net, carry_state="no") >> carry_state is 'no'
    lnm.nn.convert("net") >> 'net' >> torch.nn.Module
    lnm.nn.convert(net, neuron="lif") >> 'lif' >> an lnm.Neuron
    lnm.nn.convert(net, neuron=lambda old: 3) >> neuron(layer) >> or None
    lnm.nn.convert(net, two) >> two has 2 inputs >> one of each
conversion_report
    lnm.nn.conversion_report("net") >> 'net' >> torch.nn.Module
""",
        names,
    )
    assert type(names["net"][0]) is jelly.IFNode


REMEDIES = [
    (jelly, "PSN", (2, None), "It can stay"),
    (jelly, "OTTTLIFNode", (), "lnm.get('lif')"),
    (jelly, "LIAFNode", (torch.relu, True), "lnm.trace"),
    (snn, "RLeaky", (0.9, 1.0, True, None, 2, 3), "lnm.get('leaky')"),
    (snn, "DeltaLeaky", (1.0, 0.9), "lnm.trace"),
    (snn, "SLSTM", (2, 2), "lnm.nn.reset"),
    (norse, "LIFRefracCell", (), "refractory_lif"),
    (norse, "LIFExRecurrentCell", (2, 2), "that of norse.LIFExCell"),
]


@pytest.mark.parametrize(("library", "kind", "options", "words"), REMEDIES)
def test_a_refusal_says_what_to_do(library: Any, kind: str, options: Any, words: str) -> None:
    assert words in refusal(getattr(library, kind)(*options))


def test_the_report_before_and_after() -> None:
    net = nn.Sequential(jelly.LIFNode(), psn())
    before = conversion_report(net)
    assert str(before).splitlines() == [
        "Layers: 1 exact, 0 approximate, 1 refused. Not converted yet: 1.",
        "  0: spikingjelly.LIFNode -> lif, exact",
        "  1: spikingjelly.PSN, refused: no neuron for PSN. It weights all time steps at once, and "
        "keeps no potential from step to step. It can stay: lnm.nn.reset resets it.",
        "Exact: while potentials are finite; after infinity or NaN, spikes may differ.",
    ]
    kept = net[1]
    lnm.nn.convert(net)
    assert net[1] is kept
    after = conversion_report(net)
    assert str(after).splitlines()[0] == "Layers: 1 exact, 0 approximate, 1 refused."
    assert str(after).splitlines()[1:] == str(before).splitlines()[1:]
    assert after.layers[0].converted
    assert conversion_report(copy.deepcopy(net)) == after
    empty = "No spiking layer of SpikingJelly, snnTorch or Norse."
    assert str(conversion_report(relu())) == empty


@pytest.mark.parametrize("step_mode", ["s", "m"])
def test_an_approximate_layer_is_measured(step_mode: str) -> None:
    """Spikes are equal, and the gradient of another surrogate differs."""
    node = jelly.LIFNode(surrogate_function=OwnSurrogate(), step_mode=step_mode)
    (line,) = conversion_report(lnm.nn.convert(node)).layers
    assert (line.status, line.differing_spikes) == ("approximate", 0)
    assert "OwnSurrogate is in no table" in line.reason
    assert line.gradient_difference is not None
    assert 0.1 < line.gradient_difference < 10
    assert "0.00% of the spikes differ, gradient by" in str(line)


def test_a_subclass_is_converted_where_it_changes_no_code() -> None:
    class Preset(jelly.LIFNode):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__(tau=4.0)

    class Changed(jelly.LIFNode):  # type: ignore[name-defined, misc]
        def single_step_functional_forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().single_step_functional_forward(*args, **kwargs)

    assert float(lnm.nn.convert(Preset()).tau) == 4.0
    begin = "a subclass of LIFNode with code of its own. Write its step"
    assert refusal(Changed()).startswith(begin)


# ---- hooks and additions of the user ----


def test_hooks_move() -> None:
    """With their handles and kinds; a hook that receives its module receives the new one."""
    from spikingjelly.activation_based import monitor

    net = nn.Sequential(nn.Linear(3, 4), jelly.LIFNode(step_mode="m"))
    grads = monitor.GradOutputMonitor(net, instance=jelly.LIFNode)
    seen: list[Any] = []
    old = net[1]
    handle = old.register_forward_hook(lambda *_: seen.append("called"))
    old.register_state_dict_pre_hook(lambda module, *rest: seen.append(("save", module)))
    old.register_load_state_dict_pre_hook(lambda module, *rest: seen.append(("load", module)))
    old.register_load_state_dict_post_hook(lambda module, keys: seen.append(("end", module)))
    gone = weakref.ref(old)
    del old
    layer = converted(net)[1]
    gc.collect()
    assert gone() is None
    net.load_state_dict(net.state_dict())
    assert seen == [("save", layer), ("load", layer), ("end", layer)]
    net(torch.rand(2, 2, 3)).sum().backward()
    handle.remove()
    net(torch.rand(2, 2, 3))
    assert seen[3:] == ["called"]
    assert [one.shape for one in grads.records] == [(2, 2, 4)]


class Scaled(nn.Module):
    """A network that reads what it added to its spiking layer."""

    def __init__(self, lif: Any) -> None:
        super().__init__()
        self.lif = lif
        lif.scale, lif.gain = 0.5, nn.Parameter(torch.ones(3))
        lif.register_buffer("offset", torch.full((3,), 0.25))
        lif.register_buffer("count", torch.zeros(()), persistent=False)
        lif.after = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        lif = self.lif
        out: Tensor = lif.after(lif(x * lif.gain * lif.scale + lif.offset))
        return out


@pytest.mark.parametrize("name", ["LIFNode", "ParametricLIFNode"])
def test_additions_to_a_layer_move(name: str) -> None:
    """Set on an object; parameters and submodules stay the same objects."""
    net = Scaled(getattr(jelly, name)(step_mode="m"))
    old, saved = net.lif, copy.deepcopy(net.state_dict())
    x = torch.rand(4, 2, 3) * 4
    expected = net(x)
    converted(net)
    assert isinstance(net.lif, NeuronLayer)
    assert net.lif.gain is old.gain
    assert net.lif.after is old.after
    assert torch.equal(net(x), expected)
    assert net.state_dict().keys() >= saved.keys()
    assert "lif.count" not in net.state_dict()
    net.load_state_dict(saved)
    names = [n for n, _ in net.named_parameters()]
    assert [n for n in names if n in saved] == [n for n in saved if n != "lif.offset"]


def test_additions_of_other_names() -> None:
    """A buffer is no fixed option; words that the library's code contains, such as arguments."""
    net = nn.Sequential(snn.Leaky(beta=0.9, init_hidden=True))
    net[0].register_buffer("offset", torch.zeros(()))
    lnm.nn.convert(net)
    net.load_state_dict(net.state_dict() | {"0.offset": torch.ones(())})
    assert float(net[0].offset) == 1
    cell = norse.LIFCell()
    alpha = cell.alpha = nn.Parameter(torch.ones(3))
    assert lnm.nn.convert(cell).alpha is alpha
    for old in (jelly.LIFNode(), snn.Leaky(beta=0.9)):
        old.shape, old.device, old.full = (3, 4), "here", nn.Parameter(torch.ones(2))
        new: Any = lnm.nn.convert(nn.Sequential(old))[0]
        assert isinstance(new, NeuronLayer)
        assert (new.shape, new.device, new.full) == ((3, 4), "here", old.full)
        assert new.full is old.full


def test_additions_that_clash_are_refused() -> None:
    """Names of a NeuronLayer, and methods that were replaced on the object."""
    for word, value in (("neuron", 3), ("single_step_forward", print), ("forward", torch.neg)):
        node = jelly.LIFNode()
        setattr(node, word, value)
        assert refusal(node).endswith(f": {word}")


def test_names_of_the_libraries_are_no_additions() -> None:
    """Every class that is converted, as the library makes it and after a call."""
    options: dict[str, tuple[Any, ...]] = {"SimpleLIFNode": (2.0, True), "GatedLIFNode": (2,)}
    for name in KNOWN:
        layer = getattr(jelly, name)(*options.get(name, ()))
        layer(torch.ones(2, 3) if name != "GatedLIFNode" else torch.ones(2, 1, 3, 1, 1))
        own = {*vars(layer), *layer._parameters, *layer._modules}
        assert not own - library_names(type(layer))
    for name in STATES:
        more: dict[str, Any] = {"alpha": 0.95} if name in ("Synaptic", "Alpha", "RSynaptic") else {}
        more |= {"linear_features": 3} if name[0] == "R" else {}
        layer = getattr(snn, name)(beta=0.9, init_hidden=True, **more)
        layer(torch.ones(2, 3))
        assert not {*vars(layer), *layer._buffers} - library_names(type(layer))


# ---- parameters and paths ----


def test_a_parameter_stays_the_object_of_its_modules() -> None:
    """A layer that needs another shape is refused; a type of its own stays."""
    net: Any = nn.Sequential(
        jelly.ParametricLIFNode(), jelly.KLIFNode(), nn.Module(), jelly.ParametricLIFNode().double()
    )
    net[0].w = net[2].w = nn.Parameter(torch.ones(1))
    net[2].k, w = net[1].k, net[3].w
    lnm.nn.convert(net)
    lines = conversion_report(net).layers
    assert [line.status for line in lines] == ["refused", "exact", "exact"]
    assert "another module has its w too, and the new layer needs a parameter" in lines[0].reason
    assert net[1].k is net[2].k
    assert net[3].w is w


def test_a_parameter_of_a_refused_layer_is_not_separated() -> None:
    """Also through a layer that is refused for this alone, whatever their order."""
    more = {"learn_beta": True, "learn_threshold": True}
    layers = [snn.Leaky(beta=torch.tensor([0.9]), threshold=torch.tensor([1.0]), **more)
              for _ in range(3)]  # fmt: skip
    convolution = {"conv2d_channels": 2, "kernel_size": 3}
    recurrent = snn.RLeaky(beta=torch.tensor([0.9]), learn_beta=True, **convolution)
    layers[1].beta = recurrent.beta
    layers[0].threshold = layers[1].threshold
    net = lnm.nn.convert(nn.ModuleList([*layers, recurrent]))
    assert list(net)[:2] == layers[:2]
    assert isinstance(net[2], NeuronLayer)
    for line, word in zip(conversion_report(net).layers, ("threshold", "beta"), strict=False):
        assert f"another module has its {word} too" in line.reason


class Named(NamedTuple):
    layer: Any


def test_layers_in_lists_tuples_and_dicts_are_replaced() -> None:
    """They are the same objects as the submodules."""
    net: Any = nn.Module()
    net.lif, net.fc = jelly.LIFNode(), nn.Linear(3, 3)
    net.order = order = [net.fc, (net.lif, {"a": net.lif}), "text"]
    order.append(order)
    net.named = net.again = Named(net.lif)
    net.hidden = {"lif": [net.lif]}
    vars(net)["alias"] = net.lif
    lnm.nn.convert(net)
    new = net.lif
    assert isinstance(new, NeuronLayer)
    assert net.order is order
    assert order[0] is net.fc
    assert order[1][0] is order[1][1]["a"] is new
    assert net.named.layer is net.hidden["lif"][0] is vars(net)["alias"] is new
    assert type(net.named) is Named
    assert net.again == net.named


def test_layers_keep_states_as_the_caller_says() -> None:
    """By default as the library does; a layer that keeps none begins each call anew."""
    x = torch.full((5, 2, 3), 1.5)  # v ends at 0.75
    net = nn.Sequential(jelly.LIFNode(step_mode="m"), jelly.IFNode(step_mode="m"))
    kept, anew = converted(copy.deepcopy(net)), converted(net, carry_state=False)
    assert [layer.carry_state for layer in (*kept, *anew)] == [True, True, False, False]
    assert torch.equal(kept(x), anew(x))
    assert torch.equal(anew(x), anew(x))
    assert not torch.equal(kept(x), anew(x))


# ---- given neurons ----


def test_a_given_neuron_begins_with_the_old_dynamics() -> None:
    """theta and the threshold give the old spikes; theta_w, which is drawn, stays drawn."""
    net = nn.Sequential(jelly.ParametricLIFNode(step_mode="m", v_reset=None))
    with torch.no_grad():
        net[0].w.fill_(0.7)
    old = copy.deepcopy(net)
    converted(net, neuron=lambda node: lnm.get("lnm", states=2, degree=2, per="channel"))
    x = 2 * torch.randn(12, 4, 6)
    assert torch.equal(net(x), old(x))
    assert net[0].theta_v.shape[0] == 6
    assert net[0].theta_w.abs().sum() > 0
    (line,) = conversion_report(net).layers
    assert (line.status, line.neuron, line.differing_spikes) == ("approximate", "lnm_states2", 0)
    assert line.reason == "the neuron is given, and begins with the old dynamics"
    net(x).sum().backward()
    assert net[0].theta_v.grad.abs().sum() > 0


def test_the_share_of_spikes_that_differ() -> None:
    """Spikes that are new and spikes that are gone, in a run of both layers."""
    net = nn.Sequential(jelly.LIFNode(step_mode="m", tau=2.0))
    old = copy.deepcopy(net[0])
    converted(net, neuron=lnm.get("lif", tau=4.0, v_threshold=0.5))
    (line,) = conversion_report(net).layers
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + torch.randn((STEPS, BATCH, WIDTH), generator=generator)
    differ = (old(x) != net[0](x)).double().mean().item()
    assert 0 < differ == line.differing_spikes
    assert (old(x) > net[0](x)).any()
    net[0].reset()


def test_a_given_neuron_begins_with_the_dynamics_of_norse() -> None:
    """Its cells fire at >; the reset and the initial potential are q times the cell's."""
    rest = norse.LIFBoxParameters(v_leak=torch.tensor(0.5), v_reset=torch.tensor(-0.1))
    cells = (norse.IAFCell(), 0.0), (norse.LIFBoxCell(), 0.0), (norse.LIFBoxCell(rest), -1.0)
    for cell, v_reset in cells:
        net = lnm.nn.convert(nn.Sequential(cell), lnm.get("lnm", degree=3, v_reset=v_reset))
        (line,) = conversion_report(net).layers
        assert line.reason == "the neuron is given, and begins with the old dynamics"
        assert line.differing_spikes == 0


def test_a_neuron_for_every_layer_or_for_some() -> None:
    """A Neuron, or None for a layer that keeps its dynamics; also in place of unknown classes.

    It raised StopIteration for a class of snnTorch, and took Leaky's calls for DeltaLeaky's.
    """
    net = nn.Sequential(jelly.LIFNode(), jelly.IFNode(), jelly.ILIFNode())
    converted(net, neuron=lambda n: None if type(n) is jelly.IFNode else lnm.get("qif"))
    assert [layer.neuron.name for layer in net] == ["qif", "if", "qif"]
    assert statuses(net) == ["approximate", "exact", "approximate"]
    assert lnm.nn.convert(jelly.LIFNode(), lnm.get("alif")).neuron.name == "alif"
    net = nn.Sequential(snn.SLSTM(2, 2), snn.DeltaLeaky(beta=0.9), snn.Leaky(beta=0.9))
    lnm.nn.convert(net, lnm.get("lif"))
    assert statuses(net) == ["refused", "refused", "approximate"]


def test_a_given_neuron_has_the_calls_of_the_library() -> None:
    two, x = lnm.get("lnm", states=2), torch.ones(2, 3)
    leaky = converted(snn.Leaky(beta=0.9), two)
    _, mem = leaky(x, leaky.init_leaky())
    assert torch.equal(mem, leaky.v)
    leaky(x, mem=mem)
    cell = converted(norse.LIFCell(), two)
    out, state = cell(x)
    assert set(state) == {"v", "w"}
    assert cell(x, state)[0].shape == out.shape
    readout = jelly.NonSpikingLIFNode(decode="last_mem")
    assert converted(readout, lnm.get("li", tau=3.0))(torch.rand(5, 2, 3)).shape == (2, 3)
    synaptic = snn.Synaptic(alpha=0.9, beta=0.8)
    assert lnm.nn.convert(synaptic, lnm.get("lif")) is synaptic
    (line,) = conversion_report(synaptic).layers
    assert "2 states, and lif has 1" in line.reason
