"""A model cut to what a layer needs, and the arguments of its kernels, for C, CUDA and Triton."""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.base import Model
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Granularity, Param
from lnm_codegen.ir.granularity import finest, learnable_terms, prepared_granularity
from lnm_codegen.ir.nodes import Kernel, Port, Role
from lnm_codegen.ir.passes.cse import keep_results

ROLES = tuple(Role)
SIZES = ("time_steps", "neurons", "sample", "channels", "inner")
"""What every call begins with, int64_t each.

A step has `neurons` numbers side by side, samples of `sample` neurons. Neuron m reads row
m / inner % channels of a parameter per channel, row m % sample of one per neuron: this serves every
dense layout whose outermost axis is the batch.
"""


FAR = 4096
"""Steps beyond which memory for checkpoints grows as the root of time, on every target."""

BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""

_SHARES = {"layer": "one value", "channel": "one per channel", "neuron": "one per neuron"}


@dataclass(frozen=True, slots=True)
class Field:
    """An argument of a kernel: a pointer to "io", "real" or "double" numbers, or an "int64_t".

    "io" is the type of sequences, "real" that of the arithmetic. A `nullable` pointer may be null:
    what it would take is then absent, what it would receive is not wanted.
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


@dataclass(frozen=True, slots=True)
class Plan:
    """A model cut to what a layer needs: no gradient of a parameter that is not learnable."""

    model: Model
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

    @property
    def granularity_text(self) -> str:
        """How many values each parameter has, in words, for the head of a file."""
        return (
            ", ".join(
                f"{p.name} {_SHARES[p.per]}" + (f" of {p.size} numbers" if p.size else "")
                for p in self.model.params
            )
            or "none"
        )

    def read_inputs(self, kernel: Kernel) -> tuple[Port, ...]:
        """Return the inputs that `kernel` reads."""
        read = {v for let in kernel.body for v in ir.variables(let.value)}
        read |= {p.var for p in kernel.results}
        return tuple(p for p in kernel.inputs if p.var in read)

    @property
    def forward_fields(self) -> tuple[Field, ...]:
        """Arguments of the forward kernel after `SIZES`."""
        return (
            *self._shared_fields(),
            *(Field(f"{o}_seq", "io", written=True) for o in self.model.outputs),
            *(_wanted(f"{s}_final", "real", "(neurons)") for s in self.states),
            *(_wanted(f"{q}_sum", "double", "one number") for q in self.counts),
            _wanted("checkpoints", "real", "for the backward"),
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
        fields += [_wanted(f"grad_{x}_seq", "io") for x in self.model.inputs]
        fields += [_wanted(f"grad_{s}_init", "real", "(neurons)") for s in self.states]
        fields += [_wanted(f"grad_{p.name}", "real") for p in self.learnable]
        return tuple(fields)

    def _shared_fields(self) -> list[Field]:
        fields = []
        for x in self.model.inputs:
            fields += [Field(f"{x}_seq", "io"), Field(f"{x}_stride", "int64_t")]
        one = "1, or 0 where one number serves every neuron"
        for s in self.states:
            fields += [Field(f"{s}_init", "real"), Field(f"{s}_init_stride", "int64_t", note=one)]
        return [*fields, *(Field(p.name, "real") for p in self.model.params)]


def _wanted(name: str, kind: str, note: str = "") -> Field:
    return Field(name, kind, written=True, nullable=True, note=note)


def checkpoints(time_steps: int, neurons: int, states: int, chunk: int, far: int) -> int:
    """Return how many numbers a forward keeps: the states at every chunk but the first.

    Beyond `far` steps only every M-th chunk counts, M the root of their number. The sizes may be
    symbolic, as under `torch.compile`.
    """
    every = chunks_per_checkpoint(time_steps, chunk, far)
    return max(time_steps - 1, 0) // chunk // every * states * neurons


def chunks_per_checkpoint(time_steps: int, chunk: int, far: int) -> int:
    """Return how many chunks lie between two states that are kept."""
    every = 1
    if time_steps > far:
        while every * every * chunk < time_steps:
            every += 1
    return every


def plan_of(model: Model) -> Plan:
    """Cut the program of `model` to what a layer needs.

    Raises:
        UnsupportedError: Two arguments of a kernel would have one name.
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
        names = [*SIZES, "threads", *(f.name for f in fields)]
        for word in names:
            if names.count(word) > 1:
                raise UnsupportedError(
                    model.name,
                    f"two arguments of the kernels would be called {word!r}",
                    remedy="Rename a state, an input or a parameter.",
                )
    return plan
