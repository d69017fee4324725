"""README of a network's folder: its run, and the command that wrote it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lnm_codegen.deploy.network import neuron_layers
from lnm_codegen.ir.network.nodes import IntegerNetwork, NeuronStage, WeightStage
from lnm_codegen.ir.types import Bits
from lnm_codegen.language.display import brief

if TYPE_CHECKING:
    from lnm_codegen.deploy.integers.accuracy import IntegerAccuracy
    from lnm_codegen.train.runs.saved import Run

README = "README.md"


def completed(
    readme: str, run: Run, network: IntegerNetwork, accuracy: IntegerAccuracy, command: str
) -> str:
    """Return a README with the section of its run before the others, and the command at the end."""
    head, mark, rest = readme.partition("\n## ")
    section = run_section(run, network, accuracy)
    end = f"\n## Command\n\nThis command wrote the folder:\n\n```sh\n{command}\n```\n"
    return f"{head}\n{section}{mark}{rest}{end}"


def command_of(run: object, backend: str, out: object, given: Mapping[str, object]) -> str:
    """Return the line of `lnm emit --network`, with paths as they were given.

    Args:
        run: `--run`.
        backend: `--backend`.
        out: `--out`.
        given: Further options: a value, True for an option without one; None or False is omitted.
    """
    words = ["lnm", "emit", "--run", str(run), "--network", "--backend", backend]
    for option, value in given.items():
        if value is None or value is False:
            continue
        words += [option] if value is True else [option, str(value)]
    return shlex.join([*words, "--out", str(out)])


def run_section(run: Run, network: IntegerNetwork, accuracy: IntegerAccuracy) -> str:
    """Return neurons, data, training, formats and accuracy of a run."""
    config = run.config
    rows = [
        ("run", f"`{run.folder.resolve().name}`"),
        ("neuron", _call(config.family, config.arguments)),
        ("network", _call(config.network, config.network_arguments)),
        ("data", _call(config.data, config.data_arguments)),
        ("training", f"{config.epochs} epochs, seed {config.seed}"),
        ("formats", "; ".join(_formats(network))),
        ("accuracy", f"{accuracy}, when this folder was written"),
    ]
    lines = ["## Run", "", "| | |", "| --- | --- |", *(_row(*row) for row in rows), ""]
    for names, equations in _neurons(run).items():
        lines += [f"The neurons of {names}, in real numbers:", ""]
        lines += [*(f"    {line}" for line in equations), ""]
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    escaped = text.replace("|", r"\|")
    return f"| {name} | {escaped} |"


def _call(name: str, arguments: Mapping[str, object]) -> str:
    given = ", ".join(f"{word}={value!r}" for word, value in arguments.items())
    return f"`{name}`" + f" with `{given}`" * bool(given)


def _formats(network: IntegerNetwork) -> list[str]:
    """Return the format of the input, the weights and the neurons of each layer."""
    span = network.input
    found = [f"input {'spikes' if span.are_spikes else Bits(span.width, span.frac)}"]
    for stage in network.stages:
        if isinstance(stage, WeightStage):
            found.append(f"`{stage.name}` weights of {stage.bits} bits")
        elif isinstance(stage, NeuronStage):
            found.append(f"`{stage.name}` {stage.program.spec.default}")
    return found


def _neurons(run: Run) -> dict[str, tuple[str, ...]]:
    """Return the names of the layers with the same equations -> these."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, layer in neuron_layers(run.network).items():
        found.setdefault(brief(layer.neuron), []).append(f"`{name}`")
    return {", ".join(names): lines for lines, names in found.items()}
