"""Combinational step and pipeline of one neuron, with a result each cycle."""
