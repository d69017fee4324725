"""`lnm.nn.onnx_table`: networks exported by `torch.onnx.export`, run by onnxruntime.

Weights, inputs and running statistics are multiples of powers of two, so that no sum is rounded:
results are then equal, whatever the order of a sum. Where numbers are rounded, arguments are drawn
so that no z lies within its rounding of 0, as in `tests/backends/onnx/`.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, NormNeuron
from lnm_codegen.nn import arguments as exporting
from lnm_codegen.nn.operators import operator_of
from tests.cases import CASES, layer_of
from tests.refusals import refused
from tests.test_agree import neuron_of, reference, within

pytest.importorskip("onnxscript", reason="onnxscript is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from tests.backends.onnx.runs import session

pytestmark = [
    pytest.mark.needs_cc,
    # Of PyTorch's exporter about itself.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*assigned during export:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*shares the same shape constraints:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*The dynamic axes will not be renamed:UserWarning"),
]

TIME_AND_BATCH = {0: "T", 1: "N"}


def export(model: nn.Module, *inputs: Any, shapes: Any = None, **options: Any) -> Any:
    """Return the program in ONNX; `shapes` are dynamic sizes by input, T and N by default."""
    if "custom_translation_table" not in options:
        options["custom_translation_table"] = lnm.nn.onnx_table()
    shapes = [TIME_AND_BATCH] * len(inputs) if shapes is None else shapes
    inputs = tuple(  # PyTorch translates no strides
        x.contiguous() if isinstance(x, Tensor) else x for x in inputs
    )
    return torch.onnx.export(
        model, inputs, dynamo=True, verbose=False, dynamic_shapes=tuple(shapes), **options
    )


def run(program: Any, *inputs: Tensor) -> list[Tensor]:
    """Run a program, or a model, in onnxruntime."""
    opened = session(program.model_proto.SerializeToString())
    names = [i.name for i in opened.get_inputs()]
    feed = {n: x.numpy() for n, x in zip(names, inputs, strict=True)}
    return [torch.from_numpy(np.asarray(y)) for y in opened.run(None, feed)]


def dyadic(*shape: int, low: int = -8, high: int = 9, unit: float = 0.125) -> Tensor:
    """Return random multiples of `unit`."""
    return torch.randint(low, high, shape).to(torch.float32) * unit


class Network(nn.Module):
    """Conv2d, BatchNorm2d, a neuron layer, Linear, another neuron layer of other axes, Linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=2**-16)
        self.first = NeuronLayer(lnm.get("lif", v_threshold=1.0))
        self.linear, self.second = nn.Linear(12, 5), NeuronLayer(lnm.get("lif", v_threshold=1.0))
        self.readout = nn.Linear(5, 2)
        for parameter in self.parameters():
            parameter.data = dyadic(*parameter.shape)
        self.norm.running_mean.fill_(0.25)
        self.norm.running_var.fill_(0.25 - 2**-16)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        steps = self.norm(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        return self.readout(self.second(self.linear(self.first(steps).flatten(2))))


def test_a_network() -> None:
    """Two layers share their operator; the program runs for other T and N."""
    net = Network()
    program = export(net, dyadic(4, 2, 2, 4, 4))
    graph = program.model_proto.graph
    assert [n.op_type for n in graph.node].count("Scan") == 2
    assert [d.dim_param for d in graph.input[0].type.tensor_type.shape.dim[:2]] == ["T", "N"]
    for steps, batch in ((1, 1), (9, 5)):
        x = dyadic(steps, batch, 2, 4, 4)
        (got,) = run(program, x)
        assert torch.equal(got, net(x).detach())
    assert len(net(x).unique()) > 4


def test_numbers_near_0_and_1_are_kept() -> None:
    """onnxscript's optimiser takes a scalar within 1e-8 of 0 for 0, within 1e-5 of 1 for 1.

    One output would lose 2e-4 in 50 steps, the other would spike at equality.
    """
    x, v, own = lnm.input("x"), lnm.state("v"), lnm.param("own", init=1 + 2**-18)
    near = (v + x * 2.0**-30 + 2.0**-30) * own * (1 + 2.0**-18)
    fire = lnm.where(x > 1, x - 1, lnm.min(x - 1, 0) - 2.0**-100)
    neuron = lnm.Neuron({v: near}, fire, output={"spike": lnm.spike, "level": v})
    layer = NeuronLayer(neuron, dtype=torch.float64).eval()
    tie = torch.ones(50, 1, 3, dtype=torch.float64)
    spikes, level = run(export(layer, tie[:2], shapes=({0: "T"},)), tie)
    assert not spikes.any()
    expected = torch.tensor(lnm.interpret(neuron, tie.numpy()).outputs["level"])
    torch.testing.assert_close(level, expected, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_a_normalised_layer_with_a_shortcut() -> None:
    """In evaluation, its operator takes the coefficients of running statistics."""
    torch.manual_seed(0)
    block = NormNeuron(lnm.get("lif"), 3, shortcut=True, eps=2**-16).eval()
    block.running_mean.copy_(dyadic(3))
    block.running_var.fill_(0.25 - 2**-16)
    x = dyadic(4, 2, 3, 5), dyadic(4, 2, 3, 5)
    program = export(block, *x, shapes=(TIME_AND_BATCH, (TIME_AND_BATCH,)))
    x = dyadic(7, 3, 3, 5), dyadic(7, 3, 3, 5)
    out = block(*x)
    assert 0.1 < out.mean() < 0.9
    assert torch.equal(run(program, *x)[0], out.detach())


class States(nn.Module):
    """A layer whose states enter and leave."""

    def __init__(self, layer: NeuronLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, states: dict[str, Tensor], inputs: list[Tensor]) -> Any:
        return self.layer(*inputs, state=states, return_state=True)


def check_case(case: str, dtype: str) -> None:
    """Compare a layer of rank 4 with `interpret`, each number within its bound."""
    a, b = reference(case, (5, 2, 3, 4))
    kind = getattr(torch, dtype)
    inputs = [torch.as_tensor(x, dtype=kind) for x in a.x_seq]
    states = {n: torch.as_tensor(v, dtype=kind) for n, v in a.state.items()}
    model = States(layer_of(neuron_of(case), a, "c", kind)).eval()
    sizes = ({n: {0: "N"} for n in states}, [TIME_AND_BATCH] * len(inputs))
    first = ({n: v[:1] for n, v in states.items()}, [x[:4, :1].contiguous() for x in inputs])
    program = export(model, *first, shapes=sizes)
    got = run(program, *states.values(), *inputs)
    expected = [*b.outputs.values(), *(b.states[n] for n in states)]
    for array, number in zip(got, expected, strict=True):
        within(case, array.numpy(), number, dtype)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES)
def test_every_case(case: str) -> None:
    """In both types; states are inputs and outputs."""
    for dtype in ("float32", "float64"):
        check_case(case, dtype)


def test_a_layer_constructed_after_the_table() -> None:
    """The table has the operators of all layers when it is read; without a call of any."""
    table = lnm.nn.onnx_table()
    v, x = lnm.state("v"), lnm.input("x")  # a neuron that no other test has
    charge = {v: 0.371 * v + x}
    neuron = lnm.Neuron(charge=charge, fire=v - 1, reset={v: 0 * v}, name="after_the_table")
    layer = NeuronLayer(neuron)
    name = operator_of(layer._dispatch.neuron, "c").name
    assert not [op for op in table if str(op) == f"lnm.{name}.default"]
    assert [op for op, _ in table.items() if str(op) == f"lnm.{name}.default"]
    assert {str(op) for op in lnm.nn.onnx_table()} == {str(op) for op in table}


def test_a_layer_that_is_gone_leaves_no_operator_to_register() -> None:
    """Only layers that exist are registered, so the table does not grow with dead ones."""
    layer = NeuronLayer(lnm.get("lif", v_threshold=0.987))
    name = layer._dispatch.neuron
    del layer
    from lnm_codegen.nn.dispatch import LIVE

    assert not [d for d in LIVE if d.neuron is name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((6,), {0: "T"}), ((6, 1, 3, 1), {0: "T"}), ((3, 4), {}), ((2, 1, 1), {0: "N"})],
)
def test_further_inputs_repeat(shape: tuple[int, ...], sizes: Any) -> None:
    """One number for each step, channel or sample, in any shape that broadcasts."""
    a, _ = reference("dendrite", (5, 2, 3, 4))
    layer = layer_of(neuron_of("dendrite"), a, "c", torch.float32).eval()
    x = torch.randn(6, 2, 3, 4), torch.randn(shape)
    program = export(layer, *x, shapes=(TIME_AND_BATCH, (sizes,)))
    new = tuple({"T": 9, "N": 3}.get(sizes.get(k), n) for k, n in enumerate(shape))
    x = torch.randn(9, 3, 3, 4), torch.randn(new)
    for got, expected in zip(run(program, *x), layer(*x), strict=True):
        torch.testing.assert_close(got, expected.detach())


OPTIONS: list[tuple[torch.dtype, str, dict[str, Any]]] = [
    (torch.float64, "c", {}), (torch.float16, "c", {}),  # of 16 bits, computed in 32
    *((torch.float32, "c", {"opset_version": opset}) for opset in (18, 21, 23)),
    (torch.float32, "torch", {"custom_translation_table": None}),  # PyTorch's own scan
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "backend", "options"), OPTIONS)
def test_types_and_versions(dtype: torch.dtype, backend: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = NeuronLayer(lnm.get("lif"), backend=backend).eval()
    x = dyadic(9, 3, 4, high=24).to(dtype)
    out = layer(x)
    assert 0.1 < out.float().mean() < 0.9
    (got,) = run(export(layer, x[:2, :2], **options), x)
    assert got.dtype == dtype
    assert torch.equal(got, out)


@pytest.mark.slow
@pytest.mark.parametrize("optimize", [False, True])
def test_records_and_counts(optimize: bool) -> None:
    """Charged potentials are outputs; counts are sums over steps and neurons."""
    torch.manual_seed(0)
    layer = NeuronLayer(lnm.get("lif"), record=("v", "stats"), interval=(-0.5, 0.75)).eval()
    x = dyadic(9, 3, 4, high=24)
    out, recorded = layer(x)
    got = run(export(layer, x[:2, :2], optimize=optimize), x)
    assert torch.equal(got[0], out)
    assert torch.equal(got[1], recorded["v"])
    assert [float(n) for n in got[2:]] == list(recorded["stats"].values())
    assert min(recorded["stats"].values()) > 0


@pytest.mark.slow
def test_a_single_step() -> None:
    """A loop over the program is the sequence."""
    torch.manual_seed(0)
    model = States(NeuronLayer(lnm.get("lif"), step_mode="s")).eval()
    x, state = dyadic(6, 3, 4, high=24), torch.zeros(3, 4)
    program = export(model, {"v": state}, [x[0]], shapes=({"v": {0: "N"}}, [{0: "N"}]))
    for now, expected in zip(x, NeuronLayer(lnm.get("lif"))(x), strict=True):
        out, state = run(program, state, now)
        assert torch.equal(out, expected)


@pytest.mark.slow
def test_a_program_of_torch_export() -> None:
    """The table serves a program too, after its layer is gone."""
    torch.manual_seed(0)
    x = dyadic(9, 3, 4, high=24)
    with torch.no_grad():
        layer = NeuronLayer(lnm.get("lif"))
        sizes = ({0: torch.export.Dim("T"), 1: torch.export.Dim("N")},)
        program = torch.export.export(layer, (x[:2, :2].contiguous(),), dynamic_shapes=sizes)
        expected = layer(x)
    del layer
    exported = torch.onnx.export(program, custom_translation_table=lnm.nn.onnx_table())
    assert torch.equal(run(exported, x)[0], expected)


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy is the extra."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    problem = "onnxscript is not installed"
    with refused(lnm.ToolError, "onnx_table", problem, remedy="lnm_codegen[onnx]"):
        lnm.nn.onnx_table()


def cause_of(error: BaseException) -> BaseException:
    """Return the first exception of a chain."""
    return error if error.__cause__ is None else cause_of(error.__cause__)


def refusal(model: nn.Module, *inputs: Tensor, **options: Any) -> lnm.UnsupportedError:
    """Return the error behind that of PyTorch, which shows its text."""
    with pytest.raises(torch.onnx.OnnxExporterError) as caught:
        export(model, *inputs, **options)
    cause = cause_of(caught.value)
    assert isinstance(cause, lnm.UnsupportedError)
    assert str(cause) in str(caught.value)
    return cause


def test_training_with_batch_statistics_is_refused() -> None:
    """PyTorch warns of training too."""
    block, x = NormNeuron(lnm.get("lif"), 3), torch.randn(4, 2, 3)
    with pytest.warns(UserWarning, match="training mode"):
        error = refusal(block, x)
    assert "batch statistics" in error.problem
    assert error.remedy == "Call model.eval() before the export."


def test_an_export_without_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no table was made before; after one, the error is PyTorch's."""
    monkeypatch.setattr(exporting, "_TABLES", 0)
    layer = NeuronLayer(lnm.get("lif")).eval()
    error = refusal(layer, torch.randn(4, 2, 3), custom_translation_table=None)
    assert error.remedy == "Give it custom_translation_table=lnm.nn.onnx_table()."


@pytest.mark.parametrize("backend", ["c", "torch"])
def test_dynamo_false_is_refused(backend: Any) -> None:
    """TorchScript has no form for the operator, alone or in a network."""
    layer = NeuronLayer(lnm.get("lif"), backend=backend).eval()
    for model in (layer, nn.Sequential(layer).eval()):
        with refused(lnm.UnsupportedError, "lif", "dynamo=False", remedy="Use dynamo=True"):
            torch.onnx.export(model, (torch.randn(4, 2, 3),), dynamo=False)
