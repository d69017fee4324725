"""The CUDA backend without a GPU: its kernels run on the host, built by nvcc and NVRTC, counted.

`host.py` compiles the device code itself, index arithmetic, chunks and sums included, with
__syncthreads and shuffles among fibers. What it gives is compared with the C backend, bit for bit.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.cuda.backend import FLAGS, Cuda
from lnm_codegen.backends.cuda.kernels import MAX_SHARED, CudaPlan
from lnm_codegen.backends.cuda.launches import MAX_GRID, SHARED, Launch
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import run as run_kernel
from lnm_codegen.ir.kernel import Role
from lnm_codegen.nn.arguments import recording
from lnm_codegen.nn.explain import schedule_of
from lnm_codegen.nn.load.cuda import load_cuda
from tests.backends.cuda.host import decoded, encoded, host_kernels, model_in, run_host
from tests.cases import CASES, Results, arguments, run
from tests.refusals import refused
from tests.strategies import Arguments, shared
from tests.test_agree import check, neuron_of, reference

QUICK = ("lif", "izhikevich-learned", "lnm-3", "lnm-4", "lnm-B", "dendrite", "gate")
QUICK_BITS = ("lif",)
some = pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES]
)
needs_cc = pytest.mark.needs_cc
needs_nvcc = pytest.mark.skipif(
    not (shutil.which("nvcc") and shutil.which("ptxas")), reason="nvcc or ptxas not found on PATH"
)


def drawn(case: str, shape: tuple[int, ...]) -> Arguments:
    return arguments(neuron_of(case), np.random.default_rng(sum(shape)), shape)


def same(got: Results, expected: Results, but: tuple[str, ...] = ()) -> None:
    """Every array has the same bits (or NaN in both), except gradients of `but`."""
    mine, theirs = got.arrays(), expected.arrays()
    for name in theirs:
        if name.removeprefix("grad ") not in but:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


# ---- the kernels on the host ----

STEPS = (0, 1, 15, 16, 17, 40)
EXTENTS = ((0, 2, 3), (1, 1, 1), (4, 5, 5), (4, 3, 125), (16, 2, 128))  # 0, 1, 100, 1500, 4096


@needs_cc
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK_BITS else pytest.mark.slow) for c in CASES]
)
def test_bits_of_c(case: str) -> None:
    """Outputs, states and their gradients: the bits of `c`, around chunks and tiles.

    Parameter gradients are ordered otherwise; they are within rounding of those of `c`.
    """
    neuron = neuron_of(case)
    learned = tuple(p.name for p in neuron.params if p.learnable)
    for extent in EXTENTS:
        for steps in STEPS if case in QUICK[2:4] or extent == EXTENTS[3] else (17,):
            a = drawn(case, (steps, *extent))
            got, expected = run_host(neuron, a), run(neuron, a, "c", "float32")
            same(got, expected, but=learned)
            for name in learned:
                mine, theirs = got.grads[name], expected.grads[name]
                scale = 1e-6 * steps * extent[0] * (1 + np.abs(theirs).max(initial=0))
                np.testing.assert_allclose(mine, theirs, 2e-5, scale, err_msg=name)


@needs_cc
@some
def test_within_the_bounds_of_the_interpreter(case: str) -> None:
    """Every number, sums included, within the error that its own operations may make."""
    for shape in ((5, 2, 3, 4), (33, 2, 3, 11)):
        a, b = reference(case, shape)
        check(run_host(neuron_of(case), a), b, "float32")


def mixture() -> lnm.Neuron:
    """Every pair of granularities meets in a prepared parameter."""
    v, x = lnm.state("v"), lnm.input("x")
    w, b = lnm.param("w", init=0.7), lnm.param("b", size=2, init=(0.2, -0.1))
    tau = lnm.param("tau", init=2.5, per="channel")
    gain = lnm.param("gain", init=0.8, per="neuron")
    return lnm.Neuron(
        charge={v: v * (w / tau) + x * (gain * w) + b[0] * b[1] + x * (gain / tau) + w * b[0]},
        fire=v - 1 / tau,
        reset=lnm.soft_reset(v, gain * b[1] + 1),
        name="mixture",
    )


@pytest.mark.slow
@needs_cc
def test_sums_of_coarser_parameters() -> None:
    """A layer-wise parameter gathers what comes through finer ones; one per channel likewise."""
    neuron = mixture()
    text = Cuda().emit(plan_of(neuron)).files["mixture.cu"]
    for job in ("layer_gradients_over_neurons", "channel_gradients_over_neurons"):
        assert f"DEVICE void {job}(" in text
    for shape in ((17, 4, 3, 25), (3, 20, 2, 300), (2, 1, 1, 1), (0, 2, 3, 4)):
        a = arguments(neuron, np.random.default_rng(1), shape)
        got, expected = run_host(neuron, a), a.interpret(neuron)
        c = run(neuron, a, "c", "float32")
        same(got, c, but=("w", "b", "tau", "gain"))
        for name in ("w", "b", "tau", "gain"):
            scale = 1e-6 * shape[0] * shape[1] * 10
            np.testing.assert_allclose(got.grads[name], c.grads[name], 1e-4, scale, err_msg=name)
            if shape[0] == 17:
                np.testing.assert_allclose(got.grads[name], expected.grads[name], 2e-3, 2e-3)


def test_no_channel_without_a_use() -> None:
    """A layer-wise parameter gathers over neurons; it reads no value per channel."""
    v, x, w = lnm.state("v"), lnm.input("x"), lnm.param("w", init=0.7)
    gain = lnm.param("gain", init=0.8, per="neuron", learnable=False)
    neuron = lnm.Neuron(charge={v: v / 2 + x * (gain * w)}, fire=v - 1, name="gathered")
    text = Cuda().emit(plan_of(neuron)).files["gathered.cu"]
    assert "const int64_t row = k;" in text
    assert not re.search(r"\bchannel\b", text.split("layer_gradients_over_neurons(")[1])


@needs_cc
@pytest.mark.parametrize(
    "case", ["lif", *(pytest.param(c, marks=pytest.mark.slow) for c in ("lnm-3", "lnm-4"))]
)
def test_float64(case: str) -> None:
    """The bits of `c` in float64."""
    neuron = neuron_of(case)
    learned = tuple(p.name for p in neuron.params if p.learnable)
    for shape in ((40, 4, 3, 125), (17, 3, 1, 23)):
        a = drawn(case, shape)
        got, expected = run_host(neuron, a, "float64"), run(neuron, a, "c", "float64")
        same(got, expected, but=learned)
        for name in learned:
            np.testing.assert_allclose(got.grads[name], expected.grads[name], 1e-12, 1e-11)


@needs_cc
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("case", ["lnm-3", pytest.param("lnm-4", marks=pytest.mark.slow)])
def test_sixteen_bits(case: str, dtype: str) -> None:
    """float32 arithmetic on inputs as they are, rounded to nearest even where they are written."""
    neuron = neuron_of(case)
    for shape in ((40, 4, 3, 128), (17, 3, 1, 23)):
        a = drawn(case, shape)
        a.x_seq = tuple(decoded(encoded(x, dtype), dtype).astype(float) for x in a.x_seq)
        a.grad_out = tuple(decoded(encoded(g, dtype), dtype).astype(float) for g in a.grad_out)
        got, expected = run_host(neuron, a, dtype), a.interpret(neuron, dtype="float32")
        for name, array in expected.outputs.items():
            np.testing.assert_array_equal(got.outputs[name], decoded(encoded(array, dtype), dtype))
        for name, array in expected.states.items():
            np.testing.assert_array_equal(got.states[name], array)
        np.testing.assert_array_equal(
            got.grads["x"], decoded(encoded(expected.grads["x"], dtype), dtype)
        )


@needs_cc
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_sixteen_bit_number(dtype: str) -> None:
    """A neuron that hands its input on: all 2**16 numbers unchanged, NaN as NaN; rounding ties."""
    copy = lnm.Neuron(output={"out": lnm.input("x") * 1.0}, name="copy")
    scaled = lnm.Neuron(output={"out": lnm.input("x") / 3}, name="scaled")
    x = decoded(np.arange(1 << 16, dtype=np.uint16).reshape(1, 1, 1, -1), dtype)
    for neuron, factor in ((copy, 1), (scaled, 1 / 3)):  # SymPy writes x / 3 as a product
        got = run_host(neuron, Arguments((x,), {}, {}, (x,), {}), dtype).outputs["out"]
        with np.errstate(all="ignore"):
            expected = x * np.float32(factor)
        np.testing.assert_array_equal(got, decoded(encoded(expected, dtype), dtype))


@needs_cc
@pytest.mark.parametrize("case", ["lnm-3", "lnm-4"])
def test_nothing_depends_on_alignment_or_grid(case: str) -> None:
    """Number by number where a pointer is off by one; any count of blocks: the same bits."""
    neuron = neuron_of(case)
    kernels = host_kernels(neuron, "float32")
    a = drawn(case, (20, 8, 4, 100))
    first = run_host(neuron, a)
    narrow = kernels.counter("narrow")
    narrow.value = 0
    same(run_host(neuron, a, grid=1), first)
    same(run_host(neuron, a, grid=3), first)
    assert narrow.value == 0
    same(run_host(neuron, a, shift=1), first)
    assert narrow.value > 0
    narrow.value = 0
    run_host(neuron, drawn(case, (20, 2, 3, 11)))
    assert narrow.value > 0  # 33 neurons a sample: no whole accesses


@needs_cc
def test_one_row_for_every_step() -> None:
    """Stride 0 reads one row again and again."""
    neuron, a = neuron_of("lnm-3"), drawn("lnm-3", (20, 2, 3, 50))
    a.x_seq = tuple(np.broadcast_to(x[:1], x.shape) for x in a.x_seq)
    a.grad_out = tuple(np.broadcast_to(g[:1], g.shape) for g in a.grad_out)
    same(run_host(neuron, a, repeated=True), run_host(neuron, a))


@needs_cc
@pytest.mark.parametrize(
    ("inner", "count"), [(600, 1), (300, 2), (100, 3), (50, 3), (1, 300), (2, 75)]
)
@pytest.mark.parametrize("case", ["dendrite", "glif-steps"])
def test_shared_numbers_of_a_further_input(case: str, inner: int, count: int) -> None:
    """Bit-exact to the expanded input; whole accesses where a thread's neurons share a number."""
    neuron, a = neuron_of(case), drawn(case, (20, 2, 3, 100))
    name = neuron.inputs[1].name
    a.x_seq = (a.x_seq[0], shared(a.x_seq[1], inner, count))
    kernels = host_kernels(neuron, "float32")
    narrow = kernels.counter("narrow")
    narrow.value = 0
    sharing = {name: (inner, count)}
    got, expected = run_host(neuron, a, sharing=sharing), run_host(neuron, a)
    same(got, expected)
    lanes = kernels.cuda.backward_lanes
    assert (narrow.value == 0) == (inner % lanes == 0)
    same(run_host(neuron, a, shift=1, sharing=sharing), expected)
    with kernels.far(8):
        same(run_host(neuron, a, sharing=sharing), expected)


@needs_cc
@pytest.mark.parametrize("case", ["lnm-3", "dendrite"])
def test_checkpoints_at_two_levels(case: str) -> None:
    """Far out, the states before chunks are made again between two checkpoints: the same bits."""
    neuron = neuron_of(case)
    kernels = host_kernels(neuron, "float32")
    a = drawn(case, (100, 2, 3, 50))
    first = run_host(neuron, a)
    count, steps = kernels.library.host_checkpoints, ctypes.c_int64(100)
    near = count(steps, ctypes.c_int64(300))
    with kernels.far(20):
        assert count(steps, ctypes.c_int64(300)) < near
        same(run_host(neuron, a), first)
        same(run_host(neuron, a, shift=1), first)
        for length in (21, 64, 65, 97):
            b = drawn(case, (length, 1, 3, 5))
            got = run_host(neuron, b)
            with kernels.far(4096):
                same(got, run_host(neuron, b))


@needs_cc
def test_counts() -> None:
    """Sums over steps and neurons, exactly, whatever the tile's place and the grid: one launch."""
    neuron = lnm.get("lif")
    v = neuron.states[0]
    many = lnm.where(v > 1e30, 0, 3000001)  # that of one neuron in 5 steps fits float32
    counting = neuron.with_counts(fired_count=lnm.spike, high=lnm.where(v > 0.25, 1, 0), many=many)
    for shape in ((40, 4, 3, 125), (5, 1, 1, 3), (0, 2, 3, 4), (3, 0, 2, 2)):
        a = arguments(counting, np.random.default_rng(3), shape)
        got = run_host(counting, a)
        assert got.states["fired_count"][0] == got.outputs["spike"].sum()
        if shape[0] != 40:
            assert got.states["many"][0] == 3000001 * np.prod(shape)
        if 0 not in shape:
            assert 0 < got.states["high"][0] < np.prod(shape)
        same(run_host(counting, a, shift=1), got)
        same(run_host(counting, a, grid=1), got)
    cuda = host_kernels(counting, "float32").cuda
    assert [x.kernel for x in cuda.launches.forward_launches(1500, 1)] == ["lif_forward_kernel"]
    launcher = Cuda().emit(plan_of(counting)).files["lif_launch.cpp"]
    assert "double *const counts[] = {a->fired_count_sum, a->high_sum, a->many_sum};" in launcher


@pytest.mark.parametrize("case", ["lif", "izhikevich-learned", "lnm-4", "dendrite", "gate"])
def test_what_a_layer_counts_is_whole(case: str) -> None:
    """0 or 1 in a step, which double adds up exactly: the order of the blocks changes no bit."""
    kernel = lnm.lower(recording(neuron_of(case), ("stats",), (-0.5, 0.5))).forward
    values = {let.target: let.value for let in kernel.body}

    def is_whole(e: ir.Expr) -> bool:
        match e:
            case ir.Const(value=value):
                return value in (0, 1)
            case ir.Select(then=then, orelse=orelse):
                return is_whole(then) and is_whole(orelse)
            case ir.Var():
                return is_whole(values[e])
            case _:
                return False

    counted = [p.var for p in kernel.results if p.role is Role.COUNT]
    assert counted
    assert all(is_whole(v) for v in counted)


@needs_cc
def test_absent_ends() -> None:
    """Null pointers: no final states wanted, zeros for their gradients."""
    neuron, a = neuron_of("lnm-3"), drawn("lnm-3", (20, 2, 3, 50))
    a.grad_state = {n: np.zeros_like(g) for n, g in a.grad_state.items()}
    got, whole = run_host(neuron, a, ends=False), run_host(neuron, a)
    for name, array in got.arrays().items():
        np.testing.assert_array_equal(array, whole.arrays()[name], err_msg=name)


@needs_cc
def test_one_initial_state() -> None:
    """Stride 0 gives each neuron one number: bit-exact to the number for each, aligned or not."""
    neuron, a = neuron_of("lnm-matrix"), drawn("lnm-matrix", (20, 2, 3, 50))
    a.state = {n: np.full_like(s, s.flat[0]) for n, s in a.state.items()}
    expected = run_host(neuron, a)
    for shift in (0, 1):
        same(run_host(neuron, a, one_state=True, shift=shift), expected)


@needs_cc
def test_absent_results() -> None:
    """Null pointers: what is not wanted is skipped, the rest has the same bits."""
    neuron, a = neuron_of("lnm-3"), drawn("lnm-3", (20, 2, 3, 50))
    whole = run_host(neuron, a)
    forward = run_host(neuron, a, absent=["checkpoints"])
    same(forward, Results(whole.outputs, whole.states, {}))
    got = run_host(neuron, a, absent=["grad_x_seq"])
    assert np.isnan(got.grads.pop("x")).all()
    del whole.grads["x"]
    same(got, whole)


@needs_cc
@pytest.mark.parametrize("case", ["lnm-3", "lnm-4"])
def test_sums_against_float64(case: str) -> None:
    """Within 1e-6 of the sum of magnitudes of the same float32 terms."""
    neuron = neuron_of(case)
    program = lnm.lower(neuron)
    shape = (64, 32, 4, 16)
    a = drawn(case, shape)
    got, states = run_host(neuron, a), a.interpret(neuron, dtype="float32").trajectory
    spread = {"layer": lambda w: w, "channel": lambda w: w[:, None], "neuron": lambda w: w}
    raw: dict[str, Any] = {}
    for p in neuron.params:
        for k, name in enumerate(p.element_names):
            value = a.params[p.name]
            raw[name] = spread[p.per](value if p.size is None else value[..., k])
    made = run_kernel(program.prepare, raw, np.float32)
    totals: dict[str, Any] = {}
    grad = a.grad_state["v"]
    for t in reversed(range(shape[0])):
        values = {**made, "v": states["v"][t], "x": a.x_seq[0][t], "grad_v_next": grad,
                  "grad_spike": a.grad_out[0][t]}  # fmt: skip
        terms = run_kernel(program.backward, values, np.float32)
        grad = terms["grad_v"]
        for name in terms:
            term = np.broadcast_to(terms[name], shape[1:]).astype(float)
            sum_, size = totals.get(name, (0, 0))
            totals[name] = sum_ + term, size + np.abs(term)
    axes = {"layer": (0, 1, 2), "channel": (0, 2), "neuron": (0,)}
    for p in neuron.params:
        for k, name in enumerate(p.element_names if p.learnable else ()):
            sum_, size = (x.sum(axis=axes[p.per]) for x in totals[f"grad_{name}"])
            mine = got.grads[p.name] if p.size is None else got.grads[p.name][..., k]
            assert (np.abs(mine - sum_) <= 1e-6 * size).all(), name


# ---- bytes, offsets, sizes ----


@needs_cc
@pytest.mark.parametrize(("dtype", "bytes_"), [("float32", 20), ("bfloat16", 10), ("float64", 40)])
def test_bytes_of_an_element_step(dtype: str, bytes_: int) -> None:
    """Loads and stores, counted as they run: 2 streams forward, 3 backward; S/K more beyond K.

    Both directions load the initial states.
    """
    neuron = lnm.get("lnm", degree=4)
    kernels = host_kernels(neuron, dtype)
    chunk, neurons = kernels.cuda.chunk, 4096
    for steps in (1, 4, chunk, 2 * chunk, 5 * chunk):
        a = arguments(neuron, np.random.default_rng(0), (steps, 4, 8, 128))
        for name in ("loaded", "stored"):
            kernels.counter(name).value = 0
        run_host(neuron, a, dtype, ends=False)
        moved = kernels.counter("loaded").value + kernels.counter("stored").value
        real = 8 if dtype == "float64" else 4
        states = 2 * real * neurons * max(1, steps // chunk)
        assert moved == bytes_ * neurons * steps + states


SIZES_OF_CALLS = (
    (0, 1, 0), (1, 1, 1), (16, 30, 15), (17, 1024, 1024), (4096, 1025, 25), (4097, 3000, 1000),
    (65536, 1 << 20, 1 << 10), (100, 3 << 40, 3), (7, 1 << 44, 1 << 20), (65536, 5 << 33, 129),
)  # fmt: skip


@needs_cc
@pytest.mark.parametrize("case", ["lnm-3", "lnm-4", "dendrite", "gate", "lif"])
def test_sizes_are_those_of_the_layout(case: str) -> None:
    """The formulas in Python give what `<name>_layout.h` gives, far beyond 2**31 too."""
    kernels = host_kernels(neuron_of(case), "float32")
    cuda, library = kernels.cuda, kernels.library

    def of(function: str, *values: int) -> int:
        return int(getattr(library, f"host_{function}")(*map(ctypes.c_int64, values)))

    for steps, neurons, sample in SIZES_OF_CALLS:
        sample = max(sample, 1)
        assert cuda.launches.spacing(steps) == of("spacing", steps)
        assert cuda.launches.tiles(neurons, sample) == of("tiles", neurons, sample)
        assert cuda.launches.saved_size(steps, neurons) == of("checkpoints", steps, neurons)
        numbers = of("numbers", steps, neurons, sample)
        assert cuda.launches.backward_workspace(steps, neurons, sample) == 4 * numbers
    states = len(cuda.plan.states)
    for step, stride, neuron in ((65535, 1 << 34, 7), (3, 0, 1 << 33), (1 << 15, 3 << 30, 5)):
        assert of("offset", step, stride, neuron) == step * stride + neuron
        assert of("kept", step, 0, stride) == (step - 1) * states * stride


def test_memory_far_out() -> None:
    """Beyond 4096 steps what is kept grows like a square root; at 4096, 1/16 of every state."""
    cuda = CudaPlan(plan_of(lnm.get("lnm", degree=3)))
    assert cuda.launches.saved_size(4096, 1000) <= 4096 * 1000 // 16
    far = cuda.launches.saved_size(65536, 1000) * 4 + cuda.launches.backward_workspace(
        65536, 1000, 1
    )
    assert far <= 4 * 1000 * 2 * 64 + 4096


def test_offsets_are_64_bit() -> None:
    """No offset into a sequence is made but by the layout's functions, in int64_t."""
    for case in ("lnm-3", "lnm-4", "dendrite"):
        model = plan_of(neuron_of(case))
        text = Cuda().emit(model).files[f"{model.name}.cu"]
        accesses = re.findall(r"\b(?:load|load_numbers|store)\(.*_seq\b", text)
        assert len(accesses) == len(re.findall(r"a\.\w+_seq \+ \w+", text)) > 6
        for line in text.splitlines():
            for place in re.findall(r"a\.\w+_seq \+ (\w+)", line):
                declared = f"int64_t {place} = {model.name}_offset("
                assert place == f"{model.name}_offset" or declared in text, line
            if "_offset(" in line:
                assert re.search(r"_offset\((begin|step|latest)", line), line
        assert re.search(r"int64_t begin\b", text)
        assert re.search(r"const int64_t latest\b", text)


def test_explain_counts_these_launches() -> None:
    """Of every case, and of a learnable parameter whose gradient is zero everywhere."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p")
    compared = lnm.Neuron(charge={v: v / 2 + x}, output={"y": lnm.where(x > p, v, 0)})
    for neuron in (compared, *(make() for make in CASES.values())):
        plan = plan_of(neuron)
        launches = CudaPlan(plan).launches.backward_launches(4096, 64, 4)
        schedule = schedule_of(plan, "cuda")
        assert schedule is not None
        assert schedule.backward_launches == len(launches)


def test_launches() -> None:
    """One launch forward, two backward at most; grids within their limit, never empty."""
    cuda = CudaPlan(plan_of(lnm.get("lnm", degree=3)))
    assert cuda.launches.forward_launches(4096, 1) == (Launch("lnm_forward_kernel", 4, 256),)
    backward = cuda.launches.backward_launches(4096, 1, 1)
    assert backward == (
        Launch("lnm_backward_kernel", 4, 256, 4 * 4096),
        Launch("lnm_sums_kernel", 1, 1024),
    )
    assert cuda.launches.forward_launches(0, 1)[0].grid == 1
    assert cuda.launches.forward_launches(1 << 44, 1)[0].grid == MAX_GRID
    lif = CudaPlan(plan_of(lnm.get("lif")))
    assert len(lif.launches.backward_launches(4096, 1, 1)) == 1
    mixed = CudaPlan(plan_of(neuron_of("lnm-4")))
    assert mixed.launches.backward_launches(1 << 20, 5000, 64)[1].grid == 64
    assert all(x.shared <= SHARED for x in mixed.launches.backward_launches(1 << 20, 5000, 64))


# ---- shared memory ----


def wide(size: int, per: Any) -> lnm.Neuron:
    """A gradient term for each number of a vector parameter."""
    v, x, theta = lnm.state("v"), lnm.input("x"), lnm.param("theta", size=size, init=0.01, per=per)
    terms = (theta[k] * v ** (1 + k % 8) * x ** (k // 8) for k in range(size))
    return lnm.Neuron(charge={v: sum(terms, x)}, fire=v - 1, reset=lnm.hard_reset(v), name="wide")


TILES = {
    512: (lnm.get("lnm", states=2, degree=4, per="channel"), "float32"),
    256: (lnm.get("lnm", states=2, degree=5, per="neuron"), "float64"),
    128: (wide(65, "layer"), "float64"),
}
"""Tile -> a neuron that has too many terms for larger ones, with its type."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype",
    ["float64", *(pytest.param(d, marks=pytest.mark.slow) for d in ("float32", "bfloat16"))],
)
def test_shared_memory_fits_every_gpu(dtype: str) -> None:
    """At most 99 KiB a block, static memory included; half as many neurons only if they must be."""
    made = [lnm.get(name) for name in FAMILIES]
    made += [
        lnm.get("lnm", states=states, degree=degree, per=per)
        for states in (1, 2) for degree in range(1, 6) for per in ("layer", "channel", "neuron")
    ]  # fmt: skip
    made += [wide(65, "channel"), lnm.normalised(lnm.get("plif"), shortcut=True)]
    for neuron in made:
        cuda = CudaPlan(model_in(neuron, dtype))
        static = cuda.real_bytes * len(cuda.plan.layer_terms) * cuda.backward_threads // 32
        assert (
            cuda.launches.backward_launches(4096, 1, 1)[0].shared + static
            <= 99 * 1024
            == MAX_SHARED
        )
        assert cuda.launches.forward_launches(4096, 1)[0].shared <= 40 * 1024
        assert cuda.tile == 1024 or cuda.shared(2 * cuda.tile) > MAX_SHARED
        for threads, lanes in (
            (cuda.forward_threads, cuda.forward_lanes),
            (cuda.backward_threads, cuda.backward_lanes),
        ):
            assert threads >= 128  # the largest width of a tile in a sample
            assert cuda.tile % (threads * lanes) == 0


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("tile", TILES)
def test_small_tiles_compute_the_same(tile: int) -> None:
    """The bits of `c`, aligned or not, on any grid; sums of parameters within rounding."""
    neuron, dtype = TILES[tile]
    learned = tuple(p.name for p in neuron.params if p.learnable)
    assert host_kernels(neuron, dtype).cuda.tile == tile
    for shape in ((17, 5, 3, 125), (3, 2, 1, 4), (0, 2, 3, 4)):
        a = arguments(neuron, np.random.default_rng(1), shape)
        a.x_seq = tuple(x / 4 for x in a.x_seq)
        got, expected = run_host(neuron, a, dtype), run(neuron, a, "c", dtype)
        same(got, expected, but=learned)
        same(run_host(neuron, a, dtype, shift=1, grid=2), got)
        for name in learned:
            mine, theirs = got.grads[name], expected.grads[name]
            scale = 1e-5 * (1 + np.abs(theirs).max(initial=0))
            np.testing.assert_allclose(mine, theirs, 1e-4, scale, err_msg=name)


@needs_nvcc
def test_shared_memory_of_the_cubin(tmp_path: Path) -> None:
    """Static memory as ptxas reports it, and the launcher's dynamic memory: at most 99 KiB."""
    source = lnm.emit(wide(49, "layer"), "cuda")  # 49 * 2048 bytes fit, without their sums
    source.write(tmp_path)
    report = said("nvcc", *FLAGS, "-arch=sm_86", "-cubin", "-Xptxas=-v", "wide.cu", folder=tmp_path)
    kernel = report.split("Function properties for wide_backward_kernel")[1]
    static = re.search(r"(\d+) bytes smem", kernel)
    launcher = source.files["wide_launch.cpp"]
    dynamic = re.search(r"wide_backward_kernel, tiles, 256, (\d+),", launcher)
    assert static
    assert dynamic
    assert 0 < int(static[1]) < 2048 < 40 * 1024 < int(dynamic[1])
    assert int(static[1]) + int(dynamic[1]) <= 99 * 1024


@pytest.mark.slow
def test_more_terms_than_a_block_holds() -> None:
    """One line at emission, and for a layer, whose kernels have the same plan."""
    many, problem = wide(110, "channel"), "110 gradient terms and 0 counts do not fit a block"
    accepted = "101376 bytes of shared memory for 128 neurons"
    with refused(lnm.UnsupportedError, "cuda: wide", problem, accepted, "backend 'triton'"):
        lnm.emit(many, "cuda", dtype="float64")
    with refused(lnm.UnsupportedError, "cuda: wide", problem, accepted):
        load_cuda(model_in(many, "float64")).saved_size(16, 4096)
    with refused(lnm.UnsupportedError, "cuda: wide", "130 gradient terms", "128 terms of"):
        lnm.emit(wide(130, "layer"), "cuda")


# ---- the text ----


def test_files() -> None:
    """Six files; `name` names them and every function in them."""
    source = Cuda().emit(plan_of(lnm.get("lif"), name="mine"))
    assert list(source.files) == [
        "mine_step.h", "mine_layout.h", "mine.cu", "mine_launch.h", "mine_launch.cpp", "example.cpp"
    ]  # fmt: skip
    assert source.entry == "mine.cu"
    for text in source.files.values():
        first, second, *_ = text.splitlines()
        assert first in ("/* SPDX-License-Identifier: 0BSD", "// SPDX-License-Identifier: 0BSD")
        assert second[2:].strip().startswith("Generated by lnm_codegen from `lif`.")
        assert "lif_" not in text.replace("`lif`", "")
        assert not re.search(r"[ \t]+$|\n\n\n", text, re.MULTILINE)


def test_the_step_is_that_of_c() -> None:
    """The functions of the step header are those of the C backend, letter by letter."""
    for case in ("lnm-4", "dendrite", "plif"):
        model = plan_of(neuron_of(case))
        mine, theirs = (
            text[text.index("typedef") if "RTC" not in text else text.index("typedef float") :]
            for text in (
                Cuda().emit(model).files[f"{model.name}_step.h"],
                lnm.emit(neuron_of(case), "c").files[f"{model.name}_step.h"],
            )
        )
        assert mine == theirs


@needs_cc
@pytest.mark.parametrize("case", ["lif", "lnm-4"])
def test_the_header_is_c(case: str, tmp_path: Path) -> None:
    """-std=c99 -pedantic -Wall -Wextra finds nothing in the launcher's header."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler found (gcc, cc)")
    model = plan_of(neuron_of(case))
    Cuda().emit(model).write(tmp_path)
    (tmp_path / "use.c").write_text(f'#include "{model.name}_launch.h"\nint used;\n')
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
    said(compiler, *strict, "-c", "use.c", folder=tmp_path)


# ---- builds ----


def said(*command: str, folder: Path) -> str:
    """Run a command; a failure shows what it said."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def registers(report: str) -> dict[str, tuple[int, int]]:
    """Return (registers, bytes spilled) of each kernel from what `ptxas -v` says."""
    found = re.findall(
        r"Function properties for (\w+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads\n"
        r".*?Used (\d+) registers",
        report,
    )
    return {name: (int(used), int(out) + int(back)) for name, out, back, used in found}


def built(folder: Path, name: str, arch: str, *more: str) -> dict[str, tuple[int, int]]:
    """Build a .cu to a cubin; nothing is warned of."""
    report = said(
        "nvcc", *FLAGS, f"-arch={arch}", "-cubin", "-Xptxas=-v", "-Werror=all-warnings", "-o",
        f"{name}.{arch}.cubin", f"{name}.cu", *more, folder=folder,
    )  # fmt: skip
    found = registers(report)
    assert {f"{name}_forward_kernel", f"{name}_backward_kernel"} <= set(found), report
    return found


@needs_nvcc
@pytest.mark.parametrize("arch", ["sm_80", pytest.param("sm_90", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", ["lnm", pytest.param("lif", marks=pytest.mark.slow)])
def test_no_spills(case: str, arch: str, tmp_path: Path) -> None:
    """`lnm` of degree 4 with chunks of 16 steps, layer-wise, float32: registers alone hold it."""
    neuron = lnm.get("lnm", degree=4) if case == "lnm" else lnm.get(case)
    model = plan_of(neuron)
    assert CudaPlan(model).chunk == 16
    Cuda().emit(model).write(tmp_path)
    for name, (used, spilled) in built(tmp_path, model.name, arch).items():
        assert spilled == 0, (name, used, spilled)


@needs_nvcc
@pytest.mark.parametrize(
    ("options", "arch"),
    [
        ({}, "sm_90"),
        *(
            pytest.param(options, arch, marks=pytest.mark.slow)
            for options in ({}, {"per": "channel"}, {"parametrisation": "pole"})
            for arch in ("sm_80", "sm_90")
        ),
    ],
)
def test_two_states_do_not_spill(options: dict[str, str], arch: str, tmp_path: Path) -> None:
    """Two coupled states of degree 1 in float32: chunks of 8 steps, in registers alone."""
    model = plan_of(lnm.get("lnm", states=2, degree=1, **options))
    assert CudaPlan(model).chunk == 8
    Cuda().emit(model).write(tmp_path)
    for name, (used, spilled) in built(tmp_path, model.name, arch).items():
        assert spilled == 0, (name, used, spilled)


@pytest.mark.slow
@needs_nvcc
def test_spills_show(tmp_path: Path) -> None:
    """The negative control: chunks of 32 steps are more than registers hold."""
    source = Cuda().emit(plan_of(lnm.get("lnm", degree=4)))
    source.write(tmp_path)
    layout = tmp_path / "lnm_layout.h"
    text = layout.read_text().replace("#define LNM_CHUNK 16", "#define LNM_CHUNK 32")
    layout.write_text(text)
    used, spilled = built(tmp_path, "lnm", "sm_90")["lnm_backward_kernel"]
    assert used == 255
    assert spilled > 100


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_no_spills_of_any_type(degree: int, dtype: str, tmp_path: Path) -> None:
    """Nor do the other degrees and types, layer-wise."""
    model = model_in(lnm.get("lnm", degree=degree), dtype)
    Cuda().emit(model).write(tmp_path)
    for arch in ("sm_80", "sm_90"):
        assert all(not spilled for _, spilled in built(tmp_path, "lnm", arch).values())


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_every_case_builds(case: str, dtype: str, tmp_path: Path) -> None:
    """To cubin for both architectures, without a warning."""
    model = model_in(neuron_of(case), dtype)
    Cuda().emit(model).write(tmp_path)
    for arch in ("sm_80", "sm_90"):
        assert f"{model.name}_backward_kernel" in built(tmp_path, model.name, arch)


@needs_nvcc
def test_accesses_are_whole(tmp_path: Path) -> None:
    """In PTX a step moves 16 bytes a thread at once, forward and backward."""
    Cuda().emit(plan_of(lnm.get("lif"))).write(tmp_path)
    said("nvcc", *FLAGS, "-arch=sm_90", "-ptx", "lif.cu", folder=tmp_path)
    ptx = (tmp_path / "lif.ptx").read_text()
    forward, backward = (ptx.split(f".entry lif_{w}_kernel")[1] for w in ("forward", "backward"))
    forward = forward.split(".entry")[0]
    assert len(re.findall(r"ld\.global\.v4\.f32", forward)) >= 4
    assert len(re.findall(r"st\.global\.wb\.v4\.f32", forward)) >= 4
    assert len(re.findall(r"ld\.global\.v4\.f32", backward)) >= 16 + 16
    assert len(re.findall(r"st\.global\.wb\.v4\.f32", backward)) >= 16
    assert not re.search(r"\b(ld|st)\.(local|v4|f32)", ptx)  # nor through generic addresses


@needs_nvcc
@pytest.mark.slow
@pytest.mark.parametrize("case", ["lnm-4", "lif", "dendrite", "gate"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_the_example_links(case: str, dtype: str, tmp_path: Path) -> None:
    """What example.cpp tells its reader to type builds it."""
    source = Cuda().emit(model_in(neuron_of(case), dtype))
    source.write(tmp_path)
    command = re.findall(r"^//     (nvcc .*)$", source.files["example.cpp"], re.MULTILINE)
    assert len(command) == 1
    said(*command[0].split(), folder=tmp_path)
    assert (tmp_path / "example").exists()


@pytest.mark.parametrize("arch", [pytest.param("sm_80", marks=pytest.mark.slow), "sm_90"])
@pytest.mark.parametrize(
    ("case", "dtype"),
    [("lnm-4", "float32"), ("lif", "bfloat16"),
     *(pytest.param(c, "float32", marks=pytest.mark.slow) for c in CASES),
     *(pytest.param("lnm-4", d, marks=pytest.mark.slow)
       for d in ("float64", "bfloat16", "float16"))],
)  # fmt: skip
def test_nvrtc(case: str, dtype: str, arch: str) -> None:
    """NVRTC takes the .cu with its two headers as they are, and writes a cubin."""
    nvrtc = pytest.importorskip(
        "cuda.bindings.nvrtc", reason="NVRTC needs cuda-bindings and nvidia-cuda-nvrtc"
    )
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        pytest.skip(f"NVRTC needs nvidia-cuda-nvrtc: {error}")
    model = model_in(neuron_of(case), dtype)
    files = Cuda().emit(model).files
    headers = [f"{model.name}_layout.h", f"{model.name}_step.h"]
    _, program = nvrtc.nvrtcCreateProgram(
        files[f"{model.name}.cu"].encode(), f"{model.name}.cu".encode(), len(headers),
        [files[h].encode() for h in headers], [h.encode() for h in headers],
    )  # fmt: skip
    options = [*FLAGS, f"--gpu-architecture={arch}"]
    nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytes(size)  # a `b" "` is one object for the whole process, and NVRTC writes into it
    nvrtc.nvrtcGetProgramLog(program, log)
    error, size = nvrtc.nvrtcGetCUBINSize(program)
    assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    assert size > 1000
    assert b"warning" not in log


def test_names_that_meet_are_refused() -> None:
    """As in C, whose arguments are the same."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("checkpoints", init=0.5)
    neuron = lnm.Neuron(charge={v: p * v + x}, fire=v - 1, reset=lnm.hard_reset(v), name="mine")
    with refused(lnm.UnsupportedError, "mine", "have the name 'checkpoints'", remedy="Rename"):
        Cuda().emit(plan_of(neuron))
    for macro in ("MINE_ABI", "MINE_TILE", "MINE_LAUNCH_H"):
        y = lnm.input(macro)
        neuron = lnm.Neuron(charge={v: v + y}, fire=v - 1, reset=lnm.hard_reset(v), name="mine")
        with refused(lnm.UnsupportedError, "cuda: mine", f"the name '{macro}'", remedy="Rename"):
            Cuda().emit(plan_of(neuron))
