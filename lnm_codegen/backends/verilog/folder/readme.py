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

CONTROLS = (
    ("clk", ("comb", "core", "seq", "array"), "clock, rising edge"),
    ("rst", ("comb", "array"), "synchronous, active high; gives the states their initial values"),
    ("rst", ("core", "seq"), "synchronous, active high; resets only the control"),
    ("ce", ("comb", "core"), "clock enable; in a cycle with `ce` = 0 no register changes but by"
     " `rst`, and transfers count only in cycles with `ce` = 1"),
    ("in_valid", ("core", "seq"), "an input is on the ports `in_`"),
    ("in_ready", ("seq",), "the input is accepted in this cycle if `in_valid` is 1;"
     " 0 while `rst` is 1"),
    ("out_valid", ("core", "seq"), "a result is on the ports `out_`"),
    ("out_ready", ("seq",), "the result is taken in this cycle if `out_valid` is 1"),
    ("clear", ("array",), "every neuron returns to its initial states"),
    ("s_axis_*", ("array",), "AXI-Stream of inputs; `tlast` at the last neuron;"
     " `tready` is 0 while `rst` is 1"),
    ("m_axis_*", ("array",), "AXI-Stream of results; `tlast` at the last neuron"),
    ("tlast_error", ("array",), "an input had `tlast` at another neuron; kept until `clear`"),
)  # fmt: skip
"""Ports of control: name, forms with the port, meaning."""

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
    words = [form.name for form in forms]
    view = {
        **design.heading,
        "equations": design.model.equations,
        "forms": [_form(design, form) for form in forms],
        "has_ce": bool({"comb", "core"} & {*words}),
        "controls": _controls(words),
        "remarks": _remarks(design, forms),
        "numbers": numbers,
        "ports": _ports(design),
        "naming": _naming(design, words),
        "stream": _stream(design) if "array" in words else (),
        "coefficients": _coefficients(design),
        "step": str(design.model.program.kernel).splitlines(),
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


def _controls(words: list[str]) -> tuple[str, ...]:
    rows = []
    for name, forms, meaning in CONTROLS:
        own = ", ".join(f"`{form}`" for form in forms if form in words)
        if own:
            rows.append(f"| `{name}` | {own} | {meaning} |")
    return tuple(rows)


def _remarks(design: CircuitDesign, forms: tuple[Form, ...]) -> tuple[str, ...]:
    """Return sentences about handshakes and modules that the folder has."""
    name, words = design.name, {form.name for form in forms}
    modules = {module for form in forms for module in form.modules}
    found = ["The head of each file has the details."]
    if {"seq", "array"} & words:
        found.insert(0, "A transfer happens in a cycle in which valid and ready are both 1; until"
                     " then the data does not change.")  # fmt: skip
    if "core" in words:
        found.append("`core` has no ready: it accepts an input in each cycle with `ce` = 1.")
    found.append(f"`{name}_next` is the combinational step.")
    if "mul" in modules:
        found.append(f"Another multiplier may replace `{name}_mul`.")
    return tuple(found)


def _naming(design: CircuitDesign, words: list[str]) -> tuple[str, ...]:
    """Return sentences about the names of the ports."""
    prefixed = " and ".join(f"`{word}`" for word in ("core", "seq") if word in words)
    found = []
    if prefixed:
        found.append(f"In {prefixed} a port has `in_` or `out_` before its name.")
    if "comb" in words:
        found.append("In `comb` inputs and results have the plain name.")
    stored = design.rtl.coefficients == "memory" and "array" in words
    if stored:
        found.append("`array` stores the coefficients, a row for each channel.")
    if (design.on_ports and words != ["array"]) or design.rtl.coefficients == "port":
        place = "every other module" if stored else "every module"
        found.append(f"Coefficients on ports have `in_` in {place}.")
    return tuple(found)


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
    """Return the table; the numbers before rounding are a column if one of them differs."""
    rows = []
    for c in design.model.coefficients:
        for k, (integer, real) in enumerate(zip(c.integers, c.reals, strict=True)):
            label = f"`{c.name}`" + (f", channel {k}" if len(c.integers) > 1 else "")
            rows.append((label, integer, float(c.bits.value(integer)), real, c.bits))
    names = ["coefficient", "integer", "value", "rounded from", "format"]
    shown = [0, 1, 2, 3, 4] if any(row[2] != row[3] for row in rows) else [0, 1, 2, 4]
    table = [names, ["---"] * len(names), *rows]
    return tuple(f"| {' | '.join(str(row[k]) for k in shown)} |" for row in table)


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
