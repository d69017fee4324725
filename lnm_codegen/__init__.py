"""lnm_codegen: a compiler for spiking-neuron models."""

import importlib
from typing import Any

from lnm_codegen.backends.verilog.rtl import Rtl as Rtl
from lnm_codegen.compiler.emit import emit as emit
from lnm_codegen.compiler.emit import package as package
from lnm_codegen.compiler.fixed import quantize as quantize
from lnm_codegen.compiler.interpret import interpret as interpret
from lnm_codegen.compiler.interpret_fixed import interpret_fixed as interpret_fixed
from lnm_codegen.compiler.pipeline import lower as lower
from lnm_codegen.errors import InternalError as InternalError
from lnm_codegen.errors import LnmError as LnmError
from lnm_codegen.errors import ModelError as ModelError
from lnm_codegen.errors import ShapeError as ShapeError
from lnm_codegen.errors import ToolError as ToolError
from lnm_codegen.errors import UnsupportedError as UnsupportedError
from lnm_codegen.families.library import get as get
from lnm_codegen.families.library import load as load
from lnm_codegen.ir.fixed.spec import FixedSpec as FixedSpec
from lnm_codegen.ir.types import Fixed as Fixed
from lnm_codegen.language import surrogate as surrogate
from lnm_codegen.language.family import family as family
from lnm_codegen.language.functions import abs as abs
from lnm_codegen.language.functions import clip as clip
from lnm_codegen.language.functions import cos as cos
from lnm_codegen.language.functions import exp as exp
from lnm_codegen.language.functions import log as log
from lnm_codegen.language.functions import max as max
from lnm_codegen.language.functions import min as min
from lnm_codegen.language.functions import poly as poly
from lnm_codegen.language.functions import sigmoid as sigmoid
from lnm_codegen.language.functions import sin as sin
from lnm_codegen.language.functions import sqrt as sqrt
from lnm_codegen.language.functions import tanh as tanh
from lnm_codegen.language.functions import where as where
from lnm_codegen.language.neuron import Neuron as Neuron
from lnm_codegen.language.neuron import hard_reset as hard_reset
from lnm_codegen.language.neuron import soft_reset as soft_reset
from lnm_codegen.language.symbols import input as input
from lnm_codegen.language.symbols import param as param
from lnm_codegen.language.symbols import spike as spike
from lnm_codegen.language.symbols import spike_named as spike_named
from lnm_codegen.language.symbols import state as state

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `lnm.nn` and `lnm.train`, which load PyTorch, when they are first used."""
    if name in ("nn", "train"):
        return importlib.import_module(f"lnm_codegen.{name}")
    raise AttributeError(f"module 'lnm_codegen' has no attribute {name!r}")
