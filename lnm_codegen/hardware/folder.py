"""Circuit folders: reading and validation of a folder that `lnm emit --backend verilog` wrote."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lnm_codegen.backends.base import MANIFEST
from lnm_codegen.backends.network_verilog.layers import (
    form_in,
    layer_entries,
    layers_of,
    most_lanes,
    sample_entry,
)
from lnm_codegen.backends.verilog.design import LONGEST_NAME
from lnm_codegen.backends.verilog.folder import VERSION
from lnm_codegen.errors import ModelError
from lnm_codegen.files import json_of, text_of
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.exchange import from_json
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.network.exchange import read_network
from lnm_codegen.validation import (
    is_integer,
    require_bool,
    require_integer,
    require_one_of,
    shown,
    wrong,
)

PROGRAM = "program.json"
NETWORK = ("network.json", "network.npz")
"""The files of a network in integers."""
CHECKED_BY = ("sim", "tb", "formal", "model")
PARTS = ("rtl", *CHECKED_BY, "arrays")
"""The subfolders that are read; a network has circuits of neurons in arrays/."""

_STREAMS = ("s_axis_tdata", "m_axis_tdata", "m_axis_tuser")
_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{LONGEST_NAME - 1}}}")
_FILE = re.compile(rf"(arrays/[A-Za-z0-9_]+/)?({'|'.join(PARTS[:-1])})/[A-Za-z0-9_]+\.[a-z]{{1,5}}")
_AGAIN = "Write the folder again."
_EMIT = "Write one: lnm emit FAMILY --backend verilog --format 16.12 --out DIR."


@dataclass(frozen=True, slots=True)
class CircuitForm:
    """A form of the neuron in the manifest."""

    name: str  # "comb", "core", "seq" or "array"
    top: str  # top module
    files: tuple[str, ...]  # sources, relative to the folder; the top module's is the last
    testbench: str  # file, relative to the folder
    latency: int  # cycles from an input to its result
    interval: int  # cycles from one input to the next
    multipliers: int  # in the source
    through: str = "core"  # of an array: the module that its neurons pass through


@dataclass(frozen=True, slots=True)
class Circuit:
    """A neuron's circuit on disk."""

    folder: Path  # absolute path
    manifest: dict[str, Any]  # content of manifest.json
    name: str  # prefix of every module
    forms: dict[str, CircuitForm]  # by name
    program: fx.Program | None  # the neuron in fixed point; None in a folder without program.json

    def sources(self) -> tuple[str, ...]:
        """Return every file of rtl/, relative to the folder."""
        return self.matching("rtl/*.v")

    def cell_models(self) -> tuple[str, ...]:
        """Return the simulation models of vendor cells, relative to the folder."""
        return self.matching("sim/*.v")

    def matching(self, pattern: str) -> tuple[str, ...]:
        """Return the files that match a pattern, relative to the folder, in order.

        Raises:
            ModelError: A name that could be more than a name in a command or a script.
        """
        found = self._globbed(pattern)
        for name in found:
            if not _is_text(name, _FILE):
                problem = f"the name of {name!r} has other characters than letters, digits and _"
                raise ModelError(self.folder, problem, remedy="Rename it.")
        return found

    def _globbed(self, pattern: str) -> tuple[str, ...]:
        files = self.folder.glob(pattern)
        return tuple(sorted(path.relative_to(self.folder).as_posix() for path in files))

    def coefficients(self) -> dict[str, tuple[int, ...]]:
        """Return the integers of each coefficient by name."""
        return {c["name"]: tuple(c["integers"]) for c in self.manifest["coefficients"]}

    @property
    def is_network(self) -> bool:
        """Whether the folder holds a whole network."""
        return self.manifest.get("kind") == "network"

    def copied(self, place: Path) -> Circuit:
        """Copy the folder to a new one, whose path has no character that breaks a tool."""
        place.mkdir()
        for part in PARTS:
            if (self.folder / part).is_dir():
                shutil.copytree(self.folder / part, place / part)
        for file in (MANIFEST, PROGRAM, *NETWORK):
            if (self.folder / file).is_file():
                shutil.copyfile(self.folder / file, place / file)
        return replace(self, folder=place)

    def digest(self) -> str:
        """Return a hash of the sources, the manifest and the program or the network."""
        more = (*self._globbed("rtl/*.hex"), *self._globbed("arrays/*/rtl/*.v"), *NETWORK)
        return self._hash_of((*self._globbed("rtl/*.v"), MANIFEST, PROGRAM, *more))

    def check_digest(self) -> str:
        """Return a hash of the testbenches, the proofs, and the models that they need."""
        folders = [f"{above}{part}" for above in ("", "arrays/*/") for part in CHECKED_BY]
        return self._hash_of([file for at in folders for file in self._globbed(f"{at}/*.*")])

    def _hash_of(self, files: Iterable[str]) -> str:
        found = hashlib.sha256()
        for file in files:
            path = self.folder / file
            if path.is_file():
                found.update(file.encode() + b"\0" + path.read_bytes() + b"\0")
        return found.hexdigest()


def read_circuit(folder: Path, verb: str) -> Circuit:
    """Read a folder of Verilog for a command, or raise ModelError for a damaged one."""
    where = f"{verb}: {folder}"
    if not folder.exists():
        raise ModelError(where, "no such folder", remedy=_EMIT)
    if not folder.is_dir():
        raise ModelError(where, "it is a file", f"a folder with {MANIFEST}", _EMIT)
    path, program = folder / MANIFEST, folder / PROGRAM
    if not path.is_file():
        raise _without_manifest(where, folder)
    place = f"{verb}: {path}"
    manifest = _OBJECT.of(place, "the content", json_of(path, place, finite=True))
    if manifest.get("manifest") != VERSION:
        accepted = f"{VERSION}, the version that this lnm reads"
        raise wrong(place, "manifest", manifest.get("manifest"), accepted, _EMIT)
    name = _IDENTIFIER.of(place, "name", manifest.get("name"))
    forms = _FORMS.of(place, "forms", manifest.get("forms"))
    found = {word: _form(place, word, form, folder, name) for word, form in forms.items()}
    _validate_coefficients(place, manifest.get("coefficients"))
    _validate_network(place, manifest, folder)
    whole = None
    if program.is_file():
        whole = from_json(text_of(program, f"{verb}: {program}"), str(program))
        _require_agreement(place, manifest, whole)
    return Circuit(folder.resolve(), manifest, name, found, whole)


def _without_manifest(where: str, folder: Path) -> ModelError:
    """Return the error of a folder without a manifest; it names the folder that is meant."""
    levels = (MANIFEST, f"*/{MANIFEST}", f"*/*/{MANIFEST}", f"*/*/*/{MANIFEST}")
    inner = [path.parent for level in levels for path in sorted(folder.glob(level))]
    if all((folder / name).is_file() for name in NETWORK):
        problem = f"there is no {MANIFEST} in it: it holds a network without a circuit"
        remedy = "Write one: lnm deploy RUN --backend verilog --out DIR."
    elif (folder.parent / MANIFEST).is_file() and folder.name in PARTS:
        problem, remedy = f"there is no {MANIFEST} in it", f"Name the folder {folder.parent}."
    elif inner:
        problem, remedy = f"there is no {MANIFEST} in it", f"Name a folder in it: {inner[0]}."
    else:
        problem, remedy = f"there is no {MANIFEST} in it", _EMIT
    return ModelError(where, problem, remedy=remedy)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A condition on a value of the manifest. Many values become part of a command or a script."""

    holds: Callable[[Any], bool]
    accepted: str

    def of(self, where: str, key: str, value: Any) -> Any:
        """Return the value, or raise ModelError."""
        if not self.holds(value):
            raise wrong(where, key, value, self.accepted)
        return value


def _is_text(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_word(value: Any) -> bool:
    return is_integer(value) and -(1 << 31) <= value < 1 << 31


_OBJECT = _Rule(lambda v: isinstance(v, dict), "an object")
_FORMS = _Rule(lambda v: isinstance(v, dict) and bool(v), "an object by form")
_LIST = _Rule(lambda v: isinstance(v, list), "a list of objects")
_NAMES = _Rule(lambda v: isinstance(v, list), "a list of names")
_FILES = _Rule(lambda v: isinstance(v, list) and bool(v), "a list of files")
_IDENTIFIER = _Rule(lambda v: _is_text(v, _NAME), f"up to {LONGEST_NAME} letters, digits and _")
_PATH = _Rule(lambda v: _is_text(v, _FILE), "a file of this folder, such as rtl/NAME_core.v")
_INTEGERS = _Rule(
    lambda v: isinstance(v, list) and v != [] and all(_is_word(i) for i in v),
    "a list of integers of 32 bits",
)


def _form(where: str, word: str, form: Any, folder: Path, name: str) -> CircuitForm:
    key = f"forms.{word}"
    _IDENTIFIER.of(where, key, word)
    _OBJECT.of(where, key, form)
    files = _FILES.of(where, f"{key}.files", form.get("files"))
    top = _IDENTIFIER.of(where, f"{key}.top", form.get("top"))
    if top != f"{name}_{word}":
        raise wrong(where, f"{key}.top", top, f"{name}_{word}, as name says")
    testbench = form.get("testbench")
    for field, file in [*(("files", file) for file in files), ("testbench", testbench)]:
        _PATH.of(where, f"{key}.{field}", file)
        if not (folder / file).is_file():
            raise ModelError(where, f"{key}.{field}: {file} does not exist", remedy=_AGAIN)
    counts = {
        field: require_integer(where, f"{key}.{field}", form.get(field), 0, 2**32 - 1)
        for field in ("latency", "interval", "multipliers")
    }
    through = require_one_of(where, f"{key}.through", form.get("through", "core"), ("core", "seq"))
    return CircuitForm(word, top, tuple(files), testbench, **counts, through=through)


def _require_agreement(where: str, manifest: dict[str, Any], program: fx.Program) -> None:
    """Raise ModelError unless manifest and program state the same formats and coefficients."""
    spec = program.spec
    stated = {
        "format": str(spec.default),
        "rounding": spec.default.rounding.value,
        "formats": {name: f"{fixed} {fixed.rounding.value}" for name, fixed in spec.nodes},
        "coefficients": [[v.name, str(v.type)] for v in program.kernel.input_vars(Role.PARAM)],
    }
    found = {key: manifest.get(key) for key in stated}
    found["coefficients"] = [[c["name"], c.get("format")] for c in manifest["coefficients"]]
    for key, value in stated.items():
        if found[key] != value:
            raise wrong(where, key, found[key], f"{value!r}, as {PROGRAM} says", _AGAIN)


def _validate_coefficients(where: str, coefficients: Any) -> None:
    for k, given in enumerate(_LIST.of(where, "coefficients", coefficients)):
        key = f"coefficients[{k}]"
        _OBJECT.of(where, key, given)
        _IDENTIFIER.of(where, f"{key}.name", given.get("name"))
        _INTEGERS.of(where, f"{key}.integers", given.get("integers"))


def _validate_network(where: str, manifest: dict[str, Any], folder: Path) -> None:
    """Validate the keys that only the manifest of a network has, and compare with network.json."""
    if manifest.get("kind") is None:
        if (folder / NETWORK[0]).is_file():
            remedy = f"Remove {NETWORK[0]}, or write the circuit into another folder."
            raise wrong(where, "kind", None, f"network, since there is {NETWORK[0]}", remedy)
        return
    if manifest["kind"] != "network":
        raise wrong(where, "kind", manifest["kind"], "network, or no such key")
    for k, name in enumerate(_NAMES.of(where, "arrays", manifest.get("arrays"))):
        _IDENTIFIER.of(where, f"arrays[{k}]", name)
    require_integer(where, "lanes", manifest.get("lanes"), 1, 1 << 10)
    require_integer(where, "neurons_per_cycle", manifest.get("neurons_per_cycle"), 1, 1 << 10)
    require_bool(where, "load_port", manifest.get("load_port"))
    streams = _OBJECT.of(where, "streams", manifest.get("streams"))
    for name in _STREAMS:
        stream = _OBJECT.of(where, f"streams.{name}", streams.get(name))
        require_integer(where, f"streams.{name}.width", stream.get("width"), 1, 64)
    network = read_network(folder)
    layers = layers_of(network, *form_in(manifest))
    files = manifest["forms"].get("network", {}).get("files", [])
    stated = {
        "name": network.name,
        "sample": sample_entry(network),
        "lanes": most_lanes(layers),
        "layers": layer_entries(layers),
        "arrays": sorted({file.split("/")[1] for file in files if file.startswith("arrays/")}),
    }
    for key, value in stated.items():
        if manifest.get(key) != value:
            source = "forms.network.files says" if key == "arrays" else f"{NETWORK[0]} says"
            raise wrong(where, key, manifest.get(key), f"{shown(value)}, as {source}", _AGAIN)
