"""`lnm.emit` and `lnm.package`: source for a neuron, in floating point or in fixed point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
from lnm_codegen.backends.base import DTYPES, Model, Source
from lnm_codegen.backends.names import require_no_header
from lnm_codegen.backends.package import backend as packages
from lnm_codegen.backends.rtl import Rtl
from lnm_codegen.compiler.model import fixed_model_of, model_of
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron
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
        source = BACKENDS[backend].emit(_model(neuron, name, dtype, scheme))
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
    return packages.package(_model(neuron, name, dtype, scheme), backend)


def _model(neuron: Neuron, name: str | None, dtype: DtypeName, scheme: SchemeName) -> Model:
    require_one_of("emit", "dtype", dtype, DTYPES)
    return model_of(neuron, name=name, dtype=dtype, scheme=scheme)


def _require_spec(backend: str, spec: Fixed | FixedSpec | None) -> Fixed | FixedSpec:
    if backend not in FIXED_BACKENDS:
        problem = f"backend is {backend!r}, which takes no spec and no values"
        accepted = f"in fixed point: {', '.join(FIXED_BACKENDS)}"
        raise ModelError("emit", problem, accepted, "Leave them out.")
    if spec is None:
        problem = f"backend {backend!r} works in fixed point, and spec is None"
        raise ModelError("emit", problem, remedy="Give spec=lnm.Fixed(16, 12), say.")
    return spec
