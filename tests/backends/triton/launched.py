"""Launch generated kernels on a GPU that is not here: Triton compiles, a stub records the launch.

Run as a script, without Triton's interpreter; it prints the launches. Unlike `compiled.py`, Triton
itself finds the types of the arguments, from a call of the module. Tensors are on PyTorch's device
"meta", so their sequences may have any length. With names of cases as arguments, their kernels pass
Triton's front end alone, in every type; the script prints how many.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from triton.compiler import ASTSource
from triton.runtime import driver
from triton.runtime.jit import JITFunction

import lnm_codegen as lnm
from lnm_codegen.backends.plan import BYTES, SIZES, Field
from tests.backends.triton.compiled import TARGETS
from tests.backends.triton.runs import Built, build
from tests.cases import CASES, ZOO

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
                "chunk": options.get("_CHUNK"),
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
    kinds = {"io": built.plan.dtype, "real": built.plan.real, "double": "float64"}
    numbers = {f"grad_{p.name}": p.size for p in built.plan.learnable}.get(field.name) or 1
    return torch.empty(numbers, dtype=getattr(torch, kinds[field.kind]), device="meta")


def launch(built: Built, neurons: int, absent: bool) -> None:
    """Call both directions of a module; every parameter has one value for all neurons."""
    sizes = dict(zip(SIZES, (5, neurons, 1, 1, neurons), strict=True))
    for direction in ("forward", "backward"):
        fields = getattr(built.plan, f"{direction}_fields")
        given = [argument(built, f, absent) for f in fields]
        getattr(built.module, direction)(*sizes.values(), *given)


class Translated(Exception):
    """A kernel has passed the front end."""


def translate(cases: list[str]) -> int:
    """Return how many kernels of these cases pass the front end, which finds all types."""
    translated: list[str] = []
    make_ir, run = ASTSource.make_ir, JITFunction.run

    def stopped(self: Any, *given: Any, **options: Any) -> Any:
        make_ir(self, *given, **options)
        translated.append(self.name)
        raise Translated

    def front_end(self: Any, *given: Any, grid: Any, warmup: bool, **options: Any) -> None:
        try:
            run(self, *given, grid=grid, warmup=True, **options)
        except Translated:
            pass

    ASTSource.make_ir, JITFunction.run = stopped, front_end
    for case in cases:
        for dtype in BYTES:
            built = build((CASES | ZOO)[case](), dtype)
            for absent in (False, True):
                launch(built, 1, absent)
    return len(translated)


def main() -> None:
    """Launch both directions of two neurons, or translate the cases that the arguments name."""
    driver.set_active(Driver())
    if cases := sys.argv[1:]:
        print(translate(cases))
        return
    JITFunction.run = recorded(JITFunction.run)
    launch(build(lnm.get("lif")), NEURONS, absent=True)
    launch(build(lnm.get("lnm", degree=1)), NEURONS, absent=False)
    print(json.dumps(FOUND))


if __name__ == "__main__":
    main()
