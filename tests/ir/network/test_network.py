"""Networks in integers: the interpreter, files, and refusals of what does not fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import lnm_codegen as lnm
from lnm_codegen.compiler.fixed import neuron_stage
from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.files import write_whole
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.network.exchange import ARRAYS, JSON, network_files, read_network
from lnm_codegen.ir.network.interpret import (
    accumulated,
    added,
    interpret_network,
    requantized,
    score_rows,
)
from lnm_codegen.ir.network.nodes import (
    SPIKES,
    AddStage,
    BranchStage,
    FlattenStage,
    IntegerNetwork,
    NeuronStage,
    PoolStage,
    ValueSpan,
    WeightStage,
    order_text,
    score_text,
    values_of_bits,
    width_of,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits
from tests.networks import random_network, random_samples, random_weights, residual_network
from tests.refusals import refused
from tests.strategies import generators


def weights(**changed) -> WeightStage:
    """Return 2 inputs to 3 outputs in Q8.4, weights times 2**-2."""
    given_ = dict(
        name="w", kind="linear", weight=np.array([[1, -2], [3, 0], [-8, 7]]), bits=4,
        bias=np.array([1, 0, -3]), multiplier=np.array([1]), shift=np.array([-2]), accumulator=6,
        output=Bits(12, 4),
    )  # fmt: skip
    return WeightStage(**(given_ | changed))


def small(**changed) -> IntegerNetwork:
    stage = neuron_stage("n", lnm.get("lif", tau=2.0), lnm.Fixed(12, 4), (3,))
    readout = weights(name="r", weight=np.array([[1, 1, 1], [1, 1, 1]]), bias=np.array([0, 0]))
    given_ = dict(
        name="small", time_steps=2, repeated=False, input_shape=(2,), input=SPIKES,
        stages=(weights(), stage, readout), over="mean",
    )  # fmt: skip
    return IntegerNetwork(**(given_ | changed))


def folder_of(network: IntegerNetwork, folder: Path) -> Path:
    for name, data in network_files(network).items():
        write_whole(folder / name, data)
    return folder


@pytest.mark.parametrize(("values", "count"), [
    ([[1, 1, 1], [1, 1, 1]], 1), ([[1, 1, 1], [2, 2, 2]], 2), ([[1, 2, 1], [1, 2, 1]], 6),
])  # fmt: skip
def test_values_that_neurons_share_are_kept_once(values: list[list[int]], count: int) -> None:
    """One number, one for each channel of (2, 3), or one for each neuron."""
    given = {"beta": np.array(values) / 4}
    neuron = lnm.get("leaky", learn_beta=True, per="neuron")
    stage = neuron_stage("n", neuron, lnm.Fixed(12, 4), (2, 3), given)
    found = max((v for _, v in stage.coefficients), key=len)
    assert len(found) == count


def test_sums_by_hand() -> None:
    """acc = bias + W a, then 2**2 * acc; ties of scores go to the lowest class."""
    network = require_network(small())
    found = interpret_network(network, [[[1, 1]], [[0, 1]]], trace=True)
    np.testing.assert_array_equal(found.outputs[0][:, 0], [[0, 12, -16], [-4, 0, 16]])
    assert found.outputs[1].shape == (2, 1, 3)
    assert found.labels.tolist() == [0]
    assert found.scores[0, 0] == found.scores[0, 1]


def test_rounding_is_half_up_and_saturates() -> None:
    stage = weights(weight=np.array([[1, 1]]), bias=np.array([0]), shift=np.array([1]),
                    output=Bits(3, 0))  # fmt: skip
    sums = np.array([[-9], [-3], [-1], [1], [3], [7]])
    assert requantized(stage, sums)[:, 0].tolist() == [-4, -1, 0, 1, 2, 3]
    scaled = replace(stage, multiplier=np.array([5]), shift=np.array([2]), output=Bits(8, 0))
    assert requantized(scaled, sums)[:, 0].tolist() == [-11, -4, -1, 1, 4, 9]


def test_an_addition_by_hand() -> None:
    """Numbers of 2 and of 4 fraction bits; a tie goes up, and the ends of a format saturate."""
    coarse, fine = ValueSpan(-8, 7, 2), ValueSpan(-100, 100, 4)
    a, b = np.array([[1, -2, 7, -8]]), np.array([[-3, 1, 100, -100]])
    assert added(AddStage(-1), a, b, coarse, fine).tolist() == [[1, -7, 128, -132]]
    assert added(AddStage(-1, Bits(6, 3)), a, b, coarse, fine).tolist() == [[1, -3, 31, -32]]
    assert added(AddStage(-1, Bits(12, 6)), b, a, fine, coarse).tolist() == [[4, -28, 512, -528]]
    assert AddStage(-1).output_values(coarse, fine) == ValueSpan(-132, 128, 4)
    assert AddStage(-1, Bits(6, 3)).output_values(coarse, fine) == ValueSpan(-32, 31, 3)


@pytest.mark.parametrize(
    ("stages", "problem", "accepted"),
    [
        ((weights(), AddStage(0)), "other is 0", "an integer from -1 to -1"),
        ((weights(), AddStage(-2)), "other is -2", "an integer from -1"),
        ((weights(), BranchStage(0)), "origin is 0", "an integer from -1 to -1"),
        ((weights(), AddStage(-1)), "it adds shapes (3,) and (2,)", "two equal shapes"),
        ((weights(), BranchStage(-1), weights(name="r")), "no stage reads stage 0", "the scores"),
        ((weights(), weights(name="r", weight=np.ones((2, 3), int), bias=np.zeros(2, int),
                             accumulator=20), BranchStage(0)), "no stage reads stage 1", ""),
        ((weights(), weights(name="r", weight=np.ones((3, 3), int), accumulator=20),
          AddStage(0, Bits(33, 4))), "output is Q29.4", "2 to 32 bits"),
    ],
)  # fmt: skip
def test_refused_additions(stages: tuple, problem: str, accepted: str) -> None:
    with refused(ModelError, None, problem, accepted):
        require_network(small(stages=stages))


@settings(max_examples=20, deadline=None)
@given(generators())
def test_a_convolution_is_its_definition(rng: np.random.Generator) -> None:
    shape, values = (2, 5, 6), values_of_bits(Bits(6, 2))
    stage = random_weights(rng, "c", shape, values, Bits(16, 4))
    x = rng.integers(values.low, values.high + 1, (3, *shape))
    outputs, _, height, width = stage.weight.shape
    _, down, across = stage.output_shape(shape)
    padded = np.pad(x, ((0, 0), (0, 0), *((stage.padding,) * 2,) * 2))
    expected = np.empty((3, outputs, down, across), np.int64)
    for i in range(down):
        for j in range(across):
            top, left = i * stage.stride, j * stage.stride
            window = padded[:, :, top : top + height, left : left + width]
            expected[:, :, i, j] = np.einsum("nchw,ochw->no", window, stage.weight) + stage.bias
    np.testing.assert_array_equal(accumulated(stage, x, values), expected)
    assert np.abs(expected).max() <= stage.bound(values)


def test_a_padded_input_is_0_in_the_span_of_a_sum() -> None:
    """Inputs of 100 to 127 without 0: a sum at the edge has one of the weights 100 and -100."""
    kernel = np.zeros((1, 1, 3, 3), int)
    kernel[0, 0, 1, 0], kernel[0, 0, 1, 2] = 100, -100
    stage = weights(kind="conv", weight=kernel, bits=8, bias=np.array([0]), shift=np.array([0]),
                    padding=1)  # fmt: skip
    values = ValueSpan(100, 127)
    sums = accumulated(stage, np.full((1, 1, 1, 2), 127), values)
    low, high = stage.scaled_spans(values)[0]
    assert (low, high) == (int(sums.min()), int(sums.max())) == (-12700, 12700)


@settings(max_examples=20, deadline=None)
@given(generators())
def test_no_sum_exceeds_its_bound(rng: np.random.Generator) -> None:
    """The bound is reached by inputs of the largest magnitude and the signs of the weights."""
    values = values_of_bits(Bits(int(rng.integers(2, 9)), 0))
    stage = random_weights(rng, "w", (5,), values, Bits(16, 4))
    worst = np.where(stage.weight < 0, values.high, values.low)
    sums = accumulated(stage, np.concatenate([worst, -1 - worst]), values)
    bound = stage.bound(values)
    assert np.abs(sums).max() <= bound
    assert width_of((int(sums.min()), int(sums.max()))) <= stage.accumulator


def test_wide_sums_are_exact() -> None:
    """Sums of 2**53 and more run in integers; a bound beyond 64 bits refuses an accumulator."""
    stage = weights(weight=np.array([[32767, 1]]), bits=16, bias=np.array([1 << 54]),
                    accumulator=60)  # fmt: skip
    sums = accumulated(stage, np.array([[1, 1]]), SPIKES)
    assert int(sums[0, 0]) == (1 << 54) + 32768
    stage = weights(weight=np.full((1, 1 << 18), 32767), bits=16, bias=np.array([0]),
                    accumulator=20)  # fmt: skip
    values = values_of_bits(Bits(32, 0))
    assert stage.bound(values) == (1 << 18) * 32767 << 31
    network = small(stages=(stage,), input_shape=(1 << 18,), input=values)
    with refused(ModelError, None, "accumulator is 20 bits, and a sum can be"):
        require_network(network)


@settings(max_examples=8, deadline=None)
@given(generators())
def test_files_keep_a_network(tmp_path_factory: pytest.TempPathFactory, rng) -> None:
    network = (random_network, residual_network)[rng.integers(2)](rng)
    folder = folder_of(network, tmp_path_factory.mktemp("net"))
    again = read_network(folder)
    assert network_files(again) == network_files(network)
    samples = random_samples(rng, network, 3)
    first, second = (interpret_network(n, samples) for n in (network, again))
    np.testing.assert_array_equal(first.scores, second.scores)


@pytest.mark.parametrize("span", [(0, 200, 8), (0, 1, 3), (-3, 5, 0), (0, 0, 0), (-256, 255, 8)])
def test_files_keep_the_values_of_the_input(span: tuple[int, int, int], tmp_path: Path) -> None:
    """Those of 0 to 200 were read as -256 to 255, for which an accumulator is too narrow."""
    values = ValueSpan(*span)
    stage = random_weights(np.random.default_rng(1), "w", (2,), values, Bits(16, 4))
    network = require_network(small(input=values, stages=(stage,)))
    assert read_network(folder_of(network, tmp_path)).input == values
    written = json.loads((tmp_path / JSON).read_text())["input"]
    assert (written.get("format") == "Q1.8") == (span == (-256, 255, 8))


def test_samples_run_alone() -> None:
    """A sample's scores depend on no other sample, over parts of 256 samples too."""
    rng = np.random.default_rng(3)
    network = random_network(rng)
    samples = random_samples(rng, network, 300)
    axis = 0 if network.repeated else 1
    whole = interpret_network(network, samples, trace=True)
    alone = interpret_network(network, np.take(samples, [299], axis), trace=True)
    scores = (score_rows(network, of.scores) for of in (whole, alone))
    np.testing.assert_array_equal(next(scores)[299:], next(scores))
    for a, b in zip(whole.outputs, alone.outputs, strict=True):
        np.testing.assert_array_equal(a[:, 299:], b)


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_feedback_is_its_definition(delay: int) -> None:
    """Neurons of a potential of their own, here in NumPy: v += x, a spike at v >= 8, v -= 8."""
    rng, spec = np.random.default_rng(delay), lnm.Fixed(12, 4)
    v, x = lnm.state("v"), lnm.input("x")
    adding = lnm.Neuron(charge={v: x + v}, fire=v - 0.5, reset=lnm.soft_reset(v, 0.5))
    values, steps, count = values_of_bits(Bits(6, 2)), 9, 5
    layer = replace(random_weights(rng, "w", (3,), values, spec.bits, 4, delay=delay),
                    multiplier=np.array([1]), shift=np.array([2]))  # fmt: skip
    layer = replace(layer, weight=rng.integers(-8, 8, (4, 7)), bits=4, bias=rng.integers(-9, 9, 4))
    stages = (layer.fitted(values), neuron_stage("n", adding, spec, (4,)))
    network = IntegerNetwork("fed", steps, False, (3,), values, stages, "step")
    samples = random_samples(rng, require_network(network), count)
    expected = np.zeros((steps, count, 4), int)
    potential = np.zeros((count, 4), int)
    for t in range(steps):
        fed = expected[t - delay] if t >= delay else np.zeros((count, 4), int)
        acc = layer.bias + samples[t] @ layer.weight[:, :3].T + 4 * fed @ layer.weight[:, 3:].T
        y = np.clip((acc + 2) >> 2, -2048, 2047)
        potential = np.clip(potential + y, -2048, 2047)
        expected[t] = potential >= 8
        potential = potential - 8 * expected[t]
    found = interpret_network(network, samples, trace=True)
    np.testing.assert_array_equal(found.scores, expected)
    np.testing.assert_array_equal(found.labels, expected.argmax(2))
    assert 0 < expected.mean() < 1


def test_feedback_stays_within_its_bound() -> None:
    rng, values = np.random.default_rng(1), values_of_bits(Bits(6, 2))
    stage = random_weights(rng, "w", (3,), values, Bits(16, 4), 4, delay=1)
    rows, ends = stage.weight.astype(int), []
    for sign in (1, -1):
        own = np.where(sign * rows[:, :3] > 0, values.high, values.low)
        fed = 4 * (sign * rows[:, 3:] > 0)
        ends.append((rows * np.concatenate([own, fed], 1)).sum(1) + stage.bias)
    spans = np.array(stage.scaled_spans(values)) // np.array(stage.multipliers)[:, None]
    np.testing.assert_array_equal(spans, np.stack([ends[1], ends[0]], 1))
    assert np.abs(ends).max() <= stage.bound(values)


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (np.zeros((2, 1, 3), int), "samples are int64 (2, 1, 3)"),
        (np.zeros((3, 1, 2), int), "samples are int64 (3, 1, 2)"),
        (np.zeros((2, 1, 2)), "samples are float64 (2, 1, 2)"),
        (np.zeros((2, 0, 2), int), "samples are int64 (2, 0, 2)"),
        (np.full((2, 1, 2), 2), "a sample holds 2"),
    ],
)
def test_refused_samples(samples: np.ndarray, problem: str) -> None:
    accepted = "0 to 1" if "holds" in problem else "integers (2, N, 2), N >= 1"
    with refused(ShapeError, "small", problem, accepted):
        interpret_network(small(), samples)


@pytest.mark.parametrize(
    ("changed", "problem", "accepted"),
    [
        ({"name": "9"}, "name is '9'", "a letter first"),
        ({"name": "main"}, "name is 'main'", "not main"),
        ({"time_steps": 0}, "time_steps is 0", "an integer from 1"),
        ({"over": "min"}, "over is 'min'", "'mean', 'last', 'max'"),
        ({"input_shape": (2, 2)}, "the shape of the input is (2, 2)", "(F,) or (C, H, W)"),
        ({"stages": ()}, "no stages", "one or more"),
        ({"input": ValueSpan(0, 1 << 32)}, "the input is 0 to", "32 bits"),
        ({"stages": (weights(), weights(name="w2"))}, "weight has shape (3, 2)", "(outputs, 3)"),
        ({"stages": (weights(bits=17),)}, "bits is 17", "2 to 16"),
        ({"stages": (weights(bits=3),)}, "weight holds -8", "-4 to 3"),
        ({"stages": (weights(accumulator=4),)}, "4 bits, and a sum can be 18", "6 bits or more"),
        ({"stages": (weights(shift=np.array([0, 0])),)}, "shift has shape (2,)", "(1,) or (3,)"),
        ({"stages": (weights(multiplier=np.array([0])),)}, "multiplier holds 0", "1 to 32767"),
        ({"stages": (weights(bias=np.zeros(3)),)}, "bias is of float64", "signed integers"),
        ({"stages": (weights(output=Bits(33, 4)),)}, "output is Q29.4", "2 to 32 bits"),
        ({"stages": (PoolStage("sum", 2),)}, "its input has shape (2,)", "(C, H, W)"),
        ({"input_shape": (2, 2, 2), "stages": (PoolStage("max", 2),)}, "have shape (2, 1, 1)", ""),
        ({"input_shape": (2, 1, 1), "stages": (FlattenStage(), weights(), weights(
            weight=np.ones((2, 3), int), bias=np.zeros(2, int), accumulator=20))},
         "two stages have the name 'w'", "names that differ"),
    ],
)  # fmt: skip
def test_refused_networks(changed: dict, problem: str, accepted: str) -> None:
    with refused(ModelError, None, problem, accepted):
        require_network(small(**changed))


def test_neurons_are_compared_with_their_input() -> None:
    first, neurons, last = small().stages
    (name, _), *others = neurons.coefficients
    pair = ((name, np.array([1, 2])), *others)
    for stages, *parts in (
        ((replace(first, output=Bits(13, 4)), neurons, last), "its input is -4096 to 4095",
         "of Q8.4"),
        ((first, replace(neurons, coefficients=tuple(others)), last), "coefficients are"),
        ((first, replace(neurons, coefficients=pair), last), "has shape (2,)", "(1,) or (3,)"),
    ):  # fmt: skip
        with refused(ModelError, "network: stage 1, n", *parts):
            require_network(small(stages=stages))


def test_numbers_of_neurons_have_32_bits() -> None:
    """States and coefficients of 40 bits were written as int32_t, and nodes are no wider."""
    first, neurons, last = small().stages
    assert isinstance(neurons, NeuronStage)
    kernel = neurons.program.kernel

    def widened(e: fx.Expr) -> fx.Expr:
        if isinstance(e, fx.Var) and e.name == "p0":
            return replace(e, type=replace(e.type, width=40))
        return fx.map_children(e, widened)

    ports = tuple(replace(p, var=widened(p.var)) for p in kernel.inputs)
    coefficient = replace(kernel.map_values(widened), inputs=ports)
    clamped = kernel.map_values(
        lambda e: replace(e, arg=fx.Saturate(e.arg, 33)) if isinstance(e, fx.Saturate) else e
    )
    for wide, problem in ((coefficient, "'p0' has 40 bits"), (clamped, "'h' has 33 bits")):
        stage = replace(neurons, program=replace(neurons.program, kernel=wide))
        with refused(ModelError, "network: stage 1, n", problem, "at most 32 bits"):
            require_network(small(stages=(first, stage, last)))


@pytest.mark.parametrize(
    ("over", "meaning"),
    [
        ("mean", "the sum over the 3 time steps of value k of the last pooling; its mean is"),
        ("last", "value k of the last pooling, in the last of 3 time steps"),
        ("max", "the maximum over the 3 time steps of value k of the last pooling"),
    ],
)
def test_sentences_about_samples_and_scores(over: str, meaning: str) -> None:
    """The number of an element is its place in NumPy's flat order."""
    shape = (2, 3, 4)
    network = IntegerNetwork("n", 3, False, shape, SPIKES, (PoolStage("max", 1),), over)
    (inside,) = re.findall(r"is its number ([^.]+)\.", order_text(network))
    (whole,) = re.findall(r"is number ([^.]+) of a sample\.", order_text(network))
    flat = np.arange(3 * 24).reshape(3, *shape)
    for t, c, h, w in np.ndindex(flat.shape):
        i = eval(inside, {"c": c, "h": h, "w": w})
        assert eval(whole, {"t": t, "i": i}) == flat[t, c, h, w]
    assert f"The score of class k is {meaning}" in score_text(network)
    assert "repeats it 3 times" in order_text(replace(network, repeated=True))


STAGE = "network.json: stage 0"
INPUT = {"shape": [2]}
DAMAGED = [
    ({"version": 2}, JSON, "version is 2"),
    ({"format": "x"}, JSON, "format is 'x'"),
    ({"over": 1}, JSON, "over is 1"),
    ({"stages": {}}, JSON, "stages is {}"),
    ({"time_steps": True}, JSON, "time_steps is True"),
    ({"weight": "nothing"}, STAGE, "no array 'nothing' in network.npz"),
    ({"bits": 3.5}, STAGE, "bits is 3.5"),
    ({"output": "12.4"}, STAGE, "12.4"),
    ({"name": "a b"}, STAGE, "name is 'a b'"),
    ({"stage": "fc"}, STAGE, "'fc'"),
    ({"input": INPUT | {"low": 0}}, None, "the key 'high' is missing"),
    ({"input": INPUT | {"low": 0, "high": 1.5, "frac": 0}}, None, "high is 1.5"),
    ({"input": INPUT | {"low": 0, "high": 9, "frac": -1}}, None,
     "fraction bits of the input is -1"),
    ({"input": INPUT | {"low": 9, "high": 0, "frac": 0}}, None, "the input is 9 to 0"),
    ({"input": INPUT}, None, "the key 'format' is missing"),
    ({"input": {"shape": [2**70], "low": 0, "high": 1, "frac": 0}}, None, "has shape"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "where", "problem"), DAMAGED)
def test_damaged_content(tmp_path: Path, changed: dict, where: str | None, problem: str) -> None:
    """Whatever is wrong with a file is one line that names it."""
    folder_of(small(), tmp_path)
    content = json.loads((tmp_path / JSON).read_text())
    if where == STAGE:
        content["stages"][0] |= changed
    else:
        content |= changed
    (tmp_path / JSON).write_text(json.dumps(content))
    with refused(ModelError, tmp_path / where if where else None, problem):
        read_network(tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    with refused(ModelError, tmp_path / ARRAYS, "No such file", "", "lnm deploy"):
        read_network(tmp_path)
    folder_of(small(), tmp_path)
    (tmp_path / JSON).write_text("[]")
    with refused(ModelError, tmp_path / JSON, "it holds []", "an object"):
        read_network(tmp_path)
    (tmp_path / ARRAYS).write_bytes(b"PK\x03\x04 no archive")
    with refused(ModelError, tmp_path / ARRAYS, "not arrays of NumPy"):
        read_network(tmp_path)
    with (tmp_path / ARRAYS).open("wb") as file:
        np.save(file, np.ones(3))
    with refused(ModelError, tmp_path / ARRAYS, "not arrays of NumPy: one array, and no archive"):
        read_network(tmp_path)


def test_flipped_bytes_are_one_line(tmp_path: Path) -> None:
    """A damaged archive ends zlib and zipfile in errors of several types."""
    written = network_files(small())
    folder_of(small(), tmp_path)
    whole, rng = (tmp_path / ARRAYS).read_bytes(), np.random.default_rng(0)
    refusals, accepted = [], []
    for place in rng.integers(0, len(whole), 120):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / ARRAYS).write_bytes(damaged)
        try:
            accepted.append(read_network(tmp_path))
        except ModelError as error:
            refusals.append(str(error))
    assert refusals
    assert not [line for line in refusals if "\n" in line]
    assert accepted  # a bit that no reader looks at changes nothing
    assert all(network_files(read) == written for read in accepted)
