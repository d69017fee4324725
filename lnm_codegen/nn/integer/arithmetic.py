"""Integer arithmetic of a layer: the forward of a circuit, a straight-through backward.

Forward: x, states and parameters are rounded to the nearest numbers of their formats, ties up. The
integer model runs. Its integers are returned as real numbers.

Backward: the adjoint of the step in floating point, at the states of the integer model, the rounded
x and the unrounded parameters. Rounding passes the gradient unchanged. Where x or an initial state
was clipped to its format, its gradient is 0. A saturation inside the step passes its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.compiler.arguments import extent_of, parameters_of
from lnm_codegen.compiler.fixed import prepared_integers, program_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.types import Bits, Fixed, FixedSpec, spec_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import STATS, TYPES
from lnm_codegen.validation import listed, wrong

INTEGER_BACKENDS: Final = ("auto", "c", "torch")
"""Backends that a layer with integer arithmetic accepts."""
FLOAT32_BITS: Final = 25
"""Widest integer that float32 holds: its significand of 24 bits, and the sign."""


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """A neuron in fixed point. Each layer has its own, compared by identity.

    Attributes:
        neuron: The neuron with its records as outputs.
        program: Its step in integers.
        is_auto: The layer's backend is "auto".
    """

    neuron: Neuron
    program: fx.Program
    is_auto: bool

    def bits(self, name: str) -> Bits:
        """Return the format of an input or a state."""
        found = next(p.var.type for p in self.program.kernel.inputs if p.var.name == name)
        assert isinstance(found, Bits)
        return found

    def units(self) -> dict[str, float]:
        """Return output -> value of the integer 1."""
        outputs = self.program.kernel.result_vars(ir.Role.OUTPUT)
        return {v.name: 2.0**-v.type.frac if isinstance(v.type, Bits) else 1.0 for v in outputs}

    def parameters(self, values: Sequence[Tensor], shape: Sequence[int]) -> dict[str, Array]:
        """Return the prepared parameters, of an input (T, N, C, *), as (1, 1), (C, 1) or (C, I).

        Raises:
            ModelError: A parameter that does not fit its format.
        """
        params = self.neuron.step_params
        given = {p.name: v.detach().numpy() for p, v in zip(params, values, strict=True)}
        extent = extent_of(params, tuple(shape))
        raw = parameters_of(self.neuron, given, extent, np.dtype(np.float64), params)
        return prepared_integers(self.program, raw)


def arithmetic_of(
    neuron: Neuron, arithmetic: Any, backend: str, record: tuple[str, ...]
) -> Arithmetic | None:
    """Return the arithmetic of a layer; None for floating point.

    `neuron` has its records as outputs.

    Raises:
        ModelError: The value is not accepted, or the backend or a record has no integer arithmetic.
        UnsupportedError: The neuron has no fixed-point form.
    """
    if arithmetic is None:
        return None
    if not isinstance(arithmetic, Fixed | FixedSpec):
        accepted = "lnm.Fixed(16, 12), an lnm.FixedSpec, or None for floating point"
        raise wrong("NeuronLayer", "arithmetic", arithmetic, accepted)
    if backend not in INTEGER_BACKENDS:
        raise ModelError(
            "NeuronLayer",
            f"backend is {backend!r}, which has no integer arithmetic",
            listed(INTEGER_BACKENDS),
            "Change the backend, or leave arithmetic out.",
        )
    if STATS in record:
        raise ModelError(
            "NeuronLayer",
            f"record has {STATS!r}, which only floating-point kernels count",
            "names of states",
            "Leave it out, or count the outputs of the layer.",
        )
    spec = _with_recorded(neuron, record, spec_of(arithmetic, "NeuronLayer"))
    return Arithmetic(neuron, program_of(neuron, spec), backend == "auto")


def _with_recorded(neuron: Neuron, record: tuple[str, ...], spec: FixedSpec) -> FixedSpec:
    """Return the spec with formats of the records: those of the recorded states."""
    wanted = {f"{state}_recorded" for state in record}
    found: Mapping[str, Fixed] = {
        let.target.name: spec[let.value.name]
        for let in lower(neuron).forward.body
        if let.target.name in wanted and isinstance(let.value, ir.Var)
    }
    named = dict(spec.nodes)
    return FixedSpec(spec.default, {**found, **named})


def require_cpu(arithmetic: Arithmetic, x: Tensor) -> None:
    """Raise ToolError unless the input is on the CPU."""
    if x.device.type != "cpu":
        raise ToolError(
            arithmetic.neuron.name,
            f"integer arithmetic runs on the CPU; the input is on {x.device.type}",
            remedy="Move the layer and its input to the CPU, or leave arithmetic out.",
        )


def require_exact(arithmetic: Arithmetic, dtype: torch.dtype, returns_states: bool) -> None:
    """Raise ModelError unless the type of the arithmetic holds every number that leaves a call."""
    if dtype is not torch.float32:
        return
    roles = (ir.Role.OUTPUT, ir.Role.STATE) if returns_states else (ir.Role.OUTPUT,)
    for var in arithmetic.program.kernel.result_vars(*roles):
        if isinstance(var.type, Bits) and var.type.width > FLOAT32_BITS:
            raise ModelError(
                arithmetic.neuron.name,
                f"{var.name} has {var.type.width} bits, which float32 does not hold",
                f"at most {FLOAT32_BITS} bits",
                "Use an input and a layer of float64, or a narrower format.",
            )


def narrowed(
    arithmetic: Arithmetic, outputs: Sequence[Tensor], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Return outputs in the type of the sequence; a type of 16 bits holds spikes and few others.

    Raises:
        ModelError: The type would round an output.
    """
    found = tuple(out.to(dtype) for out in outputs)
    names = arithmetic.program.kernel.result_names(ir.Role.OUTPUT)
    for name, out, narrow in zip(names, outputs, found, strict=True):
        if narrow is not out and not torch.equal(narrow.to(out.dtype), out):
            raise ModelError(
                arithmetic.neuron.name,
                f"{name} has a number that {TYPES[dtype]} does not hold",
                f"{TYPES[dtype]} for spikes, float32 or float64 for other outputs",
                f"Use an input of float32, or a narrower format of {name}.",
            )
    return found


def clipped(value: Tensor, bits: Bits) -> Tensor:
    """Return where a number, rounded, does not fit a format; NaN does not.

    Returns:
        Booleans of the shape of `value`, or a single False where all numbers fit.
    """
    unit = 2.0**-bits.frac
    low, high = (bits.low - 0.5) * unit, (bits.high + 0.5) * unit
    if value.numel():
        least, greatest = torch.aminmax(value)
        if least >= low and greatest < high:
            return value.new_zeros((), dtype=torch.bool)
    return torch.logical_not((value >= low) & (value < high))
