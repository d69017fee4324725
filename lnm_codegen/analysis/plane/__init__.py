"""Neurons of two states whose step is affine in pieces: invariant polygons, and the linear part."""
