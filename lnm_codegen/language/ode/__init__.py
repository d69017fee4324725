"""Neurons from ordinary differential equations in text, as Brian2 writes them."""
