"""Names in a kernel: fresh ones, temporaries, and which of them are spikes."""

from __future__ import annotations

from collections.abc import Iterable

from lnm_codegen.ir.nodes import Detach, Kernel, Spike, Var


class Names:
    """Fresh names in one kernel."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """Return `wanted`, or `wanted_2`, ... if it is taken, and take it."""
        name, k = wanted, 1
        while name in self._taken:
            k += 1
            name = f"{wanted}_{k}"
        self._taken.add(name)
        return name

    def numbered(self, prefix: str) -> str:
        """Return the next free `<prefix>0`, `<prefix>1`, ..., and take it."""
        k = 0
        while f"{prefix}{k}" in self._taken:
            k += 1
        self._taken.add(f"{prefix}{k}")
        return f"{prefix}{k}"

    def temporary(self) -> str:
        """Return the next free `t0`, `t1`, ..., which `inline` may do away with."""
        return self.numbered("t")


def names_of(kernel: Kernel) -> Names:
    """Return a source of names that the kernel does not use."""
    ports = [p.var.name for p in (*kernel.inputs, *kernel.results)]
    return Names([*ports, *(let.target.name for let in kernel.body)])


def is_temporary(name: str) -> bool:
    """Say whether a name was made by `Names.temporary`, so that it may be inlined."""
    return name[:1] == "t" and name[1:].isdigit()


def spikes_of(kernel: Kernel) -> dict[Var, Spike | None]:
    """Return the spike variables: each with its Spike, or None where it is detached."""
    found: dict[Var, Spike | None] = {}
    for let in kernel.body:
        if isinstance(let.value, Spike):
            found[let.target] = let.value
        elif isinstance(let.value, Detach) and let.value.arg in found:
            found[let.target] = None
    return found
