"""Copies of a neuron: `neuron.to_toml()`, which `lnm.load` reads back, pickles, and displays."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.families import FAMILIES
from lnm_codegen.language.neuron import equations
from lnm_codegen.language.text.definition import read
from lnm_codegen.language.text.digest import definition_digest, step_digest
from tests.refusals import assert_refused, refused
from tests.strategies import few, neurons, two_state_arguments


def assert_copied(neuron: lnm.Neuron) -> None:
    """Expect equal pickles and copies, a text that defines the neuron, and balanced displays."""
    for twin in (pickle.loads(pickle.dumps(neuron)), copy.deepcopy(neuron), copy.copy(neuron)):
        assert twin == neuron
        assert hash(twin) == hash(neuron)
        assert step_digest(twin) == step_digest(neuron)
    again = assert_read_back(neuron)
    assert again.name == neuron.name
    assert [s.decl for s in again.states] == [s.decl for s in neuron.states]
    assert [s.decl for s in again.inputs] == [s.decl for s in neuron.inputs]
    assert again.params == neuron.params
    assert again.detach_reset == neuron.detach_reset
    names = [(spike, s.name, s.arguments) for spike, s in neuron.surrogates]
    assert [(spike, s.name, s.arguments) for spike, s in again.surrogates] == names
    lines = repr(neuron).splitlines()
    assert lines[0] == f"neuron {neuron.name}"
    assert all(len(line) <= 162 for line in lines)
    assert all(f"  param   {p.name} " in repr(neuron) for p in neuron.params)
    latex = neuron._repr_latex_()
    assert is_balanced(latex)
    assert (latex[0], latex[-1], latex.count("$")) == ("$", "$", 2)


def assert_read_back(neuron: lnm.Neuron) -> lnm.Neuron:
    """Expect a text that gives the same kernels, and return the neuron that it defines."""
    text = neuron.to_toml()
    again = read(text, "text.toml")
    assert read(again.to_toml(), "again.toml").to_toml() == again.to_toml()
    assert definition_digest(again) == definition_digest(neuron)
    if step_digest(again) != step_digest(neuron):  # equal digests have equal kernels
        assert str(lnm.lower(again)) == str(lnm.lower(neuron)), text
    return again


def is_balanced(latex: str) -> bool:
    """Report whether braces, `left`, `begin` and `$` of LaTeX have their ends."""
    text = re.sub(r"\\[{}\\$]", "", latex)
    depth = 0
    for sign in text:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            return False
    begins, ends = (re.findall(rf"\\{word}{{(\w+)}}", latex) for word in ("begin", "end"))
    sides = [len(re.findall(rf"\\{word}(?![a-z])", latex)) for word in ("left", "right")]
    return not depth and sorted(begins) == sorted(ends) and sides[0] == sides[1]


def test_the_balance_can_fail() -> None:
    assert is_balanced(r"\left[\frac{a}{b}\right]")
    for wrong in ("{", "}{", r"\left[a]", r"\begin{array}", r"\begin{a}\end{b}"):
        assert not is_balanced(wrong)


@settings(few, max_examples=16)
@given(neurons(stops=True, binds=True, starts=True))
def test_random_neurons(neuron: lnm.Neuron) -> None:
    """States, inputs, spikes, outputs, granularities, surrogates and slopes of all kinds."""
    assert_copied(neuron)
    channels = neuron.with_per("channel")
    assert str(lnm.lower(channels)) == str(lnm.lower(neuron))
    read = {s for _, e in channels.bindings for s in e.free_symbols}
    assert read <= {*channels.symbols, *(s for s, _ in channels.bindings)} | set(dict(neuron.fire))


ARGUMENTS: dict[str, tuple[dict[str, Any], ...]] = {
    "lif": ({"tau": 4.0, "v_reset": None}, {"v_rest": 0.1, "per": "channel"}),
    "alif": ({"form": "lsnn", "tau_syn": 5.0, "per": "neuron"},),
    "glif": ({"g_per_step": True},),
    "lnm": (
        {"degree": 8, "basis": "chebyshev"},
        {"degree": 5, "basis": "legendre", "v_min": -0.7, "v_reset": None},
        {"form": "B", "decay_spread": 0.3, "per": "channel"},
        {"form": "C", "decay_spread": 0.3, "learn_theta_0": False},
        {"states": 2, "degree": 1, "parametrisation": "pole", "per": "channel"},
        {"states": 2, "degree": 2, "v_min": -1.0, "v_max": 2.0, "learn_theta_0": True},
    ),
    "rf": ({"omega": 6.0},),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name: str) -> None:
    """Every built-in family, with its defaults and others: draws are written by name."""
    neuron = lnm.get(name)
    assert all(line[:150] in repr(neuron) for line in equations(neuron))
    for arguments in ({}, *ARGUMENTS.get(name, ())):
        assert_copied(lnm.get(name, **arguments))


@pytest.mark.slow
@settings(few, max_examples=15)
@given(two_state_arguments(degrees=(1, 2)))
def test_two_states(arguments: dict[str, Any]) -> None:
    assert_copied(lnm.get("lnm", **arguments))


def test_surrogates_keep_their_arguments() -> None:
    """By name and argument where a function of `lnm.surrogate` made it."""
    for name, make in lnm.surrogate.SURROGATES.items():
        surrogate = make() if name == "straight_through" else make(alpha=1.7)
        again = read(lnm.get("lif", surrogate=surrogate).to_toml(), "text.toml")
        assert dict(again.surrogates)["spike"] == surrogate


@few
@given(st.floats(0.01, 100))
def test_an_argument_keeps_its_digits(alpha: float) -> None:
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron({v: x}, v, surrogate=lnm.surrogate.atan(alpha))
    assert read(neuron.to_toml(), "text.toml").surrogates == neuron.surrogates


def test_an_input_that_nothing_reads() -> None:
    """That of `lnm.ode` without free names; text that reads it, or has other keys, is refused."""
    neuron = lnm.ode("dv/dt = (1 - v)/tau : 1", parameters={"tau": 5}, dt=1)
    assert_copied(neuron)
    text = neuron.to_toml()
    assert 'inputs = [{name = "x", read = false}]' in text
    with refused(lnm.ModelError, "n.toml: ode", "'x' has read = false, and an expression reads it"):
        read(text.replace('v = "v', 'v = "x + v'), "n.toml")
    for item in ("{name = 1, read = false}", '{name = "x", read = true}', '{name = "x"}', "1"):
        with refused(lnm.ModelError, "n.toml: inputs", "the value is", "a list of names"):
            read(text.replace('{name = "x", read = false}', item), "n.toml")


def test_a_drawn_layer_begins_with_the_same_values(tmp_path: Path) -> None:
    """Parameters that are drawn together stay so: one matrix per channel."""
    for arguments in ({"states": 2}, {"decay_spread": 0.5}):
        neuron = lnm.get("lnm", degree=2, per="channel", **arguments)
        file = tmp_path / "neuron.toml"
        file.write_text(neuron.to_toml())
        layers = []
        for one in (neuron, lnm.load(file)):
            torch.manual_seed(3)
            layers.append(lnm.nn.NeuronLayer(one, channels=5).state_dict())
        assert layers[0].keys() == layers[1].keys()
        for key, value in layers[0].items():
            assert torch.equal(value, layers[1][key]), key
            assert key == "v_threshold" or value.unique().numel() >= 5


def test_the_text_of_a_simple_neuron() -> None:
    """It reads as a person would write it."""
    v, x, tau = lnm.state("v"), lnm.input("x"), lnm.param("tau", init=2.0, per="channel")
    neuron = lnm.Neuron(
        charge={v: v + (x - v) / tau}, fire=v - 1, reset=lnm.hard_reset(v, -0.5),
        surrogate=lnm.surrogate.sigmoid(alpha=3.0), name="mine",
    )  # fmt: skip
    assert (
        neuron.to_toml()
        == """\
name = "mine"
inputs = ["x"]
fire = "v - 1"
surrogate = {kind = "sigmoid", alpha = 3.0}

[states.v]
init = 0.0

[params.tau]
init = 2.0
per = "channel"

[charge]
v = "v + (x - v)/tau"

[reset]
v = "where(spike, -0.5, v)"
"""
    )


def drawn(**given: Any) -> lnm.Neuron:
    v, x, tau = lnm.state("v"), lnm.input("x"), lnm.param("tau", **given)
    return lnm.Neuron(charge={v: tau * v + x}, fire=v - 1, name="drawn")


def output_of(name: str, more: Any) -> lnm.Neuron:
    v, x = lnm.state(name), lnm.input("x")
    return lnm.Neuron(charge={v: v + more(v, x)}, output=v)


NO_TEXT = """
drawn.to_toml >> draws of the built-in families
    drawn(init=lambda generator, shape: None).to_toml() >> parameter 'tau' begins with
    drawn(draw=lnm.Draw(lambda generator, axes: ())).to_toml() >> parameter 'tau' begins with
?
    lnm.normalised(lnm.get("lif")).to_toml() >> lif_norm.to_toml: a normalised neuron has no text
    lnm.get("lif").with_counts(n=lnm.spike).to_toml() >> lif.to_toml: a neuron with counts
    output_of("pi", lambda pi, x: x).to_toml()
        >> neuron.to_toml: 'pi' is a function or constant of text definitions >> >> Rename it.
    output_of("v", lambda v, x: sum((x - k) ** 3 * lnm.tanh(v + k) for k in range(150))).to_toml()
        >> neuron.to_toml: charge.v: the expression has 4 >> at most 4000
"""


def test_what_text_cannot_express_is_refused() -> None:
    assert_refused(NO_TEXT, globals())


DRAWS = """
?
    init = {kind = "leaks"} >> n.toml: params.p.init: >> leak
    draw = {kind = "normal"} >> n.toml: params.p.draw: >> uniform
    draw = {kind = "uniform", low = 2, high = 1} >> n.toml: params.p.draw: >> the smaller one first
    draw = {kind = "uniform", low = 2} >> n.toml: params.p.draw: >> two numbers
    draw = "uniform" >> n.toml: params.p.draw: >> uniform
    draw = {kind = "pole_pair", part = 2, radius = [0.1, 0.2], angle = [0, 1]}
        >> n.toml: params.p.draw.part: >> 0 or 1
    draw = {kind = "pole_pair", part = 0, radius = [0.1, 1.2], angle = [0, 1]}
        >> n.toml: params.p.draw: >> between 0 and 1
    size = 2; draw = {kind = "matrix", part = 0, radius = [0, 1], angle = [0, 1], first = 1}
        >> n.toml: params.p.draw.first: >> first + 2
    size = 2; init = {kind = "leak", mean = 0, spread = 0, shift = 0, ends = [1]}
        >> n.toml: params.p.init: >> spread > 0
"""


def test_a_draw_that_is_none_is_refused() -> None:
    head = 'name = "n"\ninputs = ["x"]\noutput = "v"\n[states.v]\n[charge]\nv = "v + p + x"\n'

    def run(lines: str) -> object:
        return read(f"{head}[params.p]\n{lines.replace('; ', chr(10))}\n", "n.toml")

    assert_refused(DRAWS, globals(), run=run)


def test_bound_values_and_slopes_are_read() -> None:
    """`[bound]` in order, of spikes too where reset alone reads them; `slope` in z."""
    text = """
name = "n"
inputs = ["x"]
fire = "v - 1"
surrogate = {name = "mine", slope = "1/(1 + z**2)"}
[states.v]
[bound]
drive = "x/2"
after = "v - spike*drive"
[charge]
v = "v + drive"
[reset]
v = "after"
"""
    neuron = read(text, "n.toml")
    assert [s.name for s, _ in neuron.bindings] == ["drive", "after"]
    assert neuron.surrogates[0][1].name == "mine"
    assert_copied(neuron)
    for old, new, where, problem in (
        ('fire = "v - 1"', 'fire = "after - 1"', "n.fire", "reads the spike 'spike'"),
        ('"v - spike*drive"', '"later"', "bound.after", "unknown name 'later'"),
        ("z**2", "v**2", "surrogate.slope", "unknown name 'v'"),
    ):
        with refused(lnm.ModelError, f"n.toml: {where}", problem):
            read(text.replace(old, new), "n.toml")
