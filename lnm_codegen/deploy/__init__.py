"""Deployment of trained networks: neuron arrays, formats from data, quantization mismatch.

emit_network(module, samples)    a network of your own in integers, as C or Verilog

Needs PyTorch.
"""

from lnm_codegen.deploy.integers.own import emit_network as emit_network
