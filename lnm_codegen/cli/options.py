"""Options of verbs: their declarations, and the parsing of their values."""

from __future__ import annotations

import errno
import math
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

import typer

from lnm_codegen.analysis.canvas import require_matplotlib
from lnm_codegen.compiler.formats import format_of
from lnm_codegen.errors import ModelError
from lnm_codegen.files import unwritable, write_whole
from lnm_codegen.ir.types import Fixed
from lnm_codegen.language.surrogate import SURROGATES, Surrogate, surrogate_named
from lnm_codegen.validation import (
    Accepted,
    DeclaredType,
    declared_type,
    did_you_mean,
    meanings_of,
    require_accepted,
    wrong,
)

FORMAT_HELP = "16.12 (width.fraction) or Q4.12 for every node"
WIDE = 18
"""Bits of a format; `parse_format` notes a wider Qm.n whose m may be meant as the width."""


# Verbs: functions whose parameters are the arguments and options of the command line.


class Meta(str):
    """Placeholder of an option in the help: `Annotated[str, Meta("T,...")]`."""


class Note(str):
    """Help of an option that the docstring of its verb lacks."""


Settings: TypeAlias = Annotated[list[str] | None, Meta("KEY=VALUE")]
Degree: TypeAlias = Annotated[int | None, Meta("D")]
Seeds: TypeAlias = Annotated[int, Accepted(low=1, high=32), Meta("N")]
Subject: TypeAlias = Annotated[str, Meta("FAMILY|RUN")]
HELP = {
    "family": "A built-in name, a .toml file, file.py:function or module:function.",
    "subject": "A built-in name, a .toml file, file.py:function or module:function; or a folder"
    " that `lnm train` wrote.",
    "run": "A folder that `lnm train` wrote.",
    "degree": "Degree, if the family takes one.",
    "set": "An argument of the family; repeat it. VALUE is a number, true, false, none, a word, or"
    " several with commas, theta=0,0.5; surrogate=atan or surrogate=atan(alpha=3).",
    "folder": "A folder that `lnm emit --backend verilog` wrote.",
    "scheme": "Evaluation of polynomials.",
    "dtype": "Type of sequences.",
    "rounding": "half_up, truncate or convergent. [default: half_up]",
    "device": "cpu or cuda.",
    "target": "ecp5, ice40 or xilinx.",
    "seeds": "Place and route for seeds 1 to N.",
    "x": "Interval of every input: X for |x| <= X, or LOW,HIGH; NAME=LOW,HIGH for one of several"
    " inputs.",
    "json": "Print JSON.",
}
"""Parameter that several verbs have -> its help, unless the docstring of the verb has another."""


def word_of(parameter: str) -> str:
    """Return the word of a parameter on the command line: `shift_add` is --shift-add."""
    return parameter.strip("_").replace("_", "-")


def as_verb(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """Return a function for Typer that has an option for each parameter of a verb.

    A parameter that is positional alone is an argument; any other is an option of its name. Its
    type declares placeholder and accepted values; the section Options of the docstring, its help.
    """
    whole = signature(function, eval_str=True)
    summary, notes = meanings_of(function, "Options")
    parameters = []
    for p in whole.parameters.values():
        declared, word = declared_type(p.annotation), word_of(p.name)
        meta = next((str(mark) for mark in declared.marks if isinstance(mark, Meta)), None)
        own = next((mark for mark in declared.marks if isinstance(mark, Note)), None)
        text = notes.get(p.name, HELP.get(word, "")).replace(" [default:", "  [default:")
        note = own or text + _bounds(declared)
        kind = declared.kind
        if get_origin(kind) is Literal:
            kind, meta = str, meta or "|".join(get_args(kind))
        flags = [f"--{word}/--no-{word}" if p.default is True else f"--{word}"]
        flags += [mark for mark in declared.marks if type(mark) is str]
        shown = typer.Option(*flags, metavar=meta, help=note)
        if p.kind is Parameter.POSITIONAL_ONLY:
            shown = typer.Argument(metavar=meta or word.upper(), help=note)
        hint = p.annotation
        if kind is not typer.Context:
            hint = Annotated[kind | None if declared.optional else kind, shown]
        parameters.append(p.replace(kind=Parameter.KEYWORD_ONLY, annotation=hint))

    def run(**given: Any) -> None:
        for p in whole.parameters.values():
            declared = replace(declared_type(p.annotation), optional=False)
            if given[p.name] is not None:
                require_accepted(name, f"--{word_of(p.name)}", given[p.name], declared)
        first = [p.name for p in whole.parameters.values() if p.kind is Parameter.POSITIONAL_ONLY]
        arguments = [given.pop(word) for word in first]
        function(*arguments, **given)

    run.__doc__ = summary
    run.__signature__ = whole.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def _bounds(declared: DeclaredType) -> str:
    """Return the bounds of a declared number, for its help."""
    found = next((mark for mark in declared.marks if isinstance(mark, Accepted)), None)
    if found is None or found.low is None:
        return ""
    return f"  [{found.low} to {found.high}]" if found.high is not None else f"  [>= {found.low}]"


def given_options(context: typer.Context) -> list[str]:
    """Return the options that the command line has, in the order of the verb's signature."""
    source = context.get_parameter_source
    return [f"--{word_of(p)}" for p in context.params if source(p).name == "COMMANDLINE"]  # type: ignore[union-attr]


# Values of options.


_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?")
_WORD = re.compile(r"[A-Za-z_.~/][\w./~:-]*", re.ASCII)
_CALL = re.compile(r"(\w+)(?:\((.*)\))?", re.ASCII)
_WORDS = {"true": True, "false": False, "none": None}
_EXAMPLES = {
    "--set": "tau=3.0", "--net": "time_steps=8", "--train": "loss=tet",
    "--data-set": "time_steps=10",
}  # fmt: skip
_ACCEPTED = "a number, true, false, none, a word or path, or several of them with commas"


def family_arguments(
    settings: list[str] | None,
    degree: int | None = None,
    option: str = "--set",
    surrogate: Callable[[str], Any] = lambda text: _surrogate(text),
) -> dict[str, Any]:
    """Return the keyword arguments in `--degree` and `--set`, or in another option.

    `surrogate` returns that of a text.

    Raises:
        ModelError: Not KEY=VALUE, a value of no known form, or a key given twice.
    """
    found: dict[str, Any] = {} if degree is None else {"degree": degree}
    for text in settings or ():
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ModelError(
                f"{option} {text!r}",
                "not KEY=VALUE",
                remedy=f"Give, say, {option} {_EXAMPLES[option]}.",
            )
        if key in found:
            raise ModelError(f"{option} {text!r}", f"{key} is given twice", remedy="Give it once.")
        found[key] = surrogate(value) if key == "surrogate" else _value(f"{option} {key}", value)
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
    remedy = f"Give {what.split()[0]} once for each KEY=VALUE." if "=" in item else ""
    raise ModelError(f"{what}={text}", f"the value is {item!r}", _ACCEPTED, remedy)


def _surrogate(text: str) -> Surrogate | None:
    table = surrogate_table(text)
    if table is None:
        return None
    return surrogate_named(f"--set surrogate={text}", table.pop("kind"), table)


def surrogate_table(text: str) -> dict[str, Any] | None:
    """Return {"kind": "atan", "alpha": 3} for `atan(alpha=3)`, as files hold it; None for none."""
    if text.lower() == "none":
        return None
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
    """Return the format of `16.12` (width.fraction) or `Q4.12`.

    Raises:
        ModelError: Not a format, or one out of range.
    """
    found = format_of(text, rounding, where="--format")
    whole = found.width - found.frac
    if text[0] in "Qq" and found.width > WIDE and whole > found.frac:
        meant = f"{whole} bits with {found.frac} of them fraction are {text[1:]}"
        typer.echo(f"note: --format {text} has {found.width} bits; {meant}.", err=True)
    return found


def parse_intervals(
    option: str, texts: Sequence[str], names: Sequence[str], *, symmetric: bool = False
) -> dict[str, tuple[float, float]]:
    """Return the interval of each name. `LOW,HIGH` sets all of `names`, `NAME=LOW,HIGH` one.

    Args:
        option: The option, `--x`.
        texts: Its values.
        names: The inputs or states.
        symmetric: Accept one number X too, for [-X, X].

    Raises:
        ModelError: Not an interval, an unknown name, or a name given twice.
    """
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, equals, rest = text.rpartition("=")
        if equals and name not in names:
            hint = did_you_mean(name, names)
            raise ModelError(f"{option} {text!r}", f"no {name!r}", names or "none", hint)
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


def parse_integers(
    verb: str, word: str, text: str, accepted: str, *, low: int = 1, count: int = 1
) -> tuple[int, ...]:
    """Return the integers of `1,2,3`: `count` or more of them, each at least `low`.

    Raises:
        ModelError: The text has another form; `accepted` describes the right one.
    """
    words = [w.strip() for w in text.split(",")]
    if len(words) < count or not all(w.isdecimal() and int(w) >= low for w in words):
        raise wrong(verb, word, text, accepted)
    return tuple(int(w) for w in words)


def parse_words(verb: str, option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the words of `comb,core`, each a known one."""
    words = tuple(word.strip() for word in text.split(","))
    if not set(words) <= {*known}:
        raise wrong(verb, option, text, f"some of {', '.join(known)}")
    return words


def require_suffix(verb: str, option: str, path: Path | None, *suffixes: str) -> None:
    """Raise ModelError unless a file, if any, has one of the suffixes."""
    if path is not None and path.suffix.lower() not in suffixes:
        raise wrong(verb, option, str(path), f"a file that ends in {suffixes[0]}")


def require_page(verb: str, option: str, path: Path) -> None:
    """Raise LnmError unless a page can be written: its name, its folder, and matplotlib."""
    require_suffix(verb, option, path, ".html", ".htm")
    require_place(verb, option, path)
    require_matplotlib(verb)


def require_place(verb: str, option: str, path: Path) -> None:
    """Raise LnmError unless a file can be written. A file with another name is made and removed.

    It fails before a long computation where `write_file` would fail after it.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=path.parent).close()
    except (OSError, ValueError) as error:
        raise unwritable(verb, path, error, f"Give another file with {option}.") from None


def require_folder(verb: str, path: Path | None) -> None:
    """Raise LnmError unless files can be written into a folder, if any, which may be new.

    It fails before a long computation where `write_together` would fail after it.
    """
    if path is None:
        return
    place = next(one for one in (path, *path.absolute().parents) if one.exists())
    try:
        tempfile.TemporaryFile(dir=place).close()
    except (OSError, ValueError) as error:
        raise unwritable(verb, path, error) from None


def write_file(verb: str, option: str, path: Path, data: bytes) -> None:
    """Write the file that an option names.

    Raises:
        ModelError: The path cannot be written.
        ToolError: The disk is full or fails.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        remedy = f"Give another file with {option}."
        raise unwritable(verb, path, error, remedy) from None
