"""Names of declarations, and the words that generated code needs for itself."""

from __future__ import annotations

import keyword
from typing import Any

from lnm_codegen.errors import ModelError

_RESERVED = frozenset(
    (
        # Keywords of C and C++, and a type of CUDA.
        "auto bool break case char const continue default do double else enum extern float for"
        " goto if inline int long register restrict return short signed sizeof static struct switch"
        " typedef union unsigned void volatile while catch class delete friend mutable namespace"
        " new operator private protected public template this throw try using virtual export"
        " explicit typename and or not xor asm half"
        # Keywords of Verilog-2005.
        " always assign begin buf cell config deassign defparam design disable edge end endcase"
        " endfunction endmodule endtask event force forever fork function generate genvar initial"
        " inout input instance integer join large library localparam medium module nand negedge nor"
        " output parameter posedge primitive pull0 pull1 real realtime reg release repeat scalared"
        " small specify strong0 strong1 supply0 supply1 table task time tri trireg vectored wait"
        " wand weak0 weak1 wire wor xnor"
        # Macros of the headers of C.
        " M_PI M_E NAN INFINITY HUGE_VAL NULL"
        # The default spike of a neuron.
        " spike"
    ).split()
)
"""Words that a declaration must not have. Each target refuses further names of its own."""


def require_name(kind: str, name: Any) -> str:
    """Return `name`, an identifier that generated code may use for a `kind`: "state", "input".

    Raises:
        ModelError: No identifier, a word that a target language reserves, or a name of the forms
            that kernels use: `_x`, `grad_x`, `sum_x`, `x_next`.
    """
    where = f"{kind} {name!r}"
    if not isinstance(name, str) or not name.isascii() or not name.isidentifier():
        raise ModelError(
            where, "not an identifier", "letters, digits and '_', not beginning with a digit"
        )
    port = name.startswith(("_", "grad_", "sum_")) or name.endswith("_next")
    if port or keyword.iskeyword(name) or name in _RESERVED:
        raise ModelError(
            where, "the word is reserved in generated code", remedy="Choose another name."
        )
    return name
