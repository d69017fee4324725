"""Compiler: from a neuron to a Program, generated source, and interpreted results."""
