"""A model cut to what a CPU layer needs, and the fields of its C interface."""

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
