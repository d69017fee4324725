"""Compiled kernels: loading, caching and tuning, a module for each target."""
