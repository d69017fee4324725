"""Step counter of the `_seq` form: conditions and selections by step and cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lnm_codegen.backends.verilog.expr import declared
from lnm_codegen.backends.verilog.sequence.values import ACCEPT

PHASES = ("_multiplying", "_adding", "_clamping")
"""Registers of the three cycles of a step."""


@dataclass(frozen=True, slots=True)
class Counter:
    """Step counter for `count` steps; a single step needs none."""

    count: int

    @property
    def width(self) -> int:
        """Bits of the counter."""
        return max(1, (self.count - 1).bit_length())

    def number(self, step: int) -> str:
        """Return a step as a literal."""
        return f"{self.width}'d{step}"

    def is_step(self, step: int) -> str:
        """Return the condition that this is a step."""
        return f"_step == {self.number(step)}" if self.count > 1 else "1'b1"

    def when(self, cycle: int) -> str:
        """Return the condition of a cycle: for ACCEPT, that the circuit can accept inputs."""
        if cycle == ACCEPT:
            return "in_ready"
        phase = PHASES[cycle % 3]
        return f"{phase} && {self.is_step(cycle // 3)}" if self.count > 1 else phase

    def selected(self, name: str, width: int, texts: Mapping[int, str]) -> list[str]:
        """Declare a number selected by the step; the most frequent text is the default."""
        found = list(texts.values())
        kinds = list(dict.fromkeys(found))
        if len(kinds) == 1:
            return [f"{declared('wire', name, width)} = {kinds[0]};"]
        most = max(kinds, key=found.count)
        return [
            f"{declared('reg', name, width)};",
            "always @(*)",
            "    case (_step)",
            *(f"        {self.number(k)}: {name} = {t};" for k, t in texts.items() if t != most),
            f"        default: {name} = {most};",
            "    endcase",
        ]


def block(lines: list[str]) -> list[str]:
    """Return an empty line and then the lines; nothing for no lines."""
    return ["", *lines] if lines else []
