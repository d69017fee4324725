"""`convert` on models: replacement in place, other neurons, and the report."""

from __future__ import annotations

import copy
import gc
import warnings
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.convert.jelly import KNOWN
from lnm_codegen.nn.convert.recipe import library_names
from lnm_codegen.nn.convert.snn import STATES
from tests.nn.convert.peers import eager
from tests.refusals import refused

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def jelly() -> Any:
    return pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)


def test_the_model_is_changed_in_place(jelly: Any) -> None:
    """In any container; a layer with two paths stays one layer; mode and type are kept."""
    shared = jelly.LIFNode(step_mode="m")
    block = nn.ModuleDict({"a": shared, "b": nn.ModuleList([shared, nn.ReLU()])})
    model = nn.Sequential(nn.Linear(2, 2), block).double().eval()
    returned = lnm.nn.convert(model)
    assert returned is model
    new = block["a"]
    assert type(new) is NeuronLayer  # so that lnm.nn.fuse fuses it
    assert block["b"][0] is new
    assert (new.step_mode, new.carry_state, new.training) == ("m", True, False)
    assert new.tau.dtype is torch.float64
    assert [str(one.path) for one in lnm.nn.conversion_report(model).layers] == ["1.a"]


def test_a_model_without_spiking_layers_and_a_converted_one_are_left(jelly: Any) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert lnm.nn.convert(model) is model
    assert str(lnm.nn.conversion_report(model)) == (
        "No spiking layer of SpikingJelly, snnTorch or Norse."
    )
    net = nn.Sequential(jelly.IFNode())
    layer = lnm.nn.convert(net)[0]
    assert lnm.nn.convert(net)[0] is layer
    assert lnm.nn.convert(layer) is layer


def warned(model: nn.Module, **options: Any) -> str:
    """Return the only warning of a call, which points here."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        lnm.nn.convert(model, **options)
    (one,) = seen
    assert one.category is RuntimeWarning
    assert one.filename == __file__
    return str(one.message)


@pytest.mark.parametrize("neuron", [None, lnm.get("lif")])
def test_a_conversion_that_replaces_nothing_warns(neuron: Any) -> None:
    """`convert` is not for a ReLU. It returned the model unchanged and said nothing."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    for _ in range(2):
        text = warned(model, neuron=neuron)
        assert text.startswith("convert: no layer of this Sequential was replaced")


def test_layers_that_stay_are_counted_and_named_at_each_call(jelly: Any) -> None:
    """Also where others were converted, and after another call of the process warned."""

    def made() -> nn.Module:
        psn = [jelly.PSN(T=2, surrogate_function=None) for _ in range(2)]
        return nn.Sequential(jelly.LIFNode(), psn[0], nn.Sequential(psn[1], jelly.OTTTLIFNode()))

    for _ in range(2):
        model = made()
        text = warned(model)
        assert text.startswith("convert: 3 of 4 spiking layers stay as they are: 1, 2.0 (")
        assert "1, 2.0 (spikingjelly.PSN: no neuron for PSN. It weights" in text
        assert "; 2.1 (spikingjelly.OTTTLIFNode: " in text
        assert warned(model) == text  # a second conversion leaves the same layers
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lnm.nn.convert(nn.Sequential(jelly.LIFNode()))  # nothing to say


def test_a_warning_and_the_reset_of_snntorch_are_one() -> None:
    """Each call warns at most once, so that a filter sees all of it or nothing."""
    snn = pytest.importorskip("snntorch")
    model = nn.Sequential(snn.Leaky(beta=0.9, init_hidden=True), snn.SLSTM(2, 2))
    text = warned(model)
    assert "convert: 1 of 2 spiking layers stay as they are: 1 (snntorch.SLSTM" in text
    assert "snntorch.utils.reset and reset_hidden do not reset converted layers" in text


def test_a_model_that_is_converted_already_is_said_to_be_so(jelly: Any) -> None:
    model = nn.Sequential(jelly.LIFNode(), jelly.IFNode())
    lnm.nn.convert(model)
    expected = "convert: this Sequential is converted already: its 2 spiking layers are of lnm.nn."
    assert warned(model) == warned(model, strict=True) == expected


def test_strict_raises_and_changes_nothing(jelly: Any) -> None:
    """States of layers that would be measured, and attributes, stay too."""
    own = jelly.LIFNode(surrogate_function=OwnSurrogate())
    model = nn.Sequential(own, jelly.PSN(T=2, surrogate_function=None))
    own(torch.ones(1, 3))
    before = [dict(vars(module)) for module in model.modules()]
    layers = list(model)
    v = own.v
    problem = "1 of 2 spiking layers stay as they are: 1 (spikingjelly.PSN: no neuron for PSN"
    with refused(lnm.UnsupportedError, "convert", problem, remedy="leave out strict=True"):
        lnm.nn.convert(model, strict=True)
    assert list(model) == layers
    assert own.v is v
    assert [dict(vars(module)) for module in model.modules()] == before
    with refused(lnm.UnsupportedError, "convert", "no layer of this ReLU was replaced"):
        lnm.nn.convert(nn.ReLU(), strict=True)
    with refused(ModelError, "convert", "strict is 1"):
        lnm.nn.convert(model, strict=1)  # type: ignore[call-overload]
    assert isinstance(lnm.nn.convert(nn.Sequential(own), strict=True)[0], NeuronLayer)


def test_a_layer_inside_of_one_that_stays_is_named(jelly: Any) -> None:
    class Block(jelly.BaseNode):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = jelly.LIFNode()

    model = nn.Sequential(Block())
    text = warned(model)
    assert text.startswith("convert: 2 of 2 spiking layers stay")
    assert "0.inner (spikingjelly.LIFNode: it is inside of another spiking layer" in text
    assert [line.status for line in lnm.nn.conversion_report(model).layers] == ["refused"] * 2


def test_a_given_neuron_for_a_class_of_other_calls_is_refused() -> None:
    """It raised StopIteration for a class of snnTorch, and took Leaky's calls for DeltaLeaky's."""
    snn = pytest.importorskip("snntorch")
    model = nn.Sequential(snn.SLSTM(2, 2), snn.DeltaLeaky(beta=0.9), snn.Leaky(beta=0.9))
    lnm.nn.convert(model, lnm.get("lif"))
    lines = lnm.nn.conversion_report(model).layers
    assert [line.status for line in lines] == ["refused", "refused", "approximate"]


REMEDIES = {
    "spikingjelly": {
        "PSN": "It can stay",
        "OTTTLIFNode": "lnm.get('lif')",
        "LIAFNode": "lnm.trace",
    },
    "snntorch": {"RLeaky": "lnm.get('leaky')", "DeltaLeaky": "lnm.trace", "SLSTM": "lnm.nn.reset"},
    "norse": {"LIFRefracCell": "refractory_lif", "LSNNRecurrentCell": "that of norse.LSNNCell"},
}


@pytest.mark.parametrize("name", REMEDIES)
def test_a_refusal_says_what_to_do(name: str) -> None:
    module = {"spikingjelly": f"{name}.activation_based.neuron", "norse": "norse.torch"}
    package = pytest.importorskip(module.get(name, name), exc_type=ImportError)
    options: dict[str, tuple[Any, ...]] = {
        "PSN": (2, None), "LIAFNode": (torch.relu, True), "RLeaky": (0.9, 1.0, False),
        "DeltaLeaky": (1.0, 0.9), "SLSTM": (2, 2), "LSNNRecurrentCell": (2, 2),
    }  # fmt: skip
    for kind, words in REMEDIES[name].items():
        (line,) = lnm.nn.conversion_report(getattr(package, kind)(*options.get(kind, ()))).layers
        assert line.status == "refused"
        assert words in line.reason


def test_hooks_move_with_their_handles(jelly: Any) -> None:
    net = nn.Sequential(jelly.IFNode())
    seen: list[float] = []
    handle = net[0].register_forward_hook(lambda module, args, out: seen.append(float(out.sum())))
    eager(lnm.nn.convert(net))
    net(torch.ones(1, 3))
    assert seen == [3.0]
    handle.remove()
    net(torch.ones(1, 3))
    assert seen == [3.0]


def test_backward_hooks_move_with_their_kind(jelly: Any) -> None:
    from spikingjelly.activation_based import monitor

    net = nn.Sequential(nn.Linear(3, 4), jelly.LIFNode(step_mode="m"))
    seen = monitor.GradOutputMonitor(net, instance=jelly.LIFNode)
    eager(lnm.nn.convert(net))
    net(torch.rand(2, 2, 3)).sum().backward()
    assert [one.shape for one in seen.records] == [(2, 2, 4)]


def test_hooks_of_a_state_dict_move(jelly: Any) -> None:
    """A hook that receives its module receives the new one."""
    net, seen = nn.Sequential(jelly.IFNode()), []
    net[0].register_state_dict_pre_hook(lambda module, *rest: seen.append(("save", module)))
    net[0].register_load_state_dict_pre_hook(lambda module, *rest: seen.append(("load", module)))
    net[0].register_load_state_dict_post_hook(lambda module, keys: seen.append(("end", module)))
    layer = lnm.nn.convert(net)[0]
    gc.collect()
    net.load_state_dict(net.state_dict())
    assert seen == [("save", layer), ("load", layer), ("end", layer)]


def test_the_report_before_and_after(jelly: Any) -> None:
    net = nn.Sequential(jelly.LIFNode(), jelly.PSN(T=2, surrogate_function=None))
    before = lnm.nn.conversion_report(net)
    assert str(before).splitlines() == [
        "Layers: 1 exact, 0 approximate, 1 refused. Not converted yet: 1.",
        "  0: spikingjelly.LIFNode -> lif, exact",
        "  1: spikingjelly.PSN, refused: no neuron for PSN. It weights all time steps at once, and "
        "keeps no potential from step to step. It can stay: lnm.nn.reset resets it.",
        "Exact: while potentials are finite; after infinity or NaN, spikes may differ.",
    ]
    psn = net[1]
    lnm.nn.convert(net)
    assert net[1] is psn
    after = lnm.nn.conversion_report(net)
    assert str(after).splitlines()[0] == "Layers: 1 exact, 0 approximate, 1 refused."
    assert str(after).splitlines()[1:] == str(before).splitlines()[1:]
    assert after.layers[0].converted
    assert lnm.nn.conversion_report(copy.deepcopy(net)) == after


class Own(torch.autograd.Function):
    """A spike of the user's, with slope 0.25."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return (z >= 0).to(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 0.25 * grad


class OwnSurrogate(nn.Module):
    """The same as a module, which SpikingJelly's layers take."""

    def forward(self, z: Tensor) -> Tensor:
        return Own.apply(z)  # type: ignore[no-any-return]


def test_an_approximate_layer_is_measured(jelly: Any) -> None:
    """Spikes are equal, and the gradient of another surrogate differs."""
    for step_mode in "sm":
        node = jelly.LIFNode(surrogate_function=OwnSurrogate(), step_mode=step_mode)
        (line,) = lnm.nn.conversion_report(lnm.nn.convert(node)).layers
        assert line.status == "approximate"
        assert "OwnSurrogate is in no table" in line.reason
        assert line.differing_spikes == 0
        assert line.gradient_difference is not None
        assert 0.1 < line.gradient_difference < 10
        assert "0.00% of the spikes differ, gradient by" in str(line)


def test_a_subclass_is_converted_where_it_changes_no_code(jelly: Any) -> None:
    class Preset(jelly.LIFNode):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__(tau=4.0)

    class Changed(jelly.LIFNode):  # type: ignore[name-defined, misc]
        def single_step_functional_forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().single_step_functional_forward(*args, **kwargs)

    assert float(lnm.nn.convert(Preset()).tau) == 4.0
    changed = Changed()
    assert lnm.nn.convert(changed) is changed
    (line,) = lnm.nn.conversion_report(changed).layers
    assert line.reason.startswith("a subclass of LIFNode with code of its own. Write its step")


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
def test_additions_to_a_layer_move(jelly: Any, name: str) -> None:
    """Set on an object; parameters and submodules stay the same objects."""
    net = Scaled(getattr(jelly, name)(step_mode="m"))
    old, saved = net.lif, copy.deepcopy(net.state_dict())
    x = torch.rand(4, 2, 3) * 4
    expected = net(x)
    eager(lnm.nn.convert(net))
    assert isinstance(net.lif, NeuronLayer)
    assert net.lif.gain is old.gain
    assert net.lif.after is old.after
    assert torch.equal(net(x), expected)
    assert net.state_dict().keys() >= saved.keys()
    assert "lif.count" not in net.state_dict()
    net.load_state_dict(saved)
    names = [n for n, _ in net.named_parameters()]
    assert [n for n in names if n in saved] == [n for n in saved if n != "lif.offset"]


def test_additions_to_a_layer_of_snntorch_and_norse() -> None:
    """A buffer is no fixed option; a name that code of Norse contains may be a parameter's."""
    snn = pytest.importorskip("snntorch")
    net = nn.Sequential(snn.Leaky(beta=0.9, init_hidden=True))
    net[0].register_buffer("offset", torch.zeros(()))
    lnm.nn.convert(net)
    saved = net.state_dict() | {"0.offset": torch.ones(())}
    net.load_state_dict(saved)
    assert float(net[0].offset) == 1
    norse = pytest.importorskip("norse.torch")
    net = nn.Sequential(norse.LIFCell())
    alpha = net[0].alpha = nn.Parameter(torch.ones(3))
    assert lnm.nn.convert(net)[0].alpha is alpha


def test_additions_with_words_of_the_library_move(jelly: Any) -> None:
    """Words that its code contains, such as arguments, but assigns to no attribute."""
    for old in (jelly.LIFNode(), pytest.importorskip("snntorch").Leaky(beta=0.9)):
        old.shape, old.device, old.full = (3, 4), "here", nn.Parameter(torch.ones(2))
        parameter = old.full
        new = lnm.nn.convert(nn.Sequential(old))[0]
        assert isinstance(new, NeuronLayer)
        assert (new.shape, new.device) == ((3, 4), "here")
        assert new.full is parameter


def test_additions_that_clash_are_refused(jelly: Any) -> None:
    """Names of a NeuronLayer, and methods that were replaced on the object."""
    net = nn.Sequential(jelly.IFNode(), jelly.IFNode(), jelly.LIFNode())
    net[0].neuron = 3
    net[1].single_step_forward = print
    net[2].forward = torch.neg
    before = list(net)
    lnm.nn.convert(net)
    assert list(net) == before
    reasons = [line.reason for line in lnm.nn.conversion_report(net).layers]
    words = ("neuron", "single_step_forward", "forward")
    assert all(r.endswith(f": {word}") for r, word in zip(reasons, words, strict=True))


def test_names_of_the_libraries_are_no_additions(jelly: Any) -> None:
    """Every class that is converted, as the library makes it and after a call."""
    options: dict[str, tuple[Any, ...]] = {"SimpleLIFNode": (2.0, True), "GatedLIFNode": (2,)}
    for name in KNOWN:
        layer = getattr(jelly, name)(*options.get(name, ()))
        layer(torch.ones(2, 3) if name != "GatedLIFNode" else torch.ones(2, 1, 3, 1, 1))
        assert not set((*vars(layer), *layer._parameters, *layer._modules)) - library_names(
            type(layer)
        )
    for name in STATES:
        more = {"alpha": 0.95} if name in ("Synaptic", "Alpha") else {}
        layer = getattr(pytest.importorskip("snntorch"), name)(beta=0.9, init_hidden=True, **more)
        layer(torch.ones(2, 3))
        assert not {*vars(layer), *layer._buffers} - library_names(type(layer))


def test_a_layer_has_the_type_of_its_own_parameter(jelly: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 3), jelly.ParametricLIFNode().double())
    w = net[1].w
    lnm.nn.convert(net)
    assert net[1].w is w


def test_a_parameter_of_two_modules_is_not_separated(jelly: Any) -> None:
    """A layer that needs another shape is refused; one that keeps the object is converted."""
    net = nn.Sequential(jelly.ParametricLIFNode(), jelly.KLIFNode(), nn.Module())
    net[0].w = net[2].w = nn.Parameter(torch.ones(1))
    net[2].k = net[1].k
    lnm.nn.convert(net)
    (refusal, line) = lnm.nn.conversion_report(net).layers
    assert "another module has its w too, and the new layer needs a parameter" in refusal.reason
    assert line.status == "exact"
    assert net[1].k is net[2].k


def test_a_parameter_of_a_refused_layer_is_not_separated() -> None:
    """Also through a layer that is refused for this alone, whatever their order."""
    snn = pytest.importorskip("snntorch")
    more = {"learn_beta": True, "learn_threshold": True}
    layers = [snn.Leaky(beta=torch.tensor([0.9]), threshold=torch.tensor([1.0]), **more)
              for _ in range(3)]  # fmt: skip
    recurrent = snn.RLeaky(beta=torch.tensor([0.9]), learn_beta=True, linear_features=4)
    layers[1].beta = recurrent.beta
    layers[0].threshold = layers[1].threshold
    net = lnm.nn.convert(nn.ModuleList([*layers, recurrent]))
    assert list(net)[:2] == layers[:2]
    assert isinstance(net[2], NeuronLayer)
    words = ("threshold", "beta")
    for line, word in zip(lnm.nn.conversion_report(net).layers, words, strict=False):
        assert f"another module has its {word} too" in line.reason


class Named(NamedTuple):
    layer: Any


def test_layers_in_lists_tuples_and_dicts_are_replaced(jelly: Any) -> None:
    """They are the same objects as the submodules."""
    net = nn.Module()
    net.lif, net.fc = jelly.LIFNode(), nn.Linear(3, 3)
    net.order = order = [net.fc, (net.lif, {"a": net.lif}), "text"]
    order.append(order)  # type: ignore[arg-type]
    net.named = net.again = Named(net.lif)  # type: ignore[assignment]
    net.hidden = {"lif": [net.lif]}  # type: ignore[assignment]
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


def test_layers_keep_states_as_the_caller_says(jelly: Any) -> None:
    """By default as the library does; a layer that keeps none begins each call anew."""
    x = torch.full((5, 2, 3), 1.5)  # v ends at 0.75
    net = nn.Sequential(jelly.LIFNode(step_mode="m"), jelly.IFNode(step_mode="m"))
    kept, anew = copy.deepcopy(net), copy.deepcopy(net)
    eager(lnm.nn.convert(kept))
    eager(lnm.nn.convert(anew, carry_state=False))
    assert [layer.carry_state for layer in (*kept, *anew)] == [True, True, False, False]
    assert torch.equal(kept(x), anew(x))
    assert torch.equal(anew(x), anew(x))
    assert not torch.equal(kept(x), anew(x))
    with refused(lnm.ModelError, "convert", "carry_state is 'no'"):
        lnm.nn.convert(net, carry_state="no")  # type: ignore[arg-type]


def test_a_given_neuron_begins_with_the_old_dynamics(jelly: Any) -> None:
    """theta and the threshold give the old spikes; theta_w, which is drawn, stays drawn."""
    net = nn.Sequential(jelly.ParametricLIFNode(step_mode="m", v_reset=None))
    with torch.no_grad():
        net[0].w.fill_(0.7)
    old = copy.deepcopy(net)
    choose = lambda node: lnm.get("lnm", states=2, degree=2, per="channel")  # noqa: E731
    eager(lnm.nn.convert(net, neuron=choose))
    x = 2 * torch.randn(12, 4, 6)
    assert torch.equal(net(x), old(x))
    assert net[0].theta_v.shape[0] == 6
    assert net[0].theta_w.abs().sum() > 0
    (line,) = lnm.nn.conversion_report(net).layers
    assert (line.status, line.neuron, line.differing_spikes) == ("approximate", "lnm_states2", 0)
    assert line.reason == "the neuron is given, and begins with the old dynamics"
    loss = net(x).sum()
    loss.backward()
    assert net[0].theta_v.grad.abs().sum() > 0


def test_a_given_neuron_begins_with_the_dynamics_of_norse() -> None:
    """Its cells fire at >; the reset and the initial potential are q times the cell's."""
    norse = pytest.importorskip("norse.torch")
    rest = norse.LIFBoxParameters(v_leak=torch.tensor(0.5), v_reset=torch.tensor(-0.1))
    cells = (norse.IAFCell(), 0.0), (norse.LIFBoxCell(), 0.0), (norse.LIFBoxCell(rest), -1.0)
    for cell, v_reset in cells:
        net = nn.Sequential(cell)
        lnm.nn.convert(net, neuron=lnm.get("lnm", degree=3, v_reset=v_reset))
        (line,) = lnm.nn.conversion_report(net).layers
        assert line.reason == "the neuron is given, and begins with the old dynamics"
        assert line.differing_spikes == 0


def test_a_neuron_for_every_layer_or_for_some(jelly: Any) -> None:
    """A Neuron, or None for a layer that keeps its dynamics; also in place of unknown classes."""
    net = nn.Sequential(jelly.LIFNode(), jelly.IFNode(), jelly.ILIFNode())
    eager(lnm.nn.convert(net, neuron=lambda n: None if type(n) is jelly.IFNode else lnm.get("qif")))
    assert [layer.neuron.name for layer in net] == ["qif", "if", "qif"]
    assert [one.status for one in lnm.nn.conversion_report(net).layers] == [
        "approximate",
        "exact",
        "approximate",
    ]
    other = lnm.nn.convert(nn.Sequential(jelly.LIFNode()), lnm.get("alif"))
    assert other[0].neuron.name == "alif"


def test_a_given_neuron_has_the_calls_of_the_library() -> None:
    snn = pytest.importorskip("snntorch")
    norse = pytest.importorskip("norse.torch")
    two = lnm.get("lnm", states=2)
    x = torch.ones(2, 3)
    leaky: Any = eager(lnm.nn.convert(snn.Leaky(beta=0.9), two))
    _, mem = leaky(x, leaky.init_leaky())
    assert torch.equal(mem, leaky.v)
    leaky(x, mem=mem)
    cell: Any = eager(lnm.nn.convert(norse.LIFCell(), two))
    out, state = cell(x)
    assert set(state) == {"v", "w"}
    assert cell(x, state)[0].shape == out.shape
    synaptic = snn.Synaptic(alpha=0.9, beta=0.8)
    assert lnm.nn.convert(synaptic, lnm.get("lif")) is synaptic
    (line,) = lnm.nn.conversion_report(synaptic).layers
    assert "2 states, and lif has 1" in line.reason


@pytest.mark.parametrize("function", [lnm.nn.convert, lnm.nn.conversion_report])
def test_only_modules(function: Any) -> None:
    with refused(ModelError, function.__name__, "'net'", "torch.nn.Module"):
        function("net")


def test_only_neurons(jelly: Any) -> None:
    with refused(ModelError, "convert", "'lif'", "an lnm.Neuron"):
        lnm.nn.convert(jelly.IFNode(), neuron="lif")  # type: ignore[arg-type]
    with refused(ModelError, "convert", "neuron(layer)", "or None"):
        lnm.nn.convert(jelly.IFNode(), neuron=lambda old: 3)  # type: ignore[arg-type, return-value]
    x, y = lnm.input("x"), lnm.input("y")
    two = lnm.Neuron(fire=x + y - 1, name="two")
    net = nn.Sequential(jelly.IFNode())
    with refused(ModelError, "convert", "two has 2 inputs", "one of each"):
        lnm.nn.convert(net, two)
    assert type(net[0]) is jelly.IFNode  # nothing is changed
