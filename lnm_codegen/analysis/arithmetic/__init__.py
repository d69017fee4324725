"""Exact arithmetic: intervals, polynomials, and their critical points."""
