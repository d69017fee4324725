"""Fixed-point IR: integers, with a node for every shift, rounding and saturation."""
