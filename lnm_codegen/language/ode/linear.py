"""Expressions that are linear in states: coefficients and the rest, found by structure.

A rate f is read as f = sum of c[s]*s over the states s, plus c[None]. Products of states, functions
of states and conditions on states are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.language.binding import bind
from lnm_codegen.language.functions import Where
from lnm_codegen.language.ode.system import Part, value_of
from lnm_codegen.language.symbols import Declared
from lnm_codegen.language.text.cost import quoted

Form: TypeAlias = dict[Any, Any]
"""State -> its coefficient; None -> the rest."""


class LinearForms:
    """Linear forms of templates in some of the states.

    Args:
        states: The states; all others count as constants.
        parts: The subexpressions, each after those that it reads.
        table: What replaces the subexpressions that read none of the states, and constants.
        where: Place that begins an error.
        remedy: Last sentence of an error.
    """

    def __init__(
        self,
        states: Iterable[Declared],
        parts: Iterable[Part],
        table: Mapping[Any, Any],
        where: str,
        remedy: str,
    ) -> None:
        self._states = frozenset(states)
        self._table = table
        self._where = where
        self._remedy = remedy
        self._parts: dict[Any, Form | ModelError] = {}
        for part in parts:
            if not part.held and self._reads(part.value):
                self._parts[part.symbol] = self._of_part(part)

    def of(self, template: sympy.Expr) -> Form:
        """Return the linear form of a template.

        Raises:
            ModelError: The template is not linear. The message names the term.
        """
        if not self._reads(template):
            return {None: value_of(template, self._table)}
        if isinstance(template, sympy.Symbol):
            return self._of_symbol(template)
        if isinstance(template, sympy.Add):
            return _sum(self.of(term) for term in template.args)
        if isinstance(template, sympy.Mul):
            return self._product(template)
        if isinstance(template, Where):
            return self._where_node(template)
        raise self._refused(template)

    def _reads(self, expr: Any) -> bool:
        return any(s in self._states or s in self._parts for s in expr.free_symbols)

    def _of_part(self, part: Part) -> Form | ModelError:
        """Return the form of a subexpression, or the error for whoever reads it."""
        try:
            form = self.of(part.value)
        except ModelError as error:
            return error
        return {key: bind(value, f"{part.symbol.name}_part") for key, value in form.items()}

    def _of_symbol(self, symbol: Any) -> Form:
        if symbol in self._states:
            return {symbol: sympy.S.One, None: sympy.S.Zero}
        form = self._parts[symbol]
        if isinstance(form, ModelError):
            raise form
        return form

    def _product(self, product: sympy.Mul) -> Form:
        reading = [factor for factor in product.args if self._reads(factor)]
        if len(reading) > 1:
            raise self._refused(product)
        others = [f for f in product.args if f is not reading[0]]
        factor = value_of(sympy.Mul(*others), self._table)
        return {key: factor * value for key, value in self.of(reading[0]).items()}

    def _where_node(self, node: Where) -> Form:
        condition, then, orelse = node.operands
        if self._reads(condition):
            raise self._refused(node)
        condition = value_of(condition, self._table)
        a, b = self.of(then), self.of(orelse)
        return {
            key: Where(condition, a.get(key, sympy.S.Zero), b.get(key, sympy.S.Zero))
            for key in {**a, **b}
        }

    def _refused(self, term: Any) -> ModelError:
        names = sorted(s.name for s in self._states if s in term.free_symbols)
        read = f" in {', '.join(names)}" if names else ""
        problem = f"the term {quoted(str(term))} is not linear{read}"
        return ModelError(self._where, problem, remedy=self._remedy)


def _sum(forms: Iterable[Form]) -> Form:
    total: Form = {}
    for form in forms:
        for key, value in form.items():
            total.setdefault(key, []).append(value)
    return {key: sympy.Add(*values) for key, values in total.items()}
