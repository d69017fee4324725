"""Checks of generated Triton modules that `interpreted.py` runs: memory, and the function.

Import it where Triton's interpreter was chosen before Triton was imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from triton.runtime.interpreter import interpreter_builder as builder

import lnm_codegen as lnm
from lnm_codegen.backends.plan import SIZES
from lnm_codegen.nn.arguments import recording
from tests.backends.triton.runs import Built, build, run, sizes_of
from tests.cases import arguments
from tests.test_agree import neuron_of, reference


def same(got: Any, expected: Any) -> None:
    for name, array in got.arrays().items():
        np.testing.assert_array_equal(array, expected.arrays()[name], err_msg=name)


@contextmanager
def constants(built: Built, **values: int) -> Any:
    """Change constants of a generated module for a while."""
    before = {n: getattr(built.module, n) for n in values}
    vars(built.module).update(values)
    yield
    vars(built.module).update(before)


def layouts() -> None:
    """Rows apart, one row again and again, one initial number, no final wanted, any block."""
    for case in ("lif", "lnm-4"):
        neuron = neuron_of(case)
        built, (a, _) = build(neuron), reference(case, (17, 3, 1, 23))
        plain = run(built, a)
        same(run(built, a, stretch=2), plain)
        for block, num_warps in ((128, 1), (1024, 8)):
            same(run(built, a, block=block, num_warps=num_warps), plain)
        partly = run(built, a, wanted=False)
        for name, array in partly.arrays().items():
            np.testing.assert_array_equal(array, plain.arrays()[name], err_msg=name)
        once = replace(a, x_seq=tuple(np.broadcast_to(x[:1], x.shape) for x in a.x_seq))
        same(run(built, once, stretch=0), run(built, once))
        first = {n: np.full(v.shape, v.flat[0]) for n, v in a.state.items()}
        same(run(built, replace(a, state=first), scalar_state=True),
             run(built, replace(a, state=first)))  # fmt: skip
        none = {n: np.zeros(g.shape) for n, g in a.grad_state.items()}
        same(run(built, replace(a, grad_state={})), run(built, replace(a, grad_state=none)))


def two_levels() -> None:
    """Checkpoints at every sqrt(chunks)-th chunk give the bits of checkpoints at every chunk."""
    for case in ("lif", "izhikevich", "gate"):
        neuron = neuron_of(case)
        built = build(neuron)
        for chunk in (4, 3) if case == "lif" else (4,):
            for steps in (5, 40, 47):
                a = arguments(neuron, np.random.default_rng(0), (steps, 2, 3, 5))
                with constants(built, _CHUNK=chunk):
                    plain = run(built, a)
                    with constants(built, _ONE_LEVEL=4):
                        same(run(built, a), plain)
                        if steps == 40 and neuron.states:
                            section, every = built.module._every(steps)
                            assert (section, every) == {4: (4, 16), 3: (4, 12)}[chunk]
                            held = built.module.checkpoints(steps, 30) / 30 / len(neuron.states)
                            assert held == {4: 2, 3: 3}[chunk]


def counts() -> None:
    """Counts of spikes and of neurons outside an interval, exact, where asked for."""
    neuron = recording(lnm.get("lnm", degree=2, theta=(0.3, 0.5, 0.1)), ("stats",), (-0.5, 0.5))
    built = build(neuron)
    assert built.plan.counts
    for shape in ((17, 3, 2, 101), (0, 2, 3), (3, 0, 3)):
        a = arguments(neuron, np.random.default_rng(0), shape)
        got, expected = run(built, a), a.interpret(neuron, dtype="float32").counts
        for name, count in expected.items():
            assert got.states[f"count {name}"] == count
            assert count > 0 or 0 in shape
        run(built, a, wanted=False)


def channels_last() -> None:
    """Parameters per channel among others per neuron, where the neurons of a channel lie apart."""
    v, x = lnm.state("v"), lnm.input("x")
    b = lnm.param("b", init=0.3, per="neuron")
    for learns in (True, False):
        a = lnm.param("a", init=0.5, per="channel", learnable=learns)
        charge = a * v + b * x + a * a * b
        neuron = lnm.Neuron(name="mix", charge={v: charge}, reset={v: v - lnm.spike}, fire=v - 1)
        found = []
        for backend in ("torch", "triton"):
            layer = lnm.nn.NeuronLayer(neuron, backend=backend, shape=(3, 40, 2))
            flat = torch.linspace(-1, 3, 5 * 2 * 40 * 2 * 3).sin() * 3
            with torch.no_grad():
                layer.a += torch.tensor([0.0, 0.1, 0.2])
                layer.b += torch.linspace(0, 0.5, 240).reshape(3, 40, 2)
            out = layer(flat.reshape(5, 2, 40, 2, 3).movedim(-1, 2))
            (out * torch.linspace(-1, 2, out.numel()).reshape(out.shape)).sum().backward()
            found.append([p.grad for p in layer.parameters()])
        assert len(found[0]) == 1 + learns
        for expected, got in zip(*found, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def traffic() -> None:
    """Bytes that the kernels themselves load and store per neuron and step, counted as they run."""
    assert bytes_per_step("lnm-3", "float32") == 20
    assert bytes_per_step("lnm-3", "bfloat16") == 10
    assert bytes_per_step("lif", "float32") == 20
    assert bytes_per_step("lnm-B", "float32") == 20
    assert bytes_per_step("lif", "float64") == 40
    chunk = build(neuron_of("lnm-3")).module._CHUNK
    assert bytes_per_step("lnm-3", "float32", 3 * chunk, 4 * chunk) == 20 + 2 * 4 / chunk
    chunk = build(neuron_of("lnm-matrix")).module._CHUNK
    assert bytes_per_step("lnm-matrix", "float32", chunk // 2, chunk) == 20
    two_states = bytes_per_step("lnm-matrix", "float32", 3 * chunk, 4 * chunk)
    assert two_states == 20 + 2 * 2 * 4 / chunk


def bytes_per_step(case: str, dtype: str, fewer: int = 4, more: int = 16) -> float:
    """Return what one more step moves per neuron: loads and stores of active lanes."""
    moved = []
    neuron, store, load = neuron_of(case), builder.create_masked_store, builder.create_masked_load

    def counted(call: Callable[..., Any], mask_at: int) -> Callable[..., Any]:
        def wrapped(*given: Any) -> Any:
            size = given[0].get_element_ty().primitive_bitwidth // 8
            moved.append(
                size * int(np.sum(np.broadcast_to(given[mask_at].data, given[0].data.shape)))
            )
            return call(*given)

        return wrapped

    builder.create_masked_load = counted(load, 1)
    builder.create_masked_store = counted(store, 2)
    try:
        totals = []
        for steps in (fewer, more):
            a = arguments(neuron, np.random.default_rng(0), (steps, 2, 3, 16))
            moved.clear()
            run(build(neuron, dtype), a)
            totals.append(sum(moved))
    finally:
        builder.create_masked_load, builder.create_masked_store = load, store
    return (totals[1] - totals[0]) / ((more - fewer) * 96)


def function() -> None:
    """The differentiable function gives what the buffers give; refuses what it cannot do."""
    neuron = neuron_of("lnm-4")
    built, (a, _) = build(neuron), reference("lnm-4", (17, 3, 1, 23))
    x = torch.tensor(a.x_seq[0], dtype=torch.float32).transpose(0, 1).contiguous().transpose(0, 1)
    leaves = [
        x,
        *(torch.tensor(a.params[n], dtype=torch.float32) for n in ("theta", "v_threshold")),
    ]
    leaves = [t.detach().requires_grad_() for t in (*leaves, torch.tensor(a.state["v"]).float())]
    out = built.module.lnm(leaves[0], leaves[1], leaves[2], v_init=leaves[3])
    seeds = [torch.tensor(a.grad_out[0]).float(), torch.tensor(a.grad_state["v"]).float()]
    grads = torch.autograd.grad(out, leaves, seeds, retain_graph=True)
    expected = run(built, a)
    np.testing.assert_array_equal(out[0].detach(), expected.outputs["spike"])
    np.testing.assert_array_equal(out[1].detach(), expected.states["v"])
    for g, name in zip(grads, ("x", "theta", "v_threshold", "v"), strict=True):
        np.testing.assert_array_equal(g, expected.grads[name], err_msg=name)
    pack = lambda t: torch.stack([t, t], -1)[..., 0]  # noqa: E731 - memory with gaps
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        hooked = built.module.lnm(leaves[0], leaves[1], leaves[2], v_init=leaves[3])
    for g, mine in zip(grads, torch.autograd.grad(hooked, leaves, seeds), strict=True):
        assert torch.equal(g, mine)
    whole = out[0].sum() + out[1].sum()  # whose gradients are numbers without rows of their own
    ones = [torch.ones_like(o) for o in out]
    dense = torch.autograd.grad(out, leaves, ones, retain_graph=True)
    for g, expected_g in zip(
        torch.autograd.grad(whole, leaves, retain_graph=True), dense, strict=True
    ):
        assert torch.equal(g, expected_g)
    refused(
        "differentiable once", lambda: torch.autograd.grad(out, leaves, seeds, create_graph=True)
    )
    refused("is torch.float64; this module", lambda: built.module.lnm(x.double(), *leaves[1:]))
    lif = build(neuron_of("lif")).module
    fixed = torch.tensor(1.0, requires_grad=True)
    refused("not declared learnable", lambda: lif.lif(x, 2.0, fixed))
    with torch.no_grad():
        spikes, v = lif.lif(torch.ones(3, 2, 5), 2.0, 1.0)
    assert spikes.shape == (3, 2, 5)
    assert v.shape == (2, 5)
    assert build(neuron_of("if")).module.if_(torch.ones(3, 2, 5), 1.0)[0].sum() == 30
    assert sizes_of(built, x.shape)["sample"] == 23


def bad_values() -> None:
    """A value of another shape or type gives one line with function and name."""
    x, theta = torch.ones(4, 2, 3, 5), torch.ones(3, 2)
    per_channel = build(lnm.get("lnm", degree=1, per="channel")).module.lnm
    per_layer = build(lnm.get("lnm", degree=1)).module.lnm
    for shape in ((2, 3), (6,), (7, 2), (1, 3, 2), ()):
        words = f"lnm: theta has shape {shape}; expected (3, 2)"
        refused(re.escape(words), lambda shape=shape: per_channel(x, torch.ones(shape), 1.0))
    refused(r"lnm: theta has shape \(3, 2\); expected \(2,\)", lambda: per_layer(x, theta, 1.0))
    words = r"lnm: v_threshold has shape \(3,\); expected \(\)"
    refused(words, lambda: per_channel(x, theta, [1.0] * 3))
    for value, kind in ((None, "NoneType"), ("a", "str"), (theta * 1j, "torch.complex64")):
        words = f"lnm: theta is {kind}; expected real numbers"
        refused(words, lambda value=value: per_channel(x, value, 1.0))
    words = r"lnm: v_init has shape \(4,\); expected \(2, 3, 5\)"
    refused(words, lambda: per_channel(x, theta, 1.0, v_init=torch.zeros(4)))
    refused("lnm: x_seq is ndarray; this module", lambda: per_channel(x.numpy(), theta, 1.0))
    assert per_channel(x, theta.tolist(), 1.0)[0].shape == x.shape
    assert per_channel(x[:, :, 0, 0], theta[0], 1.0)[0].shape == (4, 2)
    dendrite = build(neuron_of("dendrite")).module.dendrite
    refused(
        r"drive_seq has shape \(4, 2, 3\) on cpu; expected \(4, 2, 3, 5\)",
        lambda: dendrite(x, x[..., 0], 1.0, torch.ones(3), torch.ones(3, 5, 2)),
    )
    assert dendrite(x, x, 1.0, torch.ones(3), torch.ones(3, 5, 2))[0].shape == x.shape


def bad_arguments() -> None:
    """Sizes outside their range and None for a needed tensor give one line; nothing is written."""
    for case in ("lif", "lnm-4", "dendrite"):
        built = build(neuron_of(case))
        for direction in ("forward", "backward"):
            refuses(built, direction)


def refuses(built: Built, direction: str) -> None:
    fields = getattr(built.plan, f"{direction}_fields")
    table: dict[str, Any] = dict(zip(SIZES, (4, 6, 6, 3, 2), strict=True))
    for f in fields:
        table[f.name] = 0 if f.kind == "int64_t" else torch.full((64,), 0.25)

    def bad(words: str, **changes: Any) -> None:
        run = getattr(built.module, direction)
        refused(words, lambda: run(*(table | changes).values()))

    for name in SIZES:
        bad(f"{name} is -3. Accepted: an integer from", **{name: -3})
    for name in ("sample", "channels", "inner"):
        bad(f"{name} is 0. Accepted: an integer from 1", **{name: 0})
    for x in built.plan.model.inputs[1:]:
        for count, inner in ((-1, 1), (2, 0)):
            changes = {f"{x}_count": count, f"{x}_inner": inner}
            bad(f"{x}_count is {count}. Accepted", **changes)
    tensors = [f for f in fields if f.kind != "int64_t"]
    for f in tensors:
        if not f.nullable:
            bad(f"{f.name} is None. Accepted: a tensor", **{f.name: None})
    assert all(bool((table[f.name] == 0.25).all()) for f in tensors)


def refused(words: str, call: Callable[[], Any]) -> None:
    with pytest.raises((RuntimeError, TypeError, ValueError), match=words):
        call()
