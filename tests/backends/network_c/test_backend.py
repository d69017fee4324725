"""Generated C of networks in integers: equality with NumPy, text, and an emulated Cortex-M4."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lnm_codegen.ir.network.interpret import interpret_network
from tests.backends.network_c.runs import c_results
from tests.networks import random_network, random_samples


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from(["events", "dense"]))
def test_c_is_numpy(seed: int, accumulation: str) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    samples = random_samples(rng, network, 5)
    expected = interpret_network(network, samples)
    with tempfile.TemporaryDirectory() as folder:
        scores, labels = c_results(network, samples, Path(folder), accumulation)
    np.testing.assert_array_equal(scores, expected.scores)
    np.testing.assert_array_equal(labels, expected.labels)
