"""The load port: other numbers of the same network, as an image, give the scores of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lnm_codegen.backends.network_verilog.backend import emit_circuit
from lnm_codegen.backends.network_verilog.load import load_header, load_image, memories_for
from lnm_codegen.backends.network_verilog.testbench import input_words, result_words
from lnm_codegen.backends.verilog.expr import hex_text
from lnm_codegen.errors import ModelError
from lnm_codegen.ir.network.interpret import interpret_network, score_rows
from lnm_codegen.ir.network.nodes import IntegerNetwork, NeuronStage, WeightStage, operands
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits
from tests.backends.network_verilog.runs import random_circuit, simulated
from tests.backends.verilog.runs import needs_iverilog
from tests.hexadecimal import words_of
from tests.networks import (
    Draw,
    lively_seed,
    random_network,
    random_samples,
    residual_network,
    rows,
)
from tests.refusals import refused

slow = pytest.mark.slow


def retrained(rng: np.random.Generator, network: IntegerNetwork) -> IntegerNetwork:
    """Return a network of the same form with other weights, biases, scales and coefficients."""
    stages, values = [], [network.input]
    for k, stage in enumerate(network.stages):
        made = stage
        if isinstance(stage, WeightStage):
            half = 1 << (stage.bits - 1)
            most = 1 << (stage.accumulator - 2)
            made = replace(
                stage,
                weight=rng.integers(-half, half, stage.weight.shape),
                bias=rng.integers(-most, most, stage.bias.shape),
                shift=np.clip(stage.shift + rng.integers(-2, 3, stage.shift.shape), -31, 62),
            ).fitted(*operands(k, stage, values))
            if made.multipliers != [1] * made.channels:
                made = replace(made, multiplier=rng.permutation(made.multiplier))
        elif isinstance(stage, NeuronStage):
            found = []
            for name, integers in stage.coefficients:
                bits = stage.program.kernel.bits(name)
                other = integers + rng.integers(-3, 4, integers.shape)
                found.append((name, other.clip(bits.low, bits.high)))
            made = replace(stage, coefficients=tuple(found))
        stages.append(made)
        values.append(made.output_values(*operands(k, made, values)))
    return require_network(replace(network, stages=tuple(stages)))


def reloaded(
    folder: Path, seed: int, drawn: Draw = random_network, per_cycle: int = 1
) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the output of a circuit's testbench on the image and the vectors of other numbers.

    Also return the scores of both networks.
    """
    network, _, circuit = random_circuit(seed, 4, True, drawn, per_cycle)
    circuit.source.write(folder)
    rng = np.random.default_rng(seed + 1000)
    other = retrained(rng, network)
    samples = random_samples(rng, other, 4)
    scores = score_rows(other, interpret_network(other, samples).scores)
    own = score_rows(network, interpret_network(network, samples).scores)
    taken, given, label = circuit.stream_widths
    words = {
        "inputs": (input_words(rows(other, samples), taken), taken),
        "results": (result_words(scores.reshape(-1, other.classes), given), given + label),
    }
    for word, (numbers, width) in words.items():
        (folder / f"tb/net_{word}.hex").write_text(hex_text("net", numbers, width))
    (folder / "tb/net_load.hex").write_text(load_image(circuit, memories_for(circuit, other)))
    return simulated(folder, parameters={"RELOAD": 1}), scores, own


@needs_iverilog
@pytest.mark.parametrize("seed", [1, 2, 8, *(pytest.param(k, marks=slow) for k in range(20, 60))])
def test_other_numbers_are_loaded(seed: int, tmp_path: Path) -> None:
    """Every number is another one: weights, biases, shifts, multipliers, coefficients."""
    found, *_ = reloaded(tmp_path, lively_seed(seed, as_circuit=True))
    assert "PASS net_network" in found, found


@needs_iverilog
@pytest.mark.parametrize("drawn", [random_network, residual_network])
@pytest.mark.parametrize("seed", [1, *(pytest.param(100 * k, marks=slow) for k in range(1, 12))])
def test_other_numbers_are_loaded_into_slices(seed: int, drawn: Draw, tmp_path: Path) -> None:
    found, *_ = reloaded(tmp_path, lively_seed(seed, drawn, as_circuit=True), drawn, 3)
    assert "PASS net_network" in found, found


@needs_iverilog
def test_other_numbers_have_other_scores(tmp_path: Path) -> None:
    found, scores, own = reloaded(tmp_path, lively_seed(1, as_circuit=True))
    assert "PASS" in found
    assert (scores != own).any()


def test_an_image_of_the_own_numbers_is_that_of_the_testbench() -> None:
    network, _, circuit = random_circuit(3, 2, loadable=True)
    image = load_image(circuit, memories_for(circuit, network))
    assert image == circuit.source.files["tb/net_load.hex"]


def test_the_header_has_the_words_of_the_image() -> None:
    """Read back as C's initialisers: memory, address, row."""
    _, _, circuit = random_circuit(3, 2, loadable=True)
    _, address, data = circuit.load_widths.values()
    lines = [x.strip(" {},") for x in load_header(circuit).splitlines() if x.startswith("    {")]
    found = []
    for line in lines:
        number, k, *words = (int(word, 16) for word in line.split(", "))
        row = sum(word << (32 * j) for j, word in enumerate(words))
        found.append((number << address | k) << data | row)
    assert found == [int(w, 16) for w in words_of(load_image(circuit))]


CHANGES: dict[str, tuple[Callable[[WeightStage], WeightStage], str, str]] = {
    "shape": (lambda s: replace(s, weight=s.weight[:, :-1]), "weights ", ", as in the circuit"),
    "bits": (lambda s: replace(s, bits=s.bits + 1), "bits ", ", as in the circuit"),
    "bias": (lambda s: replace(s, bias=s.bias + (1 << 40)), "a bias of 42 bits", "up to "),
    "shift": (lambda s: replace(s, shift=s.shift + 9), "shifts from ", " to "),
    "output": (
        lambda s: replace(s, output=Bits(s.output.width + 1, 0)), "output ", ", as in the circuit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("word", CHANGES)
def test_numbers_that_do_not_fit_are_refused(word: str) -> None:
    network, _, circuit = random_circuit(1, 2, loadable=True)
    change, problem, accepted = CHANGES[word]
    first, *rest = network.stages
    assert isinstance(first, WeightStage)
    other = replace(network, stages=(change(first), *rest))
    with refused(ModelError, f"reload: {first.name}", problem, accepted):
        memories_for(circuit, other)


def test_another_network_is_refused() -> None:
    network, samples, circuit = random_circuit(1, 2, loadable=True)
    with refused(ModelError, "reload", "time steps 99"):
        memories_for(circuit, replace(network, time_steps=99))
    with refused(ModelError, "reload", "other stages"):
        memories_for(circuit, replace(network, stages=network.stages[:-1]))
    fixed = emit_circuit(network, samples)
    with refused(ModelError, "reload", "net has no load port", "", "--load-port"):
        memories_for(fixed, network)
