"""Compiler from a neuron to its program: read this file first.

A neuron is a few SymPy equations for one time step (`language/neuron.py`). Its program is four
kernels of straight-line scalar code (`ir/nodes.py`):

    prepare            parameters -> prepared parameters                      once per call
    forward            previous states, inputs -> outputs, states             every time step
    backward           the same and gradients -> gradients                    every time step
    prepare_backward   gradients of prepared parameters -> of parameters      once per call

`lower` applies the passes of `ir/passes/`; each is a function from kernels to kernels:

    build              equations to Lets                           forward
    fold               exact constants                             forward
    collect            polynomials to sums of products             forward
    hoist              expressions of parameters to `prepare`      prepare, forward
    backward           reverse-mode differentiation                backward
    nest               sums that derivatives read to Lets          forward
    horner | estrin    polynomials to fused multiply-adds          forward, backward
    cse, inline        common subexpressions to one Let            all four

`lnm show FAMILY --ir` prints the kernel after each pass. `interpret` runs a program in NumPy
and defines its meaning. A backend prints it as source code; `emit` selects the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import lru_cache, partial
from typing import get_args

from lnm_codegen.compiler.build import build
from lnm_codegen.errors import ModelError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Kernel, Program, Role, Var
from lnm_codegen.ir.passes.backward import backward
from lnm_codegen.ir.passes.collect import collect
from lnm_codegen.ir.passes.cse import cse, inline
from lnm_codegen.ir.passes.dce import dce, keep_results
from lnm_codegen.ir.passes.fold import fold
from lnm_codegen.ir.passes.hoist import hoist
from lnm_codegen.ir.passes.nest import nest, worth_nesting
from lnm_codegen.ir.passes.schemes import SCHEMES, horner
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import SchemeName
from lnm_codegen.validation import require_one_of

OnPass = Callable[[str, Kernel], object]
After = Callable[[str, Kernel], Kernel]


def lower(neuron: Neuron, scheme: SchemeName = "horner", on_pass: OnPass | None = None) -> Program:
    """Lower a neuron to the program that every backend receives.

    Args:
        neuron: The definition.
        scheme: Evaluation of polynomials: "horner" (fewest operations) or "estrin" (shortest
            chain).
        on_pass: Called with the name of each pass and the kernel it returned.

    Raises:
        ModelError: No neuron, an unknown scheme, or an equation too large for Python's stack.
    """
    require_neuron("lower", neuron)
    require_one_of("lower", "scheme", scheme, get_args(SchemeName))
    try:
        if on_pass is None:
            return _lowered(neuron, scheme)
        return _run_passes(neuron, scheme, on_pass)
    except RecursionError:
        problem = "an equation, or its derivative, has too many terms for Python's recursion limit"
        accepted = "a few hundred terms in a sum"
        raise ModelError(neuron.name, problem, accepted, "Write fewer terms.") from None


@lru_cache(maxsize=256)
def _lowered(neuron: Neuron, scheme: SchemeName) -> Program:
    return _run_passes(neuron, scheme, lambda name, kernel: None)


def _run_passes(neuron: Neuron, scheme: SchemeName, on_pass: OnPass) -> Program:
    def after(name: str, kernel: Kernel) -> Kernel:
        on_pass(name, kernel)
        return kernel

    # The time step. `prepare` takes over the expressions of parameters alone.
    forward = after("build", build(neuron))
    forward = after("fold", fold(forward))
    forward = after("collect", dce(collect(forward)))
    prepare, forward = hoist(_identity(forward), forward)
    after("hoist", forward)
    differentiated = _depend_on_parameters(prepare) & set(forward.input_names(Role.PARAM))
    constant = set(forward.input_names(Role.PARAM)) - differentiated

    # Its adjoint, which recomputes the step from the previous states, in the same operations.
    shared: Set[Var] = frozenset()
    if scheme == "horner":
        shared = worth_nesting(forward, partial(_final_adjoint, forward, constant))
    adjoint = _adjoint(forward, constant, shared, after)
    forward = after("nest", nest(forward, shared))

    # Polynomials by the scheme. Both kernels share `prepare`, and each computes nothing twice.
    forward = after(scheme, SCHEMES[scheme](forward))
    adjoint = after(scheme, SCHEMES[scheme](adjoint))
    prepare, forward, adjoint = hoist(prepare, forward, adjoint)
    forward = after("cse", inline(cse(forward)))
    adjoint = after("cse", inline(cse(adjoint)))

    # `prepare` computes what these kernels read; its adjoint takes the summed gradients.
    used = {*forward.input_names(Role.PARAM), *adjoint.input_names(Role.PARAM)}
    prepare = collect(fold(keep_results(prepare, used)), in_params=True)
    sums = fold(backward(keep_results(prepare, differentiated), seed="sum_"))
    sums = horner(collect(sums, in_params=True), in_params=True)
    prepare = after("prepare", inline(cse(horner(prepare, in_params=True))))
    sums = after("prepare_backward", inline(cse(fold(sums))))
    return Program(neuron.name, prepare, sums, forward, adjoint)


def _depend_on_parameters(prepare: Kernel) -> set[str]:
    """Return the names of the parameters and of the values that read one."""
    found = set(prepare.input_vars(Role.PARAM))
    for let in prepare.body:
        if not ir.variables(let.value).isdisjoint(found):
            found.add(let.target)
    return {var.name for var in found}


def _adjoint(forward: Kernel, constant: Set[str], shared: Set[Var], after: After) -> Kernel:
    """Return the adjoint of a step, with its polynomials as sums of products."""
    adjoint = after("backward", dce(backward(forward, nested=shared, constant=constant)))
    adjoint = after("fold", fold(adjoint))
    return after("collect", collect(adjoint))


def _final_adjoint(forward: Kernel, constant: Set[str], shared: Set[Var]) -> Kernel:
    """Return the adjoint of a step by Horner's scheme, without repeated operations."""
    adjoint = horner(_adjoint(forward, constant, shared, lambda _, kernel: kernel))
    return cse(hoist(_identity(forward), adjoint)[1])


def _identity(forward: Kernel) -> Kernel:
    """Return a `prepare` that returns every parameter unchanged."""
    ports = tuple(p for p in forward.inputs if p.role is Role.PARAM)
    return Kernel(f"{forward.name}_prepare", ports, (), ports)
