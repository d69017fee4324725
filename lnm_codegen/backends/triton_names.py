"""Names and types of the Triton kernels' arguments and locals."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.plan import SIZES, Field, Plan
from lnm_codegen.backends.triton_expr import TritonDialect, call
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.nodes import Kernel, Port, Role

LOCALS = frozenset(
    """tl triton torch lane mask column first row begin skip chunk place origin left slot channel
    neuron part inside table step every section width workspace partials groups group group_rows
    wanted row_inner rows member members at end LANES CHUNK AHEAD ALIGNED MEMBERS
    SUM_ROWS""".split()
)
"""Words of the kernels that a model must leave alone."""
FUNCTIONS = frozenset(
    """forward backward checkpoints prepare prepare_backward step_forward step_advance
    step_backward power_of_two split_by_ln2 exp_minus_one_near_zero neuron_exp neuron_sigmoid
    neuron_tanh neuron_log Neuron""".split()
)


@dataclass(frozen=True, slots=True)
class Names:
    """How the kernels of one plan call what they read."""

    plan: Plan
    dialect: TritonDialect

    @property
    def by_rows(self) -> bool:
        """Whether a parameter differs between neurons."""
        return self.plan.finest != "layer"

    @property
    def as_real(self) -> str:
        """What turns a number of a sequence into one of the arithmetic's type."""
        return "" if self.plan.model.dtype == self.plan.model.real else f".to({self.dialect.real})"

    @property
    def backward_fields(self) -> tuple[Field, ...]:
        """The arguments of the backward kernel: the second launch writes parameters' gradients."""
        learned = {f"grad_{p.name}" for p in self.plan.learnable}
        return tuple(f for f in self.plan.backward_fields if f.name not in learned)

    def check(self) -> None:
        """Raise UnsupportedError where a name of the model is a word of the kernels."""
        plan = self.plan
        ports = (p for k in plan.kernels for p in (*k.inputs, *k.results))
        taken = {p.var.name for p in ports} & LOCALS
        taken |= {plan.model.name} & (LOCALS | FUNCTIONS)
        if taken:
            raise UnsupportedError(
                f"triton: {plan.model.name}: the kernels use the name {min(taken)!r} themselves."
                " Rename it."
            )

    def pointer(self, field: Field) -> str:
        """Return the kernel argument of a field; a parameter's own name is that of its value."""
        names = {p.name for p in self.plan.model.params}
        return f"{field.name}_ptr" if field.name in names else field.name

    def signature(self, fields: tuple[Field, ...]) -> tuple[str, ...]:
        """Return the arguments of a kernel for `SIZES` and `fields`."""
        typed = [f"{n}: tl.int64" for n in SIZES]
        for f in fields:
            typed.append(f.name + ": tl.int64" if f.kind == "int64_t" else self.pointer(f))
        return tuple(typed)

    def made(self) -> tuple[str, ...]:
        """Return lines that read every parameter of a step and prepare what it is made of."""
        plan = self.plan
        made = plan.made.result_names(Role.PARAM)
        read = {p.var.name for p in plan.read_inputs(plan.made)}
        read |= set(plan.prepare.result_names(Role.PARAM)) - set(made)
        written = list(self._row_lines())
        for p in plan.model.params:
            index = {"layer": "", "channel": "channel", "neuron": "neuron"}[p.per]
            for k, name in enumerate(p.element_names):
                if name in read:
                    place = [f"{index} * {p.size}" if index and p.size else index, str(k or "")]
                    at = " + ".join([f"{p.name}_ptr", *(x for x in place if x)])
                    written.append(f"{name} = tl.load({at})")
        if made:
            taken = [p.var.name for p in plan.read_inputs(plan.made)]
            written += call(made, "prepare", taken, indent=4)
        return tuple(written)

    def _row_lines(self) -> tuple[str, ...]:
        pers = {p.per for p in self.plan.model.params}
        rows = []
        if "channel" in pers:
            rows.append("channel = (column + lane) // inner % channels")
        if "neuron" in pers:
            rows.append("neuron = (column + lane) % sample")
        return tuple(rows)

    def arguments(self, kernel: Kernel, states: str = "", inputs: str = "") -> tuple[str, ...]:
        """Return what a step function is called with; `states`, `inputs` index kept values."""
        return tuple(self._argument(p, states, inputs) for p in self.plan.read_inputs(kernel))

    def _argument(self, port: Port, states: str, inputs: str) -> str:
        name = port.var.name
        match port.role:
            case Role.STATE:
                return f"{name}_steps[{states}]" if states else name
            case Role.INPUT:
                return f"{name}_steps[{inputs}]{self.as_real}" if inputs else name
            case Role.GRAD if name.removesuffix("_next") in {f"grad_{s}" for s in self.plan.states}:
                return name.removesuffix("_next")
            case Role.GRAD:
                return f"{name}_steps[CHUNK - 1 - step]{self.as_real}"
            case _:
                return name
