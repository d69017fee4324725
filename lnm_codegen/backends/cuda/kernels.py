"""Source of the CUDA kernels: constants, buffers and launches; the loops; the reduction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lnm_codegen.backends.c.expr import c_type
from lnm_codegen.backends.cuda.launches import SUM_THREADS, Launches
from lnm_codegen.backends.loops import (
    Access,
    StepAccess,
    counted_once,
    joined,
    place,
    prepared_lines,
    raw_values,
    result_variables,
    step_call,
)
from lnm_codegen.backends.plan import BYTES, FAR, Field, Plan
from lnm_codegen.backends.render import render
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.declarations import GRANULARITIES, Granularity, Param, finest
from lnm_codegen.ir.nodes import Port, Role
from lnm_codegen.ir.passes.simplify import keep_results

# Constants of the CUDA kernels. `launches.py` has what follows for the sizes of a call; a test
# compares it with `<name>_layout.h`.


TILES = (1024, 512, 256, 128)
"""Numbers of neurons of a block. The least is the largest width of a tile in a sample."""
MAX_SHARED = 99 * 1024
"""Bytes of shared memory that a block may request, static memory included: the least of the GPUs of
compute capability 8.0 or later (8.6 and 8.9)."""

_BUDGET = {"float32": 170, "float64": 140, "bfloat16": 160, "float16": 160}
"""Registers of 32 bits for the values of a thread. Measured: ptxas then spills no register."""


@dataclass(frozen=True)
class CudaPlan:
    """The constants of the CUDA kernels of a plan."""

    plan: Plan

    @property
    def real_bytes(self) -> int:
        """Bytes of a number of the arithmetic."""
        return BYTES[self.plan.real]

    @property
    def io_bytes(self) -> int:
        """Bytes of a number of a sequence."""
        return BYTES[self.plan.dtype]

    @cached_property
    def tile(self) -> int:
        """Neurons of a block: the most of `TILES` whose terms and counts fit shared memory.

        Raises:
            UnsupportedError: Even those of the smallest tile do not fit.
        """
        terms, counts = len(self.plan.terms), len(self.plan.counts)
        if max(len(self.plan.layer_terms), counts) <= TILES[-1]:  # a thread sums up each
            for tile in TILES:
                if self.shared(tile) <= MAX_SHARED:
                    return tile
        raise UnsupportedError(
            f"cuda: {self.plan.name}",
            f"{terms} gradient terms and {counts} counts do not fit a block",
            f"{MAX_SHARED} bytes of shared memory for {TILES[-1]} neurons, and {TILES[-1]} terms of"
            " parameters per layer",
            "Use fewer learnable parameters or backend 'triton'.",
        )

    def shared(self, tile: int) -> int:
        """Return the bytes of shared memory of a block, static memory included.

        It is the larger of two: the terms of the backward and the counts of the forward, with the
        sums of 8 warps.
        """
        backward = self.real_bytes * (tile * len(self.plan.terms) + 8 * len(self.plan.layer_terms))
        forward = (self.real_bytes * tile + 8 * 9) * len(self.plan.counts)
        return max(forward, backward)

    @property
    def forward_lanes(self) -> int:
        """Neurons of a thread of the forward: 16 bytes of a state, if four warps share them."""
        return min(16 // self.real_bytes, self.tile // 128)

    @property
    def backward_lanes(self) -> int:
        """Neurons of a thread of the backward, limited by registers: 4, or 2 for float64.

        Fewer in a small tile, whose many terms need more registers.
        """
        return min(16 // self.real_bytes, max(1, self.tile // 256))

    @property
    def forward_threads(self) -> int:
        """Threads of a block of the forward."""
        return min(256, self.tile // self.forward_lanes)

    @property
    def backward_threads(self) -> int:
        """Threads of a block of the backward: the most that may have 255 registers each."""
        return min(256, self.tile)

    @property
    def chunk(self) -> int:
        """Time steps that the backward recomputes at a time.

        16, 8 or 4, the most whose values fit the 255 registers of a thread (`_BUDGET`); else 2.
        """
        budget = _BUDGET[self.plan.dtype]
        return next((k for k in (16, 8, 4) if self._registers(k) <= budget), 2)

    @property
    def ahead(self) -> int:
        """Time steps whose inputs the forward loads at once: 64 bytes of a thread."""
        return min(4 * self.real_bytes // self.io_bytes, self.chunk)

    @property
    def ahead_backward(self) -> int:
        """Time steps whose gradients the backward loads at once, fewer if registers are short."""
        return min(4 if self._registers(self.chunk) <= 150 else 2, self.chunk)

    def _registers(self, chunk: int) -> float:
        """Return the number of 32-bit registers that the backward of a chunk needs.

        They hold the states and inputs of every step of the chunk, a sum for each term, the
        prepared parameters and the gradients of the states.
        """
        words, io_words = self.real_bytes // 4, self.io_bytes / 4
        pers = [self.plan.per[q] for q in self.plan.prepared]
        shared = pers.count("layer")
        states, terms = len(self.plan.states), len(self.plan.terms)
        step = words * states + io_words * len(self.plan.inputs)
        beside = words * (terms + len(pers) - shared + 2 * states)
        return self.backward_lanes * (chunk * step + beside) + words * shared

    @property
    def forward_shared(self) -> int:
        """Bytes of shared memory of the forward: the counts of each neuron of a tile."""
        return self.real_bytes * self.tile * len(self.plan.counts)

    @property
    def backward_shared(self) -> int:
        """Bytes of shared memory of the backward: the terms of each neuron of a tile."""
        return self.real_bytes * self.tile * len(self.plan.terms)

    @cached_property
    def launches(self) -> Launches:
        """Sizes and launches by the sizes of a call."""
        plan = self.plan
        return Launches(
            name=plan.name,
            finest=plan.finest,
            tile=self.tile,
            chunk=self.chunk,
            far=FAR,
            real_bytes=self.real_bytes,
            states=len(plan.states),
            layer_terms=len(plan.layer_terms),
            row_terms=len(plan.row_terms),
            has_reduction=bool(plan.learnable),
            forward=(self.forward_threads, self.forward_shared),
            backward=(self.backward_threads, self.backward_shared),
        )


# Source of the CUDA kernels: tiles, threads and time steps around the step.


def _access(state: Access, pack: Access) -> StepAccess:
    return StepAccess(
        state,
        lambda x: f"to_real({pack(x)}.at[i])",
        "p.{}[i]".format,
        "{}_now.at[i]".format,
        "to_real({}_at[t % kGradsAhead].at[i])".format,
    )


_NOW = _access("{}_now.at[i]".format, "{}_at[t]".format)
_SAVED = _access("{}_at[t].at[i]".format, "{}_at[t]".format)
_RECOMPUTED = _access("{}_now.at[i]".format, "{}_in".format)


def kernels_source(cuda: CudaPlan) -> str:
    """Return `<name>.cu`."""
    plan, jobs = cuda.plan, jobs_of(cuda.plan)
    totals = any(job.adds_up_a_block for job in jobs)
    view = dict(
        plan=plan,
        cuda=cuda,
        io=c_type(plan.dtype),
        real=c_type(plan.real),
        sum_threads=SUM_THREADS,
        by_channels=any(p.per == "channel" for p in plan.params),
        reduces=bool(plan.counts or plan.layer_terms) or totals,
        totals=totals,
        sums_tiles=any(job.reads_tiles and not job.is_direct for job in jobs),
        prepared=prepared_lines(
            plan,
            {"layer": "0", "channel": "channel", "neuron": "row"},
            {"channel": "i", "neuron": "i"},
            indent=8 if plan.by_rows else 4,
        ),
        forward_locals=result_variables(plan.forward, 20),
        forward_call=step_call(plan, plan.forward, _NOW, 20),
        forward_alignment=_alignment(plan, cuda.forward_lanes, plan.forward_fields),
        advance_locals=result_variables(plan.advance, 24),
        advance_call=step_call(plan, plan.advance, _SAVED, 24),
        recompute_locals=result_variables(plan.advance, 16),
        recompute_call=step_call(plan, plan.advance, _RECOMPUTED, 16),
        backward_locals=result_variables(plan.backward, 24),
        backward_call=step_call(plan, plan.backward, _SAVED, 24),
        backward_alignment=_alignment(plan, cuda.backward_lanes, plan.backward_fields),
        jobs=jobs,
    )
    return render("cuda/kernels.cu.j2", view)


def _alignment(plan: Plan, lanes: int, arguments: tuple[Field, ...]) -> str:
    """Return the condition under which every access of a thread is aligned and complete."""
    tests = [f"{'a.sample' if plan.by_rows else 'a.neurons'} % {lanes} == 0"]
    strides = {f"{x}_seq": f"a.{x}_stride" for x in plan.inputs}
    strides |= {f"grad_{o}_seq": f"a.grad_{o}_stride" for o in plan.outputs}
    further = {f"{x}_seq": x for x in plan.further}
    packed = {"checkpoints", *(f"{s}_final" for s in plan.states)}
    packed |= {f"grad_{s}_{end}" for s in plan.states for end in ("final", "init")}
    starts = {f"{s}_init" for s in plan.states}
    for field in arguments:
        name = field.name
        if field.kind == "io":
            test = f"aligned(a.{name}, {strides.get(name, '0')}, kBytes)"
            if name in further:
                x = further[name]
                test = f"(a.{x}_count ? a.{x}_inner % {lanes} == 0 : {test})"
            tests.append(test)
        elif name in starts:
            tests.append(f"(!a.{name}_stride || aligned(a.{name}, 0, 16))")
        elif name in packed:
            tests.append(f"aligned(a.{name}, 0, 16)")
    return " &&\n                       ".join(tests)


# Source of the second launch of a backward, the reduction: sums over tiles to gradients.


@dataclass(frozen=True)
class Job:
    """A function of the reduction kernel: the gradients of parameters of one granularity.

    If they depend on terms of the same granularity alone, one thread runs `prepare_backward` once
    for each group (the layer, a channel, a neuron of the sample), with 0 for all other terms. If
    they depend on finer terms too, the job runs `prepare_backward` for each value of the finest
    term and adds up the results; a coarser term counts at the first value of its group.

    Attributes:
        per: Granularity of the parameters.
        source: Granularity of the finest of the terms.
    """

    plan: Plan
    per: Granularity
    source: Granularity
    params: tuple[Param, ...]
    terms: tuple[str, ...]

    @property
    def is_direct(self) -> bool:
        """True if no term is finer than the parameters."""
        return self.source == self.per

    @property
    def reads_tiles(self) -> bool:
        """True if a term is per layer: its sums are those of the tiles."""
        return any(self.plan.per[q] == "layer" for q in self.terms)

    @property
    def reads_rows(self) -> bool:
        """True if a term is per channel or per neuron."""
        return any(self.plan.per[q] != "layer" for q in self.terms)

    @property
    def reads_channel(self) -> bool:
        """True if a parameter or a term that the job reads is per channel."""
        read = {p.var.name for p in self._inputs if p.role is Role.PARAM}
        params = (p for p in self.plan.params if read & {*p.element_names})
        pers = [*(p.per for p in params), *(self.plan.per[q] for q in self.terms)]
        return "channel" in pers

    @property
    def adds_up_a_block(self) -> bool:
        """True if the threads of a block add up numbers."""
        return not self.is_direct or (self.per != "neuron" and bool(self.terms))

    @property
    def elements(self) -> tuple[str, ...]:
        """Names of the numbers of the parameters."""
        return tuple(n for p in self.params for n in p.element_names)

    def index(self, q: str) -> int:
        """Return the position of a term's sums in the workspace."""
        terms = self.plan.layer_terms if self.plan.per[q] == "layer" else self.plan.row_terms
        return terms.index(q)

    def seed(self, q: str) -> str:
        """Return the sum of a term for the k-th value of a group."""
        k = self.index(q)
        match self.plan.per[q]:
            case "layer":
                return counted_once(f"sum_of(sums + {k} * tiles, tiles, 0, 1)", "k == 0")
            case "neuron":
                return f"rows.of_neuron({k}, row)"
            case "channel":
                whole = f"rows.of_channel({k}, channel, 0, 1)"
                if self.source == "channel":
                    return whole
                first = "k == 0" if self.per == "channel" else "row == channel * a.inner"
                return counted_once(whole, first)

    @property
    def evaluation(self) -> tuple[str, ...]:
        """The call of prepare_backward: on `<term>_sum` for the job's terms, 0 for others."""
        known = GRANULARITIES[: GRANULARITIES.index(self.source) + 1]
        raw = raw_values(self.plan, {per: _ROWS[per] for per in known})
        values = []
        for port in self._inputs:
            q = port.var.name.removeprefix("sum_")
            if port.role is Role.PARAM:
                values.append(raw[port.var.name])
            else:
                values.append(f"real({q}_sum)" if q in self.terms else "real(0)")
        names = [f"{p.var.name}_value" for p in self.plan.prepare_backward.results]
        call = joined("prepare_backward(", [*values, *names], ");", 8)
        return (joined("real ", names, ";", 8), call.replace("\n            ", "\n    "))

    @property
    def writes(self) -> tuple[str, ...]:
        """The stores of the gradients."""
        lines = []
        for p in self.params:
            stores = [
                f"a.grad_{p.name}[{place(_ROWS[self.per], p, k)}] ="
                f" {f'grad_{n}_value' if self.is_direct else f'real({n}_gradient)'};"
                for k, n in enumerate(p.element_names)
            ]
            if len(stores) == 1:
                lines.append(f"if (a.grad_{p.name}) {stores[0]}")
            else:
                lines += [f"if (a.grad_{p.name}) {{", *(f"    {x}" for x in stores), "}"]
        return tuple(lines)

    @property
    def _inputs(self) -> tuple[Port, ...]:
        return self.plan.read_inputs(self.plan.prepare_backward)


_ROWS: dict[Granularity, str] = {"layer": "0", "channel": "channel", "neuron": "row"}


def jobs_of(plan: Plan) -> tuple[Job, ...]:
    """Return the jobs of a plan, the coarsest first."""
    needs = {p.name: _terms_of(plan, p) for p in plan.learnable}
    jobs = []
    for k, per in enumerate(GRANULARITIES):
        for source in GRANULARITIES[k:]:
            params = tuple(
                p
                for p in plan.learnable
                if p.per == per and finest([per, *(plan.per[q] for q in needs[p.name])]) == source
            )
            needed = set[str]().union(*(needs[p.name] for p in params))
            if params:
                terms = tuple(q for q in plan.terms if q in needed)
                jobs.append(Job(plan, per, source, params, terms))
    return tuple(jobs)


def _terms_of(plan: Plan, param: Param) -> set[str]:
    """Return the terms that the gradient of a parameter depends on."""
    adjoint = keep_results(plan.prepare_backward, {f"grad_{n}" for n in param.element_names})
    return {q for q in plan.terms if f"sum_{q}" in {v.name for v in adjoint.reads}}
