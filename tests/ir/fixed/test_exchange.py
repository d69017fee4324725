"""Fixed-point programs as JSON: the layout, and the refusal of any other content."""

from __future__ import annotations

import json

import pytest

import lnm_codegen as lnm
from lnm_codegen.ir.fixed.exchange import from_json, to_json
from tests.refusals import refused

Q4_12 = lnm.Fixed(16, 12)


def test_the_layout():
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
V = {"node": "var", "name": "v", "type": "Q4.12"}
KEYS = "format, version, name, spec, prepare, kernel"
WORDS = "'const', 'var', 'negate', 'sum', 'product', 'shift', 'round', 'saturate', 'compare', 'not'"
NAME = "letters, digits and underscores, no digit first"
INTEGER = f"an integer from -{2**63 - 1} to {2**63 - 1}"
VALUE = "kernel.body[0].value"

REFUSED = [
    ("", "", "not JSON: Expecting value: line 1 column 1 (char 0)"),
    ('{"name": 1, "name": 2}', "", "the key 'name' occurs twice in an object"),
    ("[]", "", "the value is []", f"an object with the keys {KEYS}"),
    ('{"a": ' * 100_000, "", "not JSON: nested too deep"),
    ("9" * 5000, "", "not JSON: Exceeds the limit"),
]
CHANGED = [
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
    ((*H, "value"), {**V, "name": "h"}, "kernel", "'h' reads 'h' before it is bound"),
    ((*H, "value"), {"node": "negate", "arg": {"node": "not", "arg": V}},
     "kernel", "'h' has a Not of numbers"),
    ((*H, "value"), {"node": "shift", "arg": V, "places": 10**15}, "kernel",
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
        *((text, place, parts) for text, place, *parts in REFUSED),
        *((changed(at, value), place, parts) for at, value, place, *parts in CHANGED),
    ],
    ids=lambda v: "",
)
def test_refusals(text, place, parts):
    """One line, with the place in the file."""
    where = f"my.json: {place}" if place else "my.json"
    with refused(lnm.ModelError, where, *parts):
        from_json(text, "my.json")
