"""`lnm emit` and `lnm package`: source of a neuron in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

import lnm_codegen.compiler.emit as emission
from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
from lnm_codegen.backends.fixed import (
    FORMS,
    CoefficientsName,
    MultiplierName,
    Neurons,
    Rtl,
    ShiftAdd,
    ThroughName,
    Vectors,
)
from lnm_codegen.cli.options import Meta, Settings, family_arguments, parse_format, parse_words
from lnm_codegen.cli.output import write_together
from lnm_codegen.compiler.formats import load_spec
from lnm_codegen.errors import ModelError
from lnm_codegen.families.library import resolve
from lnm_codegen.hardware.notes import rounded_note, width_note, zero_note
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import require_name
from lnm_codegen.options import DtypeName, PackageName, SchemeName, TargetName

DEFAULT = "16.12"
"""The default format of a circuit."""
FLOATING = ",".join(BACKENDS)
"""Backends that are written by default."""
MOST_DEGREES = 64


def emit(
    family: str,
    /,
    *,
    out: Annotated[Path, Meta("DIR")],
    degree: Annotated[str | None, Meta("D|D..D")] = None,
    backend: Annotated[str, Meta("NAME,...")] = FLOATING,
    dtype: DtypeName = "float32",
    scheme: SchemeName = "horner",
    name: Annotated[str | None, Meta("NAME")] = None,
    set_: Settings = None,
    format_: Annotated[str | None, Meta("FORMAT|FILE.toml")] = None,
    rounding: str | None = None,
    forms: Annotated[str | None, Meta("FORM,...")] = None,
    neurons: Annotated[Neurons | None, Meta("N")] = None,
    through: ThroughName | None = None,
    coefficients: CoefficientsName | None = None,
    multiplier: MultiplierName | None = None,
    shift_add: Annotated[ShiftAdd | None, Meta("DIGITS")] = None,
    vectors: Annotated[Vectors | None, Meta("N")] = None,
) -> None:
    """Write source for a neuron.

    The files go to DIR/<backend>/<name>/; their paths are printed, one a line. With --degree the
    name is <family>_degree<D>, so that several can be linked into one program. All files are
    generated before the first is written. With --format, backend c writes the integer model.

    Options:
        out: Folder to write into.
        degree: A degree, or a range: 1..4.
        backend: Of torch, c, triton, cuda, onnx, verilog.
        name: Name of files and functions. [default: the neuron's]
        format_: Fixed point: 16.12 (width.fraction) or Q4.12 for every node, or a file that `lnm
            quantize` wrote. The default of verilog is 16.12.
        forms: Forms of a circuit: comb, core, seq, array.
        neurons: Neurons of an array. [default: 256]
        through: Module that the neurons of an array pass through: core, a neuron a cycle, or seq,
            one multiplier. [default: core]
        coefficients: Coefficients of a circuit.
        multiplier: Multiplier of a circuit.
        shift_add: Signed digits up to which a product with a constant becomes shifts and sums.
            [default: 2]
        vectors: Golden vectors of a circuit. [default: 2000]
    """
    backends = list(dict.fromkeys(word.strip() for word in backend.split(",")))
    circuit: dict[str, Any] = {
        "forms": None if forms is None else parse_words("emit", "--forms", forms, FORMS),
        "neurons": neurons, "through": through, "coefficients": coefficients,
        "multiplier": multiplier, "shift_add": shift_add, "vectors": vectors,
    }  # fmt: skip
    circuit = {word: value for word, value in circuit.items() if value is not None}
    spec = _spec(backends, format_, rounding, dtype, circuit)
    options: dict[str, dict[str, Any]] = {
        target: {} if spec is None else {"spec": spec} for target in backends
    }
    if "verilog" in backends:
        default = spec or parse_format(DEFAULT, rounding or "half_up")
        options["verilog"] = {"spec": default, "rtl": Rtl(**circuit)}
    models = _neurons(family, degree, name, set_)
    sources = {
        Path(target) / title: emission.emit(
            neuron, cast("TargetName", target), name=title, dtype=dtype, scheme=scheme, **given
        )
        for title, neuron in models
        for target, given in options.items()
    }
    for path in write_together(sources, out):
        typer.echo(path)
    formats = [given["spec"] for given in options.values() if "spec" in given]
    for title, neuron in models if formats else ():
        model = emission.fixed_model_of(neuron, formats[0], name=title, scheme=scheme)
        integers = {c.name: c.integers for c in model.coefficients}
        reals = {c.name: c.reals for c in model.coefficients}
        width = width_note(model.program) if "verilog" in backends else None
        print_notes(title, model.program, integers, reals, width)


def package(
    family: str,
    /,
    *,
    backend: PackageName,
    out: Annotated[Path, Meta("DIR")],
    degree: Annotated[str | None, Meta("D|D..D")] = None,
    dtype: DtypeName = "float32",
    scheme: SchemeName = "horner",
    name: Annotated[str | None, Meta("NAME")] = None,
    set_: Settings = None,
) -> None:
    """Write a folder that pip installs.

    DIR (for a range of degrees DIR/<name>) has function, layer, sources and a numeric test of the
    neuron. It does not need this package.

    Options:
        backend: Language of the kernels.
        out: Folder to write into.
        degree: A degree, or a range: 1..4.
        name: Name of files and functions. [default: the neuron's]
    """
    models = _neurons(family, degree, name, set_)
    sources = {
        Path(title if len(models) > 1 else "."): emission.package(
            neuron, backend, name=title, dtype=dtype, scheme=scheme
        )
        for title, neuron in models
    }
    for path in write_together(sources, out, "package"):
        typer.echo(path)


def _spec(
    backends: list[str],
    format_: str | None,
    rounding: str | None,
    dtype: str,
    circuit: Mapping[str, Any],
) -> Fixed | FixedSpec | None:
    """Return the format, if any; raise ModelError for options that no backend reads."""
    if circuit and "verilog" not in backends:
        option = f"--{next(iter(circuit)).replace('_', '-')}"
        remedy = f"Add --backend verilog, or omit {option}."
        raise ModelError("emit", f"{option} is for circuits", remedy=remedy)
    if rounding is not None and format_ is None and "verilog" not in backends:
        raise ModelError("emit", "--rounding is for fixed point", remedy="Add --format 16.12, say.")
    for target in backends if format_ is not None else ():
        if target not in FIXED_BACKENDS:
            problem = f"--format with backend {target!r}, which has no fixed point"
            raise ModelError("emit", problem, FIXED_BACKENDS, "Add --backend verilog, say.")
    if dtype != "float32" and (format_ is not None or not BACKENDS.keys() & {*backends}):
        remedy = "Omit --dtype or --format."
        raise ModelError("emit", "--dtype is for floating point", remedy=remedy)
    if format_ is None:
        return None
    if not format_.endswith(".toml"):
        return parse_format(format_, rounding or "half_up")
    if rounding is not None:
        raise ModelError("emit", f"--rounding with {format_}", remedy="Omit --rounding.")
    return load_spec(Path(format_))


def print_notes(
    name: str,
    program: fx.Program,
    integers: Mapping[str, Sequence[int]],
    reals: Mapping[str, Sequence[float]],
    width: str | None,
) -> None:
    """Print notes on a neuron in fixed point on standard error."""
    for note in (zero_note(integers), rounded_note(program, integers, reals), width):
        if note is not None:
            typer.echo(f"note: {name}: {note}.", err=True)


def _neurons(
    family: str, degree: str | None, name: str | None, settings: list[str] | None
) -> list[tuple[str, Neuron]]:
    """Return each neuron with the name of its files."""
    if name is not None:
        require_name("--name", name)
    degrees, several = parse_degrees(degree)
    found = []
    for d in degrees:
        neuron = resolve(family, **family_arguments(settings, d))
        stem = name or neuron.name
        numbered = d is not None and (several or name is None)
        found.append((f"{stem}_degree{d}" if numbered else stem, neuron))
    return found


def parse_degrees(text: str | None) -> tuple[list[int | None], bool]:
    """Return the degrees in `--degree`, and whether it is a range.

    Raises:
        ModelError: Neither an integer >= 0 nor a range low..high.
    """
    if text is None:
        return [None], False
    match = re.fullmatch(r"(\d{1,4})(?:\.\.(\d{1,4}))?", text, re.ASCII)
    if match is None:
        raise ModelError(f"--degree {text!r}", "not a degree", "an integer, or a range as in 1..4")
    low, high = int(match[1]), int(match[2] or match[1])
    if not low <= high < low + MOST_DEGREES:
        problem = f"the range is {'empty' if low > high else 'too long'}"
        accepted = f"low..high with low <= high, at most {MOST_DEGREES} degrees"
        raise ModelError(f"--degree {text!r}", problem, accepted)
    return list(range(low, high + 1)), match[2] is not None
