"""`lnm report`: comparison of two trained networks in fixed point, such as LNM and LIF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.cli.options import (
    FORMAT_HELP,
    MOST_SEEDS,
    JsonOption,
    RunArgument,
    SeedsOption,
    TargetOption,
)
from lnm_codegen.cli.output import print_heading, print_json, print_table
from lnm_codegen.cli.run_arrays import arrays_of_run, read_run, specs_of
from lnm_codegen.errors import ModelError
from lnm_codegen.validation import require_integer, require_one_of

if TYPE_CHECKING:
    from lnm_codegen.deploy.comparison import LayerReport, NetworkReport
    from lnm_codegen.hardware.synth import Device
    from lnm_codegen.train.runs.saved import Run

SAME = (
    "data", "data_dir", "data_arguments", "limit", "validation", "network", "network_arguments"
)  # fmt: skip
"""Fields of the config that must be equal in both runs."""


def report(
    run: RunArgument,
    baseline: Annotated[
        Path,
        typer.Option("--baseline", metavar="RUN", help="The same network with another neuron."),
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"{FORMAT_HELP}; what `lnm quantize` wrote; or auto, the smallest width on the"
            " run's data.",
        ),
    ] = "16.12",
    target: TargetOption = "ecp5",
    seeds: SeedsOption = 3,
    synth: Annotated[
        bool, typer.Option("--synth/--no-synth", help="Synthesise the arrays.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Compare two trained networks in fixed point.

    Each neuron layer becomes an array. LUT, FF, DSP and BRAM count the array; Fmax is the median
    over the seeds. Spikes and accuracy are those of the whole test set. If a run's family is a
    Python file, that file is run. Nothing is written. Power and energy are not reported, since no
    open tool estimates them.
    """
    device = _device(target)
    require_integer("report", "--seeds", seeds, 1, MOST_SEEDS)
    runs = {"run": read_run(run), "baseline": read_run(baseline)}
    _require_same(runs["run"], runs["baseline"])
    note = _note(device, synth)
    found = {key: _report(r, format_, None if note else device, seeds) for key, r in runs.items()}
    if json:
        head = {"format": format_, "device": device.name, "note": note}
        parts = {k: {"folder": str(runs[k].folder), **r.as_dict()} for k, r in found.items()}
        print_json({**head, **parts})
    else:
        titles = [str(r.folder) for r in runs.values()]
        _print(titles, list(found.values()), device, note)


def _device(target: str) -> Device:
    from lnm_codegen.hardware.synth import DEVICES, TARGETS

    require_one_of("report", "--target", target, list(TARGETS))
    return DEVICES[TARGETS[target]]


def _require_same(run: Run, baseline: Run) -> None:
    for word in SAME:
        a, b = (getattr(r.config, word) for r in (run, baseline))
        if a != b:
            raise ModelError(
                "report",
                f"{word} is {a!r} in {run.folder} and {b!r} in {baseline.folder}",
                "runs that differ in their neuron alone",
            )


def _note(device: Device, synth: bool) -> str | None:
    """Return why resources are not measured, or None."""
    from lnm_codegen.hardware.tools import missing

    if not synth:
        return "resources and Fmax: not measured, because of --no-synth"
    gone = missing(*device.tools)
    return None if gone is None else f"resources and Fmax: not measured: {gone}"


def _report(run: Run, format_: str, device: Device | None, seeds: int) -> NetworkReport:
    from lnm_codegen.deploy.comparison import measured_arrays, network_report
    from lnm_codegen.deploy.mismatch import measure_mismatch

    specs = specs_of(run, format_)
    arrays = arrays_of_run(run, specs)
    mismatch = measure_mismatch(run.network, specs, run.data.batches(run.data.test, 128))
    measured = {} if device is None else measured_arrays(arrays, device, seeds)
    return network_report(run.network, mismatch, arrays, measured)


def _print(
    titles: list[str], reports: list[NetworkReport], device: Device, note: str | None
) -> None:
    """Print a table of the networks, and one for each layer; a column for each run."""
    run, baseline = reports
    print_heading(f"{run.neuron} against {baseline.neuron}, {run.mismatch.images} test images")
    rows = [[title, *(cell(r.mismatch) for r in reports)] for title, cell in _WHOLE]
    print_table(("", *titles), rows, numbers=True)
    for path in run.layers:
        layers = [r.layers[path] for r in reports]
        print_heading(f"{path}, {layers[0].array.neurons * layers[0].array.copies} neurons")
        rows = [[title, *(cell(layer) for layer in layers)] for title, cell in _LAYER]
        print_table(("", *titles), rows, numbers=True)
    typer.echo("")
    typer.echo(note or f"resources and Fmax: of the array, on {device.name}")


def _percent(share: float, places: int = 2) -> str:
    return f"{100 * share:.{places}f} %"


def _cost(word: str) -> Any:
    def cell(layer: LayerReport) -> str:
        return "-" if layer.measured is None else str(layer.measured.resources.as_dict()[word])

    return cell


def _fmax(layer: LayerReport) -> str:
    median = None if layer.measured is None else layer.measured.median
    return "-" if median is None else f"{median:.0f}"


def _share(word: str, places: int = 4) -> Any:
    return lambda layer: _percent(layer.counts.share(word), places)


_WHOLE: tuple[tuple[str, Any], ...] = (
    ("accuracy in float", lambda a: _percent(a.accuracy)),
    ("accuracy in fixed point", lambda a: _percent(a.accuracy_fixed)),
    ("outputs equal: one step from the same state", lambda a: _percent(1 - a.one_step_mismatch, 4)),
    ("outputs equal: free running", lambda a: _percent(1 - a.free_running_mismatch, 4)),
)
"""Rows of a network's table: title, cell of a `QuantizationMismatch`."""

_LAYER: tuple[tuple[str, Any], ...] = (
    ("format of x", lambda r: str(r.array.input_format)),
    ("bits of a neuron's states", lambda r: str(r.state_bits)),
    ("bits of all coefficients", lambda r: str(r.coefficient_bits)),
    *((word, _cost(word)) for word in ("LUT", "FF", "DSP", "BRAM")),
    ("Fmax, MHz", _fmax),
    ("cycles of an image", lambda r: str(r.array.cycles)),
    ("operations of a neuron and step", lambda r: str(sum(r.operations.values()))),
    ("firing rate in float", _share("fired", 2)),
    ("firing rate in fixed point", _share("fired_fixed", 2)),
    ("outputs that differ: one step", _share("one_step")),
    ("outputs that differ: free running", _share("free_running")),
    ("outputs that differ: in the network", _share("in_network")),
    ("inputs that saturate", _share("saturated")),
)
"""Rows of a layer's table: title, cell of a `LayerReport`."""
