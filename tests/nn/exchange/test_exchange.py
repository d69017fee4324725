"""Round trips with other readers and writers: Norse and SpikingJelly through nirtorch, snnTorch."""

from __future__ import annotations

import contextlib
import io
import logging
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.models import build
from tests.nn.exchange.graphs import eager, float64, nir

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]
nirtorch = pytest.importorskip("nirtorch")
snn = pytest.importorskip("snntorch")
pytest.importorskip("norse.torch")
pytest.importorskip("spikingjelly.activation_based")
slow = pytest.mark.slow
STEP = 1e-4  # snnTorch's own, which it does not let anybody choose


def stepped(module, x_seq):
    """Return the outputs of a reader's module, which takes one step and its state."""
    state, outs = None, []
    with torch.no_grad():
        for x in x_seq:
            out, state = module(x, state)
            outs.append(out[0] if isinstance(out, tuple) else out)
    return torch.stack(outs)


def norse(graph, x_seq):
    from norse.torch.utils.import_nir import _import_norse_module

    convert = partial(_import_norse_module, dt=STEP, ignore_warnings=True)
    kinds = (nir.Affine, nir.Linear, nir.LIF, nir.IF, nir.CubaLIF, nir.Conv2d)
    return stepped(nirtorch.nir_to_torch(graph, dict.fromkeys(kinds, convert)), x_seq)


def snntorch(graph, x_seq):
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):
        module = import_from_nir(graph)
    return stepped(module, x_seq)


def spikingjelly(graph, x_seq):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return stepped(import_from_nir(graph, dt=STEP), x_seq)


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def model_of(*neurons, width=20):
    torch.manual_seed(0)
    modules = []
    for k, neuron in enumerate(neurons):
        modules.append(nn.Linear(6 if k == 0 else width, width))
        modules.append(NeuronLayer(neuron, channels=width, shape=(width,), backend="torch"))
        modules[-2].weight.data *= 3 + 7 * k
    return nn.Sequential(*modules)


def inputs(*shape):
    return torch.randn(25, 4, *shape, generator=torch.Generator().manual_seed(1))


LIF = lnm.get("lif", tau=4.0, v_threshold=0.3)
RESTING = lnm.get("lif", tau=4.0, v_reset=-0.2, v_rest=-0.2)
SAME = [
    (norse, (LIF, lnm.get("plif", tau=3.0))),
    (snntorch, (lnm.get("lif", tau=4.0, decay_input=False), lnm.get("cuba_lif"))),
    (spikingjelly, (RESTING, lnm.get("cuba_lif"))),
    pytest.param(norse, (lnm.get("if"), lnm.get("cuba_lif")), marks=slow),
    pytest.param(snntorch, (LIF, lnm.get("plif", tau=3.0)), marks=slow),
    pytest.param(spikingjelly, (lnm.get("lif", tau=4.0), lnm.get("if")), marks=slow),
]


@pytest.mark.parametrize(("reader", "neurons"), SAME)
def test_another_reader_gives_our_spikes(reader, neurons):
    """Two layers, 2000 neurons and steps in the last."""
    net, x = model_of(*neurons), inputs(6)
    ours = net(x).detach()
    assert ours.mean() > 0.02
    assert torch.equal(reader(lnm.nn.to_nir(net, x, dt=STEP), x), ours)


@slow
@pytest.mark.parametrize("reader", [norse, spikingjelly])
def test_ties_spike_alike(reader):
    """Sums of ones reach the threshold 3 exactly; a threshold of 3 in the file would differ."""
    net = nn.Sequential(
        nn.Linear(1, 1), NeuronLayer(lnm.get("if", v_threshold=3.0), channels=1, backend="torch")
    )
    nn.init.ones_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    x = torch.randint(0, 2, (60, 4, 1), generator=torch.Generator().manual_seed(0)).float()
    graph = lnm.nn.to_nir(net, x, dt=STEP)
    ours = net(x).detach()
    assert torch.equal(reader(graph, x), ours)
    if reader is norse:  # which compares with >
        graph.nodes["1"].v_threshold = np.array([3.0], np.float32)
        assert (norse(graph, x) != ours).float().mean() > 0.1


@pytest.mark.parametrize("feedback", ["layer", pytest.param("down", marks=slow)])
def test_norse_runs_our_recurrent_network(feedback):
    """The delay of the edge back is at the same place."""
    torch.manual_seed(0)
    net = build(
        "recurrent", lnm.get("lif"), (25, 6), 5, kind="sequence", per_step=True,
        backend="torch", hidden=(9, 8), feedback=feedback, readout="linear",
    )  # fmt: skip
    for value in net.parameters():
        value.data *= 4
    x = inputs(6)
    graph = lnm.nn.to_nir(net, x, dt=STEP)
    out = net(x)
    assert (out != out[0, 0]).any(-1).float().mean() > 0.2, "spikes reach the output"
    assert torch.allclose(norse(graph, x), out, atol=1e-5)
    assert torch.equal(eager(lnm.nn.from_nir(graph, STEP))(x), net(x))


def full(size, value):
    return torch.full((size,), value)


@pytest.mark.parametrize("is_recurrent", [False, pytest.param(True, marks=slow)])
def test_a_graph_of_snntorch_is_read(is_recurrent):
    """Leaky with reset to zero at once, and Synaptic, as their exporter writes them.

    RLeaky without a bias of the recurrent weights, which it adds at the first step already.
    """
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(0)
    options = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
    if is_recurrent:
        net = nn.Sequential(
            nn.Linear(6, 8),
            snn.RLeaky(beta=full(8, 0.8), threshold=full(8, 1.0), linear_features=8, **options),
        )
        net[0].weight.data *= 4
        net[1].recurrent.weight.data *= 2
        nn.init.zeros_(net[1].recurrent.bias)
    else:
        last = {"alpha": full(8, 0.5), "beta": full(8, 0.7), "threshold": full(8, 1.0)}
        net = nn.Sequential(
            nn.Linear(6, 20), snn.Leaky(beta=full(20, 0.8), threshold=full(20, 1.0), **options),
            nn.Linear(20, 8), snn.Synaptic(**last, output=False, **options),
        )  # fmt: skip
        net[0].weight.data *= 2
    x = inputs(6)
    graph = export_to_nir(net, x[0], ignore_dims=[0])
    for module in net[1::2]:
        module.reset_mem()
    with torch.no_grad():
        theirs = torch.stack([net(now) for now in x])
    assert 0.01 < theirs.mean() < 0.9
    assert torch.equal(eager(lnm.nn.from_nir(graph, STEP))(x).detach(), theirs)


def test_a_graph_of_spikingjelly_is_read():
    """LIF, IF, convolution, pooling and flatten, as their exporter writes them."""
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), neuron.LIFNode(tau=3.0, v_threshold=0.3),
        layer.AvgPool2d(2), layer.Flatten(), layer.Linear(36, 5), neuron.IFNode(),
    )  # fmt: skip
    net[0].weight.data *= 3
    net[4].weight.data *= 3
    functional.set_step_mode(net, "m")
    x = inputs(2, 6, 6) * 2
    graph = export_to_nir(net, x[:1], dt=STEP)
    functional.reset_net(net)
    with torch.no_grad():
        theirs = net(x)
    functional.reset_net(net)
    assert 0.005 < theirs.mean() < 0.9
    assert torch.equal(eager(lnm.nn.from_nir(graph, STEP))(x).detach(), theirs)


def test_a_file_of_float64_is_bit_exact(tmp_path):
    net, x = model_of(lnm.get("lif", tau=4.0), lnm.get("cuba_lif")).double(), inputs(6).double()
    nir.write(tmp_path / "a.nir", lnm.nn.to_nir(net, x))
    assert torch.equal(eager(lnm.nn.from_nir(tmp_path / "a.nir"))(x), net(x))
    graph = nir.read(tmp_path / "a.nir")
    for node in graph.nodes.values():
        node.metadata = {}
    with float64():
        assert torch.equal(eager(lnm.nn.from_nir(graph))(x), net(x))
