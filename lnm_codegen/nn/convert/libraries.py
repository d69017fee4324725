"""Libraries whose layers are converted. None is imported: a class is known by its module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lnm_codegen.errors import ModelError, UnsupportedError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.convert import jelly, norse, snn
from lnm_codegen.nn.convert.recipe import TRACE, Protocol, Recipe
from lnm_codegen.nn.layer import NeuronLayer


@dataclass(frozen=True)
class Library:
    """A library.

    Attributes:
        name: Its name.
        prefix: Module or package of its spiking layers.
        bases: Classes there from which the spiking layers derive; empty where every class is one.
        known: Names of classes that are converted.
        remedies: Class that is not -> what to do about it.
        recipe_of: Function of a layer.
        protocol_of: Function of a layer and, where the user gives a neuron, that neuron.
        calls_alike: Layers of other classes have the calls of `NeuronLayer` too.
        contains: Whether a module of the library that is no spiking layer is converted with the
            one that it contains.
    """

    name: str
    prefix: str
    bases: Collection[str]
    known: Collection[str]
    remedies: Mapping[str, str]
    recipe_of: Callable[[Any], Recipe]
    protocol_of: Callable[[Any, Neuron | None], Protocol]
    calls_alike: bool = False
    contains: Callable[[nn.Module], bool] = lambda _: False

    def owns(self, kind: type) -> bool:
        """Report whether a class is one of the library's."""
        return f"{kind.__module__}.".startswith(f"{self.prefix}.")

    def known_class(self, kind: type) -> type | None:
        """Return the converted class of a layer: its own, or one that it derives from unchanged.

        A subclass that defines more than `__init__` and a description may compute anything.
        """
        for base in kind.__mro__:
            if self.owns(base):
                return base if base.__name__ in self.known else None
            if set(vars(base)) - _HARMLESS:
                return None
        return None

    def known_recipe(self, old: nn.Module) -> Recipe:
        """Return the recipe of a layer.

        Raises:
            UnsupportedError: A class, an option or a value without an equal here.
        """
        kind = type(old)
        if self.contains(old) or self.known_class(kind) is not None:
            try:
                return self.recipe_of(old)
            except ModelError as error:  # of a family, for a value out of its range
                raise UnsupportedError(kind.__name__, error.problem, error.accepted) from None
        raise self._refusal(kind)

    def known_protocol(self, old: nn.Module, neuron: Neuron) -> Protocol:
        """Return the calls of a layer for a neuron that the user gives.

        Raises:
            UnsupportedError: A class whose calls no layer here has.
        """
        if self.contains(old):
            return self.protocol_of(old, neuron)
        base = next(base for base in type(old).__mro__ if self.owns(base))
        if not (self.calls_alike or base.__name__ in self.known):
            raise self._refusal(type(old))
        return self.protocol_of(old, neuron)

    def _refusal(self, kind: type) -> UnsupportedError:
        """Return the error for a class that is not converted."""
        bases = [base for base in kind.__mro__ if self.owns(base)]
        if bases[0] is not kind and bases[0].__name__ in self.known:
            problem = f"a subclass of {bases[0].__name__} with code of its own"
            return UnsupportedError(kind.__name__, problem, remedy=TRACE)
        found = (self.remedies[base.__name__] for base in bases if base.__name__ in self.remedies)
        problem = f"no neuron for {bases[0].__name__}"
        return UnsupportedError(kind.__name__, problem, remedy=next(found, TRACE))


def described(error: UnsupportedError) -> str:
    """Return the reason that a report has for an error, with its remedy."""
    accepted = f" (accepted: {error.accepted})" if error.accepted else ""
    return f"{error.problem}{accepted}" + (f". {error.remedy}" if error.remedy else "")


_HARMLESS = {
    "__init__", "__module__", "__doc__", "__qualname__", "__annotations__", "extra_repr",
    "__parameters__", "__firstlineno__", "__static_attributes__", "__repr__",
}  # fmt: skip
"""Attributes of a subclass that do not change its calls."""

LIBRARIES = (
    Library(
        "spikingjelly",
        jelly.PREFIX,
        (),
        jelly.KNOWN,
        jelly.REMEDIES,
        jelly.recipe_of,
        jelly.protocol_of,
        calls_alike=True,
        contains=jelly.is_container,
    ),
    Library(
        "snntorch",
        snn.PREFIX,
        ("SpikingNeuron", "LeakyParallel", "LeakyKernel"),
        tuple(snn.STATES),
        snn.REMEDIES,
        snn.recipe_of,
        snn.protocol_of,
    ),
    Library(
        "norse",
        norse.PREFIX,
        ("SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell", "CobaLIFCell", "LILinearCell",
         "LIFCorrelation"),
        tuple(norse.STATES),
        norse.REMEDIES,
        norse.recipe_of,
        norse.protocol_of,
    ),
)  # fmt: skip
"""The libraries."""


def library_of(module: nn.Module) -> Library | None:
    """Return the library of a spiking layer, also of a subclass of one, or None."""
    for library in LIBRARIES:
        if library.contains(module):
            return library
        for kind in type(module).__mro__:
            if library.owns(kind) and (not library.bases or kind.__name__ in library.bases):
                return library
    return None


def is_spiking(module: nn.Module) -> bool:
    """Report whether a module is a neuron layer, of this package or to be converted."""
    return isinstance(module, NeuronLayer) or library_of(module) is not None
