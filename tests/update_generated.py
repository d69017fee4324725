"""Writer of `generated/`: `python -m tests.update_generated`, or `make generated`.

    python -m tests.update_generated              write what differs, remove what is stale
    python -m tests.update_generated show PATH    print one file as the compiler writes it now
    python -m tests.update_generated diff PATH    print its difference from the last commit

The gallery holds files that people read. Every other file is held by its digest in `digests.json`;
`show` and `diff` print those files too.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import lnm_codegen as lnm
from lnm_codegen.backends import BACKENDS
from lnm_codegen.families import FAMILIES
from lnm_codegen.files import write_whole
from tests import variants

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "generated"
DIGESTS = "digests.json"
TARGETS = (*BACKENDS, "verilog")
SPEC = lnm.Fixed(16, 12)
RTL = lnm.Rtl(vectors=64, neurons=8)
THETA = {
    1: (0, 0.9), 2: (0.02, 0.85, 0.11), 3: (0.02, 0.85, 0.11, -0.06),
    4: (0.02, 0.85, 0.11, -0.06, 0.013),
}  # fmt: skip
"""Coefficients of the circuits of `lnm`, whose defaults are a leaky integrator."""

SHOWN = ("lif", "izhikevich", "lnm_1", "lnm_2", "lnm_3", "lnm_4")
"""Neurons whose software is in the gallery."""
WHOLE_CIRCUIT = "lnm_3"
"""The neuron whose circuit is in the gallery with everything beside it; of others, `rtl/` is."""

README = """\
# What the compiler writes

Files to read, by target. `lif` and `izhikevich` have their defaults; `lnm` has degree 1 to 4.

* `c/<name>/`: C++17 behind a C interface, forward and backward over time. `<name>.h` describes the
  arguments. `example.c` is a caller; its first lines hold the commands that build it.
* `cuda/<name>/`: CUDA C. `<name>.cu` is device code, `<name>_launch.cpp` a host launcher behind a C
  interface. `<name>_launch.h` describes the arguments; `example.cpp` is a caller.
* `triton/<name>/`: one module for GPUs with a differentiable function named after the neuron, and
  `forward` and `backward` on buffers of the caller.
* `torch/<name>/`: one PyTorch module, `multi_step(x_seq, v, theta=..., ...)`.
* `onnx/<name>/`: one ONNX model as text, for inference.
* `verilog/<name>/`: a circuit in Q4.12, with 8 neurons in its array. `lnm_3` is complete:
  testbenches, 64 golden vectors for each, proofs, the integer model in C, a Makefile, and a
  `README.md` that lists them. The other circuits show `rtl/` alone. A circuit holds its
  coefficients as constants. Those of `lnm` are 0.02, 0.85, 0.11, -0.06, 0.013 up to its degree,
  and 0, 0.9 for degree 1.

`digests.json` holds the SHA-256 of every other file: the remaining families, the remaining files of
the circuits, and `variants/` of other types, granularities and options (`tests/variants.py`).

The files stand alone: copy what you need, it is free to use. Do not edit them here. `make
generated` writes them, and `tests/test_generated.py` compares them with what the compiler writes
today, so a change of the compiler shows as a change of its output.
"""


def neurons() -> dict[str, lnm.Neuron]:
    """Return the neurons of the software targets by the name of their files."""
    found = {name: lnm.get(name) for name in FAMILIES if name != "lnm"}
    found["lnm_two_states"] = lnm.get("lnm", states=2, degree=1)
    return found | {f"lnm_{d}": lnm.get("lnm", degree=d) for d in range(1, 5)}


def circuits() -> dict[str, lnm.Neuron]:
    """Return the neurons that become circuits, by the name of their files."""
    found = {f"lnm_{d}": lnm.get("lnm", degree=d, theta=theta) for d, theta in THETA.items()}
    return {"lif": lnm.get("lif")} | found


def written(below: str = "") -> dict[str, str]:
    """Return every file that the compiler writes below a folder, path in it -> text."""
    return {p.removeprefix(below): t for p, t in _every_file().items() if p.startswith(below)}


@cache
def _every_file() -> dict[str, str]:
    files = {"README.md": README}
    for backend in TARGETS:
        circuit = backend == "verilog"
        fixed = {"spec": SPEC, "rtl": RTL} if circuit else {}
        for name, neuron in (circuits() if circuit else neurons()).items():
            source = lnm.emit(neuron, backend, name=name, **fixed)
            files |= {f"{backend}/{name}/{path}": text for path, text in source.files.items()}
    for folder, others in variants.sources():
        files |= {f"variants/{folder}/{path}": text for path, text in others.items()}
    return files


def is_shown(path: str) -> bool:
    """Report whether a file is in the gallery."""
    backend, _, rest = path.partition("/")
    name, _, inner = rest.partition("/")
    if backend == "verilog":
        return name == WHOLE_CIRCUIT or inner.startswith("rtl/")
    return backend == "README.md" or name in SHOWN


def expected() -> dict[str, str]:
    """Return every file of `generated/`, relative path -> text."""
    shown = {path: text for path, text in written().items() if is_shown(path)}
    digests = {
        path: hashlib.sha256(text.encode()).hexdigest()
        for path, text in sorted(written().items())
        if not is_shown(path)
    }
    return shown | {DIGESTS: json.dumps(digests, indent=1) + "\n"}


def found() -> dict[str, str]:
    """Return every file that is there now."""
    paths = sorted(p for p in FOLDER.rglob("*") if p.is_file())
    return {p.relative_to(FOLDER).as_posix(): p.read_text(encoding="utf-8") for p in paths}


def differences(before: dict[str, str], after: dict[str, str]) -> str:
    """Return unified diffs of the files shown, and a line for each digest that changed."""
    parts = []
    for name, text in after.items():
        old = before.get(name, "")
        if name == DIGESTS:
            parts += _changed_digests(json.loads(old or "{}"), json.loads(text))
        else:
            parts.append(_diff(old, text, f"generated/{name}"))
    return "".join(parts)


def _changed_digests(before: dict[str, str], after: dict[str, str]) -> list[str]:
    lines = []
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            word = "removed" if path not in after else "changed" if path in before else "new"
            lines.append(f"{word}: {path}. Show: python -m tests.update_generated diff {path}\n")
    return lines


def _diff(before: str, after: str, name: str) -> str:
    lines = (text.splitlines(keepends=True) for text in (before, after))
    return "".join(difflib.unified_diff(*lines, name, "what the compiler writes"))


def diff(path: str) -> str:
    """Return the difference between the last commit's compiler and this one, for one file."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "commit"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), "HEAD"], check=True)
        try:
            before = subprocess.run(
                [sys.executable, "-m", "tests.update_generated", "show", path],
                cwd=tree,
                env=os.environ | {"PYTHONPATH": str(tree)},
                capture_output=True,
                text=True,
                check=False,
            ).stdout
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
    return _diff(before, written().get(path, ""), path)


def update() -> None:
    """Write what differs, remove what is stale, and print both."""
    wanted, present = expected(), found()
    for name in sorted(wanted.keys() | present.keys()):
        path = FOLDER / name
        if name not in wanted:
            path.unlink()
            print(f"removed  {name}")
        elif present.get(name) != wanted[name]:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, wanted[name])
            print(f"{'changed ' if name in present else 'new     '} {name}")
    for folder in sorted((p for p in FOLDER.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def main() -> int:
    """Run one of the three commands."""
    match sys.argv[1:]:
        case []:
            update()
        case ["show", path] if path in written():
            print(written()[path], end="")
        case ["diff", path]:
            print(diff(path), end="")
        case _:
            print(
                f"{__doc__}\nPATH is one of those in generated/ or digests.json.", file=sys.stderr
            )
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
