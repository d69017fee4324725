"""Table of the ONNX functions of operators, for `torch.onnx.export`.

PyTorch calls the entry of an operator while it builds the graph. The entry prints the function for
the type and the axes of the input (`backends/onnx.py`), and adds one node that calls it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, ItemsView, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from lnm_codegen.backends.onnx import CODES, function
from lnm_codegen.backends.plan import Plan
from lnm_codegen.nn.arguments import note_table
from lnm_codegen.nn.dispatch import LIVE
from lnm_codegen.nn.operators import NAMESPACE, defined_operators, operator_of, taken_names
from lnm_codegen.nn.select import FUSED
from lnm_codegen.options import DtypeName
from lnm_codegen.validation import require_package

Entry: TypeAlias = Callable[..., Sequence[Any]]
"""Function from the arguments of an operator to its results, as values of a graph."""

DOMAIN = NAMESPACE
"""Domain of the functions in an ONNX model."""

_TYPES: dict[int, DtypeName] = {code: name for name, code in CODES.items()}


def onnx_table() -> dict[Callable[..., Any], Entry]:
    """Return the `custom_translation_table` with which `torch.onnx.export` exports neuron layers.

    The model in ONNX has each layer as one operator Scan over time, for inference. T and N may be
    dynamic, T >= 1. Spikes equal those of the layer, except where z is within rounding of 0: ONNX
    has no fused multiply-add, and its exp has other rounding.

    The table has the operators of all layers that exist when `torch.onnx.export` reads it. So a
    layer may be constructed after the table.

    Raises:
        ToolError: onnx or onnxscript is not installed.

    Example:
        >>> import lnm_codegen as lnm
        >>> layer = lnm.nn.NeuronLayer(lnm.get("lif"))
        >>> "lnm.lif_c_" in str(list(lnm.nn.onnx_table()))
        True
    """
    for package in ("onnx", "onnxscript"):
        require_package("onnx_table", package, package, extra="onnx")
    return OnnxTable()


class OnnxTable(dict[Callable[..., Any], Entry]):
    """Operator -> entry. `items` adds the operators of layers constructed since."""

    def __init__(self) -> None:
        super().__init__()
        note_table()
        self.items()

    def items(self) -> ItemsView[Callable[..., Any], Entry]:  # type: ignore[override]
        """Return the pairs, after adding new operators."""
        register_live()
        for name, plan in defined_operators().items():
            operator = getattr(getattr(torch.ops, NAMESPACE), name).default
            self.setdefault(operator, _entry(name, plan))
        return super().items()


def register_live() -> None:
    """Register the operators of every layer that exists, on each backend that it may select."""
    wanted = {
        (dispatch.neuron, backend)
        for dispatch in list(LIVE)
        if dispatch.arithmetic is None
        for backend in FUSED
        if dispatch.backend in ("auto", backend)
    }
    for neuron, backend in wanted:
        operator_of(neuron, backend)


def _entry(name: str, plan: Plan) -> Entry:
    """Return the entry of an operator, with the signature of the operator."""

    def translate(*arguments: Any) -> Sequence[Any]:
        *tensors, returns_states, _ = arguments
        return _call(name, plan, tensors, returns_states)

    tensors, flags = taken_names(plan), ("returns_states", "saves_states")
    argument = partial(inspect.Parameter, kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    translate.__name__ = name
    translate.__annotations__ = {flag: bool for flag in flags}
    translate.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [argument(n) for n in tensors] + [argument(n, annotation=bool) for n in flags]
    )
    return translate


def _call(name: str, plan: Plan, tensors: Sequence[Any], returns_states: bool) -> Sequence[Any]:
    """Add a call of the function to the graph that is built, and return an operator's results."""
    import onnx.parser
    from onnxscript import evaluator, ir

    graph: Any = evaluator.default()
    x, opset = tensors[0], graph.opset
    typed, axes = replace(plan, dtype=_TYPES[int(x.dtype)]), len(x.shape) - 1
    own = f"{name}_{typed.dtype}_{axes}"
    text = function(typed, own, DOMAIN, axes)
    made = ir.serde.deserialize_function(onnx.parser.parse_function(text))
    graph.functions[made.identifier()] = made
    node = ir.Node(DOMAIN, own, tensors, num_outputs=len(made.outputs))
    graph.nodes.append(node)
    outputs, states = len(plan.outputs), len(plan.states)
    finals = node.outputs[outputs : outputs + states]
    counts = [opset.Unsqueeze(c, [0]) for c in node.outputs[outputs + states :]]

    def nothing(dtype: str) -> Any:
        return opset.Constant(value=ir.tensor(np.zeros(0, dtype)))

    return [
        *node.outputs[:outputs],
        *(finals if returns_states else [nothing(typed.real) for _ in finals]),
        nothing(typed.real),
        opset.Concat(*counts, axis=0) if counts else nothing("float64"),
    ]
