"""Rewrites of kernels, one per file; their order stands in `compiler.py`."""
