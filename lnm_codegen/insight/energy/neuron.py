"""What a neuron's step costs: operations of the IR, so that no formula is counted by hand.

Counted is what differs from neuron to neuron: the arithmetic of the charge, and of a threshold that
moves. The threshold test itself, a difference and a comparison for each spike, and selects are
common to all and by custom free. A soft reset adds once for each spike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.ir.count import Count, count
from lnm_codegen.ir.operators import Phase
from lnm_codegen.language.neuron import Neuron


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
    step, reset, tests = Count(), Count(), len(neuron.spikes)
    for let in kernel.body:
        one = count(replace(kernel, body=(let,)))
        if let.phase is Phase.CHARGE:
            step += one
        elif let.phase is Phase.FIRE:
            free = min(tests, one.additions)
            step += replace(one, additions=one.additions - free)
            tests -= free
        elif let.phase is Phase.RESET:
            reset += one
    unpriced = dict(step.functions)
    if step.divisions:
        unpriced["division"] = step.divisions
    return NeuronOperations(
        mul=step.multiplications + step.fused,
        add=step.additions + step.fused,
        reset_add=reset.additions + reset.fused,
        unpriced=tuple(sorted(unpriced.items())),
    )
