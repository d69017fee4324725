"""Proof of bounds of the states after every step, for a hard or soft reset by constants."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from lnm_codegen.backends.render import render_files
from lnm_codegen.backends.verilog.expr import literal
from lnm_codegen.backends.verilog.parts import (
    CircuitDesign,
    connected,
    declarations,
    named,
    same_names,
)
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import run
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.operators import CompareOp
from lnm_codegen.ir.types import Bits

MOST_STEPS = 64
"""Most steps that the control of a proof takes."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Bounds of a state that a spike resets.

    Attributes:
        state: The state.
        spike: The output that is the spike.
        threshold: Bound that the state stays under without a spike, at most one above its format.
        low: Least value after a spike.
        high: Largest value after a spike.
        start: Initial value.
    """

    state: fx.Var
    spike: fx.Var
    threshold: int
    low: int
    high: int
    start: int


def resets(design: CircuitDesign) -> tuple[Reset, ...]:
    """Return the states whose reset has constants and a spike of the outputs as its condition.

    Hard reset: `where(h >= threshold, v_reset, h)`.
    Soft reset: `h - where(h >= threshold, amount, 0)`.
    """
    values = {let.target.name: let.value for let in design.kernel.body}
    starts = {s.name: s.init for s in design.model.states}
    found = []
    for state, after in zip(design.states, design.next_states, strict=True):
        parts = _parts(design, _followed(values, fx.Var(after.name, after.type)))
        if parts is None:
            continue
        kept, select, number = parts
        cond = _root(values, select.cond)
        spike = next((o for o in design.outputs if _root(values, o) == cond), None)
        threshold = _threshold(design, cond, kept)
        if threshold is None or spike is None:
            continue
        low = high = number
        if kept != select.orelse:  # soft: the amount is subtracted from the threshold or more
            bits = fx.bits_of(kept)
            low, high = max(threshold - number, bits.low), min(bits.high - number, bits.high)
        own = fx.bits_of(state)  # the state may be narrower than `kept`: it saturates
        low, high = (min(max(end, own.low), own.high) for end in (low, high))
        threshold = min(max(threshold, own.low + 1), own.high + 1)
        found.append(Reset(state, spike, threshold, low, high, starts[state.name]))
    return tuple(found)


def _parts(design: CircuitDesign, value: fx.Expr) -> tuple[fx.Expr, fx.Select, int] | None:
    """Return the value without a spike, the selection, and its constant at a spike.

    None unless `value` is `select(spike, constant, h)` or `h - select(spike, constant, 0)`.
    """
    match value:
        case fx.Select(_, then, kept):
            select = value
        case fx.Sum(SumOp.SUB, kept, fx.Select(_, then, orelse) as select):
            if _constant(design, orelse) != 0:
                return None
        case _:
            return None
    number = _constant(design, then)
    return None if number is None else (kept, select, number)


def _followed(values: dict[str, fx.Expr], e: fx.Expr) -> fx.Expr:
    """Return the expression behind names and clamps."""
    while (isinstance(e, fx.Var) and e.name in values) or isinstance(e, fx.Saturate):
        e = e.arg if isinstance(e, fx.Saturate) else values[e.name]
    return e


def _root(values: dict[str, fx.Expr], e: fx.Expr) -> fx.Expr:
    """Return the last name or expression behind names of names."""
    while isinstance(e, fx.Var) and isinstance(values.get(e.name), fx.Var | fx.Compare):
        e = values[e.name]
    return e


def _constant(design: CircuitDesign, e: fx.Expr) -> int | None:
    return design.printer().constant_of(e)


def _threshold(design: CircuitDesign, cond: fx.Expr, kept: fx.Expr) -> int | None:
    """Return the constant of the condition `kept >= constant`, None for any other."""
    if not isinstance(cond, fx.Compare) or cond.op is not CompareOp.GE or cond.lhs != kept:
        return None
    return _constant(design, cond.rhs)


def _steps_to_spike(design: CircuitDesign, found: tuple[Reset, ...]) -> int:
    """Return the fewest steps to a spike of constant inputs at the ends of their formats.

    The control needs as many from the initial states to break its bound. It is at most `MOST_STEPS`
    and 1 where coefficients are ports, which may have any value.
    """
    if design.on_ports:
        return 1
    ends = ((bits.low, bits.high) for bits in map(fx.bits_of, design.inputs))
    drives = np.array(list(product(*ends)), np.int64).T
    fixed: dict[str, Any] = {v.name: x for v, x in zip(design.inputs, drives, strict=True)}
    fixed |= design.constants
    states: dict[str, Any] = {s.name: s.init for s in design.model.states}
    for steps in range(1, MOST_STEPS):
        after = run(design.kernel, fixed | states)
        if any(np.any(after[r.spike.name]) for r in found):
            return steps
        states = {name: after[f"{name}_next"] for name in states}
    return MOST_STEPS


def state_proof(design: CircuitDesign) -> dict[str, str]:
    """Return the proof of the bounds, no file where no bound is known."""
    found = resets(design)
    if not found:
        return {}
    claims, localparams, asserts = [], [], []
    for r in found:
        v, spike = r.state.name, r.spike.name
        assert isinstance(r.state.type, Bits)
        width = r.state.type.width
        after = f"{v} is {r.low}" if r.low == r.high else f"{v} is in {r.low} to {r.high}"
        claims += [
            f"{spike}: {after} (integers)",
            f"no {spike}: {v} is below the threshold, {r.threshold}, or has its initial value",
        ]
        bounds = (("LOW", r.low), ("HIGH", r.high), ("LIMIT", r.threshold), ("START", r.start))
        localparams += [
            f"localparam signed [{width}:0] _{v}_{word} = {literal(number, width + 1)};"
            for word, number in bounds
        ]
        asserts += [
            f"assert (!{spike} || ({v} >= _{v}_LOW && {v} <= _{v}_HIGH));",
            f"assert ({spike} || {v} == _{v}_START || {v} < _{v}_LIMIT - _TIGHTER);",
        ]
    inputs = named(design.inputs) + named(design.coefficients, "in_")
    results = named((*design.outputs, *design.states))
    view = {
        **design.heading,
        "claims": claims,
        "localparams": localparams,
        "inputs": [f"(* anyseq *) {line}" for line in declarations("wire", inputs)],
        "results": declarations("wire", results),
        "connections": connected(same_names(inputs, results)),
        "asserts": asserts,
        "depth": max(4, _steps_to_spike(design, found) + 3),
    }
    files = {
        f"formal/{design.name}_state_check.v": "verilog/formal/state_check.v.j2",
        f"formal/{design.name}_state.sby": "verilog/formal/state.sby.j2",
    }
    return render_files(files, view)
