"""`torch.nn` layers that run generated kernels."""

from lnm_codegen.nn.bits.saved import pack_spikes
from lnm_codegen.nn.call import reset
from lnm_codegen.nn.convert.convert import conversion_report, convert
from lnm_codegen.nn.convert.report import ConversionReport
from lnm_codegen.nn.fusion.fuse import fuse
from lnm_codegen.nn.fusion.report import FuseReport
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.memory import empty_cache, keep_pages
from lnm_codegen.nn.norm.layer import NormNeuron
from lnm_codegen.nn.registration import register

__all__ = [
    "ConversionReport",
    "FuseReport",
    "NeuronLayer",
    "NormNeuron",
    "conversion_report",
    "convert",
    "empty_cache",
    "fuse",
    "keep_pages",
    "pack_spikes",
    "register",
    "reset",
]


def __dir__() -> list[str]:
    return __all__
