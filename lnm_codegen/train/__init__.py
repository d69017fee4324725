"""Training of small spiking networks on images that need no download."""
