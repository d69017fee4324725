"""`@lnm.family`: a function that builds a neuron, named, with its declarations in order."""

from __future__ import annotations

import functools
import inspect
import keyword
from collections.abc import Callable
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import SCOPE, Scope, check_name
from lnm_codegen.validation import did_you_mean


class Family:
    """A neuron family: called with its arguments, it returns a `Neuron` of the family's name.

    The order in which the function declares symbols is the order of states, inputs and ports.
    A trailing underscore is no part of the name: `if_` makes the family `if`.
    """

    def __init__(self, build: Callable[..., Neuron]) -> None:
        self._build = build
        self.name: str = build.__name__.rstrip("_")
        if self.name == build.__name__ or not keyword.iskeyword(self.name):
            check_name(self.name, "family")
        self.signature = inspect.signature(build)
        functools.update_wrapper(self, build)
        self.__name__: str = build.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Neuron:
        """Build the neuron.

        Raises:
            ModelError: An argument the family does not take, or a definition that is not one.
        """
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            accepted = ", ".join(self.signature.parameters) or "none"
            hint = next(
                (did_you_mean(k, self.signature.parameters) for k in kwargs
                 if k not in self.signature.parameters),
                "",
            )  # fmt: skip
            raise ModelError(f"{self.name}: {error}. Accepted: {accepted}.{hint}") from None
        token = SCOPE.set(Scope(self.name, []))
        try:
            neuron = self._build(*args, **kwargs)
        finally:
            SCOPE.reset(token)
        if not isinstance(neuron, Neuron):
            raise ModelError(
                self.name,
                f"the family returned {type(neuron).__name__}",
                remedy="It must return an lnm.Neuron.",
            )
        return neuron

    def __repr__(self) -> str:
        return f"<family {self.name}{self.signature}>"


def check_neuron_given(value: Any, where: str) -> None:
    """Raise ModelError unless `value` is a neuron; say how to make one of a family or a name."""
    if isinstance(value, Neuron):
        return
    if isinstance(value, Family):
        call = f"{value.__name__}()"
        raise ModelError(
            where, f"{value.name} is a family, not a neuron", "an lnm.Neuron", f"Call it: {call}."
        )
    hint = f" Write lnm.get({value!r})." if isinstance(value, str) else ""
    raise ModelError(f"{where}: {value!r} is not a neuron. Accepted: an lnm.Neuron.{hint}")


def family(build: Callable[..., Neuron]) -> Family:
    """Make a family of the decorated function, which declares symbols and returns a Neuron."""
    return Family(build)
