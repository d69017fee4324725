"""What a rung of the ladder found: frozen records that print and become JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
SURVIVED = "survived"
"""Of a fault that no testbench has seen; it counts in the score, and fails nothing by itself."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        status: "passed", "failed", "skipped" or "survived".
        count: How many vectors, files, cells or proofs it stands for.
        seconds: How long it took.
        detail: What was found, or why it was skipped.
    """

    name: str
    status: str
    count: int = 0
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rung:
    """A rung of the ladder with what was looked at; `seconds` is of the whole.

    `figures` are numbers about all of it, such as a score.
    """

    name: str
    checks: tuple[Check, ...]
    seconds: float = 0.0
    figures: tuple[tuple[str, float], ...] = ()

    @property
    def status(self) -> str:
        """Failed where a check failed, skipped where none ran, else passed."""
        found = {check.status for check in self.checks}
        return FAILED if FAILED in found else PASSED if PASSED in found else SKIPPED

    @property
    def count(self) -> int:
        """The sum over what passed."""
        return sum(check.count for check in self.checks if check.status == PASSED)

    def as_dict(self) -> dict[str, Any]:
        """Return what report.json and --json hold."""
        return {
            "status": self.status,
            "count": self.count,
            "seconds": round(self.seconds, 2),
            **dict(self.figures),
            "checks": [{**asdict(c), "seconds": round(c.seconds, 2)} for c in self.checks],
        }


def verdict(good: bool) -> str:
    """Return the word for what was looked at."""
    return PASSED if good else FAILED


def skipped(name: str, reason: str) -> Rung:
    """Return a rung of which nothing could be done."""
    return Rung(name, (Check(name, SKIPPED, detail=reason),))


def worst(rungs: Sequence[Rung]) -> str:
    """Return the status of a ladder."""
    return Rung("", tuple(Check(r.name, r.status) for r in rungs)).status
