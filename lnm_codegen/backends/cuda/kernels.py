"""Source of the CUDA kernels: constants, buffers and launches; the loops; the reduction."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from lnm_codegen.backends.c.expr import c_type
from lnm_codegen.backends.loops import (
    Places,
    Rows,
    counted_once,
    indented,
    joined,
    place,
    prepared_lines,
    raw_values,
    result_variables,
    step_call,
)
from lnm_codegen.backends.plan import BYTES, FAR, Field, Plan, chunks_per_saved_state, saved_size
from lnm_codegen.backends.render import render
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.declarations import Granularity, Param, finest
from lnm_codegen.ir.nodes import Role
from lnm_codegen.ir.passes.simplify import keep_results

# Constants, buffer sizes and launches of the CUDA kernels.
#
# `<name>_layout.h` has the same formulas for C and for the kernels; a test compares the two.


TILES = (1024, 512, 256, 128)
"""Numbers of neurons of a block. The least is the largest width of a tile in a sample."""
SUM_THREADS = 1024
SHARED = 40 * 1024
"""Bytes of dynamic shared memory of a block by default (48 KiB with the static memory)."""
MAX_SHARED = 99 * 1024
"""Bytes of shared memory that a block may request, static memory included: the least of the GPUs of
compute capability 8.0 or later (8.6 and 8.9)."""
MAX_GRID = 1 << 20
"""Largest number of blocks of a launch; the kernels stride over longer work, with equal results."""

_BUDGET = {"float32": 170, "float64": 140, "bfloat16": 160, "float16": 160}
"""Registers of 32 bits for the values of a thread. Measured: ptxas then spills no register."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: a kernel, its blocks, the threads of a block, bytes of dynamic shared memory.

    The arguments of a kernel are the struct of its direction, by value, and a pointer to the
    workspace. More than `SHARED` bytes must be requested before the launch
    (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES).
    """

    kernel: str
    grid: int
    block: int
    shared: int = 0


@dataclass(frozen=True)
class CudaPlan:
    """The constants of the CUDA kernels of a plan, and buffer sizes by the sizes of a call."""

    plan: Plan

    @property
    def name(self) -> str:
        """First part of the names of the kernels."""
        return self.plan.model.name

    @property
    def real_bytes(self) -> int:
        """Bytes of a number of the arithmetic."""
        return BYTES[self.plan.model.real]

    @property
    def io_bytes(self) -> int:
        """Bytes of a number of a sequence."""
        return BYTES[self.plan.model.dtype]

    @cached_property
    def tile(self) -> int:
        """Neurons of a block: the most of `TILES` whose terms and counts fit shared memory.

        Raises:
            UnsupportedError: Even those of the smallest tile do not fit.
        """
        terms, counts = len(self.plan.terms), len(self.plan.counts)
        if max(len(self.layer_terms), counts) <= TILES[-1]:  # a thread sums up each
            for tile in TILES:
                if self.shared(tile) <= MAX_SHARED:
                    return tile
        raise UnsupportedError(
            f"cuda: {self.name}",
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
        backward = self.real_bytes * (tile * len(self.plan.terms) + 8 * len(self.layer_terms))
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
    def by_rows(self) -> bool:
        """True if a parameter is per channel or neuron; tiles then follow the axis of a sample."""
        return self.plan.finest != "layer"

    @property
    def layer_terms(self) -> tuple[str, ...]:
        """Terms that are summed over all neurons."""
        return self.plan.split(self.plan.terms)[0]

    @property
    def row_terms(self) -> tuple[str, ...]:
        """Terms that are summed over the batch, and within a channel if they are per channel."""
        return self.plan.split(self.plan.terms)[1]

    @property
    def chunk(self) -> int:
        """Time steps that the backward recomputes at a time.

        16, 8 or 4, the most whose values fit the 255 registers of a thread (`_BUDGET`); else 2.
        """
        budget = _BUDGET[self.plan.model.dtype]
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
        step = words * states + io_words * len(self.plan.model.inputs)
        beside = words * (terms + len(pers) - shared + 2 * states)
        return self.backward_lanes * (chunk * step + beside) + words * shared

    @property
    def constants(self) -> dict[str, object]:
        """The part of the views of the interface and of a package's launches."""
        return dict(
            family=self.plan.model.family,
            name=self.name,
            tile=self.tile,
            chunk=self.chunk,
            far=FAR,
            by_rows=self.by_rows,
            has_reduction=self.plan.backward_launches == 2,
            forward_threads=self.forward_threads,
            backward_threads=self.backward_threads,
            forward_shared=self.forward_shared,
            backward_shared=self.backward_shared,
            shared=SHARED,
            sum_threads=SUM_THREADS,
            max_grid=MAX_GRID,
        )

    # ---- sizes ----

    def width(self, sample: int) -> int:
        """Return the neurons of a sample in a tile, where tiles follow the axis of a sample."""
        width = 8
        while width < 128 and width < sample:
            width *= 2
        return width

    def batch_tiles(self, neurons: int, sample: int) -> int:
        """Return the number of tiles along the batch; 0 for an empty sample."""
        return -(-(neurons // max(sample, 1)) // (self.tile // self.width(sample)))

    def tiles(self, neurons: int, sample: int) -> int:
        """Return the number of tiles."""
        if not self.by_rows:
            return -(-neurons // self.tile)
        return self.batch_tiles(neurons, sample) * -(-sample // self.width(sample))

    def spacing(self, time_steps: int) -> int:
        """Return the time steps from one saved state to the next."""
        return chunks_per_saved_state(time_steps, self.chunk, FAR) * self.chunk

    def saved_size(self, time_steps: int, neurons: int) -> int:
        """Return the length of the saved states, in numbers of `real`."""
        return saved_size(time_steps, neurons, len(self.plan.states), self.chunk, FAR)

    def backward_workspace(self, time_steps: int, neurons: int, sample: int) -> int:
        """Return the bytes of the backward's workspace."""
        numbers = _whole(len(self.layer_terms) * self.tiles(neurons, sample))
        if self.by_rows:
            numbers += _whole(len(self.row_terms) * self.batch_tiles(neurons, sample) * sample)
        starts = self.spacing(time_steps) // self.chunk - 1
        return self.real_bytes * (numbers + starts * len(self.plan.states) * neurons)

    # ---- launches ----

    def forward_launches(self, neurons: int, sample: int) -> tuple[Launch, ...]:
        """Return the launches of a forward: one. The caller sets sums of counts to zero first."""
        grid = self._grid(neurons, sample)
        name = f"{self.name}_forward_kernel"
        return (Launch(name, grid, self.forward_threads, self.forward_shared),)

    @property
    def forward_shared(self) -> int:
        """Bytes of shared memory of the forward: the counts of each neuron of a tile."""
        return self.real_bytes * self.tile * len(self.plan.counts)

    @property
    def backward_shared(self) -> int:
        """Bytes of shared memory of the backward: the terms of each neuron of a tile."""
        return self.real_bytes * self.tile * len(self.plan.terms)

    def backward_launches(self, neurons: int, sample: int, channels: int) -> tuple[Launch, ...]:
        """Return the launches of a backward, in order; one if no parameter is learnable."""
        grid = self._grid(neurons, sample)
        first = Launch(
            f"{self.name}_backward_kernel", grid, self.backward_threads, self.backward_shared
        )
        if self.plan.backward_launches == 1:
            return (first,)
        groups = {
            "layer": 1,
            "channel": channels,
            "neuron": max(channels, -(-sample // SUM_THREADS)),
        }[self.plan.finest]
        grid = max(1, min(groups, MAX_GRID))
        return first, Launch(f"{self.name}_sums_kernel", grid, SUM_THREADS)

    def _grid(self, neurons: int, sample: int) -> int:
        return max(1, min(self.tiles(neurons, sample), MAX_GRID))


def _whole(numbers: int) -> int:
    """Return `numbers` rounded up, so that the next buffer is aligned."""
    return -(-numbers // 4) * 4


# Source of the CUDA kernels: tiles, threads and time steps around the step.


_CONVERSIONS = {
    "float32": "cuda/same_type.j2",
    "float64": "cuda/same_type.j2",
    "bfloat16": "cuda/bfloat16.j2",
    "float16": "cuda/float16.j2",
}


def _places(state: str, pack: str) -> Places:
    return Places(
        state,
        f"to_real({pack}.at[i])",
        "p.{}[i]",
        "{}_now.at[i]",
        "to_real({}_at[t % kGradsAhead].at[i])",
    )


_NOW = _places("{}_now.at[i]", "{}_at[t]")
_SAVED = _places("{}_at[t].at[i]", "{}_at[t]")
_RECOMPUTED = _places("{}_now.at[i]", "{}_in")


def kernels_source(cuda: CudaPlan) -> str:
    """Return `<name>.cu`."""
    plan, model = cuda.plan, cuda.plan.model
    layer_parameters, row_parameters = plan.split(plan.prepared)
    jobs = jobs_of(cuda)
    totals = _calls(jobs, "block_total")
    view = dict(
        family=model.family,
        name=model.name,
        upper=model.name.upper(),
        io=c_type(model.dtype),
        real=c_type(model.real),
        is_narrow=model.dtype != model.real,
        tile=cuda.tile,
        chunk=cuda.chunk,
        ahead=cuda.ahead,
        ahead_backward=cuda.ahead_backward,
        forward_threads=cuda.forward_threads,
        forward_lanes=cuda.forward_lanes,
        backward_threads=cuda.backward_threads,
        backward_lanes=cuda.backward_lanes,
        sum_threads=SUM_THREADS,
        conversions=render(_CONVERSIONS[model.dtype], {}),
        by_rows=cuda.by_rows,
        by_channels=any(p.per == "channel" for p in model.params),
        reduces=bool(plan.counts or cuda.layer_terms) or totals,
        totals=totals,
        sums_tiles=_calls(jobs, "sum_of("),
        states=plan.states,
        inputs=model.inputs,
        further=model.inputs[1:],
        outputs=model.outputs,
        graded_outputs=plan.graded_outputs,
        counts=plan.counts,
        terms=plan.terms,
        layer_terms=cuda.layer_terms,
        row_terms=cuda.row_terms,
        term_count=len(plan.terms),
        count_count=len(plan.counts),
        layer_places=tuple(map(plan.terms.index, cuda.layer_terms)),
        row_places=tuple(map(plan.terms.index, cuda.row_terms)),
        layer_parameters=layer_parameters,
        row_parameters=row_parameters,
        prepared=prepared_lines(
            plan,
            {"layer": "0", "channel": "channel", "neuron": "row"},
            {"channel": "i", "neuron": "i"},
            indent=8 if cuda.by_rows else 4,
        ),
        forward_locals=result_variables(plan.forward, 20),
        forward_call=step_call(plan, plan.forward, _NOW, 20),
        forward_alignment=_alignment(cuda, cuda.forward_lanes, plan.forward_fields),
        advance_locals=result_variables(plan.advance, 24),
        advance_call=step_call(plan, plan.advance, _SAVED, 24),
        recompute_locals=result_variables(plan.advance, 16),
        recompute_call=step_call(plan, plan.advance, _RECOMPUTED, 16),
        backward_locals=result_variables(plan.backward, 24),
        backward_call=step_call(plan, plan.backward, _SAVED, 24),
        backward_alignment=_alignment(cuda, cuda.backward_lanes, plan.backward_fields),
        jobs=jobs,
    )
    return render("cuda/kernels.cu.j2", view)


def _calls(jobs: tuple[Job, ...], word: str) -> bool:
    return any(word in line for job in jobs for line in job.lines)


def _alignment(cuda: CudaPlan, lanes: int, arguments: tuple[Field, ...]) -> str:
    """Return the condition under which every access of a thread is aligned and complete."""
    plan = cuda.plan
    tests = [f"{'a.sample' if cuda.by_rows else 'a.neurons'} % {lanes} == 0"]
    strides = {f"{x}_seq": f"a.{x}_stride" for x in plan.model.inputs}
    strides |= {f"grad_{o}_seq": f"a.grad_{o}_stride" for o in plan.model.outputs}
    further = {
        f"{x}_seq": f"(a.{x}_count ? a.{x}_inner % {lanes} == 0 : {{}})"
        for x in plan.model.inputs[1:]
    }
    packed = {"checkpoints", *(f"{s}_final" for s in plan.states)}
    packed |= {f"grad_{s}_{end}" for s in plan.states for end in ("final", "init")}
    starts = {f"{s}_init" for s in plan.states}
    for field in arguments:
        name = field.name
        if field.kind == "io":
            test = f"aligned(a.{name}, {strides.get(name, '0')}, kBytes)"
            tests.append(further[name].format(test) if name in further else test)
        elif name in starts:
            tests.append(f"(!a.{name}_stride || aligned(a.{name}, 0, 16))")
        elif name in packed:
            tests.append(f"aligned(a.{name}, 0, 16)")
    return " &&\n                       ".join(tests)


# Source of the second launch of a backward, the reduction: sums over tiles to gradients.
#
# A job computes the gradients of the parameters of one granularity. If they depend on terms of the
# same granularity alone, one thread runs `prepare_backward` once for each group (the layer, a
# channel, a neuron of the sample), with 0 for all other terms. If they depend on finer terms too,
# the job runs `prepare_backward` for each value of the finest term and adds up the results; a
# coarser term counts at the first value of its group.


_ORDER: tuple[Granularity, ...] = ("layer", "channel", "neuron")
_NOUNS = {"layer": "layer", "channel": "channels", "neuron": "neurons"}


class Job(NamedTuple):
    """A function of the reduction kernel: its comment, name, arguments, body and call."""

    comment: str
    name: str
    arguments: str
    lines: tuple[str, ...]
    call: str


@dataclass(frozen=True, slots=True)
class _Work:
    """Parameters of granularity `per` that need `terms`, the finest of which have `source`."""

    cuda: CudaPlan
    per: Granularity
    source: Granularity
    params: tuple[Param, ...]
    terms: tuple[str, ...]

    def index(self, q: str) -> int:
        """Return the position of a term's sums in the workspace."""
        layer = self.cuda.plan.per[q] == "layer"
        return (self.cuda.layer_terms if layer else self.cuda.row_terms).index(q)


def jobs_of(cuda: CudaPlan) -> tuple[Job, ...]:
    """Return the jobs of a plan, the coarsest first."""
    plan = cuda.plan
    needs = {p.name: _terms_of(plan, p) for p in plan.learnable}
    jobs = []
    for per in _ORDER:
        for source in _ORDER[_ORDER.index(per) :]:
            params = tuple(
                p
                for p in plan.learnable
                if p.per == per and finest([per, *(plan.per[q] for q in needs[p.name])]) == source
            )
            if params:
                needed = set().union(*(needs[p.name] for p in params))
                terms = tuple(q for q in plan.terms if q in needed)
                work = _Work(cuda, per, source, params, terms)
                jobs.append(_direct(work) if source == per else _gathered(work))
    return tuple(jobs)


def _terms_of(plan: Plan, param: Param) -> set[str]:
    """Return the terms that the gradient of a parameter depends on."""
    adjoint = keep_results(plan.prepare_backward, {f"grad_{n}" for n in param.element_names})
    return {q for q in plan.terms if f"sum_{q}" in {v.name for v in adjoint.reads}}


def _evaluation(work: _Work, rows: Rows) -> tuple[str, ...]:
    """Return the call of prepare_backward: on `<term>_sum` for the work's terms, 0 for others."""
    plan = work.cuda.plan
    kernel, raw = plan.prepare_backward, raw_values(plan, rows)
    values = []
    for port in plan.read_inputs(kernel):
        q = port.var.name.removeprefix("sum_")
        if port.role is Role.PARAM:
            values.append(raw[port.var.name])
        else:
            values.append(f"real({q}_sum)" if q in work.terms else "real(0)")
    names = [f"{p.var.name}_value" for p in kernel.results]
    call = joined("prepare_backward(", [*values, *names], ");", 8)
    return (joined("real ", names, ";", 8), call.replace("\n            ", "\n    "))


def _writes(work: _Work, row: str, value: str) -> tuple[str, ...]:
    """Return the stores of the gradients; `value` is the expression of one, by its element."""
    lines = []
    for p in work.params:
        stores = [
            f"a.grad_{p.name}[{place(row, p, k)}] = {value.format(name)};"
            for k, name in enumerate(p.element_names)
        ]
        if len(stores) == 1:
            lines.append(f"if (a.grad_{p.name}) {stores[0]}")
        else:
            lines += [f"if (a.grad_{p.name}) {{", *(f"    {x}" for x in stores), "}"]
    return tuple(lines)


def _job(work: _Work, comment: str, name: str, lines: tuple[str, ...]) -> Job:
    layer = any(work.cuda.plan.per[q] == "layer" for q in work.terms)
    rows = any(work.cuda.plan.per[q] != "layer" for q in work.terms)
    kinds = [f"const {work.cuda.name}_backward_arguments &a"]
    kinds += ["const real *sums"] * layer + ["const RowSums &rows"] * rows
    values = ", ".join(["a", *["sums"] * layer, *["rows"] * rows])
    guard = "if (blockIdx.x == 0) " if work.per == "layer" else ""
    return Job(comment, name, ", ".join(kinds), tuple(indented(lines)), f"{guard}{name}({values});")


def _direct(work: _Work) -> Job:
    comment, lines = {
        "layer": ("Gradients of parameters per layer; the loads of all terms overlap.", _layer),
        "channel": ("Gradients of parameters per channel, one block for each channel.", _channels),
        "neuron": ("Gradients of parameters per neuron, one thread for each neuron.", _neurons),
    }[work.per]
    return _job(work, comment, f"{work.per}_gradients", lines(work))


_CHANNELS = "for (int64_t channel = blockIdx.x; channel < a.channels; channel += gridDim.x) {"


def _layer(work: _Work) -> tuple[str, ...]:
    places, sums = [work.index(q) for q in work.terms], []
    count, all_terms = len(places), places == list(range(len(places)))
    if count:
        sums = [
            f"const int64_t tiles = {work.cuda.name}_tiles(a.neurons, a.sample);",
            *[f"constexpr int kTerms[] = {{{', '.join(map(str, places))}}};"] * (not all_terms),
            f"double totals[{count}] = {{}};",
            "#pragma unroll 4",
            "for (int64_t tile = threadIdx.x; tile < tiles; tile += kSumThreads)",
            "#pragma unroll",
            f"    for (int k = 0; k < {count}; ++k)"
            f" totals[k] += sums[{'k' if all_terms else 'kTerms[k]'} * tiles + tile];",
            *(
                f"const double {q}_sum = block_total(totals[{k}]);"
                for k, q in enumerate(work.terms)
            ),
        ]
    return (
        *sums,
        "if (threadIdx.x) return;",
        *_evaluation(work, {"layer": "0"}),
        *_writes(work, "0", "grad_{}_value"),
    )


def _channels(work: _Work) -> tuple[str, ...]:
    body = [
        *(
            f"const double {q}_sum = block_total(rows.of_channel({work.index(q)}, channel,"
            " threadIdx.x, kSumThreads));"
            for q in work.terms
        ),
        "if (threadIdx.x == 0) {",
        *indented(_evaluation(work, {"layer": "0", "channel": "channel"})),
        *indented(_writes(work, "channel", "grad_{}_value")),
        "}",
    ]
    return (_CHANNELS, *indented(body), "}")


def _neurons(work: _Work) -> tuple[str, ...]:
    evaluation = _evaluation(work, {"layer": "0", "channel": "channel", "neuron": "row"})
    channel = any("[channel" in line for line in evaluation)
    body = [
        *["const int64_t channel = row / a.inner % a.channels;"] * channel,
        *(f"const double {q}_sum = rows.of_neuron({work.index(q)}, row);" for q in work.terms),
        *evaluation,
        *_writes(work, "row", "grad_{}_value"),
    ]
    return (
        "const int64_t threads = int64_t(gridDim.x) * kSumThreads;",
        "for (int64_t row = int64_t(blockIdx.x) * kSumThreads + threadIdx.x; row < a.sample;"
        " row += threads) {",
        *indented(body),
        "}",
    )


def _gathered(work: _Work) -> Job:
    """Return a job that adds up prepare_backward over the values of a group."""
    elements = [n for p in work.params for n in p.element_names]
    rows: dict[Granularity, str] = {"layer": "0", "channel": "channel"}
    if work.source == "neuron":
        rows["neuron"] = "row"
    body = [
        *(f"const double {q}_sum = {_seed(work, q)};" for q in work.terms),
        *_evaluation(work, rows),
        *(f"{n}_gradient += grad_{n}_value;" for n in elements),
    ]
    body = [*_row_of_group(work, any(re.search(r"\bchannel\b", line) for line in body)), *body]
    count = {"layer": f"a.{'channels' if work.source == 'channel' else 'sample'}",
             "channel": "a.sample / a.channels"}[work.per]  # fmt: skip
    tiles = f"const int64_t tiles = {work.cuda.name}_tiles(a.neurons, a.sample);"
    group = [
        *([tiles] if any("tiles" in line for line in body) else []),
        f"double {', '.join(f'{n}_gradient = 0' for n in elements)};",
        f"for (int64_t k = threadIdx.x; k < {count}; k += kSumThreads) {{",
        *indented(body),
        "}",
        *(f"{n}_gradient = block_total({n}_gradient);" for n in elements),
    ]
    writes = _writes(work, "0" if work.per == "layer" else "channel", "real({}_gradient)")
    group += ["if (threadIdx.x == 0) {", *indented(writes), "}"]
    if work.per == "channel":
        group = [_CHANNELS, *indented(group), "}"]
    return _job(
        work,
        f"Gradients of parameters per {work.per}, to which {_NOUNS[work.source]} contribute.",
        f"{work.per}_gradients_over_{_NOUNS[work.source]}",
        tuple(group),
    )


def _row_of_group(work: _Work, reads_channel: bool) -> tuple[str, ...]:
    """Return the declarations of the index of the k-th value of a group, and of its channel."""
    if work.source == "channel":
        return ("const int64_t channel = k;",)
    if work.per == "channel":
        return ("const int64_t row = rows.member(channel, k);",)
    channel = ", channel = row / a.inner % a.channels" * reads_channel
    return (f"const int64_t row = k{channel};",)


def _seed(work: _Work, q: str) -> str:
    """Return the sum of a term for the k-th value of a group."""
    k = work.index(q)
    match work.cuda.plan.per[q]:
        case "layer":
            return counted_once(f"sum_of(sums + {k} * tiles, tiles, 0, 1)", "k == 0")
        case "neuron":
            return f"rows.of_neuron({k}, row)"
        case "channel":
            whole = f"rows.of_channel({k}, channel, 0, 1)"
            if work.source == "channel":
                return whole
            first = "k == 0" if work.per == "channel" else "row == channel * a.inner"
            return counted_once(whole, first)
