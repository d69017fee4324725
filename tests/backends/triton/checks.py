"""Checks of generated Triton modules on CPU tensors: numbers, bits, layouts, memory, the function.

Triton's interpreter runs them (`interpreted.py`), and the machine of `tests/ptx` does, from PTX.
Tolerances are those of `tests/test_agree.py`.
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
from hypothesis import given
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.backends.plan import SIZES
from lnm_codegen.nn.arguments import recording
from tests.backends.triton.runs import Built, build, run, sizes_of
from tests.backends.words import neurons as named_neurons
from tests.cases import arguments
from tests.strategies import Arguments
from tests.test_agree import (
    GRAMMAR,
    Row,
    check,
    check_every,
    check_layouts,
    check_random,
    check_row,
    drawn,
    neuron_of,
    quick_rows,
    reference,
    settle,
)

PERS = (
    "layer", "channel", "neuron",
    {"theta": "layer", "v_threshold": "channel"}, {"theta": "layer", "v_threshold": "neuron"},
    {"theta": "channel", "v_threshold": "neuron"}, {"theta": "neuron", "v_threshold": "layer"},
)  # fmt: skip


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


def pairs(dtype: str, case: str) -> None:
    """The rows of a kernel in the pairwise covering array of `tests/test_agree.py`."""
    rows = [row for row in quick_rows() if row[:3] == ("triton", dtype, case)]
    assert rows
    for row in rows:
        check_row(row)


def product(dtype: str, case: str) -> None:
    """Every row of a kernel."""
    check_every("triton", dtype, case)


def edges() -> None:
    """Time steps around a chunk and neurons around a program; nothing at all."""
    neuron = lnm.get("lnm", degree=2, v_min=-1.0, theta=(0.1, 0.5, -0.1), per="channel")
    built = build(neuron)
    chunk = built.module._CHUNK
    for steps in (0, 1, chunk, chunk + 1, 40):
        for shape in ((steps, 1, 1, 1), (steps, 5, 4, 5), (steps, 5, 3, 100)):
            if steps in (chunk, 40) and shape[-1] == 100:
                continue
            a = arguments(neuron, np.random.default_rng(steps), shape)
            a, b = settle(neuron, a, np.random.default_rng(1))
            check(run(built, a), b, "float32")


def words(rotation: str) -> None:
    """Names of the kernels' variables as names of a neuron."""
    shape = (17, 2, 3, 4)
    for _, neuron in named_neurons(int(rotation)):
        rng = np.random.default_rng(int(rotation))
        try:
            built = build(neuron)
        except lnm.UnsupportedError:
            continue
        a, b = settle(neuron, arguments(neuron, rng, shape), rng)
        check(run(built, a), b, "float32")


def granularities() -> None:
    """Every mixture of layer, channel and neuron, each a path of the sums; many rows a lane."""
    for per in PERS:
        neuron = lnm.get(
            "lnm", degree=2, theta=(0.1, 0.5, -0.1), v_min=-1.0, learn_threshold=True, per=per
        )
        built = build(neuron)
        for shape, spread in (((5, 3, 4, 6), 131072), ((4, 40, 3, 5), 64), ((3, 7, 1, 1), 1)):
            a = arguments(neuron, np.random.default_rng(3), shape)
            a, b = settle(neuron, a, np.random.default_rng(4))
            with constants(built, _SPREAD=spread):
                check(run(built, a), b, "float32")


def narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return numbers rounded to a type, as float64."""
    return torch.as_tensor(array).to(getattr(torch, dtype)).double().numpy()


def held(a: Arguments, dtype: str) -> Arguments:
    """Return arguments whose sequences the type holds."""
    x_seq, grad_out = ([narrowed(x, dtype) for x in table] for table in (a.x_seq, a.grad_out))
    return replace(a, x_seq=tuple(x_seq), grad_out=tuple(grad_out))


def small_types(dtype: str) -> None:
    """Arguments that the type holds, arithmetic in float32, results rounded once."""
    for case in ("lif", "lnm-4", "li", "dendrite"):
        check_row(Row("triton", dtype, case, (2, 3, 11), 17, "plain"))


def non_finite() -> None:
    """Not finite where the interpreter's result is not; other neurons undisturbed."""
    for case in ("lif", "lnm-4", "dendrite", "plif", "qif-learned"):
        check_row(Row("triton", "float32", case, (2, 3, 6), 18, "poisoned"))


def random_neurons(count: str) -> None:
    """Random neurons from the front end's grammar."""

    @drawn(int(count))
    @given(GRAMMAR, st.integers(0, 2**32 - 1))
    def every(neuron: lnm.Neuron, seed: int) -> None:
        check_random(neuron, seed, "triton", "float64")

    every()


def layouts(case: str) -> None:
    """Memory of any layout; rows apart, any block."""
    check_layouts("triton", case)
    built, (a, _) = build(neuron_of(case)), reference(case, (17, 3, 1, 23))
    plain = run(built, a)
    for options in ({"stretch": 2}, {"block": 128, "num_warps": 1}, {"block": 1024}):
        same(run(built, a, **options), plain)
    a = arguments(built.neuron, np.random.default_rng(0), (40, 2, 3, 5))
    with constants(built, _CHUNK=4, _ONE_LEVEL=4):
        assert built.module._every(40) == (4, 16)
        assert built.module.checkpoints(40, 30) == 2 * 30 * len(built.neuron.states)


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
    for x in built.plan.inputs[1:]:
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
