"""Names of declarations. Every target refuses further names, which its language reserves."""

from __future__ import annotations

import keyword
from typing import Any

from lnm_codegen.errors import ModelError
from lnm_codegen.validation import shown


def require_name(kind: str, name: Any) -> str:
    """Return `name`, an identifier that a `kind` may have: "state", "input".

    Raises:
        ModelError: Not an identifier, a keyword of Python, the name of the default spike, or a name
            of the forms that kernels use: `_x`, `grad_x`, `sum_x`, `x_next`.
    """
    where = f"{kind} {shown(name)}"
    if not isinstance(name, str) or not name.isascii() or not name.isidentifier():
        raise ModelError(
            where, "not an identifier", "letters, digits and '_', not beginning with a digit"
        )
    problem = ""
    if keyword.iskeyword(name):
        problem = "the word is a keyword of Python"
    elif name == "spike":
        problem = "the default spike has this name"
    elif name.startswith(("_", "grad_", "sum_")) or name.endswith("_next"):
        problem = "generated code makes names of the forms _x, grad_x, sum_x and x_next"
    if problem:
        raise ModelError(where, problem, remedy="Choose another name.")
    return name
