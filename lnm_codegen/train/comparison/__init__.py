"""Comparison of neurons over seeds: a plan, its runs, their results, and the table of them."""
