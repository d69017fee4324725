"""Layers of Norse against their conversions: spikes, states and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import lnm_codegen as lnm
from tests.nn.convert.peers import (
    SHAPE,
    Run,
    assert_same,
    converted,
    draw,
    finished,
    pair,
    refusal,
    spikes,
)

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
LAYERS: dict[str, Callable[[], nn.Module]] = {
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
}  # fmt: skip
"""Layers with parameters of their own, in float64."""


def run(layer: Any, x: Tensor, calls: int = 1) -> Run:
    """Return a run with the states of the end, passed from call to call."""
    x = x.clone().requires_grad_()
    is_cell = type(layer).__name__.endswith("Cell") or getattr(layer, "step_mode", "m") == "s"
    outs, state = [], None
    for part in x.unbind() if is_cell else x.chunk(calls):
        out, state = layer(part, state)
        outs.append(out.unsqueeze(0) if is_cell else out)
    assert state is not None
    return finished(layer, x, torch.cat(outs), tuple(state))


ROUNDED = ("LI", "Izhikevich", "IzhikevichCell", "LIFEx", "LIFAdEx", "LSNN")
"""Layers with float32 states or parameters in Norse."""


def scale_of(name: str) -> float:
    return 1.0 if name.startswith("IAF") else 40.0 if name.startswith("Izh") else SCALE


@pytest.mark.parametrize("name", LAYERS)
def test_spikes_states_and_gradients(name: str) -> None:
    """The state is the library's NamedTuple, with the same fields."""
    peer, layer = pair(LAYERS[name]())
    x = draw(3, X, scale_of(name))
    expected = run(peer, x, 2)
    assert (name.startswith("LI") and "F" not in name) or spikes(expected)
    assert_same(run(layer, x, 2), expected, 1e-6 if name in ROUNDED else 1e-8)
    step = x if layer.step_mode == "m" else x[0]
    kinds = [type(one(step)[1]) for one in (peer, layer)]
    assert kinds[0] is kinds[1]


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["super", "tanh", "triangle", "circ", "heavi_erfc", "heaviside"]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from([100.0, 2.0]),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_every_option(
    method: str, leak: float, threshold: float, alpha: float, per_neuron: bool, seed: int
) -> None:
    # Norse's default rates are float32, and so is pi in its heavi_erfc.
    tau = torch.linspace(80, 140, 4) if per_neuron else torch.tensor(100.0)
    fields: dict[str, Any] = {"v_leak": leak, "v_th": threshold, "method": method, "alpha": alpha}
    fields["tau_mem_inv"] = tau.double()
    synaptic = torch.tensor(200.0).double().expand(tau.shape)
    x = draw(seed, X, SCALE)
    for layer in (
        norse.LIFBoxCell(box(**fields)),
        norse.LIFCell(lif(**fields, tau_syn_inv=synaptic)),
    ):
        peer, new = pair(layer)
        rtol = 1e-6 if method == "heavi_erfc" else 1e-8
        assert_same(run(new, x), run(peer, x), rtol)


def test_a_potential_equal_to_the_threshold_does_not_spike() -> None:
    peer, layer = pair(norse.IAFCell())
    x = torch.tensor([[1.0, 1.0 + 2.0**-52], [1.0, 1.0]], dtype=torch.float64).reshape(2, 1, 2)
    x[0, 0, 1] = 1.0 + 2.0**-52
    expected = run(peer, x)
    assert expected.out[:, 0].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert_same(run(layer, x), expected)


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


@pytest.mark.parametrize("shape", [(1, 3, 4), (4,)])
def test_a_value_that_broadcasts_to_a_sample(shape: tuple[int, ...]) -> None:
    count = torch.Size(shape).numel()
    tau = torch.linspace(80, 140, count, dtype=torch.float64).reshape(shape)
    peer, layer = pair(norse.LIFBoxCell(box(tau_mem_inv=tau, v_th=0.8)))
    x = draw(5, (8, 2, *SHAPE), SCALE)
    assert_same(run(layer, x), run(peer, x))


def test_a_tensor_of_two_cells_becomes_one_parameter() -> None:
    for threshold in (torch.tensor([0.5], requires_grad=True), nn.Parameter(torch.tensor(0.5))):
        cells = (norse.LIFCell(norse.LIFParameters(v_th=threshold)) for _ in "ab")
        net = converted(norse.SequentialState(*cells))
        assert net[0].v_th is net[1].v_th
        assert len(list(net.parameters())) == 1


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


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: norse.LIFCell(lif(method="adjoint")), "method 'adjoint'"),
        (lambda: norse.LIF(record_states=True), "record_states"),
        (
            lambda: norse.LIFBoxCell(box(reset_method=lambda z, v, r, th: v)),
            "reset_method <lambda>",
        ),
        (lambda: norse.LIFBoxCell(box(v_leak=nn.Parameter(torch.zeros(())))), "v_leak"),
        (lambda: norse.LIFCell(lif(tau_mem_inv=2 * nn.Parameter(torch.ones(())))), "computed from"),
        (lambda: norse.LIFRecurrentCell(3, 4), "no neuron for LIFRecurrentCell"),
        (lambda: norse.LSNNCell(adjoint=True), "its step is norse.torch.functional.adjoint"),
        (lambda: norse.LIFRefracCell(), "no neuron for LIFRefracCell"),
    ],
)
def test_options_without_an_equal_are_refused(make: Any, problem: str) -> None:
    assert problem in refusal(make())
