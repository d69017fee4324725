"""Calls of a layer while `torch.onnx` exports it."""

from __future__ import annotations

import torch

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.eager import is_exporting


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_exporting_onnx() -> bool:
    """Report whether `torch.onnx.export` traces the call with `torch.export` (dynamo=True)."""
    return is_exporting() and torch.onnx.is_in_onnx_export()


def require_no_tracing(where: str) -> None:
    """Raise UnsupportedError if `torch.onnx.export` traces with TorchScript (dynamo=False)."""
    if torch.onnx.is_in_onnx_export():
        problem = "torch.onnx.export with dynamo=False cannot export a neuron layer"
        remedy = "Use dynamo=True and custom_translation_table=lnm.nn.onnx_table()."
        raise UnsupportedError(where, problem, remedy=remedy)


def require_evaluation(where: str) -> None:
    """Raise UnsupportedError if `torch.onnx.export` exports a call with batch statistics."""
    if torch.compiler.is_compiling() and is_exporting_onnx():
        problem = "in training, the layer has batch statistics, which have no form in ONNX"
        raise UnsupportedError(where, problem, remedy="Call model.eval() before the export.")
