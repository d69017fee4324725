"""Built-in neuron families, one file each."""

from __future__ import annotations

from lnm_codegen.families.adlif import adlif
from lnm_codegen.families.alif import alif
from lnm_codegen.families.brf import brf
from lnm_codegen.families.clif import clif
from lnm_codegen.families.cuba_lif import cuba_lif
from lnm_codegen.families.delayed_reset import lapicque, leaky, synaptic
from lnm_codegen.families.exponential import adex, eif
from lnm_codegen.families.fitzhugh_nagumo import fitzhugh_nagumo
from lnm_codegen.families.glif import glif
from lnm_codegen.families.hodgkin_huxley import hodgkin_huxley
from lnm_codegen.families.i_lif import i_lif
from lnm_codegen.families.integrate_and_fire import if_
from lnm_codegen.families.izhikevich import izhikevich
from lnm_codegen.families.klif import klif
from lnm_codegen.families.li import li
from lnm_codegen.families.lif import lif
from lnm_codegen.families.lnm import lnm
from lnm_codegen.families.plif import plif
from lnm_codegen.families.qif import qif
from lnm_codegen.families.refractory_lif import refractory_lif
from lnm_codegen.families.rf import rf
from lnm_codegen.families.tc_lif import tc_lif
from lnm_codegen.families.ternary import ternary
from lnm_codegen.language.family import Family

FAMILIES: dict[str, Family[...]] = {
    f.name: f
    for f in (
        if_, lif, plif, klif, glif, clif, tc_lif, i_lif, refractory_lif, leaky, lapicque, synaptic,
        cuba_lif, alif, adlif, qif, eif, adex, izhikevich, fitzhugh_nagumo, hodgkin_huxley, rf, brf,
        li, ternary, lnm,
    )
}  # fmt: skip
"""Built-in families by the name that `lnm.get` and the command line take."""
