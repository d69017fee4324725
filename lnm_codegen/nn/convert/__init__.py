"""Conversion of the spiking layers of SpikingJelly, snnTorch and Norse."""
