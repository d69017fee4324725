"""What `emit --run` and `report` make of a run folder: its network, formats, arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lnm_codegen.backends.base import Source
from lnm_codegen.cli.options import parse_format
from lnm_codegen.compiler.formats import load_spec

if TYPE_CHECKING:
    from lnm_codegen.deploy.arrays import LayerArray
    from lnm_codegen.ir.fixed.spec import FixedSpec
    from lnm_codegen.train.runs.saved import Run

AUTO = "auto"
IMAGES, RANGED = 4, 256
"""Test images that golden vectors may be of; training images that formats are chosen on."""


def read_run(folder: Path) -> Run:
    """Return the run of a folder; what its config names as file.py:function is run.

    Raises:
        ModelError: The folder is none of a run, or damaged.
        ToolError: Its images are missing.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep between layers
    from lnm_codegen.train.runs.saved import load_run

    return load_run(folder)


def specs_of(run: Run, text: str) -> dict[str, FixedSpec]:
    """Return the formats of each neuron layer.

    Args:
        run: A run.
        text: "16.12" or "Q4.12", for every node of every layer; a spec.toml for every layer; the
            folder that `lnm quantize RUN --out` wrote, with one for each; "auto" for those of least
            width on the run's training images.

    Raises:
        ModelError: No format, or none that will do.
    """
    from lnm_codegen.deploy.mismatch import specs_for
    from lnm_codegen.deploy.network import neuron_layers
    from lnm_codegen.deploy.recorded import least_formats

    if text == AUTO:
        images, _ = next(run.data.batches(run.data.train, RANGED))
        return least_formats(run.network, images)
    if Path(text).is_dir():
        return {name: load_spec(Path(text) / f"{name}.toml") for name in neuron_layers(run.network)}
    return specs_for(run.network, load_spec(text) if text.endswith(".toml") else parse_format(text))


def arrays_of_run(run: Run, specs: dict[str, FixedSpec]) -> list[LayerArray]:
    """Return the array of each neuron layer, with golden vectors of the first test images."""
    from lnm_codegen.deploy.arrays import arrays_of

    images, _ = next(run.data.batches(run.data.test, IMAGES))
    return arrays_of(run.network, specs, images)


def run_sources(folder: Path, text: str) -> dict[Path, Source]:
    """Return the files of `lnm emit --run`, by folder: all of them, before the first is written.

    Raises:
        ModelError: The folder is none of a run, no format, a parameter that does not fit.
        UnsupportedError: Parameters per neuron, a neuron without a circuit.
    """
    from lnm_codegen.deploy.array_files import sources_of

    run = read_run(folder)
    found = arrays_of_run(run, specs_of(run, text))
    name, data = run.network.neurons[0].neuron.name, run.config.data
    title = f"{name} trained on {data}: neuron arrays"
    return sources_of(found, title, f"the run `{run.folder.name}`", Path("verilog"))
