"""Results of verification steps: frozen records that print, and `report.json`, which keeps them."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from lnm_codegen.backends.base import REPORT
from lnm_codegen.files import unwritable, write_whole
from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.tools import Completed, in_parallel, versions

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


# `report.json`: results of verification and synthesis of a folder, kept between commands.


VERSION = 1
SECTIONS = ("verification", "synthesis", "tools")
_MANIFEST_KEYS = (
    "family", "format", "rounding", "formats", "neurons", "coefficients_on", "multiplier"
)  # fmt: skip


def require_writable(circuit: Circuit, section: str) -> None:
    """Raise the error of an unwritable report before minutes of work; leave nothing behind."""
    path = circuit.folder / REPORT
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{REPORT}."):
            pass
    except OSError as error:
        raise unwritable(section, path, error) from None


def update_report(
    circuit: Circuit, section: str, found: Mapping[str, Any], tools: Sequence[str]
) -> dict[str, Any]:
    """Write `found` to a section of report.json and return the whole report.

    Results of other commands are kept while the sources are unchanged; those of verification, while
    the testbenches, proofs and models are too. Keys follow hls4ml and FINN: LUT, FF, DSP, BRAM,
    fmax_mhz, latency_cycles, interval_cycles.

    Raises:
        ModelError: The folder cannot be written; the old report is left unchanged.
        ToolError: The disk fails.
    """
    old, manifest = _valid_sections(circuit), circuit.manifest
    forms = {
        word: {
            "top": form.top,
            "latency_cycles": form.latency,
            "interval_cycles": form.interval,
            "multipliers": form.multipliers,
        }
        for word, form in circuit.forms.items()
    }
    report = {
        "report": VERSION,
        "name": circuit.name,
        **{key: manifest[key] for key in _MANIFEST_KEYS if key in manifest},
        "source_sha256": circuit.digest(),
        "check_sha256": circuit.check_digest(),
        "forms": forms,
        **{section: dict(old.get(section, {})) for section in SECTIONS},
    }
    report[section].update(found)
    report["tools"].update(versions(tools))
    path = circuit.folder / REPORT
    try:
        write_whole(path, json.dumps(report, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise unwritable(section, path, error) from None
    return report


def _valid_sections(circuit: Circuit) -> dict[str, Any]:
    """Return the sections of an existing report that are of the same files and version."""
    try:
        found = json.loads((circuit.folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    known = isinstance(found, dict) and found.get("report") == VERSION
    if not known or found.get("source_sha256") != circuit.digest():
        return {}
    checked = found.get("check_sha256") == circuit.check_digest()
    sections = [s for s in SECTIONS if s != "verification" or checked]
    return {s: found[s] for s in sections if isinstance(found.get(s), dict)}
