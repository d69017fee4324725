"""`lnm train`: train a spiking network, from a TOML file, from options, or both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lnm_codegen.cli.options import DegreeOption, SetOption, family_arguments, surrogate_table
from lnm_codegen.cli.train_options import (
    BackendOption,
    BatchOption,
    ChannelsOption,
    ClampOption,
    ClipOption,
    ConfigOption,
    DataDirOption,
    DataOption,
    DataSetOption,
    DecayOption,
    EpochsOption,
    FamilyOption,
    ForceOption,
    FormOption,
    LimitOption,
    NetworkOption,
    NetworkSetOption,
    NeuronRateOption,
    OutOption,
    PenaltyOption,
    PerOption,
    RateOption,
    ResumeOption,
    SeedOption,
    StepsOption,
    ThreadsOption,
    TrainSetOption,
)
from lnm_codegen.errors import ModelError
from lnm_codegen.validation import did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

    from lnm_codegen.train.runs.config import TrainConfig


def train(
    config: ConfigOption = None,
    family: FamilyOption = None,
    degree: DegreeOption = None,
    form: FormOption = None,
    per: PerOption = None,
    settings: SetOption = None,
    v_min: ClampOption = None,
    network: NetworkOption = None,
    network_settings: NetworkSetOption = None,
    channels: ChannelsOption = None,
    time_steps: StepsOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    data_settings: DataSetOption = None,
    limit: LimitOption = None,
    train_settings: TrainSetOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    lr: RateOption = None,
    lr_neuron: NeuronRateOption = None,
    weight_decay: DecayOption = None,
    clip: ClipOption = None,
    penalty: PenaltyOption = None,
    seed: SeedOption = None,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    out: OutOption = None,
    force: ForceOption = False,
    resume: ResumeOption = False,
) -> None:
    """Train a spiking network.

    Writes config.json, metrics.csv, model.safetensors, a checkpoint, the history of what the
    neurons learned, and figure.png into the run folder. The same options on the same machine give
    the same numbers. Under torchrun every process takes its share of each batch.
    """
    from rich.console import Console

    console = Console(soft_wrap=True, quiet=os.environ.get("RANK", "0") != "0")
    console.print("train: loading PyTorch and the data", highlight=False)
    neuron = {"form": form, "per": per, "degree": degree}
    net = family_arguments(network_settings, option="--net")
    if channels is not None:
        net["channels"] = _channels(channels)
    net |= {} if time_steps is None else {"time_steps": time_steps}
    fields = {
        "family": family, "network": network, "data": data, "data_dir": data_dir, "limit": limit,
        "epochs": epochs, "batch": batch, "lr": lr, "lr_neuron": lr_neuron,
        "weight_decay": weight_decay, "clip": clip, "penalty": penalty, "seed": seed,
        "backend": backend, "threads": threads,
    }  # fmt: skip
    given = {k: v for k, v in fields.items() if v is not None}
    given |= _further(family_arguments(train_settings, option="--train"), given)
    arguments = {k: v for k, v in neuron.items() if v is not None} | _neuron(settings)
    tables = {
        "arguments": arguments, "network_arguments": net,
        "data_arguments": family_arguments(data_settings, option="--data-set"),
    }  # fmt: skip
    if resume and force:
        raise ModelError(
            "--resume --force", "one goes on with a run, the other replaces it", remedy="Give one."
        )
    if resume and not (config or given or any(tables.values()) or v_min):
        _resume(out, console)
        return
    held = _held(out) if resume and config is None else None
    whole = _merged(config, held, given, tables, v_min)
    stem = Path(whole.family.replace(":", "-")).stem
    folder = out or Path("runs") / f"{stem}-{whole.data}-seed{whole.seed}"
    _run(whole, folder, force, resume, console)


def _further(settings: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what --train gives: fields of [train] that no option of their own has given."""
    from lnm_codegen.train.runs.config_file import TRAIN_KEYS

    for key in settings:
        if key not in TRAIN_KEYS:
            raise ModelError(
                f"--train {key}", "no such field", TRAIN_KEYS, did_you_mean(key, TRAIN_KEYS)
            )
        if key in given:
            raise ModelError(
                f"--train {key}", "given by an option of its own too", remedy="Give it once."
            )
    return settings


def _fields(settings: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Take out of --data-set, and return, what is a field of the config, such as validation."""
    from lnm_codegen.train.runs.config_file import TABLES

    known = TABLES["data"]
    for key in settings:
        if known.get(key) in given:
            raise ModelError(
                f"--data-set {key}", "given by an option of its own too", remedy="Give it once."
            )
    return {known[key]: settings.pop(key) for key in set(settings) & set(known)}


def _held(out: Path | None) -> TrainConfig | None:
    """Return the config of the run in `out`, if there is one: options go over it."""
    from lnm_codegen.train.runs.folder import RunFolder

    return None if out is None else RunFolder(out).resumable(None)


def _merged(
    file: Path | None,
    held: TrainConfig | None,
    given: Mapping[str, Any],
    tables: Mapping[str, dict[str, Any]],
    v_min: str | None,
) -> TrainConfig:
    """Return the config of a file, or that of a run, with what the options say put over it."""
    from lnm_codegen.train.runs.config import TrainConfig, takes_clamp
    from lnm_codegen.train.runs.config_file import config_of, read_toml

    base = (held or TrainConfig()) if file is None else read_toml(file)
    kept = base.as_json()
    if given.get("family", base.family) != base.family and base.arguments:
        left = ", ".join(base.arguments)
        typer.echo(f"note: {left} of {base.family} left out, as --family names another.", err=True)
        kept["arguments"] = {}
    if given.get("network", base.network) != base.network:
        kept["network_arguments"] = {}
    if given.get("data", base.data) != base.data:
        kept |= {"data_arguments": {}, "data_dir": None}
    given = {**given, **_fields(tables["data_arguments"], given)}
    flat = {**kept, **given}
    for name, table in tables.items():
        flat[name] = {**flat[name], **table}
    if v_min is not None:
        flat["v_min"] = _clamp(v_min)
        if "v_min" in tables["arguments"]:
            raise ModelError(f"--v-min {v_min}", "--set gives v_min too", remedy="Give it once.")
        if not takes_clamp(flat["family"]) and flat["v_min"] is not None:
            flat["arguments"]["v_min"] = flat["v_min"]  # a family that takes none says so
    return config_of(flat, "")


def _neuron(settings: list[str] | None) -> dict[str, Any]:
    """Return what --set gives, a surrogate as a table that a file can hold."""
    surrogates = [s for s in settings or [] if s.startswith("surrogate=")]
    found = family_arguments([s for s in settings or [] if s not in surrogates[:1]])
    for text in surrogates[:1]:
        value = text.partition("=")[2]
        found["surrogate"] = None if value.lower() == "none" else surrogate_table(value)
    return found


def _resume(out: Path | None, console: Console) -> None:
    """Go on with the run in `out`, with the config that it began with."""
    if out is None:
        raise ModelError("--resume", "no run named", remedy="Name its folder with --out.")
    held = _held(out)
    if held is None:
        raise ModelError(
            "--resume", f"{out} holds no run", remedy="Name the folder of one with --out."
        )
    _run(held, out, False, True, console)


def _run(config: TrainConfig, folder: Path, force: bool, resume: bool, console: Console) -> None:
    """Train, and say what the neurons learned."""
    from lnm_codegen.train.runs.runner import run
    from lnm_codegen.train.stability.curve import learned_text

    try:
        result = run(config, folder, force=force, resume=resume, console=console)
    except KeyboardInterrupt:
        typer.echo(f"stopped. Go on with: lnm train --resume --out {folder}", err=True)
        raise typer.Exit(130) from None
    for k, layer in enumerate(result.network.neurons):
        console.print(f"layer {k + 1}: {learned_text(layer)}", highlight=False)
    console.print(f"written to {folder}", highlight=False)


def _clamp(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise ModelError(f"--v-min {text!r}", "not a number", "a number, or none") from None


def _channels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ModelError(f"--channels {text!r}", "not a list of numbers", "such as 16,32") from None
