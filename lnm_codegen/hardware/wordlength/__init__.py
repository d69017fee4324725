"""Search of the least word lengths that reach a target."""
