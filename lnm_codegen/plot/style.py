"""Colours of plots, distinct also for readers who are colour-blind (Okabe and Ito)."""

from __future__ import annotations

INK, QUIET, WARM, COOL, GREEN = "#0072B2", "#8c8c8c", "#D55E00", "#dbe7f3", "#009E73"
"""Main curve; reference lines; threshold; shaded interval; ends of an invariant interval."""
STATE_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
"""Of the states, in the order of declaration."""
CLASS_COLORS = {
    "leaky": "#0072B2", "integrator": "#009E73", "quadratic-like": "#CC79A7",
    "bistable": "#D55E00", "self-exciting": "#E69F00", "oscillating": "#56B4E9",
    "other": "#777777", "real poles": "#0072B2", "oscillator": "#56B4E9", "resonator": "#CC79A7",
    "alternating": "#E69F00", "unstable but reset": "#8c6d00", "diverging": "#D55E00",
}  # fmt: skip
"""Of the classes of behaviour."""
KIND_FACES = {"stable": INK, "unstable": "white", "neutral": QUIET}
"""Face of the mark of a fixed point."""
