"""The fixed-point level of the IR: integers, every shift, rounding and saturation a node."""
