"""lnm_codegen: a compiler for spiking-neuron models."""

import importlib
from typing import TYPE_CHECKING, Any

from lnm_codegen.backends.fixed import Rtl
from lnm_codegen.compiler.emit import emit, package
from lnm_codegen.compiler.fixed import interpret_fixed, quantize
from lnm_codegen.compiler.interpret import interpret
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.families.library import get, load
from lnm_codegen.ir.declarations import Draw, leak, pole_matrix, pole_pair, uniform
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language import surrogate
from lnm_codegen.language.binding import bind, substeps
from lnm_codegen.language.family import family
from lnm_codegen.language.neuron import Neuron, hard_reset, soft_reset
from lnm_codegen.language.normalisation import normalised
from lnm_codegen.language.ode.model import ode
from lnm_codegen.language.symbols import input, param, spike, spike_named, state

# isort: off
from lnm_codegen.errors import (
    InternalError, LnmError, ModelError, ShapeError, ToolError, UnsupportedError,
)  # fmt: skip
from lnm_codegen.language.functions import abs, clip, max, min, poly, sqrt, where
from lnm_codegen import moved as _moved
from lnm_codegen import options as _options
from lnm_codegen.language import functions as _functions
from lnm_codegen.language.symbols import Unary
# isort: on

# Classes of SymPy's functions, which type checkers see as functions.
cos: Unary = _functions.cos
exp: Unary = _functions.exp
log: Unary = _functions.log
sigmoid: Unary = _functions.sigmoid
sin: Unary = _functions.sin
stop_gradient: Unary = _functions.stop_gradient
tanh: Unary = _functions.tanh

__all__ = [
    "Draw", "Fixed", "FixedSpec", "InternalError", "LnmError", "ModelError", "Neuron", "Rtl",
    "ShapeError", "ToolError", "UnsupportedError", "abs", "bind", "clip", "cos", "emit", "exp",
    "family", "get",
    "hard_reset", "input", "interpret", "interpret_fixed", "leak", "load", "log", "lower", "max",
    "min", "normalised", "ode", "package", "param", "pole_matrix", "pole_pair", "poly", "quantize",
    "sigmoid", "sin", "soft_reset", "spike", "spike_named", "sqrt", "state", "stop_gradient",
    "substeps", "surrogate", "tanh", "uniform", "where",
]  # fmt: skip

__version__ = _options.VERSION

_moved.register(__name__)

if TYPE_CHECKING:
    from lnm_codegen import nn as nn
    from lnm_codegen import plot as plot
    from lnm_codegen import train as train
    from lnm_codegen.nn.trace.trace import trace as trace


_LAZY = ("nn", "plot", "train")
"""Folders that load PyTorch or the analysis, and are imported when they are first used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _LAZY:
            return importlib.import_module(f"lnm_codegen.{name}")
        if name == "trace":
            return importlib.import_module(f"lnm_codegen.nn.{name}.{name}").trace
        raise AttributeError(f"module 'lnm_codegen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_LAZY, "trace", "__version__"])
