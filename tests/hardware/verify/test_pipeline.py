"""Comparison of faults in a pipeline: cells that it accepts, and bits of stored coefficients."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.hardware.folder import Circuit, read_circuit
from lnm_codegen.hardware.tools import missing, solvers
from lnm_codegen.hardware.verify import mutation
from lnm_codegen.hardware.verify.equivalence import prove_equivalence
from lnm_codegen.hardware.verify.pipeline import PIPELINE, Cells, on_wires
from tests.hardware.circuits import Q4_12

NEEDS = missing("iverilog", "yosys", "yosys-smtbmc", "sby", "boolector")
needs_tools = pytest.mark.skipif(NEEDS is not None, reason=str(NEEDS))
ROWS = ((0.02, 0.85, 0.11), (0.25, 0.75, 0.03), (0.1, 0.8, 0.07))


def array_of_channels(folder: Path) -> Circuit:
    """Write an array of 12 neurons in 3 channels, with coefficients in memory."""
    lnm.emit(
        lnm.get("lnm", degree=2, per="channel"),
        "verilog",
        spec=Q4_12,
        name="unit",
        values={"theta": ROWS},
        rtl=lnm.Rtl(forms=("array",), neurons=12, coefficients="memory"),
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
def test_bits_that_no_stored_coefficient_has_change_no_output(tmp_path: Path) -> None:
    """A stuck bit of a row is proven to have no effect if all rows have that bit, and not else."""
    circuit = array_of_channels(tmp_path / "unit")
    form, folder = circuit.forms["array"], tmp_path / "faults"
    folder.mkdir()
    mutation.draw_mutants(circuit, form, folder)
    text = (folder / PIPELINE).read_text()
    cell = r"cell \$dff (\S+)\n(?:(?!  end).*\n)*?    connect \\Q \\coefficients.row\n"
    row = re.search(cell, text)
    assert row, "the register of a row is in the pipeline"
    assert re.search(r"output \d+ signed \\\S*out_v\n", text), "states are compared"
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


@needs_tools
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_detected_fault_of_an_array_is_not_proven_equivalent(tmp_path: Path) -> None:
    """Each of the drawn faults that the testbench detects and that wires for registers can show."""
    circuit = array_of_channels(tmp_path / "unit")
    form, folder = circuit.forms["array"], tmp_path / "faults"
    folder.mkdir()
    mutants = mutation.draw_mutants(circuit, form, folder)
    detected = [
        mutant
        for mutant in mutants
        if mutant.on_wires and mutation.is_detected(circuit, form, folder / mutant.source)
    ]
    assert len(detected) > 15
    assert any("coefficients" in mutant.label for mutant in detected)
    assert any("procdff" in mutant.label for mutant in detected)
    found = mutation._compared(circuit, form, folder, detected)
    assert {each.detail for each in found} == {"not detected"}
