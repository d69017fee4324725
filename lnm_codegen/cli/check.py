"""`lnm check`: comparison of every backend that runs here with the interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lnm_codegen.cli.options import Degree, Meta, Settings, family_arguments
from lnm_codegen.cli.output import print_json, print_sections
from lnm_codegen.families.library import resolve
from lnm_codegen.sections import Section, Table

if TYPE_CHECKING:
    from lnm_codegen.nn.check import BackendComparison


def check(
    family: str,
    /,
    *,
    degree: Degree = None,
    set_: Settings = None,
    scale: Annotated[float | None, Meta("S")] = None,
    json: bool = False,
) -> None:
    """Compare every backend with the interpreter.

    Runs a neuron forward and backward in float32 and float64 on every backend that can run here.
    Shows the largest differences of outputs, final states and gradients; they are relative where
    values exceed 1. Neurons within rounding of a threshold are drawn again, so every spike must be
    equal. Inputs are drawn at a scale at which spikes occur. Where no such scale is found, the
    verdict names the spikes that are not compared. Exits with 1 if rounding cannot explain a
    difference.

    Options:
        scale: Draw inputs in [-S, 2 S]. [default: 1, or a power of 2 at which it spikes]
    """
    neuron = resolve(family, **family_arguments(set_, degree))
    from lnm_codegen.nn.bits import settle_cache
    from lnm_codegen.nn.check import (
        SHAPE,
        compare_backends,  # loads PyTorch
    )

    settle_cache()
    found = compare_backends(neuron, scale)
    if json:
        print_json({"name": neuron.name, "shape": SHAPE, **_as_dict(found)})
    else:
        fixed = [p.name for p in neuron.params if not p.learnable]
        print_sections(_sections(neuron.name, SHAPE[0], fixed, found))
    if not found.agrees:
        raise typer.Exit(1)


def _as_dict(found: BackendComparison) -> dict[str, Any]:
    return {
        "left_out": found.left_out,
        "scale": found.scale,
        "spike_rates": found.spikes,
        "constant_spikes": found.constant_spikes,
        "runs": [
            {
                "backend": r.backend,
                "dtype": r.dtype,
                "differences": r.differences,
                "limit": r.limit,
                "agrees": r.agrees,
            }
            for r in found.runs
        ],
        "unavailable": found.unavailable,
        "failed": found.failed,
        "agrees": found.agrees,
    }


def _sections(name: str, steps: int, fixed: list[str], found: BackendComparison) -> list[Section]:
    from lnm_codegen.nn.check import interval_of

    rates = ", ".join(f"{spike} in {100 * rate:.3g} %" for spike, rate in found.spikes.items())
    head = (
        f"{name}: {steps} steps of {found.neurons} neurons"
        + (f", {rates} of them" if rates else "")
        + f"; inputs drawn in {interval_of(found.scale)}, scale {found.scale:g}"
        + (f"; {found.left_out} left out, near a threshold or divergent" if found.left_out else "")
    )
    silent = [_not_compared(spike, found.spikes[spike]) for spike in found.constant_spikes]
    sections = [Section("", (head, *silent))]
    if found.runs:
        rows = [
            (q, *(f"{r.differences[q]:.1e}" for r in found.runs)) for q in found.runs[0].differences
        ]
        rows.append(("limit", *(f"{r.limit:.0e}" for r in found.runs)))
        without = f", but for {' and '.join(found.constant_spikes)}"
        yes = f"yes{without if found.constant_spikes else ''}"
        rows.append(("agrees", *(yes if r.agrees else "NO" for r in found.runs)))
        header = ("", *(f"{r.backend} {r.dtype}" for r in found.runs))
        title = "Largest difference from the interpreter in the same type"
        sections.append(Section(title, (Table(header, rows, numbers=True),)))
    notes = [f"{backend} did not run: {reason}" for backend, reason in found.unavailable.items()]
    notes += [f"{backend} FAILED: {reason}" for backend, reason in found.failed.items()]
    if fixed:
        notes.insert(0, f"Not learnable, so without a gradient: {', '.join(fixed)}.")
    return [*sections, Section("Notes", notes)]


def _not_compared(spike: str, rate: float) -> str:
    """Return a sentence on a spike that always or never occurs."""
    subject = "it spike" if spike == "spike" else f"{spike} spike"
    if rate == 0:
        return f"No input drawn makes {subject}: the reset is not compared."
    return f"Every input drawn makes {subject}: a step without a spike is not compared."
