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
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.backends.plan import SIZES
from lnm_codegen.nn.arguments import recording
from tests.backends.triton.runs import Built, build, run, sizes_of
from tests.backends.words import neurons as named_neurons
from tests.cases import arguments
from tests.strategies import Arguments, neurons, shared
from tests.test_agree import (
    BITWISE,
    EMPTY,
    EPSILON,
    SLACK,
    Unsettled,
    check,
    neuron_of,
    reference,
    settle,
)

SHAPES = ((1, 1, 1, 1), (5, 2, 3, 4), (17, 3, 1, 23), (33, 2, 3, 11), (4, 3, 37, 13))
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


def sequences(case: str, dtype: str) -> None:
    """Outputs, final states and every gradient within their own bounds; chunks, tails, lanes."""
    for shape in SHAPES:
        a, b = reference(case, shape)
        check(run(build(neuron_of(case), dtype), a), b, dtype)


def bits(case: str) -> None:
    """Without exp and its kin, the bits of the float32 interpreter, but for sums of parameters."""
    assert case in BITWISE
    neuron = neuron_of(case)
    for shape in SHAPES[1:4]:
        a, _ = reference(case, shape)
        got, expected = run(build(neuron), a), a.interpret(neuron, dtype="float32")
        for name, array in got.outputs.items():
            np.testing.assert_array_equal(array, expected.outputs[name], err_msg=name)
        for name, array in got.states.items():
            np.testing.assert_array_equal(array, expected.states[name], err_msg=name)
        for name in [*(s.name for s in neuron.inputs), *got.states]:
            np.testing.assert_array_equal(got.grads[name], expected.grads[name], err_msg=name)


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
    for case in ("lif-learned", "lnm-3", "lnm-4", "gate", "gated"):
        for shape in EMPTY:
            a = arguments(neuron_of(case), np.random.default_rng(0), shape)
            got, expected = run(build(neuron_of(case)), a), a.interpret(neuron_of(case))
            for name, array in got.states.items():
                np.testing.assert_array_equal(array, expected.states[name])
            for name, array in got.grads.items():
                np.testing.assert_array_equal(array, expected.grads[name], err_msg=f"{name}{shape}")


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


def sharing(case: str, level: str) -> None:
    """Numbers of a further input that neurons share: bit-exact to the expanded input."""
    neuron, shape = neuron_of(case), (17, 2, 3, 16)
    name, built = neuron.inputs[1].name, build(neuron)
    for inner, count in ((96, 1), (48, 2), (16, 3), (1, 48), (2, 8)):
        a = arguments(neuron, np.random.default_rng(count), shape)
        a = replace(a, x_seq=(a.x_seq[0], shared(a.x_seq[1], inner, count)))
        with constants(built, _ONE_LEVEL=int(level)):
            got, expected = run(built, a, sharing={name: (inner, count)}), run(built, a)
        others = expected.arrays()
        for word, array in got.arrays().items():
            np.testing.assert_array_equal(array, others[word], err_msg=word)


def narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return numbers rounded to a type, as float64."""
    return torch.as_tensor(array).to(getattr(torch, dtype)).double().numpy()


def held(a: Arguments, dtype: str) -> Arguments:
    """Return arguments whose sequences the type holds."""
    x_seq, grad_out = ([narrowed(x, dtype) for x in table] for table in (a.x_seq, a.grad_out))
    return replace(a, x_seq=tuple(x_seq), grad_out=tuple(grad_out))


def small_types(dtype: str) -> None:
    """Arguments that the type holds, arithmetic in float32, results rounded once.

    The interpreter cuts off where it stores a bfloat16; the compiled kernels round to nearest even
    (`test_compiled`).
    """
    kind = getattr(torch, dtype)
    unit = float(torch.finfo(kind).eps) / (1 if dtype == "bfloat16" else 2)

    for case in ("lif", "lnm-4", "li", "dendrite"):
        neuron = neuron_of(case)
        shape = (17, 2, 3, 11)
        for seed in range(20):
            a = arguments(neuron, np.random.default_rng(seed), shape)
            a = held(a, dtype)
            a, b = settle(neuron, a, np.random.default_rng(seed))
            if all((narrowed(x, dtype) == x).all() for x in a.x_seq):
                break
        built = build(neuron, dtype)
        got = run(built, a)
        for table, expected in ((got.outputs, b.outputs), (got.grads, b.grads)):
            for name, array in table.items():
                e = expected[name]
                narrow = name not in {*b.states, *(p.name for p in neuron.params)}
                room = (
                    SLACK * EPSILON["float32"] * e.error
                    + (1.01 * unit * abs(e.value) + 1e-7) * narrow
                )
                assert (np.abs(array - e.value) <= room + 1e-30).all(), (case, name)
        for name, array in got.states.items():
            e = b.states[name]
            assert (np.abs(array - e.value) <= SLACK * EPSILON["float32"] * e.error + 1e-30).all()


def non_finite() -> None:
    """Not finite where the interpreter's result is not; other neurons undisturbed."""
    for case in ("lif", "lnm-4", "dendrite", "plif", "qif-learned"):
        neuron, shape = neuron_of(case), (18, 2, 3, 6)
        built, (a, _) = build(neuron), reference(case, shape)
        clean = run(built, a)
        bad = replace(a, x_seq=tuple(x.copy() for x in a.x_seq))
        lanes = np.ones(shape[1:], bool)
        for t, n, i, value in ((3, 0, 0, np.inf), (5, 0, 1, -np.inf), (7, 1, 2, np.nan),
                               (17, 1, 3, np.nan), (0, 0, 4, np.inf)):  # fmt: skip
            lanes[n, :, i] = False
            for x in bad.x_seq:
                x[t, n, :, i] = value
        got, expected = run(built, bad), bad.interpret(neuron, dtype="float32")
        pairs = [(got.outputs[n], expected.outputs[n], clean.outputs[n]) for n in got.outputs]
        pairs += [(got.states[n], expected.states[n], clean.states[n]) for n in got.states]
        names = [s.name for s in neuron.inputs] + list(got.states)
        pairs += [(got.grads[n], expected.grads[n], clean.grads[n]) for n in names]
        for mine, theirs, before in pairs:
            np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(theirs), err_msg=case)
            np.testing.assert_array_equal(mine[..., lanes], before[..., lanes], err_msg=case)
        for p in neuron.params:
            if p.learnable:
                mine, theirs = got.grads[p.name], expected.grads[p.name]
                np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(theirs))


def random_neurons(count: str) -> None:
    """Random neurons from the front end's grammar."""

    @settings(max_examples=int(count), deadline=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(neurons(stops=True, binds=True), st.integers(0, 2**32 - 1))
    def every(neuron: lnm.Neuron, seed: int) -> None:
        rng = np.random.default_rng(seed)
        a = arguments(neuron, rng, (3, 2, 3, 5))
        try:
            a, b = settle(neuron, a, rng, EPSILON["float64"])
        except Unsettled:
            assume(False)  # a comparison of equals, whatever the numbers
        check(run(build(neuron, "float64"), a), b, "float64")

    every()


def layouts() -> None:
    """Rows apart or repeated, one initial number, no final wanted, any block, any alignment."""
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
        wide, _ = reference(case, (5, 2, 2, 36))  # rows that begin at multiples of 16 bytes
        same(run(built, wide, shift=1), run(built, wide))


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
