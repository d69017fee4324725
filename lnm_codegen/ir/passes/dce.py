"""Dead-code elimination, for kernels of either IR."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from lnm_codegen.ir.kernel import K, variables


def dce(kernel: K) -> K:
    """Drop every Let that no result needs."""
    needed = {p.var for p in kernel.results}
    kept = []
    for let in reversed(kernel.body):
        if let.target in needed:
            kept.append(let)
            needed |= variables(let.value)
    return replace(kernel, body=tuple(reversed(kept)))


def keep_results(kernel: K, names: Set[str]) -> K:
    """Return `kernel` with the results of these names and the Lets that they need."""
    results = tuple(p for p in kernel.results if p.var.name in names)
    return dce(replace(kernel, results=results))
