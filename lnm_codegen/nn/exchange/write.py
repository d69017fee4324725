"""`lnm.nn.to_nir`: the NIR graph of a model."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lnm_codegen.errors import LnmError, ShapeError, UnsupportedError
from lnm_codegen.nn.exchange.export import Exporter
from lnm_codegen.nn.exchange.known import WHERE, require_plain
from lnm_codegen.nn.exchange.metadata import FORMAT, KEY
from lnm_codegen.nn.exchange.package import nir_package
from lnm_codegen.nn.exchange.parts import ForwardRecord
from lnm_codegen.nn.exchange.read import network_of
from lnm_codegen.nn.exchange.record import WholeSequence, record
from lnm_codegen.nn.exchange.signals import Layout
from lnm_codegen.nn.layer import NeuronLayer
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
    own = different(network_of_type(graph, dt, dtype, described=True), found)
    plain = different(network_of_type(graph, dt, dtype, described=False), found)
    if own > _MOST or (is_exact and plain > _MOST):
        problem = f"{max(own, plain):.1%} of the outputs on the sample differ in the graph"
        remedy = "Look for modules with a forward of their own."
        raise UnsupportedError(WHERE, problem, "models that are their modules", remedy)
    return {"output_difference": plain}


def network_of_type(graph: Any, dt: float, dtype: torch.dtype, *, described: bool) -> nn.Module:
    """Return the network of a graph on backend "torch"."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        return network_of(graph, dt, described=described, backend="torch")
    finally:
        torch.set_default_dtype(before)


def different(network: nn.Module, found: ForwardRecord) -> float:
    """Return the share of outputs that differ by more than rounding."""
    with torch.no_grad():
        out = network(found.frames)
    close = torch.isclose(out.double(), found.result.double(), 1e-3, 1e-4, equal_nan=True)
    return 1 - float(close.double().mean()) if close.numel() else 0.0
