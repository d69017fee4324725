"""Deployment of trained networks: neuron arrays, formats from data, quantization mismatch.

Needs PyTorch.
"""
