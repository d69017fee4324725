"""The script of a new user: data and a network of their own, from training to a comparison."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MINE = """\
import torch
from torch import nn
from torch.utils.data import Dataset
import lnm_codegen as lnm

class Waves(Dataset):
    def __init__(self, count, seed):
        self.count, self.seed = count, seed
    def __len__(self):
        return self.count
    def __getitem__(self, k):
        noise = torch.randn(12, 3, generator=torch.Generator().manual_seed(self.seed + k))
        return torch.sin(torch.arange(12.0) * (k % 3 + 1))[:, None] + 0.3 * noise, k % 3

def waves():
    return Waves(48, 0), Waves(24, 1000)

class Net(nn.Module):
    def __init__(self, sample, classes, tau=4.0):
        super().__init__()
        v, d = lnm.state("v"), lnm.state("d")
        soma, dendrite = lnm.input("soma"), lnm.input("dendrite")
        t = lnm.param("tau", init=tau)
        charge = {d: d + (dendrite - d) / t, v: (v + soma + d) / 2}
        neuron = lnm.Neuron(charge=charge, fire=v - 1, reset=lnm.hard_reset(v, 0.0))
        self.soma, self.dendrite = nn.Linear(sample[-1], 8), nn.Linear(sample[-1], 8)
        self.layer, self.out = lnm.nn.NeuronLayer(neuron), nn.Linear(8, classes)
    def forward(self, x):
        return self.out(self.layer(self.soma(x), self.dendrite(x)).mean(0))
"""
PLAN = """\
data = { name = "mine.py:waves" }
network = { name = "mine.py:Net" }
train = { epochs = 2 }
final = { seeds = 3 }
row = [{ name = "fast", "network.tau" = 2.0 }, { name = "slow", "network.tau" = 8.0 }]
"""
TRAIN = "train --data mine.py:waves --network mine.py:Net --epochs 20 --batch 8".split()


def lnm(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "lnm_codegen.cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_train_resume_analyze_compare(tmp_path: Path) -> None:
    """A dendritic neuron on data of a class: a killed run ends as one that was not."""
    assert len(MINE.splitlines()) + len(PLAN.splitlines()) < 40
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "plan.toml").write_text(PLAN)
    lnm(tmp_path, *TRAIN, "--out", "whole")

    command = [sys.executable, "-m", "lnm_codegen.cli", *TRAIN, "--out", "killed"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as run:
        while not (tmp_path / "killed" / "checkpoint.safetensors").exists() and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    lnm(tmp_path, *TRAIN, "--out", "killed", "--resume")
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert models[0] == models[1]

    found = json.loads(lnm(tmp_path, "analyze", "killed", "--json"))
    assert found["samples"] == 24
    table = json.loads(lnm(tmp_path, "compare", "plan.toml", "--json"))
    assert [(row["name"], row["n"]) for row in table["rows"]] == [("fast", 3), ("slow", 3)]
