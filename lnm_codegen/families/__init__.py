"""The built-in neuron families: one file each, about ten lines. Names are the field's."""

from __future__ import annotations

from lnm_codegen.errors import ModelError
from lnm_codegen.families.alif import alif
from lnm_codegen.families.cuba_lif import cuba_lif
from lnm_codegen.families.glif import glif
from lnm_codegen.families.integrate_and_fire import if_
from lnm_codegen.families.izhikevich import izhikevich
from lnm_codegen.families.li import li
from lnm_codegen.families.lif import lif
from lnm_codegen.families.lnm import lnm
from lnm_codegen.families.plif import plif
from lnm_codegen.families.qif import qif
from lnm_codegen.families.ternary import ternary
from lnm_codegen.language.family import Family
from lnm_codegen.validation import did_you_mean

FAMILIES: dict[str, Family] = {
    f.name: f for f in (if_, lif, plif, glif, alif, qif, cuba_lif, izhikevich, li, ternary, lnm)
}
"""Every built-in family, by the name that `lnm.get` and the command line take."""


def family_named(name: str) -> Family:
    """Return a built-in family.

    Raises:
        ModelError: No family has that name.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        raise ModelError(
            f"get: no family {name!r}. Built in: {', '.join(FAMILIES)}."
            f"{did_you_mean(str(name), FAMILIES)}"
        )
    return FAMILIES[name]
