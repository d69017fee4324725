"""`undetach`: the same values, no Detach of a number, and no copy in its place."""

from __future__ import annotations

from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Detach
from lnm_codegen.ir.passes.simplify import undetach
from lnm_codegen.ir.types import REAL
from lnm_codegen.ir.verify import verify
from tests.ir.passes.kernels import Stages, V, X, body, kernel, raw_values, same_bits, same_ports
from tests.strategies import few, generators, neurons


def test_a_copy_is_read_through():
    """The operand takes the place of the name, and equal expressions are shared."""
    k = kernel(Detach(V), ir.mul(ir.Var("h0"), X), ir.mul(V, X))
    k = ir.Kernel(k.name, k.inputs, k.body, k.results[1:])
    assert body(undetach(k)) == ["h1 = v * x", "h2 = h1"]


def test_nothing_to_do():
    """A kernel without a Detach, and one with detach_reset alone, is returned as it is."""
    for neuron in (lnm.get("lif"), lnm.get("lif").with_detach_reset(True)):
        k = lnm.lower(neuron).forward
        assert undetach(k) is k


@few
@given(neurons(stops=True, binds=True), generators())
def test_keeps_every_bit(neuron, rng):
    """Ports stay, results keep their bits, no Detach of a number is left."""
    stages = Stages(neuron)
    before = stages.forward
    after = verify(undetach(before))
    same_ports(before, after)
    left = [n for let in after.body for n in ir.walk(let.value) if isinstance(n, Detach)]
    assert all(ir.type_of(n) is not REAL for n in left)
    same_bits(before, after, stages.prepared(raw_values(neuron, rng)))
