"""`lnm emit`: write generated source."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

import lnm_codegen.compiler.emit as emission
from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
from lnm_codegen.backends.base import Source
from lnm_codegen.cli.emit_fixed import (
    DEFAULT,
    CoefficientsOption,
    FixedChoice,
    FormatOption,
    FormsOption,
    MultiplierOption,
    NeuronsOption,
    RoundingOption,
    ShiftAddOption,
    VectorsOption,
    fixed_choice,
)
from lnm_codegen.cli.options import (
    OptionalFamilyArgument,
    SchemeOption,
    SetOption,
    family_arguments,
)
from lnm_codegen.errors import ModelError
from lnm_codegen.families.library import resolve
from lnm_codegen.files import unwritable, write_whole
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import require_name

MOST_DEGREES = 64
FLOATING = ",".join(BACKENDS)
"""What is written where no backend is named."""

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
        help="Write an installable folder instead, for one backend of c, triton, cuda.",
    ),
]
DegreesOption = Annotated[
    str | None, typer.Option("--degree", metavar="D|D..D", help="A degree, or a range: 1..4.")
]
BackendsOption = Annotated[
    str,
    typer.Option(
        "--backend", metavar="NAME,...", help=f"Of: {', '.join(BACKENDS | FIXED_BACKENDS)}."
    ),
]
DtypeOption = Annotated[
    str, typer.Option("--dtype", help="float32, float64, bfloat16 or float16, where typed.")
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Of files and functions; the neuron's own by default."),
]
RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Instead of FAMILY, a folder that `lnm train` wrote: with --backend verilog, an"
        " array for each neuron layer. If its family is a Python file, that file is run.",
    ),
]


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
    rounding: RoundingOption = None,
    forms: FormsOption = None,
    neurons: NeuronsOption = None,
    coefficients: CoefficientsOption = None,
    multiplier: MultiplierOption = None,
    shift_add: ShiftAddOption = None,
    vectors: VectorsOption = None,
) -> None:
    """Write source for a neuron.

    The files go to DIR/<backend>/<name>/; their paths are printed, one a line. With --degree the
    name is <family>_degree<D>, so that several can be linked into one program. Every file is made
    before the first is written. With --package, DIR (for a range of degrees DIR/<name>) becomes a
    folder that pip installs: function, layer, sources and a numeric test, and nothing of this
    package. With --format, c is the integer model. With --run the files go to
    DIR/verilog/<layer>/, with golden vectors of the run's test images.
    """
    if (out is None) == (package is None):
        raise ModelError("emit", "give one of --out DIR and --package DIR")
    if (family is None) == (run is None):
        raise ModelError("emit", "give one of FAMILY and --run RUN")
    circuit = {
        "--forms": forms, "--neurons": neurons, "--coefficients": coefficients,
        "--multiplier": multiplier, "--shift-add": shift_add, "--vectors": vectors,
    }  # fmt: skip
    if run is not None:
        given: dict[str, object] = {"--package": package, "--degree": degree, "--name": name}
        given |= {"--set": settings, "--rounding": rounding, **circuit}
        given |= {"--dtype": None if dtype == "float32" else dtype}
        given |= {"--scheme": None if scheme == "horner" else scheme}
        _check_run(backend, [word for word, value in given.items() if value is not None])
        from lnm_codegen.cli.run_arrays import run_sources

        sources = run_sources(run, format_ or DEFAULT)
    else:
        if name is not None:
            require_name("--name", name)
        backends = list(dict.fromkeys(word.strip() for word in backend.split(",")))
        models = _neurons(family or "", degree, name, settings)
        if package is not None:
            _check_package(backends, format_)
            sources = _packages(models, backends[0], dtype, scheme)
        else:
            fixed = fixed_choice(backends, format_, rounding, circuit, dtype != "float32")
            sources = _emitted(models, backends, dtype, scheme, fixed)
    for path in write_together(sources, out or package or Path()):
        typer.echo(path)


def _emitted(
    neurons: list[tuple[str, Neuron]],
    backends: list[str],
    dtype: str,
    scheme: str,
    fixed: FixedChoice,
) -> dict[Path, Source]:
    return {
        Path(target) / title: emission.emit(
            neuron, target, name=title, dtype=dtype, scheme=scheme, **fixed.options(target)
        )
        for title, neuron in neurons
        for target in backends
    }


def _packages(
    neurons: list[tuple[str, Neuron]], backend: str, dtype: str, scheme: str
) -> dict[Path, Source]:
    return {
        Path(title if len(neurons) > 1 else "."): emission.package(
            neuron, backend, name=title, dtype=dtype, scheme=scheme
        )
        for title, neuron in neurons
    }


def _check_package(backends: list[str], format_: str | None) -> None:
    if len(backends) != 1:
        raise ModelError(
            "emit",
            f"--package is for one backend, not {','.join(backends)}",
            remedy="Add --backend c, say.",
        )
    if format_ is not None:
        raise ModelError("emit", "--package is in floating point", remedy="Leave --format out.")


def _check_run(backend: str, given: list[str]) -> None:
    """Refuse what `--run` has no use for."""
    if backend != "verilog":
        raise ModelError(
            "emit", f"--run is for verilog, not {backend}", remedy="Add --backend verilog."
        )
    if given:
        raise ModelError(
            f"emit: {', '.join(given)}",
            "not with --run, whose neurons are trained",
            remedy="Leave it out.",
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
    """Return the degrees that `--degree` names, and whether it is a range.

    Raises:
        ModelError: Neither a whole number >= 0 nor a range of them, low..high.
    """
    if text is None:
        return [None], False
    match = re.fullmatch(r"(\d{1,4})(?:\.\.(\d{1,4}))?", text, re.ASCII)
    if match is None:
        raise ModelError(
            f"--degree {text!r}", "not a degree", "a whole number, or a range such as 1..4"
        )
    low, high = int(match[1]), int(match[2] or match[1])
    if not low <= high < low + MOST_DEGREES:
        raise ModelError(
            f"--degree {text!r}",
            "empty" if low > high else "too long",
            f"low..high with low <= high, at most {MOST_DEGREES} degrees at once",
        )
    return list(range(low, high + 1)), match[2] is not None


def write_together(sources: dict[Path, Source], out: Path, verb: str = "emit") -> list[Path]:
    """Write every source below `out`: all files are complete before the first one appears.

    Args:
        sources: Folder below `out` -> its files.
        out: Made where it is missing.
        verb: Who writes, for messages.

    Raises:
        ModelError: The folder cannot be written; no file and no new folder is left in it.
        ToolError: The disk is full, or fails; likewise.
    """
    made: list[Path] = []
    try:
        _make(out, made)
        with tempfile.TemporaryDirectory(dir=out, prefix=".lnm-") as staging:
            texts = {
                folder / name: text
                for folder, source in sources.items()
                for name, text in source.files.items()
            }
            for path, text in texts.items():
                (Path(staging) / path).parent.mkdir(parents=True, exist_ok=True)
                write_whole(Path(staging) / path, text)
            for path in texts:
                _make((out / path).parent, made)
                if (out / path).is_dir():
                    raise ModelError(
                        verb,
                        f"cannot write {out / path}: it is a folder",
                        remedy="Remove it, or give another --out.",
                    )
            for path in texts:
                os.replace(Path(staging) / path, out / path)
    except BaseException as error:
        for folder in reversed(made):
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        if isinstance(error, OSError):
            raise unwritable(verb, out, error) from None
        raise
    return [out / path for path in texts]


def _make(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, and note which were made."""
    for place in reversed((folder, *folder.parents)):
        if not place.exists():
            place.mkdir(exist_ok=True)
            made.append(place)
