"""Version, and words that options accept as types: `typing.get_args` returns them as a tuple."""

from __future__ import annotations

from typing import Literal, TypeAlias

VERSION = "0.3.0"
"""Version of the package."""

SchemeName: TypeAlias = Literal["horner", "estrin"]
"""Evaluation of polynomials."""

DtypeName: TypeAlias = Literal["float32", "float64", "bfloat16", "float16"]
"""Type of sequences."""

PrecisionName: TypeAlias = Literal["float32", "bfloat16", "float16"]
"""Precision of training: float32, or autocast to a type of 16 bits."""

MemoryFormatName: TypeAlias = Literal["contiguous", "channels_last"]
"""Layout of the weights and outputs of convolutions."""

RealName: TypeAlias = Literal["float64", "float32"]
"""Type of the arithmetic of `lnm.interpret`."""

RoundingName: TypeAlias = Literal["half_up", "truncate", "convergent"]
"""Rounding of `lnm.Fixed`."""

TargetName: TypeAlias = Literal["torch", "c", "triton", "cuda", "onnx", "verilog"]
"""Target of `lnm.emit`."""

PackageName: TypeAlias = Literal["c", "cuda", "triton"]
"""Target of `lnm.package`."""

NetworkTargetName: TypeAlias = Literal["c", "verilog"]
"""Target of a network in integers."""

BackendName: TypeAlias = Literal["auto", "c", "triton", "cuda", "torch"]
"""Backend of `lnm.nn.NeuronLayer`."""

StepMode: TypeAlias = Literal["m", "s"]
"""Mode of `lnm.nn.NeuronLayer`: multi-step or single-step."""
