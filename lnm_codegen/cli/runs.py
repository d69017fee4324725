"""A run folder as the modules, formats and samples that `deploy` takes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from lnm_codegen.cli.options import parse_format
from lnm_codegen.compiler.formats import load_spec
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.language.symbols import require_name
from lnm_codegen.train.names import short_name
from lnm_codegen.train.runs.config import OWN
from lnm_codegen.validation import Accepted

if TYPE_CHECKING:
    from lnm_codegen.deploy.integers.convert import RealNetwork
    from lnm_codegen.hardware.wordlength.search import PrecisionTarget
    from lnm_codegen.ir.types import FixedSpec
    from lnm_codegen.train.runs.saved import Run

AUTO = "auto"
WeightBits: TypeAlias = Annotated[int, Accepted(low=2, high=16)]
IMAGES, RANGED, WEIGHT_BITS = 4, 256, 8
"""Held-out images for the golden vectors of arrays; training samples for ranges and formats; bits
of a weight of a network by default."""


def read_run(folder: Path) -> Run:
    """Return the run of a folder, for fixed point or integers.

    If its config names file.py:function, that file is run.

    Raises:
        ModelError: Not a run folder, or a damaged one.
        ToolError: Its images are missing.
        UnsupportedError: Its samples have different lengths.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep between layers
    from lnm_codegen.train.runs.saved import load_run

    run = load_run(folder)
    if run.data.padded:
        problem = f"the samples of {run.data.name} have different lengths"
        raise UnsupportedError(f"run: {folder}", problem, "samples of one length")
    return run


def specs_of(run: Run, text: str) -> dict[str, FixedSpec]:
    """Return the formats of each neuron layer.

    Args:
        run: A run.
        text: "16.12" or "Q4.12" for every node of every layer; a spec.toml for every layer,
            which may name nodes that only some layers have; the folder of `lnm quantize RUN --out`,
            with a file for each layer; or "auto" for the smallest widths on the run's training
            images.

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
    try:
        return specs_for(run.network, spec)
    except ModelError as error:
        raise error.within(f"--format {text}") from None


def _note_silent(path: str, target: PrecisionTarget) -> None:
    problem = "no spike on the training images of the search, so that its target is another"
    typer.echo(f"note: {path}: {problem}: {target}.", err=True)


def real_of(run: Run, name: str | None = None) -> RealNetwork:
    """Return the network of a run as real stages.

    Raises:
        UnsupportedError: It has no form in integers.
    """
    from lnm_codegen.deploy.integers.convert import real_network
    from lnm_codegen.deploy.integers.own import chained, require_outputs
    from lnm_codegen.nn.fusion.pair import is_sequential
    from lnm_codegen.train.models.base import Network, names_of

    if not run.data.has_classes:
        problem = f"data {run.config.data!r} have targets that are no classes"
        raise UnsupportedError("network", problem, "data with a class for each sample")
    of = f"{short_name(run.config.data)}_{names_of(run.network)}"
    default = re.sub(r"\W+", "_", of, flags=re.ASCII).lower()
    title = require_name("--name", name) if name is not None else default
    by_step = run.data.per_step
    if isinstance(run.network, Network):
        return real_network(title, run.network, run.network.chain(), run.data.sample)
    samples, _ = next(run.data.batches(run.data.test, IMAGES))
    network, chain = chained(
        run.network, samples, "step" if by_step and is_sequential(run.network) else None
    )
    if by_step != (chain.over == "step"):
        problem = (
            f"data {run.config.data!r} have a label for each {'step' if by_step else 'sample'}"
        )
        problem += f", and the scores of the network are over={chain.over!r}"
        remedy = "Return over='step' in chain() for a label for each step, else 'mean'."
        raise UnsupportedError("network", problem, remedy=remedy)
    if run.data.kind == "image" and chain.time_steps is None:
        problem = f"a {type(run.network).__name__} that receives images (N, C, H, W)"
        accepted = "a network with a method chain(), whose Chain has time_steps"
        raise UnsupportedError("network", problem, accepted)
    real = real_network(title, network, chain, run.data.sample)
    require_outputs(network, chain, samples)
    return real


def run_rows(run: Run) -> list[tuple[str, str]]:
    """Return neuron, network, data and training of a run, for a table in a README."""
    config = run.config
    return [
        ("run", f"`{run.folder.resolve().name}`"),
        ("neuron", _neurons(run)),
        ("network", _call(config.network, config.network_arguments)),
        ("data", _call(config.data, config.data_arguments)),
        ("training", f"{config.epochs} epochs, seed {config.seed}"),
    ]


def _neurons(run: Run) -> str:
    from lnm_codegen.train.models.base import names_of

    if run.config.family == OWN:
        return f"`{names_of(run.network)}`"
    return _call(run.config.family, run.config.arguments)


def _call(name: str, arguments: Mapping[str, object]) -> str:
    given = ", ".join(f"{word}={value!r}" for word, value in arguments.items())
    return f"`{name}`" + f" with `{given}`" * bool(given)
