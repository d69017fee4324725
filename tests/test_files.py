"""Files: JSON, and the errors of paths that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.files import json_of, parse_json, unreadable
from tests.refusals import refused


@pytest.mark.parametrize("kind", [ModelError, ToolError])
def test_an_unreadable_path_says_why(tmp_path: Path, kind: type[ModelError | ToolError]) -> None:
    """The system's words for an OSError, one line of any other error."""
    with refused(kind, tmp_path, "cannot be read: Is a directory", remedy="Name a file."):
        try:
            tmp_path.read_bytes()
        except OSError as error:
            raise unreadable(tmp_path, error, "Name a file.", kind) from None
    assert str(unreadable("a file", ValueError("no\n number."))) == (
        "a file: cannot be read: no number."
    )


def test_json_of_a_file(tmp_path: Path) -> None:
    """The content is what Python's reader gives, Infinity included unless numbers are finite."""
    file = tmp_path / "x.json"
    file.write_text('{"clip": Infinity, "names": ["a"]}', encoding="utf-8")
    assert json_of(file, "run") == {"clip": float("inf"), "names": ["a"]}
    with refused(ModelError, "run", "not JSON: it holds Infinity", remedy="Write it again."):
        json_of(file, "run", "Write it again.", finite=True)
    with refused(ModelError, "run", "cannot be read: No such file"):
        json_of(tmp_path / "none", "run")
    file.write_bytes(b"{}\xff")
    with refused(ModelError, "run", "not UTF-8 text (byte 2)"):
        json_of(file, "run")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not JSON: Expecting property name"),
        ("[" * 100_000, "not JSON: nested too deep"),
        ("9" * 5000, "not JSON: Exceeds the limit"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' occurs twice in an object"),
    ],
)
def test_what_is_not_json(text: str, problem: str) -> None:
    """A key twice is refused too: readers would disagree about its value."""
    with refused(ModelError, "x.json", problem, remedy="Write it again."):
        parse_json(text, "x.json", "Write it again.")
