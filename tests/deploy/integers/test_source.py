"""The run of a network in integers: layers are compared, and weights by a digest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import lnm_codegen as lnm
from lnm_codegen.compiler.formats import spec_text
from lnm_codegen.deploy.integers.convert import default_formats, integer_network
from lnm_codegen.deploy.integers.source import (
    FILE,
    layer_difference,
    require_formats,
    require_run,
    run_file,
    weights_digest,
)
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.network.exchange import network_files, read_network
from lnm_codegen.ir.network.nodes import NeuronStage
from lnm_codegen.ir.types import FixedSpec
from tests.deploy.integers.runs import chained, images, layer, real
from tests.refusals import refused

OTHERS = {
    "a size": (
        {"down": nn.Conv2d(4, 6, 3, stride=2, bias=False)},
        "it has down with weights (5, 4, 3, 3), stride 2 and padding 0, and the run has down"
        " with weights (6, 4, 3, 3), stride 2 and padding 0",
    ),
    "a padding": (
        {"conv": nn.Conv2d(2, 4, 3)},
        "it has conv with weights (4, 2, 3, 3), stride 1 and padding 1, and the run has conv"
        " with weights (4, 2, 3, 3), stride 1 and padding 0",
    ),
    "a pooling": (
        {"pool": nn.MaxPool2d(2)},
        "it has a sum pooling of 2, and the run has a max pooling of 2",
    ),
    "a family": (
        {"first": layer(lnm.get("plif"), 4, 6, 6)},
        "it has first with `lif`, and the run has first with `plif`",
    ),
    "a reset": (
        {"first": layer(lnm.get("lif", tau=2.0, v_threshold=0.3, v_reset=None), 4, 6, 6)},
        "first: its step is not that of the run's `lif`",
    ),
}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The network in integers of a run, as `lnm quantize` writes it."""
    run = real(chained())
    made = integer_network(run, default_formats(run, images()))
    found = network_files(made) | {FILE: run_file(run.network)}
    return {n: data if isinstance(data, bytes) else data.encode() for n, data in found.items()}


@pytest.fixture
def folder(files: dict[str, bytes], tmp_path: Path) -> Path:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_the_network_of_a_run_is_accepted(folder: Path) -> None:
    assert require_run(folder, read_network(folder), real(chained()))


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers_are_refused(name: str, folder: Path) -> None:
    """Sizes, poolings and the steps of neurons; without run.json too."""
    changed, problem = OTHERS[name]
    (folder / FILE).unlink()
    other = chained()
    for word, module in changed.items():
        setattr(other, word, module)
    with refused(ModelError, f"--format {folder}", f"it is the network of another run: {problem}"):
        require_run(folder, read_network(folder), real(other))


def test_input_time_and_scores_are_compared(folder: Path) -> None:
    run, made = real(chained()), read_network(folder)
    assert layer_difference(made, run) == ""
    assert layer_difference(replace(made, time_steps=4), run).startswith(
        "it has input (2, 6, 6) over 4 time steps, repeated, and the run has input (2, 6, 6) over 3"
    )
    assert "scores by last, and the run has scores by mean" in layer_difference(
        replace(made, over="last"), run
    )
    fewer = replace(made, stages=made.stages[:-1])
    assert "scores by mean, and the run has readout with `li`" in layer_difference(fewer, run)


def test_other_weights_are_refused(folder: Path) -> None:
    """One number of one tensor is enough: a parameter of a neuron, or a running statistic."""
    found = read_network(folder)
    for word in ("dense.weight", "norm.running_var", "first.v_threshold"):
        other = chained()
        with torch.no_grad():
            other.state_dict()[word].view(-1)[0] += 1e-3
        where, problem = f"--format {folder}", "it was made from other weights than the run's"
        with refused(ModelError, where, problem, "lnm quantize", "If the run was trained further"):
            require_run(folder, found, real(other))
    (folder / FILE).unlink()
    assert not require_run(folder, found, real(other))


def test_edited_formats_are_refused(folder: Path) -> None:
    """The network in network.json decides; a change of a TOML file beside it was ignored."""
    found = read_network(folder)
    require_formats(folder, found)
    (stage,) = (s for s in found.stages if isinstance(s, NeuronStage) and s.name == "second")
    spec = stage.program.spec
    file = folder / "second.toml"
    named = FixedSpec(spec.default, {"v": spec.default})
    for same in (spec, named):
        file.write_text(spec_text(same))
        require_formats(folder, found)
    width, frac = spec.default.width, spec.default.frac
    for other in (
        FixedSpec(lnm.Fixed(24, 14)),
        FixedSpec(lnm.Fixed(width, frac, "truncate")),
        FixedSpec(spec.default, {"v": lnm.Fixed(24, 14)}),
    ):
        file.write_text(spec_text(other))
        problem, remedy = "not those of network.json", f"delete {folder / 'network.json'}"
        with refused(ModelError, file, problem, str(spec.default), remedy):
            require_formats(folder, found)


def test_the_digest_names_its_tensors() -> None:
    """Equal numbers under another name or of another shape have another digest."""
    one, two = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        wide = nn.Linear(2, 3, bias=False, dtype=torch.float64)
        wide.weight.copy_(one.weight)
        two.weight.copy_(one.weight.reshape(2, 3))
    digests = {weights_digest(m) for m in (one, two, nn.Sequential(one), wide)}
    assert len(digests) == 4


def test_a_damaged_file_is_named(folder: Path) -> None:
    found, own, file = read_network(folder), real(chained()), folder / FILE
    content = json.loads(file.read_text())
    for text, problem in (
        ("{", "not JSON"),
        ("[]", "the value is []"),
        (json.dumps(content | {"version": 2}), "version is 2"),
        (json.dumps(content | {"format": "x"}), "format is 'x'"),
        (
            json.dumps({k: v for k, v in content.items() if k != "weights"}),
            "the key 'weights' is missing",
        ),
    ):
        file.write_text(text)
        with refused(ModelError, str(file), problem):
            require_run(folder, found, own)
