"""The kernels of a normalised neuron on every target: numbers, and bytes that they move."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.base import Source
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.language.normalisation import channel_sums, input_correction
from lnm_codegen.nn.load.c import compiler
from lnm_codegen.nn.load.cuda import cubin
from tests.backends.cuda.host import host_kernels, run_host
from tests.cases import arguments, exact
from tests.strategies import Arguments, rows_of

BLOCK = lnm.normalised(lnm.get("lif"))
PASSES = (channel_sums(), input_correction())
FILES = {
    "c": {"{}_step.h", "{}.h", "{}.cpp"},
    "cuda": {"{}_step.h", "{}_layout.h", "{}.cu", "{}_launch.h", "{}_launch.cpp"},
    "triton": {"{}.py"},
}


def drawn(neuron: lnm.Neuron, shape: tuple[int, ...], seed: int = 0) -> Arguments:
    """Return arguments whose parameters per channel are random; the sums have gradient 1."""
    rng = np.random.default_rng(seed)
    a = arguments(neuron, rng, shape)
    per_channel = (p for p in neuron.params if p.per == "channel")
    params = {p.name: exact(rng.uniform(0.25, 1.5, rows_of(p.per, shape))) for p in per_channel}
    grads = (np.ones(shape),) if neuron is channel_sums() else a.grad_out
    return replace(a, params=a.params | params, grad_out=grads)


@pytest.mark.parametrize("backend", FILES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_source_holds_both_passes(backend: Any, dtype: Any) -> None:
    """The files of a normalised neuron are its own and those of the passes, which stand alone."""
    source = lnm.emit(BLOCK, backend, dtype=dtype)
    assert source.entry in source.files
    helpers = [f"lif_norm_{neuron.name}" for neuron in PASSES]
    for helper in helpers:
        own = {name.format(helper) for name in FILES[backend]}
        assert own <= source.files.keys()
        for name in own:
            assert "lif_norm" not in source.files[name].replace(helper, "")
    for name in FILES[backend]:
        assert not any(helper in source.files[name.format("lif_norm")] for helper in helpers)


@pytest.mark.parametrize("backend", FILES)
def test_two_normalised_neurons_share_no_name(backend: Any) -> None:
    """Neither a file, but for the example, nor a function with C linkage."""
    a = lnm.emit(lnm.normalised(lnm.get("lif")), backend, name="na")
    b = lnm.emit(lnm.normalised(lnm.get("plif"), True), backend, name="nb", dtype="float64")
    assert {n for n in a.files.keys() & b.files.keys() if "example" not in n} == set()
    shared = re.compile(r"channel_sums|input_correction")
    for source, name in ((a, "na"), (b, "nb")):
        for text in source.files.values():
            code = re.sub(r"from `\w+`|`[^`]*`", "", text)
            assert all(code[m.start() - 3 : m.start()] == f"{name}_" for m in shared.finditer(code))


@pytest.mark.needs_cc
@pytest.mark.slow
def test_two_normalised_neurons_link(tmp_path: Path) -> None:
    """In one folder and one program, with different types."""
    first, second = lnm.normalised(lnm.get("lif")), lnm.normalised(lnm.get("plif"), True)
    names = [p.name for p in lnm.emit(first, "c", name="na").write(tmp_path)]
    names += [p.name for p in lnm.emit(second, "c", name="nb", dtype="float64").write(tmp_path)]
    sources = [name for name in names if name.endswith(".cpp")]
    assert len(sources) == 6
    command = [compiler().path, "-std=c++17", "-shared", "-fPIC", "-o", "both.so", *sources]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.needs_cc
@pytest.mark.parametrize("neuron", [*PASSES, lnm.normalised(lnm.get("lif"), True)], ids=str)
@pytest.mark.parametrize("shape", [(5, 2, 3, 4), (17, 3, 4, 64), (4, 3, 2, 33)])
def test_the_cuda_kernels_on_the_host(neuron: lnm.Neuron, shape: tuple[int, ...]) -> None:
    """Outputs and gradients are those of the interpreter, within float32."""
    a = drawn(neuron, shape)
    got, expected = run_host(neuron, a), a.interpret(neuron)
    for name, array in got.outputs.items():
        np.testing.assert_allclose(array, expected.outputs[name], rtol=1e-5, atol=1e-5)
    learned = [p.name for p in neuron.params if p.learnable]
    inputs = [] if neuron is channel_sums() else [s.name for s in neuron.inputs]
    for name in (*learned, *inputs):
        mine, theirs = got.grads[name], np.asarray(expected.grads[name])
        size = max(np.abs(theirs).max(), 1)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5 * size, err_msg=name)


def sequences(source: Source, name: str, functions: str) -> set[str]:
    """Return the sequences that functions of a C source read or write at each time step."""
    text = source.files[f"{name}.cpp"]
    bodies = re.findall(rf"ALWAYS_INLINE void (?:{functions})\(.*?\n}}\n", text, re.S)
    assert len(bodies) == len(functions.split("|"))
    return {found for body in bodies for found in re.findall(r"a\.(\w+_seq) \+ time", body)}


def test_bytes_of_an_element_step_in_c() -> None:
    """36 of BatchNorm2d and a layer's 52, read from the source, of which the statistics take 4.

    A block of lanes stays in the L1 cache between the recomputation and the adjoint, so that the
    backward reads each number once. BatchNorm2d moves 12 forward and 20 backward, a layer 8 and 12.
    """
    source = lnm.emit(BLOCK, "c")
    statistics = sequences(source, "lif_norm_channel_sums", "backward_chunk")
    forward = sequences(source, BLOCK.name, "forward_chunk")
    backward = sequences(source, BLOCK.name, "recompute|backward_chunk")
    correction = sequences(source, "lif_norm_input_correction", "forward_chunk")
    skipped = {"grad_c_seq"}  # null in a call, see `batch_moments`
    assert statistics - skipped == {"c_seq"}
    assert forward == {"x_raw_seq", "spike_seq"}
    assert backward == {"x_raw_seq", "grad_spike_seq", "grad_x_raw_seq"}
    assert correction == {"grad_seq", "c_seq", "corrected_seq"}
    streams = len(statistics - skipped) + len(forward) + len(backward) + len(correction)
    layer = lnm.emit(lnm.get("lif"), "c")
    alone = len(sequences(layer, "lif", "forward_chunk"))
    alone += len(sequences(layer, "lif", "recompute|backward_chunk"))
    assert 4 * streams == 36
    assert 12 + 20 + 4 * alone == 52


@pytest.mark.needs_cc
def test_bytes_of_an_element_step_in_cuda() -> None:
    """The same, counted as the kernels run; the sums would also write zeros, 4 bytes more."""
    moved = {}
    shape = (4, 4, 8, 128)
    for neuron in (*PASSES, BLOCK):
        kernels = host_kernels(neuron, "float32")
        for name in ("loaded", "stored"):
            kernels.counter(name).value = 0
        run_host(neuron, drawn(neuron, shape), ends=False)
        total = kernels.counter("loaded").value + kernels.counter("stored").value
        moved[neuron.name] = total / np.prod(shape)
    sums = 4 + 4 + 8  # the backward reads c and writes 0; the forward, which is not used, moves 8
    assert moved["channel_sums"] == sums
    starts = 2 * 4 / shape[0]  # forward and backward load the initial states, once a neuron
    assert moved[BLOCK.name] == 20 + starts
    assert moved["input_correction"] == 12 + 20  # its backward is not used


@pytest.mark.slow
@pytest.mark.parametrize(
    "neuron",
    [lnm.normalised(lnm.get("lif"), True), *PASSES],
    ids=lambda neuron: neuron.name,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nvrtc_compiles_the_kernels(neuron: lnm.Neuron, dtype: Any) -> None:
    """To machine code of sm_80 and sm_90."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    for arch in ("sm_80", "sm_90"):
        assert cubin(plan_of(neuron, dtype=dtype), arch)[:4] == b"\x7fELF"


def test_the_sums_read_no_gradient() -> None:
    """The backward of the sums takes the gradient of its output as 1, and loads none."""
    backward = plan_of(channel_sums()).program.backward
    assert "grad_y" not in {v.name for v in backward.reads}
    for backend, load in (("triton", "grad_y_row"), ("cuda", "grad_y_at")):
        text = "".join(lnm.emit(channel_sums(), backend).files.values())  # type: ignore[arg-type]
        assert load not in text
        assert load in "".join(
            lnm.emit(lnm.get("lif"), backend).files.values()  # type: ignore[arg-type]
        ).replace("grad_spike", "grad_y")


TRITON = """
import torch, lnm_codegen as lnm
torch.manual_seed(0)
neuron = lnm.get("lnm", degree=2, theta=(0.1, 0.5, -0.1), per="channel", v_min=-1.0)
for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
    for shortcut in (False, True):
        for shape in ((5, 2, 3, 4, 5), (20, 2, 3, 2, 8), (0, 2, 3, 4), (4, 3, 2, 33)):
            x = [(torch.randn(shape) * 2 + 100).to(dtype) for _ in range(1 + shortcut)]
            if shortcut:
                x[1] = (x[1] / 100).to(dtype)
            weight, found = torch.randn(shape), []
            for backend in ("triton", "c"):
                block = lnm.nn.NormNeuron(neuron, shape[2], shortcut=shortcut, backend=backend)
                leaves = [t.clone().requires_grad_() for t in x]
                out = block(*leaves)
                grads = torch.autograd.grad((out * weight).sum(), [*leaves, *block.parameters()])
                found.append((out, *grads, *block.buffers()))
            assert torch.equal(found[0][0], found[1][0])
            for mine, theirs in zip(*found):
                torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
"""


@pytest.mark.slow
@pytest.mark.needs_cc
def test_the_block_runs_triton() -> None:
    """In Triton's interpreter, the numbers of the C kernels."""
    pytest.importorskip("triton", reason="Triton is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TRITON],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
