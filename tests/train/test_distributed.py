"""Two processes against one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lnm_codegen.cli import run as command
from lnm_codegen.errors import ModelError
from lnm_codegen.train.distributed import joined
from tests.refusals import refused
from tests.train.small import metrics

TOLERANCE = 2e-5
"""Of each weight, after 2 epochs: sums over the batch are taken in another order, and Adam divides
by the root of a mean square, so a rounding of a small gradient is a larger share of a step."""

CONFIG = """
[neuron]
family = "lnm"
degree = 2
per = "channel"
[network]
name = "feedforward"
hidden = [16, 16]
[data]
name = "digits-rows"
limit = 70
[train]
epochs = 2
batch = 20
lr = 1e-3
lr_neuron = 1e-3
penalty = 1.0
backend = "torch"
threads = 1
"""
CHUNKS = CONFIG.replace("[train]", '[train]\ntbptt = 3\nloss = "tet"')
RECURRENT = CHUNKS.replace('"feedforward"', '"recurrent"')


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("config", [CONFIG, CHUNKS, RECURRENT])
def test_two_processes_and_one(
    config: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Batches of 20 and a last one of 10, so also shares of different sizes."""
    file = tmp_path / "exp.toml"
    file.write_text(config)
    assert command(["train", "--config", str(file), "--out", str(tmp_path / "one")]) == 0
    words = "-m torch.distributed.run --standalone --nproc-per-node 2 -m lnm_codegen.cli train"
    done = subprocess.run(
        [sys.executable, *words.split(), "--config", str(file), "--out", str(tmp_path / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("epoch 2/2") == 1
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("one", "two"))
    start = load_file(tmp_path / "one" / "history.safetensors")["0.theta"]
    assert not torch.allclose(start[0], start[-1], atol=10 * TOLERANCE)
    for name, want in one.items():
        assert torch.allclose(two[name], want, rtol=0, atol=TOLERANCE), name
    for a, b in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-4)
        assert float(a["firing_rate_1"]) > 0
        assert float(a["test_accuracy"]) == pytest.approx(float(b["test_accuracy"]), abs=0.03)


def test_a_process_group_of_the_program_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process trained on everything and wrote the same folder."""
    ended: list[str] = []
    values = {"is_initialized": True, "get_rank": 1, "get_world_size": 2, "get_backend": "gloo"}
    for name, value in values.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    for name in ("barrier", "destroy_process_group", "init_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda name=name: ended.append(name))
    with joined("cpu") as world:
        assert (world.rank, world.size, world.leads) == (1, 2, False)
    assert ended == ["barrier"]
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "nccl")
    with refused(ModelError, "train", "device is 'cpu'", "NCCL", "a group of Gloo"), joined("cpu"):
        pass
