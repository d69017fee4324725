"""Text definitions: their meaning, their refusals, and that no text runs."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.files import MAX_BYTES
from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.bounds import MAX_LENGTH
from lnm_codegen.language.text.definition import load, read
from lnm_codegen.language.text.expression import FUNCTIONS, parse
from tests.refusals import assert_refused, refused

DOCS = Path(__file__).parents[3] / "docs" / "definitions.md"

LIF = """\
name = "my_lif"
inputs = ["x"]
fire = "v - v_threshold"
[states.v]
[params.tau]
init = 2.0
[params.v_threshold]
init = 1.0
learnable = false
[charge]
v = "v + (x - v)/tau"
[reset]
v = "where(spike, 0, v)"
"""

CALLS = "exp, log, sqrt, tanh, sigmoid, sin, cos, abs, min, max, clip, where, poly, stop_gradient"
GRAMMAR = (
    "numbers, declared names, theta[2], pi, + - * / **, comparisons joined by & | ~, and " + CALLS
)
CONDITION = "a comparison such as v > 0, or a spike"
EXPRESSION = 'an expression in quotes, such as "v - 1"'
KEYS = "name, inputs, fire, output, surrogate, detach_reset, states, params, bound, charge, reset"
SURROGATES = (
    "atan, sigmoid, rectangle, triangle, fast_sigmoid, soft_sign, erf, piecewise_exponential,"
    " multi_gaussian, straight_through"
)
SURROGATE = f"{SURROGATES}, or a table"


def examples() -> dict[str, str]:
    """Return the definitions that the documentation shows, by the name of the neuron."""
    texts = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return {text.split('"')[1]: text for text in texts}


@lnm.family
def synapse() -> lnm.Neuron:
    """The two-state example of the documentation, in Python."""
    current, v, x = lnm.state("current"), lnm.state("v"), lnm.input("x")
    d_c, d_v = lnm.param("current_decay", init=0.5), lnm.param("voltage_decay", init=0.75)
    up, down = lnm.spike_named("up"), lnm.spike_named("down")
    new = current * d_c + x
    half = Fraction(1, 2)
    return lnm.Neuron(
        charge={current: new, v: v * d_v + new},
        fire={up: v - half, down: -v - half},
        reset={v: lnm.where(up, 0, lnm.where(down, 0, v))},
        output={"out": up - down, "potential": v},
        surrogate=lnm.surrogate.rectangle(alpha=1.0),
    )


TWINS = {
    "my_lif": lambda: lnm.get("lif", learn_tau=True),
    "my_lnm": lambda: lnm.get("lnm", degree=3, v_reset=None, detach_reset=True, per="channel"),
    "my_synapse": synapse,
}


def test_documentation_has_the_examples() -> None:
    """Every example of the documentation has a twin here."""
    assert set(examples()) == set(TWINS)


@pytest.mark.parametrize("name", TWINS)
def test_examples_agree_with_the_built_in_families(name: str, tmp_path: Path) -> None:
    """Outputs, states and gradients of a loaded example equal its Python twin's, bit for bit."""
    file = tmp_path / f"{name}.toml"
    file.write_text(examples()[name], encoding="utf-8")
    text, twin = lnm.load(str(file)), TWINS[name]()
    assert text.name == name
    assert text.params == twin.params
    assert [s.name for s in text.symbols] == [s.name for s in twin.symbols]
    assert [s.decl for s in text.states] == [s.decl for s in twin.states]
    rng = np.random.default_rng(0)
    x_seq, grad = rng.normal(0.5, 1.0, (2, 6, 2, 3))
    gradients = (grad,) * len(twin.output)
    a, b = (lnm.interpret(n, x_seq, grad_out=gradients) for n in (text, twin))
    assert any(np.any(out == 1) for out in a.outputs.values())
    for mine, other in (
        (a.outputs, b.outputs),
        (a.states, b.states),
        (a.grads, b.grads),
    ):
        assert list(mine) == list(other)
        for key in mine:
            np.testing.assert_array_equal(mine[key], other[key])


# What each key means.


def definition(
    *,
    top: str = 'fire = "v - 1"',
    charge: str = "v/2 + x",
    reset: str = "",
    tables: str = "",
    inputs: str = '["x"]',
) -> str:
    """Return a small definition, with more of something."""
    reset = f'[reset]\nv = "{reset}"\n' if reset else ""
    return (
        f'name = "n"\ninputs = {inputs}\n{top}\n[states.v]\n{tables}\n[charge]\n'
        f"v = '''{charge}'''\n{reset}"
    )


def test_order_and_learned_initial_values() -> None:
    """Declarations keep their order, wherever expressions name them; a state may name a scalar."""
    neuron = read(
        """
name = "n"
inputs = ["y", "x"]
fire = "a + b"
states.b.init = "start"
states.a.init = 0.5
params.q.init = 1.0
params.start = {init = 0.25, per = "channel"}
params.p.init = 1.0
charge = {a = "a*p + x", b = "b*q + y"}
""",
        "f",
    )
    assert [(s.name, s.decl.param, s.decl.init) for s in neuron.states] == [
        ("b", "start", 0.25), ("a", "", 0.5),
    ]  # fmt: skip
    assert [s.name for s in neuron.inputs] == ["y", "x"]
    assert [p.name for p in neuron.params] == ["q", "start", "p"]
    assert [p.name for p in neuron.step_params] == ["q", "p"]
    x = np.ones((1, 1, 2))
    found = lnm.interpret(neuron, x, x, start=[0.0, 1.0], grad_state={"b": [[1.0, 3.0]]})
    assert found.states["b"].tolist() == [[1.0, 2.0]]
    assert found.grads["start"].tolist() == [1.0, 3.0]


def test_keys() -> None:
    """What a definition leaves out is what the docstring says; vectors, outputs, surrogates."""
    neuron = read(definition(charge="v*p + x", tables="[params.p]"), "f")
    assert neuron.params == (Param("p", None, 0.0, True, "layer"),)
    assert neuron.states[0].decl == lnm.state("v", init=0.0).decl
    assert neuron.detach_reset is False
    for size, more, init, charge in (
        (3, 'init = [1, 2, 3]\nper = "neuron"\nlearnable = false', (1.0, 2.0, 3.0),
         "theta[0]*v + theta[2]*x"),
        (2, "init = 0.5", 0.5, "poly(v, theta) + x"),
    ):  # fmt: skip
        tables = f"[params.theta]\nsize = {size}\n{more}"
        (theta,) = read(definition(charge=charge, tables=tables), "f").params
        assert (theta.size, theta.init) == (size, init)
        assert (theta.learnable, theta.per) == ((False, "neuron") if size == 3 else (True, "layer"))
    for top, names in (
        ('fire = "v"', ["spike"]), ('output = "2*v"', ["out"]),
        ('fire = "v"\noutput = "spike"', ["spike"]),
        ('fire = "v"\noutput = {a = "v", b = "spike"}', ["a", "b"]),
    ):  # fmt: skip
        assert [n for n, _ in read(definition(top=top), "f").output] == names
    for text, wanted in (
        ("", lnm.surrogate.atan()),
        ('surrogate = "sigmoid"', lnm.surrogate.sigmoid()),
        ('surrogate = {kind = "atan", alpha = 3}', lnm.surrogate.atan(alpha=3)),
        ('surrogate.spike = "erf"', lnm.surrogate.erf()),
        ('surrogate.spike = {kind = "erf", alpha = 0.1}', lnm.surrogate.erf(alpha=0.1)),
    ):
        neuron = read(definition(top=f'fire = "v - 1"\n{text}'), "f")
        assert neuron.surrogates == (("spike", wanted),)


def test_a_power_of_e_is_no_root(tmp_path: Path) -> None:
    """exp(-1/20), of any denominator; `lnm.load` reads back what `to_toml` writes."""
    neuron = lnm.ode(
        "dv/dt = (x - v)/(20*ms) : 1", dt="1*ms", method="exact", threshold="v > 1", reset="v = 0"
    )
    file = tmp_path / "n.toml"
    file.write_text(neuron.to_toml())
    assert "exp(-0.05)" in file.read_text()
    assert str(lnm.lower(lnm.load(str(file)))) == str(lnm.lower(neuron))


def test_a_state_set_by_reset_alone() -> None:
    """Reset may remember the last spike, which charge then reads as a state."""
    text = definition(charge="v/2 + x - s_prev", tables="[states.s_prev]")
    neuron = read(text + '[reset]\ns_prev = "spike"\n', "f")
    out = lnm.interpret(neuron, [[1.0], [1.0], [1.0]]).out
    assert out.ravel().tolist() == [1.0, 0.0, 1.0]


def test_bom_and_windows_line_ends(tmp_path: Path) -> None:
    """A file saved by a Windows editor loads."""
    file = tmp_path / "my_lif.toml"
    file.write_bytes(b"\xef\xbb\xbf" + LIF.replace("\n", "\r\n").encode())
    assert load(file).name == "my_lif"


# What an expression means.

V, W, X = lnm.state("v"), lnm.state("w"), lnm.input("x")
THETA = lnm.param("theta", size=3)
NAMES: dict[str, Any] = {"v": V, "w": W, "x": X, "theta": THETA, "spike": lnm.spike}


EXPRESSIONS = [
    ("0.1", sympy.Rational(1, 10)),
    ("0.10000000000000000000001", sympy.Rational(10**22 + 1, 10**23)),
    ("1e-3", sympy.Rational(1, 1000)),
    ("1_000", sympy.Integer(1000)),
    ("0x10", sympy.Integer(16)),
    ("0e999999999", sympy.Integer(0)),
    ("pi*v", sympy.pi * V),
    ("v - w - x", V - W - X),
    ("v / 2 / x", V / 2 / X),
    ("-v**2", -(V**2)),
    ("2**-1*v", V / 2),
    ("v**2**3", V**8),
    ("v +\n  x\n", V + X),
    ("theta[0]*v + theta[2]", THETA[0] * V + THETA[2]),
    *((f"{f}(v)", FUNCTIONS[f](V)) for f in list(FUNCTIONS)[:8]),
    ("min(v, x)", lnm.min(V, X)),
    ("max(v, 0)", lnm.max(V, 0)),
    ("clip(v, -1, 1)", lnm.clip(V, -1, 1)),
    ("poly(v, theta)", lnm.poly(V, THETA)),
    ("poly(v + x, [0, theta[1], 0.5])", lnm.poly(V + X, [0, THETA[1], 0.5])),
    ("where(spike, 0, v)", lnm.where(lnm.spike, 0, V)),
    *(
        (f"where({text}, v, x)", lnm.where(condition, V, X))
        for text, condition in (
            ("v < 1", V < 1), ("v <= 1", V <= 1), ("v > 1", V > 1), ("v >= 1", V >= 1),
            ("v == w", sympy.Eq(V, W)), ("v != w", sympy.Ne(V, W)),
            ("(v > 0) & (x > 0)", (V > 0) & (X > 0)), ("v > 0 and x > 0", (V > 0) & (X > 0)),
            ("(v > 0) | ~(x == 0)", (V > 0) | sympy.Ne(X, 0)),
            ("v > 0 or not x == 0", (V > 0) | sympy.Ne(X, 0)),
            ("0 < v < 1", (sympy.Integer(0) < V) & (V < 1)),
        )
    ),
    ("where(1 < 2, v, x)", V),
    ("spike*v", lnm.spike * V),
    ("v*stop_gradient(v - x)", V * lnm.stop_gradient(V - X)),
    ("stop_gradient(spike)", lnm.stop_gradient(lnm.spike)),
    ("+".join(["v"] * 400), 400 * V),
]  # fmt: skip


def test_expressions() -> None:
    """An expression is the SymPy expression that Python makes of the same text."""
    for text, wanted in EXPRESSIONS:
        assert parse(text, NAMES, "here") == wanted, text


REFUSED_EXPRESSIONS = """
here >> GRAMMAR
    v + >> 'v +' is not an expression
    v x >> 'v x' is not an expression
    1or v >> '1or v' is not an expression
    v # x >> the character '#' in 'v # x' is not of the grammar
    τ*v >> the character 'τ' in 'τ*v' is not of the grammar
    v\0 >> the character '\\x00' in 'v\\x00' is not of the grammar
    v.real >> 'v.real' is not of the grammar
    lambda: 0 >> 'lambda: 0' is not of the grammar
    [v for v in x] >> '[v for v in x]' is not of the grammar
    (y := v) >> 'y := v' is not of the grammar
    v % 2 >> 'v % 2' is not of the grammar
    v // 2 >> 'v // 2' is not of the grammar
    x + True >> 'True' is not of the grammar
    2j >> '2j' is not of the grammar
    where(v is w, v, x) >> 'v is w' is not of the grammar
    v^2 >> the operator '^' in 'v^2' >> >> Did you mean '**'?
    v if x > 0 else 0 >> 'v if x > 0 else 0' is a conditional expression >>
        >> Use where(condition, a, b).
    vw >> unknown name 'vw' >> spike, theta, v, w, x >> Did you mean 'w'?
    exp >> 'exp' is a function >> >> Write exp(...).
    relu(v) >> no function 'relu' >> CALLS
    expp(v) >> no function 'expp' >> CALLS >> Did you mean 'exp'?
    exp(v, x) >> 'exp(v, x)' has 2 arguments >> exp(a)
    clip(v, 1) >> 'clip(v, 1)' has 2 arguments >> clip(a, low, high)
    exp(a=v) >> 'exp(a=v)' has arguments by name or by * >> exp(a)
    exp(*theta) >> 'exp(*theta)' has arguments by name or by * >> exp(a)
    theta*v >> 'theta' is a vector >> theta[0] to theta[2], or poly(z, theta)
    theta[3] >> 'theta[3]' is not an element >> an integer from 0 to 2 as index
    theta[-1] >> 'theta[-1]' is not an element >> an integer from 0 to 2 as index
    theta[v] >> 'theta[v]' is not an element >> an integer from 0 to 2 as index
    theta[0:2] >> 'theta[0:2]' is not an element >> an integer from 0 to 2 as index
    v[0] >> 'v[0]' is not an element >> elements of a vector parameter
    poly(v, x) >> 'x' in poly is not a sequence of coefficients >> a vector parameter, or a list
        [a, b, c] of at most 65
    v > 0 >> 'v > 0' is a condition, not a number >> >> Use where(condition, a, b).
    where(v, 0, 1) >> 'v' is not a condition >> CONDITION
    where(v > 0 & x > 0, 0, 1) >> '0' is not a condition >> CONDITION
        >> Put each comparison in parentheses: (a < b) & (c < d).
    where(spike & (v > 0), 0, 1) >> the spike 'spike' is joined to a condition
        >> comparisons, or one spike alone in where >> Write one where inside another.
    v/0 >> 'v/0' divides by zero >>
    1/(v - v) >> '1/(v - v)' divides by zero >>
    (-2)**v >> '(-2)**v' is not a real number for every exponent
        >> a base > 0, or an integer exponent
here >> 0, and sizes from 2.3e-308 to 1.7e308
    v*sqrt(-1) >> 'sqrt(-1)' holds a constant that is not a real number of a float64
    log(0) >> 'log(0)' holds a constant that is not a real number of a float64
    exp(exp(exp(exp(9)))) >> 'exp(exp(9))' holds a constant that is not a real number of a float64
    where(exp(exp(exp(exp(9)))) > 1, v, x) >> 'exp(exp(9))' holds a constant that is not a real
    1e400 >> the number '1e400' is out of range >> 0, and magnitudes of 2.3e-308 to 1.7e308
    1e-999999999 >> the number '1e-999999999' is out of range >> 0, and magnitudes of 2.3e-308
here >> -64 to 64
    9**9**9 >> the exponent in '9**9**9' is too large
    (v**64)**64 >> the exponent in '(v**64)**64' is too large
    (2**(1000/pi))**(1e30*pi) >> the exponent in '2**(1000/pi)' is too large
    exp(1e300*log(2)) >> the exponent in 'exp(1e300*log(2))' is too large >> -10000 to 10000
    exp(1)**(v + 1e9*log(2)) >> the exponent in 'exp(1)**(v + 1e9*log(2))' holds a number that is
        too large >> -10000 to 10000, or exp(b*log(a)) for a**b
    sqrt(1 - 0.5**1e-300) >> the exponent in '0.5**1e-300' has too many digits
        >> three decimals, a fraction over at most 1000, or exp(b*log(a)) for a**b
    2**0.25 + 3**0.25 >> '2**0.25 + 3**0.25' holds a constant with roots of too high a degree >>
        >> Write its decimal value.
"""


@pytest.mark.timeout(60)
def test_refused_expressions() -> None:
    """A text outside the grammar, or too costly, is refused at once."""
    assert_refused(REFUSED_EXPRESSIONS, globals(), run=lambda text: parse(text, NAMES, "here"))
    for text, *parts in (
        ("", "the expression is empty", GRAMMAR),
        ("(" * 300 + ")" * 300, "((((...' is not an expression", GRAMMAR),
        ("abs(" * 20 + "v" + ")" * 20, "'abs(abs(abs(abs(abs(abs(v))))))' has more than 2000 terms",
         "", "Split the expression."),
        ("-" * 99 + "v", "----...' is nested more than 30 deep", "", "Split the expression."),
        ("v" * (MAX_LENGTH + 1), "the expression has 4001 characters", "at most 4000"),
    ):  # fmt: skip
        with refused(lnm.ModelError, "here", *parts):
            parse(text, NAMES, "here")


# Refused files.


def changed(old: str, new: str) -> lnm.Neuron:
    """Read the LIF definition with one passage replaced."""
    assert old in LIF
    return read(LIF.replace(old, new, 1), "my.toml")


def above(lines: str) -> lnm.Neuron:
    """Read the LIF definition with more lines before its states."""
    return changed("[states.v]", f"{lines}\n[states.v]")


def state(text: str) -> lnm.Neuron:
    return changed("[states.v]", f"[states.v]\n{text}")


def tau(text: str) -> lnm.Neuron:
    return changed("init = 2.0", text)


def charge(text: str) -> lnm.Neuron:
    return changed('v = "v + (x - v)/tau"', text)


START = "a finite number, or a scalar parameter: tau, v_threshold"
NAME = 'a name in quotes, such as "my_lif"'
ABOVE = "Write 'output' above the first [table] line; it belongs to no table."
REFUSED_FILES = r"""
my.toml
    read("name = ", "my.toml") >> not TOML: Invalid value (at end of document)
    read("[a]\n[a]", "my.toml") >> not TOML: Cannot declare ('a',) twice (at line 2, column 3)
    changed("[states.v]", "[state.v]") >> unknown key 'state' >> KEYS >> Did you mean 'states'?
my.toml: name >> an identifier
    read("", "my.toml") >> missing >> NAME
    read("name = 3", "my.toml") >> the value is 3 >> NAME
    changed("my_lif", "") >> the value is ''
    changed("my_lif", "my lif") >> the value is 'my lif'
my.toml: states.v.init >> START
    state('init = "2"') >> the value is '2'
    state('init = "v"') >> the value is 'v'
    state('init = "x"') >> the value is 'x'
    state("init = nan") >> the value is nan >> a finite number
    state("init = true") >> the value is True >> a finite number
my.toml: params.tau.init >> a finite number
    tau('init = "2"') >> the value is '2'
    tau(f"init = {10**400}") >> the value is 1000
    tau("init = [1, 2]") >> the value is [1, 2] >> a finite number >> Give size too.
    tau("size = 3\ninit = [1, 2]") >> the value is [1, 2] >> a finite number, or a list of 3
my.toml: my_lif
    changed("[params.tau]", "[params.unused]\n[params.tau]")
        >> 'unused' is declared but no expression reads it >>
        >> Use it or remove the declaration.
    changed("[states.v]", "[states.w]\n[states.v]") >> state 'w' is set by neither charge nor reset
        >> >> Give it an expression, or make it a parameter.
my.toml: surrogate >> SURROGATES
    above('surrogate = "arctan"') >> no surrogate 'arctan' >> SURROGATES >> Did you mean 'atan'?
    above("surrogate = 2") >> the value is 2 >> SURROGATE
    above('surrogate = {kind = "atan", alhpa = 2}') >> unknown key 'alhpa' >> kind, alpha
        >> Did you mean 'alpha'?
    read(definition(top='output = "v"\nsurrogate = "erf"'), "my.toml")
        >> given, but the neuron has no spike >> >> Remove it, or give fire.
my.toml: charge.v
    charge("v = 0") >> the value is 0 >> EXPRESSION
    charge('v = "v + (x - v)/tua"') >> unknown name 'tua' >> tau, v, v_threshold, x
        >> Did you mean 'tau'?
    charge('v = "v/tau + x - spike"') >> 'spike' is a spike, which only reset and output may read >>
        >> To read the spike of the previous step, store it in a state: [reset] s_prev = "spike"
?
    changed('fire = "v - v_threshold"', 'fire = "v > v_threshold"') >> my.toml: fire: 'v >
        v_threshold' is a condition, not a number >> >> Write v - 1 for v > 1: the neuron spikes
        where fire is >= 0.
    changed("my_lif", "class") >> my.toml: neuron 'class': the word is a keyword of Python >>
        >> Choose another name.
    read(LIF.replace("[states.v]", '[states.v]\ninputs = ["x"]').replace('inputs = ["x"]\n', "", 1),
        "my.toml") >> my.toml: states.v: unknown key 'inputs' >> init
        >> Write 'inputs' above the first [table] line; it belongs to no table.
    changed("[charge]\n", '[charge]\noutput = "v"\n') >> my.toml: charge: unknown key 'output' >> v
        >> ABOVE
    changed("learnable", "learnabel") >> my.toml: params.v_threshold: unknown key 'learnabel'
        >> size, init, learnable, per >> Did you mean 'learnable'?
    changed("learnable = false", "learnable = 0")
        >> my.toml: params.v_threshold.learnable: the value is 0 >> true or false
    tau("size = 1000000000") >> my.toml: params.tau.size: the value is 1000000000
        >> an integer from 1 to 65, or no size for a scalar
    tau('per = "chanel"') >> my.toml: parameter 'tau': per is 'chanel'
        >> 'layer', 'channel', 'neuron' >> Did you mean 'channel'?
    changed("[states.v]", "[states]\nv = 0.0") >> my.toml: states.v: the value is 0.0
        >> a table, [states.name]
    state("[states.pi]") >> my.toml: states: 'pi' is a function or constant of the expression
        language >> >> Choose another name.
    state("[states.x]") >> my.toml: inputs: 'x' is declared twice >> >> Rename one of them.
    state('[states."a b"]') >> my.toml: state 'a b': not an identifier
        >> letters, digits and '_', not beginning with a digit
    state('[states."a\\nb"]\nint = 1') >> my.toml: states.'a\nb': unknown key 'int' >> init
        >> Did you mean 'init'?
    changed('["x"]', '"x"') >> my.toml: inputs: the value is 'x' >> a list of names, such as ["x"]
    charge('w = "v/tau"') >> my.toml: charge: unknown key 'w' >> v
    read(LIF.replace('fire = "v - v_threshold"', "").replace("where(spike, 0, v)", "v"), "my.toml")
        >> my.toml: output: missing, and no spike is named 'spike'
        >> an expression in quotes, or [output] with a key per output
    above("[output]\nv = 1") >> my.toml: output.v: the value is 1 >> EXPRESSION
    above('detach_reset = "no"') >> my.toml: detach_reset: the value is 'no' >> true or false
    above("surrogate.alpha = 2") >> my.toml: surrogate.kind: missing >> SURROGATES
    above('surrogate.spike = {kind = "erf", alpha = "2"}')
        >> my.toml: surrogate.spike: alpha is '2' >> a finite number
    above('surrogate = {kind = "atan", alpha = -1.0}')
        >> my.toml: surrogate.atan: alpha is -1.0 >> a number > 0
    read(definition(top='fire = {up = "v", down = "-v"}\noutput = "up"\nsurrogate.up = "erf"'),
        "my.toml") >> my.toml: surrogate.down: missing >> one for every spike
"""


def test_refused_files() -> None:
    assert_refused(REFUSED_FILES, globals())


def test_files_refused(tmp_path: Path) -> None:
    """An unreadable file is one error."""
    file, fifo = tmp_path / "n.toml", tmp_path / "fifo.toml"

    def refuses(path: Any, problem: str, accepted: str = "", remedy: str = "") -> None:
        with refused(lnm.ModelError, path, problem, accepted, remedy):
            load(path)

    there = "Give the path of a TOML file."
    refuses(file, "no such file", remedy=there)
    refuses(tmp_path, "a directory", remedy=there)
    refuses(file / "m.toml", "no such file", remedy=there)
    file.write_bytes(b'name = "\xff"')
    refuses(file, "not UTF-8 text (byte 8)", remedy="Save the file as UTF-8.")
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    refuses(file, "the file is too large", "at most 65536 bytes")
    refuses(file / "m.toml", "cannot be read: Not a directory", remedy=there)
    for text in ("a = " + "[" * 9000, "a = 1" + "0" * 5000):
        file.write_text(text, encoding="utf-8")
        refuses(file, "not TOML: ")
    with refused(lnm.ModelError, "'a\\x00b.toml'", "not a path: embedded null byte"):
        load("a\0b.toml")
    with refused(lnm.ModelError, "load", "path is 3", "the path of a TOML file"):
        load(3)  # type: ignore[arg-type]
    os.mkfifo(fifo)
    refuses(fifo, "not a regular file", remedy=there)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file(tmp_path: Path) -> None:
    """A file without permission says so."""
    file = tmp_path / "n.toml"
    file.write_text(LIF, encoding="utf-8")
    file.chmod(0)
    with refused(lnm.ModelError, file, "cannot be read: Permission denied"):
        load(file)


# Text from anywhere.

ATTACKS = (
    "__import__('os').system('touch {}')",
    '__import__("os").system("touch {}")',
    "eval('open({!r}, chr(119))')",
    "open(chr(47))",
    "exec(v)",
    "().__class__.__base__.__subclasses__()",
    "v.__class__",
    "theta.__class__[0]",
    "exp.__globals__",
    "(lambda: 0)()",
    "[exp(v) for v in theta][0]",
    "f'{{__import__(1)}}'",
    "globals()[0]",
    "where(breakpoint() > 0, v, x)",
    "getattr(v, x)",
    "exp(__import__)",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_code_is_refused(attack: str, tmp_path: Path) -> None:
    """Text that would be code in Python is refused, in every place, and has no effect."""
    canary = tmp_path / "canary"
    text = attack.format(canary)
    with pytest.raises(lnm.ModelError, match=r"^f: charge\.v: "):
        read(definition(charge=text), "f")
    if '"' not in text:
        for top in (f'fire = "{text}"', f'output = "{text}"'):
            with pytest.raises(lnm.ModelError, match=r"^f: "):
                read(definition(top=top), "f")
        with pytest.raises(lnm.ModelError, match=r"^f: name: "):
            read(LIF.replace("my_lif", text), "f")
    assert list(tmp_path.iterdir()) == []


WORDS = (
    *FUNCTIONS, *NAMES, "pi", "0", "1", "2", "0.5", "9", "64", "1e300", "1e-300", "+", "-", "*",
    "/", "**", "(", ")", "[", "]", ",", "<", "<=", ">", ">=", "==", "!=", "&", "|", "~", "and",
    "or", "not", "if", "else", "for", "in", "is", "lambda", ":", ":=", ".", "^", "%", "@", "None",
    "True", "__import__", "__class__", "await", "yield",
)  # fmt: skip
LEAVES = st.sampled_from(
    ["v", "w", "x", "spike", "theta[1]", "pi", "0", "1", "2", "0.5", "64", "1e300", "1e-300"]
)


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    compare = st.tuples(inner, st.sampled_from(["<", "<=", ">", "==", "!="]), inner).map(" ".join)
    binary = st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**"]), inner)
    return st.one_of(
        binary.map(lambda t: f"({' '.join(t)})"),
        st.tuples(st.sampled_from(list(FUNCTIONS)[:8]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(
            lambda t: f"{t[0]}({t[1]}, {t[2]})"
        ),
        st.tuples(compare, inner, inner).map(lambda t: f"where({t[0]}, {t[1]}, {t[2]})"),
        inner.map(lambda t: f"poly({t}, theta)"),
        inner.map(lambda t: f"-{t}"),
    )


TEXTS = st.recursive(LEAVES, _grow, max_leaves=12)
GIBBERISH = st.one_of(
    st.text(max_size=60),
    st.text(string.printable, max_size=60),
    st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join),
    st.lists(st.sampled_from(WORDS), max_size=20).map("".join),
)


def attempt(run: Callable[[], Any]) -> tuple[Any, str | None]:
    """Return what `run` gives, or the message of its ModelError; anything else fails the test."""
    try:
        return run(), None
    except lnm.ModelError as error:
        return None, str(error)


patient = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(GIBBERISH | TEXTS)
@example("9**9**9")
@example("exp(exp(exp(exp(exp(9)))))")
@example("(((v)))" * 50)
@example("{}".__class__.__name__)
def test_random_expressions_parse_or_are_refused(text: str) -> None:
    """Whatever the text is: an expression of declared symbols alone, or a one-line ModelError."""
    value, message = attempt(lambda: parse(text, NAMES, "here"))
    if message is None:
        assert isinstance(value, sympy.Expr)
        assert value.free_symbols <= {V, W, X, *THETA, lnm.spike}
    else:
        assert message.startswith("here: ")
        assert "\n" not in message


VALUES = st.recursive(
    st.one_of(
        st.sampled_from(['"v"', '"v - 1"', '"spike"', '"x"', '"atan"', "0.0", "2", "nan", "true"]),
        st.text(string.ascii_letters, max_size=5).map(lambda t: f'"{t}"'),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]"),
        st.dictionaries(st.sampled_from(["v", "x", "init", "kind", "spike", "size"]), inner).map(
            lambda d: "{" + ", ".join(f"{k} = {v}" for k, v in d.items()) + "}"
        ),
    ),
    max_leaves=5,
)
FIELDS = (
    "name", "inputs", "fire", "output", "surrogate", "detach_reset", "states", "params", "charge",
    "reset", "other",
)  # fmt: skip
FILES = st.one_of(
    st.text(max_size=80),
    st.dictionaries(st.sampled_from(FIELDS), VALUES).map(
        lambda d: "".join(f"{k} = {v}\n" for k, v in d.items())
    ),
    st.tuples(st.sampled_from(LIF.splitlines()), VALUES).map(
        lambda t: LIF.replace(t[0], f"{t[0].split(' = ')[0]} = {t[1]}")
    ),
    TEXTS.map(lambda e: definition(charge=e)),
)


@patient
@given(FILES)
def test_random_files_load_or_are_refused(text: str) -> None:
    """Whatever a file holds: a neuron, or a one-line ModelError that names the file."""
    neuron, message = attempt(lambda: read(text, "f"))
    if message is None:
        assert isinstance(neuron, lnm.Neuron)
    else:
        assert message.startswith("f: ")
        assert "\n" not in message
