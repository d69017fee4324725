"""`lnm train`: train a small convolutional spiking network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lnm_codegen.cli.options import DegreeOption, SetOption, family_arguments
from lnm_codegen.errors import ModelError


def train(
    family: Annotated[
        str,
        typer.Option(
            "--family",
            help="A built-in name, a .toml file, file.py:function or module:function.",
        ),
    ] = "lnm",
    degree: DegreeOption = None,
    form: Annotated[
        str | None, typer.Option("--form", help="A, B or C, where the family takes one.")
    ] = None,
    per: Annotated[
        str | None,
        typer.Option("--per", help="What shares a parameter: layer, channel or neuron."),
    ] = None,
    settings: SetOption = None,
    v_min: Annotated[
        str,
        typer.Option(
            "--v-min",
            metavar="V",
            help="Lower clamp of the potential, for a built-in family that has one; or none.",
        ),
    ] = "-2",
    data: Annotated[str, typer.Option("--data", help="digits or fashion-mnist.")] = "digits",
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="Folder of the four idx files."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="Use only N training and N test images."),
    ] = None,
    channels: Annotated[
        str, typer.Option("--channels", metavar="C,...", help="Output channels of each block.")
    ] = "16,32",
    time_steps: Annotated[int, typer.Option("--time-steps", "-T", help="Steps per image.")] = 4,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training images.")] = 10,
    batch: Annotated[int, typer.Option("--batch", help="Images in a step.")] = 32,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate of the weights.")] = 1e-2,
    lr_neuron: Annotated[
        float, typer.Option("--lr-neuron", help="Learning rate of what the neurons learn.")
    ] = 1e-2,
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", help="L2 penalty of the weights alone.")
    ] = 0.0,
    clip: Annotated[float, typer.Option("--clip", help="Largest norm of the gradient.")] = 1.0,
    penalty: Annotated[
        float, typer.Option("--penalty", help="Weight of a penalty on charge slopes beyond 1.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of weights and shuffling.")] = 0,
    backend: Annotated[str, typer.Option("--backend", help="auto, c or torch.")] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", help="CPU threads; PyTorch's number by default.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Run folder; runs/<family>-<data>-seed<seed>."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the run in a folder that is not empty.")
    ] = False,
) -> None:
    """Train conv - batch norm - neuron - pool blocks and a linear readout on images.

    Writes config.json, metrics.csv, model.safetensors and figure.png into the run folder. The
    same options on the same machine give the same numbers.
    """
    from rich.console import Console

    console = Console(soft_wrap=True)
    console.print(f"train {family} on {data}: loading PyTorch and the images", highlight=False)
    from lnm_codegen.train.config import TrainConfig
    from lnm_codegen.train.curve import learned_text
    from lnm_codegen.train.runner import run

    words = {"form": form, "per": per}
    arguments: dict[str, Any] = {k: v for k, v in words.items() if v is not None}
    config = TrainConfig(
        family=family,
        arguments={**arguments, **family_arguments(settings, degree)},
        v_min=_clamp(v_min),
        data=data,
        data_dir=data_dir,
        limit=limit,
        channels=_channels(channels),
        time_steps=time_steps,
        epochs=epochs,
        batch=batch,
        lr=lr,
        lr_neuron=lr_neuron,
        weight_decay=weight_decay,
        clip=clip,
        penalty=penalty,
        seed=seed,
        backend=backend,
        threads=threads,
    )
    stem = Path(family.replace(":", "-")).stem
    folder = out or Path("runs") / f"{stem}-{data}-seed{seed}"
    result = run(config, folder, force=force, console=console)
    for k, layer in enumerate(result.network.neurons):
        console.print(f"layer {k + 1}: {learned_text(layer)}", highlight=False)
    console.print(f"written to {folder}", highlight=False)


def _clamp(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise ModelError(f"--v-min {text!r}: not a number. Accepted: a number, or none.") from None


def _channels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ModelError(
            f"--channels {text!r}: not a list of numbers. Accepted: such as 16,32."
        ) from None
