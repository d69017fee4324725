"""TOML definitions and the grammar of their expressions."""
