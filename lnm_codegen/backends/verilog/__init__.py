"""`verilog`: a neuron in fixed point as Verilog-2005, with what proves and builds it."""
