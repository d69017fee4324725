"""Names of a plan in generated code, compared with the names that the code itself has.

A backend declares the words of each scope of its templates that has names of a plan, and the
identifiers that the templates make of them, such as `v_now` of a state `v`. There a name of a plan
carries a mark. Two identifiers of one scope collide if they are equal without the mark. An
identifier with a mark collides with the target language if it is a word of the language without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, cast

from lnm_codegen.backends.plan import Plan
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.kernel import K, Variable, map_children

MARK = "ñ"
"""A letter of no template and no name of a model, which are ASCII."""

Scope = set[str]
"""The identifiers that are visible together."""

Names = Mapping[str, Iterable[str]]
"""Role -> names of a plan."""


def names_of(plan: Plan) -> Names:
    """Return the names of a plan by role: those of its ports, and every variable of its kernels."""
    kernels = (*plan.functions.values(), plan.prepare)
    return {
        "name": (plan.name,),
        "upper": (plan.upper,),
        "state": plan.states,
        "input": plan.inputs,
        "output": plan.outputs,
        "count": plan.counts,
        "param": [p.name for p in plan.params],
        "element": [n for p in plan.params for n in p.element_names],
        "prepared": plan.prepared,
        "term": plan.terms,
        "variable": frozenset[str]().union(*(kernel.names for kernel in kernels)),
    }


def scope(names: Names, own: str, **made: str) -> Scope:
    """Return the identifiers of a scope, with names between marks.

    Args:
        names: Names by role.
        own: Words of the templates.
        made: Role -> the identifiers that the templates make of its names; `{}` is the name.
    """
    return {
        *own.split(),
        *(
            pattern.format(marked(name)) if pattern != "{}" else variable_name(name, marked)
            for role, patterns in made.items()
            for name in names[role]
            for pattern in patterns.split()
        ),
    }


def renamed(plan: Plan, new: Callable[[str], str]) -> Plan:
    """Return a plan with a new name for itself and for every name in it.

    Prefixes and suffixes that the compiler adds (`grad_`, `sum_`, `_next`, `_0`) stay outside.
    """
    params = tuple(replace(p, name=new(p.name)) for p in plan.params)
    elements = {
        old: element
        for p, q in zip(plan.params, params, strict=True)
        for old, element in zip(p.element_names, q.element_names, strict=True)
    }

    def name(old: str) -> str:
        return elements.get(old) or variable_name(old, lambda b: elements.get(b) or new(b))

    program = plan.program
    kernels = ("prepare", "prepare_backward", "forward", "backward")
    return replace(
        plan,
        name=new(plan.name),
        program=replace(program, **{k: with_names(getattr(program, k), name) for k in kernels}),
        declared_states=tuple(replace(s, name=new(s.name)) for s in plan.declared_states),
        inputs=tuple(map(new, plan.inputs)),
        params=params,
        outputs=tuple(map(new, plan.outputs)),
    )


def variable_name(old: str, new: Callable[[str], str]) -> str:
    """Return a variable's name with `new` applied, except to the compiler's prefix and suffix."""
    base = old.removesuffix("_next")
    head = next((h for h in ("grad_", "sum_") if base.startswith(h)), "")
    return head + new(base.removeprefix(head)) + old.removeprefix(base)


def with_names(kernel: K, name: Callable[[str], str]) -> K:
    """Return a kernel with a new name for each variable."""

    def value(e: Any) -> Any:
        if isinstance(e, Variable):
            return replace(cast("Any", e), name=name(e.name))
        e = map_children(e, value)
        return replace(e, slope=value(e.slope)) if isinstance(e, ir.Spike) else e

    def ports(of: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(replace(p, var=value(p.var)) for p in of)

    body = tuple(replace(x, target=value(x.target), value=value(x.value)) for x in kernel.body)
    return replace(kernel, inputs=ports(kernel.inputs), body=body, results=ports(kernel.results))


def marked(name: str) -> str:
    """Return a name between two marks."""
    return f"{MARK}{name}{MARK}"


def collisions(scopes: Iterable[Scope]) -> list[str]:
    """Return the identifiers that stand for two things in a scope, marks removed."""
    plain = (Counter(map(_plain, scope)) for scope in scopes)
    return sorted({word for counts in plain for word, count in counts.items() if count > 1})


def require_no_collision(
    where: str, scopes: Sequence[Scope], meaning: Callable[[str], str] = lambda word: ""
) -> None:
    """Raise UnsupportedError if an identifier of code with marks collides.

    Args:
        where: Place in the message.
        scopes: Scopes of the code, as `scope` returns them.
        meaning: Meaning of a word in the target language; empty if the language has no such word.
    """
    given = {_plain(w) for scope in scopes for w in scope if w != _plain(w)}
    problems = [f"{w!r} is {meaning(w)}" for w in sorted(given) if meaning(w)]
    problems += [
        f"the generated code has another variable or function with the name {w!r}"
        for w in collisions(scopes)
    ]
    for problem in problems:
        remedy = "Rename the state, input, output, parameter or bound value."
        raise UnsupportedError(where, problem, remedy=remedy)


HEADERS = frozenset(
    """assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal
    stdalign stdarg stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string
    tgmath threads time uchar wchar wctype alloca endian features malloc pthread sched strings
    syslimits unistd""".split()
)
"""Headers of C and of its usual library, which other headers include by `<name.h>`."""


def require_no_header(where: str, files: Iterable[str]) -> None:
    """Raise UnsupportedError if a file would hide a header of C, where its folder is searched."""
    for path in map(PurePath, files):
        if path.suffix == ".h" and path.stem.lower() in HEADERS:
            problem = f"the file {path.name} would hide the header of C with this name"
            raise UnsupportedError(where, problem, remedy="Give another name.")


def _plain(identifier: str) -> str:
    """Return an identifier without marks."""
    return identifier.replace(MARK, "")
