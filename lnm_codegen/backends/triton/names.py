"""Names and types of the Triton kernels' arguments and locals."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.plan import SIZES, Field, Plan
from lnm_codegen.backends.triton.expr import TritonDialect, call
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.nodes import Kernel, Port, Role

KERNEL_WORDS = frozenset(
    """tl triton torch range lane mask column first row begin chunk place origin left slot channel
    channels neuron neurons time_steps inner sample part inside table step every section skip width
    workspace partials groups group group_rows wanted row_inner rows member members at end other
    checkpoints prepare prepare_backward step_forward step_advance step_backward neuron_exp
    neuron_sigmoid neuron_tanh neuron_log AHEAD ALIGNED CHUNK LANES MEMBERS SUM_ROWS""".split()
)
"""What the kernels bind or read, where every state, input, output and parameter has its name."""
HOST_WORDS = frozenset(
    """any backward block channels checkpointed checkpoints columns ctx forward groups inner max min
    neurons num_warps partials programs rows sample section sizes slots staticmethod time_steps
    torch triton wanted width workspace AHEAD CHUNK FORWARD_LANES FORWARD_WARPS LANES MEMBERS Neuron
    ROWS RuntimeError SPREAD SUM_ROWS SUM_WARPS TypeError WARPS""".split()
)
"""The same of `forward`, `backward` and what is built on them, where parameters have theirs."""
MODULE_WORDS = frozenset(
    """math tl triton torch all any float getattr max min range staticmethod sum AHEAD CHUNK
    FORWARD_LANES FORWARD_WARPS LANES MEMBERS Neuron ONE_LEVEL ROWS RuntimeError SPREAD SUM_ROWS
    SUM_WARPS TypeError ValueError WARPS backward checkpoints forward prepare prepare_backward
    step_forward step_advance step_backward power_of_two split_by_ln2 exp_minus_one_near_zero
    neuron_exp neuron_sigmoid neuron_tanh neuron_log""".split()
)
"""What the module defines or takes from outside, where the neuron has its name."""
MADE = (
    "{}_ahead", "{}_final", "{}_init", "{}_init_stride", "{}_now", "{}_parts", "{}_ptr", "{}_row",
    "{}_seq", "{}_steps", "{}_stride", "total_{}",
)  # fmt: skip
"""What is made of a name of the model."""


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
        model = self.plan.model
        params = {p.name for p in model.params}
        names = {p.var.name for k in self.plan.kernels for p in (*k.inputs, *k.results)} | params
        taken = names & (KERNEL_WORDS | {word.format(n) for n in names for word in MADE})
        taken |= params & HOST_WORDS | {model.name} & MODULE_WORDS
        if taken:
            word = min(sorted(taken), key=len)  # x_row, and not grad_x_row
            raise UnsupportedError(
                f"triton: {model.name}",
                f"the kernels use the name {word!r} themselves",
                remedy="Rename it.",
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
