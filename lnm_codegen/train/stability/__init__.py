"""Stability of learned dynamics: slope penalty, projection, certificates, curves."""
