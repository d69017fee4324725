"""The intermediate representation: scalar, straight-line, single-assignment; one neuron, one step."""
