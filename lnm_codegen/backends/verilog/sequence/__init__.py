"""Sequential circuit: the same step scheduled on one multiplier."""
