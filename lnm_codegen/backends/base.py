"""Interface of the backends: the model that they receive, and the source that they return."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, get_args

from lnm_codegen.backends.earlier import write_over_earlier
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Param, Prologue, State
from lnm_codegen.ir.kernel import folded
from lnm_codegen.ir.nodes import Program
from lnm_codegen.options import DtypeName, RealName

M_contra = TypeVar("M_contra", contravariant=True)

DTYPES: tuple[DtypeName, ...] = get_args(DtypeName)
"""Types of sequences."""


@dataclass(frozen=True, slots=True)
class Model:
    """A neuron for a backend: its program, and the declarations of the ports.

    `name` is that of files and functions, `family` that of the definition. Headings have `family`,
    `equations` and the `slopes` of spikes. `dtype` is the type of sequences: inputs, outputs and
    their gradients. States, parameters and reductions have the type `real`.

    `layer_params` are the parameters of a layer: `params`, and those that are only initial states.

    `prologue` says that the first input is normalised. `passes` are then the two models that batch
    statistics need (`backends.plan`); a backend writes their files beside those of the model.
    """

    name: str
    family: str
    program: Program
    states: tuple[State, ...]
    inputs: tuple[str, ...]
    params: tuple[Param, ...]
    outputs: tuple[str, ...]
    equations: tuple[str, ...]
    dtype: DtypeName
    prologue: Prologue | None = None
    passes: tuple[Model, ...] = ()
    slopes: tuple[str, ...] = ()
    layer_params: tuple[Param, ...] = ()

    @property
    def starts(self) -> dict[str, Param]:
        """State -> the parameter of a layer that is its initial value."""
        params = {p.name: p for p in self.layer_params}
        return {s.name: params[s.param] for s in self.states if s.param}

    @property
    def definition(self) -> tuple[str, ...]:
        """Equations and slopes, for the heading of a file with a backward."""
        return self.equations + self.slopes

    @property
    def real(self) -> RealName:
        """Type of the arithmetic: "float64" for float64 sequences, else "float32"."""
        return "float64" if self.dtype == "float64" else "float32"


def pass_files(
    backend: Backend[Model], model: Model, beside: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Return the files of the passes of a model, except for those named in `beside`."""
    sources = (backend.emit(one) for one in model.passes)
    return {path: text for s in sources for path, text in s.files.items() if path not in beside}


@dataclass(frozen=True, slots=True)
class Source:
    """Generated files, in the order in which they are best read.

    Attributes:
        files: Relative path -> text.
        entry: Path of the file to begin with.
    """

    files: Mapping[str, str]
    entry: str

    def _repr_html_(self) -> str:
        return "".join(
            folded(path, text, is_open=path == self.entry) for path, text in self.files.items()
        )

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every file below `folder`, after all are complete, and return their paths.

        A source that overwrites one of an earlier emission replaces it: generated files that only
        the earlier one has are removed. For a circuit these are the files that its manifest lists,
        and report.json. C and CUDA of one name replace each other if their arithmetic differs.

        Raises:
            ModelError: `folder` is not a path, cannot be written, or has a file of another origin
                that would be overwritten or removed, or a file of a source of another name.
            ToolError: The disk is full, or fails.
        """
        return write_files(folder, self.files)


def write_files(folder: str | os.PathLike[str], files: Mapping[str, str | bytes]) -> list[Path]:
    """Write files below `folder`, as `Source.write` does."""
    try:
        base = Path(folder)
    except TypeError:
        raise ModelError("write", f"folder is {folder!r}", "the path of a folder") from None
    remedy = "Remove it, or give another folder."
    return write_over_earlier("emit", base, {Path(n): data for n, data in files.items()}, remedy)


class Backend(Protocol[M_contra]):
    """A target of code generation: it decides operators and names; templates place them."""

    def emit(self, model: M_contra) -> Source:
        """Return the source of `model`.

        Raises:
            UnsupportedError: The target cannot express the model.
        """
