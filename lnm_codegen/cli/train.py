"""`lnm train`: training of a spiking network from a TOML file, from options, or from both.

Each field of `TrainConfig` with a placeholder has an option of its own; the function below
declares only the others.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.cli.options import (
    Degree,
    Meta,
    Note,
    Settings,
    family_arguments,
    parse_integers,
    surrogate_table,
)
from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.train.names import is_reference, require_names, short_name
from lnm_codegen.train.runs.config import (
    FIELD_TYPES,
    OPTIONS,
    TABLES,
    TrainConfig,
    config_of,
    place_v_min,
    read_toml,
    with_definition,
)
from lnm_codegen.train.runs.folder import RunFolder, require_free
from lnm_codegen.validation import require_known

if TYPE_CHECKING:
    from rich.console import Console

TABLE_OPTIONS = {
    "arguments": ("degree", "form", "per", "set_"),
    "network_arguments": ("net", "channels", "time_steps"),
    "data_arguments": ("data_set",),
}
"""Field that collects the other keys of a table -> the parameters of `train` that fill it."""
DEPENDENT = {
    "family": ("arguments",),
    "network": ("network_arguments",),
    "data": ("data_arguments", "data_dir"),
}
"""Field -> the fields that return to their defaults when an option changes it."""


def _with_fields(verb: Callable[..., None]) -> Callable[..., None]:
    """Return the verb with an option for each field of `TrainConfig` that has a placeholder."""
    found = signature(verb, eval_str=True)
    own = {n: p for n, p in found.parameters.items() if p.kind is not Parameter.VAR_KEYWORD}
    parameters = [own.pop("config")]
    for name, option in OPTIONS.items():
        parameters += [own.pop(one) for one in TABLE_OPTIONS.get(name, ())]
        if option.metavar:
            default = getattr(TrainConfig, name)
            default = f"{default:g}" if isinstance(default, float) else default
            note = option.help + ("" if default is None else f"  [default: {default}]")
            kind = str if name == "v_min" else FIELD_TYPES[name][0]  # v_min is a number, or none
            hint = Annotated[kind | None, Meta(option.metavar), Note(note)]  # type: ignore[valid-type]
            parameters.append(
                Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=hint)
            )
    whole = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in (*parameters, *own.values())]
    verb.__signature__ = found.replace(parameters=whole)  # type: ignore[attr-defined]
    return verb


@_with_fields
def train(
    *,
    config: Annotated[Path | None, Meta("FILE")] = None,
    degree: Degree = None,
    form: str | None = None,
    per: str | None = None,
    set_: Settings = None,
    net: Settings = None,
    channels: Annotated[str | None, Meta("C,...")] = None,
    time_steps: Annotated[int | None, Meta("T"), "-T"] = None,
    data_set: Settings = None,
    train_: Settings = None,
    out: Annotated[Path | None, Meta("DIR")] = None,
    force: bool = False,
    resume: bool = False,
    **config_fields: Any,
) -> None:
    """Train a spiking network.

    Writes config.json, metrics.csv, model.safetensors, a checkpoint, the history of the neurons'
    parameters, and figure.png into the run folder. A neuron of a file or module is written there
    too, as neuron.toml. The same options on the same machine give the same results. Under torchrun
    every process takes its share of each batch.

    Options:
        config: A TOML file; the options below override it.
        form: A, B or C, where the family takes one.
        per: Parameter granularity: layer, channel or neuron.
        net: An option of the network; repeat it.
        channels: Output channels of each block of conv.
        time_steps: Time steps per image. [default: 4]
        data_set: An option of the set, or an argument of your function; repeat it.
        train_: Any other field of [train], such as loss=tet or ema=0.99; repeat it.
        out: Run folder. [default: runs/<family>-<data>-seed<seed>]
        force: Replace the run in a folder that is not empty.
        resume: Resume the run in the folder after its last whole epoch.
    """
    from rich.console import Console

    quiet = os.environ.get("RANK", "0") != "0"
    console = Console(soft_wrap=True, quiet=quiet, markup=False, emoji=False)
    if resume and force:
        raise ModelError(
            "--resume --force", "one resumes a run, the other replaces it", remedy="Give one."
        )
    given = {k: v for k, v in config_fields.items() if v is not None}
    sizes = None
    if channels is not None:
        accepted = "integers with commas, such as 16,32"
        sizes = parse_integers("train", "channels", channels, accepted)
    neuron = family_arguments(set_, surrogate=surrogate_table)
    network = family_arguments(net, option="--net")
    tables = {
        "arguments": _joined("--set", neuron, form=form, per=per, degree=degree),
        "network_arguments": _joined("--net", network, channels=sizes, time_steps=time_steps),
        "data_arguments": family_arguments(data_set, option="--data-set"),
    }
    further = family_arguments(train_, option="--train")
    for key in further:
        require_known("--train", "field", key, TABLES["train"])
    given |= _taken("--train", further, TABLES["train"], given)
    given |= _taken("--data-set", tables["data_arguments"], TABLES["data"], given)
    base = read_toml(config) if config else _base(out, resume, bool(given or any(tables.values())))
    whole = _merged(base, given, tables)
    own = short_name(whole.network) if is_reference(whole.network) else None
    stem = own or Path(whole.family.replace(":", "-")).stem
    folder = out or Path("runs") / f"{stem}-{short_name(whole.data)}-seed{whole.seed}"
    require_names(with_definition(whole, folder) if resume else whole)
    if not resume and os.environ.get("RANK", "0") == "0":
        require_free(folder, force)
    console.print("train: loading PyTorch and the data", highlight=False)
    _run(whole, folder, force, resume, console)


def _joined(option: str, settings: dict[str, Any], **words: Any) -> dict[str, Any]:
    """Return the settings of `option` and the words that have options of their own.

    Raises:
        ModelError: A key is in both.
    """
    given = {key: value for key, value in words.items() if value is not None}
    for key in settings:
        if key in given:
            raise _twice(option, key, key)
    return {**given, **settings}


def _twice(option: str, key: str, field: str) -> ModelError:
    flag = f"--{field.replace('_', '-')}"
    return ModelError(f"{option} {key}", f"{flag} is given too", remedy="Give it once.")


def _taken(
    option: str, settings: dict[str, Any], known: Mapping[str, str], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Remove from `settings`, and return, the fields of the config among them."""
    for key in settings:
        if known.get(key) in given:
            raise _twice(option, key, known[key])
    return {known[key]: settings.pop(key) for key in set(settings) & set(known)}


def _base(out: Path | None, resume: bool, changed: bool) -> TrainConfig:
    """Return the config that the options change: of the run to resume, or the default."""
    found = None
    if resume and out is not None:
        from lnm_codegen.train.runs.origin import (
            read_origin,
            require_named_data,
            require_named_network,
        )

        found = RunFolder(out).resumable(None)
        if found is not None:
            origin = read_origin(out / "config.json")
            require_named_network(origin, found)
            require_named_data(origin)
    if resume and found is None and not changed:
        problem = "no run named" if out is None else f"{out} holds no run"
        raise ModelError("--resume", problem, remedy="Name the folder of a run with --out.")
    return found or TrainConfig()


def _merged(
    base: TrainConfig, given: dict[str, Any], tables: Mapping[str, dict[str, Any]]
) -> TrainConfig:
    """Return the config `base` with the given fields and the given keys of its tables."""
    flat, default = base.as_json(), TrainConfig().as_json()
    if given.get("family", base.family) != base.family and base.arguments:
        ignored = ", ".join(base.arguments)
        typer.echo(f"note: {ignored} of {base.family} ignored: --family names another.", err=True)
    for name, dependent in DEPENDENT.items():
        if given.get(name, flat[name]) != flat[name]:
            flat |= {field: default[field] for field in dependent}
    v_min = given.pop("v_min", None)
    flat |= given
    for name, table in tables.items():
        flat[name] = {**flat[name], **table}
    if v_min is not None:
        try:
            flat["v_min"] = None if v_min == "none" else float(v_min)
        except ValueError:
            accepted = "a number, or none"
            raise ModelError(f"--v-min {v_min!r}", "not a number", accepted) from None
        if "v_min" in tables["arguments"]:
            raise ModelError(f"--v-min {v_min}", "--set gives v_min too", remedy="Give it once.")
        place_v_min(flat)
    return config_of(flat)


def _run(config: TrainConfig, folder: Path, force: bool, resume: bool, console: Console) -> None:
    """Train, and print what the neurons learned."""
    from lnm_codegen.nn.memory import keep_pages
    from lnm_codegen.train.models.base import neurons_of
    from lnm_codegen.train.runs.runner import run
    from lnm_codegen.train.stability.layers import learned_text, unstable_text

    keep_pages()  # each step allocates and frees the same tensors
    try:
        result = run(config, folder, force=force, resume=resume, console=console)
    except KeyboardInterrupt:
        typer.echo(_stopped(config, folder), err=True)
        raise typer.Exit(130) from None
    for k, layer in enumerate(neurons_of(result.network), 1):
        console.print(f"layer {k}: {learned_text(layer)}", highlight=False)
    if text := unstable_text(result.epochs[-1].unstable):
        console.print(f"{text}; see lnm analyze {shlex.quote(str(folder))}", highlight=False)
    console.print(f"written to {folder}", highlight=False)


def _stopped(config: TrainConfig, folder: Path) -> str:
    """Return a line on a run that is stopped: how to resume it, once its folder holds it."""
    try:
        is_begun = RunFolder(folder).resumable(config) is not None
    except LnmError:  # an earlier run, which --force has not replaced yet
        is_begun = False
    command = shlex.join(["lnm", "train", "--resume", "--out", str(folder)])
    return f"stopped. Resume with: {command}" if is_begun else "stopped before a file was written"
