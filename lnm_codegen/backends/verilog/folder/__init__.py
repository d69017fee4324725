"""Folder of a circuit: Makefile, scripts, README, manifest."""
