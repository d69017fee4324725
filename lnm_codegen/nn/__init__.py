"""`torch.nn` layers that run generated kernels."""

from lnm_codegen.nn.layer import NeuronLayer as NeuronLayer
from lnm_codegen.nn.layer import reset as reset
from lnm_codegen.nn.memory import keep_pages as keep_pages
from lnm_codegen.nn.registration import register as register
