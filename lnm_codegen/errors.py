"""Exceptions of this package.

A message is built here, from four parts: *place: problem with the value. Accepted: values.
Remedy.*
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

MOST_LISTED = 200
"""Most characters of a list in a message."""


def shortened(words: Iterable[str]) -> str:
    """Return words with commas between; of a long list the first, the last two and their number.

    The last words may be forms that name anything, such as "file.py:function".
    """
    every = list(words)
    whole = ", ".join(every)
    if len(whole) <= MOST_LISTED or len(every) < 5:
        return whole
    last = every[-2:]
    left = MOST_LISTED - len(", ".join(last))
    first: list[str] = []
    for word in every[:-2]:
        left -= len(word) + 2
        if left < 0:
            break
        first.append(word)
    return f"{', '.join([*first, '...', *last])} ({len(every)} in all)"


class LnmError(Exception):
    """Base of every exception that this package raises on purpose.

    Args:
        where: Place of the mistake: a function, a neuron and its phase, a file.
        problem: Problem with the value, without a full stop.
        accepted: Accepted values; words are joined with commas, and a long list is shortened.
        remedy: Advice in the imperative, as whole sentences.
    """

    def __init__(
        self, where: object, problem: str, accepted: str | Iterable[str] = "", remedy: str = ""
    ) -> None:
        self.where, self.problem, self.remedy = str(where), problem, remedy
        self.accepted = accepted if isinstance(accepted, str) else shortened(accepted)
        super().__init__(self.where, problem, self.accepted, remedy)

    def __str__(self) -> str:
        accepted = f" Accepted: {self.accepted}." if self.accepted else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{self.where}: {self.problem}.{accepted}{remedy}"

    def within(self, where: str) -> Self:
        """Return the same error with an outer place before its own."""
        return type(self)(f"{where}: {self.where}", self.problem, self.accepted, self.remedy)


class ModelError(LnmError, ValueError):
    """A definition, an argument or a path that its author can correct."""


class DivergedError(ModelError):
    """A loss or a gradient that is not finite during training."""


class ShapeError(LnmError, ValueError):
    """A tensor whose shape, type or device does not fit the call."""


class UnsupportedError(LnmError, NotImplementedError):
    """A legal model that this backend or this mode cannot express."""


class ToolError(LnmError, RuntimeError):
    """A missing compiler, device or data set, or a tool that failed."""


class InternalError(LnmError):
    """A bug of lnm_codegen. The message requests a bug report."""

    def __str__(self) -> str:
        return f"{super().__str__()} This is a bug of lnm_codegen; please report it."


def reason(error: BaseException) -> str:
    """Return the message of another exception on one line, without a full stop at its end."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__
