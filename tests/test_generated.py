"""generated/ is what the compiler writes: the list of files first, then their contents.

After a change that is meant, `make generated` (or pytest --update-golden) writes it anew; its
diff is read in review like code.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import update_generated
from tests.update_generated import expected, found

HINT = "Run `make generated` if the change is meant."


def test_the_list_of_files() -> None:
    """No file is missing, none is stale."""
    wanted, present = set(expected()), set(found())
    missing, stale = sorted(wanted - present), sorted(present - wanted)
    assert not missing, f"missing in generated/: {missing}. {HINT}"
    assert not stale, f"stale in generated/: {stale}. {HINT}"


def test_the_contents() -> None:
    """Every file, a difference shown as a unified diff."""
    present = found()
    diffs = []
    for name, text in expected().items():
        before = present.get(name, "").splitlines(keepends=True)
        lines = difflib.unified_diff(
            before, text.splitlines(keepends=True), f"generated/{name}", "what the compiler writes"
        )
        diffs.append("".join(lines))
    whole = "".join(diffs)
    if whole:
        pytest.fail(f"{HINT}\n{whole}", pytrace=False)


def test_the_text_hangs_on_no_hash() -> None:
    """Other seeds of Python's hash, in processes of their own, write the same files."""
    code = (
        "import json, sys; from tests.update_generated import expected;"
        " json.dump(expected(), sys.stdout)"
    )
    wanted = expected()
    for seed in ("1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == wanted, f"PYTHONHASHSEED={seed}"


def test_update_writes_and_removes(tmp_path, monkeypatch, capsys) -> None:
    """The script mends what is missing, changed or stale, and touches nothing else."""
    monkeypatch.setattr(update_generated, "FOLDER", tmp_path)
    monkeypatch.setattr(update_generated, "BACKENDS", ("torch",))
    update_generated.main()
    capsys.readouterr()
    lif = tmp_path / "torch" / "lif" / "lif_torch.py"
    untouched = (tmp_path / "torch" / "if" / "if_torch.py").stat().st_mtime_ns
    lif.write_text("altered\n", encoding="utf-8")
    (tmp_path / "torch" / "li" / "li_torch.py").unlink()
    (tmp_path / "c" / "old").mkdir(parents=True)
    (tmp_path / "c" / "old" / "old.cpp").write_text("stale\n", encoding="utf-8")
    update_generated.main()
    assert capsys.readouterr().out.splitlines() == [
        "removed  c/old/old.cpp",
        "new      torch/li/li_torch.py",
        "changed  torch/lif/lif_torch.py",
    ]
    assert not (tmp_path / "c").exists()
    assert found() == expected()
    assert (tmp_path / "torch" / "if" / "if_torch.py").stat().st_mtime_ns == untouched
