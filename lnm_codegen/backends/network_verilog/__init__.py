"""A network in integers as Verilog: synapses, arrays of neurons, readout, one top module."""
