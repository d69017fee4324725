"""Bit-exact circuits over families, forms, widths and roundings.

Each form runs 10^6 vectors against the C model in Verilator, and 2*10^4 in Icarus.
"""

from __future__ import annotations

import pytest

import lnm_codegen as lnm
from lnm_codegen.hardware.folder import read_circuit
from lnm_codegen.hardware.verify.steps import model
from lnm_codegen.hardware.verify.verilog import icarus, lint, verilator

THETA = {
    1: (0.0, 0.9),
    2: (0.02, 0.85, 0.11),
    3: (0.02, 0.85, 0.11, -0.06),
    4: (0.02, 0.85, 0.11, -0.06, 0.013),
}
NEURONS = {
    "lif": lnm.get("lif"),
    **{f"lnm_{d}": lnm.get("lnm", degree=d, theta=t) for d, t in THETA.items()},
    "izhikevich": lnm.get("izhikevich", a=0.1, b=0.2),
    "cuba_lif": lnm.get("cuba_lif"),
    "two_states_1": lnm.get("lnm", states=2, degree=1),
    "two_states_3": lnm.get(
        "lnm", states=2, degree=3, parametrisation="pole", v_reset=0.0, reset="both",
        theta_v=(0.1, -0.05, 0.04, 0.02, -0.03, 0.01, 0.03),
        theta_w=(-0.04, 0.1, 0.05, -0.02, 0.01, 0.04, -0.01),
    ),
}  # fmt: skip
Q4_12 = lnm.Fixed(16, 12)
CASES = [(name, Q4_12) for name in NEURONS] + [
    ("lnm_3", lnm.Fixed(8, 5)),
    ("lnm_3", lnm.Fixed(12, 9)),
    ("lnm_3", lnm.Fixed(18, 14)),
    ("lnm_3", lnm.Fixed(16, 12, "truncate")),
    ("lnm_3", lnm.Fixed(16, 12, "convergent")),
    ("two_states_1", lnm.Fixed(18, 13)),
]
FORMS = ("comb", "core", "seq", "array")


def _name(value):
    return f"{value}_{value.rounding.value}" if isinstance(value, lnm.Fixed) else value


def passed(step, circuit, count=0):
    """Assert that a step passes with `count` vectors per form; skip if a tool is missing."""
    found = step(circuit)
    if found.status == "skipped":
        pytest.skip(found.checks[0].detail if found.checks else found.name)
    assert found.status == "passed", found
    for check in found.checks if count else ():
        assert check.count >= count, check
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spec"), CASES, ids=_name)
def test_zero_mismatches(name, spec, tmp_path):
    rtl = lnm.Rtl(vectors=20_000)
    lnm.emit(NEURONS[name], "verilog", spec=spec, name=name, rtl=rtl).write(tmp_path)
    circuit = read_circuit(tmp_path, "test")
    assert set(circuit.forms) == set(FORMS)
    passed(model, circuit)
    passed(lint, circuit)
    found = passed(icarus, circuit, 20_000)
    assert len(found.checks) == len(FORMS)
    found = passed(verilator, circuit, 1_000_000)
    assert len(found.checks) == len(FORMS)
