"""Programs whose backward takes the gradient of every output as 1."""

from __future__ import annotations

import numpy as np

import lnm_codegen as lnm
from lnm_codegen.ir.passes.simplify import at_unit_gradient, keep_results
from lnm_codegen.ir.verify import verify
from lnm_codegen.language.normalisation import channel_sums


def test_gradients_of_parameters_alone() -> None:
    """The backward reads no gradient, and its input gradient is 0."""
    program = at_unit_gradient(lnm.lower(channel_sums()))
    verify(program.backward)
    learned = keep_results(program.backward, {"grad_c", "grad_linear", "grad_quadratic"})
    assert {v.name for v in learned.reads} == {"c", "pivot", "d", "grad_linear"}
    text = str(program.backward)
    assert "grad_c = 0" in text
    assert "grad_linear = d" in text
    assert "quadratic_x2" not in str(program.prepare)


def test_the_sums_are_gradients() -> None:
    """Of a neuron whose output has the gradient 1: sums of d and d**2 for each channel."""
    c = np.random.default_rng(0).normal(size=(4, 2, 3, 5))
    pivot = np.array([0.5, -1.0, 2.0])
    grads = lnm.interpret(channel_sums(), c, pivot=pivot, grad_out=1.0).grads
    d = c - pivot.reshape(3, 1)
    np.testing.assert_allclose(grads["linear"], d.sum((0, 1, 3)), rtol=1e-9)
    np.testing.assert_allclose(grads["quadratic"], (d**2).sum((0, 1, 3)), rtol=1e-9)
