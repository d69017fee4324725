"""Parameter gradients at a gradient of the outputs that is 1: sums of functions of the inputs."""

from __future__ import annotations

from dataclasses import replace

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Program, Role
from lnm_codegen.ir.passes.dce import dce, keep_results
from lnm_codegen.ir.passes.fold import fold


def at_unit_gradient(program: Program) -> Program:
    """Return a program without states whose backward takes the gradient of every output as 1.

    The gradients of its inputs are 0, so that it computes the gradients of parameters alone.
    """
    backward = program.backward
    ones: dict[ir.Var, ir.Expr] = {v: ir.ONE for v in backward.input_vars(Role.GRAD)}
    given = set(backward.result_vars(Role.INPUT))
    body = tuple(
        replace(let, value=ir.ZERO if let.target in given else ir.substitute(let.value, ones))
        for let in backward.body
    )
    backward = fold(dce(replace(backward, body=body)))
    read = set(program.forward.input_names(Role.PARAM))
    return replace(program, backward=backward, prepare=keep_results(program.prepare, read))
