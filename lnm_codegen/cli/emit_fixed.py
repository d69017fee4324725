"""Fixed-point options of `lnm emit`: formats, rounding, and the shape of a circuit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
from lnm_codegen.backends.base import MANIFEST, Source
from lnm_codegen.backends.fixed import COEFFICIENTS, FORMS, MULTIPLIERS, Rtl
from lnm_codegen.cli.options import FORMAT_HELP, ROUNDING_HELP, parse_format
from lnm_codegen.compiler.emit import fixed_model_of
from lnm_codegen.compiler.formats import load_spec
from lnm_codegen.errors import ModelError
from lnm_codegen.hardware.notes import rounded_note, width_note, zero_note
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.exchange import from_json
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.options import SchemeName
from lnm_codegen.validation import wrong

DEFAULT = "16.12"
"""The default format of a circuit."""

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT|FILE.toml",
        help=f"Fixed point: {FORMAT_HELP}, or a file that `lnm quantize` wrote. The default of"
        f" verilog is {DEFAULT}. With --run also auto, the smallest width on the run's data.",
    ),
]
OptionalRoundingOption = Annotated[
    str | None, typer.Option("--rounding", help=f"{ROUNDING_HELP}.  [default: half_up]")
]
FormsOption = Annotated[
    str | None,
    typer.Option("--forms", metavar="FORM,...", help=f"Forms of a circuit: {', '.join(FORMS)}."),
]
NeuronsOption = Annotated[
    int | None, typer.Option("--neurons", metavar="N", help="Neurons of an array.  [default: 256]")
]
CoefficientsOption = Annotated[
    str | None,
    typer.Option("--coefficients", help=f"Coefficients of a circuit: {', '.join(COEFFICIENTS)}."),
]
MultiplierOption = Annotated[
    str | None,
    typer.Option("--multiplier", help=f"Multiplier of a circuit: {', '.join(MULTIPLIERS)}."),
]
ShiftAddOption = Annotated[
    int | None,
    typer.Option(
        "--shift-add",
        metavar="DIGITS",
        help="Signed digits up to which a product with a constant becomes shifts and sums."
        "  [default: 2]",
    ),
]
VectorsOption = Annotated[
    int | None,
    typer.Option(
        "--vectors",
        metavar="N",
        help="Golden vectors of a circuit.  [default: 2000]  With --network: test samples of the"
        " example in C or of the testbench.  [default: 4, 8]",
    ),
]


@dataclass(frozen=True, slots=True)
class FixedOptions:
    """Format, if any, rounding, and the shape of a circuit."""

    spec: Fixed | FixedSpec | None
    rounding: str
    rtl: Rtl

    def options(self, backend: str) -> dict[str, Any]:
        """Return the arguments of `lnm.emit` for a backend."""
        if backend == "verilog":
            return {"spec": self.spec or parse_format(DEFAULT, self.rounding), "rtl": self.rtl}
        return {} if self.spec is None else {"spec": self.spec}


def fixed_options(
    backends: list[str],
    format_: str | None,
    rounding: str | None,
    circuit: dict[str, Any],
    typed: bool,
) -> FixedOptions:
    """Return the options of fixed point.

    Args:
        backends: Backends that are written.
        format_: `--format`.
        rounding: `--rounding`.
        circuit: Option -> field of `Rtl`, None if not given; `--forms` as text.
        typed: Whether `--dtype` is given.

    Raises:
        ModelError: Options that exclude each other, or a bad format.
    """
    given = {option: value for option, value in circuit.items() if value is not None}
    if given and "verilog" not in backends:
        option = next(iter(given))
        raise ModelError(
            "emit", f"{option} is for circuits", remedy=f"Add --backend verilog, or omit {option}."
        )
    if rounding is not None and format_ is None and "verilog" not in backends:
        raise ModelError("emit", "--rounding is for fixed point", remedy="Add --format 16.12, say.")
    if format_ is not None:
        for backend in backends:
            if backend not in FIXED_BACKENDS:
                raise ModelError(
                    "emit",
                    f"--format with backend {backend!r}, which has no fixed point",
                    FIXED_BACKENDS,
                    "Add --backend verilog, say.",
                )
    if typed and (format_ is not None or not BACKENDS.keys() & {*backends}):
        raise ModelError(
            "emit", "--dtype is for floating point", remedy="Omit --dtype or --format."
        )
    spec = None if format_ is None else _spec(format_, rounding)
    return FixedOptions(spec, rounding or "half_up", _rtl(given))


def _rtl(given: dict[str, Any]) -> Rtl:
    """Return the options of a circuit from those of the command, whose names errors have."""
    fields = {option.removeprefix("--").replace("-", "_"): v for option, v in given.items()}
    if "forms" in fields:
        fields["forms"] = tuple(word.strip() for word in fields["forms"].split(","))
    try:
        return Rtl(**fields)
    except ModelError as error:
        option = f"--{error.problem.partition(' ')[0].replace('_', '-')}"
        raise wrong("emit", option, given[option], error.accepted) from None


def print_circuit_notes(sources: Mapping[Path, Source]) -> None:
    """Print notes on the circuits of a run on standard error."""
    for place, source in sources.items():
        if MANIFEST not in source.files:
            continue
        manifest = json.loads(source.files[MANIFEST])
        program = from_json(source.files["program.json"], "program.json")
        integers, reals = (
            {c["name"]: c[key] for c in manifest["coefficients"]}
            for key in ("integers", "rounded_from")
        )
        _print_notes(place.name, program, integers, reals, width_note(program))


def print_fixed_notes(
    neurons: Sequence[tuple[str, Neuron]],
    backends: Sequence[str],
    scheme: SchemeName,
    fixed: FixedOptions,
) -> None:
    """Print notes on neurons in fixed point on standard error; on products, only of circuits."""
    specs = [options["spec"] for options in map(fixed.options, backends) if "spec" in options]
    for name, neuron in neurons if specs else ():
        model = fixed_model_of(neuron, specs[0], name=name, scheme=scheme)
        integers = {c.name: c.integers for c in model.coefficients}
        reals = {c.name: c.reals for c in model.coefficients}
        width = width_note(model.program) if "verilog" in backends else None
        _print_notes(name, model.program, integers, reals, width)


def _print_notes(
    name: str,
    program: fx.Program,
    integers: Mapping[str, Sequence[int]],
    reals: Mapping[str, Sequence[float]],
    width: str | None,
) -> None:
    for note in (zero_note(integers), rounded_note(program, integers, reals), width):
        if note is not None:
            typer.echo(f"note: {name}: {note}.", err=True)


def _spec(text: str, rounding: str | None) -> Fixed | FixedSpec:
    if not text.endswith(".toml"):
        return parse_format(text, rounding or "half_up")
    if rounding is not None:
        raise ModelError("emit", f"--rounding with {text}", remedy="Omit --rounding.")
    return load_spec(Path(text))
