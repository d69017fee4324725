"""Verilog target: a neuron in fixed point as a circuit, with its tests, proofs and scripts."""
