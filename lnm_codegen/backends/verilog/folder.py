"""Files beside the modules: Makefile, manifest, README, scripts of tools, tests, the C model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from lnm_codegen.backends.base import MANIFEST
from lnm_codegen.backends.fixed import Coefficient
from lnm_codegen.backends.integer_c import FixedC
from lnm_codegen.backends.render import render
from lnm_codegen.backends.verilog.array import (
    STORED,
    StreamField,
    data_width,
    load_ports,
    stream_fields,
)
from lnm_codegen.backends.verilog.design import CircuitDesign
from lnm_codegen.backends.verilog.expr import width_of
from lnm_codegen.backends.verilog.module import Module, ModulePort
from lnm_codegen.backends.verilog.pipeline import simulation_files
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.exchange import to_json
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.types import Bits, Rounding
from lnm_codegen.options import VERSION as PACKAGE_VERSION


def harness(family: str, top: str, ports: Iterable[ModulePort]) -> str:
    """Return `<top>_harness`: inputs from a shift register, outputs to registers and one XOR.

    Args:
        family: Name of the neuron.
        top: The measured module.
        ports: Its ports; "clk" is the clock.
    """
    pairs, inputs, outputs = [], 0, 0
    for port in ports:
        if port.name == "clk":
            pairs.append(".clk(clk)")
        elif port.direction == "input":
            pairs.append(f".{port.name}(chain[{inputs + port.bits - 1}:{inputs}])")
            inputs += port.bits
        else:
            pairs.append(f".{port.name}(results[{outputs + port.bits - 1}:{outputs}])")
            outputs += port.bits
    view = {
        "family": family,
        "top": top,
        "inputs": max(inputs, 1),
        "outputs": max(outputs, 1),
        "connections": ", ".join(pairs),
    }
    return render("verilog/folder/synthesis.j2:harness", view)


# `tb/NAME_verilator.cpp`: a program that compares each form in Verilator with the C model.


WIDEST = 64
"""Most bits of stream data that the program handles as one number."""

_PATIENCE = 16
"""Most cycles for a vector, gaps and stalls included, as a multiple of the interval."""


def verilator_forms(design: CircuitDesign, forms: tuple[Form, ...]) -> tuple[str, ...]:
    """Return the forms that the program drives: an array only where its data is one number."""
    wide = max(map(data_width, stream_fields(design))) > WIDEST
    return tuple(form.name for form in forms if not (form.name == "array" and wide))


def verilator_program(design: CircuitDesign, forms: tuple[Form, ...]) -> str:
    """Return a main program of Verilator that compares a form with the C model's step."""
    words = verilator_forms(design, forms)
    states, inputs, held = design.states, design.inputs, design.coefficients
    moving = (*states, *inputs)
    tables = [c for c in design.model.coefficients if c.name in {v.name for v in held}]
    array_ports = held if design.rtl.coefficients == "port" else ()
    starts = {s.name: s.init for s in design.model.states}
    results = _results(design)
    next_inputs = [f"row.{v.name} = next.{v.name};" for v in inputs]
    view = {
        **design.view,
        "patience": _PATIENCE * max((form.interval for form in forms), default=1),
        "fields": [f"int32_t {v.name};" for v in (*moving, *held)],
        "draws": [_drawn(v) for v in moving],
        "coefficient_draws": [_drawn(v) for v in held],
        "step": _step(design),
        "advances": [f"row.{s.name} = (int32_t)result.{results[s].name};" for s in states],
        "starts": [f"row.{v.name} = {starts[v.name]};" for v in states],
        **{form: form in words for form in ("comb", "core", "seq", "array")},
        "comb_inputs": [
            *next_inputs,
            *(f"row.{v.name} = next.{v.name};" for v in held),
            *(_driven(v.name, v) for v in inputs),
            *(_driven(f"in_{v.name}", v) for v in held),
        ],
        "comb_same": _same(results, ""),
        "core_inputs": [_driven(name, v) for name, v in design.outer_inputs],
        "core_same": _same(results, "out_"),
        "neurons": design.rtl.neurons,
        "tables": [_table(c) for c in tables],
        "table_reads": [f"row.{c.name} = {c.name}_of[{_channel(design, c)}];" for c in tables],
        "array_coefficients": [_driven(f"in_{v.name}", v, "rows[0]") for v in array_ports],
        "array_takes": next_inputs,
        "array_data": " | ".join(_packed(f) for f in stream_fields(design)[0]) or "0",
        "array_same": " && ".join(
            _equal(f"(data >> {f.low})", f.var, results[f.var]) for f in stream_fields(design)[1]
        ),
    }
    return render("verilog/verilator.cpp.j2", view)


def _results(design: CircuitDesign) -> dict[fx.Var, fx.Var]:
    """Return output or state -> the result of the model that its port shows."""
    states = zip(design.states, design.next_states, strict=True)
    return {**{v: v for v in design.outputs}, **dict(states)}


def _drawn(var: fx.Var) -> str:
    assert isinstance(var.type, Bits)
    return f"row.{var.name} = drawn({var.type.width}, {var.type.frac});"


def _step(design: CircuitDesign) -> str:
    """Return the call of the model's step, with the coefficients that are constants in it."""
    held = {v.name for v in design.coefficients}
    values = {c.name: c.integers[0] for c in design.model.coefficients}
    arguments = [
        f"row.{v.name}" if v.name in held or v.name not in values else str(values[v.name])
        for v in design.model.program.kernel.input_vars(*Role)
    ]
    return f"{design.name}_model_step({', '.join(arguments)})"


def _driven(port: str, var: fx.Var, row: str = "row") -> str:
    return f"b.dut.{port} = bits({row}.{var.name}, {width_of(var)});"


def _same(results: dict[fx.Var, fx.Var], prefix: str) -> str:
    return " && ".join(
        _equal(f"b.dut.{prefix}{port.name}", port, result) for port, result in results.items()
    )


def _equal(text: str, port: fx.Var, result: fx.Var) -> str:
    width = width_of(port)
    if width is None:
        return f"({text} & 1) == (expected.{result.name} != 0)"
    return f"number({text}, {width}) == expected.{result.name}"


def _packed(field: StreamField) -> str:
    return f"bits(row.{field.var.name}, {field.padded}) << {field.low}"


def _table(c: Coefficient) -> str:
    return f"static const int32_t {c.name}_of[] = {{{', '.join(map(str, c.integers))}}};"


def _channel(design: CircuitDesign, c: Coefficient) -> str:
    members = design.rtl.neurons // design.model.channels
    return f"n / {members}" if len(c.integers) > 1 else "0"


# `manifest.json`: description of a folder of Verilog, for scripts.


VERSION = 1


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the circuit, with its cycles and multipliers.

    Attributes:
        name: "comb", "core", "seq" or "array".
        modules: Its modules in rtl/, without the prefix; the last one is the top.
        latency: Cycles from an input to its result.
        interval: Cycles from one input to the next.
        multipliers: Multipliers in the source.
        more: Further entries of the manifest, by key.
        vectors: The file of its golden vectors, in tb/.
        count: Number of its golden vectors.
        fields: Name and width of each field of a vector, from the left.
        sequence: Vectors from one set of initial states to the next; 0 for independent vectors, or
            a single run.
    """

    name: str
    modules: tuple[str, ...]
    latency: int
    interval: int
    multipliers: int
    more: tuple[tuple[str, int], ...] = ()
    vectors: str = ""
    count: int = 0
    fields: tuple[tuple[str, int], ...] = ()
    sequence: int = 0


def listed(files: Iterable[str]) -> list[str]:
    """Return the entry that lists the files of a folder, with the manifest."""
    return sorted({*files, MANIFEST})


def manifest(design: CircuitDesign, forms: tuple[Form, ...], files: Iterable[str]) -> str:
    """Return the text of manifest.json; `files` are the other files of the folder."""
    model, spec = design.model, design.model.program.spec
    content: dict[str, Any] = {
        "manifest": VERSION,
        "generator": f"lnm_codegen {PACKAGE_VERSION}",
        "license": "0BSD",
        "name": design.name,
        "family": model.family,
        "equations": list(model.equations),
        "format": str(spec.default),
        "rounding": spec.default.rounding.value,
        "formats": {name: f"{fixed} {fixed.rounding.value}" for name, fixed in spec.nodes},
        "neurons": design.rtl.neurons,
        "coefficients_on": design.rtl.coefficients,
        "multiplier": design.rtl.multiplier,
        "shift_add": design.rtl.shift_add,
        "vectors": design.rtl.vectors,
        "forms": {form.name: _form(design, form) for form in forms},
        "simulation_files": list(simulation_files(design)),
        "ports": {
            "states": [_port(v) for v in design.states],
            "inputs": [_port(v) for v in design.inputs],
            "coefficients": [_port(v) for v in design.coefficients],
            "outputs": [_port(v) for v in design.outputs],
        },
        "coefficients": [
            {
                "name": c.name,
                "format": str(c.bits),
                "integers": list(c.integers),
                "values": [float(c.bits.value(k)) for k in c.integers],
                "rounded_from": list(c.reals),
                **({"formula": c.formula} if c.formula else {}),
            }
            for c in model.coefficients
        ],
        "initial_states": {s.name: s.init for s in model.states},
        "emitted": listed(files),
    }
    return json.dumps(content, indent=2) + "\n"


def _form(design: CircuitDesign, form: Form) -> dict[str, Any]:
    return {
        "top": f"{design.name}_{form.name}",
        "files": [f"rtl/{design.name}_{module}.v" for module in form.modules],
        "testbench": f"tb/{design.name}_{form.name}_tb.v",
        "latency": form.latency,
        "interval": form.interval,
        "multipliers": form.multipliers,
        **dict(form.more),
        **({"through": design.rtl.through} if form.name == "array" else {}),
        "vectors": {
            "file": f"tb/{form.vectors}",
            "count": form.count,
            "fields": [{"name": name, "width": width} for name, width in form.fields],
            **({"sequence": form.sequence} if form.sequence else {}),
        },
        **(_stream(design) if form.name == "array" else {}),
    }


def _stream(design: CircuitDesign) -> dict[str, Any]:
    """Return the layout of the data of the array's streams."""
    return {
        f"{port}_tdata": {
            "width": data_width(fields),
            "fields": [{"name": f.var.name, "low": f.low, "width": f.width} for f in fields],
        }
        for port, fields in zip(("s_axis", "m_axis"), stream_fields(design), strict=True)
    }


def _port(var: fx.Var) -> dict[str, Any]:
    frac = var.type.frac if isinstance(var.type, Bits) else 0
    return {"name": var.name, "width": width_of(var) or 1, "frac": frac}


# `README.md` of a folder of Verilog: forms, ports, formats and arithmetic.


FORMS = {
    "comb": "one neuron with its states, a step in each cycle with `ce`",
    "core": "the step as a pipeline, without states",
    "seq": "the step on one multiplier, without states",
    "array": "neurons in turn on `{through}`, with their states in a memory",
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
        **design.view,
        "forms": [_form_line(design, form) for form in forms],
        "has_ce": bool({"comb", "core"} & {*words}),
        "controls": _controls(words),
        "remarks": _remarks(design, forms),
        "numbers": numbers,
        "ports": _ports(design),
        "naming": _naming(design, words),
        "stream": _stream_lines(design) if "array" in words else (),
        "coefficients": _coefficients(design),
        "step": str(design.model.program.kernel).splitlines(),
        "roundings": _roundings(design),
        "folder": _folder(design, proofs),
        "proofs": proofs,
    }
    return render("verilog/folder/readme.md.j2", view)


def _form_line(design: CircuitDesign, form: Form) -> str:
    words = FORMS[form.name]
    if form.name == "array":
        words = f"{design.rtl.neurons} {words.format(through=design.rtl.through)}"
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
    stored = design.rtl.coefficients in STORED and "array" in words
    if stored:
        found.append("`array` stores the coefficients, a row for each channel.")
    if stored and load_ports(design):
        found.append(
            "`load` writes row `load_channel` in one cycle, while no neuron is in the pipeline."
        )
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


def _stream_lines(design: CircuitDesign) -> tuple[str, ...]:
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


# Files beside the modules: Makefile, FuseSoC, synthesis scripts, cocotb tests, the C model.


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
    design: CircuitDesign,
    modules: Mapping[str, Module],
    forms: tuple[Form, ...],
    circuit: Mapping[str, str],
) -> dict[str, str]:
    """Return the files beside modules, testbenches and proofs.

    Args:
        design: The neuron.
        modules: Its modules, by their word.
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
    head = {"family": design.model.family, "name": name}
    makefile = {
        **head,
        "forms": " ".join(words),
        "form": default,
        "driven": " ".join(f"verilate-{word}" for word in verilator_forms(design, forms)),
        "targets": " or ".join(targets(design)),
        "variables": [
            f"MODELS := {' '.join(models)}".rstrip(),
            *(f"FILES_{word} := {files}" for word, files in sources.items()),
        ],
        "samples": 0,
        "reloads": False,
        "wrapper": "",
        "proofs": proofs,
    }
    simulated = "rtl, models" if models else "rtl"
    fusesoc = {
        **head,
        "library": "neurons",
        "revision": 0,
        "description": f"{design.model.family}, a spiking neuron in fixed point",
        "top": f"{name}_{default}",
        "forms": words,
        "rtl": sorted(path for path in circuit if path.startswith("rtl/")),
        "more": ["models:", f"  files: [{', '.join(models)}]", "  file_type: verilogSource"]
        if models
        else [],  # FuseSoC refuses a set without files
        "filesets": {"default": "rtl", "sim": simulated, "lint": simulated},
        "memories": False,
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
        f"tb/test_{name}.py": render("verilog/folder/cocotb.py.j2:neuron", design.view),
        f"tb/{name}_verilator.cpp": verilator_program(design, forms),
        **_synthesis(design, sources, default),
    }
    for word in words:
        top = f"{name}_{word}"
        text = harness(design.model.family, top, modules[word].ports)
        files[f"syn/{top}_harness.v"] = text
    return files | {f"model/{p}": t for p, t in FixedC().emit(design.model).files.items()}


def _synthesis(design: CircuitDesign, sources: dict[str, str], default: str) -> dict[str, str]:
    """Return the scripts for each target, and for Vivado where the multiplier is generic."""
    files = {}
    forms = ", ".join(sources)
    if design.rtl.multiplier == "generic":
        listed = [f"{word} {{{paths}}}" for word, paths in sources.items()]
        vivado = {
            "memories": False,
            "family": design.model.family,
            "name": design.name,
            "forms": forms,
            "form": default,
            "clock": "clk",
            "files": listed,
        }
        files["syn/vivado.tcl"] = render("verilog/folder/synthesis.j2:vivado", vivado)
    cases = [f'{word}) files="{paths}" ;;' for word, paths in sources.items()]
    for target in targets(design):
        script = {
            **design.view,
            "forms": forms,
            "target": target,
            "cases": cases,
            **TARGETS[target]._asdict(),
        }
        files[f"syn/{target}.sh"] = render("verilog/folder/synthesis.j2:script", script)
    return files
