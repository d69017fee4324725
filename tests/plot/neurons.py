"""Neurons of plots."""

from __future__ import annotations

import lnm_codegen as lnm
from lnm_codegen.language.neuron import Neuron


def millivolts() -> Neuron:
    """Return a neuron with v of -65 to -50 mV and an adaptation w of some units."""
    v, w, x = lnm.state("v", init=-65.0), lnm.state("w"), lnm.input("x")
    return lnm.Neuron(
        charge={v: v + 0.05 * (-65 - v) + x - 0.5 * w, w: 0.95 * w + 0.02 * (v + 65)},
        fire=v + 50,
        reset={v: lnm.where(lnm.spike, -65, v), w: w + 0.5 * lnm.spike},
        name="millivolts",
    )
