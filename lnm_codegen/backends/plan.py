"""Plan of a neuron: what every backend and its templates read, and the arguments of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.declarations import (
    Granularity,
    Param,
    Prologue,
    State,
    finest,
    learnable_terms,
    prepared_granularity,
)
from lnm_codegen.ir.nodes import Kernel, Port, Program, Role
from lnm_codegen.ir.passes.simplify import keep_results
from lnm_codegen.options import DtypeName, RealName

DTYPES: tuple[DtypeName, ...] = get_args(DtypeName)
"""Types of sequences."""

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


@dataclass(frozen=True)
class Plan:
    """A neuron for a backend: its program, the declarations of its ports, and what follows of both.

    Kernels of C, CUDA and Triton lack the gradients of parameters that are not learnable.

    Attributes:
        name: Name of files and functions.
        family: Name of the definition. Headings have it, `equations` and the `slopes` of spikes.
        program: The four kernels.
        declared_states: States; `states` are their names.
        params: Parameters of a step.
        dtype: Type of sequences: inputs, outputs and their gradients. States, parameters and
            reductions have the type `real`.
        prologue: How the first input is normalised, or None.
        passes: The two plans that the batch statistics of a prologue need. A backend writes their
            files beside those of the plan.
        layer_params: Parameters of a layer: `params`, and those that are only initial states.
    """

    name: str
    family: str
    program: Program
    declared_states: tuple[State, ...]
    inputs: tuple[str, ...]
    params: tuple[Param, ...]
    outputs: tuple[str, ...]
    equations: tuple[str, ...]
    dtype: DtypeName
    prologue: Prologue | None = None
    passes: tuple[Plan, ...] = ()
    slopes: tuple[str, ...] = ()
    layer_params: tuple[Param, ...] = ()

    @cached_property
    def states(self) -> tuple[str, ...]:
        """Names of the states."""
        return tuple(s.name for s in self.declared_states)

    @property
    def upper(self) -> str:
        """The name in capitals, for macros."""
        return self.name.upper()

    @property
    def further(self) -> tuple[str, ...]:
        """The inputs but the first; neurons may share their numbers."""
        return self.inputs[1:]

    @property
    def starts(self) -> dict[str, Param]:
        """State -> the parameter of a layer that is its initial value."""
        params = {p.name: p for p in self.layer_params}
        return {s.name: params[s.param] for s in self.declared_states if s.param}

    @property
    def definition(self) -> tuple[str, ...]:
        """Equations and slopes, for the heading of a file with a backward."""
        return self.equations + self.slopes

    @property
    def real(self) -> RealName:
        """Type of the arithmetic: "float64" for float64 sequences, else "float32"."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def is_narrow(self) -> bool:
        """True if sequences have 16 bits a number."""
        return self.dtype != self.real

    # ---- kernels ----

    @property
    def forward(self) -> Kernel:
        """A time step."""
        return self.program.forward

    @cached_property
    def advance(self) -> Kernel:
        """The time step without outputs: the states alone."""
        return keep_results(self.forward, {f"{s}_next" for s in self.states})

    @cached_property
    def backward(self) -> Kernel:
        """The adjoint of a time step."""
        wanted = {f"grad_{n}" for n in (*self.states, *self.inputs, *self.terms)}
        return keep_results(self.program.backward, wanted)

    @property
    def prepare(self) -> Kernel:
        """Parameters to prepared parameters."""
        return self.program.prepare

    @cached_property
    def prepare_backward(self) -> Kernel:
        """The adjoint of `prepare`, for the learnable parameters."""
        learned = {f"grad_{n}" for p in self.learnable for n in p.element_names}
        return keep_results(self.program.prepare_backward, learned)

    @cached_property
    def per(self) -> dict[str, Granularity]:
        """Granularity of each prepared parameter."""
        return prepared_granularity(self.program, self.params)

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """The prepared parameters whose gradients are summed over time and neurons."""
        return learnable_terms(self.program, self.params)

    @cached_property
    def computed_prepare(self) -> Kernel:
        """`prepare` without the parameters that it returns unchanged."""
        taken = set(self.prepare.input_names(Role.PARAM))
        return keep_results(self.prepare, set(self.prepared) - taken)

    @cached_property
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

    @cached_property
    def prepared(self) -> tuple[str, ...]:
        """Names of the prepared parameters."""
        return self.prepare.result_names(Role.PARAM)

    @cached_property
    def counts(self) -> tuple[str, ...]:
        """Names of the results that the forward kernel sums over time steps and neurons."""
        return self.forward.result_names(Role.COUNT)

    @cached_property
    def graded_outputs(self) -> tuple[str, ...]:
        """The outputs whose gradient a result of the backward depends on; no other is loaded."""
        reads = {p.var.name for p in self.read_inputs(self.backward)}
        return tuple(o for o in self.outputs if f"grad_{o}" in reads)

    @cached_property
    def learnable(self) -> tuple[Param, ...]:
        """The parameters that receive a gradient."""
        return tuple(p for p in self.params if p.learnable)

    @property
    def finest(self) -> Granularity:
        """The finest granularity of any parameter."""
        return finest(p.per for p in self.params)

    @property
    def backward_launches(self) -> int:
        """Kernels of a backward on a GPU: two if a parameter is learnable, for the reduction."""
        return 2 if self.learnable else 1

    @property
    def granularity_text(self) -> str:
        """Number of values of each parameter, in words, for the head of a file."""
        texts = (
            f"{p.name} {_SHARES[p.per]}" + (f" of {p.size} numbers" if p.size else "")
            for p in self.params
        )
        return ", ".join(texts) or "none"

    @property
    def initial_text(self) -> str:
        """Initial values of states and parameters, and `start_text`, for the head of a file."""
        declared: tuple[State | Param, ...] = (*self.declared_states, *self.params)
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
            for s, p in self.starts.items()
        )
        return " ".join(texts)

    @property
    def by_rows(self) -> bool:
        """True if a parameter is per channel or per neuron."""
        return self.finest != "layer"

    @cached_property
    def layer_parameters(self) -> tuple[str, ...]:
        """Prepared parameters with one value per layer."""
        return tuple(q for q in self.prepared if self.per[q] == "layer")

    @cached_property
    def row_parameters(self) -> tuple[str, ...]:
        """Prepared parameters with a value for each channel or neuron."""
        return tuple(q for q in self.prepared if self.per[q] != "layer")

    @cached_property
    def layer_terms(self) -> tuple[str, ...]:
        """Terms that are summed over all neurons."""
        return tuple(q for q in self.terms if self.per[q] == "layer")

    @cached_property
    def row_terms(self) -> tuple[str, ...]:
        """Terms that are summed over the batch, and within a channel if they are per channel."""
        return tuple(q for q in self.terms if self.per[q] != "layer")

    def read_inputs(self, kernel: Kernel) -> tuple[Port, ...]:
        """Return the inputs that `kernel` reads."""
        read = kernel.reads | {p.var for p in kernel.results}
        return tuple(p for p in kernel.inputs if p.var in read)

    @cached_property
    def forward_fields(self) -> tuple[Field, ...]:
        """Arguments of the forward kernel after `SIZES`.

        Raises:
            UnsupportedError: Two have one name.
        """
        return self._distinct(
            *self._shared_fields(),
            *(Field(f"{o}_seq", "io", written=True) for o in self.outputs),
            *(_optional(f"{s}_final", "real", "(neurons)") for s in self.states),
            *(_optional(f"{q}_sum", "double", "one number") for q in self.counts),
            _optional("checkpoints", "real", "saved states, for the backward"),
        )

    @cached_property
    def backward_fields(self) -> tuple[Field, ...]:
        """Arguments of the backward kernel after `SIZES`.

        Raises:
            UnsupportedError: Two have one name.
        """
        fields = [*self._shared_fields(), Field("checkpoints", "real")]
        for o in self.outputs:
            fields += [Field(f"grad_{o}_seq", "io"), Field(f"grad_{o}_stride", "int64_t")]
        fields += [
            Field(f"grad_{s}_final", "real", nullable=True, note="(neurons)") for s in self.states
        ]
        first, *further = self.inputs
        fields += [_optional(f"grad_{first}_seq", "io")]
        whole = "(time_steps, neurons), whatever {}_count is"
        fields += [_optional(f"grad_{x}_seq", "io", whole.format(x)) for x in further]
        fields += [_optional(f"grad_{s}_init", "real", "(neurons)") for s in self.states]
        fields += [_optional(f"grad_{p.name}", "real") for p in self.learnable]
        return self._distinct(*fields)

    def _distinct(self, *fields: Field) -> tuple[Field, ...]:
        require_distinct(self.name, [*HEAD, *SIZES, "threads", *(f.name for f in fields)])
        return fields

    def _shared_fields(self) -> list[Field]:
        fields = []
        for k, x in enumerate(self.inputs):
            fields += [Field(f"{x}_seq", "io"), Field(f"{x}_stride", "int64_t")]
            if k:
                fields += [Field(name, "int64_t", note=note) for name, note in sharing_fields(x)]
        note = "1, or 0 if all neurons begin with one number"
        for s in self.states:
            fields += [Field(f"{s}_init", "real"), Field(f"{s}_init_stride", "int64_t", note=note)]
        return [*fields, *(Field(p.name, "real") for p in self.params)]


def require_distinct(where: str, arguments: Sequence[str]) -> None:
    """Raise UnsupportedError unless the arguments of a kernel have different names."""
    for word in arguments:
        if arguments.count(word) > 1:
            raise UnsupportedError(
                where,
                f"two arguments of the kernels have the name {word!r}",
                remedy="Rename a state, an input, an output or a parameter.",
            )


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
