"""Compiled kernels: loading and caching, a module for each target."""
