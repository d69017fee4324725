"""`lnm show`: equations, kernels and operation counts of a neuron."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, cast

import typer

from lnm_codegen.cli.options import Degree, Settings, family_arguments, given_options
from lnm_codegen.cli.output import print_json, print_sections
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError
from lnm_codegen.families.library import resolve
from lnm_codegen.ir.count import OPERATIONS, count, values
from lnm_codegen.ir.declarations import Param, State, learnable_terms
from lnm_codegen.ir.nodes import Kernel, Program, Role
from lnm_codegen.ir.passes.simplify import keep_results
from lnm_codegen.language.neuron import Neuron, brief, equations
from lnm_codegen.options import SchemeName
from lnm_codegen.sections import Lines, Section, Table


def show(
    family: str,
    /,
    *,
    context: typer.Context,
    degree: Degree = None,
    set_: Settings = None,
    scheme: SchemeName = "horner",
    ir: bool = False,
    toml: bool = False,
    json: bool = False,
) -> None:
    """Show a neuron: equations, kernels, operation counts.

    Options:
        ir: Print the kernel after each pass instead.
        toml: Print a text definition instead, for a .toml file.
    """
    others = [word for word in given_options(context) if word in ("--json", "--ir", "--scheme")]
    if toml and others:  # on which a text definition does not depend
        words = ", ".join(others)
        raise ModelError("show", f"--toml with {words}", remedy=f"Omit --toml, or {words}.")
    neuron = resolve(family, **family_arguments(set_, degree))
    if toml:
        typer.echo(neuron.to_toml(), nl=False)
        return
    if ir:
        _show_passes(neuron, scheme, json)
        return
    kernels = _kernels(neuron, scheme)
    if json:
        print_json(_as_dict(neuron, scheme, kernels))
    else:
        print_sections(_sections(neuron, scheme, kernels), f"{neuron.name}: equations")


def _show_passes(neuron: Neuron, scheme: SchemeName, json: bool) -> None:
    passes: list[tuple[str, Kernel]] = []
    lower(neuron, scheme, on_pass=lambda name, kernel: passes.append((name, kernel)))
    if json:
        print_json([{"pass": name, "kernel": k.name, "text": str(k)} for name, k in passes])
        return
    typer.echo("\n\n".join(f"after {name}\n{kernel}" for name, kernel in passes))


def _kernels(neuron: Neuron, scheme: SchemeName) -> dict[str, Kernel]:
    """Return the kernels, with gradients of learnable parameters only."""
    program: Program = lower(neuron, scheme)
    terms = {f"grad_{n}" for n in learnable_terms(program, neuron.params)}
    learned = {f"grad_{n}" for p in neuron.params if p.learnable for n in p.element_names}
    others = set(program.backward.result_names(Role.STATE, Role.INPUT))
    return {
        "forward": program.forward,
        "backward": keep_results(program.backward, terms | others),
        "prepare": program.prepare,
        "prepare_backward": keep_results(program.prepare_backward, learned),
    }


def _declared(neuron: Neuron) -> dict[str, Any]:
    def init(value: Any) -> Any:
        return getattr(value, "__name__", "function") if callable(value) else value

    states = [cast("State", s.decl) for s in neuron.states]
    return {
        "states": [{"name": d.name, "init": d.param or init(d.init)} for d in states],
        "inputs": [s.name for s in neuron.inputs],
        "outputs": [name for name, _ in neuron.output],
        "parameters": [_parameter(p) | {"init": init(p.init)} for p in neuron.params],
        "surrogates": {
            spike: {"name": s.name, "slope": str(s.slope)} for spike, s in neuron.surrogates
        },
        "detach_reset": neuron.detach_reset,
    }


def _parameter(param: Param) -> dict[str, Any]:
    """Return the fields of a parameter; `draw`, only where it has one, as text."""
    found = asdict(replace(param, draw=None))
    del found["draw"]
    if param.draw is not None:
        sample = param.draw.sample
        found["draw"] = getattr(sample, "__name__", str(sample))
    return found


def _as_dict(neuron: Neuron, scheme: SchemeName, kernels: dict[str, Kernel]) -> dict[str, Any]:
    counts = {word: count(kernel) for word, kernel in kernels.items()}
    return {
        "name": neuron.name,
        "scheme": scheme,
        "equations": equations(neuron),
        **_declared(neuron),
        "kernels": {word: str(kernel) for word, kernel in kernels.items()},
        "operations": {
            word: {**asdict(c), "functions": dict(c.functions), "total": c.total}
            for word, c in counts.items()
        },
        "values": {word: asdict(values(kernel)) for word, kernel in kernels.items()},
    }


def _sections(neuron: Neuron, scheme: SchemeName, kernels: dict[str, Kernel]) -> list[Section]:
    declared = _declared(neuron)
    lines = [*brief(neuron)]
    for spike, surrogate in declared["surrogates"].items():
        lines.append(f"slope   d {spike}/dz = {surrogate['slope']}  ({surrogate['name']})")
    if neuron.detach_reset:
        lines.append("spikes inside reset have no derivative (detach_reset)")
    rows = [("state", s["name"], _number(s["init"]), "", "") for s in declared["states"]]
    drawn = " (drawn in a layer)"
    rows += [("input", name, "", "", "") for name in declared["inputs"]]
    rows += [
        ("parameter", p["name"], _number(p["init"]) + drawn * ("draw" in p), f"per {p['per']}",
         "yes" if p["learnable"] else "no")
        for p in declared["parameters"]
    ]  # fmt: skip
    symbols = Table(("declared", "name", "init", "granularity", "learned"), rows)
    titles = {
        "forward": f"Forward kernel, one neuron and step ({scheme} form)",
        "backward": "Backward kernel, one neuron and step",
        "prepare": "Prepare, once per call for each parameter element",
        "prepare_backward": "Backward of prepare, once per call",
    }
    counts = {word: count(kernel) for word, kernel in kernels.items()}
    functions = sorted({name for c in counts.values() for name, _ in c.functions})
    operations = [
        (word.replace("_", " "), *(getattr(c, o) for o in OPERATIONS),
         *(dict(c.functions).get(f, 0) for f in functions), c.total)
        for word, c in counts.items()
    ]  # fmt: skip
    numbers = {word: asdict(values(kernel)) for word, kernel in kernels.items()}
    used = [(word.replace("_", " "), *found.values()) for word, found in numbers.items()]
    header = ("operations", *OPERATIONS, *functions, "total")
    per = "per neuron and step (prepare: per call)"
    return [
        Section("", (Lines(lines),)),
        Section("Symbols", (symbols,)),
        *(
            Section(titles[word], (str(kernel) if kernel.body else "  nothing to do",))
            for word, kernel in kernels.items()
        ),
        Section(f"Operations {per}", (Table(header, operations, numbers=True),)),
        Section(f"Values {per}", (Table(("values", *numbers["forward"]), used, numbers=True),)),
    ]


def _number(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_number(v) for v in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
