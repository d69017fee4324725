"""Word lengths: the result reaches its target, and no node of it can lose a fraction bit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import lnm_codegen as lnm
from lnm_codegen.analysis import Invariant
from lnm_codegen.analysis.exact import exact
from lnm_codegen.cli import run
from lnm_codegen.compiler.fixed import program_of
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.hardware.wordlength.sample import (
    WINDOW,
    observed,
    sample_of,
    sampled_rates,
)
from lnm_codegen.hardware.wordlength.search import PrecisionTarget, SearchOptions
from lnm_codegen.hardware.wordlength.select import (
    select_for_data,
    select_for_intervals,
    spiking_inputs,
)
from lnm_codegen.ir.fixed.quantize import quantize
from lnm_codegen.ir.interpret import trace
from lnm_codegen.ir.types import FixedSpec
from tests.refusals import assert_refused, refused

THETA = (0.02, 0.85, 0.11, -0.06)


def cubic(**more) -> lnm.Neuron:
    return lnm.get("lnm", degree=3, theta=THETA, **more)


def drive(steps=32, neurons=64, channels=1):
    return np.random.default_rng(0).normal(0.35, 0.6, (steps, neurons, channels))


def test_a_sample_starts_where_the_neuron_was():
    """The first step of each run is the float64 interpreter's, parameters per channel too."""
    neuron = cubic(per="channel")
    theta = np.array(THETA) + np.array([[0.0], [0.1], [-0.1]])
    x = drive(channels=3)
    sample = sample_of(neuron, x, values={"theta": theta}, window=4)
    kernel = exact(lnm.quantize(neuron, lnm.Fixed(20, 12)).kernel)
    states = sample.states
    for t in range(4):
        nodes = trace(kernel, sample.at(t, states))
        states = {"v": nodes["v_next"]}
    whole = lnm.interpret(neuron, x, theta=theta)
    runs = 32 - 4 + 1
    after = np.concatenate([whole.trajectory["v"][4:], whole.states["v"][None]]).reshape(runs, -1)
    assert np.allclose(np.sort(states["v"]), np.sort(after.reshape(-1)), atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 15, 16, 40])
def test_short_sequences_begin_from_later_states(steps):
    """Runs reach the last step, and half of them or more begin after the initial states."""
    sample = sample_of(cubic(v_reset=None), drive(steps, neurons=3))
    window = len(sample.inputs["x"])
    assert window == min(8, max(1, (steps + 1) // 2))
    assert len(sample.states["v"]) == 3 * (steps - window + 1)
    assert (sample.states["v"] != 0).sum() == 3 * (steps - window)


@pytest.mark.parametrize("steps", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 40))])
def test_recorded_ranges_hold_every_step(steps):
    """Ranges of nodes on data cover all steps, as the interpreter has them.

    The ranges of a state, and of what follows from it, were once those of the first step alone if
    sequences had at most 8 steps: the second state of a network had the range [0, 0].
    """
    neuron = lnm.get("lnm", states=2, degree=1, radius=0.9, angle=0.7)
    x = drive(steps)
    words = select_for_data(neuron, x, target=PrecisionTarget(mismatch=0.01)).words
    whole = lnm.interpret(neuron, x)
    for node in words.nodes:
        if node.name in whole.trajectory:
            seen = np.append(whole.trajectory[node.name], whole.states[node.name])
            assert float(node.range.low) == pytest.approx(seen.min(), abs=1e-12), node.name
            assert float(node.range.high) == pytest.approx(seen.max(), abs=1e-12), node.name


def test_a_sample_needs_a_step():
    with refused(ShapeError, "lnm", "x_seq has shape (0, 1, 3): no step", "one step or more"):
        sample_of(cubic(), np.zeros((0, 1, 3)))


def test_wide_formats_differ_in_nothing():
    """At 28 fraction bits no spike differs and errors are of that size; at 3 bits they show."""
    neuron = cubic()
    sample = sample_of(neuron, drive())
    fine = observed(lnm.quantize(neuron, lnm.Fixed(31, 28)), sample)
    assert fine.mismatch == 0.0
    assert fine.errors["h"] < 2.0**-25
    coarse = observed(program_of(neuron, lnm.Fixed(6, 3)), sample)
    assert coarse.mismatch > 0.01
    assert coarse.errors["h"] > 2.0**-4


def test_a_circuit_that_ignores_its_input_differs_in_every_spike() -> None:
    """Spikes were rare, and the mismatch a share of steps: 0.0009 where the circuit never spiked.

    The search then returned 2 bits for 1 / tau, which round to 0.
    """
    neuron = lnm.get("lif", tau=10.0)
    x = np.random.default_rng(0).uniform(0, 1.6, (100, 1, 20))
    dead = FixedSpec(lnm.Fixed(16, 12), {"inv_tau": lnm.Fixed(2, 0)})
    sample = sample_of(neuron, x)
    assert 0 < sampled_rates(neuron, sample)["spike"] < 0.01
    assert observed(program_of(neuron, dead), sample).mismatch == 1
    words = select_for_data(neuron, x, target=PrecisionTarget(mismatch=0.01)).words
    found = lnm.interpret_fixed(neuron, x, spec=words.spec).out
    assert (found == lnm.interpret(neuron, x).out).all()


def test_data_without_a_spike_have_no_mismatch() -> None:
    """A circuit that never spikes would meet the target."""
    x, target = np.full((8, 1, 2), 0.25), PrecisionTarget(mismatch=0.01)
    problem = "no step has a spike for x in [0.25, 0.25]"
    with refused(ModelError, "lif", problem, remedy="Give inputs that make it spike."):
        select_for_data(lnm.get("lif"), x, target=target)


def test_saturation_is_counted():
    sample = sample_of(cubic(), drive())
    found = observed(lnm.quantize(cubic(), lnm.Fixed(13, 12)), sample)
    wanted = np.mean(np.abs(sample.inputs["x"][0]) > 1)
    assert found.saturated["x"] == pytest.approx(wanted, abs=1e-3)


ERROR, MISMATCH = PrecisionTarget(error=0.01), PrecisionTarget(mismatch=2e-3)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("lnm", ERROR),
        ("lif", MISMATCH),
        *(pytest.param(name, target, marks=pytest.mark.slow)
          for name, target in (("lif", ERROR), ("cuba_lif", ERROR), ("lnm", MISMATCH),
                               ("cuba_lif", MISMATCH))),
    ],
)  # fmt: skip
def test_the_selection_is_least(name, target):
    """The target holds, and no node of the result can lose a fraction bit."""
    neuron = cubic(v_min=-2) if name == "lnm" else lnm.get(name)
    chosen = select_for_data(neuron, drive(), target=target)
    words = chosen.words
    sample = sample_of(neuron, drive())

    def reached(spec: FixedSpec) -> bool:
        found = observed(quantize(lower(neuron), spec), sample)
        if target.error is None:
            return found.mismatch <= target.mismatch
        watched = [f"{s.name}_next" for s in neuron.states] + ["z"]
        return all(found.errors[n] <= target.error for n in watched)

    assert reached(words.spec)
    assert words.total == sum(n.fixed.width for n in words.nodes)
    for node in words.nodes:
        if node.fixed.frac and node.fixed.width > 2:
            fewer = lnm.Fixed(node.fixed.width - 1, node.fixed.frac - 1)
            nodes = {**dict(words.spec.nodes), node.name: fewer}
            assert not reached(replace(words.spec, nodes=tuple(nodes.items()))), node.name


@pytest.mark.parametrize(
    ("name", "arguments", "x"),
    [
        ("plif", {"tau": 5, "v_reset": None}, 2.0),
        pytest.param("alif", {}, 8.0, marks=pytest.mark.slow),
        pytest.param("lif", {}, 2.0, marks=pytest.mark.slow),
        pytest.param("lnm", {"degree": 3}, 2.0, marks=pytest.mark.slow),
    ],
)
def test_the_reported_mismatch_reaches_the_target(name, arguments, x):
    """Candidates began from float64 states and the result from rounded ones: plif had 0.00398."""
    chosen = select_for_intervals(
        lnm.get(name, **arguments), {"x": (-x, x)}, PrecisionTarget(mismatch=1e-3)
    )
    assert chosen.words.proven
    assert chosen.words.mismatch <= 1e-3


def test_a_clamped_neuron_has_proven_words():
    """Its states have an invariant interval; every observed error is within its bound."""
    chosen = select_for_intervals(cubic(v_min=-2), {"x": (-2, 2)}, PrecisionTarget(error=0.01))
    assert isinstance(chosen.invariant, Invariant)
    assert chosen.words.proven
    bounds = {n.name: n.bound for n in chosen.words.nodes if n.bound is not None}
    assert set(bounds) == {"t0_1", "t0_2", "t0_3", "t0", "h"}
    assert all(n.observed <= bounds[n.name] for n in chosen.words.nodes if n.name in bounds)
    assert max(bounds["h"], chosen.words.error) <= 0.01
    formats = {n.name: n.fixed for n in chosen.words.nodes}
    assert formats["x"].frac >= 6  # half a unit of the input counts, too
    assert all(n.saturated == 0 for n in chosen.words.nodes)


TWO_STATES = {
    "free": ("lnm", {"states": 2, "degree": 1}),
    "pole": ("lnm", {"states": 2, "degree": 1, "parametrisation": "pole", "v_reset": 0.0}),
    "rf": ("rf", {}),
    "adlif": ("adlif", {}),
    "adlif, detached": ("adlif", {"detach_reset": True}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "rf")) for n in TWO_STATES]
)
def test_two_states_in_a_polygon_have_proven_words(name):
    """No box holds a rotation, but a polygon does: ranges and errors are proven for |x| <= 2.

    A long run with inputs at both ends stays in the intervals, and no node saturates.
    """
    family, arguments = TWO_STATES[name]
    neuron = lnm.get(family, **arguments)
    chosen = select_for_intervals(neuron, {"x": (-2, 2)}, PrecisionTarget(error=0.05))
    assert isinstance(chosen.invariant, Invariant)
    assert chosen.invariant.polygon
    words = chosen.words
    assert words.proven
    assert words.error <= 0.05
    found = {node.name: node for node in words.nodes}
    for node in found.values():
        assert node.saturated == 0
        assert node.bound is None or node.observed <= node.bound
    ends = np.random.default_rng(0).choice([-2.0, 2.0], (400, 50, 1))
    seen = lnm.interpret(neuron, ends).trajectory
    for state, interval in chosen.invariant.states.items():
        assert found[state].range.holds(interval)
        assert interval.low <= seen[state].min()
        assert seen[state].max() <= interval.high


def test_the_command_says_where_ranges_come_from(capsys):
    """Proven, with the intervals; or simulated, with the reason of "unknown"."""
    assert run(["quantize", "rf", "--error", "0.1", "--x=-2,2"]) == 0
    out = capsys.readouterr().out
    assert "ranges: proven, as the states stay in v in [-1.09299, 1.09299], w in" in out
    wanted = "errors: proven for one step from the same state in these intervals, where every"
    assert f"{wanted} comparison has the outcome of exact arithmetic\n" in out
    wanted = (
        "comparisons: outcomes differ in 0 % of the sample's steps, whose errors are not counted"
    )
    assert f"{wanted}; their operands differ by at most 0.0963 there\n" in out
    assert run(["quantize", "li", "--error", "0.1", "--x=-2,2"]) == 0
    out = capsys.readouterr().out
    assert "errors: proven for one step from the same state in these intervals\n" in out
    assert "comparison" not in out
    assert run(["quantize", "brf", "--error", "0.1"]) == 0
    out = capsys.readouterr().out
    wanted = "ranges and errors: of simulated steps; no invariant interval is known: the interval"
    assert wanted in out
    assert re.search(r"\ncomparisons: outcomes differ in 0\.\d+ % of the sample's steps,", out)


def jumping() -> lnm.Neuron:
    """Return a neuron whose charge jumps by 0.5 where a computed value crosses 0."""
    v, x = lnm.state("v"), lnm.input("x")
    charged = lnm.where(0.7 * v + x > 0, 0.5 * v + 0.25, 0.5 * v - 0.25)
    return lnm.Neuron(charge={v: charged}, output={"o": v}, name="jumping")


def test_bounds_hold_where_comparisons_agree() -> None:
    """A jump beyond the bound was called a bug; a sample without one printed a false bound.

    Every step within the bound has the outcome of exact arithmetic, and every other one has
    operands within the margin.
    """
    neuron = jumping()
    words = select_for_intervals(neuron, {"x": (-1, 1)}, PrecisionTarget(error=0.01)).words
    assert words.proven
    assert max(words.error, words.margin) <= 0.01
    assert 0 < words.differing < 0.01
    bits = {p.var.name: p.var.type for p in words.program.kernel.inputs}
    rng = np.random.default_rng(1)
    integers = rng.integers(-(1 << bits["v"].frac) // 2, (1 << bits["v"].frac) // 2, 40_000)
    v, x = integers / 2.0 ** bits["v"].frac, rng.uniform(-1, 1, 40_000)
    rounded = np.floor(x * 2.0 ** bits["x"].frac + 0.5).astype(int)
    found = trace(words.program.kernel, {"v": integers, "x": rounded})
    h = next(let.target.type for let in words.program.kernel.body if let.target.name == "h")
    drive = 0.7 * v + x
    exactly = 0.5 * v + np.where(drive > 0, 0.25, -0.25)
    error = np.abs(found["h"] / 2.0**h.frac - exactly)
    bound = next(node.bound for node in words.nodes if node.name == "h")
    jumps = error > bound
    assert 0 < jumps.mean() < 0.01
    assert error[jumps].min() > 0.4
    assert np.abs(drive[jumps]).max() <= words.margin


@pytest.mark.parametrize("limit", [0.79, -3.0])
def test_constants_beyond_the_range_of_their_node(limit: float) -> None:
    """The constant of a condition has the format of its node; the search stopped where it did not
    fit, and asked for more integer bits.
    """
    v, x = lnm.state("v"), lnm.input("x")
    charged = lnm.where(0.7 * v + x > limit, 0.25 * v, 0.25 * v + 0.125)
    neuron = lnm.Neuron(charge={v: charged}, output={"o": v}, name="limited")
    words = select_for_intervals(neuron, {"x": (-1, 1)}, PrecisionTarget(error=0.1)).words
    assert words.proven
    assert max(words.error, words.margin) <= 0.1
    h = {node.name: node.fixed.bits for node in words.nodes}["h"]
    assert h.holds(h.nearest(Fraction(limit)))


def test_a_threshold_beyond_every_node() -> None:
    """The threshold 5 has the default format, which was that of the nodes: it did not fit Q3.0."""
    v, x = lnm.state("v"), lnm.input("x")
    neuron = lnm.Neuron(charge={v: x / 2 + v / 4}, fire=v - 5, reset=lnm.hard_reset(v, 0))
    words = select_for_intervals(neuron, {"x": (-2, 2)}, PrecisionTarget(error=0.1)).words
    assert words.proven
    assert words.error <= 0.1
    default = words.spec.default
    assert default.bits.holds(default.bits.nearest(Fraction(5)))
    assert default.frac == max(node.fixed.frac for node in words.nodes)


def test_a_state_that_is_rounded_out_of_its_interval() -> None:
    """At the clamp of -0.33, rounded, an error passed the bound of the interval: called a bug."""
    theta = (-0.0236419, -0.0930945, -0.074507, -0.0101433)
    neuron = lnm.get("lnm", degree=3, theta=theta, v_min=-0.33026719, v_reset=0.05224931)
    words = select_for_intervals(neuron, {"x": (-0.6, 1)}, PrecisionTarget(error=0.09)).words
    assert words.error <= 0.09


def test_operands_of_a_comparison_reach_the_target_on_data() -> None:
    """The input acts on the comparison alone; two bits of it would pass if jumps were left out."""
    x = drive(neurons=512)
    words = select_for_data(jumping(), x, target=PrecisionTarget(error=0.01)).words
    assert not words.proven
    assert max(words.error, words.margin) <= 0.01
    assert 0 < words.differing < 0.01
    assert {node.name: node.fixed.frac for node in words.nodes}["x"] >= 6


def test_the_condition_of_a_bound_is_reported(tmp_path, capsys) -> None:
    """In the report, in JSON, and in the file of formats."""
    (tmp_path / "jump.py").write_text(
        "import lnm_codegen as lnm\n\n@lnm.family\ndef jumping():\n"
        "    v, x = lnm.state('v'), lnm.input('x')\n"
        "    charge = lnm.where(0.7 * v + x > 0, 0.5 * v + 0.25, 0.5 * v - 0.25)\n"
        "    return lnm.Neuron(charge={v: charge}, output={'o': v})\n"
    )
    given = ["quantize", f"{tmp_path / 'jump.py'}:jumping", "--error", "0.01", "--x", "1"]
    assert run([*given, "--out", str(tmp_path)]) == 0
    condition = "where every comparison has the outcome of exact arithmetic"
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("errors: proven for") and condition in line for line in lines)
    (line,) = (line for line in lines if line.startswith("comparisons: outcomes differ"))
    assert f"# C{line[1:]}.\n" in (tmp_path / "jumping.toml").read_text()
    assert run([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["jumping"]
    assert f"by at most {found['margin']:.3g} there" in line
    assert f"{100 * found['comparisons_differ']:.3g} % of" in line


def test_the_runs_of_a_mismatch_are_reported(tmp_path, capsys) -> None:
    """The report had the mismatch of short runs as that of any; over long runs more spikes differ.

    A neuron without spikes has no such line.
    """
    assert run(["quantize", "lif", "--set", "tau=20", "--x", "8", "--out", str(tmp_path)]) == 0
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("mismatch: on runs"))
    assert f"at most {WINDOW} steps" in line
    assert f"# M{line[1:]}.\n" in (tmp_path / "lif.toml").read_text()
    neuron = lnm.get("lif", tau=20.0)
    words = select_for_intervals(neuron, {"x": (-8, 8)}, PrecisionTarget(mismatch=1e-3)).words
    x = np.random.default_rng(5).uniform(-8, 8, (400, 1, 100))
    expected = lnm.interpret(neuron, x).out
    differ = lnm.interpret_fixed(neuron, x, spec=words.spec).out != expected
    assert words.mismatch <= 1e-3
    assert differ.sum() / expected.sum() > 10e-3
    assert run(["quantize", "li", "--error", "0.1"]) == 0
    assert "mismatch: on runs" not in capsys.readouterr().out


def test_what_runs_away_is_refused():
    wild = lnm.get("lnm", degree=3, theta=(0.05, 0.6, -0.1, 0.15))
    with refused(
        ModelError, "lnm", "is not finite on these inputs", remedy="Narrow them with --x, or bound"
    ):
        select_for_intervals(wild, {"x": (-3, 3)}, PrecisionTarget(error=0.01))


def test_a_neuron_that_spikes_keeps_the_interval_of_2():
    for name in ("if", "lif", "qif", "cuba_lif", "ternary", "lnm", "li"):
        neuron = lnm.get(name)
        assert spiking_inputs(neuron) == {s.name: (-2.0, 2.0) for s in neuron.inputs}


@pytest.mark.parametrize(
    "name", ["rf", *(pytest.param(n, marks=pytest.mark.slow) for n in ("adlif", "brf"))]
)
def test_slow_neurons_spike_in_the_default_interval(name):
    """With |x| <= 2 none spiked: no format had a mismatch, and 2 bits for each node sufficed.

    A format of 2 to 4 bits now differs in spikes.
    """
    neuron = lnm.get(name)
    inputs = spiking_inputs(neuron)
    assert inputs["x"][1] > 2
    target = PrecisionTarget(mismatch=0.01)
    problem = "no step has a spike for x in [-2, 2]"
    with refused(ModelError, name, problem, remedy="Give inputs that make it spike with --x."):
        select_for_intervals(neuron, {"x": (-2, 2)}, PrecisionTarget(mismatch=0.01))
    chosen = select_for_intervals(neuron, inputs, target)
    assert chosen.rates["spike"] > 0.02
    assert chosen.inputs == inputs
    assert max(n.fixed.width for n in chosen.words.nodes) >= 8
    x = np.random.default_rng(1).uniform(*inputs["x"], (64, 1, 64))
    spec = FixedSpec(lnm.Fixed(8, 2), {n.name: lnm.Fixed(8, 2) for n in chosen.words.nodes})
    coarse = observed(program_of(neuron, spec), sample_of(neuron, x))
    assert coarse.mismatch > 0.01


def test_rates_of_a_sample_are_those_of_the_run():
    """Windows of one sample cover every step of a run that is as long as a window twice."""
    neuron, x = lnm.get("ternary"), drive()
    rates = sampled_rates(neuron, sample_of(neuron, x, window=1))
    out = lnm.interpret(neuron, x).out
    assert rates == {"up": pytest.approx((out > 0).mean()), "down": pytest.approx((out < 0).mean())}


def test_an_error_that_is_proven_needs_no_spike():
    """Ranges and errors hold for every input of the interval; without proof they are recorded."""
    target = PrecisionTarget(error=0.05)
    chosen = select_for_intervals(lnm.get("rf"), {"x": (-2, 2)}, target)
    assert chosen.words.proven
    assert chosen.rates == {"spike": 0.0}
    problem = "no step has a spike for x in [-2, 2]"
    with refused(ModelError, "brf", problem, remedy="Give inputs that make it spike with --x."):
        select_for_intervals(lnm.get("brf"), {"x": (-2, 2)}, target)


def test_a_mismatch_needs_a_spike():
    """A neuron without spikes had 2 bits for each coefficient, at an error of 2.24."""
    problem = "the neuron has no spike, so that every format has a mismatch of 0"
    with refused(ModelError, "li", problem, remedy="Give an error as the target, --error."):
        select_for_intervals(lnm.get("li"), {"x": (-2, 2)}, PrecisionTarget(mismatch=0.01))


def test_the_command_reports_inputs_and_rates(capsys):
    """The interval that was drawn from, and the share of steps with a spike; --x wins."""
    assert run(["quantize", "rf", "--mismatch", "0.02"]) == 0
    assert (
        "inputs: x in [-32, 32]; spike in 5.58 % of the sample's steps" in capsys.readouterr().out
    )
    assert run(["quantize", "rf", "--x", "0,40", "--mismatch", "0.02", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rf"]
    assert found["inputs"] == {"x": [0, 40]}
    assert 0.02 < found["spike_rates"]["spike"] < 0.98
    assert run(["quantize", "rf", "--x", "2"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: rf: no step has a spike for x in [-2, 2]. Give inputs that make")


def test_an_unbounded_error_is_no_proven_one(capsys):
    """It was printed as "ranges and errors: proven ... largest error inf"."""
    arguments = ["quantize", "lnm", "--degree", "3"]
    assert run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not any("inf" in line.split() for line in lines)
    assert "ranges: proven, as the states stay in v in [-4, 1]" in lines
    assert "errors: no bound is proven, as nodes may saturate where no bound is listed" in lines
    assert lines[-1].startswith("largest error 0.00244 in simulation, spike mismatch")
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["lnm"]
    assert found["error"] is None
    assert found["observed_error"] == pytest.approx(0.00244, abs=1e-5)


def test_targets():
    """A target of 0 is accepted."""
    for word in ("error", "mismatch"):
        assert getattr(PrecisionTarget(**{word: 0}), word) == 0
    assert_refused(
        """
quantize >> one of them
    PrecisionTarget() >> error and mismatch are both None
    PrecisionTarget(error=1.0, mismatch=0.1) >> error and mismatch are both given
    PrecisionTarget(error=float("nan")) >> error is nan >> a number >= 0 and < 1e+09
    PrecisionTarget(error=-1.0) >> error is -1.0 >> a number >= 0 and < 1e+09
    PrecisionTarget(mismatch=1.0) >> mismatch is 1.0 >> a number >= 0 and < 1
""",
        globals(),
    )


def test_no_format_reaches_it():
    target, options = PrecisionTarget(error=1e-9), SearchOptions(most=16)
    problem = "no format of at most 16 bits reaches error of a state after a step <= 1e-09"
    with refused(ModelError, "lnm", problem, remedy="Allow more bits, or narrow the range"):
        select_for_data(cubic(), drive(), target=target, options=options)


def test_a_candidate_with_too_wide_a_product_is_none_that_reaches_it(tmp_path, capsys):
    """The search ended in the advice to give narrower formats, although none was given."""
    v, w, x, y = lnm.state("v"), lnm.state("w"), lnm.input("x"), lnm.input("y")
    charge = {v: lnm.param("p", init=0.7) * v - 0.5 * w + x, w: 0.25 * v + 0.5 * w + lnm.max(y, 0)}
    neuron = lnm.Neuron(charge=charge, fire=v - 1, reset=lnm.hard_reset(v, 0), name="two")
    path = tmp_path / "two.toml"
    path.write_text(neuron.to_toml())
    assert run(["quantize", str(path), "--error", "1e-8"]) == 2
    problem = "no format of at most 32 bits reaches error of a state after a step <= 1e-08"
    assert capsys.readouterr().err.startswith(f"error: two: {problem}. Allow more bits")
    assert run(["quantize", str(path), "--error", "1e-3"]) == 0
