"""Installable folders: sources, a loader, a layer and a numeric test."""
