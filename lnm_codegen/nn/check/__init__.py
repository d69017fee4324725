"""Comparison of backends with the interpreter, on inputs at which a neuron spikes."""
