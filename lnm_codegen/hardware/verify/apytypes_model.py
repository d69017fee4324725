"""Fixed-point kernels in the arithmetic of apytypes: an independent model of our own integers.

It shares only the kernel with the NumPy model. apytypes aligns binary points, rounds (RND, TRN,
RND_CONV) and saturates by itself.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, assert_never

import numpy as np

from lnm_codegen.errors import ToolError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.interpret import Array
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.types import Bits, Rounding

_MODES = {
    Rounding.HALF_UP: "RND", Rounding.TRUNCATE: "TRN", Rounding.CONVERGENT: "RND_CONV",
}  # fmt: skip


def run(kernel: fx.Kernel, values: Mapping[str, Any]) -> dict[str, Array]:
    """Evaluate a kernel from `quantize` elementwise, as `ir.fixed.interpret.run` does.

    `values` are integers for each input port, which broadcast to one axis. Results are integers, or
    booleans for a spike. Without apytypes a ToolError is raised.
    """
    try:
        import apytypes
    except ImportError:
        raise ToolError(
            "verify", "apytypes is not installed", remedy="Install it: pip install apytypes."
        ) from None
    model = _Model(apytypes, max(np.size(v) for v in values.values()))
    for port in kernel.inputs:
        given = values[port.var.name]
        kind = port.var.type
        model.env[port.var.name] = model.array(given, kind) if isinstance(kind, Bits) else given
    for let in kernel.body:
        model.env[let.target.name] = model.of(let.value)
    results = {p.var.name: model.env[p.var.name] for p in kernel.results}
    return {
        n: np.asarray(v) if isinstance(v, np.ndarray) else model.integers(v)
        for n, v in results.items()
    }


class _Model:
    def __init__(self, library: Any, lanes: int) -> None:
        self._library, self._lanes = library, lanes
        self.env: dict[str, Any] = {}

    def array(self, integers: Any, bits: Bits) -> Any:
        """Return an array of apytypes from integers."""
        spread = np.broadcast_to(np.asarray(integers, np.int64).reshape(-1), (self._lanes,))
        return self._library.APyFixedArray(spread.tolist(), frac_bits=bits.frac, bits=bits.width)

    def integers(self, array: Any) -> Array:
        """Return the integers of an array of apytypes."""
        width = array.bits
        unsigned = [int(k) for k in array.to_bits()]
        return np.array([k - (k >> (width - 1) << width) for k in unsigned], np.int64)

    def of(self, e: fx.Expr) -> Any:
        """Return the value of `e`: an array of apytypes, or NumPy booleans."""
        of = self.of
        match e:
            case fx.Const(integer, bits, _):
                return self.array(integer, bits)
            case fx.Var(name, _):
                return self.env[name]
            case fx.Negate(arg):
                return -of(arg)
            case fx.Sum(op, lhs, rhs):
                return of(lhs) + of(rhs) if op is SumOp.ADD else of(lhs) - of(rhs)
            case fx.Product(lhs, rhs):
                return of(lhs) * of(rhs)
            case fx.Shift(arg, places):
                value = of(arg)
                return value.cast(int_bits=value.int_bits, frac_bits=value.frac_bits + places)
            case fx.Round(arg, places, rounding):
                value = of(arg)
                mode = getattr(self._library.QuantizationMode, _MODES[rounding])
                return value.cast(
                    int_bits=value.int_bits + 1,
                    frac_bits=value.frac_bits - places,
                    quantization=mode,
                )
            case fx.Saturate(arg, width):
                value, mode = of(arg), self._library.OverflowMode.SAT
                return value.cast(bits=width, frac_bits=value.frac_bits, overflow=mode)
            case fx.Compare(compare, lhs, rhs):
                return np.asarray(getattr(operator, compare.name.lower())(of(lhs), of(rhs)))
            case fx.Not(arg):
                return ~of(arg)
            case fx.Both(lhs, rhs):
                return of(lhs) & of(rhs)
            case fx.Either(lhs, rhs):
                return of(lhs) | of(rhs)
            case fx.Select(cond, then, orelse):
                chosen = np.where(of(cond), self.integers(of(then)), self.integers(of(orelse)))
                return self.array(chosen, fx.bits_of(e))
            case _:
                assert_never(e)
