"""`lnm.emit` and `lnm.package`: source for a neuron, in floating point or in fixed point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
from lnm_codegen.backends.base import DTYPES, Model, Source
from lnm_codegen.backends.verilog.rtl import Rtl
from lnm_codegen.compiler.fixed import fixed_model_of
from lnm_codegen.compiler.pipeline import model_of
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.types import Fixed
from lnm_codegen.language.family import require_neuron
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.validation import did_you_mean


def emit(
    neuron: Neuron,
    backend: str,
    *,
    name: str | None = None,
    dtype: str = "float32",
    scheme: str = "horner",
    spec: Fixed | FixedSpec | None = None,
    values: Mapping[str, Any] | None = None,
    rtl: Rtl | None = None,
    stimulus: Mapping[str, Any] | None = None,
) -> Source:
    """Generate source for a neuron.

    Args:
        neuron: The definition.
        backend: "torch", "c", "triton", "cuda", or "verilog".
        name: Name of the files and functions; the neuron's own by default.
        dtype: Of sequences, where the target is typed: "float32", "float64", "bfloat16" or
            "float16"; the arithmetic of the last two is float32.
        scheme: "horner" or "estrin".
        spec: For fixed point: one format for every node, `lnm.Fixed(16, 12)`, or an
            `lnm.FixedSpec`. "verilog" needs one; "c" with one is the integer model.
        values: In fixed point, parameters by name, as for `lnm.interpret`; the declared `init`
            otherwise.
        rtl: For "verilog": which modules, and how; `lnm.Rtl()` otherwise.
        stimulus: For an array of "verilog": input -> real numbers (sequences, ticks, neurons) that
            its golden vectors are made of, each sequence from the initial states; drawn otherwise.

    Returns:
        The files, path -> text; `.write(folder)` writes them.

    Raises:
        ModelError: No neuron, a name that is reserved, an unknown backend, type or scheme; in fixed
            point a number that does not fit its format.
        ShapeError: Values or a stimulus of other shapes.
        UnsupportedError: The target cannot express the neuron.
    """
    _check_backend(backend, (*BACKENDS, *FIXED_BACKENDS))
    plain = spec is None and values is None and rtl is None and stimulus is None
    if plain and backend not in FIXED_BACKENDS.keys() - BACKENDS.keys():
        model = _model_for(neuron, backend, name, dtype, scheme)
        return BACKENDS[backend].emit(model)
    require_neuron("emit", neuron)
    _check_fixed(backend, spec, rtl)
    fixed = fixed_model_of(
        neuron, spec, name=name, scheme=scheme, values=values, rtl=rtl, stimulus=stimulus
    )
    return FIXED_BACKENDS[backend].emit(fixed)


def _check_backend(backend: Any, accepted: tuple[str, ...]) -> None:
    if not isinstance(backend, str) or backend not in accepted:
        raise ModelError(
            "emit",
            f"backend is {backend!r}",
            dict.fromkeys(accepted),
            did_you_mean(str(backend), accepted),
        )


def _check_fixed(backend: str, spec: Any, rtl: Any) -> None:
    if backend not in FIXED_BACKENDS:
        raise ModelError(
            "emit",
            f"backend is {backend!r}, which takes no spec and no values",
            remedy=f"Accepted in fixed point: {', '.join(FIXED_BACKENDS)}. Leave them out.",
        )
    if spec is None:
        raise ModelError(
            "emit",
            f"backend {backend!r} works in fixed point, and spec is None",
            remedy="Give spec=lnm.Fixed(16, 12), say.",
        )
    if rtl is not None and (backend != "verilog" or not isinstance(rtl, Rtl)):
        raise ModelError(
            "emit", f"rtl is {rtl!r} for backend {backend!r}", "an lnm.Rtl, for 'verilog'"
        )


def _model_for(neuron: Neuron, backend: str, name: str | None, dtype: str, scheme: str) -> Model:
    """Check the arguments of `emit` and return the model that they ask for."""
    require_neuron("emit", neuron)
    _check_backend(backend, tuple(BACKENDS))
    if dtype not in DTYPES:
        accepted = ", ".join(repr(d) for d in DTYPES)
        raise ModelError("emit", f"dtype is {dtype!r}", accepted)
    return model_of(neuron, name=name, dtype=dtype, scheme=scheme)


def package(
    neuron: Neuron,
    backend: str,
    *,
    name: str | None = None,
    dtype: str = "float32",
    scheme: str = "horner",
) -> Source:
    """Generate an installable folder: a function, a layer, sources and a numeric test.

    It depends on PyTorch (and Triton for "triton") alone.

    Args:
        neuron: The definition.
        backend: "c", "triton" or "cuda".
        name: Of the package; the neuron's own by default.
        dtype: Of sequences; see `emit`.
        scheme: "horner" or "estrin".

    Raises:
        ModelError: An unknown backend, type or scheme.
        UnsupportedError: The target, or a package, cannot express the neuron.
    """
    from lnm_codegen.backends.package.backend import package as packaged

    return packaged(_model_for(neuron, backend, name, dtype, scheme), backend)
