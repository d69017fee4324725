"""The time step on one multiplier: equal to the kernel, at its interval, stable in a stall.

The tests run the emitted testbench, also on circuits with a fault, in which it must fail.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.fixed import FixedModel
from lnm_codegen.backends.verilog.backend import Verilog
from tests.backends.verilog.runs import (
    Bench,
    model,
    needs_iverilog,
    needs_verilator,
    needs_yosys,
)
from tests.backends.verilog.test_backend import random_models

THETA = {
    1: (0, 0.9),
    2: (0.02, 0.85, 0.11),
    3: (0.02, 0.85, 0.11, -0.06),
    4: (0.02, 0.85, 0.11, -0.06, 0.013),
}
FAMILIES = {
    "if": {},
    "lif": {"tau": 3.0},
    "li": {"tau": 3.0},
    "qif": {},
    "cuba_lif": {"current_decay": 0.6, "voltage_decay": 0.77},
    "izhikevich": {"tau": 3.0, "a": 0.3, "b": 0.2},
    "ternary": {"decay": 0.3},
    "lnm": {"degree": 3, "theta": THETA[3]},
}
ROUNDINGS = ("half_up", "truncate", "convergent")
MOST_LUT = 135


def seq(neuron: lnm.Neuron, name: str, rounding: str = "half_up", **options) -> FixedModel:
    coefficients = options.pop("coefficients", "constant")
    spec = options.pop("spec", lnm.Fixed(16, 12, rounding))
    return model(neuron, spec, name, lnm.Rtl(forms=("seq",), coefficients=coefficients), **options)


def cubic(**options) -> lnm.Neuron:
    return lnm.get("lnm", **{"degree": 3, "theta": THETA[3], **options})


def some() -> list[FixedModel]:
    """Return a model for each case of a schedule."""
    mixed = lnm.FixedSpec(
        lnm.Fixed(16, 12), {"theta_3": lnm.Fixed(10, 9), "h_2": lnm.Fixed(18, 13)}
    )
    return [
        seq(cubic(), "cubic"),
        seq(cubic(v_reset=None), "soft", "truncate"),
        seq(cubic(v_reset=None), "soft_port", coefficients="port"),
        seq(cubic(), "cubic_port", "convergent", coefficients="port"),
        seq(cubic(), "narrow", spec=lnm.Fixed(8, 5)),
        seq(cubic(), "mixed", spec=mixed),
        seq(lnm.get("lnm", degree=4, theta=THETA[4]), "estrin", scheme="estrin"),
        seq(lnm.get("if"), "no_product"),
        seq(lnm.get("cuba_lif"), "shifts_alone"),
        seq(lnm.get("li", tau=3.0), "two_products", "convergent"),
        seq(lnm.get("izhikevich", **FAMILIES["izhikevich"]), "izhikevich"),
        seq(lnm.get("ternary", decay=0.3), "ternary"),
        seq(lnm.get("lnm", states=2, degree=1), "two_states"),
        seq(lnm.get("lnm", states=2, degree=3, v_reset=0.0), "two_states_cubic", "truncate"),
        seq(named_as_the_circuit(), "names"),
    ]


def named_as_the_circuit() -> lnm.Neuron:
    """A neuron with the names of the circuit's registers, without their underscore."""
    acc, idle = lnm.state("acc"), lnm.input("idle")
    factor, pending = lnm.param("factor", init=0.7), lnm.param("pending", init=0.3)
    return lnm.Neuron(
        charge={acc: factor * acc * acc + pending * idle},
        fire=acc - 1,
        reset=lnm.hard_reset(acc, 0.0),
        surrogate=lnm.surrogate.atan(),
        name="names",
    )


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    found = Bench(tmp_path_factory.mktemp("seq"))
    for each in some():
        found.add(each)
    return found


@needs_iverilog
def test_equals_the_kernel(bench):
    bench.simulate()


@needs_iverilog
@needs_verilator
def test_lint_is_silent(bench):
    bench.lint()


def every() -> list[FixedModel]:
    return [
        seq(
            lnm.get(family, **arguments),
            f"{family}_{rounding}_{where}",
            rounding,
            coefficients=where,
        )
        for family, arguments in FAMILIES.items()
        for rounding in ROUNDINGS
        for where in ("constant", "port")
    ]


def drawn() -> list[FixedModel]:
    return [
        replace(m, name=f"drawn_{k}", rtl=replace(m.rtl, forms=("seq",)))
        for k, m in enumerate(random_models(80, 8))
    ]


@needs_iverilog
@needs_verilator
@pytest.mark.slow
@pytest.mark.parametrize("models", [every, drawn])
def test_every_family_and_random_kernels(models, tmp_path):
    found = Bench(tmp_path)
    for each in models():
        found.add(each)
    found.simulate()
    found.lint()


def emitted(each: FixedModel) -> tuple[dict[str, str], dict]:
    files = Verilog().emit(each).files
    return files, json.loads(files["manifest.json"])["forms"]["seq"]


@pytest.mark.parametrize("degree", sorted(THETA))
def test_degree_d_takes_3d_plus_4_cycles_on_one_multiplier(degree):
    each = seq(lnm.get("lnm", degree=degree, theta=THETA[degree]), "neuron")
    files, form = emitted(each)
    assert (form["interval"], form["latency"], form["multipliers"]) == (
        3 * degree + 4,
        3 * degree + 5,
        1,
    )
    text = files["rtl/neuron_seq.v"]
    assert len(re.findall(r"neuron_mul #", text)) == 1
    assert not re.search(r"\w \* \w", re.sub(r"//.*", "", text))


def test_soft_reset_is_one_step_more():
    assert emitted(seq(cubic(v_reset=None), "neuron"))[1]["interval"] == 3 * 3 + 4 + 3


def test_each_product_is_a_step():
    """Eight multiply-adds and the saturated sum of the jump of w, which shares their adder."""
    each = seq(lnm.get("izhikevich", **FAMILIES["izhikevich"]), "neuron", coefficients="port")
    assert emitted(each)[1]["interval"] == 3 * (8 + 1) + 1


def test_two_states_take_four_products_and_a_reset():
    """The input is part of the first multiply-add, and one sum has two products."""
    form = emitted(seq(lnm.get("lnm", states=2, degree=1), "neuron"))[1]
    assert (form["interval"], form["latency"], form["multipliers"]) == (16, 17, 1)


@pytest.mark.parametrize("family", ["if", "cuba_lif"])
def test_without_products_there_is_no_multiplier(family):
    files, form = emitted(seq(lnm.get(family), "neuron"))
    assert (form["multipliers"], form["files"]) == (0, ["rtl/neuron_seq.v"])
    assert "rtl/neuron_mul.v" not in files


def test_in_ready_depends_on_registers_and_rst_only():
    text = emitted(seq(cubic(), "neuron"))[0]["rtl/neuron_seq.v"]
    assert "wire _free  = _idle && !(_pending && out_valid);" in text
    assert "assign in_ready = _free && !rst;" in text
    driven = [line for line in text.splitlines() if "out_ready" in line and "//" not in line]
    assert len(driven) == 2  # the port, and the register out_valid


BREAKS = {
    "payload": ("if (_pending && _free) begin", "if (_pending) begin"),
    "loses": ("wire _free  = _idle && !(_pending && out_valid);", "wire _free  = _idle;"),
    "ready in rst": ("assign in_ready = _free && !rst;", "assign in_ready = _free;"),
    "withdraws": ("(out_valid && !out_ready);", "1'b0;"),
    "repeats": ("(out_valid && !out_ready);", "out_valid;"),
    "reset": ("_clamping    <= 1'b0;", ""),
    "slow": ("wire _last  = _step == 2'd3;", "wire _last  = _step == 2'd0 && !_idle;"),
    "wraps": ("if (_below) _acc", "if (1'b0) _acc"),
    "rounding": ("{_THETA_1, 1'd1}", "{_THETA_1, 1'd0}"),
}


def simulated(folder: Path, files: dict[str, str]) -> str:
    for path, text in files.items():
        (folder / Path(path).name).write_text(text, encoding="utf-8")
    circuit = [path for path in files if path.startswith(("rtl/", "tb/"))]
    sources = [Path(path).name for path in circuit if path.endswith(".v")]
    subprocess.run(
        ["iverilog", "-g2005", "-o", "sim", "-s", "neuron_seq_tb", *sources], cwd=folder, check=True
    )
    done = subprocess.run(
        ["vvp", "-n", "sim"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return done.stdout.splitlines()[-1]


@needs_iverilog
@pytest.mark.parametrize("word", BREAKS)
def test_the_testbench_finds_faults(word, tmp_path):
    files = emitted(seq(cubic(), "neuron"))[0]
    old, new = BREAKS[word]
    text = files["rtl/neuron_seq.v"]
    assert text.count(old) == 1
    broken = files | {"rtl/neuron_seq.v": text.replace(old, new)}
    assert simulated(tmp_path, broken).startswith("FAIL neuron_seq:")


@needs_iverilog
def test_two_thousand_vectors(tmp_path):
    files = emitted(seq(cubic(), "neuron"))[0]
    assert simulated(tmp_path, files) == "PASS neuron_seq: 2000 vectors"


@needs_yosys
@pytest.mark.parametrize(
    "degree",
    [1, 2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)],
)
def test_one_dsp_and_few_lut(degree, tmp_path):
    files = emitted(seq(lnm.get("lnm", degree=degree, theta=THETA[degree]), "neuron"))[0]
    for path in ("rtl/neuron_mul.v", "rtl/neuron_seq.v"):
        (tmp_path / Path(path).name).write_text(files[path], encoding="utf-8")
    script = (
        "read_verilog neuron_mul.v neuron_seq.v; proc; select -assert-none t:$dlatch;"
        " synth_ecp5 -top neuron_seq; tee -q -o stat.json stat -json"
    )
    subprocess.run(["yosys", "-q", "-p", script], cwd=tmp_path, check=True, capture_output=True)
    cells = json.loads((tmp_path / "stat.json").read_text())["design"]["num_cells_by_type"]
    assert cells["MULT18X18D"] == 1
    assert cells["LUT4"] + 2 * cells["CCU2C"] <= MOST_LUT
