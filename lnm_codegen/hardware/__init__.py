"""From fixed point to circuits: verification."""
