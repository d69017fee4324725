"""Packages stand alone: each runs its own test, in a process that cannot import lnm_codegen."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.backends import BACKENDS
from lnm_codegen.backends.base import Source
from lnm_codegen.backends.cuda.kernels import CudaPlan
from lnm_codegen.backends.loops import ABI
from lnm_codegen.backends.package import (
    MODULE_ATTRIBUTES,
    TARGETS,
    class_name,
    launches_text,
    package,
)
from lnm_codegen.backends.plan import Plan
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.ir.declarations import Draw, Granularity, Uniform, finest
from tests.cases import CASES, dendrite
from tests.refusals import refused

MODELS = {
    "lnm": lambda: lnm.get("lnm", degree=3),
    "lif": lambda: lnm.get("lif", learn_tau=True, per="channel"),
    "cuba_lif": lambda: lnm.get("cuba_lif"),
    "li": lambda: lnm.get("li"),
    "izhikevich": lambda: lnm.get("izhikevich"),
    "if": lambda: lnm.get("if"),
    "dendrite": dendrite,
    "gate": CASES["gate"],
    "decided": CASES["decided"],
    "izhikevich-learned": CASES["izhikevich-learned"],
    "cuba_lif-learned": CASES["cuba_lif-learned"],
    "start": lambda: learned_start(),
    "start-read": lambda: learned_start("neuron", reads=True),
}
NAMES = {"lnm": "lnm_3"}
slow = pytest.mark.slow
BLOCKED = "import sys; sys.modules['lnm_codegen'] = None; "
"""What begins a process in which `import lnm_codegen` fails."""


def model(key: str, dtype: str = "float32") -> Plan:
    return plan_of(MODELS[key](), name=NAMES.get(key), dtype=dtype)


@cache
def made(key: str, backend: str, dtype: str = "float32") -> Source:
    return package(model(key, dtype), backend)


def python(folder: Path, code: str, **environment: str) -> str:
    """Run Python in a package's folder, without lnm_codegen; return what it printed."""
    kept = {n: v for n, v in os.environ.items() if n != "TRITON_INTERPRET"}
    own = {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + code],
        cwd=folder,
        env=kept | own | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def own_test(folder: Path, **environment: str) -> str:
    """Run the package's own test; return pytest's last line."""
    arguments = ["-q", "-rs", "-Werror", "-pno:cacheprovider", "-cpyproject.toml", "--rootdir=."]
    code = f"import pytest; sys.exit(pytest.main({arguments}))"
    return python(folder, code, **environment)


RUNS = [
    *((key, "c", "float32") for key in MODELS),
    *(
        (key, "c", dtype)
        for key in ("lif", "dendrite")
        for dtype in ("float64", "bfloat16", "float16")
    ),
    *((key, "triton", "float32") for key in ("lnm", "lif", "dendrite", "cuba_lif")),
]


@slow
@pytest.mark.needs_cc
@pytest.mark.parametrize(
    ("key", "backend", "dtype"),
    RUNS,
)
def test_runs_its_own_test(key: str, backend: str, dtype: str, tmp_path: Path) -> None:
    """Forward and gradients agree with plain PyTorch; Triton is interpreted; the README runs."""
    made(key, backend, dtype).write(tmp_path)
    environment = {"TRITON_INTERPRET": "1"} if backend == "triton" else {}
    assert f"{10 if 'start' in key else 9} passed" in own_test(tmp_path, **environment)
    if key not in ("lif", "lnm") and (backend, dtype) == ("c", "float32"):
        readme = (tmp_path / "README.md").read_text()
        python(tmp_path, f"exec({readme.split('```python')[1].split('```')[0]!r})")


@pytest.mark.needs_cuda
@pytest.mark.parametrize("backend", ["cuda", "triton"])
@pytest.mark.parametrize("key", ["lnm", "lif", "dendrite"])
def test_runs_its_own_test_on_a_gpu(key: str, backend: str, tmp_path: Path) -> None:
    """The same test."""
    made(key, backend).write(tmp_path)
    assert "9 passed" in own_test(tmp_path)


@slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize("backend", TARGETS)
def test_skips_with_the_reason(backend: str, tmp_path: Path) -> None:
    """Without GPU or compiler. The package can be imported all the same, and refuses a tensor."""
    made("lnm", backend).write(tmp_path)
    shown = own_test(tmp_path, CXX="no-such-compiler")
    assert "9 skipped" in shown
    if backend == "c":
        assert "no C++ compiler found (no-such-compiler)" in shown
        return
    assert "PyTorch finds no GPU" in shown
    call = f"""
import torch, lnm_3_{backend} as lnm_3
try:
    lnm_3.Lnm3()(torch.ones(2, 3, 4))
except ValueError as error:
    print(error)
"""
    said = python(tmp_path, f"exec({call!r})")
    assert said == "lnm_3: x_seq is on cpu; this package is for cuda.\n"


@slow
@pytest.mark.parametrize("key", ["rf", "adlif", "brf", "lif"])
def test_its_own_test_has_spikes(key: str, tmp_path: Path) -> None:
    """Those of `rf` need inputs far above 2; the test once compared zeros."""
    lnm.package(lnm.get(key), "c").write(tmp_path)
    code = f"""
sys.path.insert(0, "tests")
import torch, test_{key}_c as own
arguments = own.Arguments(40, own.spiking_scale())
arguments.quieten()
out = own.evaluate(own.reference_run, arguments, torch.float64, torch.float64)[0]
print(own.spiking_scale(), out.mean().item() > 0.001)
"""
    scale = {"lif": 1, "adlif": 4}.get(key, 16)
    assert python(tmp_path, f"exec({code!r})") == f"{scale} True\n"


@slow
@pytest.mark.needs_cc
@pytest.mark.parametrize("openmp", [False, True])
def test_c_with_clang(openmp: bool, tmp_path: Path) -> None:
    """The kernels run; without OpenMP on one thread, with one warning."""
    clang = shutil.which("clang++")
    if clang is None:
        pytest.skip("clang++ is not installed")
    made("lnm", "c").write(tmp_path)
    refuses = 'for w in "$@"; do [ "$w" = -fopenmp ] && exit 1; done\n'
    tool = tmp_path / "clang"
    tool.write_text(f'#!/bin/sh\n{"" if openmp else refuses}exec {clang} "$@"\n', encoding="utf-8")
    tool.chmod(0o755)
    code = """
import torch, warnings, lnm_3_c
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    outputs = [lnm_3_c.Lnm3()(torch.ones(2, 3, 4)).shape for _ in range(2)]
print(outputs[0], *(w.message for w in caught))
"""
    warned = "" if openmp else f" lnm_3_c: {tool} has no OpenMP, so kernels run on one thread."
    assert python(tmp_path, f"exec({code!r})", CXX=str(tool)) == f"torch.Size([2, 3, 4]){warned}\n"


@slow
@pytest.mark.needs_cc
def test_a_truncated_library_is_built_again(tmp_path: Path) -> None:
    """And a sound one is not; where the cache cannot be written, the process has its own."""
    made("li", "c").write(tmp_path)
    code = "import li_c.build; path = li_c.build.library(); print(path, path.stat().st_mtime_ns)"
    first = python(tmp_path, code)
    assert python(tmp_path, code) == first
    path = Path(first.split()[0])
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert python(tmp_path, code) != first
    assert path.stat().st_size == len(whole)
    elsewhere = python(tmp_path, code, XDG_CACHE_HOME=str(tmp_path / "README.md"))
    assert not elsewhere.startswith(str(tmp_path))


@slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc not found on PATH")
def test_cuda_compiles_with_nvcc_and_nvrtc(tmp_path: Path) -> None:
    """Without a GPU; `cubin` takes NVRTC where it can be imported, and keeps what it made."""
    made("lif", "cuda").write(tmp_path)
    code = """
import tempfile
from pathlib import Path
from lif_cuda import build
names = (build.SOURCE, *build.HEADERS)
texts = {n: (Path("lif_cuda") / n).read_text() for n in names}
with tempfile.TemporaryDirectory() as work:
    image = build._nvcc(Path(work), texts, "sm_90")
assert image.startswith(b"\\x7fELF") and b"lif_forward_kernel" in image
image = build.cubin("sm_90")
assert image.startswith(b"\\x7fELF") and b"lif_sums_kernel" in image
_, version = build.compiler()
build.compiler = lambda: (None, version)  # not called again
assert build.cubin("sm_90") == image
print(len(list(Path("cache/lif-neuron-cuda").iterdir())))
"""
    assert python(tmp_path, f"exec({code!r})") == "1\n"


_DRIVER = """
#include <cstdio>
#include <cstdint>
extern "C" {
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int) { *context = (void *)0x7000000000c0; return 0; }
int cuCtxSetCurrent(void *context) { std::printf("context %p\\n", context); return 0; }
int cuModuleLoadData(void **module, const char *image) {
    std::printf("image %s\\n", image);
    *module = (void *)0x700000000100;
    return 0;
}
int cuModuleGetFunction(void **function, void *, const char *name) {
    std::printf("function %s\\n", name);
    *function = (void *)0x700000000200;
    return 0;
}
int cuFuncSetAttribute(void *, int word, int value) {
    std::printf("attribute %d %d\\n", word, value);
    return 0;
}
int cuGetErrorName(int, const char **name) { *name = "CUDA_ERROR_OF_THE_TEST"; return 0; }
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **values, void **extra) {
    const int64_t *words = (const int64_t *)values[0];
    std::printf("launch %p %u %u %u %u %u %u %u %p %d:", function, x, y, z, bx, by, bz, shared,
                stream, extra != 0);
    for (int k = 0; k < 9; ++k) std::printf(" %lld", (long long)words[k]);
    std::printf(" %d\\n", *(void **)values[1] != 0);
    std::fflush(stdout);
    return x == 77 ? 1 : 0;
}
}
"""


@pytest.mark.needs_cc
def test_cuda_calls_the_driver_as_its_header_says(tmp_path: Path) -> None:
    """A stub stands for libcuda.so.1: structs by value, pointers of 64 bits, errors by name."""
    made("dendrite", "cuda").write(tmp_path)
    (tmp_path / "driver.cpp").write_text(_DRIVER)
    build = ["g++", "-shared", "-fPIC", "-o", "driver.so", "driver.cpp"]
    subprocess.run(build, cwd=tmp_path, check=True)
    code = """
import ctypes, contextlib, types, torch
from dendrite_cuda import kernels, launches
driver = ctypes.CDLL("./driver.so")
kernels._driver = lambda: driver
kernels.cubin = lambda arch: f"cubin of {arch}".encode()
torch.cuda.device = lambda device: contextlib.nullcontext()
torch.cuda.current_stream = lambda: types.SimpleNamespace(cuda_stream=0x700000000300)
torch.cuda.get_device_capability = lambda index: (9, 0)
cpu = torch.empty
torch.empty = lambda *a, **k: cpu(*a, **k | {"device": "cpu"})
class Tensor(torch.Tensor):
    device = types.SimpleNamespace(index=0)
x = torch.ones(5).as_subclass(Tensor)
sizes = (17, 3 * 2000, 2000, 4, 500)
kernels.forward(*sizes, x, None)
kernels.backward(*sizes, 12345678901234, x)
launches.forward = lambda *sizes: (0, (launches.Launch("bad", 77, 32),))
try:
    kernels.forward(*sizes, x, None)
except RuntimeError as error:
    print(error)
print(x.data_ptr())
"""
    lines = python(tmp_path, f"exec({code!r})").splitlines()
    address = lines.pop()
    plan = CudaPlan(model("dendrite"))
    launches = [(plan.launches.forward_launches(6000, 2000)[0], f"{address} 0")]
    backward = plan.launches.backward_launches(6000, 2000, 4)
    launches += [(launch, f"12345678901234 {address}") for launch in backward]
    assert {"image cubin of sm_90", "context 0x7000000000c0"} <= {*lines}
    expected = [
        f"launch 0x700000000200 {launch.grid} 1 1 {launch.block} 1 1 {launch.shared}"
        f" 0x700000000300 0: 72 {ABI} 17 6000 2000 4 500 {words} 1"
        for launch, words in launches
    ]
    assert [x for x in lines if x.startswith("launch")][:3] == expected
    assert lines[-1] == "dendrite_cuda: cuLaunchKernel: CUDA_ERROR_OF_THE_TEST."
    names = [x.split()[1] for x in lines if x.startswith("function")]
    assert names == [*(launch.kernel for launch, _ in launches), "bad"]


@pytest.mark.parametrize(
    "key",
    ["lif", "dendrite",
     *(pytest.param(k, marks=slow) for k in ("lnm", "gate", "cuba_lif-learned", "decided"))],
)  # fmt: skip
def test_launches_are_those_of_the_plan(key: str) -> None:
    """The printed formulas give what `CudaPlan` does."""
    plan = CudaPlan(model(key))
    printed: dict = {}
    exec(launches_text(plan.plan), printed)

    def plain(launches: Any) -> list[tuple[Any, ...]]:
        return [(x.kernel, x.grid, x.block, x.shared) for x in launches]

    for time_steps in (0, 1, 16, 17, 100, 4096, 4097, 70000):
        for batch, channels, inner in ((1, 1, 1), (3, 5, 7), (64, 128, 1024), (2**12, 3, 2**12)):
            sample = channels * inner
            neurons = batch * sample
            if plan.plan.finest == "layer":
                sample, channels, inner = 1, 1, neurons
            sizes = (time_steps, neurons, sample, channels, inner)
            forward = plan.launches.forward_launches(neurons, sample)
            backward = plan.launches.backward_launches(neurons, sample, channels)
            workspace = plan.launches.backward_workspace(time_steps, neurons, sample)
            assert printed["forward"](*sizes) == (0, tuple(plain(forward)))
            found, launches = printed["backward"](*sizes)
            assert (found, [*map(tuple, launches)]) == (workspace, plain(backward))
            kept = printed["checkpoints"](time_steps, neurons)
            assert kept == plan.launches.saved_size(time_steps, neurons)


@pytest.mark.parametrize(
    ("key", "backend"),
    [pytest.param(k, b, marks=() if (k, b) == ("dendrite", "c") else slow)
     for k in MODELS for b in TARGETS],
)  # fmt: skip
def test_files(key: str, backend: str) -> None:
    """Sources as the backend emits them; nothing of ours but a header; no line runs away."""
    source, emitted = made(key, backend), BACKENDS[backend].emit(model(key))
    texts = {*source.files.values()}
    assert texts >= {*emitted.files.values()}
    assert source.entry in source.files
    for path, text in source.files.items():
        assert text.endswith("\n"), path
        mentions = [line for line in text.splitlines() if "lnm_codegen" in line]
        assert all("Generated by lnm_codegen" in line for line in mentions), path
        assert len(mentions) == 1, path
        if path.endswith(".py"):
            ast.parse(text)
        if text not in emitted.files.values() and "reference" not in path:
            own = {line.strip() for line in text.splitlines()} - {*model(key).equations}
            assert [line for line in own if len(line) > 100] == [], path
    assert source.files == package(model(key), backend).files


@slow
@pytest.mark.parametrize("backend", TARGETS)
def test_can_be_installed(backend: str, tmp_path: Path) -> None:
    """With pip, offline; sources come along."""
    pytest.importorskip("setuptools", reason="setuptools, the build backend, is not installed")
    made("lnm", backend).write(tmp_path / "package")
    target = tmp_path / "installed"
    call = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    call += ["--no-index", "--quiet", "--target", str(target), str(tmp_path / "package")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = [p for p in made("lnm", backend).files if p.startswith(f"lnm_3_{backend}/")]
    for path in files:
        assert (target / path).read_text() == made("lnm", backend).files[path]
    (metadata,) = target.glob("*.dist-info/METADATA")
    assert "License-Expression: 0BSD\n" in metadata.read_text()
    shutil.copytree(tmp_path / "package" / "tests", tmp_path / "alone" / "tests")
    (tmp_path / "alone" / "pyproject.toml").write_text("")
    shown = own_test(tmp_path / "alone", PYTHONPATH=str(target), TRITON_INTERPRET="1")
    skips = backend == "cuda" and not torch.cuda.is_available()
    assert f"9 {'skipped' if skips else 'passed'}" in shown


def drawn_start() -> lnm.Neuron:
    """Return a neuron whose initial state is drawn before another parameter."""
    draw = Draw(Uniform((0.0, 1.0)))
    start, a = lnm.param("start", init=0.5, draw=draw), lnm.param("a", init=0.5, draw=draw)
    v, x = lnm.state("v", init=start), lnm.input("x")
    return lnm.Neuron(charge={v: a * v + x}, fire=v - 1, name="drawn_start")


def equal_ranges() -> lnm.Neuron:
    """Return a neuron with two draws of one range, and a constant between them."""
    v, x, draw = lnm.state("v"), lnm.input("x"), Draw(Uniform((0.0, 1.0)))
    a, fixed = lnm.param("a", init=0.5, draw=draw, per="neuron"), lnm.param("fixed", init=0.25)
    b = lnm.param("b", init=0.5, draw=draw, per="neuron", learnable=False)
    return lnm.Neuron(charge={v: a * v + fixed * x + b}, fire=v - 1, name="equal_ranges")


DRAWN = {
    "rf": lambda: lnm.get("rf", per="channel"),
    "brf": lambda: lnm.get("brf"),
    "adlif": lambda: lnm.get("adlif", per="neuron"),
    "free": lambda: lnm.get("lnm", states=2, degree=2, learn_theta_0=True, per="channel"),
    "row": lambda: lnm.get("lnm", states=2, degree=1, theta_v=(0.5, 0.1), per="neuron"),
    "pole": lambda: lnm.get("lnm", states=2, degree=1, parametrisation="pole", per="channel"),
    "equal": equal_ranges,
    "start": drawn_start,
}
SHAPES = {"layer": {}, "channel": {"channels": 4}, "neuron": {"shape": (4, 3)}}


def imported(source: Source, folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """Write a package and import it, for this test alone."""
    source.write(folder)
    patch.syspath_prepend(folder)
    with patch.context() as modules:
        modules.setattr(sys, "modules", {**sys.modules})
        return import_module(source.entry.split("/")[0])


@pytest.mark.needs_cc
def test_a_layer_computes_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit-exact to the layer with the C backend, gradients included."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    layer = imported(made("lif", "c"), tmp_path, monkeypatch).Lif(channels=3)
    ours = lnm.nn.NeuronLayer(MODELS["lif"](), backend="c", channels=3)
    x = torch.linspace(-1, 3, 5 * 2 * 3 * 7).sin().mul(3).reshape(5, 2, 3, 7)
    found = []
    for each in (layer, ours):
        leaf = x.clone().requires_grad_()
        out = each(leaf)
        out = out[0] if isinstance(out, tuple) else out
        (out * x).sum().backward()
        found.append([out, leaf.grad, *(p.grad for p in each.parameters())])
    assert found[0][0].sum() > 0
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("key", DRAWN)
def test_a_new_layer_draws_as_ours(
    key: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one seed the numbers are equal; every layer began in the middle of each range."""
    neuron, name = DRAWN[key](), f"drawn_{key}_{dtype}"
    source = package(plan_of(neuron, name=name, dtype=dtype), "c")
    made = getattr(imported(source, tmp_path, monkeypatch), class_name(name))
    sizes = SHAPES[finest(p.per for p in neuron.params)]
    torch.manual_seed(5)
    ours = lnm.nn.NeuronLayer(neuron, dtype=getattr(torch, dtype), **sizes)
    torch.manual_seed(5)
    layer = made(**sizes)
    for p in neuron.params:
        assert torch.equal(getattr(layer, p.name), getattr(ours, p.name)), p.name
    again = made(**sizes)
    words = " ".join(source.files["README.md"].split())
    drawn = [p.name for p in neuron.params if p.draw is not None]
    assert all(not torch.equal(getattr(layer, n), getattr(again, n)) for n in drawn)
    assert f"draws {', '.join(f'`{n}`' for n in drawn)} at random" in words


def with_param(name: str = "w", size: int | None = None, **options: Any) -> Plan:
    """Return the plan of a neuron with this parameter."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param(name, size=size, **options)
    charge = {v: p * v + x} if size is None else {v: p[0] * v + p[1] * x}
    return plan_of(lnm.Neuron(charge=charge, fire=v - 1, reset={v: 0 * v}, name="drawn"))


def test_refuses_what_it_cannot_hold() -> None:
    """In one line each."""
    with refused(ModelError, "package", "backend is 'torch'", accepted="'c', 'cuda', 'triton'"):
        package(model("lif"), "torch")
    for name in ("math", "torch", "numpy", "kernels", "run_sequence", "layer", "draws"):
        with refused(ModelError, "package", f"{name!r} would hide another module or function"):
            package(plan_of(lnm.get("lif"), name=name), "c")
    one, two = (Draw(lambda generator, axes, n=n: (torch.zeros(n),)) for n in (1, 2))
    function, give = "the draw of 'w' is a function", "Give numbers: neuron.with_init(w=...)"
    init = lambda generator, shape: torch.zeros(shape)  # noqa: E731
    for plan, problem, remedy in (
        (with_param(init=init), "the init of 'w' is a function", ""),
        (with_param(init=0.5, draw=one), function, give),
        (with_param(size=2, draw=two), function, f"{give}."),  # Uniform is for scalars
        *((with_param(w, init=0.5), w, "Rename the parameter.")
          for w in ("modules", "run_sequence")),
    ):  # fmt: skip
        with refused(UnsupportedError, "package: drawn", problem, remedy=remedy):
            package(plan, "c")
    module = torch.nn.Module()  # the list has the names that every module owns, and no others
    assert {name for name in dir(module) if not name.startswith("_")} <= MODULE_ATTRIBUTES
    assert [name for name in MODULE_ATTRIBUTES if not hasattr(module, name)] == []


def test_class_names() -> None:
    """CamelCase; a name in CamelCase gets a suffix."""
    assert [*map(class_name, ("cuba_lif", "if_", "Lif"))] == ["CubaLif", "If", "LifLayer"]


@slow
@pytest.mark.needs_cc
def test_the_values_of_a_trained_layer_load(tmp_path: Path) -> None:
    """As its README says; constants may be missing, and learned values may not."""
    layer = lnm.nn.NeuronLayer(lnm.get("plif"))
    with torch.no_grad():
        layer.w.fill_(0.7)
        layer.v_threshold.fill_(0.8)
    x = torch.rand(9, 2, 5, generator=torch.Generator().manual_seed(0))
    lnm.package(layer.neuron, "c").write(tmp_path)
    line = "layer.load_state_dict(trained.state_dict())"
    assert line in (tmp_path / "README.md").read_text()
    torch.save((layer.state_dict(), x, layer(x).detach()), tmp_path / "values.pt")
    code = f"""
import torch
from types import SimpleNamespace
from plif_c import Plif
values, x, expected = torch.load("values.pt")
trained = SimpleNamespace(state_dict=lambda: values)
layer = Plif()
assert not torch.equal(layer(x), expected)
{line}
assert torch.equal(layer(x), expected)
grads = []
for pack in (lambda t: torch.stack([t, t], -1)[..., 0], lambda t: t):
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = layer(x)
    grads += torch.autograd.grad(out.square().sum(), layer.w)
assert torch.equal(*grads), "hooks of saved tensors may change layouts"
Plif().load_state_dict({{"w": values["w"]}})
network = torch.nn.Sequential(torch.nn.Identity(), Plif())
assert network.load_state_dict({{"1.w": values["w"]}}).missing_keys == []
try:
    Plif().load_state_dict({{}})
except RuntimeError as error:
    print(str(error).splitlines()[1].strip())
"""
    assert python(tmp_path, f"exec({code!r})") == 'Missing key(s) in state_dict: "w".\n'


def test_a_read_only_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole file is used there; another one is made in a temporary folder."""
    module: dict[str, Any] = {}
    exec(lnm.package(lnm.get("lif"), "c").files["lif_c/cache.py"], module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make(work: Path) -> bytes:
        made.append(work)
        return b"kernel"

    first = module["cached"]("lif.so", ["a"], make)
    assert first.is_relative_to(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(tmp_path))
    assert module["cached"]("lif.so", ["a"], make) == first
    others = {module["cached"]("lif.so", ["b"], make) for _ in range(2)}
    assert len(others) == 1 < len(made) == 2
    assert not others.pop().is_relative_to(tmp_path)
    module["_temporary"]().cleanup()


def learned_start(per: Granularity = "channel", reads: bool = False) -> lnm.Neuron:
    """Return a neuron with two states that begin with one parameter, which the reset may read."""
    start, x = lnm.param("v_start", init=0.25, per=per), lnm.input("x")
    v, w = lnm.state("v", init=start), lnm.state("w", init=start)
    reset = {v: lnm.where(lnm.spike, start if reads else 0, v)}
    return lnm.Neuron(name="own", charge={v: v / 2 + w + x, w: w / 2}, fire=v - 1, reset=reset)


@pytest.mark.parametrize("reads", [False, True])
def test_a_layer_has_learned_initial_states(
    reads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once did not, and a trained state_dict was refused. The function takes the states."""
    name = f"own_{reads}".lower()
    source = lnm.package(learned_start(reads=reads), "c", name=name)
    made = imported(source, tmp_path, monkeypatch)
    function = made.layer.run_sequence.__globals__
    layer = getattr(made, class_name(name))(channels=4)
    layer.load_state_dict({"v_start": torch.arange(4.0)})
    calls: list[Any] = []
    monkeypatch.setattr(made.layer, "run_sequence", lambda *given: calls.append(given) or [None])
    layer(torch.zeros(2, 3, 4, 5, 4))
    _, parameters, starts = calls[0]
    assert len(parameters) == reads
    started = function["_start"]("v_init", starts[0], torch.zeros(2, 3, 4, 5, 4))
    assert torch.equal(started, torch.arange(4.0).reshape(4, 1, 1).expand(3, 4, 5, 4))
    one = function["_start"]("v_init", torch.ones(1), torch.zeros(2, 3, 4, 5, 4))
    assert torch.equal(one, torch.ones(3, 4, 5, 4))
    problem = r"v_init has shape \(4,\); expected \(3, 4, 5, 4\), or \(4, 5, 4\) for all samples"
    with pytest.raises(ValueError, match=problem):
        function["_start"]("v_init", torch.arange(4.0), torch.zeros(2, 3, 4, 5, 4))
    words = " ".join(source.files["README.md"].split())
    assert "The layer begins `v` with `v_start`. The function takes it as `v_init`" in words


@pytest.mark.parametrize("layer", [lnm.nn.NeuronLayer, lnm.nn.NormNeuron])
def test_a_layer_is_no_neuron(layer: type[lnm.nn.NeuronLayer]) -> None:
    """The remedy names the neuron of its kernels."""
    norm = layer is lnm.nn.NormNeuron
    remedy = "lnm.normalised(layer.neuron, layer.shortcut)." if norm else "Pass layer.neuron."
    made = layer(lnm.get("lif"), channels=3)
    for function in (lnm.package, lnm.emit):
        problem = f"a {layer.__name__} is not a neuron"
        with refused(ModelError, function.__name__, problem, "an lnm.Neuron", remedy):
            function(made, "c")  # type: ignore[operator]
