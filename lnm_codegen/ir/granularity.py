"""Granularity of parameters: how many values one has, and which neurons share a value.

The neurons of a time step are laid out as (B, C, I): batch, channels, inner. A scalar parameter has
1 value per layer, C values per channel (value c for every b and i), C*I values per neuron.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.declarations import Granularity, Param
from lnm_codegen.ir.nodes import Program, Role
from lnm_codegen.ir.passes.dce import keep_results

_ORDER: tuple[Granularity, ...] = ("layer", "channel", "neuron")


@dataclass(frozen=True, slots=True)
class Extent:
    """The neurons of one call: `batch` copies of `channels` times `inner`."""

    batch: int
    channels: int
    inner: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layout of the neurons of a time step."""
        return self.batch, self.channels, self.inner

    @property
    def neurons(self) -> int:
        """Return N, the number of neurons of a time step."""
        return self.batch * self.channels * self.inner

    def values(self, per: Granularity) -> int:
        """Return the number of values of a scalar parameter of this granularity."""
        return {"layer": 1, "channel": self.channels, "neuron": self.channels * self.inner}[per]


def finest(pers: Iterable[Granularity]) -> Granularity:
    """Return the finest of several granularities; "layer" for none."""
    return max(pers, key=_ORDER.index, default="layer")


def prepared_granularity(program: Program, params: tuple[Param, ...]) -> dict[str, Granularity]:
    """Return the granularity of each prepared parameter: the finest of those it depends on."""
    known: dict[str, Granularity] = {n: p.per for p in params for n in p.element_names}
    for let in program.prepare.body:
        read = [known[v.name] for v in ir.variables(let.value)]
        known[let.target.name] = finest(read)
    return {name: known[name] for name in program.prepare.result_names(Role.PARAM)}


def learnable_terms(program: Program, params: tuple[Param, ...]) -> tuple[str, ...]:
    """Return the prepared parameters whose gradient a learnable parameter needs."""
    wanted = {f"grad_{n}" for p in params if p.learnable for n in p.element_names}
    adjoint = keep_results(program.prepare_backward, wanted)
    reads = {v.name for v in adjoint.reads}
    return tuple(s.removeprefix("sum_") for s in adjoint.input_names(Role.GRAD) if s in reads)
