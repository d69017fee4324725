"""Lines and places in CUDA C: what the loops and the sums are written with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lnm_codegen.backends.plan import Plan
from lnm_codegen.ir.declarations import Granularity, Param


def raw_values(plan: Plan, rows: Mapping[Granularity, str]) -> dict[str, str]:
    """Return what each declared scalar is in the arguments, given the row of each granularity."""
    table = {}
    for p in plan.model.params:
        for k, name in enumerate(p.element_names):
            table[name] = f"a.{p.name}[{place(rows[p.per], p, k)}]" if p.per in rows else "real(0)"
    return table


def place(row: str, p: Param, k: int) -> str:
    """Return the index of element k of a parameter, in a row of it."""
    if p.size is None:
        return row
    return str(k) if row == "0" else f"{row} * {p.size} + {k}"


def indented(lines: Sequence[str]) -> list[str]:
    """Return lines one level further in; directives stay where they are."""
    return [x if x.startswith("#") else f"    {x}".replace("\n", "\n    ") for x in lines]


def joined(start: str, words: list[str], end: str, indent: int = 0) -> str:
    """Return start + words between commas + end, in lines of 110 columns.

    The first line begins at `indent`, the others four columns further in.
    """
    lines = [" " * indent + start]
    for k, word in enumerate(words):
        piece = word + (", " if k + 1 < len(words) else end)
        if len(lines[-1]) + len(piece.rstrip()) > 110:
            lines.append(" " * (indent + 4))
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)[indent:]
