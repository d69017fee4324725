"""Where a parameter's value lies for a neuron: one table for the interpreter, the layer, C.

A layer call has T steps of neurons laid out as (B, C, I): batch, channels, inner. A parameter per
layer has 1 row, per channel C rows (row c for every b and i), per neuron C*I rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Granularity, Param
from lnm_codegen.ir.nodes import Program, Role

_ORDER: tuple[Granularity, ...] = ("layer", "channel", "neuron")


@dataclass(frozen=True, slots=True)
class Extent:
    """The neurons of one call: `batch` copies of `channels` times `inner`."""

    batch: int
    channels: int
    inner: int

    @property
    def neurons(self) -> int:
        """Return N, the number of neurons of a time step."""
        return self.batch * self.channels * self.inner

    def rows(self, per: Granularity) -> int:
        """Return how many values a scalar parameter of this granularity has."""
        return {"layer": 1, "channel": self.channels, "neuron": self.channels * self.inner}[per]


def finest(pers: Iterable[Granularity]) -> Granularity:
    """Return the finest of several granularities; "layer" for none."""
    return max(pers, key=_ORDER.index, default="layer")


def prepared_granularity(program: Program, params: tuple[Param, ...]) -> dict[str, Granularity]:
    """Return the granularity of each prepared parameter: the finest of what it is made of."""
    known: dict[str, Granularity] = {n: p.per for p in params for n in p.element_names}
    for let in program.prepare.body:
        read = [known[v.name] for v in ir.variables(let.value)]
        known[let.target.name] = finest(read)
    return {name: known[name] for name in program.prepare.result_names(Role.PARAM)}


def learnable_terms(program: Program, params: tuple[Param, ...]) -> tuple[str, ...]:
    """Return the prepared parameters whose gradient a learnable parameter needs."""
    wanted = {f"grad_{n}" for p in params if p.learnable for n in p.element_names}
    needed: set[str] = set(wanted)
    for let in reversed(program.prepare_backward.body):
        if let.target.name in needed:
            needed |= {v.name for v in ir.variables(let.value)}
    seeds = program.prepare_backward.input_names(Role.GRAD)
    return tuple(s.removeprefix("sum_") for s in seeds if s in needed)
