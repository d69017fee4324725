"""Eager PyTorch: one readable function."""
