"""`report.json`: what was proven and measured of a folder, kept from one command to the next."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from lnm_codegen.files import unwritable, write_whole
from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.result import Rung
from lnm_codegen.hardware.tools import versions

REPORT, VERSION = "report.json", 1
SECTIONS = ("verification", "synthesis", "tools")


def check_writable(circuit: Circuit, section: str) -> None:
    """Raise now what `updated` would raise after minutes of work; nothing is left in the folder.

    Raises:
        ModelError: The folder cannot be written, or report.json is a folder.
        ToolError: The disk fails.
    """
    path = circuit.folder / REPORT
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{REPORT}."):
            pass
    except OSError as error:
        raise unwritable(section, path, error) from None


def updated(
    circuit: Circuit, section: str, found: Mapping[str, Any], tools: Sequence[str]
) -> dict[str, Any]:
    """Write report.json anew, with `found` in a section, and return it.

    What another command found stays as long as the sources are the same. Keys follow hls4ml and
    FINN: LUT, FF, DSP, BRAM, fmax_mhz, latency_cycles, interval_cycles.

    Raises:
        ModelError: The folder cannot be written; the old report is left as it is.
        ToolError: The disk fails.
    """
    old = _kept(circuit)
    report = {**_head(circuit), **{s: dict(old.get(s, {})) for s in SECTIONS}}
    report[section].update(found)
    report["tools"].update(versions(tools))
    path = circuit.folder / REPORT
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    try:
        write_whole(path, text)
    except OSError as error:
        raise unwritable(section, path, error) from None
    return report


def ladder(rungs: Sequence[Rung]) -> dict[str, Any]:
    """Return the section "verification": the rungs that were climbed, by name."""
    return {rung.name: rung.as_dict() for rung in rungs}


def _head(circuit: Circuit) -> dict[str, Any]:
    manifest = circuit.manifest
    return {
        "report": VERSION,
        "name": circuit.name,
        **{key: manifest[key] for key in _TOLD if key in manifest},
        "source_sha256": circuit.digest(),
        "forms": {
            word: {
                "top": form.top,
                "latency_cycles": form.latency,
                "interval_cycles": form.interval,
                "multipliers": form.multipliers,
            }
            for word, form in circuit.forms.items()
        },
    }


_TOLD = ("family", "format", "rounding", "formats", "neurons", "coefficients_on", "multiplier")


def _kept(circuit: Circuit) -> dict[str, Any]:
    """Return the report of before; nothing where it is of other sources, or none of ours."""
    try:
        found = json.loads((circuit.folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    ours = isinstance(found, dict) and found.get("report") == VERSION
    if not ours or found.get("source_sha256") != circuit.digest():
        return {}
    return {s: found[s] for s in SECTIONS if isinstance(found.get(s), dict)}
