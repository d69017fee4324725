"""Kernels from text and from random neurons after each pass, and their values."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

import lnm_codegen as lnm
from lnm_codegen.compiler.build import build
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.nodes import BinaryOp, Expr, Kernel, Let, Phase, Port, Role, UnaryOp, Var
from lnm_codegen.ir.passes.backward import backward
from lnm_codegen.ir.passes.hoist import hoist
from lnm_codegen.ir.passes.polynomials import collect
from lnm_codegen.ir.passes.simplify import dce, fold
from lnm_codegen.ir.types import Type
from tests.strategies import arguments_for

N = 32
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5)
PI = ir.Const(Fraction("3.141592653589793238462643383279502884197"), "pi")
BINARY = {ast.Add: BinaryOp.ADD, ast.Sub: BinaryOp.SUB, ast.Mult: BinaryOp.MUL,
          ast.Div: BinaryOp.DIV, ast.And: BinaryOp.AND, ast.Or: BinaryOp.OR}  # fmt: skip
COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
INPUTS = {Role.STATE: "vw", Role.INPUT: "xy", Role.PARAM: ("p", "q", "c0", "c1", "c2", "c3")}


def expr(text: str, types: Mapping[str, Type] | None = None) -> Expr:
    """Read an expression as it is printed, node by node; (1/3) and (-2) are one number."""
    types = types or {}

    def read(e: ast.expr) -> Expr:
        match e:
            case ast.Constant(value=int() | float() as value):
                return ir.const(Fraction(repr(value)))
            case ast.BinOp(
                ast.Constant(int() as above), ast.Div(), ast.Constant(int() as below)
            ) if below:
                return ir.const(Fraction(above, below))
            case ast.Name("pi"):
                return PI
            case ast.Name(name):
                return Var(name, types.get(name, ir.REAL))
            case ast.UnaryOp(ast.USub(), ast.Constant() | ast.BinOp(ast.Constant()) as number):
                return ir.neg(read(number))
            case ast.UnaryOp(op, arg):
                return ir.Unary(UnaryOp.NOT if isinstance(op, ast.Not) else UnaryOp.NEG, read(arg))
            case ast.BinOp(base, ast.Pow(), ast.Constant(int() as exponent)):
                return ir.Power(read(base), exponent)
            case ast.BinOp(a, op, b):
                return ir.Binary(BINARY[type(op)], read(a), read(b))
            case ast.BoolOp(op, values):
                return reduce(lambda a, b: ir.Binary(BINARY[type(op)], a, b), map(read, values))
            case ast.Compare(a, [op], [b]):
                return ir.Compare(ir.CompareOp(COMPARE[type(op)]), read(a), read(b))
            case ast.Call(ast.Name(name), arguments):
                kinds = {"select": ir.Select, "fma": ir.Fma, "detach": ir.Detach, "spike": ir.Spike}
                values = map(read, arguments)
                return kinds[name](*values) if name in kinds else ir.Call(ir.Fn(name), *values)
        raise AssertionError(ast.dump(e))

    return read(ast.parse(text.replace("; slope", ","), mode="eval").body)


def kernel(*values: Expr | str) -> Kernel:
    """Return a kernel of states v, w, inputs x, y, parameters p, q, c0..c3; results h0, h1, ..."""
    names = [f"h{k}" for k in range(len(values))]
    return _kernel(zip(names, values, strict=True), names)


def lets(*lines: str, results: str, inputs: Mapping[Role, Iterable[str]] = INPUTS) -> Kernel:
    """Return a kernel of Lets as they are printed, with the inputs of `kernel`."""
    return _kernel((line.split(" = ") for line in lines), results.split(), inputs)


def _kernel(
    pairs: Iterable[Any], results: Iterable[str], inputs: Mapping[Role, Iterable[str]] = INPUTS
) -> Kernel:
    types: dict[str, Type] = {}
    body = []
    for name, value in pairs:
        value = expr(value, types) if isinstance(value, str) else value
        types[name] = ir.type_of(value)
        body.append(Let(Var(name, types[name]), value, Phase.CHARGE))
    ports = tuple(Port(Var(name), role) for role, names in inputs.items() for name in names)
    outputs = (Port(Var(name, types.get(name, ir.REAL)), Role.OUTPUT) for name in results)
    return Kernel("k", ports, tuple(body), tuple(outputs))


def body(k: Kernel) -> list[str]:
    """Return the Lets as text."""
    lines = [line.strip() for line in str(k).splitlines()]
    return [line for line in lines if " = " in line]


def ordered(e: Expr) -> Expr:
    """Return an expression with commutative operands in one order, which changes no bits."""
    e = ir.map_children(e, ordered)
    match e:
        case ir.Binary(BinaryOp.ADD | BinaryOp.MUL as op, a, b) if repr(b) < repr(a):
            return ir.Binary(op, b, a)
        case ir.Fma(a, b, c) if repr(b) < repr(a):
            return ir.Fma(b, a, c)
    return e


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


def same_results(before: Kernel, after: Kernel, values: dict[str, Any], bits: bool) -> None:
    """Assert equal results: bit for bit, or up to rounding with NaN and infinities in place."""
    one, other = evaluated(before, values), evaluated(after, values)
    assert one.keys() == other.keys()
    for name, x in one.items():
        if bits:
            np.testing.assert_array_equal(other[name], x, err_msg=name)
        else:
            np.testing.assert_allclose(other[name], x, rtol=1e-9, atol=1e-10, err_msg=name)
