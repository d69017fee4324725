"""The integer C model: its text, its warnings, a caller in C, and equality with the NumPy model."""

from __future__ import annotations

import subprocess
import textwrap

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.backends.c.backend import FLAGS
from lnm_codegen.compiler.arguments import parameters_of
from lnm_codegen.compiler.fixed import integers, interpret_fixed, prepared_integers
from lnm_codegen.ir.declarations import Extent
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.nodes import Role
from lnm_codegen.ir.types import Bits
from lnm_codegen.nn.load.c import CoefficientArgument, compiler, load_fixed
from tests.cases import CASES, ZOO, arguments, fixed_zoo
from tests.refusals import assert_refused, refused
from tests.strategies import few, generators, neurons

MODES = ("half_up", "truncate", "convergent")
FIXED = tuple(name for name in CASES if name != "dendrite")
SHAPE = (9, 3, 5, 47)
"""(T, N, C, *): more than two blocks of neurons, nothing even."""


def run_c(program: fx.Program, neuron: lnm.Neuron, a, dtype=torch.int32, threads=None):
    """Run the C model on the arguments of `interpret_fixed`: outputs, trajectory, finals."""
    steps, batch, channels, *inner = a.x_seq[0].shape
    extent = Extent(batch, channels, int(np.prod(inner, dtype=int)))
    lanes = extent.neurons
    kinds = {p.var.name: p.var.type for p in (*program.kernel.inputs, *program.kernel.results)}
    raw = parameters_of(neuron, a.params, Extent(1, channels, extent.inner), np.dtype("float64"))
    given_: dict = {}
    for name, table in prepared_integers(program, raw).items():
        values = torch.tensor(table.reshape(-1), dtype=torch.int32)
        given_[name] = CoefficientArgument(values, extent.inner if table.shape[1] == 1 else 1)

    def number(array, name):
        real = dtype is not torch.int32
        return torch.as_tensor(array if real else integers(array, kinds[name])).to(dtype)

    for symbol, x in zip(neuron.inputs, a.x_seq, strict=True):
        given_[f"{symbol.name}_seq"] = number(x.reshape(steps, lanes), symbol.name)
        given_[f"{symbol.name}_stride"] = lanes
        given_[f"{symbol.name}_rounded_seq"] = torch.empty(steps, lanes, dtype=dtype)
    states = {}
    for name, value in a.state.items():
        given_[f"{name}_init"] = number(value.reshape(lanes), name)
        given_[f"{name}_init_stride"] = 1
        given_[f"{name}_seq"] = torch.empty(steps, lanes, dtype=dtype)
        given_[f"{name}_stride"] = lanes
        given_[f"{name}_final"] = states[name] = torch.empty(lanes, dtype=dtype)
    outputs = {v.name: torch.empty(steps, lanes, dtype=dtype) for v in
               program.kernel.result_vars(Role.OUTPUT)}  # fmt: skip
    for name, out in outputs.items():
        given_ |= {f"{name}_seq": out, f"{name}_stride": lanes}
    load_fixed(program).run(steps, lanes, given_, dtype)
    trajectory = {n: given_[f"{n}_seq"] for n in states}
    rounded = {s.name: given_[f"{s.name}_rounded_seq"] for s in neuron.inputs}
    return outputs, trajectory, states, rounded


def assert_equal(neuron, a, spec, scheme="horner", dtype=torch.int32):
    """Every integer of a sequence is that of the NumPy model."""
    expected = interpret_fixed(
        neuron, *a.x_seq, spec=spec, scheme=scheme, state=a.state, **a.params
    )
    program = expected.program
    outputs, trajectory, states, rounded = run_c(program, neuron, a, dtype)
    kinds = {p.var.name: p.var.type for p in (*program.kernel.inputs, *program.kernel.results)}

    def unit(name):
        kind = kinds[name]
        return 2.0**kind.frac if dtype is not torch.int32 and isinstance(kind, Bits) else 1

    def same(found, name, array):
        assert (found.numpy() * unit(name) == array.reshape(len(found), -1).squeeze()).all(), name

    for name, array in expected.outputs.items():
        same(outputs[name], name, array)
    for name, array in expected.trajectory.items():
        same(trajectory[name], name, array)
        same(states[name], name, expected.states[name].reshape(-1))
    for symbol, x in zip(neuron.inputs, a.x_seq, strict=True):
        same(rounded[symbol.name], symbol.name, integers(x, kinds[symbol.name]))


def widened(a, rng):
    """Let some inputs and states lie far outside the formats, and some be no number."""
    for array in (*a.x_seq, *a.state.values()):
        flat = array.reshape(-1)
        places = rng.integers(0, flat.size, flat.size // 8)
        flat[places] = rng.choice([40.0, -40.0, 7.9999, -8.0, np.inf, -np.inf, np.nan], len(places))
    return a


KERNELS = [
    ("lnm-matrix", (18, 13), "half_up", "horner", torch.int32),
    ("lnm-matrix", (18, 13), "half_up", "horner", torch.float32),
    *(
        (case, form, rounding, ("horner", "estrin")[k % 2], dtype)
        for case in (*FIXED, *fixed_zoo())
        for n, rounding in enumerate(MODES)
        for k, (form, dtype) in enumerate(
            (((10, 6), torch.int32), ((16, 12), torch.float32), ((31, 22), torch.float64)), n
        )
    ),
]
"""Every family and rounding in three formats, each with the other scheme; every type."""


@pytest.mark.needs_cc
@pytest.mark.parametrize(
    ("case", "form", "rounding", "scheme", "dtype"),
    [*KERNELS[:2], *(pytest.param(*kernel, marks=pytest.mark.slow) for kernel in KERNELS[2:])],
)
def test_equal_to_numpy(case, form, rounding, scheme, dtype):
    """32 and 64 bits, each rounding, parameters of every granularity, real numbers."""
    rng = np.random.default_rng(3)
    neuron = (CASES | ZOO)[case]()
    a = widened(arguments(neuron, rng, SHAPE), rng)
    assert_equal(neuron, a, lnm.Fixed(*form, rounding), scheme, dtype)


@pytest.mark.slow
@pytest.mark.needs_cc
@settings(few, max_examples=12)
@given(neurons(fixed=True, stops=True, binds=True), generators(), st.sampled_from(MODES))
def test_random_neurons_equal_numpy(neuron, rng, rounding):
    """With formats that differ from node to node."""
    plain = lnm.quantize(neuron, lnm.Fixed(16, 12)).kernel
    names = [p.var.name for p in plain.inputs]
    forms = (lnm.Fixed(14, 9), lnm.Fixed(20, 14, rounding), lnm.Fixed(11, 6))
    spec = lnm.FixedSpec(
        lnm.Fixed(16, 12, rounding), {n: forms[k % 3] for k, n in enumerate(names)}
    )
    assert_equal(neuron, widened(arguments(neuron, rng, (5, 2, 3, 5)), rng), spec)


def assert_step_equal(program: fx.Program, rng: np.random.Generator) -> None:
    """One step of 4096 neurons, every port any integer of its format, its ends among them."""
    lanes, table, given_ = 4096, {}, {}
    for port in program.kernel.inputs:
        bits = port.var.type
        drawn = rng.integers(bits.low, bits.high, lanes, endpoint=True)
        ends = rng.choice([bits.low, bits.low + 1, -1, 0, 1, bits.high - 1, bits.high], lanes)
        table[port.var.name] = np.where(rng.random(lanes) < 0.5, drawn, ends)
        values = torch.tensor(table[port.var.name], dtype=torch.int32)
        match port.role:
            case Role.PARAM:
                given_[port.var.name] = CoefficientArgument(values, 1)
            case Role.STATE:
                given_ |= {f"{port.var.name}_init": values, f"{port.var.name}_init_stride": 1}
            case _:
                given_ |= {f"{port.var.name}_seq": values, f"{port.var.name}_stride": lanes}
    found = {}
    for port in program.kernel.results:
        name = port.var.name
        found[name] = torch.empty(lanes, dtype=torch.int32)
        if port.role is Role.STATE:
            given_[f"{name.removesuffix('_next')}_final"] = found[name]
        else:
            given_ |= {f"{name}_seq": found[name], f"{name}_stride": lanes}
    load_fixed(program).run(1, lanes, given_, torch.int32)
    for name, expected in run(program.kernel, table).items():
        assert (found[name].numpy() == expected).all(), name


@pytest.mark.slow
@pytest.mark.needs_cc
def test_every_integer():
    """Coefficients, states and inputs at the ends of their formats: no intermediate overflows."""
    rng = np.random.default_rng(11)
    for form in ((16, 12), (31, 16, "convergent")):
        neuron = lnm.get("izhikevich", v_reset=None)
        assert_step_equal(lnm.quantize(neuron, lnm.Fixed(*form)), rng)


@pytest.mark.slow
@pytest.mark.needs_cc
@pytest.mark.parametrize("case", FIXED)
def test_every_integer_without_undefined_behaviour(case, monkeypatch):
    """The same compiled to stop at any overflow or shift that C does not define."""
    compiler.cache_clear()
    load_fixed.cache_clear()
    stop = "-fsanitize=undefined -fsanitize-undefined-trap-on-error"
    monkeypatch.setenv("CXX", f"g++ {stop}")
    rng = np.random.default_rng(12)
    try:
        for form in ((10, 7), (16, 12, "truncate"), (17, 12), (31, 24, "convergent")):
            assert_step_equal(lnm.quantize(CASES[case](), lnm.Fixed(*form)), rng)
    finally:
        compiler.cache_clear()
        load_fixed.cache_clear()


@pytest.mark.needs_cc
def test_edges():
    """No step, no neuron; one number for every state; steps apart; any number of threads."""
    neuron = lnm.get("lnm", degree=3, v_reset=None, v_min=-2.0)
    program = lnm.quantize(neuron, lnm.Fixed(16, 12))
    library = load_fixed(program)
    raw = parameters_of(neuron, {}, Extent(1, 1, 1), np.dtype("float64"))
    table = {
        n: CoefficientArgument(torch.tensor(v.reshape(-1), dtype=torch.int32), 1)
        for n, v in prepared_integers(program, raw).items()
    }
    start = torch.tensor([1024], dtype=torch.int32)
    final = torch.full((3,), -1, dtype=torch.int32)
    common = {**table, "v_init": start, "v_init_stride": 0, "v_final": final}
    library.run(0, 3, common, torch.int32)
    assert final.tolist() == [1024] * 3
    library.run(5, 0, common, torch.int32)
    x = torch.randint(-4096, 8192, (7, 900), dtype=torch.int32)[:, :700]
    runs = []
    for threads in (1, 2, 5):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        out = torch.zeros(7, 700, dtype=torch.int32)
        library.run(
            7, 700,
            {**common, "v_final": None, "x_seq": x, "x_stride": 900, "spike_seq": out,
             "spike_stride": 700},
            torch.int32,
        )  # fmt: skip
        torch.set_num_threads(before)
        runs.append(out)
    result = interpret_fixed(neuron, x.numpy() / 4096, spec=lnm.Fixed(16, 12), state={"v": 0.25})
    for out in runs:
        assert (out.numpy() == result.outputs["spike"]).all()


CALLER = """\
#include "lnm_model.h"
#include "lnm_model_coefficients.h"
#include "lnm_model_step.h"
#include <stdio.h>
#define BAD(change) bad = a, bad.change, printf("%d ", lnm_model_run(&bad))

int main(void) {
    int32_t x[6] = {2048, 4096, -512, 8192, 0, 3072}, v[6], spike[6], now = lnm_v_init;
    lnm_model_arguments a = {0}, bad;
    a.struct_size = sizeof a, a.struct_version = LNM_MODEL_ABI;
    a.time_steps = 6, a.neurons = 1, a.threads = 1;
    a.x_seq = x, a.x_stride = 1, a.v_init = &lnm_v_init, a.v_seq = v, a.v_stride = 1;
    a.spike_seq = spike, a.spike_stride = 1;
    a.theta_0 = (lnm_model_coefficient){lnm_theta_0, 1, 1};
    a.theta_1 = (lnm_model_coefficient){lnm_theta_1, 1, 1};
    a.theta_2 = (lnm_model_coefficient){lnm_theta_2, 1, 1};
    a.theta_3 = (lnm_model_coefficient){lnm_theta_3, 1, 1};
    a.v_threshold = (lnm_model_coefficient){lnm_v_threshold, 1, 1};
    if (lnm_model_run(&a)) return 1;
    BAD(struct_size -= 8);
    BAD(struct_version = 1);
    BAD(time_steps = -3);
    BAD(theta_1.rows = 0);
    BAD(theta_1.inner = 0);
    BAD(theta_1.values = 0);
    BAD(spike_seq = 0);
    BAD(v_init = 0);
    printf("%d\\n", lnm_model_run(0));
    for (int t = 0; t < 6; ++t) {
        lnm_model_result r = lnm_model_step(now, x[t], lnm_theta_0[0], lnm_theta_1[0],
                                            lnm_theta_2[0], lnm_theta_3[0], lnm_v_threshold[0]);
        printf("%d %d %d %d\\n", v[t], spike[t], now, r.spike);
        now = r.v_next;
    }
    return 0;
}
"""


@pytest.mark.needs_cc
def test_a_caller_in_c(tmp_path):
    """The folder stands alone: no warning in C99 or C++17, and the numbers of the interpreter."""
    neuron = lnm.get("lnm", degree=3, theta=(0.1, 0.5, -0.25, 0.125))
    lnm.emit(neuron, "c", spec=lnm.Fixed(16, 12)).write(tmp_path)
    (tmp_path / "caller.c").write_text(CALLER)
    strict = ["-Wall", "-Wextra", "-Werror"]

    def call(*words):
        return subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True)

    options = [f for f in FLAGS if f not in ("-shared", "-fPIC")]
    call(*compiler().command, *options, *strict, "-c", "lnm_model.cpp")
    call("cc", "-std=c99", "-pedantic", "-O2", *strict, "-c", "caller.c")
    call(*compiler().command, "-fopenmp", "caller.o", "lnm_model.o", "-o", "caller")
    errors, *lines = call("./caller").stdout.split("\n")[:-1]
    assert errors == "2 2 3 3 3 4 4 4 2"  # bad struct, bad dimension, null pointer
    x = np.array([2048, 4096, -512, 8192, 0, 3072])[:, None] / 4096
    result = interpret_fixed(neuron, x, spec=lnm.Fixed(16, 12))
    v, spike = result.trajectory["v"][:, 0], result.outputs["spike"][:, 0].astype(int)
    assert lines == [f"{a} {b} {a} {b}" for a, b in zip(v, spike, strict=True)]
    assert 0 < spike.sum() < 6


@pytest.mark.needs_cc
def test_a_state_and_an_input_that_the_step_does_not_read(tmp_path):
    """The step compiles without a warning, in C99 and C++17."""
    text = """
        name = "memoryless"
        inputs = ["x", {name = "y", read = false}]
        fire = "v - 0.5"
        [states.v]
        [charge]
        v = "0.5 * x"
        [reset]
        v = "where(spike, 0, v)"
    """
    (tmp_path / "memoryless.toml").write_text(textwrap.dedent(text))
    neuron = lnm.load(str(tmp_path / "memoryless.toml"))
    files = lnm.emit(neuron, "c", spec=lnm.Fixed(16, 12)).files
    step = files["memoryless_model_step.h"]
    assert "    (void)v;\n    (void)y;\n" in step
    (tmp_path / "step.c").write_text(step)
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    for words in (["cc", "-std=c99"], ["c++", "-std=c++17", "-x", "c++"]):
        command = [*words, *strict, "-c", "step.c", "-o", "step.o"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.needs_cc
def test_an_int_of_16_bits_is_refused(tmp_path):
    """Literals and counters are of type int; the header that says 16 bits is this test's."""
    (tmp_path / "step.c").write_text(emitted(lnm.get("lif"))["lif_model_step.h"])
    (tmp_path / "limits.h").write_text("#define INT_MAX 32767\n")
    command = ["cc", "-std=c99", "-c", "step.c", "-o", "step.o"]
    for words, text in (([], ""), (["-I."], "int has fewer than 32 bits")):
        done = subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode == 0) == (not text)
        assert text in done.stderr


def emitted(neuron, spec=lnm.Fixed(16, 12), **given):  # noqa: B008
    return lnm.emit(neuron, "c", spec=spec, values=given or None).files


def test_files():
    """Four files; the first three know no value."""
    neuron = lnm.get("lnm", degree=2)
    files, other = emitted(neuron), emitted(neuron, theta=(0.5, 0.5, 0.5))
    ends = ("step.h", ".h", ".cpp", "coefficients.h")
    assert list(files) == [f"lnm_model{'' if end[0] == '.' else '_'}{end}" for end in ends]
    assert [n for n in files if files[n] != other[n]] == ["lnm_model_coefficients.h"]
    named = lnm.emit(neuron, "c", spec=lnm.Fixed(16, 12), name="soma").files
    assert "from `lnm`" in named["soma_model.h"]


def clash(state):
    v, x = lnm.state(state), lnm.input("x")
    return lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, name="own")


def test_refusals():
    """One line; nothing is written."""
    names = {"lnm": lnm, "emitted": emitted, "clash": clash}
    table = """
emit
    lnm.emit(lnm.get("lif"), "c", values={"tau": 3.0})
        >> spec is None >> >> Give spec=lnm.Fixed(16, 12)
"""
    assert_refused(table, names)
    with refused(lnm.ModelError, None, "'theta_1' is 9", "-8 to 7.99976", "integer bits"):
        emitted(lnm.get("lnm"), theta=(0, 9, 0, 0))
    table = """
c: own
    emitted(clash("int32_t")) >> the name 'int32_t' >> >> Rename the state
plif
    emitted(lnm.get("plif", per="neuron")) >> w per neuron >> per='channel'
"""
    assert_refused(table, names, lnm.UnsupportedError)
