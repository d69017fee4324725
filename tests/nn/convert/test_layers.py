"""Layers of SpikingJelly, snnTorch and Norse against their conversions: spikes and gradients."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.nn import NeuronLayer, RecurrentLayer
from lnm_codegen.nn.hooks import watching
from lnm_codegen.nn.parameters import values_of
from tests.nn.convert.peers import (
    SHAPE,
    Run,
    T,
    assert_same,
    converted,
    draw,
    finished,
    pair,
    refusal,
    spikes,
)
from tests.refusals import assert_refused, refused

neuron: Any = pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)
surrogates: Any = pytest.importorskip("spikingjelly.activation_based.surrogate")
layer: Any = pytest.importorskip("spikingjelly.activation_based.layer")
snn: Any = pytest.importorskip("snntorch")
norse: Any = pytest.importorskip("norse.torch")
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

from norse.torch.functional import (  # noqa: E402
    izhikevich,
    leaky_integrator,
    leaky_integrator_box,
    lif_adex,
    lif_box,
    lif_ex,
    lsnn,
)
from norse.torch.functional.reset import reset_subtract  # noqa: E402

slow = pytest.mark.slow


class Case(NamedTuple):
    """A layer, the run that its library does, its input, and the relative tolerance."""

    layer: Any
    run: Callable[..., Run]
    x: Tensor
    rtol: float = 1e-8

    def compared(self, layer: Any = None) -> Run:
        """Compare a layer with its conversion, which is exact; return the run."""
        peer, new = pair(self.layer if layer is None else layer)
        expected = self.run(peer, self.x)
        if bool(expected.grad_x.isfinite().all()):  # EIF and QIF can diverge
            assert_same(self.run(new, self.x), expected, self.rtol)
        (line,) = lnm.nn.conversion_report(new).layers
        assert (line.status, line.converted) == ("exact", True)
        return expected


NAMES: dict[str, dict[str, Any]] = {
    "IFNode": {}, "LIFNode": {"tau": 1.7, "decay_input": False}, "QIFNode": {"v_c": 0.7, "a0": 0.9},
    "ParametricLIFNode": {"init_tau": 3.0}, "EIFNode": {"delta_T": 0.7, "theta_rh": 0.9},
    "KLIFNode": {"tau": 3.0}, "CUBALIFNode": {"v_decay": 0.6},
    "IzhikevichNode": {"a": 0.3, "b": 0.2, "w_rest": 0.1, "tau_w": 3.0},
}  # fmt: skip
JELLY_STATES = ("w", "c", "current", "u", "m")


@st.composite
def nodes(draws: st.DrawFn) -> nn.Module:
    """Return a layer of any class and options."""
    name = draws(st.sampled_from(sorted(NAMES)))
    options = dict(NAMES[name])
    v_reset = draws(st.sampled_from([None, 0.0, -0.2]))
    if v_reset is not None and name in ("QIFNode", "EIFNode"):
        v_reset = -0.2  # they require v_rest >= v_reset
    if name in ("LIFNode", "ParametricLIFNode", "KLIFNode"):
        options["decay_input"] = draws(st.booleans())
    if name == "KLIFNode":
        options["scale_reset"] = draws(st.booleans())
    kind = draws(st.sampled_from(["ATan", "Sigmoid", "Rect", "PiecewiseQuadratic", "SuperSpike"]))
    node = getattr(neuron, name)(
        v_threshold=draws(st.sampled_from([1.0, 0.6])),
        v_reset=v_reset,
        surrogate_function=getattr(surrogates, kind)(),
        **options,
    )
    node.detach_reset = draws(st.booleans())
    node.step_mode = draws(st.sampled_from("sm"))
    node.store_v_seq = draws(st.booleans())
    if name == "KLIFNode":
        nn.init.constant_(node.k, draws(st.sampled_from([1.0, 0.8, 1.3])))
    return node


def run_jelly(node: Any, x: Tensor, calls: int = 2) -> Run:
    """Return a run over x in one or two calls, with v_seq where the layer stores it."""
    x = x.clone().requires_grad_()
    outs, voltages = [], []
    for part in x.chunk(calls):
        if node.step_mode == "m":
            outs.append(node(part))
            voltages.append(getattr(node, "v_seq", None))
        else:
            outs += [node(step).unsqueeze(0) for step in part]
            voltages = [getattr(node, "v_seq", None)]
    values = (getattr(node, name, None) for name in JELLY_STATES)
    states = [v for v in values if isinstance(v, Tensor) and not isinstance(v, nn.Parameter)]
    states += [torch.cat(voltages)] if voltages[0] is not None else []
    return finished(node, x, torch.cat(outs), (node.v, *states))


def case(name: str, **options: Any) -> tuple[str, dict[str, Any]]:
    return name, {**NAMES.get(name, {}), **options}


WINDOW = surrogates.MultiLevelSpikeCount(3, grad_window=(-0.5, 2.5))
JELLY = [
    case("IFNode", v_reset=None, store_v_seq=True, detach_reset=True),
    case("LIFNode", v_reset=-0.2, detach_reset=True),
    case("ParametricLIFNode", decay_input=False, v_threshold=0.6),
    case("KLIFNode", scale_reset=True, v_reset=None, store_v_seq=True),
    case("CUBALIFNode"), case("QIFNode"), case("EIFNode"),
    case("IzhikevichNode", v_reset=None, detach_reset=True),
    # Layers whose neuron is a family, or is made of one.
    case("SimpleIFNode", v_reset=-0.2),
    case("SimpleLIFNode", tau=2.5, decay_input=False, v_reset=0.1, detach_reset=True),
    case("TernaryIFNode", store_v_seq=True),
    case("TernaryLIFNode", tau=1.5, v_reset=0.2, v_threshold=0.6,
         surrogate_function=surrogates.ATan()),
    case("TernaryLIFNode", decay_input=False, v_reset=None, detach_reset=True, store_v_seq=True),
    case("ComplementaryLIFNode", tau=1.5),
    case("RAFNode", v_threshold=0.5, store_v_seq=True),
    case("RAFNode", v_reset=-0.3, dt=0.5, v_threshold=0.4),
    case("ILIFNode", store_v_seq=True),
    case("ILIFNode", tau=2.0, v_threshold=0.5, detach_reset=True, surrogate_function=WINDOW),
]  # fmt: skip
STEPS = list(enumerate(torch.rand(3, 5, 3)))
OPTIONS = {
    "Leaky": {"beta": 0.8},
    "Synaptic": {"alpha": 0.7, "beta": 0.8},
    "Lapicque": {"R": 2.0, "C": 1.5},
    "Alpha": {"alpha": 0.9, "beta": 0.6},
    "RLeaky": {"beta": 0.8, "linear_features": 4},
    "RSynaptic": {"alpha": 0.7, "beta": 0.8, "linear_features": 4},
}
EACH: dict[str, Any] = {"all_to_all": False, "linear_features": None}


def run_snn(layer: Any, x: Tensor) -> Run:
    """Return a run step by step, with all states of a call, passed on or kept."""
    x = x.clone().requires_grad_()
    layer.reset_mem()
    outs, seen = [], []
    states: tuple[Any, ...] = ()
    takes_spikes = isinstance(layer, snn.RLeaky | snn.RSynaptic)
    takes_spikes |= getattr(layer, "words", ("",))[0] == "spk"
    if isinstance(getattr(layer, "recurrent", None), nn.Linear):  # spikes are in float32
        layer.recurrent.register_forward_pre_hook(lambda module, given: (given[0].double(),))
    for step in x:
        result = layer(step, *states)
        result = result if isinstance(result, tuple) else (result,)
        outs.append(result[0].double())
        seen.append(torch.stack(result[1:]) if result[1:] else step)
        states = () if layer.init_hidden else result[0 if takes_spikes else 1 :]
    return finished(layer, x, torch.stack(outs), (torch.stack(seen),))


@st.composite
def layers(draws: st.DrawFn) -> nn.Module:
    """Return a layer of any class and options, of numbers or tensors."""
    from snntorch import surrogate

    name = draws(st.sampled_from(sorted(OPTIONS)))
    options: dict[str, Any] = dict(OPTIONS[name])
    threshold: Any = draws(st.sampled_from([1.0, 0.7, -0.3]))
    if name == "Alpha":
        options["learn_beta"] = draws(st.booleans())
    elif name != "Lapicque":
        options["learn_beta"] = draws(st.booleans())
        options["reset_delay"] = name == "RSynaptic" or draws(st.booleans())
        beta = draws(st.sampled_from(["number", "neuron", "one", "over"]))
        if beta != "number":
            values = {"neuron": torch.linspace(0.5, 0.9, 4), "one": torch.tensor([0.6])}
            options["beta"] = values.get(beta, torch.tensor(1.2))
    if name == "Synaptic":
        options["learn_alpha"] = draws(st.booleans())
    if name in ("RLeaky", "RSynaptic"):
        options["learn_recurrent"] = draws(st.booleans())
        if draws(st.booleans()):
            options |= EACH | {"V": draws(st.sampled_from([0.7, torch.linspace(-1, 1, 4)]))}
    if name == "Leaky":
        options["graded_spikes_factor"] = draws(st.sampled_from([1.0, 2.5]))
        options["learn_graded_spikes_factor"] = draws(st.booleans())
    made = getattr(surrogate, draws(st.sampled_from(["atan", "fast_sigmoid", "sigmoid"])))
    return getattr(snn, name)(  # type: ignore[no-any-return]
        threshold=threshold,
        learn_threshold=draws(st.booleans()),
        reset_mechanism=draws(st.sampled_from(["subtract", "zero", "none"])),
        spike_grad=made(),
        init_hidden=draws(st.booleans()),
        output=draws(st.booleans()),
        **options,
    )


SNN: list[tuple[str, dict[str, Any]]] = [
    ("Leaky", {"learn_beta": True, "learn_threshold": True}),
    ("Leaky", {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}),
    ("Leaky", {"reset_mechanism": "none", "beta": torch.linspace(0.4, 0.9, 4), "learn_beta": True}),
    ("Synaptic", {"learn_alpha": True, "learn_beta": True, "reset_mechanism": "zero"}),
    ("Lapicque", {"init_hidden": True, "output": True}),
    ("Lapicque", {"R": False, "C": False, "beta": 0.8, "reset_mechanism": "zero"}),
    ("Alpha", {"learn_beta": True, "learn_threshold": True}),
    ("Alpha", {"reset_mechanism": "subtract", "init_hidden": True, "output": True}),
    ("Alpha", {"reset_mechanism": "none"}),
    ("RLeaky", {"learn_beta": True, "learn_threshold": True}),
    ("RLeaky", {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}),
    ("RLeaky", EACH | {"V": torch.linspace(-1, 1, 4), "learn_beta": True}),
    ("RSynaptic", {"beta": torch.linspace(0.4, 0.9, 4), "learn_beta": True}),
    ("RSynaptic", EACH | {"V": 0.7, "reset_mechanism": "zero", "init_hidden": True}),
]


X = (8, *SHAPE)
SCALE = 12.0  # dt*tau_mem_inv is 0.1
DECAYS = {"tau_mem_inv": 130.0, "tau_syn_inv": 170.0, "v_leak": 0.1}
SPIKING = DECAYS | {"v_th": 0.8, "v_reset": -0.1}
BOX = {n: v for n, v in SPIKING.items() if n != "tau_syn_inv"}
EX = SPIKING | {"delta_T": 0.4}


def with_numbers(kind: Any, **fields: Any) -> Any:
    """Return parameters of Norse whose numbers are float64 tensors."""
    made = {n: torch.tensor(v).double() if isinstance(v, float) else v for n, v in fields.items()}
    return kind(**made)


box, lif = (
    partial(with_numbers, lif_box.LIFBoxParameters),
    partial(with_numbers, norse.LIFParameters),
)
NORSE: dict[str, Callable[[], nn.Module]] = {
    "LIFBoxCell": lambda: norse.LIFBoxCell(box(**BOX)),
    "subtract": lambda: norse.LIFBoxCell(box(**BOX, reset_method=reset_subtract)),
    "LIFCell": lambda: norse.LIFCell(lif(**SPIKING)),
    "LIF": lambda: norse.LIF(lif(**SPIKING, method="tanh", alpha=1.5)),
    "LICell": lambda: norse.LICell(with_numbers(leaky_integrator.LIParameters, **DECAYS)),
    "LI": lambda: norse.LI(with_numbers(leaky_integrator.LIParameters, **DECAYS)),
    "LIBoxCell": lambda: norse.LIBoxCell(
        with_numbers(leaky_integrator_box.LIBoxParameters, tau_mem_inv=130.0, v_leak=0.1)
    ),
    "IAFCell": norse.IAFCell,
    "IAF": norse.IAF,
    "IzhikevichCell": lambda: norse.IzhikevichCell(izhikevich.tonic_spiking),
    "Izhikevich": lambda: norse.Izhikevich(izhikevich.phasic_bursting),
    "LIFExCell": lambda: norse.LIFExCell(with_numbers(lif_ex.LIFExParameters, **EX)),
    "LIFEx": lambda: norse.LIFEx(lif_ex.LIFExParameters(method="tanh", alpha=1.5)),
    "LIFAdExCell": lambda: norse.LIFAdExCell(
        with_numbers(
            lif_adex.LIFAdExParameters, **EX, tau_ada_inv=90.0, adaptation_current=1.5,
            adaptation_spike=0.3,
        )
    ),
    "LIFAdEx": norse.LIFAdEx,
    "LSNNCell": lambda: norse.LSNNCell(
        with_numbers(lsnn.LSNNParameters, **SPIKING, tau_adapt_inv=90.0, beta=0.5)
    ),
    "LSNN": norse.LSNN,
    "LIFRecurrentCell": lambda: norse.LIFRecurrentCell(4, 5, lif(**SPIKING)),
    "LIFRecurrent": lambda: norse.LIFRecurrent(4, 5, lif(**SPIKING, method="tanh"), autapses=True),
    "LSNNRecurrentCell": lambda: norse.LSNNRecurrentCell(
        4, 5, with_numbers(lsnn.LSNNParameters, **SPIKING, tau_adapt_inv=90.0, beta=0.5)
    ),
    "LSNNRecurrent": lambda: norse.LSNNRecurrent(4, 3),
}  # fmt: skip
"""Layers with parameters of their own, in float64."""


def run_norse(layer: Any, x: Tensor, calls: int = 2) -> Run:
    """Return a run with the states of the end, a NamedTuple, passed from call to call."""
    x = x.clone().requires_grad_()
    is_cell = type(layer).__name__.endswith("Cell") or getattr(layer, "step_mode", "m") == "s"
    outs, state = [], None
    for part in x.unbind() if is_cell else x.chunk(calls):
        out, state = layer(part, state)
        outs.append(out.unsqueeze(0) if is_cell else out)
    assert state is not None
    return finished(layer, x, torch.cat(outs), state)


ROUNDED = ("LI", "Izhikevich", "IzhikevichCell", "LIFEx", "LIFAdEx", "LSNN", "LSNNRecurrent")
"""Layers with float32 states or parameters in Norse."""


def scale_of(name: str) -> float:
    return 1.0 if name.startswith("IAF") else 40.0 if name.startswith("Izh") else SCALE


def of_jelly(node: Any, seed: int = 1, calls: int = 2) -> Case:
    return Case(node, partial(run_jelly, calls=calls), draw(seed, scale=1.5))


def of_snn(layer: Any, seed: int = 1) -> Case:
    return Case(layer, run_snn, draw(seed), 1e-5)


def of_norse(name: str) -> Case:
    rtol = 1e-6 if name in ROUNDED else 1e-8
    return Case(NORSE[name](), run_norse, draw(3, X, scale_of(name)), rtol)


CONTAINED: list[tuple[Any, dict[str, Any], Any]] = [
    ("LIFNode", {"detach_reset": True}, None),
    ("ParametricLIFNode", {"v_reset": None, "surrogate_function": surrogates.Sigmoid()}, None),
    ("LIFNode", {"detach_reset": True, "tau": 1.5}, lambda y, x: x + 0.5 * y),
    ("ParametricLIFNode", {"v_reset": None}, torch.sub),
    ("IzhikevichNode", {"detach_reset": True}, lambda y, x: x * (1 - y / 2)),
]


def contained(name: str, options: dict[str, Any], function: Any, mode: str) -> Case:
    """Return the case of a recurrent container: linear, or with a function of each element."""
    node = getattr(neuron, name)(step_mode="s", **options)
    if function is None:
        made = layer.LinearRecurrentContainer(node, 4, 4, step_mode=mode)
    else:
        made = layer.ElementWiseRecurrentContainer(node, function, step_mode=mode)
    return Case(made, run_contained, draw(1, scale=3.0))


def run_contained(layer: Any, x: Tensor) -> Run:
    """Return a run in two calls, without states, which a container and its layer both have."""
    x = x.clone().requires_grad_()
    if layer.step_mode == "m":
        outs = [layer(part) for part in x.split(3)]
    else:
        outs = [layer(step)[None] for step in x]
    return finished(layer, x, torch.cat(outs), ())


def jelly_node(name: str, options: dict[str, Any], step_mode: str) -> Case:
    node = getattr(neuron, name)(**options)
    node.step_mode = step_mode
    return of_jelly(node)


CASES = [
    *(
        pytest.param(jelly_node, (*case, mode), marks=() if (mode == "m") == (k % 3 > 0) else slow)
        for k, case in enumerate(JELLY)
        for mode in "sm"
    ),
    *((lambda n, options: of_snn(getattr(snn, n)(**OPTIONS[n] | options)), case) for case in SNN),
    *((of_norse, (name,)) for name in NORSE),
    *((contained, (*case, "sm"[k % 2])) for k, case in enumerate(CONTAINED)),
]


@pytest.mark.parametrize(("make", "arguments"), CASES)
def test_spikes_states_and_gradients(make: Any, arguments: Any) -> None:
    found = make(*arguments).compared()
    assert arguments[0] in ("LI", "LICell", "LIBoxCell") or spikes(found)


@slow
@settings(deadline=None, max_examples=60)
@given(nodes(), st.integers(0, 10**6), st.sampled_from([1, 2]))
def test_every_class_and_option_of_spikingjelly(node: Any, seed: int, calls: int) -> None:
    of_jelly(node, seed, calls).compared()


@slow
@settings(deadline=None, max_examples=60)
@given(layers(), st.integers(0, 10**6))
def test_every_class_and_option_of_snntorch(layer: Any, seed: int) -> None:
    of_snn(layer, seed).compared()


UP = 1.0 + 2.0**-52
RECT: dict[str, Any] = {"surrogate_function": surrogates.Rect(), "v_threshold": 0.5}
TIES: list[tuple[Any, Any, list[list[float]], list[float]]] = [
    # A potential equal to the threshold spikes; silent neurons have the library's gradient.
    *(
        (of_jelly, getattr(neuron, name)(step_mode="m", **RECT, **options),
         [[0.5, 0.0, 0.25, -0.5]] * 4, [1.0, 0.0, 0.0, 0.0])
        for name, options in (
            ("IFNode", {}),
            *((name, {"decay_input": False}) for name in ("LIFNode", "KLIFNode")),
        )
    ),
    # Counts at a half are rounded to even, also where the gradient's window ends.
    (
        of_jelly, neuron.ILIFNode(tau=2.0, step_mode="m"),
        [[k * n for n in (0.5, 1.5, 2.5, 3.5, 4.5, 0.0, 4.0, -1e-9, 1e-9)] for k in (1, -0.5, 1)],
        [0, 2, 2, 4, 4, 0, 4, 0, 0],
    ),
    # The others fire at >, and snnTorch resets at > one step later.
    (
        of_snn, snn.Leaky(beta=0.5),
        [[1.0, UP, 0.5], [0.5, 0.0, 0.75], [0.5, 0.5, 0.0]], [0.0, 1.0, 0.0],
    ),
    (lambda cell: Case(cell, run_norse, draw(0)), norse.IAFCell(), [[1.0, UP], [1.0, 1.0]], [0, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("case", "layer", "x", "first"), TIES)
def test_ties_and_zeros(case: Any, layer: Any, x: Any, first: list[float]) -> None:
    found = case(layer)._replace(x=torch.tensor(x, dtype=torch.float64).unsqueeze(1)).compared()
    assert found.out[0, 0].tolist() == first


BROADCAST = [
    ((3, 1, 1), (3, 2, 2)),  # per channel
    ((1, 4, 4), (1, 4, 4)),
    ((1, 4, 4), (4, 4)),
    ((1, 4, 4), (2, 4, 4)),
    ((4,), (3, 4)),
    ((1, 4), (4,)),
]


@pytest.mark.parametrize(("shape", "sample"), BROADCAST)
def test_a_value_that_broadcasts_to_a_sample(
    shape: tuple[int, ...], sample: tuple[int, ...]
) -> None:
    """The parameter has its own shape, before and after the first call."""
    beta = torch.linspace(0.3, 0.9, 16)[: torch.Size(shape).numel()].reshape(shape)
    is_channel = shape == (3, 1, 1)
    threshold = 1.0 if is_channel else 0.3 + beta.squeeze(0)
    peer, new = pair(snn.Leaky(beta=beta, learn_beta=True, threshold=threshold))
    saved = peer.state_dict()
    for batch in (2, 3):
        x = draw(4, (T, batch, *sample))
        assert_same(run_snn(new, x), run_snn(peer, x), 1e-5)
        assert new.beta.shape == (shape[:1] if is_channel else shape)
        new.load_state_dict(saved)
    if not is_channel:
        with refused(ShapeError, "leaky", "neurons (5,) in a sample", "per neuron"):
            new(draw(4, (2, 5)))
        tau = 60 + 80 * beta.double()
        cell = norse.LIFBoxCell(box(tau_mem_inv=tau, v_th=0.8))
        Case(cell, run_norse, draw(5, (8, 2, *sample), SCALE)).compared()


def with_options(**options: Any) -> Any:
    return snn.Leaky(**{"beta": 0.5} | options)


def node_with(change: Callable[[Any], object]) -> Any:
    node = neuron.LIFNode()
    change(node)
    return node


def setting(name: str, value: Any) -> Any:
    return node_with(lambda node: setattr(node, name, value))


class Strict(nn.Module):
    """A surrogate that fires at >."""

    def forward(self, z: Tensor) -> Tensor:
        return (z > 0).to(z)


def own_charge() -> Any:
    layer = snn.Leaky(beta=0.5)
    layer.state_function = lambda x: x
    return layer


CHARGE = "state_function is not the layer's own. "
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: setting("v_threshold", torch.ones(3)), "v_threshold is a tensor of shape"),
    (lambda: setting("v_threshold", nn.Parameter(torch.tensor(1.0))), "a gradient"),
    (lambda: setting("_neuron_precision", ("fp16",) * 3), "precision"),
    (lambda: node_with(lambda n: n.set_reset_value("v", 0.5)), "reset value of v is 0.5"),
    (lambda: node_with(lambda n: n.set_reset_value("v", torch.zeros(3))), "value of v is tensor"),
    (lambda: setting("tau", float("nan")), "tau is nan"),
    (lambda: setting("surrogate_function", Strict()), "at > 0"),
    # SpikingJelly does not restrict tau_w.
    (lambda: neuron.IzhikevichNode(tau_w=0.5), "tau_w is 0.5 (accepted: a number > 1)"),
    (lambda: with_options(inhibition=True), "inhibition"),
    (lambda: with_options(state_quant=lambda x: x), "state_quant"),
    (lambda: with_options(beta=torch.rand(2, 3, 1)), "beta (2, 3, 1)"),
    (lambda: with_options(beta=torch.rand(4), threshold=torch.rand(5)), "threshold (5,)"),
    (lambda: with_options(beta=float("nan")), "beta is not finite"),
    (own_charge, CHARGE),
    (lambda: copy.copy(snn.Leaky(beta=0.5)), CHARGE),  # it runs the charge of the original
    # Its second backward fails in snnTorch itself: C keeps the graph of beta.
    (lambda: snn.Lapicque(beta=torch.tensor(0.8), learn_beta=True), "single backward"),
    (lambda: norse.LIFCell(lif(method="adjoint")), "method 'adjoint'"),
    (lambda: norse.LIF(record_states=True), "record_states"),
    (lambda: norse.LIFBoxCell(box(reset_method=lambda z, v, r, th: v)), "reset_method <lambda>"),
    (lambda: norse.LIFBoxCell(box(v_leak=nn.Parameter(torch.zeros(())))), "v_leak"),
    (lambda: norse.LIFCell(lif(tau_mem_inv=2 * nn.Parameter(torch.ones(())))), "computed from"),
    (lambda: norse.LIFExRecurrentCell(3, 4), "no neuron for LIFExRecurrentCell"),
    (lambda: norse.LSNNRecurrent(3, 4, adjoint=True), "its step is"),
    (lambda: snn.RSynaptic(0.7, 0.8, reset_delay=False, linear_features=4), "reset_delay=False"),
    (lambda: snn.RSynaptic(0.7, 0.8, conv2d_channels=2, kernel_size=3), "by a convolution"),
    (lambda: norse.LSNNCell(adjoint=True), "its step is norse.torch.functional.adjoint"),
    (lambda: norse.LIFRefracCell(), "no neuron for LIFRefracCell"),
]


@pytest.mark.parametrize(("make", "problem"), REFUSED)
def test_options_without_an_equal_are_refused(make: Any, problem: str) -> None:
    assert problem in refusal(make())


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_shared_parameter_stays_shared(shape: tuple[int, ...]) -> None:
    """In snnTorch, and a tensor of two cells of Norse, which becomes one parameter."""
    net = nn.Sequential(*(snn.Leaky(beta=0.5, learn_beta=True, init_hidden=True) for _ in "ab"))
    net[0].beta = net[1].beta = nn.Parameter(torch.full(shape, 0.9))
    old = copy.deepcopy(net)
    converted(net)
    assert net[0].beta is net[1].beta
    for one in (net, old):
        one(torch.ones(2, 3)).sum().backward()
    assert len(list(net.parameters())) == 1
    torch.testing.assert_close(net[0].beta.grad, old[0].beta.grad.reshape(()))
    value = torch.full(shape, 0.5)
    threshold = value.requires_grad_() if shape else nn.Parameter(value)
    cells = (norse.LIFCell(norse.LIFParameters(v_th=threshold)) for _ in "ab")
    net = converted(norse.SequentialState(*cells))
    assert net[0].v_th is net[1].v_th
    assert len(list(net.parameters())) == 1


# ---- SpikingJelly ----


READOUTS = [
    pytest.param(f"NonSpiking{name}Node", decode, marks=() if quick else slow)
    for name in ("LIF", "IF")
    for decode in ("max-mem", "max-abs-mem", "mean-mem", "last_mem", None)
    for quick in [name == "LIF" or decode is None]
]


@pytest.mark.parametrize(("name", "decode"), READOUTS)
def test_readouts(name: str, decode: str | None) -> None:
    """They return one step, or a list of all, and begin each call anew."""

    def outputs(node: Any) -> Run:
        x = (draw(2) - 0.5).requires_grad_()
        found = [node(part) for part in x.chunk(2)]
        assert isinstance(found[0], list) == (decode is None)
        steps = [torch.stack(out) if isinstance(out, list) else out for out in found]
        return finished(node, x, torch.stack(steps), ())

    peer, layer = pair(getattr(neuron, name)(decode=decode))
    assert_same(outputs(layer), outputs(peer))


@pytest.mark.parametrize("inplane", [None, 4])
def test_gated_lif(inplane: int | None) -> None:
    """Its conductances of the time steps stay the same parameter; a call begins without a spike."""
    torch.manual_seed(0)
    node = neuron.GatedLIFNode(T=3, inplane=inplane, init_tau=0.4)
    peer, layer = pair(node)
    assert [n for n, _ in layer.named_parameters()] == [n for n, _ in node.named_parameters()]
    layer.load_state_dict(peer.state_dict())

    def outputs(gated: Any) -> Run:
        x = draw(3, (6, 3, 4, 2, 2), scale=1.5).requires_grad_()
        return finished(gated, x, torch.cat([gated(part) for part in x.chunk(2)]), (gated.v,))

    expected = outputs(peer)
    assert spikes(expected)
    assert_same(outputs(layer), expected)
    with refused(ShapeError, "glif", "x_seq is (2, 3, 4, 2, 2)", "(T, N, C, H, W) with T = 3"):
        layer(draw(3, (2, 3, 4, 2, 2)))


def test_reset_net_and_detach_net_reach_converted_layers() -> None:
    """Also where `reset_net` has stored its list of modules before the conversion."""
    from spikingjelly.activation_based import functional

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), neuron.LIFNode(step_mode="m"))
    before = net[1]
    functional.reset_net(net)
    converted(net)
    x = 8 * torch.rand(T, 3, 4, generator=torch.Generator().manual_seed(0))
    first = net(x)
    assert 0 < first.mean() < 1
    assert not torch.equal(net(x), first)
    assert net[1].v.requires_grad
    functional.detach_net(net)
    assert not net[1].v.requires_grad
    functional.reset_net(net)
    assert net[1].state == {}
    assert before.v == 0.0
    functional.set_step_mode(net, "s")
    assert net[1].step_mode == "s"
    torch.testing.assert_close(torch.stack([net(step) for step in x]), first)


def test_v_seq_grows_step_by_step_and_is_reset() -> None:
    """The recomputation of a checkpoint appends no step."""
    node = neuron.LIFNode(store_v_seq=True)
    layer = converted(copy.deepcopy(node))
    x = draw(3).float()
    for step in x:
        node(step)
        layer(step)
    torch.testing.assert_close(layer.v_seq, node.v_seq)
    assert layer.v_seq.shape == x.shape
    out, state = layer(x[0], return_state=True)
    assert out.shape == state["v"].shape == SHAPE
    layer.detach()
    assert not layer.v_seq.requires_grad
    layer.reset()
    assert layer.v_seq is None
    given = torch.ones(SHAPE).requires_grad_()
    out = checkpoint(lambda y: layer(y, state={"v": 0.5}).exp(), given, use_reentrant=False)
    out.sum().backward()
    assert layer.v_seq.shape == (1, *SHAPE)


def test_the_learned_parameter_stays_the_same_object() -> None:
    """So an optimiser that exists trains the converted model; old checkpoints load."""
    net = nn.Sequential(nn.Linear(4, 4), neuron.ParametricLIFNode(), neuron.KLIFNode())
    saved = copy.deepcopy(net.state_dict())
    nn.init.constant_(net[0].bias, 3.0)
    w = net[1].w
    optimiser = torch.optim.SGD(net.parameters(), lr=1.0)
    converted(net)
    assert net[1].w is w
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.w", "2.k"]
    net(torch.ones(2, 4)).sum().backward()
    optimiser.step()
    assert not torch.equal(w, saved["1.w"])
    assert not any(net.load_state_dict(saved))
    assert torch.equal(w, saved["1.w"])


def test_the_layout_of_version_0_0_0_0_14() -> None:
    """There `neuron` is one module. A class is known by its module and its name."""
    old = type("LIFNode", (neuron.LIFNode,), {"__module__": "spikingjelly.activation_based.neuron"})
    layer = lnm.nn.convert(old(tau=3.0))
    assert isinstance(layer, NeuronLayer)
    assert float(layer.tau) == 3.0


# ---- snnTorch ----


ORDER = ("subtract", "zero", "none")
RESETS = [
    (name, {"reset_delay": delay} if name in ("Leaky", "Synaptic") else {})
    for name in sorted(OPTIONS)
    for delay in ((True, False) if name in ("Leaky", "Synaptic") else (True,))
]
CHANGES = [
    pytest.param(*case, ORDER[k], ORDER[j], loads, marks=() if is_quick else slow)
    for case in RESETS
    for k, j, loads in itertools.product(range(3), range(3), (True, False))
    for is_next in [j == (k + 1) % 3 and loads == bool(k % 2)]
    for is_quick in [is_next and (case[0] == "Leaky" or k == 1)]
]


@pytest.mark.parametrize(("name", "options", "first", "later", "loads"), CHANGES)
def test_a_reset_that_is_changed_later(
    name: str, options: dict[str, Any], first: str, later: str, loads: bool
) -> None:
    """snnTorch keeps the old reset in the charge. A converted layer had the new one."""
    kind, own = getattr(snn, name), OPTIONS[name] | options
    layer = kind(**own, reset_mechanism=first)
    if loads:
        layer.load_state_dict(kind(**own, reset_mechanism=later).state_dict())
    else:
        layer.reset_mechanism = later
    of_snn(layer).compared()


def test_state_of_another_shape_begins_anew() -> None:
    """As in snnTorch, whose `init_leaky` returns a state without elements."""
    layer = snn.Leaky(beta=0.5)
    new = converted(copy.deepcopy(layer))
    assert layer.init_leaky().shape == new.init_leaky().shape == (0,)
    x = torch.rand(3, 4)
    _, mem = new(x, new.init_leaky())
    torch.testing.assert_close(mem, layer(x)[1])
    torch.testing.assert_close(new(x[:2])[1], layer(x[:2])[1])
    torch.testing.assert_close(new(x[:2], mem=mem[:2])[1], layer(x[:2], mem=mem[:2])[1])


def test_an_old_checkpoint_loads_and_fixed_options_are_compared() -> None:
    net = nn.Sequential(nn.Linear(3, 4), snn.Leaky(beta=0.5, learn_beta=True, init_hidden=True))
    saved = net.state_dict()
    new = lnm.nn.convert(copy.deepcopy(net))
    assert set(new.state_dict()) == set(saved)
    assert not any(new.load_state_dict(saved | {"1.beta": torch.tensor([0.25])}))
    assert float(new[1].beta) == 0.25
    net.load_state_dict(new.state_dict())  # and back
    with pytest.raises(RuntimeError, match=r"1\.reset_mechanism_val is 1, here 0"):
        new.load_state_dict(saved | {"1.reset_mechanism_val": torch.tensor(1)})
    without = {k: v for k, v in saved.items() if "graded" not in k and "reset" not in k}
    assert not any(new.load_state_dict(without))


@pytest.mark.parametrize(
    ("name", "learned"),
    [("Synaptic", ("alpha", "beta", "threshold")),
     ("Leaky", ("beta", "graded_spikes_factor", "threshold"))],
)  # fmt: skip
def test_parameters_keep_their_order(name: str, learned: tuple[str, ...]) -> None:
    """A state_dict of an optimiser has no names."""
    layer = getattr(snn, name)(**OPTIONS[name], **{f"learn_{word}": True for word in learned})
    names = [n for n, _ in layer.named_parameters()]
    assert len(names) == 3
    assert [n for n, _ in lnm.nn.convert(layer).named_parameters()] == names


def test_a_hidden_state_is_reset_by_ours_and_the_layer_leaves_their_list() -> None:
    net = nn.Sequential(nn.Linear(3, 4), snn.Leaky(beta=0.9, init_hidden=True))
    old = net[1]
    converted(net)
    assert all(one is not old for one in snn.SpikingNeuron.instances)
    x = torch.ones(2, 3)
    first = net(x)
    net[1].detach()
    net(x)
    assert net[1].mem.shape == (2, 4)
    lnm.nn.reset(net)
    assert torch.equal(net(x), first)


def test_calls_with_other_states_are_refused() -> None:
    names = {"x": torch.ones(2, 3), "layer": converted(snn.Leaky(beta=0.5))}
    names["hidden"] = converted(snn.Leaky(beta=0.5, init_hidden=True))
    assert_refused(
        """
leaky
    hidden(x, x) >> init_hidden is True >> >> layer(x)
    layer(x, syn=x) >> syn >> mem
    layer(x, x, x) >> states 2 >> mem
""",
        names,
        ModelError,
    )


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_a_checkpoint_of_kept_states_is_refused(first: int, is_reset: bool) -> None:
    """Its recomputation began with the final states, and the gradient was wrong in silence."""
    net = converted(nn.Sequential(nn.Linear(3, 4), snn.Leaky(0.9, init_hidden=True)))
    outs = [net(x) if k < first else checkpoint(net, x, use_reentrant=False) for k, x in STEPS]
    if is_reset:
        lnm.nn.reset(net)
    problem, remedy = "a layer that keeps its states is called in a backward", "init_hidden=False"
    with refused(UnsupportedError, "leaky", problem, remedy=remedy):
        torch.stack(outs).sum().backward()


@pytest.mark.parametrize("delay", [True, False])
def test_a_checkpoint_of_a_call_with_states(delay: bool) -> None:
    """It is exact, unless the layer also keeps the spike of the step before (reset_delay=False)."""
    net = converted(snn.Leaky(beta=0.9, reset_delay=delay))
    found = []
    for is_checkpoint in (False, True):
        net.reset_mem()
        mem, total, given = torch.zeros(2, 3), torch.zeros(()), torch.ones(2, 3).requires_grad_()
        for _ in range(3):
            step = (given, mem)
            out, mem = checkpoint(net, *step, use_reentrant=False) if is_checkpoint else net(*step)
            total = total + (out * mem).sum()
        if is_checkpoint and not delay:
            with refused(UnsupportedError, "leaky", "activation checkpointing"):
                total.backward()
            return
        total.backward()
        found.append(given.grad)
    torch.testing.assert_close(*found)


def test_states_kept_from_inference_mode_are_refused() -> None:
    layer = converted(snn.Leaky(beta=0.9, init_hidden=True))
    x = torch.ones(2, 3)
    with torch.inference_mode():
        layer(x)
    with refused(UnsupportedError, "leaky", "torch.inference_mode", remedy="Call reset()."):
        layer(x.requires_grad_())
    layer.reset()
    layer(x)


@pytest.mark.parametrize("called", [False, True])
def test_another_neuron_per_channel_loads_its_own_state_dict(called: bool) -> None:
    """Also where its parameters, or those of the state_dict, have no shape yet."""

    def made() -> Any:
        leaky = snn.Leaky(beta=0.9, init_hidden=True)
        return converted(nn.Sequential(leaky), lnm.get("lnm", degree=1, per="channel"))

    model, other = made(), made()
    x = torch.randn(2, 3)
    if called:
        model(x)
    other.load_state_dict(model.state_dict())
    lnm.nn.reset(model)
    assert torch.equal(other(x), model(x))


# ---- Norse ----


def test_states_pass_through_containers_of_norse() -> None:
    """Without a state each call begins anew; with one it goes on. `Lift` finds the state too."""
    net = norse.SequentialState(
        nn.Linear(4, 5), norse.LIFCell(), nn.Linear(5, 2), norse.LICell()
    )  # fmt: skip
    other = converted(copy.deepcopy(net))
    x, state, own = SCALE * torch.rand(8, 3, 4), None, None
    for step in x:
        expected, state = net(step, state)
        out, own = other(step, own)
        torch.testing.assert_close(out, expected)
    torch.testing.assert_close(other(x[0])[0], net(x[0])[0])
    lines = lnm.nn.conversion_report(other).layers
    found = [(one.path, one.source) for one in lines]
    assert found == [("1", "norse.LIFCell"), ("3", "norse.LICell")]
    lift = norse.Lift(norse.LIFBoxCell())
    expected, _ = lift(x)
    out, state = converted(lift)(x)
    torch.testing.assert_close(out, expected)
    assert state.v.shape == (3, 4)


@pytest.mark.parametrize(("carries", "goes_on"), [(None, False), (False, False), (True, True)])
def test_states_are_kept_as_the_caller_says(carries: bool | None, goes_on: bool) -> None:
    """A given state has priority; a reset begins anew."""
    layer = converted(norse.LIF(), carry_state=carries)
    x = torch.full((3, 1, 2), 0.1)
    first, second = layer(x)[1], layer(x)[1]
    assert torch.equal(first.v, second.v) != goes_on
    again = layer(x, first)[1]
    lnm.nn.reset(layer)
    assert torch.equal(layer(x)[1].v, first.v)
    torch.testing.assert_close(again.v, layer(x, first)[1].v)


def test_a_tensor_that_requires_a_gradient_becomes_a_parameter() -> None:
    """Norse does not list it; the converted layer does, as the same object."""
    tau = nn.Parameter(torch.tensor(120.0))
    cell = norse.LIFBoxCell(box(tau_mem_inv=tau))
    assert not list(cell.parameters())
    layer = converted(cell)
    assert dict(layer.named_parameters()) == {"tau_mem_inv": tau}
    assert layer.tau_mem_inv is tau
    layer(SCALE * torch.ones(2, 3))[0].sum().backward()
    assert tau.grad is not None


def test_a_checkpoint_of_norse_loads_and_one_of_ours_is_whole() -> None:
    """Norse saves nothing of `p`; the learned values are those of the layer."""
    cell = norse.LIFCell(norse.LIFParameters(v_th=nn.Parameter(torch.tensor(0.5))))
    net = norse.SequentialState(nn.Linear(3, 4), cell)
    saved = net.state_dict()
    lnm.nn.convert(net)
    assert not any(net.load_state_dict(saved))
    assert float(net[1].v_th) == 0.5
    ours = net.state_dict()
    assert not any(net.load_state_dict(ours))
    del ours["1.v_th"]
    with pytest.raises(RuntimeError, match=r"Missing key.*1\.v_th"):
        net.load_state_dict(ours)


RECURRENT: list[tuple[Callable[[], Any], Callable[[Any], list[Tensor]]]] = [
    (lambda: snn.RLeaky(0.8, linear_features=4, init_hidden=True),
     lambda old: [old.recurrent.weight, old.recurrent.bias]),
    (lambda: norse.LIFRecurrent(4, 4), lambda old: [old.input_weights, old.recurrent_weights]),
    (lambda: layer.LinearRecurrentContainer(neuron.ParametricLIFNode(step_mode="s"), 4, 4),
     lambda old: [old.sub_module.w, old.rc.bias]),
]  # fmt: skip


LOOPS: list[tuple[Callable[[], Any], Callable[[Any, Tensor], Any]]] = [
    (lambda: snn.Leaky(0.8), lambda m, x: m(x, torch.ones(3, 4))),
    (lambda: snn.RSynaptic(0.8, 0.7, linear_features=4), lambda m, x: m(x, *m.init_rsynaptic())),
    (lambda: norse.LSNNRecurrentCell(4, 4), lambda m, x: m(x, m(x)[1])),
    (RECURRENT[2][0], lambda m, x: m(x)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "run"), LOOPS)
def test_what_the_neurons_of_a_loop_receive(make: Any, run: Any) -> None:
    """Neurons alone give the same on it, from the states of the call."""
    new = converted(make()).double()
    seen: list[Any] = []
    with watching([(new, lambda _, received: seen.append(received))]), torch.no_grad():
        run(new, draw(4, (3, 4)).double())
    alone = NeuronLayer(new.neuron, shape=(4,), dtype=torch.float64, backend="torch")
    for received in seen:
        named = {"state": {n: v for n, v in received.state.items() if n != "feedback"}}
        out = functional_call(alone, values_of(new), received.inputs, named)
        torch.testing.assert_close(out, received.outputs[0])


@pytest.mark.parametrize("make", [LOOPS[0][0], LOOPS[1][0]])
def test_a_converted_step_runs_a_sequence(make: Any) -> None:
    """With step_mode="m": the last states of its steps, and samples of different lengths."""
    new, x = converted(make()).double(), draw(4, (T, 3, 4)).double() * 3
    steps, states = [], []
    for row in x:
        spikes, *states = new(row)
        steps.append(spikes)
    new.reset()
    new.step_mode = "m"
    out, *final = new(x)
    torch.testing.assert_close(out, torch.stack(steps))
    torch.testing.assert_close(final, list(states))
    cut, *_ = new(x, lengths=torch.tensor([T, 2, 1]))
    assert torch.equal(cut[:, 0], out[:, 0])
    assert not cut[2:, 1].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("make", "kept_of"), RECURRENT)
def test_weights_keep_their_type(make: Any, kept_of: Any, dtype: torch.dtype) -> None:
    """They stay the same objects, and the layer takes inputs of their type."""
    old = make().to(dtype)
    kept, new = {id(p) for p in kept_of(old)}, converted(old)
    assert kept <= {id(p) for p in new.parameters()}
    x = draw(4, (T, 3, 4)).to(dtype)
    out = new(x if new.step_mode == "m" else x[0])
    assert (out[0] if isinstance(out, tuple) else out).dtype is dtype


@pytest.mark.parametrize(("make", "kept_of"), RECURRENT)
def test_weights_of_recurrent_layers_stay_and_load(make: Any, kept_of: Any) -> None:
    """The same objects where the shapes are equal; an old state_dict and our own load whole."""
    old, other = make(), make()
    expected, new = kept_of(old), converted(copy.deepcopy(other))
    same = {id(p) for p in converted(old).parameters()}
    assert same >= {id(p) for p in expected}
    new.load_state_dict(other.state_dict())
    new.load_state_dict(new.state_dict())
    x = draw(4, (T, 3, 4)).float()
    for mine, theirs in zip(new.parameters(), converted(other).parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert isinstance(new, RecurrentLayer)
    out = new(x if new.step_mode == "m" else x[0])
    assert (out[0] if isinstance(out, tuple) else out).shape[-1] == 4


def test_parts_of_a_shared_weight_stay_shared() -> None:
    """One Linear of two containers gives both one W and one U; elsewhere it is not separated."""

    def made() -> Any:
        return layer.LinearRecurrentContainer(neuron.LIFNode(step_mode="s"), 4, 4)

    one, two, three = made(), made(), made()
    two.rc = one.rc
    net = converted(nn.Sequential(one, two, three, three.rc))
    assert net[0].weight is net[1].weight
    assert net[0].recurrent is net[1].recurrent
    assert type(net[2]) is layer.LinearRecurrentContainer


def test_what_no_recurrent_layer_holds_is_converted_inside() -> None:
    """A container of more than one layer, or with a function that cannot be traced, stays."""
    whole = nn.Sequential(nn.Linear(4, 2), neuron.LIFNode(step_mode="s"))
    one = layer.LinearRecurrentContainer(whole, 4, 2)
    function = lambda y, x: x + torch.fft.fft(y).real  # noqa: E731
    two = layer.ElementWiseRecurrentContainer(neuron.LIFNode(), function)
    three = layer.LinearRecurrentContainer(neuron.LIFNode(step_mode="s"), 4, 2)
    net = lnm.nn.convert(nn.Sequential(one, two, three))
    assert isinstance(net[0].sub_module[1], NeuronLayer)
    assert isinstance(net[1].sub_module, NeuronLayer)
    assert "its layer has 2 outputs and 4 inputs" in lnm.nn.conversion_report(net).layers[2].reason
    given = lnm.nn.convert(RECURRENT[2][0](), lnm.get("adlif"))
    assert (given.neuron.name, given.recurrent.shape) == ("adlif", (4, 4))


class Twice(nn.Linear):
    """A linear layer with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def with_recurrent(change: Callable[[Any], Any], **options: Any) -> Any:
    made = snn.RLeaky(0.8, linear_features=4, **options)
    change(made)
    return made


NOT_PLAIN: list[Callable[[], Any]] = [
    lambda: with_recurrent(lambda old: setattr(old, "recurrent", Twice(4, 4))),
    lambda: with_recurrent(lambda old: old.recurrent.register_forward_hook(lambda *_: None)),
    lambda: with_recurrent(lambda old: prune.l1_unstructured(old.recurrent, "weight", 0.5)),
    lambda: snn.RLeaky(torch.rand(3), linear_features=4),
    lambda: with_recurrent(lambda old: setattr(old, "recurrent", nn.Linear(8, 7))),
]


@pytest.mark.parametrize("make", NOT_PLAIN)
def test_weights_that_are_more_than_a_matrix_stay(make: Any) -> None:
    """One layer that cannot be converted does not stop the others."""
    net = lnm.nn.convert(nn.Sequential(make(), neuron.LIFNode()))
    assert [line.status for line in lnm.nn.conversion_report(net).layers] == ["refused", "exact"]
    assert type(net[0]) is snn.RLeaky


def test_other_layers_in_a_container_stay() -> None:
    """A class of another gradient, a hook of the layer or of the weights, a function of NumPy."""
    slow_one = layer.LinearRecurrentContainer(neuron.SLTTLIFNode(step_mode="s"), 4, 4)
    hooked, other = (
        layer.LinearRecurrentContainer(neuron.LIFNode(step_mode="s"), 4, 4) for _ in range(2)
    )
    hooked.sub_module.register_forward_hook(lambda *_: None)
    other.rc.register_forward_hook(lambda *_: None)
    own = layer.ElementWiseRecurrentContainer(neuron.LIFNode(), lambda y, x: x + y.numpy().copy())
    net = lnm.nn.convert(nn.Sequential(slow_one, hooked, other, own))
    assert not any(isinstance(m, RecurrentLayer) for m in net)
    assert [isinstance(m.sub_module, NeuronLayer) for m in net] == [False, True, True, True]
    wide = converted(nn.Sequential(snn.RLeaky(torch.rand(1, 4), linear_features=4)))
    assert wide[0].beta.shape == (4,)
