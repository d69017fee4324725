"""`lnm deploy RUN` and `lnm quantize RUN`: from a run folder to a network in C."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lnm_codegen.cli import run as command
from lnm_codegen.deploy.integers import search
from lnm_codegen.deploy.integers.convert import integer_samples
from lnm_codegen.deploy.integers.emit import input_scale, input_section
from lnm_codegen.deploy.integers.search import IntegerAccuracy
from lnm_codegen.hardware.tools import missing
from lnm_codegen.ir.network.exchange import read_network
from lnm_codegen.ir.network.interpret import interpret_network
from lnm_codegen.ir.network.nodes import SPIKES, IntegerNetwork
from lnm_codegen.train import load, load_run, run
from tests.backends.verilog.runs import needs_iverilog, needs_verilator
from tests.cli.conftest import DENSE, Call
from tests.hexadecimal import words_of
from tests.refusals import assert_line


@pytest.fixture(scope="module")
def emitted(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the network, and what the command printed."""
    out = tmp_path_factory.mktemp("net")
    words = ["deploy", runs / "dense", "--backend", "c", "--out", out]
    with redirect_stdout(io.StringIO()) as printed:
        assert command([str(word) for word in words]) == 0
    return out, printed.getvalue()


def test_a_network_of_a_run(runs: Path, emitted: tuple[Path, str]) -> None:
    """DIR itself is the folder; bytes and accuracy are printed; every file has the licence."""
    folder, printed = emitted
    assert {p.name for p in folder.iterdir()} == {
        "network.json", "network.npz", "digits_lif.c", "digits_lif.h", "digits_lif_tables.h",
        "digits_lif_vectors.h", "main.c", "Makefile", "README.md", "cortex_m4", "run.json",
        "input.json",
    }  # fmt: skip
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in (".json", ".npz"):
            text = path.read_text()
            assert "SPDX-License-Identifier: 0BSD" in text
            assert "`digits_lif`" in text
            assert path.name == "README.md" or str(folder) not in text
    source = (folder / "digits_lif.c").read_text()
    code = re.sub(r"//[^\n]*|/\*.*?\*/|#[^\n]*", "", source, flags=re.S)
    assert not re.search(r"malloc|float|double|/|%", code)
    network = read_network(folder)
    found = load_run(runs / "dense")
    x, labels = next(found.data.batches(found.data.test, 400))
    own = interpret_network(network, integer_samples(network, x.numpy())).labels
    share = 100 * np.mean(own == labels.numpy())
    assert f"integers {share:.2f} %" in printed
    numbers = re.search(r"constants (\d+) bytes, RAM (\d+) bytes", printed)
    assert numbers
    tables = (folder / "digits_lif_tables.h").read_text()
    sizes = re.findall(r"const int(\d+)_t \w+\[(\d+)\]", tables)
    assert int(numbers[1]) == sum(int(w) // 8 * int(n) for w, n in sizes)
    static = re.findall(r"^static int(\d+)_t \w+\[(\d+)\];", source, re.M)
    assert int(numbers[2]) == sum(int(w) // 8 * int(n) for w, n in static)


def test_the_readme_has_the_run_and_its_accuracy(emitted: tuple[Path, str]) -> None:
    """And the command prints few lines: the number of files, sizes, the same accuracy."""
    folder, printed = emitted
    lines = printed.splitlines()
    count = sum(path.is_file() for path in folder.rglob("*"))
    assert (len(lines), lines[0]) == (4, f"{count} files written to {folder}")
    text = (folder / "README.md").read_text()
    assert text.index("\n## Run\n") < text.index("\n## Build and run\n")
    accuracy = lines[-1].removeprefix("accuracy: ")
    assert accuracy.startswith("float ")
    for row in (
        "| run | `dense` |",
        "| neuron | `lif` |",
        "| network | `feedforward` with `hidden=(24,), time_steps=3` |",
        "| data | `digits` |",
        f"| accuracy | {accuracy}, when this folder was written |",
    ):
        assert row in text.splitlines()
    assert "    fire    spike = [v - v_threshold >= 0]" in text
    assert "A sample is one time step; the network repeats it 3 times." in text
    table = text.split("\n## Folder\n")[1].split("\n## ")[0]
    named = {name.rstrip("/") for name in re.findall(r"`([\w./]+)`", table)}
    assert named >= {p.name for p in folder.iterdir()} - {"README.md"}


def integers_of(readme: str, raw: np.ndarray) -> np.ndarray:
    """Return the integers of values of the data by the formula in a README."""
    text = readme.split("\n## Input\n")[1].split("\n## ")[0]
    assert f"A value r of the data, {raw.min():g} to {raw.max():g} in the test samples" in text
    mean, deviation = re.search(r"^    a = \(r - (\S+)\) / (\S+)$", text, re.M).groups()
    form = r"^    k = floor\(a \* 2\^(\d+) \+ 1/2\), saturated to (\S+) to (\S+)$"
    frac, low, high = map(int, re.search(form, text, re.M).groups())
    a = (raw.astype(np.float32) - np.float32(mean)) / np.float32(deviation)
    return np.clip(np.floor(a.astype(np.float64) * 2**frac + 0.5), low, high).astype(int)


def test_the_readme_has_the_formula_of_the_input(emitted: tuple[Path, str]) -> None:
    """Values of the data give the integers of the vectors. No file had mean and deviation once."""
    folder, _ = emitted
    raw = load("digits", limit=400).test.images.numpy()
    text = (folder / "digits_lif_vectors.h").read_text()
    rows = re.search(r"sample_inputs\[4\]\[64\] = \{(.*?)\};", text, re.S)[1]
    own = np.array(re.findall(r"-?\d+", rows), int).reshape(4, 64)
    readme = (folder / "README.md").read_text()
    assert np.array_equal(integers_of(readme, raw)[:4].reshape(4, 64), own)
    found = json.loads((folder / "input.json").read_text())
    (mean,), (deviation,) = found["mean"], found["deviation"]
    assert (found["data"], found["raw"]) == ("digits", [0, 16])
    assert f"    a = (r - {mean}) / {deviation}\n" in readme


def test_the_formula_of_other_inputs(emitted: tuple[Path, str]) -> None:
    """One number, one for each channel, a division alone, no normalisation, spikes."""
    network = replace(read_network(emitted[0]), input_shape=(2, 2, 3))
    samples = torch.tensor([[0, 255]], dtype=torch.uint8)

    def section(mean: list[float], deviation: float, network: IntegerNetwork = network) -> str:
        scale = torch.tensor(mean).view(-1, 1, 1), torch.tensor(deviation)
        return input_section(input_scale("some", scale, samples), network)

    k = r"k = floor\({} \* 2\^\d+ \+ 1/2\), saturated to"
    text = section([0.1, 3.5], 2.0)
    assert re.search(rf"\n    a = \(r - mean\) / deviation\n    {k.format('a')}", text)
    assert "\n| 0 to 5 | 0.1 | 2 |\n| 6 to 11 | 3.5 | 2 |\n" in text
    assert "\n    a = r / 255\n" in section([0.0], 255.0)
    text = section([0.0], 1.0)
    assert "The samples of `some` are not normalised." in text
    assert re.search(rf"\n\n    {k.format('r')}", text)
    assert "float32" not in text
    assert "\n\n    k = r\n" in section([0.0], 1.0, replace(network, input=SPIKES))


def test_the_example_on_the_host(emitted: tuple[Path, str]) -> None:
    done = subprocess.run(["make", "-C", emitted[0], "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 of 4 samples differ" in done.stdout


def test_the_example_on_an_emulated_cortex_m4(emitted: tuple[Path, str]) -> None:
    """The same scores, the instructions of a sample, and the printed bytes of the code."""
    if problem := missing("arm-none-eabi-gcc", "qemu-system-arm"):
        pytest.skip(problem)
    folder, printed = emitted
    done = subprocess.run(
        ["make", "-C", folder, "qemu", "size"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "0 of 4 samples differ" in done.stdout
    count = re.search(r"(\d+) instructions a sample", done.stdout)
    assert count
    assert 1000 < int(count[1]) < 200_000
    code = sum(int(n) for n in re.findall(r"^\.text\S*\s+(\d+)", done.stdout, re.M))
    assert abs(code - int(re.search(r"code (\d+) bytes", printed)[1])) <= 64


def test_mistakes(runs: Path, tmp_path: Path, refuses: Callable[[str], None]) -> None:
    (tmp_path / "dense").symlink_to(runs / "dense")
    (tmp_path / "file").write_text("")
    refuses(MISTAKES)


MISTAKES = """
emit dense --out o
    --weights 4 >> lnm emit: No such option: --weights >> lnm emit --help
deploy dense --out o
    --backend c --format 4.3 >> layers.0.neuron: lif: parameter 'v_threshold' is 1 >> Give more
    --backend c --format none.toml >> none.toml: no such file
    --backend c --format "" >> --format '':
    --backend c --format 16 >> --format '16':
    --backend c --format 16. >> --format '16.':
    --backend c --format Q4.12.1 >> --format 'Q4.12.1':
    --backend c --format 99.1 >> --format '99.1':
    --backend c --format 1.1 >> --format '1.1':
    --backend c --format 16.40 >> --format '16.40':
    --backend c --format nan >> --format 'nan':
    --backend c --format "16.12;x" >> --format '16.12;x':
    --backend c --name main >> network: name is 'main'
    --backend c --name 9 >> --name '9': not an identifier
    --backend c,verilog >> deploy: --backend is 'c,verilog' >> 'c', 'verilog'
    --backend verilog --accumulate dense >> deploy: --accumulate with --backend verilog >>
        --backend c >> Omit
    --backend c --lanes 2 >> deploy: --lanes with --backend c >> --backend verilog >> Omit
    --backend c --load-port >> deploy: --load-port with --backend c >> --backend verilog >> Omit
    --backend verilog --lanes=65 >> deploy: --lanes is 65 >> 1 to 64
    --backend verilog --neurons-per-cycle=0 >> deploy: --neurons-per-cycle is 0 >> 1 to 16
    --backend verilog --lanes=0 >> deploy: --lanes is 0 >> 1 to 64
    --backend verilog --vectors 0 >> deploy: --vectors is 0 >> 1 to 10000
    --backend verilog --vectors 361 --all >> deploy: --vectors is 361 >> 1 to 360, the number of
        test samples.
deploy
    none --out o --backend c >> run: >> no such folder
    file --out o --backend c >> run: >> not a folder
quantize
    if --x 2,1 >> --x '2,1': not an interval. Accepted: a number X >= 0 for -X,X, or
    if --x y=1,2 >> --x 'y=1,2': no 'y'. Accepted: x.
    lif --lost 1 >> quantize: --lost is for a run >> Omit --lost
    dense --mismatch 0.1 --epochs 1 >> quantize: --epochs is for a run and its accuracy
    dense --degree 1 >> quantize: >> is a run, which has its neurons >> Omit --degree.
    dense --error 0.1 --x 1 >> quantize: >> is a run, which has its neurons >> Omit --x.
    dense --rounding truncate >> quantize: --rounding is for a search >> or omit --rounding.
    dense --most 16 >> quantize: --most is for a search >> or omit --most.
    dense --scheme estrin >> quantize: --scheme is for a search >> or omit --scheme.
    dense/x --lost 1 >> quantize: >> no such folder
"""


def test_the_old_spelling(
    runs: Path, emitted: tuple[Path, str], tmp_path: Path, call: Call
) -> None:
    """It writes the same folder, and says what its verb is now."""
    words = ["emit", "--backend=c", f"--run={runs / 'dense'}", "--network", "--out", tmp_path]
    status, out, err = call(*words)
    assert status == 0
    assert out.replace(str(tmp_path), str(emitted[0])) == emitted[1]
    assert err == "note: since 0.3 this is lnm deploy; see lnm deploy --help.\n"
    for name in ("network.json", "digits_lif.c"):
        assert (tmp_path / name).read_text() == (emitted[0] / name).read_text()


def test_dense_sums_have_the_same_scores(runs: Path, tmp_path: Path, call: Call) -> None:
    words = ["deploy", runs / "dense", "--backend", "c", "--weights", "5", "--accumulate", "dense"]
    assert call(*words, "--name", "other", "--out", tmp_path)[0] == 0
    assert (tmp_path / "other.c").exists()
    assert json.loads((tmp_path / "network.json").read_text())["stages"][0]["bits"] == 5
    done = subprocess.run(["make", "-C", tmp_path, "run"], capture_output=True, text=True)
    assert "0 of 4 samples differ" in done.stdout


def test_quantize_chooses_for_an_accuracy(runs: Path, tmp_path: Path, call: Call) -> None:
    """The report is on other samples than the search; the folder is what emit takes."""
    words, out = tmp_path / "words", tmp_path / "net"
    given = ["quantize", runs / "dense", "--lost", "10", "--samples", "120", "--out", words]
    status, text, _ = call(*given, "--json")
    found = json.loads(text)
    assert status == 0
    assert found["chosen"]["samples"] == found["reported"]["samples"] == 60
    assert found["chosen"]["points_lost"] <= found["chosen"]["points_broken"] <= 10
    assert sorted(p.name for p in words.iterdir()) == [
        "layers.0.neuron.toml", "network.json", "network.npz", "readout.neuron.toml", "run.json",
    ]  # fmt: skip
    network = read_network(words)
    saved = load_run(runs / "dense")
    x, labels = next(saved.data.batches(saved.data.test, 120))
    own = interpret_network(network, integer_samples(network, x.numpy())).labels == labels.numpy()
    assert np.mean(own[0::2]) == pytest.approx(found["chosen"]["accuracy_integers"])
    assert np.mean(own[1::2]) == pytest.approx(found["reported"]["accuracy_integers"])
    net = ["deploy", runs / "dense", "--backend", "c", "--out", out, "--format", words]
    assert call(*net)[0] == 0
    assert (out / "network.json").read_text() == (words / "network.json").read_text()
    again = [*net[:-3], tmp_path / "again", "--format", out]
    assert call(*again)[::2] == (0, "")  # a folder of emit has run.json too
    layer = words / "readout.neuron.toml"
    text = layer.read_text()

    def refuse(line, *parts):
        status, _, err = call(*line)
        assert status == 2
        assert_line(err, *parts)

    refuse([*net, "--weights", "8"], "deploy: --weights with --format", "Omit --weights")
    layer.write_text('default = "24.14"\n')
    refuse(net, f"{layer}: its formats are not those of network.json", "Run lnm quantize")
    layer.write_text(text)
    for changed, problem in (
        ({"seed": 7}, "it was made from other weights than the run's"),
        ({"network_arguments": {"hidden": (20,), "time_steps": 3}}, "and the run has layers.0"),
    ):
        other = tmp_path / next(iter(changed))
        run(replace(DENSE, epochs=1, **changed), other, data=load("digits", limit=400))
        mixed = ["deploy", other, *net[2:-3], tmp_path / "mixed", "--format", words]
        refuse(mixed, f"--format {words}: ", problem, "lnm quantize wrote for this run")
    assert not (tmp_path / "mixed").exists()
    (words / "run.json").unlink()
    (out / "run.json").unlink()
    note = f"note: --format {words} has no run.json: its weights were not compared with the run.\n"
    assert call(*net)[::2] == (0, note)
    assert not (out / "run.json").exists()


def test_the_last_batch_may_have_one_sample(
    runs: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second sample of each batch is searched on; an empty half was an error once."""
    monkeypatch.setattr("lnm_codegen.cli.quantize.RANGED", 40)
    given = ["quantize", runs / "dense", "--lost", "60", "--samples", "41", "--json"]
    found = json.loads(call(*given)[1])
    assert (found["chosen"]["samples"], found["reported"]["samples"]) == (21, 20)


def test_a_run_that_holds_out_samples(tmp_path: Path, call: Call) -> None:
    """The search uses the held-out samples; every report is on the test set."""
    held_out, words, net = (tmp_path / name for name in ("run", "words", "net"))
    run(replace(DENSE, validation=60, epochs=1), held_out)
    given = ["quantize", held_out, "--lost", "10", "--json", "--out", words]
    status, out, _ = call(*given)
    found = json.loads(out)
    assert status == 0
    data, network = load("digits", limit=400), read_network(words)
    x, labels = next(data.batches(data.test, 400))
    own = interpret_network(network, integer_samples(network, x.numpy())).labels
    share = 100 * float(np.mean(own == labels.numpy()))
    assert (found["chosen"]["samples"], found["reported"]["samples"]) == (60, len(labels))
    assert 100 * found["reported"]["accuracy_integers"] == pytest.approx(share)
    emit = ["deploy", held_out, "--backend", "c", "--out", net, "--format", words]
    assert f"integers {share:.2f} %" in call(*emit)[1]


def test_every_test_sample(
    runs: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--all lifts the limit of the samples that are kept; --vectors sets those of a testbench."""
    monkeypatch.setattr("lnm_codegen.cli.deploy.TESTED", 50)
    words = ["deploy", runs / "dense", "--backend", "verilog", "--vectors"]
    for more, count in (((), 50), (("--all",), 360)):
        status, out, _ = call(*words, "3", *more, "--out", tmp_path)
        assert status == 0
        assert f" on {count} samples" in out
        with np.load(tmp_path / "tb/samples.npz") as kept:
            assert len(kept["x"]) == count
    (path,) = tmp_path.glob("tb/digits_lif_????????_inputs.hex")  # once, with its digest
    inputs = words_of(path.read_text())
    own = integers_of((tmp_path / "README.md").read_text(), load("digits").test.images.numpy())
    assert [int(word, 16) for word in inputs] == (own[:3].reshape(-1) % (1 << 16)).tolist()
    status, _, err = call(*words, "51", "--out", tmp_path / "o")
    assert status == 2
    assert_line(err, "deploy: --vectors is 51", "1 to 50, the number of test samples", "Add --all")
    assert not (tmp_path / "o").exists()


@needs_iverilog
def test_other_numbers_of_a_circuit(runs: Path, tmp_path: Path, call: Call) -> None:
    """--reload writes what the port of --load-port loads; `make reload` compares the scores."""
    net, image = tmp_path / "net", tmp_path / "image"
    words = ["deploy", runs / "dense", "--backend", "verilog"]
    assert call(*words, "--load-port", "--axi", "--vectors", "2", "--out", net)[0] == 0
    name = json.loads((net / "manifest.json").read_text())["name"]
    assert (net / f"rtl/{name}_axi.v").is_file()
    status, out, _ = call(*words, "--reload", net, "--out", image)
    assert status == 0
    assert f"{name}: " in out
    assert f" writes for the load port of {name}" in out
    own = (image / f"{name}_load.hex").read_bytes()
    assert own == (net / f"tb/{name}_load.hex").read_bytes()
    done = subprocess.run(
        ["make", "-s", "sim", "reload", f"IMAGE={image}"], cwd=net, capture_output=True, text=True
    )
    assert [f"PASS {name}_{form}" in done.stdout for form in ("network", "axi")] == [True, True]
    assert done.stdout.count(f"PASS {name}_network") == 2, done.stderr
    missing = subprocess.run(["make", "-s", "reload"], cwd=net, capture_output=True, text=True)
    assert "make reload: IMAGE is ''. Accepted: a folder of lnm deploy" in missing.stderr


@needs_iverilog
@needs_verilator
def test_the_mean_cycles_are_measured(runs: Path, tmp_path: Path, call: Call) -> None:
    """On every kept test sample; the README, the manifest and the output state the same."""
    words = ["deploy", runs / "dense", "--backend", "verilog", "--vectors", "8", "--measure"]
    status, out, err = call(*words, "--out", tmp_path / "net")
    assert status == 0, err
    form = json.loads((tmp_path / "net/manifest.json").read_text())["forms"]["network"]
    mean = form["measured"]
    assert mean["samples"] == 360
    assert 0 < mean["cycles"] <= form["interval"]
    assert f", {mean['cycles']} measured between samples;" in out
    text = (tmp_path / "net/README.md").read_text()
    assert f"mean interval is {mean['cycles']} cycles, of 360 test samples" in text
    status, _, err = call(*words[:3], "c", *words[6:], "--out", tmp_path / "c")
    assert status == 2
    assert_line(err, "deploy: --measure without a circuit", "--backend verilog", "Omit --measure")


def test_a_reload_is_refused(runs: Path, tmp_path: Path, call: Call) -> None:
    """Options that the circuit determines, folders without a load port, other layers."""
    net, fixed, out = tmp_path / "net", tmp_path / "fixed", tmp_path / "image"
    words = ["deploy", runs / "dense", "--backend", "verilog", "--vectors", "1", "--out"]
    assert call(*words, net, "--load-port")[0] == call(*words, fixed)[0] == 0
    given = ["deploy", runs / "dense", "--backend", "verilog", "--out", out, "--reload"]
    for more, parts in {
        (net, "--lanes", "2"): ("deploy: --lanes with --reload", "Omit --lanes"),
        (net, "--axi"): ("deploy: --axi with --reload", "Omit --axi"),
        (fixed,): ("deploy: --reload ", "no circuit with a load port", "--load-port"),
        (tmp_path,): ("deploy: --reload", "manifest.json"),
    }.items():
        status, _, err = call(*given, *more)
        assert status == 2
        assert_line(err, *parts)
    before = sorted(net.rglob("*"))
    status, _, err = call(*words, net / ".." / "net", "--reload", net)
    assert status == 2
    assert_line(err, "deploy: --vectors with --reload", "Omit --vectors")
    status, _, err = call(*words[:-3], "--out", net / ".." / "net", "--reload", net)
    assert status == 2
    assert_line(err, "deploy: --out ", "is the circuit of --reload", "another folder")
    assert sorted(net.rglob("*")) == before
    status, _, err = call(*given[:1], runs / "few", *given[2:], net)
    assert status == 2
    assert_line(err, "reload: the run has layers ", ", as in the circuit")
    status, _, err = call("deploy", runs / "dense", "--backend", "c", "--axi", "--out", out)
    assert status == 2
    assert_line(err, "deploy: --axi with --backend c", "--backend verilog")
    assert not out.exists()


def test_quantize_fine_tunes(runs: Path, call: Call) -> None:
    given = ["quantize", runs / "dense", "--lost", "5", "--samples", "100", "--weights", "2"]
    status, out, err = call(*given, "--epochs", "2", "--scale", "layer")
    target = re.findall(r"samples.*: +([0-9.]+) %, \d+ samples \(target 5 %, ", out)
    assert len(target) == 2
    missed = float(target[0]) > 5
    assert status == (3 if missed else 0)
    assert ("the target is missed" in err) == missed
    assert re.search(r"fine-tuned: (the best of 2 epochs is [12]|none of 2 epochs)", out)
    assert out.count(" 2 bits, accumulator") == 2
    assert len(re.findall(r"points (?:lost|gained) on 50 samples", out)) == 2
    assert "epoch 2/2" in err


def test_a_start_that_no_epoch_improves_is_kept(
    runs: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heading says so."""
    whole = search.is_correct_in_integers

    def fake(scores: tuple[int, ...]) -> None:
        """Give the command scores of 50 samples; the search of widths has its own."""
        found = (np.arange(50) < n for n in scores)

        def correct(*given: Any) -> Any:
            is_command = sys._getframe(1).f_globals["__name__"].startswith("lnm_codegen.cli")
            return next(found) if is_command else whole(*given)

        monkeypatch.setattr(search, "is_correct_in_integers", correct)

    given = ["quantize", runs / "dense", "--lost", "5", "--samples", "100", "--epochs", "1"]
    fake((9, 10, 40, 40))
    assert "the best of 1" in call(*given)[1]
    fake((9, 9, 40, 40))
    assert "not fine-tuned: none of 1 epochs" in call(*given)[1]
    fake((9, 9, 40, 40))
    shown = json.loads(call(*given, "--json")[1])
    assert shown["fine_tuning"] == {"epochs": 1, "kept_epoch": 0}


def test_a_missed_target_is_no_success(
    runs: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are written, one line says by how much, and the exit status is 3."""
    accuracy = "lnm_codegen.deploy.integers.search.integer_accuracy"
    given = ["quantize", runs / "dense", "--lost", "5", "--samples", "100"]
    for broken, expected in ((6, 3), (2, 0)):
        found = iter((IntegerAccuracy(50, 40, 38, broken), IntegerAccuracy(50, 40, 37, 4)))
        monkeypatch.setattr(accuracy, lambda *_, found=found: next(found))
        status, out, err = call(*given, "--out", tmp_path / str(broken))
        assert status == expected
        lines = out.splitlines()
        bound = "(target 5 %, that is, at most 2 of 50 samples)"
        line = f"  samples of the search: {2 * broken}.00 %, {broken} samples {bound}"
        assert line in lines
        line = f"  other samples:         8.00 %, 4 samples {bound}; the target bounds"
        assert any(x.startswith(line) for x in lines)
        assert (tmp_path / str(broken) / "network.json").is_file()
        if status:
            assert_line(err, "quantize: the target is missed: 12.00 %", "5 % allowed", "--weights")


def test_quantize_takes_a_family_before_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """As `lnm analyze` does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "if").mkdir()
    (tmp_path / "file").write_text("")
    status, out, err = call("quantize", "if", "--error", ".1")
    assert status == 0
    assert "\nif: " in out
    assert err == "note: if is the family; give ./if for the folder.\n"
    status, _, err = call("quantize", "if", "--error", ".1", "--out", "file/out")
    assert status == 2
    assert_line(err.splitlines()[1], "quantize: cannot write file/out", "Not a directory")


def test_a_network_in_verilog(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DIR itself is the folder of `lnm verify`; golden vectors are the run's own test samples."""
    monkeypatch.chdir(runs)
    out = tmp_path / "a net"
    words = ("deploy", "dense", "--backend", "verilog", "--vectors", "3",
             "--load-port", "--out", f"{out}")  # fmt: skip
    assert command(words) == 0
    line = (out / "README.md").read_text().split("```sh\n")[1].partition("\n")[0]
    assert line.startswith("lnm deploy dense --backend verilog --vectors 3 --load-port")
    assert shlex.split(line)[1:] == list(words)
    printed = capsys.readouterr().out
    files = sum(path.is_file() for path in out.rglob("*"))
    assert printed.startswith(f"{files} files written to {out}\n")
    assert "\n## Run\n" in (out / "README.md").read_text()
    assert "cycles an event: layers.0.linear 6, readout.linear 4" in printed
    parts = {p.name for p in out.iterdir()}
    assert parts >= {"rtl", "arrays", "tb", "formal", "model", "manifest.json", "network.json"}
    for path in out.rglob("*"):
        if path.suffix in (".v", ".py", ".cpp", ".sby", ".core", ".c"):
            assert "SPDX-License-Identifier: 0BSD" in path.read_text()
    network, found = read_network(out), load_run(runs / "dense")
    x, _ = next(found.data.batches(found.data.test, 1))
    golden = [int(w, 16) for w in words_of((out / f"tb/{network.name}_inputs.hex").read_text())]
    first = integer_samples(network, x.numpy()).reshape(-1)
    np.testing.assert_array_equal(np.array(golden[: first.size], np.uint16).view(np.int16), first)
    assert command(["verify", str(out), "--only", "model", "--allow-missing"]) == 0
    assert "model      passed" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command(["verify", str(out), "--only", "lint"]) == 3
    assert "incomplete, tools are missing in lint" in capsys.readouterr().out
    assert command(["verify", str(out), "--only", "lint", "--allow-missing"]) == 0
