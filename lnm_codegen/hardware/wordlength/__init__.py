"""Search of small word lengths that reach a target."""
