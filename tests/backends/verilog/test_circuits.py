"""Circuits in Icarus against the fixed-point kernel, their lint, latches, faults and refusals.

A bench compares `_next` on steps from any state, `_comb` on a run, `_core` and `_seq` on steps with
gaps and stalls, `_array` on streams. The vectors come from `ir.interpret`.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.backends.fixed import FixedModel
from lnm_codegen.backends.verilog.backend import Verilog
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.quantize import node_names
from tests.backends.verilog.runs import (
    Bench,
    drawn_formats,
    model,
    needs_iverilog,
    needs_verilator,
    needs_yosys,
    with_random_coefficients,
)
from tests.cases import CASES, ZOO, fixed_zoo
from tests.refusals import assert_refused, refused
from tests.strategies import neurons

slow = pytest.mark.slow
Q4_12 = lnm.Fixed(16, 12)
ROUNDINGS = ("half_up", "truncate", "convergent")
THETA = (0.02, 0.85, 0.11, -0.06, 0.013)
MIXED = lnm.FixedSpec(
    lnm.Fixed(13, 9, "convergent"),
    {"x": lnm.Fixed(10, 7), "y": lnm.Fixed(5, 3), "w": lnm.Fixed(9, 6, "truncate")},
)


# ---- neurons ----


def poly(degree: int = 3, **options: Any) -> lnm.Neuron:
    theta = (0, 0.9) if degree == 1 else THETA[: degree + 1]
    return lnm.get("lnm", **{"degree": degree, "theta": theta} | options)


def layerwise(name: str) -> lnm.Neuron:
    """Return a case with parameters of the layer: a circuit has none per neuron."""
    found = copy.copy((CASES | ZOO)[name]())
    object.__setattr__(found, "params", tuple(replace(p, per="layer") for p in found.params))
    return found


def squares() -> lnm.Neuron:
    """The same product twice in one sum and in two Lets, under a where, in a comparison."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    k = lnm.param("k", init=0.5)
    return lnm.Neuron(
        charge={
            v: v * x + k * (v * x) + lnm.where(v * w > x * k, v * v, w * x) + x,
            w: v * x - w * w - (v * x) * (v * x),
        },
        fire=v * v - w * x,
        reset={v: v - lnm.spike * v * k},
        output={"spike": lnm.spike, "graded": lnm.spike * v * v},
        name="squares",
    )


def still() -> lnm.Neuron:
    """A state that nothing reads, and another that only an output reads."""
    v, last, x = lnm.state("v", init=0.5), lnm.state("last"), lnm.input("x")
    output = {"spike": lnm.spike, "held": last}
    return lnm.Neuron({v: x * 0.5}, v - 0.25, {last: lnm.spike}, output, name="still")


def several() -> lnm.Neuron:
    """Two states, one of which begins at 0.75, and two inputs."""
    v, w = lnm.state("v"), lnm.state("w", init=0.75)
    x, y = lnm.input("x"), lnm.input("y")
    reset = {v: lnm.where(lnm.spike, 0, v), w: w + lnm.spike * 0.5}
    return lnm.Neuron({v: v * 0.9 + x * y, w: w * 0.5 + v * 0.25}, v - 1, reset, name="several")


WORDS = """unused acc idle adding clamping factor product total wide last start done
    multiplier even word dut k wrong seed count spike_now flight core flow still pending
    valid_before started mul_1 h_sum h_product in_put out_1 v_now v_before GAIN gain Row fresh
    channel TIGHTER COUNT s_unused name_ d q p ram states""".split()
"""Names of the generator's signals without their underscore, and names that look like them."""


def named(words: list[str], name: str) -> lnm.Neuron:
    """Two states, an input, three parameters and two outputs with these names."""
    first, second = lnm.state(words[0]), lnm.state(words[1], init=0.5)
    x = lnm.input(words[2])
    a, b, c = (lnm.param(word, init=k / 7) for k, word in enumerate(words[3:6], 2))
    return lnm.Neuron(
        charge={first: a * first + x, second: second * second * b + first * c},
        fire=first - 1,
        reset={first: lnm.where(lnm.spike, 0, first)},
        output={words[6]: first * second, words[7]: lnm.spike},
        name=name,
    )


# ---- circuits ----


def circuit(
    neuron: lnm.Neuron, name: str, *forms: Any, spec: Any = Q4_12, **options: Any
) -> FixedModel:
    """Return the model of forms; options of `lnm.Rtl` are among the others."""
    words = ("coefficients", "neurons", "through", "shift_add", "multiplier", "vectors")
    rtl = {"vectors": 100} | {word: options.pop(word) for word in words if word in options}
    return model(neuron, spec, name, lnm.Rtl(forms=forms or ("comb", "core"), **rtl), **options)


def channels(count: int, size: int, **more: Any) -> FixedModel:
    theta = np.random.default_rng(count).normal(0, 0.5, (count, 3))
    neuron = lnm.get("lnm", degree=2, per="channel")
    options = {"coefficients": "memory", "values": {"theta": theta}}
    name = "_".join(("channels", str(count), str(size), *more.values()))
    return circuit(neuron, name, "array", neurons=size, **options | more)


def random_models(count: int, rounds: int) -> list[FixedModel]:
    """Draw neurons, formats, coefficients and options."""
    found: list[FixedModel] = []

    @settings(max_examples=count, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(neurons(fixed=True, pers=("layer",)), st.integers(0, 2**32 - 1))
    def draw(neuron: lnm.Neuron, seed: int) -> None:
        rng = np.random.default_rng(seed)
        scheme = str(rng.choice(("horner", "estrin")))
        names = node_names(lower(neuron, scheme))
        for _ in range(rounds):  # until every constant fits
            rtl = lnm.Rtl(
                forms=("comb", "core"),
                coefficients=str(rng.choice(("constant", "port"))),
                shift_add=int(rng.integers(0, 9)),
                multiplier=str(rng.choice(("generic", "ecp5"))),
            )
            try:
                spec = drawn_formats(names, rng)
                made = model(neuron, spec, f"k{len(found)}", rtl, scheme=scheme)
            except ModelError:
                continue
            wide = any(
                fx.bits_of(e).width > 18
                for let in made.program.kernel.body
                for p in fx.walk(let.value)
                if isinstance(p, fx.Product)
                for e in (p.lhs, p.rhs)
            )
            made = replace(made, rtl=replace(rtl, multiplier="generic")) if wide else made
            found.append(with_random_coefficients(made, rng))
            return

    draw()
    assert len(found) > count * 0.8
    return found


def families(cases: Iterable[str]) -> list[FixedModel]:
    """Constants and ports, schemes and roundings in turn."""
    return [
        circuit(
            layerwise(case), f"{case.replace('-', '_').lower()}_{coefficients}",
            spec=lnm.Fixed(16, 12, ROUNDINGS[k % 3]), scheme=("horner", "estrin")[k // 3 % 2],
            coefficients=coefficients,
        )
        for k, case in enumerate(cases) for coefficients in ("constant", "port")
    ]  # fmt: skip


def quick() -> list[FixedModel]:
    """Each form, coefficient, multiplier, rounding and scheme, and what is rare."""
    return [
        *random_models(3, 40)[:2],
        circuit(squares(), "squares", coefficients="port", shift_add=0),
        circuit(still(), "still", shift_add=2),
        circuit(layerwise("gate"), "gate", "comb", "core", "seq"),
        circuit(layerwise("decided"), "decided", spec=lnm.Fixed(16, 12, "truncate")),
        circuit(layerwise("lnm-matrix"), "matrix", "comb", "core", "seq", "array", neurons=5),
        circuit(poly(4), "estrin", "core", "seq", scheme="estrin", coefficients="port"),
        circuit(poly(v_reset=None), "ecp5", spec=lnm.Fixed(18, 14), multiplier="ecp5"),
        circuit(lnm.get("lnm", degree=3, theta=(0, 0, 0, 0)), "zero", spec=lnm.Fixed(6, 0)),
        circuit(poly(2, theta=(0, 0.5, 0.5), v_threshold=0.5), "narrow", spec=lnm.Fixed(2, 1)),
        circuit(several(), "several", "array", spec=MIXED, neurons=6, coefficients="port"),
        circuit(poly(v_reset=None), "soft", "seq", spec=lnm.Fixed(16, 12, "truncate")),
        circuit(lnm.get("izhikevich", tau=3.0, a=0.3, b=0.2), "iz", "seq", coefficients="port"),
        circuit(lnm.get("lnm", states=2, degree=3, v_reset=0.0), "two", "seq", spec=MIXED.default),
        channels(3, 6),
        channels(2, 2),
        *(turns(n) for n in (1, 3, 5)),
        channels(3, 9, through="seq", coefficients="load"),
    ]  # fmt: skip


def rare() -> list[FixedModel]:
    """Products twice, states that nothing reads, two bits, no fraction, coefficients 0."""
    found = [
        circuit(make(), f"{make.__name__}_{digits}_{where}", shift_add=digits, coefficients=where)
        for make in (squares, still) for digits in (0, 2) for where in ("constant", "port")
    ]  # fmt: skip
    zero, two = lnm.get("lnm", degree=3, theta=(0, 0, 0, 0)), (0, 0.5, 0.5)
    for rounding in ROUNDINGS:
        for name, neuron, width, frac, more in (
            ("if", lnm.get("if"), 6, 0, {}), ("zero", zero, 6, 0, {}),
            ("iz", lnm.get("izhikevich"), 18, 8, {}),
            ("two_bits", poly(2, theta=two, v_threshold=0.5), 2, 1, {}),
            ("ecp5", poly(), 18, 14, {"multiplier": "ecp5"}),
        ):  # fmt: skip
            spec = lnm.Fixed(width, frac, rounding)
            found.append(circuit(neuron, f"{name}_{rounding}", spec=spec, **more))
    return found


def turns(neurons: int, family: str = "lnm", **options: Any) -> FixedModel:
    """Return an array whose neurons take turns on one multiplier."""
    neuron = lnm.get(family) if family != "lnm" else lnm.get("lnm", states=2, degree=2)
    name = f"turns_{family}_{neurons}"
    return circuit(neuron, name, "array", neurons=neurons, through="seq", **options)


def arrays() -> list[FixedModel]:
    """Fewer neurons than pipeline stages, as many, more; channels; coefficients on ports."""
    return [
        *(circuit(poly(), f"n{n}", "array", neurons=n) for n in (1, 2, 5, 15, 16, 17)),
        *(channels(*each) for each in ((1, 3), (3, 3), (4, 12), (3, 12), (5, 40), (20, 20))),
        circuit(poly(), "ports", "array", neurons=7, coefficients="port"),
        circuit(several(), "several", "array", spec=MIXED, neurons=6),
        circuit(several(), "several_turns", "array", spec=MIXED, neurons=6, through="seq"),
        *(turns(n) for n in (2, 4, 16, 50)),
        *(turns(n, f, spec=lnm.Fixed(18, 8)) for n in (1, 4, 20) for f in SEQUENTIAL if f != "lnm"),
        *(channels(*each, through="seq") for each in ((1, 3), (3, 3), (4, 12), (20, 20))),
        circuit(poly(), "turns_ports", "array", neurons=7, coefficients="port", through="seq"),
        circuit(lnm.get("izhikevich"), "iz", "array", spec=lnm.Fixed(18, 8), neurons=20),
        circuit(lnm.get("lnm", states=2, degree=1), "two_states", "array", neurons=20),
        *(circuit(lnm.get(f), f"{f}_{r}_{n}", "array", spec=lnm.Fixed(18, 8, r), neurons=n)
          for f in ("if", "lif", "plif", "li", "ternary", "qif", "cuba_lif", "izhikevich")
          for r in ROUNDINGS for n in (3, 16, 50)),
    ]  # fmt: skip


SEQUENTIAL = {
    "if": {}, "lif": {"tau": 3.0}, "li": {"tau": 3.0}, "qif": {}, "ternary": {"decay": 0.3},
    "cuba_lif": {"current_decay": 0.6, "voltage_decay": 0.77},
    "izhikevich": {"tau": 3.0, "a": 0.3, "b": 0.2}, "lnm": {"degree": 3, "theta": THETA[:4]},
}  # fmt: skip


def seq(neuron: lnm.Neuron, name: str = "neuron", **options: Any) -> FixedModel:
    return circuit(neuron, name, "seq", **options)


def sequences() -> list[FixedModel]:
    """Return a model for each case of a schedule, every family and rounding, and drawn ones."""
    mixed = {"theta_3": lnm.Fixed(10, 9), "h_2": lnm.Fixed(18, 13)}
    two = lnm.get("lnm", states=2, degree=3, v_reset=0.0)
    drawn = [replace(m, name=f"drawn_{k}", rtl=replace(m.rtl, forms=("seq",)))
             for k, m in enumerate(random_models(80, 40))]  # fmt: skip
    return [
        *drawn,
        seq(poly(v_reset=None), "soft", spec=lnm.Fixed(16, 12, "truncate")),
        seq(poly(), "narrow", spec=lnm.Fixed(8, 5)),
        seq(poly(), "mixed", spec=lnm.FixedSpec(Q4_12, mixed)),
        seq(poly(4), "estrin", scheme="estrin"),
        seq(two, "two_states_cubic", spec=lnm.Fixed(16, 12, "truncate")),
        *(seq(lnm.get(f, **given), f"{f}_{r}_{c}", spec=lnm.Fixed(16, 12, r), coefficients=c)
          for f, given in SEQUENTIAL.items() for r in ROUNDINGS for c in ("constant", "port")),
    ]  # fmt: skip


def words(coefficients: str) -> list[FixedModel]:
    """The words in turn as states, inputs, parameters and outputs, in every form."""
    forms = ("comb", "core", "seq", "array")
    return [
        circuit(
            named([WORDS[(k + j) % len(WORDS)] for j in range(8)], f"n{k}"), f"n{k}", *forms,
            coefficients=coefficients, neurons=3, shift_add=0,
        )
        for k in range(0, len(WORDS), 3)
    ]  # fmt: skip


GROUPS: dict[str, Callable[[], list[FixedModel]]] = {
    "quick": quick,
    "rare": rare,
    "random": lambda: random_models(120, 40),
    "families": lambda: families(name for name in CASES if name != "dendrite"),
    "zoo": lambda: families(fixed_zoo()),
    "arrays": arrays,
    "sequences": sequences,
    **{f"names {c}": lambda c=c: words(c) for c in ("memory", "load", "constant", "port")},  # type: ignore[misc]
}


@needs_iverilog
@needs_verilator
@needs_yosys
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "group", [pytest.param(g, marks=() if g == "quick" else slow) for g in GROUPS]
)
def test_circuits(group: str, tmp_path: Path) -> None:
    """Every testbench passes; no tool warns; every register is on the rising edge of the clock."""
    bench = Bench(tmp_path)
    for each in GROUPS[group]():
        bench.add(each)
    bench.simulate()
    bench.lint()
    latches = "t:$dlatch t:$adlatch t:$dlatchsr t:$sr t:$adff t:$dffsr t:$aldff"
    script = f"read_verilog {' '.join(sorted(bench.rtl))}; proc; select -assert-none {latches}"
    yosys(script, tmp_path)


def yosys(script: str, folder: Path) -> None:
    command = ["yosys", "-q", "-p", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@needs_yosys
@pytest.mark.parametrize("inputs", [4, pytest.param(6, marks=slow)])
def test_yosys_keeps_comparisons_of_few_bits(inputs: int, tmp_path: Path) -> None:
    """The step is equal to its LUTs. Yosys 0.52 maps `t0 < -4'sd4` to the LUT of `t0 < 12`."""
    neuron = poly(2, theta=(0.0, 0.25, -0.25), v_min=-1.0)
    rtl = lnm.Rtl(forms=("comb",))
    lnm.emit(neuron, "verilog", name="small", spec=lnm.Fixed(4, 2), rtl=rtl).write(tmp_path)
    yosys(
        "read_verilog rtl/small_next.v; prep -top small_next; copy small_next source;"
        f" techmap -map +/cmp2lut.v -D LUT_WIDTH={inputs} small_next;"
        " miter -equiv -flatten source small_next both; sat -verify -prove trigger 0 both",
        tmp_path,
    )


# ---- faults ----


@needs_iverilog
def test_a_wrong_vector_is_detected(tmp_path: Path) -> None:
    """Each testbench prints FAIL if a bit of its vectors changes, or without its vectors."""
    bench = Bench(tmp_path)
    bench.add(circuit(poly(2), "lnm_2"))
    bench.add(circuit(poly(), "n5", "array", neurons=5))  # has vectors of streams alone
    for name, form, file in (
        ("lnm_2", "next", "next"), ("lnm_2", "comb", "run"), ("lnm_2", "core", "step"),
        ("n5", "next", "next"), ("n5", "next", None),
    ):  # fmt: skip
        path = tmp_path / f"{name}_{file or form}.hex"
        kept = path.read_text()
        lines = kept.splitlines()
        lines[70] = f"{int(lines[70], 16) ^ 1:0{len(lines[70])}x}"
        path.write_text("\n".join(lines) + "\n")
        if file is None:
            path.unlink()
        with pytest.raises(AssertionError, match=f"PASS {name}_{form}:" if file else None):
            bench.simulate()
        path.write_text(kept)
    bench.simulate()


ARRAY_FAULTS = {
    "a neuron comes in before it is written": ("_in_flight != ", "1'b1 || _in_flight != "),
    "results do not wait": ("!m_axis_tvalid || m_axis_tready", "1'b1"),
    "written where nothing is taken": (".write(m_axis_transfer)", ".write(s_axis_transfer)"),
    "inputs during clear": ("ce && !clear && !restart", "ce && !restart"),
    "inputs during rst": ("= accepts && !rst;", "= accepts;"),
    "clear forgets nothing": ("fresh       <= 1'b1", "fresh       <= rst"),
    "clear counts on": ("if (restart_out)", "if (1'b0 && restart_out)"),
    "no tlast": ("assign m_axis_tlast = ", "assign m_axis_tlast = 1'b0 && "),
    "the wrong initial state": ("? 9'sd48 :", "? 9'sd47 :"),
    "an input is read elsewhere": (".d(s_axis_tdata[9:0])", ".d(s_axis_tdata[10:1])"),
    "tlast in the wrong place goes unseen": ("tlast_error <= 1'b1", "tlast_error <= 1'b0"),
    "an input is lost": (", s_axis_transfer}", ", s_axis_transfer && !restart_out}"),
}
SEQ_FAULTS = {
    "payload": ("if (_pending && _free) begin", "if (_pending) begin"),
    "loses": ("wire _free  = _idle && !(_pending && out_valid);", "wire _free  = _idle;"),
    "ready in rst": ("assign in_ready = _free && !rst;", "assign in_ready = _free;"),
    "withdraws": ("(out_valid && !out_ready);", "1'b0;"),
    "repeats": ("(out_valid && !out_ready);", "out_valid;"),
    "reset": ("_clamping    <= 1'b0;", ""),
    "slow": ("wire _last  = _step == 2'd3;", "wire _last  = _step == 2'd0 && !_idle;"),
    "wraps": ("if (_below) _acc", "if (1'b0) _acc"),
    "rounding": ("{_THETA_1, 1'd1}", "{_THETA_1, 1'd0}"),
}
FAULTS = [("array", *pair) for pair in ARRAY_FAULTS.values()]
FAULTS += [("seq", *pair) for pair in SEQ_FAULTS.values()]
QUICK_FAULTS = ("no tlast", "clear forgets nothing", "withdraws", "rounding")


@cache
def faulty(form: str) -> dict[str, str]:
    if form == "seq":
        return dict(emitted(seq(poly(), vectors=2000))[0])
    made = circuit(several(), "neuron", "array", spec=MIXED, neurons=6)
    return dict(Verilog().emit(replace(made, rtl=replace(made.rtl, vectors=200))).files)


@needs_iverilog
@pytest.mark.parametrize(
    ("form", "sound", "fault"),
    [pytest.param(*row, id=name, marks=() if name in QUICK_FAULTS else slow)
     for row, name in zip(FAULTS, (*ARRAY_FAULTS, *SEQ_FAULTS), strict=True)],
)  # fmt: skip
def test_the_testbench_finds_faults(form: str, sound: str, fault: str, tmp_path: Path) -> None:
    """Each is one change of the module."""
    files, path = faulty(form), f"rtl/neuron_{form}.v"
    assert files[path].count(sound) == 1
    changed = files | {path: files[path].replace(sound, fault)}
    assert f"FAIL neuron_{form}" in simulated(changed, f"neuron_{form}", tmp_path)


@needs_iverilog
@slow
def test_exchanged_rows_of_channels_are_detected(tmp_path: Path) -> None:
    """The testbench detects two exchanged rows of the memory."""
    files = dict(Verilog().emit(channels(3, 12)).files)
    text = files["rtl/channels_3_12_coefficients.v"]
    swapped = text.replace("memory[1] =", "memory[9] =").replace("memory[2] =", "memory[1] =")
    files["rtl/channels_3_12_coefficients.v"] = swapped.replace("memory[9] =", "memory[2] =")
    assert "FAIL" in simulated(files, "channels_3_12_array", tmp_path)


def simulated(files: dict[str, str], top: str, folder: Path) -> str:
    """Return the output of a testbench, with as many vectors as were emitted."""
    for path, text in files.items():
        (folder / Path(path).name).write_text(text, encoding="utf-8")
    sources = [Path(p).name for p in files if p.startswith("rtl/")] + [f"{top}_tb.v"]
    subprocess.run(["iverilog", "-g2005", "-o", "sim.vvp", *sources], cwd=folder, check=True)
    done = subprocess.run(
        ["vvp", "-n", "sim.vvp"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    return done.stdout


@needs_iverilog
@slow
def test_thousands_of_vectors(tmp_path: Path) -> None:
    files = emitted(seq(poly(), vectors=2000))[0]
    assert simulated(files, "neuron_seq", tmp_path) == "PASS neuron_seq: 2000 vectors\n"
    files = Verilog().emit(circuit(poly(), "n", "array", neurons=256, vectors=2000)).files
    assert simulated(files, "n_array", tmp_path) == "PASS n_array: 3127 updates\n"


# ---- cycles and cells ----


def emitted(each: FixedModel) -> tuple[dict[str, str], dict[str, Any]]:
    files = Verilog().emit(each).files
    return files, json.loads(files["manifest.json"])["forms"]["seq"]


def test_cycles_of_a_step_on_one_multiplier() -> None:
    """3 d + 4 cycles for degree d; a soft reset, each product and each saturated sum is a step."""
    iz = lnm.get("izhikevich", **SEQUENTIAL["izhikevich"])
    for each, interval, multipliers in (
        *((seq(poly(degree)), 3 * degree + 4, 1) for degree in (1, 2, 3, 4)),
        (seq(poly(v_reset=None)), 3 * 3 + 4 + 3, 1),
        (seq(iz, coefficients="port"), 3 * (8 + 1) + 1, 1),
        (seq(lnm.get("lnm", states=2, degree=1)), 16, 1),
        (seq(lnm.get("if")), None, 0),
        (seq(lnm.get("cuba_lif")), None, 0),
    ):
        files, form = emitted(each)
        assert form["multipliers"] == multipliers
        assert ("rtl/neuron_mul.v" in files) == (multipliers == 1)
        text = files["rtl/neuron_seq.v"]
        assert len(re.findall(r"neuron_mul #", text)) == multipliers
        assert not re.search(r"\w \* \w", re.sub(r"//.*", "", text))
        if interval:
            assert (form["interval"], form["latency"]) == (interval, interval + 1)


def test_the_manifest_of_an_array() -> None:
    """The latency is the core's and three cycles; a tick lasts as long as pipeline or neurons."""
    found = {}
    for size in (5, 256):
        files = Verilog().emit(circuit(poly(), "n", "array", neurons=size)).files
        found[size] = json.loads(files["manifest.json"])["forms"]
        assert set(found[size]["array"]["files"]) < set(files)
    modules = ("clamp", "delay", "mul", "step", "ram", "core", "array")
    expected = {
        "top": "n_array", "files": [f"rtl/n_{word}.v" for word in modules],
        "testbench": "tb/n_array_tb.v", "latency": 15, "interval": 1, "multipliers": 3,
        "neurons": 5, "tick_cycles": 16,
    }  # fmt: skip
    assert list(found[5]) == ["array"]
    assert found[5]["array"].items() >= expected.items()
    assert found[256]["array"]["tick_cycles"] == 256


@needs_yosys
@slow
@pytest.mark.parametrize("degree", [1, 2, 3, 4, "array"])
def test_cells_on_ecp5(degree: Any, tmp_path: Path) -> None:
    """One multiplier and few LUT; 256 neurons: 144 LUT when this was written."""
    most, cells, form = 135, {"MULT18X18D": 1}, "seq"
    made = seq(poly(1 if degree == "array" else degree))
    if degree == "array":
        most, cells, form = 195, {"MULT18X18D": 3, "DP16KD": 1}, "array"
        made = circuit(poly(), "neuron", "array", neurons=256)
    files = Verilog().emit(made).files
    for path in json.loads(files["manifest.json"])["forms"][form]["files"]:
        (tmp_path / Path(path).name).write_text(files[path], encoding="utf-8")
    synth = f"synth_ecp5 -top neuron_{form}; tee -q -o stat.json stat -json"
    yosys(f"read_verilog *.v; proc; select -assert-none t:$dlatch; {synth}", tmp_path)
    found = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert found["LUT4"] + 2 * found["CCU2C"] <= most
    assert found.items() >= cells.items()


# ---- text and refusals ----


def test_every_file_is_plain() -> None:
    """`default_nettype` on and off, a module of the file's name, comments of constants."""
    files = lnm.emit(poly(2), "verilog", spec=Q4_12).files
    for path, text in files.items():
        assert text.endswith("\n"), path
        assert not text.endswith("\n\n"), path
        assert all(line == line.rstrip() for line in text.splitlines()), path
        if path.startswith("rtl/"):
            name = path.removeprefix("rtl/").removesuffix(".v")
            assert f"\nmodule {name} " in text
            assert text.count("\nmodule ") == 1
            assert "\n`default_nettype none\n" in text
            assert text.endswith("\n`default_nettype wire\n")
            assert not re.search(r"^ *initial\b", text, re.M) or "coefficients" in path
    lines = files["rtl/lnm_next.v"].splitlines()
    comment = "// 0.110107421875 for 0.11, Q4.12"
    assert f"    localparam signed [15:0] _THETA_2 = 16'sd451;  {comment}" in lines
    assert "    // _V_THRESHOLD: 1.0, Q4.12" in lines
    assert lnm.emit(poly(2), "verilog", spec=Q4_12).files == files


def leaky(v: str = "v", x: str = "x", output: str = "spike", leak: str = "leak") -> Any:
    """Emit a neuron of given names."""
    v_, x_ = lnm.state(v), lnm.input(x)
    charge = {v_: lnm.param(leak, init=0.3) * v_ + lnm.param("gain", init=0.7) * x_}
    neuron = lnm.Neuron(charge, v_ - 1, output={output: lnm.spike}, name="drawn")
    return lnm.emit(neuron, "verilog", spec=Q4_12)


def test_refusals() -> None:
    """Names of ports and words of tools, in one line, before a file is written; options."""
    names = {"leaky": leaky, "lnm": lnm, "lif": lnm.get("lif"), "Q": Q4_12}
    table = """
verilog: drawn >>  >> Rename the state, input, parameter or bound value.
    leaky(v="clk") >> 'clk' is the name of a port
    leaky(x="rst") >> 'rst' is the name of a port
    leaky(x="in_v") >> 'in_v' is the name of a port
    leaky(x="out_v") >> 'out_v' is the name of a port
    leaky(output="s_axis_tdata") >> 's_axis_tdata' is the name of a port
    leaky(v="valid") >> 'in_valid', a handshake
    leaky(leak="ready") >> 'in_ready', a handshake
    leaky(x="casex") >> 'casex' is a keyword of Verilog
    leaky(x="logic") >> 'logic' is a keyword of SystemVerilog
    leaky(x="eval") >> 'eval' is a word of Verilator
"""
    assert_refused(table, names, UnsupportedError)
    table = """
Rtl >> some of comb, core, seq, array
    lnm.Rtl(forms="comb") >> forms is 'comb'
    lnm.Rtl(forms=5) >> forms is 5
    lnm.Rtl(forms=()) >> forms is ()
    lnm.Rtl(forms=("comb", "fast")) >> forms is ('comb', 'fast')
    lnm.Rtl(coefficients="rom") >> coefficients is 'rom' >> 'constant', 'port', 'memory', 'load'
    lnm.Rtl(through="comb") >> through is 'comb' >> 'core', 'seq'
    lnm.Rtl(multiplier="dsp") >> multiplier is 'dsp' >> 'generic', 'ecp5'
Rtl >> an integer from 1 to 65536
    lnm.Rtl(neurons=0) >> neurons is 0
    lnm.Rtl(neurons=65537) >> neurons is 65537
    lnm.Rtl(neurons=True) >> neurons is True
    lnm.Rtl(neurons=2.0) >> neurons is 2.0
    lnm.Rtl(shift_add=-1) >> shift_add is -1 >> an integer from 0 to 32
    lnm.Rtl(shift_add=33) >> shift_add is 33 >> an integer from 0 to 32
emit
    lnm.emit(lif, "verilog") >> spec is None >> >> Give spec=lnm.Fixed(16, 12)
    lnm.emit(lif, "torch", spec=Q) >> backend is 'torch' >> c, verilog
    lnm.emit(lif, "verilog", spec=Q, rtl="comb") >> rtl is 'comb' for backend 'verilog' >> lnm.Rtl
"""
    assert_refused(table, names)
    assert lnm.Rtl(forms=["core", "comb"]) == lnm.Rtl(forms=("comb", "core", "comb"))


def test_refused_circuits() -> None:
    """A factor too wide for ECP5; channels without a memory; neurons that are no multiple."""
    memory = "Use rtl=lnm.Rtl(coefficients='memory'), or --coefficients memory."
    others = "Use rtl=lnm.Rtl(forms=('comb', 'core', 'seq')), or --forms comb,core,seq."
    wide = circuit(poly(), "wide", spec=lnm.Fixed(20, 16), multiplier="ecp5", shift_add=0)
    where, each = "verilog: channels_3_12", channels(3, 12)
    nothing = lnm.Neuron(charge={}, fire=lnm.input("x") - 1, name="nothing")
    port = replace(each.rtl, coefficients="port")
    for made, rtl, parts in (
        (wide, wide.rtl, ("verilog: wide", " has 20 bits", "at most 18", "Give narrower formats")),
        (each, lnm.Rtl(("comb",)), (where, "'constant' for 3 channels", "'memory'", memory)),
        (each, port, (where, "coefficients is 'port' for 3 channels", "'memory'", memory)),
        (each, replace(each.rtl, neurons=256),
         (where, "neurons is 256 for 3 channels", "a multiple of 3", "or --neurons.")),
        (circuit(nothing, "nothing"), lnm.Rtl(("array",)),
         ("verilog: nothing", "form 'array'", "", others)),
    ):  # fmt: skip
        with refused(UnsupportedError, *parts):
            Verilog().emit(replace(made, rtl=rtl))
