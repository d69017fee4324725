"""Definitions of neurons: accepted arguments, their order, and every refusal."""

from __future__ import annotations

import keyword
import math
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy
import torch

import lnm_codegen as lnm
from lnm_codegen.errors import shortened
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir.declarations import Draw, Matrix, Param, PolePair, Poles, Uniform
from lnm_codegen.ir.verify import verify
from lnm_codegen.language.functions import as_expr
from lnm_codegen.validation import shown
from tests.refusals import assert_refused, refused

v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
p, theta = lnm.param("p", init=0.5), lnm.param("theta", size=2, init=[0.1, 0.2])
other = lnm.spike_named("other")
Z = lnm.surrogate.Z

NUMBERS = "numbers and expressions of declared states, inputs, parameters and spikes"
KEYWORD = "the word is a keyword of Python"
FORM = "generated code makes names of the forms _x, grad_x, sum_x and x_next"
LANGUAGE = (
    "abs, cos, exp, log, max, min, sigmoid, sin, sqrt, stop_gradient, tanh, where, clip, poly"
    " and + - * / **"
)
LAST_SPIKE = (
    "to read the spike of the previous step, store it in a state: reset={s_prev: lnm.spike}."
)
SURROGATE = "a surrogate such as lnm.surrogate.atan(), or one for each spike of fire"
USE_WHERE = "Use lnm.where(condition, a, b)."
RESETS = "lnm.hard_reset(v, 0.0), lnm.soft_reset(v, 1.0), or None"
GRANULARITY = "'layer', 'channel', 'neuron'"
INIT = "a finite number, or a function (generator, shape) -> tensor"
INITS = "a finite number or 2 of them, or a function (generator, shape) -> tensor"
CONDITION = "a comparison such as v > 0, or a spike"
NO_VECTOR = "its elements, theta[0] to theta[1], or lnm.poly(z, theta)"
BUILT_IN = shortened(FAMILIES)
LIF = "tau, decay_input, v_threshold, v_reset, v_rest, learn_tau, per, surrogate"
UNIFORM, POLES = Uniform((0.0, 1.0)), Poles((0.5, 0.9), (0.1, 0.2))


def neuron(charge: Any = None, fire: Any = v - 1, **more: Any) -> lnm.Neuron:
    return lnm.Neuron(charge={v: v + x} if charge is None else charge, fire=fire, **more)


def plain(e: Any) -> lnm.Neuron:
    return neuron({v: e})


def nested(function: Any, count: int) -> Any:
    """Return function(function(...) + x) + x."""
    e = v
    for _ in range(count):
        e = function(e) + x
    return e


def family_of(result: Any, name: str = "mine") -> Any:
    """Return a family of one argument that returns `result`."""

    def build(degree: int = 3) -> Any:
        return result

    build.__name__ = name
    return lnm.family(build)


PHASES = """
neuron.charge[v] >> NUMBERS
    plain("a") >> 'a' is a str
    plain(None) >> None is a NoneType
    plain(theta) >> Vector('theta', size=2) is a Vector
neuron.charge[v] >> magnitudes up to 1.797e308
    plain(v * lnm.exp(1000) + x) >> is beyond float64
    plain(v * 10**400 + x) >> is beyond float64
    plain(v * sympy.exp(sympy.exp(sympy.exp(1000))) + x) >> is beyond float64
    plain(v * lnm.exp(lnm.exp(lnm.exp(30))) + x) >> is beyond float64
    plain(v ** sympy.Float("1e400")) >> is beyond float64
neuron.charge[v] >> -64 to 64
    plain(v**65) >> the exponent in v**65 is too large
    plain(v**-65) >> the exponent in v**(-65) is too large
    plain(v**100_000) >> the exponent in v**100000 is too large
    plain(v ** sympy.Rational(129, 2)) >> the exponent in v**(129/2) is too large
    plain((v + x) ** 100.0) >> the exponent in (v + x)**100.0 is too large
    plain(v**1e19) >> the exponent in v**1.0e+19 is too large
neuron.charge[v] >> a base above 0, or a constant exponent
    plain(sympy.Integer(0) ** v) >> the base of 0**v is 0
    plain(sympy.Integer(-1) ** v) >> the base of (-1)**v is -1
    plain(sympy.Rational(-1, 2) ** v) >> the base of (-1/2)**v is -1/2
    plain((sympy.sqrt(2) - 3) ** v) >> the base of (-3 + sqrt(2))**v is -3 + sqrt(2)
neuron.charge[v] >> LANGUAGE
    plain(sympy.asin(v)) >> 'asin' in asin(v) is not a function of the language
    plain(sympy.Max(x, 0)) >> 'Max' in Max(0, x) is not a function >> LANGUAGE >> Use lnm.max(a, b).
    plain(sympy.Min(x, 0)) >> 'Min' in Min(0, x) is not a function >> LANGUAGE >> Use lnm.min(a, b).
    plain(v + sympy.Abs(x)) >> 'Abs' in Abs(x) is not a function >> LANGUAGE >> Use lnm.abs(a).
    plain(v + abs(x)) >> 'Abs' in Abs(x) is not a function >> LANGUAGE >> Use lnm.abs(a).
    plain(sympy.Heaviside(x)) >> 'Heaviside' in Heaviside(x) is not a function >> LANGUAGE
        >> Use lnm.where(a >= 0, 1, 0).
    plain(sympy.Piecewise((v, x > 0), (0, True)))
        >> 'Piecewise' in Piecewise((v, x > 0), (0, True)) >> LANGUAGE
        >> Use lnm.where(condition, a, b).
    plain(sympy.tan(x)) >> 'tan' in tan(x) is not >> LANGUAGE >> Use lnm.sin(a)/lnm.cos(a).
    plain(v % 2) >> '%' in Mod(v, 2) is not a function of the language
    plain(2 * v % 3) >> '%' in Mod(2*v, 3) is not a function of the language
    plain(v // 2) >> '//' in floor(v/2) is not a function of the language
    plain(sympy.sinh(v)) >> 'sinh' in sinh(v) is not a function of the language
neuron.charge[v] >> >> USE_WHERE
    plain(v > 0) >> v > 0 is a condition, not a number
    plain(nested(lnm.tanh, 50)) >> the expression is nested more than 100 deep, sums and products
        counted >> at most 100 >> Write it flatter.
    plain(nested(lnm.abs, 12)) >> the expression has more than 20000 terms; abs, min, max and clip
        repeat theirs >> at most 20000 >> Split the expression.
neuron.fire[spike] >> finite numbers
    neuron(fire=v - math.nan) >> nan is not finite
    neuron(fire=v - math.inf) >> -oo in v - oo is not finite
    neuron(fire=v + sympy.sqrt(-1)) >> 'ImaginaryUnit' in I is not a function >> LANGUAGE
    neuron(fire=v**65) >> the exponent in v**65 is too large >> -64 to 64
    neuron(fire=v > 0) >> v > 0 is a condition, not a number
        >> >> Write v: the neuron spikes where fire is >= 0.
    neuron(fire=(v > 1) & (x > 1)) >> (v > 1) & (x > 1) is a condition, not a number
        >> >> Write v - 1 for v > 1: the neuron spikes where fire is >= 0.
neuron.reset[v] >> >> USE_WHERE
    neuron(reset={v: True}) >> True is a condition, not a number
    neuron(reset={v: v**65}) >> the exponent in v**65 is too large >> -64 to 64
    neuron(reset={v: lnm.where(v > 0, sympy.nan, v)})
        >> nan in where(v > 0, nan, v) is not finite >> finite numbers
    neuron(reset={v: sympy.asin(v)}) >> 'asin' in asin(v) is not a function of the language
        >> LANGUAGE
neuron.output >> NUMBERS
    neuron(output="") >> '' is a str
    neuron(output=[]) >> [] is a list
    neuron(output=False) >> False is a condition, not a number >> >> USE_WHERE
    neuron(output=v > 0) >> v > 0 is a condition, not a number >> >> USE_WHERE
    neuron(output={}) >> no output >> >> Give an expression or {name: expression}.
neuron.output[out]
    neuron(output={"out": "a"}) >> 'a' is a str >> NUMBERS
    neuron(output=v**65) >> the exponent in v**65 is too large >> -64 to 64
    neuron(output=sympy.oo * x) >> oo in oo*x is not finite >> finite numbers
    neuron(output=sympy.sign(v)) >> 'sign' in sign(v) is not a function of the language
        >> LANGUAGE >> Use lnm.where(a > 0, 1, lnm.where(a < 0, -1, 0)).
neuron.charge >> {symbol: expression}
    neuron(v + x) >> v + x is not a dict
    neuron(0) >> 0 is not a dict
    neuron("") >> '' is not a dict
    neuron([v]) >> [v] is not a dict
    neuron({x: v + x}) >> the key x is not a state >> symbols made by lnm.state
    neuron({"v": v + x}) >> the key 'v' is not a state >> symbols made by lnm.state
neuron.reset >> {symbol: expression} >> RESETS
    neuron(reset=0.0) >> 0.0 is not a dict
    neuron(reset=()) >> () is not a dict
    neuron(reset=False) >> False is not a dict
    neuron(reset={lnm.spike: 0}) >> the key spike is not a state >> symbols made by lnm.state >>
?
    plain(math.inf) >> neuron.charge[v]: inf is not finite >> finite numbers
    plain(x / sympy.Integer(0)) >> neuron.charge[v]: zoo in zoo*x is not finite >> finite numbers
    plain(((v + 1) ** 33 + x) ** 33) >> neuron.charge[v]: a polynomial has degree 1089
        >> at most 64 >> Lower its powers.
    plain(v * ((p + 1) ** 9 + 1) ** 9) >> neuron.charge[v]: a polynomial has degree 81
        >> at most 64 >> Lower its powers.
    neuron(fire={other: 1 <= p - v}, output=other)
        >> neuron.fire[other]: p - v >= 1 is a condition, not a number
        >> >> Write p - v - 1: the neuron spikes where fire is >= 0.
    neuron(fire={v: v}) >> neuron.fire: the key v is not a spike >> symbols made by lnm.spike_named
    neuron(surrogate=lnm.surrogate.from_slope(lambda z: sympy.asin(z)))
        >> neuron.surrogate[spike]: 'asin' in asin(z) is not a function of the language >> LANGUAGE
    neuron(surrogate=lnm.surrogate.from_slope(lambda z: z * sympy.nan))
        >> neuron.surrogate[spike]: nan is not finite >> finite numbers
    neuron().with_counts(n=v**65) >> neuron.with_counts[n]: the exponent in v**65 is too large >>
        -64 to 64
    neuron().with_counts(n=other) >> neuron.with_counts[n]: unknown symbol 'other' >> spike, v, x
"""

SYMBOLS = """
neuron.charge >> v, x
    neuron({v: v + x + sympy.Symbol("vv")}) >> unknown symbol 'vv' >> v, x >> Did you mean 'v'?
    neuron({v: lnm.where(sympy.Symbol("q") > 0, v, x)}) >> unknown symbol 'q'
    plain(v + x * lnm.spike) >> reads the spike 'spike' >> >> LAST_SPIKE
    plain(lnm.where(lnm.spike, v, x)) >> reads the spike 'spike' >> >> LAST_SPIKE
    plain(v + x + sympy.Symbol("v")) >> unknown symbol 'v' >> v, x
        >> Use the declared symbol, not sympy.Symbol('v').
neuron.output >> spike, v, x
    neuron(output=other) >> unknown symbol 'other'
    neuron(fire=None) >> no spike is named lnm.spike, the default output
        >> >> Give output=, an expression or {name: expression}.
    neuron(fire={other: v}) >> no spike is named lnm.spike, the default output
        >> >> Give output=, an expression or {name: expression}.
neuron >> >> Rename one of them.
    neuron({v: v + lnm.input("v")}) >> 'v' is declared twice
    neuron({v: v + lnm.input("theta") + theta[0]}) >> 'theta' is declared twice
    neuron({v: v + lnm.input("theta_1") + theta[0]}) >> 'theta_1' is declared twice
    neuron(fire={lnm.spike_named("x"): v}, output=v) >> 'x' is declared twice
    plain(v + x + lnm.get("lif").states[0]) >> 'v' is declared twice
        >> >> Rename one of them. A neuron cannot read the symbols of another neuron.
    neuron({v: v + w + x}) >> state 'w' is set by neither charge nor reset
        >> >> Give it an expression, or make it a parameter.
    lnm.Neuron(output=p) >> no input >> >> Declare at least one, lnm.input('x'); it gives the
        layer its shape.
neuron.surrogate >> SURROGATE
    neuron(surrogate=0) >> 0 is not a surrogate
    neuron(surrogate="") >> '' is not a surrogate
    neuron(fire=None, output=v, surrogate=[]) >> [] is not a surrogate
    neuron(fire=None, output=v, surrogate=False) >> False is not a surrogate
    neuron(surrogate={"spike": 3}) >> 'spike' has 3
    neuron(fire=None, output=v, surrogate=lnm.surrogate.atan())
        >> given, but the neuron has no spike >> >> Remove it.
    neuron(surrogate={other: lnm.surrogate.atan()}) >> fire has no spike 'other' >> spike
    neuron(surrogate={"sp": lnm.surrogate.atan()}) >> fire has no spike 'sp' >> spike
    neuron(surrogate=dict.fromkeys(["spike", lnm.spike], lnm.surrogate.atan()))
        >> 'spike' occurs twice >> one surrogate for each spike
    neuron(fire={lnm.spike: v, other: v}, surrogate={other: lnm.surrogate.atan()})
        >> none for spike >> >> Give one per spike.
neuron.with_outputs[y] >> spike, v, x
    plain(v + x).with_outputs(y=sympy.Symbol("q") + v) >> unknown symbol 'q'
    plain(v + x).with_outputs(y=p) >> 'p' is a symbol of another neuron, or declared outside this
        one >> spike, v, x >> Declare it in this one.
    plain(v + x).with_outputs(y=lnm.get("lif").states[0])
        >> 'v' is a symbol of another neuron, or declared outside this one >> spike, v, x
        >> Use this neuron's own 'v'.
    plain(v + x).with_outputs(y="v") >> 'v' is a str >> NUMBERS
neuron >> GRANULARITY
    plain(v * p + x).with_per("all") >> per is 'all'
    plain(v * p + x).with_per({"p": "all"}) >> per is 'all'
    plain(v + x).with_per({"theta": "layer"}) >> per names 'theta', which is not a parameter
        >> an empty dict >> Leave per out.
    plain(v * theta[0] + p + x).with_per({"tehta": "layer"})
        >> per names 'tehta', which is not a parameter >> p, theta >> Did you mean 'theta'?
neuron >> True, False
    neuron(detach_reset="no") >> detach_reset is 'no'
    neuron(detach_reset=1) >> detach_reset is 1
    neuron(detach_reset=None) >> detach_reset is None
    neuron().with_detach_reset("no") >> detach_reset is 'no'
?
    neuron(fire=v - sympy.Symbol("q")) >> neuron.fire: unknown symbol 'q' >> v, x
    neuron(fire={lnm.spike: v - 1, other: v - lnm.spike})
        >> neuron.fire: reads the spike 'spike' >> >> LAST_SPIKE
    neuron(reset={v: v - lnm.spike_named("spke")}) >> neuron.reset: unknown symbol 'spke'
        >> spike, v, x >> Did you mean 'spike'?
    neuron(output={"1a": v}) >> neuron.output '1a': not an identifier
    neuron(output={v: v}) >> neuron.output v: not an identifier
    neuron(output={"class": v}) >> neuron.output 'class': the word is a keyword of Python
    neuron(name="1x") >> neuron '1x': not an identifier
    neuron(name="class") >> neuron 'class': the word is a keyword of Python
    neuron(name="sum_v") >> neuron 'sum_v': generated code makes names of the forms
    plain(v + x).with_outputs(spike=v) >> neuron.with_outputs: 'spike' already exists
        >> names other than spike
    plain(v + x).with_outputs(_y=v) >> neuron.with_outputs '_y': generated code makes names of the
        forms
"""

DECLARATIONS = """
parameter 'a' >> True, False
    lnm.param("a", learnable="no") >> learnable is 'no'
    lnm.param("a", learnable=1) >> learnable is 1
    lnm.param("a", learnable=None) >> learnable is None
    lnm.param("a", per="all") >> per is 'all' >> GRANULARITY
    lnm.param("a", size=0) >> size is 0 >> an integer >= 1 or None
    lnm.param("a", size=True) >> size is True >> an integer >= 1 or None
    lnm.param("a", size=2.0) >> size is 2.0 >> an integer >= 1 or None
    lnm.param("a", draw=abs) >> draw is <built-in >> another lnm.Draw, or None
    lnm.param("a", draw=Draw(None)) >> the sample of draw is None >> a function
    lnm.param("a", size=3, draw=Draw(Matrix(POLES, 2, 3))) >> first of draw is 2 >> 0 to size - 2, 1
    lnm.param("a", size=3, draw=Draw(Matrix(POLES, -1, 3))) >> first of draw is -1
        >> 0 to size - 2, 1
    lnm.param("a", size=2, draw=Draw(Matrix(Poles((-0.5, 0.5), (0.0, 1.0)), 0, 2)))
        >> radius of draw is (-0.5, 0.5) >> numbers >= 0
    lnm.param("a", draw=Draw(PolePair(Poles((0.5, 1.0), (0.0, 1.0)))))
        >> radius of draw is (0.5, 1.0) >> numbers between 0 and 1
parameter 'a' >> INITS
    lnm.param("a", size=2, init=[1, "b"]) >> init is [1, 'b']
    lnm.param("a", size=2, init=math.nan) >> init is nan
    lnm.param("a", size=2, init=False) >> init is False
    lnm.param("a", size=2, init=[0.0, math.inf]) >> init is [0.0, inf]
    lnm.param("a", size=2, init=(True, 1.0)) >> init is (True, 1.0)
    lnm.param("a", size=2, init=[1]) >> init is [1] >> a finite number or 2 of them
    lnm.param("a", init="x") >> init is 'x' >> INIT
state 'a' >> INIT
    lnm.state("a", init=[1]) >> init is [1]
    lnm.state("a", init=math.nan) >> init is nan
    lnm.state("a", init=-math.inf) >> init is -inf
    lnm.state("a", init=True) >> init is True
    lnm.state("a", init=np.bool_(True)) >> init is np.True_
    lnm.state("a", init=10**400) >> init is 1000
    lnm.state("a", init=theta) >> init is Vector >> a number, a function, or a scalar lnm.param
    lnm.state("a", init=theta[0]) >> init is theta_0 >> a number, a function, or a scalar lnm.param
    lnm.state("a", init=x) >> init is x >> a number, a function, or a scalar lnm.param
    lnm.state("a", init=lnm.spike) >> init is spike >> a number, a function, or a scalar lnm.param
?
    lnm.state("_a") >> state '_a': generated code makes names of the forms
        >> >> Choose another name.
    lnm.state("_") >> state '_': generated code makes names of the forms
    lnm.state("v_next") >> state 'v_next': generated code makes names of the forms
    lnm.input("grad_x") >> input 'grad_x': generated code makes names of the forms
    lnm.param("sum_tau") >> parameter 'sum_tau': generated code makes names of the forms
    lnm.state("spike") >> state 'spike': the default spike has this name
    lnm.state(3) >> state 3: not an identifier
        >> letters, digits and '_', not beginning with a digit
    lnm.state("") >> state '': not an identifier
    lnm.input("é") >> input 'é': not an identifier
    lnm.spike_named("while") >> spike 'while': the word is a keyword of Python
    lnm.spike_named("a b") >> spike 'a b': not an identifier
    theta["a"] >> theta['a']: not an index >> an integer from 0 to 1, or a slice
    theta[0.0] >> theta[0.0]: not an index >> an integer from 0 to 1, or a slice
    theta[2] >> theta[2]: index out of range >> an integer from 0 to 1
    theta[-3] >> theta[-3]: index out of range >> an integer from 0 to 1
"""

FUNCTIONS = """
where >> CONDITION
    lnm.where(v, 1, 0) >> v is not a condition
    lnm.where(1, 2, 0) >> 1 is not a condition
    lnm.where((v > 0) ^ (x > 0), 2, 0) >> (v > 0) ^ (x > 0) is not a condition
    lnm.where(lnm.spike & (v > 0), 2, 0) >> spike & (v > 0) is not a condition
    lnm.where(v > 0, "a", 0) >> 'a' is a str >> NUMBERS
poly >> a vector parameter, or a list of coefficients, [a, b, c]
    lnm.poly(v, 3) >> theta is 3
    lnm.poly(v, v) >> theta is v
    lnm.poly(v, []) >> theta is empty >> >> Give at least one coefficient.
    lnm.poly(theta, [1]) >> Vector('theta', size=2) is a Vector >> NUMBERS
    lnm.poly(v, [None]) >> None is a NoneType >> NUMBERS
theta >> NO_VECTOR >> Index it.
    theta * 2 >> '*' takes no vector parameter
    v * theta >> '*' takes no vector parameter
    1 + theta >> '+' takes no vector parameter
    theta + v >> '+' takes no vector parameter
    v - theta >> '-' takes no vector parameter
    -theta >> '-' takes no vector parameter
    theta / 2 >> '/' takes no vector parameter
    v / theta >> '/' takes no vector parameter
    theta**2 >> '**' takes no vector parameter
    v**theta >> '**' takes no vector parameter
    theta > 0 >> a comparison takes no vector parameter
    v <= theta >> a comparison takes no vector parameter
get >> BUILT_IN
    lnm.get("lfi") >> no family 'lfi' >> BUILT_IN >> Did you mean 'li'?
    lnm.get(3) >> no family 3
    lnm.get([]) >> no family []
?
    lnm.max(v, "a") >> max: 'a' is a str >> NUMBERS
    lnm.min([], v) >> min: [] is a list >> NUMBERS
    lnm.abs("a") >> abs: 'a' is a str >> NUMBERS
    lnm.clip(v, -1, math.inf) >> clip: inf is not finite >> finite numbers
    lnm.hard_reset(v, "a") >> hard_reset: 'a' is a str >> NUMBERS
    lnm.soft_reset(v, math.nan) >> soft_reset: nan is not finite >> finite numbers
    lnm.get("lif", taw=3) >> lif: no argument 'taw' >> LIF >> Did you mean 'tau'?
    family_of(None, "lambda") >> family 'lambda': the word is a keyword of Python
    family_of(None, "sum_v") >> family 'sum_v': generated code makes names of the forms
    family_of(None, "<lambda>") >> family '<lambda>': not an identifier
    family_of(None)(1, 2) >> mine: too many positional arguments >> degree
    family_of(3)() >> mine: it returned int >> an lnm.Neuron
    lnm.get("lnm", degree=2, theta=[0, 1]) >> parameter 'theta': init is [0, 1]
        >> a finite number or 3 of them
    lnm.get("lnm", per={"teta": "layer"}) >> lnm: per names 'teta', which is not a parameter
        >> theta, v_threshold >> Did you mean 'theta'?
    lnm.get("lnm", per="batch") >> lnm: per is 'batch' >> GRANULARITY
    lnm.get("plif", per="batch") >> parameter 'w': per is 'batch' >> GRANULARITY
"""


@pytest.mark.parametrize("table", [PHASES, SYMBOLS, DECLARATIONS, FUNCTIONS], ids=range(4))
def test_refusals(table: str) -> None:
    assert_refused(table, globals())


@pytest.mark.parametrize("f", [lnm.exp, lnm.log, lnm.sqrt, lnm.tanh, lnm.sigmoid, lnm.sin, lnm.cos])
def test_functions_take_numbers_alone(f: Any) -> None:
    for bad in ("a", theta, None):
        with refused(lnm.ModelError, f.__name__, f"{bad!r} is a {type(bad).__name__}", NUMBERS):
            f(bad)


def test_keywords_are_no_names() -> None:
    """Every target is called from Python, with the names as arguments."""
    for kind, declare in (("state", lnm.state), ("input", lnm.input), ("parameter", lnm.param)):
        for word in keyword.kwlist:
            with refused(lnm.ModelError, f"{kind} {word!r}", KEYWORD, "", "Choose another name."):
                declare(word)


def test_draws_that_are_refused() -> None:
    """Ends of a distribution, and a part or a size that its sample does not have."""
    whole, turn = (0.0, 1.0), "a tuple of two finite numbers, the smaller one first"
    infinite = ((0.0, math.nan), (0.0, math.inf))
    for ends in ((3.0, -1.0), *infinite, ("0", 1), (0, 1, 2), (1.0,), 1.0):
        for word, sample in (
            ("ends", Uniform(ends)),
            ("radius", PolePair(Poles(ends, whole))),
            ("angle", Matrix(Poles(whole, ends), 0, 2)),
        ):
            with refused(lnm.ModelError, "parameter 'a'", f"{word} of draw is {shown(ends)}", turn):
                lnm.param("a", size=sample.size, draw=Draw(sample))
    for sample, part, size, accepted in (
        (UNIFORM, 0, 2, "part 0 and size None"),
        (UNIFORM, 0, 1, "part 0 and size None"),
        (UNIFORM, 1, None, "part 0 and size None"),
        (PolePair(POLES), 0, 3, "part 0 or 1 and size None"),
        (PolePair(POLES), 2, None, "part 0 or 1 and size None"),
        (Matrix(POLES, 1, 3), 0, None, "part 0 or 1 and size 3"),
        (Matrix(POLES, 1, 3), 1, 2, "part 0 or 1 and size 3"),
        (Matrix(POLES, 1, 3), -1, 3, "part 0 or 1 and size 3"),
    ):
        problem = f"draw is part {part} of a {type(sample).__name__} and size is {size}"
        with refused(lnm.ModelError, "parameter 'a'", problem, accepted):
            lnm.param("a", size=size, draw=Draw(sample, part))


def test_a_family_reads_what_it_declares() -> None:
    """And nothing of another; an idle declaration is a mistake, since each is a port."""

    def build(extra: Any = 0, idle: bool = False, **phases: Any) -> lnm.Neuron:
        own, x = lnm.state("v"), lnm.input("x")
        if idle:
            lnm.param("tau", init=2.0)
        charge = {own: own + x + extra} | phases.get("charge", {})
        return lnm.Neuron(charge, own, phases.get("reset"))

    mine = lnm.family(build)
    problem = "'v' is a symbol of another neuron, or declared outside this one"
    for phase, given in (("charge", {"extra": v}), ("charge", {"charge": {v: 1}}),
                         ("reset", {"reset": {v: 1}})):  # fmt: skip
        own = "Use this neuron's own 'v'."
        with refused(lnm.ModelError, f"build.{phase}", problem, "v, x", own):
            mine(**given)
    with refused(
        lnm.ModelError, "build", "'tau' is declared but no expression reads it",
        remedy="Use it or remove the declaration.",
    ):  # fmt: skip
        mine(idle=True)

    @lnm.family
    def started() -> lnm.Neuron:
        own = lnm.state("v", init=p)
        return lnm.Neuron(charge={own: own / 2 + lnm.input("i")}, fire=own - 1)

    with refused(lnm.ModelError, "state 'v'", "'p' is a symbol of another neuron"):
        started()


def test_a_family_declares_in_order() -> None:
    """The order of declaration is that of states, inputs, parameters and ports."""

    @lnm.family
    def ordered_() -> lnm.Neuron:
        b, a = lnm.state("b"), lnm.state("a")
        y, x = lnm.input("y"), lnm.input("x")
        q = lnm.param("q", size=2)
        r = lnm.param("r", init=1.0, learnable=False)
        return lnm.Neuron(charge={a: a + x * q[1], b: b + y * r}, fire=a - b)

    n = ordered_()
    assert (n.name, ordered_.name, family_of(None, "if_").name) == ("ordered", "ordered", "if")
    assert [s.name for s in n.states] == ["b", "a"]
    assert [s.name for s in n.inputs] == ["y", "x"]
    assert [d.name for d in n.params] == ["q", "r"]
    assert [s.name for s in n.symbols] == ["b", "a", "y", "x", "q_0", "q_1", "r"]
    kernel = lnm.lower(n).forward
    assert [port.var.name for port in kernel.results] == ["spike", "b_next", "a_next"]


def test_a_bare_neuron_takes_what_it_uses_in_creation_order() -> None:
    """Unused declarations are left out; a vector stays whole if one element is read."""
    a, unused, b = lnm.state("a"), lnm.param("unused"), lnm.input("b")
    q = lnm.param("q", size=3, init=[1, 2, 3])
    n = lnm.Neuron(charge={a: b * q[1] + a}, fire=a)
    assert unused.name not in [s.name for s in n.symbols]
    assert [s.name for s in n.symbols] == ["a", "b", "q_0", "q_1", "q_2"]
    assert n.name == "neuron"
    result = lnm.interpret(n, np.ones((1, 1)), grad_out=np.ones((1, 1)), q=[5.0, 2.0, 7.0])
    assert result.states["a"] == 2
    assert result.grads["q"].shape == (3,)


def test_families_stand_side_by_side() -> None:
    """Two neurons of one share no symbol; one may call another, also one that fails."""
    one, two = lnm.get("lif"), lnm.get("lif")
    assert not set(one.symbols) & set(two.symbols)
    assert str(lnm.lower(one)) == str(lnm.lower(two))

    @lnm.family
    def outer(fail: bool = False) -> lnm.Neuron:
        v, x = lnm.state("v"), lnm.input("x")
        assert lnm.get("lif").name == "lif"
        if fail:
            with pytest.raises(lnm.ModelError):
                lnm.get("lif", tau=0)
        return lnm.Neuron(charge={v: v + x}, fire=v)

    for fail in (False, True):
        assert [s.name for s in outer(fail).symbols] == ["v", "x"]
    assert plain(v + x).name == "neuron"


def test_a_vector_is_a_sequence() -> None:
    """Index, slice, length and iteration are those of a tuple of symbols."""
    assert len(theta) == 2
    assert theta[-1] is theta[1]
    assert theta[:1] == (theta[0],)
    assert [t.name for t in theta] == ["theta_0", "theta_1"]
    assert lnm.poly(v, theta) == theta[0] + theta[1] * v
    assert repr(theta) == "Vector('theta', size=2)"
    assert repr(family_of(None)) == "<family mine(degree: 'int' = 3) -> 'Any'>"
    plain(x + lnm.poly(v, lnm.param("many", size=65)))  # degree 64 in v, whatever theta is


def test_outputs() -> None:
    """The spike by default; a lone expression is `out`, a lone spike keeps its name."""
    assert [n for n, _ in neuron().output] == ["spike"]
    assert [n for n, _ in neuron(output=v).output] == ["out"]
    assert [n for n, _ in neuron(fire={other: v}, output=other).output] == ["other"]
    several = neuron(output={"potential": v, "spike": lnm.spike})
    assert [n for n, _ in several.with_outputs(z=v - 1).output] == ["potential", "spike", "z"]
    assert [n for n, _ in several.output] == ["potential", "spike"]
    n = neuron(output={"x": 2 * v, "v": 3 * v})  # names of ports
    result = lnm.interpret(n, np.ones((1, 1)), grad_out=np.ones((1, 1)))
    assert [float(o[0, 0]) for o in result.outputs.values()] == [2.0, 3.0]
    assert result.grads["x"][0, 0] == 5


@pytest.mark.parametrize("names", [("t0", "a"), ("a", "t0"), ("t1", "t0")])
def test_an_output_may_have_the_name_of_a_temporary(names: Any) -> None:
    """Two outputs of one value, one called t0: build once gave its Let to the other."""
    n = neuron(output=dict.fromkeys(names, lnm.exp(v)))
    lnm.lower(n, on_pass=lambda _, kernel: verify(kernel))
    result = lnm.interpret(n, np.zeros((1, 1)))
    assert {k: float(o[0, 0]) for k, o in result.outputs.items()} == dict.fromkeys(names, 1.0)


def test_surrogates() -> None:
    """atan(alpha=2) for each spike; one serves all, or a dict names each, by spike or word."""
    assert neuron().surrogates == (("spike", lnm.surrogate.atan(alpha=2)),)
    two = {lnm.spike: v - 1, other: v - 2}
    erf, sigmoid = lnm.surrogate.erf(), lnm.surrogate.sigmoid()
    assert neuron(fire=two, surrogate=erf).surrogates == (("spike", erf), ("other", erf))
    for keys in (("spike", "other"), (lnm.spike, other), (lnm.spike, "other")):
        found = neuron(fire=two, surrogate=dict(zip(keys, (sigmoid, erf), strict=True)))
        assert found.surrogates == (("spike", sigmoid), ("other", erf))
    swapped = neuron(fire=two, surrogate={other: erf, lnm.spike: sigmoid})
    assert swapped.surrogates == (("spike", sigmoid), ("other", erf))
    assert swapped.spikes == ("spike", "other")


def test_a_neuron_is_immutable() -> None:
    """A lowered program is cached by it; `with_detach_reset` returns another one."""
    n = neuron(reset=lnm.soft_reset(v, 1.0))
    with pytest.raises(AttributeError):
        n.name = "mine"  # type: ignore[misc]
    detached = n.with_detach_reset(True)
    assert (n.detach_reset, detached.detach_reset) == (False, True)
    assert detached.with_detach_reset(False) == n


def test_with_per() -> None:
    """A word sets every learnable parameter; a dict those it names, and the rest stay."""
    fixed = lnm.param("fixed", init=1.0, learnable=False)
    n = plain(v * p + lnm.poly(x, theta) * fixed)
    pers = {d.name: d.per for d in n.with_per("channel").params}
    assert pers == {"p": "channel", "theta": "channel", "fixed": "layer"}
    pers = {d.name: d.per for d in n.with_per({"theta": "neuron", "fixed": "channel"}).params}
    assert pers == {"p": "layer", "theta": "neuron", "fixed": "channel"}
    assert {d.per for d in n.params} == {"layer"}
    assert str(lnm.lower(n.with_per("neuron"))) == str(lnm.lower(n))
    assert n.with_per({}) is n
    assert plain(v + x).with_per("channel").params == ()


def test_with_per_leaves_no_old_declaration_behind() -> None:
    """Symbols, params and expressions have one declaration; one made before it still serves."""
    comparison = lnm.max(lnm.tanh(v * theta[1]), p * x)
    n = neuron({v: v * theta[0] + comparison}).with_per({"theta": "channel"})
    assert {s.decl for s in n.symbols if isinstance(s.decl, Param)} == set(n.params)
    assert {d.name: d.per for d in n.params} == {"p": "layer", "theta": "channel"}
    assert set().union(*(e.free_symbols for _, e in n.charge)) <= set(n.symbols)
    twice = n.with_per("neuron").with_outputs(y=theta[1] * v)
    assert dict(twice.output)["y"].free_symbols <= set(twice.symbols)
    assert str(lnm.lower(n)) == str(lnm.lower(neuron({v: v * theta[0] + comparison})))
    lnm.lower(twice)


def test_a_parameter_as_initial_value() -> None:
    """It belongs to the neuron, not to the step; its granularity changes as that of the others."""
    start = lnm.param("v_init", init=0.25)
    a, b = lnm.state("a", init=start), lnm.state("b", init=1.0)
    n = lnm.Neuron(charge={a: a * p + x, b: b / 2}, output=a)
    assert [d.name for d in n.params] == ["p", "v_init"]
    assert [d.name for d in n.step_params] == ["p"]
    assert [d.name for d in n.with_outputs(more=start).step_params] == ["p", "v_init"]
    assert (a.decl.init, a.decl.param) == (0.25, "v_init")
    per = {d.name: d.per for d in n.with_per("channel").params}
    assert per == dict.fromkeys(("p", "v_init"), "channel")
    assert "  state   a = v_init" in repr(n).splitlines()
    assert "a = v_{init}" in n._repr_latex_()
    twin = pickle.loads(pickle.dumps(n))
    assert twin.step_params == n.step_params
    assert lnm.Neuron(charge=dict(twin.charge), output=twin.states[0]).params == n.params

    @lnm.family
    def mine() -> lnm.Neuron:
        v = lnm.state("v", init=lnm.param("rest", init=-0.5))
        return lnm.Neuron(charge={v: v / 2 + lnm.input("i")}, fire=v - 1)

    assert [d.name for d in mine().params] == ["rest"]
    assert mine().step_params == ()
    own = lnm.state("v", init=-0.5)
    same = lnm.Neuron(charge={own: own / 2 + x}, fire=own - 1, name="mine")
    assert str(lnm.lower(mine())) == str(lnm.lower(same)).replace(" x", " i").replace("_x", "_i")


def test_numbers_are_the_decimals_their_author_wrote() -> None:
    """0.1 is 1/10; integers, fractions and NumPy's numbers are exact too."""
    for value in (0.1, np.float64(0.1), Fraction(1, 10)):
        assert as_expr(value) == sympy.Rational(1, 10)
    assert as_expr(Fraction(1, 3)) == sympy.Rational(1, 3)
    assert as_expr(np.int64(3)) == as_expr(np.float32(3)) == 3
    assert as_expr(v) is v
    assert "fma(0.1, v, x)" in str(lnm.lower(plain(v * 0.1 + x)).forward)


def test_arguments_keep_their_order() -> None:
    """max and min are selects in the order given, unlike SymPy's."""
    for expr, words in (
        (lnm.max(v, x), ["v >= x", "v", "x"]),
        (lnm.min(x, v), ["x <= v", "x", "v"]),
        (lnm.abs(v), ["v >= 0", "v", "-v"]),
        (lnm.clip(v, -1, p), ["v < -1", "-1", "min(v, p)"]),
        (lnm.clip(v, -1, p).args[2], ["v > p", "p", "v"]),
    ):
        assert [str(a) for a in expr.args] == words
    assert lnm.where(sympy.true, v, x) is v
    assert lnm.where(sympy.false, v, x) is x


def test_a_python_bool_is_no_condition() -> None:
    """`2*v == 0` is False at once in SymPy; the message for a flag spoke of == alone."""
    remedy = (
        "Write sympy.Eq(a, b) for a == b and sympy.Ne(a, b) for a != b."
        " For a flag write a if flag else b."
    )
    for cond in (2 * v == 0, 2 * v != 0, np.True_, np.bool_(False)):
        problem = f"the condition is {cond}, a bool of Python"
        with refused(lnm.ModelError, "where", problem, CONDITION, remedy):
            lnm.where(cond, 1, v)


@pytest.mark.timeout(20)
def test_nested_functions_are_cheap() -> None:
    """SymPy's own tanh took a minute over ten of them; the bound is 49."""
    for f in (lnm.tanh, lnm.sqrt):
        lnm.lower(plain(nested(f, 49)))


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("e", [v**64, v**-64, (v + x) ** 64, v * (p + 1) ** 32])
def test_the_largest_powers_are_lowered(e: Any) -> None:
    lnm.lower(plain(e + x))


def test_functions_of_numbers_and_resets_are_exact() -> None:
    """A look-up is made; a float is the decimal its author wrote."""
    half = sympy.Rational(1, 2)
    for e, value in (
        (lnm.exp(0), 1), (lnm.tanh(0), 0), (lnm.sin(sympy.pi / 6), half), (lnm.cos(sympy.pi), -1),
        (lnm.log(1), 0), (lnm.sqrt(4), 2), (lnm.exp(0.5), lnm.exp(half)),
        (lnm.sqrt(2.0), sympy.sqrt(2)),
        (lnm.hard_reset(v, 0.5), {v: lnm.where(lnm.spike, 0.5, v)}),
        (lnm.soft_reset(v, p), {v: v - lnm.spike * p}),
        (lnm.hard_reset(v, on=other), {v: lnm.where(other, 0, v)}),
        (lnm.soft_reset(v, 1, on=other), {v: v - other}),
    ):  # fmt: skip
        assert e == value


def test_derivatives_of_our_functions() -> None:
    """SymPy differentiates sigmoid and where as the language defines them."""
    s = lnm.sigmoid(Z)
    assert s.diff(Z) == s * (1 - s)
    assert lnm.abs(Z).diff(Z) == lnm.where(Z >= 0, 1, -1)


def test_powers() -> None:
    """Any exponent lowers. `v**0.5` and `2**v` once recursed without end in build."""
    ones, h = np.ones((1, 1)), 1e-5
    for power, value in (
        (v**0.5, lambda a, b: a**0.5),
        (v**-2.5, lambda a, b: a**-2.5),
        (v**0.3, lambda a, b: a**0.3),
        (2**v, lambda a, b: 2**a),
        (v**x, lambda a, b: a**b),
        (v**-x, lambda a, b: a**-b),
        (lnm.exp(x * lnm.log(v)), lambda a, b: a**b),
        (x**-2 + v**3, lambda a, b: b**-2 + a**3),
    ):
        n = lnm.Neuron(charge={v: power}, output={"out": v, "x": x})
        result = lnm.interpret(n, 1.7 * ones, state={"v": [0.6]}, grad_out=(ones, None))
        np.testing.assert_allclose(result.out, [[value(0.6, 1.7)]], rtol=1e-12)
        slope = (value(0.6 + h, 1.7) - value(0.6 - h, 1.7)) / (2 * h)
        np.testing.assert_allclose(result.grads["v"], [slope], rtol=1e-7)


def test_a_copy_may_stand_beside_its_original() -> None:
    """SymPy's caches put equal symbols of one into expressions of the other.

    The elements of a vector were told apart by identity then, and found declared twice.
    """
    first = lnm.get("lnm", degree=3, per="channel")
    second = pickle.loads(pickle.dumps(first))
    v, x = first.states[0], second.inputs[0]
    mixed = dict(first.charge)[v] + 2 * (dict(second.charge)[second.states[0]] - x) + x
    assert [p.name for p in lnm.Neuron({v: mixed}, v - 1).params] == ["theta"]


@pytest.mark.needs_cc
@pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=pytest.mark.slow)])
def test_names_of_functions_and_templates_are_free(backend: str) -> None:
    """Generated code of float32 keeps these names apart from its own functions and variables."""
    state, other = lnm.state("sqrt"), lnm.state("stacked", init=0.25)
    current, gain = lnm.input("fma"), lnm.param("cos", init=0.3)
    n = lnm.Neuron(
        charge={state: state * lnm.sigmoid(gain) + current * lnm.cos(other), other: 0.5 * state},
        fire={lnm.spike_named("signal"): state - lnm.sqrt(1 + other**2)},
        output={"sin": lnm.sin(state)},
    )
    values = np.random.default_rng(0).normal(size=(4, 2, 3))
    layer = lnm.nn.NeuronLayer(n, backend=backend, dtype=torch.float32)
    out = layer(torch.tensor(values, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(out, lnm.interpret(n, values).out, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("words", ["time small table signed real bool int", "wire reg module EOF"])
def test_words_of_one_language_are_free(words: str) -> None:
    """A word of C or Verilog names a parameter for PyTorch; the target refuses it alone."""
    for word in words.split():
        n = lnm.Neuron({v: lnm.param(word, init=0.5) * v + x}, v - 1, name=word)
        assert lnm.emit(n, "torch").files
        assert lnm.emit(n, "triton").files
        assert lnm.interpret(n, [[[1.0]]], **{word: 0.25}).out.shape == (1, 1, 1)


def started() -> lnm.Neuron:
    u = lnm.state("u", init=lnm.param("start", init=0.1))
    return lnm.Neuron(charge={v: p * v + theta[1] * x + u, u: theta[0] * u}, fire=v - 1)


def test_with_init_changes_initial_values_alone() -> None:
    """Of states, scalars, vectors, and a parameter that a state begins with; nothing is drawn."""
    n = started()
    new = n.with_init(v=0.25, p=0.75, theta=[1.0, 2.0], start=0.5)
    inits = {one.name: one.init for one in new.params}
    assert inits == {"p": 0.75, "theta": (1.0, 2.0), "start": 0.5}
    assert {s.name: s.decl.init for s in new.states} == {"v": 0.25, "u": 0.5}
    assert [s.name for s in new.symbols] == [s.name for s in n.symbols]
    assert str(lnm.lower(new)) == str(lnm.lower(n))
    seq = np.random.default_rng(0).normal(size=(5, 1, 3))
    given = {"theta": np.array([1.0, 2.0]), "p": 0.75, "start": 0.5}
    expected = lnm.interpret(n, seq, state={"v": 0.25, "u": 0.5}, **given)
    result = lnm.interpret(new, seq)
    np.testing.assert_array_equal(result.out, expected.out)
    np.testing.assert_array_equal(result.states["u"], expected.states["u"])
    drawn = lnm.get("lnm", states=2)
    assert drawn.params[0].draw is not None
    assert drawn.with_init(theta_v=0.0).params[0].draw is None


def test_with_init_refuses_other_values() -> None:
    assert_refused(
        """
neuron
    started().with_init(q=1.0) >> no state or parameter 'q'
neuron.with_init: p
    started().with_init(p="one") >> init is 'one' >> INIT
neuron.with_init: theta
    started().with_init(theta=[1.0]) >> init is [1.0] >> a finite number or 2 of them
neuron.with_init: u
    started().with_init(u=1.0) >> its initial value is a parameter >> >> Set start.
""",
        globals(),
    )


@pytest.mark.parametrize(("size", "accepted"), [(None, INIT), (2, INITS)])
def test_values_per_channel_are_no_initial_values(size: int | None, accepted: str) -> None:
    """A learned tensor was refused without a word on where its values go."""
    a = lnm.param("a", size=size)
    n = lnm.Neuron(charge={v: (a if size is None else a[0]) * v + x}, fire=v - 1, name="own")
    learned = torch.nn.Parameter(torch.rand(3, size or 1).squeeze())
    remedy = "lnm.emit(..., spec=..., values=...), in fixed point"
    for values in (learned, learned.tolist(), tuple(learned.detach().numpy())):
        with refused(lnm.ModelError, "own.with_init: a", "init is", accepted, remedy):
            n.with_init(a=values)
        with refused(lnm.ModelError, "parameter 'a'", "init is", accepted, remedy):
            lnm.param("a", size=size, init=values)
    for values in (np.zeros(4), [0.0] * 4):  # states per channel belong to a call
        for make in (lnm.state, lambda v, init: lnm.get("plif").with_init(v=init)):
            with refused(lnm.ModelError, None, "init is", INIT, "layer(x, state=...)"):
                make("v", init=values)


def test_other_values_have_no_remedy_per_channel() -> None:
    """Such as a vector of a wrong length, which asks for no function either."""
    for init in (np.ones(4), [1.0] * 4, ["one", "two"], "one", [], [None], (0.0, 1.0)):
        with pytest.raises(lnm.ModelError) as error:
            lnm.get("lnm", degree=2).with_init(theta=init)
        assert "per channel" not in str(error.value)
        assert error.value.accepted.startswith("a finite number or 3 of them")
    assert error.value.accepted == "a finite number or 3 of them"
