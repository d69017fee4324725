"""Write generated/ anew: `python -m tests.update_generated`, or `make generated`.

Files are written whole, and files that the compiler no longer writes are removed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
from lnm_codegen.files import write_whole

FOLDER = Path(__file__).parents[1] / "generated"
BACKENDS = ("c", "cuda", "torch", "triton", "verilog")
SPEC = lnm.Fixed(16, 12)
THETA = {
    1: (0, 0.9), 2: (0.02, 0.85, 0.11), 3: (0.02, 0.85, 0.11, -0.06),
    4: (0.02, 0.85, 0.11, -0.06, 0.013),
}  # fmt: skip
"""Of the circuits of `lnm`: at its defaults it is a leaky integrator, which shows little."""

README = """\
# What the compiler writes

Each built-in family at its defaults, `lnm` at degree 1 to 4, by backend:

* `c/<name>/` is C++17 behind a C interface, forward and backward over time. `<name>.h` says what
  to pass; `example.c` is a caller, with the commands that build it in its first lines.
* `cuda/<name>/` is CUDA C, device code in `<name>.cu` and a host launcher behind a C interface;
  `<name>_launch.h` says what to pass, `example.cpp` is a caller.
* `triton/<name>/` is one module for GPUs: a differentiable function of the neuron's name, and
  `forward` and `backward` on buffers of your own.
* `torch/<name>/` is one PyTorch module: `multi_step(x_seq, v, theta=..., ...)`.
* `verilog/<name>/` is a circuit in Q4.12, of `lif` and of `lnm` at degree 1 to 4, with testbenches,
  golden vectors, proofs, the integer model in C and a Makefile; its `README.md` says what is what.
  Coefficients are constants of a circuit. Those of `lnm` are not its defaults, with which it is a
  leaky integrator, but 0.02, 0.85, 0.11, -0.06, 0.013 as far as the degree goes (0, 0.9 for 1).

The files stand alone: copy what you need, it is free to use. Do not edit them here. They are
written by `make generated`, and `tests/test_generated.py` compares them with what the compiler
writes today, so that a change to the compiler shows as a change of its output.
"""


def neurons() -> dict[str, lnm.Neuron]:
    """Return the neurons of the gallery by the name of their files."""
    found = {name: lnm.get(name) for name in FAMILIES if name != "lnm"}
    return found | {f"lnm_{d}": lnm.get("lnm", degree=d) for d in range(1, 5)}


def circuits() -> dict[str, lnm.Neuron]:
    """Return the neurons that are shown as circuits, by the name of their files."""
    found = {f"lnm_{d}": lnm.get("lnm", degree=d, theta=theta) for d, theta in THETA.items()}
    return {"lif": lnm.get("lif")} | found


def expected() -> dict[str, str]:
    """Return every file of generated/, relative path -> text."""
    files = {"README.md": README}
    for backend in BACKENDS:
        circuit = backend == "verilog"
        for name, neuron in (circuits() if circuit else neurons()).items():
            source = lnm.emit(neuron, backend, name=name, spec=SPEC if circuit else None)
            files |= {f"{backend}/{name}/{path}": text for path, text in source.files.items()}
    return files


def found() -> dict[str, str]:
    """Return every file that is there now."""
    paths = sorted(p for p in FOLDER.rglob("*") if p.is_file())
    return {p.relative_to(FOLDER).as_posix(): p.read_text(encoding="utf-8") for p in paths}


def main() -> int:
    """Write what differs, remove what is stale, and say so."""
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
