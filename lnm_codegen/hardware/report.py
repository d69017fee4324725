"""`report.json`: results of verification and synthesis of a folder, kept between commands."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from lnm_codegen.backends.earlier import REPORT
from lnm_codegen.files import unwritable, write_whole
from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.tools import versions

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
