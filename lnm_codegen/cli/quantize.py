"""`lnm quantize`: the least word lengths that meet a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.backends.base import Source
from lnm_codegen.cli.emit import write_together
from lnm_codegen.cli.options import (
    DegreeOption,
    JsonOption,
    SchemeOption,
    SetOption,
    family_arguments,
    parse_intervals,
)
from lnm_codegen.cli.output import print_heading, print_json, print_table
from lnm_codegen.compiler.formats import spec_text
from lnm_codegen.errors import ModelError
from lnm_codegen.families.library import resolve
from lnm_codegen.language.neuron import Neuron

if TYPE_CHECKING:
    from lnm_codegen.hardware.wordlength.select import Chosen
    from lnm_codegen.hardware.wordlength.wordlength import Target, WordLengths


def quantize(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="FAMILY|RUN",
            help="A built-in name, a .toml file, file.py:function, module:function; or the folder"
            " of a training run.",
        ),
    ],
    degree: DegreeOption = None,
    settings: SetOption = None,
    x: Annotated[
        list[str] | None,
        typer.Option(
            "--x",
            metavar="X|LOW,HIGH",
            help="What every input may be: |x| <= X, or an interval; NAME=LOW,HIGH for one of"
            " several. 2 by default.",
        ),
    ] = None,
    error: Annotated[
        float | None,
        typer.Option("--error", help="Target: the largest error of a state after a step."),
    ] = None,
    mismatch: Annotated[
        float | None,
        typer.Option(
            "--mismatch", help="Target: the largest share of spikes that differ; 0.001 if none is."
        ),
    ] = None,
    rounding: Annotated[
        str, typer.Option("--rounding", help="half_up, truncate or convergent.")
    ] = "half_up",
    most: Annotated[
        int, typer.Option("--most", metavar="BITS", min=2, max=32, help="No node is wider.")
    ] = 32,
    scheme: SchemeOption = "horner",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", file_okay=False, help="Write each spec as DIR/<name>.toml."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Search the least total width of all nodes for a target.

    Integer bits come from the range of each node: proven, where the states of a family have an
    invariant interval for inputs in --x; else recorded on simulated steps, or on a run's own test
    images. Fraction bits are searched: each node gives up bits while the target holds. The error is
    proven where ranges are, and confirmed by simulation; a mismatch is counted on short runs from
    the same states, against float64.
    """
    from lnm_codegen.hardware.wordlength.wordlength import Target

    if error is None and mismatch is None:
        mismatch = 1e-3
    target = Target(error, mismatch)
    options: dict[str, Any] = {"rounding": rounding, "scheme": scheme, "most": most}
    if Path(subject).is_dir():
        found = _of_run(Path(subject), target, degree, settings, options)
    else:
        neuron = resolve(subject, **family_arguments(settings, degree))
        found = {neuron.name: _of_family(neuron, x or ["2"], target, options)}
    if out is not None:
        files = {f"{name}.toml": _text(name, chosen) for name, chosen in found.items()}
        write_together({Path("."): Source(files, next(iter(files)))}, out, "quantize")
    if json:
        print_json({name: _as_dict(chosen) for name, chosen in found.items()})
        return
    for name, chosen in found.items():
        _print(name, chosen)
    if out is not None:
        typer.echo("")
        typer.echo("\n".join(str(out / f"{name}.toml") for name in found))


def _of_family(neuron: Neuron, x: list[str], target: Target, options: dict[str, Any]) -> Chosen:
    from lnm_codegen.hardware.wordlength.select import for_interval

    inputs = parse_intervals("--x", x, [s.name for s in neuron.inputs], symmetric=True)
    return for_interval(neuron, inputs, target, **options)


def _of_run(
    folder: Path,
    target: Target,
    degree: int | None,
    settings: list[str] | None,
    options: dict[str, Any],
) -> dict[str, Chosen]:
    if degree is not None or settings:
        raise ModelError(
            "quantize",
            f"{folder} is a run, whose neurons are trained",
            remedy="Leave --degree and --set out.",
        )
    from lnm_codegen.deploy.network import neuron_layers, parameters_of, see
    from lnm_codegen.hardware.wordlength.select import for_data
    from lnm_codegen.train.runs.saved import load_run

    run = load_run(folder)
    images, _ = next(iter(run.data.batches(run.data.test, 64)))
    _, seen = see(run.network, images)
    return {
        name: for_data(
            layer.neuron,
            seen[name].x_seq.double().numpy(),
            target=target,
            values=parameters_of(layer),
            **options,
        )
        for name, layer in neuron_layers(run.network).items()
    }


def _print(name: str, chosen: Chosen) -> None:
    words = chosen.words
    print_heading(f"{name}: {words.total} bits in all nodes, for {words.target}")
    rows = []
    for node in words.nodes:
        bound = "" if node.bound is None else f"{node.bound:.3g}"
        rows.append(
            [node.name, str(node.range), str(node.fixed), node.fixed.width, bound,
             f"{node.observed:.3g}", f"{100 * node.saturated:.3g} %"]
        )  # fmt: skip
    header = ["node", "range", "format", "bits", "proven error", "observed", "saturated"]
    print_table(header, rows)
    typer.echo(f"ranges and errors: {_origin(chosen)}")
    typer.echo(f"largest error {words.error:.3g}, spike mismatch per step {words.mismatch:.3g}")


def _origin(chosen: Chosen) -> str:
    """Say where ranges come from."""
    from lnm_codegen.analysis import Invariant, Undecided

    match chosen.invariant:
        case Invariant(states=states):
            kept = ", ".join(f"{name} in {interval}" for name, interval in states.items())
            return f"proven, as the states stay in {kept}"
        case Undecided(reason):
            return f"of simulated steps; no invariant interval is known: {reason}"
        case None:
            return "recorded on the run's test images"
        case escape:
            return f"of simulated steps; there is no invariant interval: {escape}"


def _text(name: str, chosen: Chosen) -> str:
    words: WordLengths = chosen.words
    comments = [
        f"Formats of `{name}`, {words.total} bits in all nodes, for: {words.target}.",
        f"Ranges: {_origin(chosen)}.",
    ]
    return spec_text(words.spec, comments)


def _as_dict(chosen: Chosen) -> dict[str, Any]:
    words = chosen.words
    return {
        "target": str(words.target),
        "proven": words.proven,
        "ranges": _origin(chosen),
        "total_bits": words.total,
        "error": words.error,
        "mismatch": words.mismatch,
        "default": str(words.spec.default),
        "nodes": {
            node.name: {
                "range": [float(node.range.low), float(node.range.high)],
                "format": str(node.fixed),
                "width": node.fixed.width,
                "frac": node.fixed.frac,
                "bound": node.bound,
                "observed": node.observed,
                "saturated": node.saturated,
            }
            for node in words.nodes
        },
    }
