"""Spikes as bits: what the layers after a neuron layer keep for their backward."""
