"""Printing of an `Analysis`, as text and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

import typer

from lnm_codegen.analysis import Escape, FixedPoints, Interval, Invariant, NodeError, Undecided
from lnm_codegen.analysis.linear.modes import class_note, number, poles_as_list
from lnm_codegen.analysis.linear.threshold import advice
from lnm_codegen.analysis.report import (
    Analysis,
    FixedAnalysis,
    LinearAnalysis,
    StatePoint,
    response_lines,
)
from lnm_codegen.cli.output import print_heading, print_table
from lnm_codegen.language.display import brief, equations


def print_analysis(found: Analysis) -> None:
    """Print equations, states, fixed points and nodes."""
    typer.secho(f"neuron {found.neuron.name}: {_box(found.inputs) or 'no inputs'}", bold=True)
    for line in brief(found.neuron):
        typer.echo(f"  {line}")
    print_heading("States")
    typer.echo("\n".join(f"  {line}" for line in verdict_lines(found.invariant)))
    if found.linear is None:
        print_heading("Fixed points of the charge, h = v")
        _print_fixed_points(found.fixed_points)
    else:
        print_linear(found.linear)
    if note := advice(found.neuron, found.threshold):
        typer.echo(f"\n{note}")
    if found.fixed is not None and found.states is not None:
        _print_errors(found.fixed, _box(found.states | found.inputs))
        return
    if found.ranges is None or found.states is None:
        print_heading("Ranges")
        typer.echo("  none: no interval of the states is known. Give one, such as --state v=-2,1.")
        return
    print_heading(f"Ranges of every node for {_box(found.states | found.inputs)}")
    parameters = {n for n, i in found.ranges.items() if _is_number(n, i, found)}
    rows = [
        (name, str(i), "exact" if i.tight else "outer")
        for name, i in found.ranges.items()
        if name not in parameters
    ]
    print_table(("node", "range", ""), rows)
    typer.echo(", ".join(f"{n} = {float(found.ranges[n].low):.6g}" for n in sorted(parameters)))


def verdict_lines(verdict: Invariant | Escape | Undecided) -> list[str]:
    """Return the result for the states, as lines of text."""
    match verdict:
        case Invariant(states=states, reached=reached):
            if not states:
                return ["none"]
            lines = [f"{_box(states)}: never left (proven)"]
            if any(float(reached[n].width) < 0.999 * float(i.width) for n, i in states.items()):
                lines.append(f"the smallest such interval contains {_box(reached)}")
            return lines
        case Escape():
            return [str(verdict), *(f"  {n} = {_run(x)}" for n, x in verdict.inputs.items())]
        case Undecided(reason):
            return [f"undecided: {reason}"]
        case _:
            assert_never(verdict)


def _print_fixed_points(found: tuple[FixedPoints, ...] | str) -> None:
    if isinstance(found, str):
        typer.echo(f"  {found}")
        return
    rows = []
    for at in found:
        constant = ", ".join(f"{n} = {float(x):g}" for n, x in at.inputs.items())
        if at.everywhere:
            rows.append((constant, "an interval", "1", "neutral", ""))
        for p in at.points:
            kind = f"{p.kind}, alternating" if p.alternates else p.kind
            fires = "fires there" if p.fires else ""
            rows.append(
                (constant, f"{float(p.v.low):.6g}", f"{float(p.slope.low):.6g}", kind, fires)
            )
        if not at.points and not at.everywhere:
            rows.append((constant, "none", "", "", ""))
    print_table(("input", "v", "slope", "", ""), rows)


def _print_errors(fixed: FixedAnalysis, where: str) -> None:
    print_heading(f"Fixed point, {fixed.spec}: one step from the same state, for {where}")
    header = ("node", "range", "format", "needs", "rounding", "coefficients", "bound", "")
    rows = []
    for name, node in fixed.errors.nodes.items():
        unit = 1 << node.bits.frac
        rows.append(
            (
                name,
                str(node.range),
                str(node.bits),
                f"Q{node.integer_bits}.{node.bits.frac}",
                f"{float(node.arithmetic.magnitude * unit):.3f} ulp",
                f"{float(node.coefficients.magnitude * unit):.3f} ulp",
                f"{float(node.bound):.3g}",
                _note(node),
            )
        )
    print_table(header, rows)
    for name, inside in fixed.cut.items():
        typer.echo(f"{name} is clipped to the range of its format, {inside}")
    for name, decision in fixed.errors.decisions.items():
        typer.echo(
            f"{name} may have the other outcome if its operands differ by at most"
            f" {float(decision.margin):.3g}"
        )


def _note(node: NodeError) -> str:
    notes = ["SATURATES; the bound holds without saturation"] if node.saturates else []
    if node.after:
        notes.append(f"bound unless {' or '.join(node.after)} saturates")
    if node.decisions:
        notes.append(f"bound if {' and '.join(node.decisions)} have the same outcome")
    return "; ".join(notes)


def _is_number(name: str, inside: Interval, found: Analysis) -> bool:
    nodes = {*found.inputs, *(found.states or {})}
    return inside.low == inside.high and name not in nodes


def _box(box: Mapping[str, Interval]) -> str:
    return ", ".join(f"{n} in {i}" for n, i in box.items())


def _run(values: tuple[float, ...]) -> str:
    """Return a sequence as text, with equal neighbours counted."""
    groups: list[tuple[float, int]] = []
    for value in values:
        if groups and groups[-1][0] == value:
            groups[-1] = (value, groups[-1][1] + 1)
        else:
            groups.append((value, 1))
    shown = [f"{v:g}" if n == 1 else f"{n} times {v:g}" for v, n in groups]
    return ", ".join(shown if len(shown) <= 24 else [*shown[:24], f"... ({len(values)} steps)"])


def as_dict(found: Analysis) -> dict[str, Any]:
    """Return an analysis as plain data."""
    return {
        "name": found.neuron.name,
        "equations": equations(found.neuron),
        "scheme": found.scheme,
        "inputs": _intervals(found.inputs),
        "states": None if found.states is None else _intervals(found.states),
        "invariant": _verdict(found.invariant),
        "fixed_points": found.fixed_points
        if isinstance(found.fixed_points, str)
        else [_points(at) for at in found.fixed_points],
        "linear": None if found.linear is None else linear_as_dict(found.linear),
        "reset_gain": found.threshold.gain,
        "threshold_factor": found.threshold.factor,
        "ranges": None if found.ranges is None else _intervals(found.ranges),
        "fixed": None if found.fixed is None else _errors(found.fixed),
    }


def _intervals(box: Mapping[str, Interval]) -> dict[str, Any]:
    return {
        n: {"low": float(i.low), "high": float(i.high), "exact": i.tight} for n, i in box.items()
    }


def _verdict(verdict: Invariant | Escape | Undecided) -> dict[str, Any]:
    match verdict:
        case Invariant(states=states, reached=reached):
            exact = {n: [str(i.low), str(i.high)] for n, i in states.items()}
            return {"verdict": "invariant", "states": _intervals(states), "rational": exact,
                    "reached": _intervals(reached)}  # fmt: skip
        case Escape(inputs=inputs, state=state, value=value, bound=bound):
            return {"verdict": "escape", "inputs": inputs, "state": state, "value": value,
                    "bound": bound, "steps": verdict.steps}  # fmt: skip
        case Undecided(reason):
            return {"verdict": "undecided", "reason": reason}
        case _:
            assert_never(verdict)


def _points(at: FixedPoints) -> dict[str, Any]:
    return {
        "inputs": {n: float(x) for n, x in at.inputs.items()},
        "everywhere": at.everywhere,
        "points": [
            {"v": float(p.v.low), "slope": float(p.slope.low), "kind": p.kind,
             "alternates": p.alternates, "fires": p.fires}
            for p in at.points
        ],
    }  # fmt: skip


def _errors(fixed: FixedAnalysis) -> dict[str, Any]:
    return {
        "format": str(fixed.spec),
        "cut": _intervals(fixed.cut),
        "nodes": {
            name: {
                "format": str(node.bits),
                **_intervals({"range": node.range}),
                "integer_bits": node.integer_bits,
                "arithmetic": float(node.arithmetic.magnitude),
                "coefficients": float(node.coefficients.magnitude),
                "bound": float(node.bound),
                "ulp": float(node.ulp),
                "saturates": node.saturates,
                "after": node.after,
                "decisions": node.decisions,
            }
            for name, node in fixed.errors.nodes.items()
        },
        "decisions": {
            name: {"margin": float(d.margin), "after": d.after}
            for name, d in fixed.errors.decisions.items()
        },
    }


# Printing of a `LinearAnalysis`, as text and as plain data for JSON.


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
