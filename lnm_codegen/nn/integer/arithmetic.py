"""A layer's forward in the integers of a circuit, its backward straight through.

Forward: x, states and parameters are rounded to the nearest numbers of their formats, ties up; the
integer model runs; what comes out is its integers as real numbers.

Backward: the adjoint of the step in floating point, at the states that the integer model visited,
the x that it saw, and the parameters as they are. Rounding passes a gradient as it is. Where x, or
an initial state, lay outside its format and was clipped, its gradient is 0; a saturation inside the
step passes its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lnm_codegen.compiler.arguments import extent_of, parameters_of
from lnm_codegen.compiler.fixed import prepared_integers, quantize
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.fixed.spec import FixedSpec, spec_of
from lnm_codegen.ir.types import Bits, Fixed
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.record import STATS

BACKENDS: Final = ("auto", "c", "torch")
"""What a layer in integers accepts."""


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """A neuron in fixed point, as a layer needs it; one for each layer, told apart by identity.

    Attributes:
        neuron: With what is recorded among its outputs.
        program: Its step in integers.
    """

    neuron: Neuron
    program: fx.Program

    def bits(self, name: str) -> Bits:
        """Return the format of an input or a state."""
        found = next(p.var.type for p in self.program.kernel.inputs if p.var.name == name)
        assert isinstance(found, Bits)
        return found

    def units(self) -> dict[str, float]:
        """Return what the integer 1 of each output stands for."""
        outputs = self.program.kernel.result_vars(ir.Role.OUTPUT)
        return {v.name: 2.0**-v.type.frac if isinstance(v.type, Bits) else 1.0 for v in outputs}

    def parameters(self, values: Sequence[Tensor], shape: Sequence[int]) -> dict[str, Array]:
        """Return what the kernel takes of the parameters: integers (1, 1), (C, 1) or (C, I).

        Args:
            values: The parameters in order, each (rows, size) or (rows).
            shape: (T, N, C, *) of the input.

        Raises:
            ModelError: One that does not fit its format; the message has its name and value.
        """
        names = [p.name for p in self.neuron.params]
        given = {n: v.detach().numpy() for n, v in zip(names, values, strict=True)}
        extent = extent_of(self.neuron.params, tuple(shape))
        raw = parameters_of(self.neuron, given, extent, np.dtype(np.float64))
        return prepared_integers(self.program, raw)


def arithmetic_of(
    neuron: Neuron, arithmetic: Any, backend: str, record: tuple[str, ...]
) -> Arithmetic | None:
    """Return the arithmetic of a layer; None for floating point.

    Args:
        neuron: With what is recorded among its outputs.
        arithmetic: A `Fixed`, a `FixedSpec` or None.
        backend: That of the layer.
        record: What the layer records.

    Raises:
        ModelError: Something else, or what a layer in integers cannot do.
        UnsupportedError: The neuron has no fixed-point form.
    """
    if arithmetic is None:
        return None
    if not isinstance(arithmetic, Fixed | FixedSpec):
        raise ModelError(
            "NeuronLayer",
            f"arithmetic is {arithmetic!r}",
            "lnm.Fixed(16, 12), an lnm.FixedSpec, or None for floating point",
        )
    if backend not in BACKENDS:
        raise ModelError(
            "NeuronLayer",
            f"backend is {backend!r}, which has no integers",
            remedy=f"Accepted with arithmetic: {', '.join(repr(b) for b in BACKENDS)}.",
        )
    if STATS in record:
        raise ModelError(
            "NeuronLayer",
            "record names 'stats', which floating-point kernels count",
            remedy=(
                "Accepted with arithmetic: names of states. Leave it out, or count what the layer "
                "returns."
            ),
        )
    spec = _with_recorded(neuron, record, spec_of(arithmetic, "NeuronLayer"))
    return Arithmetic(neuron, quantize(neuron, spec))


def _with_recorded(neuron: Neuron, record: tuple[str, ...], spec: FixedSpec) -> FixedSpec:
    """Give what is recorded the format of the node that it is."""
    wanted = {f"{state}_recorded" for state in record}
    found: Mapping[str, Fixed] = {
        let.target.name: spec[let.value.name]
        for let in lower(neuron).forward.body
        if let.target.name in wanted and isinstance(let.value, ir.Var)
    }
    named = dict(spec.nodes)
    return FixedSpec(spec.default, {**found, **named})


def check_device(arithmetic: Arithmetic, x: Tensor) -> None:
    """Raise ToolError unless the input is on the CPU."""
    if x.device.type != "cpu":
        raise ToolError(
            arithmetic.neuron.name,
            f"arithmetic in integers runs on the CPU; the input is on {x.device.type}",
            remedy="Move the layer and its input there, or leave arithmetic out.",
        )


def clipped(value: Tensor, bits: Bits) -> Tensor:
    """Say where a real number does not fit a format once it is rounded; NaN does not.

    Returns:
        Booleans of the shape of `value`; one alone, False, where everything fits.
    """
    unit = 2.0**-bits.frac
    low, high = (bits.low - 0.5) * unit, (bits.high + 0.5) * unit
    if value.numel():
        least, greatest = torch.aminmax(value)
        if least >= low and greatest < high:
            return value.new_zeros((), dtype=torch.bool)
    return torch.logical_not((value >= low) & (value < high))
