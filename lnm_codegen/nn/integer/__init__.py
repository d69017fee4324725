"""Fixed-point arithmetic in a layer: forward in integers, backward through the rounding."""
