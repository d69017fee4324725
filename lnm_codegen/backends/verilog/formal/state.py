"""What is true of a state after every step, where the reset is one of the two usual ones."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.expr import declared, literal, width_of
from lnm_codegen.backends.verilog.parts import Design, connected
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.operators import CompareOp
from lnm_codegen.ir.types import Bits


@dataclass(frozen=True, slots=True)
class Reset:
    """A state that a spike resets: what follows from it.

    Attributes:
        state: The state.
        spike: The output that is the spike.
        threshold: A state without a spike is below it.
        low: A state after a spike is not below it.
        high: Nor above this.
        start: What it begins with.
    """

    state: fx.Var
    spike: fx.Var
    threshold: int
    low: int
    high: int
    start: int


def resets(design: Design) -> tuple[Reset, ...]:
    """Return the states of whose reset something is known.

    Hard: `where(h >= threshold, v_reset, h)`; soft: `h - where(h >= threshold, amount, 0)`, each
    with constants, and the condition a spike of the layer.
    """
    values = {let.target.name: let.value for let in design.kernel.body}
    starts = {s.name: s.init for s in design.model.states}
    found = []
    for state, after in zip(design.states, design.next_states, strict=True):
        parts = _parts(design, _followed(values, fx.Var(after.name, after.type)))
        if parts is None:
            continue
        kept, choice, low, high = parts
        cond = _root(values, choice.cond)
        spike = next((o for o in design.outputs if _root(values, o) == cond), None)
        threshold = _threshold(design, cond, kept)
        if threshold is None or spike is None:
            continue
        if kept != choice.orelse:  # soft: what is taken away is taken from the threshold or more
            bits = fx.bits_of(kept)
            low, high = max(threshold - high, bits.low), min(bits.high - low, bits.high)
        found.append(Reset(state, spike, threshold, low, high, starts[state.name]))
    return tuple(found)


def _parts(design: Design, value: fx.Expr) -> tuple[fx.Expr, fx.Select, int, int] | None:
    """Return what a state keeps without a spike, the choice, and the constant of the spike twice.

    None for what is neither `select(spike, constant, h)` nor `h - select(spike, constant, 0)`.
    """
    match value:
        case fx.Select(_, then, orelse):
            kept, choice = orelse, value
        case fx.Sum(SumOp.SUB, kept, fx.Select(_, then, orelse) as choice):
            if _constant(design, orelse) != 0:
                return None
        case _:
            return None
    number = _constant(design, then)
    return None if number is None else (kept, choice, number, number)


def _followed(values: dict[str, fx.Expr], e: fx.Expr) -> fx.Expr:
    """Return what a name stands for, through names and clamps."""
    while (isinstance(e, fx.Var) and e.name in values) or isinstance(e, fx.Saturate):
        e = e.arg if isinstance(e, fx.Saturate) else values[e.name]
    return e


def _root(values: dict[str, fx.Expr], e: fx.Expr) -> fx.Expr:
    """Return the last name or expression behind names of names."""
    while isinstance(e, fx.Var) and isinstance(values.get(e.name), fx.Var | fx.Compare):
        e = values[e.name]
    return e


def _constant(design: Design, e: fx.Expr) -> int | None:
    return design.printer({}, set()).constant_of(e)


def _threshold(design: Design, cond: fx.Expr, kept: fx.Expr) -> int | None:
    """Return the constant that a condition says `kept` has reached."""
    if not isinstance(cond, fx.Compare) or cond.op is not CompareOp.GE or cond.lhs != kept:
        return None
    return _constant(design, cond.rhs)


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    claims: tuple[str, ...]
    localparams: tuple[str, ...]
    inputs: tuple[str, ...]
    results: tuple[str, ...]
    connections: str
    asserts: tuple[str, ...]
    depth: int


def state_proof(design: Design) -> dict[str, str]:
    """Return the proof of what is true of the states; nothing where nothing is known of them."""
    found = resets(design)
    if not found:
        return {}
    claims, localparams, asserts = [], [], []
    for r in found:
        v, spike = r.state.name, r.spike.name
        prefix = v.upper()
        assert isinstance(r.state.type, Bits)
        width = r.state.type.width
        after = f"{v} is {r.low}" if r.low == r.high else f"{v} is in {r.low} to {r.high}"
        claims += [
            f"{spike}: {after} (integers)",
            f"no {spike}: {v} is below the threshold, {r.threshold}, or what it begins with",
        ]
        bounds = (("LOW", r.low), ("HIGH", r.high), ("LIMIT", r.threshold), ("START", r.start))
        localparams += [
            f"localparam signed [{width}:0] {prefix}_{word} = {literal(number, width + 1)};"
            for word, number in bounds
        ]
        asserts += [
            f"assert (!{spike} || ({v} >= {prefix}_LOW && {v} <= {prefix}_HIGH));",
            f"assert ({spike} || {v} == {prefix}_START || {v} < {prefix}_LIMIT - TIGHTER);",
        ]
    results = (*design.outputs, *design.states)
    taken = [(v.name, v) for v in design.inputs]
    taken += [(f"in_{v.name}", v) for v in design.coefficients]
    view = _View(
        family=design.model.family,
        name=design.name,
        claims=tuple(claims),
        localparams=tuple(localparams),
        inputs=tuple(f"(* anyseq *) {declared('wire', n, width_of(v))};" for n, v in taken),
        results=tuple(f"{declared('wire', v.name, width_of(v))};" for v in results),
        connections=connected((*((n, n) for n, _ in taken), *((v.name, v.name) for v in results))),
        asserts=tuple(asserts),
        depth=4,
    )
    return {
        f"formal/{design.name}_state_check.v": render("verilog/formal/state_check.v.j2", view),
        f"formal/{design.name}_state.sby": render("verilog/formal/state.sby.j2", view),
    }
