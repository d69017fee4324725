"""The statements of the C loops, as text: calls of the step, rows, sums, gradients.

Everything that `kernel.cpp.j2` prints is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.c.expr import c_type
from lnm_codegen.backends.plan import Plan
from lnm_codegen.ir.declarations import Granularity
from lnm_codegen.ir.nodes import Kernel, Role


@dataclass(frozen=True, slots=True)
class KernelView:
    """The view of `kernel.cpp.j2`."""

    family: str
    name: str
    tile: int
    block: int
    chunk: int
    far: int
    is_bfloat16: bool
    is_float16: bool
    narrow: bool
    io: str
    source: str
    put: str
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    state_count: int
    layer_parameters: tuple[str, ...]
    row_parameters: tuple[str, ...]
    uniform_parameters: tuple[str, ...]
    has_uniform: bool
    chunk_template: str
    chunk_flags: str
    plain_flags: str
    terms: tuple[str, ...]
    layer_terms: tuple[str, ...]
    row_terms: tuple[str, ...]
    counts: tuple[str, ...]
    layer_term_count: int
    prepared_sizes: tuple[str, ...]
    prepared_loop: tuple[str, ...]
    finest_rows: str
    row_fills: tuple[str, ...]
    forward_locals: str
    forward_call: str
    forward_stores: tuple[str, ...]
    advance_locals: str
    advance_call: str
    advance_stores: tuple[str, ...]
    backward_locals: str
    backward_call: str
    backward_stores: tuple[str, ...]
    tile_sums: tuple[str, ...]
    gradient_setup: tuple[str, ...]
    gradient_loop: tuple[str, ...]
    gradient_writes: tuple[str, ...]
    forward_streams: str
    backward_streams: str


_STREAM = "template <bool kStream>"


def kernel_view(plan: Plan, tile: int, block: int, chunk: int, far: int) -> KernelView:
    """Return the view of the loops."""
    prepared = plan.prepare.result_names(Role.PARAM)
    rows = tuple(q for q in prepared if plan.per[q] != "layer")
    layer_terms = tuple(q for q in plan.terms if plan.per[q] == "layer")
    row_terms = tuple(q for q in plan.terms if plan.per[q] != "layer")
    inputs, outputs, states = plan.model.inputs, plan.model.outputs, plan.states
    size = "a.time_steps, a.neurons"
    uniform = bool(rows) and plan.finest == "channel"
    narrow = plan.model.dtype in ("bfloat16", "float16")
    return KernelView(
        family=plan.model.family,
        name=plan.model.name,
        tile=tile,
        block=block,
        chunk=chunk,
        far=far,
        is_bfloat16=plan.model.dtype == "bfloat16",
        is_float16=plan.model.dtype == "float16",
        narrow=narrow,
        io=c_type(plan.model.dtype),
        source="{}_from" if narrow else "{}_row",
        put="put_rounded" if narrow else "put",
        states=states,
        inputs=inputs,
        outputs=outputs,
        state_count=len(states),
        layer_parameters=tuple(q for q in prepared if plan.per[q] == "layer"),
        row_parameters=rows,
        uniform_parameters=rows if uniform else (),
        has_uniform=uniform,
        chunk_template="template <bool kStream, bool kUniform>" if uniform else _STREAM,
        chunk_flags="kStream, kUniform" if uniform else "kStream",
        plain_flags="false, false" if uniform else "false",
        terms=plan.terms,
        layer_terms=layer_terms,
        row_terms=row_terms,
        counts=plan.counts,
        layer_term_count=len(layer_terms),
        prepared_sizes=tuple(line for q in rows for line in _row_table(plan, q)),
        prepared_loop=_prepared_loop(plan),
        finest_rows=_rows(plan.finest),
        row_fills=tuple(
            f"fill_rows(tile.{q}, p.{q}.data(), p.{q}_rows, first, width);" for q in rows
        ),
        forward_locals=_locals(plan.forward),
        forward_call=_call(plan, plan.forward, "{}_now[i]"),
        forward_stores=(
            *(f"{o}_row[i] = {o}_value;" for o in outputs),
            *(f"{s}_now[i] = {s}_next_value;" for s in states),
            *(f"count_{q}[i] += {q}_value;" for q in plan.counts),
        ),
        advance_locals=_locals(plan.advance),
        advance_call=_call(plan, plan.advance, "steps.{}[t][i]"),
        advance_stores=tuple(f"steps.{s}[t + 1][i] = {s}_next_value;" for s in states),
        backward_locals=_locals(plan.backward),
        backward_call=_call(plan, plan.backward, "steps.{}[t][i]"),
        backward_stores=(
            *(f"grad_{x}_row[i] = grad_{x}_value;" for x in inputs),
            *(f"grad_{s}[i] = grad_{s}_value;" for s in states),
            *(f"sum_{q}[i] += grad_{q}_value;" for q in plan.terms),
        ),
        tile_sums=(
            *(
                f"sums.tiles[index * {len(layer_terms)} + {k}] = total(tile.total_{q});"
                for k, q in enumerate(layer_terms)
            ),
            *(
                f"add_rows(sums.sum_{q}.data() + slab * p.{q}_rows.rows, tile.sum_{q},"
                f" p.{q}_rows, first, width);"
                for q in row_terms
            ),
        ),
        gradient_setup=tuple(
            f"std::vector<double> grad_{p.name}({_rows(p.per)} * {p.size or 1});"
            for p in plan.learnable
        ),
        gradient_loop=_gradient_loop(plan, layer_terms),
        gradient_writes=tuple(
            f"if (a.grad_{p.name}) std::copy(grad_{p.name}.begin(), grad_{p.name}.end(),"
            f" a.grad_{p.name});"
            for p in plan.learnable
        ),
        forward_streams=" && ".join(f"streams(a.{o}_seq, {size})" for o in outputs),
        backward_streams=" && ".join(
            f"(!a.grad_{x}_seq || streams(a.grad_{x}_seq, {size}))" for x in inputs
        ),
    )


def _row_table(plan: Plan, q: str) -> tuple[str, ...]:
    shape = "{a.channels, a.inner}"
    if plan.per[q] == "neuron":
        shape = "{a.sample, 1}"
    return (f"p.{q}_rows = {shape};", f"p.{q}.resize(p.{q}_rows.rows);")


def _index(plan: Plan, per: Granularity) -> str:
    """Return the row of a granularity, where `row` counts the rows of the finest."""
    if per == "layer":
        return "0"
    return "row" if per == plan.finest else "row / a.inner % a.channels"


def _raw(plan: Plan) -> dict[str, str]:
    """Return what each declared scalar is in the arguments."""
    table = {}
    for p in plan.model.params:
        for k, name in enumerate(p.element_names):
            index = _index(plan, p.per)
            place = index if p.size is None else f"({index}) * {p.size} + {k}"
            table[name] = f"a.{p.name}[{_tidy(place)}]"
    return table


def _prepared_loop(plan: Plan) -> tuple[str, ...]:
    raw = _raw(plan)
    kernel = plan.made
    made = kernel.result_names(Role.PARAM)
    taken = [raw[p.var.name] for p in plan.read_inputs(kernel)]
    call = ", ".join([*taken, *(f"{q}_value" for q in made)])
    stores = []
    for q in plan.prepare.result_names(Role.PARAM):
        place = "" if plan.per[q] == "layer" else f"[{_index(plan, plan.per[q])}]"
        stores.append(f"p.{q}{place} = {f'{q}_value' if q in made else raw[q]};")
    return (*((_locals(kernel), f"prepare({call});") if made else ()), *stores)


def _call(plan: Plan, kernel: Kernel, state: str) -> str:
    values = []
    for port in plan.read_inputs(kernel):
        name = port.var.name
        match port.role:
            case Role.STATE:
                values.append(state.format(name))
            case Role.INPUT:
                values.append(f"{name}_row[i]")
            case Role.GRAD:
                carried = name.removesuffix("_next")
                is_state = carried.removeprefix("grad_") in plan.states and carried != name
                values.append(f"{carried}[i]" if is_state else f"{name}_row[i]")
            case _:
                row = f"tile.{name}[c.at + i]"
                if plan.finest == "channel":
                    row = f"(kUniform ? {name}_one : {row})"
                values.append(f"p.{name}" if plan.per[name] == "layer" else row)
    return ", ".join([*values, *(f"{p.var.name}_value" for p in kernel.results)])


def _gradient_loop(plan: Plan, layer_terms: tuple[str, ...]) -> tuple[str, ...]:
    kernel, raw = plan.prepare_backward, _raw(plan)
    values = []
    for port in plan.read_inputs(kernel):
        name = port.var.name
        values.append(raw[name] if name in raw else _seed(plan, name, layer_terms))
    if not kernel.results:
        return ()
    call = ", ".join([*values, *(f"{p.var.name}_value" for p in kernel.results)])
    adds = []
    for p in plan.learnable:
        for k, element in enumerate(p.element_names):
            index = _index(plan, p.per)
            place = _tidy(index if p.size is None else f"({index}) * {p.size} + {k}")
            adds.append(f"grad_{p.name}[{place}] += grad_{element}_value;")
    return (_locals(kernel), f"prepare_backward({call});", *adds)


def _seed(plan: Plan, port: str, layer_terms: tuple[str, ...]) -> str:
    """Return a sum in the first row of those that share it, 0 in the others."""
    q = port.removeprefix("sum_")
    if plan.per[q] == "layer":
        value = f"real(sums.tiles[{layer_terms.index(q)}])"
        return f"row == 0 && tiles ? {value} : 0"
    if plan.per[q] == plan.finest:
        return f"real(sums.sum_{q}[row])"
    first = "row % a.inner == 0 && row / a.inner < a.channels"
    return f"{first} ? real(sums.sum_{q}[row / a.inner]) : 0"


def _rows(per: Granularity) -> str:
    return {"layer": "1", "channel": "a.channels", "neuron": "a.sample"}[per]


def _tidy(index: str) -> str:
    """Write the index 0*size + k as k, and leave out parentheses around one word."""
    if index.startswith("(0) * "):
        return index.rsplit(" ", 1)[1]
    return index.replace("(row)", "row")


def _locals(kernel: Kernel) -> str:
    names = ", ".join(f"{p.var.name}_value" for p in kernel.results)
    return f"real {names};" if names else ""
