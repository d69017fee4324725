"""Trained networks on their way to a chip: arrays of circuits, stimuli, comparisons.

Needs PyTorch.
"""
