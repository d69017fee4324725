"""The C interface and the CUDA launcher: bad arguments give an error code, and nothing runs."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.c.backend import C
from lnm_codegen.backends.cuda.backend import Cuda
from lnm_codegen.backends.loops import ABI
from lnm_codegen.backends.plan import HEAD, SIZES, Plan
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn.load.c import build, load_library
from tests.backends.cuda.host import HERE, compiled, host_text
from tests.cases import CASES

pytestmark = pytest.mark.needs_cc

SIZE = dict(zip(SIZES, (20, 12, 6, 3, 2), strict=True))
"""Time steps, neurons, and a sample of 3 channels and 2 inner numbers."""
MANY = 1 << 62
PERS = {
    "layer": "layer",
    "channel": "channel",
    "neuron": {"theta": "channel", "v_threshold": "neuron"},
}
ways = pytest.mark.parametrize("way", ["forward", "backward"])
slow = pytest.mark.slow


@dataclass
class Interface:
    """A compiled interface, the codes of its errors, and valid arguments of a call."""

    plan: Plan
    library: ctypes.CDLL
    function: str
    words: tuple[str, ...]
    codes: tuple[int, int, int, int, int]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def fields(self, way: str) -> Any:
        return getattr(self.plan, f"{way}_fields")

    def arguments(self, way: str) -> dict[str, int]:
        """Return valid words of a call by name; the arrays are kept."""
        fields = self.fields(way)
        words = dict.fromkeys((*HEAD, *SIZES, *self.words, *(f.name for f in fields)), 0) | SIZE
        words |= {"struct_size": 8 * len(words), "struct_version": ABI}
        words |= dict.fromkeys(self.words, 1)
        self.arrays = {
            f.name: np.full(4 * 20 * 12, 0.25, "f8" if f.kind == "double" else "f4")
            for f in fields
            if f.kind != "int64_t"
        }
        return words | {name: array.ctypes.data for name, array in self.arrays.items()}

    def run(self, way: str, words: dict[str, int], workspace: np.ndarray | None = None) -> int:
        function = getattr(self.library, self.function.format(self.plan.name, way))
        room = np.zeros(1 << 16) if workspace is None else workspace
        given = (ctypes.c_int64 * len(words))(*words.values()) if words else None
        return int(function(given, ctypes.c_void_p(room.ctypes.data if room.size else None), None))

    def launches(self) -> int:
        """Return how many kernels a launcher has launched."""
        try:
            return ctypes.c_int64.in_dll(self.library, "host_launches").value
        except ValueError:
            return 0


@cache
def interface(target: str, finest: Any) -> Interface:
    plan = plan_of(lnm.get("lnm", degree=2, theta=(0.1, 0.5, -0.1), per=PERS[finest]))
    assert plan.finest == finest
    if target == "c":
        library = load_library(build(plan))
        return Interface(plan, library, "{}_{}", ("threads",), (0, 2, 3, 4, 1))
    text = host_text(plan)
    kernels = re.findall(r"(\w+_kernel)\(const \w+ a, (?:const )?void", text)
    runs = (f"    run_as({k}, function, grid, block, bytes, values);" for k in kernels)
    head = "const void *function, unsigned grid, unsigned block, int64_t bytes, void **values"
    lines = [
        text,
        f'#include "{plan.name}_launch.cpp"',
        f"static void run_kernel({head}) {{",
        *runs,
    ]
    runtime = {"cuda_runtime_api.h": f'#include "{HERE / "runtime.h"}"\n'}
    library = compiled(plan, [*lines, "}"], runtime)
    return Interface(plan, library, "{}_launch_{}", (), (0, -2, -3, -4, 0))


every = pytest.mark.parametrize(
    ("target", "finest"),
    [("c", "channel"), ("cuda", "channel"),
     *(pytest.param(*row, marks=slow)
       for row in (("c", "neuron"), ("c", "layer"), ("cuda", "neuron"), ("cuda", "layer")))],
)  # fmt: skip


@ways
@every
def test_bad_arguments(target: str, finest: str, way: str) -> None:
    """Each has its code, whatever is right beside it; no kernel runs, nothing is written."""
    made = interface(target, finest)
    fields, words, started = made.fields(way), made.arguments(way), made.launches()
    ok, bad_struct, bad_size, null, _ = made.codes
    before = {name: array.copy() for name, array in made.arrays.items()}

    def run(**changes: int) -> int:
        return made.run(way, words | changes)

    assert made.run(way, {}) == bad_struct
    for change in (-words["struct_size"], -8, 8):
        assert run(struct_size=words["struct_size"] + change) == bad_struct
    for version in (0, ABI - 1, ABI + 1):
        assert run(struct_version=version) == bad_struct
    wrong = [{name: value} for name in SIZES for value in (-3, -1)]
    wrong += [{name: 0} for name in ("sample", "channels", "inner")]
    if target == "cuda":
        wrong.append({"time_steps": 1 << 60})
        assert way == "forward" or made.run(way, words, np.zeros(0)) == null
    if finest != "layer":  # the tiles follow a sample
        wrong += [{n: words[n] + 1} for n in ("neurons", "sample", "channels", "inner")]
    if target == "c" and finest != "layer":
        names = ("neurons", "sample", "channels", "inner")
        wrong += [dict(zip(names, each, strict=True)) for each in ((7, 1, 3, 5), (12, 5, 5, 1))]
        wrong += [dict(zip(names[1:], each, strict=True))
                  for each in ((6, 0, 0), (6, 2, 4), (7, 3, 2), (6, MANY, 2))]  # fmt: skip
    for changes in wrong:
        assert run(**changes) == bad_size, changes
        if target == "c" and len(changes) == 3:  # it once divided by an `inner` of 0
            assert run(neurons=0, **changes) == bad_size, changes
    for f in fields:
        if f.kind != "int64_t" and not f.nullable:
            assert run(**{f.name: 0}) == null, f.name
    assert made.launches() == started
    assert all(np.array_equal(made.arrays[name], before[name]) for name in before)
    assert run(**{f.name: 0 for f in fields if f.nullable}) == ok == run()
    assert (made.launches() > started) == (target == "cuda")
    assert not all(np.array_equal(made.arrays[name], before[name]) for name in before)


@ways
@every
def test_nothing_to_do(target: str, finest: str, way: str) -> None:
    """T = 0 and no neuron need no sequence; the parameters are read."""
    made = interface(target, finest)
    words, (ok, _, _, null, _) = made.arguments(way), made.codes
    words |= {n: 0 for n in words if n.endswith("_seq") or n == "checkpoints"}
    nothing = [{"time_steps": 0}, {"neurons": 0}, {"neurons": 0, "v_init": 0}]
    if target == "c":
        sizes = ((0, 0, 0), (0, 3, 0), (0, 0, 2), (0, 3, 2))
        nothing += [{"neurons": 0, "sample": s, "channels": c, "inner": i} for s, c, i in sizes]
    for changes in nothing:
        assert made.run(way, words | changes) == ok, changes
    assert made.run(way, words | {"neurons": 0, "theta": 0}) == null


@ways
def test_sizes_beyond_any_memory(way: str) -> None:
    """Parameters are prepared without a neuron too. The exception once ended the process."""
    made = interface("c", "channel")
    words, (_, _, bad_size, _, no_memory) = made.arguments(way), made.codes
    for sample in (0, MANY):
        sizes = {"neurons": 0, "sample": sample, "channels": MANY, "inner": 1}
        assert made.run(way, words | sizes) == no_memory
    assert made.run(way, words | {"neurons": 0, "channels": MANY}) == bad_size


def test_in_place() -> None:
    """Outputs may overwrite inputs, as the header says, also where states are saved far apart."""
    rng, steps, neurons = np.random.default_rng(0), 5000, 6
    shapes = {
        **dict.fromkeys(("x_seq", "spike_seq", "grad_spike_seq", "grad_x_seq"), steps * neurons),
        **dict.fromkeys(("v_init", "v_final", "grad_v_final", "grad_v_init"), neurons),
        "checkpoints": 17 * neurons, "grad_theta": 9,
    }  # fmt: skip
    values = {name: rng.normal(size=size) for name, size in shapes.items()}
    values |= {"theta": np.tile([0.1, 0.5, 0.01], 3), "v_threshold": np.ones(3)}
    made = interface("c", "channel")

    def run(way: str, over: dict[str, str]) -> dict[str, np.ndarray]:
        """Return the arrays after a call; an output of `over` has the memory of an input."""
        words = made.arguments(way) | {"time_steps": steps, "neurons": neurons}
        arrays = {name: v.astype(np.float32) for name, v in values.items() if name in words}
        arrays |= {output: arrays[name] for output, name in over.items()}
        words |= {name: array.ctypes.data for name, array in arrays.items()}
        words |= {n: neurons for n in ("x_stride", "grad_spike_stride") if n in words}
        assert made.run(way, words | {"v_init_stride": 1}) == 0
        return arrays

    apart, over = run("forward", {}), {"spike_seq": "x_seq", "v_final": "v_init"}
    same = run("forward", over)
    assert 0 < apart["spike_seq"].mean() < 1
    assert all(np.array_equal(apart[name], same[name]) for name in over)
    values["checkpoints"] = apart["checkpoints"]
    apart = run("backward", {})
    for inputs in (("grad_spike_seq", "grad_v_final"), ("x_seq", "v_init")):
        over = dict(zip(("grad_x_seq", "grad_v_init"), inputs, strict=True))
        same = run("backward", over)
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
    made = interface("c", "channel")
    words = made.arguments("backward")
    words |= {"time_steps": 1 << 38, "x_stride": 0, "grad_spike_stride": 0, "grad_x_seq": 0}
    pointers = [None if name in made.arrays and value else value for name, value in words.items()]
    library = str(Path(build(made.plan)))
    given = [library, f"{made.plan.name}_backward", json.dumps(pointers)]
    command = [sys.executable, "-S", "-c", _SHORT_OF_MEMORY, *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (f"{made.codes[-1]}\n", "")


def test_c_and_cuda_need_the_same_pointers() -> None:
    """CUDA once refused null for the gradient of an output that nothing depends on."""
    plan = plan_of(CASES["held"]())
    needed = [
        set(re.findall(r"!a->(grad_\w+)_seq", source.files[path]))
        for source, path in ((C().emit(plan), "held.cpp"), (Cuda().emit(plan), "held_launch.cpp"))
    ]
    assert needed == [{"grad_spike", "grad_kept"}] * 2
