"""The keys under which Triton would compile the kernels for many shapes and views.

Without Triton's interpreter and without a GPU: the key is what a launch computes from its arguments
to find a compiled kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from triton.compiler import make_backend
from triton.runtime.jit import create_function_from_signature

import lnm_codegen as lnm
from tests.backends.triton.compiled import TARGETS, constants_of
from tests.backends.triton.runs import build

CALLS = ((0, 1, 0), (1, 16, 0), (4, 1500, 0), (17, 7, 1), (4096, 2**20, 0), (65536, 2**40, 3))


def keys() -> dict[str, Any]:
    """Count the keys of every kernel of `lnm` over `CALLS`: time steps, a size, an offset."""
    built = build(lnm.get("lnm", degree=4))
    backend, memory = make_backend(TARGETS["sm_90"]), torch.zeros(64)
    names = ("_forward_kernel", "_backward_kernel", "_sums_kernel")
    found, calls, specialized, kinds = set(), 0, [], set()
    for name in names:
        kernel = getattr(built.module, name)
        bind = create_function_from_signature(kernel.signature, kernel.params, backend)
        run_time = [p for p in kernel.params if not p.is_constexpr]
        specialized += [p.name for p in run_time if not p.do_not_specialize]
        kinds |= {p.annotation_type for p in run_time if p.annotation_type}
        for steps, size, offset in CALLS:
            values = [
                memory[offset:]
                if not p.annotation_type
                else steps if p.name == "time_steps" else size
                for p in run_time
            ]  # fmt: skip
            _, key, _ = bind(*values, **constants_of(built, name), num_warps=4)
            found.add((name, str(key)))
            calls += 1
    return {
        "kernels": len(names), "calls": calls, "keys": len(found),
        "specialized": specialized, "sizes": sorted(kinds),
    }  # fmt: skip
