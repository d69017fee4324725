"""`README.md` of a folder of Verilog: forms, ports, formats and arithmetic."""

from __future__ import annotations

from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array.stream import stream_fields
from lnm_codegen.backends.verilog.core.ecp5 import simulation_files
from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.folder.manifest import Form
from lnm_codegen.backends.verilog.parts import CircuitDesign
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.types import Bits, Rounding

FORMS = {
    "comb": "one neuron with its states, a step in each cycle with `ce`",
    "core": "the step as a pipeline, without states",
    "seq": "the step on one multiplier, without states",
    "array": "neurons interleaved on `core`, with their states in a memory",
}

ROUNDINGS = {
    Rounding.HALF_UP: ("AP_RND", "to nearest, ties up"),
    Rounding.TRUNCATE: ("AP_TRN", "towards minus infinity"),
    Rounding.CONVERGENT: ("AP_RND_CONV", "to nearest, ties to even"),
}


def readme(design: CircuitDesign, forms: tuple[Form, ...], proofs: bool) -> str:
    """Return the text; `proofs` states that the folder has proofs."""
    spec = design.model.program.spec
    default = spec.default
    numbers = [
        f"{default} unless a line below gives another format: {default.width} bits, two's"
        f" complement, {default.frac} of them fraction."
    ]
    if spec.nodes:
        listed = ", ".join(f"`{n}` {f} ({f.rounding.value})" for n, f in spec.nodes)
        numbers.append(f"Nodes with their own format: {listed}.")
    has_array = any(form.name == "array" for form in forms)
    view = {
        **design.heading,
        "equations": design.model.equations,
        "forms": [_form(design, form) for form in forms],
        "numbers": numbers,
        "ports": _ports(design),
        "stream": _stream(design) if has_array else (),
        "coefficients": _coefficients(design),
        "roundings": _roundings(design),
        "folder": _folder(design, proofs),
        "proofs": proofs,
    }
    return render("verilog/folder/readme.md.j2", view)


def _form(design: CircuitDesign, form: Form) -> str:
    words = FORMS[form.name]
    if form.name == "array":
        words = f"{design.rtl.neurons} {words}"
    cells = (form.latency, form.interval, form.multipliers)
    return f"| `{design.name}_{form.name}` | {words} | {' | '.join(map(str, cells))} |"


def _ports(design: CircuitDesign) -> tuple[str, ...]:
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


def _stream(design: CircuitDesign) -> tuple[str, ...]:
    named = zip(("s_axis_tdata", "m_axis_tdata"), stream_fields(design), strict=True)
    return tuple(f"`{port}`: {', '.join(f.meaning for f in fields)}" for port, fields in named)


def _coefficients(design: CircuitDesign) -> tuple[str, ...]:
    rows = []
    for c in design.model.coefficients:
        for k, (integer, real) in enumerate(zip(c.integers, c.reals, strict=True)):
            label = f"`{c.name}`" + (f", channel {k}" if len(c.integers) > 1 else "")
            exact = float(c.bits.value(integer))
            rows.append(f"| {label} | {integer} | {exact!r} | {real!r} | {c.bits} |")
    return tuple(rows)


def _roundings(design: CircuitDesign) -> tuple[str, ...]:
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


def _folder(design: CircuitDesign, proofs: bool) -> tuple[str, ...]:
    name = design.name
    generic = design.rtl.multiplier == "generic"
    vivado = "; `vivado.tcl`, not tested" if generic else ""
    rows = [
        ("rtl/", "the modules, one per file, with the name of the file"),
        ("tb/", f"self-checking testbenches, golden vectors, `test_{name}.py` for cocotb,"
         f" `{name}_verilator.cpp` for a comparison with the C model"),
        ("model/", "the integer model in C"),
        ("syn/", "Yosys and nextpnr, each form in a harness with few pins" + vivado),
    ]  # fmt: skip
    if proofs:
        rows.append(("formal/", "proofs for SymbiYosys, each with a control that must fail"))
    if simulation_files(design):
        rows.append(("sim/", "a model of the vendor's multiplier, for simulators and linters"))
    rows += [
        (f"{name}.core", "for FuseSoC"),
        ("manifest.json", "this folder's contents, for scripts"),
        ("program.json", "the step in fixed point, node by node"),
    ]
    return tuple(f"| `{path}` | {words} |" for path, words in rows)
