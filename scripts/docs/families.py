"""The gallery of families: an index, and for each family a page and its figures.

A page has the docstring, the equations in LaTeX, arguments, declarations, operation counts and
figures. The figures are those of `lnm.plot`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import lnm_codegen as lnm
from lnm_codegen import plot
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir.count import OPERATIONS, count
from lnm_codegen.ir.declarations import learnable_terms
from lnm_codegen.ir.nodes import Kernel, Role
from lnm_codegen.ir.passes.simplify import keep_results
from lnm_codegen.language.family import Family
from lnm_codegen.language.neuron import Neuron, latex
from scripts.docs.docstring import Part, parts_of
from scripts.docs.tables import code, table

FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "izhikevich": {"form='norse'": {"form": "norse"}},
    "lnm": {"states=2": {"states": 2}},
}
"""Family -> title of a form in its docstring -> the arguments that select the form."""

STEPS: dict[tuple[str, str], tuple[float, int]] = {
    ("lif", ""): (1.3, 64),
    ("plif", ""): (1.3, 64),
    ("klif", ""): (1.3, 64),
    ("hodgkin_huxley", ""): (10.0, 800),
    ("izhikevich", "form='norse'"): (10.0, 800),
    ("fitzhugh_nagumo", ""): (0.5, 400),
}
"""Family and form -> input and number of steps of the step response; elsewhere the defaults."""

MOST_BINDINGS = 8


@dataclass(frozen=True)
class Shown:
    """One form of a family: its neuron, the part of the docstring, and the name of its files."""

    family: str
    part: Part
    neuron: Neuron
    arguments: dict[str, Any]

    @property
    def stem(self) -> str:
        """Name of its figures, without extension."""
        words = [f"{key}-{value}" for key, value in self.arguments.items()]
        return "-".join([self.family, *words])

    @property
    def call(self) -> str:
        """The call that makes it."""
        words = [repr(self.family), *(f"{k}={v!r}" for k, v in self.arguments.items())]
        return f"lnm.get({', '.join(words)})".replace("'", '"')


def forms_of(name: str, family: Family[...]) -> list[Shown]:
    """Return the forms of a family, the default first."""
    parts = parts_of(inspect.getdoc(family) or "")
    arguments = {"": {}} | FORMS.get(name, {})
    return [Shown(name, part, family(**arguments[part.title]), arguments[part.title])
            for part in parts]  # fmt: skip


def write_families(target: Path) -> None:
    """Write the index, pages and figures to target/families."""
    folder = target / "families"
    folder.mkdir(parents=True, exist_ok=True)
    cards = []
    for name, family in FAMILIES.items():
        forms = forms_of(name, family)
        figures = [list(draw(form, folder)) for form in forms]
        (folder / f"{name}.md").write_text(page(name, family, forms, figures), encoding="utf-8")
        cards.append(_card(name, forms[0], figures[0]))
    (folder / "index.md").write_text(_index(cards), encoding="utf-8")


def _index(cards: list[str]) -> str:
    return "\n".join([
        "# Families",
        "",
        f"The {len(FAMILIES)} built-in families. `lnm.get(NAME)` returns a neuron of a family;",
        "`lnm list` prints them. [Choose a neuron](../howto/choose.md) compares them by task.",
        "",
        '<div class="grid cards" markdown>',
        "",
        *cards,
        "",
        "</div>",
        "",
    ])  # fmt: skip


def _card(name: str, form: Shown, figures: list[tuple[str, str]]) -> str:
    lines = [f"-   **[`{name}`]({name}.md)**", "", f"    {form.part.summary}", ""]
    if figures:
        caption, file = figures[0]
        lines += [f"    [![{caption} of {name}]({file}){{ loading=lazy }}]({name}.md)", ""]
    return "\n".join(lines)


def page(
    name: str, family: Family[...], forms: list[Shown], figures: list[list[tuple[str, str]]]
) -> str:
    """Return the page of a family."""
    blocks = [f"# `{name}`"]
    for form, drawn in zip(forms, figures, strict=True):
        blocks += _form(form, family, drawn)
    return "\n\n".join(blocks) + "\n"


def _form(form: Shown, family: Family[...], figures: list[tuple[str, str]]) -> Iterator[str]:
    part, neuron = form.part, form.neuron
    level = "###" if part.title else "##"
    if part.title:
        yield f"## With `{part.title}`"
    yield part.summary
    yield f"```python\nimport lnm_codegen as lnm\n\nlayer = lnm.nn.NeuronLayer({form.call})\n```"
    yield f"{level} Equations"
    yield from equations(neuron)
    yield from (part.body,) if part.body else ()
    yield f"{level} Arguments"
    yield _arguments(part, family)
    yield f"{level} States and parameters"
    yield _declarations(neuron)
    yield f"{level} Operations"
    yield "Per neuron and time step. A fused multiply-add counts as one operation."
    yield _counts(neuron)
    if figures:
        yield f"{level} Behaviour"
        for caption, file in figures:
            yield f"![{caption} of {form.family}]({file}){{ .figure }}"
    definition = neuron.to_toml().rstrip().replace("\n", "\n    ")
    yield f'??? note "The same neuron as TOML"\n\n    ```toml\n    {definition}\n    ```'


def equations(neuron: Neuron) -> Iterator[str]:
    """Yield the equations in LaTeX, or a sentence where sub-steps make them too long to read."""
    if len(neuron.bindings) > MOST_BINDINGS:
        yield (
            f"The step has {len(neuron.bindings)} intermediate values."
            " The block below states its equations; the TOML definition has each value."
        )
        return
    text = latex(neuron).removeprefix("$").removesuffix("$")
    lines = text.split("\n")
    rows = [line for line in lines[2:-1] if not line.startswith((r"\text{states", r"\text{inputs",
            r"\text{parameters"))]  # fmt: skip
    rows = [row for row in rows if not _repeats(row)]
    rows[-1] = rows[-1].removesuffix(r" \\")
    body = "\n".join([r"\begin{array}{ll}", *rows, r"\end{array}"])
    yield f"$$\n{body}\n$$"


def _repeats(row: str) -> bool:
    """Report whether a row states that an output is the spike of its own name."""
    left, _, right = row.removeprefix(r"\text{output} & ").removesuffix(r" \\").partition(" = ")
    return left == right


def _arguments(part: Part, family: Family[...]) -> str:
    rows = []
    for name, text in part.arguments.items():
        default = family.signature.parameters[name].default if not part.title else ...
        rows.append([code(name), *([code(default)] if not part.title else []), text])
    return table(["argument", *(["default"] if not part.title else []), "meaning"], rows)


def _declarations(neuron: Neuron) -> str:
    rows = [["state", code(s), _start(s.decl.param or s.decl.init), "", ""] for s in neuron.states]
    rows += [
        ["parameter", code(p.name), _start(p.init), f"per {p.per}", "yes" if p.learnable else "no"]
        for p in neuron.params
    ]
    return table(["kind", "name", "initial value", "granularity", "learnable"], rows)


def _start(init: Any) -> str:
    if callable(init):
        return "drawn"
    if isinstance(init, tuple):
        return "[" + ", ".join(f"{value:g}" for value in init) + "]"
    return code(init) if isinstance(init, str) else f"{init:g}"


def _counts(neuron: Neuron) -> str:
    counts = {word: count(kernel) for word, kernel in _kernels(neuron).items()}
    rows = []
    for word in OPERATIONS:
        rows.append([_operation(word), *(str(getattr(c, word)) for c in counts.values())])
    for name in sorted({fn for c in counts.values() for fn, _ in c.functions}):
        rows.append([code(name), *(str(dict(c.functions).get(name, 0)) for c in counts.values())])
    rows.append(["**total**", *(f"**{c.total}**" for c in counts.values())])
    return table(["operation", *counts], rows, numbers=True)


def _operation(word: str) -> str:
    return "fused multiply-adds" if word == "fused" else word


def _kernels(neuron: Neuron) -> dict[str, Kernel]:
    """Return forward and backward, with gradients of learnable parameters only."""
    program = lnm.lower(neuron)
    kept = {f"grad_{n}" for n in learnable_terms(program, neuron.params)}
    kept |= set(program.backward.result_names(Role.STATE, Role.INPUT))
    return {"forward": program.forward, "backward": keep_results(program.backward, kept)}


def draw(form: Shown, folder: Path) -> Iterator[tuple[str, str]]:
    """Write the figures of a form as SVG and yield caption and file name of each."""
    neuron, key = form.neuron, (form.family, form.part.title)
    x, steps = STEPS.get(key, (None, 64))
    figure = _figure()
    plot.step_response(neuron, x, steps, ax=figure.subplots())
    yield "Step response", _save(figure, folder, f"{form.stem}-step")
    if neuron.fire:
        figure = _figure()
        plot.fi_curve(neuron, ax=figure.subplots())
        yield "f-I curve", _save(figure, folder, f"{form.stem}-rate")
    if len(neuron.states) == 2:
        figure = _figure(4.2)
        with np.errstate(all="ignore"):
            plot.phase_plane(neuron, ax=figure.subplots())
        yield "Phase plane", _save(figure, folder, f"{form.stem}-plane")


def _figure(height: float = 3.0) -> Figure:
    return Figure(figsize=(6.4, height), layout="constrained")


def _save(figure: Figure, folder: Path, stem: str) -> str:
    """Write a figure; its text is the same for the same curves."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": stem}):
        figure.savefig(folder / f"{stem}.svg", metadata={"Date": None})
    return f"{stem}.svg"
