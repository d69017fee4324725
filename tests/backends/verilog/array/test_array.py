"""Arrays of neurons in the tools: streams, ticks, channels, refusals."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.fixed import FixedModel
from lnm_codegen.backends.verilog import backend
from tests.backends.verilog.runs import Bench, model, needs_iverilog, needs_verilator, needs_yosys
from tests.refusals import refused

Q4_12 = lnm.Fixed(16, 12)
THETA = (0.02, 0.85, 0.11, -0.06)


def cubic() -> lnm.Neuron:
    return lnm.get("lnm", degree=3, theta=THETA)


def several() -> lnm.Neuron:
    """Two states, one of which begins at 0.75, and two inputs."""
    v, w = lnm.state("v"), lnm.state("w", init=0.75)
    x, y = lnm.input("x"), lnm.input("y")
    return lnm.Neuron(
        charge={v: v * 0.9 + x * y, w: w * 0.5 + v * 0.25},
        fire=v - 1,
        reset={v: lnm.where(lnm.spike, 0, v), w: w + lnm.spike * 0.5},
        name="several",
    )


MIXED = lnm.FixedSpec(
    lnm.Fixed(13, 9, "convergent"),
    {"x": lnm.Fixed(10, 7), "y": lnm.Fixed(5, 3), "w": lnm.Fixed(9, 6, "truncate")},
)


def array(neurons: int, **options: Any) -> lnm.Rtl:
    return lnm.Rtl(forms=("array",), neurons=neurons, **options)


def channels(count: int, neurons: int, degree: int = 2) -> FixedModel:
    theta = np.random.default_rng(count).normal(0, 0.5, (count, degree + 1))
    return model(
        lnm.get("lnm", degree=degree, per="channel"), Q4_12, f"channels_{count}_{neurons}",
        array(neurons, coefficients="memory"), values={"theta": theta},
    )  # fmt: skip


def simulated(files: dict[str, str], name: str, folder: Path) -> str:
    """Return the output of an array's testbench."""
    sources = [Path(p).name for p in files if p.startswith("rtl/")] + [f"{name}_array_tb.v"]
    for path, text in files.items():
        (folder / Path(path).name).write_text(text, encoding="utf-8")
    command = ["iverilog", "-g2005", "-o", "sim.vvp", *sources]
    subprocess.run(command, cwd=folder, check=True)
    done = subprocess.run(
        ["vvp", "-n", "sim.vvp"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    return done.stdout


@needs_iverilog
@needs_verilator
def test_arrays_in_icarus_and_without_a_warning(tmp_path: Path) -> None:
    """Fewer neurons than pipeline stages, as many, more; channels; coefficients on ports."""
    bench = Bench(tmp_path)
    for neurons in (1, 2, 5, 15, 16, 17):
        bench.add(model(cubic(), Q4_12, f"n{neurons}", array(neurons)))
    for count, neurons in ((1, 3), (3, 3), (4, 12), (3, 12), (5, 40), (20, 20)):
        bench.add(channels(count, neurons))
    bench.add(model(cubic(), Q4_12, "ports", array(7, coefficients="port")))
    bench.add(model(several(), MIXED, "several", array(6)))
    bench.add(model(lnm.get("izhikevich"), lnm.Fixed(18, 8), "izhikevich", array(20)))
    bench.add(model(lnm.get("lnm", states=2, degree=1), Q4_12, "two_states", array(20)))
    bench.simulate()
    bench.lint()


@needs_iverilog
@pytest.mark.parametrize("fault", ["a wrong bit", "no vectors"])
def test_a_fault_of_the_step_in_an_array_is_detected(fault: str, tmp_path: Path) -> None:
    """Arrays have no vectors of single steps; their comparison once was that of X with X."""
    bench = Bench(tmp_path)
    bench.add(model(cubic(), Q4_12, "n5", array(5)))
    path = tmp_path / "n5_next.hex"
    if fault == "no vectors":
        path.unlink()
    else:
        lines = path.read_text().splitlines()
        lines[70] = f"{int(lines[70], 16) ^ 1:0{len(lines[70])}x}"
        path.write_text("\n".join(lines) + "\n")
    with pytest.raises(AssertionError):
        bench.simulate()


@needs_iverilog
@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["half_up", "truncate", "convergent"])
@pytest.mark.parametrize(
    "family", ["if", "lif", "plif", "li", "ternary", "qif", "cuba_lif", "izhikevich"]
)
def test_families_in_icarus(family: str, rounding: str, tmp_path: Path) -> None:
    """Every family, at least 2000 updates, with fewer and more neurons than pipeline stages."""
    spec = lnm.Fixed(18, 8, rounding)
    for neurons in (3, 16, 50):
        files = backend.Verilog().emit(model(lnm.get(family), spec, "n", array(neurons))).files
        assert simulated(files, "n", tmp_path).startswith("PASS n_array: 2")


@needs_iverilog
@pytest.mark.slow
def test_256_neurons_in_icarus(tmp_path: Path) -> None:
    files = backend.Verilog().emit(model(cubic(), Q4_12, "n", array(256))).files
    assert simulated(files, "n", tmp_path) == "PASS n_array: 3127 updates\n"


FAULTS = {
    "a neuron comes in before it is written": ("_in_flight != ", "1'b1 || _in_flight != "),
    "results do not wait": ("!m_axis_tvalid || m_axis_tready", "1'b1"),
    "written where nothing is taken": (".write(m_axis_transfer)", ".write(s_axis_transfer)"),
    "inputs during clear": ("ce && !clear && !restart", "ce && !restart"),
    "inputs during rst": ("= accepts && !rst;", "= accepts;"),
    "clear forgets nothing": ("fresh       <= 1'b1", "fresh       <= rst"),
    "clear counts on": ("if (restart_out)", "if (1'b0 && restart_out)"),
    "no tlast": ("assign m_axis_tlast = ", "assign m_axis_tlast = 1'b0 && "),
    "the wrong initial state": ("? 9'sd48 :", "? 9'sd47 :"),
    "an input is read elsewhere": (".d(s_axis_tdata[9:0])", ".d(s_axis_tdata[10:1])"),
    "tlast in the wrong place goes unseen": ("tlast_error <= 1'b1", "tlast_error <= 1'b0"),
    "an input is lost": (", s_axis_transfer}", ", s_axis_transfer && !restart_out}"),
}  # fmt: skip


@needs_iverilog
@pytest.mark.parametrize("fault", FAULTS)
def test_the_testbench_sees_faults(fault: str, tmp_path: Path) -> None:
    """Each is one change of the array."""
    rtl = replace(array(6), vectors=200)
    files = dict(backend.Verilog().emit(model(several(), MIXED, "n", rtl)).files)
    sound, faulty = FAULTS[fault]
    text = files["rtl/n_array.v"]
    assert text.count(sound) == 1
    files["rtl/n_array.v"] = text.replace(sound, faulty)
    assert "FAIL n_array" in simulated(files, "n", tmp_path)


@needs_iverilog
def test_exchanged_rows_of_channels_are_detected(tmp_path: Path) -> None:
    """The testbench detects two exchanged rows of the memory."""
    files = dict(backend.Verilog().emit(channels(3, 12)).files)
    text = files["rtl/channels_3_12_coefficients.v"]
    swapped = text.replace("memory[1] =", "memory[9] =").replace("memory[2] =", "memory[1] =")
    files["rtl/channels_3_12_coefficients.v"] = swapped.replace("memory[9] =", "memory[2] =")
    assert "FAIL" in simulated(files, "channels_3_12", tmp_path)


def test_manifest() -> None:
    """The latency is the core's and three cycles; a tick lasts as long as pipeline or neurons."""
    found = {}
    for neurons in (5, 256):
        files = backend.Verilog().emit(model(cubic(), Q4_12, "n", array(neurons))).files
        found[neurons] = json.loads(files["manifest.json"])["forms"]
        assert set(found[neurons]["array"]["files"]) < set(files)
    modules = ("clamp", "delay", "mul", "step", "ram", "core", "array")
    assert list(found[5]) == ["array"]
    assert (
        found[5]["array"].items()
        >= {
            "top": "n_array",
            "files": [f"rtl/n_{word}.v" for word in modules],
            "testbench": "tb/n_array_tb.v",
            "latency": 15,
            "interval": 1,
            "multipliers": 3,
            "neurons": 5,
            "tick_cycles": 16,
        }.items()
    )
    assert found[256]["array"]["tick_cycles"] == 256


@needs_yosys
@pytest.mark.slow
def test_256_neurons_on_ecp5(tmp_path: Path) -> None:
    """At most 195 LUT, 3 multipliers and 1 block RAM; 144 when this was written."""
    files = backend.Verilog().emit(model(cubic(), Q4_12, "n", array(256))).files
    rtl = json.loads(files["manifest.json"])["forms"]["array"]["files"]
    for path in rtl:
        (tmp_path / Path(path).name).write_text(files[path], encoding="utf-8")
    script = "read_verilog *.v; synth_ecp5 -top n_array; tee -q -o stat.json stat -json"
    subprocess.run(["yosys", "-q", "-p", script], cwd=tmp_path, check=True, capture_output=True)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert cells["LUT4"] + 2 * cells["CCU2C"] <= 195
    assert (cells["MULT18X18D"], cells["DP16KD"]) == (3, 1)


def test_refusals() -> None:
    """Channels with constants or ports, neurons that are not a multiple of them, no state."""
    per_channel, where = channels(3, 12), "verilog: channels_3_12"
    remedy = "Use rtl=lnm.Rtl(coefficients='memory'), or --coefficients memory."
    for word, rtl in (
        ("constant", lnm.Rtl(forms=("comb",))),
        ("port", array(12, coefficients="port")),
    ):
        problem = f"coefficients is {word!r} for 3 channels"
        with refused(lnm.UnsupportedError, where, problem, "'memory'", remedy):
            backend.Verilog().emit(replace(per_channel, rtl=rtl))
    parts = ("neurons is 256 for 3 channels", "a multiple of 3", "or --neurons.")
    rtl = array(256, coefficients="memory")
    with refused(lnm.UnsupportedError, where, *parts):
        backend.Verilog().emit(replace(per_channel, rtl=rtl))
    nothing = lnm.Neuron(charge={}, fire=lnm.input("x") - 1, name="nothing")
    remedy = "Use rtl=lnm.Rtl(forms=('comb', 'core', 'seq')), or --forms comb,core,seq."
    with refused(lnm.UnsupportedError, "verilog: nothing", "form 'array'", remedy=remedy):
        lnm.emit(nothing, "verilog", spec=Q4_12, rtl=array(4))
