"""`lnm.Rtl`: options of a circuit beside its arithmetic."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lnm_codegen.validation import require_integer, wrong

FORMS = ("comb", "core", "seq", "array")
"""One step a cycle with the state inside; pipelined; one multiplier; neurons in a memory."""

COEFFICIENTS = ("constant", "port", "memory")
MULTIPLIERS = ("generic", "ecp5")
MOST_NEURONS = 1 << 16
MOST_VECTORS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rtl:
    """Options by which a neuron becomes a circuit.

    Args:
        forms: Modules to write: "comb", "core", "seq", "array".
        neurons: Neurons of the array, 1 to 65536.
        coefficients: "constant" (in the source), "port" (inputs of every module) or "memory" (of
            the array, one row a channel; the other forms have ports).
        multiplier: "generic", or "ecp5" to instantiate its MULT18X18D with the output register.
        shift_add: A product with a constant of at most this many signed digits (canonical) becomes
            shifts and additions; 0 keeps every multiplier.
        vectors: Golden vectors of each testbench; the array has whole ticks of them.

    Raises:
        ModelError: A value that is not accepted.
    """

    forms: tuple[str, ...] = FORMS
    neurons: int = 256
    coefficients: str = "constant"
    multiplier: str = "generic"
    shift_add: int = 2
    vectors: int = 2000

    def __post_init__(self) -> None:
        """Validate every field, and sort the forms."""
        forms: Any = self.forms
        is_group = isinstance(forms, Collection) and not isinstance(forms, str)
        if not is_group or not forms or any(f not in FORMS for f in forms):
            raise wrong("Rtl", "forms", forms, f"some of {', '.join(FORMS)}")
        object.__setattr__(self, "forms", tuple(f for f in FORMS if f in forms))
        for word, accepted in (("coefficients", COEFFICIENTS), ("multiplier", MULTIPLIERS)):
            if getattr(self, word) not in accepted:
                raise wrong("Rtl", word, getattr(self, word), accepted)
        require_integer("Rtl", "neurons", self.neurons, 1, MOST_NEURONS)
        require_integer("Rtl", "shift_add", self.shift_add, 0, 32)
        require_integer("Rtl", "vectors", self.vectors, 1, MOST_VECTORS)
