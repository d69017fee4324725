"""Definitions of neurons: accepted arguments, their order, and every refusal."""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir.declarations import Draw, Matrix, Param, PolePair, Poles, Uniform
from lnm_codegen.ir.verify import verify
from lnm_codegen.language.functions import as_expr
from lnm_codegen.validation import shown
from tests.refusals import refused
from tests.strategies import few, neurons

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
RENAME = "Rename one of them."
GIVE_OUTPUT = "Give output=, an expression or {name: expression}."
GRANULARITY = "'layer', 'channel', 'neuron'"
INIT = "a finite number, or a function (generator, shape) -> tensor"
INITS = "a finite number or 2 of them, or a function (generator, shape) -> tensor"
CONDITION = "a comparison such as v > 0, or a spike"
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


def words(**given: Any) -> Any:
    """Return a family of one argument that returns `result`."""

    @lnm.family
    def mine(degree: int = 3) -> Any:
        return given.get("result")

    return mine


def named_family(name: str) -> Any:
    """Return a family whose function has that name."""

    def build() -> lnm.Neuron:
        return neuron()

    build.__name__ = name
    return lnm.family(build)


PHASES = [
    (lambda: plain("a"), "neuron.charge[v]", "'a' is a str", NUMBERS),
    (lambda: plain(None), "neuron.charge[v]", "None is a NoneType", NUMBERS),
    (lambda: plain(theta), "neuron.charge[v]", "Vector('theta', size=2) is a Vector", NUMBERS),
    (lambda: plain(math.inf), "neuron.charge[v]", "inf is not finite", "finite numbers"),
    (lambda: plain(v > 0), "neuron.charge[v]", "v > 0 is a condition, not a number", "", USE_WHERE),
    (
        lambda: neuron(fire=v > 0),
        "neuron.fire[spike]",
        "v > 0 is a condition, not a number",
        "",
        "Write v: the neuron spikes where fire is >= 0.",
    ),
    (
        lambda: neuron(fire={other: 1 <= p - v}, output=other),
        "neuron.fire[other]",
        "p - v >= 1 is a condition, not a number",
        "",
        "Write p - v - 1: the neuron spikes where fire is >= 0.",
    ),
    (
        lambda: neuron(fire=(v > 1) & (x > 1)),
        "neuron.fire[spike]",
        "(v > 1) & (x > 1) is a condition, not a number",
        "",
        "Write v - 1 for v > 1: the neuron spikes where fire is >= 0.",
    ),
    (
        lambda: neuron(reset={v: True}),
        "neuron.reset[v]",
        "True is a condition, not a number",
        "",
        USE_WHERE,
    ),
    (
        lambda: neuron(output=v > 0),
        "neuron.output",
        "v > 0 is a condition, not a number",
        "",
        USE_WHERE,
    ),
    (lambda: neuron(output={"out": "a"}), "neuron.output[out]", "'a' is a str", NUMBERS),
    (lambda: neuron(v + x), "neuron.charge", "v + x is not a dict", "{symbol: expression}"),
    *(
        (
            lambda phase=phase, bad=bad: neuron(**{phase: bad}),
            f"neuron.{phase}",
            f"{bad!r} is not a dict",
            "{symbol: expression}",
            "lnm.hard_reset(v, 0.0), lnm.soft_reset(v, 1.0), or None" if phase == "reset" else "",
        )
        for phase in ("charge", "reset")
        for bad in (0.0, 0, 1.0, "", [], (), False, set(), [v])
    ),
    *(
        (lambda bad=bad: neuron(output=bad), "neuron.output", f"{bad!r} is a {kind}", accepted)
        for bad, kind, accepted in (
            ("", "str", NUMBERS),
            ([], "list", NUMBERS),
            (False, "condition, not a number", ""),
        )
    ),
    (
        lambda: neuron({x: v + x}),
        "neuron.charge",
        "the key x is not a state",
        "symbols made by lnm.state",
    ),
    (
        lambda: neuron({"v": v + x}),
        "neuron.charge",
        "the key 'v' is not a state",
        "symbols made by lnm.state",
    ),
    (
        lambda: neuron(reset={lnm.spike: 0}),
        "neuron.reset",
        "the key spike is not a state",
        "symbols made by lnm.state",
    ),
    (
        lambda: neuron(fire={v: v}),
        "neuron.fire",
        "the key v is not a spike",
        "symbols made by lnm.spike_named",
    ),
    (
        lambda: plain(sympy.asin(v)),
        "neuron.charge[v]",
        "'asin' in asin(v) is not a function of the language",
        LANGUAGE,
    ),
    (
        lambda: plain(sympy.Max(v, 0)),
        "neuron.charge[v]",
        "'Max' in Max(0, v) is not a function of the language",
        LANGUAGE,
    ),
    (
        lambda: plain(v + sympy.Abs(x)),
        "neuron.charge[v]",
        "'Abs' in Abs(x) is not a function of the language",
        LANGUAGE,
    ),
    (
        lambda: neuron(reset={v: sympy.Piecewise((v, v > 0), (0, True))}),
        "neuron.reset[v]",
        "'Piecewise' in Piecewise((v, v > 0), (0, True)) is not a function of the language",
        LANGUAGE,
    ),
    (
        lambda: neuron(output=sympy.sign(v)),
        "neuron.output[out]",
        "'sign' in sign(v) is not a function of the language",
        LANGUAGE,
        "Use lnm.where(a > 0, 1, lnm.where(a < 0, -1, 0)).",
    ),
    *(
        (
            lambda e=e: plain(v + e),
            "neuron.charge[v]",
            f"{type(e).__name__!r} in {e} is not a function of the language",
            LANGUAGE,
            f"Use {ours}.",
        )
        for e, ours in (
            (sympy.Max(x, 0), "lnm.max(a, b)"),
            (sympy.Min(x, 0), "lnm.min(a, b)"),
            (sympy.Abs(x), "lnm.abs(a)"),
            (abs(x), "lnm.abs(a)"),
            (sympy.Heaviside(x), "lnm.where(a >= 0, 1, 0)"),
            (sympy.Piecewise((v, x > 0), (0, True)), "lnm.where(condition, a, b)"),
            (sympy.tan(x), "lnm.sin(a)/lnm.cos(a)"),
        )
    ),
    (
        lambda: plain(x / sympy.Integer(0)),
        "neuron.charge[v]",
        "zoo in zoo*x is not finite",
        "finite numbers",
    ),
    *(
        (lambda big=big: plain(v * big + x), "neuron.charge[v]", "is beyond float64", "1.797e308")
        for big in (
            lnm.exp(1000),
            10**400,
            sympy.exp(sympy.exp(sympy.exp(1000))),
            lnm.exp(lnm.exp(lnm.exp(30))),  # its parts first: the whole takes 10^13 bits
        )
    ),
    (
        lambda: neuron(fire=v - math.nan),
        "neuron.fire[spike]",
        "nan is not finite",
        "finite numbers",
    ),
    (
        lambda: neuron(fire=v - math.inf),
        "neuron.fire[spike]",
        "-oo in v - oo is not finite",
        "finite numbers",
    ),
    (
        lambda: neuron(reset={v: lnm.where(v > 0, sympy.nan, v)}),
        "neuron.reset[v]",
        "nan in where(v > 0, nan, v) is not finite",
        "finite numbers",
    ),
    (
        lambda: neuron(output=sympy.oo * x),
        "neuron.output[out]",
        "oo in oo*x is not finite",
        "finite numbers",
    ),
    (
        lambda: neuron(surrogate=lnm.surrogate.from_slope(lambda z: sympy.asin(z))),
        "neuron.surrogate[spike]",
        "'asin' in asin(z) is not a function of the language",
        LANGUAGE,
    ),
    (
        lambda: neuron(surrogate=lnm.surrogate.from_slope(lambda z: z * sympy.nan)),
        "neuron.surrogate[spike]",
        "nan is not finite",
        "finite numbers",
    ),
    *(
        (
            lambda base=base: plain(sympy.S(base) ** v),
            "neuron.charge[v]",
            f"the base of {sympy.S(base) ** v} is {base}",
            "a base above 0, or a constant exponent",
        )
        for base in (0, -1, -2, sympy.Rational(-1, 2), sympy.sqrt(2) - 3)
    ),
    (
        lambda: plain(v ** sympy.Float("1e400")),
        "neuron.charge[v]",
        "is beyond float64",
        "magnitudes up to 1.797e308",
    ),
    (
        lambda: neuron(fire=v + sympy.sqrt(-1)),
        "neuron.fire[spike]",
        "'ImaginaryUnit' in I is not a function of the language",
        LANGUAGE,
    ),
    *(
        (
            lambda e=e, f=f: f(e),
            f"neuron.{where}",
            f"the exponent in {e} is too large",
            "-64 to 64",
        )
        for e in (v**65, v**-65, v**100_000, v ** sympy.Rational(129, 2), (v + x) ** 100.0, v**1e19)
        for where, f in (
            ("charge[v]", plain),
            ("fire[spike]", lambda e: neuron(fire=e)),
            ("reset[v]", lambda e: neuron(reset={v: e})),
            ("output[out]", lambda e: neuron(output=e)),
            ("with_counts[n]", lambda e: neuron().with_counts(n=e)),
        )
    ),
    (
        lambda: plain(((v + 1) ** 33 + x) ** 33),
        "neuron.charge[v]",
        "a polynomial has degree 1089",
        "at most 64",
        "Lower its powers.",
    ),
    (
        lambda: plain(v * ((p + 1) ** 9 + 1) ** 9),
        "neuron.charge[v]",
        "a polynomial has degree 81",
        "at most 64",
        "Lower its powers.",
    ),
    (
        lambda: plain(nested(lnm.tanh, 50)),
        "neuron.charge[v]",
        "the expression is nested more than 100 deep, sums and products counted",
        "at most 100",
        "Write it flatter.",
    ),
    (
        lambda: plain(nested(lnm.abs, 12)),
        "neuron.charge[v]",
        "the expression has more than 20000 terms; abs, min, max and clip repeat theirs",
        "at most 20000",
        "Split the expression.",
    ),
]

SYMBOLS = [
    (
        lambda: neuron({v: v + x + sympy.Symbol("vv")}),
        "neuron.charge",
        "unknown symbol 'vv'",
        "v, x",
        "Did you mean 'v'?",
    ),
    (lambda: neuron(fire=v - sympy.Symbol("q")), "neuron.fire", "unknown symbol 'q'", "v, x"),
    (
        lambda: neuron({v: lnm.where(sympy.Symbol("q") > 0, v, x)}),
        "neuron.charge",
        "unknown symbol 'q'",
        "v, x",
    ),
    (lambda: plain(v + x * lnm.spike), "neuron.charge", "reads the spike 'spike'", "", LAST_SPIKE),
    (
        lambda: plain(lnm.where(lnm.spike, v, x)),
        "neuron.charge",
        "reads the spike 'spike'",
        "",
        LAST_SPIKE,
    ),
    (
        lambda: neuron(fire={lnm.spike: v - 1, other: v - lnm.spike}),
        "neuron.fire",
        "reads the spike 'spike'",
        "",
        LAST_SPIKE,
    ),
    (
        lambda: neuron(reset={v: v - lnm.spike_named("spke")}),
        "neuron.reset",
        "unknown symbol 'spke'",
        "spike, v, x",
        "Did you mean 'spike'?",
    ),
    (lambda: neuron(output=other), "neuron.output", "unknown symbol 'other'", "spike, v, x"),
    (
        lambda: neuron({v: v + w + x}),
        "neuron",
        "state 'w' is set by neither charge nor reset",
        "",
        "Give it an expression, or make it a parameter.",
    ),
    (lambda: neuron({v: v + lnm.input("v")}), "neuron", "'v' is declared twice", "", RENAME),
    (
        lambda: neuron({v: v + lnm.input("theta") + theta[0]}),
        "neuron",
        "'theta' is declared twice",
        "",
        RENAME,
    ),
    (
        lambda: neuron({v: v + lnm.input("theta_1") + theta[0]}),
        "neuron",
        "'theta_1' is declared twice",
        "",
        RENAME,
    ),
    (
        lambda: neuron(fire={lnm.spike_named("x"): v}, output=v),
        "neuron",
        "'x' is declared twice",
        "",
        RENAME,
    ),
    (
        lambda: lnm.Neuron(output=p),
        "neuron",
        "no input",
        "",
        "Declare at least one, lnm.input('x'); it gives the layer its shape.",
    ),
    (
        lambda: neuron(fire=None),
        "neuron.output",
        "no spike is named lnm.spike, the default output",
        "",
        GIVE_OUTPUT,
    ),
    (
        lambda: neuron(fire={other: v}),
        "neuron.output",
        "no spike is named lnm.spike, the default output",
        "",
        GIVE_OUTPUT,
    ),
    (
        lambda: neuron(output={}),
        "neuron.output",
        "no output",
        "",
        "Give an expression or {name: expression}.",
    ),
    (lambda: neuron(output={"1a": v}), "neuron.output '1a'", "not an identifier"),
    (lambda: neuron(output={v: v}), "neuron.output v", "not an identifier"),
    (lambda: neuron(output={"class": v}), "neuron.output 'class'", KEYWORD),
    *(
        (
            lambda bad=bad, fire=fire: neuron(fire=fire, output=v, surrogate=bad),
            "neuron.surrogate",
            f"{bad!r} is not a surrogate",
            SURROGATE,
        )
        for bad in (3, 0, "", [], False)
        for fire in (v, None)
    ),
    (
        lambda: neuron(fire=None, output=v, surrogate=lnm.surrogate.atan()),
        "neuron.surrogate",
        "given, but the neuron has no spike",
        "",
        "Remove it.",
    ),
    (
        lambda: neuron(surrogate={other: lnm.surrogate.straight_through()}),
        "neuron.surrogate",
        "fire has no spike 'other'",
        "spike",
    ),
    (
        lambda: neuron(surrogate={"sp": lnm.surrogate.straight_through()}),
        "neuron.surrogate",
        "fire has no spike 'sp'",
        "spike",
    ),
    (
        lambda: neuron(surrogate=dict.fromkeys(["spike", lnm.spike], lnm.surrogate.atan())),
        "neuron.surrogate",
        "'spike' occurs twice",
        "one surrogate for each spike",
    ),
    (lambda: neuron(surrogate={"spike": 3}), "neuron.surrogate", "'spike' has 3", SURROGATE),
    (
        lambda: neuron(fire={lnm.spike: v, other: v}, surrogate={other: lnm.surrogate.atan()}),
        "neuron.surrogate",
        "none for spike",
        "",
        "Give one per spike.",
    ),
    (lambda: neuron(name="1x"), "neuron '1x'", "not an identifier"),
    *(
        (lambda word=word: neuron(name=word), f"neuron {word!r}", problem)
        for word, problem in (("class", KEYWORD), ("sum_v", FORM))
    ),
    (
        lambda: plain(v + x).with_outputs(y=sympy.Symbol("q") + v),
        "neuron.with_outputs[y]",
        "unknown symbol 'q'",
        "spike, v, x",
    ),
    (
        lambda: plain(v + x).with_outputs(y=p),
        "neuron.with_outputs[y]",
        "'p' is a symbol of another neuron, or declared outside this one",
        "spike, v, x",
        "Declare it in this one.",
    ),
    (
        lambda: plain(v + x).with_outputs(y=lnm.get("lif").states[0]),
        "neuron.with_outputs[y]",
        "'v' is a symbol of another neuron, or declared outside this one",
        "spike, v, x",
        "Use this neuron's own 'v'.",
    ),
    (
        lambda: plain(v + x + sympy.Symbol("v")),
        "neuron.charge",
        "unknown symbol 'v'",
        "v, x",
        "Use the declared symbol, not sympy.Symbol('v').",
    ),
    (
        lambda: plain(v + x + lnm.get("lif").states[0]),
        "neuron",
        "'v' is declared twice",
        "",
        "Rename one of them. A neuron cannot read the symbols of another neuron.",
    ),
    (lambda: plain(v + x).with_outputs(y="v"), "neuron.with_outputs[y]", "'v' is a str", NUMBERS),
    (
        lambda: plain(v + x).with_outputs(spike=v),
        "neuron.with_outputs",
        "'spike' already exists",
        "names other than spike",
    ),
    (lambda: plain(v + x).with_outputs(_y=v), "neuron.with_outputs '_y'", FORM),
    (
        lambda: plain(v + x).with_counts(n=other),
        "neuron.with_counts[n]",
        "unknown symbol 'other'",
        "spike, v, x",
    ),
    (
        lambda: plain(v + x).with_per({"theta": "layer"}),
        "neuron",
        "per names 'theta', which is not a parameter",
        "an empty dict",
        "Leave per out.",
    ),
    (lambda: plain(v * p + x).with_per("all"), "neuron", "per is 'all'", GRANULARITY),
    (lambda: plain(v * p + x).with_per({"p": "all"}), "neuron", "per is 'all'", GRANULARITY),
    (
        lambda: plain(v * theta[0] + p + x).with_per({"tehta": "layer"}),
        "neuron",
        "per names 'tehta', which is not a parameter",
        "p, theta",
        "Did you mean 'theta'?",
    ),
]

DECLARATIONS = [
    (lambda: lnm.state("_a"), "state '_a'", FORM),
    (lambda: lnm.state("spike"), "state 'spike'", "the default spike has this name"),
    (lambda: lnm.state("v_next"), "state 'v_next'", FORM),
    (lambda: lnm.state(3), "state 3", "not an identifier"),
    (lambda: lnm.state(""), "state ''", "not an identifier"),
    (lambda: lnm.input("é"), "input 'é'", "not an identifier"),
    (lambda: lnm.input("grad_x"), "input 'grad_x'", FORM),
    (lambda: lnm.param("lambda"), "parameter 'lambda'", KEYWORD),
    (lambda: lnm.param("sum_tau"), "parameter 'sum_tau'", FORM),
    (lambda: lnm.spike_named("while"), "spike 'while'", KEYWORD),
    (lambda: lnm.spike_named("a b"), "spike 'a b'", "not an identifier"),
    (lambda: lnm.param("a", per="all"), "parameter 'a'", "per is 'all'", GRANULARITY),
    *(
        (
            lambda bad=bad: lnm.param("a", learnable=bad),
            "parameter 'a'",
            f"learnable is {bad!r}",
            "True, False",
        )
        for bad in ("no", 1, None)
    ),
    *(
        (
            lambda bad=bad: neuron(detach_reset=bad),
            "neuron",
            f"detach_reset is {bad!r}",
            "True, False",
        )
        for bad in ("no", 1, None)
    ),
    (lambda: neuron().with_detach_reset("no"), "neuron", "detach_reset is 'no'", "True, False"),
    (lambda: lnm.param("a", size=0), "parameter 'a'", "size is 0", "an integer >= 1 or None"),
    (lambda: lnm.param("a", size=True), "parameter 'a'", "size is True", "an integer >= 1 or None"),
    (lambda: lnm.param("a", size=2.0), "parameter 'a'", "size is 2.0", "an integer >= 1 or None"),
    (
        lambda: lnm.param("a", draw=abs),
        "parameter 'a'",
        "draw is <built-in",
        "another lnm.Draw, or None",
    ),
    (
        lambda: lnm.param("a", draw=Draw(None)),
        "parameter 'a'",
        "the sample of draw is None",
        "a function",
    ),
    *(
        (
            lambda ends=ends, sample=sample: lnm.param(
                "a", size=sample(ends).size, draw=Draw(sample(ends))
            ),
            "parameter 'a'",
            f"{word} of draw is {shown(ends)}",
            "a tuple of two finite numbers, the smaller one first",
        )
        for ends in (
            (3.0, -1.0),
            (0.0, math.nan),
            (0.0, math.inf),
            ("0", 1),
            (0, 1, 2),
            (1.0,),
            1.0,
        )
        for word, sample in (
            ("ends", Uniform),
            ("radius", lambda ends: PolePair(Poles(ends, (0.0, 1.0)))),
            ("angle", lambda ends: Matrix(Poles((0.0, 1.0), ends), 0, 2)),
        )
    ),
    *(
        (
            lambda sample=sample: lnm.param("a", size=sample.size, draw=Draw(sample)),
            "parameter 'a'",
            problem,
            accepted,
        )
        for sample, problem, accepted in (
            (Matrix(POLES, 2, 3), "first of draw is 2", "0 to size - 2, 1"),
            (Matrix(POLES, -1, 3), "first of draw is -1", "0 to size - 2, 1"),
            (
                Matrix(Poles((-0.5, 0.5), (0.0, 1.0)), 0, 2),
                "radius of draw is (-0.5, 0.5)",
                "numbers >= 0",
            ),
            (
                PolePair(Poles((0.5, 1.0), (0.0, 1.0))),
                "radius of draw is (0.5, 1.0)",
                "numbers between 0 and 1",
            ),
        )
    ),
    *(
        (
            lambda sample=sample, part=part, size=size: lnm.param(
                "a", size=size, draw=Draw(sample, part)
            ),
            "parameter 'a'",
            f"draw is part {part} of a {type(sample).__name__} and size is {size}",
            accepted,
        )
        for sample, part, size, accepted in (
            (UNIFORM, 0, 2, "part 0 and size None"),
            (UNIFORM, 0, 1, "part 0 and size None"),
            (UNIFORM, 1, None, "part 0 and size None"),
            (PolePair(POLES), 0, 3, "part 0 or 1 and size None"),
            (PolePair(POLES), 2, None, "part 0 or 1 and size None"),
            (Matrix(POLES, 1, 3), 0, None, "part 0 or 1 and size 3"),
            (Matrix(POLES, 1, 3), 1, 2, "part 0 or 1 and size 3"),
            (Matrix(POLES, 1, 3), -1, 3, "part 0 or 1 and size 3"),
        )
    ),
    (lambda: lnm.param("a", init="x"), "parameter 'a'", "init is 'x'", INIT),
    (
        lambda: lnm.param("a", size=2, init=[1]),
        "parameter 'a'",
        "init is [1]",
        "a finite number or 2 of them",
    ),
    (lambda: lnm.param("a", size=2, init=[1, "b"]), "parameter 'a'", "init is [1, 'b']", INITS),
    (lambda: lnm.state("a", init=[1]), "state 'a'", "init is [1]", INIT),
    *(
        (
            lambda bad=bad: lnm.state("a", init=bad),
            "state 'a'",
            f"init is {shown(bad)}",
            INIT,
        )
        for bad in (math.nan, math.inf, -math.inf, True, 10**400, np.bool_(True))
    ),
    *(
        (
            lambda bad=bad: lnm.param("a", size=2, init=bad),
            "parameter 'a'",
            f"init is {bad!r}",
            INITS,
        )
        for bad in (math.nan, False, [0.0, math.inf], (True, 1.0))
    ),
    (lambda: theta["a"], "theta['a']", "not an index", "an integer from 0 to 1, or a slice"),
    (lambda: theta[0.0], "theta[0.0]", "not an index", "an integer from 0 to 1, or a slice"),
    (lambda: theta[2], "theta[2]", "index out of range", "an integer from 0 to 1"),
    (lambda: theta[-3], "theta[-3]", "index out of range", "an integer from 0 to 1"),
]

FUNCTIONS = [
    (lambda: lnm.where(v, 1, 0), "where", "v is not a condition", CONDITION),
    (lambda: lnm.where(1, 2, 0), "where", "1 is not a condition", CONDITION),
    (
        lambda: lnm.where((v > 0) ^ (x > 0), 2, 0),
        "where",
        "(v > 0) ^ (x > 0) is not a condition",
        CONDITION,
    ),
    (
        lambda: lnm.where(lnm.spike & (v > 0), 2, 0),
        "where",
        "spike & (v > 0) is not a condition",
        CONDITION,
    ),
    (lambda: lnm.where(v > 0, "a", 0), "where", "'a' is a str", NUMBERS),
    (lambda: lnm.poly(v, []), "poly", "theta is empty", "", "Give at least one coefficient."),
    (lambda: lnm.poly(theta, [1]), "poly", "Vector('theta', size=2) is a Vector", NUMBERS),
    *(
        (
            lambda bad=bad: lnm.poly(v, bad),
            "poly",
            f"theta is {bad}",
            "a vector parameter, or a list of coefficients, [a, b, c]",
        )
        for bad in (3, v)
    ),
    *(
        (
            call,
            "theta",
            f"{said} takes no vector parameter",
            "its elements, theta[0] to theta[1], or lnm.poly(z, theta)",
            "Index it.",
        )
        for said, call in [
            ("'*'", lambda: theta * 2),
            ("'*'", lambda: v * theta),
            ("'+'", lambda: 1 + theta),
            ("'+'", lambda: theta + v),
            ("'-'", lambda: v - theta),
            ("'-'", lambda: -theta),
            ("'/'", lambda: theta / 2),
            ("'/'", lambda: v / theta),
            ("'**'", lambda: theta**2),
            ("'**'", lambda: v**theta),
            ("a comparison", lambda: theta > 0),
            ("a comparison", lambda: v <= theta),
        ]
    ),
    *(
        (
            lambda bad=bad: lnm.surrogate.atan(alpha=bad),
            "surrogate.atan",
            f"alpha is {bad}",
            "a number > 0",
        )
        for bad in (sympy.I, sympy.oo, 0, -1, v)
    ),
    (lambda: lnm.poly(v, [None]), "poly", "None is a NoneType", NUMBERS),
    *(
        (
            lambda f=f, bad=bad: f(bad),
            f.__name__,
            f"{bad!r} is a {type(bad).__name__}",
            NUMBERS,
        )
        for f in (lnm.exp, lnm.log, lnm.sqrt, lnm.tanh, lnm.sigmoid, lnm.sin, lnm.stop_gradient)
        for bad in ("a", theta, None)
    ),
    (lambda: lnm.max(v, "a"), "max", "'a' is a str", NUMBERS),
    (lambda: lnm.min([], v), "min", "[] is a list", NUMBERS),
    (lambda: lnm.abs("a"), "abs", "'a' is a str", NUMBERS),
    (lambda: lnm.clip(v, -1, math.inf), "clip", "inf is not finite", "finite numbers"),
    (lambda: lnm.hard_reset(v, "a"), "hard_reset", "'a' is a str", NUMBERS),
    (lambda: lnm.soft_reset(v, math.nan), "soft_reset", "nan is not finite", "finite numbers"),
]

BUILT_IN = ", ".join(FAMILIES)
LIF = "tau, decay_input, v_threshold, v_reset, v_rest, learn_tau, per, surrogate"
FAMILY = [
    (lambda: lnm.get("lfi"), "get", "no family 'lfi'", BUILT_IN, "Did you mean 'li'?"),
    *((lambda bad=bad: lnm.get(bad), "get", f"no family {bad!r}", BUILT_IN) for bad in (3, [])),
    (lambda: lnm.get("wilson"), "get", "no family 'wilson'", BUILT_IN),
    (
        lambda: lnm.get("lif", taw=3),
        "lif",
        "no argument 'taw'",
        LIF,
        "Did you mean 'tau'?",
    ),
    (lambda: named_family("lambda"), "family 'lambda'", KEYWORD),
    (lambda: named_family("sum_v"), "family 'sum_v'", FORM),
    (lambda: named_family("<lambda>"), "family '<lambda>'", "not an identifier"),
    (lambda: words()(1, 2), "mine", "too many positional arguments", "degree"),
    (lambda: words(result=3)(), "mine", "it returned int", "an lnm.Neuron"),
    *(
        (
            lambda name=name, word=word: lnm.get(name, **{word: 1}),
            name,
            f"{word} is 1",
            "a number > 1",
        )
        for name, word in [
            *((name, "tau") for name in ("lif", "plif", "qif", "izhikevich", "li")),
            ("izhikevich", "tau_w"),
        ]
    ),
    (lambda: lnm.get("lif", tau=True), "lif", "tau is True", "a number > 1"),
    (lambda: lnm.get("lif", tau="2"), "lif", "tau is '2'", "a number > 1"),
    (lambda: lnm.get("lif", tau=math.nan), "lif", "tau is nan", "a number > 1"),
    (lambda: lnm.get("ternary", v_threshold=0), "ternary", "v_threshold is 0", "a number > 0"),
    (lambda: lnm.get("lif", v_reset="a"), "lif", "v_reset is 'a'", "a finite number or None"),
    *(
        (
            lambda degree=degree: lnm.get("lnm", degree=degree),
            "lnm",
            f"degree is {degree!r}",
            "an integer from 1 to 8",
        )
        for degree in (0, 9, 2.0, True, "3")
    ),
    (lambda: lnm.get("lnm", form="D"), "lnm", "form is 'D'", "'A', 'B', 'C'"),
    (
        lambda: lnm.get("lnm", degree=2, theta=[0, 1]),
        "parameter 'theta'",
        "init is [0, 1]",
        "a finite number or 3 of them",
    ),
    (lambda: lnm.get("lnm", per="batch"), "lnm", "per is 'batch'", GRANULARITY),
    (
        lambda: lnm.get("lnm", per={"teta": "layer"}),
        "lnm",
        "per names 'teta', which is not a parameter",
        "theta, v_threshold",
        "Did you mean 'theta'?",
    ),
    (lambda: lnm.get("plif", per="batch"), "parameter 'w'", "per is 'batch'", GRANULARITY),
]


def test_numbers_in_a_wrong_count_do_not_suggest_a_function() -> None:
    """The command line, where `--set theta=0,1` is given, accepts no function."""
    with pytest.raises(lnm.ModelError) as caught:
        lnm.get("lnm", degree=2, theta=(0.0, 1.0))
    assert caught.value.accepted == "a finite number or 3 of them"


def test_surrogates_by_name():
    """The keys are spikes or their names."""
    slopes = lnm.surrogate.atan(alpha=3.0), lnm.surrogate.triangle()
    keys = (("spike", "other"), (lnm.spike, other), (lnm.spike, "other"))
    tables = [dict(zip(key, slopes, strict=True)) for key in keys]
    found = [neuron(fire={lnm.spike: v, other: v}, surrogate=table).surrogates for table in tables]
    assert found[0] == found[1] == found[2] == (("spike", slopes[0]), ("other", slopes[1]))


@pytest.mark.parametrize(
    "row",
    [*PHASES, *SYMBOLS, *DECLARATIONS, *FUNCTIONS, *FAMILY],
    ids=lambda row: f"{row[1]}: {row[2]}"[:50],
)
def test_refusals(row: tuple[Any, ...]) -> None:
    """Each row has a call and the parts of its error: place, problem, accepted, remedy."""
    call, *parts = row
    with refused(lnm.ModelError, *parts):
        call()


def test_a_declaration_that_nothing_reads_is_refused():
    """Inside a family every declaration is a port, so an idle one is a mistake."""

    @lnm.family
    def idle() -> lnm.Neuron:
        v, x = lnm.state("v"), lnm.input("x")
        lnm.param("tau", init=2.0)
        return lnm.Neuron(charge={v: v + x}, fire=v)

    problem = "'tau' is declared but no expression reads it"
    with refused(lnm.ModelError, "idle", problem, remedy="Use it or remove the declaration."):
        idle()


def test_a_symbol_from_outside_the_family_is_unknown():
    """A family's neuron reads what the family declares, and nothing of another."""

    @lnm.family
    def outside() -> lnm.Neuron:
        own, x = lnm.state("v"), lnm.input("x")
        return lnm.Neuron(charge={own: v + x + own}, fire=own)

    problem = "'v' is a symbol of another neuron, or declared outside this one"
    remedy = "Use this neuron's own 'v'."
    with refused(lnm.ModelError, "outside.charge", problem, "v, x", remedy):
        outside()


@pytest.mark.parametrize("phase", ["charge", "reset"])
def test_a_state_from_outside_the_family_is_not_set(phase: str) -> None:
    """Its expression was dropped in silence."""

    @lnm.family
    def outside() -> lnm.Neuron:
        own, x = lnm.state("v"), lnm.input("x")
        phases: dict[str, Any] = {"charge": {own: own + x}, "reset": {}}
        phases[phase] = phases[phase] | {v: own}
        return lnm.Neuron(fire=own, **phases)

    problem = "'v' is a symbol of another neuron, or declared outside this one"
    with refused(lnm.ModelError, f"outside.{phase}", problem, "v, x", "Use this neuron's own 'v'."):
        outside()


def test_a_family_declares_in_order():
    """The order of declaration is that of states, inputs, parameters and ports."""

    @lnm.family
    def ordered() -> lnm.Neuron:
        b, a = lnm.state("b"), lnm.state("a")
        y, x = lnm.input("y"), lnm.input("x")
        q = lnm.param("q", size=2)
        r = lnm.param("r", init=1.0, learnable=False)
        return lnm.Neuron(charge={a: a + x * q[1], b: b + y * r}, fire=a - b)

    n = ordered()
    assert n.name == ordered.name == "ordered"
    assert [s.name for s in n.states] == ["b", "a"]
    assert [s.name for s in n.inputs] == ["y", "x"]
    assert [d.name for d in n.params] == ["q", "r"]
    assert [s.name for s in n.symbols] == ["b", "a", "y", "x", "q_0", "q_1", "r"]
    kernel = lnm.lower(n).forward
    assert [port.var.name for port in kernel.results] == ["spike", "b_next", "a_next"]


def test_a_bare_neuron_takes_what_it_uses_in_creation_order():
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


def test_families_stand_side_by_side():
    """Two neurons of one family share no symbol, yet lower to the same text."""
    one, other = lnm.get("lif"), lnm.get("lif")
    assert not set(one.symbols) & set(other.symbols)
    assert str(lnm.lower(one)) == str(lnm.lower(other))


def test_a_family_may_call_a_family():
    """The scope of the outer one is restored, also after an error."""

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
    bare = lnm.Neuron(charge={v: v + x}, fire=v)
    assert bare.name == "neuron"


@pytest.mark.parametrize(("name", "shown"), [("if_", "if"), ("mine", "mine")])
def test_a_trailing_underscore_is_no_part_of_a_family_name(name, shown):
    """`if_` is the family `if`."""

    def build() -> lnm.Neuron:
        v, x = lnm.state("v"), lnm.input("x")
        return lnm.Neuron(charge={v: v + x}, fire=v)

    build.__name__ = name
    assert lnm.family(build)().name == shown


def test_reprs():
    """A family and a vector say what they are."""
    assert repr(words()) == "<family mine(degree: 'int' = 3) -> 'Any'>"
    assert repr(theta) == "Vector('theta', size=2)"


def test_a_vector_is_a_sequence():
    """Index, slice, length and iteration are those of a tuple of symbols."""
    assert len(theta) == 2
    assert theta[-1] is theta[1]
    assert theta[:1] == (theta[0],)
    assert [t.name for t in theta] == ["theta_0", "theta_1"]
    assert lnm.poly(v, theta) == theta[0] + theta[1] * v


def test_outputs():
    """The spike by default; a lone expression is `out`, a lone spike keeps its name."""
    assert [n for n, _ in neuron().output] == ["spike"]
    assert [n for n, _ in neuron(output=v).output] == ["out"]
    assert [n for n, _ in neuron(fire={other: v}, output=other).output] == ["other"]
    several = neuron(output={"potential": v, "spike": lnm.spike})
    assert [n for n, _ in several.output] == ["potential", "spike"]
    more = several.with_outputs(z=v - 1)
    assert [n for n, _ in more.output] == ["potential", "spike", "z"]
    assert [n for n, _ in several.output] == ["potential", "spike"]


def test_an_output_may_have_the_name_of_a_port():
    """An output `x` or `v` of a neuron that has such an input or state stays apart from it."""
    n = neuron(output={"x": 2 * v, "v": 3 * v})
    result = lnm.interpret(n, np.ones((1, 1)), grad_out=np.ones((1, 1)))
    assert [float(o[0, 0]) for o in result.outputs.values()] == [2.0, 3.0]
    assert result.grads["x"][0, 0] == 5


@pytest.mark.parametrize("names", [("t0", "a"), ("a", "t0"), ("t1", "t0")])
def test_an_output_may_have_the_name_of_a_temporary(names):
    """Two outputs of one value, one called t0: build once gave its Let to the other."""
    n = neuron(output=dict.fromkeys(names, lnm.exp(v)))
    lnm.lower(n, on_pass=lambda _, kernel: verify(kernel))
    result = lnm.interpret(n, np.zeros((1, 1)))
    assert {k: float(o[0, 0]) for k, o in result.outputs.items()} == dict.fromkeys(names, 1.0)


def test_surrogates_default_to_atan():
    """atan(alpha=2) for each spike; one serves all, or a dict names each."""
    assert neuron().surrogates == (("spike", lnm.surrogate.atan(alpha=2)),)
    two = {lnm.spike: v - 1, other: v - 2}
    erf = lnm.surrogate.erf()
    assert neuron(fire=two, surrogate=erf).surrogates == (("spike", erf), ("other", erf))
    named = neuron(fire=two, surrogate={other: erf, lnm.spike: lnm.surrogate.sigmoid()})
    assert named.surrogates == (("spike", lnm.surrogate.sigmoid()), ("other", erf))
    assert named.spikes == ("spike", "other")


def test_detach_reset():
    """`with_detach_reset` returns another neuron and leaves this one."""
    n = neuron(reset=lnm.soft_reset(v, 1.0))
    detached = n.with_detach_reset(True)
    assert (n.detach_reset, detached.detach_reset) == (False, True)
    assert detached.with_detach_reset(False) == n


def test_with_per():
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


def test_with_per_leaves_no_old_declaration_behind():
    """Symbols, params and expressions have one declaration; one made before it still serves."""
    comparison = lnm.max(lnm.tanh(v * theta[1]), p * x)
    n = neuron({v: v * theta[0] + comparison}).with_per({"theta": "channel"})
    declared = {s.decl for s in n.symbols if isinstance(s.decl, Param)}
    assert declared == set(n.params)
    assert {d.name: d.per for d in n.params} == {"p": "layer", "theta": "channel"}
    read = set().union(*(e.free_symbols for _, e in n.charge))
    assert read <= set(n.symbols)
    twice = n.with_per("neuron").with_outputs(y=theta[1] * v)
    assert dict(twice.output)["y"].free_symbols <= set(twice.symbols)
    assert str(lnm.lower(n)) == str(lnm.lower(neuron({v: v * theta[0] + comparison})))
    lnm.lower(twice)


def test_a_parameter_as_initial_value():
    """It belongs to the neuron, not to the step; its granularity changes as that of the others."""
    start = lnm.param("v_init", init=0.25)
    a, b = lnm.state("a", init=start), lnm.state("b", init=1.0)
    n = lnm.Neuron(charge={a: a * p + x, b: b / 2}, output=a)
    assert [d.name for d in n.params] == ["p", "v_init"]
    assert [d.name for d in n.step_params] == ["p"]
    assert [d.name for d in n.with_outputs(more=start).step_params] == ["p", "v_init"]
    assert (a.decl.init, a.decl.param) == (0.25, "v_init")
    assert {d.name: d.per for d in n.with_per("channel").params} == dict.fromkeys(
        ("p", "v_init"), "channel"
    )
    assert "  state   a = v_init" in repr(n).splitlines()
    assert "a = v_{init}" in n._repr_latex_()
    for twin in (pickle.loads(pickle.dumps(n)), copy.deepcopy(n)):
        assert twin == n
        assert twin.step_params == n.step_params
        assert lnm.Neuron(charge=dict(twin.charge), output=twin.states[0]).params == n.params

    @lnm.family
    def mine():
        v = lnm.state("v", init=lnm.param("rest", init=-0.5))
        return lnm.Neuron(charge={v: v / 2 + lnm.input("i")}, fire=v - 1)

    assert [d.name for d in mine().params] == ["rest"]
    assert mine().step_params == ()
    plain = lnm.state("v", init=-0.5)
    other = lnm.Neuron(charge={plain: plain / 2 + x}, fire=plain - 1, name="mine")
    assert str(lnm.lower(mine())) == str(lnm.lower(other)).replace(" x", " i").replace("_x", "_i")


def test_initial_values_that_are_refused():
    """A vector, its element, a state; a parameter of another family."""
    accepted = "a number, a function, or a scalar lnm.param"
    for bad in (theta, theta[0], x, lnm.spike):
        with refused(lnm.ModelError, "state 'a'", f"init is {bad!r}", accepted):
            lnm.state("a", init=bad)

    @lnm.family
    def mine():
        v = lnm.state("v", init=p)
        return lnm.Neuron(charge={v: v / 2 + lnm.input("i")}, fire=v - 1)

    with refused(lnm.ModelError, "state 'v'", "'p' is a symbol of another neuron"):
        mine()


def test_a_neuron_is_immutable():
    """Fields cannot be set: a lowered program is cached by the neuron."""
    with pytest.raises(AttributeError):
        neuron().name = "mine"


@few
@given(neurons(stops=True))
def test_pickle_and_deepcopy_give_the_same_neuron(n):
    """A copy is equal, hashes alike and lowers to the same text."""
    for twin in (pickle.loads(pickle.dumps(n)), copy.deepcopy(n), copy.copy(n)):
        assert twin == n
        assert hash(twin) == hash(n)
        assert str(lnm.lower(twin)) == str(lnm.lower(n))


@pytest.mark.parametrize("name", FAMILIES)
def test_families_pickle(name):
    """Every built-in neuron survives pickle and deepcopy."""
    n = lnm.get(name)
    for twin in (pickle.loads(pickle.dumps(n)), copy.deepcopy(n)):
        assert twin == n
        assert str(lnm.lower(twin)) == str(lnm.lower(n))


def test_numbers_are_the_decimals_their_author_wrote():
    """0.1 is 1/10; integers, fractions and NumPy's numbers are exact too."""
    for value in (0.1, np.float64(0.1), Fraction(1, 10)):
        assert as_expr(value) == sympy.Rational(1, 10)
    assert as_expr(Fraction(1, 3)) == sympy.Rational(1, 3)
    assert as_expr(np.int64(3)) == as_expr(np.float32(3)) == 3
    assert as_expr(v) is v
    program = lnm.lower(plain(v * 0.1 + x))
    assert "fma(0.1, v, x)" in str(program.forward)


def test_arguments_keep_their_order():
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


@pytest.mark.parametrize("cond", [2 * v == 0, 2 * v != 0, True, np.True_, np.bool_(False)], ids=str)
def test_a_python_bool_is_no_condition(cond):
    """`2*v == 0` is False at once in SymPy; the message for a flag spoke of == alone."""
    remedy = (
        "Write sympy.Eq(a, b) for a == b and sympy.Ne(a, b) for a != b."
        " For a flag write a if flag else b."
    )
    accepted = "a comparison such as v > 0, or a spike"
    problem = f"the condition is {cond}, a bool of Python"
    with refused(lnm.ModelError, "where", problem, accepted, remedy):
        lnm.where(cond, 1, v)


@pytest.mark.parametrize("f", [lnm.exp, lnm.log, lnm.sqrt, lnm.tanh, lnm.sigmoid, lnm.sin, lnm.cos])
@pytest.mark.timeout(20)
def test_nested_functions_are_cheap(f):
    """SymPy's own tanh took a minute over ten of them; the bound is 49."""
    lnm.lower(plain(nested(f, 49)))


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("e", [v**64, v**-64, (v + x) ** 64, v * (p + 1) ** 32])
def test_the_largest_powers_are_lowered(e):
    """What the bound of the degree lets through takes seconds at most."""
    lnm.lower(plain(e + x))


def test_a_polynomial_may_have_coefficients_beside_its_degree():
    """theta[64]*v**64 has degree 64 in v, whatever its coefficient."""
    plain(x + lnm.poly(v, lnm.param("many", size=65)))


@pytest.mark.parametrize(
    ("e", "value"),
    [
        (lnm.exp(0), 1), (lnm.tanh(0), 0), (lnm.sin(sympy.pi / 6), sympy.Rational(1, 2)),
        (lnm.cos(sympy.pi), -1), (lnm.log(1), 0), (lnm.sqrt(4), 2),
        (lnm.exp(0.5), lnm.exp(Fraction(1, 2))), (lnm.sqrt(2.0), sympy.sqrt(2)),
    ],
)  # fmt: skip
def test_functions_of_numbers_are_exact(e, value):
    """A look-up is made; a float is the decimal its author wrote."""
    assert e == value


def test_resets():
    """The dicts that hard_reset and soft_reset stand for."""
    assert lnm.hard_reset(v, 0.5) == {v: lnm.where(lnm.spike, 0.5, v)}
    assert lnm.soft_reset(v, p) == {v: v - lnm.spike * p}
    assert lnm.hard_reset(v, on=other) == {v: lnm.where(other, 0, v)}
    assert lnm.soft_reset(v, 1, on=other) == {v: v - other}


def test_derivatives_of_our_functions():
    """SymPy differentiates sigmoid and where as the language defines them."""
    s = lnm.sigmoid(Z)
    assert s.diff(Z) == s * (1 - s)
    assert lnm.abs(Z).diff(Z) == lnm.where(Z >= 0, 1, -1)
    assert sympy.latex(lnm.where(Z > 0, Z, 0)) == (
        r"\begin{cases} z & z > 0 \\ 0 & \text{otherwise} \end{cases}"
    )


@pytest.mark.parametrize(
    ("power", "value"),
    [
        (v**0.5, lambda a, b: a**0.5),
        (v**1.5, lambda a, b: a**1.5),
        (v**-2.5, lambda a, b: a**-2.5),
        (v**0.3, lambda a, b: a**0.3),
        (2**v, lambda a, b: 2**a),
        (v**x, lambda a, b: a**b),
        (v**-x, lambda a, b: a**-b),
        (lnm.exp(x * lnm.log(v)), lambda a, b: a**b),
        (x**-2 + v**3, lambda a, b: b**-2 + a**3),
    ],
    ids=lambda e: "" if callable(e) and not isinstance(e, sympy.Expr) else str(e),
)
def test_powers(power, value):
    """Any exponent lowers. `v**0.5` and `2**v` once recursed without end in build."""
    n = lnm.Neuron(charge={v: power}, output={"out": v, "x": x})
    ones = np.ones((1, 1))
    result = lnm.interpret(n, 1.7 * ones, state={"v": [0.6]}, grad_out=(ones, None))
    np.testing.assert_allclose(result.out, [[value(0.6, 1.7)]], rtol=1e-12)
    h = 1e-5
    slope = (value(0.6 + h, 1.7) - value(0.6 - h, 1.7)) / (2 * h)
    np.testing.assert_allclose(result.grads["v"], [slope], rtol=1e-7)


def test_a_copy_may_stand_beside_its_original() -> None:
    """SymPy's caches put equal symbols of one into expressions of the other.

    The elements of a vector were told apart by identity then, and found declared twice.
    """
    first = lnm.get("lnm", degree=3, per="channel")
    second = copy.deepcopy(first)
    v, x = first.states[0], second.inputs[0]
    mixed = dict(first.charge)[v] + 2 * (dict(second.charge)[second.states[0]] - x) + x
    made = lnm.Neuron({v: mixed}, v - 1)
    assert [p.name for p in made.params] == ["theta"]


@pytest.mark.needs_cc
@pytest.mark.parametrize("backend", ["torch", pytest.param("c", marks=pytest.mark.slow)])
def test_names_of_functions_and_templates_are_free(backend: str) -> None:
    """Generated code of float32 keeps these names apart from its own functions and variables."""
    torch = pytest.importorskip("torch")
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


def test_with_init_changes_initial_values_alone():
    """Of states, scalars, vectors, and a parameter that a state begins with; nothing is drawn."""
    start = lnm.param("start", init=0.1)
    u = lnm.state("u", init=start)
    n = lnm.Neuron(charge={v: p * v + theta[1] * x + u, u: theta[0] * u}, fire=v - 1)
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


@pytest.mark.parametrize(
    ("values", "where", "problem"),
    [
        ({"q": 1.0}, None, "'q'"),
        ({"p": "one"}, None, "'one'"),
        ({"theta": [1.0]}, None, "[1.0]"),
        ({"u": 1.0}, None, "a parameter"),
    ],
)
def test_with_init_refuses_other_values(values, where, problem):
    start = lnm.param("start", init=0.1)
    u = lnm.state("u", init=start)
    n = lnm.Neuron(charge={v: p * v + theta[1] * x + u, u: theta[0] * u}, fire=v - 1)
    with refused(lnm.ModelError, where, problem):
        n.with_init(**values)


@pytest.mark.parametrize(("size", "accepted"), [(None, INIT), (2, INITS)])
def test_values_per_channel_are_no_initial_values(size, accepted):
    """A learned tensor was refused without a word on where its values go."""
    a = lnm.param("a", size=size)
    n = lnm.Neuron(charge={v: (a if size is None else a[0]) * v + x}, fire=v - 1, name="own")
    torch = pytest.importorskip("torch")
    learned = torch.nn.Parameter(torch.rand(3, size or 1).squeeze())
    remedy = "lnm.emit(..., spec=..., values=...), in fixed point"
    for values in (learned, learned.tolist(), tuple(learned.detach().numpy())):
        with refused(lnm.ModelError, "own.with_init: a", "init is", accepted, remedy):
            n.with_init(a=values)
        with refused(lnm.ModelError, "parameter 'a'", "init is", accepted, remedy):
            lnm.param("a", size=size, init=values)


@pytest.mark.parametrize("values", [np.zeros(4), [0.0] * 4])
@pytest.mark.parametrize("make", [lnm.state, lambda v, init: lnm.get("plif").with_init(v=init)])
def test_states_per_channel_belong_to_a_call(make, values):
    """The remedy was that of a parameter, which a state has not."""
    with refused(lnm.ModelError, None, "init is", INIT, "layer(x, state=...)"):
        make("v", init=values)


@pytest.mark.parametrize("init", [np.ones(4), [1.0] * 4, ["one", "two"], "one", [], [None]])
def test_other_values_have_no_remedy_per_channel(init):
    """Such as a vector of a wrong length."""
    with pytest.raises(lnm.ModelError) as error:
        lnm.get("lnm", degree=2).with_init(theta=init)
    assert "per channel" not in str(error.value)
    assert "3 of them" in str(error.value)
