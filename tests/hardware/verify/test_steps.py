"""All verification steps, and the faults that the slow ones must detect."""

from __future__ import annotations

import json
from functools import partial

import pytest

import lnm_codegen as lnm
from lnm_codegen.cli import run
from lnm_codegen.hardware.result import FAILED, PASSED, SURVIVED
from lnm_codegen.hardware.tools import missing, temporary_folder
from lnm_codegen.hardware.verify import mutation as verify_mutation
from lnm_codegen.hardware.verify.mutation import Equivalence
from lnm_codegen.hardware.verify.steps import STEPS
from tests.hardware import circuits
from tests.hardware.circuits import MANY, replace
from tests.hardware.verify.test_verify import failures, one, only

ALL = ("g++", "make", "iverilog", "verilator", "yosys", "yosys-smtbmc", "sby", "boolector")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing(*ALL) is not None, reason=str(missing(*ALL))),
]
FORMS = ("comb", "core", "seq", "array")
write = partial(circuits.write, vectors=MANY)
write_neuron = partial(circuits.write_neuron, vectors=MANY)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_every_step_passes(tmp_path, capsys, reset):
    """Every step passes and none is skipped; each proof has a control; mutations are detected."""
    write(tmp_path, degree=2, forms=FORMS, v_reset=0.0 if reset == "hard" else None)
    assert_every_step_passes(tmp_path, capsys)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("spec", [lnm.Fixed(16, 12), lnm.Fixed(18, 13)], ids=str)
def test_every_step_passes_for_two_states(tmp_path, capsys, spec):
    """`lnm` of two states and degree 1 with its initial values, in Q4.12 and in Q5.13."""
    write_neuron(tmp_path, lnm.get("lnm", states=2, degree=1), spec)
    assert_every_step_passes(tmp_path, capsys)


def assert_every_step_passes(tmp_path, capsys):
    status = run(["verify", str(tmp_path), "--json"])
    report = json.loads(capsys.readouterr().out)
    found = report["verification"]
    assert {name: step["status"] for name, step in found.items()} == dict.fromkeys(STEPS, PASSED)
    assert status == 0
    proofs = {check["name"] for check in found["formal"]["checks"]}
    kinds = ("array", "clamp", "next", "pipeline", "seq", "state", "step")
    assert {f"unit_{kind}: {task}" for kind in kinds for task in ("proof", "control")} <= proofs
    assert all(check["seconds"] < 60 for check in found["formal"]["checks"])
    assert found["mutation"]["score"] > 0.9
    assert found["verilator"]["count"] == 4_000_000
    assert found["synthesis"]["count"] == 4


def test_synthesis_counts_multipliers(tmp_path):
    circuit = write(tmp_path, degree=2, forms=("core",))
    replace(tmp_path / "rtl" / "unit_mul.v", "p <= a * b", "p <= a + b")
    found = failures(one(circuit, "synthesis"))
    assert found["unit_core"].endswith(" 0 DSP, 0 BRAM; 2 DSP expected")


def test_verilator_refuses_a_wrong_model(tmp_path):
    circuit = write(tmp_path, forms=("core",))
    replace(
        tmp_path / "model" / "unit_model_step.h",
        "fixed_half_up_32(theta",
        "-fixed_half_up_32(theta",
    )
    assert failures(one(circuit, "verilator"))["unit_core"].startswith("FAIL unit_core: ")


def test_cocotb_waits_for_a_long_pipeline(tmp_path):
    """A core of 183 cycles gives no result for 200 cycles where ce pauses."""
    theta = lnm.param("theta", size=61, init=(0.1, 0.5) + (0.01,) * 59)
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron({v: lnm.poly(v, theta) + x}, v - 1, reset=lnm.hard_reset(v, 0.0))
    circuit = write_neuron(tmp_path, neuron, forms=("core",))
    assert circuit.forms["core"].latency > 180
    assert not failures(one(circuit, "cocotb"))


def test_cocotb_refuses_a_wrong_result(tmp_path):
    circuit = write(tmp_path, forms=("core",))
    replace(tmp_path / "rtl" / "unit_core.v", "assign out_spike = ", "assign out_spike = !")
    assert set(failures(one(circuit, "cocotb"))) == {"icarus: unit_core", "verilator: unit_core"}


@pytest.mark.parametrize(
    ("file", "old", "new", "refuted"),
    [
        ("step", "dropped || CONVERGENT == 0", "CONVERGENT == 0", "unit_step: proof"),
        ("clamp", "if (below) q <= {1'b1", "if (below) q <= {1'b0", "unit_clamp: proof"),
        ("core", ".CYCLES(3)", ".CYCLES(2)", "unit_pipeline: proof"),
        ("next", "_THETA_0 = 16'sd82", "_THETA_0 = 16'sd83", "unit_next: proof"),
        ("next", "16'sd0 : h", "16'sd1 : h", "unit_state: proof"),
        ("seq", "out_valid && !out_ready", "1'b0", "unit_seq: proof"),
        ("seq", "= _free && !rst;", "= _free;", "unit_seq: proof"),
        ("array", "= accepts && !rst;", "= accepts;", "unit_array: proof"),
        (
            "array",
            "wire ce = !m_axis_tvalid || m_axis_tready;",
            "wire ce = 1'b1;",
            "unit_array: proof",
        ),
    ],
)
def test_each_proof_refuses_a_fault_in_the_circuit(tmp_path, file, old, new, refuted):
    """Beside the control: the emitted file itself with a fault."""
    circuit = write(tmp_path, degree=2, forms=FORMS)
    replace(tmp_path / "rtl" / f"unit_{file}.v", old, new)
    stem = refuted.partition(":")[0]
    only(circuit, stem.removeprefix("unit_"))
    why = failures(one(circuit, "formal"))[refuted]
    induction = "not proven: the induction does not hold"
    by_induction = stem in ("unit_seq", "unit_array") and "rst" not in old
    assert why == (induction if by_induction else "refuted")


def test_a_detected_fault_is_not_proven_equivalent(tmp_path):
    """The prover distinguishes detected faults from the correct circuit, by both methods."""
    circuit = write(tmp_path, forms=("core",))
    form = circuit.forms["core"]
    with temporary_folder() as folder:
        mutants, _ = verify_mutation.draw_mutants(circuit, form, folder)
        assert len(mutants) == verify_mutation.COUNT
        detected = [
            m for m in mutants if verify_mutation.is_detected(circuit, form, folder / m.source)
        ]
        on_wires = next(m for m in detected if m.on_wires)
        of_control = next(m for m in detected if not m.on_wires)
        found = verify_mutation._compared(circuit, form, folder, [on_wires, of_control])
    assert [v.detail for v in found] == ["not detected", "not detected"]
    assert not any(v.proven for v in found)


def test_faults_of_ce_and_rst_are_not_compared_on_wires(tmp_path):
    """Wires for registers would hide a fault in the logic that holds or clears them."""
    circuit = write(tmp_path, forms=("core",))
    with temporary_folder() as folder:
        mutants, _ = verify_mutation.draw_mutants(circuit, circuit.forms["core"], folder)
    wires = {m.label for m in mutants if m.on_wires}
    others = {m.label for m in mutants if not m.on_wires}
    assert any("$add$" in label or "$mul$" in label for label in wires)
    assert any("$procdff" in label for label in wires)
    assert not any(".S[" in label for label in wires)
    assert any(".S[" in label for label in others)


def test_a_blind_testbench_fails(tmp_path, monkeypatch):
    circuit = write(tmp_path, forms=("core",))
    replace(tmp_path / "tb" / "unit_core_tb.v", "if (wrong == 0)", "if (1'b1)")
    unknown = Equivalence(False, "not detected")
    monkeypatch.setattr(verify_mutation, "_compared", lambda c, f, d, m: [unknown] * len(m))
    monkeypatch.setattr(verify_mutation, "_differs", lambda *words: False)
    found = one(circuit, "mutation")
    assert found.status == FAILED
    assert dict(found.figures)["score"] < 0.5
    assert SURVIVED in {check.status for check in found.checks}


def test_a_testbench_that_fails_the_correct_circuit_fails(tmp_path):
    """It would fail every fault too, so its score would mean nothing."""
    circuit = write(tmp_path, forms=("core",))
    replace(tmp_path / "tb" / "unit_core_tb.v", "if (wrong == 0)", "if (1'b0)")
    found = one(circuit, "mutation")
    assert found.status == FAILED
    assert [check.detail for check in found.checks] == [
        "the testbench fails the correct circuit as Yosys writes it"
    ]
