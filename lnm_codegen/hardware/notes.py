"""Notes on a circuit: products wider than a multiplier, numbers that are or round to 0 or 1."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from lnm_codegen.hardware.leak import lost_leaks
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.nodes import number_text

MULTIPLIERS = {18: "18 x 18 bits (ECP5)", 16: "16 x 16 bits (iCE40)"}
"""Widest factor of a target's multiplier -> its name, from the widest."""

_ELEMENT = re.compile(r"(\w+)_(\d+)")


def width_note(program: fx.Program) -> str | None:
    """Return a sentence about products that take several multipliers each, or None.

    A product with a factor one bit wider than a multiplier takes two to four of them, and logic.
    """
    found = [node for let in program.kernel.body for node in fx.walk(let.value)]
    widths = [
        max(fx.bits_of(node.lhs).width, fx.bits_of(node.rhs).width)
        for node in dict.fromkeys(found)
        if isinstance(node, fx.Product)
    ]
    for limit, name in MULTIPLIERS.items():
        wide = [width for width in widths if width > limit]
        if wide:
            return (
                f"{len(wide)} of {len(widths)} products have a factor of more than {limit} bits"
                f" (up to {max(wide)}), so that each takes several multipliers of {name}"
            )
    return None


def zero_note(coefficients: Mapping[str, Sequence[int]]) -> str | None:
    """Return a sentence about the last coefficients of a polynomial that are 0, or None.

    Args:
        coefficients: Name -> integers, such as theta_0, theta_1, theta_2.
    """
    idle = _last_zeros(coefficients)
    if not idle:
        return None
    verb = "is" if len(idle) == 1 else "are"
    return f"{', '.join(idle)} {verb} 0 in this format, so that each step multiplies by 0"


def _last_zeros(coefficients: Mapping[str, Sequence[int]]) -> list[str]:
    """Return the names of the last coefficients of each polynomial that are 0."""
    elements: dict[str, dict[int, bool]] = defaultdict(dict)
    for name, integers in coefficients.items():
        if match := _ELEMENT.fullmatch(name):
            elements[match[1]][int(match[2])] = any(integers)
    idle: list[str] = []
    for base, used in elements.items():
        last = max((k for k, is_used in used.items() if is_used), default=-1)
        idle += [f"{base}_{k}" for k in sorted(used) if k > last]
    return idle


def rounded_note(
    program: fx.Program,
    coefficients: Mapping[str, Sequence[int]],
    reals: Mapping[str, Sequence[float]],
) -> str | None:
    """Return a sentence about numbers that become 0, or decays that become 1, or None.

    The numbers are coefficients and constants that are not 0. `leak.py` defines a decay.

    Args:
        program: The neuron.
        coefficients: Name -> integers, as for `zero_note`, whose names are left out.
        reals: Name -> as many numbers before rounding.
    """
    idle, zeros = _last_zeros(coefficients), []
    for name, integers in coefficients.items():
        pairs = [*zip(integers, reals[name], strict=True)]
        zeros += _counted(name, [i == 0 != r and name not in idle for i, r in pairs])
    for c in (node for let in program.kernel.body for node in fx.walk(let.value)):
        if isinstance(c, fx.Const) and c.integer == 0 != c.real:
            zeros.append(number_text(c.real))
    lost = lost_leaks(program, coefficients, reals)
    leaks = [word for state, flags in lost.items() for word in _counted(state, flags)]
    found = [f"{_rounded(zeros, '0')} in this format"] if zeros else []
    found += [f"the decay of {_rounded(leaks, '1')}, so that a leak is lost"] if leaks else []
    return "; ".join(found) or None


def _counted(name: str, lost: list[bool]) -> list[str]:
    """Return a name, with the number of its values that are lost unless all are; or nothing."""
    share = "" if all(lost) else f" ({sum(lost)} of {len(lost)} values)"
    return [name + share] if any(lost) else []


def _rounded(words: list[str], to: str) -> str:
    words = [*dict.fromkeys(words)]
    return f"{', '.join(words)} {'rounds' if len(words) == 1 else 'round'} to {to}"
