"""`lnm list`: the built-in families."""

from __future__ import annotations

import inspect
from typing import Any

from lnm_codegen.cli.output import print_json, print_table
from lnm_codegen.families import FAMILIES
from lnm_codegen.sections import Table


def list_families(*, json: bool = False) -> None:
    """List the built-in families.

    The other commands give a family these arguments with `--degree` and `--set`.
    """
    rows = [
        (
            name,
            (inspect.getdoc(family) or "").partition("\n")[0],
            {p.name: p.default for p in family.signature.parameters.values()},
        )
        for name, family in FAMILIES.items()
    ]
    if json:
        print_json([{"name": n, "description": d, "arguments": a} for n, d, a in rows])
        return
    shown = [(n, d, ", ".join(f"{k}={_text(v)}" for k, v in a.items())) for n, d, a in rows]
    print_table(Table(("family", "description", "arguments"), shown))


def _text(value: Any) -> str:
    """Return a default in the spelling of `--set`."""
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
