"""Source of the second launch of a backward, the reduction: sums over tiles to gradients.

A job computes the gradients of the parameters of one granularity. If they depend on terms of the
same granularity alone, one thread runs `prepare_backward` once for each group (the layer, a
channel, a neuron of the sample), with 0 for all other terms. If they depend on finer terms too, the
job runs `prepare_backward` for each value of the finest term and adds up the results; a coarser
term counts at the first value of its group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from lnm_codegen.backends.cuda.plan import CudaPlan
from lnm_codegen.backends.loops import Rows, counted_once, indented, joined, place, raw_values
from lnm_codegen.backends.plan import Plan
from lnm_codegen.ir.declarations import Granularity, Param, finest
from lnm_codegen.ir.nodes import Role
from lnm_codegen.ir.passes.simplify import keep_results

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
