"""Refusals of bad input, matched by their parts: place, problem, accepted, remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lnm_codegen.errors import LnmError


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
