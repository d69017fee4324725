"""Comparison of faults in a pipeline: cells that it accepts, and bits of stored coefficients."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.fixed import ThroughName
from lnm_codegen.hardware.folder import Circuit, CircuitForm, read_circuit
from lnm_codegen.hardware.result import SKIPPED
from lnm_codegen.hardware.tools import missing, solvers
from lnm_codegen.hardware.verify import mutation
from lnm_codegen.hardware.verify.mutation import PIPELINE, Cells, on_wires, prove_equivalence
from tests.hardware.circuits import Q4_12

NEEDS = missing("iverilog", "yosys", "yosys-smtbmc", "sby", "boolector")
needs_tools = pytest.mark.skipif(NEEDS is not None, reason=str(NEEDS))
ROWS = ((0.02, 0.85, 0.11), (0.25, 0.75, 0.03), (0.1, 0.8, 0.07))


def array_of_channels(folder: Path, through: ThroughName = "core") -> Circuit:
    """Write an array of 12 neurons in 3 channels, with coefficients in memory."""
    lnm.emit(
        lnm.get("lnm", degree=2, per="channel"),
        "verilog",
        spec=Q4_12,
        name="unit",
        values={"theta": ROWS},
        rtl=lnm.Rtl(forms=("array",), neurons=12, coefficients="memory", through=through),
    ).write(folder)
    return read_circuit(folder, "verify")


def fault(cell: str, port: str) -> str:
    return f"mutate -mode const0 -module top -cell {cell} -port {port} -portbit 3 -src a.v:7.1"


@pytest.mark.parametrize(
    ("cell", "port", "expected"),
    [
        ("logic", "A", "A"),
        ("register", "D", "D"),
        ("register", "Q", "Q"),
        ("register", "CLK", None),
        ("hold", "A", "Y"),
        ("hold", "B", "Y"),
        ("hold", "Y", "Y"),
        ("hold", "S", None),
        ("enabled", "A", None),
        ("control", "D", None),
        ("outside", "A", None),
    ],
)
def test_faults_of_data_alone_are_compared_on_wires(
    cell: str, port: str, expected: str | None
) -> None:
    """A fault of the path that holds a register is one of the word that enters the register."""
    cells = Cells(
        all=frozenset(("logic", "register", "hold", "enabled", "control")),
        registers=frozenset(("register", "control")),
        hold=frozenset(("hold",)),
        control=frozenset(("control",)),
        enabled=frozenset(("enabled", "hold")),
    )
    command = fault(cell, expected).partition(" -src")[0] if expected else None
    assert on_wires(fault(cell, port), cells) == command


@needs_tools
@pytest.mark.parametrize("through", ["core", "seq"])
def test_bits_that_no_stored_coefficient_has_change_no_output(
    through: ThroughName, tmp_path: Path
) -> None:
    """A stuck bit of a row is proven to have no effect if all rows have that bit, and not else."""
    circuit = array_of_channels(tmp_path / "unit", through)
    form, folder = circuit.forms["array"], tmp_path / "faults"
    folder.mkdir()
    mutation.draw_mutants(circuit, form, folder)
    text = (folder / PIPELINE).read_text()
    cell = r"cell \$dff (\S+)\n(?:(?!  end).*\n)*?    connect \\Q \\coefficients.row\n"
    row = re.search(cell, text)
    assert row, "the register of a row is in the pipeline"
    states = re.search(r"output \d+ signed \\\S*out_v\n", text)
    assert bool(states) == (through == "core"), "states are compared where a pipeline makes them"
    words = [[round(value * 4096) for value in theta] for theta in ROWS]
    bits = {
        16 * (2 - k) + bit: {word[k] >> bit & 1 for word in words}
        for k in range(3)
        for bit in range(16)
    }
    alike = next(bit for bit, found in bits.items() if found == {0})
    differ = next(bit for bit, found in bits.items() if found == {0, 1})
    found = []
    for bit in (alike, differ):
        command = f"mutate -mode const0 -module {form.top} -cell {row[1]} -port Q -portbit {bit}"
        path = folder / f"row{bit}.il"
        script = f"read_rtlil {PIPELINE}\n{command}\nwrite_rtlil {path.name}\n"
        (folder / "row.ys").write_text(script)
        assert mutation.run(("yosys", "-q", "row.ys"), folder).passed
        environment = solvers(folder)
        found.append(prove_equivalence(form.top, folder / PIPELINE, path, None, environment))
    assert [each.proven for each in found] == [True, False]
    assert found[1].detail == "not detected"


MEMORY = """
module top(input clk, input write, input [1:0] a, b, input d, output reg q);
    reg memory [0:3];
    always @(posedge clk) begin
        if (write) memory[a] <= d;
        q <= memory[b];
    end
endmodule
"""


def memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Circuit, CircuitForm]:
    """Write a small circuit with a memory, and have every fault drawn."""
    monkeypatch.setattr(mutation, "COUNT", 200)
    folder.mkdir()
    (folder / "top.v").write_text(MEMORY)
    form = CircuitForm("core", "top", ("top.v",), "top_tb.v", 1, 1, 0)
    return Circuit(folder, {}, "top", {"core": form}, None), form


def files_of(mutants: list[mutation.Mutant], folder: Path) -> list[bool]:
    return [(folder / mutant.source).is_file() for mutant in mutants]


@needs_tools
def test_faults_that_yosys_cannot_write_are_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enable and resets of a read without clock: Yosys 0.52 stops at them, and every fault went."""
    circuit, form = memory(tmp_path / "circuit", monkeypatch)
    mutants, problem = mutation.draw_mutants(circuit, form, tmp_path)
    listed = (tmp_path / "mutations").read_text()
    assert all(f"-port RD_{word} " in listed for word in ("EN", "ARST", "SRST"))
    assert problem == ""
    assert len(mutants) > 40
    assert all(files_of(mutants, tmp_path))
    assert not any(f"RD_{word}[" in m.label for m in mutants for word in ("EN", "ARST", "SRST"))


@needs_tools
def test_a_fault_that_yosys_cannot_write_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are written, and a text says why it is absent; without any the step is skipped."""
    monkeypatch.setattr(mutation, "_NOT_WRITTEN", ())
    circuit, form = memory(tmp_path / "circuit", monkeypatch)
    mutants, problem = mutation.draw_mutants(circuit, form, tmp_path)
    assert re.match(r"Yosys cannot write \d+ of \d+ faults: ERROR: Assert ", problem)
    assert len(mutants) > 40
    assert all(files_of(mutants, tmp_path))
    monkeypatch.setattr(mutation, "draw_mutants", lambda *words: ([], problem))
    (check,) = mutation.mutation(circuit).checks
    assert (check.status, check.detail) == (SKIPPED, problem)


@needs_tools
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("through", "least"), [("core", 15), ("seq", 20)])
def test_a_detected_fault_of_an_array_is_not_proven_equivalent(
    through: ThroughName, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the drawn faults that the testbench detects and that wires for registers can show.

    One closes a loop of wires, so it is compared over cycles.
    """
    monkeypatch.setattr(mutation, "COUNT", 60)
    circuit = array_of_channels(tmp_path / "unit", through)
    form, folder = circuit.forms["array"], tmp_path / "faults"
    folder.mkdir()
    mutants, _ = mutation.draw_mutants(circuit, form, folder)
    detected = [
        mutant
        for mutant in mutants
        if (mutant.on_wires or mutant.on_part)
        and mutation.is_detected(circuit, form, folder / mutant.source)
    ]
    assert len(detected) > least
    assert any("coefficients" in mutant.label for mutant in detected)
    assert any("procdff" in mutant.label for mutant in detected)
    found = mutation._compared(circuit, form, folder, detected)
    assert not any(each.proven for each in found)
    assert through == "seq" or {each.detail for each in found} == {"not detected"}
