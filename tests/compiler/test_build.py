"""Translation of SymPy to the forward kernel, as text; the order of the passes."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest
import sympy

import lnm_codegen as lnm
from lnm_codegen.compiler import pipeline
from lnm_codegen.compiler.build import build
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.nodes import Kernel, Program
from lnm_codegen.ir.verify import verify

v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
tau, p = lnm.param("tau", init=2.0), lnm.param("p", init=0.5)


def lines(neuron: lnm.Neuron) -> list[str]:
    """Return the body of the built kernel, phases included."""
    text = str(verify(build(neuron))).splitlines()
    return [line.strip() for line in text if line.startswith("  ") and " gives" not in line][
        sum("takes" in line for line in text) :
    ]


def charge(e) -> list[str]:
    """Return the charge of v as it is built."""
    text = lines(lnm.Neuron(charge={v: e}, output=v))
    return text[1 : text.index("# output")]


def test_lif():
    """Ports, names and phases of the plainest neuron."""
    assert str(build(lnm.get("lif"))) == LIF


LIF = """\
kernel lif
  takes state: v
  takes input: x
  takes param: tau, v_threshold
  # charge
  h = v + 1 / tau * (-v + x)
  # fire
  z = h - v_threshold
  fired = spike(z; slope 1 / ((pi**2) * z**2 + 1))
  # output
  spike = select(fired, 1, 0)
  # reset
  v_next = select(fired, 0, h)
  gives output: spike
  gives state: v_next"""


def test_charges_see_the_states_of_the_last_step():
    """No charge reads another's result: a swap is a swap."""
    neuron = lnm.Neuron(charge={v: w + x, w: v}, output=v - w)
    assert lines(neuron) == [
        "# charge", "h = w + x", "h_w = v", "# output", "out = h - h_w", "# reset",
        "v_next = h", "w_next = h_w",
    ]  # fmt: skip
    result = lnm.interpret(neuron, [[0.0]], state={"v": 1.0, "w": 2.0})
    assert (result.states["v"], result.states["w"]) == (2.0, 1.0)


def test_resets_see_charged_states_and_not_each_other():
    """A reset reads charged states, so that w gets v before its reset."""
    neuron = lnm.Neuron(charge={v: v + x}, fire=v - 1, reset={v: lnm.where(lnm.spike, 0, v), w: v})
    assert lines(neuron)[-3:] == ["# reset", "v_next = select(fired, 0, h)", "w_next = h"]


def test_named_spikes():
    """Each has its z, its condition and its own surrogate; `spike` is the short one."""
    low = lnm.spike_named("low")
    neuron = lnm.Neuron(
        charge={v: v + x},
        fire={lnm.spike: v - 1, low: -v},
        output=lnm.spike - low,
        surrogate={lnm.spike: lnm.surrogate.straight_through(), low: lnm.surrogate.rectangle()},
    )
    body = [str(line) for line in lines(neuron)]
    assert body[3:7] == [
        "z = h - 1",
        "fired = spike(z; slope 1)",
        "z_low = -h",
        "fired_low = spike(z_low; slope select(select(z_low >= 0, z_low, -z_low) < 0.5, 1, 0))",
    ]
    assert "out = -select(fired_low, 1, 0) + select(fired, 1, 0)" in body


def test_detach_reset():
    """The spikes of reset are detached copies; those of output are not."""
    neuron = lnm.Neuron(
        charge={v: v + x}, fire=v - 1, reset={v: v - lnm.spike, w: lnm.spike}, detach_reset=True
    )
    assert lines(neuron)[3:] == [
        "z = h - 1", "fired = spike(z; slope 1 / ((pi**2) * z**2 + 1))",
        "fired_detached = detach(fired)", "# output", "spike = select(fired, 1, 0)", "# reset",
        "v_next = -select(fired_detached, 1, 0) + h",
        "w_next = select(fired_detached, 1, 0)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (v * 0.1 + x, ["h = 0.1 * v + x"]),
        (v / 3 + x, ["h = (1/3) * v + x"]),
        (v * x * sympy.sqrt(2) * sympy.pi**2 / 3, ["h = (1/3) * (sqrt(2)) * (pi**2) * v * x"]),
        (v - x * p, ["h = -(p * x) + v"]),
        (-v - x, ["h = -v - x"]),
        (v * x / p, ["h = 1 / p * v * x"]),
        (v / (1 + x**2), ["h = v / (x**2 + 1)"]),
        (x**-3, ["h = 1 / x**3"]),
        (x / lnm.sqrt(v), ["t0 = sqrt(v)", "h = x / t0"]),
        (lnm.exp(-x), ["h = exp(-x)"]),
        (lnm.max(v, x) / 2, ["t0 = select(v >= x, v, x)", "h = 0.5 * t0"]),
        (
            lnm.where((v > 0) & ((x <= 1) | ~sympy.Eq(v, x)), 1, 0),
            ["h = select((x <= 1 or v != x) and v > 0, 1, 0)"],
        ),
    ],
    ids=str,
)
def test_expressions(expr, text):
    """Numbers first, then parameters; one division by other factors; a call or select per Let."""
    assert charge(expr) == text


def test_constants():
    """Numbers are exact, or 40 digits with their name; floats are the decimals written."""
    neuron = lnm.Neuron(charge={v: v * 0.1 + x / 3 + sympy.pi * sympy.sqrt(2)}, output=v)
    found = {
        n.name or str(n.value): n.value
        for let in build(neuron).body
        for n in ir.walk(let.value)
        if isinstance(n, ir.Const)
    }
    assert found["1/10"] == Fraction(1, 10)
    assert found["1/3"] == Fraction(1, 3)
    (named,) = [n for n in found if "pi" in n]
    exact = sympy.Rational(found[named].numerator, found[named].denominator)
    assert abs(float((exact - sympy.pi * sympy.sqrt(2)).evalf(50))) < 1e-38


def test_constants_are_real():
    """A constant that is not a finite real number is refused, with its name."""
    expr = v + x * sympy.sqrt(lnm.sin(sympy.Integer(4)))
    with pytest.raises(lnm.ModelError) as caught:
        build(lnm.Neuron(charge={v: expr}, output=v + x))
    assert str(caught.value) == (
        "neuron: the constant sqrt(sin(4)) is not a finite real number"
        " (0.8699439610158393710444920306980233187528*I)."
    )


def test_shared_subexpressions_are_built_once():
    """A select or a call that occurs twice in a phase is one temporary."""
    e = lnm.exp(-(v**2))
    kernel = build(lnm.Neuron(charge={v: e * x + e, w: lnm.tanh(e)}, output=v))
    calls = [n for let in kernel.body for n in ir.walk(let.value) if isinstance(n, ir.Call)]
    assert [c.fn for c in calls] == [ir.Fn.EXP, ir.Fn.TANH]


def test_names_step_aside():
    """A port keeps its name; a Let of `build` gets another."""
    h, z, fired, t0 = (lnm.input(n) for n in ("h", "z", "fired", "t0"))
    neuron = lnm.Neuron(charge={v: v + lnm.exp(x) * lnm.tanh(t0) + h + z + fired}, fire=v - 1)
    kernel = verify(build(neuron))
    assert kernel.input_names(ir.Role.INPUT) == ("x", "h", "z", "fired", "t0")
    targets = [let.target.name for let in kernel.body]
    assert {"h_2", "z_2", "fired_2"} <= set(targets)
    assert len(targets) == len(set(targets))
    assert not {"h", "z", "fired", "t0"} & set(targets)


SCRIPT = """
import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
for name in FAMILIES:
    for scheme in ("horner", "estrin"):
        lnm.lower(lnm.get(name), scheme, on_pass=lambda word, kernel: print(word, kernel))
v, w, x, y = lnm.state("v"), lnm.state("w"), lnm.input("x"), lnm.input("y")
p, q = lnm.param("p", size=3, init=1.0), lnm.param("q", init=1.0)
cond = (v > x) & ((w < y) | (x + y >= q)) & (v * w < 1)
up, down = lnm.spike_named("up"), lnm.spike_named("down")
neuron = lnm.Neuron(
    charge={v: lnm.where(cond, (v + x + y * q) ** 3, lnm.poly(v + w, p) / (1 + x**2 + y**2)),
            w: lnm.exp(-v * x / q) + lnm.tanh(v * w * x * y + p[0] * q * p[2])},
    fire={up: v - w - 1, down: w * q - v},
    reset={v: lnm.where(up, x * y, lnm.where(down, v * w, v)), w: w - up * q + down * p[1]},
    output={"a": up - down, "b": v * w + x + y + p[0]},
)
print(lnm.lower(neuron, on_pass=lambda word, kernel: print(word, kernel)))
"""


@pytest.mark.slow
def test_text_does_not_hang_on_the_hash_seed():
    """Every pass of every family gives the same text whatever PYTHONHASHSEED."""
    texts = set()
    for seed in ("0", "1", "42"):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        texts.add(run.stdout)
    assert len(texts) == 1
    assert len(next(iter(texts))) > 10000


def test_a_sum_too_long_for_the_stack_is_refused() -> None:
    """Passes recur once for each term of a sum, so Python's limit bounds it."""
    terms = [lnm.sin(k * v) for k in range(1, 61)]
    neuron = lnm.Neuron(charge={v: sympy.Add(*terms) + x}, fire=v - 1, name="long")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        with pytest.raises(lnm.ModelError, match=r"^long: an equation, or its derivative, has"):
            lnm.lower(neuron)
    finally:
        sys.setrecursionlimit(limit)
    lnm.lower(neuron)


KERNELS = ("forward", "backward", "prepare", "prepare_backward")


def reported(scheme: Any) -> tuple[list[tuple[str, Kernel]], Program]:
    """Return (pass, kernel) in order, and the program, of a neuron whose sums are nested."""
    found: list[tuple[str, Kernel]] = []
    neuron = lnm.get("lnm", states=2, degree=2)
    program = lnm.lower(neuron, scheme, on_pass=lambda *pair: found.append(pair))
    return found, program


def test_the_table_of_passes_is_that_of_the_hook() -> None:
    """Which pass runs on which kernel; it once listed `fold` for `forward` alone."""
    head = pipeline.__doc__ or ""
    table = re.findall(r"^    (\w+)  +\S.*?  +(all four|\w+(?:, \w+)*)$", head, re.MULTILINE)
    assert len(table) == 12
    listed = {
        (name, kernel)
        for name, kernels in table
        for kernel in (KERNELS if kernels == "all four" else kernels.split(", "))
    }
    seen = {
        (name, kernel.name.removeprefix("lnm_states2").removeprefix("_") or "forward")
        for scheme in ("horner", "estrin")
        for name, kernel in reported(scheme)[0]
    }
    assert listed == seen


@pytest.mark.parametrize("scheme", ["horner", "estrin"])
def test_the_last_report_of_each_kernel_is_that_of_the_program(scheme: str) -> None:
    """The first report is the one of `build`."""
    found, program = reported(scheme)
    assert found[0][0] == "build"
    last = {kernel.name: kernel for _, kernel in found}
    assert len(last) == 4
    for kernel in (program.forward, program.backward, program.prepare, program.prepare_backward):
        assert last[kernel.name] is kernel
