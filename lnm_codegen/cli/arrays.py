"""`lnm arrays`: an array of neurons for each layer of a trained network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lnm_codegen.backends.base import MANIFEST, Source
from lnm_codegen.cli.emit import DEFAULT, print_notes
from lnm_codegen.cli.options import Meta
from lnm_codegen.cli.output import write_together
from lnm_codegen.cli.runs import IMAGES, read_run, specs_of
from lnm_codegen.hardware.notes import width_note
from lnm_codegen.ir.fixed.exchange import from_json

if TYPE_CHECKING:
    from lnm_codegen.deploy.arrays import LayerArray
    from lnm_codegen.ir.types import FixedSpec
    from lnm_codegen.train.runs.saved import Run


def arrays(
    run: Path, /, *, out: Annotated[Path, Meta("DIR")],
    format_: Annotated[str, Meta("FORMAT|FILE.toml")] = DEFAULT,
) -> None:  # fmt: skip
    """Write a neuron array in Verilog for each layer of a run.

    The files go to DIR/verilog/<layer>/, with golden vectors of held-out samples of the run. If a
    family is a Python file, that file is run.

    Options:
        out: Folder to write into.
        format_: Fixed point: 16.12 (width.fraction) or Q4.12 for every node, a file or folder that
            `lnm quantize` wrote, or auto, the smallest width on the run's data.
    """
    sources = run_sources(run, format_)
    typer.echo(f"{len(write_together(sources, out, 'arrays'))} files written to {out}")
    for place, source in sources.items():
        if MANIFEST in source.files:
            manifest = json.loads(source.files[MANIFEST])
            program = from_json(source.files["program.json"], "program.json")
            integers, reals = (
                {c["name"]: c[key] for c in manifest["coefficients"]}
                for key in ("integers", "rounded_from")
            )
            print_notes(place.name, program, integers, reals, width_note(program))


def arrays_of_run(run: Run, specs: dict[str, FixedSpec]) -> list[LayerArray]:
    """Return the array of each neuron layer, with golden vectors of the first held-out images."""
    from lnm_codegen.deploy.arrays import arrays_of

    images, _ = next(run.data.batches(run.data.test, IMAGES))
    return arrays_of(run.network, specs, images)


def run_sources(folder: Path, text: str) -> dict[Path, Source]:
    """Return all files of `lnm arrays`, by folder.

    Raises:
        ModelError: Not a run folder, not a format, or a parameter that does not fit its format.
        UnsupportedError: Parameters per neuron, or a neuron without a circuit.
    """
    from lnm_codegen.deploy.arrays import sources_of

    run = read_run(folder)
    found = arrays_of_run(run, specs_of(run, text))
    from lnm_codegen.train.models.base import names_of

    title = f"{names_of(run.network)} trained on {run.config.data}: neuron arrays"
    return sources_of(found, title, f"the run `{run.folder.resolve().name}`", Path("verilog"))
