"""Results of verification steps: frozen records that print and become JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from lnm_codegen.hardware.tools import Completed, in_parallel

T = TypeVar("T")

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
INCOMPLETE = "incomplete"
"""Status of several steps: a check could not run, and none failed."""
SURVIVED = "survived"
"""Status of a fault that no testbench detects. It lowers the score, but does not fail by itself."""


@dataclass(frozen=True, slots=True)
class Check:
    """One item of a verification step: a simulation, a proof, a lint run."""

    name: str
    status: str  # "passed", "failed", "skipped" or "survived"
    count: int = 0  # of vectors, files, cells or proofs
    seconds: float = 0.0
    detail: str = ""  # the finding, or the reason of a skip


@dataclass(frozen=True, slots=True)
class StepResult:
    """Result of a verification step."""

    name: str
    checks: tuple[Check, ...]
    seconds: float = 0.0  # of the whole step
    figures: tuple[tuple[str, float], ...] = ()  # numbers about the whole step, such as a score

    @property
    def status(self) -> str:
        """Failed if a check failed, else passed if one passed, else skipped."""
        found = {check.status for check in self.checks}
        return FAILED if FAILED in found else PASSED if PASSED in found else SKIPPED

    @property
    def count(self) -> int:
        """Sum over the checks that passed."""
        return sum(check.count for check in self.checks if check.status == PASSED)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of report.json and --json."""
        return {
            "status": self.status,
            "count": self.count,
            "seconds": round(self.seconds, 2),
            **dict(self.figures),
            "checks": [{**asdict(c), "seconds": round(c.seconds, 2)} for c in self.checks],
        }


def verdict(good: bool) -> str:
    """Return "passed" or "failed"."""
    return PASSED if good else FAILED


def skipped(name: str, reason: str) -> Check:
    """Return a check that could not run."""
    return Check(name, SKIPPED, detail=reason)


def failed(name: str, done: Completed) -> Check:
    """Return the check of a program that failed, with the last line of its output."""
    return Check(name, FAILED, 0, done.seconds, done.last_line())


def step_result(
    name: str, reason: str | None, check: Callable[[T], Check], items: Iterable[T]
) -> StepResult:
    """Return the checks of all items, run in parallel, or one skipped check if there is a reason.

    `items` is not read where the step is skipped.
    """
    if reason:
        return StepResult(name, (skipped(name, reason),))
    return StepResult(name, tuple(in_parallel(check, items)))


def verdict_of(results: Sequence[StepResult]) -> str:
    """Return the status of several steps: failed, incomplete if a check was skipped, or passed."""
    found = {check.status for result in results for check in result.checks}
    return FAILED if FAILED in found else INCOMPLETE if SKIPPED in found else PASSED
