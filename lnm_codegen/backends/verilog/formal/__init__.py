"""Formal proofs: checkers and SymbiYosys scripts."""
