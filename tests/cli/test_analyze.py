"""`lnm analyze`: text, JSON, figure, and errors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.cli.options import parse_format, parse_intervals
from lnm_codegen.errors import ModelError
from tests.cli.conftest import Call

CUBIC = ("lnm", "--set", "theta=0.02,0.85,0.11,-0.06")
RUNAWAY = ("lnm", "--set", "theta=.05,.6,-.1,.15", "--x", ".35")


def test_a_neuron_that_stays(call: Call) -> None:
    status, out, _ = call("analyze", *CUBIC)
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "v in [-1.8135, 1]: never left (proven)" in lines
    assert "x = 0 0.148123 0.878638 stable" in lines
    assert "x = -1 -1.80325 -0.132027 stable, alternating" in lines
    assert "h_3 [-0.813503, 0.92] exact" in lines
    assert "v_next [-1.8135, 1] exact" in lines


def test_a_neuron_that_runs_away(call: Call) -> None:
    """The inputs that drive it out are printed, and no ranges, as none are known."""
    status, out, _ = call("analyze", *RUNAWAY)
    assert status == 0
    assert "  v is driven past 100: -552.787 after 13 steps\n    x = 13 times -0.35\n" in out
    assert "none: no interval of the states is known" in out


@pytest.mark.slow
def test_bound_values(call: Call) -> None:
    """A Runge-Kutta step has its eigenvalues, and the reason why no interval is known.

    It was refused: "its range exceeds 1.84467e+19". At a fixed point of ds/dt = g(s), a sub-step of
    length h takes an eigenvalue z/h of g's Jacobian to 1 + z + z**2/2 + z**3/6 + z**4/24.
    """
    status, out, _ = call("analyze", "tests/cases.py:fitzhugh", "--json")
    assert status == 0
    shown = json.loads(out)
    assert shown["invariant"]["verdict"] == "undecided"
    reason = "its step is not affine in pieces; intervals of bound values contain more than"
    assert reason in shown["invariant"]["reason"]
    linear = shown["linear"]
    assert linear["fixed_point"]
    v = linear["at"]["v"]
    z = np.linalg.eigvals([[1 - v**2, -1.0], [0.125, -0.1]]) / 8
    wanted = sorted((1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24) ** 2, key=lambda p: p.imag)
    found = [complex(p["real"], p["imag"]) for p in linear["eigenvalues"]]
    assert sorted(found, key=lambda p: p.imag) == pytest.approx(wanted, abs=1e-9)


def test_errors_in_a_format(call: Call) -> None:
    status, out, _ = call("analyze", *CUBIC, "--state", "v=-2,2", "--format", "16.12")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "h_3 [-0.813503, 1.68] Q4.12 Q2.12 3.500 ulp 2.960 ulp 0.00158" in lines
    assert any("bound if fired" in line for line in lines)
    status, out, _ = call("analyze", *CUBIC, "--state", "v=-9,9", "--format", "Q4.12")
    assert "range of its format, [-8, 7.99976]" in out
    assert "SATURATES" in out


def test_json_is_complete_and_strict(call: Call) -> None:
    _, out, _ = call("analyze", *CUBIC, "--format", "16.12", "--json")
    found = json.loads(out, parse_constant=lambda word: pytest.fail(word))
    assert found["invariant"]["verdict"] == "invariant"
    assert found["fixed"]["nodes"]["h_3"]["integer_bits"] == 1
    assert found["ranges"]["h"]["exact"] is True
    low, high = found["invariant"]["rational"]["v"]
    assert math.isclose(float(Fraction(low)), found["states"]["v"]["low"])
    assert high == "1"
    _, out, _ = call("analyze", *RUNAWAY, "--json")
    found = json.loads(out)
    assert found["invariant"]["steps"] == 13
    assert found["ranges"] is None
    assert found["linear"] is None


MATRIX = """
import lnm_codegen as lnm

@lnm.family
def free(a: tuple[float, ...] = (0.5, -0.6, 0.6, 0.5)) -> lnm.Neuron:
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    m = lnm.param("A", 4, init=a)
    charge = {v: m[0] * v + m[1] * w + x, w: m[2] * v + m[3] * w}
    return lnm.Neuron(charge=charge, fire=v - 1, reset=lnm.soft_reset(v, 1.0))
"""


def test_two_states_have_poles_responses_and_points(call: Call, tmp_path: Path) -> None:
    (tmp_path / "free.py").write_text(MATRIX)
    subject = (f"{tmp_path}/free.py:free", "--x", "0.5")
    status, out, _ = call("analyze", *subject)
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert (
        "Linear step without a spike at v = 0, w = 0 (a fixed point without input): oscillator"
    ) in lines
    assert "0.5 + 0.6i 0.781025 0.139429 4.04616" in lines
    assert any(x.startswith("v after an impulse of 1: 1, 0.5, -0.11, -0.415,") for x in lines)
    assert any(x.startswith("v after a step of 1: 1, 1.5, 1.39, 0.975,") for x in lines)
    assert "x = 0.5 0.409836 0.491803 0.5 + 0.6i, 0.5 - 0.6i stable" in lines
    _, out, _ = call("analyze", *subject, "--json")
    found = json.loads(out, parse_constant=lambda word: pytest.fail(word))["linear"]
    assert found["class"] == "oscillator"
    assert found["matrix"] == [[0.5, -0.6], [0.6, 0.5]]
    assert found["gain"] == {"x": [1, 0]}
    first = found["eigenvalues"][0]
    assert (first["real"], first["imag"]) == pytest.approx((0.5, 0.6))
    assert first["radius"] == pytest.approx(math.hypot(0.5, 0.6))
    assert first["frequency"] == pytest.approx(math.atan2(0.6, 0.5) / (2 * math.pi))
    assert first["damping_time"] == pytest.approx(-1 / math.log(first["radius"]))
    assert found["impulse_response"]["w"][:3] == pytest.approx([0, 0.6, 0.6])
    assert [at["inputs"]["x"] for at in found["fixed_points"]] == [0, -0.5, 0.5]
    assert found["fixed_points"][2]["points"][0]["kind"] == "stable"
    assert (found["at"], found["fixed_point"], found["fires"]) == ({"v": 0, "w": 0}, True, False)


def test_a_reset_that_holds_free_runs_is_no_proof(call: Call) -> None:
    """With inputs the states grow without bound; both lines are printed and do not contradict."""
    words = "analyze lnm --set states=2 --degree 1 --set angle=.3 --set radius={}"
    status, out, _ = call(*words.format(1.02).split())
    assert status == 0
    assert "for any input" in out
    assert out.count("unstable but reset") == 2
    assert '"unstable but reset" describes runs without input from states near the point' in out
    out = call(*words.format(1).split())[1]
    assert "0.955336 + 0.29552i 1 0.0477465 inf" in " ".join(out.split())
    assert "describes runs" not in out


@pytest.mark.parametrize(
    ("family", "label"),
    [pytest.param("izhikevich", "real poles", marks=pytest.mark.slow), ("alif", "integrator")],
)
def test_other_neurons_of_several_states(
    family: str, label: str, call: Call, tmp_path: Path
) -> None:
    """The same code serves built-in families, polynomial or not; each has its figure."""
    figure = tmp_path / "a.png"
    status, out, _ = call("analyze", family, "--x", "0.1", "--json")
    assert status == 0
    assert json.loads(out)["linear"]["class"] == label
    status, out, _ = call("analyze", family, "--x", "0.1", "--figure", figure)
    assert status == 0
    assert figure.read_bytes().startswith(b"\x89PNG")
    note = "without a spike the input does not reach b, s_prev: the class is of the others"
    assert (note in out) == (family == "alif")


def test_a_figure_is_drawn_whole_or_not_at_all(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "charge.png"
    assert call("analyze", "lif", "--figure", path)[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    status, _, err = call("analyze", "lif", "--figure", tmp_path / "none" / "charge.png")
    assert status == 2
    assert "none/charge.png: No such file or directory. " in err
    assert "another file with --figure" in err
    assert [p.name for p in tmp_path.iterdir()] == ["charge.png"]


def test_an_impulse_names_its_input_among_several(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(
        'name = "two"\ninputs = ["a", "b"]\nfire = "v - 1"\n[states.v]\n[states.w]\n'
        '[charge]\nv = "0.5*v + a"\nw = "0.5*w + v + b"\n'
    )
    assert "v after an impulse of 1 in a: 1, 0.5," in call("analyze", path)[1]
    assert "v after an impulse of 1: " in call("analyze", "rf")[1]


def test_mistakes(refuses: Callable[[str], None]) -> None:
    refuses("""
analyze lnm --set theta=.05,.6,-.1,.15 --x .35
    --format 16.12 >> lnm: no interval of the states >> --state v=-2,1
analyze lif
    --x 1,-1 >> --x '1,-1': not an interval >> LOW,HIGH with LOW <= HIGH
    --x 1e999 >> --x '1e999': not an interval >> finite
    --x y=1 >> --x 'y=1': no 'y' >> x
    --x 1 --x 2 >> --x '2': x is given twice
    --state v=1 >> --state 'v=1': not an interval >> LOW,HIGH with LOW <=
    --format 16 >> --format >> '16': not a format >> 16.12, or Q4.12
    --format 4.12 >> --format >> '4.12': frac is 12 >> 0 to 3
    --set v_threshold=9 --format 16.12 >> lif: parameter 'v_threshold' is 9 >> -8 to 7.99976 >>
        more integer bits
    --figure h.pdf >> analyze: --figure >> 'h.pdf' >> a file >> .png
    --rounding truncate >> analyze: --rounding is for fixed point >> --format
    --scheme bogus >> >> 'bogus' >> 'horner', 'estrin'
    --set tao=2 >> lif >> tao >> 'tau'
""")


def test_formats_and_intervals_are_read():
    assert parse_format("16.12") == parse_format("Q4.12") == lnm.Fixed(16, 12)
    assert parse_intervals("--x", ["1"], ["x", "y"], symmetric=True) == {"x": (-1, 1), "y": (-1, 1)}
    assert parse_intervals("--x", ["x=0,1", "y=-2,3"], ["x", "y"]) == {"x": (0, 1), "y": (-2, 3)}
    with pytest.raises(ModelError):
        parse_intervals("--x", ["-1"], ["x"], symmetric=True)


def test_a_surrogate_too_narrow_for_the_scale_is_reported(call: Call) -> None:
    """In mV; not at a threshold of 1. The charge halves gradients, the reset multiplies by -14."""
    _, out, _ = call("analyze", "lif", "--set", "v_threshold=15")
    (line,) = (x for x in out.splitlines() if "detach_reset=True" in x)
    assert line.startswith("Near the threshold, each step multiplies gradients by -7, ")
    assert "detach_reset" not in call("analyze", "lif")[1]
    _, out, _ = call("analyze", "lif", "--set", "v_threshold=15", "--json")
    assert json.loads(out)["reset_gain"] == pytest.approx(15, rel=1e-4)
    assert json.loads(out)["threshold_factor"] == pytest.approx(-7, rel=1e-4)
