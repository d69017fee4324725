"""The generated Triton module: it stands alone, agrees with `lnm.interpret`, and compiles.

Triton's interpreter and its compiler cannot share a process, and the interpreter is chosen by an
environment variable before Triton is imported: both run in scripts of their own, `Session` starts
each once. Nothing here needs a GPU.
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
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.explain import schedule_of
from tests.backends.triton.runs import build
from tests.cases import CASES, ZOO
from tests.refusals import refused
from tests.test_agree import BITWISE

ROOT = Path(__file__).parents[3]
CHECKS = (
    "edges", "granularities", "small_types:bfloat16", "small_types:float16", "layouts",
    "two_levels", "channels_last", "sharing:dendrite:4096", "counts", "non_finite", "traffic",
    "function", "bad_arguments", "bad_values", "random_neurons:5",
)  # fmt: skip
QUICK_CHECKS = (
    "channels_last", "small_types:bfloat16", "counts", "traffic", "function", "bad_arguments",
    "bad_values",
)  # fmt: skip
QUICK = ("lif", "lnm-4")
QUICK_BITS = ("lif",)


def checks(slow: bool) -> tuple[str, ...]:
    """Return what the interpreter is asked to check in quick runs, or beyond them."""
    every = [
        *((f"sequences:{c}:{d}", c in QUICK and d == "float32")
          for c in CASES for d in ("float32", "float64")),
        *((f"bits:{c}", c in QUICK_BITS) for c in BITWISE),
        *((c, c in QUICK_CHECKS) for c in CHECKS),
        *((f"sharing:{c}", False) for c in ("dendrite:4", "glif-steps:4096", "glif-steps:4")),
        *((word, False) for word in ("words:0", "words:3", "words:5", "random_neurons:150")),
    ]  # fmt: skip
    return tuple(word for word, quick in every if quick is not slow)


def run_script(name: str, *words: str) -> str:
    """Run a script of this folder in a process of its own."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::RuntimeWarning",
            "-m",
            f"tests.backends.triton.{name}",
            *words,
        ],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
        timeout=900,
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
    if triton < (3, 9) and check.startswith("bits"):
        pytest.skip("the interpreter of Triton before 3.9 rounds a fused multiply-add twice")


def version_of(package: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version(package).split(".")[:2])


@cache
def interpreted(slow: bool) -> dict[str, str | None]:
    lines = run_script("interpreted", *checks(slow)).splitlines()
    return dict(json.loads(line) for line in lines)


@pytest.mark.parametrize("check", checks(slow=False))
def test_interpreted(check):
    """One check of `interpreted.py`; its docstring says what it pins."""
    skip_where_not_interpreted(check)
    failure = interpreted(slow=False)[check]
    assert failure is None, failure


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("check", checks(slow=True))
def test_interpreted_at_length(check):
    """The other families and types, and many random neurons."""
    skip_where_not_interpreted(check)
    failure = interpreted(slow=True)[check]
    assert failure is None, failure


LNM4 = {"family": "lnm", "options": {"degree": 4}}
BACKWARD = LNM4 | {"kernel": "_backward_kernel"}
MIXED = {"degree": 4, "learn_threshold": True, "per": {"v_threshold": "channel"}}
CONTROL = BACKWARD | {"target": "sm_80", "changed": {"_LANES": 512}}
UNALIGNED = BACKWARD | {"target": "sm_80", "changed": {"_ALIGNED": False}}
TWO_STATES = {"family": "lnm", "options": {"states": 2, "degree": 1}}
QUICK_JOBS = (
    BACKWARD | {"target": "sm_80"},
    BACKWARD | {"target": "sm_80", "changed": {"_CHUNK": 4}},
    TWO_STATES | {"kernel": "_backward_kernel", "target": "sm_90"},
)
TWO_STATE_JOBS = tuple(
    {"family": "lnm", "options": {"states": 2, "degree": 1} | options, "kernel": kernel,
     "target": target}
    for options in ({}, {"per": "channel"}, {"parametrisation": "pole"})
    for kernel in ("_forward_kernel", "_backward_kernel", "_sums_kernel")
    for target in ("sm_80", "sm_90", "gfx942")
)  # fmt: skip
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


def compiled(jobs: tuple[Any, ...], folder: Path) -> list[dict[str, Any]]:
    os.environ["TRITON_CACHE_DIR"] = str(folder)
    try:
        return list(json.loads(run_script("compiled", json.dumps(jobs))))
    finally:
        del os.environ["TRITON_CACHE_DIR"]


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


def test_compiled_quick(tmp_path):
    """No spill at 4 neurons a thread and 16 steps a chunk for degree 4, 8 for two states."""
    outcomes = compiled(QUICK_JOBS, tmp_path)
    check_compiled(outcomes)
    assert outcomes[0]["chunk"] == 16
    assert outcomes[-1]["chunk"] == 8
    assert outcomes[0]["registers"] > 192  # an SM has 4 programs
    assert outcomes[1]["registers"] <= 128  # 8


def test_short_sequences_have_short_chunks():
    """With T = 4 a chunk of 16 steps took twice the registers that a chunk of 4 takes."""
    long = build(lnm.get("lif")).module
    short = build(lnm.get("lnm", states=2, degree=2, per="channel")).module
    assert (long._CHUNK, short._CHUNK) == (16, 4)
    assert [long._chunk(t) for t in (0, 1, 4, 5, 8, 9, 16, 17, 1000)] == [4, 4, 4, 8, 8, *[16] * 4]
    assert [short._chunk(t) for t in (0, 4, 5, 1000)] == [4] * 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled(tmp_path):
    """Every kernel for four GPUs; 8 neurons a thread, the negative control, is seen to spill."""
    outcomes = compiled(ALL_JOBS, tmp_path)
    check_compiled(outcomes)
    assert {o["chunk"] for o in outcomes[:-3]} == {16}  # the last are reductions of more terms


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_states_compile(tmp_path):
    """Two coupled states of degree 1 spill no register with chunks of 8 steps."""
    outcomes = compiled(TWO_STATE_JOBS, tmp_path)
    check_compiled(outcomes)
    assert {o["chunk"] for o in outcomes} == {8}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_conditions_compile(tmp_path):
    """Conditions on numbers alone, on blocks alone and on both; states that nothing varies."""
    jobs = tuple(
        {"case": case, "kernel": kernel, "target": "sm_90"}
        for case in ("decided", "gated", "gate")
        for kernel in ("_forward_kernel", "_backward_kernel")
    )
    for o in compiled(jobs, tmp_path):
        assert "cubin" in o["kinds"], o
        assert o["approximate"] == [], o


def test_a_cpu_tensor_is_refused_without_the_interpreter(tmp_path):
    """One line, in place of Triton's `0 active drivers ([])`."""
    lnm.emit(lnm.get("lif"), "triton").write(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import torch, lif; lif.lif(torch.ones(3, 2, 5), 2.0, 1.0)"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    expected = "lif: x_seq is on cpu; expected a GPU, or TRITON_INTERPRET=1 at import"
    assert last == f"ValueError: {expected}"


def test_no_recompilation():
    """A new T, batch, size or view gives the key under which a kernel is compiled already."""
    assert json.loads(run_script("keys")) == {
        "kernels": 3, "calls": 18, "keys": 3, "specialized": [], "sizes": ["i64"]
    }  # fmt: skip


def test_launched(tmp_path, monkeypatch):
    """A call finds 64-bit sizes and absent arguments; 2^33 neurons fit the first axis of a grid."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    found = json.loads(run_script("launched"))
    assert [(o["kernel"], o["grid"], o["absent"]) for o in found] == [
        ("_forward_kernel", [1 << 24], ["v_final", "checkpoints"]),
        (
            "_backward_kernel",
            [1 << 23],
            ["grad_v_final", "grad_x_seq", "grad_v_init", "partials"],
        ),
        ("_forward_kernel", [1 << 24], []),
        ("_backward_kernel", [1 << 23], []),
        ("_sums_kernel", [1], []),
    ]
    assert all(o["sizes"] == ["i64"] and o["fused"] is False for o in found)
    assert [o["chunk"] for o in found] == [None, 8, None, 8, None]  # T = 5


def test_programs_of_the_reduction(monkeypatch):
    """A program for each channel, also for a parameter per layer: one program once had all."""
    built, channels, launched = build(lnm.normalised(lnm.get("plif"))), 64, []
    finite = [p for p in built.plan.learnable if p.per == "layer"]

    class Launch:
        def __getitem__(self, grid):
            return lambda *given, **_: (
                launched.append((grid, given))
                or [t.fill_(1.0) for t in given if getattr(t, "dtype", None) == torch.float64]
            )

    monkeypatch.setattr(built.module, "_backward_kernel", Launch())
    monkeypatch.setattr(built.module, "_sums_kernel", Launch())
    table = {f.name: 1 if f.kind == "int64_t" else torch.zeros(channels)
             for f in built.plan.backward_fields}  # fmt: skip
    table |= {f"grad_{p.name}": torch.zeros(p.size or ()) for p in finite}
    built.module.backward(4, 2 * channels * 9, channels * 9, channels, 9, *table.values())
    assert launched[1][0] == (channels,)
    assert finite
    for p in finite:
        assert (table[f"grad_{p.name}"] == channels).all()


@pytest.mark.parametrize("pers", ["layer channel", "layer neuron", "layer layer", "channel neuron"])
def test_explain_counts_these_launches(pers):
    """The sums in PyTorch for parameters per layer beside finer ones were not counted."""
    per = dict(zip(("theta", "v_threshold"), pers.split(), strict=True))
    for neuron in (lnm.get("if"), lnm.get("lnm", degree=2, learn_threshold=True, per=per)):
        backward = text_of(neuron).partition("\ndef backward(")[2].partition("\nclass ")[0]
        launches = re.findall(r"_kernel\[|\.sum\(|\.copy_\(", backward)
        schedule = schedule_of(plan_of(neuron), "triton")
        assert schedule.backward_launches == len(launches) > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_kernel_passes_the_front_end():
    """Each case in each type, also where every argument that may be None is."""
    assert int(run_script("launched", *CASES, *ZOO)) >= 4 * 4 * len(CASES | ZOO)


def text_of(neuron: lnm.Neuron, dtype: str = "float32") -> str:
    source = Triton().emit(replace(plan_of(neuron), dtype=dtype))
    assert list(source.files) == [f"{neuron.name}.py"]
    return source.files[source.entry]


@pytest.mark.slow
def test_stands_alone():
    """It imports PyTorch, Triton and `math`; it is a function of the model alone."""
    for case in CASES:
        text = text_of(CASES[case]())
        imported = {
            alias.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert imported == {"math", "torch", "triton", "triton.language"}
        assert not [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)]
        defined = [n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]
        assert len(defined) == len(set(defined))
        assert text == text_of(CASES[case]())
        assert "\n\n\n\n" not in text
        assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_header():
    """The header names the neuron and its equations."""
    assert text_of(CASES["lif"]()).startswith(
        '''\
# SPDX-License-Identifier: 0BSD
# Generated by lnm_codegen from `lif`. Do not edit.
"""The neuron `lif` on a GPU: forward and backward over time, each one fused loop nest.

    charge  v <- v + (-v + x)/tau
    fire    spike = [v - v_threshold >= 0]
    reset   v <- where(spike, 0, v)
    output  spike = spike
'''
    )


def test_step_of_lif():
    """A step: selects, an explicit fma, no division left in it."""
    text = text_of(CASES["lif"]())
    start = text.index("@triton.jit\ndef step_forward")
    assert text[start : text.index("@triton.jit\ndef step_advance")] == (
        '''\
@triton.jit
def step_forward(v, x, v_threshold, p0, inv_tau):
    """Return outputs and states of t, from states of t-1 and inputs of t."""
    # charge
    h = tl.fma(inv_tau, x, p0 * v)
    # fire
    z = h - v_threshold
    fired = z >= 0.0
    # output
    spike = tl.where(fired, 1.0, 0.0)
    # reset
    v_next = tl.where(fired, 0.0, h)
    return spike, v_next


'''
    )


def test_barriers():
    """Threads may exchange the states between two saved ones: all have read before one writes."""
    text = text_of(CASES["lif"]())
    text = text[text.index("def _backward_kernel") :]
    waits = [m.start() for m in re.finditer(r"if section > 1:\n +tl\.debug_barrier\(\)", text)]
    stores = [m.start() for m in re.finditer(r"_store\(slot", text)]
    assert len(waits) == 2
    assert stores
    assert all(waits[0] < store < waits[1] for store in stores)


def test_types():
    """Division and roots are correctly rounded; float64 literals keep their digits."""
    text = text_of(CASES["dendrite"]())
    assert "tl.div_rn(" in text
    assert "tl.sqrt_rn(" in text
    wide = text_of(CASES["dendrite"](), "float64")
    assert "tl.div_rn(" not in wide
    assert "tl.sqrt(" in wide
    assert ".to(tl.float32)" not in wide
    assert ".to(tl.float32)" in text_of(CASES["lif"](), "bfloat16")
    assert number(0.1, "float32") == "0.1"
    assert number(0.1, "float64") == "tl.full([], 0.1, tl.float64)"
    assert number(0.5, "float64") == "0.5"
    assert number(1e-40, "float32") == "tl.full([], 1e-40, tl.float32)"
    assert number(float("-inf"), "float32") == 'float("-inf")'


@pytest.mark.parametrize(
    ("param", "name", "word"), [("block", "mine", "block"), ("w", "math", "math")]
)
def test_words_of_the_host_are_refused(param, name, word):
    """An argument of `forward` that is not a parameter, a module."""
    v, x, w = lnm.state("v"), lnm.input("x"), lnm.param(param)
    neuron = lnm.Neuron(charge={v: v * w + x}, fire=v - 1, name=name)
    with refused(UnsupportedError, f"triton: {name}", f"the name {word!r}", remedy="Rename"):
        Triton().emit(plan_of(neuron))


def test_names_in_the_kernels_get_an_affix_where_one_collides():
    """Arguments of the host functions keep their names."""
    v, x, w = lnm.state("lane"), lnm.input("x"), lnm.param("w")
    neuron = lnm.Neuron(charge={v: v * w + x}, fire=v - 1, name="mine")
    text = lnm.emit(neuron, "triton").files["mine.py"]
    assert "own_lane_ = _initial(own_lane__init" in text
    assert "def mine(x_seq, w, lane_init=0.0):" in text


def test_a_neuron_without_a_name_is_accepted():
    """`neuron`, its default name, is a local of the kernels, where the module's is not read."""
    v, x = lnm.state("v"), lnm.input("x")
    source = lnm.emit(lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1), "triton")
    assert "def neuron(x_seq, v_init=0.0):" in source.files["neuron.py"]
