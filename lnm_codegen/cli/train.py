"""`lnm train`: train a small convolutional spiking network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lnm_codegen.cli.options import DegreeOption, SetOption, family_arguments
from lnm_codegen.cli.train_options import (
    BackendOption,
    BatchOption,
    ChannelsOption,
    ClampOption,
    ClipOption,
    DataDirOption,
    DataOption,
    DecayOption,
    EpochsOption,
    FamilyOption,
    ForceOption,
    FormOption,
    LimitOption,
    NeuronRateOption,
    OutOption,
    PenaltyOption,
    PerOption,
    RateOption,
    SeedOption,
    StepsOption,
    ThreadsOption,
)
from lnm_codegen.errors import ModelError

if TYPE_CHECKING:
    from rich.console import Console

    from lnm_codegen.train.config import TrainConfig


def train(
    family: FamilyOption = "lnm",
    degree: DegreeOption = None,
    form: FormOption = None,
    per: PerOption = None,
    settings: SetOption = None,
    v_min: ClampOption = None,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    limit: LimitOption = None,
    channels: ChannelsOption = "16,32",
    time_steps: StepsOption = 4,
    epochs: EpochsOption = 10,
    batch: BatchOption = 32,
    lr: RateOption = 1e-2,
    lr_neuron: NeuronRateOption = 1e-2,
    weight_decay: DecayOption = 0.0,
    clip: ClipOption = 1.0,
    penalty: PenaltyOption = 0.0,
    seed: SeedOption = 0,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    out: OutOption = None,
    force: ForceOption = False,
) -> None:
    """Train a small spiking network on images.

    Blocks of conv - batch norm - neuron - pool and a linear readout. Writes config.json,
    metrics.csv, model.safetensors and figure.png into the run folder. The same options on the same
    machine give the same numbers.
    """
    from rich.console import Console

    console = Console(soft_wrap=True)
    console.print(f"train {family} on {data}: loading PyTorch and the images", highlight=False)
    from lnm_codegen.train.config import TrainConfig, takes_clamp

    words = {"form": form, "per": per}
    arguments = {
        **{word: value for word, value in words.items() if value is not None},
        **family_arguments(settings, degree),
    }
    clamp = TrainConfig.v_min
    if v_min is not None:
        clamp = _clamp(v_min)
        if "v_min" in arguments:
            raise ModelError(f"--v-min {v_min}: --set gives v_min too. Give it once.")
        if not takes_clamp(family):
            arguments["v_min"] = clamp  # a family that takes none says so
    config = TrainConfig(
        family=family,
        arguments=arguments,
        v_min=clamp,
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
    _run(config, out or Path("runs") / f"{stem}-{data}-seed{seed}", force, console)


def _run(config: TrainConfig, folder: Path, force: bool, console: Console) -> None:
    """Train, and say what the neurons learned."""
    from lnm_codegen.train.curve import learned_text
    from lnm_codegen.train.runner import run

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
