"""What `lnm emit` takes for fixed point: formats, and how a circuit is to look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
from lnm_codegen.backends.verilog.rtl import COEFFICIENTS, FORMS, MULTIPLIERS, Rtl
from lnm_codegen.cli.options import parse_format
from lnm_codegen.compiler.formats import load_spec
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.types import Fixed

DEFAULT = "16.12"
"""The format of a circuit where none is given."""

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT|FILE.toml",
        help="Fixed point: 16.12 (width.fraction) or Q4.12 for every node, or a file that `lnm"
        f" quantize` wrote; verilog takes {DEFAULT} where none is given. With --run also auto, the"
        " least width on the run's data.",
    ),
]
RoundingOption = Annotated[
    str | None, typer.Option("--rounding", help="half_up (by default), truncate or convergent.")
]
FormsOption = Annotated[
    str | None,
    typer.Option("--forms", metavar="FORM,...", help=f"Of a circuit: {', '.join(FORMS)}."),
]
NeuronsOption = Annotated[
    int | None, typer.Option("--neurons", metavar="N", help="Of a circuit's array; 256 by default.")
]
CoefficientsOption = Annotated[
    str | None,
    typer.Option("--coefficients", help=f"Of a circuit: {', '.join(COEFFICIENTS)}."),
]
MultiplierOption = Annotated[
    str | None, typer.Option("--multiplier", help=f"Of a circuit: {', '.join(MULTIPLIERS)}.")
]
ShiftAddOption = Annotated[
    int | None,
    typer.Option(
        "--shift-add",
        metavar="DIGITS",
        help="A product with a constant of so many signed digits is shifts and sums; 2 by default.",
    ),
]
VectorsOption = Annotated[
    int | None,
    typer.Option("--vectors", metavar="N", help="Golden vectors of a circuit; 2000 by default."),
]


@dataclass(frozen=True, slots=True)
class FixedChoice:
    """What was asked for: the format, if any, how to round, and how a circuit is to look."""

    spec: Fixed | FixedSpec | None
    rounding: str
    rtl: Rtl

    def options(self, backend: str) -> dict[str, Any]:
        """Return the arguments of `lnm.emit` for a backend."""
        if backend == "verilog":
            return {"spec": self.spec or parse_format(DEFAULT, self.rounding), "rtl": self.rtl}
        return {} if self.spec is None else {"spec": self.spec}


def fixed_choice(
    backends: list[str],
    format_: str | None,
    rounding: str | None,
    circuit: dict[str, Any],
    typed: bool,
) -> FixedChoice:
    """Return what the options of fixed point ask for.

    Args:
        backends: What is written.
        format_: `--format`.
        rounding: `--rounding`.
        circuit: Options -> fields of `Rtl`, None where one was not given; `--forms` as text.
        typed: Whether a type of floating point was given.

    Raises:
        ModelError: Options that do not go together, a format that there is not.
    """
    given = {option: value for option, value in circuit.items() if value is not None}
    if given and "verilog" not in backends:
        option = next(iter(given))
        raise ModelError(
            "emit", f"{option} is for circuits", remedy="Add --backend verilog, or leave it out."
        )
    if rounding is not None and format_ is None and "verilog" not in backends:
        raise ModelError("emit", "--rounding is for fixed point", remedy="Add --format 16.12, say.")
    if format_ is not None:
        for backend in backends:
            if backend not in FIXED_BACKENDS:
                raise ModelError(
                    "emit",
                    f"--format is for fixed point, which backend {backend!r} has not",
                    FIXED_BACKENDS,
                    "Add --backend verilog, say.",
                )
    if typed and (format_ is not None or not BACKENDS.keys() & {*backends}):
        raise ModelError(
            "emit", "--dtype is for floating point", remedy="Leave it or --format out."
        )
    if "--forms" in given:
        given["--forms"] = tuple(word.strip() for word in given["--forms"].split(","))
    spec = None if format_ is None else _spec(format_, rounding)
    rtl = Rtl(**{o.removeprefix("--").replace("-", "_"): v for o, v in given.items()})
    return FixedChoice(spec, rounding or "half_up", rtl)


def _spec(text: str, rounding: str | None) -> Fixed | FixedSpec:
    if not text.endswith(".toml"):
        return parse_format(text, rounding or "half_up")
    if rounding is not None:
        raise ModelError("emit", f"--rounding stands in {text}", remedy="Leave it out.")
    return load_spec(Path(text))
