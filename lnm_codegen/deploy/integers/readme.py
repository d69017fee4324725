"""README of a network's folder: its formats, neurons, input and files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from torch import nn

from lnm_codegen.compiler.formats import spec_line
from lnm_codegen.deploy.integers.inputs import InputScale
from lnm_codegen.deploy.network import neuron_layers
from lnm_codegen.ir.network.nodes import (
    IntegerNetwork,
    NeuronStage,
    WeightStage,
    integer_text,
    size_of,
)
from lnm_codegen.ir.types import Bits
from lnm_codegen.language.display import brief

README = "README.md"
FOLDER = "\n## Folder\n\n| path | contents |\n| --- | --- |\n"
"""The head of the table of files in the README of a backend."""
FILES = {
    "network.json": "the network in integers: its stages",
    "network.npz": "the arrays of `network.json`: weights, biases, scales, coefficients",
    "input.json": "mean and deviation of the input, as in the section Input",
    "run.json": "a digest of the trained weights, with which `lnm` recognises the run",
}
"""File beside those of the backend -> its contents."""


def completed(readme: str, sections: Sequence[str], files: Collection[str], end: str) -> str:
    """Return a README with further sections before its own, and further files in its table.

    Args:
        readme: The text of a backend, with a table of the folder.
        sections: From a heading to an empty line.
        files: Names of all files; those of `FILES` become rows of the table.
        end: The last section, or an empty text.
    """
    rows = "".join(f"| `{name}` | {text} |\n" for name, text in FILES.items() if name in files)
    head, mark, rest = readme.replace(FOLDER, FOLDER + rows).partition("\n## ")
    return "\n".join((head, *sections)) + f"{mark}{rest}{end}"


def network_section(title: str, rows: Sequence[tuple[str, str]], network: nn.Module) -> str:
    """Return a table, and the equations of the neurons of a network."""
    lines = [f"## {title}", "", "| | |", "| --- | --- |", *(_row(*row) for row in rows), ""]
    for names, equations in _neurons(network).items():
        lines += [f"The neurons of {names}, in real numbers:", ""]
        lines += [*(f"    {line}" for line in equations), ""]
    return "\n".join(lines)


def formats_text(network: IntegerNetwork) -> str:
    """Return the format of the input, the weights and the neurons of each layer."""
    span = network.input
    found = [f"input {'spikes' if span.are_spikes else Bits(span.width, span.frac)}"]
    for stage in network.stages:
        if isinstance(stage, WeightStage):
            found.append(f"`{stage.name}` weights of {stage.bits} bits")
        elif isinstance(stage, NeuronStage):
            found.append(f"`{stage.name}` {spec_line(stage.program.spec)}")
    return "; ".join(found)


def input_section(scale: InputScale, network: IntegerNetwork) -> str:
    """Return the formula from a value of the data to the integer of an input."""
    low, high = map(_number, scale.raw)
    is_scaled, parts = not scale.is_identity, len(scale.mean)
    lines = [
        "## Input",
        "",
        f"The samples of `{scale.data}` are {'' if is_scaled else 'not '}normalised. A value r of"
        f" the data, {low} to {high} in the test samples, gives the integer k of the input:",
        "",
    ]
    if is_scaled:
        mean, deviation = (
            map(_number, (scale.mean[0], scale.deviation[0]))
            if parts == 1
            else ("mean", "deviation")
        )
        lines.append(f"    a = {'r' if mean == '0' else f'(r - {mean})'} / {deviation}")
    lines += [f"    {integer_text(network, 'a' if is_scaled else 'r')}", ""]
    if parts > 1:
        lines += ["| elements of a time step | mean | deviation |", "| --- | --- | --- |"]
        lines += [*_parts(scale, size_of(network.input_shape)), ""]
    if is_scaled:
        lines += ["A subtraction and a division are each rounded to float32.", ""]
    return "\n".join(lines)


def _parts(scale: InputScale, size: int) -> Iterator[str]:
    """Yield a row for each channel or feature of a time step with `size` elements."""
    count = size // len(scale.mean)
    for k, numbers in enumerate(zip(scale.mean, scale.deviation, strict=True)):
        elements = f"{k * count} to {(k + 1) * count - 1}" if count > 1 else f"{k}"
        yield f"| {' | '.join((elements, *map(_number, numbers)))} |"


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _row(name: str, text: str) -> str:
    escaped = text.replace("|", r"\|")
    return f"| {name} | {escaped} |"


def _neurons(network: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the names of the layers with the same equations -> these."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, layer in neuron_layers(network).items():
        found.setdefault(brief(layer.neuron), []).append(f"`{name}`")
    return {", ".join(names): lines for lines, names in found.items()}
