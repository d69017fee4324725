"""docs/reference/network_json.md: a model that was written from it has the scores of our own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from lnm_codegen.files import write_whole
from lnm_codegen.ir.network.exchange import network_files
from lnm_codegen.ir.network.interpret import interpret_network, score_rows
from tests.deploy.integers.page_model import Model
from tests.networks import DRAWS, Draw, random_network, random_samples, residual_network

PAGE = Path(__file__).parents[3] / "docs/reference/network_json.md"


@pytest.mark.parametrize("drawn", DRAWS)
def test_the_page_is_the_network(drawn: Draw, tmp_path: Path) -> None:
    """Random networks: convolutions, poolings, neurons with several states, feedback, shortcuts."""
    stages, lively = set(), 0
    for seed in range(45):
        rng = np.random.default_rng(seed)
        network = drawn(rng)
        for name, data in network_files(network).items():
            write_whole(tmp_path / name, data)
        samples = random_samples(rng, network, 3)
        expected = score_rows(network, interpret_network(network, samples).scores)
        own = samples if network.repeated else np.moveaxis(samples, 0, 1)
        model = Model(tmp_path)
        found = np.array([model.scores(sample).reshape(-1) for sample in own])
        np.testing.assert_array_equal(found, expected)
        lively += bool((expected != expected[:1]).any())
        options = ("delay", "output") if drawn in DRAWS[2:] else ("delay",)
        stages |= {(s["stage"], *(w in s for w in options)) for s in model.content["stages"]}
    assert len(stages) == (8 if drawn in DRAWS[2:] else 6), "every kind, with and without options"
    assert lively > 5


def test_the_page_has_every_key(tmp_path: Path) -> None:
    """Of networks, stages, kernels and nodes."""
    words = set()

    def collect(part: object) -> None:
        if isinstance(part, dict):
            words.update(part)
            for key, value in part.items():
                if key in ("spec", "prepare"):
                    continue
                if key in ("node", "stage"):
                    words.add(value)
                if key not in ("coefficients", "initial"):
                    collect(value)
        elif isinstance(part, list):
            for value in part:
                collect(value)

    for k in range(60):
        drawn = (random_network, residual_network)[k % 2]
        for name, data in network_files(drawn(np.random.default_rng(k // 2))).items():
            write_whole(tmp_path / name, data)
        collect(Model(tmp_path).content)
    known = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", PAGE.read_text()))))
    assert not words - known
