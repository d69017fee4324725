"""Symbols of expressions: SymPy symbols with a declaration of a state, input, parameter or spike.

Two declarations are never equal, whatever their names, so several neurons may be built side by
side. Spikes alone are equal by name. A family (see `family.py`) collects declarations in order.
"""

from __future__ import annotations

import itertools
import keyword
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, cast, get_args

import sympy

from lnm_codegen.errors import ModelError
from lnm_codegen.ir.declarations import Declaration, Input, Param, Spike, State
from lnm_codegen.ir.declarations import Granularity as Granularity
from lnm_codegen.ir.declarations import Init as Init
from lnm_codegen.validation import require_bool, require_one_of, wrong

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


class Declared(sympy.Symbol):
    """A SymPy symbol with its declaration and its place in the order of declarations."""

    __slots__ = ("decl", "order")
    decl: Declaration
    order: int

    def __new__(cls, name: str, decl: Declaration, order: int) -> Declared:
        """Make a symbol that differs from every symbol of another order."""
        symbol = sympy.Symbol.__xnew__(cls, name)
        symbol.decl = decl
        symbol.order = order
        return symbol  # type: ignore[no-any-return]

    def __getnewargs_ex__(self) -> tuple[tuple[str, Declaration, int], dict[str, Any]]:
        """Return the arguments of `__new__`, for pickle and copy."""
        return (self.name, self.decl, self.order), {}

    def _hashable_content(self) -> tuple[Any, ...]:
        return (self.name, self.order, repr(self.decl))


Assignments: TypeAlias = tuple[tuple[Declared, sympy.Expr], ...]
Named: TypeAlias = tuple[tuple[str, sympy.Expr], ...]


def _refused(operator: str) -> Callable[..., Any]:
    def refuse(vector: Vector, *_: Any) -> Any:
        name = vector.decl.name
        raise ModelError(
            name,
            f"{operator} takes no vector parameter",
            f"its elements, {name}[0] to {name}[{len(vector) - 1}], or lnm.poly(z, {name})",
            "Index it.",
        )

    return refuse


class Vector(Sequence[Declared]):
    """A vector parameter in expressions: `theta[2]`, `len(theta)`, `lnm.poly(v, theta)`."""

    def __init__(self, decl: Param, elements: tuple[Declared, ...]) -> None:
        self.decl = decl
        self._elements = elements

    def __getitem__(self, index: Any) -> Any:
        """Return the element, or a tuple of elements for a slice."""
        where, accepted = f"{self.decl.name}[{index!r}]", f"an integer from 0 to {len(self) - 1}"
        try:
            return self._elements[index]
        except IndexError:
            raise ModelError(where, "index out of range", accepted) from None
        except TypeError:
            raise ModelError(where, "not an index", f"{accepted}, or a slice") from None

    __add__ = __radd__ = _refused("'+'")
    __sub__ = __rsub__ = __neg__ = _refused("'-'")
    __mul__ = __rmul__ = _refused("'*'")
    __truediv__ = __rtruediv__ = _refused("'/'")
    __pow__ = __rpow__ = _refused("'**'")
    __lt__ = __le__ = __gt__ = __ge__ = _refused("a comparison")

    def __iter__(self) -> Iterator[Declared]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def __repr__(self) -> str:
        return f"Vector({self.decl.name!r}, size={len(self)})"


@dataclass(slots=True)
class Scope:
    """Declarations of a family while its function runs."""

    family: str
    symbols: list[Declared]


SCOPE: ContextVar[Scope | None] = ContextVar("lnm_family", default=None)
_ORDER = itertools.count(1)


def _declare(name: str, decl: Declaration) -> Declared:
    symbol = Declared(name, decl, next(_ORDER))
    scope = SCOPE.get()
    if scope is not None:
        scope.symbols.append(symbol)
    return symbol


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


def _require_init(where: str, init: Any, size: int | None = None) -> Init:
    if callable(init):
        return cast("Init", init)
    if _is_finite(init):
        return float(init)
    if size is not None and isinstance(init, Sequence) and len(init) == size:
        if all(_is_finite(value) for value in init):
            return tuple(float(value) for value in init)
    numbers = "a finite number" if size is None else f"a finite number or {size} of them"
    raise wrong(where, "init", init, f"{numbers}, or a function (generator, shape) -> tensor")


def _is_finite(value: Any) -> bool:
    """Report whether a float holds `value`, a number of Python or NumPy and not a bool."""
    try:
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return number and math.isfinite(value)
    except OverflowError:  # 10**400
        return False


def state(name: str, init: Init = 0.0) -> Declared:
    """Declare a state of the neuron.

    Args:
        name: An identifier; `v` for the membrane potential.
        init: Value before the first time step: a number, or a function (generator, shape) ->
            tensor.
    """
    require_name("state", name)
    return _declare(name, State(name, _require_init(f"state {name!r}", init)))


def input(name: str) -> Declared:
    """Declare an input, which has a new value at every time step; `x` for the input current."""
    return _declare(name, Input(require_name("input", name)))


def param(
    name: str,
    size: int | None = None,
    init: Init | Sequence[float] = 0.0,
    learnable: bool = True,
    per: Granularity = "layer",
) -> Any:
    """Declare a parameter.

    Args:
        name: An identifier; the layer has an attribute of this name.
        size: None for a scalar, else the length of a vector, which is indexed: `theta[2]`.
        init: A number, `size` numbers, or a function (generator, shape) -> tensor.
        learnable: True makes it an `nn.Parameter`, False a buffer without a gradient.
        per: Granularity: one value per "layer", "channel" or "neuron".

    Raises:
        ModelError: An argument has another value.
    """
    where = f"parameter {require_name('parameter', name)!r}"
    require_one_of(where, "per", per, get_args(Granularity))
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise wrong(where, "size", size, "None or an integer >= 1")
    require_bool(where, "learnable", learnable)
    decl = Param(name, size, _require_init(where, init, size), learnable, per)
    elements = tuple(_declare(n, decl) for n in decl.element_names)
    return elements[0] if size is None else Vector(decl, elements)


def spike_named(name: str) -> Declared:
    """Return the spike of that name, for neurons with several spikes."""
    if name != "spike":
        require_name("spike", name)
    return Declared(name, Spike(name), 0)


spike = spike_named("spike")
"""The default spike of a neuron."""


def is_spike(value: Any) -> bool:
    """Report whether `value` is a spike, which `where` takes as a condition."""
    return isinstance(value, Declared) and isinstance(value.decl, Spike)
