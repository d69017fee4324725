"""Circuit folders: one line for each mistake, and nothing is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.cli import run
from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.hardware.folder import Circuit, read_circuit
from lnm_codegen.hardware.result import update_report
from lnm_codegen.hardware.verify.verilog import formal, tops
from tests.hardware.circuits import write, write_neuron
from tests.refusals import refused

EMIT = "Write one: lnm emit FAMILY --backend verilog --format 16.12 --out DIR."


def listed(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "unit"
    write(folder)
    return folder


def test_a_folder_is_read_back(good):
    circuit = read_circuit(good, "verify")
    assert circuit.name == "unit"
    assert list(circuit.forms) == ["comb", "core"]
    core = circuit.forms["core"]
    assert (core.top, core.interval, core.multipliers) == ("unit_core", 1, 1)
    assert core.files[-1] == "rtl/unit_core.v"
    assert circuit.program is not None
    assert circuit.coefficients()["theta_1"] == (3686,)


def test_the_digest_follows_every_source(good, tmp_path):
    circuit = write(tmp_path / "unit")
    before = circuit.digest()
    assert before == read_circuit(good, "verify").digest()
    with (tmp_path / "unit" / "rtl" / "unit_mul.v").open("a") as file:
        file.write("// more\n")
    assert circuit.digest() != before


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("rtl", "aa.v; exec -- touch pwned; read_verilog aa.v"),
        ("sim", "a b.v"),
        ("formal", "-x.sby"),
    ],
)
def test_names_of_files_are_no_commands(tmp_path, part, name):
    """They are joined into a script of Yosys, where the first once ran touch."""
    circuit = write(tmp_path)
    (tmp_path / part).mkdir(exist_ok=True)
    (tmp_path / part / name).touch()
    problem = f"the name of '{part}/{name}' has other characters than"
    with refused(ModelError, str(tmp_path), problem, remedy="Rename it."):
        circuit.matching(f"{part}/*.*")
    circuit.digest()
    with pytest.raises(ModelError):
        {"rtl": tops, "sim": Circuit.cell_models, "formal": formal}[part](circuit)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("part", ["rtl", "tb", "formal", "model"])
def test_a_report_keeps_what_no_edit_concerns(tmp_path, part):
    """A testbench that was edited says nothing of the cells of a circuit, but its result is old."""
    circuit = write(tmp_path)
    update_report(circuit, "verification", {"icarus": {"status": "passed"}}, ())
    update_report(circuit, "synthesis", {"core": {"LUT": 1}}, ())
    with next((tmp_path / part).iterdir()).open("a") as file:
        file.write("\n")
    report = update_report(circuit, "verification", {"lint": {}}, ())
    assert list(report["verification"]) == ["lint"]
    assert report["synthesis"] == ({} if part == "rtl" else {"core": {"LUT": 1}})


def test_a_folder_beside_the_one_that_is_meant(good, tmp_path):
    """The error names the subfolder or the parent with a manifest, or says that it is C.

    The folder of a run's arrays has a network.json too, without a network.npz.
    """
    array = write(tmp_path / "arrays" / "unit").folder
    for name in ("network.json", "network.npz", "arrays/network.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    for folder, remedy in (
        (array.parent, f"Name a folder in it: {array}."),
        (good.parent, f"Name a folder in it: {good}."),
        (good / "rtl", f"Name the folder {good}."),
        (tmp_path, "Write one: lnm deploy RUN --backend verilog --out DIR."),
    ):
        with refused(ModelError, f"verify: {folder}", "there is no manifest.json", remedy=remedy):
            read_circuit(folder, "verify")


@pytest.mark.parametrize("verb", ["verify", "synth"])
def test_a_path_that_is_not_a_circuit_folder(tmp_path, capsys, verb):
    """One line on standard error, status 2, and nothing is written."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    before = listed(tmp_path)
    for name, message in {
        "none": "no such folder.",
        "file": "it is a file. Accepted: a folder with manifest.json.",
        "empty": "there is no manifest.json in it.",
    }.items():
        assert run([verb, str(tmp_path / name)]) == 2
        shown = capsys.readouterr()
        line = f"error: {verb}: {tmp_path}/{name}: {message} {EMIT}\n"
        assert (shown.out, shown.err) == ("", line)
    assert listed(tmp_path) == before


DAMAGED = """
{"manifest": 2} >> manifest is 2. Accepted: 1, the version that this lnm
{"format": "Q5.11"} >> format is 'Q5.11'. Accepted: 'Q4.12', as program.json says.
{"rounding": "floor"} >> rounding is 'floor'. Accepted: 'half_up', as program.json
{"formats": {"h": "Q5.11"}} >> Accepted: {}, as program.json says. Write the folder
{"coefficients": []} >> coefficients is []. Accepted: [['theta_0', 'Q4.12'],
{"name": "x; exec rm"} >> name is 'x; exec rm'. Accepted: up to 128
{"forms": {}} >> forms is {}. Accepted: an object by form.
{"top": "$x"} >> forms.core.top is '$x'. Accepted: up to 128 letters, digits and _.
{"files": []} >> forms.core.files is []. Accepted: a list of files.
{"files": ["rtl/../x.v"]} >> forms.core.files is 'rtl/../x.v'. Accepted: a file of this folder,
{"files": ["/etc/passwd"]} >> forms.core.files is '/etc/passwd'. Accepted: a file of
{"files": ["rtl/gone.v"]} >> forms.core.files: rtl/gone.v does not exist. Write the folder
{"testbench": 3} >> forms.core.testbench is 3. Accepted: a file of this folder,
{"latency": -1} >> forms.core.latency is -1. Accepted: an integer from 0 to 4294967295.
{"multipliers": true} >> forms.core.multipliers is True. Accepted: an integer from 0 to
{"latency": NaN} >> not JSON: it holds NaN.
{"top": "other"} >> forms.core.top is 'other'. Accepted: unit_core, as name says.
{"name": "other"} >> forms.comb.top is 'unit_comb'. Accepted: other_comb, as name says.
{"coefficients": null} >> coefficients is None. Accepted: a list of
{"coefficients": ["x"]} >> coefficients[0] is 'x'. Accepted: an object.
{"coefficients": [{}]} >> coefficients[0].name is None. Accepted: up to 128 letters,
{"coefficients": [{"name": "theta_0", "integers": [1.5]}]} >> coefficients[0].integers is [1.5].
{"coefficients": [{"name": "theta_0", "integers": [1099511627776]}]} >> [1099511627776]. Accepted:
{"coefficients": [{"name": "theta_0", "integers": []}]} >> is []. Accepted: a list of integers of 32
{ >> not JSON:
[] >> the content is []. Accepted: an object.
"""
"""Text of a manifest, or keys of it or of its form `core` with other values >> the error."""


def test_a_damaged_manifest(good, tmp_path):
    """Words that would reach a command or a script, and files outside the folder, are refused."""
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    path, before = tmp_path / "manifest.json", listed(tmp_path)
    text = path.read_text(encoding="utf-8")
    rows = [line.split(" >> ") for line in DAMAGED.strip().splitlines()]
    for change, message in [
        *rows,
        ("[" * 100_000, "not JSON: nested too deep"),
        (b"\xff", "not UTF"),
    ]:
        manifest = json.loads(text)
        if change[:2] == '{"':
            keys = json.loads(change)
            place = manifest if keys.keys() & manifest.keys() else manifest["forms"]["core"]
            place.update(keys)
            change = json.dumps(manifest)
        path.write_bytes(change if isinstance(change, bytes) else change.encode())
        with refused(ModelError) as caught:
            read_circuit(tmp_path, "verify")
        line = str(caught.value)
        assert message in line, line
        assert line.startswith(f"verify: {path}: "), line
        assert listed(tmp_path) == before


@pytest.mark.parametrize(("name", "state"), [("n" * 124, "v"), ("unit", "n" * 129)])
def test_names_that_no_folder_may_have_are_not_emitted(tmp_path, name, state):
    """The limit is that of a module, such as NAME_core, and of a state."""
    v, x = lnm.state(state), lnm.input("x")
    neuron = lnm.Neuron({v: v / 2 + x}, v - 1, reset=lnm.hard_reset(v, 0.0))
    with refused(UnsupportedError, "verilog", "has 129 characters", "at most 128", "shorter"):
        write_neuron(tmp_path, neuron, forms=("core",), name=name)


def test_the_longest_name_is_read(tmp_path):
    assert write(tmp_path, forms=("core",), name="n" * 123).name == "n" * 123
