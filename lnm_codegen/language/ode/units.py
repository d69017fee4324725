"""Units by the names that Brian2 uses, as factors to SI units and dimensions of pint.

pint knows the units and multiplies dimensions. The list of names is closed, since pint would take
the names `a`, `g`, `h` or `C` of a model for a year, a gram, an hour or a coulomb.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:  # pint is imported when a unit is first read
    from pint.util import UnitsContainer

Dims: TypeAlias = "UnitsContainer"
"""A product of powers: of pint's dimensions, [length], and of unknown ones, ?x."""

_PREFIXES = {
    "": "", "y": "yocto", "z": "zepto", "a": "atto", "f": "femto", "p": "pico", "n": "nano",
    "u": "micro", "m": "milli", "c": "centi", "d": "deci", "da": "deca", "h": "hecto",
    "k": "kilo", "M": "mega", "G": "giga", "T": "tera", "P": "peta", "E": "exa", "Z": "zetta",
    "Y": "yotta",
}  # fmt: skip
_NAMES = {
    "volt": "volt", "amp": "ampere", "ampere": "ampere", "siemens": "siemens", "ohm": "ohm",
    "farad": "farad", "second": "second", "hertz": "hertz", "metre": "meter", "meter": "meter",
    "gram": "gram", "gramme": "gram", "mol": "mole", "mole": "mole", "molar": "molar",
    "liter": "liter", "litre": "liter", "kelvin": "kelvin", "coulomb": "coulomb",
    "joule": "joule", "watt": "watt", "newton": "newton", "pascal": "pascal", "henry": "henry",
    "tesla": "tesla", "weber": "weber", "candle": "candela", "radian": "radian",
}  # fmt: skip
_SHORT = {
    "V": "volt", "A": "ampere", "S": "siemens", "F": "farad", "s": "second", "M": "molar",
    "Hz": "hertz", "m": "meter",
}  # fmt: skip
_ABBREVIATED = frozenset(
    "mV mA uA nA pA pF uF nF nS uS mS ms us Hz kHz MHz cm mm um mM uM nM".split()
)
_POWER = r"([23])?\Z"
_LONG_UNIT = re.compile(f"({'|'.join(_PREFIXES)})({'|'.join(_NAMES)}){_POWER}")
_SHORT_UNIT = re.compile(f"([kMmunpc]?)({'|'.join(_SHORT)}){_POWER}")
_SHOWN = (
    "volt", "amp", "siemens", "ohm", "farad", "coulomb", "second", "metre", "metre**2",
    "metre**3", "kilogram", "mole", "kelvin", "joule", "watt", "newton",
)  # fmt: skip
_BASES = {
    "[mass]": "kilogram", "[length]": "metre", "[time]": "second", "[current]": "amp",
    "[temperature]": "kelvin", "[substance]": "mole", "[luminosity]": "candle",
}  # fmt: skip

EXAMPLES = "mV, ms, nS, Mohm, pA, uF*cm**-2, volt, amp, siemens, second, metre2 or 1"


class NamedUnit(NamedTuple):
    """A unit: its size in SI units, and its dimensions."""

    size: Fraction
    dims: Dims


@cache
def unit_named(name: str) -> NamedUnit | None:
    """Return the unit of that name, `mV` or `cmetre2`, or None."""
    if name == "kilogram":
        return _unit("kilogram", 1)
    if len(name) > 20:
        return None
    found = _LONG_UNIT.match(name)
    words = _NAMES
    if found is None:
        found, words = _SHORT_UNIT.match(name), _SHORT
        if found is None or "".join(found.groups("")[:2]) not in _ABBREVIATED:
            return None
        if found[3] and found[2] != "m":
            return None
    prefix, base, power = found.groups()
    return _unit(_PREFIXES[prefix] + words[base], int(power or 1))


def none() -> Dims:
    """Return the dimensions of a number without a unit."""
    return _container({})


def unknown(name: str) -> Dims:
    """Return an unknown dimension of that name."""
    return _container({f"?{name}": Fraction(1)})


def power(dims: Dims, exponent: Fraction) -> Dims:
    """Return dimensions to a power."""
    raised: Dims = dims**exponent if exponent else none()  # pint keeps powers of 0
    return raised


def product(a: Dims, b: Dims) -> Dims:
    """Return the product of dimensions."""
    result: Dims = a * b
    return result


def solution(dims: Dims, key: str) -> Dims:
    """Return the value of an unknown dimension for which a product is 1."""
    exponent = Fraction(str(dims[key]))
    return power(dims / power(_container({key: Fraction(1)}), exponent), -1 / exponent)


def with_factor(dims: Dims, key: str, value: Dims) -> Dims:
    """Return a product with an unknown dimension replaced by its value."""
    exponent = Fraction(str(dims[key]))
    return product(dims / power(_container({key: Fraction(1)}), exponent), power(value, exponent))


def unknowns(dims: Dims) -> list[str]:
    """Return the unknown dimensions of a product, in their order."""
    return sorted(key for key in dims if key.startswith("?"))


def spelled(dims: Dims) -> str:
    """Return dimensions as SI units: "volt/second"; "1" for a plain number."""
    if not dims:
        return "1"
    known = _spellings()
    if dims in known:
        return known[dims]
    bases = {key: _base_unit(key) for key in sorted(dims)}
    powers = {key: Fraction(str(dims[key])) for key in bases}
    order = sorted(bases, key=lambda key: powers[key] < 0)
    parts = (bases[k] if powers[k] == 1 else f"{bases[k]}**{powers[k]}" for k in order)
    return "*".join(parts)


def _base_unit(dimension: str) -> str:
    return f"(unit of {dimension[1:]})" if dimension[0] == "?" else _BASES[dimension]


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(non_int_type=Fraction)


def _container(powers: dict[str, Fraction]) -> Dims:
    from pint.util import UnitsContainer

    return UnitsContainer(powers, non_int_type=Fraction)


def _unit(name: str, exponent: int) -> NamedUnit:
    registry = _registry()
    size = registry.Quantity(Fraction(1), name).to_base_units().magnitude
    dims = power(registry.Unit(name).dimensionality, Fraction(exponent))
    return NamedUnit(Fraction(size) ** exponent, dims)


@cache
def _spellings() -> dict[Dims, str]:
    """Return dimensions -> text for common units, their rates and their densities."""
    return {dims: text for text, dims in reversed(list(_common()))}


def _common() -> Iterator[tuple[str, Dims]]:
    registry = _registry()
    dims = {word: registry.Unit(word).dimensionality for word in _SHOWN}
    yield from dims.items()
    for below in ("second", "metre", "metre**2", "metre**3"):
        yield from ((f"{word}/{below}", dims[word] / dims[below]) for word in _SHOWN)
    yield from ((f"1/{word}", none() / dims[word]) for word in _SHOWN)
    for first in ("volt", "amp", "second"):
        yield from ((f"{first}*{word}", dims[first] * dims[word]) for word in _SHOWN)
