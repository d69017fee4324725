"""Sequential circuit: the time step scheduled on one multiplier."""
