"""`lnm report`: comparison of two trained networks in fixed point, such as LNM and LIF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.cli.arrays import arrays_of_run
from lnm_codegen.cli.options import Meta, Seeds, require_page, write_file
from lnm_codegen.cli.output import print_json, print_sections
from lnm_codegen.cli.runs import read_run, specs_of
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.validation import require_one_of

if TYPE_CHECKING:
    from lnm_codegen.deploy.arrays import NetworkReport
    from lnm_codegen.hardware.synth import Device
    from lnm_codegen.train.runs.saved import Run


def report(
    run: Path,
    /,
    *,
    baseline: Annotated[Path, Meta("RUN")],
    format_: Annotated[str, Meta("FORMAT")] = "16.12",
    target: Annotated[str, Meta("NAME")] = "ecp5",
    seeds: Seeds = 3,
    synth: bool = True,
    html: Annotated[Path | None, Meta("FILE.html")] = None,
    json: bool = False,
) -> None:
    """Compare two trained networks in fixed point.

    Each neuron layer becomes an array. LUT, FF, DSP and BRAM count the array; Fmax is the median
    over the seeds. Spikes and accuracy are those of the whole test set, also of runs
    that hold out training samples (validation). If a run's family is a
    Python file, that file is run. Power and energy are not reported, since no open tool
    estimates them. Nothing is written without --html.

    Options:
        baseline: The same network with another neuron.
        format_: 16.12 (width.fraction) or Q4.12 for every node; what `lnm quantize` wrote; or
            auto, the smallest width on the run's data.
        synth: Synthesise the arrays.
        html: HTML page with tables and figures.
    """
    device = _device(target)
    if html is not None:
        require_page("report", "--html", html)
    runs = (read_run(run), read_run(baseline))
    from lnm_codegen.insight.energy.table import require_same_network

    require_same_network("report", *runs)
    note = _note(device, synth)
    first, second = (_report(r, format_, None if note else device, seeds) for r in runs)
    from lnm_codegen.insight.comparison import (
        FixedComparison,
        comparison_sections,
        comparison_summary,
    )
    from lnm_codegen.insight.page import document

    names = (str(runs[0].folder), str(runs[1].folder))
    data = runs[0].config.data
    found = FixedComparison(names, (first, second), data, format_, device.name, note)
    if html is not None:
        title = " against ".join(names)
        page = document(title, "lnm report", comparison_summary(found), comparison_sections(found))
        write_file("report", "--html", html, page.encode())
    if json:
        head: dict[str, Any] = {"format": format_, "device": device.name, "note": note}
        head["summary"] = dict(comparison_summary(found))
        pairs = zip(("run", "baseline"), names, found.reports, strict=True)
        parts = {key: {"folder": name, **r.as_dict()} for key, name, r in pairs}
        print_json({**head, **parts, "files": [] if html is None else [str(html)]})
        return
    print_sections(comparison_sections(found), found.title)
    if html is not None:
        typer.echo(str(html))


def _device(target: str) -> Device:
    from lnm_codegen.hardware.synth import DEVICES, TARGETS

    require_one_of("report", "--target", target, list(TARGETS))
    return DEVICES[TARGETS[target]]


def _note(device: Device, synth: bool) -> str | None:
    """Return why resources are not measured, or None."""
    from lnm_codegen.hardware.tools import missing

    if not synth:
        return "resources and Fmax: not measured, because of --no-synth"
    gone = missing(*device.tools)
    return None if gone is None else f"resources and Fmax: not measured: {gone}"


def _report(run: Run, format_: str, device: Device | None, seeds: int) -> NetworkReport:
    from lnm_codegen.deploy.arrays import measured_arrays, network_report
    from lnm_codegen.deploy.mismatch import measure_mismatch
    from lnm_codegen.train.losses import count_correct
    from lnm_codegen.train.runs.saved import test_data

    specs = specs_of(run, format_)
    arrays = arrays_of_run(run, specs)
    tested = test_data(run)
    if not tested.has_classes:
        problem = f"data {run.config.data!r} have targets that are no classes"
        raise UnsupportedError(f"run: {run.folder}", problem, "data with classes")
    batches = tested.batches(tested.test, 128)
    mismatch = measure_mismatch(run.network, specs, batches, count_correct)
    measured = {} if device is None else measured_arrays(arrays, device, seeds)
    return network_report(run.network, mismatch, arrays, measured)
