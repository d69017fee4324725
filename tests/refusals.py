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
