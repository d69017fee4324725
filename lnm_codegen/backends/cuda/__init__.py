"""CUDA C: device code and a separate host launcher."""
