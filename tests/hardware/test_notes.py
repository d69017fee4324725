"""Notes on what a circuit costs."""

from __future__ import annotations

import pytest

import lnm_codegen as lnm
from lnm_codegen.cli import run
from lnm_codegen.hardware.notes import rounded_note, width_note, zero_note


def note_of(width: int, frac: int, degree: int = 3) -> str | None:
    return width_note(lnm.quantize(lnm.get("lnm", degree=degree), lnm.Fixed(width, frac)))


def test_widths_at_the_edges_of_multipliers() -> None:
    """16 and 18 bits fit; a neuron without a product has no note."""
    assert note_of(16, 12) is None
    for width, limit in ((17, "16 x 16"), (18, "16 x 16"), (19, "18 x 18"), (24, "18 x 18")):
        note = note_of(width, 12)
        assert note is not None
        assert limit in note, note
        assert "3 of 3 products" in note
        assert f"(up to {width})" in note
    assert width_note(lnm.quantize(lnm.get("if"), lnm.Fixed(32, 16))) is None


@pytest.mark.parametrize(
    ("integers", "expected"),
    [
        ((82, 3482, 451, -246), None),
        ((0, 3482, 0, -246), None),
        ((0, 2048, 0, 0), "theta_2, theta_3 are 0"),
        ((0, 2048, 1, 0), "theta_3 is 0"),
        ((0, 0, 0, 0), "theta_0, theta_1, theta_2, theta_3 are 0"),
    ],
)
def test_last_coefficients(integers: tuple[int, ...], expected: str | None) -> None:
    """Those after the last one that is not 0; other parameters do not count."""
    coefficients = {f"theta_{k}": (n,) for k, n in enumerate(integers)} | {"v_threshold": (0,)}
    note = zero_note(coefficients)
    assert (note is None) is (expected is None)
    assert expected is None or (note is not None and note.startswith(expected))
    assert zero_note({"theta_0": (1,), "theta_1": (0, 5)}) is None  # one channel uses it


def test_numbers_that_round_to_0() -> None:
    """With their number; a last coefficient of a polynomial has a note of its own."""
    program = lnm.quantize(lnm.get("lnm", degree=3), lnm.Fixed(8, 6))
    reals = {f"theta_{k}": (c,) for k, c in enumerate((1e-6, 0.5, 1e-6, 0.0))}
    reals["v_threshold"] = (1e-6, 0.0)
    integers = {name: tuple(round(64 * c) for c in own) for name, own in reals.items()}
    wanted = "theta_0, v_threshold (1 of 2 values) round to 0 in this format"
    assert rounded_note(program, integers, reals) == wanted
    some = integers | {"v_threshold": (1, 0)}
    assert rounded_note(program, some, reals) == "theta_0 rounds to 0 in this format"
    assert rounded_note(program, some | {"theta_0": (1,)}, reals) is None


def test_channels_that_round_to_0() -> None:
    """A threshold of 0 in all channels but one had no note."""
    program = lnm.quantize(lnm.get("lif"), lnm.Fixed(16, 12))
    integers, reals = (0,) * 127 + (5,), (1e-5,) * 127 + (1.2e-3,)
    note = rounded_note(program, {"v_threshold": integers}, {"v_threshold": reals})
    assert note == "v_threshold (127 of 128 values) rounds to 0 in this format"


LOST = ", so that a leak is lost"
v, x = lnm.state("v"), lnm.input("x")


def test_decays_that_round_to_1() -> None:
    """A leak of 0.99995 was a perfect integrator, without a note; a threshold is no decay."""
    leaky = lnm.quantize(lnm.get("lif", tau=2e4, decay_input=False), lnm.Fixed(16, 12))
    integers = {"p0": (4096, 4095), "v_threshold": (4096, 4096)}
    reals = {"p0": (0.99995, 0.9998), "v_threshold": (0.99995, 0.99995)}
    wanted = f"the decay of v (1 of 2 values) rounds to 1{LOST}"
    assert rounded_note(leaky, integers, reals) == wanted
    one = {"p0": (4096,), "v_threshold": (4096,)}
    assert rounded_note(leaky, one, {"p0": (1.0,), "v_threshold": (1.0,)}) is None
    channels = one | {"p0": (4096, 4095, 4096)}
    note = rounded_note(leaky, channels, {"p0": (0.99995, 0.9, 0.99995), "v_threshold": (1.0,)})
    assert note == f"the decay of v (2 of 3 values) rounds to 1{LOST}"


@pytest.mark.parametrize(
    ("charge", "is_lost"),
    [
        (0.99995 * v + x, True),
        (0.99995 * (v + x), True),
        (v - 0.00005 * v + x, True),
        (lnm.where(v < -1, -1, 0.99995 * v + x), True),
        (0.5 * v + 0.99995 * x, False),
        (0.5 * v + 0.99995 * v * v + x, False),
        (v + x, False),
    ],
)
def test_only_the_factor_of_a_state_is_a_decay(charge, is_lost: bool) -> None:
    """A gain of the input and a coefficient of v**2 were called leaks."""
    neuron = lnm.Neuron(charge={v: charge}, fire=v - 1, name="leaky")
    note = rounded_note(lnm.quantize(neuron, lnm.Fixed(16, 12)), {}, {}) or ""
    assert (f"the decay of v rounds to 1{LOST}" in note) is is_lost
    assert is_lost or not note


@pytest.mark.parametrize(
    ("theta", "is_lost"),
    [((0, 0.99995, 0.1, -0.1), True), ((0, 0.5, 0.1, 0.99995), False), ((0, 1, 0.1, 0.1), False)],
)
def test_the_decay_of_a_polynomial_is_theta_1(theta: tuple[float, ...], is_lost: bool) -> None:
    """Horner's rule adds theta_1, and it had no note."""
    neuron = lnm.quantize(lnm.get("lnm", degree=3), lnm.Fixed(16, 12))
    reals = {f"theta_{k}": (c,) for k, c in enumerate(theta)} | {"v_threshold": (1.0,)}
    integers = {name: (round(4096 * r[0]),) for name, r in reals.items()}
    note = rounded_note(neuron, integers, reals)
    assert note == (f"the decay of v rounds to 1{LOST}" if is_lost else None)


def test_a_circuit_that_ignores_its_input_has_a_note(tmp_path, capsys) -> None:
    """A time constant whose inverse rounds to 0 and whose decay to 1, and a factor."""
    end = ["--format", "8.6", "--backend", "verilog", "--forms", "comb", "--out", str(tmp_path)]
    assert run(["emit", "lif", "--set", "tau=1e6", *end]) == 0
    wanted = f"inv_tau rounds to 0 in this format; the decay of v rounds to 1{LOST}"
    assert capsys.readouterr().err == f"note: lif: {wanted}.\n"
    path = tmp_path / "slow.toml"
    path.write_text(lnm.Neuron(charge={v: 0.9 * v + 1e-4 * x}, fire=v - 1, name="slow").to_toml())
    assert run(["emit", str(path), *end]) == 0
    assert capsys.readouterr().err == "note: slow: 0.0001 rounds to 0 in this format.\n"


@pytest.mark.parametrize("backend", ["c", "c,verilog", "verilog,c"])
def test_the_integer_model_has_a_note(backend: str, tmp_path, capsys) -> None:
    """Only a circuit had one. Two targets of a neuron share it."""
    command = ["emit", "lif", "--set", "tau=1e6", "--format", "8.6", "--out", str(tmp_path)]
    assert run([*command, "--backend", backend]) == 0
    wanted = f"inv_tau rounds to 0 in this format; the decay of v rounds to 1{LOST}"
    assert capsys.readouterr().err == f"note: lif: {wanted}.\n"


def test_products_of_the_integer_model_take_no_multipliers(tmp_path, capsys) -> None:
    command = ["emit", "lnm", "--degree", "2", "--format", "20.14", "--out", str(tmp_path)]
    assert run([*command, "--backend", "c"]) == 0
    zero = "theta_2 is 0 in this format, so that each step multiplies by 0"
    assert capsys.readouterr().err == f"note: lnm_degree2: {zero}.\n"
    assert run(["emit", "lif", "--set", "tau=1e6", "--backend", "c", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


def test_emit_prints_them(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error; the paths stay alone on standard output."""
    command = ["emit", "lnm", "--degree", "2", "--backend", "verilog", "--forms", "comb"]
    assert run([*command, "--format", "20.14", "--out", str(tmp_path / "a")]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "note: lnm_degree2: theta_2 is 0 in this format, so that each step multiplies by 0.",
        "note: lnm_degree2: 2 of 2 products have a factor of more than 18 bits (up to 20), so that"
        " each takes several multipliers of 18 x 18 bits (ECP5).",
    ]
    assert "note" not in shown.out
    theta = ["--set", "theta=.02,.85,.11"]
    assert run([*command, *theta, "--out", str(tmp_path / "b")]) == 0
    assert capsys.readouterr().err == ""


def test_quantize_prints_the_width(capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "quantize",
        "lnm",
        "--degree",
        "2",
        "--set",
        "theta=.02,.85,.11",
        "--set",
        "v_min=-2",
    ]
    assert run([*command, "--error", "1e-5"]) == 0
    assert (
        capsys.readouterr().out.splitlines()[-1].startswith("note: 2 of 2 products have a factor")
    )
    assert run([*command, "--error", "0.01"]) == 0
    assert "note" not in capsys.readouterr().out
