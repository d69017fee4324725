"""Verification steps of a circuit folder, one module for each step."""
