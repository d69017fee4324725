"""Layers that normalise a sequence, add a shortcut and run a neuron in one kernel."""
