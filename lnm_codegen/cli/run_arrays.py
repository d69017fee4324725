"""Arrays of circuits from a run folder, for `lnm emit --run` and `lnm report`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lnm_codegen.backends.base import Source
from lnm_codegen.cli.options import parse_format
from lnm_codegen.compiler.formats import load_spec
from lnm_codegen.errors import ModelError

if TYPE_CHECKING:
    from lnm_codegen.deploy.arrays import LayerArray
    from lnm_codegen.hardware.wordlength.search import PrecisionTarget
    from lnm_codegen.ir.types import FixedSpec
    from lnm_codegen.train.runs.saved import Run

AUTO = "auto"
IMAGES, RANGED = 4, 256
"""Held-out images for golden vectors; training images for the search of formats."""


def read_run(folder: Path) -> Run:
    """Return the run of a folder. If its config names file.py:function, that file is run.

    Raises:
        ModelError: Not a run folder, or a damaged one.
        ToolError: Its images are missing.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep between layers
    from lnm_codegen.train.runs.saved import load_run

    return load_run(folder)


def specs_of(run: Run, text: str) -> dict[str, FixedSpec]:
    """Return the formats of each neuron layer.

    Args:
        run: A run.
        text: "16.12" or "Q4.12" for every node of every layer; a spec.toml for every layer; the
            folder of `lnm quantize RUN --out`, with a file for each layer; or "auto" for the
            smallest widths on the run's training images.

    Raises:
        ModelError: Not a format, or one that does not fit.
    """
    from lnm_codegen.deploy.mismatch import specs_for
    from lnm_codegen.deploy.network import neuron_layers
    from lnm_codegen.deploy.ranges import least_formats

    if text == AUTO:
        images, _ = next(run.data.batches(run.data.train, RANGED))
        return least_formats(run.network, images, on_silent=_note_silent)
    if Path(text).suffix in (".json", ".npz"):
        accepted = "16.12, Q4.12, a spec.toml, or a folder of lnm quantize RUN --out"
        remedy = f"Name its folder: {Path(text).parent}."
        raise ModelError(f"--format {text}", "it is a file of a network", accepted, remedy)
    if text and Path(text).is_dir():
        return {name: load_spec(Path(text) / f"{name}.toml") for name in neuron_layers(run.network)}
    try:
        spec = load_spec(text) if text.endswith(".toml") else parse_format(text)
    except ModelError as error:
        if text.endswith(".toml"):
            raise
        accepted = f"{error.accepted}; auto; a spec.toml; the folder of lnm quantize RUN --out"
        raise ModelError(error.where, error.problem, accepted, error.remedy) from None
    return specs_for(run.network, spec)


def _note_silent(path: str, target: PrecisionTarget) -> None:
    problem = "no spike on the training images of the search, so that its target is another"
    typer.echo(f"note: {path}: {problem}: {target}.", err=True)


def arrays_of_run(run: Run, specs: dict[str, FixedSpec]) -> list[LayerArray]:
    """Return the array of each neuron layer, with golden vectors of the first held-out images."""
    from lnm_codegen.deploy.arrays import arrays_of

    images, _ = next(run.data.batches(run.data.test, IMAGES))
    return arrays_of(run.network, specs, images)


def run_sources(folder: Path, text: str) -> dict[Path, Source]:
    """Return all files of `lnm emit --run`, by folder.

    Raises:
        ModelError: Not a run folder, not a format, or a parameter that does not fit its format.
        UnsupportedError: Parameters per neuron, or a neuron without a circuit.
    """
    from lnm_codegen.deploy.arrays import sources_of

    run = read_run(folder)
    found = arrays_of_run(run, specs_of(run, text))
    name, data = run.network.neurons[0].neuron.name, run.config.data
    title = f"{name} trained on {data}: neuron arrays"
    return sources_of(found, title, f"the run `{run.folder.resolve().name}`", Path("verilog"))
