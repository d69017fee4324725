"""The view of the second launch: sums of the terms, through the adjoint of `prepare`.

Every term is summed for each row of the finest parameter. The adjoint is linear in the sums, so
the gradient of a coarser parameter is the sum, in float64, over its finer rows: over a group of
rows for a parameter per channel among others per neuron, over all of them for one per layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.render import render
from lnm_codegen.backends.triton.expr import call
from lnm_codegen.backends.triton.kernels import quoted, scaled
from lnm_codegen.backends.triton.names import Names
from lnm_codegen.ir.declarations import Granularity, Param
from lnm_codegen.ir.granularity import finest
from lnm_codegen.ir.nodes import Role


@dataclass(frozen=True, slots=True)
class SumsView:
    """What the template of the sums is filled from."""

    params: tuple[str, ...]
    learned: tuple[str, ...]
    pointers: tuple[str, ...]
    real: str
    terms: tuple[str, ...]
    after: tuple[str, ...]
    params_read: tuple[str, ...]
    adjoint: tuple[str, ...]
    layer_totals: tuple[str, ...]
    group_totals: tuple[str, ...]
    row_adds: tuple[str, ...]
    group_stores: tuple[str, ...]
    layer_stores: tuple[str, ...]
    block: str
    rows_text: str
    row_inner_text: str
    groups_text: str
    group_rows_text: str
    programs_text: str
    unless_empty: str
    run_time: tuple[str, ...]


def finest_of(names: Names) -> Granularity:
    """Return the granularity that terms are summed to."""
    plan = names.plan
    return finest([*(plan.per[q] for q in plan.terms), *(p.per for p in plan.learnable)])


def sums_view(names: Names) -> SumsView:
    """Return the view of the second launch."""
    plan, real = names.plan, names.dialect.real
    fine = finest_of(names)
    pers = {p.per for p in plan.learnable}
    kernel = plan.prepare_backward
    in_channels = fine == "neuron" and "channel" in pers
    whole = fine != "layer" and "layer" in pers
    members, rows = {"layer": (2048, 1), "channel": (1024, 1), "neuron": (32, 32)}[fine]
    if whole and fine == "neuron":
        members, rows = 4, 256
    results = kernel.result_names(*Role)
    taken = [p.var.name for p in plan.read_inputs(kernel)]
    adds: list[str] = []
    stores: dict[Granularity, list[str]] = {"layer": [], "channel": [], "neuron": []}
    for p in plan.learnable:
        wanted = f"if grad_{p.name}_ptr is not None:"
        index = {"layer": "", "channel": "group", "neuron": ""}[p.per]
        elements = list(enumerate(p.element_names))
        at = [
            _place(f"grad_{p.name}_ptr", "row" if p.per == fine else index, p, k)
            for k, _ in elements
        ]
        if p.per == fine:
            adds += [
                wanted,
                *(f"    tl.store({at[k]}, grad_{e}, mask=inside)" for k, e in elements),
            ]
            continue
        for _, e in elements:
            adds.append(f"total_{e} += tl.where(inside, grad_{e}, 0.0).to(tl.float64)")
        totals = (f"    tl.store({at[k]}, tl.sum(total_{e}).to({real}))" for k, e in elements)
        stores[p.per] += [wanted, *totals]
    if in_channels:
        shape = ("channels", "inner")
    elif fine == "neuron":
        shape = ("triton.cdiv(sample, SUM_ROWS)", "SUM_ROWS")
    else:
        shape = ({"layer": "1", "channel": "channels"}[fine], "1")
    params = tuple(p.name for p in plan.model.params if {*p.element_names} & {*taken})
    learned = tuple(f"grad_{p.name}" for p in plan.learnable)
    pointers = tuple(f"{name}_ptr" for name in (*params, *learned))
    return SumsView(
        params=params,
        learned=learned,
        pointers=pointers,
        real=real,
        terms=plan.terms,
        after=tuple(f" + {scaled(k, 'width')}" if k else "" for k in range(len(plan.terms))),
        params_read=tuple(
            _read(p, k, name, fine)
            for p in plan.model.params
            for k, name in enumerate(p.element_names)
            if name in taken
        ),
        adjoint=call(results, "prepare_backward", taken, indent=12) if results else (),
        layer_totals=_totals(names, "layer", fine),
        group_totals=_totals(names, "channel", fine),
        row_adds=tuple(adds),
        group_stores=tuple(stores["channel"]),
        layer_stores=tuple(stores["layer"]),
        block=f"{members}, {rows}, {16 if fine == 'layer' else 4}",
        rows_text={"layer": "1", "channel": "channels", "neuron": "sample"}[fine],
        row_inner_text="inner" if fine == "channel" else "1",
        groups_text=shape[0],
        group_rows_text=shape[1],
        programs_text="1" if whole else "groups",
        unless_empty="" if whole or fine == "layer" else " and groups",
        run_time=quoted((*_SIZES, *pointers)),
    )


_SIZES = ("inner", "width", "rows", "row_inner", "groups", "group_rows", "partials")


def sums_text(names: Names) -> str:
    """Return the source of the kernel of the sums; an empty string where nothing is learned."""
    return render("triton/sums.py.j2", sums_view(names)) if names.plan.learnable else ""


def _totals(names: Names, per: Granularity, fine: Granularity) -> tuple[str, ...]:
    """Return lines that begin the sums of a granularity coarser than the finest."""
    if per == fine:
        return ()
    coarse = (p for p in names.plan.learnable if p.per == per)
    return tuple(
        f"total_{name} = tl.zeros([SUM_ROWS], tl.float64)"
        for p in coarse
        for name in p.element_names
    )


def _read(p: Param, k: int, name: str, fine: Granularity) -> str:
    if p.per == "layer":
        return f"{name} = tl.load({_place(f'{p.name}_ptr', '', p, k)})"
    index = "row" if p.per == fine else "row // inner"
    return f"{name} = tl.load({_place(f'{p.name}_ptr', index, p, k)}, mask=inside, other=1.0)"


def _place(pointer: str, index: str, p: Param, k: int) -> str:
    """Return the address of element k of a row."""
    scaled = f"{index} * {p.size}" if p.size is not None and index else index
    return " + ".join(x for x in (pointer, scaled, str(k or "")) if x)
