"""`torch.nn` layers that run generated kernels."""

from lnm_codegen.nn.bits import pack_spikes
from lnm_codegen.nn.convert.convert import ConversionReport, conversion_report, convert
from lnm_codegen.nn.delay import Delay
from lnm_codegen.nn.exchange.read import from_nir
from lnm_codegen.nn.exchange.write import to_nir
from lnm_codegen.nn.fusion.fuse import FuseReport, fuse
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.memory import empty_cache, keep_pages
from lnm_codegen.nn.norm.layer import NormNeuron
from lnm_codegen.nn.onnx import onnx_table
from lnm_codegen.nn.recurrent import RecurrentLayer
from lnm_codegen.nn.registration import register
from lnm_codegen.nn.residual import Residual
from lnm_codegen.nn.states import reset

__all__ = [
    "ConversionReport",
    "Delay",
    "FuseReport",
    "NeuronLayer",
    "NormNeuron",
    "RecurrentLayer",
    "Residual",
    "conversion_report",
    "convert",
    "empty_cache",
    "from_nir",
    "fuse",
    "keep_pages",
    "onnx_table",
    "pack_spikes",
    "register",
    "reset",
    "to_nir",
]


def __dir__() -> list[str]:
    return __all__
