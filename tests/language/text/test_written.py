"""`neuron.to_toml()`: a text that `lnm.load` reads back as the same neuron."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lnm_codegen as lnm
from lnm_codegen.errors import ModelError
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir.declarations import Draw
from lnm_codegen.language.text.definition import read
from lnm_codegen.language.text.digest import definition_digest
from tests.refusals import refused
from tests.strategies import few, neurons, two_state_arguments


def assert_read_back(neuron: lnm.Neuron) -> lnm.Neuron:
    """Expect that the text of a neuron defines it: declarations, flags and every kernel."""
    text = neuron.to_toml()
    again = read(text, "text.toml")
    assert read(again.to_toml(), "again.toml").to_toml() == again.to_toml()
    assert again.name == neuron.name
    assert [s.decl for s in again.states] == [s.decl for s in neuron.states]
    assert [s.decl for s in again.inputs] == [s.decl for s in neuron.inputs]
    assert again.params == neuron.params
    assert again.detach_reset == neuron.detach_reset
    names = [(spike, s.name, s.arguments) for spike, s in neuron.surrogates]
    assert [(spike, s.name, s.arguments) for spike, s in again.surrogates] == names
    assert str(lnm.lower(again)) == str(lnm.lower(neuron)), text
    assert definition_digest(again) == definition_digest(neuron)
    return again


@settings(few, max_examples=20)
@given(neurons(stops=True))
def test_random_neurons(neuron: lnm.Neuron) -> None:
    """States, inputs, spikes, outputs, granularities, surrogates and slopes of all kinds."""
    assert_read_back(neuron)


@settings(few, max_examples=15)
@given(neurons(binds=True, starts=True))
def test_random_neurons_with_bound_values_and_learned_starts(neuron: lnm.Neuron) -> None:
    assert_read_back(neuron)


ARGUMENTS: dict[str, tuple[dict[str, Any], ...]] = {
    "lif": ({"tau": 4.0, "v_reset": None}, {"v_rest": 0.1, "per": "channel"}),
    "alif": ({"form": "lsnn"}, {"form": "lsnn", "tau_syn": 5.0, "per": "neuron"}),
    "glif": ({"g_per_step": True},),
    "lnm": (
        {"degree": 8, "basis": "chebyshev"},
        {"degree": 5, "basis": "legendre", "v_min": -0.7, "v_reset": None},
        {"form": "B", "decay_spread": 0.3, "per": "channel"},
        {"form": "C", "decay_spread": 0.3, "learn_theta_0": False},
        {"states": 2},
        {"states": 2, "degree": 1, "parametrisation": "pole", "per": "channel"},
        {"states": 2, "degree": 2, "v_min": -1.0, "v_max": 2.0, "learn_theta_0": True},
    ),
    "rf": ({"omega": 6.0},),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name: str) -> None:
    """Every built-in family, with its defaults and others: draws are written by name."""
    for arguments in ({}, *ARGUMENTS.get(name, ())):
        assert_read_back(lnm.get(name, **arguments))


@settings(few, max_examples=5)
@given(two_state_arguments(degrees=(1, 2)))
def test_two_states(arguments: dict[str, Any]) -> None:
    assert_read_back(lnm.get("lnm", **arguments))


@few
@given(st.sampled_from(sorted(lnm.surrogate.SURROGATES)), st.floats(0.01, 100))
def test_surrogates_keep_their_arguments(name: str, alpha: float) -> None:
    """By name and argument where a function of `lnm.surrogate` made it."""
    given = {} if name == "straight_through" else {"alpha": alpha}
    surrogate = lnm.surrogate.SURROGATES[name](**given)
    again = read(lnm.get("lif", surrogate=surrogate).to_toml(), "text.toml")
    assert dict(again.surrogates)["spike"] == surrogate


def test_an_input_that_nothing_reads() -> None:
    """That of `lnm.ode` without free names; text that reads it, or has other keys, is refused."""
    neuron = lnm.ode("dv/dt = (1 - v)/tau : 1", parameters={"tau": 5}, dt=1)
    assert_read_back(neuron)
    text = neuron.to_toml()
    assert 'inputs = [{name = "x", read = false}]' in text
    with refused(ModelError, "n.toml: ode", "'x' has read = false, and an expression reads it"):
        read(text.replace('v = "v', 'v = "x + v'), "n.toml")
    for item in ("{name = 1, read = false}", '{name = "x", read = true}', '{name = "x"}', "1"):
        with refused(ModelError, "n.toml: inputs", "the value is", "a list of names"):
            read(text.replace('{name = "x", read = false}', item), "n.toml")


def test_a_drawn_layer_begins_with_the_same_values(tmp_path: Path) -> None:
    """Parameters that are drawn together stay so: one matrix per channel."""
    torch = pytest.importorskip("torch")
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
    assert neuron.to_toml() == "\n".join(
        [
            'name = "mine"', 'inputs = ["x"]', 'fire = "v - 1"',
            'surrogate = {kind = "sigmoid", alpha = 3.0}', "",
            "[states.v]", "init = 0.0", "",
            "[params.tau]", "init = 2.0", 'per = "channel"', "",
            "[charge]", 'v = "v + (x - v)/tau"', "",
            "[reset]", 'v = "where(spike, -0.5, v)"', "",
        ]
    )  # fmt: skip


def test_a_function_as_initial_value_is_refused() -> None:
    v, x = lnm.state("v"), lnm.input("x")
    tau = lnm.param("tau", init=lambda generator, shape: None)
    neuron = lnm.Neuron(charge={v: tau * v + x}, fire=v - 1, name="drawn")
    accepted = "draws of the built-in families"
    with refused(ModelError, "drawn.to_toml", "parameter 'tau' begins with", accepted):
        neuron.to_toml()
    tau = lnm.param("tau", draw=Draw(lambda generator, axes: ()))
    neuron = lnm.Neuron(charge={v: tau * v + x}, fire=v - 1, name="drawn")
    with refused(ModelError, "drawn.to_toml", "parameter 'tau' begins with", accepted):
        neuron.to_toml()


def test_what_text_cannot_express_is_refused() -> None:
    """A normalised neuron, a name of the language, and an expression beyond its bounds."""
    with refused(ModelError, "lif_norm.to_toml", "a normalised neuron has no text"):
        lnm.normalised(lnm.get("lif")).to_toml()
    with refused(ModelError, "lif.to_toml", "a neuron with counts"):
        lnm.get("lif").with_counts(n=lnm.spike).to_toml()
    pi, x = lnm.state("pi"), lnm.input("x")
    with refused(ModelError, "neuron.to_toml", "'pi' is a function or constant"):
        lnm.Neuron(charge={pi: pi + x}, output=pi).to_toml()
    v = lnm.state("v")
    long = sum((x - k) ** 3 * lnm.tanh(v + k) for k in range(200))
    with refused(ModelError, "neuron.to_toml: charge.v", "characters", "at most 4000"):
        lnm.Neuron(charge={v: v + long}, output=v).to_toml()


DRAWS = [
    ('init = {kind = "leaks"}', "params.p.init", "leak"),
    ('draw = {kind = "normal"}', "params.p.draw", "uniform"),
    ('draw = {kind = "uniform", low = 2, high = 1}', "params.p.draw", "the smaller one first"),
    ('draw = {kind = "uniform", low = 2}', "params.p.draw", "two numbers"),
    ('draw = "uniform"', "params.p.draw", "uniform"),
    (
        'draw = {kind = "pole_pair", part = 2, radius = [0.1, 0.2], angle = [0, 1]}',
        "params.p.draw.part", "0 or 1",
    ),
    (
        'draw = {kind = "pole_pair", part = 0, radius = [0.1, 1.2], angle = [0, 1]}',
        "params.p.draw", "between 0 and 1",
    ),
    (
        'size = 2\ndraw = {kind = "matrix", part = 0, radius = [0, 1], angle = [0, 1], first = 1}',
        "params.p.draw.first", "first + 2",
    ),
    (
        'size = 2\ninit = {kind = "leak", mean = 0, spread = 0, shift = 0, ends = [1]}',
        "params.p.init", "spread > 0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "where", "accepted"), DRAWS)
def test_a_draw_that_is_none_is_refused(lines: str, where: str, accepted: str) -> None:
    head = 'name = "n"\ninputs = ["x"]\noutput = "v"\n[states.v]\n[charge]\nv = "v + p + x"\n'
    text = f"{head}[params.p]\n{lines}\n"
    with refused(ModelError, f"n.toml: {where}", accepted=accepted):
        read(text, "n.toml")


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
    assert_read_back(neuron)
    with refused(ModelError, "n.toml: n.fire", "reads the spike 'spike'"):
        read(text.replace('fire = "v - 1"', 'fire = "after - 1"'), "n.toml")
    with refused(ModelError, "n.toml: bound.after", "unknown name 'later'"):
        read(text.replace('"v - spike*drive"', '"later"'), "n.toml")
    with refused(ModelError, "n.toml: surrogate.slope", "unknown name 'v'"):
        read(text.replace("z**2", "v**2"), "n.toml")
