"""Printer of C, C++ and CUDA: literals, expressions, statements and elementary functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from lnm_codegen.backends import expr
from lnm_codegen.backends.expr import FUNCTIONS, LIBRARY, elementary_view
from lnm_codegen.backends.plan import ROLES
from lnm_codegen.backends.render import render
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import rounded
from lnm_codegen.ir.nodes import Const, Fn, Kernel, Let
from lnm_codegen.ir.types import BOOL


@dataclass(frozen=True, slots=True)
class CDialect(expr.Dialect):
    """The dialect for one float type, "float32" or "float64"."""

    dtype: str

    NOT: ClassVar[str] = "!"

    @property
    def real(self) -> str:
        """The C name of the type."""
        return c_type(self.dtype)

    @property
    def suffix(self) -> str:
        """Suffix of a literal and of a function of math.h."""
        return "f" if self.dtype == "float32" else ""

    def number(self, c: Const) -> str:
        """Return a literal."""
        value = rounded(c.value, self.dtype)
        if not np.isfinite(value):
            return "-HUGE_VAL" if value < 0 else "HUGE_VAL"
        return literal(value, self.dtype)

    def select(self, e: ir.Select) -> tuple[str, int]:
        """Return a select. clang warns of `a | b ? x : y`."""
        cond, then = expr.text(e.cond, self, expr.COMPARE), expr.text(e.then, self, expr.OR)
        return f"{cond} ? {then} : {expr.text(e.orelse, self, expr.OR)}", expr.TERNARY

    def fma(self, e: ir.Fma) -> tuple[str, int]:
        """Return a fused multiply-add."""
        a, b, c = (expr.text(x, self) for x in (e.a, e.b, e.c))
        return f"fma{self.suffix}({a}, {b}, {c})", expr.CALL

    def call(self, e: ir.Call) -> tuple[str, int]:
        """Return a function call."""
        return f"{self._function(e.fn)}({expr.text(e.arg, self)})", expr.CALL

    def _function(self, fn: Fn) -> str:
        return FUNCTIONS.get(fn) or LIBRARY[fn] + self.suffix

    def called(self, kernels: Iterable[Kernel]) -> str:
        """Return the functions that kernels call, separated by spaces."""
        nodes = [n for k in kernels for let in k.body for n in ir.walk(let.value)]
        found = {self._function(n.fn) for n in nodes if isinstance(n, ir.Call)}
        fused = any(isinstance(n, ir.Fma) for n in nodes)
        return " ".join(sorted(found | ({f"fma{self.suffix}"} if fused else set())))

    def spike(self, e: ir.Spike) -> tuple[str, int]:
        """Return the condition of a spike."""
        zero = literal(0.0, self.dtype)
        return f"{expr.text(e.arg, self, expr.SUM)} >= {zero}", expr.COMPARE


C_TYPES = {"float32": "float", "float64": "double"}


def c_type(dtype: str) -> str:
    """Return the C type of a number; numbers of 16 bits are passed as their bits."""
    return C_TYPES.get(dtype, "uint16_t")


def literal(value: Any, dtype: str) -> str:
    """Return the shortest literal that reads back as `value` in `dtype`."""
    with np.errstate(over="ignore"):
        text = str(np.dtype(dtype).type(value))
    if not any(mark in text for mark in ".en"):
        text += ".0"
    return text + ("f" if dtype == "float32" else "")


def math_functions(kernels: Sequence[Kernel], dtype: str) -> str:
    """Return the source of the elementary functions that `kernels` call, or an empty string."""

    def number(value: float) -> str:
        return literal(value, dtype)

    view = elementary_view(kernels, dtype, number)
    if view is None:
        return ""
    suffix, bits = ("f", 32) if dtype == "float32" else ("", 64)
    own = dict(
        word=f"uint{bits}_t",
        fma=f"fma{suffix}",
        copysign=f"copysign{suffix}",
        one=number(1.0),
        root_half=number(0.5**0.5),
    )
    return f"typedef int{bits}_t integer;\n" + render("c/math.h.j2", view | own)


def lines(kernel: Kernel, dialect: CDialect) -> tuple[str, ...]:
    """Return the body of `kernel` as C statements; its results are references."""
    results = kernel.result_names(*ROLES)

    def statement(let: Let) -> list[str]:
        kind = "const bool " if let.target.type is BOOL else "const real "
        declared = "" if let.target.name in results else kind
        return [f"{declared}{let.target.name} = {expr.text(let.value, dialect)};"]

    return expr.statements(kernel.phases(), "//", statement)


# Words that have a meaning in C, C++ or CUDA, so that no name of a neuron may be one of them.
#
# C and C++ programs include the generated headers, so the keywords of both count. A macro replaces
# a name wherever it occurs. Functions and types of libraries do not count: a variable may hide
# them. No name of a neuron begins with `_`, so the table lacks such words.


C = frozenset(
    """alignas alignof asm auto bool break case char const constexpr continue default do double else
    enum extern false float for goto if inline int long nullptr register restrict return short
    signed sizeof static static_assert struct switch thread_local true typedef typeof typeof_unqual
    union unsigned void volatile while""".split()
)
"""Keywords of C23, and `asm` of GNU C."""

CPP = frozenset(
    """and and_eq bitand bitor catch char16_t char32_t char8_t class co_await co_return co_yield
    compl concept const_cast consteval constinit decltype delete dynamic_cast explicit export friend
    mutable namespace new noexcept not not_eq operator or or_eq private protected public
    reinterpret_cast requires static_cast template this throw try typeid typename using virtual
    wchar_t xor xor_eq""".split()
)
"""Keywords of C++20 that C lacks."""

CUDA = frozenset({"blockDim", "blockIdx", "gridDim", "threadIdx", "warpSize"})
"""Variables of every CUDA kernel."""

_MACROS = (
    # stdint.h and limits.h
    r"U?INT(MAX|PTR|(_FAST|_LEAST)?(8|16|32|64))?_(MAX|MIN|WIDTH)",
    r"(BOOL|[SU]?CHAR|U?SHRT|U?L?LONG|U?LONG_LONG|S?SIZE|PTRDIFF|SIG_ATOMIC|WCHAR|WINT)_(MAX|MIN)",
    r"(BOOL|[SU]?CHAR|U?SHRT|U?L?LONG|S?SIZE|PTRDIFF|SIG_ATOMIC|WCHAR|WINT)_WIDTH",
    r"(CHAR|LONG|WORD)_BIT|MB_LEN_MAX|MAX_(CANON|INPUT)|NZERO|PIPE_BUF|PTHREAD_[A-Z_]+|NL_[A-Z]+",
    r"(AIO_PRIO_DELTA|CHARCLASS_NAME|COLL_WEIGHTS|DELAYTIMER|EXPR_NEST|HOST_NAME|IOV|LINE)_MAX",
    r"(BC_[A-Z]+|LOGIN_NAME|MQ_PRIO|NAME|NGROUPS|PATH|RE_DUP|RTSIG|SEM_VALUE|TTY_NAME)_MAX",
    r"XATTR_[A-Z]+_MAX",
    # math.h
    r"M_(1_PI|2_PI|2_SQRTPI|E|LN10|LN2|LOG10E|LOG2E|PI|PI_2|PI_4|SQRT1_2|SQRT2)(f|l|f\d+x?)?",
    r"HUGE(_VAL([FL]|_F\d+X?)?)?|S?NAN(L|F(\d+X?)?)?|INFINITY|MAXFLOAT|FP_[A-Z]\w*|MATH_ERR[A-Z]+",
    r"math_errhandling|DOMAIN|OVERFLOW|PLOSS|SING|TLOSS|UNDERFLOW|X_TLOSS",
    # stdio.h, stdlib.h and errno.h
    r"BUFSIZ|EOF|(FILENAME|FOPEN|RAND|TMP)_MAX|L_(ctermid|cuserid|tmpnam)|P_tmpdir|RENAME_[A-Z]+",
    r"SEEK_[A-Z]+|stderr|stdin|stdout|errno|EXIT_(FAILURE|SUCCESS)|MB_CUR_MAX|NULL|FD_SETSIZE",
    r"NFDBITS|W(CONTINUED|EXITED|NOHANG|NOWAIT|STOPPED|UNTRACED)|(BIG|LITTLE|PDP)_ENDIAN|BYTE_ORDER",
    # time.h
    r"(ADJ|CLOCK|MOD|STA)_[A-Z][A-Z\d_]*|CLK_TCK|CLOCKS_PER_SEC|TIMER_ABSTIME|TIME_UTC",
    # compilers in their default mode
    r"linux|unix|i386",
)
_CUDA_MACROS = r"CUDA\w*|CU_\w+|NV_[A-Z]\w*|cuda[A-Z]\w*"


def c_meaning(word: str) -> str:
    """Return the meaning of a word in C or C++: "a keyword of C"; an empty string for none."""
    if word in C:
        return "a keyword of C"
    if word in CPP:
        return "a keyword of C++"
    return "a macro of C or of its library" if re.fullmatch("|".join(_MACROS), word) else ""


def cuda_meaning(word: str) -> str:
    """Return the meaning of a word in CUDA C++; an empty string for none."""
    if word in CUDA:
        return "a variable of CUDA"
    return "a macro of CUDA" if re.fullmatch(_CUDA_MACROS, word) else c_meaning(word)
