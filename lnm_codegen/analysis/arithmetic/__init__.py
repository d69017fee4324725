"""Exact arithmetic: intervals, polynomials, roots, and ranges under conditions."""
