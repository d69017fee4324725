"""Arrays of a network's layers: golden vectors from the network's data, and simulation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.deploy import arrays
from lnm_codegen.deploy.arrays import LayerArray, arrays_of, module_name
from lnm_codegen.deploy.mismatch import specs_for
from lnm_codegen.deploy.network import in_fixed_point, trace_layers
from lnm_codegen.errors import ShapeError, UnsupportedError
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.hardware.tools import missing
from lnm_codegen.hardware.verify.verilog import simulate
from tests.deploy.test_network import Small, images, small
from tests.hexadecimal import words_of
from tests.refusals import refused

Q4_12 = lnm.Fixed(16, 12)
NEURON = lnm.get("lnm", degree=3, theta=(0.02, 0.85, 0.11, -0.06))


def array_of(network: Small, spec: lnm.Fixed = Q4_12) -> LayerArray:
    (found,) = arrays_of(network, specs_for(network, spec), images())
    return found


def manifest_of(array: LayerArray) -> dict[str, Any]:
    return json.loads(array.source.files["manifest.json"])


def per_channel() -> Small:
    network = small(lnm.get("lnm", degree=2, per="channel"))
    with torch.no_grad():
        network.neuron.theta.copy_(torch.tensor([[0.1, 0.5, -0.2], [0, 0.9, 0], [0, 0.1, 0.3]]))
    return network


def require_testbench(array: LayerArray, folder: Path) -> None:
    """Simulate in Icarus, which detects one wrong bit of the last word."""
    if missing("iverilog") is not None:
        return
    array.source.write(folder)
    circuit = read_circuit(folder, "test")
    assert simulate(circuit, circuit.forms["array"]).status == "passed"
    path = folder / "tb/neuron_array.hex"
    lines = path.read_text().split()
    lines[-1] = f"{int(lines[-1], 16) ^ 1:0{len(lines[-1])}x}"
    path.write_text("\n".join(lines) + "\n")
    assert simulate(circuit, circuit.forms["array"]).status == "failed"


@pytest.mark.parametrize(
    "make", [pytest.param(lambda: small(NEURON), marks=pytest.mark.slow), per_channel]
)
def test_golden_vectors_are_the_networks_data(make: Callable[[], Small], tmp_path: Path) -> None:
    """Each word: x as it reached the layer, rounded; the potential and the spike it leaves with."""
    network = make()
    array = array_of(network)
    assert (array.neurons, array.copies, array.time_steps, array.images) == (48, 1, 3, 4)
    words = [int(w, 16) for w in words_of(array.source.files["tb/neuron_array.hex"])]
    assert len(words) == 4 * 3 * 48
    _, seen = trace_layers(in_fixed_point(network, Q4_12), images())
    x_seq, out = (
        t[:, :4].transpose(0, 1).flatten() for t in (seen["neuron"].x_seq, seen["neuron"].out)
    )
    wanted = torch.floor(x_seq.double() * 4096 + 0.5).long() & 0xFFFF
    assert [word >> 24 for word in words] == wanted.tolist()
    assert [(word >> 16) & 1 for word in words] == out.long().tolist()
    assert 0 < out.mean() < 1
    require_testbench(array, tmp_path)


def test_the_manifest_of_an_array() -> None:
    array = array_of(small(NEURON))
    assert array.norm is not None
    assert array.norm.name == "norm"
    assert array.input_format == Q4_12
    form = manifest_of(array)["forms"]["array"]
    assert form["tick_cycles"] == 48
    assert array.cycles == 2 + 3 * 48 + form["latency"]
    assert (manifest_of(array)["coefficients_on"], array.channels) == ("constant", 1)
    several = array_of(per_channel())
    assert (manifest_of(several)["coefficients_on"], several.channels) == ("memory", 3)


@pytest.mark.parametrize("parametrisation", [pytest.param("free", marks=pytest.mark.slow), "pole"])
def test_a_layer_of_two_states(parametrisation: str, tmp_path: Path) -> None:
    """Coefficients per channel; the last bit of a word is one of w."""
    neuron = lnm.get(
        "lnm", states=2, degree=1, parametrisation=parametrisation, per="channel", v_threshold=0.5
    )
    array = array_of(small(neuron))
    assert (manifest_of(array)["coefficients_on"], array.channels) == ("memory", 3)
    require_testbench(array, tmp_path)


def test_a_layer_larger_than_an_array_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """48 neurons where an array holds 20: three arrays of 16, whose vectors are of the first."""
    monkeypatch.setattr(arrays, "MOST_NEURONS", 20)
    array = array_of(small(NEURON))
    assert (array.neurons, array.copies) == (16, 3)
    words = words_of(array.source.files["tb/neuron_array.hex"])
    assert len(words) == 4 * 3 * 16
    problem = "the layer has 48 neurons with coefficients per channel"
    with refused(UnsupportedError, "verilog: neuron", problem, "up to 20 neurons", "per='layer'"):
        array_of(per_channel())


def test_refusals() -> None:
    accepted = "per='layer' or per='channel'"
    with refused(UnsupportedError, "lnm", "theta per neuron has no circuit", accepted):
        array_of(small(lnm.get("lnm", degree=1, per="neuron")))
    rtl = lnm.Rtl(forms=("array",), neurons=4)
    accepted = "for each of x an array (sequences, ticks, 4)"
    for stimulus in ({"x": np.zeros((1, 2, 3))}, {"y": np.zeros((1, 2, 4))}, {}):
        with refused(ShapeError, "lnm", "stimulus is ", accepted):
            lnm.emit(NEURON, "verilog", spec=Q4_12, rtl=rtl, stimulus=stimulus)


def test_names_of_modules() -> None:
    assert [module_name(p) for p in ("blocks.0.neuron", "0", "")] == [
        "blocks_0_neuron", "layer_0", "neuron",
    ]  # fmt: skip
