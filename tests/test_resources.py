"""Registers, spills, bytes, cells and frequencies against `tests/resources/`.

`python -m tests.update_resources` writes the baselines. A change for the better fails too, so that
the baseline follows it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lnm_codegen.errors import ToolError
from tests import update_resources
from tests.update_resources import (
    BOUNDED,
    CASES,
    SETS,
    ResourceSet,
    baselines,
    changed,
    main,
    traffic,
)

TOLERANCES = {
    # Counted from the source, where each number has a reason.
    "bytes": (0, 0),
    "DSP": (0, 0),
    "BRAM": (0, 0),
    # The backward kernels use up to 255 of 255 registers, so spills are the sharper number.
    "registers": (0, 8),
    # Executed: the same compiler gives the same kernels. A few instructions more are no event.
    "instructions": (0.02, 0),
    "sectors": (0, 0),
    "conflicts": (0, 0),
    # Other constants of the same structure change a few cells: up to 3 LUT were seen.
    "LUT": (0.03, 4),
    "FF": (0.03, 4),
    # One seed. Measured: six seeds lie within 5 % of their median, and one in two of the eight
    # circuits within 16 %.
    "MHz": (0.15, 0),
}
"""Unit -> largest relative and absolute change, of which the larger counts."""


def complaint(name: str, versions: str, lines: list[str]) -> str:
    """Return the message of a failure."""
    return (
        f"{name}, {versions}: numbers differ from the baseline:\n  "
        + "\n  ".join(lines)
        + f"\nIf the change is intended, run `python -m tests.update_resources {name}`, and commit"
        f" tests/resources/{name}.json with the reason."
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SETS)
def test_resources(name: str) -> None:
    """The numbers of the tools that are here, against the baseline of the same versions."""
    try:
        versions = SETS[name].versions()
    except ToolError as error:
        pytest.skip(str(error))
    every = baselines(name)
    if versions not in every:
        known = "; ".join(every)
        pytest.skip(f"tests/resources/{name}.json has no baseline for {versions}, but for {known}")
    lines = changed(every[versions], SETS[name].measure(), TOLERANCES.__getitem__)
    assert not lines, complaint(name, versions, lines)


def test_baselines_are_complete() -> None:
    """Every set has a file, every neuron is in it, and every unit has a tolerance."""
    for name in SETS:
        assert baselines(name), name
        for numbers in baselines(name).values():
            cases = BOUNDED if name.startswith("traffic") else CASES
            assert {number.split()[0] for number in numbers} == set(cases)
            assert {number.split()[-1] for number in numbers} <= TOLERANCES.keys()


@pytest.mark.parametrize("case", ["lif", "lnm-3"])
def test_executed_counts(case: str) -> None:
    """The quick part of the set `traffic-triton`: the kernels of one type and target, executed."""
    pytest.importorskip("triton", reason="Triton is not installed")
    every, versions = baselines("traffic-triton"), SETS["traffic-triton"].versions()
    if versions not in every:
        pytest.skip(f"tests/resources/traffic-triton.json has no baseline for {versions}")
    got = traffic("triton", case, "float32", 16, "sm_90")
    old = {number: value for number, value in every[versions].items() if number in got}
    lines = changed(old, got, TOLERANCES.__getitem__)
    assert not lines, complaint("traffic-triton", versions, lines)


@pytest.mark.parametrize("name", ["traffic-triton", "traffic-cuda"])
def test_every_access_is_coalesced(name: str) -> None:
    """A sector too many, or a conflict of banks, cannot enter with an update of the baseline."""
    # Five threads read the sums of a block at a stride of 8 words: 8 passes of about 700.
    known = {"lnm-4"} if name == "traffic-cuda" else set()
    for numbers in baselines(name).values():
        assert not [n for n, value in numbers.items() if n.endswith("sectors") and value]
        conflicts = {n.split()[0]: v for n, v in numbers.items() if n.endswith("conflicts") and v}
        assert set(conflicts) == known
        assert all(value == 8 for value in conflicts.values())


def test_no_kernel_spills() -> None:
    """A spill cannot enter with an update of the baseline."""
    for name in ("cuda", "triton"):
        for numbers in baselines(name).values():
            assert not [n for n, value in numbers.items() if n.endswith("spilled bytes") and value]


OLD = {
    "lif sm_90 backward registers": 100, "lif sm_90 backward spilled bytes": 0, "lif bytes": 20.5,
    "lif core LUT": 200, "lif core DSP": 2, "lif core MHz": 100.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("number", "accepted", "refused"),
    [
        ("lif sm_90 backward registers", 108, 109),
        ("lif sm_90 backward registers", 92, 91),
        ("lif sm_90 backward spilled bytes", 0, 4),
        ("lif core LUT", 206, 207),
        ("lif core MHz", 85.0, 84.9),
        ("lif core DSP", 2, 3),
        ("lif bytes", 20.5, 21.0),
    ],
)
def test_a_change_beyond_the_tolerance_fails(number: str, accepted: float, refused: float) -> None:
    """The negative control: the message has the number, old and new, and the command."""
    tolerance = TOLERANCES.__getitem__
    assert changed(OLD, OLD | {number: accepted}, tolerance) == []
    lines = changed(OLD, OLD | {number: refused}, tolerance)
    assert lines == [f"{number}: {OLD[number]} -> {refused}"]
    message = complaint("cuda", "nvcc 1", lines)
    assert lines[0] in message
    assert "python -m tests.update_resources cuda" in message


def test_numbers_that_appear_or_vanish_fail() -> None:
    """A kernel more or less is a change."""
    less = {n: v for n, v in OLD.items() if n != "lif core DSP"}
    assert changed(OLD, less, TOLERANCES.__getitem__) == ["lif core DSP: 2 -> None"]
    assert changed(less, OLD, TOLERANCES.__getitem__) == ["lif core DSP: None -> 2"]


def test_an_update_keeps_other_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints what changes, and leaves out a set without its tools."""

    def no_tool() -> str:
        raise ToolError("other", "no such tool")

    monkeypatch.setattr(update_resources, "FOLDER", tmp_path)
    monkeypatch.setitem(SETS, "one", ResourceSet(lambda: "tool 2", lambda: {"lif LUT": 5}))
    monkeypatch.setitem(SETS, "other", ResourceSet(no_tool, dict))
    (tmp_path / "one.json").write_text('{"tool 1": {"lif LUT": 9}, "tool 2": {"lif LUT": 4}}')
    assert main(["one", "other"]) == 0
    assert capsys.readouterr().out == (
        "one: tool 2: lif LUT: 4 -> 5\nother: left out. other: no such tool.\n"
    )
    written = json.loads((tmp_path / "one.json").read_text())
    assert written == {"tool 1": {"lif LUT": 9}, "tool 2": {"lif LUT": 5}}
    assert main(["none"]) == 2
    assert "Accepted: bytes-cuda" in capsys.readouterr().err
