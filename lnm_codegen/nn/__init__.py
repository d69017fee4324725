"""`torch.nn` layers that run generated kernels."""

from lnm_codegen.nn.layer import NeuronLayer as NeuronLayer
from lnm_codegen.nn.layer import reset as reset
