"""Fixed-point programs as JSON: an exact round trip, and one line for whatever is no program."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

import lnm_codegen as lnm
from lnm_codegen.ir.fixed.exchange import from_json, to_json
from tests.cases import CASES
from tests.strategies import few, neurons

Q4_12 = lnm.Fixed(16, 12)
FIXED = tuple(name for name in CASES if name != "dendrite")


@pytest.mark.parametrize("case", FIXED)
def test_families_come_back(case):
    """Equal in every node, and in the text that is written again."""
    for scheme in ("horner", "estrin"):
        program = lnm.quantize(CASES[case](), Q4_12, scheme)
        text = to_json(program)
        assert from_json(text) == program
        assert to_json(from_json(text)) == text


@few
@given(neurons(fixed=True))
def test_random_programs_come_back(neuron):
    """With formats that differ from node to node."""
    plain = lnm.quantize(neuron, lnm.Fixed(18, 13, "convergent"))
    assert from_json(to_json(plain)) == plain
    inputs = [p.var.name for p in plain.kernel.inputs]
    mixed = lnm.FixedSpec(Q4_12, dict.fromkeys(inputs[::2], lnm.Fixed(12, 7, "truncate")))
    program = lnm.quantize(neuron, mixed)
    assert from_json(to_json(program)) == program


def test_the_layout():
    """What has no list and no object in it stands on one line."""
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
NONE = "is none of what belongs here. Accepted:"
V = {"node": "var", "name": "v", "type": "Q4.12"}

REFUSED = [
    ("", "no JSON: Expecting value: line 1 column 1 (char 0)."),
    ('{"name": 1, "name": 2}', "the key 'name' stands twice in an object."),
    ("[]", f"[] {NONE} an object with the keys format, version, name, spec, prepare, kernel."),
    ('{"a": ' * 100_000, "nested too deep."),
    ("9" * 5000, "a number has too many digits."),
    (
        changed(("extra",), 1),
        "unknown key 'extra'. Accepted: format, version, name, spec, prepare, kernel.",
    ),
    (
        changed(("name",), None),
        "the key 'name' is missing. Needed: format, version, name, spec, prepare, kernel.",
    ),
    (changed(("format",), "nir"), f"format: 'nir' {NONE} lnm_codegen.fixed."),
    (changed(("version",), 2), f"version: 2 {NONE} 1."),
    (changed(("version",), True), f"version: True {NONE} 1."),
    (
        changed(("name",), "a b"),
        f"name: 'a b' {NONE} letters, digits and underscores, no digit first.",
    ),
    (
        changed((*H, "value", "node"), "eval"),
        f"kernel.body[0].value: 'eval' {NONE} const, var, negate, sum, product, shift, round,"
        " saturate, compare, not, both, either, select.",
    ),
    (
        changed((*H, "value", "node"), ["sum"]),
        f"kernel.body[0].value: ['sum'] {NONE} const, var, negate, sum, product, shift, round,"
        " saturate, compare, not, both, either, select.",
    ),
    (
        changed((*H, "value"), 3),
        f'kernel.body[0].value: 3 {NONE} an object with the key "node".',
    ),
    (
        changed((*H, "value", "places"), 3),
        "kernel.body[0].value: unknown key 'places'. Accepted: node, arg, width.",
    ),
    (
        changed((*H, "value", "width"), None),
        "kernel.body[0].value: the key 'width' is missing. Needed: node, arg, width.",
    ),
    (
        changed((*H, "value", "width"), "16"),
        f"kernel.body[0].value.width: '16' {NONE} an integer of at most 63 bits.",
    ),
    (
        changed((*H, "value", "width"), 1 << 70),
        f"kernel.body[0].value.width: {1 << 70} {NONE} an integer of at most 63 bits.",
    ),
    (
        changed((*H, "value", "arg", "rounding"), "up"),
        f"kernel.body[0].value.arg.rounding: 'up' {NONE} half_up, truncate, convergent.",
    ),
    (
        changed((*H, "target", "type"), "Q4.99999999"),
        f"kernel.body[0].target.type: 'Q4.99999999' {NONE} a format of at most 63 bits, such as"
        " Q4.12.",
    ),
    (
        changed((*H, "target", "node"), "const"),
        f"kernel.body[0].target: 'const' {NONE} var.",
    ),
    (
        changed((*H, "target", "name"), "h; DROP"),
        f"kernel.body[0].target.name: 'h; DROP' {NONE} letters, digits and underscores, no digit"
        " first.",
    ),
    (
        changed(("kernel", "inputs"), {}),
        f"kernel.inputs: {{}} {NONE} a list.",
    ),
    (
        changed(("kernel", "inputs", 0, "role"), "gpio"),
        f"kernel.inputs[0].role: 'gpio' {NONE} state, input, param, output, grad, count.",
    ),
    (
        changed(("prepare", "body", 0, "value", "lhs", "value"), "1/0"),
        f"prepare.body[0].value.lhs.value: '1/0' {NONE} a rational number as text, such as"
        ' "-3/8".',
    ),
    (
        changed(("prepare", "body", 0, "value", "lhs", "name"), "\n"),
        f"prepare.body[0].value.lhs.name: '\\n' {NONE} text.",
    ),
    (
        changed(("prepare", "results", 0), None),
        "kernel takes 'v_threshold', which prepare does not give.",
    ),
    (
        changed(("prepare", "body", 0), None),
        "prepare: lif_prepare: 'p0' reads 'inv_tau' before it is bound.",
    ),
    (changed(H, None), "kernel: 'z' reads 'h' before it is bound."),
    (changed((*H, "value"), {**V, "name": "h"}), "kernel: 'h' reads 'h' before it is bound."),
    (
        changed((*H, "value"), {"node": "negate", "arg": {"node": "not", "arg": V}}),
        "kernel: 'h' has a Not of numbers.",
    ),
    (
        changed((*H, "value"), {"node": "shift", "arg": V, "places": 10**15}),
        "kernel: 'h' has a number of 1000000000000016 bits, 1000000000000012 of them a fraction.",
    ),
    (
        changed(("spec", "default", "width"), 0),
        "spec.default: Fixed: width is 0. Accepted: 2 to 32 bits.",
    ),
    (changed(("spec", "nodes"), []), "spec.nodes: [] is no object of formats by name."),
    (
        changed(("spec", "nodes"), {"v": 3}),
        f"spec.nodes.v: 3 {NONE} an object with the keys width, frac, rounding.",
    ),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=lambda v: "")
def test_refusals(text, message):
    """One line, whole, with the place in the file."""
    with pytest.raises(lnm.ModelError) as error:
        from_json(text, "my.json")
    assert str(error.value) == f"my.json: {message}"
