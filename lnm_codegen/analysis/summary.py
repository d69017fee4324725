"""Summary of a neuron in a few words: degree of its charge, its reset, its surrogates."""

from __future__ import annotations

import sympy

from lnm_codegen.analysis.charge import unclamped
from lnm_codegen.language.binding import bindings_of
from lnm_codegen.language.functions import Where, attached
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import is_spike


def degree_of(neuron: Neuron) -> int | None:
    """Return the largest degree of a charge, without clamps, as a polynomial in the charged states.

    None if a charge is not a polynomial or reads a bound value, or if there is no charge.
    """
    states, degrees = [s for s, _ in neuron.charge], []
    if bindings_of((charge for _, charge in neuron.charge), dict(neuron.bindings)):
        return None
    for _, charge in neuron.charge:
        try:
            degrees.append(int(sympy.Poly(unclamped(attached(charge)), *states).total_degree()))
        except sympy.PolynomialError:
            return None
    return max(degrees, default=None)


def reset_kind(neuron: Neuron) -> str:
    """Return "hard", "soft", "none", or "custom" for the resets of the charged states.

    A hard reset is `where(spike, value, state)`; a soft one subtracts a multiple of the spike.
    """
    charged = {state for state, _ in neuron.charge}
    kinds = {_kind(state, value) for state, value in neuron.reset if state in charged}
    return (kinds or {"none"}).pop() if len(kinds) < 2 else "custom"


def reset_words(neuron: Neuron) -> dict[str, str | bool | None]:
    """Return the kind of the reset, the surrogates, and True where spikes in a reset are constants.

    A value is None where there is nothing to say.
    """
    slopes = dict.fromkeys(str(surrogate) for _, surrogate in neuron.surrogates)
    return {
        "reset": reset_kind(neuron),
        "surrogate": ", ".join(slopes) or None,
        "detach_reset": neuron.detach_reset or None,
    }


def _kind(state: sympy.Symbol, value: sympy.Expr) -> str:
    if isinstance(value, Where):
        condition, _, kept = value.args
        return "hard" if is_spike(condition) and kept == state else "custom"
    subtracted = state - value
    spikes = [s for s in subtracted.free_symbols if is_spike(s)]
    return "soft" if len(spikes) == 1 and subtracted.subs(spikes[0], 0) == 0 else "custom"
