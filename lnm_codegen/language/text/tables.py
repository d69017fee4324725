"""Tables of a text definition: their keys and values, surrogates, draws.

Every error is one line that begins with the file and the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeAlias

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import (
    Draw,
    DrawnLeak,
    Input,
    Matrix,
    PolePair,
    Poles,
    Uniform,
    is_range,
)
from lnm_codegen.language.functions import replaced
from lnm_codegen.language.surrogate import (
    SURROGATES,
    Surrogate,
    Z,
    from_slope,
    surrogate_named,
)
from lnm_codegen.language.symbols import Declared
from lnm_codegen.language.text.expression import parse
from lnm_codegen.validation import did_you_mean, is_number, shown

# Content of a TOML file, with validation of its keys and values.
#
# Every error is one line that begins with the file and the key.


Table: TypeAlias = dict[str, Any]
_MISSING: Any = object()


class Content:
    """The tables of one file; `top` are the keys that belong above the first table."""

    def __init__(self, source: str, tables: Table, top: tuple[str, ...]) -> None:
        self.source = source
        self.tables = tables
        self._top = top

    def refuse(
        self, where: str, problem: str, accepted: str | Iterable[str] = "", remedy: str = ""
    ) -> NoReturn:
        """Raise ModelError; the message begins with the file."""
        place = f"{self.source}: {where}" if where else self.source
        raise ModelError(place, problem, accepted, remedy) from None

    def refuse_value(
        self, where: str, value: Any, accepted: str | Iterable[str], remedy: str = ""
    ) -> NoReturn:
        """Raise ModelError for a value that is not accepted."""
        self.refuse(where, f"the value is {shown(value)}", accepted, remedy)

    def with_source(self, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `make`; its errors begin with the file."""
        try:
            return make(*args, **kwargs)
        except ModelError as error:
            raise error.within(self.source) from None

    def require_keys(self, table: Table, where: str, accepted: Iterable[str]) -> None:
        """Raise ModelError unless every key of `table` is accepted."""
        known = list(accepted)
        for key in table:
            if key not in known:
                remedy = did_you_mean(key, known)
                if where and key in self._top:
                    remedy = f"Write {key!r} above the first [table] line; it belongs to no table."
                self.refuse(where, f"unknown key {shown(key)}", known or "none", remedy)

    def get(
        self, table: Table, where: str, key: str, kind: type, accepted: str, default: Any = _MISSING
    ) -> Any:
        """Return the value of a key, of type `kind`. The error lists `accepted`."""
        value = table.get(key, default)
        if value is _MISSING:
            self.refuse(joined(where, key), "missing", accepted)
        if value is not default and type(value) is not kind:
            self.refuse_value(joined(where, key), value, accepted)
        return value

    def table(self, key: str, each: str = "") -> Table:
        """Return a table of the file, or an empty one; one of tables, for each state, say."""
        accepted = f"a table [{key}.NAME] for each {each}" if each else f"a table, [{key}]"
        value: Table = self.get(self.tables, "", key, dict, accepted, {})
        return value


def joined(where: str, key: str) -> str:
    """Return `where.key`, the key in quotes unless it is a bare key."""
    word = key if key.isascii() and key.replace("-", "_").isidentifier() else shown(key)
    return f"{where}.{word}" if where else word


# Surrogates in text: a name, a table with `kind` and its arguments, or one with a `slope` in z.


def surrogates_of(file: Content, given: Any, spikes: Mapping[str, Declared]) -> Any:
    """Read `surrogate`: one for every spike, or a table from spike to one. None without the key."""
    if given is None:
        return None
    if not spikes:
        problem = "given, but the neuron has no spike"
        file.refuse("surrogate", problem, remedy="Remove it, or give fire.")
    if not isinstance(given, dict) or not any(key in spikes for key in given):
        return _one(file, given, "surrogate")
    file.require_keys(given, "surrogate", spikes)
    for key in spikes:
        if key not in given:
            file.refuse(joined("surrogate", key), "missing", "one for every spike")
    return {spikes[k]: _one(file, value, joined("surrogate", k)) for k, value in given.items()}


def _one(file: Content, given: Any, where: str) -> Surrogate:
    table = {"kind": given} if isinstance(given, str) else given
    names = ", ".join(SURROGATES)
    if not isinstance(table, dict):
        file.refuse_value(where, table, f"{names}, or a table")
    if "slope" in table:
        return _slope(file, table, where)
    file.require_keys(table, where, ("kind", "alpha"))
    kind = file.get(table, where, "kind", str, names)
    arguments = {key: value for key, value in table.items() if key != "kind"}
    surrogate: Surrogate = file.with_source(surrogate_named, where, kind, arguments)
    return surrogate


def _slope(file: Content, table: dict[str, Any], where: str) -> Surrogate:
    """Return the surrogate of a slope, an expression in z."""
    file.require_keys(table, where, ("name", "slope"))
    name = file.get(table, where, "name", str, "a word in quotes", "custom")
    place = joined(where, "slope")
    text = file.get(table, where, "slope", str, 'an expression in z, such as "1/(1 + z**2)"')
    expr = slope_of(text, f"{file.source}: {place}")
    return from_slope(lambda _: expr, name)


def slope_of(text: str, where: str) -> Any:
    """Return the expression in `Z` of a text in z; errors begin with `where`."""
    z = Declared("z", Input("z"), 0)
    return replaced(parse(text, {"z": z}, where), {z: Z})


# Draws of the built-in families in text: `draw = {kind = "uniform", low = 5.0, high = 10.0}`.
#
# | kind | key | draws |
# | --- | --- | --- |
# | uniform | draw | a scalar, uniform from low to high |
# | matrix | draw | theta_v (part 0) and theta_w (part 1) of a damped rotation, from `first` on |
# | pole_pair | draw | rho (part 0) and phi (part 1) of a pole pair |
# | leak | init | a vector, ends*(sigmoid(N(mean, spread**2)) - shift) |


KEYS = {
    "uniform": ("low", "high"),
    "matrix": ("part", "radius", "angle", "first"),
    "pole_pair": ("part", "radius", "angle"),
}
_LEAK = ("mean", "spread", "shift", "ends")


def table_of(draw: Draw) -> dict[str, Any] | None:
    """Return the table of a draw, or None for one that has no name."""
    match draw.sample:
        case Uniform(ends):
            return {"kind": "uniform", "low": ends[0], "high": ends[1]}
        case Matrix(poles, first):
            return {"kind": "matrix", "part": draw.part, **_ranges(poles), "first": first}
        case PolePair(poles):
            return {"kind": "pole_pair", "part": draw.part, **_ranges(poles)}
    return None


def _ranges(poles: Poles) -> dict[str, list[float]]:
    return {"radius": list(poles.radius), "angle": list(poles.angle)}


def init_table(init: Any) -> dict[str, Any] | None:
    """Return the table of an initial value that is a function, or None for one without a name."""
    if not isinstance(init, DrawnLeak):
        return None
    return {
        "kind": "leak",
        **{key: getattr(init, key) for key in _LEAK[:3]},
        "ends": list(init.ends),
    }


def draw_of(file: Content, table: Any, where: str, size: int | None) -> Draw:
    """Return the draw of a table, for a parameter of that size."""
    kind = _kind(file, table, where, KEYS)
    file.require_keys(table, where, ("kind", *KEYS[kind]))
    if kind == "uniform":
        if size is not None:
            file.refuse(where, "a uniform draw of a vector", "a scalar parameter")
        return Draw(
            Uniform(_range(file, where, "low and high", (table.get("low"), table.get("high"))))
        )
    part = table.get("part")
    if part not in (0, 1) or isinstance(part, bool):
        file.refuse_value(joined(where, "part"), part, "0 or 1")
    radius, angle = (
        _range(file, joined(where, key), key, table.get(key)) for key in ("radius", "angle")
    )
    if radius[0] < 0:
        file.refuse_value(joined(where, "radius"), list(radius), "numbers >= 0")
    if kind == "matrix":
        first = table.get("first")
        if type(first) is not int or size is None or not 0 <= first <= size - 2:
            accepted = "an integer, with first + 2 <= the size of the parameter"
            file.refuse_value(joined(where, "first"), first, accepted)
        return Draw(Matrix(Poles(radius, angle), first, size), part)
    if size is not None or not 0 < radius[0] <= radius[1] < 1:
        problem = f"the radius is {list(radius)} and the size {size}"
        file.refuse(where, problem, "a scalar, and numbers between 0 and 1")
    return Draw(PolePair(Poles(radius, angle)), part)


def init_of(file: Content, table: Any, where: str, size: int | None) -> DrawnLeak:
    """Return the initial value of a vector that a table names."""
    _kind(file, table, where, {"leak": _LEAK})
    file.require_keys(table, where, ("kind", *_LEAK))
    ends = table.get("ends")
    numbers = [table.get(key) for key in _LEAK[:3]]
    is_list = isinstance(ends, list) and size is not None and 1 <= len(ends) <= size
    if not is_list or not all(map(is_number, [*numbers, *ends])) or not numbers[1] > 0:
        accepted = "numbers mean, spread > 0 and shift, and a list ends of at most size numbers"
        file.refuse_value(where, table, accepted)
    mean, spread, shift = map(float, numbers)
    return DrawnLeak(mean, spread, shift, tuple(map(float, ends)))


def _kind(file: Content, table: Any, where: str, known: dict[str, tuple[str, ...]]) -> str:
    """Return the kind of a draw, one of the known ones."""
    kind = table.get("kind") if isinstance(table, dict) else None
    if not isinstance(kind, str) or kind not in known:
        accepted = " or ".join(f'{{kind = "{k}", {", ".join(v)}}}' for k, v in known.items())
        file.refuse_value(where, table, accepted)
    return kind


def _range(file: Content, where: str, word: str, ends: Any) -> tuple[float, float]:
    """Return a range, two numbers in order."""
    if not isinstance(ends, list | tuple) or not is_range(tuple(ends)):
        file.refuse_value(where, ends, f"{word}: two numbers, the smaller one first")
    return float(ends[0]), float(ends[1])
