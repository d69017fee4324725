"""Units by the names that Brian2 uses, as factors to SI units and dimensions of pint.

pint knows the units and multiplies dimensions. The list of names is closed, since pint would take
the names `a`, `g`, `h` or `C` of a model for a year, a gram, an hour or a coulomb.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.language.bounds import ExpressionText, quoted
from lnm_codegen.language.functions import Where, as_expr
from lnm_codegen.language.misuse import as_number
from lnm_codegen.language.ode.functions import FUNCTIONS, LIKE_ARGUMENT
from lnm_codegen.language.text.expression import CONSTANTS, parse
from lnm_codegen.validation import did_you_mean, is_number, wrong

if TYPE_CHECKING:
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
    bases = {key: f"(unit of {key[1:]})" if key[0] == "?" else _BASES[key] for key in sorted(dims)}
    powers = {key: Fraction(str(dims[key])) for key in bases}
    order = sorted(bases, key=lambda key: powers[key] < 0)
    parts = (bases[k] if powers[k] == 1 else f"{bases[k]}**{powers[k]}" for k in order)
    return "*".join(parts)


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


# Quantities that a user gives: numbers, or text with units such as "10*ms".


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
    return ExpressionText(text, where).tree("numbers, names, + - * / ** and functions")


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


# Dimensions of an expression in text, and the check that its terms have one unit.
#
# A name without a known unit, such as an input, has an unknown dimension. The sums, comparisons and
# arguments that contain it determine the dimension. So do the literals 0, which have any unit.


class Dimensions:
    """Dimensions of names. Each check may determine unknown ones."""

    def __init__(self) -> None:
        self._names: dict[str, Dims] = {}
        self._known: dict[str, Dims] = {}

    def set(self, name: str, dims: Dims | None = None) -> None:
        """Give a name its dimensions; None leaves them to be determined."""
        self._names[name] = unknown(name) if dims is None else dims

    def of_name(self, name: str) -> Dims:
        """Return the dimensions of a name or of a unit."""
        found = self._names.get(name)
        if found is None:
            unit = unit_named(name)
            found = none() if unit is None else unit.dims
        return self.resolved(found)

    def of_text(self, text: str, where: str) -> Dims:
        """Return the dimensions of a text that the grammar of expressions accepts.

        Raises:
            ModelError: Terms, sides or arguments of different units. The message shows both.
        """
        return _Walk(self, text, where).run()

    def settled(self, text: str, where: str) -> Dims:
        """Return the dimensions of a text; unknown ones, those of literals 0, count as none."""
        dims = self.of_text(text, where)
        self._known |= {key: none() for key in unknowns(dims)}
        return self.resolved(dims)

    def resolved(self, dims: Dims) -> Dims:
        """Return dimensions with those that are known by now replaced."""
        for key in unknowns(dims):
            if key in self._known:
                found = self.resolved(self._known[key])
                dims = with_factor(dims, key, found)
        return dims

    def agree(self, a: Dims, b: Dims) -> bool:
        """Report whether two dimensions are equal, and determine an unknown one of them."""
        ratio = self.resolved(a) / self.resolved(b)
        left = unknowns(ratio)
        if left:
            self._known[left[0]] = solution(ratio, left[0])
            return True
        return not ratio

    def fresh(self) -> Dims:
        """Return an unknown dimension of a new name, for a literal 0."""
        self._names[f"0 {len(self._names)}"] = found = unknown(f"0 {len(self._names)}")
        return found


class _Walk(ExpressionText):
    def __init__(self, table: Dimensions, text: str, where: str) -> None:
        super().__init__(text, where)
        self._table = table

    def run(self) -> Dims:
        return self._of(self.tree("an expression"))

    def _of(self, node: ast.expr) -> Dims:
        """Return the dimensions of a node; of a condition, those of a plain number."""
        match node:
            case ast.Constant(value=number):
                return self._table.fresh() if number == 0 else none()
            case ast.Name(id=word):
                return self._table.of_name(word)
            case ast.UnaryOp(operand=operand):
                return self._of(operand)
            case ast.BinOp():
                return self._chain(node)
            case ast.BoolOp(values=values):
                for value in values:
                    self._of(value)
            case ast.Compare(left=left, comparators=others):
                self._alike([left, *others], "is compared with")
            case ast.Call(func=ast.Name(id=word), args=args):
                return self._call(word, args)
        return none()

    def _chain(self, node: ast.BinOp) -> Dims:
        """Return the dimensions of a + b + c, which Python nests to the left, without recursion."""
        spine = [node]
        while isinstance(spine[-1].left, ast.BinOp):
            spine.append(spine[-1].left)
        dims = self._of(spine[-1].left)
        for step in reversed(spine):
            dims = self._binary(step, dims)
        return dims

    def _binary(self, node: ast.BinOp, left: Dims) -> Dims:
        if isinstance(node.op, ast.BitAnd | ast.BitOr):
            self._of(node.right)
            return none()
        right = self._of(node.right)
        if isinstance(node.op, ast.Add | ast.Sub):
            self._require(node.left, left, node.right, right, "is added to")
            return left
        if isinstance(node.op, ast.Pow):
            return self._power(node, left, right)
        return product(left, right if isinstance(node.op, ast.Mult) else power(right, Fraction(-1)))

    def _power(self, node: ast.BinOp, base: Dims, exponent: Dims) -> Dims:
        self._require_plain(node.right, exponent, "the exponent")
        base = self._table.resolved(base)
        value = _constant(node.right)
        if value is None:
            self._require_plain(node.left, base, "the base of a varying exponent")
            return none()
        return power(base, value)

    def _call(self, word: str, args: list[ast.expr]) -> Dims:
        if word == "sqrt":
            return power(self._of(args[0]), Fraction(1, 2))
        if word in ("sign", "int"):
            self._of(args[0])
            return none()
        if word in LIKE_ARGUMENT:
            if word == "where":
                self._of(args[0])
                args = args[1:]
            return self._alike(args, "is an argument with")
        self._require_plain(args[0], self._of(args[0]), f"the argument of {word}")
        return none()

    def _alike(self, nodes: list[ast.expr], relation: str) -> Dims:
        first = self._of(nodes[0])
        for node in nodes[1:]:
            self._require(nodes[0], first, node, self._of(node), relation)
        return first

    def _require(self, a: ast.expr, left: Dims, b: ast.expr, right: Dims, relation: str) -> None:
        if not self._table.agree(left, right):
            shown = [spelled(self._table.resolved(dims)) for dims in (left, right)]
            self.refuse(
                f"{self.show(a)} has the unit {shown[0]} and {relation} {self.show(b)}, which has"
                f" the unit {shown[1]}",
                "one unit on both sides",
            )

    def _require_plain(self, node: ast.expr, dims: Dims, role: str) -> None:
        if not self._table.agree(dims, none()):
            shown = spelled(self._table.resolved(dims))
            self.refuse(
                f"{role}, {self.show(node)}, has the unit {shown}", "a number without a unit"
            )


def _constant(node: ast.expr) -> Fraction | None:
    """Return the value of a constant exponent, 2, -1 or 1/2; None for any other."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return Fraction(str(value)) if abs(value) < 1e15 else Fraction(10**15)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            positive = _constant(operand)
            return None if positive is None else -positive
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            a, b = _constant(left), _constant(right)
            return None if a is None or not b else a / b
    return None
