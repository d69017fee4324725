"""Files beside the modules: Makefile, FuseSoC, synthesis scripts, cocotb tests, the C model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lnm_codegen.backends.integer_c.backend import FixedC
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.core.ecp5 import simulation_files
from lnm_codegen.backends.verilog.folder.harness import harness, module_ports
from lnm_codegen.backends.verilog.folder.manifest import Form
from lnm_codegen.backends.verilog.folder.readme import readme
from lnm_codegen.backends.verilog.parts import CircuitDesign
from lnm_codegen.backends.verilog.testbench.verilator import verilator_forms, verilator_program
from lnm_codegen.ir.fixed.exchange import to_json

DEFAULT_FORM = "core"
"""The form that scripts build by default, if the folder has it."""


class SynthesisTarget(NamedTuple):
    """A device: its name, synthesis by Yosys, place and route with its options."""

    device: str
    synthesis: str
    place: str
    options: str


TARGETS = {
    "ecp5": SynthesisTarget(
        "ECP5-25k, speed 6",
        "synth_ecp5",
        "nextpnr-ecp5",
        "--25k --package CABGA381 --speed 6 --freq 250",
    ),
    "ice40": SynthesisTarget(
        "iCE40 UP5K",
        "synth_ice40 -dsp -abc9 -device u",
        "nextpnr-ice40",
        "--up5k --package sg48 --freq 100",
    ),
}


def targets(design: CircuitDesign) -> tuple[str, ...]:
    """Return the targets of a design: all, or the one whose multiplier it instantiates."""
    own = design.rtl.multiplier
    return (own,) if own in TARGETS else tuple(TARGETS)


def folder_files(
    design: CircuitDesign, forms: tuple[Form, ...], circuit: Mapping[str, str]
) -> dict[str, str]:
    """Return the files beside modules, testbenches and proofs.

    Args:
        design: The neuron.
        forms: The forms of the circuit.
        circuit: Modules, testbenches and proofs, path -> text.
    """
    name = design.name
    words = [form.name for form in forms]
    sources = {
        form.name: " ".join(f"rtl/{name}_{module}.v" for module in form.modules) for form in forms
    }
    default = DEFAULT_FORM if DEFAULT_FORM in words else words[0]
    models = simulation_files(design)
    proofs = any(path.startswith("formal/") for path in circuit)
    makefile = {
        **design.heading,
        "forms": " ".join(words),
        "form": default,
        "driven": " ".join(f"verilate-{word}" for word in verilator_forms(design, forms)),
        "targets": " or ".join(targets(design)),
        "variables": [
            f"MODELS := {' '.join(models)}".rstrip(),
            *(f"FILES_{word} := {files}" for word, files in sources.items()),
        ],
        "proofs": proofs,
    }
    fusesoc = {
        **design.heading,
        "description": f"{design.model.family}, a spiking neuron in fixed point",
        "top": f"{name}_{default}",
        "forms": words,
        "rtl": sorted(path for path in circuit if path.startswith("rtl/")),
        "models": ["models:", f"  files: [{', '.join(models)}]", "  file_type: verilogSource"]
        if models
        else [],  # FuseSoC refuses a set without files
        "simulated": "rtl, models" if models else "rtl",
        "benches": [f"tb/{name}_{word}_tb.v" for word in words],
        "vectors": [
            f"tb/{file}: {{copyto: {file}}}"
            for file in dict.fromkeys(form.vectors for form in forms)
        ],
    }
    files = {
        "Makefile": render("verilog/folder/makefile.j2", makefile),
        f"{name}.core": render("verilog/folder/core.j2", fusesoc),
        "README.md": readme(design, forms, proofs),
        "program.json": to_json(design.model.program),
        f"tb/test_{name}.py": render("verilog/folder/cocotb.py.j2", design.heading),
        f"tb/{name}_verilator.cpp": verilator_program(design, forms),
        **_synthesis(design, sources, default),
    }
    for top in (f"{name}_{word}" for word in words):
        files[f"syn/{top}_harness.v"] = harness(
            design.model.family, top, module_ports(circuit[f"rtl/{top}.v"])
        )
    return files | {f"model/{p}": t for p, t in FixedC().emit(design.model).files.items()}


def _synthesis(design: CircuitDesign, sources: dict[str, str], default: str) -> dict[str, str]:
    """Return the scripts for each target, and for Vivado where the multiplier is generic."""
    files = {}
    view = {**design.heading, "forms": ", ".join(sources)}
    if design.rtl.multiplier == "generic":
        listed = [f"{word} {{{paths}}}" for word, paths in sources.items()]
        vivado = {**view, "form": default, "files": listed}
        files["syn/vivado.tcl"] = render("verilog/folder/vivado.tcl.j2", vivado)
    cases = [f'{word}) files="{paths}" ;;' for word, paths in sources.items()]
    for target in targets(design):
        script = {**view, "target": target, "cases": cases, **TARGETS[target]._asdict()}
        files[f"syn/{target}.sh"] = render("verilog/folder/synth.sh.j2", script)
    return files
