"""Training runs: configuration, run folder, training checkpoint, resuming."""
