"""Generated C of networks in integers: equality with NumPy, text, and an emulated Cortex-M4."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.compiler.fixed import neuron_stage
from lnm_codegen.hardware.microcontroller import program_size
from lnm_codegen.hardware.tools import missing
from lnm_codegen.ir.network.interpret import interpret_network, score_rows
from lnm_codegen.ir.network.nodes import SPIKES, IntegerNetwork, WeightStage
from lnm_codegen.ir.network.verify import require_network
from lnm_codegen.ir.types import Bits
from tests.backends.network_c.runs import FLAGS, c_results, emitted
from tests.networks import (
    DRAWS,
    Draw,
    lively_seed,
    random_network,
    random_samples,
    random_weights,
)

slow = pytest.mark.slow


def assert_equal_to_numpy(network: IntegerNetwork, samples: np.ndarray, *given: Any) -> None:
    """Scores and labels of the compiled network are those of NumPy."""
    expected = interpret_network(network, samples)
    scores, labels = c_results(network, samples, *given)
    np.testing.assert_array_equal(scores, score_rows(network, expected.scores))
    own = expected.labels[-1] if network.over == "step" else expected.labels
    np.testing.assert_array_equal(labels, own)


@pytest.mark.parametrize("accumulation", ["events", "dense"])
@pytest.mark.parametrize("drawn", DRAWS)
@pytest.mark.parametrize("seed", [3, *(pytest.param(k, marks=slow) for k in range(100, 112))])
def test_c_is_numpy(seed: int, drawn: Draw, accumulation: str, tmp_path: Path) -> None:
    """Random ones; weights and biases at their ends, sums that saturate, shifts to the left."""
    rng = np.random.default_rng(lively_seed(seed, drawn, 5))
    network = drawn(rng)
    assert_equal_to_numpy(network, random_samples(rng, network, 5), tmp_path, accumulation)


@slow
@pytest.mark.parametrize("accumulation", ["events", "dense"])
def test_no_undefined_behaviour(tmp_path: Path, accumulation: str) -> None:
    """The example of many networks, with samples at the ends of the input too."""
    for seed in range(16):
        rng = np.random.default_rng(seed)
        network = DRAWS[seed % 2 * 2](rng)
        samples = random_samples(rng, network, 6)
        if network.repeated:
            samples[0], samples[1] = network.input.low, network.input.high
        else:
            samples[:, 0], samples[:, 1] = network.input.low, network.input.high
        folder = tmp_path / str(seed)
        emitted(network, samples, accumulation).source.write(folder)
        build = ["gcc", *FLAGS, "-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"]
        build += ["-o", "net", f"{network.name}.c", "main.c"]
        assert "0 of 6 samples differ" in ran(folder, build, ["./net"])


@slow
def test_many_networks_on_the_emulated_cortex_m4(tmp_path: Path) -> None:
    if problem := missing("arm-none-eabi-gcc", "qemu-system-arm"):
        pytest.skip(problem)
    for seed in range(15):
        rng = np.random.default_rng(100 + seed)
        network = DRAWS[seed % 2 * 2](rng)
        folder = tmp_path / str(seed)
        emitted(network, random_samples(rng, network, 8)).source.write(folder)
        assert "0 of 8 samples differ" in ran(folder, ["make", "qemu"])


def of_stages(name: str, *stages: Any) -> IntegerNetwork:
    """Return a network of three time steps, from spikes."""
    shape = (stages[0].weight.shape[1],)
    return require_network(IntegerNetwork(name, 3, False, shape, SPIKES, stages, "mean"))


def test_neurons_without_memory(tmp_path: Path) -> None:
    """The step does not read the state; the C has no warning and the results of NumPy."""
    rng, spec = np.random.default_rng(2), lnm.Fixed(12, 8)
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: 0.5 * x}, fire=v - 0.25, reset={v: 0.0}, name="memoryless")
    weights = [random_weights(rng, f"w{k}", (6,), SPIKES, spec.bits, 6) for k in range(2)]
    network = of_stages("net", weights[0], neuron_stage("n", neuron, spec, (6,)), weights[1])
    assert_equal_to_numpy(network, random_samples(rng, network, 5), tmp_path)
    text = (tmp_path / "net.c").read_text()
    assert "    (void)v;\n" in text
    assert "#if INT_MAX < 2147483647\n#error " in text


NAMES = """result_1 INT_MAX INT64_C FIXED_POINT_FUNCTION FIXED_HALF_UP_32 FIXED_SATURATE_32
    OWN_TIME_STEPS OWN_INPUTS OWN_CLASSES OWN_SCORES OWN_SAMPLES OWN_H OWN_TABLES_H OWN_VECTORS_H
    int32_t result neuron_1 x stage_1 scores own_run own_input""".split()


@pytest.mark.parametrize("first", [0, *(pytest.param(k, marks=slow) for k in range(1, len(NAMES)))])
def test_names_of_a_neuron_that_the_code_has(first: int, tmp_path: Path) -> None:
    """gcc refused result_<k> and the macros of the network as names of a state or an output."""
    rng, spec = np.random.default_rng(2), lnm.Fixed(12, 8)
    state, x, output = (NAMES[first - k] for k in range(3))
    v = lnm.state(state)
    neuron = lnm.Neuron({v: 0.5 * v + lnm.input(x)}, output={output: v}, name="plain")
    weights = random_weights(rng, "w0", (6,), SPIKES, spec.bits, 6)
    network = of_stages("own", weights, neuron_stage("n", neuron, spec, (6,)))
    assert_equal_to_numpy(network, random_samples(rng, network, 5), tmp_path)
    headers = (path.read_text() for path in tmp_path.glob("*.[ch]"))
    macros = {m for text in headers for m in re.findall(r"^ *#define (\w+)", text, re.M)}
    assert macros - {"COUNT_TICKS"} <= {*NAMES}


def test_truncation_of_more_bits_than_an_int(tmp_path: Path) -> None:
    """A product with a constant fits 32 bits and loses 32: C shifts an int32_t by less."""
    v, w, x = lnm.state("v"), lnm.state("w", init=0.75), lnm.input("x")
    b = lnm.param("b", init=0.0001, learnable=False)
    charge, reset = {v: 0.5 * v + x + w, w: b * w}, lnm.hard_reset(v, 0.0)
    neuron = lnm.Neuron(name="slow", charge=charge, fire=v - 0.9, reset=reset)
    forms = {"b": lnm.Fixed(32, 31), "w": lnm.Fixed(13, 12, "truncate")}
    spec = lnm.FixedSpec(lnm.Fixed(16, 11, "truncate"), forms)
    rng = np.random.default_rng(1)
    weights = random_weights(rng, "dense", (2,), SPIKES, Bits(16, 11), 2)
    network = of_stages("tiny", weights, neuron_stage("slow", neuron, spec, (2,)))
    assert_equal_to_numpy(network, random_samples(rng, network, 8), tmp_path)
    text = (tmp_path / "tiny.c").read_text()
    assert re.search(r"fixed_truncate_64\(214748 .* \* w,\s+32\)", text)


def ran(folder: Path, *commands: Any) -> str:
    """Run commands, the last of which prints."""
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("shift", [(-31, 20), (-31,)])
def test_a_left_shift_of_a_sum_that_is_zero(shift: tuple[int, ...], tmp_path: Path) -> None:
    """1 << 31 is undefined for an int32_t, which was wide enough for the sums."""
    one, weight = np.array([1]), np.array([[0, 0], [3, 1]]) * (len(shift) > 1)
    stage = WeightStage(
        "w", "linear", weight, bits=4, bias=0 * np.array([1, 1]), multiplier=one,
        shift=np.array(shift), accumulator=4, output=Bits(8, 0),
    )  # fmt: skip
    network = IntegerNetwork("net", 2, False, (2,), SPIKES, (stage,), "mean")
    samples = np.ones((2, 1, 2), int)
    emitted(require_network(network), samples).source.write(tmp_path)
    build = ["gcc", *FLAGS, "-fsanitize=undefined", "-fno-sanitize-recover=all", "-o", "net"]
    assert "0 of 1 samples differ" in ran(tmp_path, [*build, "net.c", "main.c"], ["./net"])


def test_the_ticks_of_all_samples_are_added(tmp_path: Path) -> None:
    """Their sum was one of 32 bits, so that the mean of many long samples was too small."""
    rng = np.random.default_rng(8)
    network = random_network(rng)
    emitted(network, random_samples(rng, network, 2)).source.write(tmp_path)
    (tmp_path / "ticks.c").write_text(
        "#include <stdint.h>\nuint32_t ticks(void);\nuint32_t ticks(void) {\n"
        "    static uint32_t calls = 0;\n    return ++calls / 2 * 3000000000u;\n}\n"
    )
    build = ["gcc", *FLAGS, "-DCOUNT_TICKS", "-o", "net", f"{network.name}.c", "main.c", "ticks.c"]
    assert "120000000000 instructions a sample" in ran(tmp_path, build, ["./net"])


def test_files_depend_on_the_network_alone() -> None:
    rng = np.random.default_rng(8)
    network = random_network(rng)
    samples = random_samples(rng, network, 2)
    assert emitted(network, samples) == emitted(network, samples)


def test_two_networks_in_one_program(tmp_path: Path) -> None:
    """With different names they share no symbol and no memory."""
    rng = np.random.default_rng(5)
    folders = []
    for name in ("first", "second"):
        network = replace(random_network(rng, name), over="mean")
        folders.append(tmp_path / name)
        emitted(network, random_samples(rng, network, 2)).source.write(folders[-1])
    includes = "".join(f'#include "{f.name}.h"\n#include "{f.name}_vectors.h"\n' for f in folders)
    program = tmp_path / "both.c"
    program.write_text(
        f"#include <string.h>\n{includes}"
        "#define WRONG(n) memcmp(n##_scores(), n##_sample_scores[s], sizeof n##_sample_scores[s])\n"
        "int main(void) {\n    int wrong = 0;\n    for (int s = 0; s < 2; ++s) {\n"
        "        first_run(first_sample_inputs[s]);\n        second_run(second_sample_inputs[s]);\n"
        "        wrong |= WRONG(first) | WRONG(second);\n    }\n    return wrong != 0;\n}\n"
    )
    sources = [program, *(f / f"{f.name}.c" for f in folders)]
    command = ["gcc", *FLAGS, *(f"-I{f}" for f in folders), "-o", tmp_path / "both", *sources]
    ran(tmp_path, command, ["./both"])
    assert "must not be a null pointer" in (folders[0] / "first.h").read_text()


def test_a_name_that_hides_another_file() -> None:
    """A header of C, a file, a folder, a target: `all` and `run` were circular dependencies once.

    The executable has the name of the network.
    """
    rng = np.random.default_rng(8)
    network = random_network(rng)
    samples = random_samples(rng, network, 2)
    files = emitted(network, samples).source.files
    targets = re.search(r"^\.PHONY: (.*)$", files["Makefile"], re.M)[1].split()
    parts = {word.lower() for path in files for word in (Path(path).parts[0], Path(path).stem)}
    own = {word for word in parts if not word.startswith(network.name)} - {"readme"}
    assert own >= {"main", "makefile", "cortex_m4"}
    for name in (*targets, "main", "makefile", "cortex_m4", "string"):
        with pytest.raises(lnm.UnsupportedError, match=f"^emit: {name}: .* Give another name"):
            emitted(replace(network, name=name), samples)


def test_the_step_of_one_neuron_on_a_cortex_m4() -> None:
    """`<name>_model_step.h` of a neuron compiles alone, to some hundred bytes."""
    if problem := missing("arm-none-eabi-gcc"):
        pytest.skip(problem)
    source = lnm.emit(lnm.get("lif"), "c", spec=lnm.Fixed(16, 12))
    files = {"lif_model_step.h": source.files["lif_model_step.h"]}
    files["step.c"] = (
        '#include "lif_model_step.h"\n'
        "lif_model_result step(int32_t v, int32_t x, int32_t theta, int32_t p0, int32_t k) {\n"
        "    return lif_model_step(v, x, theta, p0, k);\n}\n"
    )
    size = program_size(files, "step.c")
    assert size is not None
    assert size.code <= 184
    assert size.constants == size.memory == 0
