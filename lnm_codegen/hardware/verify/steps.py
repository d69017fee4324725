"""The ladder of proofs and measurements of a circuit, from its folder alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lnm_codegen.errors import ModelError
from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.result import Rung
from lnm_codegen.hardware.verify.cocotb import cocotb
from lnm_codegen.hardware.verify.formal import formal
from lnm_codegen.hardware.verify.icarus import icarus
from lnm_codegen.hardware.verify.lint import lint
from lnm_codegen.hardware.verify.model import model
from lnm_codegen.hardware.verify.mutation import mutation
from lnm_codegen.hardware.verify.synthesis import synthesis
from lnm_codegen.hardware.verify.verilator import verilator
from lnm_codegen.validation import did_you_mean

RUNGS: dict[str, Callable[[Circuit], Rung]] = {
    "model": model,
    "lint": lint,
    "icarus": icarus,
    "cocotb": cocotb,
    "verilator": verilator,
    "formal": formal,
    "synthesis": synthesis,
    "mutation": mutation,
}
"""Every rung, in the order in which they are climbed."""

QUICK = ("model", "lint", "icarus")
"""Those of seconds."""

TOOLS = ("g++", "iverilog", "verilator", "yosys", "sby", "boolector")
"""Those whose versions the report names."""


def rungs_of(only: str | None, quick: bool = False) -> tuple[str, ...]:
    """Return the rungs that `--only` and `--quick` ask for.

    Raises:
        ModelError: A word that is no rung.
    """
    if only is None:
        return QUICK if quick else tuple(RUNGS)
    asked = [word.strip() for word in only.split(",") if word.strip()]
    wrong = [word for word in asked if word not in RUNGS]
    if wrong or not asked:
        word = wrong[0] if wrong else only
        raise ModelError(
            "verify", f"--only {word!r}: no such rung", RUNGS, did_you_mean(word, RUNGS)
        )
    return tuple(word for word in RUNGS if word in asked)


def climb(circuit: Circuit, words: Sequence[str]) -> Iterator[Rung]:
    """Yield the result of one rung after another."""
    for word in words:
        begun = time.monotonic()
        found = RUNGS[word](circuit)
        yield replace(found, seconds=time.monotonic() - begun)
