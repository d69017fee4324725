"""Surrogates of SpikingJelly, snnTorch and Norse as surrogates of this package.

Each table has a formula for the slope that a library computes in its backward, whatever its
documentation says: Norse's "super" ignores alpha, and snnTorch's "triangular" is constant. A
test compares every entry with the library on a grid.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language import surrogate as own
from lnm_codegen.language.functions import abs, cos, exp, log, max, sigmoid, sqrt, tanh, where
from lnm_codegen.language.surrogate import Surrogate, from_slope
from lnm_codegen.nn.convert.recipe import number

TINY = 2.0**-126
"""Smallest normal number of float32. A spike at > is one at z - TINY >= 0."""

Arguments: TypeAlias = Mapping[str, float]
Formula: TypeAlias = Callable[[Arguments, Any], Any]
"""Slope at z of a surrogate with these arguments."""

_RANDOM = "its gradient or its spike is random"
_OTHER = "Give the layer another surrogate, such as atan."


@dataclass(frozen=True)
class Slope:
    """A surrogate, and where the spike occurs.

    Attributes:
        surrogate: Slope of the spike.
        strict: The spike occurs at z > 0 rather than z >= 0.
        reason: Why the slope is an approximation, or empty.
    """

    surrogate: Surrogate
    strict: bool
    reason: str = ""


def _power(base: Any, alpha: float) -> Any:
    return 1 / base ** int(alpha) if alpha == int(alpha) else exp(-alpha * log(base))


def _square_wave(a: Arguments, z: Any) -> Any:
    w = 2 * math.pi / a["T_period"]
    terms = (cos((2 * i - 1) * w * z) for i in range(1, int(a["n"])))
    return 4 / a["T_period"] * sum(terms, 0 * z)


def _s2nn(a: Arguments, z: Any) -> Any:
    s = sigmoid(a["alpha"] * z)
    return where(z < 0, a["alpha"] * s * (1 - s), a["beta"] / (z + 1))


def _fake(a: Arguments, z: Any) -> Any:
    return where(a["alpha"] * abs(z) < 1, a["alpha"], 1 / abs(z))


JELLY: dict[str, Formula] = {
    "ATan": lambda a, z: own.atan(a["alpha"]),
    "Sigmoid": lambda a, z: own.sigmoid(a["alpha"]),
    "PiecewiseQuadratic": lambda a, z: own.triangle(a["alpha"]),
    "PiecewiseExp": lambda a, z: own.piecewise_exponential(a["alpha"]),
    "SoftSign": lambda a, z: own.soft_sign(a["alpha"]),
    "Erf": lambda a, z: own.erf(a["alpha"]),
    "SuperSpike": lambda a, z: a["alpha"] / (1 + abs(z)) ** 2,
    "Rect": lambda a, z: own.rectangle(a["alpha"]),
    "NonzeroSignLogAbs": lambda a, z: 1 / (1 / a["alpha"] + abs(z)),
    "PiecewiseLeakyReLU": lambda a, z: where(abs(z) < a["w"], 1 / (2 * a["w"]), a["c"]),
    "SquarewaveFourierSeries": _square_wave,
    "S2NN": _s2nn,
    "QPseudoSpike": lambda a, z: _power(1 + 2 / (a["alpha"] - 1) * abs(z), a["alpha"]),
    "LeakyKReLU": lambda a, z: where(z >= 0, a["k"], a["leak"]),
    "FakeNumericalGradient": _fake,
    "LogTailedReLU": lambda a, z: where(z > 1, 1 / z, where(z > 0, 1, a["alpha"])),
    "DeterministicPass": lambda a, z: 1,
}
"""Classes of `spikingjelly.activation_based.surrogate`. All fire at >=."""

SNN: dict[str, Formula] = {
    "atan": lambda a, z: own.atan(a["alpha"]),
    "fast_sigmoid": lambda a, z: own.fast_sigmoid(a["slope"]),
    "sigmoid": lambda a, z: own.sigmoid(a["slope"]),
    "straight_through_estimator": lambda a, z: 1,
    "heaviside": lambda a, z: where(z > 0, 1, 0),
    "triangular": lambda a, z: where(z >= -2 * TINY, -a["threshold"], a["threshold"]),
    "spike_rate_escape": lambda a, z: a["slope"] * exp(-a["beta"] * abs(z - 1)),
    "SFS": lambda a, z: where(z > a["B"], 1 / (1 + a["slope"] * abs(z)) ** 2, 0),
}
"""Functions of `snntorch.surrogate`. All fire at >."""

NORSE: dict[str, Formula] = {
    "heaviside": lambda a, z: 0,
    "super": lambda a, z: 1 / (1 + abs(z)) ** 2,
    "triangle": lambda a, z: a["alpha"] * max(0, 1 - abs(z)),
    "tanh": lambda a, z: 1 - tanh(a["alpha"] * z) ** 2,
    "circ": lambda a, z: _circle(a["alpha"], z),
    "heavi_erfc": lambda a, z: 2 / math.sqrt(math.pi) * exp(-((a["alpha"] * z) ** 2)),
}
"""Methods of `norse.torch.functional.threshold`. All fire at >."""


def _circle(alpha: float, z: Any) -> Any:
    square = (z / alpha) ** 2 + 1
    return 1 / (square * sqrt(square))


def jelly_slope(where: str, function: Any) -> Slope:
    """Return the surrogate of a SpikingJelly layer.

    Raises:
        UnsupportedError: The function returns other values than 0 and 1, or is random.
    """
    kind = type(function)
    if not kind.__module__.startswith("spikingjelly.activation_based.surrogate"):
        return slope_of(where, function)
    if not getattr(function, "spiking", True):
        problem = "its surrogate returns the primitive (spiking=False)"
        raise UnsupportedError(where, problem, remedy="Set spiking=True.")
    if kind.__name__ == "PoissonPass":
        raise UnsupportedError(where, f"surrogate {kind.__name__}: {_RANDOM}", remedy=_OTHER)
    if kind.__name__ not in JELLY:
        return _measured(where, function)
    names = ("alpha", "beta", "w", "c", "n", "T_period", "leak", "k")
    arguments = {n: number(where, n, getattr(function, n)) for n in names if hasattr(function, n)}
    return Slope(_made(kind.__name__, JELLY[kind.__name__], arguments), strict=False)


def snn_slope(where: str, function: Any) -> Slope:
    """Return the surrogate of a snnTorch layer.

    Raises:
        UnsupportedError: See `jelly_slope`.
    """
    name = getattr(function, "__name__", "")
    if getattr(function, "__module__", "") == "snntorch._neurons.neurons":
        return Slope(_made("none", lambda a, z: 0, {}), strict=True)  # surrogate_disable
    if getattr(function, "__module__", "") != "snntorch.surrogate" or name != "inner":
        return slope_of(where, function)
    name = function.__qualname__.partition(".")[0]
    if name in ("SSO", "LSO"):
        raise UnsupportedError(where, f"surrogate {name}: {_RANDOM}", remedy=_OTHER)
    if name not in SNN:
        return _measured(where, function)
    given = inspect.getclosurevars(function).nonlocals
    arguments = {n: number(where, n, value) for n, value in given.items()}
    return Slope(_made(name, SNN[name], arguments), strict=True)


def norse_slope(where: str, method: str, alpha: Any) -> Slope:
    """Return the surrogate of a Norse layer.

    Raises:
        UnsupportedError: An unknown method, or an alpha that is not a number.
    """
    if method not in NORSE:
        raise UnsupportedError(where, f"method {method!r}", tuple(NORSE))
    alpha = 1.0 if method in ("heaviside", "super") else number(where, "alpha", alpha)
    return Slope(_made(method, NORSE[method], {"alpha": alpha}), strict=True)


def slope_of(where: str, function: Any) -> Slope:
    """Return the surrogate of any function of a tensor: of a library, or of the user."""
    module = getattr(function, "__module__", "") or ""
    if isinstance(function, nn.Module) and module.startswith("spikingjelly."):
        return jelly_slope(where, function)
    if module == "snntorch.surrogate" and getattr(function, "__name__", "") == "inner":
        return snn_slope(where, function)
    return _measured(where, function)


def _measured(where: str, function: Any) -> Slope:
    """Return the default surrogate for a function that is in no table, with what it does at 0."""
    at = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])
    try:
        with torch.no_grad():
            spikes = [function(at).tolist() for _ in range(2)]
    except Exception as error:
        problem = f"its surrogate raised {type(error).__name__} on a tensor of five numbers"
        raise UnsupportedError(where, problem, remedy=_OTHER) from error
    ties = {(0.0, 0.0, zero, 1.0, 1.0): zero == 0 for zero in (0.0, 1.0)}
    if spikes[0] != spikes[1] or tuple(spikes[0]) not in ties:
        problem = "its surrogate returns other values than 0 and 1"
        raise UnsupportedError(where, problem, remedy=_OTHER)
    owner = getattr(function, "__self__", None)  # the class, for `Function.apply`
    named = owner if isinstance(owner, type) else function
    name = getattr(named, "__qualname__", type(function).__name__)
    reason = f"surrogate {name} is in no table: {own.DEFAULT()} replaces it"
    return Slope(own.DEFAULT(), strict=ties[tuple(spikes[0])], reason=reason)


def _made(name: str, formula: Formula, arguments: Arguments) -> Surrogate:
    """Return the surrogate of a table's entry, which is one, or a slope at z."""
    value = formula(arguments, own.Z)
    if isinstance(value, Surrogate):
        return value
    return from_slope(lambda z: value, name.lower())
