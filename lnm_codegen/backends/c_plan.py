"""What the loops of the C backend hold: kernels, fields of the ABI, rows, and their statements.

Everything that a template prints is decided here, as text.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.base import Model
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.granularity import finest, learnable_terms, prepared_granularity
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Kernel, Port, Role
from lnm_codegen.ir.passes.cse import keep_results
from lnm_codegen.symbols import Granularity, Param

ROLES = tuple(Role)
SIZES = ("time_steps", "batch", "channels", "inner", "threads")
"""The fields that every argument struct begins with, int64_t each."""


@dataclass(frozen=True, slots=True)
class KernelView:
    """The view of `kernel.cpp.j2`."""

    family: str
    name: str
    tile: int
    block: int
    chunk: int
    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    state_count: int
    layer_parameters: tuple[str, ...]
    row_parameters: tuple[str, ...]
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


@dataclass(frozen=True, slots=True)
class Plan:
    """A model cut to what a layer needs: no gradient of a parameter that is not learnable."""

    model: Model
    real: str
    forward: Kernel
    advance: Kernel
    backward: Kernel
    prepare: Kernel
    prepare_backward: Kernel
    per: dict[str, Granularity]
    terms: tuple[str, ...]

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Every kernel that is printed."""
        return (self.forward, self.backward, self.made, self.prepare_backward)

    @property
    def made(self) -> Kernel:
        """`prepare` without the parameters that it hands on as they are."""
        taken = set(self.prepare.input_names(Role.PARAM))
        return keep_results(self.prepare, set(self.prepare.result_names(Role.PARAM)) - taken)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        return tuple(s.name for s in self.model.states)

    @property
    def counts(self) -> tuple[str, ...]:
        """Names of what the forward kernel sums over steps and neurons."""
        return self.forward.result_names(Role.COUNT)

    @property
    def learnable(self) -> tuple[Param, ...]:
        """The parameters that receive a gradient."""
        return tuple(p for p in self.model.params if p.learnable)

    @property
    def finest(self) -> Granularity:
        """The finest granularity of any parameter."""
        return finest(p.per for p in self.model.params)

    def read_inputs(self, kernel: Kernel) -> tuple[Port, ...]:
        """Return the inputs that `kernel` reads."""
        read = {v for let in kernel.body for v in ir.variables(let.value)}
        read |= {p.var for p in kernel.results}
        return tuple(p for p in kernel.inputs if p.var in read)

    @property
    def forward_fields(self) -> tuple[tuple[str, str], ...]:
        """Fields of the forward arguments: (declaration, comment)."""
        real = self.real
        return (
            *self._shared_fields(),
            *((f"{real} *{o}_seq", "") for o in self.model.outputs),
            *((f"{real} *{s}_final", " /* (neurons), or NULL */") for s in self.states),
            *((f"double *{q}_sum", " /* one number, or NULL */") for q in self.counts),
            (f"{real} *checkpoints", " /* NULL where no backward follows */"),
        )

    @property
    def backward_fields(self) -> tuple[tuple[str, str], ...]:
        """Fields of the backward arguments: (declaration, comment)."""
        real = self.real
        fields = [*self._shared_fields(), (f"const {real} *checkpoints", "")]
        for o in self.model.outputs:
            fields += [(f"const {real} *grad_{o}_seq", ""), (f"int64_t grad_{o}_stride", "")]
        null = " /* (neurons), or NULL */"
        fields += [(f"const {real} *grad_{s}_final", null) for s in self.states]
        fields += [(f"{real} *grad_{x}_seq", " /* or NULL */") for x in self.model.inputs]
        fields += [(f"{real} *grad_{s}_init", null) for s in self.states]
        fields += [(f"{real} *grad_{p.name}", " /* or NULL */") for p in self.learnable]
        return tuple(fields)

    def _shared_fields(self) -> list[tuple[str, str]]:
        real = self.real
        fields = []
        for x in self.model.inputs:
            fields += [(f"const {real} *{x}_seq", ""), (f"int64_t {x}_stride", "")]
        for s in self.states:
            one = " /* 1, or 0 where one number serves every neuron */"
            fields += [(f"const {real} *{s}_init", ""), (f"int64_t {s}_init_stride", one)]
        return [*fields, *((f"const {real} *{p.name}", "") for p in self.model.params)]

    def kernel_view(self, tile: int, block: int, chunk: int) -> KernelView:
        """Return the view of the loops."""
        prepared = self.prepare.result_names(Role.PARAM)
        rows = tuple(q for q in prepared if self.per[q] != "layer")
        layer_terms = tuple(q for q in self.terms if self.per[q] == "layer")
        row_terms = tuple(q for q in self.terms if self.per[q] != "layer")
        inputs, outputs, states = self.model.inputs, self.model.outputs, self.states
        size = "a.time_steps, neurons"
        return KernelView(
            family=self.model.family,
            name=self.model.name,
            tile=tile,
            block=block,
            chunk=chunk,
            states=states,
            inputs=inputs,
            outputs=outputs,
            state_count=len(states),
            layer_parameters=tuple(q for q in prepared if self.per[q] == "layer"),
            row_parameters=rows,
            terms=self.terms,
            layer_terms=layer_terms,
            row_terms=row_terms,
            counts=self.counts,
            layer_term_count=len(layer_terms),
            prepared_sizes=tuple(line for q in rows for line in self._row_table(q)),
            prepared_loop=self._prepared_loop(),
            finest_rows=_rows(self.finest),
            row_fills=tuple(
                f"fill_rows(tile.{q}, p.{q}.data(), p.{q}_rows, first, width);" for q in rows
            ),
            forward_locals=_locals(self.forward),
            forward_call=self._call(self.forward, "{}_now[i]"),
            forward_stores=(
                *(f"{o}_row[i] = {o}_value;" for o in outputs),
                *(f"{s}_now[i] = {s}_next_value;" for s in states),
                *(f"count_{q}[i] += {q}_value;" for q in self.counts),
            ),
            advance_locals=_locals(self.advance),
            advance_call=self._call(self.advance, "{}_at[t][i]"),
            advance_stores=tuple(f"{s}_at[t + 1][i] = {s}_next_value;" for s in states),
            backward_locals=_locals(self.backward),
            backward_call=self._call(self.backward, "{}_at[t][i]"),
            backward_stores=(
                *(f"grad_{x}_row[i] = grad_{x}_value;" for x in inputs),
                *(f"grad_{s}[i] = grad_{s}_value;" for s in states),
                *(f"sum_{q}[i] += grad_{q}_value;" for q in self.terms),
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
                for p in self.learnable
            ),
            gradient_loop=self._gradient_loop(layer_terms),
            gradient_writes=tuple(
                f"if (a.grad_{p.name}) std::copy(grad_{p.name}.begin(), grad_{p.name}.end(),"
                f" a.grad_{p.name});"
                for p in self.learnable
            ),
            forward_streams=" && ".join(f"streams(a.{o}_seq, {size})" for o in outputs),
            backward_streams=" && ".join(
                f"(!a.grad_{x}_seq || streams(a.grad_{x}_seq, {size}))" for x in inputs
            ),
        )

    def _row_table(self, q: str) -> tuple[str, ...]:
        shape = "{a.channels, a.inner}"
        if self.per[q] == "neuron":
            shape = "{a.channels * a.inner, 1}"
        return (f"p.{q}_rows = {shape};", f"p.{q}.resize(p.{q}_rows.rows);")

    def _index(self, per: Granularity) -> str:
        """Return the row of a granularity, where `row` counts the rows of the finest."""
        if per == "layer":
            return "0"
        return "row" if per == self.finest else "row / a.inner"

    def _raw(self) -> dict[str, str]:
        """Return what each declared scalar is in the arguments."""
        table = {}
        for p in self.model.params:
            for k, name in enumerate(p.element_names):
                index = self._index(p.per)
                place = index if p.size is None else f"({index}) * {p.size} + {k}"
                table[name] = f"a.{p.name}[{_tidy(place)}]"
        return table

    def _prepared_loop(self) -> tuple[str, ...]:
        raw = self._raw()
        kernel = self.made
        made = kernel.result_names(Role.PARAM)
        taken = [raw[p.var.name] for p in self.read_inputs(kernel)]
        call = ", ".join([*taken, *(f"{q}_value" for q in made)])
        stores = []
        for q in self.prepare.result_names(Role.PARAM):
            place = "" if self.per[q] == "layer" else f"[{self._index(self.per[q])}]"
            stores.append(f"p.{q}{place} = {f'{q}_value' if q in made else raw[q]};")
        return (*((_locals(kernel), f"prepare({call});") if made else ()), *stores)

    def _call(self, kernel: Kernel, state: str) -> str:
        values = []
        for port in self.read_inputs(kernel):
            name = port.var.name
            match port.role:
                case Role.STATE:
                    values.append(state.format(name))
                case Role.INPUT:
                    values.append(f"{name}_row[i]")
                case Role.GRAD:
                    carried = name.removesuffix("_next")
                    is_state = carried.removeprefix("grad_") in self.states and carried != name
                    values.append(f"{carried}[i]" if is_state else f"{name}_row[i]")
                case _:
                    row = f"tile.{name}[c.at + i]"
                    values.append(f"p.{name}" if self.per[name] == "layer" else row)
        return ", ".join([*values, *(f"{p.var.name}_value" for p in kernel.results)])

    def _gradient_loop(self, layer_terms: tuple[str, ...]) -> tuple[str, ...]:
        kernel, raw = self.prepare_backward, self._raw()
        values = []
        for port in self.read_inputs(kernel):
            name = port.var.name
            values.append(raw[name] if name in raw else self._seed(name, layer_terms))
        if not kernel.results:
            return ()
        call = ", ".join([*values, *(f"{p.var.name}_value" for p in kernel.results)])
        adds = []
        for p in self.learnable:
            for k, element in enumerate(p.element_names):
                index = self._index(p.per)
                place = _tidy(index if p.size is None else f"({index}) * {p.size} + {k}")
                adds.append(f"grad_{p.name}[{place}] += grad_{element}_value;")
        return (_locals(kernel), f"prepare_backward({call});", *adds)

    def _seed(self, port: str, layer_terms: tuple[str, ...]) -> str:
        """Return a sum in the first row of those that share it, 0 in the others."""
        q = port.removeprefix("sum_")
        if self.per[q] == "layer":
            value = f"real(sums.tiles[{layer_terms.index(q)}])"
            return f"row == 0 && tiles ? {value} : 0"
        if self.per[q] == self.finest:
            return f"real(sums.sum_{q}[row])"
        return f"row % a.inner == 0 ? real(sums.sum_{q}[row / a.inner]) : 0"


def plan_of(model: Model) -> Plan:
    """Cut the program of `model` to what a layer needs.

    Raises:
        UnsupportedError: Two fields of the C interface would have one name.
    """
    program = model.program
    terms = learnable_terms(program, model.params)
    states = {f"{s.name}_next" for s in model.states}
    wanted = {f"grad_{n}" for n in (*(s.name for s in model.states), *model.inputs, *terms)}
    learned = {f"grad_{n}" for p in model.params if p.learnable for n in p.element_names}
    plan = Plan(
        model=model,
        real="float" if model.dtype == "float32" else "double",
        forward=program.forward,
        advance=keep_results(program.forward, states),
        backward=keep_results(program.backward, wanted),
        prepare=program.prepare,
        prepare_backward=keep_results(program.prepare_backward, learned),
        per=prepared_granularity(program, model.params),
        terms=terms,
    )
    for fields in (plan.forward_fields, plan.backward_fields):
        names = [declaration.split()[-1].lstrip("*") for declaration, _ in fields]
        names += SIZES
        for word in names:
            if names.count(word) > 1:
                raise UnsupportedError(
                    f"c: {model.name}: two fields of the interface would be called {word!r}."
                    " Rename a state, an input or a parameter."
                )
    return plan


def _rows(per: Granularity) -> str:
    return {"layer": "1", "channel": "a.channels", "neuron": "a.channels * a.inner"}[per]


def _tidy(index: str) -> str:
    """Write the index 0*size + k as k, and leave out parentheses around one word."""
    if index.startswith("(0) * "):
        return index.rsplit(" ", 1)[1]
    return index.replace("(row)", "row")


def _locals(kernel: Kernel) -> str:
    names = ", ".join(f"{p.var.name}_value" for p in kernel.results)
    return f"real {names};" if names else ""
