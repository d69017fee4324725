"""Draws of the built-in families in text: `draw = {kind = "uniform", low = 5.0, high = 10.0}`.

| kind | key | draws |
| --- | --- | --- |
| uniform | draw | a scalar, uniform from low to high |
| matrix | draw | theta_v (part 0) and theta_w (part 1) of a damped rotation, from `first` on |
| pole_pair | draw | rho (part 0) and phi (part 1) of a pole pair |
| leak | init | a vector, ends*(sigmoid(N(mean, spread**2)) - shift) |
"""

from __future__ import annotations

from typing import Any

from lnm_codegen.ir.declarations import Draw, DrawnLeak, Matrix, PolePair, Poles, Uniform, is_range
from lnm_codegen.language.text.content import Content, joined
from lnm_codegen.validation import is_number

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
