"""The generated Triton module: it stands alone, agrees with `lnm.interpret`, and compiles.

Triton's interpreter and its compiler cannot share a process, and the interpreter is chosen by an
environment variable before Triton is imported: it runs in a script of its own, which quick tests
start once. Nothing here needs a GPU.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.backends.triton.backend import Triton, number
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn.explain import schedule_of
from tests.backends.triton.runs import build
from tests.cases import CASES
from tests.test_agree import KERNELS, LAYOUTS

ROOT = Path(__file__).parents[3]
slow = pytest.mark.slow
QUICK = (
    *(f"pairs:{dtype}:{case}" for backend, dtype, case in KERNELS if backend == "triton"),
    "channels_last", "counts", "traffic", "function", "bad_arguments", "bad_values",
)  # fmt: skip
SLOW = (
    *(f"product:{d}:{c}" for c in CASES for d in ("float32", "float64")),
    "edges", "granularities", "small_types:bfloat16", "small_types:float16", "non_finite",
    *(f"layouts:{c}" for c in LAYOUTS), "random_neurons:150",
    "words:0", "words:3", "words:5",
)  # fmt: skip


def run_script(name: str, *words: str) -> str:
    """Run a script of this folder in a process of its own."""
    command = [sys.executable, "-W", "ignore::RuntimeWarning", "-m"]
    done = subprocess.run(
        [*command, f"tests.backends.triton.{name}", *words],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def skip_where_not_interpreted(check: str) -> None:
    """Skip a check that the interpreter of an older Triton cannot make; compilation can be."""
    triton, numpy = (version_of(name) for name in ("triton", "numpy"))
    if triton < (3, 4):
        pytest.skip("the interpreter of Triton 3.3 knows no named tuples")
    if triton < (3, 7) and numpy >= (2, 4):
        pytest.skip("the interpreter of Triton before 3.7 needs NumPy before 2.4")
    if triton < (3, 9) and check.startswith(("pairs", "product")):
        pytest.skip("the interpreter of Triton before 3.9 rounds a fused multiply-add twice")


def version_of(package: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version(package).split(".")[:2])


@cache
def interpreted(*checks: str) -> dict[str, str | None]:
    """Return why each check failed, or None; all run in one process."""
    return dict(json.loads(line) for line in run_script("interpreted", *checks).splitlines())


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("check", [*QUICK, *(pytest.param(word, marks=slow) for word in SLOW)])
def test_interpreted(check):
    """One check of `checks.py`; its docstring says what it pins."""
    skip_where_not_interpreted(check)
    failure = interpreted(*((check,) if check in SLOW else QUICK))[check]
    assert failure is None, failure


LNM4 = {"family": "lnm", "options": {"degree": 4}}
BACKWARD = LNM4 | {"kernel": "_backward_kernel"}
MIXED = {"degree": 4, "learn_threshold": True, "per": {"v_threshold": "channel"}}
CONTROL = BACKWARD | {"target": "sm_80", "changed": {"_LANES": 512}}
UNALIGNED = BACKWARD | {"target": "sm_80", "changed": {"_ALIGNED": False}}
ALL_JOBS = (
    *(
        {"family": family, "options": options, "dtype": dtype, "kernel": kernel, "target": target}
        for family, options in (("lif", {"learn_tau": True}), ("lnm", {"degree": 4}))
        for dtype in ("float32", "bfloat16")
        for kernel in ("_forward_kernel", "_backward_kernel", "_sums_kernel")
        for target in ("sm_80", "sm_90", "gfx942", "gfx1100")
    ),
    CONTROL,
    UNALIGNED,
    UNALIGNED | {"target": "sm_90"},
    BACKWARD | {"target": "sm_90", "options": {"degree": 4, "learn_threshold": True}},
    *(LNM4 | {"kernel": "_sums_kernel", "target": target, "options": MIXED}
      for target in ("sm_90", "gfx942", "gfx1100")),
)  # fmt: skip


def check_compiled(outcomes: list[dict[str, Any]]) -> None:
    for o in outcomes:
        if o["target"].startswith("gfx"):
            assert "hsaco" in o["kinds"]
            continue
        assert "cubin" in o["kinds"]
        assert o["approximate"] == [], o
        changed = o.get("changed", {})
        assert (o["spilled"] > 0) == ("_LANES" in changed), o
        if o["kernel"] != "_sums_kernel":
            assert o["fused"] > 0, o
            assert (o["wide"]["ld"] > 0) == changed.get("_ALIGNED", True), o
        if o.get("dtype") == "bfloat16" and o["kernel"] == "_backward_kernel":
            assert o["narrowed"], o
            assert all(word.startswith("cvt.rn.bf16") for word in o["narrowed"]), o


def test_short_sequences_have_short_chunks():
    """With T = 4 a chunk of 16 steps took twice the registers that a chunk of 4 takes."""
    long = build(lnm.get("lif")).module
    short = build(lnm.get("lnm", states=2, degree=2, per="channel")).module
    assert (long._CHUNK, short._CHUNK) == (16, 4)
    assert [long._chunk(t) for t in (0, 1, 4, 5, 8, 9, 16, 17, 1000)] == [4, 4, 4, 8, 8, *[16] * 4]
    assert [short._chunk(t) for t in (0, 4, 5, 1000)] == [4] * 4


CONDITIONS = tuple(
    {"case": case, "kernel": kernel, "target": "sm_90"}
    for case in ("decided", "gated", "gate")
    for kernel in ("_forward_kernel", "_backward_kernel")
)


@slow
@pytest.mark.timeout(900)
def test_compiled(tmp_path, monkeypatch):
    """Every kernel for four GPUs, without a spill; 8 neurons a thread, the control, spill.

    Conditions on numbers alone, on blocks alone and on both; states that nothing varies.
    `tests/resources` has registers and spills of other neurons.
    """
    from tests.backends.triton.compiled import outcome

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    check_compiled([outcome(job) for job in ALL_JOBS])
    for o in map(outcome, CONDITIONS):
        assert "cubin" in o["kinds"], o
        assert o["approximate"] == [], o


def test_a_cpu_tensor_is_refused_without_the_interpreter():
    """One line, in place of Triton's `0 active drivers ([])`."""
    problem = "lif: x_seq is on cpu; expected a GPU, or TRITON_INTERPRET=1 at import"
    with pytest.raises(ValueError, match=f"^{problem}$"):
        build(lnm.get("lif")).module.lif(torch.ones(3, 2, 5), 2.0, 1.0)


CALLS = ((0, 1, 0), (1, 16, 0), (4, 1500, 0), (17, 7, 1), (4096, 2**20, 0), (65536, 2**40, 3))
"""Time steps, a size, and the offset of a view."""


def test_no_recompilation():
    """A new T, batch, size or view gives the key under which a kernel is compiled already."""
    from triton.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    from tests.backends.triton.compiled import TARGETS, constants_of

    built = build(lnm.get("lnm", degree=4))
    backend, memory = make_backend(TARGETS["sm_90"]), torch.zeros(64)
    for name in ("_forward_kernel", "_backward_kernel", "_sums_kernel"):
        kernel = getattr(built.module, name)
        bind = create_function_from_signature(kernel.signature, kernel.params, backend)
        run_time = [p for p in kernel.params if not p.is_constexpr]
        assert all(p.do_not_specialize for p in run_time)
        assert {p.annotation_type for p in run_time} == {"", "i64"}
        keys = set()
        for steps, size, offset in CALLS:
            sizes = (steps if p.name == "time_steps" else size for p in run_time)
            values = [n if p.annotation_type else memory[offset:]
                      for p, n in zip(run_time, sizes, strict=True)]  # fmt: skip
            keys.add(str(bind(*values, **constants_of(built, name), num_warps=4)[1]))
        assert len(keys) == 1


class Launches(list):
    """Launches of a module's kernels, recorded in place of them: name, grid, arguments, options."""

    def __init__(self, monkeypatch, module):
        for name in ("_forward_kernel", "_backward_kernel", "_sums_kernel"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, Recorder(self, name))


class Recorder:
    """A kernel whose sums are 1."""

    def __init__(self, launches, name):
        self.launches, self.name = launches, name

    def __getitem__(self, grid):
        def launch(*given, **options):
            self.launches.append((self.name, grid, given, options))
            for tensor in given:
                if getattr(tensor, "dtype", None) == torch.float64:
                    tensor.fill_(1.0)

        return launch


def call(built, way, sizes, absent=False, **tensors):
    """Call a direction with empty tensors, or with None where it may be."""
    given = {}
    for field in getattr(built.plan, f"{way}_fields"):
        is_none = absent and field.nullable
        given[field.name] = None if is_none else torch.empty(2, device="meta")
        if field.kind == "int64_t":
            given[field.name] = sizes[1]
    getattr(built.module, way)(*sizes, *(given | tensors).values())


def test_launches(monkeypatch):
    """2^33 neurons fit the first axis of a grid; short chunks; no multiply-add is fused."""
    for neuron, absent, kernels in (
        (lnm.get("lif"), True, ["_forward_kernel", "_backward_kernel"]),
        (lnm.get("lnm", degree=1), False, ["_forward_kernel", "_backward_kernel", "_sums_kernel"]),
    ):
        built = build(neuron)
        launches = Launches(monkeypatch, built.module)
        for way in ("forward", "backward"):
            call(built, way, (5, 1 << 33, 1, 1, 1 << 33), absent)
        assert [name for name, *_ in launches] == kernels
        assert [grid for _, grid, *_ in launches] == [(1 << 24,), (1 << 23,), (1,)][: len(kernels)]
        assert not any(options["enable_fp_fusion"] for *_, options in launches)
        assert [options.get("_CHUNK") for *_, options in launches][:2] == [None, 8]  # T = 5
        assert any(value is None for value in launches[0][2]) == absent


def test_programs_of_the_reduction(monkeypatch):
    """A program for each channel, also for a parameter per layer: one program once had all."""
    built, channels = build(lnm.normalised(lnm.get("plif"))), 64
    finite = {f"grad_{p.name}": torch.zeros(p.size or ()) for p in built.plan.learnable
              if p.per == "layer"}  # fmt: skip
    launches = Launches(monkeypatch, built.module)
    tensors = {f.name: torch.zeros(channels) for f in built.plan.backward_fields
               if f.kind != "int64_t"}  # fmt: skip
    call(built, "backward", (4, 2 * channels * 9, channels * 9, channels, 9), **tensors | finite)
    assert launches[1][:2] == ("_sums_kernel", (channels,))
    assert finite
    assert all((gradient == channels).all() for gradient in finite.values())


def test_explain_counts_these_launches():
    """The sums in PyTorch for parameters per layer beside finer ones were not counted."""
    found = [lnm.get("if")]
    for pers in ("layer channel", "layer neuron", "layer layer", "channel neuron"):
        per = dict(zip(("theta", "v_threshold"), pers.split(), strict=True))
        found.append(lnm.get("lnm", degree=2, learn_threshold=True, per=per))
    for neuron in found:
        backward = text_of(neuron).partition("\ndef backward(")[2].partition("\nclass ")[0]
        launches = re.findall(r"_kernel\[|\.sum\(|\.copy_\(", backward)
        schedule = schedule_of(plan_of(neuron), "triton")
        assert schedule.backward_launches == len(launches) > 0


def text_of(neuron: lnm.Neuron, dtype: str = "float32") -> str:
    source = Triton().emit(replace(plan_of(neuron), dtype=dtype))
    assert list(source.files) == [f"{neuron.name}.py"]
    return source.files[source.entry]


def test_stands_alone():
    """It imports PyTorch, Triton and `math`, and defines each function once."""
    tree = ast.parse(text_of(CASES["dendrite"]()))
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names}
    assert names == {"math", "torch", "triton", "triton.language"}
    defined = [n.name for n in tree.body if isinstance(n, ast.FunctionDef)]
    assert len(defined) == len(set(defined))


def test_numbers():
    """Literals of float64 keep their digits, and subnormal ones of float32."""
    assert number(0.1, "float32") == "0.1"
    assert number(0.1, "float64") == "tl.full([], 0.1, tl.float64)"
    assert number(0.5, "float64") == "0.5"
    assert number(1e-40, "float32") == "tl.full([], 1e-40, tl.float32)"
    assert number(float("-inf"), "float32") == 'float("-inf")'
