"""Rules of a well-formed kernel, each with a kernel that breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import (
    Binary,
    BinaryOp,
    Compare,
    CompareOp,
    Kernel,
    Let,
    Phase,
    Port,
    Role,
    Select,
    Spike,
    Var,
)
from lnm_codegen.ir.types import BOOL
from lnm_codegen.ir.verify import verify
from tests.refusals import refused
from tests.strategies import few, neurons

V, X, A, B = Var("v"), Var("x"), Var("a"), Var("b")
C = Var("c", BOOL)
INPUTS = (Port(V, Role.STATE), Port(X, Role.INPUT))
POSITIVE = Compare(CompareOp.GT, V, ir.ZERO)


def kernel(*lets: tuple[Var, ir.Expr], results: tuple[Var, ...] = (A,), inputs=INPUTS) -> Kernel:
    body = tuple(Let(target, value, Phase.CHARGE) for target, value in lets)
    return Kernel("k", inputs, body, tuple(Port(r, Role.OUTPUT) for r in results))


def test_a_valid_kernel_is_returned():
    """`verify` returns the kernel itself, so that passes can be chained."""
    good = kernel((C, POSITIVE), (A, Select(C, V, X)))
    assert verify(good) is good


BROKEN = [
    (kernel((A, B)), "'a' reads 'b' before it is bound"),
    (kernel((A, ir.add(A, V))), "'a' reads 'a' before it is bound"),
    (
        kernel((A, ir.add(V, B)), (B, X)),
        "'a' reads 'b' before it is bound",
    ),
    (kernel((A, Var("v", BOOL))), "'a' reads 'v' before it is bound"),
    (kernel((A, V), (A, X)), "'a' is bound twice"),
    (kernel((V, X), results=(V,)), "'v' is bound twice"),
    (
        kernel((C, POSITIVE), (Var("c"), X), results=(C,)),
        "'c' is bound twice",
    ),
    (kernel((B, V)), "the result 'a' is never bound"),
    (kernel((C, POSITIVE), results=(Var("c"),)), "the result 'c' is never bound"),
    (kernel((A, V), results=(A, A)), "two ports share a name: a, a"),
    (
        kernel((A, V), inputs=(*INPUTS, Port(X, Role.PARAM))),
        "two ports share a name: v, x, x",
    ),
    (kernel((A, POSITIVE)), "'a' differs in type from its value"),
    (
        kernel((C, ir.add(V, X)), results=(C,)),
        "'c' differs in type from its value",
    ),
    (
        kernel((A, ir.neg(POSITIVE))),
        "'a' has a bool as operand",
    ),
    (kernel((A, Select(V, V, X))), "'a' has a real as operand"),
    (
        kernel((A, Select(POSITIVE, POSITIVE, X))),
        "'a' has a bool as operand",
    ),
    (
        kernel((C, Binary(BinaryOp.AND, POSITIVE, V)), results=(C,)),
        "'c' has a real as operand",
    ),
    (
        kernel((C, ir.Unary(ir.UnaryOp.NOT, V)), results=(C,)),
        "'c' has a real as operand",
    ),
    (
        kernel((C, Compare(CompareOp.EQ, POSITIVE, V)), results=(C,)),
        "'c' has a bool as operand",
    ),
    (
        kernel((A, ir.mul(V, ir.add(X, POSITIVE)))),
        "'a' has a bool as operand",
    ),
    (
        kernel((C, Spike(V, X)), results=(C,)),
        "'c' has a slope that reads more than its argument",
    ),
]


@pytest.mark.parametrize(
    ("broken", "message"), BROKEN, ids=lambda m: m if isinstance(m, str) else "kernel"
)
def test_broken_kernels(broken, message):
    """The message names the kernel and the Let."""
    with refused(lnm.InternalError, "k", message):
        verify(broken)


@few
@given(neurons())
def test_every_pass_leaves_a_valid_kernel(neuron):
    """From build to the end, under both schemes, and the four kernels of the program."""
    seen = []

    def check(name: str, kernel: Kernel) -> None:
        verify(kernel)
        seen.append(name)

    for scheme in ("horner", "estrin"):
        program = lnm.lower(neuron, scheme, on_pass=check)
        for made in (program.prepare, program.prepare_backward, program.forward, program.backward):
            verify(made)
    steps = ["build", "fold", "collect", "hoist", "backward", "fold", "collect", "nest"]
    end = ["cse", "cse", "prepare", "prepare_backward"]
    assert seen == [*steps, "horner", "horner", *end, *steps, "estrin", "estrin", *end]


def test_a_spike_on_a_bare_state_keeps_a_valid_slope():
    """`fire=v` makes z a copy of h: cse once replaced it in the argument and not in the slope."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: v + x}, fire=v)
    text = str(lnm.lower(neuron, on_pass=lambda _, kernel: verify(kernel)).forward)
    assert "fired = spike(h; slope 1 / ((pi**2) * h**2 + 1))" in text
