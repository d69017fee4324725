"""Conditions and choices of the `_seq` form: what holds in a cycle, what hangs on the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lnm_codegen.backends.verilog.expr import declared
from lnm_codegen.backends.verilog.sequence.schedule import PHASES
from lnm_codegen.backends.verilog.sequence.values import ACCEPT


@dataclass(frozen=True, slots=True)
class Counter:
    """The step counter of a sequence of `count` steps; there is none for a single step."""

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
        return f"step == {self.number(step)}" if self.count > 1 else "1'b1"

    def when(self, cycle: int) -> str:
        """Return the condition that this is a cycle; inputs are taken as long as there is room."""
        if cycle == ACCEPT:
            return "in_ready"
        phase = PHASES[cycle % 3]
        return f"{phase} && {self.is_step(cycle // 3)}" if self.count > 1 else phase

    def chosen(self, name: str, width: int, texts: Mapping[int, str]) -> list[str]:
        """Declare a number that hangs on the step; what is chosen most is for all other steps."""
        found = list(texts.values())
        kinds = list(dict.fromkeys(found))
        if len(kinds) == 1:
            return [f"{declared('wire', name, width)} = {kinds[0]};"]
        most = max(kinds, key=found.count)
        return [
            f"{declared('reg', name, width)};",
            "always @(*)",
            "    case (step)",
            *(f"        {self.number(k)}: {name} = {t};" for k, t in texts.items() if t != most),
            f"        default: {name} = {most};",
            "    endcase",
        ]


def block(lines: list[str]) -> list[str]:
    """Return lines with an empty one before them, nothing for none."""
    return ["", *lines] if lines else []
