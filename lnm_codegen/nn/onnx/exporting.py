"""Calls of a layer while `torch.onnx.export` runs."""

from __future__ import annotations

import torch

from lnm_codegen.errors import UnsupportedError

_TABLES = 0
"""Tables that `onnx_table` has made."""


def note_table() -> None:
    """Note that a table was made."""
    global _TABLES
    _TABLES += 1


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_exporting_onnx() -> bool:
    """Report whether a traced call belongs to `torch.onnx.export`."""
    return torch.onnx.is_in_onnx_export()


def require_table(where: str) -> None:
    """Raise UnsupportedError if no table was made, and so none was given to the export."""
    if not _TABLES:
        problem = "torch.onnx.export has no function for the operator of a neuron layer"
        remedy = "Give it custom_translation_table=lnm.nn.onnx_table()."
        raise UnsupportedError(where, problem, remedy=remedy)


def require_evaluation(where: str) -> None:
    """Raise UnsupportedError if `torch.onnx.export` traces a call with batch statistics."""
    if is_exporting_onnx():
        problem = "the model is in training, and ONNX has no form for batch statistics"
        raise UnsupportedError(where, problem, remedy="Call model.eval() before the export.")


def require_no_tracing(where: str) -> None:
    """Raise UnsupportedError if `torch.onnx.export` traces with TorchScript (dynamo=False)."""
    if is_exporting_onnx():
        problem = "torch.onnx.export with dynamo=False has no form for a neuron layer"
        remedy = "Use dynamo=True and custom_translation_table=lnm.nn.onnx_table()."
        raise UnsupportedError(where, problem, remedy=remedy)
