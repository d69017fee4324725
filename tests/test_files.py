"""Files: the errors of paths that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.files import unreadable
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
