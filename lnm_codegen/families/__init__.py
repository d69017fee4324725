"""Built-in neuron families; each file has those of one kind."""

from __future__ import annotations

from lnm_codegen.families.adaptive import adlif, alif, silif
from lnm_codegen.families.biophysical import fitzhugh_nagumo, hodgkin_huxley
from lnm_codegen.families.delayed_reset import lapicque, leaky, synaptic
from lnm_codegen.families.integrate_and_fire import (
    clif,
    cuba_lif,
    glif,
    i_lif,
    if_,
    klif,
    li,
    lif,
    plif,
    refractory_lif,
    tc_lif,
    ternary,
)
from lnm_codegen.families.lnm import lnm
from lnm_codegen.families.quadratic import adex, eif, izhikevich, qif
from lnm_codegen.families.resonate import brf, csilif, rf
from lnm_codegen.language.family import Family

FAMILIES: dict[str, Family[...]] = {
    f.name: f
    for f in (
        if_, lif, plif, klif, glif, clif, tc_lif, i_lif, refractory_lif, leaky, lapicque, synaptic,
        cuba_lif, alif, adlif, silif, qif, eif, adex, izhikevich, fitzhugh_nagumo, hodgkin_huxley,
        rf, brf, csilif, li, ternary, lnm,
    )
}  # fmt: skip
"""Built-in families by the name that `lnm.get` and the command line take."""
