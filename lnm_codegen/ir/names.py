"""Names in a kernel: fresh ones, temporaries, and those of spikes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lnm_codegen.ir import kernel as generic
from lnm_codegen.ir.nodes import Detach, Kernel, Spike, Var


class Names:
    """Source of fresh names, none of which is `taken`."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._numbers: dict[tuple[str, int], int] = {}  # none below is free

    def fresh(self, wanted: str) -> str:
        """Return `wanted`, or `wanted_2`, `wanted_3`, ... if it is taken, and take it."""
        if wanted in self._taken:
            return self.numbered(f"{wanted}_", 2)
        self._taken.add(wanted)
        return wanted

    def numbered(self, prefix: str, start: int = 0) -> str:
        """Return the first free name of prefix and number, from `start` on, and take it."""
        k = self._numbers.get((prefix, start), start)
        while f"{prefix}{k}" in self._taken:
            k += 1
        self._numbers[prefix, start] = k + 1
        self._taken.add(f"{prefix}{k}")
        return f"{prefix}{k}"

    def temporary(self) -> str:
        """Return the first free of `t0`, `t1`, ..., which `inline` may remove."""
        return self.numbered("t")


def names_of(*kernels: generic.Kernel[Any, Any]) -> Names:
    """Return a source of names that the kernels do not use."""
    return Names(name for kernel in kernels for name in kernel.names)


def is_temporary(name: str) -> bool:
    """Report whether `Names.temporary` made a name, so that it may be inlined."""
    return name[:1] == "t" and name[1:].isdigit()


def spikes_of(kernel: Kernel) -> dict[Var, Spike | None]:
    """Return the spike variables: each with its Spike, or None if it is detached."""
    found: dict[Var, Spike | None] = {}
    for let in kernel.body:
        if isinstance(let.value, Spike):
            found[let.target] = let.value
        elif isinstance(let.value, Detach) and let.value.arg in found:
            found[let.target] = None
    return found
