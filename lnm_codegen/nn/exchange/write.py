"""`lnm.nn.to_nir`: the NIR graph of a model."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lnm_codegen.errors import LnmError, ModelError, ShapeError, UnsupportedError, reason
from lnm_codegen.nn.convert.recipe import BroadcastLayer
from lnm_codegen.nn.delay import Delay
from lnm_codegen.nn.exchange.graph import (
    INPUT,
    OUTPUT,
    ForwardRecord,
    Layout,
    NodeCall,
    nir_package,
)
from lnm_codegen.nn.exchange.layers import Scale, Shape, StepDelay, SumPool2d
from lnm_codegen.nn.exchange.neurons import (
    FORMAT,
    KEY,
    described,
    nearest_of,
    neuron_layer,
    primitive_of,
    require_output,
)
from lnm_codegen.nn.exchange.read import network_of
from lnm_codegen.nn.exchange.record import NAMES, WHERE, WholeSequence, known, record, require_plain
from lnm_codegen.nn.exchange.recurrent import whole_steps
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.deferred import NormModule
from lnm_codegen.nn.norm.layer import NormNeuron
from lnm_codegen.nn.parameters import values_of
from lnm_codegen.validation import require_bool, require_number, wrong

if TYPE_CHECKING:
    import nir


_MOST = 0.05  # share of outputs that rounding may change, by spikes near the threshold


def to_nir(
    model: nn.Module, sample: Tensor, dt: float = 1.0, approximate: bool = False
) -> nir.NIRGraph:
    """Return the NIR graph of a model in eval mode; `nir.write(path, graph)` writes it to a file.

    A copy of the model runs once on the sample, which shows the order of the modules. Each becomes
    a node: nn.Linear, Conv1d, Conv2d, AvgPool2d, Flatten, and those of `from_nir`. A batch
    normalisation after a linear layer or a convolution is folded into its weights. A neuron layer
    is a node if its step is that of NIR (`from_nir`) with step dt:

        v <- decay*v + gain*x + drift    tau = dt/(1 - decay), r = gain/(1 - decay),
                                         v_leak = drift/(1 - decay); IF with r = gain/dt for decay 1

    and a hard reset. Any other is refused, or, if `approximate`, written as the nearest LIF or LI.
    NIR spikes where v > v_threshold. A neuron that spikes where v >= v_threshold is written with
    the largest number below its threshold: the same condition in its own type of numbers.

    The metadata of a neuron's node, `node.metadata["lnm"]`, has our equations, its parameters, the
    discretisation, the reset, and for an approximate node `spike_difference`: the share of neurons
    and steps of the sample at which the node spikes differently. `from_nir` reads our equations
    back. `graph.metadata["lnm"]["output_difference"]` is the share of outputs of the sample that
    differ for a reader of the nodes alone.

    Args:
        model: A module from (T, N, *) to (T, N, *): modules, reshapes that keep T and N, and sums.
            A network for images (N, *) is written with the image as input of each step. Models of
            snnTorch and Norse, after `convert`, may loop over time in their forward, or take one
            step (N, *); states that they return after the output are left out.
        sample: An input.
        dt: Length of a time step in the graph's unit of time, > 0.
        approximate: Write the nearest primitive where a neuron is none.

    Raises:
        ModelError: An argument is out of its range.
        ShapeError: The sample has fewer than two axes.
        ToolError: The package `nir` is not installed (extra "nir").
        UnsupportedError: A module, an operation or a neuron that NIR does not have, by its name.
    """
    if not isinstance(model, nn.Module):
        raise wrong(WHERE, "model", model, "a torch.nn.Module")
    if not isinstance(sample, Tensor) or sample.dim() < 2:
        shape = tuple(sample.shape) if isinstance(sample, Tensor) else type(sample).__name__
        raise ShapeError(WHERE, f"sample is {shape}", "a tensor (T, N, *)")
    step = float(require_number(WHERE, "dt", dt, above=0))
    require_bool(WHERE, "approximate", approximate)
    package = nir_package(WHERE)
    found, ran = _recorded(model, sample)
    exporter = Exporter(package, found, step, approximate)
    graph = exporter.graph()
    dtype = _dtype_of(ran)
    own = {"format": FORMAT, "dt": step, "dtype": str(dtype).removeprefix("torch.")}
    graph.metadata = {KEY: own}
    own |= _proof(graph, found, step, dtype, is_exact=not exporter.approximated)
    return graph


def _recorded(model: nn.Module, sample: Tensor) -> tuple[ForwardRecord, nn.Module]:
    """Return the record of a copy of the model on the CPU, and the copy.

    The sample is a sequence (T, N, *) if the model accepts it as one, else an image (N, *). A model
    with single-step layers may also take one step, and is then called on each step of the sample.
    """
    require_plain(model)
    dtype = _dtype_of(model)
    attempts: list[tuple[Layout, Any]] = [("steps", None), ("once", None)]
    loops = any(isinstance(m, NeuronLayer) and m.step_mode == "s" for m in model.modules())
    if loops:
        attempts.append(("steps", _step_by_step))
    failed: list[tuple[int, LnmError]] = []  # recorded nodes, and what ended an attempt
    for layout, run in attempts:
        ran = copy.deepcopy(model).to("cpu", dtype).eval()
        for module in ran.modules():
            if isinstance(module, NeuronLayer) and module.backend not in ("auto", "c"):
                module.backend = "torch"  # backends of a GPU refuse tensors of the CPU
        found = ForwardRecord(())
        try:
            x = sample.detach().to("cpu", dtype, copy=True)
            return record(ran, x, layout, found, run), ran
        except WholeSequence as error:
            failed.append((-1, error))
        except LnmError as error:
            failed.append((len(found.calls), error))
        except (RuntimeError, ValueError, IndexError, TypeError) as error:  # of the model itself
            problem = f"the model refuses the sample: {str(error).splitlines()[0].rstrip('.')}"
            failed.append((0, ShapeError(WHERE, problem, "an input of the model")))
    raise max(failed, key=lambda attempt: attempt[0])[1] if loops else failed[0][1]


def _step_by_step(model: nn.Module, sample: Tensor) -> Any:
    """Return the outputs of a model that takes one time step, called on each step of a sample.

    States that a call returns after its output are given to the next call, if it accepts them.
    """
    outs: list[Tensor] = []
    states: tuple[Any, ...] = ()
    for x in sample.unbind(0):
        result = model(x, *states)
        out, *rest = result if isinstance(result, tuple) else (result,)
        outs.append(out)
        states = tuple(rest) if _accepts(model, x, *rest) else ()
    return torch.stack(outs)


def _accepts(model: nn.Module, *inputs: Any) -> bool:
    try:
        inspect.signature(model.forward).bind(*inputs)
    except TypeError:
        return False
    return True


def _dtype_of(model: nn.Module) -> torch.dtype:
    kinds = {value.dtype for value in (*model.parameters(), *model.buffers())}
    return torch.float64 if torch.float64 in kinds else torch.float32


def _proof(
    graph: Any, found: ForwardRecord, dt: float, dtype: torch.dtype, *, is_exact: bool
) -> dict[str, float]:
    """Return the shares of outputs on the sample that differ from the model, after reading back.

    Raises:
        UnsupportedError: The graph is exact, and its outputs are others.
    """
    own, plain = (
        different(network_of(graph, dt, dtype, described=described, backend="torch"), found)
        for described in (True, False)
    )
    if own > _MOST or (is_exact and plain > _MOST):
        problem = f"{max(own, plain):.1%} of the outputs on the sample differ in the graph"
        remedy = "Look for modules with a forward of their own."
        raise UnsupportedError(WHERE, problem, "models that are their modules", remedy)
    return {"output_difference": plain}


def different(network: nn.Module, found: ForwardRecord) -> float:
    """Return the share of outputs that differ by more than rounding."""
    with torch.no_grad():
        out = network(found.frames)
    close = torch.isclose(out.double(), found.result.double(), 1e-3, 1e-4, equal_nan=True)
    return 1 - float(close.double().mean()) if close.numel() else 0.0


# Nodes and edges for the modules of a record, with batch normalisations folded.


Array = NDArray[Any]

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


class Exporter:
    """Converter of one record.

    Attributes:
        approximated: Names of the nodes that are approximate.
    """

    def __init__(self, nir: Any, record: ForwardRecord, dt: float, approximate: bool) -> None:
        self._nir, self._record, self._dt, self._approximate = nir, record, dt, approximate
        self._weights: dict[str, tuple[Array, Array | None]] = {}
        self._folded: dict[str, list[str]] = {}
        self._alias: dict[str, tuple[str, ...]] = {}
        self.approximated: list[str] = []

    def graph(self) -> Any:
        """Return the graph, or raise UnsupportedError."""
        calls = self._record.calls
        for name, call in calls.items():
            self._fold(name, call)
        kept = {name: call for name, call in calls.items() if name not in self._alias}
        nodes = {INPUT: self._nir.Input({"input": np.array(self._record.shape)})}
        nodes |= {name: self._node(name, call) for name, call in kept.items()}
        shapes = {INPUT: self._record.shape} | {n: call.after for n, call in calls.items()}
        last = shapes[self._record.output[0]]
        nodes[OUTPUT] = self._nir.Output({"output": np.array(last)})
        edges = [
            (source, name)
            for name, call in kept.items()
            for source in self._real((*call.sources, *call.shortcut))
        ]
        edges += [(source, OUTPUT) for source in self._real(self._record.output)]
        try:
            return self._nir.NIRGraph(dict(sorted(nodes.items())), edges)  # as in a file
        except (ValueError, NotImplementedError) as error:
            raise UnsupportedError(WHERE, f"nir refuses the graph: {reason(error)}") from None

    def _real(self, names: tuple[str, ...]) -> list[str]:
        """Return the nodes that make these values; identities and folded modules make none."""
        found: list[str] = []
        for name in names:
            found += self._real(self._alias[name]) if name in self._alias else [name]
        return found

    def _fold(self, name: str, call: NodeCall) -> None:
        """Fold a batch normalisation into the weights before it; keep the weights of others."""
        where, module = _place(name), call.module
        if isinstance(module, _WEIGHTED):
            known(where, module, next(k for k in _WEIGHTED if isinstance(module, k)))
            bias = None if module.bias is None else _array(module.bias)
            self._weights[name] = (_without_groups(module), bias)
        if isinstance(module, nn.Identity):
            self._alias[name] = call.sources
        elif isinstance(module, _BatchNorm):
            source = self._scale(where, call, module)  # type: ignore[arg-type]
            self._alias[name] = (source,)
            self._folded[source].append(name)
        elif isinstance(module, NormNeuron):
            source = self._scale(where, call, module.normalisation, module.norm)
            self._folded[source].append(f"the normalisation of {name}")

    def _scale(self, where: str, call: NodeCall, norm: NormModule, kind: str = "batch") -> str:
        """Multiply the weights of the only source of a normalisation; return its name."""
        source, *others = self._real(call.sources)
        reads = [(*one.sources, *one.shortcut) for one in self._record.calls.values()]
        readers = sum(call.sources[0] in read for read in (*reads, self._record.output))
        if others or source not in self._weights or readers != 1:
            problem = "a batch normalisation of something else than the output of one module"
            accepted = "nn.Linear or a convolution before it, without other readers"
            raise UnsupportedError(where, problem, accepted)
        weight, bias = self._weights[source]
        scale, shift = _numbers(where, norm, kind)
        ones = (1,) * (weight.ndim - 1)
        moved = shift if bias is None else bias.astype(np.float64) * scale + shift
        scaled = weight.astype(np.float64) * scale.reshape(-1, *ones)
        self._weights[source] = scaled.astype(weight.dtype), moved.astype(weight.dtype)
        self._folded.setdefault(source, [])
        return source

    def _node(self, name: str, call: NodeCall) -> Any:
        where, module, nir = _place(name), call.module, self._nir
        if isinstance(module, NeuronLayer):
            return self._neuron(where, name, module, call.before)
        if isinstance(module, _WEIGHTED):
            node = self._weighted(where, name, module, call.before)
            if name in self._folded:
                node.metadata = {KEY: {"folded": ", ".join(self._folded[name])}}
            return node
        if isinstance(module, nn.AvgPool2d):
            return _pool(where, known(where, module, nn.AvgPool2d), nir)
        if isinstance(module, SumPool2d):
            words = ("kernel_size", "stride", "padding")
            return nir.SumPool2d(*(np.array(getattr(module, word)) for word in words))
        if isinstance(module, Scale):
            scale = torch.broadcast_to(module.scale, call.before)
            return nir.Scale(_array(scale))
        if isinstance(module, StepDelay):
            return nir.Delay(_array(module.steps).astype(np.float64) * self._dt)
        if isinstance(module, Delay):
            steps = whole_steps(where, module).reshape(-1, *[1] * (len(call.before) - 1))
            return nir.Delay(_array(steps.expand(call.before)).astype(np.float64) * self._dt)
        if isinstance(module, nn.Flatten):
            axes = len(call.before) + 1  # with the batch, which NIR does not count
            start, end = module.start_dim % axes - 1, module.end_dim % axes - 1
            return nir.Flatten(np.array(call.before), start, end)
        kind = type(module).__name__
        raise UnsupportedError(where, f"a {kind} has no node", NAMES)

    def _weighted(
        self, where: str, name: str, module: nn.Linear | nn.Conv1d | nn.Conv2d, before: Shape
    ) -> Any:
        weight, bias = self._weights[name]
        if isinstance(module, nn.Linear):
            if before != weight.shape[1:]:
                problem = f"a linear layer of features {before}"
                raise UnsupportedError(where, problem, "features of one axis", "Flatten them.")
            nir = self._nir
            return nir.Linear(weight) if bias is None else nir.Affine(weight, bias)
        axes = weight.ndim - 2
        if module.padding_mode != "zeros":
            raise UnsupportedError(where, f"padding_mode is {module.padding_mode!r}", "'zeros'")
        if len(before) != axes + 1:
            problem = f"a {type(module).__name__} of features {before}"
            raise UnsupportedError(where, problem, f"channels and {axes} axes")
        bias = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
        size: Any = before[1] if axes == 1 else before[1:]
        one = slice(None) if axes == 2 else 0
        padding = module.padding if isinstance(module.padding, str) else module.padding[one]
        return (self._nir.Conv1d if axes == 1 else self._nir.Conv2d)(
            size,
            weight,
            module.stride[one],
            padding,
            module.dilation[one],
            1,
            bias,
        )

    def _neuron(self, where: str, name: str, layer: NeuronLayer, shape: Shape) -> Any:
        if layer.arithmetic is not None:
            raise UnsupportedError(where, "it computes in integers", "a layer without arithmetic")
        recorded, layer = layer, _expanded(layer, shape)
        reports: dict[str, Any] = {"discretisation": "forward Euler", "exact": True}
        try:
            found = primitive_of(where, layer, shape, self._dt, self._nir)
        except UnsupportedError as error:
            if not self._approximate:
                require_output(where, layer)  # else approximate=True is no remedy
                raise
            x_seq = self._input(where, name, recorded)
            found = nearest_of(where, layer, x_seq, shape, self._dt, self._nir)
            reports |= {"exact": False, "why": error.problem}
            reports |= self._difference(where, layer, found.node, x_seq, shape)
            self.approximated.append(name)
        kind = type(found.node).__name__
        reports |= {"fires": found.fires, "reset": found.reset, "primitive": kind}
        try:
            table = described(layer, found.node, self._dt, **reports)
        except (UnsupportedError, ModelError) as error:  # no text form, as of a subnormal number
            if not reports["exact"]:
                raise UnsupportedError(where, error.problem, error.accepted) from None
            return found.node  # the node says all that the neuron does
        found.node.metadata = {KEY: table}
        return found.node

    @torch.no_grad()
    def _input(self, where: str, name: str, layer: NeuronLayer) -> Tensor:
        """Return what a layer received in the forward, (T, N, *)."""
        found = self._record.layers
        path = next((p for p, module in found.items() if module is layer), name)
        path = self._record.recurrent.get(name, path)
        steps = self._record.inputs.get(path, [])
        if not steps:
            raise UnsupportedError(where, "the layer did not run on the sample")
        join = torch.stack if found[path].step_mode == "s" else torch.cat
        x_seq = join(steps)
        if name in self._record.recurrent:
            own: Any = found[path]
            (inputs, _) = own._fed(
                x_seq, (own._driven(x_seq),), (join(self._record.outputs[path]),), None
            )
            x: Tensor = inputs[0]
            return x
        if isinstance(layer, NormNeuron):
            more = self._record.shortcuts.get(path, [])
            inputs = layer.normalised_inputs(x_seq, *([torch.cat(more)] if more else []))
            x_seq = inputs[0] if len(inputs) == 1 else inputs[0] + inputs[1]
        return x_seq

    def _difference(
        self, where: str, layer: NeuronLayer, node: Any, x_seq: Tensor, shape: Shape
    ) -> dict[str, float]:
        """Return how the outputs of a node differ from those of its layer on the same input."""
        plain = neuron_layer(where, node, shape, self._dt, backend="torch")
        own = NeuronLayer(
            layer.neuron, channels=shape[0] if shape else None, shape=shape, backend="torch"
        )
        with torch.no_grad():
            for param in layer.neuron.params:
                getattr(own, param.name).copy_(getattr(layer, param.name))
            ours, theirs = own(x_seq).double(), plain(x_seq).double()
        if not layer.neuron.fire:
            return {"output_difference": float((ours - theirs).abs().max())}
        return {
            "spike_difference": float((ours != theirs).double().mean()),
            "rate": float(ours.mean()),
            "primitive_rate": float(theirs.mean()),
            "samples": ours.numel(),
        }


def _expanded(layer: NeuronLayer, shape: Shape) -> NeuronLayer:
    """Return a layer whose parameters per neuron have all axes of a sample."""
    if not isinstance(layer, BroadcastLayer) or not layer.broadcast:
        return layer
    values = values_of(layer)
    dtype = next(iter(values.values())).dtype
    plain = NeuronLayer(layer.neuron, shape=shape, backend="torch", dtype=dtype)
    with torch.no_grad():
        for name, value in values.items():
            more = max(0, value.dim() - len(shape))  # axes of length 1
            getattr(plain, name).copy_(value.reshape(value.shape[more:]))
    return plain


def _numbers(where: str, norm: NormModule, kind: str) -> tuple[Array, Array]:
    """Return scale and shift of a normalisation in evaluation, in float64."""
    weight, bias = (None if t is None else _wide(t) for t in (norm.weight, norm.bias))
    if kind == "affine":
        assert weight is not None
        assert bias is not None
        return weight, bias
    if norm.running_mean is None or norm.running_var is None:
        problem = "a batch normalisation without running statistics"
        raise UnsupportedError(where, problem, "track_running_stats=True")
    mean, var = _wide(norm.running_mean), _wide(norm.running_var)
    scale = (1 if weight is None else weight) / np.sqrt(var + norm.eps)
    return scale, (0 if bias is None else bias) - mean * scale


def _pool(where: str, module: nn.AvgPool2d, nir: Any) -> Any:
    pads = np.broadcast_to(module.padding, (2,))
    if module.ceil_mode or module.divisor_override or (pads.any() and not module.count_include_pad):
        problem = "ceil_mode, divisor_override or count_include_pad=False"
        raise UnsupportedError(where, problem, "nn.AvgPool2d without these options")
    sizes = (module.kernel_size, module.stride, module.padding)
    return nir.AvgPool2d(*(np.array(np.broadcast_to(size, (2,))) for size in sizes))


def _without_groups(module: nn.Linear | nn.Conv1d | nn.Conv2d) -> Array:
    """Return a weight of one group, with zeros between groups.

    `nir.read` takes C_in/groups for the channels of a convolution with groups, and refuses it.
    """
    weight = _array(module.weight)
    groups = 1 if isinstance(module, nn.Linear) else module.groups
    out, inputs = weight.shape[0] // groups, weight.shape[1]
    whole = np.zeros((weight.shape[0], inputs * groups, *weight.shape[2:]), weight.dtype)
    for k in range(groups):
        rows = slice(k * out, (k + 1) * out)
        whole[rows, k * inputs : (k + 1) * inputs] = weight[rows]
    return whole


def _wide(value: Tensor) -> Array:
    return _array(value).astype(np.float64)


def _array(value: Tensor) -> Array:
    found: Array = value.detach().cpu().numpy().copy()
    return found


def _place(name: str) -> str:
    return f"{WHERE}: {name}"
