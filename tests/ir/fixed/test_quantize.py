"""Quantization of kernels: text, well-formedness, files and every refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings

import lnm_codegen as lnm
from lnm_codegen.compiler.fixed import program_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import InternalError
from lnm_codegen.hardware.verify.steps import run_apytypes
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.exchange import from_json, to_json
from lnm_codegen.ir.fixed.nodes import spans
from lnm_codegen.ir.fixed.quantize import node_names
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.kernel import Phase, Role
from lnm_codegen.ir.types import Bits
from lnm_codegen.ir.verify import verify
from tests.cases import CASES
from tests.ir.fixed.test_values import MODES, values_for
from tests.ir.kernels import body
from tests.refusals import refused
from tests.strategies import few, neurons

Q4_12 = lnm.Fixed(16, 12)

LIF = """\
kernel lif, fixed point
  takes state: v:Q4.12
  takes input: x:Q4.12
  takes param: v_threshold:Q4.12, p0:Q4.12, inv_tau:Q4.12
  # charge
  h:Q4.12 = saturate(half_up(((inv_tau * x) + (p0 * v)), 12), 16)
  # fire
  z:Q5.12 = (h - v_threshold)
  fired = (z >= 0:Q4.12)
  # output
  spike = fired
  # reset
  v_next:Q4.12 = select(fired, 0:Q4.12, h)
  gives output: spike
  gives state: v_next:Q4.12"""

SPIKE = ["z:Q5.12 = (h - v_threshold)", "fired = (z >= 0:Q4.12)", "spike = fired"]
HARD = ["v_next:Q4.12 = select(fired, 0:Q4.12, h)"]
SOFT = ["v_next:Q4.12 = saturate((h - select(spike, v_threshold, 0:Q4.12)), 16)"]


def product_node(line: str) -> str:
    """Return `name = sum` with its rounding and its saturation."""
    name, value = line.split(" = ")
    return f"{name}:Q4.12 = saturate(half_up(({value}), 12), 16)"


TABLE = [
    ("lnm", {"v_reset": None}, "horner", [
        product_node("h_1 = (theta_3 * v) + (theta_2 << 12)"),
        product_node("h_2 = (h_1 * v) + (theta_1 << 12)"),
        product_node("h_3 = (h_2 * v) + (theta_0 << 12)"),
        "h:Q4.12 = saturate((h_3 + x), 16)",
        *SPIKE, *SOFT,
    ]),
    ("lnm", {"degree": 1, "v_min": -2.0}, "horner", [
        product_node("t0_1 = (theta_1 * v) + (theta_0 << 12)"),
        "t0:Q4.12 = saturate((t0_1 + x), 16)",
        "h:Q4.12 = select((t0 < -8192:Q4.12), -8192:Q4.12, t0)",
        *SPIKE, *HARD,
    ]),
    ("lnm", {"degree": 3}, "estrin", [
        product_node("h_1 = (theta_3 * v) + (theta_2 << 12)"),
        "h_2:Q4.12 = saturate(half_up((v * v), 12), 16)",
        product_node("h_3 = (theta_1 * v) + (theta_0 << 12)"),
        product_node("h_4 = (h_1 * h_2) + (h_3 << 12)"),
        "h:Q4.12 = saturate((h_4 + x), 16)",
        *SPIKE, *HARD,
    ]),
    ("izhikevich", {}, "horner", [
        product_node("h_1 = (p1 * v) + (p0 << 12)"),
        product_node("h_2 = (h_1 * v) + (p2 << 12)"),
        product_node("h_3 = (h_2 << 12) - (inv_tau * w)"),
        product_node("h = (inv_tau * x) + (h_3 << 12)"),
        product_node("h_w_1 = (p6 * v) + (p4 << 12)"),
        product_node("h_w_2 = (h_w_1 * v) + (p5 << 12)"),
        product_node("h_w_3 = (p3 * w) + (h_w_2 << 12)"),
        product_node("h_w = (p7 * x) + (h_w_3 << 12)"),
        *SPIKE, *HARD, "w_next:Q4.12 = saturate((select(spike, b, 0:Q4.12) + h_w), 16)",
    ]),
    ("cuba_lif", {"v_reset": None}, "horner", [
        product_node("h_current = (current_decay * current) + (x << 12)"),
        product_node("h = (voltage_decay * v) + (h_current << 12)"),
        *SPIKE, "current_next:Q4.12 = h_current", *SOFT,
    ]),
    ("ternary", {}, "horner", [
        product_node("h = (decay * v) + (x << 12)"),
        "z_up:Q5.12 = (h - v_threshold)",
        "fired_up = (z_up >= 0:Q4.12)",
        "z_down:Q6.12 = -(h + v_threshold)",
        "fired_down = (z_down >= 0:Q4.12)",
        "out:Q4.12 = saturate((select(fired_up, amplitude, 0:Q4.12)"
        " - select(fired_down, amplitude, 0:Q4.12)), 16)",
        "v_next_1:Q4.12 = select(fired_down, 0:Q4.12, h)",
        "v_next:Q4.12 = select(fired_up, 0:Q4.12, v_next_1)",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("family", "arguments", "scheme", "lines"), TABLE)
def test_kernels(family, arguments, scheme, lines):
    """Every format, shift, rounding and saturation of the families, by hand from the equations."""
    assert body(lnm.quantize(lnm.get(family, **arguments), Q4_12, scheme).kernel) == lines


def test_a_program_is_printed_with_its_prepare():
    """`prepare` stays in real numbers."""
    text = str(lnm.quantize(lnm.get("lif"), Q4_12))
    assert text.startswith("kernel lif_prepare\n")
    assert text.endswith(LIF)


MIXED = {
    "v": lnm.Fixed(18, 12), "x": lnm.Fixed(10, 6, "truncate"), "theta_3": lnm.Fixed(8, 7),
    "h_1": lnm.Fixed(12, 9, "convergent"), "h": lnm.Fixed(14, 8),
}  # fmt: skip


LNM_MIXED = """\
kernel lnm, fixed point
  takes state: v:Q6.12
  takes input: x:Q4.6
  takes param: theta_0:Q4.12, theta_1:Q4.12, theta_2:Q4.12, theta_3:Q1.7, v_threshold:Q4.12
  # charge
  h_1:Q3.9 = saturate(convergent(((theta_3 * v) + (theta_2 << 7)), 10), 12)
  h_2:Q4.12 = saturate(half_up(((h_1 * v) + (theta_1 << 9)), 9), 16)
  h_3:Q4.12 = saturate(half_up(((h_2 * v) + (theta_0 << 12)), 12), 16)
  h:Q6.8 = half_up((h_3 + (x << 6)), 4)
  # fire
  z:Q7.12 = ((h << 4) - v_threshold)
  fired = (z >= 0:Q4.12)
  # output
  spike = fired
  # reset
  v_next:Q6.12 = select(fired, 0:Q6.12, (h << 4))
  gives output: spike
  gives state: v_next:Q6.12"""


def test_a_mixed_spec():
    """Shifts align points; each node has its own rounding, v_next that of v."""
    spec = lnm.FixedSpec(Q4_12, MIXED)
    assert str(verify(lnm.quantize(lnm.get("lnm", degree=3), spec).kernel)) == LNM_MIXED


def test_a_stopped_gradient_is_its_value():
    """No node, no rounding and no saturation of its own, and the format of its argument."""
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param("p", init=0.5)
    stop = lnm.stop_gradient
    neuron = lnm.Neuron(
        charge={v: p * v + stop(v) / 4 + stop(x)},
        fire=stop(v) - 1,
        reset={v: v - lnm.spike * stop(v)},
    )
    kernel = lnm.quantize(neuron, lnm.FixedSpec(Q4_12, {"x": lnm.Fixed(24, 8)})).kernel
    assert body(kernel) == [
        "h_1:Q4.12 = saturate(half_up(((p * v) + (x << 16)), 12), 16)",
        "h:Q4.12 = saturate(half_up(((1024:Q4.12 * v) + (h_1 << 12)), 12), 16)",
        "z:Q5.12 = (h - 4096:Q4.12)",
        "fired = (z >= 0:Q4.12)",
        "spike = fired",
        "v_next:Q4.12 = saturate((h - select(spike, h, 0:Q4.12)), 16)",
    ]


FIXED = tuple(name for name in CASES if name != "dendrite")
FORMATS = (
    lnm.Fixed(2, 0), lnm.Fixed(8, 5), lnm.Fixed(12, 11), lnm.Fixed(16, 12), lnm.Fixed(18, 0),
    lnm.Fixed(31, 20),
)  # fmt: skip


SCHEMES = ("horner", "estrin")


def some_ways(k):
    """Return each format with a rounding and a scheme, others for other k."""
    return [(f, MODES[(i + k) % 3], SCHEMES[(i + k // 3) % 2]) for i, f in enumerate(FORMATS)]


@pytest.mark.parametrize(
    ("case", "ways"),
    [
        *((case, some_ways(k)) for k, case in enumerate(FIXED)),
        *(
            pytest.param(case, [*product(FORMATS, MODES, SCHEMES)], marks=pytest.mark.slow)
            for case in FIXED
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else f"{len(v)} ways",
)
def test_programs_of_families(case, ways):
    """Well-formed, equal after a file, with a span for each number, and apytypes' values.

    Constants that do not fit are the one refusal.
    """
    neuron, rng, made = CASES[case](), np.random.default_rng(1), 0
    for form, rounding, scheme in ways:
        spec = lnm.Fixed(form.width, form.frac, rounding)
        try:
            program = program_of(neuron, spec, scheme)
        except lnm.ModelError as error:
            assert "the constant" in str(error)  # noqa: PT017
            continue
        kernel, made = program.kernel, made + 1
        assert verify(kernel) is kernel
        states = dict.fromkeys((s.name for s in neuron.states), form.bits)
        assert {s.name: s.type for s in kernel.input_vars(Role.STATE)} == states
        numbers = {let.target.name for let in kernel.body if isinstance(let.target.type, Bits)}
        assert numbers <= {*spans(kernel, {})}
        text = to_json(program)
        assert (from_json(text), to_json(from_json(text))) == (program, text)
        if form.width == 16:
            _, table = values_for(neuron, program, spec, rng, 100)
            expected, found = run(kernel, table), run_apytypes(kernel, table)
            assert set(found) == set(expected)
            for name, array in expected.items():
                one, other = (np.broadcast_to(a, (100,)).tolist() for a in (found[name], array))
                assert one == other, name
    assert made >= 2 / 3 * len(ways)


@settings(few, max_examples=20)
@given(neurons(fixed=True, stops=True, binds=True))
def test_programs_of_random_neurons(neuron):
    """With formats that differ from node to node. The format of a name is that of its node.

    Every name that a spec may have is a node; no other number has a format.
    """
    names = node_names(lower(neuron))
    forms = (lnm.Fixed(14, 9), lnm.Fixed(20, 14, "truncate"), lnm.Fixed(11, 6, "convergent"))
    nodes = {name: forms[k % 3] for k, name in enumerate(names)}
    for spec in (lnm.Fixed(18, 13, "convergent"), lnm.FixedSpec(Q4_12, nodes)):
        program = program_of(neuron, spec)
        kernel = verify(program.kernel)
        assert from_json(to_json(program)) == program
    variables = [p.var for p in kernel.inputs] + [let.target for let in kernel.body]
    types = {v.name: v.type for v in variables}
    assert {name: types[name] for name in names} == {n: f.bits for n, f in nodes.items()}
    after = {f"{s.name}_next" for s in neuron.states}
    for name in set(types) - {*names, *after}:
        with refused(lnm.ModelError, neuron.name, f"{name!r} is exact and has no format"):
            program_of(neuron, lnm.FixedSpec(Q4_12, {name: forms[0]}))


@pytest.mark.parametrize("case", ["refractory_lif", "fitzhugh_nagumo"])
def test_a_choice_that_only_a_comparison_reads_has_no_format(case):
    """It has the width of its operands: the search for formats took it for a node of its own."""
    assert "z" not in node_names(lower(lnm.get(case)))


def custom(charge, **more):
    v, x = lnm.state("v"), lnm.input("x")
    return lnm.Neuron(charge={v: charge(v, x)}, fire=v - 1, name="own", **more)


def started(value: float) -> lnm.Neuron:
    """A neuron whose potential begins at `value`."""
    v, x = lnm.state("v", init=value), lnm.input("x")
    return lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, name="started")


NODES = "v, x, v_threshold, p0, inv_tau, h"
FORMAT = "a format, such as lnm.Fixed(16, 12)"
LIF_NEURON, SLOW = lnm.get("lif"), lnm.get("lnm", theta=(0, 9.5, 0, 0))


def named(*names: str) -> lnm.FixedSpec:
    return lnm.FixedSpec(Q4_12, dict.fromkeys(names, Q4_12))


UNSUPPORTED = [
    (lambda: lnm.quantize(custom(lambda v, x: lnm.exp(v) + x), Q4_12),
     "own.charge, h", "'exp' has no fixed-point form", "", "Use a polynomial"),
    (lambda: lnm.quantize(custom(lambda v, x: x / (1 + v)), Q4_12),
     "own.charge, h", "a division by a value that changes", "", "Use a polynomial"),
    (lambda: lnm.quantize(lnm.get("lnm"), lnm.Fixed(32, 16)),
     "lnm.charge, h", "an exact intermediate has 65 bits", "at most 63", "one of 31 bits"),
]  # fmt: skip
REFUSED = [
    (lambda: lnm.quantize(custom(lambda v, x: v / 2 + x), lnm.Fixed(8, 7)),
     "own.fire, z", "the constant 1 does not fit Q1.7", "-1 to 0.992188", "more integer bits"),
    (lambda: lnm.interpret_fixed(SLOW, [[1.0]], spec=Q4_12),
     "lnm", "parameter 'theta_1' is 9.5, which does not fit Q4.12", "-8 to 7.99976"),
    (lambda: lnm.interpret_fixed(LIF_NEURON, [[1.0]], spec=Q4_12, tau=0.0),
     "lif", "parameter 'p0', made of tau, is -inf, which does not fit", "-8 to 7.99976"),
    (lambda: lnm.emit(started(50.0), "c", spec=Q4_12),  # it once saturated
     "started", "the initial value of state 'v' is 50, which does not fit Q4.12", "-8 to"),
    # The format of v_next is that of v: its name, and those of exact values, once had no effect.
    *((lambda name=name: lnm.quantize(LIF_NEURON, named(name)),
       "lif", f"'{name}', which is not a node", NODES, "Name one of these")
      for name in ("u", "v_next")),
    *((lambda name=name: lnm.quantize(LIF_NEURON, named(name)),
       "lif", f"'{name}' is exact and has no format", NODES, f"Omit {name}.")
      for name in ("z", "fired", "spike")),
    (lambda: lnm.FixedSpec(Q4_12, (("h", Q4_12), ("v", Q4_12), ("h", lnm.Fixed(8, 4)))),
     "FixedSpec", "'h' has two formats", "one for each node"),
    (lambda: lnm.quantize(LIF_NEURON, (16, 12)),
     "quantize", "spec is (16, 12)", "lnm.Fixed(16, 12) or an lnm.FixedSpec"),
    (lambda: lnm.quantize("lif", Q4_12),
     "quantize", "'lif' is not a neuron", "an lnm.Neuron", "Write lnm.get('lif')."),
    (lambda: lnm.quantize(LIF_NEURON, Q4_12, "clenshaw"),
     "lower", "scheme is 'clenshaw'", "'horner', 'estrin'"),
    *((lambda width=width: lnm.Fixed(width, 12),
       "Fixed", f"width is {width}", "an integer from 2 to 32") for width in (0, 1, -16, 33, 16.0)),
    *((lambda frac=frac: lnm.Fixed(16, frac),
       "Fixed", f"frac is {frac}", "an integer from 0 to 15") for frac in (16, -1, True)),
    (lambda: lnm.Fixed(16, 12, "up"),
     "Fixed", "rounding is 'up'", "'half_up', 'truncate', 'convergent'"),
    (lambda: lnm.FixedSpec(Q4_12, {"v": 16}), "FixedSpec", "v is 16", FORMAT),
    (lambda: lnm.FixedSpec("Q4.12"), "FixedSpec", "default is 'Q4.12'", FORMAT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "call", "parts"),
    [
        *((lnm.UnsupportedError, call, parts) for call, *parts in UNSUPPORTED),
        *((lnm.ModelError, call, parts) for call, *parts in REFUSED),
    ],
    ids=lambda v: "",
)
def test_refusals(kind, call, parts):
    with refused(kind, *parts):
        call()


@pytest.mark.parametrize(("tau", "text"), [(float("nan"), "nan"), (0.0, "-inf")])
def test_more_integer_bits_do_not_help_a_number_that_is_not_finite(tau, text):
    """They were the remedy."""
    problem = f"parameter 'p0', made of tau, is {text}, which does not fit Q4.12"
    with refused(lnm.ModelError, "lif", problem, "-8 to 7.99976") as caught:
        lnm.emit(lnm.get("lif"), "c", spec=Q4_12, values={"tau": tau})
    assert caught.value.remedy == ""
    with refused(lnm.ModelError, "lif", "is -8.09", "-8 to", "Give more integer bits."):
        lnm.emit(lnm.get("lif"), "c", spec=Q4_12, values={"tau": 0.11})


V, X = fx.Var("v", Bits(16, 12)), fx.Var("x", Bits(16, 10))
ON = fx.Var("on", lnm.quantize(lnm.get("lif"), Q4_12).kernel.result_vars(Role.OUTPUT)[0].type)


def kernel_of(value, target):
    """Return a kernel of one Let over v, x and the condition `on`."""
    inputs = tuple(fx.Port(var, Role.INPUT) for var in (V, X, ON))
    return fx.Kernel("own", inputs, (fx.Let(target, value, Phase.CHARGE),), ())


BROKEN = [
    (fx.Sum(fx.SumOp.ADD, V, X), "has a Sum whose points differ"),
    (fx.Compare(fx.CompareOp.LT, V, X), "has a Compare whose points differ"),
    (fx.Select(ON, V, X), "has a Select whose points differ"),
    (fx.Select(V, V, V), "selects by a number"),
    (fx.Not(V), "has a Not of numbers"),
    (fx.Both(ON, V), "has a Both of numbers"),
    (fx.Negate(ON), "has a condition in a Negate"),
    (fx.Shift(V, 0), "shifts by no place"),
    (fx.Round(V, -1, lnm.Fixed(8, 4).rounding), "shifts by no place"),
    (fx.Shift(V, 50), "has a number of 66 bits, 62 of them a fraction"),
    (fx.Round(V, 13, lnm.Fixed(8, 4).rounding), "has a number of 4 bits, -1 of them a fraction"),
    (fx.Const(1, Bits(16, 12), Fraction(1)), "has a constant 1:Q4.12 that is not 1 rounded"),
    (fx.Const(128, Bits(8, 0), Fraction(128)), "has a constant 128 that does not fit Q8.0"),
    (fx.Var("u", Bits(16, 12)), "reads 'u' before it is bound"),
]


def broken(kernel):
    """Return the place and the problem of `verify`."""
    with refused(InternalError) as caught:
        verify(kernel)
    return f"{caught.value.where}: {caught.value.problem}"


@pytest.mark.parametrize(("value", "what"), BROKEN, ids=lambda v: v if isinstance(v, str) else "")
def test_verify_finds(value, what):
    """Each rule, broken once."""
    assert broken(kernel_of(value, fx.Var("h", Bits(16, 12)))) == f"own: 'h' {what}"


def test_verify_looks_at_ports():
    """Names are distinct; a Let has the bits of its value; every state comes out as it is."""
    good = lnm.quantize(lnm.get("lif"), Q4_12).kernel
    twice = replace(good, inputs=(*good.inputs, good.inputs[0]))
    assert broken(twice) == "lif: two ports share a name: v, x, v_threshold, p0, inv_tau, v"
    wider = kernel_of(V, fx.Var("h", Bits(17, 12)))
    assert broken(wider) == "own: 'h' differs in type from its value"
    assert broken(kernel_of(V, V)) == "own: 'v' is bound twice"
    unbound = replace(good, body=good.body[:-1])
    assert broken(unbound) == "lif: the result 'v_next' is never bound"
    lost = replace(good, results=good.results[:-1])
    assert broken(lost) == "lif: the states that leave it are none; expected v_next of Q4.12"


def test_the_layout_of_a_file():
    """An object without a list or an object takes one line."""
    text = to_json(lnm.quantize(lnm.get("if"), Q4_12))
    assert '"default": { "width": 16, "frac": 12, "rounding": "half_up" },\n' in text
    assert '"var": { "node": "var", "name": "v", "type": "Q4.12" },\n' in text
    assert text.endswith("}\n")


def lif():
    return json.loads(to_json(lnm.quantize(lnm.get("lif"), Q4_12)))


def changed(path, value):
    """Return the text of `lif` with one thing replaced, or (None) taken out."""
    content = lif()
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(content)


H = ("kernel", "body", 0)
V_NODE = {"node": "var", "name": "v", "type": "Q4.12"}
KEYS = "format, version, name, spec, prepare, kernel"
WORDS = "'const', 'var', 'negate', 'sum', 'product', 'shift', 'round', 'saturate', 'compare', 'not'"
NAME = "letters, digits and underscores, no digit first"
INTEGER = f"an integer from -{2**63 - 1} to {2**63 - 1}"
VALUE = "kernel.body[0].value"

NO_PROGRAM = [
    ("", "", "not JSON: Expecting value: line 1 column 1 (char 0)"),
    ('{"name": 1, "name": 2}', "", "the key 'name' occurs twice in an object"),
    ("[]", "", "the value is []", f"an object with the keys {KEYS}"),
    ('{"a": ' * 100_000, "", "not JSON: nested too deep"),
    ("9" * 5000, "", "not JSON: Exceeds the limit"),
]
CHANGED_FILES = [
    (("extra",), 1, "", "unknown key 'extra'", KEYS),
    (("name",), None, "", "the key 'name' is missing"),
    (("format",), "nir", "", "format is 'nir'", "'lnm_codegen.fixed'"),
    (("version",), 2, "", "version is 2", "1"),
    (("version",), True, "", "version is True", "1"),
    (("name",), "a b", "name", "the value is 'a b'", NAME),
    ((*H, "value", "node"), "eval", VALUE, "node is 'eval'", WORDS),
    ((*H, "value", "node"), ["sum"], VALUE, "node is ['sum']", WORDS),
    ((*H, "value"), 3, VALUE, "the value is 3", 'an object with the key "node"'),
    ((*H, "value", "places"), 3, VALUE, "unknown key 'places'", "node, arg, width"),
    ((*H, "value", "width"), None, VALUE, "the key 'width' is missing"),
    ((*H, "value", "width"), "16", f"{VALUE}.width", "the value is '16'", INTEGER),
    ((*H, "value", "width"), 1 << 70, f"{VALUE}.width", f"is {1 << 70}", INTEGER),
    ((*H, "value", "arg", "rounding"), "up",
     f"{VALUE}.arg.rounding", "the value is 'up'", "'half_up', 'truncate', 'convergent'"),
    ((*H, "target", "type"), "Q4.99999999", "kernel.body[0].target.type",
     "the value is 'Q4.99999999'", "a format of at most 63 bits, such as Q4.12"),
    ((*H, "target", "node"), "const", "kernel.body[0].target", "is 'const'", "'var'"),
    ((*H, "target", "name"), "h;DROP", "kernel.body[0].target.name", "the value is 'h;DROP'", NAME),
    (("kernel", "inputs"), {}, "kernel.inputs", "the value is {}", "a list"),
    (("kernel", "inputs", 0, "role"), "gpio", "kernel.inputs[0].role",
     "the value is 'gpio'", "'state', 'input', 'param', 'output', 'grad', 'count'"),
    (("prepare", "body", 0, "value", "lhs", "value"), "1/0", "prepare.body[0].value.lhs.value",
     "the value is '1/0'", 'a rational number as text, such as "-3/8"'),
    (("prepare", "body", 0, "value", "lhs", "name"), "\n", "prepare.body[0].value.lhs.name",
     "the value is '\\n'", "printable text"),
    (("prepare", "results", 0), None, "", "takes 'v_threshold', which prepare does not give"),
    (("prepare", "body", 0), None, "prepare", "'p0' reads 'inv_tau' before it"),
    (H, None, "kernel", "'z' reads 'h' before it is bound"),
    ((*H, "value"), {**V_NODE, "name": "h"}, "kernel", "'h' reads 'h' before it is bound"),
    ((*H, "value"), {"node": "negate", "arg": {"node": "not", "arg": V_NODE}},
     "kernel", "'h' has a Not of numbers"),
    ((*H, "value"), {"node": "shift", "arg": V_NODE, "places": 10**15}, "kernel",
     "'h' has a number of 1000000000000016 bits, 1000000000000012 of them a fraction"),
    (("spec", "default", "width"), 0,
     "spec.default: Fixed", "width is 0", "an integer from 2 to 32"),
    (("spec", "nodes"), [], "spec", "nodes is []", "an object of formats by name"),
    (("spec", "nodes"), {"v": 3},
     "spec.nodes.v", "the value is 3", "an object with the keys width, frac, rounding"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place", "parts"),
    [
        *((text, place, parts) for text, place, *parts in NO_PROGRAM),
        *((changed(at, value), place, parts) for at, value, place, *parts in CHANGED_FILES),
    ],
    ids=lambda v: "",
)
def test_refused_files(text, place, parts):
    """One line, with the place in the file."""
    where = f"my.json: {place}" if place else "my.json"
    with refused(lnm.ModelError, where, *parts):
        from_json(text, "my.json")
