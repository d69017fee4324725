"""Comparisons of declared symbols: SymPy's, with a truth value that raises an error of ours.

SymPy raises TypeError for `if v > 0`, and takes `if (v > 0) & (x > 0)` for true. The classes here
have the names of SymPy's, compare equal to them, and are rebuilt as SymPy's. `lnm.where` stores
SymPy's own, so no neuron contains them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy
from sympy.logic.boolalg import Boolean

from lnm_codegen.language.misuse import Symbolic


class _Undecided(Symbolic):
    """Base of the classes: a condition that `if`, `and`, `or`, `not` and chains refuse."""

    __slots__ = ()
    args: Any

    @property
    def func(self) -> Any:
        """SymPy's class, which rebuilds the condition."""
        return next(kind for kind in type(self).__mro__ if kind in _CLASSES)

    def __eq__(self, other: object) -> bool:
        return bool(plain(self) == plain(other))

    __hash__: Any = sympy.Basic.__hash__

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.func, self.args

    def __and__(self, other: Any) -> Any:
        return undecidable(sympy.And(self, other))

    def __or__(self, other: Any) -> Any:
        return undecidable(sympy.Or(self, other))

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Any:
        return undecidable(sympy.Not(self))


class StrictGreaterThan(_Undecided, sympy.StrictGreaterThan):  # type: ignore[misc]
    """a > b."""

    __slots__ = ()


class GreaterThan(_Undecided, sympy.GreaterThan):  # type: ignore[misc]
    """a >= b."""

    __slots__ = ()


class StrictLessThan(_Undecided, sympy.StrictLessThan):  # type: ignore[misc]
    """a < b."""

    __slots__ = ()


class LessThan(_Undecided, sympy.LessThan):  # type: ignore[misc]
    """a <= b."""

    __slots__ = ()


class And(_Undecided, sympy.And):  # type: ignore[misc]
    """Conditions joined by &."""

    __slots__ = ()


class Or(_Undecided, sympy.Or):  # type: ignore[misc]
    """Conditions joined by |."""

    __slots__ = ()


_CLASSES: dict[Any, Any] = {
    sympy.StrictGreaterThan: StrictGreaterThan,
    sympy.GreaterThan: GreaterThan,
    sympy.StrictLessThan: StrictLessThan,
    sympy.LessThan: LessThan,
    sympy.And: And,
    sympy.Or: Or,
}


def undecidable(condition: Any) -> Any:
    """Return a condition of SymPy as one whose truth value raises; anything else as it is."""
    kind = _CLASSES.get(type(condition))
    return condition if kind is None else _rebuilt(kind, condition.args)


def _rebuilt(kind: Any, args: Iterable[Any]) -> Any:
    """Return a condition of that class; SymPy would join the arguments of And and Or again."""
    if not issubclass(kind, sympy.And | sympy.Or):
        return kind(*args, evaluate=False)
    node = sympy.Basic.__new__(kind, *args)
    node._argset = frozenset(node.args)
    return node


def plain(condition: Any) -> Any:
    """Return a condition with SymPy's own classes throughout; anything else as it is."""
    if not isinstance(condition, Boolean) or not condition.args:
        return condition
    args = [plain(arg) for arg in condition.args]
    same = all(new is old for new, old in zip(args, condition.args, strict=True))
    if same and not isinstance(condition, _Undecided):
        return condition
    return _rebuilt(condition.func, args)
