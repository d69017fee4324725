"""`lnm deploy RUN` and `lnm quantize RUN`: from a run folder to a network in C."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
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
from lnm_codegen.train import TrainConfig, load, load_run, run
from tests.hexadecimal import words_of
from tests.refusals import assert_line

SMALL = TrainConfig(
    family="lif", network="feedforward", network_arguments={"hidden": (24,), "time_steps": 3},
    epochs=4, batch=32, limit=400, lr=0.02, backend="torch", threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run(SMALL, folder / "lif", data=load("digits", limit=400))
    return folder


@pytest.fixture(scope="module")
def emitted(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the network, and what the command printed."""
    out = tmp_path_factory.mktemp("net")
    words = ["deploy", runs / "lif", "--backend", "c", "--out", out]
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
    found = load_run(runs / "lif")
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
        "| run | `lif` |",
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


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert command([str(word) for word in words]) == 2
    return capsys.readouterr().err


def test_refused_options(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lif, out = runs / "lif", ("--out", tmp_path / "o")
    net = ("deploy", lif, *out)
    for verb, option in (("emit", "--weights"), ("arrays", "--weights"), ("deploy", "--forms")):
        line = refusal(capsys, verb, lif, *out, option, "4")
        assert_line(line, f"lnm {verb}: No such option: {option}", f"lnm {verb} --help")
    assert_line(
        refusal(capsys, *net), "lnm deploy: Missing option '--backend'", "lnm deploy --help"
    )
    line = refusal(capsys, *net, "--backend", "c", "--weights", "1")
    assert_line(line, "deploy: --weights is 1", "2 to 16")
    line = refusal(capsys, *net, "--backend", "c", "--accumulate", "event")
    assert_line(
        line, "deploy: --accumulate is 'event'", "'events', 'dense'", "Did you mean 'events'?"
    )
    line = refusal(capsys, *net, "--backend", "c", "--accumulate", "")
    assert_line(line, "deploy: --accumulate is ''", "'events', 'dense'")
    line = refusal(capsys, *net, "--backend", "c", "--format", "4.3")
    assert_line(line, "layers.0.neuron: lif: parameter 'v_threshold' is 1", "Give more integer")
    for text in ("", "16", "16.", "Q4.12.1", "99.1", "1.1", "16.40", "nan", "16.12;x", "none.toml"):
        line = refusal(capsys, *net, "--backend", "c", "--format", text)
        assert_line(line, "none.toml: no such file" if "toml" in text else f"--format {text!r}: ")
    line = refusal(capsys, *net, "--backend", "c", "--name", "main")
    assert_line(line, "network: name is 'main'")
    for backend in ("c,verilog", "torch"):
        line = refusal(capsys, *net, "--backend", backend)
        assert_line(line, f"deploy: --backend is {backend!r}", "'c', 'verilog'")
    line = refusal(capsys, *net, "--backend", "c", "--weights", "17")
    assert_line(line, "deploy: --weights is 17", "2 to 16")
    line = refusal(capsys, *net, "--backend", "c", "--name", "9")
    assert_line(line, "--name '9': not an identifier")
    assert not (tmp_path / "o").exists()


def test_the_old_spelling(runs: Path, emitted: tuple[Path, str], tmp_path: Path, capsys) -> None:
    """It writes the same folder, and says what its verb is now."""
    words = ["emit", "--backend=c", f"--run={runs / 'lif'}", "--network", "--out", str(tmp_path)]
    assert command(words) == 0
    printed = capsys.readouterr()
    assert printed.out.replace(str(tmp_path), str(emitted[0])) == emitted[1]
    assert printed.err == "note: since 0.3 this is lnm deploy; see lnm deploy --help.\n"
    for name in ("network.json", "digits_lif.c"):
        assert (tmp_path / name).read_text() == (emitted[0] / name).read_text()


@pytest.mark.slow
def test_another_network_is_named(runs: Path, tmp_path: Path, capsys) -> None:
    folder = runs / "resnet"
    config = replace(
        SMALL, network="resnet20", network_arguments={"width": 2, "time_steps": 1}, epochs=1,
        limit=32,
    )  # fmt: skip
    run(config, folder, data=load("digits", limit=32))
    line = refusal(capsys, "deploy", folder, "--backend", "c", "--out", tmp_path)
    assert_line(line, "network: ResNet: it is no chain of layers", "feedforward, conv")


def test_dense_sums_have_the_same_scores(runs: Path, tmp_path: Path, capsys) -> None:
    words = ["deploy", str(runs / "lif"), "--backend", "c", "--weights", "5",
             "--accumulate", "dense", "--name", "other", "--out", str(tmp_path)]  # fmt: skip
    assert command(words) == 0
    assert (tmp_path / "other.c").exists()
    assert json.loads((tmp_path / "network.json").read_text())["stages"][0]["bits"] == 5
    done = subprocess.run(["make", "-C", tmp_path, "run"], capture_output=True, text=True)
    assert "0 of 4 samples differ" in done.stdout


def test_quantize_chooses_for_an_accuracy(runs: Path, tmp_path: Path, capsys) -> None:
    """The report is on other samples than the search; the folder is what emit takes."""
    words = tmp_path / "words"
    given = ["quantize", str(runs / "lif"), "--lost", "4", "--samples", "120", "--out", str(words)]
    assert command([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chosen"]["samples"] == found["reported"]["samples"] == 60
    assert found["chosen"]["points_lost"] <= found["chosen"]["points_broken"] <= 4
    assert sorted(p.name for p in words.iterdir()) == [
        "layers.0.neuron.toml", "network.json", "network.npz", "readout.neuron.toml", "run.json",
    ]  # fmt: skip
    network = read_network(words)
    saved = load_run(runs / "lif")
    x, labels = next(saved.data.batches(saved.data.test, 120))
    own = interpret_network(network, integer_samples(network, x.numpy())).labels == labels.numpy()
    assert np.mean(own[0::2]) == pytest.approx(found["chosen"]["accuracy_integers"])
    assert np.mean(own[1::2]) == pytest.approx(found["reported"]["accuracy_integers"])
    out = tmp_path / "net"
    net = ["deploy", str(runs / "lif"), "--backend", "c", "--out", str(out)]
    assert command([*net, "--format", str(words)]) == 0
    assert (out / "network.json").read_text() == (words / "network.json").read_text()
    capsys.readouterr()
    line = refusal(capsys, *net, "--format", words, "--weights", "8")
    assert_line(line, "deploy: --weights with --format", "Omit --weights")
    layer = words / "readout.neuron.toml"
    text = layer.read_text()
    layer.write_text('default = "24.14"\n')
    line = refusal(capsys, *net, "--format", words)
    assert_line(line, f"{layer}: its formats are not those of network.json", "Run lnm quantize")
    layer.write_text(text)
    for changed, problem in (
        ({"seed": 7}, "it was made from other weights than the run's"),
        ({"network_arguments": {"hidden": (20,), "time_steps": 3}}, "and the run has layers.0"),
    ):
        other = tmp_path / next(iter(changed))
        run(replace(SMALL, epochs=1, **changed), other, data=load("digits", limit=400))
        line = refusal(capsys, "deploy", other, *net[2:-1], tmp_path / "mixed", "--format", words)
        assert_line(line, f"--format {words}: ", problem, "lnm quantize wrote for this run")
        assert not (tmp_path / "mixed").exists()
    assert command([*net[:-1], str(tmp_path / "again"), "--format", str(out)]) == 0
    assert capsys.readouterr().err == ""  # a folder of emit has run.json too
    (words / "run.json").unlink()
    (out / "run.json").unlink()
    assert command([*net, "--format", str(words)]) == 0
    assert not (out / "run.json").exists()
    note = f"note: --format {words} has no run.json: its weights were not compared with the run.\n"
    assert capsys.readouterr().err == note


@pytest.fixture(scope="module")
def held_out(runs: Path) -> Path:
    """A run that holds out 60 of its training samples."""
    run(replace(SMALL, validation=60, epochs=1), runs / "held_out")
    return runs / "held_out"


def accuracy_on_the_test_set(folder: Path) -> tuple[int, float]:
    """Return samples of the test set, and the percentage that a network gets right."""
    data, network = load("digits", limit=400), read_network(folder)
    x, labels = next(data.batches(data.test, 400))
    own = interpret_network(network, integer_samples(network, x.numpy())).labels
    return len(labels), 100 * float(np.mean(own == labels.numpy()))


def test_the_last_batch_may_have_one_sample(runs: Path, capsys, monkeypatch) -> None:
    """Every second sample of each batch is searched on; an empty half was an error once."""
    monkeypatch.setattr("lnm_codegen.cli.quantize.RANGED", 40)
    given = ["quantize", str(runs / "lif"), "--lost", "60", "--samples", "41", "--json"]
    assert command(given) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["chosen"]["samples"], found["reported"]["samples"]) == (21, 20)


def test_a_run_that_holds_out_samples(held_out: Path, tmp_path: Path, capsys) -> None:
    """The search uses the held-out samples; every report is on the test set."""
    words, net = tmp_path / "words", tmp_path / "net"
    given = ["quantize", str(held_out), "--lost", "10", "--json", "--out", str(words)]
    assert command(given) == 0
    found = json.loads(capsys.readouterr().out)
    count, share = accuracy_on_the_test_set(words)
    assert (found["chosen"]["samples"], found["reported"]["samples"]) == (60, count)
    assert 100 * found["reported"]["accuracy_integers"] == pytest.approx(share)
    emit = ["deploy", str(held_out), "--backend", "c", "--out", str(net)]
    assert command([*emit, "--format", str(words)]) == 0
    assert f"integers {share:.2f} %" in capsys.readouterr().out


def test_every_test_sample(runs: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """--all lifts the limit of the samples that are kept; --vectors sets those of a testbench."""
    monkeypatch.setattr("lnm_codegen.cli.deploy.TESTED", 50)
    words = ["deploy", str(runs / "lif"), "--backend", "verilog"]
    words += ["--vectors", "3"]
    for more, count in (((), 50), (("--all",), 360)):
        assert command([*words, *more, "--out", str(tmp_path)]) == 0
        assert f" on {count} samples" in capsys.readouterr().out
        with np.load(tmp_path / "tb/samples.npz") as kept:
            assert len(kept["x"]) == count
    inputs = words_of((tmp_path / "tb/digits_lif_inputs.hex").read_text())
    own = integers_of((tmp_path / "README.md").read_text(), load("digits").test.images.numpy())
    assert [int(word, 16) for word in inputs] == (own[:3].reshape(-1) % (1 << 16)).tolist()
    line = refusal(capsys, *words[:-1], "0", "--out", tmp_path)
    assert_line(line, "deploy: --vectors is 0", "1 to 10000")
    line = refusal(capsys, *words[:-1], "51", "--out", tmp_path / "o")
    assert_line(line, "deploy: --vectors is 51", "1 to 50, the number of test samples", "Add --all")
    line = refusal(capsys, *words[:-1], "361", "--all", "--out", tmp_path / "o")
    assert_line(line, "deploy: --vectors is 361", "1 to 360, the number of test samples.")
    assert not (tmp_path / "o").exists()


def test_quantize_fine_tunes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["quantize", str(runs / "lif"), "--lost", "5", "--samples", "100", "--weights", "2"]
    status = command([*given, "--epochs", "2", "--scale", "layer"])
    printed = capsys.readouterr()
    target = re.findall(r"samples.*: +([0-9.]+) %, \d+ samples \(target 5 %, ", printed.out)
    assert len(target) == 2
    missed = float(target[0]) > 5
    assert status == (3 if missed else 0)
    assert ("the target is missed" in printed.err) == missed
    assert re.search(r"fine-tuned: (the best of 2 epochs is [12]|none of 2 epochs)", printed.out)
    assert printed.out.count(" 2 bits, accumulator") == 2
    assert len(re.findall(r"points (?:lost|gained) on 50 samples", printed.out)) == 2
    assert "epoch 2/2" in printed.err


def test_a_start_that_no_epoch_improves_is_kept(runs: Path, capsys, monkeypatch) -> None:
    """The heading says so."""
    whole = search.is_correct_in_integers

    def fake(scores: tuple[int, ...]) -> None:
        """Give the command scores of 50 samples; the search of widths has its own."""
        found = (np.arange(50) < n for n in scores)

        def correct(*given: Any) -> Any:
            is_command = sys._getframe(1).f_globals["__name__"].startswith("lnm_codegen.cli")
            return next(found) if is_command else whole(*given)

        monkeypatch.setattr(search, "is_correct_in_integers", correct)

    given = ["quantize", str(runs / "lif"), "--lost", "5", "--samples", "100", "--epochs", "1"]
    for scores, text in (([9, 9], "not fine-tuned: none of 1 epochs"), ([9, 10], "the best of 1")):
        fake((*scores, 40, 40))
        command(given)
        assert text in capsys.readouterr().out
    fake((9, 9, 40, 40))
    command([*given, "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["fine_tuning"] == {"epochs": 1, "kept_epoch": 0}


def test_a_missed_target_is_no_success(runs: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """The files are written, one line says by how much, and the exit status is 3."""
    accuracy = "lnm_codegen.deploy.integers.search.integer_accuracy"
    given = ["quantize", str(runs / "lif"), "--lost", "5", "--samples", "100"]
    for broken, status in ((6, 3), (2, 0)):
        found = iter((IntegerAccuracy(50, 40, 38, broken), IntegerAccuracy(50, 40, 37, 4)))
        monkeypatch.setattr(accuracy, lambda *_, found=found: next(found))
        assert command([*given, "--out", str(tmp_path / str(broken))]) == status
        printed = capsys.readouterr()
        lines = printed.out.splitlines()
        bound = "(target 5 %, that is, at most 2 of 50 samples)"
        line = f"  samples of the search: {2 * broken}.00 %, {broken} samples {bound}"
        assert line in lines
        line = f"  other samples:         8.00 %, 4 samples {bound}; the target bounds"
        assert any(x.startswith(line) for x in lines)
        assert (tmp_path / str(broken) / "network.json").is_file()
        if status:
            line = printed.err.removesuffix("\n")
            assert_line(line, "quantize: the target is missed: 12.00 %", "5 % allowed", "--weights")


def test_refused_options_of_quantize(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lif = runs / "lif"
    line = refusal(capsys, "quantize", "lif", "--lost", "1")
    assert_line(line, "quantize: --lost is for a run", "Omit --lost")
    line = refusal(capsys, "quantize", lif, "--mismatch", "0.1", "--epochs", "1")
    assert_line(line, "quantize: --epochs is for a run and its accuracy")
    line = refusal(capsys, "quantize", lif, "--degree", "1")
    assert_line(line, "quantize: ", "is a run, which has its neurons", "Omit --degree.")
    line = refusal(capsys, "quantize", lif, "--error", "0.1", "--x", "1")
    assert_line(line, "quantize: ", "is a run, which has its neurons", "Omit --x.")
    for option in (("--rounding", "truncate"), ("--most", "16"), ("--scheme", "estrin")):
        line = refusal(capsys, "quantize", lif, *option)
        assert_line(line, f"quantize: {option[0]} is for a search", f"or omit {option[0]}.")
    assert_line(refusal(capsys, "quantize", lif, "--lost=-1"), "quantize: --lost is -1", ">= 0")
    line = refusal(capsys, "quantize", lif, "--weights", "17")
    assert line == "error: quantize: --weights is 17. Accepted: an integer from 2 to 16.\n"
    assert_line(refusal(capsys, "quantize", lif, "--scale", "row"), "quantize: --scale is 'row'")
    assert_line(refusal(capsys, "quantize", lif, "--scale", ""), "quantize: --scale is ''")
    assert_line(refusal(capsys, "quantize", lif, "--lost", "nan"), "quantize: --lost is nan")
    assert_line(
        refusal(capsys, "quantize", lif / "x", "--lost", "1"), "quantize: ", "no such folder"
    )
    assert_line(refusal(capsys, "quantize", lif, "--samples", "1"), "quantize: --samples is 1")


def test_quantize_takes_a_family_before_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `lnm analyze` does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "if").mkdir()
    assert command(["quantize", "if", "--error", ".1"]) == 0
    printed = capsys.readouterr()
    assert "\nif: " in printed.out
    assert printed.err == "note: if is the family; give ./if for the folder.\n"
    (tmp_path / "file").write_text("")
    assert command(["quantize", "if", "--error", ".1", "--out", "file/out"]) == 2
    line = capsys.readouterr().err.splitlines()[1]
    assert_line(line, "quantize: cannot write file/out", "Not a directory")


def test_a_network_in_verilog(
    runs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DIR itself is the folder of `lnm verify`; golden vectors are the run's own test samples."""
    monkeypatch.chdir(runs)
    out = tmp_path / "a net"
    words = ("deploy", "lif", "--backend", "verilog", "--vectors", "3",
             "--load-port", "--out", f"{out}")  # fmt: skip
    assert command(words) == 0
    line = (out / "README.md").read_text().split("```sh\n")[1].partition("\n")[0]
    assert line.startswith("lnm deploy lif --backend verilog --vectors 3 --load-port")
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
    network, found = read_network(out), load_run(runs / "lif")
    x, _ = next(found.data.batches(found.data.test, 1))
    golden = [int(w, 16) for w in words_of((out / "tb/digits_lif_inputs.hex").read_text())]
    first = integer_samples(network, x.numpy()).reshape(-1)
    np.testing.assert_array_equal(np.array(golden[: first.size], np.uint16).view(np.int16), first)
    assert command(["verify", str(out), "--only", "model", "--allow-missing"]) == 0
    assert "model      passed" in capsys.readouterr().out
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command(["verify", str(out), "--only", "lint"]) == 3
    assert "incomplete, tools are missing in lint" in capsys.readouterr().out
    assert command(["verify", str(out), "--only", "lint", "--allow-missing"]) == 0


def test_refused_options_of_verilog(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = ("deploy", runs / "lif", "--out", tmp_path / "o", "--backend")
    line = refusal(capsys, *net, "verilog", "--accumulate", "dense")
    assert_line(line, "deploy: --accumulate with --backend verilog", "--backend c", "Omit")
    line = refusal(capsys, *net, "c", "--lanes", "2")
    assert_line(line, "deploy: --lanes with --backend c", "--backend verilog", "Omit")
    for lanes in ("65", "0", "-1"):
        line = refusal(capsys, *net, "verilog", f"--lanes={lanes}")
        assert_line(line, f"deploy: --lanes is {lanes}", "1 to 64")
    line = refusal(capsys, *net, "c", "--load-port")
    assert_line(line, "deploy: --load-port with --backend c", "--backend verilog", "Omit")
    (tmp_path / "file").write_text("")
    line = refusal(capsys, "deploy", tmp_path / "none", *net[2:], "c")
    assert_line(line, "run: ", "no such folder")
    line = refusal(capsys, "deploy", tmp_path / "file", *net[2:], "c")
    assert_line(line, "run: ", "not a folder")
    assert not (tmp_path / "o").exists()
