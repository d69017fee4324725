"""Kernel plan of C, CUDA and Triton: kernels without unused gradients, and their arguments."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.base import Model
from lnm_codegen.backends.names import require_distinct
from lnm_codegen.ir.declarations import (
    Granularity,
    Param,
    State,
    finest,
    learnable_terms,
    prepared_granularity,
)
from lnm_codegen.ir.nodes import Kernel, Port, Role
from lnm_codegen.ir.passes.simplify import keep_results

ROLES = tuple(Role)
HEAD = ("struct_size", "struct_version")
"""First fields of a struct of arguments in C."""
SIZES = ("time_steps", "neurons", "sample", "channels", "inner")
"""First arguments of every call, int64_t each.

A time step has `neurons` adjacent numbers: samples of `sample` neurons. Neuron m reads value
m / inner % channels of a parameter per channel, and value m % sample of one per neuron. This covers
every dense layout whose outermost axis is the batch.
"""
FAR = 4096
"""Time steps beyond which memory for saved states grows as the square root of T."""

BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""


def values_text(per: Granularity, channels: str, sample: str) -> str:
    """Return the number of values of a parameter as an expression, given two of the sizes."""
    return {"layer": "1", "channel": channels, "neuron": sample}[per]


_SHARES = {"layer": "one value", "channel": "one per channel", "neuron": "one per neuron"}


@dataclass(frozen=True, slots=True)
class Field:
    """An argument of a kernel: an "int64_t", or a pointer to "io", "real" or "double" numbers.

    "io" is the type of sequences, "real" that of the arithmetic. A `nullable` pointer may be null:
    null inputs are omitted, null outputs are skipped.
    """

    name: str
    kind: str
    written: bool = False
    nullable: bool = False
    note: str = ""

    def declaration(self, io: str, real: str) -> str:
        """Return the field in C, given the names of the two types."""
        if self.kind == "int64_t":
            return f"int64_t {self.name}"
        kind = {"io": io, "real": real}.get(self.kind, self.kind)
        return f"{'' if self.written else 'const '}{kind} *{self.name}"

    @property
    def comment(self) -> str:
        """The note, and the effect of null; an empty string for neither."""
        null = f"null: {'skipped' if self.written else 'omitted'}" if self.nullable else ""
        return "; ".join(text for text in (self.note, null) if text)


@dataclass(frozen=True, slots=True)
class Plan:
    """A model without the gradients of parameters that are not learnable."""

    model: Model
    forward: Kernel
    advance: Kernel
    backward: Kernel
    prepare: Kernel
    prepare_backward: Kernel
    per: dict[str, Granularity]
    terms: tuple[str, ...]

    @property
    def computed_prepare(self) -> Kernel:
        """`prepare` without the parameters that it returns unchanged."""
        taken = set(self.prepare.input_names(Role.PARAM))
        return keep_results(self.prepare, set(self.prepared) - taken)

    @property
    def functions(self) -> dict[str, Kernel]:
        """The kernels that are printed, by the names of their functions."""
        kernels = {
            "prepare": self.computed_prepare,
            "step_forward": self.forward,
            "step_advance": self.advance,
            "step_backward": self.backward,
            "prepare_backward": self.prepare_backward,
        }
        return {name: kernel for name, kernel in kernels.items() if kernel.results}

    @property
    def prepared(self) -> tuple[str, ...]:
        """Names of the prepared parameters."""
        return self.prepare.result_names(Role.PARAM)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        return tuple(s.name for s in self.model.states)

    @property
    def counts(self) -> tuple[str, ...]:
        """Names of the results that the forward kernel sums over time steps and neurons."""
        return self.forward.result_names(Role.COUNT)

    @property
    def graded_outputs(self) -> tuple[str, ...]:
        """The outputs whose gradient a result of the backward depends on; no other is loaded."""
        reads = {p.var.name for p in self.read_inputs(self.backward)}
        return tuple(o for o in self.model.outputs if f"grad_{o}" in reads)

    @property
    def learnable(self) -> tuple[Param, ...]:
        """The parameters that receive a gradient."""
        return tuple(p for p in self.model.params if p.learnable)

    @property
    def finest(self) -> Granularity:
        """The finest granularity of any parameter."""
        return finest(p.per for p in self.model.params)

    @property
    def backward_launches(self) -> int:
        """Kernels of a backward on a GPU: two if a parameter is learnable, for the reduction."""
        return 2 if self.learnable else 1

    @property
    def granularity_text(self) -> str:
        """Number of values of each parameter, in words, for the head of a file."""
        texts = (
            f"{p.name} {_SHARES[p.per]}" + (f" of {p.size} numbers" if p.size else "")
            for p in self.model.params
        )
        return ", ".join(texts) or "none"

    @property
    def initial_text(self) -> str:
        """Initial values of states and parameters, and `start_text`, for the head of a file."""
        declared: tuple[State | Param, ...] = (*self.model.states, *self.model.params)
        texts = (f"{d.name} {'random' if callable(d.init) else d.init}" for d in declared)
        numbers = f"Initial values of the definition: {', '.join(texts)}." if declared else ""
        return " ".join(filter(None, (numbers, self.start_text)))

    @property
    def start_text(self) -> str:
        """Initial states that are parameters of a layer, for the head of a file."""
        texts = (
            f"State {s} begins with the parameter {p.name}, {_SHARES[p.per]}:"
            f" {s}_init has its value for each neuron."
            + f" The gradient of {p.name} is grad_{s}_init, summed over the neurons of a value."
            * p.learnable
            for s, p in self.model.starts.items()
        )
        return " ".join(texts)

    def split(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the prepared parameters, or terms, with one value per layer, and the others."""
        layer = tuple(q for q in names if self.per[q] == "layer")
        return layer, tuple(q for q in names if q not in layer)

    def read_inputs(self, kernel: Kernel) -> tuple[Port, ...]:
        """Return the inputs that `kernel` reads."""
        read = kernel.reads | {p.var for p in kernel.results}
        return tuple(p for p in kernel.inputs if p.var in read)

    @property
    def forward_fields(self) -> tuple[Field, ...]:
        """Arguments of the forward kernel after `SIZES`."""
        return (
            *self._shared_fields(),
            *(Field(f"{o}_seq", "io", written=True) for o in self.model.outputs),
            *(_optional(f"{s}_final", "real", "(neurons)") for s in self.states),
            *(_optional(f"{q}_sum", "double", "one number") for q in self.counts),
            _optional("checkpoints", "real", "saved states, for the backward"),
        )

    @property
    def backward_fields(self) -> tuple[Field, ...]:
        """Arguments of the backward kernel after `SIZES`."""
        fields = [*self._shared_fields(), Field("checkpoints", "real")]
        for o in self.model.outputs:
            fields += [Field(f"grad_{o}_seq", "io"), Field(f"grad_{o}_stride", "int64_t")]
        fields += [
            Field(f"grad_{s}_final", "real", nullable=True, note="(neurons)") for s in self.states
        ]
        first, *further = self.model.inputs
        fields += [_optional(f"grad_{first}_seq", "io")]
        whole = "(time_steps, neurons), whatever {}_count is"
        fields += [_optional(f"grad_{x}_seq", "io", whole.format(x)) for x in further]
        fields += [_optional(f"grad_{s}_init", "real", "(neurons)") for s in self.states]
        fields += [_optional(f"grad_{p.name}", "real") for p in self.learnable]
        return tuple(fields)

    def _shared_fields(self) -> list[Field]:
        fields = []
        for k, x in enumerate(self.model.inputs):
            fields += [Field(f"{x}_seq", "io"), Field(f"{x}_stride", "int64_t")]
            if k:
                fields += [Field(name, "int64_t", note=note) for name, note in sharing_fields(x)]
        note = "1, or 0 if all neurons begin with one number"
        for s in self.states:
            fields += [Field(f"{s}_init", "real"), Field(f"{s}_init_stride", "int64_t", note=note)]
        return [*fields, *(Field(p.name, "real") for p in self.model.params)]


def sharing_fields(x: str) -> tuple[tuple[str, str], ...]:
    """Return the names and notes of the fields that say which neurons share a number of input `x`.

    They follow the stride of every input but the first.
    """
    note = f"neuron m reads number m / {x}_inner % {x}_count of a step"
    return (f"{x}_inner", note), (f"{x}_count", "0: neuron m reads number m")


def _optional(name: str, kind: str, note: str = "") -> Field:
    return Field(name, kind, written=True, nullable=True, note=note)


def saved_size(time_steps: int, neurons: int, states: int, chunk: int, far: int) -> int:
    """Return the length of the saved states: those before every chunk but the first.

    Beyond `far` time steps, only every M-th chunk counts, M the square root of their number. The
    sizes may be symbolic, as under `torch.compile`.
    """
    every = chunks_per_saved_state(time_steps, chunk, far)
    return max(time_steps - 1, 0) // chunk // every * states * neurons


def chunks_per_saved_state(time_steps: int, chunk: int, far: int) -> int:
    """Return the number of chunks from one saved state to the next."""
    every = 1
    if time_steps > far:
        while every * every * chunk < time_steps:
            every += 1
    return every


def plan_of(model: Model) -> Plan:
    """Return the plan of a model.

    Raises:
        UnsupportedError: Two arguments of a kernel have one name.
    """
    program = model.program
    terms = learnable_terms(program, model.params)
    states = {f"{s.name}_next" for s in model.states}
    wanted = {f"grad_{n}" for n in (*(s.name for s in model.states), *model.inputs, *terms)}
    learned = {f"grad_{n}" for p in model.params if p.learnable for n in p.element_names}
    plan = Plan(
        model=model,
        forward=program.forward,
        advance=keep_results(program.forward, states),
        backward=keep_results(program.backward, wanted),
        prepare=program.prepare,
        prepare_backward=keep_results(program.prepare_backward, learned),
        per=prepared_granularity(program, model.params),
        terms=terms,
    )
    for fields in (plan.forward_fields, plan.backward_fields):
        require_distinct(model.name, [*HEAD, *SIZES, "threads", *(f.name for f in fields)])
    return plan
