"""`lnm.trace`: a neuron from a Python function of one time step, written with PyTorch."""
