"""IR: scalar, straight-line, single-assignment; one neuron, one time step."""
