"""Verilog of networks in integers: equality with NumPy in Icarus, lint, refusals, the load port."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.network_verilog.backend import emit_circuit
from lnm_codegen.backends.network_verilog.layers import (
    form_in,
    layer_entries,
    layers_of,
    slice_counts,
)
from lnm_codegen.compiler.fixed import neuron_stage
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.network.nodes import (
    SPIKES,
    AddStage,
    FlattenStage,
    IntegerNetwork,
    NeuronStage,
    PoolStage,
    ValueSpan,
    WeightStage,
    size_of,
)
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits
from tests.backends.network_verilog.runs import (
    cycles_of,
    random_circuit,
    simulated,
    sources,
)
from tests.backends.verilog.runs import needs_iverilog, needs_verilator, needs_yosys
from tests.hexadecimal import words_of
from tests.networks import (
    DRAWS,
    Draw,
    lively_seed,
    random_network,
    random_samples,
    random_weights,
    residual_network,
)
from tests.refusals import refused

slow = pytest.mark.slow


def assert_equal_to_numpy(seed: int, drawn: Draw = random_network) -> None:
    """The testbench compares scores and labels with those of `interpret_network`."""
    seed = lively_seed(seed, drawn, as_circuit=True)
    network, _, circuit = random_circuit(seed, drawn=drawn)
    with tempfile.TemporaryDirectory() as folder:
        circuit.source.write(folder)
        printed = simulated(Path(folder))
    assert f"PASS {network.name}_network: {2 * 4 * network.score_count} scores" in printed, seed
    assert all(0 < cycles <= circuit.most_cycles for cycles in cycles_of(printed))


@needs_iverilog
@pytest.mark.parametrize("drawn", DRAWS)
@pytest.mark.parametrize("seed", [1, *(pytest.param(1000 * k, marks=slow) for k in range(60))])
def test_verilog_is_numpy(seed: int, drawn: Draw) -> None:
    """Random ones; weights and biases at their ends, sums that saturate, shifts to the left."""
    assert_equal_to_numpy(seed, drawn)


def equal_neurons(rng: np.random.Generator, *, as_circuit: bool) -> IntegerNetwork:
    """Return a random network of two or more layers of equal neurons, some with shortcuts."""
    while True:
        drawn = (random_network, residual_network)[rng.integers(2)]
        network = drawn(rng, as_circuit=as_circuit, alike=True)
        if sum(isinstance(stage, NeuronStage) for stage in network.stages) > 1:
            return network


@needs_iverilog
@pytest.mark.parametrize("seed", [2, 6, *(pytest.param(1000 * k, marks=slow) for k in range(60))])
def test_equal_layers_take_turns_on_one_array(seed: int, tmp_path: Path) -> None:
    """With one lane; scores equal NumPy, and with four lanes each layer has its array."""
    rng = np.random.default_rng(lively_seed(seed, equal_neurons, as_circuit=True))
    network = equal_neurons(rng, as_circuit=True)
    samples = random_samples(rng, network, 4)
    circuit = emit_circuit(network, samples, lanes=1)
    assert circuit.takes_turns
    assert [array.name for array in circuit.distinct_arrays] == ["net_neurons"]
    circuit.source.write(tmp_path)
    printed = simulated(tmp_path)
    assert "PASS net_network" in printed
    assert all(0 < cycles <= circuit.most_cycles for cycles in cycles_of(printed))
    assert not emit_circuit(network, samples, lanes=4).takes_turns
    assert not emit_circuit(network, samples, lanes=1, loadable=True).takes_turns


def sliced_seed(seed: int, drawn: Draw) -> int:
    """Return the first lively seed from `seed` on of a network that has slices."""
    while True:
        seed = lively_seed(seed, drawn, as_circuit=True)
        network = drawn(np.random.default_rng(seed), as_circuit=True)
        if max(slice_counts(network, 4)) > 1:
            return seed
        seed += 1


@needs_iverilog
@pytest.mark.parametrize("drawn", [random_network, residual_network])
@pytest.mark.parametrize("seed", [2, *(pytest.param(1000 * k, marks=slow) for k in range(1, 40))])
def test_several_neurons_a_cycle(seed: int, drawn: Draw, tmp_path: Path) -> None:
    """Scores equal NumPy, and NumPy again after the load port has written every number."""
    rng = np.random.default_rng(sliced_seed(seed, drawn))
    network = drawn(rng, as_circuit=True)
    samples, lanes = random_samples(rng, network, 4), int(rng.integers(1, 7))
    made = emit_circuit(network, samples, lanes, bool(seed % 2), per_cycle=int(rng.integers(2, 5)))
    made.source.write(tmp_path)
    printed = simulated(tmp_path)
    assert "PASS net_network" in printed
    assert all(0 < cycles <= made.most_cycles for cycles in cycles_of(printed))
    manifest = json.loads(made.source.files["manifest.json"])
    again = layers_of(network, *form_in(manifest))
    assert layer_entries(again) == manifest["layers"]


def test_the_slices_of_a_network() -> None:
    """As many as divide the channels that are added or pooled; a recurrent layer has one."""
    rng, spec = np.random.default_rng(1), lnm.Fixed(12, 8)
    neurons = [neuron_stage(f"n{k}", lnm.get("lif"), spec, (n,)) for k, n in enumerate((12, 6, 6))]
    first = random_weights(rng, "a", (3,), SPIKES, spec.bits, 12)
    second = random_weights(rng, "b", (12,), SPIKES, spec.bits, 6)
    third = random_weights(rng, "c", (6,), SPIKES, spec.bits, 6)
    last = random_weights(rng, "d", (6,), ValueSpan(0, 2), spec.bits, 3)
    stages = (first, neurons[0], second, neurons[1], third, neurons[2], AddStage(3), last)
    network = require_network(IntegerNetwork("net", 3, False, (3,), SPIKES, stages, "mean"))
    assert slice_counts(network, 8) == [1, 6, 6, 6, 6, 6, 6, 6, 1]
    assert slice_counts(network, 5) == [1, 4, 4, 3, 3, 3, 3, 3, 1]
    fed = random_weights(rng, "c", (6,), SPIKES, spec.bits, 6, delay=1)
    stages = (first, neurons[0], second, neurons[1], fed, neurons[2], last)
    network = require_network(replace(network, stages=stages))
    assert slice_counts(network, 8) == [1, 6, 6, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("shifts", "note"),
    [
        ((4,), "saturate(half_up(sum[o] / 2^4))"),
        ((-3,), "saturate(sum[o] * 2^3)"),
        ((0,), "saturate(sum[o])"),
        ((-3, -1), "saturate(sum[o] * 2^k[o]), k from 1 to 3"),
        ((-2, 5), "saturate(half_up(sum[o] / 2^shift[o])), shift from -2 to 5"),
    ],
)
def test_the_head_of_a_synapse_states_its_shift(shifts: tuple[int, ...], note: str) -> None:
    weights = WeightStage(
        "dense", "linear", np.array([[3, -1], [1, 2]]), bits=4, bias=np.array([0, 1]),
        multiplier=np.ones(len(shifts), int), shift=np.array(shifts), accumulator=4,
        output=Bits(12, 4),
    )  # fmt: skip
    neurons = neuron_stage("lif", lnm.get("lif", tau=2.0, v_threshold=0.25), lnm.Fixed(12, 4), (2,))
    network = IntegerNetwork("tiny", 3, False, (2,), SPIKES, (weights, neurons), "mean")
    circuit = emit_circuit(network, np.zeros((3, 1, 2), int), 4, False)
    text = circuit.source.files["rtl/tiny_dense_synapse.v"]
    assert re.search(rf"y\[o\]   = {re.escape(note)} +Q8.4$", text, re.M)
    assert "k = floor" not in circuit.source.files["README.md"]
    readme = circuit.source.files["README.md"]
    assert "| `tlast_error` |" in readme
    assert "element i of step t is number t * 2 + i of a sample" in readme
    assert "the sum over the 3 time steps of the spike of neuron k of `lif`" in readme
    assert "path has a space" in circuit.source.files["Makefile"]
    targets = set(re.findall(r"^([a-z]+):", circuit.source.files["Makefile"], re.M)) - {"all"}
    assert set(re.findall(r"`make ([a-z]+)`", readme)) == targets
    assert {"`tiny.core`", "`Makefile`"} <= set(re.findall(r"^\| (`[\w.]+`) \|", readme, re.M))


@slow
def test_the_testbench_waits_for_a_whole_sample() -> None:
    """The time steps of a repeated sample pass without an input or a score, 187 cycles each."""
    theta = lnm.param("theta", size=61, init=(0.1, 0.5) + (0.01,) * 59)
    v, x = lnm.state("v"), lnm.input("x")
    deep = lnm.Neuron({v: lnm.poly(v, theta) + x}, v - 1, reset=lnm.hard_reset(v, 0.0), name="deep")
    first, last = (
        WeightStage(
            name, "linear", np.array([[3]]), bits=4, bias=np.array([1]), multiplier=np.array([1]),
            shift=np.array([-6]), accumulator=4, output=Bits(16, 12),
        )
        for name in ("first", "last")
    )  # fmt: skip
    stages = (first, neuron_stage("deep", deep, lnm.Fixed(16, 12), (1,)), last)
    network = require_network(IntegerNetwork("net", 100, True, (1,), SPIKES, stages, "mean"))
    circuit = emit_circuit(network, np.array([[1]]), 1)
    found = re.search(r"PATIENCE = (\d+);", circuit.source.files["tb/net_network_tb.v"])
    (array,) = circuit.arrays.values()
    assert found
    assert int(found[1]) > 100 * array.cycles > 18_000


@needs_verilator
@pytest.mark.parametrize("seed", [1, pytest.param(0, marks=slow), pytest.param(2, marks=slow)])
def test_no_warning(seed: int, tmp_path: Path) -> None:
    network, _, circuit = random_circuit(seed, loadable=seed == 1)
    circuit.source.write(tmp_path)
    command = ["verilator", "--lint-only", "-Wall", "--language", "1364-2005", "--top-module"]
    done = subprocess.run(
        [*command, f"{network.name}_network", *sources(tmp_path)], capture_output=True, text=True
    )
    assert "%" not in done.stderr, done.stderr


@slow
@needs_yosys
def test_other_proofs_read_the_sources(tmp_path: Path) -> None:
    """Yosys defines FORMAL for them; the properties of formal/ need a macro of their own."""
    _, _, circuit = random_circuit(4)
    circuit.source.write(tmp_path)
    command = ["yosys", "-q", "-p", f"read_verilog -formal {' '.join(sources(tmp_path))}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


USER_CORE = """CAPI=2:
name: "user"
filesets:
  rtl:
    files: [user.v]
    file_type: verilogSource
    depend: ["lnm_codegen:networks:{name}"]
targets:
  default:
    filesets: [rtl]
    toplevel: user
    flow: sim
    flow_options: {{tool: icarus, iverilog_options: [-g2005]}}
"""
USER = """
module user;
    {name}_network dut (.clk(1'b0));
    wire weights = ^dut.synapse_0.weights[0] !== 1'bx;
    wire biases = ^dut.synapse_0.biases[0] !== 1'bx;
    initial #1 $display("weights %b biases %b", weights, biases);
endmodule
"""
"""A core that depends on a network, and its module."""


@slow
@needs_iverilog
@needs_verilator
def test_fusesoc_runs_the_targets(tmp_path: Path) -> None:
    """The testbench in Icarus, as a core and as a dependency, and lint; a wrong weight fails."""
    pytest.importorskip("fusesoc")
    network, _, circuit = random_circuit(4)
    circuit.source.write(tmp_path / "cores")

    def run(target: str, core: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fusesoc.main", "--cores-root", "cores", "run"]
        text = (tmp_path / f"cores/{network.name}.core").read_text()
        core = core or re.search(r'^name: "(.*)"$', text, re.M)[1]
        return subprocess.run(
            [*command, f"--target={target}", core],
            cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    (tmp_path / "cores/user.core").write_text(USER_CORE.format(name=network.name))
    (tmp_path / "cores/user.v").write_text(USER.format(name=network.name))
    done = run("default", "user")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "weights 1 biases 1" in done.stdout  # read at the default HEX
    for target in ("sim_network", "lint_network"):
        done = run(target)
        assert done.returncode == 0, (target, done.stdout, done.stderr)
        assert (f"PASS {network.name}_network: " in done.stdout) == (target == "sim_network")
    layer = circuit.layers[0].name
    memory = tmp_path / f"cores/rtl/{network.name}_{layer}_weights.hex"
    memory.write_text("".join(f"{'0' * len(w)}\n" for w in words_of(memory.read_text())))
    assert "FAIL" in run("sim_network").stdout


def changed(folder: Path, path: str, change: Callable[[str], str], loadable: bool = False) -> str:
    """Return the output of the testbench after a change of one file, `{}` its network."""
    network, _, circuit = random_circuit(45 if loadable else 3, loadable=loadable)
    circuit.source.write(folder)
    file = folder / path.format(network.name)
    text = file.read_text()
    file.write_text(change(text))
    return simulated(folder)


def flipped(text: str) -> str:
    """Change the last bit of the last word."""
    *lines, last = words_of(text)
    return "\n".join([*lines, f"{int(last, 16) ^ 1:0{len(last)}x}"])


def replaced(sound: str, faulty: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert sound in text
        return text.replace(sound, faulty)

    return change


READY = "assign s_axis_tready = x_ready"
FAULTS: dict[str, tuple[str, Callable[[str], str], bool]] = {
    "a score": ("tb/{}_results.hex", flipped, False),
    "an input during rst": (
        "rtl/{}_network.v", replaced(f"{READY} && !rst;", f"{READY};"), False
    ),
    **{
        f"load: {name}": (f"rtl/{file}", replaced(sound, faulty), True)
        for name, file, sound, faulty in (
            ("none", "net_network.v", "", ""),
            ("data", "net_w2_synapse.v", "<= load_data[", "<= ~load_data["),
            *((f"no {word}", "net_w2_synapse.v", f"if (load[{k}]) ", "if (1'b0) ")
              for k, word in enumerate(("weights", "biases", "scales"))),
            ("address", "net_w2_synapse.v", "weights[load_address[", "weights[~load_address["),
            ("memory", "net_network.v", "load_memory == 4'd0", "load_memory == 4'd1"),
            ("not idle", "net_network.v", "write = load && idle", "write = load"),
            ("no hold", "net_network.v", "wire held = hold &&", "wire held = 1'b0 &&"),
            ("idle", "net_network.v", "(leaves ? ", "(1'b0 ? "),
        )
    },
}  # fmt: skip
"""One wrong score, an input that `rst` drops, faults of the port that loads weights."""


@needs_iverilog
@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=() if f in ("a score", "load: none") else slow) for f in FAULTS],
)
def test_the_testbench_finds_faults(fault: str, tmp_path: Path) -> None:
    """Weights are loaded over unknown numbers."""
    path, change, loadable = FAULTS[fault]
    word = "PASS" if fault == "load: none" else "FAIL"
    assert f"{word} net_network" in changed(tmp_path, path, change, loadable)


@slow
@needs_iverilog
@pytest.mark.parametrize("word", ["inputs", "results"])
def test_missing_vectors_are_noticed(word: str, tmp_path: Path) -> None:
    """The testbench fails without the last word of a file, and without both files."""
    path, count = f"tb/{{}}_{word}.hex", 0

    def without_last(text: str) -> str:
        nonlocal count
        words = words_of(text)
        count = len(words)
        return "\n".join(words[:-1])

    found = changed(tmp_path, path, without_last)
    assert f"FAIL net_network: 1 of {count} words of net_{word}.hex are missing" in found
    for file in (tmp_path / "tb").glob("*.hex"):
        file.unlink()
    found = simulated(tmp_path)
    assert "PASS" not in found
    assert "FAIL" in found


@slow
@needs_verilator
def test_verilator_refuses_a_part_of_the_inputs(tmp_path: Path) -> None:
    """`make verilate` passes with all golden samples, and fails with a part of them or none."""
    network, _, circuit = random_circuit(1)
    circuit.source.write(tmp_path)
    path = tmp_path / f"tb/{network.name}_inputs.hex"
    words = words_of(path.read_text())

    def run() -> subprocess.CompletedProcess[str]:
        command = ["make", "-s", "verilate"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"PASS {network.name}_network: 4 samples, 0 wrong" in done.stdout
    for count in (3 * len(words) // 4, 0):
        path.write_text("".join(f"{word}\n" for word in words[:count]))
        done = run()
        assert done.returncode != 0
        assert "PASS" not in done.stdout
        assert f"{count} inputs in tb/{path.name}, expected 4 * {len(words) // 4}" in done.stderr


@slow
@needs_verilator
def test_the_activity_of_every_signal(tmp_path: Path) -> None:
    """`make activity` writes a VCD: 10 ns a cycle, with the signals inside the modules."""
    _, _, circuit = random_circuit(1)
    circuit.source.write(tmp_path)
    command = ["make", "-s", "activity"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r"4 samples, 0 wrong, ([0-9.]+) cycles a sample", done.stdout)
    text = (tmp_path / "build/activity.vcd").read_text()
    assert found
    assert "$timescale 1ns" in text
    assert all(f"$scope module synapse_{k} " in text for k in range(len(circuit.layers)))
    head, _, body = text.partition("$enddefinitions")
    (clock,) = {line.split()[3] for line in head.splitlines() if line.split()[4:5] == ["clk"]}
    rises = [line for line in body.splitlines() if line == f"1{clock}"]
    assert len(rises) == pytest.approx(4 * float(found[1]) + 3, abs=1)


def test_other_layers_are_refused() -> None:
    """Initial states that differ, long names; the place is the name of the layer."""
    network, samples, _ = random_circuit.__wrapped__(1)
    neurons = next(s for s in network.stages if isinstance(s, NeuronStage))
    count, initial = size_of(network.shapes()[1]), neurons.initial
    assert count > 1
    object.__setattr__(neurons, "initial", tuple((name, np.arange(count)) for name, _ in initial))
    with refused(UnsupportedError, f"network: {neurons.name}", "initial value", "one value"):
        emit_circuit(network, samples)
    object.__setattr__(neurons, "initial", initial)
    layer = next(s for s in network.stages if isinstance(s, WeightStage))
    object.__setattr__(layer, "name", "w" * 120)  # the longest name that it gives is an array's
    with refused(UnsupportedError, "network net", "has 138 characters", "at most 128"):
        emit_circuit(network, samples)


def test_the_head_states_the_bytes_of_an_input() -> None:
    """Those of the port that the testbench drives."""
    circuit = random_circuit(1)[2]
    text = next(t for n, t in circuit.source.files.items() if n.endswith("_network.v"))
    (stated,) = re.findall(r"bits in (\d+) byte\(s\)", text)
    (width,) = re.findall(r"input +(?:wire +)?\[(\d+):0\] s_axis_tdata", text)
    assert 8 * int(stated) == int(width) + 1


def test_files_depend_on_the_network_alone() -> None:
    assert random_circuit(3)[2].source == random_circuit.__wrapped__(3)[2].source


def test_equal_layers_share_an_array() -> None:
    """Two layers of equal neurons have one array, and two instances."""
    rng, spec = np.random.default_rng(1), lnm.Fixed(12, 8)
    neurons = [neuron_stage(f"n.{k}", lnm.get("lif", tau=3.0), spec, (6,)) for k in range(2)]
    weights = [random_weights(rng, f"w.{k}", (6,), SPIKES, spec.bits, 6) for k in range(3)]
    stages = (weights[0], neurons[0], weights[1], neurons[1], weights[2])
    network = IntegerNetwork("twins", 3, False, (6,), SPIKES, stages, "mean")
    circuit = emit_circuit(require_network(network), random_samples(rng, network, 1))
    assert {p.split("/")[1] for p in circuit.source.files if p.startswith("arrays/")} == {
        "twins_w_0_neurons"
    }
    assert (
        circuit.source.files["rtl/twins_network.v"].count("twins_w_0_neurons_array neurons_") == 2
    )


@pytest.mark.parametrize("is_image", [False, True])
def test_a_repeated_sample_into_a_recurrent_layer_is_refused(is_image: bool) -> None:
    """Nothing repeats its inputs. A flatten before the layer hid that it is the first one."""
    rng, spec = np.random.default_rng(1), lnm.Fixed(12, 8)
    weights = random_weights(rng, "w", (6,), SPIKES, spec.bits, 4, delay=1)
    neurons = neuron_stage("n", lnm.get("lif"), spec, (4,))
    shape, first = ((1, 2, 3), (FlattenStage(),)) if is_image else ((6,), ())
    network = IntegerNetwork("net", 3, True, shape, SPIKES, (*first, weights, neurons), "mean")
    samples = random_samples(rng, require_network(network), 2)
    with refused(UnsupportedError, "network net: w", "receives a repeated sample has no circuit"):
        emit_circuit(network, samples)


POOLED = {
    "a pooling of the input": ((1, 16, 16), 8, "max", None),
    "numbers with spare bits": ((1, 4, 4), 2, "sum", "ternary"),
}
"""Shape of an input, size and kind of a pooling, and the neurons ahead of it behind weights."""


@needs_iverilog
@needs_verilator
@pytest.mark.parametrize("word", POOLED)
def test_a_pooling_keeps_bounds_and_widths(word: str, tmp_path: Path) -> None:
    """A pooling ahead of all weights runs in every step; its numbers may be wider than needed."""
    shape, size, kind, family = POOLED[word]
    rng, spec = np.random.default_rng(4), lnm.Fixed(16, 8)
    ahead, values = [], SPIKES
    if family is not None:
        weights = random_weights(rng, "w", shape, SPIKES, spec.bits, 2)
        made = weights.output_shape(shape)
        ahead = [weights, neuron_stage("n", lnm.get(family), spec, made)]
        values = ahead[-1].values
    pooling = PoolStage(kind, size)
    inner = pooling.output_shape(ahead[0].output_shape(shape) if ahead else shape)
    last = random_weights(
        rng, "r", (size_of(inner),), pooling.output_values(values), Bits(16, 4), 4
    )
    stages = (*ahead, pooling, FlattenStage(), last)
    network = require_network(IntegerNetwork("net", 8, False, shape, SPIKES, stages, "mean"))
    circuit = emit_circuit(network, random_samples(rng, network, 3), 2)
    circuit.source.write(tmp_path)
    printed = simulated(tmp_path)
    assert "PASS net_network" in printed
    assert cycles_of(printed)[0] <= circuit.most_cycles
    command = ["verilator", "--lint-only", "-Wall", "--language", "1364-2005", "--top-module"]
    done = subprocess.run(
        [*command, "net_network", *sources(tmp_path)], capture_output=True, text=True
    )
    assert "%" not in done.stderr, done.stderr
