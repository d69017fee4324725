"""Helpers that simulate many testbenches in one run, and lint many modules in one run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.backends.fixed import FixedModel
from lnm_codegen.backends.verilog import backend
from lnm_codegen.backends.verilog.design import CircuitDesign
from lnm_codegen.backends.verilog.expr import declared, width_of
from lnm_codegen.backends.verilog.module import connected, declarations, same_names
from lnm_codegen.backends.verilog.testbench import Vectors, step_vectors
from lnm_codegen.compiler.emit import fixed_model_of
from lnm_codegen.ir.fixed import nodes as fx

needs_iverilog = pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="iverilog is not installed"
)
needs_verilator = pytest.mark.skipif(
    shutil.which("verilator") is None, reason="verilator is not installed"
)
needs_yosys = pytest.mark.skipif(shutil.which("yosys") is None, reason="yosys is not installed")

COUNT = 120
"""Vectors of a testbench, here."""


@dataclass
class Bench:
    """Circuits in one folder.

    Attributes:
        folder: Where rtl and testbenches lie, side by side.
        passes: Beginnings of the lines that the simulation must print.
        rtl: Files of modules.
        benches: Files of testbenches.
    """

    folder: Path
    passes: list[str] = field(default_factory=list)
    rtl: list[str] = field(default_factory=list)
    benches: list[str] = field(default_factory=list)

    def add(self, model: FixedModel) -> dict[str, str]:
        """Write the circuit of a model, and a testbench of its `_next` beside those it has."""
        model = replace(model, rtl=replace(model.rtl, vectors=COUNT))
        files = backend.Verilog().emit(model).files
        design = CircuitDesign(model)
        for path, text in files.items():
            name = Path(path).name
            if path.startswith("tb/") and not name.endswith((".hex", "_tb.v")):
                continue
            if not path.startswith(("rtl/", "tb/", "sim/")):
                continue
            if name.endswith("_tb.v"):
                self.benches.append(name)
                text = _stopping(text)
            elif name.endswith(".v") and name not in self.rtl:
                self.rtl.append(name)
            (self.folder / name).write_text(text, encoding="utf-8")
        name = f"{design.name}_next_tb.v"
        self.benches.append(name)
        vectors = step_vectors(design, COUNT)
        (self.folder / name).write_text(_next_bench(design, vectors), encoding="utf-8")
        words = vectors.text(design.name)
        (self.folder / f"{design.name}_next.hex").write_text(words, encoding="utf-8")
        for form in ("next", *design.rtl.forms):
            self.passes.append(f"PASS {design.name}_{form}:")
        return files

    def simulate(self) -> None:
        """Run every testbench, in one simulation; each has to print PASS."""
        files = sorted(self.rtl) + sorted(self.benches)
        command = ["iverilog", "-g2005", "-Wall", "-Wno-timescale", "-o", "sim.vvp", *files]
        compiled = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        assert (compiled.returncode, compiled.stderr) == (0, ""), compiled.stderr[:4000]
        done = subprocess.run(
            ["vvp", "-n", "sim.vvp"], cwd=self.folder, capture_output=True, text=True, timeout=300
        )
        lines = done.stdout.splitlines()
        missing = [p for p in self.passes if not any(line.startswith(p) for line in lines)]
        assert not missing, f"{missing}\n" + "\n".join(lines[:40])
        # Without its vectors a testbench compares X with X, which are equal.
        assert not [line for line in lines if "ERROR" in line or "WARNING" in line]
        assert done.returncode == 0

    def lint(self) -> None:
        """Lint every module with Verilator; `simulate` checks the warnings of Icarus."""
        command = ["verilator", "--lint-only", "-Wall", "-Wno-MULTITOP", "--language", "1364-2005"]
        done = subprocess.run(
            [*command, *sorted(self.rtl)], cwd=self.folder, capture_output=True, text=True
        )
        assert (done.stderr, done.returncode) == ("", 0), done.stderr[:4000]


def _stopping(text: str) -> str:
    """Return a testbench whose clock stops by itself, so that it does not end the others."""
    found = text.replace("$finish(0);", "_running = 1'b0;")
    clock = "reg _running = 1'b1;\n    initial while (_running) #5 clk = !clk;"
    found = found.replace("always #5 clk = !clk;", clock)
    assert "$finish" not in found
    assert found != text
    return found


def _next_bench(design: CircuitDesign, vectors: Vectors) -> str:
    inputs, results = design.inner_inputs, design.inner_results

    def place(var: fx.Var) -> str:
        return f"_word{vectors.slice(var.name)}"

    lines = [
        f"module {design.name}_next_tb;",
        f"reg [{vectors.width - 1}:0] _vector [0:{COUNT - 1}];",
        f"reg [{vectors.width - 1}:0] _word;",
        *(f"{declared('wire', n, width_of(v))} = {place(v)};" for n, v in inputs),
        *declarations("wire", results),
        f"{design.name}_next _dut ({connected(same_names(inputs, results))});",
        "integer _k, _wrong;",
        "initial begin",
        f'$readmemh("{design.name}_next.hex", _vector);',
        "_wrong = 0;",
        f"for (_k = 0; _k < {COUNT}; _k = _k + 1) begin",
        "_word = _vector[_k];",
        f"#1 if ({' || '.join(f'{n} !== {place(v)}' for n, v in results)}) begin",
        f'_wrong = _wrong + 1; if (_wrong < 4) $display("%0d: {design.name} %h", _k, _word);',
        "end end",
        f'if (_wrong == 0) $display("PASS {design.name}_next:");',
        "end endmodule",
    ]
    return "\n".join(lines) + "\n"


def model(
    neuron: lnm.Neuron, spec: Any, name: str, rtl: lnm.Rtl | None = None, **options: Any
) -> FixedModel:
    """Return the model that the backend receives; forms comb and core by default."""
    given = rtl or lnm.Rtl(forms=("comb", "core"))
    return fixed_model_of(neuron, spec, name=name, rtl=given, **options)


def drawn_formats(names: Iterable[str], rng: np.random.Generator) -> lnm.FixedSpec:
    """Draw a format for each node: widths 2 to 18, all roundings, frac 0 among them."""

    def fixed() -> lnm.Fixed:
        width = int(rng.integers(2, 19))
        frac = 0 if rng.random() < 0.15 else int(rng.integers(0, width))
        return lnm.Fixed(width, frac, str(rng.choice(["half_up", "truncate", "convergent"])))

    return lnm.FixedSpec(fixed(), {n: fixed() for n in names if rng.random() < 0.6})


def with_random_coefficients(found: FixedModel, rng: np.random.Generator) -> FixedModel:
    """Return the model with other integers: 0, powers of two, the ends of the format among them."""
    coefficients = []
    for c in found.coefficients:
        low, high = c.bits.low, c.bits.high
        powers = [k for k in (1 << np.arange(c.bits.width - 1)).tolist() if k <= high]
        one = rng.choice([0, 1, -1, low, high, *powers, *rng.integers(low, high + 1, 6).tolist()])
        integer = min(max(int(one), low), high)
        real = float(c.bits.value(integer))
        coefficients.append(replace(c, integers=(integer,), reals=(real,)))
    return replace(found, coefficients=tuple(coefficients))
