"""Verification steps of a circuit folder, a module for each."""
