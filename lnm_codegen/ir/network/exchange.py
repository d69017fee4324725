"""Networks in integers as files and back, exactly: `network.json` and `network.npz`.

    {"format": "lnm_codegen.network", "version": 1, "name": "digits_lif",
     "time_steps": 4, "repeated": true, "over": "mean",
     "input": {"shape": [1, 8, 8], "format": "Q1.7"},
     "stages": [stage, ...]}
    stage = {"stage": "linear" or "conv", "name", "weight": array, "bits": 8, "bias": array,
             "multiplier": array, "shift": array, "accumulator": 20, "output": "Q4.12",
             "stride", "padding", "delay" (only of a recurrent layer)}
          | {"stage": "pool", "kind": "sum" or "max", "size": 2}
          | {"stage": "flatten"}
          | {"stage": "neurons", "name", "coefficients": {name: array}, "initial": {name: array},
             "program": the content of a program.json}
          | {"stage": "add", "other": 3, "output": "Q4.12" (only of a rounded sum)}
          | {"stage": "branch", "origin": 3}

The format of the input is that of all its integers, or "spikes". For any other span the key
"format" is replaced by "low", "high" and "frac", as in a `ValueSpan`.

An `array` is the name of an array of network.npz. The reader executes no text of the files, and
validates the network as a whole.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lnm_codegen.errors import ModelError, reason
from lnm_codegen.files import DAMAGED_ARRAYS, json_lines, json_of, packed_arrays, unreadable
from lnm_codegen.ir.fixed.exchange import FIXED, JsonReader, keyed, program_content, program_from
from lnm_codegen.ir.network.nodes import (
    SPIKES,
    AddStage,
    AnyStage,
    BranchStage,
    FlattenStage,
    IntegerNetwork,
    Integers,
    NeuronStage,
    PoolStage,
    Shape,
    ValueSpan,
    WeightStage,
    values_of_bits,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits
from lnm_codegen.validation import require_one_of, shown, wrong

FORMAT, VERSION = "lnm_codegen.network", 1
JSON, ARRAYS = "network.json", "network.npz"
_KEYS = ("format", "version", "name", "time_steps", "repeated", "over", "input", "stages")
_WEIGHT_ARRAYS = ("weight", "bias", "multiplier", "shift")
_WEIGHT_NUMBERS = ("bits", "accumulator", "stride", "padding")
_SPAN = ("low", "high", "frac")
_STAGES = ("linear", "conv", "pool", "flatten", "neurons", "add", "branch")
_REMEDY = "Write it again with lnm deploy."


def network_files(network: IntegerNetwork) -> dict[str, str | bytes]:
    """Return the two files of a network by name; equal networks give equal bytes."""
    arrays: dict[str, Integers] = {}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": network.name,
        "time_steps": network.time_steps,
        "repeated": network.repeated,
        "over": network.over,
        "input": {"shape": list(network.input_shape)} | _input_content(network.input),
        "stages": [_stage_content(stage, arrays) for stage in network.stages],
    }
    text = json_lines(content, on_one_line=(dict, list))
    packed = packed_arrays({name: _least(array) for name, array in arrays.items()})
    return {JSON: f"{text}\n", ARRAYS: packed}


def digest_of(network: IntegerNetwork, *form: int) -> str:
    """Return 8 hexadecimal digits of a network's content without its name, and of its form."""
    found = hashlib.sha256(" ".join(map(str, form)).encode())
    for data in network_files(replace(network, name="")).values():
        found.update(data.encode() if isinstance(data, str) else data)
    return found.hexdigest()[:8]


def read_network(folder: str | Path) -> IntegerNetwork:
    """Return the network of a folder.

    Raises:
        ModelError: A file is missing or damaged, or the network is not valid.
    """
    place = Path(folder)
    where = str(place / JSON)
    arrays = _arrays_of(place / ARRAYS)
    content = json_of(place / JSON, where, _REMEDY, finite=True)
    try:
        return require_network(_network(content, arrays, where), where)
    except RecursionError:
        raise ModelError(where, "nested too deep") from None


def _input_content(values: ValueSpan) -> dict[str, Any]:
    if values.are_spikes:
        return {"format": "spikes"}
    bits = Bits(values.width, values.frac)
    if values == values_of_bits(bits):
        return {"format": str(bits)}
    return {word: getattr(values, word) for word in _SPAN}


def _least(array: Integers) -> Integers:
    """Return an array in the smallest signed type that holds it."""
    kinds = (np.int8, np.int16, np.int32, np.int64)
    ends = (int(array.min()), int(array.max()))
    kind = next(k for k in kinds if all(np.iinfo(k).min <= e <= np.iinfo(k).max for e in ends))
    return array.astype(kind)


def _stage_content(stage: AnyStage, arrays: dict[str, Integers]) -> dict[str, Any]:
    def kept(owner: str, word: str, array: Integers) -> str:
        name = f"{owner}.{word}"
        arrays[name] = array
        return name

    match stage:
        case WeightStage():
            found = {word: kept(stage.name, word, getattr(stage, word)) for word in _WEIGHT_ARRAYS}
            numbers = {word: getattr(stage, word) for word in _WEIGHT_NUMBERS}
            head = {"stage": stage.kind, "name": stage.name}
            numbers |= {"delay": stage.delay} if stage.delay else {}
            return head | found | numbers | {"output": str(stage.output)}
        case PoolStage(kind, size):
            return {"stage": "pool", "kind": kind, "size": size}
        case FlattenStage():
            return {"stage": "flatten"}
        case AddStage(other, output):
            own = {} if output is None else {"output": str(output)}
            return {"stage": "add", "other": other} | own
        case BranchStage(origin):
            return {"stage": "branch", "origin": origin}
        case NeuronStage():
            return {
                "stage": "neurons",
                "name": stage.name,
                "coefficients": {n: kept(stage.name, n, a) for n, a in stage.coefficients},
                "initial": {n: kept(stage.name, f"{n}.initial", a) for n, a in stage.initial},
                "program": program_content(stage.program),
            }


def _arrays_of(path: Path) -> dict[str, Integers]:
    try:
        data = io.BytesIO(path.read_bytes())
        archive = np.load(data, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("one array, and no archive")
        with archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise unreadable(path, error, _REMEDY) from None
    except DAMAGED_ARRAYS as error:
        raise ModelError(path, f"not arrays of NumPy: {reason(error)}", remedy=_REMEDY) from None


def _network(content: Any, arrays: Mapping[str, Integers], where: str) -> IntegerNetwork:
    if not isinstance(content, dict):
        raise ModelError(where, f"it holds {shown(content)}", "an object")
    require_one_of(where, "format", content.get("format"), (FORMAT,))
    require_one_of(where, "version", content.get("version"), (VERSION,))  # before the other keys
    given = keyed(content, _KEYS, where)
    shape, values = _input(given["input"], f"{where}: input")
    stages = given["stages"]
    if not isinstance(stages, list):
        raise wrong(where, "stages", stages, "a list")
    return IntegerNetwork(
        name=given["name"],
        time_steps=given["time_steps"],
        repeated=given["repeated"],
        input_shape=shape,
        input=values,
        stages=tuple(_stage(s, arrays, f"{where}: stage {k}") for k, s in enumerate(stages)),
        over=given["over"],
    )


def _input(value: Any, where: str) -> tuple[Shape, ValueSpan]:
    """Return the shape of the input and its values."""
    is_span = isinstance(value, dict) and "format" not in value and "low" in value
    source = keyed(value, ("shape", *(_SPAN if is_span else ("format",))), where)
    shape = source["shape"]
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise wrong(where, "shape", shape, "a list of integers")
    if is_span:
        return tuple(shape), ValueSpan(*(_integer(source[word], word, where) for word in _SPAN))
    form = source["format"]
    return tuple(shape), SPIKES if form == "spikes" else values_of_bits(_bits(form, where))


def _bits(value: Any, where: str) -> Bits:
    bits: Bits = JsonReader(FIXED).read("Bits", value, where)
    return bits


def _stage(value: Any, arrays: Mapping[str, Integers], where: str) -> AnyStage:
    if not isinstance(value, dict) or "stage" not in value:
        raise ModelError(where, f"it is {shown(value)}", 'an object with the key "stage"')
    kind = require_one_of(where, "stage", value["stage"], _STAGES)
    match kind:
        case "linear" | "conv":
            keys = ("stage", "name", *_WEIGHT_ARRAYS, *_WEIGHT_NUMBERS, "delay", "output")
            given = keyed({"delay": 0, **value}, keys, where)
            parts: dict[str, Any]
            parts = {word: _array(given[word], arrays, where) for word in _WEIGHT_ARRAYS}
            numbers = (*_WEIGHT_NUMBERS, "delay")
            parts |= {word: _integer(given[word], word, where) for word in numbers}
            name, output = _text(given["name"], where), _bits(given["output"], where)
            return WeightStage(name=name, kind=kind, output=output, **parts)
        case "pool":
            given = keyed(value, ("stage", "kind", "size"), where)
            word = require_one_of(where, "kind", given["kind"], ("sum", "max"))
            return PoolStage(word, _integer(given["size"], "size", where))
        case "flatten":
            keyed(value, ("stage",), where)
            return FlattenStage()
        case "add":
            given = keyed({"output": None, **value}, ("stage", "other", "output"), where)
            form = None if given["output"] is None else _bits(given["output"], where)
            return AddStage(_integer(given["other"], "other", where), form)
        case "branch":
            given = keyed(value, ("stage", "origin"), where)
            return BranchStage(_integer(given["origin"], "origin", where))
        case _:
            own = ("stage", "name", "coefficients", "initial", "program")
            given = keyed(value, own, where)
            name = _text(given["name"], where)
            program = program_from(given["program"], f"{where}: program")
            words = ("coefficients", "initial")
            coefficients, initial = (_named(given[w], arrays, f"{where}: {w}") for w in words)
            return NeuronStage(name, program, coefficients, initial)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w.]{1,128}", value, re.ASCII):
        raise wrong(where, "name", value, "letters, digits, _ and points")
    return value


def _integer(value: Any, word: str, where: str) -> int:
    if type(value) is not int:
        raise wrong(where, word, value, "an integer")
    return value


def _array(value: Any, arrays: Mapping[str, Integers], where: str) -> Integers:
    if not isinstance(value, str) or value not in arrays:
        raise ModelError(where, f"no array {shown(value)} in {ARRAYS}", remedy=_REMEDY)
    return arrays[value]


def _named(
    value: Any, arrays: Mapping[str, Integers], where: str
) -> tuple[tuple[str, Integers], ...]:
    if not isinstance(value, dict):
        raise ModelError(where, f"it is {shown(value)}", "an object of names of arrays")
    return tuple((name, _array(array, arrays, f"{where}.{name}")) for name, array in value.items())
