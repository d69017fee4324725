"""A folder that `lnm emit --backend verilog` wrote, read back: what verify and synth work from."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.exchange import from_json

MANIFEST, PROGRAM = "manifest.json", "program.json"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
PARTS = ("rtl", "sim", "tb", "formal", "model")
"""The folders in it that are read."""

_FILE = re.compile(rf"({'|'.join(PARTS)})/[A-Za-z0-9_]+\.[a-z]{{1,5}}")
_EMIT = "Write one: lnm emit FAMILY --backend verilog --format 16.12 --out DIR"


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the neuron, as the manifest has it.

    Attributes:
        word: "comb", "core", "seq" or "array".
        top: Its module.
        files: The sources, relative to the folder, the top's last.
        testbench: A file, relative to the folder.
        latency: Cycles from an input to its result.
        interval: Cycles from one input to the next.
        multipliers: Those that stand in the source.
    """

    word: str
    top: str
    files: tuple[str, ...]
    testbench: str
    latency: int
    interval: int
    multipliers: int


@dataclass(frozen=True, slots=True)
class Circuit:
    """A neuron's circuit on disk.

    Attributes:
        folder: Where it is, absolute.
        manifest: The whole of manifest.json.
        name: Prefix of every module.
        forms: What it can be instantiated as, by word.
        program: The neuron in fixed point; None in a folder without program.json.
    """

    folder: Path
    manifest: dict[str, Any]
    name: str
    forms: dict[str, Form]
    program: fx.Program | None

    def sources(self) -> tuple[str, ...]:
        """Return every file of rtl/, relative to the folder."""
        return self.matching("rtl/*.v")

    def matching(self, pattern: str) -> tuple[str, ...]:
        """Return the files that a pattern finds, relative to the folder, in order."""
        return tuple(
            sorted(p.relative_to(self.folder).as_posix() for p in self.folder.glob(pattern))
        )

    def coefficients(self) -> dict[str, tuple[int, ...]]:
        """Return the integers of each coefficient by name."""
        return {c["name"]: tuple(c["integers"]) for c in self.manifest["coefficients"]}

    def copied(self, place: Path) -> Circuit:
        """Copy the folder to one that is not there yet: its path may hold what tools trip over."""
        place.mkdir()
        for part in PARTS:
            if (self.folder / part).is_dir():
                shutil.copytree(self.folder / part, place / part)
        for file in (MANIFEST, PROGRAM):
            if (self.folder / file).is_file():
                shutil.copyfile(self.folder / file, place / file)
        return replace(self, folder=place)

    def digest(self) -> str:
        """Return a hash of what is measured: the sources, the manifest and the program."""
        found = hashlib.sha256()
        for file in (*self.sources(), MANIFEST, PROGRAM):
            path = self.folder / file
            if path.is_file():
                found.update(file.encode() + b"\0" + path.read_bytes() + b"\0")
        return found.hexdigest()


def read_circuit(folder: Path, verb: str) -> Circuit:
    """Read a folder of Verilog.

    Args:
        folder: What `lnm emit` wrote.
        verb: Who asks, for messages.

    Raises:
        ModelError: No folder, no manifest, one that is damaged or names files that are not there.
    """
    where = f"{verb}: {folder}"
    if not folder.exists():
        raise ModelError(where, "no such folder", remedy=f"{_EMIT}.")
    if not folder.is_dir():
        raise ModelError(where, "it is a file", f"a folder with {MANIFEST}", f"{_EMIT}.")
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(where, f"there is no {MANIFEST} in it", remedy=f"{_EMIT}.")
    manifest = _json(path, where)
    name = _named(manifest.get("name"), f"{where}: {MANIFEST}: name")
    forms = manifest.get("forms")
    if not isinstance(forms, dict) or not forms:
        raise ModelError(f"{where}: {MANIFEST}", f"forms is {forms!r}", "an object by form")
    found = {
        w: _form(w, f, folder, name, f"{where}: {MANIFEST}: forms.{w}") for w, f in forms.items()
    }
    _check_coefficients(manifest.get("coefficients"), f"{where}: {MANIFEST}: coefficients")
    program = folder / PROGRAM
    return Circuit(
        folder=folder.resolve(),
        manifest=manifest,
        name=name,
        forms=found,
        program=from_json(_text(program, where), str(program)) if program.is_file() else None,
    )


def _text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ModelError(where, f"{path.name} is no text in UTF-8") from None
    except OSError as error:
        raise ModelError(where, f"cannot read {path.name}: {error.strerror}") from None


def _json(path: Path, where: str) -> dict[str, Any]:
    text = _text(path, where)
    try:
        content = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise ModelError(where, f"{path.name} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ModelError(where, f"{path.name} holds {type(content).__name__}, not an object")
    return content


def _refused(word: str) -> None:
    raise ValueError(f"it holds {word}")


def _check_coefficients(value: Any, where: str) -> None:
    if not isinstance(value, list):
        raise ModelError(f"{where} is {value!r}. Accepted: a list of objects.")
    for k, given in enumerate(value):
        if not isinstance(given, dict):
            raise ModelError(f"{where}[{k}] is {given!r}. Accepted: an object.")
        _named(given.get("name"), f"{where}[{k}].name")
        found = given.get("integers")
        sound = isinstance(found, list) and all(type(i) is int and _fits(i) for i in found)
        if not found or not sound:
            raise ModelError(
                f"{where}[{k}].integers is {found!r}. Accepted: a list of integers of 32 bits."
            )


def _fits(integer: int) -> bool:
    return -(1 << 31) <= integer < 1 << 31


def _named(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ModelError(f"{where} is {value!r}. Accepted: letters, digits and _.")
    return value


def _form(word: str, given: Any, folder: Path, name: str, where: str) -> Form:
    """Check every word that becomes part of a command or a script."""
    _named(word, where)
    if not isinstance(given, dict):
        raise ModelError(f"{where} is {given!r}. Accepted: an object.")
    files = given.get("files")
    if not isinstance(files, list) or not files:
        raise ModelError(f"{where}.files is {files!r}. Accepted: a list of files.")
    top = _named(given.get("top"), f"{where}.top")
    if top != f"{name}_{word}":
        raise ModelError(f"{where}.top is {top!r}. Accepted: {name}_{word}, as name says.")
    return Form(
        word=word,
        top=top,
        files=tuple(_file(f, folder, f"{where}.files") for f in files),
        testbench=_file(given.get("testbench"), folder, f"{where}.testbench"),
        latency=_count(given.get("latency"), f"{where}.latency"),
        interval=_count(given.get("interval"), f"{where}.interval"),
        multipliers=_count(given.get("multipliers"), f"{where}.multipliers"),
    )


def _file(value: Any, folder: Path, where: str) -> str:
    if not isinstance(value, str) or not _FILE.fullmatch(value):
        raise ModelError(where, f"{value!r} is no file of this folder, such as rtl/NAME_core.v")
    if not (folder / value).is_file():
        raise ModelError(where, f"{value} is not there", remedy="Write the folder again.")
    return value


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise ModelError(f"{where} is {value!r}. Accepted: a whole number.")
    return value
