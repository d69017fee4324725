"""A network in integers: description, validation, JSON, and the NumPy interpreter."""
