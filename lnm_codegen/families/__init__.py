"""Built-in neuron families, one file each."""

from __future__ import annotations

from lnm_codegen.families.adlif import adlif
from lnm_codegen.families.alif import alif
from lnm_codegen.families.brf import brf
from lnm_codegen.families.cuba_lif import cuba_lif
from lnm_codegen.families.glif import glif
from lnm_codegen.families.integrate_and_fire import if_
from lnm_codegen.families.izhikevich import izhikevich
from lnm_codegen.families.li import li
from lnm_codegen.families.lif import lif
from lnm_codegen.families.lnm import lnm
from lnm_codegen.families.plif import plif
from lnm_codegen.families.qif import qif
from lnm_codegen.families.rf import rf
from lnm_codegen.families.ternary import ternary
from lnm_codegen.language.family import Family

FAMILIES: dict[str, Family[...]] = {
    f.name: f
    for f in (
        if_, lif, plif, glif, alif, adlif, qif, cuba_lif, izhikevich, rf, brf, li, ternary, lnm,
    )
}  # fmt: skip
"""Built-in families by the name that `lnm.get` and the command line take."""
