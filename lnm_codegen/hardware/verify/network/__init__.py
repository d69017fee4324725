"""Verification steps of a network: its own checks, and those of each distinct array."""
