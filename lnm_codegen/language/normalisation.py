"""Normalised neurons: a neuron whose first input is a function of a sequence and its statistics.

For the first input x of the neuron, with one value of mean, scale and shift for each channel:

    x = scale*(c - mean) + shift (+ r)

c is the sequence that is normalised and r an optional shortcut. A difference c - mean comes first,
since scale*c + (shift - scale*mean) loses its digits where |mean| is much greater than the spread
of c. `channel_sums` and `input_correction` are the two passes over a sequence that batch statistics
need. They are neurons without states, so that every backend prints them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from lnm_codegen.ir.declarations import Input, Param, Prologue
from lnm_codegen.ir.kernel import Names
from lnm_codegen.language.binding import bind
from lnm_codegen.language.functions import replaced
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import ORDER, Declared, input, param


@cache
def normalised(neuron: Neuron, shortcut: bool = False) -> Neuron:
    """Return the neuron that reads c, and r with a shortcut, in place of its first input x.

    Its last three parameters are mean, scale and shift of x, per channel. Of these, scale and shift
    are learnable: their gradients are the sums of e*(c - mean) and e for each channel, where e is
    the gradient of x.
    """
    x = neuron.inputs[0]
    taken = [*neuron.spikes, *(name for name, _ in neuron.output)]
    taken += [s.name for s in (*neuron.symbols, *(bound for bound, _ in neuron.bindings))]
    names = Names(taken)

    def declared(word: str, make: Any, **options: Any) -> Declared:
        name = names.fresh(f"{x.name}_{word}")
        return Declared(name, make(name, **options), next(ORDER))

    raw = declared("raw", Input)
    more = [declared("shortcut", Input)] if shortcut else []
    mean = declared("mean", Param, learnable=False, per="channel")
    scale = declared("scale", Param, init=1.0, per="channel")
    shift = declared("shift", Param, per="channel")
    centred: Any = bind(raw - mean, names.fresh(f"{x.name}_centred"))
    value: Any = bind(sum(more, scale * centred + shift), x.name)
    bindings, table = [centred, value], {x: value}
    for symbol, definition in neuron.bindings:  # anew, since their order is that of definitions
        bound: Any = bind(replaced(definition, table), symbol.name)
        table[symbol] = bound
        bindings.append(bound)
    symbols: list[Declared] = []
    for own in neuron.symbols:
        symbols += [raw, *more] if own is x else [own]
    return neuron.with_prologue(
        Prologue(raw.name, mean.name, scale.name, shift.name),
        tuple((bound, bound.definition) for bound in bindings),
        table,
        (*symbols, mean, scale, shift),
        f"{neuron.name}_norm",
    )


@cache
def channel_sums() -> Neuron:
    """Return the neuron whose parameter gradients are two sums of a sequence c for each channel.

        y = linear*d + quadratic*d**2        d = c - pivot

    The backward of its model takes the gradient of y as 1. So the gradient of `linear` is the sum
    of d, and that of `quadratic` the sum of d**2. A pivot near the mean keeps the digits of the
    variance.
    """
    c = input("c")
    pivot = param("pivot", learnable=False, per="channel")
    linear, quadratic = param("linear", per="channel"), param("quadratic", per="channel")
    d = bind(c - pivot, "d")
    return Neuron(output={"y": linear * d + quadratic * d**2}, name="channel_sums")


@cache
def input_correction() -> Neuron:
    """Return the neuron that adds what batch statistics contribute to the gradient of c.

        corrected = grad - offset - slope*(c - mean)

    For grad = scale*e: offset = scale*sum(e)/M - slope*(mu - mean), and
    slope = scale*sum(e*(c - mu))/(M*(var + eps)), M the number of elements of a channel.
    """
    grad, c = input("grad"), input("c")
    constants = (param(n, learnable=False, per="channel") for n in ("mean", "offset", "slope"))
    mean, offset, slope = constants
    part = bind(offset + slope * bind(c - mean, "d"), "part")
    return Neuron(output={"corrected": grad - part}, name="input_correction")
