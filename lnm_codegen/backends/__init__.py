"""Backends: a plan to source code, a file or a folder for each target."""

from __future__ import annotations

from lnm_codegen.backends.base import Backend
from lnm_codegen.backends.c.backend import C
from lnm_codegen.backends.cuda.backend import Cuda
from lnm_codegen.backends.fixed import FixedModel
from lnm_codegen.backends.integer_c import FixedC
from lnm_codegen.backends.onnx import Onnx
from lnm_codegen.backends.plan import Plan
from lnm_codegen.backends.torch import Torch
from lnm_codegen.backends.triton.backend import Triton
from lnm_codegen.backends.verilog.backend import Verilog

BACKENDS: dict[str, Backend[Plan]] = {
    "torch": Torch(),
    "c": C(),
    "triton": Triton(),
    "cuda": Cuda(),
    "onnx": Onnx(),
}
"""The floating-point backends of `lnm.emit` and the command line."""

FIXED_BACKENDS: dict[str, Backend[FixedModel]] = {"c": FixedC(), "verilog": Verilog()}
"""The fixed-point backends."""
