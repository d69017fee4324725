"""`lnm emit`: generated source in a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, cast

import typer

import lnm_codegen.compiler.emit as emission
from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
from lnm_codegen.backends.base import Source
from lnm_codegen.cli.emit_fixed import (
    DEFAULT,
    CoefficientsOption,
    FixedOptions,
    FormatOption,
    FormsOption,
    MultiplierOption,
    NeuronsOption,
    OptionalRoundingOption,
    ShiftAddOption,
    VectorsOption,
    fixed_options,
    print_circuit_notes,
    print_fixed_notes,
)
from lnm_codegen.cli.network import (
    AccumulateOption,
    AllOption,
    LanesOption,
    LoadPortOption,
    NetworkOption,
    NetworkOptions,
    WeightsOption,
    require_network,
    write_network,
)
from lnm_codegen.cli.options import (
    DtypeOption,
    OptionalFamilyArgument,
    SchemeOption,
    SetOption,
    family_arguments,
)
from lnm_codegen.cli.output import write_together
from lnm_codegen.errors import ModelError
from lnm_codegen.families.library import resolve
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import require_name
from lnm_codegen.options import DtypeName, PackageName, SchemeName, TargetName

MOST_DEGREES = 64
FLOATING = ",".join(BACKENDS)
"""Backends that are written by default."""

OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", file_okay=False, help="Folder to write into."),
]
PackageOption = Annotated[
    Path | None,
    typer.Option(
        "--package",
        metavar="DIR",
        file_okay=False,
        help="Write an installable folder instead, for one backend: c, triton or cuda.",
    ),
]
DegreesOption = Annotated[
    str | None,
    typer.Option("--degree", metavar="D|D..D", help="A degree, or a range: 1..4."),
]
BackendsOption = Annotated[
    str,
    typer.Option("--backend", metavar="NAME,...", help=f"{', '.join(BACKENDS | FIXED_BACKENDS)}."),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of files and functions.  [default: the neuron's]"),
]
RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="A folder that `lnm train` wrote, instead of FAMILY. With --backend verilog, each"
        " neuron layer becomes an array. If its family is a Python file, that file is run.",
    ),
]

NOT_FOR_RUN = {
    "--package": "a run is written as circuits or as a network",
    "--degree": "the run has its neurons",
    "--set": "the run has its neurons",
    "--rounding": "a run rounds half up, unless --format is a spec.toml with another rounding",
    "--dtype": "a run is written in integers",
    "--scheme": "polynomials of a run are in Horner's scheme",
    "--name": "the files have the names of the layers",
}
"""Option that does not apply to `--run` -> the reason; other options concern one circuit."""


def emit(
    family: OptionalFamilyArgument = None,
    out: OutOption = None,
    package: PackageOption = None,
    degree: DegreesOption = None,
    backend: BackendsOption = FLOATING,
    dtype: DtypeOption = "float32",
    scheme: SchemeOption = "horner",
    name: NameOption = None,
    settings: SetOption = None,
    run: RunOption = None,
    format_: FormatOption = None,
    rounding: OptionalRoundingOption = None,
    forms: FormsOption = None,
    neurons: NeuronsOption = None,
    coefficients: CoefficientsOption = None,
    multiplier: MultiplierOption = None,
    shift_add: ShiftAddOption = None,
    vectors: VectorsOption = None,
    network: NetworkOption = False,
    weights: WeightsOption = None,
    accumulate: AccumulateOption = None,
    lanes: LanesOption = None,
    load_port: LoadPortOption = False,
    every: AllOption = False,
) -> None:
    """Write source for a neuron.

    The files go to DIR/<backend>/<name>/; their paths are printed, one a line, or with --run their
    number. With --degree the name is <family>_degree<D>, so that several can be linked into one
    program. All files are generated before the first is written. With --package, DIR (for a range
    of degrees DIR/<name>) becomes a folder that pip installs, with function, layer, sources and a
    numeric test; it does not need this package. With --format, backend c writes the integer model.
    With --run the files go to DIR/verilog/<layer>/, with golden vectors of its held-out samples.
    With --run and --network DIR becomes the whole network in integers, network.json and its source.
    """
    _require_one("--out DIR", out, "--package DIR", package)
    _require_one("FAMILY", family, "--run RUN", run)
    circuit = {
        "--forms": forms, "--neurons": neurons, "--coefficients": coefficients,
        "--multiplier": multiplier, "--shift-add": shift_add, "--vectors": vectors,
    }  # fmt: skip
    options = NetworkOptions(weights, accumulate, lanes, load_port, every, vectors)
    require_network(run, network, options)
    if run is not None:
        given: dict[str, object] = {"--package": package, "--degree": degree}
        given |= {"--set": settings, "--rounding": rounding, **circuit}
        given |= {"--vectors": None} if network else {}
        given |= {"--dtype": None if dtype == "float32" else dtype}
        given |= {"--scheme": None if scheme == "horner" else scheme}
        given |= {} if network else {"--name": name}
        _refuse_run([word for word, value in given.items() if value is not None])
        if network:
            write_network(run, out or Path(), backend, name, format_, options)
            return
        if backend != "verilog":
            problem, remedy = f"--run with --backend {backend}", "Add --backend verilog."
            raise ModelError("emit", problem, "verilog; c with --network", remedy)
        from lnm_codegen.cli.runs import run_sources

        sources = run_sources(run, format_ or DEFAULT)
    else:
        if name is not None:
            require_name("--name", name)
        backends = list(dict.fromkeys(word.strip() for word in backend.split(",")))
        models = _neurons(family or "", degree, name, settings)
        if package is not None:
            _refuse_package(backends, {"--format": format_, "--rounding": rounding, **circuit})
            sources = _packages(models, backends[0], dtype, scheme)
        else:
            fixed = fixed_options(backends, format_, rounding, circuit, dtype != "float32")
            sources = _emitted(models, backends, dtype, scheme, fixed)
    folder = out or package or Path()
    paths = write_together(sources, folder)
    for line in paths if run is None else [f"{len(paths)} files written to {folder}"]:
        typer.echo(line)
    if run is not None:
        print_circuit_notes(sources)
    elif package is None:
        print_fixed_notes(models, backends, scheme, fixed)


def _emitted(
    neurons: list[tuple[str, Neuron]],
    backends: list[str],
    dtype: DtypeName,
    scheme: SchemeName,
    fixed: FixedOptions,
) -> dict[Path, Source]:
    return {
        Path(target) / title: emission.emit(
            neuron,
            cast("TargetName", target),
            name=title,
            dtype=dtype,
            scheme=scheme,
            **fixed.options(target),
        )
        for title, neuron in neurons
        for target in backends
    }


def _packages(
    neurons: list[tuple[str, Neuron]], backend: str, dtype: DtypeName, scheme: SchemeName
) -> dict[Path, Source]:
    return {
        Path(title if len(neurons) > 1 else "."): emission.package(
            neuron, cast("PackageName", backend), name=title, dtype=dtype, scheme=scheme
        )
        for title, neuron in neurons
    }


def _require_one(first: str, a: object, second: str, b: object) -> None:
    if (a is None) == (b is None):
        problem = f"{'neither' if a is None else 'both'} of {first} and {second} given"
        raise ModelError("emit", problem, remedy=f"Give {first} or {second}.")


def _refuse_package(backends: list[str], options: dict[str, object]) -> None:
    """Refuse several backends, and options of fixed point or of a circuit that are given."""
    if len(backends) != 1:
        raise ModelError(
            "emit",
            f"--package with --backend {','.join(backends)}",
            "one backend",
            "Add --backend c, say.",
        )
    given = [option for option, value in options.items() if value is not None]
    if given:
        remedy = f"Omit {', '.join(given)}."
        raise ModelError("emit", f"--package with {given[0]}", remedy=remedy)


def _refuse_run(given: list[str]) -> None:
    """Refuse options that do not apply to `--run`, with the reason of the first."""
    if given:
        reason = NOT_FOR_RUN.get(given[0], "each layer of a run has a circuit of its own")
        raise ModelError(
            "emit", f"{given[0]} with --run: {reason}", remedy=f"Omit {', '.join(given)}."
        )


def _neurons(
    family: str, degree: str | None, name: str | None, settings: list[str] | None
) -> list[tuple[str, Neuron]]:
    """Return each neuron with the name of its files."""
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
        raise ModelError(
            f"--degree {text!r}",
            f"the range is {'empty' if low > high else 'too long'}",
            f"low..high with low <= high, at most {MOST_DEGREES} degrees",
        )
    return list(range(low, high + 1)), match[2] is not None
