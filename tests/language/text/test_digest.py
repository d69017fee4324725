"""Digests of definitions: equal for equal steps, whatever their spelling."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import sympy

import lnm_codegen as lnm
from lnm_codegen.language.text.digest import definition_digest, step_digest

TEXT = """
name = "mine"
inputs = ["x"]
fire = "v - v_threshold"
surrogate = {kind = "atan", alpha = 2.0}

[states.v]
init = 0.0

[params.tau]
init = 2.0

[params.v_threshold]
init = 1.0
learnable = false

[charge]
v = "v + (x - v)/tau"

[reset]
v = "where(spike, 0, v)"
"""


def digest(folder: Path, old: str = "", new: str = "") -> str:
    file = folder / "mine.toml"
    assert old in TEXT
    file.write_text(TEXT.replace(old, new))
    return definition_digest(lnm.load(file))


def test_a_digest_is_that_of_other_versions(tmp_path: Path) -> None:
    """Python 3.11 with SymPy 1.13 and 1.14 made this one; run folders hold such digests."""
    assert digest(tmp_path) == "343cabf17efa872c54ecd3339ec9969a4f9939aa82068de2d78a2485ee7aaa10"


def test_what_counts(tmp_path: Path) -> None:
    """A constant and an initial state are part of the step; names, spelling and starts are not.

    A trained network has its own values of learnable parameters.
    """
    whole = digest(tmp_path)
    for old, new in (
        ('name = "mine"', 'name = "other"'),
        ("v + (x - v)/tau", "(x-v) / tau + v"),
        ("[params.tau]\ninit = 2.0", "# slower\n[params.tau]\ninit = 3.0"),
    ):
        assert digest(tmp_path, old, new) == whole
    for old, new in (
        ("(x - v)/tau", "(2*x - v)/tau"),
        ("v - v_threshold", "v - v_threshold - 0.1"),
        ("spike, 0, v", "spike, v - 1, v"),
        ("init = 1.0", "init = 1.5"),
        ("init = 0.0", "init = 0.5"),
        ("init = 0.0", 'init = "tau"'),
        ("learnable = false", "learnable = true"),
        ("[params.tau]", '[params.tau]\nper = "channel"'),
        ("alpha = 2.0", "alpha = 3.0"),
        ('name = "mine"', 'name = "mine"\ndetach_reset = true'),
    ):
        assert digest(tmp_path, old, new) != whole


def test_surrogates_count_if_they_are_included(tmp_path: Path) -> None:
    """By name and arguments, or by the slope."""
    slope = lnm.surrogate.from_slope(lambda z: 1 / (1 + z**2))
    found = [lnm.get("lif", surrogate=s) for s in (None, lnm.surrogate.sigmoid(3.0), slope)]
    assert len({definition_digest(n) for n in found}) == 3
    assert len({definition_digest(n, with_surrogates=False) for n in found}) == 1


def test_equal_kernels_have_one_step_digest() -> None:
    """Symbols declared twice, and initial values of parameters, do not count."""
    whole = step_digest(lnm.get("lif"))
    for same in (
        lnm.get("lif"),
        lnm.get("lif", tau=3.0),
        lnm.get("lif").with_init(v_threshold=2.0),
    ):
        assert step_digest(same) == whole
    assert step_digest(lnm.get("lnm", degree=3)) == step_digest(lnm.get("lnm", degree=3))


def test_another_kernel_has_another_step_digest() -> None:
    """So has another name, initial state, output or count."""
    one = lnm.get("lif")
    (v,) = one.states
    found = [
        one,
        lnm.get("lif", surrogate=lnm.surrogate.straight_through()),
        lnm.get("lif", surrogate=lnm.surrogate.atan(3.0)),
        one.with_detach_reset(True),
        lnm.get("lif", learn_tau=True),
        one.with_init(v=0.5),
        one.with_outputs(h=v),
        one.with_outputs(h=v + 1),
        one.with_counts(h=v),
        one.with_counts(h=lnm.where(v >= 1, 0, 1)),
        one.with_counts(h=lnm.where(v >= 2, 0, 1)),
        lnm.normalised(one),
        lnm.normalised(one, True),
        lnm.get("if"),
        *(lnm.get("lnm", degree=2, per=per) for per in ("layer", "channel", "neuron")),
        lnm.get("lnm", degree=3),
    ]
    assert len({step_digest(n) for n in found}) == len(found)


def test_a_step_digest_covers_every_field_of_a_neuron() -> None:
    """A field that is new must enter `step_digest`, or compiled layers would share a graph."""
    interface = {"name", "states", "inputs", "params", "symbols", "surrogates", "detach_reset"}
    phases = {"charge", "fire", "reset", "output", "counts", "bindings", "prologue"}
    assert {field.name for field in fields(lnm.Neuron)} == interface | phases


def test_a_step_digest_has_the_order_of_terms() -> None:
    """Another order rounds otherwise."""
    x, y, z = (lnm.input(name) for name in "xyz")
    sums = [sympy.Add(*terms, evaluate=False) for terms in ((x, y, z), (z, x, y), (x, y + z))]
    assert len({step_digest(lnm.Neuron(output=s, name="sum")) for s in sums}) == 3
