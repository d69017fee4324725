"""The options of `lnm train`, each with its help; their defaults stand in its signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FamilyOption = Annotated[
    str,
    typer.Option(
        "--family",
        help="A built-in name, a .toml file, file.py:function or module:function.",
    ),
]
FormOption = Annotated[
    str | None, typer.Option("--form", help="A, B or C, where the family takes one.")
]
PerOption = Annotated[
    str | None,
    typer.Option("--per", help="What shares a parameter: layer, channel or neuron."),
]
ClampOption = Annotated[
    str | None,
    typer.Option(
        "--v-min",
        metavar="V",
        help="Lower clamp of the potential, where the family takes one (lnm: -2); or none.",
    ),
]
DataOption = Annotated[str, typer.Option("--data", help="digits or fashion-mnist.")]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Folder of the four idx files."),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", help="Use only N training and N test images."),
]
ChannelsOption = Annotated[
    str, typer.Option("--channels", metavar="C,...", help="Output channels of each block.")
]
StepsOption = Annotated[int, typer.Option("--time-steps", "-T", help="Steps per image.")]
EpochsOption = Annotated[int, typer.Option("--epochs", help="Passes over the training images.")]
BatchOption = Annotated[int, typer.Option("--batch", help="Images in a step.")]
RateOption = Annotated[float, typer.Option("--lr", help="Learning rate of the weights.")]
NeuronRateOption = Annotated[
    float, typer.Option("--lr-neuron", help="Learning rate of what the neurons learn.")
]
DecayOption = Annotated[
    float, typer.Option("--weight-decay", help="L2 penalty of the weights alone.")
]
ClipOption = Annotated[float, typer.Option("--clip", help="Largest norm of the gradient.")]
PenaltyOption = Annotated[
    float, typer.Option("--penalty", help="Weight of a penalty on charge slopes beyond 1.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of weights and shuffling.")]
BackendOption = Annotated[str, typer.Option("--backend", help="auto, c or torch.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="CPU threads; PyTorch's number by default.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Run folder; runs/<family>-<data>-seed<seed>."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the run in a folder that is not empty.")
]
