"""Currency of `generated/`: its files and digests are what the compiler writes.

After an intended change, `make generated` (or pytest --update-golden) writes it anew. Its diff is
read in review like code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests import update_generated
from tests.update_generated import DIGESTS, FOLDER, ROOT, differences, expected, found

HINT = "Run `make generated` if the change is intended."
MOST_FILES, MOST_LINES = 220, 24_000


def test_the_list_of_files() -> None:
    """No file is missing, none is stale."""
    wanted, present = set(expected()), set(found())
    missing, stale = sorted(wanted - present), sorted(present - wanted)
    assert not missing, f"missing in generated/: {missing}. {HINT}"
    assert not stale, f"stale in generated/: {stale}. {HINT}"


def test_the_contents() -> None:
    """A difference shows as a unified diff, or as the command that prints one."""
    changes = differences(found(), expected())
    if changes:
        pytest.fail(f"{HINT}\n{changes}", pytrace=False)


def test_the_gallery_can_be_read() -> None:
    """At most 220 files and 24,000 lines, and 64 golden vectors in a file."""
    files = {name: text for name, text in found().items() if name != DIGESTS}
    assert len(files) <= MOST_FILES
    assert sum(text.count("\n") for text in files.values()) <= MOST_LINES
    for name, text in files.items():
        words = [line for line in text.splitlines() if not line.startswith("//")]
        assert not name.endswith(".hex") or len(words) <= 64, name


def test_a_change_is_shown() -> None:
    """Of a gallery file its lines, of another file its name and the command."""
    before = expected()
    after = before | {"torch/lif/lif_torch.py": "changed\n"}
    assert "+changed" in differences(before, after)
    assert "--- generated/torch/lif/lif_torch.py" in differences(before, after)
    digests = json.loads(before[DIGESTS])
    name = "c/alif/alif.cpp"
    changed = {**digests, name: "0"}
    text = differences(before, before | {DIGESTS: json.dumps(changed)})
    command = f"python -m tests.update_generated diff {name}"
    assert text == f"changed: {name}. Show: {command}\n"


@pytest.mark.slow
def test_show_and_diff_print_a_file(monkeypatch, capsys) -> None:
    """`show` prints what the compiler writes; `diff` what that differs in from the last commit."""
    monkeypatch.setattr(sys, "argv", ["update_generated", "show", "c/alif/alif.h"])
    assert update_generated.main() == 0
    assert "alif_forward" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["update_generated", "show", "c/alif/nothing"])
    assert update_generated.main() == 2
    monkeypatch.setattr(update_generated, "_every_file", lambda: {"README.md": "other\n"})
    if (ROOT / ".git").exists():
        assert "+other" in update_generated.diff("README.md")


@pytest.mark.slow
def test_the_text_depends_on_no_hash() -> None:
    """Other seeds of Python's hash, in processes of their own, write the same files."""
    code = (
        "import json, sys; from tests.update_generated import written;"
        " json.dump(written(), sys.stdout)"
    )
    wanted = update_generated.written()
    for seed in ("1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == wanted, f"PYTHONHASHSEED={seed}"


def test_update_writes_and_removes(tmp_path, monkeypatch, capsys) -> None:
    """The script mends what is missing, changed or stale, and touches nothing else."""
    torch = {k: v for k, v in update_generated.written().items() if k.startswith("torch/")}
    monkeypatch.setattr(update_generated, "FOLDER", tmp_path)
    monkeypatch.setattr(update_generated, "_every_file", lambda: torch)
    update_generated.update()
    capsys.readouterr()
    lif = tmp_path / "torch" / "lif" / "lif_torch.py"
    untouched = (tmp_path / "torch" / "lnm_1" / "lnm_1_torch.py").stat().st_mtime_ns
    lif.write_text("altered\n", encoding="utf-8")
    (tmp_path / "torch" / "lnm_3" / "lnm_3_torch.py").unlink()
    (tmp_path / "c" / "old").mkdir(parents=True)
    (tmp_path / "c" / "old" / "old.cpp").write_text("stale\n", encoding="utf-8")
    update_generated.update()
    assert capsys.readouterr().out.splitlines() == [
        "removed  c/old/old.cpp",
        "changed  torch/lif/lif_torch.py",
        "new      torch/lnm_3/lnm_3_torch.py",
    ]
    assert not (tmp_path / "c").exists()
    assert found() == expected()
    assert (tmp_path / "torch" / "lnm_1" / "lnm_1_torch.py").stat().st_mtime_ns == untouched
    assert FOLDER != tmp_path
