"""Launch generated kernels on a GPU that is not here: Triton compiles, a stub records the launch.

Run as a script, without Triton's interpreter; it prints the launches. Unlike `compiled.py`, Triton
itself finds the types of the arguments, from a call of the module. Tensors are on PyTorch's device
"meta", so their sequences may have any length.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from triton.runtime import driver
from triton.runtime.jit import JITFunction

import lnm_codegen as lnm
from lnm_codegen.backends.plan import SIZES, Field
from tests.backends.triton.compiled import TARGETS
from tests.backends.triton.runs import Built, build

NEURONS = 1 << 33
FOUND: list[dict[str, Any]] = []


class Driver:
    """The part of a driver of Triton that compilation asks."""

    def get_current_target(self) -> Any:
        return TARGETS["sm_90"]

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def recorded(run: Any) -> Any:
    """Return `JITFunction.run` without the launch itself."""

    def compile_only(self: Any, *given: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(self, *given, grid=grid, warmup=True, **options)
        types = kernel.src.signature
        taken = dict(zip(self.arg_names, given, strict=False))
        FOUND.append(
            {
                "kernel": self.__name__, "grid": list(grid),
                "fused": kernel.metadata.enable_fp_fusion,
                "sizes": sorted({types[n] for n, v in taken.items() if isinstance(v, int)}),
                "absent": [n for n, v in taken.items() if v is None and types[n] == "constexpr"],
            }
        )  # fmt: skip
        return kernel

    return compile_only


def argument(built: Built, field: Field, absent: bool) -> Any:
    """Return an argument of a call; outputs that may be None are absent on request."""
    if field.kind == "int64_t":
        return NEURONS
    if absent and field.nullable:
        return None
    kinds = {"io": built.plan.model.dtype, "real": built.plan.model.real, "double": "float64"}
    return torch.empty(1, dtype=getattr(torch, kinds[field.kind]), device="meta")


def main() -> None:
    """Launch both directions of two neurons."""
    driver.set_active(Driver())
    JITFunction.run = recorded(JITFunction.run)
    sizes = dict(zip(SIZES, (5, NEURONS, 1, 1, NEURONS), strict=True))
    for neuron, absent in ((lnm.get("lif"), True), (lnm.get("lnm", degree=1), False)):
        built = build(neuron)
        for direction in ("forward", "backward"):
            fields = getattr(built.plan, f"{direction}_fields")
            given = [argument(built, f, absent) for f in fields]
            getattr(built.module, direction)(*sizes.values(), *given)
    print(json.dumps(FOUND))


if __name__ == "__main__":
    main()
