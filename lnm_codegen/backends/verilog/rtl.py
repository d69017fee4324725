"""`lnm.Rtl`: what a circuit is to look like, beside its arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lnm_codegen.errors import ModelError

FORMS = ("comb", "core", "seq", "array")
"""One update a cycle with the state inside; pipelined; one multiplier; neurons in a memory."""

COEFFICIENTS = ("constant", "port", "memory")
MULTIPLIERS = ("generic", "ecp5")
MOST_NEURONS = 1 << 16
MOST_VECTORS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rtl:
    """How a neuron becomes a circuit.

    Args:
        forms: Which modules are written: "comb", "core", "seq", "array".
        neurons: How many the array holds, 1 to 65536.
        coefficients: "constant" (in the source), "port" (inputs of every module) or "memory" (of
            the array, one row a channel; the other forms have ports).
        multiplier: "generic", or "ecp5" to instantiate its MULT18X18D with the output register.
        shift_add: A product with a constant of at most this many signed digits (canonical) becomes
            shifts and additions; 0 keeps every multiplier.
        vectors: Golden vectors of each testbench; the array's come in whole ticks.

    Raises:
        ModelError: A word or a number that is not among these.
    """

    forms: tuple[str, ...] = FORMS
    neurons: int = 256
    coefficients: str = "constant"
    multiplier: str = "generic"
    shift_add: int = 2
    vectors: int = 2000

    def __post_init__(self) -> None:
        """Check every field."""
        forms: Any = self.forms
        if isinstance(forms, str) or not forms or any(f not in FORMS for f in forms):
            raise ModelError("Rtl", f"forms is {forms!r}", f"some of {', '.join(FORMS)}")
        object.__setattr__(self, "forms", tuple(f for f in FORMS if f in forms))
        for word, accepted in (("coefficients", COEFFICIENTS), ("multiplier", MULTIPLIERS)):
            if getattr(self, word) not in accepted:
                raise ModelError("Rtl", f"{word} is {getattr(self, word)!r}", accepted)
        ranges = (("neurons", 1, MOST_NEURONS), ("shift_add", 0, 32), ("vectors", 1, MOST_VECTORS))
        for word, low, high in ranges:
            value = getattr(self, word)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ModelError("Rtl", f"{word} is {value!r}", f"{low} to {high}")
