"""Circuits in Icarus against the fixed-point kernel, their lint, and every refusal.

The tests compare `_next` on steps from any state, `_comb` on a run, and `_core` on steps with gaps
and stalls. The vectors come from `ir.interpret`.
"""

from __future__ import annotations

import copy
import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.backends.fixed import FixedModel
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
from tests.refusals import refused
from tests.strategies import neurons

Q4_12 = lnm.Fixed(16, 12)
FEW = ("comb", "core")
THETA = {1: (0, 0.9), 2: (0.02, 0.85, 0.11), 3: (0.02, 0.85, 0.11, -0.06)}


def layerwise(neuron: lnm.Neuron) -> lnm.Neuron:
    """Return the neuron with parameters of the layer: a circuit has none per neuron."""
    found = copy.copy(neuron)
    object.__setattr__(found, "params", tuple(replace(p, per="layer") for p in neuron.params))
    return found


def some(name: str, **options) -> FixedModel:
    neuron = layerwise((CASES | ZOO)[name]())
    return model(neuron, options.pop("spec", Q4_12), options.pop("as_", neuron.name), **options)


def random_models(count: int, rounds: int) -> list[FixedModel]:
    """Draw neurons, formats, coefficients and options."""
    found: list[FixedModel] = []

    @settings(max_examples=count, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(neurons(fixed=True, pers=("layer",)), st.integers(0, 2**32 - 1))
    def draw(neuron, seed):
        rng = np.random.default_rng(seed)
        scheme = str(rng.choice(("horner", "estrin")))
        names = node_names(lower(neuron, scheme))
        for _ in range(rounds):  # until every constant fits
            rtl = lnm.Rtl(
                forms=FEW,
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


@needs_iverilog
@needs_verilator
@pytest.mark.parametrize("count", [12, pytest.param(120, marks=pytest.mark.slow)])
def test_random_kernels(count, tmp_path):
    """Widths 2 to 18, all roundings, constants 0 and powers of two, ports, 0 to 8 signed digits."""
    bench = Bench(tmp_path)
    for made in random_models(count, 40):
        bench.add(made)
    bench.simulate()
    bench.lint()


FAMILIES = tuple(name for name in CASES if name != "dendrite")
QUICK_FAMILIES = ("lif", "plif", "alif", "lnm-4", "lnm-matrix", "gate", "decided", "fitzhugh")
REST = tuple(name for name in FAMILIES if name not in QUICK_FAMILIES)


def bench_of(folder, cases, every):
    """Cases out of `every` in one folder: constants and ports, schemes and roundings in turn."""
    bench = Bench(folder)
    modes = ("half_up", "truncate", "convergent")
    for case in cases:
        k = every.index(case)
        for coefficients in ("constant", "port"):
            made = some(
                case,
                as_=f"{case.replace('-', '_').lower()}_{coefficients}",
                spec=lnm.Fixed(16, 12, modes[k % 3]),
                scheme=("horner", "estrin")[k // 3 % 2],
                rtl=lnm.Rtl(forms=FEW, coefficients=coefficients),
            )
            bench.add(made)
    return bench


@pytest.fixture(
    scope="module", params=[QUICK_FAMILIES, pytest.param(REST, marks=pytest.mark.slow)],
    ids=("quick", "rest"),
)  # fmt: skip
def families(request, tmp_path_factory):
    """The cases that have a fixed-point form."""
    return bench_of(tmp_path_factory.mktemp("families"), request.param, FAMILIES)


@pytest.mark.slow
@needs_verilator
@needs_iverilog
def test_further_families(tmp_path):
    """Simulation and lint of the families of `ZOO`."""
    bench = bench_of(tmp_path, fixed_zoo(), fixed_zoo())
    bench.simulate()
    bench.lint()


@needs_iverilog
@pytest.mark.slow
def test_families(families):
    """Every family, its variants, `gate` without a state, `decided` by parameters alone."""
    families.simulate()


@needs_verilator
@needs_iverilog
def test_families_lint(families):
    """No warning of Verilator or Icarus."""
    families.lint()


@needs_yosys
def test_families_have_no_latch(families):
    """Every register is on the rising edge of the clock."""
    script = (
        f"read_verilog {' '.join(sorted(families.rtl))}; proc;"
        " select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$sr t:$adff t:$dffsr t:$aldff"
    )
    done = subprocess.run(
        ["yosys", "-q", "-p", script], cwd=families.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@needs_yosys
@pytest.mark.parametrize("inputs", [4, 6])
def test_yosys_keeps_comparisons_of_few_bits(inputs, tmp_path):
    """The step is equal to its LUTs. Yosys 0.52 maps `t0 < -4'sd4` to the LUT of `t0 < 12`."""
    neuron = lnm.get("lnm", degree=2, theta=(0.0, 0.25, -0.25), v_min=-1.0)
    rtl = lnm.Rtl(forms=("comb",))
    lnm.emit(neuron, "verilog", name="small", spec=lnm.Fixed(4, 2), rtl=rtl).write(tmp_path)
    script = (
        "read_verilog rtl/small_next.v; prep -top small_next; copy small_next source;"
        f" techmap -map +/cmp2lut.v -D LUT_WIDTH={inputs} small_next;"
        " miter -equiv -flatten source small_next both; sat -verify -prove trigger 0 both"
    )
    done = subprocess.run(
        ["yosys", "-q", "-p", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


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
    return lnm.Neuron(
        charge={v: x * 0.5},
        fire=v - 0.25,
        reset={last: lnm.spike},
        output={"spike": lnm.spike, "held": last},
        name="still",
    )


WORDS = """unused acc idle adding clamping factor product total wide last start done
    multiplier even word dut k wrong seed count spike_now flight core flow still
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


@pytest.mark.slow
@needs_iverilog
@needs_verilator
@pytest.mark.parametrize(
    "coefficients",
    ["memory", *(pytest.param(c, marks=pytest.mark.slow) for c in ("constant", "port"))],
)
def test_names_never_meet_those_of_the_circuit(coefficients, tmp_path):
    """The words in turn as states, inputs, parameters and outputs, in every form."""
    bench = Bench(tmp_path)
    rtl = lnm.Rtl(coefficients=coefficients, neurons=3, shift_add=0)
    for k in range(0, len(WORDS), 3):
        words = [WORDS[(k + j) % len(WORDS)] for j in range(8)]
        bench.add(model(named(words, f"n{k}"), Q4_12, f"n{k}", rtl))
    bench.simulate()
    bench.lint()


@needs_iverilog
@needs_verilator
def test_what_is_rare(tmp_path):
    """Products twice, states that nothing reads, two bits, no fraction, coefficients 0."""
    bench = Bench(tmp_path)
    for neuron in (squares(), still()):
        for digits in (0, 2):
            for coefficients in ("constant", "port"):
                rtl = lnm.Rtl(forms=FEW, coefficients=coefficients, shift_add=digits)
                bench.add(model(neuron, Q4_12, f"{neuron.name}_{digits}_{coefficients}", rtl))
    zero = lnm.get("lnm", degree=3, theta=(0, 0, 0, 0))
    for rounding in ("half_up", "truncate", "convergent"):
        spec = lnm.Fixed(6, 0, rounding)
        bench.add(model(lnm.get("if"), spec, f"if_{rounding}"))
        bench.add(model(zero, spec, f"zero_{rounding}"))
        bench.add(model(lnm.get("izhikevich"), lnm.Fixed(18, 8, rounding), f"iz_{rounding}"))
        narrow = lnm.get("lnm", degree=2, theta=(0, 0.5, 0.5), v_threshold=0.5)
        bench.add(model(narrow, lnm.Fixed(2, 1, rounding), f"two_bits_{rounding}"))
        bench.add(
            model(lnm.get("lnm", degree=3, theta=THETA[3]), lnm.Fixed(18, 14, rounding),
                  f"ecp5_{rounding}", lnm.Rtl(forms=FEW, multiplier="ecp5"))
        )  # fmt: skip
    bench.simulate()
    bench.lint()


@needs_iverilog
def test_a_wrong_vector_is_detected(tmp_path):
    """Each testbench prints FAIL if one bit of its vectors changes."""
    bench = Bench(tmp_path)
    bench.add(model(lnm.get("lnm", degree=2, theta=THETA[2]), Q4_12, "lnm_2"))
    for form, file in (("next", "next"), ("comb", "run"), ("core", "step")):
        path = tmp_path / f"lnm_2_{file}.hex"
        kept = path.read_text()
        lines = kept.splitlines()
        lines[70] = f"{int(lines[70], 16) ^ 1:0{len(lines[70])}x}"
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(AssertionError, match=f"PASS lnm_2_{form}:"):
            bench.simulate()
        path.write_text(kept)
    bench.simulate()


def test_comments_of_constants():
    """Real value, value before rounding, format; a constant that shifts replace is a comment."""
    source = lnm.emit(lnm.get("lnm", degree=2, theta=THETA[2]), "verilog", spec=Q4_12)
    lines = source.files["rtl/lnm_next.v"].splitlines()
    assert (
        "    localparam signed [15:0] _THETA_2 = 16'sd451;  // 0.110107421875 for 0.11, Q4.12"
        in lines
    )
    assert "    // _V_THRESHOLD: 1.0, Q4.12" in lines


def test_every_file_is_plain():
    """`default_nettype` on and off, a module of the file's name, one newline at the end."""
    source = lnm.emit(lnm.get("lnm", degree=3, theta=THETA[3]), "verilog", spec=Q4_12)
    for path, text in source.files.items():
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


def test_the_same_text_again():
    """The text depends only on the arguments."""
    neuron = lnm.get("lnm", degree=3, theta=THETA[3])
    first, again = (lnm.emit(neuron, "verilog", spec=Q4_12).files for _ in range(2))
    assert first == again


def leaky(v="v", x="x", output="spike", leak="leak", gain="gain") -> lnm.Neuron:
    """A neuron of given names."""
    v_, x_ = lnm.state(v), lnm.input(x)
    return lnm.Neuron(
        charge={v_: lnm.param(leak, init=0.3) * v_ + lnm.param(gain, init=0.7) * x_},
        fire=v_ - 1,
        output={output: lnm.spike},
        name="drawn",
    )


PORT = "is the name of a port"
REFUSED = [
    ("a state clk", {"v": "clk"}, f"'clk' {PORT}"),
    ("an input rst", {"x": "rst"}, f"'rst' {PORT}"),
    ("a port of the core", {"x": "in_v"}, f"'in_v' {PORT}"),
    ("a result of the core", {"x": "out_v"}, f"'out_v' {PORT}"),
    ("a stream", {"output": "s_axis_tdata"}, f"'s_axis_tdata' {PORT}"),
    ("the handshake valid", {"v": "valid"}, "'in_valid', a handshake"),
    ("the handshake ready", {"leak": "ready"}, "'in_ready', a handshake"),
    ("an input casex", {"x": "casex"}, "'casex' is a keyword of Verilog"),
    ("an input logic", {"x": "logic"}, "'logic' is a keyword of SystemVerilog"),
    ("an input eval", {"x": "eval"}, "'eval' is a word of Verilator"),
]


@pytest.mark.parametrize(
    ("names", "problem"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused_names(names, problem):
    """One line each, before a file is written."""
    remedy = "Rename the state, input, parameter or bound value."
    with refused(UnsupportedError, "verilog: drawn", problem, remedy=remedy):
        lnm.emit(leaky(**names), "verilog", spec=Q4_12)


def test_refused_factor():
    """A factor that is too wide for the multiplier of ECP5."""
    rtl = lnm.Rtl(multiplier="ecp5", shift_add=0)
    parts = ("a factor in h has 20 bits", "at most 18", "Give narrower formats")
    with refused(UnsupportedError, "verilog: drawn", *parts):
        lnm.emit(leaky(), "verilog", spec=lnm.Fixed(20, 16), rtl=rtl)


WRONG_RTL = [
    ({"forms": "comb"}, "some of comb, core, seq, array"),
    ({"forms": 5}, "some of comb, core, seq, array"),  # it was a TypeError
    ({"forms": ()}, "some of comb, core, seq, array"),
    ({"forms": ("comb", "fast")}, "some of comb, core, seq, array"),
    ({"coefficients": "rom"}, "'constant', 'port', 'memory'"),
    ({"multiplier": "dsp"}, "'generic', 'ecp5'"),
    ({"neurons": 0}, "an integer from 1 to 65536"),
    ({"neurons": 65537}, "an integer from 1 to 65536"),
    ({"neurons": True}, "an integer from 1 to 65536"),
    ({"neurons": 2.0}, "an integer from 1 to 65536"),
    ({"shift_add": -1}, "an integer from 0 to 32"),
    ({"shift_add": 33}, "an integer from 0 to 32"),
]


@pytest.mark.parametrize(("options", "accepted"), WRONG_RTL)
def test_rtl_checks(options, accepted):
    """Every field."""
    ((word, value),) = options.items()
    with refused(ModelError, "Rtl", f"{word} is {value!r}", accepted):
        lnm.Rtl(**options)


def test_rtl_forms_have_an_order():
    """Whatever order they are given in."""
    assert lnm.Rtl(forms=["core", "comb"]) == lnm.Rtl(forms=("comb", "core", "comb"))


def test_emit_checks():
    """The arguments of `emit` for fixed point."""
    neuron = lnm.get("lif")
    with refused(ModelError, "emit", "spec is None", remedy="Give spec=lnm.Fixed(16, 12)"):
        lnm.emit(neuron, "verilog")
    with refused(ModelError, "emit", "backend is 'torch'", "c, verilog"):
        lnm.emit(neuron, "torch", spec=Q4_12)
    with refused(ModelError, "emit", "rtl is 'comb' for backend 'verilog'", "lnm.Rtl"):
        lnm.emit(neuron, "verilog", spec=Q4_12, rtl="comb")
