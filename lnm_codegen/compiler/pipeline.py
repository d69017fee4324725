"""The compiler, top to bottom: read this file first.

    neuron.py (SymPy)
      -> build       the equations as Lets                                    forward
      -> fold        constants, exactly
      -> collect     polynomials as sums of products, one operator per Let
      -> hoist       what only parameters decide                              prepare
      -> backward    reverse mode over the Lets                               backward
      -> horner | estrin, hoist, cse, inline on forward and backward
      -> Program(prepare, prepare_backward, forward, backward)

`interpret` says what a Program means; a backend prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from lnm_codegen.backends.base import Model
from lnm_codegen.compiler.build import build
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.nodes import Kernel, Program, Role
from lnm_codegen.ir.passes.backward import backward
from lnm_codegen.ir.passes.collect import collect
from lnm_codegen.ir.passes.cse import cse, dce, inline, keep_results
from lnm_codegen.ir.passes.estrin import estrin
from lnm_codegen.ir.passes.fold import fold
from lnm_codegen.ir.passes.hoist import hoist
from lnm_codegen.ir.passes.horner import horner
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import require_name

SCHEMES: dict[str, Callable[[Kernel], Kernel]] = {"horner": horner, "estrin": estrin}

OnPass = Callable[[str, Kernel], object]


def lower(neuron: Neuron, scheme: str = "horner", on_pass: OnPass | None = None) -> Program:
    """Lower a neuron to the program that every backend receives.

    Args:
        neuron: The definition.
        scheme: How polynomials are evaluated: "horner" (fewest operations) or "estrin" (shortest
            chain).
        on_pass: Called with the name of each pass and the kernel it made.

    Raises:
        ModelError: No neuron, or an unknown scheme.
    """
    require_neuron("lower", neuron)
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise ModelError("lower", f"scheme is {scheme!r}", SCHEMES)
    if on_pass is None:
        return _lower(neuron, scheme)
    return _stages(neuron, scheme, on_pass)


@lru_cache(maxsize=256)
def _lower(neuron: Neuron, scheme: str) -> Program:
    return _stages(neuron, scheme, lambda name, kernel: None)


def _stages(neuron: Neuron, scheme: str, on_pass: OnPass) -> Program:
    def step(name: str, kernel: Kernel) -> Kernel:
        on_pass(name, kernel)
        return kernel

    forward = step("build", build(neuron))
    forward = step("fold", fold(forward))
    forward = step("collect", dce(collect(forward)))
    prepare, forward = hoist(_identity(neuron, forward), forward)
    step("hoist", forward)
    differentiated = forward.input_names(Role.PARAM)

    adjoint = step("backward", dce(backward(forward)))
    adjoint = step("fold", fold(adjoint))
    adjoint = step("collect", collect(adjoint))

    polynomials = SCHEMES[scheme]
    forward = step(scheme, polynomials(forward))
    adjoint = step(scheme, polynomials(adjoint))
    prepare, forward, adjoint = hoist(prepare, forward, adjoint)
    forward = step("cse", inline(cse(forward)))
    adjoint = step("cse", inline(cse(adjoint)))

    used = {*forward.input_names(Role.PARAM), *adjoint.input_names(Role.PARAM)}
    prepare = collect(fold(keep_results(prepare, used)), in_params=True)
    sums = fold(backward(keep_results(prepare, set(differentiated)), seed="sum_"))
    sums = horner(collect(sums, in_params=True), in_params=True)
    prepare = step("prepare", inline(cse(horner(prepare, in_params=True))))
    sums = step("prepare_backward", inline(cse(fold(sums))))
    return Program(neuron.name, prepare, sums, forward, adjoint)


def _identity(neuron: Neuron, forward: Kernel) -> Kernel:
    """Return the prepare kernel that hands every parameter on as it is."""
    ports = tuple(p for p in forward.inputs if p.role is Role.PARAM)
    return Kernel(f"{neuron.name}_prepare", ports, (), ports)


def model_of(
    neuron: Neuron, *, name: str | None = None, dtype: str = "float32", scheme: str = "horner"
) -> Model:
    """Return what a backend receives for a neuron."""
    if name is not None and name != neuron.name:  # its own may be `if`
        require_name("emit: name", name)
    program = lower(neuron, scheme)
    outputs = program.forward.result_names(Role.OUTPUT)
    return Model(
        name=neuron.name if name is None else name,
        family=neuron.name,
        program=program,
        states=tuple(s.decl for s in neuron.states),  # type: ignore[misc]
        inputs=tuple(s.name for s in neuron.inputs),
        params=neuron.params,
        outputs=outputs,
        equations=equations(neuron),
        dtype=dtype,
    )


def equations(neuron: Neuron) -> tuple[str, ...]:
    """Return the definition as lines of text: phase, symbol, expression."""
    lines = [f"charge  {s} <- {e}" for s, e in neuron.charge]
    lines += [f"fire    {s} = [{e} >= 0]" for s, e in neuron.fire]
    lines += [f"reset   {s} <- {e}" for s, e in neuron.reset]
    return (*lines, *(f"output  {name} = {e}" for name, e in neuron.output))
