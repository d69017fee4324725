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
from lnm_codegen.ir.interpret import run as run_kernel
from lnm_codegen.ir.kernel import Role
from lnm_codegen.nn.arguments import recording
from lnm_codegen.nn.explain import schedule_of
from lnm_codegen.nn.load.cuda import load_cuda
from tests.backends.cuda.host import decoded, encoded, host_kernels, model_in, run_host
from tests.cases import CASES, Results, arguments, run
from tests.refusals import refused
from tests.strategies import Arguments
from tests.test_agree import neuron_of
from tests.variants import mixture

slow = pytest.mark.slow
needs_cc = pytest.mark.needs_cc
needs_nvcc = pytest.mark.skipif(
    not (shutil.which("nvcc") and shutil.which("ptxas")), reason="nvcc or ptxas not found on PATH"
)
some = pytest.mark.parametrize(
    "case", ["dendrite", *(pytest.param(c, marks=slow) for c in ("lnm-3", "lnm-4"))]
)
"""Kernels that the quick rows of `tests/test_agree.py` build; `lnm-3` sums per layer alone."""
dtypes = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


def drawn(case: str, shape: tuple[int, ...]) -> Arguments:
    return arguments(neuron_of(case), np.random.default_rng(sum(shape)), shape)


def same(got: Results, expected: Results, but: tuple[str, ...] = ()) -> None:
    """Every array has the same bits (or NaN in both), except gradients of `but`."""
    mine, theirs = got.arrays(), expected.arrays()
    for name in theirs:
        if name.removeprefix("grad ") not in but:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def near(
    got: Results, expected: Results, names: tuple[str, ...], rtol: float, scale: float
) -> None:
    """Gradients of parameters, whose order of addition differs, are within rounding."""
    for name in names:
        mine, theirs = got.grads[name], expected.grads[name]
        atol = scale * (1 + np.abs(theirs).max(initial=0))
        np.testing.assert_allclose(mine, theirs, rtol, atol, err_msg=name)


# ---- the kernels on the host, beyond the rows of `tests/test_agree.py` ----


@slow
@needs_cc
def test_sums_of_coarser_parameters() -> None:
    """A layer-wise parameter gathers what comes through finer ones; one per channel likewise."""
    neuron, learned = mixture(), ("w", "b", "tau", "gain")
    text = Cuda().emit(plan_of(neuron)).files["mixture.cu"]
    for job in ("layer_gradients_over_neurons", "channel_gradients_over_neurons"):
        assert f"DEVICE void {job}(" in text
    for shape in ((17, 4, 3, 25), (3, 20, 2, 300), (2, 1, 1, 1), (0, 2, 3, 4)):
        a = arguments(neuron, np.random.default_rng(1), shape)
        got, c = run_host(neuron, a), run(neuron, a, "c", "float32")
        same(got, c, but=learned)
        near(got, c, learned, 1e-4, 1e-5 * shape[0] * shape[1])
        if shape[0] == 17:
            near(got, a.interpret(neuron), learned, 2e-3, 2e-3)


@needs_cc
@dtypes
def test_every_sixteen_bit_number(dtype: str) -> None:
    """All 2**16 numbers handed on: unchanged, NaN as NaN; a third of each: rounding, ties."""
    x = lnm.input("x")  # SymPy writes x / 3 as a product
    neuron = lnm.Neuron(output={"copy": x * 1.0, "third": x / 3}, name="numbers")
    values = decoded(np.arange(1 << 16, dtype=np.uint16).reshape(1, 1, 1, -1), dtype)
    got = run_host(neuron, Arguments((values,), {}, {}, (values, values), {}), dtype).outputs
    np.testing.assert_array_equal(got["copy"], values)
    with np.errstate(all="ignore"):
        third = decoded(encoded(values * np.float32(1 / 3), dtype), dtype)
    np.testing.assert_array_equal(got["third"], third)


@needs_cc
@some
def test_nothing_depends_on_alignment_or_grid(case: str) -> None:
    """Number by number where a pointer is off by one; any count of blocks: the same bits."""
    neuron = neuron_of(case)
    kernels = host_kernels(neuron, "float32")
    a = drawn(case, (20, 8, 4, 100))
    first = run_host(neuron, a)
    narrow = kernels.counter("narrow")
    narrow.value = 0
    for grid in (1, 3):
        same(run_host(neuron, a, grid=grid), first)
    assert narrow.value == 0
    same(run_host(neuron, a, shift=1), first)
    assert narrow.value > 0
    narrow.value = 0
    run_host(neuron, drawn(case, (20, 2, 3, 11)))
    assert narrow.value > 0  # 33 neurons a sample: no whole accesses


@slow
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


def test_what_a_layer_counts_is_whole() -> None:
    """0 or 1 in a step, which double adds up exactly: the order of the blocks changes no bit."""
    rng = np.random.default_rng(0)
    for case in ("lnm-4", "dendrite"):
        kernel = lnm.lower(recording(neuron_of(case), ("stats",), (-0.5, 0.5))).forward
        values = {p.var.name: rng.uniform(-1.5, 1.5, 99) for p in kernel.inputs}
        counted = [p.var.name for p in kernel.results if p.role is Role.COUNT]
        assert counted
        found = run_kernel(kernel, values, np.float32)
        assert all(set(np.unique(found[name])) <= {0, 1} for name in counted)


@needs_cc
def test_absent_results() -> None:
    """Null pointers: what is not wanted is skipped, the rest has the same bits."""
    neuron, a = neuron_of("dendrite"), drawn("dendrite", (20, 2, 3, 50))
    whole = run_host(neuron, a)
    forward = run_host(neuron, a, absent=["checkpoints"])
    same(forward, Results(whole.outputs, whole.states, {}))
    got = run_host(neuron, a, absent=["grad_x_seq"])
    assert np.isnan(got.grads.pop("x")).all()
    del whole.grads["x"]
    same(got, whole)


@slow
@needs_cc
def test_sums_against_float64() -> None:
    """Within 1e-6 of the sum of magnitudes of the float32 terms, at every granularity."""
    x = lnm.input("x")
    pers = ("layer", "channel", "neuron")
    scales = [lnm.param(f"w_{per}", init=0.5, per=per) for per in pers]
    neuron = lnm.Neuron(output={"y": sum((w * x for w in scales), x)}, name="scaled")
    a = arguments(neuron, np.random.default_rng(0), (64, 32, 4, 16))
    terms = a.x_seq[0] * a.grad_out[0]
    for per, axes in zip(pers, ((0, 1, 2, 3), (0, 1, 3), (0, 1)), strict=True):
        off = np.abs(run_host(neuron, a).grads[f"w_{per}"] - terms.sum(axes))
        assert (off <= 1e-6 * np.abs(terms).sum(axes)).all(), per


# ---- offsets and sizes; `tests/resources` has bytes, registers and spills ----


SIZES_OF_CALLS = (
    (0, 1, 0), (1, 1, 1), (16, 30, 15), (17, 1024, 1024), (4096, 1025, 25), (4097, 3000, 1000),
    (65536, 1 << 20, 1 << 10), (100, 3 << 40, 3), (7, 1 << 44, 1 << 20), (65536, 5 << 33, 129),
)  # fmt: skip


@needs_cc
@some
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


def test_offsets_are_64_bit() -> None:
    """No offset into a sequence is made but by the layout's functions, in int64_t."""
    text = Cuda().emit(plan_of(neuron_of("dendrite"))).files["dendrite.cu"]
    accesses = re.findall(r"\b(?:load|load_numbers|store)\(.*_seq\b", text)
    assert len(accesses) == len(re.findall(r"a\.\w+_seq \+ \w+", text)) > 6
    for line in text.splitlines():
        for place in re.findall(r"a\.\w+_seq \+ (\w+)", line):
            declared = f"int64_t {place} = dendrite_offset("
            assert place == "dendrite_offset" or declared in text, line
        if "_offset(" in line:
            assert re.search(r"_offset\((begin|step|latest)", line), line
    assert re.search(r"int64_t begin\b", text)
    assert re.search(r"const int64_t latest\b", text)


def test_explain_counts_these_launches() -> None:
    """Also of a learnable parameter whose gradient is zero everywhere."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p")
    compared = lnm.Neuron(charge={v: v / 2 + x}, output={"y": lnm.where(x > p, v, 0)})
    for neuron in (
        compared,
        *(neuron_of(c) for c in ("lif", "lnm-3", "lnm-4", "dendrite", "gate")),
    ):
        plan = plan_of(neuron)
        launches = CudaPlan(plan).launches.backward_launches(4096, 64, 4)
        schedule = schedule_of(plan, "cuda")
        assert schedule is not None
        assert schedule.backward_launches == len(launches)


def test_launches_and_memory() -> None:
    """One launch forward, two backward at most; grids within their limit, never empty.

    Saved states are 1/16 of all at 4096 steps; beyond, they grow like a square root.
    """
    cuda = CudaPlan(plan_of(lnm.get("lnm", degree=3)))
    assert cuda.launches.saved_size(4096, 1000) <= 4096 * 1000 // 16
    far = 4 * cuda.launches.saved_size(65536, 1000)
    far += cuda.launches.backward_workspace(65536, 1000, 1)
    assert far <= 4 * 1000 * 2 * 64 + 4096
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


@slow
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
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
        dynamic = cuda.launches.backward_launches(4096, 1, 1)[0].shared
        assert dynamic + static <= 99 * 1024 == MAX_SHARED
        assert cuda.launches.forward_launches(4096, 1)[0].shared <= 40 * 1024
        assert cuda.tile == 1024 or cuda.shared(2 * cuda.tile) > MAX_SHARED
        for threads, lanes in (
            (cuda.forward_threads, cuda.forward_lanes),
            (cuda.backward_threads, cuda.backward_lanes),
        ):
            assert threads >= 128  # the largest width of a tile in a sample
            assert cuda.tile % (threads * lanes) == 0


@slow
@needs_cc
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
        near(got, expected, learned, 1e-4, 1e-5)


@slow
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


@slow
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


def test_the_step_is_that_of_c() -> None:
    """The functions of the step header are those of the C backend, letter by letter."""
    for case in ("lnm-4", "dendrite", "plif"):
        model = plan_of(neuron_of(case))
        sources = Cuda().emit(model), lnm.emit(neuron_of(case), "c")
        texts = [source.files[f"{model.name}_step.h"] for source in sources]
        assert len({text[text.index("typedef float") :] for text in texts}) == 1


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


SPILLS = [
    *(({"degree": degree}, dtype) for degree in (1, 2, 3, 4)
      for dtype in ("float32", "float64", "bfloat16", "float16")),
    *(({"states": 2, "degree": 1} | more, "float32")
      for more in ({}, {"per": "channel"}, {"parametrisation": "pole"})),
]  # fmt: skip


@slow
@needs_nvcc
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("options", "dtype"), SPILLS)
def test_no_spills(options: dict[str, Any], dtype: str, arch: str, tmp_path: Path) -> None:
    """`lnm`, layer-wise in chunks of 16 steps, two states in chunks of 8: in registers alone."""
    model = model_in(lnm.get("lnm", **options), dtype)
    if dtype == "float32":
        assert CudaPlan(model).chunk == (8 if "states" in options else 16)
    Cuda().emit(model).write(tmp_path)
    for name, (used, spilled) in built(tmp_path, model.name, arch).items():
        assert spilled == 0, (name, used, spilled)


@slow
@needs_nvcc
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_every_case_builds(case: str, dtype: str, tmp_path: Path) -> None:
    """To cubin for both architectures, without a warning."""
    model = model_in(neuron_of(case), dtype)
    Cuda().emit(model).write(tmp_path)
    for arch in ("sm_80", "sm_90"):
        assert f"{model.name}_backward_kernel" in built(tmp_path, model.name, arch)


@slow
@needs_nvcc
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
