"""Combinational step and pipeline: one neuron, a result each cycle."""
