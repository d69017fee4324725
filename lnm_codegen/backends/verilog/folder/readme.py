"""`README.md` of a folder of Verilog: forms, ports, formats and the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array.stream import fields
from lnm_codegen.backends.verilog.core.ecp5 import simulation_files
from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.folder.manifest import Form
from lnm_codegen.backends.verilog.parts import Design
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.types import Bits, Rounding

FORMS = {
    "comb": "one neuron, its state inside, a step in each cycle with `ce`",
    "core": "the step as a pipeline, no state inside",
    "seq": "the step on one multiplier, no state inside",
    "array": "neurons interleaved over `core`, their states in a memory",
}

ROUNDINGS = {
    Rounding.HALF_UP: ("AP_RND", "to the nearest, ties up"),
    Rounding.TRUNCATE: ("AP_TRN", "towards minus infinity"),
    Rounding.CONVERGENT: ("AP_RND_CONV", "to the nearest, ties to even"),
}


@dataclass(frozen=True, slots=True)
class _View:
    family: str
    name: str
    equations: tuple[str, ...]
    forms: tuple[str, ...]
    numbers: tuple[str, ...]
    ports: tuple[str, ...]
    stream: tuple[str, ...]
    coefficients: tuple[str, ...]
    roundings: tuple[str, ...]
    folder: tuple[str, ...]
    proofs: bool


def readme(design: Design, forms: tuple[Form, ...], proofs: bool) -> str:
    """Return the text; `proofs` says whether there is a folder of them."""
    spec = design.model.program.spec
    default = spec.default
    numbers = [
        f"{default} unless a line below says otherwise: {default.width} bits, two's complement, of"
        f" which {default.frac} are fraction."
    ]
    if spec.nodes:
        listed = ", ".join(f"`{n}` {f} ({f.rounding.value})" for n, f in spec.nodes)
        numbers.append(f"Nodes with a format of their own: {listed}.")
    arrays = any(form.word == "array" for form in forms)
    view = _View(
        family=design.model.family,
        name=design.name,
        equations=design.model.equations,
        forms=tuple(_form(design, form) for form in forms),
        numbers=tuple(numbers),
        ports=_ports(design),
        stream=_stream(design) if arrays else (),
        coefficients=_coefficients(design),
        roundings=_roundings(design),
        folder=_folder(design, proofs),
        proofs=proofs,
    )
    return render("verilog/folder/readme.md.j2", view)


def _form(design: Design, form: Form) -> str:
    words = FORMS[form.word]
    if form.word == "array":
        words = f"{design.rtl.neurons} {words}"
    cells = (form.latency, form.interval, form.multipliers)
    return f"| `{design.name}_{form.word}` | {words} | {' | '.join(map(str, cells))} |"


def _ports(design: Design) -> tuple[str, ...]:
    roles = (
        ("state", design.states),
        ("input", design.inputs),
        ("coefficient", design.coefficients),
        ("output", design.outputs),
    )
    return tuple(
        f"| `{v.name}` | {role} | {width_of(v) or 1} | {_format(v)} |"
        for role, variables in roles
        for v in variables
    )


def _format(var: fx.Var) -> str:
    return str(var.type) if isinstance(var.type, Bits) else "a bit"


def _stream(design: Design) -> tuple[str, ...]:
    taken, given = fields(design.inputs), fields((*design.states, *design.outputs))
    named = (("s_axis_tdata", taken), ("m_axis_tdata", given))
    return tuple(f"`{port}`: {', '.join(f.meaning for f in placed)}" for port, placed in named)


def _coefficients(design: Design) -> tuple[str, ...]:
    rows = []
    for c in design.model.coefficients:
        for k, (integer, real) in enumerate(zip(c.integers, c.reals, strict=True)):
            label = f"`{c.name}`" + (f", channel {k}" if len(c.integers) > 1 else "")
            exact = float(c.bits.value(integer))
            rows.append(f"| {label} | {integer} | {exact!r} | {real!r} | {c.bits} |")
    return tuple(rows)


def _roundings(design: Design) -> tuple[str, ...]:
    used = {
        node.rounding
        for let in design.model.program.kernel.body
        for node in fx.walk(let.value)
        if isinstance(node, fx.Round)
    }
    return tuple(
        f"| {word.value} | `{ROUNDINGS[word][0]}` | {ROUNDINGS[word][1]} |"
        f" {'used' if word in used else 'not used'} |"
        for word in ROUNDINGS
    )


def _folder(design: Design, proofs: bool) -> tuple[str, ...]:
    name = design.name
    generic = design.rtl.multiplier == "generic"
    vivado = "; `vivado.tcl`, which was not run" if generic else ""
    rows = [
        ("rtl/", "the modules, one a file, named as the file"),
        ("tb/", f"self-checking testbenches, golden vectors, `test_{name}.py` for cocotb,"
         f" `{name}_verilator.cpp` against the C model"),
        ("model/", "the integer model in C"),
        ("syn/", "Yosys and nextpnr, each form in a harness of few pins" + vivado),
    ]  # fmt: skip
    if proofs:
        rows.append(("formal/", "proofs for SymbiYosys, each with a control that has to fail"))
    if simulation_files(design):
        rows.append(("sim/", "a model of the vendor's multiplier, for simulators and linters"))
    rows += [
        (f"{name}.core", "for FuseSoC"),
        ("manifest.json", "what is here, for scripts"),
        ("program.json", "the step in fixed point, node by node"),
    ]
    return tuple(f"| `{path}` | {words} |" for path, words in rows)
