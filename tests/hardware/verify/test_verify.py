"""The quick verification steps, and for each a circuit that it must refuse."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import lnm_codegen as lnm
from lnm_codegen.cli import run
from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.hardware import tools
from lnm_codegen.hardware.folder import Circuit, read_circuit
from lnm_codegen.hardware.result import (
    FAILED,
    INCOMPLETE,
    PASSED,
    SKIPPED,
    Check,
    StepResult,
    verdict_of,
)
from lnm_codegen.hardware.tools import missing
from lnm_codegen.hardware.verify import mutation
from lnm_codegen.hardware.verify import verilog as verify_formal
from lnm_codegen.hardware.verify.mutation import Equivalence
from lnm_codegen.hardware.verify.steps import QUICK, STEPS, run_steps, selected_steps
from lnm_codegen.hardware.verify.verilog import shift_products
from tests.hardware.circuits import MANY, Q4_12, replace, write, write_neuron
from tests.refusals import assert_line, refused

needs_simulators = pytest.mark.skipif(
    missing("iverilog", "verilator", "yosys", "g++") is not None,
    reason=str(missing("iverilog", "verilator", "yosys", "g++")),
)
PROVERS = ("sby", "yosys", "yosys-smtbmc", "boolector")
needs_provers = pytest.mark.skipif(missing(*PROVERS) is not None, reason=str(missing(*PROVERS)))


def one(circuit: Circuit, word: str) -> StepResult:
    return next(run_steps(circuit, (word,)))


def failures(step: StepResult) -> dict[str, str]:
    return {check.name: check.detail for check in step.checks if check.status == FAILED}


@pytest.mark.parametrize("kind", ["constant", "memory", "load", "port"])
def test_products_that_synthesis_turns_into_shifts(tmp_path, kind):
    """Coefficients that are a power of two: as constants, and with one value in a memory."""
    write(tmp_path, degree=2)
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    first, _, second = manifest["coefficients"][:3]
    assert first["name"] == "theta_0"
    second["integers"] = [1 << 10]  # of the product theta_2 * v
    manifest["coefficients_on"], manifest["shift_add"] = kind, 0
    circuit = replace_manifest(tmp_path, manifest)
    assert shift_products(circuit) == (0 if kind in ("port", "load") else 1)
    manifest["shift_add"] = 2  # the source has a shift in place of a multiplier for a constant
    assert shift_products(replace_manifest(tmp_path, manifest)) == int(kind == "memory")
    second["integers"] = [1 << 10, 1 << 10]
    assert shift_products(replace_manifest(tmp_path, manifest)) == 0


@needs_simulators
@pytest.mark.parametrize(
    ("neuron", "spec"),
    [
        pytest.param(lnm.get("lnm", degree=3), lnm.Fixed(16, 12), marks=pytest.mark.slow),
        pytest.param(lnm.get("lif", tau=3.0), lnm.Fixed(24, 16), marks=pytest.mark.slow),
        (lnm.get("lnm", degree=2, theta=(0.0, 0.25, -0.25), v_min=-2.0), lnm.Fixed(4, 2)),
    ],
    ids=["constants through names", "wide factors", "few bits"],
)
def test_synthesis_passes_what_yosys_folds_and_splits(tmp_path, neuron, spec):
    """`h_1` is 0 where the last coefficients are 0; a factor of 24 bits takes two multipliers."""
    found = one(write_neuron(tmp_path, neuron, spec, forms=("core",)), "synthesis")
    assert [check.status for check in found.checks] == [PASSED], found
    assert " 2 DSP," not in found.checks[0].detail


def replace_manifest(folder: Path, manifest: object) -> Circuit:
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return read_circuit(folder, "verify")


@needs_simulators
def test_the_quick_steps_in_text_and_json(tmp_path, capsys):
    """report.json holds formats, times, checks, and the versions of the tools."""
    write(tmp_path / "unit", degree=2)
    assert run(["verify", str(tmp_path / "unit"), "--quick"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[:2] for line in text.splitlines()[:3]] == [[w, PASSED] for w in QUICK]
    assert text.endswith(f"unit: passed; written to {tmp_path}/unit/report.json\n")
    assert run(["verify", str(tmp_path / "unit"), "--only", "icarus", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    report = json.loads((tmp_path / "unit" / "report.json").read_text(encoding="utf-8"))
    assert shown == {"folder": str(tmp_path / "unit"), "status": PASSED, **report}
    assert list(report["verification"]) == list(QUICK)
    assert report["forms"]["core"]["latency_cycles"] == 9
    assert report["format"] == "Q4.12"
    assert report["verification"]["model"]["count"] == 40_000
    assert {"python", "iverilog", "verilator", "yosys"} <= set(report["tools"])


@needs_simulators
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "form"),
    [
        ("lnm", {"states": 2, "degree": 1}, "seq"),
        ("lnm", {"states": 2, "degree": 2, "parametrisation": "pole"}, "comb"),
        ("lnm", {"states": 2, "degree": 3}, "core"),
        ("izhikevich", {}, "array"),
    ],
)
def test_the_quick_steps_of_two_states(tmp_path, name, arguments, form):
    circuit = write_neuron(tmp_path, lnm.get(name, **arguments), forms=(form,), vectors=MANY)
    found = {step.name: step.status for step in run_steps(circuit, QUICK)}
    assert found == dict.fromkeys(QUICK, PASSED)


@needs_simulators
def test_a_stopped_verification_is_incomplete(tmp_path, capsys, monkeypatch):
    """The report has the steps that ended; the others are incomplete, and a result of old goes."""
    write(tmp_path)
    assert run(["verify", str(tmp_path), "--only", "lint"]) == 0
    capsys.readouterr()

    def stopped(circuit: Circuit) -> StepResult:
        raise ToolError("lint", "stopped")

    monkeypatch.setitem(STEPS, "lint", stopped)
    assert run(["verify", str(tmp_path), "--only", "model,lint,icarus"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("model ")
    assert printed.err.splitlines()[:2] == ["model: running", "lint: running"]
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    found = {name: step["status"] for name, step in report["verification"].items()}
    assert found == {"model": PASSED, "lint": INCOMPLETE, "icarus": INCOMPLETE}


@needs_simulators
def test_lint_refuses_a_warning_and_a_latch(tmp_path):
    circuit = write(tmp_path)
    replace(tmp_path / "rtl" / "unit_next.v", "endmodule", "    wire idle;\nendmodule")
    latch = "    reg kept;\n    always @* if (v[0]) kept = x[0];\n"
    latch += "    wire read_it = &{1'b0, kept};\n"
    replace(
        tmp_path / "rtl" / "unit_core.v",
        "endmodule",
        latch.replace("v[", "in_v[").replace("x[", "in_x[") + "endmodule",
    )
    found = failures(one(circuit, "lint"))
    assert "verilator -Wall: unit_comb" in found
    assert "no latch: unit_core" in found
    assert "no latch: unit_comb" not in found


@needs_simulators
def test_icarus_refuses_a_wrong_result_and_a_part_of_the_vectors(tmp_path):
    circuit = write(tmp_path)
    vectors = tmp_path / "tb" / "unit_step.hex"
    text = vectors.read_text()
    vectors.write_text("".join(text.splitlines(keepends=True)[:5]))
    lost = "FAIL unit_core: 97 of 100 words of unit_step.hex are missing or unknown"
    assert failures(one(circuit, "icarus")) == {"unit_core": lost}
    vectors.write_text(text)
    replace(tmp_path / "rtl" / "unit_core.v", "assign out_spike = ", "assign out_spike = !")
    found = failures(one(circuit, "icarus"))
    assert list(found) == ["unit_core"]
    assert found["unit_core"].startswith("FAIL unit_core: ")


@needs_simulators
def test_models_refuse_a_wrong_one(tmp_path):
    """The C model with the other sign."""
    circuit = write(tmp_path)
    assert one(circuit, "model").status == PASSED
    replace(
        tmp_path / "model" / "unit_model_step.h",
        "h_1 = fixed_saturate_32(fixed_half_up_32(",
        "h_1 = fixed_saturate_32(-fixed_half_up_32(",
    )
    found = failures(one(circuit, "model"))
    assert list(found) == ["NumPy = C"]
    assert " of 20000 differ in " in found["NumPy = C"]


def only(circuit: Circuit, kind: str) -> Circuit:
    """Remove the proofs of other kinds."""
    for path in (circuit.folder / "formal").glob("*.sby"):
        if path.stem != f"unit_{kind}":
            path.unlink()
    return circuit


@needs_provers
def test_a_proof_and_its_control(tmp_path, monkeypatch):
    """The single-cycle step against the core without registers, right and with a clamp dropped."""
    circuit = only(write(tmp_path), "next")
    found = one(circuit, "formal")
    assert [(c.name, c.status) for c in found.checks] == [
        ("unit_next: proof", PASSED), ("unit_next: control", PASSED),
    ]  # fmt: skip
    replace(tmp_path / "rtl" / "unit_core.v", ".FITS(0)", ".FITS(1)")
    monkeypatch.setattr(verify_formal, "_tasks", lambda file: ["proof"])
    assert failures(one(circuit, "formal")) == {"unit_next: proof": "refuted"}


x = lnm.input("x")
WIDE = lnm.FixedSpec(lnm.Fixed(16, 12), {"h": lnm.Fixed(24, 12)})
NARROW = lnm.FixedSpec(lnm.Fixed(16, 12), {"v": lnm.Fixed(14, 12)})


@needs_provers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "neuron", "spec"),
    [
        ("step", lnm.get("lif", tau=3.0), WIDE),
        ("next", lnm.Neuron(fire=x - 0.5, name="gate"), Q4_12),
        ("state", lnm.get("lif"), Q4_12),
        ("state", lnm.get("lif", tau=60.0), Q4_12),
        ("state", lnm.get("adlif"), Q4_12),
        ("state", lnm.get("lif", v_reset=None), NARROW),
        ("state", lnm.get("lif", v_reset=None, v_threshold=3.0), NARROW),
        ("state", lnm.get("lif", v_threshold=3.0), NARROW),
    ],
)
def test_proofs_and_controls_of_other_neurons(tmp_path, kind, neuron, spec):
    """Each once had a control that was proven, or a proof that was refuted.

    No clamp acts where `h` is wide. A comparison with 2^k reads no bit below k. The control of the
    bounds takes as many steps as the state takes to its bound, of which 2 did not suffice for
    `adlif`. Bounds of a state narrower than its charge exceeded its format.
    """
    forms = ("comb",) if kind == "state" else ("core",)
    circuit = only(write_neuron(tmp_path, neuron, spec, forms=forms), kind)
    assert {c.name: c.status for c in one(circuit, "formal").checks} == {
        f"unit_{kind}: proof": PASSED, f"unit_{kind}: control": PASSED,
    }  # fmt: skip


def test_every_step_names_missing_tools(tmp_path, monkeypatch):
    """Without tools a step is skipped, with the command that installs them."""
    circuit = write(tmp_path, degree=1)
    monkeypatch.setattr(tools, "find", lambda word: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    skips = {
        word: {c.detail for c in one(circuit, word).checks if c.status == SKIPPED}
        for word in STEPS
        if word != "model"
    }
    assert skips["icarus"] == {"iverilog not found on PATH. To install: apt-get install iverilog"}
    assert skips["cocotb"] == {"cocotb is not installed. To install: pip install cocotb"}
    assert "boolector not found" not in skips["formal"]
    for word, details in skips.items():
        assert details, word
        assert all(" To install: " in detail for detail in details), word
    assert {one(circuit, word).status for word in skips} == {SKIPPED}


def test_skipped_steps_are_in_the_last_line(tmp_path, monkeypatch, capsys):
    write(tmp_path)
    monkeypatch.setattr(tools, "find", lambda word: None)
    arguments = ["verify", str(tmp_path), "--quick"]
    assert run(arguments) == 3
    last = capsys.readouterr().out.splitlines()[-1]
    missing = "tools are missing in model, lint, icarus"
    assert last == f"unit: incomplete, {missing}; written to {tmp_path}/report.json"
    assert run([*arguments, "--allow-missing"]) == 0
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["status"] == "incomplete"
    assert run(["verify", str(tmp_path), "--quick", "--only", "model"]) == 2
    assert_line(capsys.readouterr().err, "verify: ", "--only", "--quick")


def test_selected_steps():
    assert selected_steps(None) == tuple(STEPS)
    assert selected_steps(None, quick=True) == QUICK
    assert selected_steps("icarus, model") == ("model", "icarus")
    problem = "no verification step 'icaros'"
    with refused(ModelError, "verify: --only", problem, ", ".join(STEPS), "Did you mean 'icarus'?"):
        selected_steps("icaros")
    with refused(
        ModelError, "verify: --only", "no verification step 'simulation'", "model",
        "The simulations are icarus, cocotb, verilator.",
    ):  # fmt: skip
        selected_steps("simulation")
    with refused(ModelError, "verify: --only", "no verification step ' , '"):
        selected_steps(" , ")


def test_the_status_of_a_step():
    def step(*words: str) -> StepResult:
        return StepResult("any", tuple(Check(w, w, 2) for w in words))

    assert step(PASSED, SKIPPED).status == PASSED
    assert step(PASSED, FAILED, SKIPPED).status == FAILED
    assert step(SKIPPED).status == SKIPPED
    assert step(PASSED, FAILED, PASSED).count == 4
    assert verdict_of([step(PASSED)]) == PASSED
    assert verdict_of([step(PASSED), step(PASSED, SKIPPED)]) == INCOMPLETE
    assert verdict_of([step(SKIPPED), step(FAILED)]) == FAILED


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, capsys):
    """The error comes before the first step, and nothing is left behind."""
    write(tmp_path)
    (tmp_path / "report.json").mkdir()
    before = set(tmp_path.iterdir())

    def never(*arguments: object) -> None:
        raise AssertionError("the step ran")

    monkeypatch.setitem(STEPS, "icarus", never)
    monkeypatch.setattr("lnm_codegen.hardware.synth.measure", never)
    for verb, options, section in (
        ("verify", ["--only", "icarus"], "verification"),
        ("synth", ["--form", "core"], "synthesis"),
    ):
        assert run([verb, str(tmp_path), *options]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err == (
            f"error: {section}: cannot write {tmp_path}/report.json: Is a directory. Give a folder"
            " that can be written.\n"
        )
    assert set(tmp_path.iterdir()) == before


@needs_simulators
def test_a_path_that_tools_trip_over(tmp_path):
    """A space ends a file name of Yosys and of make, a semicolon a command.

    Nothing appears in the folder.
    """
    circuit = write(tmp_path / "a b;c", forms=("core",))
    before = {p for p in circuit.folder.rglob("*") if "__pycache__" not in p.parts}
    for word in ("model", "lint", "icarus", "synthesis"):
        assert one(circuit, word).status == PASSED
    assert {p for p in circuit.folder.rglob("*")} == before
    assert read_circuit(circuit.folder, "verify").digest() == circuit.digest()
    copy = circuit.copied(tmp_path / "copy")
    assert copy.digest() == circuit.digest()
    assert copy.folder == tmp_path / "copy"


def test_only_faults_that_change_nothing_are_no_verdict():
    """A share of no faults is neither 1 nor too small."""
    faults = [mutation.Mutant(n, "mutate -mode inv", None, None) for n in range(2)]
    proofs = {fault: Equivalence(True, "proven") for fault in faults}
    step = mutation._scored(SimpleNamespace(top="unit"), faults, proofs, [], "", 1.0)
    assert step.status == SKIPPED
    assert "score" not in dict(step.figures)
    assert step.checks[0].detail == "0 of 0 faults detected; 2 of 2 drawn change no output"


def test_faults_of_several_circuits_are_summed(monkeypatch, capsys, tmp_path):
    """The line of the step has k of n; the score once was that of the last array alone."""
    parts = [
        StepResult("mutation", (), figures=mutation._figures(40, seen, 30, same))
        for seen, same in ((36, 3), (35, 5))
    ]
    figures = mutation.summed_figures(parts)
    assert dict(figures) == {
        "drawn": 80, "seen": 71, "seen_by_testbench": 60, "equivalent": 8, "score": 0.9861,
    }  # fmt: skip
    step = StepResult("mutation", (Check("unit", PASSED, 71),), 2.0, figures)
    assert mutation.faults_text(step) == "71 of 72 faults detected"
    assert mutation.faults_text(StepResult("lint", (Check("unit", PASSED),))) == ""
    assert mutation.summed_figures([StepResult("mutation", ())]) == ()
    circuit = write(tmp_path, degree=1)
    monkeypatch.setitem(STEPS, "mutation", lambda found: step)
    assert run(["verify", str(circuit.folder), "--only", "mutation"]) == 0
    (line, _) = capsys.readouterr().out.splitlines()
    assert line == "mutation   passed          71     0.0 s  71 of 72 faults detected"
