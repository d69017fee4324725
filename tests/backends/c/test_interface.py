"""The C interface: bad arguments give an error code, and the kernel does not run."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from itertools import chain
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.loops import ABI
from lnm_codegen.backends.plan import HEAD, SIZES
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.ir.declarations import Granularity
from lnm_codegen.nn.load.c import build, load_library

pytestmark = pytest.mark.needs_cc

PLAN = plan_of(lnm.get("lnm", degree=2, theta=(0.1, 0.5, -0.1), per="channel"))
STEPS, NEURONS, CHANNELS = 20, 6, 3
OK, OUT_OF_MEMORY, BAD_STRUCT, BAD_DIMENSION, NULL_POINTER = range(5)


class Call:
    """A struct of arguments by name, over arrays that live as long as it does."""

    def __init__(self, fields: tuple[Any, ...]) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.words = dict.fromkeys((*HEAD, *SIZES, "threads", *(f.name for f in fields)), 0)
        sizes = (STEPS, NEURONS, NEURONS, CHANNELS, 2)
        self.words |= dict(zip(SIZES, sizes, strict=True))
        self.words |= {"struct_size": 8 * len(self.words), "struct_version": ABI, "threads": 1}
        for field in fields:
            if field.kind != "int64_t":
                kind = "f8" if field.kind == "double" else "f4"
                self.arrays[field.name] = np.zeros(4 * STEPS * NEURONS, kind)
                self.words[field.name] = self.arrays[field.name].ctypes.data

    def run(self, function: Any, **changes: int) -> int:
        """Return what a function returns on the words with some changes."""
        words = (self.words | changes).values()
        return int(function((ctypes.c_int64 * len(words))(*words)))


@pytest.fixture(scope="module")
def functions() -> tuple[Any, Any]:
    library = load_library(build(PLAN))
    found = tuple(getattr(library, f"{PLAN.name}_{word}") for word in ("forward", "backward"))
    for function in found:
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    return found[0], found[1]


@pytest.mark.parametrize("which", [0, 1], ids=["forward", "backward"])
def test_bad_arguments(functions: tuple[Any, Any], which: int) -> None:
    """Each has its code, whatever is right beside it; nothing is written."""
    fields = (PLAN.forward_fields, PLAN.backward_fields)[which]
    call, function = Call(fields), functions[which]
    for name, array in call.arrays.items():
        if not next(f for f in fields if f.name == name).written:
            array[:] = 0.25
    before = {name: array.copy() for name, array in call.arrays.items()}
    assert function(None) == BAD_STRUCT
    assert call.run(function, struct_size=call.words["struct_size"] - 8) == BAD_STRUCT
    assert call.run(function, struct_version=ABI - 1) == BAD_STRUCT
    for name, value in chain.from_iterable(((n, -3), (n, -1)) for n in SIZES):
        assert call.run(function, **{name: value}) == BAD_DIMENSION, (name, value)
    for name in ("sample", "channels", "inner"):
        assert call.run(function, **{name: 0}) == BAD_DIMENSION
    for sizes in ((7, 1, 3, 5), (6, 4, 2, 2), (6, 6, 2, 2), (6, 6, 4, 1), (6, 6, 1 << 62, 2)):
        words = dict(zip(SIZES[1:], sizes, strict=True))
        assert call.run(function, **words) == BAD_DIMENSION, words
    for field in fields:
        if field.kind != "int64_t" and not field.nullable:
            assert call.run(function, **{field.name: 0}) == NULL_POINTER, field.name
    assert all(np.array_equal(call.arrays[name], before[name]) for name in before)
    nullable = {f.name: 0 for f in fields if f.nullable}
    assert call.run(function, **nullable) == OK
    assert call.run(function) == OK
    assert not all(np.array_equal(call.arrays[name], before[name]) for name in before)


@pytest.mark.parametrize("which", [0, 1], ids=["forward", "backward"])
def test_nothing_to_do(functions: tuple[Any, Any], which: int) -> None:
    """T = 0 and no neuron need no sequence; the parameters are read."""
    fields = (PLAN.forward_fields, PLAN.backward_fields)[which]
    call, function = Call(fields), functions[which]
    sequences = {f.name: 0 for f in fields if f.name.endswith("_seq") or f.name == "checkpoints"}
    assert call.run(function, time_steps=0, **sequences) == OK
    assert call.run(function, neurons=0, **sequences, v_init=0) == OK
    assert call.run(function, neurons=0, **sequences, theta=0) == NULL_POINTER
    assert call.run(function, neurons=0, sample=0, channels=0, inner=0, **sequences) == OK


@pytest.mark.parametrize("which", [0, 1], ids=["forward", "backward"])
def test_sizes_beyond_any_memory(functions: tuple[Any, Any], which: int) -> None:
    """Parameters are prepared without a neuron too. The exception once ended the process."""
    call, many = Call((PLAN.forward_fields, PLAN.backward_fields)[which]), 1 << 62
    for sample in (0, many):
        sizes = {"neurons": 0, "sample": sample, "channels": many, "inner": 1}
        assert call.run(functions[which], **sizes) == OUT_OF_MEMORY
    assert call.run(functions[which], neurons=0, channels=many) == BAD_DIMENSION


CONTRADICTIONS = [(6, 3, 0), (6, 0, 2), (6, 0, 0), (6, 4, 2), (6, 2, 4), (7, 3, 2), (6, 1 << 62, 2)]
"""Sample, channels and inner that do not fit each other."""


@pytest.mark.parametrize("finest", ["channel", "neuron"])
@pytest.mark.parametrize("which", ["forward", "backward"])
def test_contradictory_sizes_without_a_neuron(which: str, finest: Granularity) -> None:
    """The loops over parameters once divided by an `inner` of 0, which ended the process."""
    per: dict[str, Granularity] = {"theta": "channel", "v_threshold": finest}
    plan = plan_of(lnm.get("lnm", degree=2, theta=(0.1, 0.5, -0.1), per=per))
    assert plan.finest == finest
    call = Call(plan.forward_fields if which == "forward" else plan.backward_fields)
    function = getattr(load_library(build(plan)), f"{plan.name}_{which}")
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    for sizes in CONTRADICTIONS:
        words = dict(zip(SIZES[2:], sizes, strict=True))
        assert call.run(function, **words) == BAD_DIMENSION, words
        assert call.run(function, neurons=0, **words) == BAD_DIMENSION, words
    for sizes in ((0, 3, 0), (0, 0, 2), (0, 3, 2), (6, 3, 2)):
        words = dict(zip(SIZES[2:], sizes, strict=True))
        assert call.run(function, neurons=0, **words) == OK, words


def overwritten(
    call: Call, function: Any, values: dict[str, np.ndarray], over: dict[str, str]
) -> dict[str, np.ndarray]:
    """Return the arrays after a call; an output of `over` has the memory of an input."""
    arrays = {name: values[name].astype(np.float32) for name in values if name in call.words}
    arrays |= {output: arrays[name] for output, name in over.items()}
    words = {name: array.ctypes.data for name, array in arrays.items()}
    strides = {n: NEURONS for n in ("x_stride", "grad_spike_stride") if n in call.words}
    steps = values["x_seq"].size // NEURONS
    assert call.run(function, time_steps=steps, v_init_stride=1, **strides, **words) == OK
    return arrays


def test_in_place(functions: tuple[Any, Any]) -> None:
    """Outputs may overwrite inputs, as the header says, also where states are saved far apart."""
    rng = np.random.default_rng(0)
    shapes = {
        **dict.fromkeys(("x_seq", "spike_seq", "grad_spike_seq", "grad_x_seq"), 5000 * NEURONS),
        **dict.fromkeys(("v_init", "v_final", "grad_v_final", "grad_v_init"), NEURONS),
        "checkpoints": 17 * NEURONS, "grad_theta": 3 * CHANNELS,
    }  # fmt: skip
    values = {name: rng.normal(size=size) for name, size in shapes.items()}
    values |= {"theta": np.tile([0.1, 0.5, 0.01], CHANNELS), "v_threshold": np.ones(1)}
    forward, backward = Call(PLAN.forward_fields), Call(PLAN.backward_fields)
    apart = overwritten(forward, functions[0], values, {})
    over = {"spike_seq": "x_seq", "v_final": "v_init"}
    same = overwritten(forward, functions[0], values, over)
    assert 0 < apart["spike_seq"].mean() < 1
    assert all(np.array_equal(apart[name], same[name]) for name in over)
    values["checkpoints"] = apart["checkpoints"]
    apart = overwritten(backward, functions[1], values, {})
    for inputs in (("grad_spike_seq", "grad_v_final"), ("x_seq", "v_init")):
        over = dict(zip(("grad_x_seq", "grad_v_init"), inputs, strict=True))
        same = overwritten(backward, functions[1], values, over)
        assert all(np.array_equal(apart[name], same[name]) for name in (*over, "grad_theta"))


_SHORT_OF_MEMORY = """
import ctypes, json, resource, sys
function = ctypes.CDLL(sys.argv[1])[sys.argv[2]]
numbers = (ctypes.c_float * 1024)()
words = [ctypes.addressof(numbers) if w is None else w for w in json.loads(sys.argv[3])]
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, ((pages << 12) + (64 << 20),) * 2)
print(function((ctypes.c_int64 * len(words))(*words)))
"""


def test_no_memory_for_recomputed_states() -> None:
    """The threads of a backward over many steps allocate; without memory, the call says so."""
    call = Call(PLAN.backward_fields)
    words = call.words | {"time_steps": 1 << 38, "x_stride": 0, "grad_spike_stride": 0}
    words |= {"grad_x_seq": 0}
    pointers = [None if name in call.arrays and words[name] else words[name] for name in words]
    library, name = str(build(PLAN)), f"{PLAN.name}_backward"
    command = [sys.executable, "-c", _SHORT_OF_MEMORY, library, name, json.dumps(pointers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (f"{OUT_OF_MEMORY}\n", "")
