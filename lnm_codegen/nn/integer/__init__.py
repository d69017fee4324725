"""Integer arithmetic of layers: a forward in fixed point, a straight-through backward."""
