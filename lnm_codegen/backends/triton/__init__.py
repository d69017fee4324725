"""Triton: one standalone module for GPUs."""
