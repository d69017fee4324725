"""Synthesis: resources, the harness, place and route."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from lnm_codegen.backends.verilog.module import ModulePort
from lnm_codegen.cli import run
from lnm_codegen.errors import ToolError
from lnm_codegen.hardware import synth, tools
from lnm_codegen.hardware.synth import (
    DEVICES,
    NO_PLACE,
    UNTIMED,
    Measured,
    Resources,
    cells_of,
    fmax_of,
    ports_of,
    resources_of,
    synthesise,
)
from lnm_codegen.hardware.tools import missing
from tests.hardware.circuits import replace, write
from tests.refusals import assert_line, refused

needs_yosys = pytest.mark.skipif(missing("yosys") is not None, reason=str(missing("yosys")))
needs_place = pytest.mark.skipif(
    missing("yosys", "nextpnr-ecp5") is not None, reason=str(missing("yosys", "nextpnr-ecp5"))
)


def test_cells_by_target():
    """A CCU2C is two LUTs with their carries; a cell without a row costs nothing.

    A distributed memory of Xilinx takes one to four LUTs (UG474, distributed RAM configurations).
    """
    ecp5 = {"LUT4": 51, "CCU2C": 30, "TRELLIS_FF": 451, "MULT18X18D": 3, "DP16KD": 1, "GSR": 1}
    assert resources_of(ecp5, "ecp5") == Resources(lut=111, ff=451, dsp=3, bram=1)
    ice40 = {"SB_LUT4": 7, "SB_CARRY": 9, "SB_DFFE": 2, "SB_DFFESR": 3, "SB_MAC16": 1}
    assert resources_of({**ice40, "SB_RAM40_4K": 2}, "ice40") == Resources(
        lut=7, ff=5, dsp=1, bram=2
    )
    xilinx = {"LUT2": 3, "LUT6": 4, "SRL16E": 5, "FDRE": 6, "FDSE": 1, "DSP48E1": 2, "CARRY4": 9}
    assert resources_of({**xilinx, "RAMB18E1": 1}, "xilinx") == Resources(
        lut=12, ff=7, dsp=2, bram=1
    )
    memories = {"RAM32X1S": 1, "RAM64X1D": 1, "RAM32M": 1, "RAM64M": 6, "RAM128X1D": 1}
    assert resources_of(memories, "xilinx").lut == 1 + 2 + 4 + 24 + 4


def test_reports_of_the_tools_are_read_or_refused():
    stat = {"modules": {"\\top": {"num_cells_by_type": {"LUT4": 3}}}}
    assert cells_of(json.dumps(stat), "top") == {"LUT4": 3}
    netlist = {"modules": {"top": {"ports": {"x": {"direction": "input", "bits": [2, 3]}}}}}
    assert ports_of(json.dumps(netlist), "top") == (ModulePort("input", "x", 2),)
    clocks = {"fmax": {"clk": {"achieved": 140.2}, "slow": {"achieved": 81.5}}}
    assert fmax_of(json.dumps(clocks)) == 81.5
    for text in ("", "[]", "{}", '{"modules": {"top": 3}, "fmax": {}}'):
        with pytest.raises(ToolError, match="cannot be read"):
            cells_of(text, "top")
        with pytest.raises(ToolError, match="cannot be read"):
            ports_of(text, "top")
        with pytest.raises(ToolError, match="cannot be read, or has no clock"):
            fmax_of(text)


def test_a_seed_that_finds_no_place(tmp_path, monkeypatch):
    """Only where the analytic placer gives up, the seed is annealed."""
    said = "ERROR: Unable to find legal placement for cell 'gbuf' after 10001 attempts."
    commands = []

    def stuck(command, folder, **options):
        commands.append(command)
        annealed = command[-2:] == ("--placer", "sa")
        (tmp_path / "seed7.json").write_text('{"fmax": {"clk": {"achieved": 61.0}}}')
        return tools.Completed(0, "", 2.0) if annealed else tools.Completed(1, said, 1.0)

    monkeypatch.setattr(synth, "run", stuck)
    assert synth._place(DEVICES["up5k"], tmp_path, 7) == (61.0, 3.0)
    assert commands[1] == (*commands[0], "--placer", "sa")
    monkeypatch.setattr(synth, "run", lambda *a, **o: tools.Completed(1, "ERROR: too large", 1.0))
    with refused(ToolError, "synth", "nextpnr-ice40 fails: ERROR: too large"):
        synth._place(DEVICES["up5k"], tmp_path, 7)


def test_invalid_options_and_a_machine_without_tools(tmp_path, capsys, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(tools, "find", lambda word: None)
    for words, status, *parts in (
        ("--target max10", 2, "--target", "'max10'", "ecp5", "ice40", "xilinx"),
        ("--device up5k", 2, "--target ecp5: --device", "'up5k'", "25k", "Add --target ice40"),
        ("--form seq", 2, "--form", "'seq'", "comb", "core"),
        ("--target ice40", 1, "yosys, nextpnr-ice40 not found on PATH. To install: apt-get install"
         " yosys; apt-get install nextpnr-ice40."),
    ):  # fmt: skip
        assert run(["synth", str(tmp_path), *words.split()]) == status
        assert_line(capsys.readouterr().err, "synth: ", *parts)
        assert not (tmp_path / "report.json").exists()


@needs_yosys
def test_a_chip_that_is_too_small(tmp_path, monkeypatch):
    """The error counts what the module needs."""

    def full(device, folder, seed):
        raise ToolError("synth", "nextpnr-ice40 fails: no BELs remaining.")

    monkeypatch.setattr(synth, "_place", full)
    monkeypatch.setattr(synth, "require_tools", lambda *words: None)  # nextpnr
    circuit = write(tmp_path)
    counted = r"remaining. The module has [\d,]+ LUT, [\d,]+ FF, \d+ DSP, \d+ BRAM"
    with pytest.raises(ToolError, match=counted):
        synth.measure(circuit, circuit.forms["core"], DEVICES["up5k"], seeds=1)


def test_what_a_chip_lacks_is_one_line() -> None:
    """nextpnr's own text is another for each kind of cell, and names no chip."""
    form, device = SimpleNamespace(top="net_network"), DEVICES["up5k"]
    synth._require_fitting(form, device, device.resources)
    problem = "net_network does not fit iCE40UP5K SG48: 12 DSP needed, 8 there, 47 BRAM needed, 30"
    with refused(ToolError, "synth", problem, "", "larger --device"):
        synth._require_fitting(form, device, synth.Resources(5_280, 0, 12, 47))
    synth._require_fitting(form, DEVICES["xc7"], synth.Resources(10**6, 0, 0, 0))


@needs_place
@pytest.mark.slow
def test_ecp5_over_two_seeds(tmp_path, capsys):
    """One multiplier, and the median of the seeds; the report keeps what verify found."""
    write(tmp_path)
    assert run(["verify", str(tmp_path), "--only", "icarus"]) == 0
    assert run(["synth", str(tmp_path), "--form", "core", "--seeds", "2"]) == 0
    assert "core        6         1 " in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    found = report["synthesis"]["core.25k"]
    assert found["DSP"] == 1
    assert list(found["fmax_mhz_by_seed"]) == ["1", "2"]
    assert found["fmax_mhz"] == sum(found["fmax_mhz_by_seed"].values()) / 2 > 100
    assert (found["latency_cycles"], found["interval_cycles"]) == (6, 1)
    assert list(report["verification"]) == ["icarus"]
    assert {"yosys", "nextpnr-ecp5"} <= set(report["tools"])


@needs_yosys
@pytest.mark.slow
def test_xilinx_is_not_placed(tmp_path, capsys):
    write(tmp_path)
    assert run(["synth", str(tmp_path), "--target", "xilinx", "--form", "core", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["synthesis"]["core.xc7"]
    assert (found["DSP"], found["fmax_mhz"], found["fmax_mhz_by_seed"]) == (1, None, {})
    assert found["note"] == "not placed: there is no open place and route for Xilinx, so no Fmax"


@pytest.mark.parametrize(
    ("device", "form", "dsp", "note"),
    [
        ("up5k", "comb", 1, UNTIMED),
        ("up5k", "comb", 0, None),
        ("up5k", "core", 1, None),
        ("25k", "comb", 1, None),
        ("xc7", "comb", 1, NO_PLACE),
    ],
)
def test_what_a_frequency_is_worth(tmp_path, device, form, dsp, note):
    """Three multipliers in a row were faster on iCE40 than one, and nothing was said of it."""
    forms, cost = write(tmp_path).forms, Resources(lut=1, ff=1, dsp=dsp, bram=0)
    found = Measured(forms[form], DEVICES[device], cost, {}, {1: 60.0}, 0.0)
    assert found.note == found.as_dict().get("note") == note


@needs_yosys
def test_a_module_that_yosys_refuses(tmp_path, capsys):
    write(tmp_path)
    replace(tmp_path / "rtl" / "unit_core.v", "endmodule", "    wire (;\nendmodule")
    assert run(["synth", str(tmp_path), "--target", "xilinx", "--form", "core"]) == 1
    assert capsys.readouterr().err.startswith("error: synth: yosys fails on unit_core: ")
    assert not (tmp_path / "report.json").exists()


@needs_yosys
@pytest.mark.parametrize("name", ["two words", "a; exec -- touch ran; b"])
def test_a_folder_of_any_name(tmp_path, monkeypatch, name):
    """Its path is no part of a script of Yosys, which once ran what stands behind a semicolon."""
    monkeypatch.chdir(tmp_path)
    circuit = write(tmp_path / name)
    with tools.temporary_folder() as folder:
        form = circuit.forms["comb"]
        cells, _ = synthesise(circuit, form, DEVICES["25k"], folder)
        assert cells["MULT18X18D"] == 1
        assert not (folder / "ran").exists()
