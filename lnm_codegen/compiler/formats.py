"""Fixed-point formats as text: `16.12`, `Q4.12`, and a whole spec as TOML.

default = "16.12"          # width.fraction bits; every node that is not named, constants too
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

from lnm_codegen.errors import ModelError
from lnm_codegen.files import toml_of
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.types import Fixed
from lnm_codegen.language.text.content import Content

_PLAIN = re.compile(r"(\d{1,3})\.(\d{1,3})", re.ASCII)
_NAMED = re.compile(r"[Qq](\d{1,3})\.(\d{1,3})", re.ASCII)
_ACCEPTED = "width.fraction, such as 16.12, or Q4.12"


def format_of(text: str, rounding: str = "half_up", where: str = "format") -> Fixed:
    """Return the format that `16.12` (width.fraction) or `Q4.12` (integer.fraction bits) names.

    Raises:
        ModelError: Neither, or no format that there is; `where` says what it was.
    """
    plain, named = _PLAIN.fullmatch(text), _NAMED.fullmatch(text)
    try:
        if plain:
            return Fixed(int(plain[1]), int(plain[2]), rounding)
        if named:
            return Fixed(int(named[1]) + int(named[2]), int(named[2]), rounding)
    except ModelError as error:
        raise ModelError(f"{where} {text!r}: {error}") from None
    raise ModelError(f"{where} {text!r}", "not a format", _ACCEPTED)


def load_spec(path: str | os.PathLike[str]) -> FixedSpec:
    """Return the spec that a TOML file holds.

    Raises:
        ModelError: The file cannot be read, or its content is no spec; one line that begins with
            the file and the key.
    """
    file = Path(path)
    tables = toml_of(file)
    content = Content(str(file), tables, ("default", "rounding"))
    content.keys(tables, "", ("default", "rounding", "nodes"))
    accepted = f"a format in quotes: {_ACCEPTED}"
    rounding = content.get(tables, "", "rounding", str, "a word in quotes", "half_up")

    def fixed(table: dict[str, object], where: str, key: str) -> Fixed:
        text = content.get(table, where, key, str, accepted)
        found: Fixed = content.located(format_of, text, rounding, where=f"{where or key}:")
        return found

    nodes = content.table("nodes")
    return FixedSpec(fixed(tables, "", "default"), {n: fixed(nodes, "nodes", n) for n in nodes})


def spec_text(spec: FixedSpec, comments: Iterable[str] = ()) -> str:
    """Return a spec as TOML, with lines of comment above it.

    Raises:
        ModelError: Formats that round in different ways, which the file cannot say.
    """
    rounding = spec.default.rounding
    for name, fixed in spec.nodes:
        if fixed.rounding is not rounding:
            raise ModelError(
                name,
                f"rounds by {fixed.rounding.value!r}, the default by {rounding.value!r}",
                remedy="Accepted in a file: one rounding for all.",
            )
    lines = [f"# {line}".rstrip() for line in comments]
    lines += [f'default = "{_plain(spec.default)}"', f'rounding = "{rounding.value}"']
    if spec.nodes:
        lines += ["", "[nodes]", *(f'{name} = "{_plain(fixed)}"' for name, fixed in spec.nodes)]
    return "\n".join(lines) + "\n"


def _plain(fixed: Fixed) -> str:
    return f"{fixed.width}.{fixed.frac}"
