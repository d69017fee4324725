"""The options of `lnm train`, each with its help; what is not given stays as the config has it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="A TOML file; the options below override it."),
]
FamilyOption = Annotated[
    str | None,
    typer.Option(
        "--family",
        help="A built-in name, a .toml file, file.py:function or module:function.  [default: lnm]",
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
NetworkOption = Annotated[
    str | None, typer.Option("--network", help="See docs/networks.md.  [default: conv]")
]
NetworkSetOption = Annotated[
    list[str] | None,
    typer.Option("--net", metavar="KEY=VALUE", help="An option of the network; repeat it."),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option("--channels", metavar="C,...", help="Output channels of each block of conv."),
]
StepsOption = Annotated[
    int | None, typer.Option("--time-steps", "-T", help="Steps per image.  [default: 4]")
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="See docs/data.md.  [default: digits]")
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder of the set's files.")
]
DataSetOption = Annotated[
    list[str] | None,
    typer.Option("--data-set", metavar="KEY=VALUE", help="An option of the set; repeat it."),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", help="Use only N training and N test samples."),
]
TrainSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--train",
        metavar="KEY=VALUE",
        help="Any other field of [train], such as loss=tet, ema=0.99; repeat it.",
    ),
]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", help="Passes over the training samples.  [default: 10]")
]
BatchOption = Annotated[
    int | None, typer.Option("--batch", help="Samples in a step.  [default: 32]")
]
RateOption = Annotated[
    float | None, typer.Option("--lr", help="Learning rate of the weights.  [default: 0.01]")
]
NeuronRateOption = Annotated[
    float | None,
    typer.Option("--lr-neuron", help="Rate of what the neurons learn.  [default: 0.01]"),
]
DecayOption = Annotated[
    float | None, typer.Option("--weight-decay", help="Of the weights alone.  [default: 0]")
]
ClipOption = Annotated[
    float | None, typer.Option("--clip", help="Largest norm of the gradient.  [default: 1]")
]
PenaltyOption = Annotated[
    float | None,
    typer.Option("--penalty", help="Weight of a penalty on charge slopes beyond 1.  [default: 0]"),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Of weights and shuffling.  [default: 0]")
]
BackendOption = Annotated[
    str | None, typer.Option("--backend", help="Of the neuron layers.  [default: auto]")
]
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
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the run in the folder after its last whole epoch."),
]
