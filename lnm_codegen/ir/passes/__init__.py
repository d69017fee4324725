"""Rewrites of kernels; `compiler/pipeline.py` has their order."""
