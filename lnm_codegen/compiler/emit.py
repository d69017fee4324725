"""`lnm.emit` and `lnm.package`: source for a neuron, in floating point or in fixed point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
from lnm_codegen.backends import package as packages
from lnm_codegen.backends.base import Source
from lnm_codegen.backends.fixed import Coefficient, FixedModel, FixedState, Rtl
from lnm_codegen.backends.names import require_no_header
from lnm_codegen.backends.plan import DTYPES, Plan
from lnm_codegen.compiler import fixed
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Extent, finest
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.nodes import Binary, BinaryOp, Expr, Kernel, Role, Var
from lnm_codegen.ir.passes.simplify import at_unit_gradient
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron, equations, slopes
from lnm_codegen.language.normalisation import channel_sums, input_correction
from lnm_codegen.language.symbols import require_name
from lnm_codegen.options import DtypeName, PackageName, SchemeName, TargetName
from lnm_codegen.validation import require_one_of, shown


def emit(
    neuron: Neuron,
    backend: TargetName,
    *,
    name: str | None = None,
    dtype: DtypeName = "float32",
    scheme: SchemeName = "horner",
    spec: Fixed | FixedSpec | None = None,
    values: Mapping[str, Any] | None = None,
    rtl: Rtl | None = None,
    stimulus: Mapping[str, Any] | None = None,
) -> Source:
    """Generate source for a neuron.

    Args:
        neuron: The definition.
        backend: "torch", "c", "triton", "cuda", "onnx", or "verilog".
        name: Name of the files and functions; the neuron's own by default.
        dtype: Of sequences, if the target is typed: "float32", "float64", "bfloat16" or
            "float16"; the arithmetic of the last two is float32.
        scheme: "horner" or "estrin".
        spec: For fixed point: one format for every node, `lnm.Fixed(16, 12)`, or an
            `lnm.FixedSpec`. "verilog" needs one; "c" with one is the integer model.
        values: In fixed point, parameters by name, as for `lnm.interpret`; the declared `init`
            otherwise.
        rtl: For "verilog": the modules and their options; `lnm.Rtl()` otherwise.
        stimulus: For an array of "verilog": input -> real numbers (sequences, ticks, neurons) of
            its golden vectors, each sequence from the initial states; drawn otherwise.

    Returns:
        The files, path -> text; `.write(folder)` writes them.

    Raises:
        ModelError: No neuron, a reserved name, an unknown backend, type or scheme; in fixed point a
            number that does not fit its format.
        ShapeError: Values or a stimulus of other shapes.
        UnsupportedError: The target cannot express the neuron.
    """
    require_one_of("emit", "backend", backend, get_args(TargetName))
    require_neuron("emit", neuron)
    in_floating_point = all(given is None for given in (spec, values, rtl, stimulus))
    if in_floating_point and backend in BACKENDS:
        source = BACKENDS[backend].emit(_plan(neuron, name, dtype, scheme))
        require_no_header(f"emit: {name or neuron.name}", source.files)
        return source
    if rtl is not None and (backend != "verilog" or not isinstance(rtl, Rtl)):
        problem = f"rtl is {shown(rtl)} for backend {backend!r}"
        raise ModelError("emit", problem, "an lnm.Rtl, for 'verilog'")
    formats = _require_spec(backend, spec)
    model = fixed_model_of(
        neuron, formats, name=name, scheme=scheme, values=values, rtl=rtl, stimulus=stimulus
    )
    return FIXED_BACKENDS[backend].emit(model)


def package(
    neuron: Neuron,
    backend: PackageName,
    *,
    name: str | None = None,
    dtype: DtypeName = "float32",
    scheme: SchemeName = "horner",
) -> Source:
    """Generate an installable folder: a function, a layer, sources and a numeric test.

    It depends on PyTorch (and Triton for "triton") alone.

    Args:
        neuron: The definition.
        backend: "c", "triton" or "cuda".
        name: Name of the package; the neuron's own by default.
        dtype: As for `emit`.
        scheme: As for `emit`.

    Raises:
        ModelError: An unknown backend, type or scheme.
        UnsupportedError: The target, or a package, cannot express the neuron.
    """
    require_neuron("package", neuron)
    return packages.package(_plan(neuron, name, dtype, scheme), backend)


def _plan(neuron: Neuron, name: str | None, dtype: DtypeName, scheme: SchemeName) -> Plan:
    require_one_of("emit", "dtype", dtype, DTYPES)
    return plan_of(neuron, name=name, dtype=dtype, scheme=scheme)


def _require_spec(backend: str, spec: Fixed | FixedSpec | None) -> Fixed | FixedSpec:
    if backend not in FIXED_BACKENDS:
        problem = f"backend is {backend!r}, which takes no spec and no values"
        accepted = f"in fixed point: {', '.join(FIXED_BACKENDS)}"
        raise ModelError("emit", problem, accepted, "Leave them out.")
    if spec is None:
        problem = f"backend {backend!r} works in fixed point, and spec is None"
        raise ModelError("emit", problem, remedy="Give spec=lnm.Fixed(16, 12), say.")
    return spec


# A neuron as a backend receives it: a plan in floating point, a model in fixed point.


def plan_of(
    neuron: Neuron,
    *,
    name: str | None = None,
    dtype: DtypeName = "float32",
    scheme: SchemeName = "horner",
) -> Plan:
    """Return the plan of a neuron in floating point; see `emit` for the arguments."""
    program = lower(neuron, scheme)
    definition = equations(neuron)
    if neuron.name == channel_sums.__name__ and neuron is channel_sums():
        program = at_unit_gradient(program)
        definition = (*definition, "backward takes the gradient of y as 1")
    own_name = _name(neuron, name)
    passes = (channel_sums(), input_correction()) if neuron.prologue else ()
    return Plan(
        name=own_name,
        family=neuron.name,
        program=program,
        declared_states=tuple(s.decl for s in neuron.states),  # type: ignore[misc]
        inputs=tuple(s.name for s in neuron.inputs),
        params=neuron.step_params,
        layer_params=neuron.params,
        outputs=program.forward.result_names(Role.OUTPUT),
        equations=definition,
        slopes=slopes(neuron),
        dtype=dtype,
        prologue=neuron.prologue,
        passes=tuple(plan_of(p, name=f"{own_name}_{p.name}", dtype=dtype) for p in passes),
    )


def fixed_model_of(
    neuron: Neuron,
    spec: Fixed | FixedSpec,
    *,
    name: str | None = None,
    scheme: SchemeName = "horner",
    values: Mapping[str, Any] | None = None,
    rtl: Rtl | None = None,
    stimulus: Mapping[str, Any] | None = None,
) -> FixedModel:
    """Return the model of a neuron in fixed point; see `emit` for the arguments.

    Raises:
        ModelError: As for `quantize`, with these values; a reserved name; a value or an initial
            state that does not fit its format.
        ShapeError: `stimulus` is not one array (sequences, ticks, neurons) for each input.
        UnsupportedError: As for `quantize`; a parameter per neuron.
    """
    own_name, rtl = _name(neuron, name), rtl or Rtl()
    program, given = fixed.program_of(neuron, spec, scheme), values or {}
    if finest(p.per for p in neuron.params) == "neuron":
        problem = f"{', '.join(p.name for p in neuron.params if p.per == 'neuron')} per neuron"
        accepted = "per='layer' or per='channel'"
        raise UnsupportedError(neuron.name, f"{problem} has no circuit", accepted)
    channels = fixed.channels_of(neuron, given)
    own = fixed.fixed_neuron(neuron, program, given, (channels,))
    coefficients, states = _coefficients(own), _states(own)
    drive = None if stimulus is None else _stimulus(neuron, stimulus, rtl.neurons)
    if drive is None or rtl.neurons % channels:
        own.require_needed()
    else:
        extent = Extent(1, channels, rtl.neurons // channels)
        replace(own, extent=extent).require_needed(
            {name: np.swapaxes(x, 0, 1) for name, x in drive.items()}
        )
    return FixedModel(
        name=own_name,
        family=neuron.name,
        program=program,
        states=states,
        coefficients=coefficients,
        equations=equations(neuron),
        rtl=rtl,
        stimulus=None
        if drive is None
        else {n: fixed.integers(x, program.kernel.bits(n)) for n, x in drive.items()},
    )


def _name(neuron: Neuron, name: str | None) -> str:
    if name is None or name == neuron.name:  # the name of a family may be reserved: `if`
        return neuron.name
    return require_name("emit: name", name)


def _states(own: fixed.FixedNeuron) -> tuple[FixedState, ...]:
    """Return the states with their initial values, one for every neuron of a circuit."""
    found = []
    for name, array in own.initial().items():
        values = np.unique(array)
        if len(values) > 1:
            problem = f"the initial value of state {name!r} has {len(values)} values"
            problem += ", and a circuit begins with one"
            accepted, remedy = "one value in the format", "Use per='layer'."
            raise UnsupportedError(own.neuron.name, problem, accepted, remedy)
        found.append(FixedState(name, own.program.kernel.bits(name), int(values[0])))
    return tuple(found)


def _coefficients(own: fixed.FixedNeuron) -> tuple[Coefficient, ...]:
    formula = formulas(own.program.prepare)
    return tuple(
        Coefficient(
            name,
            own.program.kernel.bits(name),
            tuple(int(k) for k in array.reshape(-1)),
            tuple(float(r) for r in np.broadcast_to(own.reals[name], array.shape).reshape(-1)),
            formula.get(name, ""),
        )
        for name, array in own.coefficients().items()
    )


def _stimulus(neuron: Neuron, stimulus: Mapping[str, Any], neurons: int) -> dict[str, Array]:
    """Return real numbers (sequences, ticks, neurons) by input, or raise ShapeError."""
    names = [s.name for s in neuron.inputs]
    arrays = {name: np.asarray(value, np.float64) for name, value in stimulus.items()}
    shapes = {array.shape for array in arrays.values()}
    shape = next(iter(shapes), ())
    sound = len(shapes) == 1 and len(shape) == 3 and min(shape) > 0 and shape[2] == neurons
    if sorted(arrays) != sorted(names) or not sound:
        given = ", ".join(f"{n} {a.shape}" for n, a in arrays.items()) or "empty"
        raise ShapeError(
            neuron.name,
            f"stimulus is {given}",
            f"for each of {', '.join(names)} an array (sequences, ticks, {neurons})",
        )
    return arrays


# Formulas of prepared parameters as text, for comments.


def formulas(prepare: Kernel) -> dict[str, str]:
    """Return the value of each computed result by name, in declared parameters and other results.

    inv_tau of `lif` is 1 / tau, say. Declared parameters have no formula.
    """
    results = {port.var for port in prepare.results}
    table: dict[Var, Expr] = {}
    found: dict[str, str] = {}
    for let in prepare.body:
        value = ir.substitute(let.value, table)
        if let.target in results:
            found[let.target.name] = ir.expr_text(_without_fma(value))
        else:
            table[let.target] = value
    return found


def _without_fma(e: Expr) -> Expr:
    """Return `e` with a*b + c for fma(a, b, c)."""
    e = ir.map_children(e, _without_fma)
    if isinstance(e, ir.Fma):
        a, b, c = ir.children(e)
        return Binary(BinaryOp.ADD, Binary(BinaryOp.MUL, a, b), c)
    return e
