"""Energy of an inference: operation counts, spikes, cost tables."""
