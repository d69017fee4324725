"""What several verbs share: naming a family and giving it arguments."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from lnm_codegen.compiler.formats import format_of
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.types import Fixed
from lnm_codegen.language.surrogate import SURROGATES, Surrogate
from lnm_codegen.validation import did_you_mean

_FAMILY = typer.Argument(
    metavar="FAMILY", help="A built-in name, a .toml file, file.py:function or module:function."
)
FamilyArgument = Annotated[str, _FAMILY]
OptionalFamilyArgument = Annotated[str | None, _FAMILY]
DegreeOption = Annotated[
    int | None, typer.Option("--degree", metavar="D", help="Degree, where the family takes one.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="An argument of the family, as often as needed: a number, true, false, none, a word,"
        " or several with commas, theta=0,0.5; surrogate=atan or surrogate=atan(alpha=3).",
    ),
]
SchemeOption = Annotated[
    str, typer.Option("--scheme", help="How polynomials are evaluated: horner or estrin.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?")
_WORD = re.compile(r"[A-Za-z_.~/][\w./~-]*", re.ASCII)
_CALL = re.compile(r"(\w+)(?:\((.*)\))?", re.ASCII)
_WORDS = {"true": True, "false": False, "none": None}
_SAY = {
    "--set": "tau=3.0", "--net": "time_steps=8", "--train": "loss=tet",
    "--data-set": "time_steps=10",
}  # fmt: skip
_ACCEPTED = "a number, true, false, none, a word or path, or several of them with commas"


def family_arguments(
    settings: list[str] | None, degree: int | None = None, option: str = "--set"
) -> dict[str, Any]:
    """Return the keyword arguments that `--degree` and `--set`, or another option, give.

    Raises:
        ModelError: Not KEY=VALUE, a value of no known form, or a key given twice.
    """
    found: dict[str, Any] = {} if degree is None else {"degree": degree}
    for text in settings or ():
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ModelError(
                f"{option} {text!r}", "not KEY=VALUE", remedy=f"Give, say, {option} {_SAY[option]}."
            )
        if key in found:
            raise ModelError(f"{option} {text!r}", f"{key} is given twice", remedy="Give it once.")
        found[key] = _surrogate(value) if key == "surrogate" else _value(f"{option} {key}", value)
    return found


def _value(what: str, text: str) -> Any:
    items = [_item(what, text, item.strip()) for item in text.split(",")]
    return items[0] if len(items) == 1 else tuple(items)


def _item(what: str, text: str, item: str) -> Any:
    if item.lower() in _WORDS:
        return _WORDS[item.lower()]
    if _INTEGER.fullmatch(item):
        return int(item)
    if _NUMBER.fullmatch(item) and math.isfinite(float(item)):
        return float(item)
    if _WORD.fullmatch(item):
        return item
    raise ModelError(f"{what}={text}", f"the value is {item!r}", _ACCEPTED)


def _surrogate(text: str) -> Surrogate | None:
    if text.lower() == "none":
        return None
    table = surrogate_table(text)
    try:
        return SURROGATES[table.pop("kind")](**table)
    except TypeError as error:
        raise ModelError(f"--set surrogate={text}", str(error)) from None


def surrogate_table(text: str) -> dict[str, Any]:
    """Return {"kind": "atan", "alpha": 3} of `atan(alpha=3)`, as files hold it."""
    match = _CALL.fullmatch(text)
    name, inner = match.groups() if match else (text, None)
    if name not in SURROGATES:
        raise ModelError(
            f"--set surrogate={text}",
            "no such surrogate",
            f"{', '.join(SURROGATES)}, each also with an argument, atan(alpha=3)",
            did_you_mean(name, SURROGATES),
        )
    return {"kind": name, **family_arguments(inner.split(",") if inner else [])}


def parse_format(text: str, rounding: str = "half_up") -> Fixed:
    """Return the format that `16.12` (width.fraction) or `Q4.12` names.

    Raises:
        ModelError: It names none, or one that there is not.
    """
    return format_of(text, rounding, where="--format")


def parse_intervals(
    option: str, texts: Sequence[str], names: Sequence[str], *, symmetric: bool = False
) -> dict[str, tuple[float, float]]:
    """Return an interval for each of `names`: of `LOW,HIGH` for all of them, `NAME=LOW,HIGH` one.

    Args:
        option: As it is written, `--x`.
        texts: What was given, as often as it was.
        names: The inputs or states.
        symmetric: Also take one number X, for [-X, X].

    Raises:
        ModelError: Not an interval, no such name, a name twice.
    """
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, equals, rest = text.rpartition("=")
        if equals and name not in names:
            raise ModelError(
                f"{option} {text!r}: no {name!r}. Declared: {', '.join(names) or 'none'}."
                f"{did_you_mean(name, names)}"
            )
        for one in [name] if equals else names:
            if one in found:
                raise ModelError(
                    f"{option} {text!r}", f"{one} is given twice", remedy="Give it once."
                )
            found[one] = _interval(option, text, rest, symmetric)
    return found


def _interval(option: str, text: str, rest: str, symmetric: bool) -> tuple[float, float]:
    words = [word.strip() for word in rest.split(",")]
    plain = all(_NUMBER.fullmatch(w) and math.isfinite(float(w)) for w in words)
    if plain and len(words) == 1 and symmetric and float(words[0]) >= 0:
        return -float(words[0]), float(words[0])
    if plain and len(words) == 2 and float(words[0]) <= float(words[1]):
        return float(words[0]), float(words[1])
    one = "a number X >= 0 for -X,X, or " if symmetric else ""
    raise ModelError(
        f"{option} {text!r}", "not an interval", f"{one}LOW,HIGH with LOW <= HIGH, finite"
    )
