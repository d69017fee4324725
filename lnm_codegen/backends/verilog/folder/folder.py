"""What lies beside the modules: how to build, test, synthesise and read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lnm_codegen.backends.integer_c.backend import FixedC
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.core.ecp5 import simulation_files
from lnm_codegen.backends.verilog.folder.harness import harness, module_ports
from lnm_codegen.backends.verilog.folder.manifest import Form
from lnm_codegen.backends.verilog.folder.readme import readme
from lnm_codegen.backends.verilog.parts import Design
from lnm_codegen.backends.verilog.testbench.verilator_bench import verilator_bench, verilator_forms
from lnm_codegen.ir.fixed.exchange import to_json

FORM = "core"
"""What is synthesised where nobody says what."""

TARGETS = {
    "ecp5": (
        "ECP5-25k, speed 6",
        "synth_ecp5",
        "nextpnr-ecp5",
        "--25k --package CABGA381 --speed 6 --freq 250",
    ),
    "ice40": (
        "iCE40 UP5K",
        "synth_ice40 -dsp -abc9 -device u",
        "nextpnr-ice40",
        "--up5k --package sg48 --freq 100",
    ),
}
"""Target -> device, synthesis by Yosys, place and route, its options."""


def targets(design: Design) -> tuple[str, ...]:
    """Return the devices that the circuit is for."""
    own = design.rtl.multiplier
    return (own,) if own in TARGETS else tuple(TARGETS)


def folder_files(
    design: Design, forms: tuple[Form, ...], made: Mapping[str, str]
) -> dict[str, str]:
    """Return the files beside modules, testbenches and proofs.

    Args:
        design: The neuron.
        forms: What is written of it.
        made: Those, path -> text.
    """
    name = design.name
    proofs = any(path.startswith("formal/") for path in made)
    files = {
        "Makefile": _makefile(design, forms, proofs),
        f"{name}.core": _core(design, forms, tuple(p for p in made if p.startswith("rtl/"))),
        "README.md": readme(design, forms, proofs),
        "program.json": to_json(design.model.program),
        f"tb/test_{name}.py": render("verilog/folder/cocotb.py.j2", _Head.of(design)),
        f"tb/{name}_verilator.cpp": verilator_bench(design, forms),
    }
    if design.rtl.multiplier == "generic":
        files["syn/vivado.tcl"] = _vivado(design, forms)
    files |= {f"syn/{word}.sh": _synthesis(design, forms, word) for word in targets(design)}
    for form in forms:
        top = f"{name}_{form.word}"
        files[f"syn/{top}_harness.v"] = harness(top, module_ports(made[f"rtl/{top}.v"]))
    return files | {f"model/{p}": t for p, t in FixedC().emit(design.model).files.items()}


@dataclass(frozen=True, slots=True)
class _Head:
    family: str
    name: str

    @classmethod
    def of(cls, design: Design) -> _Head:
        return cls(design.model.family, design.name)


def _files(design: Design, form: Form) -> str:
    return " ".join(f"rtl/{design.name}_{module}.v" for module in form.modules)


def _words(forms: tuple[Form, ...]) -> tuple[str, ...]:
    return tuple(form.word for form in forms)


def _default(forms: tuple[Form, ...]) -> str:
    words = _words(forms)
    return FORM if FORM in words else words[0]


@dataclass(frozen=True, slots=True)
class _MakeView:
    family: str
    name: str
    forms: str
    form: str
    driven: str
    targets: str
    variables: tuple[str, ...]
    proofs: bool


def _makefile(design: Design, forms: tuple[Form, ...], proofs: bool) -> str:
    models = " ".join(simulation_files(design))
    variables = [f"MODELS := {models}".rstrip()]
    variables += [f"FILES_{form.word} := {_files(design, form)}" for form in forms]
    view = _MakeView(
        family=design.model.family,
        name=design.name,
        forms=" ".join(_words(forms)),
        form=_default(forms),
        driven=" ".join(f"verilate-{word}" for word in verilator_forms(design, forms)),
        targets=" or ".join(targets(design)),
        variables=tuple(variables),
        proofs=proofs,
    )
    return render("verilog/folder/makefile.j2", view)


@dataclass(frozen=True, slots=True)
class _SynthesisView:
    family: str
    name: str
    target: str
    device: str
    forms: str
    cases: tuple[str, ...]
    synthesis: str
    place: str
    options: str


def _synthesis(design: Design, forms: tuple[Form, ...], target: str) -> str:
    device, synthesis, place, options = TARGETS[target]
    cases = tuple(f'{form.word}) files="{_files(design, form)}" ;;' for form in forms)
    view = _SynthesisView(
        design.model.family,
        design.name,
        target,
        device,
        ", ".join(_words(forms)),
        cases,
        synthesis,
        place,
        options,
    )
    return render("verilog/folder/synth.sh.j2", view)


@dataclass(frozen=True, slots=True)
class _VivadoView:
    family: str
    name: str
    forms: str
    form: str
    files: tuple[str, ...]


def _vivado(design: Design, forms: tuple[Form, ...]) -> str:
    files = tuple(f"{form.word} {{{_files(design, form)}}}" for form in forms)
    listed = ", ".join(_words(forms))
    view = _VivadoView(design.model.family, design.name, listed, _default(forms), files)
    return render("verilog/folder/vivado.tcl.j2", view)


@dataclass(frozen=True, slots=True)
class _CoreView:
    family: str
    name: str
    description: str
    top: str
    forms: tuple[str, ...]
    rtl: tuple[str, ...]
    models: str
    benches: tuple[str, ...]
    vectors: tuple[str, ...]


def _core(design: Design, forms: tuple[Form, ...], rtl: tuple[str, ...]) -> str:
    name = design.name
    hexes = dict.fromkeys(form.vectors for form in forms)
    view = _CoreView(
        family=design.model.family,
        name=name,
        description=f"{design.model.family}, a spiking neuron in fixed point",
        top=f"{name}_{_default(forms)}",
        forms=_words(forms),
        rtl=tuple(sorted(rtl)),
        models=", ".join(simulation_files(design)),
        benches=tuple(f"tb/{name}_{word}_tb.v" for word in _words(forms)),
        vectors=tuple(f"tb/{file}: {{copyto: {file}}}" for file in hexes),
    )
    return render("verilog/folder/core.j2", view)
