"""Printing of a `LinearAnalysis`, as text and as plain data for JSON."""

from __future__ import annotations

from typing import Any

import typer

from lnm_codegen.analysis.linear.modes import class_note, number, poles_as_list
from lnm_codegen.analysis.report import LinearAnalysis, StatePoint, response_lines
from lnm_codegen.cli.output import print_heading, print_table


def print_linear(found: LinearAnalysis) -> None:
    """Print class, poles, responses and fixed points."""
    place = ", ".join(f"{n} = {v:.6g}" for n, v in found.modes.at().items())
    point = "a fixed point without input" if found.modes.fixed[0] else "the initial states"
    print_heading(f"Linear step without a spike at {place} ({point}): {found.label}")
    rows = [
        (number(p.value), f"{p.radius:.6g}", f"{p.frequency:.6g}", f"{p.damping_time:.6g}")
        for p in found.poles
    ]
    print_table(("eigenvalue", "radius", "cycles a step", "damping time in steps"), rows)
    if names := ", ".join(found.modes.unreached()):
        typer.echo(f"without a spike the input does not reach {names}: the class is of the others")
    for line in response_lines(found.modes.neuron, found.impulse, found.step):
        typer.echo(line)
    if note := class_note((found.label,)):
        typer.echo(note)
    print_heading("Fixed points of the step without a spike, by Newton's method")
    states = tuple(found.modes.at())
    table = []
    for inputs, points in found.points:
        constant = ", ".join(f"{n} = {x:g}" for n, x in inputs.items())
        for p in points:
            at = (f"{p.states[n]:.6g}" for n in states)
            numbers = ", ".join(number(pole.value, 4) for pole in p.poles)
            table.append((constant, *at, numbers, p.kind, "fires there" if p.fires else ""))
        if not points:
            table.append((constant, "none found", *("" for _ in states[1:]), "", "", ""))
    print_table(("input", *states, "eigenvalues", "", ""), table)


def linear_as_dict(found: LinearAnalysis) -> dict[str, Any]:
    """Return a linear analysis as plain data."""
    modes = found.modes
    return {
        "at": modes.at(),
        "fixed_point": bool(modes.fixed[0]),
        "fires": bool(modes.fires[0]),
        "class": found.label,
        "matrix": modes.matrix[0].tolist(),
        "unreached": list(modes.unreached()),
        "gain": {s.name: modes.gain[0, :, k].tolist() for k, s in enumerate(modes.neuron.inputs)},
        "eigenvalues": poles_as_list(found.poles),
        "impulse_response": found.impulse,
        "step_response": found.step,
        "fixed_points": [
            {"inputs": inputs, "points": [_point(p) for p in points]}
            for inputs, points in found.points
        ],
    }


def _point(point: StatePoint) -> dict[str, Any]:
    return {
        "states": point.states,
        "eigenvalues": poles_as_list(point.poles),
        "kind": point.kind,
        "fires": point.fires,
    }
