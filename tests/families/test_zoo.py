"""Families of the literature against transcriptions of their equations, and their mistakes."""
