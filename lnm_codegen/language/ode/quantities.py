"""Quantities that a user gives: numbers, or text with units such as "10*ms"."""

from __future__ import annotations

import ast
from typing import Any, NamedTuple, NoReturn, TypeAlias

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.language.functions import Where, as_expr
from lnm_codegen.language.misuse import as_number
from lnm_codegen.language.ode.dimensions import Dimensions
from lnm_codegen.language.ode.functions import FUNCTIONS
from lnm_codegen.language.ode.units import EXAMPLES, Dims, none, unit_named
from lnm_codegen.language.text.cost import quoted, tree_of
from lnm_codegen.language.text.expression import CONSTANTS, parse
from lnm_codegen.validation import did_you_mean, is_number, wrong

Value: TypeAlias = "int | float | str"
_COMMON = (
    "mV", "mA", "uA", "nA", "pA", "pF", "uF", "nF", "nS", "uS", "mS", "ms", "us", "Hz", "kHz", "cm",
    "mm", "um", "mM", "uM", "Mohm", "Gohm", "kohm", "volt", "amp", "siemens", "ohm", "farad",
    "second", "hertz", "metre", "meter", "metre2", "molar", "mole", "kelvin", "coulomb",
)  # fmt: skip
ACCEPTED = 'a number, or text with units such as "10*ms"'


class Quantity(NamedTuple):
    """A number in SI units, and its dimensions."""

    value: sympy.Expr
    dims: Dims

    @property
    def number(self) -> float:
        """The value as a float."""
        return float(self.value)


def quantity(where: str, word: str, given: Any) -> Quantity:
    """Return a number, or the quantity that a text writes with numbers and units.

    Raises:
        ModelError: Another type, an unknown unit, or units that do not agree.
    """
    if isinstance(given, str):
        place = f"{where}: {word}"
        value = parse(given, _sizes(given, place), place, functions=FUNCTIONS)
        return Quantity(known(value, given, place), Dimensions().settled(given, place))
    number = as_number(given)
    if isinstance(number, bool) or not hasattr(number, "__float__") or not is_number(float(number)):
        raise wrong(where, word, given, ACCEPTED)
    return Quantity(as_expr(number, where), none())


def known(value: sympy.Expr, text: str, where: str) -> sympy.Expr:
    """Return the value of a text without names; refuse a comparison that SymPy leaves open.

    `min(pi, 3)` remains a condition on pi, which has no float.
    """
    if value.has(Where):
        problem = f"{quoted(text)} compares constants that are no fractions"
        raise ModelError(where, problem, ACCEPTED, "Write its value.")
    return value


def unit_dims(text: str, where: str) -> Dims:
    """Return the dimensions of the unit of an equation, `volt` or `siemens/metre**2`.

    Raises:
        ModelError: An unknown unit, or a multiple such as mV, whose numbers would be ambiguous.
    """
    if text in ("boolean", "integer"):
        raise ModelError(where, f"the unit is {text!r}", EXAMPLES, "Write 1.")
    size = parse(text, _sizes(text, where), where, functions={})
    if size != 1:
        problem = f"the unit {quoted(text)} is not 1 in SI units"
        remedy = "Write the SI unit; values may have multiples, 10*mV."
        raise ModelError(where, problem, "volt, amp, siemens, second, metre2, 1, ...", remedy)
    return Dimensions().settled(text, where)


def tree(text: str, where: str) -> ast.expr:
    """Return Python's syntax tree of a text; errors begin with `where`."""

    def refuse(problem: str, accepted: str = "", remedy: str = "") -> NoReturn:
        raise ModelError(where, problem, accepted, remedy) from None

    return tree_of(" ".join(text.split()), refuse, "numbers, names, + - * / ** and functions")


def names_in(text: str, where: str) -> list[str]:
    """Return the names that an expression reads, without functions, in their order."""
    nodes = list(ast.walk(tree(text, where)))
    called = {id(n.func) for n in nodes if isinstance(n, ast.Call)}
    names = [n for n in nodes if isinstance(n, ast.Name) and id(n) not in called]
    names.sort(key=lambda n: n.col_offset)
    return list(dict.fromkeys(n.id for n in names))


def _sizes(text: str, where: str) -> dict[str, sympy.Expr]:
    """Return the sizes of the units in a text that has no other names."""
    names = names_in(text, where)
    sizes = unit_sizes(names)
    for name in names:
        if name not in sizes and name not in CONSTANTS:
            hint = did_you_mean(name, _COMMON)
            raise ModelError(where, f"unknown unit {quoted(name)}", EXAMPLES, hint)
    return sizes


def unit_sizes(names: list[str]) -> dict[str, sympy.Expr]:
    """Return unit -> its size in SI units, for those names that are units."""
    sizes: dict[str, sympy.Expr] = {}
    for name in names:
        unit = None if name in CONSTANTS else unit_named(name)
        if unit is not None:
            sizes[name] = sympy.Rational(unit.size.numerator, unit.size.denominator)
    return sizes
