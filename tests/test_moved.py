"""Modules of 0.2 that have moved."""

from __future__ import annotations

import importlib
import pickle
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lnm_codegen.ir.declarations import Draw, Uniform
from lnm_codegen.moved import MOVED

NAMES = {
    "bench.network": "with_node",
    "compiler.stage": "neuron_stage",
    "insight.panels": "panels",
    "ir.draws": "Uniform",
    "ir.network.values": "SPIKES",
    "ir.operators": "Phase",
    "nn.check.compare": "compare_backends",
    "nn.exchange.modules": "Scale",
    "nn.exchange.network": "NirNetwork",
    "nn.integer.arithmetic": "Arithmetic",
    "nn.norm.dispatch": "NormDispatch",
    "train.models.conv": "conv_net",
    "train.models.dense": "Dense",
    "train.models.norm": "ConvNorm",
    "train.models.resnet": "ResNet",
    "train.models.vgg": "Vgg",
    "train.runs.config_file": "read_toml",
    "train.stability.curve": "learned_text",
    "train.stability.penalty": "largest_slope",
    "train.stability.modes": "count_unstable",
}
"""Old path -> a name in it."""


def test_an_old_path_works_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the user's line, with the old and the new path; nothing lies at an old path."""
    assert set(NAMES) == set(MOVED)
    for old, path in MOVED.items():
        new, name = f"lnm_codegen.{path}", NAMES[old]
        text = f"^lnm_codegen.{old} has moved. Import {name} from {new}.$"
        found: dict[str, object] = {}
        with pytest.warns(FutureWarning, match=text) as caught:
            exec(f"from lnm_codegen.{old} import {name} as it", found)
        assert found["it"] is getattr(importlib.import_module(new), name)
        assert caught[0].filename == "<string>"
        # pickle looks for `torch` in each module, and torch.compile pickles
        assert not hasattr(sys.modules[f"lnm_codegen.{old}"], "torch")
        with monkeypatch.context() as without:
            without.delitem(sys.modules, f"lnm_codegen.{old}")
            try:
                assert find_spec(f"lnm_codegen.{old}") is None
            except ModuleNotFoundError:
                pass  # its folder is gone too


def test_the_new_paths_of_the_upgrade_page_exist() -> None:
    """Those of the second column of both tables of modules."""
    text = (Path(__file__).parents[1] / "docs/upgrade.md").read_text(encoding="utf-8")
    tables = re.findall(r"below `lnm_codegen` \|\n\| --- \| --- \|\n(.*?)\n\n", text, re.DOTALL)
    rows = [line.split("|")[2] for part in tables for line in part.splitlines()]
    paths = [path for row in rows for path in re.findall(r"`([\w.]+)`", row)]
    assert (len(tables), len(paths) > 40) == (2, True)
    for path in paths:
        name = f"lnm_codegen.{path}"
        parent, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(parent), last) or find_spec(name), name


def test_a_name_that_the_module_lacks() -> None:
    with pytest.raises(ImportError, match="nothing"):
        exec("from lnm_codegen.compiler.stage import nothing")
    assert not hasattr(sys.modules["lnm_codegen.compiler.stage"], "__path__")


def test_a_pickle_of_0_2_loads() -> None:
    """Its classes have old paths."""
    draw = Draw(Uniform((5.0, 10.0)))
    text = pickle.dumps(draw, protocol=0)
    old = text.replace(b"lnm_codegen.ir.declarations\n", b"lnm_codegen.ir.draws\n")
    assert old != text
    with pytest.warns(FutureWarning, match="has moved"):
        assert pickle.loads(old) == draw
