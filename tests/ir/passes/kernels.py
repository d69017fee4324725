"""Kernels of a random neuron after each pass, and their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

import lnm_codegen as lnm
from lnm_codegen.compiler.build import build
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.nodes import Expr, Kernel, Let, Phase, Port, Role, Var
from lnm_codegen.ir.passes.backward import backward
from lnm_codegen.ir.passes.hoist import hoist
from lnm_codegen.ir.passes.polynomials import collect
from lnm_codegen.ir.passes.simplify import dce, fold
from tests.strategies import arguments_for

N = 32
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5)
V, W, X, Y, A, B = (Var(n) for n in "vwxyab")
P, Q, C0, C1, C2, C3 = (Var(n) for n in ("p", "q", "c0", "c1", "c2", "c3"))


def kernel(*values: Expr, names: str = "h", phase: Phase = Phase.CHARGE) -> Kernel:
    """Return a kernel of states v, w, inputs x, y, parameters p, q, c0..c3; results h0, h1, ..."""
    roles = [(Role.STATE, (V, W)), (Role.INPUT, (X, Y)), (Role.PARAM, (P, Q, C0, C1, C2, C3))]
    lets = tuple(Let(Var(f"{names}{k}", ir.type_of(e)), e, phase) for k, e in enumerate(values))
    inputs = tuple(Port(v, role) for role, names_ in roles for v in names_)
    return Kernel("k", inputs, lets, tuple(Port(let.target, Role.OUTPUT) for let in lets))


def body(k: Kernel) -> list[str]:
    """Return the Lets as text."""
    lines = [line.strip() for line in str(k).splitlines()]
    return [line for line in lines if " = " in line]


def identity(k: Kernel) -> Kernel:
    """Return a prepare kernel that returns the parameters of `k` unchanged."""
    ports = tuple(p for p in k.inputs if p.role is Role.PARAM)
    return Kernel("prepare", ports, (), ports)


def raw_values(neuron: lnm.Neuron, rng: np.random.Generator, special: bool = False) -> Any:
    """Return values of the ports of a built kernel: moderate, or with NaN, infinities and zeros."""
    a = arguments_for(neuron, rng, (1, N))
    values: dict[str, np.ndarray] = {}
    for symbol, x in zip(neuron.inputs, a.x_seq, strict=True):
        values[symbol.name] = x[0]
    values |= a.state
    if special:
        values = {n: rng.choice(SPECIAL, N) for n in values}
    for decl in neuron.params:
        elements = np.atleast_1d(a.params[decl.name])
        values |= dict(zip(decl.element_names, elements, strict=True))
    return values


def with_gradients(k: Kernel, values: dict[str, Any], rng: np.random.Generator) -> Any:
    """Add values for the GRAD ports of an adjoint kernel."""
    return values | {n: rng.uniform(-1, 1, N) for n in k.input_names(Role.GRAD)}


class Stages:
    """The kernels of a neuron up to the polynomials, made by hand from the passes."""

    def __init__(self, neuron: lnm.Neuron) -> None:
        self.built = build(neuron)
        self.folded = fold(self.built)
        self.collected = dce(collect(self.folded))
        self.prepare, self.forward = hoist(identity(self.collected), self.collected)
        self.raw_adjoint = dce(backward(self.forward))
        self.adjoint = collect(fold(self.raw_adjoint))

    def prepared(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return `values` and the prepared parameters."""
        inputs = self.prepare.input_names(Role.PARAM)
        return values | run(self.prepare, {n: values[n] for n in inputs})


def evaluated(k: Kernel, values: dict[str, Any]) -> dict[str, np.ndarray]:
    """Run `k` on its inputs in `values`, and broadcast the results over N lanes."""
    results = run(k, {p.var.name: values[p.var.name] for p in k.inputs})
    return {n: np.broadcast_to(x, (N,)) for n, x in results.items()}


def same_bits(before: Kernel, after: Kernel, values: dict[str, Any]) -> None:
    """Assert equal results, bit for bit."""
    one, other = evaluated(before, values), evaluated(after, values)
    assert one.keys() == other.keys()
    for name, x in one.items():
        np.testing.assert_array_equal(other[name], x, err_msg=name)


def same_value(before: Kernel, after: Kernel, values: dict[str, Any]) -> None:
    """Assert equal results up to rounding, NaN and infinities in the same places."""
    one, other = evaluated(before, values), evaluated(after, values)
    assert one.keys() == other.keys()
    for name, x in one.items():
        np.testing.assert_allclose(other[name], x, rtol=1e-9, atol=1e-10, err_msg=name)


def same_ports(before: Kernel, after: Kernel) -> None:
    """Assert that a pass kept ports and results."""
    assert after.inputs == before.inputs
    assert after.results == before.results


def subexpressions(k: Kernel) -> Iterable[Expr]:
    """Yield the operations of each Let, with commutative operands in one order."""

    def key(e: Expr) -> Expr:
        e = ir.map_children(e, key)
        match e:
            case ir.Binary(ir.BinaryOp.ADD | ir.BinaryOp.MUL as op, a, b) if repr(b) < repr(a):
                return ir.Binary(op, b, a)
            case ir.Fma(a, b, c) if repr(b) < repr(a):
                return ir.Fma(b, a, c)
            case _:
                return e

    for let in k.body:
        yield from (n for n in ir.walk(key(let.value)) if not ir.is_atom(n))


def powers(k: Kernel) -> list[Expr]:
    """Return the Power nodes that are left, slopes excepted."""
    return [n for let in k.body for n in ir.walk(let.value) if isinstance(n, ir.Power)]


def powers_in_the_step(k: Kernel) -> list[Expr]:
    """Return those that read more than parameters, whose expressions `hoist` moves."""
    params = {p.var for p in k.inputs if p.role is Role.PARAM}
    return [n for n in powers(k) if not ir.variables(n) <= params]


def depth(e: Expr) -> int:
    """Return the longest chain of operations of `e`."""
    return 0 if ir.is_atom(e) else 1 + max(depth(c) for c in ir.children(e))
