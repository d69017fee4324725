"""Digests of definitions: equal for equal steps, whatever their spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

import lnm_codegen as lnm
from lnm_codegen.language.text.digest import definition_digest

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


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "mine"', 'name = "other"'),
        ("v + (x - v)/tau", "(x-v) / tau + v"),
        ("[params.tau]\ninit = 2.0", "# slower\n[params.tau]\ninit = 3.0"),
    ],
)
def test_a_name_a_spelling_and_a_start_do_not_count(tmp_path: Path, old: str, new: str) -> None:
    """A trained network has its own values of learnable parameters."""
    assert digest(tmp_path, old, new) == digest(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
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
    ],
)
def test_a_change_of_the_definition_counts(tmp_path: Path, old: str, new: str) -> None:
    """A constant and an initial state are part of the step."""
    assert digest(tmp_path, old, new) != digest(tmp_path)


def test_surrogates_count_if_they_are_included(tmp_path: Path) -> None:
    """By name and arguments, or by the slope."""
    slope = lnm.surrogate.from_slope(lambda z: 1 / (1 + z**2))
    found = [lnm.get("lif", surrogate=s) for s in (None, lnm.surrogate.sigmoid(3.0), slope)]
    assert len({definition_digest(n) for n in found}) == 3
    assert len({definition_digest(n, with_surrogates=False) for n in found}) == 1
