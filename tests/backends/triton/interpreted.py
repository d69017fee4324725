"""Checks of generated Triton modules in Triton's interpreter, which owns a process.

Run as a script with names of checks, `name` or `name:argument`; prints one JSON line for each, its
traceback or null. Tolerances are those of `tests/test_agree.py`.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported

import json
import sys
import traceback
from dataclasses import replace

import numpy as np
import torch

import lnm_codegen as lnm
from tests.backends.triton import checks as triton_checks
from tests.backends.triton.checks import constants
from tests.backends.triton.runs import build, run
from tests.backends.words import neurons
from tests.cases import arguments
from tests.strategies import shared
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
)  # fmt: skip


def _splat_conditions() -> None:
    """Mend the interpreter, which spreads a condition on numbers over a block as a float.

    Compiled, `(w > 0.25) & (v < 0.5)` with a number w and a block v is a block of conditions.
    """
    from triton.runtime import interpreter

    plain = interpreter.InterpreterBuilder.create_splat

    def create_splat(self, ret_ty, arg):
        if arg.data.dtype == np.bool_:
            return interpreter.TensorHandle(np.full(ret_ty.shape, arg.data), arg.dtype.scalar)
        return plain(self, ret_ty, arg)

    interpreter.InterpreterBuilder.create_splat = create_splat


_splat_conditions()

SHAPES = ((1, 1, 1, 1), (5, 2, 3, 4), (17, 3, 1, 23), (33, 2, 3, 11), (4, 3, 37, 13))
PERS = (
    "layer", "channel", "neuron",
    {"theta": "layer", "v_threshold": "channel"}, {"theta": "layer", "v_threshold": "neuron"},
    {"theta": "channel", "v_threshold": "neuron"}, {"theta": "neuron", "v_threshold": "layer"},
)  # fmt: skip


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
    for _, neuron in neurons(int(rotation)):
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


def small_types(dtype: str) -> None:
    """Arguments that the type holds, arithmetic in float32, results rounded once.

    The interpreter cuts off where it stores a bfloat16; the compiled kernels round to nearest even
    (`test_compiled`).
    """
    kind = getattr(torch, dtype)
    unit = float(torch.finfo(kind).eps) / (1 if dtype == "bfloat16" else 2)

    def held(array: np.ndarray) -> np.ndarray:
        return torch.as_tensor(array).to(kind).double().numpy()

    for case in ("lif", "lnm-4", "li", "dendrite"):
        neuron = neuron_of(case)
        shape = (17, 2, 3, 11)
        for seed in range(20):
            a = arguments(neuron, np.random.default_rng(seed), shape)
            a = replace(a, x_seq=tuple(map(held, a.x_seq)), grad_out=tuple(map(held, a.grad_out)))
            a, b = settle(neuron, a, np.random.default_rng(seed))
            if all((held(x) == x).all() for x in a.x_seq):
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
    from hypothesis import HealthCheck, Phase, assume, given, settings
    from hypothesis import strategies as st

    from tests.strategies import neurons

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


if __name__ == "__main__":
    for word in sys.argv[1:]:
        name, *given = word.split(":")
        try:
            {**vars(triton_checks), **globals()}[name](*given)
        except Exception:
            print(json.dumps([word, traceback.format_exc()]), flush=True)
        else:
            print(json.dumps([word, None]), flush=True)
