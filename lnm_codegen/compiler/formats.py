"""Fixed-point formats as text: `16.12`, `Q4.12`, and a whole spec as TOML.

default = "16.12"          # width.fraction bits of every other node
rounding = "half_up"       # or "truncate", "convergent"

[nodes]
v = "16.12"
h_1 = "14.12"
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from lnm_codegen.errors import ModelError
from lnm_codegen.files import toml_of
from lnm_codegen.ir.types import Fixed, FixedSpec, Rounding
from lnm_codegen.language.text.tables import Content, joined
from lnm_codegen.options import RoundingName

_FORMAT = re.compile(r"([Qq]?)(\d{1,3})\.(\d{1,3})", re.ASCII)
_ACCEPTED = "width.fraction, such as 16.12, or Q4.12"


def format_of(text: str, rounding: str = "half_up", where: str = "format") -> Fixed:
    """Return the format that `16.12` (width.fraction) or `Q4.12` (integer.fraction bits) names.

    Raises:
        ModelError: Another text, or a format outside the limits of `Fixed`.
    """
    found = _FORMAT.fullmatch(text)
    place = f"{where} {text!r}"
    if not found:
        raise ModelError(place, "not a format", _ACCEPTED)
    whole, frac = int(found[2]), int(found[3])
    try:
        width = whole + frac if found[1] else whole
        return Fixed(width, frac, cast("RoundingName", rounding))
    except ModelError as error:
        raise ModelError(place, error.problem, error.accepted) from None


def load_spec(path: str | os.PathLike[str]) -> FixedSpec:
    """Return the spec that a TOML file holds.

    Raises:
        ModelError: The file cannot be read, or a key or a value is not accepted; the message
            begins with the file and the key.
    """
    file = Path(path)
    tables = toml_of(file)
    content = Content(str(file), tables, ("default", "rounding"))
    content.require_keys(tables, "", ("default", "rounding", "nodes"))
    accepted = f"a format in quotes: {_ACCEPTED}"
    rounding = content.get(tables, "", "rounding", str, "a word in quotes", "half_up")

    def fixed(table: dict[str, object], where: str, key: str) -> Fixed:
        text = content.get(table, where, key, str, accepted)
        found: Fixed = content.with_source(format_of, text, rounding, where=joined(where, key))
        return found

    nodes = content.table("nodes")
    return FixedSpec(fixed(tables, "", "default"), {n: fixed(nodes, "nodes", n) for n in nodes})


def spec_text(spec: FixedSpec, comments: Iterable[str] = ()) -> str:
    """Return a spec as TOML, after lines of comment.

    Raises:
        ModelError: Formats of different rounding; a file has one rounding for all.
    """
    rounding = spec.default.rounding
    for name, fixed in spec.nodes:
        if fixed.rounding is not rounding:
            problem = f"the rounding is {fixed.rounding.value!r}"
            raise ModelError(name, problem, f"the default's, {rounding.value!r}, in a file")
    lines = [f"# {line}".rstrip() for line in comments]
    lines += [f'default = "{_plain(spec.default)}"', f'rounding = "{rounding.value}"']
    if spec.nodes:
        lines += ["", "[nodes]", *(f'{name} = "{_plain(fixed)}"' for name, fixed in spec.nodes)]
    return "\n".join(lines) + "\n"


def spec_line(spec: FixedSpec) -> str:
    """Return a spec as words: Q4.12 truncate (v Q4.16, h Q4.16).

    Nodes of the default format, and the rounding half up, are omitted.
    """

    def text(fixed: Fixed, usual: Rounding) -> str:
        return str(fixed) if fixed.rounding is usual else f"{fixed} {fixed.rounding.value}"

    default, usual = spec.default, spec.default.rounding
    own = [f"{name} {text(fixed, usual)}" for name, fixed in spec.nodes if fixed != default]
    return text(default, Rounding.HALF_UP) + (f" ({', '.join(own)})" if own else "")


def _plain(fixed: Fixed) -> str:
    return f"{fixed.width}.{fixed.frac}"
