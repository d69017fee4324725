"""The CUDA launcher on the host: bad arguments give an error code, and no kernel is launched."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.c.backend import C
from lnm_codegen.backends.cuda.backend import Cuda
from lnm_codegen.backends.loops import ABI
from lnm_codegen.backends.plan import HEAD, SIZES, Field, Plan
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn.load.c import compiler
from tests.backends.cuda.host import FLAGS, HERE, host_text
from tests.cases import CASES

pytestmark = pytest.mark.needs_cc

STEPS, BATCH, CHANNELS, INNER = 40, 2, 3, 2
SAMPLE, NEURONS = CHANNELS * INNER, BATCH * CHANNELS * INNER
OK, BAD_STRUCT, BAD_DIMENSION, NULL_POINTER = 0, -2, -3, -4


class Launcher(NamedTuple):
    """A launcher compiled for the host."""

    model: Plan
    library: ctypes.CDLL

    @property
    def launches(self) -> int:
        """Kernels that were launched."""
        return ctypes.c_int64.in_dll(self.library, "host_launches").value

    def launch(self, which: str, words: dict[str, int], workspace: int | None) -> int:
        """Return what a function of the launcher returns."""
        function = getattr(self.library, f"{self.model.name}_launch_{which}")
        given = (ctypes.c_int64 * len(words))(*words.values())
        return int(function(given, ctypes.c_void_p(workspace), None))


def _built(model: Plan, folder: Path) -> Launcher:
    Cuda().emit(model).write(folder)
    (folder / "cuda_runtime_api.h").write_text(f'#include "{HERE / "runtime.h"}"\n')
    text = host_text(model)
    kernels = re.findall(r"(\w+_kernel)\(const \w+ a, (?:const )?void", text)
    runs = (f"    run_as({k}, function, grid, block, bytes, values);" for k in kernels)
    head = "const void *function, unsigned grid, unsigned block, int64_t bytes, void **values"
    lines = [
        f'#include "{HERE / "host.h"}"', text, f'#include "{model.name}_launch.cpp"',
        f"static void run_kernel({head}) {{", *runs, "}",
    ]  # fmt: skip
    (folder / "host.cpp").write_text("\n".join(lines), encoding="utf-8")
    command = [compiler().path, *FLAGS, "-I.", "-o", "host.so", "host.cpp"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Launcher(model, ctypes.CDLL(str(folder / "host.so")))


NEURONS_OF = {
    "channel": lambda: lnm.get("lnm", degree=2, theta=(0.1, 0.5, -0.1), per="channel"),
    "layer": lambda: lnm.get("plif"),
}


@pytest.fixture(scope="module", params=list(NEURONS_OF))
def launcher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    return _built(plan_of(NEURONS_OF[request.param]()), tmp_path_factory.mktemp("launcher"))


def _call(fields: tuple[Field, ...]) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Return the words of valid arguments by name, and the arrays that they point to."""
    words: dict[str, Any] = dict.fromkeys((*HEAD, *SIZES, *(f.name for f in fields)), 0)
    sizes = (STEPS, NEURONS, SAMPLE, CHANNELS, INNER)
    words |= dict(zip(SIZES, sizes, strict=True))
    words |= {"struct_size": 8 * len(words), "struct_version": ABI}
    arrays = {}
    for field in fields:
        if field.kind != "int64_t":
            values = np.full(4 * STEPS * NEURONS, 0.25, "f8" if field.kind == "double" else "f4")
            arrays[field.name], words[field.name] = values, values.ctypes.data
    return words, arrays


@pytest.mark.parametrize("which", ["forward", "backward"])
def test_bad_arguments(launcher: Launcher, which: str) -> None:
    """Each has its code, whatever is right beside it; no kernel runs, nothing is written."""
    plan = launcher.model
    fields = plan.forward_fields if which == "forward" else plan.backward_fields
    words, arrays = _call(fields)
    before = {name: array.copy() for name, array in arrays.items()}
    room = np.zeros(1 << 16)
    space, started = room.ctypes.data, launcher.launches

    def run(workspace: int | None = space, **changes: int) -> int:
        return launcher.launch(which, words | changes, workspace)

    null = getattr(launcher.library, f"{launcher.model.name}_launch_{which}")
    assert null(None, ctypes.c_void_p(space), None) == BAD_STRUCT
    for size in (0, words["struct_size"] - 8, words["struct_size"] + 8):
        assert run(struct_size=size) == BAD_STRUCT
    for version in (0, ABI - 1, ABI + 1):
        assert run(struct_version=version) == BAD_STRUCT
    for name in SIZES:
        assert run(**{name: -3}) == run(**{name: -1}) == BAD_DIMENSION, name
    for name in ("sample", "channels", "inner"):
        assert run(**{name: 0}) == BAD_DIMENSION, name
    assert run(time_steps=1 << 60) == BAD_DIMENSION
    if plan.finest != "layer":  # the tiles follow a sample
        for name in ("neurons", "sample", "channels", "inner"):
            assert run(**{name: words[name] + 1}) == BAD_DIMENSION, name
    for field in fields:
        if field.kind != "int64_t" and not field.nullable:
            assert run(**{field.name: 0}) == NULL_POINTER, field.name
    if which == "backward":
        assert run(None) == NULL_POINTER
    assert launcher.launches == started
    assert all(np.array_equal(arrays[name], before[name]) for name in before)
    assert run(**{f.name: 0 for f in fields if f.nullable}) == OK
    assert run() == OK
    assert launcher.launches > started
    assert not all(np.array_equal(arrays[name], before[name]) for name in before)


@pytest.mark.parametrize("which", ["forward", "backward"])
def test_nothing_to_do(launcher: Launcher, which: str) -> None:
    """T = 0 and no neuron need no sequence; the parameters are read."""
    plan = launcher.model
    fields = plan.forward_fields if which == "forward" else plan.backward_fields
    words, arrays = _call(fields)
    room = np.zeros(1 << 16)
    sequences = {f.name: 0 for f in fields if f.name.endswith("_seq") or f.name == "checkpoints"}
    parameter = plan.params[0].name
    assert arrays
    for changes in ({"time_steps": 0}, {"neurons": 0}, {"neurons": 0, "v_init": 0}):
        assert launcher.launch(which, words | sequences | changes, room.ctypes.data) == OK
    null = words | sequences | {"neurons": 0, parameter: 0}
    assert launcher.launch(which, null, room.ctypes.data) == NULL_POINTER


def test_c_and_cuda_need_the_same_pointers() -> None:
    """CUDA once refused null for the gradient of an output that nothing depends on."""
    model = plan_of(CASES["held"]())
    needed = [
        set(re.findall(r"!a->(grad_\w+)_seq", source.files[path]))
        for source, path in ((C().emit(model), "held.cpp"), (Cuda().emit(model), "held_launch.cpp"))
    ]
    assert needed == [{"grad_spike", "grad_kept"}] * 2
