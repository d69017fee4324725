"""`@lnm.family`: a decorator that turns a function into a named family of neurons."""

from __future__ import annotations

import functools
import inspect
import keyword
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec

from lnm_codegen.errors import ModelError
from lnm_codegen.language.misuse import building
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.symbols import SCOPE, Scope, require_name
from lnm_codegen.validation import (
    require_arguments,
    require_declared,
    require_known,
    require_one_of,
    shown,
)

P = ParamSpec("P")


class Family(Generic[P]):
    """A neuron family: called with its arguments, it returns a `Neuron` of the family's name.

    The function declares symbols; their order is the order of states, inputs and ports. A trailing
    underscore is not part of the name: `if_` makes the family `if`.
    """

    def __init__(self, build: Callable[P, Neuron]) -> None:
        self._build = build
        self.name: str = build.__name__.rstrip("_")
        if self.name == build.__name__ or not keyword.iskeyword(self.name):
            require_name("family", self.name)
        self.signature = inspect.signature(build)
        functools.update_wrapper(self, build)
        self.__name__: str = build.__name__

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Neuron:
        """Build the neuron.

        Raises:
            ModelError: An argument that the family does not take, a value outside the bounds of its
                type (`lnm_codegen.validation.Accepted`), or an invalid definition; an
                expression in `if`, `max` or a function of math, NumPy or PyTorch; a tensor in an
                expression.
        """
        bound = require_arguments(self.name, self.signature, args, kwargs)
        require_declared(self.name, self._build, bound.arguments)
        token = SCOPE.set(Scope(self.name, []))
        try:
            with building(self.name):
                neuron = self._build(*args, **kwargs)
        finally:
            SCOPE.reset(token)
        return require_returned(self.name, neuron)

    def __repr__(self) -> str:
        return f"<family {self.name}{self.signature}>"


def family(build: Callable[P, Neuron]) -> Family[P]:
    """Return the family of a function that declares symbols and returns a Neuron."""
    return Family(build)


class FamilyByArgument(Family[...]):
    """Families of one name; the value of a keyword argument selects one of them.

    Each has its own arguments and defaults, and refuses those of the others. `signature` has the
    arguments of the first, then the selecting one, then the arguments that only the others take.
    """

    def __init__(self, word: str, families: Mapping[Any, Family[...]]) -> None:
        (default, first), *others = families.items()
        super().__init__(first._build)
        self._word, self._families = word, dict(families)
        docs = (f"With {word}={key!r}:\n\n{inspect.getdoc(other)}" for key, other in others)
        self.__doc__ = "\n\n".join((inspect.getdoc(first) or "", *docs))
        keyword = inspect.Parameter.KEYWORD_ONLY
        found = dict(first.signature.parameters)
        found[word] = inspect.Parameter(word, keyword, default=default)
        for _, other in others:
            for name, parameter in other.signature.parameters.items():
                found.setdefault(name, parameter.replace(kind=keyword))
        self.signature = self.__signature__ = inspect.Signature(list(found.values()))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Neuron:
        """Build the neuron with the selected family.

        Raises:
            ModelError: See `Family`; another value of the selecting argument, or an argument that
                the selected family does not take.
        """
        key = kwargs.pop(self._word, self.signature.parameters[self._word].default)
        require_one_of(self.name, self._word, key, tuple(self._families))
        family: Family[...] = self._families[key]
        known = [*family.signature.parameters, self._word]
        for argument in kwargs:
            if argument in self.signature.parameters and argument not in known:
                problem = f"{argument} is given, which {self._word}={key!r} does not take"
                takers = (
                    k for k, f in self._families.items() if argument in f.signature.parameters
                )
                remedy = f"Give {self._word}={next(takers)!r}, or omit {argument}."
                raise ModelError(self.name, problem, known, remedy)
            require_known(self.name, "argument", argument, known)
        return family(*args, **kwargs)


def family_by(
    word: str, others: Mapping[Any, Family[...]], own: Any = 1
) -> Callable[[Callable[..., Neuron]], FamilyByArgument]:
    """Return a decorator for the family of a function and of others of its name.

    Args:
        word: Keyword argument that selects one of them.
        others: The other families, by its value.
        own: Value for the function itself, and the default.
    """
    return lambda build: FamilyByArgument(word, {own: Family(build), **others})


def require_returned(where: str, value: Any) -> Neuron:
    """Return `value`, the neuron that a user's function returned, or raise ModelError."""
    if not isinstance(value, Neuron):
        raise ModelError(where, f"it returned {type(value).__name__}", "an lnm.Neuron")
    return value


def require_neuron(where: str, value: Any) -> None:
    """Raise ModelError unless `value` is a neuron; advise for a family, a name or a layer."""
    if isinstance(value, Neuron):
        return
    if isinstance(value, Family):
        problem, remedy = f"{value.name} is a family, not a neuron", f"Call it: {value.__name__}()."
    elif isinstance(getattr(value, "neuron", None), Neuron):
        problem, remedy = f"a {type(value).__name__} is not a neuron", "Pass layer.neuron."
        if hasattr(value, "normalisation"):
            remedy = "Pass lnm.normalised(layer.neuron, layer.shortcut)."
    else:
        problem = f"{shown(value)} is not a neuron"
        remedy = f"Write lnm.get({shown(value)})." if isinstance(value, str) else ""
    raise ModelError(where, problem, "an lnm.Neuron", remedy)
