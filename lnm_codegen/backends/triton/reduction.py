"""Source of the second launch of a Triton backward, the reduction: terms to gradients.

Every term is summed for each value of the finest parameter. The adjoint of `prepare` is linear in
these sums. The gradient of a coarser parameter is therefore a sum of its results in float64: over a
group of values for a parameter per channel among others per neuron, over all for one per layer.
Each program has one group. For a parameter per layer it stores a part, the sum over its group. The
host sums the parts.
"""

from __future__ import annotations

from lnm_codegen.backends.plan import ROLES, Plan, values_text
from lnm_codegen.backends.python import call
from lnm_codegen.backends.render import render
from lnm_codegen.backends.triton.kernels import Arguments, Lines, place, quoted, scaled
from lnm_codegen.ir.declarations import Granularity, Param, finest

_SIZES = ("inner", "channels", "width", "rows", "row_inner", "group_rows", "partials")
_MEMBER_ROWS = (
    "number = row - group * group_rows  # in the channel",
    "row = (number // inner * channels + group) * inner + number % inner",
)
"""Lines that turn a number within all groups into the row of a channel's neuron."""


def reduction_launch(plan: Plan) -> dict[str, object]:
    """Return the part of the host's view that launches the reduction."""
    fine, coarse = _finest(plan), {p.name: p.size for p in layer_params(plan)}
    parts = {f"grad_{name}": f"_{name}_parts" for name in coarse}
    values = values_text(fine, "channels", "sample")
    if _by_channels(plan):
        groups = ("channels", "sample // max(channels, 1)")
    elif fine == "neuron":
        groups = ("triton.cdiv(sample, _SUM_ROWS)", "_SUM_ROWS")
    else:
        groups = (values, "1")
    return dict(
        sum_arguments=tuple(parts.get(a, a) for a in _arguments(plan)),
        rows_text=values,
        row_inner_text="inner" if fine == "channel" else "1",
        groups_text=groups[0],
        group_rows_text=groups[1],
        unless_empty="" if fine == "layer" else " and _groups",
        layer_params=tuple((name, size or 1) for name, size in coarse.items()),
    )


def layer_params(plan: Plan) -> tuple[Param, ...]:
    """Return the learnable parameters per layer beside finer ones.

    The reduction stores the parts of their gradients, in float64, one for each program.
    """
    return tuple(p for p in plan.learnable if p.per == "layer" != _finest(plan))


def reduction_block(plan: Plan) -> str:
    """Return the values of _MEMBERS, _SUM_ROWS and _SUM_WARPS."""
    fine = _finest(plan)
    members, rows = {"layer": (1024, 1), "channel": (1024, 1), "neuron": (32, 32)}[fine]
    return f"{members}, {rows}, {16 if fine == 'layer' else 4}"


def reduction_source(arguments: Arguments) -> str:
    """Return the kernel of the reduction; an empty string if no parameter is learnable."""
    plan, real = arguments.plan, arguments.real
    if not plan.learnable:
        return ""
    fine, kernel = _finest(plan), plan.prepare_backward
    adds, stores = _gradients(plan, fine, real)
    pointers = [f"{name}_ptr" for name in _arguments(plan)]
    taken = [p.var.name for p in plan.read_inputs(kernel)]
    results = kernel.result_names(*ROLES)
    view = dict(
        pointers=pointers,
        run_time=quoted((*_SIZES, *pointers)),
        real=real,
        terms=plan.terms,
        after=tuple(f" + {scaled(k, 'width')}" if k else "" for k in range(len(plan.terms))),
        member_rows=_MEMBER_ROWS if _by_channels(plan) else (),
        params_read=_loads(plan, fine, taken),
        adjoint=call(results, "prepare_backward", taken, indent=8) if results else (),
        totals=_totals(plan, fine),
        row_adds=adds,
        group_stores=stores,
    )
    return render("triton/reduction.py.j2", view)


def _finest(plan: Plan) -> Granularity:
    """Return the granularity that terms are summed to."""
    return finest([*(plan.per[q] for q in plan.terms), *(p.per for p in plan.learnable)])


def _by_channels(plan: Plan) -> bool:
    """Report whether a group is the neurons of a channel, which need not be adjacent."""
    return _finest(plan) == "neuron" and "channel" in {p.per for p in plan.learnable}


def _arguments(plan: Plan) -> Lines:
    """Return the parameters that the adjoint reads, and the gradients that it writes."""
    taken = {p.var.name for p in plan.read_inputs(plan.prepare_backward)}
    read = (p.name for p in plan.model.params if taken & {*p.element_names})
    return (*read, *(f"grad_{p.name}" for p in plan.learnable))


def _gradients(plan: Plan, fine: Granularity, real: str) -> tuple[list[str], list[str]]:
    """Return lines for each value of the finest parameter, and lines after a group."""
    adds: list[str] = []
    stores: list[str] = []
    for p in plan.learnable:
        wanted = f"if grad_{p.name}_ptr is not None:"
        index = "row" if p.per == fine else "group"
        at = {e: place(f"grad_{p.name}_ptr", index, p, k) for k, e in enumerate(p.element_names)}
        if p.per == fine:
            adds.append(wanted)
            adds += (f"    tl.store({at[e]}, grad_{e}, mask=inside)" for e in at)
        else:
            adds += (f"total_{e} += tl.where(inside, grad_{e}, 0.0).to(tl.float64)" for e in at)
            rounded = "" if p.per == "layer" else f".to({real})"
            stores.append(wanted)
            stores += (f"    tl.store({at[e]}, tl.sum(total_{e}){rounded})" for e in at)
    return adds, stores


def _totals(plan: Plan, fine: Granularity) -> Lines:
    """Return lines that begin the sums of parameters coarser than the finest."""
    names = (e for p in plan.learnable if p.per != fine for e in p.element_names)
    return tuple(f"total_{name} = tl.zeros([_SUM_ROWS], tl.float64)" for name in names)


def _loads(plan: Plan, fine: Granularity, names: list[str]) -> Lines:
    """Return lines that load the parameters that the adjoint reads."""
    lines = []
    for p in plan.model.params:
        index = "" if p.per == "layer" else "row" if p.per == fine else "(row // inner % channels)"
        rest = ", mask=inside, other=1.0" if index else ""
        for k, name in enumerate(p.element_names):
            if name in names:
                lines.append(f"{name} = tl.load({place(f'{p.name}_ptr', index, p, k)}{rest})")
    return tuple(lines)
