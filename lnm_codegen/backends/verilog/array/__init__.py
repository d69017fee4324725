"""Array of neurons: states in a memory, AXI-Streams in and out."""
