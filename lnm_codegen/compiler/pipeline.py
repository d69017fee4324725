"""Compiler from a neuron to its program: read this file first.

A neuron is a few SymPy equations for one time step (`language/neuron.py`). Its program is four
kernels of straight-line scalar code (`ir/nodes.py`):

    prepare            parameters -> prepared parameters                      once per call
    forward            previous states, inputs -> outputs, states             every time step
    backward           the same and gradients -> gradients                    every time step
    prepare_backward   gradients of prepared parameters -> of parameters      once per call

`lower` applies the passes of `ir/passes/`. Most take a kernel and return one:

    build              equations to Lets                           forward
    fold               exact constants                             all four
    collect            polynomials to sums of products             all four
    dce                Lets that no result needs are dropped       forward, backward
    hoist              expressions of parameters to `prepare`      prepare, forward, backward
    backward           reverse-mode differentiation                backward, prepare_backward
    nest               sums that derivatives read to Lets          forward
    horner             polynomials to fused multiply-adds          all four
    estrin             in place of `horner`, if selected           forward, backward
    keep_results       results that nothing reads are dropped      prepare
    cse                common subexpressions to one Let            all four
    inline             temporaries with one reader into it         all four

`lnm show FAMILY --ir` prints the kernel after each pass. `interpret` runs a program in NumPy
and defines its meaning. A backend prints it as source code; `emit` selects the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import lru_cache, partial
from typing import Any, get_args

from lnm_codegen.compiler.build import build
from lnm_codegen.errors import ModelError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Kernel, Program, Role, Var
from lnm_codegen.ir.passes.backward import backward
from lnm_codegen.ir.passes.hoist import hoist
from lnm_codegen.ir.passes.polynomials import SCHEMES, collect, horner, nest, worth_nesting
from lnm_codegen.ir.passes.simplify import cse, dce, fold, inline, keep_results
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import SchemeName
from lnm_codegen.validation import require_one_of

OnPass = Callable[[str, Kernel], object]
Apply = Callable[..., Kernel]


def lower(neuron: Neuron, scheme: SchemeName = "horner", on_pass: OnPass | None = None) -> Program:
    """Lower a neuron to the program that every backend receives.

    Args:
        neuron: The definition.
        scheme: Evaluation of polynomials: "horner" (fewest operations) or "estrin" (shortest
            chain).
        on_pass: Called with the name of each pass and each kernel that it returned.

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
    return _run_passes(neuron, scheme, _no_report)


def _no_report(name: str, kernel: Kernel) -> None:
    pass


def _reporting(on_pass: OnPass) -> Apply:
    """Return a function that calls a pass with arguments and reports the kernel."""

    def apply(pass_: Callable[..., Kernel], *arguments: Any, **options: Any) -> Kernel:
        kernel = pass_(*arguments, **options)
        on_pass(pass_.__name__, kernel)
        return kernel

    return apply


def _run_passes(neuron: Neuron, scheme: SchemeName, on_pass: OnPass) -> Program:
    apply = _reporting(on_pass)

    # The time step. `prepare` takes over the expressions of parameters alone.
    forward = apply(build, neuron)
    forward = apply(dce, apply(collect, apply(fold, forward)))
    prepare, forward = _hoisted(on_pass, _identity(forward), forward)
    differentiated = _depend_on_parameters(prepare) & set(forward.input_names(Role.PARAM))
    constant = set(forward.input_names(Role.PARAM)) - differentiated

    # Its adjoint, which recomputes the step from the previous states, in the same operations.
    shared: Set[Var] = frozenset()
    if scheme == "horner":
        shared = worth_nesting(forward, partial(_final_adjoint, forward, constant))
    adjoint = _adjoint(forward, constant, shared, apply)
    forward = apply(nest, forward, shared)

    # Polynomials by the scheme. Both kernels share `prepare`, and each computes nothing twice.
    forward, adjoint = (apply(SCHEMES[scheme], kernel) for kernel in (forward, adjoint))
    prepare, forward, adjoint = _hoisted(on_pass, prepare, forward, adjoint)
    forward, adjoint = (apply(inline, apply(cse, kernel)) for kernel in (forward, adjoint))

    # `prepare` computes what these kernels read; its adjoint takes the summed gradients.
    used = {*forward.input_names(Role.PARAM), *adjoint.input_names(Role.PARAM)}
    prepare = apply(fold, apply(keep_results, prepare, used))
    prepare = apply(collect, prepare, in_params=True)
    sums = apply(backward, apply(keep_results, prepare, differentiated), seed="sum_")
    sums = apply(collect, apply(fold, sums), in_params=True)
    sums = apply(fold, apply(horner, sums, in_params=True))
    prepare = apply(horner, prepare, in_params=True)
    prepare, sums = (apply(inline, apply(cse, kernel)) for kernel in (prepare, sums))
    return Program(neuron.name, prepare, sums, forward, adjoint)


def _hoisted(on_pass: OnPass, prepare: Kernel, *kernels: Kernel) -> tuple[Kernel, ...]:
    """Return the longer `prepare` and the kernels, each of them reported."""
    moved = hoist(prepare, *kernels)
    for kernel in moved:
        on_pass("hoist", kernel)
    return moved


def _depend_on_parameters(prepare: Kernel) -> set[str]:
    """Return the names of the parameters and of the values that read one."""
    found = set(prepare.input_vars(Role.PARAM))
    for let in prepare.body:
        if not ir.variables(let.value).isdisjoint(found):
            found.add(let.target)
    return {var.name for var in found}


def _adjoint(forward: Kernel, constant: Set[str], shared: Set[Var], apply: Apply) -> Kernel:
    """Return the adjoint of a step, with its polynomials as sums of products."""
    adjoint = apply(backward, forward, nested=shared, constant=constant)
    return apply(collect, apply(fold, apply(dce, adjoint)))


def _final_adjoint(forward: Kernel, constant: Set[str], shared: Set[Var]) -> Kernel:
    """Return the adjoint of a step by Horner's scheme, without repeated operations."""
    adjoint = horner(_adjoint(forward, constant, shared, _reporting(_no_report)))
    return cse(hoist(_identity(forward), adjoint)[1])


def _identity(forward: Kernel) -> Kernel:
    """Return a `prepare` that returns every parameter unchanged."""
    ports = tuple(p for p in forward.inputs if p.role is Role.PARAM)
    return Kernel(f"{forward.name}_prepare", ports, (), ports)
