"""Refusals of bad input, matched by their parts: place, problem, accepted, remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from lnm_codegen.errors import LnmError, ModelError


@contextmanager
def refused(
    kind: type[LnmError],
    where: object = None,
    problem: object = "",
    accepted: object = "",
    remedy: object = "",
) -> Iterator[pytest.ExceptionInfo[LnmError]]:
    """Expect an error of exactly this kind whose parts contain the given texts.

    `where` is compared whole, unless it is None. The error must be one line.
    """
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind
    assert where is None or error.where == str(where)
    for part, text in (("problem", problem), ("accepted", accepted), ("remedy", remedy)):
        assert str(text) in getattr(error, part), f"{part} of {error}"
    assert "\n" not in str(error)


def assert_refused(
    table: str,
    names: Mapping[str, Any],
    kind: type[LnmError] = ModelError,
    run: Callable[[str], object] | None = None,
) -> None:
    """Expect the error of each row of a table.

    A line at the margin has what the rows below it share: `place >> accepted >> remedy`. A row is
    indented: `call >> problem`, then its own accepted and remedy in place of those above. Below the
    place `?` a row has the beginning of the message, `call >> place: problem`; `*` is any place. A
    line that is indented further continues the one before. A part in capitals is one of `names`.

    Args:
        table: The rows.
        names: Names that the calls read.
        kind: Class of the errors.
        run: Function of the text of a call; it is Python by default.
    """
    failed, rows = [], list(_rows(table, names))
    assert rows, "no row: rows are indented"
    for call, place, problem, *more in rows:
        where = None if place in ("?", "*") else place
        part = "" if place == "?" else problem
        try:
            with refused(kind, where, part, *more) as caught:
                run(call) if run else eval(call, dict(names))
            assert place != "?" or str(caught.value).startswith(problem), caught.value
        except (Exception, pytest.fail.Exception) as error:
            failed.append(f"{call}: {error!r}")
    assert not failed, "\n".join(failed)


def _rows(table: str, names: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield (call, place, problem, accepted, remedy) of each row."""
    shared: list[str] = []
    for line in re.sub(r"\n {5,}", " ", table).strip("\n").splitlines():
        parts = [part.strip() for part in line.split(">>")]
        call = parts.pop(0) if line.startswith(" ") else ""
        parts = [names[part] if re.fullmatch("[A-Z_]{3,}", part) else part for part in parts]
        if call:
            own = [*parts, "", ""] if len(parts) > 1 else [*parts, *shared[1:]]
            yield call, shared[0], *own[:3]
        else:
            shared = [*parts, "", ""][:3]


def assert_line(line: str, *parts: str) -> None:
    """Expect one line of the command line that begins with the first part and has the others.

    The parts are place, problem with the value, accepted and remedy, in this order.
    """
    text = line.removesuffix("\n").removeprefix("error: ")
    assert "\n" not in text
    assert text.startswith(parts[0]), text
    at = len(parts[0])
    for part in parts[1:]:
        assert part in text[at:], f"{part!r} in {text!r}"
        at = text.index(part, at) + len(part)
