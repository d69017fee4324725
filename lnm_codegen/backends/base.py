"""What a backend receives and gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lnm_codegen.errors import ModelError
from lnm_codegen.files import unwritable, write_whole
from lnm_codegen.ir.declarations import Param, State
from lnm_codegen.ir.nodes import Program

DTYPES = ("float32", "float64", "bfloat16", "float16")
"""What sequences may be."""


@dataclass(frozen=True, slots=True)
class Model:
    """A neuron as a backend sees it: the program, and the declarations behind its ports.

    `dtype` is the type of sequences: inputs, outputs and their gradients. States, parameters and
    sums have the type `real`.
    """

    name: str
    family: str
    program: Program
    states: tuple[State, ...]
    inputs: tuple[str, ...]
    params: tuple[Param, ...]
    outputs: tuple[str, ...]
    equations: tuple[str, ...]
    dtype: str

    @property
    def real(self) -> str:
        """The type of the arithmetic: "float64" for float64 sequences, else "float32"."""
        return "float64" if self.dtype == "float64" else "float32"


@dataclass(frozen=True, slots=True)
class Source:
    """Generated files, path -> text, in the order they are best read.

    Attributes:
        files: Relative path -> text.
        entry: The file, or the function, that a caller begins with.
    """

    files: Mapping[str, str]
    entry: str

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every file below `folder`, each whole or not at all; return their paths.

        Raises:
            ModelError: No path, or the folder cannot be written.
            ToolError: The disk is full, or fails.
        """
        try:
            base = Path(folder)
        except TypeError:
            raise ModelError("write", f"folder is {folder!r}", "the path of a folder") from None
        written = []
        for name, text in self.files.items():
            path = base / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, text)
            except (OSError, ValueError) as error:
                raise unwritable("emit", path, error) from None
            written.append(path)
        return written


class Backend(Protocol):
    """A target: refuse what it cannot do, print lines, put them into a template."""

    @property
    def name(self) -> str:
        """The word that users and `BACKENDS` have for it."""
        ...

    def emit(self, model: Model) -> Source:
        """Return the source of `model`.

        Raises:
            UnsupportedError: The target cannot express it; the message names the Let.
        """
        ...
