"""ODE texts that no author writes: a corpus, and strategies of hypothesis."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

LIF = "dv/dt = (x - v)/tau : 1"

EXPRESSIONS = (
    "9**9**9**9", "9**9**9", "v**9**9", "v**(10**10)", "(-1)**(1/3)", "1e308*10", "1e400",
    "1e-400", "9" * 500, "0." + "1" * 400, "1/0", "1/(v-v)", "0**-1", "v**v**v**v",
    "exp(exp(exp(exp(99))))", "exp(1e300)", "exp(9**9)", "sin(1e300*v)", "tanh(tanh(v**0.123))",
    "sin(tanh(v**0.123))", "abs(tanh(exp(0.123*v)))", "sqrt(sqrt(sqrt(sqrt(sqrt(2)))))",
    "v**0.123456789", "exprel(exprel(exprel(v)))", "exprel(1e-300*v)", "exprel(0)",
    "exprel(9**60)", "log(0)", "log(-1)", "sqrt(-1)", "int(v)", "int(v > 0)", "int(1 > 0)",
    "where(v, 1, 2)", "clip(v)", "clip(v, 1, 2, 3)", "__import__('os').system('true')",
    "__class__", "v.__class__", "().__class__", "eval('1')", "exec(v)", "open(v)", "lambda: v",
    "[v for v in v]", "{v}", "(v := 3)", "v if v else v", "f'{v}'", "'a'*99", "v[0]", "v()", "*v",
    "**v", "not v", "v and v", "v or", "v is v", "v in v", "v == v", "v < v < v", "v @ v",
    "v // v", "v % v", "v << 9**9", "~v", "v ^ v", "print(v)", "lnm", "self", "import os", "True",
    "None", "Ellipsis", "...", "1j", "0x10", "1_0", "0777", "1__0", "1.e", "..1", "v\x00",
    "v\u00e9", "\u202ev", "\uff11", "v\u2028v", "v\x0bv", "\u212b", "v" * 3000, "-" * 3000 + "v",
    "+".join("v" * 900), "*".join("v" * 900), "/".join("v" * 900),
    "-".join(["(v"] * 25) + ")" * 25, "(" * 25 + "v" + ")" * 25, "(" * 200 + "v" + ")" * 200,
    "(" * 1900 + ")" * 1900, "((((", "))))", "abs(" * 20 + "v" + ")" * 20,
    "exp(" * 20 + "v" + ")" * 20, "tanh(" * 28 + "v" + ")" * 28, "min(v, " * 20 + "v" + ")" * 20,
    "clip(" * 8 + "v" + ", v, v)" * 8, "exprel(" * 8 + "v" + ")" * 8, "(v + 1)**64",
    "((v + 1)**8)**8", "(((v + x)**30 + 1)**30 + 1)**30", "(v+1)**(1/3)", "2**v**2",
    "(" * 9 + "v" + "+1)**2" * 9, "1/(" * 12 + "v" + ")" * 12, "sin(" * 9 + "v" + ")**2" * 9, "xi",
    "xi*xi", "xi_1", "t", "dt", "dt**-40", "i", "N", "e", "inf", "-inf", "nan", "pi**pi**pi",
    "rand()", "poisson(3)", "where(v > 0, v, where(v > 1, v, 1))", "sign(v)*abs(v)",
    "exp(-v)/expm1(v)", "x*mV", "mV**99999", "mV**9**9", "(mV*ms)**(1/97)", "v*mV", "v**mV",
    "exp(mV)", "mV > ms", "log10(v)/tan(v)", "where(v > 0 and x > 0 or not (v < 1), 1, 0)",
    "clip(v, 0, 1)*clip(x, 0, 1)", "stop_gradient(v)*v", "sign(pi)", "exp(0**0)", "min(pi, 3)*ms",
    "exp(1e9*v)", "exp(v + 1e300*log(2))", "exp(1e300*log(3*v))", "exp(1e9*v)**(log(2)/v)",
    "exp(1e300*v)**64", "sinh(1e300*log(3*v))", "exp(1)**(v + 1e9*log(2))", "2**(1e9*v)",
)  # fmt: skip
"""Right sides of dv/dt."""

TEXTS = (
    "", " ", "\n" * 5000, ":", "::", "=", "#", "\\", "dv/dt", "dv/dt =", "dv/dt = : 1",
    "dv/dt = v", "dv/dt = -v : ", "dv/dt = -v : 1 (", "dv/dt = -v : 1 )",
    "dv/dt = -v : 1 (a, b, (c))", "dv/dt = -v : 1 (unless refractory, unless refractory)",
    "dv/dt = -v : 1 (event-driven)", "dv/dt = -v : volt**9**9", "dv/dt = -v : volt/0",
    "dv/dt = -v : (1)", "dv/dt = -v : exp(1)", "dv/dt = -v : 1/volt/volt*metre2**-0.5",
    "dv/dt = -v : v", "dv/dt = -v : boolean", "dv/dt = -v : 1\ndv/dt = -v : 1",
    "dv/dt = a : 1\na = b : 1\nb = a : 1", "dv/dt = a : 1\na = a : 1",
    "dv/dt = -v : 1; dw/dt = -w : 1", "dv/dx = -v : 1", "dv/dt = -v : 1\n" + "x" * 19_000,
    "d/dt = 1 : 1", "ddt/dt = 1 : 1", "dt/dt = 1 : 1", "dd/dt = -d : 1", "d__v/dt = 1 : 1",
    "d__import__/dt = 1 : 1", "dv/dt = -v : 1\n__class__ : 1", "dlambda/dt = 1 : 1",
    "dexp/dt = 1 : 1", "dv/dt=-v:1#" + "\u2603" * 50, "dv/dt = -v \\\n: 1", "\ufeffdv/dt = -v : 1",
    "dv/dt = -v : 1\r", "dv/dt\t=\t-v\t:\t1", "dv/dt = -v\n\n\n+x : 1", "\x00", "\x00" * 9000,
    "dv/dt = \ud800 : 1", "\n".join(f"dv{i}/dt = -v{i} : 1" for i in range(3000)),
    "\n".join(f"dv{i}/dt = -v{i} : 1" for i in range(100)),
    "\n".join(f"dv{i}/dt = -v{i} + v{(i + 1) % 100} : 1" for i in range(100)),
    "\n".join(f"dv{i}/dt = {'+'.join(f'v{j}' for j in range(20))} : 1" for i in range(20)),
    *(
        "dv/dt = a90 : 1\na0 = v : 1\n"
        + "\n".join(f"a{i} = {form.format(f'a{i - 1}')} : 1" for i in range(1, 91))
        for form in ("{0}*{0}", "{0}*x + {0}", "exp({0})", "where(x > 0, {0}, 2*{0})", "tanh({0})")
    ),
    "\n".join(f"dv{i}/dt = {'+'.join(f'x*v{j}' for j in range(35))} : 1" for i in range(70)),
    "\n".join(f"dv{i}/dt = {'exprel(' * 8}v0 + x{')' * 8} : 1" for i in range(100)),
    "\n".join(f"dv{i}/dt = a49 + v{i} : 1" for i in range(50))
    + "\na0 = v0 + v1 : 1\n"
    + "\n".join(f"a{i} = a{i - 1} + v{i}*x : 1" for i in range(1, 50)),
    "dv/dt = " + "+".join(f"v*x{i}*y{i}" for i in range(300)) + " : 1",
    "\n".join(f"p{i} : 1" for i in range(99)) + "\ndv/dt = -v : 1",
)  # fmt: skip
"""Whole texts."""

_PIECES = [
    "v", "x", "w", "tau", "I", "0", "1", "2.5", "1e300", "9**9", "10*mV", "ms", "pi", "dt", "xi",
    "t", "+", "-", "*", "/", "**", "(", ")", ",", "<", ">", ">=", "==", " and ", " or ", "not ",
    "exp(", "sin(", "abs(", "exprel(", "where(", "clip(", "int(", "sqrt(", "min(", "tanh(", "log(",
    ":", "=", "\n", "#", "__", "dv/dt", "dw/dt", "[", "]", "'", ".", "volt", "amp", "second",
    " : 1\n", "(constant)", "\\", "(unless refractory)", "\x00", "\u00b5", "a", "b",
]  # fmt: skip
_OPERATORS = ["+", "-", "*", "/", "**", "<", ">", " and ", " or "]
_CALLS = "exp sin abs exprel tanh sqrt log sign int sinh f __import__".split()


def _grown(children: Any) -> Any:
    return st.one_of(
        st.tuples(children, st.sampled_from(_OPERATORS), children).map("".join),
        st.tuples(children, st.sampled_from(_OPERATORS), children).map(lambda p: f"({''.join(p)})"),
        st.tuples(st.sampled_from(_CALLS), children).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(children, children, children).map(lambda p: f"where({p[0]} > 0, {p[1]}, {p[2]})"),
        st.tuples(children, children, children).map(lambda p: f"clip({', '.join(p)})"),
    )


_LEAVES = st.sampled_from([*("v", "w", "x", "tau", "a", "1") * 3, "0", "0.3", "1e9", "mV", "pi"])
_EXPRESSIONS = st.recursive(_LEAVES, _grown, max_leaves=14)

_SOUP = st.lists(st.sampled_from(_PIECES), max_size=40).map("".join)
_CHARACTERS = st.text(st.one_of(st.sampled_from(string.printable), st.characters()), max_size=60)

texts = st.one_of(
    _SOUP,
    _CHARACTERS,
    _SOUP.map(lambda s: f"dv/dt = {s} : 1"),
    _EXPRESSIONS.map(lambda e: f"dv/dt = {e} : 1"),
    st.tuples(_EXPRESSIONS, _EXPRESSIONS, _EXPRESSIONS).map(
        lambda p: f"dv/dt = {p[0]} : 1\ndw/dt = {p[1]} : 1\na = {p[2]} : 1 (constant over dt)"
    ),
    st.tuples(_EXPRESSIONS, _EXPRESSIONS).map(lambda p: f"dv/dt = {p[0]} : 1\na = {p[1]} : 1"),
)
"""Texts of equations: soup of pieces, characters, and expressions of the grammar."""

conditions = st.one_of(_SOUP, _EXPRESSIONS, _EXPRESSIONS.map(lambda e: f"v > {e}"))
"""Texts of thresholds and refractory periods."""

resets = st.one_of(
    _SOUP, _EXPRESSIONS.map(lambda e: f"v = {e}"), _EXPRESSIONS.map(lambda e: f"v -= {e}; v *= 2")
)
"""Texts of resets."""


def corpus() -> list[str]:
    """Return the texts of the corpus."""
    return [*TEXTS, *(f"dv/dt = {e} : 1" for e in EXPRESSIONS)]
