"""Refusals that follow from the declaration of a verb's parameters."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, Literal, get_args, get_origin

import pytest
import typer

from lnm_codegen.cli import VERBS
from lnm_codegen.cli.options import Meta, word_of
from lnm_codegen.validation import Accepted, DeclaredType, declared_type
from tests.cli.conftest import Call
from tests.refusals import assert_line


@dataclass
class Verb:
    """A verb: the words that it requires, and the declared types of its options."""

    required: list[str]
    options: dict[str, DeclaredType]


def declared(name: str) -> Verb:
    module, function = VERBS[name].split(":")
    parameters = signature(getattr(importlib.import_module(module), function), eval_str=True)
    found = Verb([], {})
    for p in parameters.parameters.values():
        one = declared_type(p.annotation)
        if one.kind is typer.Context or p.kind is Parameter.VAR_KEYWORD:
            continue
        if p.kind is not Parameter.POSITIONAL_ONLY:
            found.options[f"--{word_of(p.name)}"] = one
        if p.default is Parameter.empty:
            value = get_args(one.kind)[0] if get_origin(one.kind) is Literal else "some"
            positional = p.kind is Parameter.POSITIONAL_ONLY
            found.required += [value] if positional else [f"--{word_of(p.name)}={value}"]
    return found


def refused_values(one: DeclaredType) -> Iterator[tuple[str, str, list[str]]]:
    """Yield a value that its declaration refuses, as it is shown, and what is accepted."""
    accepted = next((mark for mark in one.marks if isinstance(mark, Accepted)), None)
    if accepted is None:
        return
    if get_origin(one.kind) is Literal:
        words = get_args(one.kind)
        yield "", "''", [repr(word) for word in words]
        yield f"{words[-1]}s", f"'{words[-1]}s'", [*map(repr, words), f"'{words[-1]}'?"]
    for bound, step in ((accepted.low, -1), (accepted.high, 1)):
        if bound is not None:
            shown = f"{bound + step}.0" if one.kind is float else f"{bound + step}"
            bounds = [f"{b}" for b in (accepted.low, accepted.high) if b is not None]
            yield f"{bound + step}", shown, bounds
    if one.kind is float:
        yield "nan", "nan", []


def test_values_outside_their_declaration(call: Call) -> None:
    """One line that names verb, option, value, and every accepted word or bound."""
    count = 0
    for name in VERBS:
        verb = declared(name)
        for option, one in verb.options.items():
            given = [word for word in verb.required if not word.startswith(f"{option}=")]
            for value, shown, accepted in refused_values(one):
                status, out, err = call(name, *given, f"{option}={value}")
                assert (status, out) == (2, "")
                assert_line(err, f"{name}: {option} is {shown}", *accepted)
                count += 1
    assert count > 30


@pytest.mark.parametrize("name", VERBS)
def test_the_form_of_a_line(name: str, call: Call) -> None:
    """An unknown option, each word that is missing, a value that is missing, a list given twice."""
    verb = declared(name)
    lines: list[tuple[list[str], Any]] = [
        ([*verb.required, "--colour"], "No such option: --colour")
    ]
    for word in verb.required:
        missing = f"Missing option '{word.split('=')[0]}'" if "=" in word else "Missing argument"
        lines.append(([w for w in verb.required if w != word], missing))
    for option, one in verb.options.items():
        if one.kind is bool:
            continue
        lines.append(([*verb.required, option], f"Option '{option}' requires an argument"))
        if any(isinstance(mark, Meta) and mark.endswith(",...") for mark in one.marks):
            status, _, err = call(name, *verb.required, option, "4,4", f"{option}=8,8")
            assert status == 2
            assert_line(err, f"{name}: {option} is given twice", "Give it once, with commas.")
    for words, problem in lines:
        status, out, err = call(name, *words)
        assert (status, out) == (2, "")
        assert_line(err, f"lnm {name}: {problem}", "--help.")
