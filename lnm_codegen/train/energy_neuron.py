"""What a neuron's step costs: operations of the IR, so that no formula is counted by hand.

Counted is what differs from neuron to neuron: the arithmetic of the charge. The threshold test
(a difference and a comparison) and selects are common to all and by custom free. A soft reset adds
once for each spike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lnm_codegen.compiler import lower
from lnm_codegen.ir.count import Count, count
from lnm_codegen.ir.operators import Phase
from lnm_codegen.neuron import Neuron


@dataclass(frozen=True, slots=True)
class NeuronOperations:
    """Operations of one neuron.

    Attributes:
        mul: Multiplications of a step; a fused multiply-add is one, and one addition.
        add: Additions of a step.
        reset_add: Additions that the reset makes for each spike.
        unpriced: (name, number) a step: quotients and functions, for which there is no price.
    """

    mul: int
    add: int
    reset_add: int
    unpriced: tuple[tuple[str, int], ...] = ()


def neuron_operations(neuron: Neuron) -> NeuronOperations:
    """Return what a step of `neuron` costs, in Horner's form."""
    kernel = lower(neuron).forward
    charge, reset = Count(), Count()
    for let in kernel.body:
        one = count(replace(kernel, body=(let,)))
        if let.phase is Phase.CHARGE:
            charge += one
        elif let.phase is Phase.RESET:
            reset += one
    unpriced = dict(charge.functions)
    if charge.divisions:
        unpriced["division"] = charge.divisions
    return NeuronOperations(
        mul=charge.multiplications + charge.fused,
        add=charge.additions + charge.fused,
        reset_add=reset.additions + reset.fused,
        unpriced=tuple(sorted(unpriced.items())),
    )
