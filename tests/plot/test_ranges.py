"""Default ranges: spikes at the right end of an f-I curve, none at the left, in any units."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import lnm_codegen as lnm
from lnm_codegen.analysis.linear.step import StepMap, firing_rates
from lnm_codegen.families import FAMILIES
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.plot.axes import inputs_of, rate_steps, state_scales

MOST_RATE = {"refractory_lif": 0.2, "fitzhugh_nagumo": 0.01, "hodgkin_huxley": 0.02}
"""Family -> bound of its rate, where it stays below 1/2."""
BUILT_IN = [
    pytest.param(
        name, marks=[pytest.mark.slow] * (name not in ("lif", "eif", "refractory_lif", "adlif"))
    )
    for name in FAMILIES
    if lnm.get(name).fire
]
ADEX = """
dv/dt = (-g*(v - E) + g*d*exp((v - V_T)/d) - w + I)/C : volt
dw/dt = (a*(v - E) - w)/tau_w : amp
"""


def adex() -> Neuron:
    """Return a neuron in volt and ampere (Brette and Gerstner 2005)."""
    return lnm.ode(
        ADEX, threshold="v > -30*mV", reset="v = E; w += b", dt="0.1*ms", name="si",
        method="euler", init={"v": "-70.6*mV"}, surrogate=lnm.surrogate.atan(alpha=100.0),
        parameters={
            "C": "281*pF", "g": "30*nS", "E": "-70.6*mV", "V_T": "-50.4*mV", "d": "2*mV",
            "tau_w": "144*ms", "a": "4*nS", "b": "0.08*nA",
        },
    )  # fmt: skip


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_curve_of_every_family_goes_from_silence_to_spikes(name: str) -> None:
    """To a rate of about 1/2 where the neuron reaches it; no range is longer than it must be."""
    step = StepMap(lnm.get(name))
    low, high = inputs_of(step)
    steps = rate_steps(step, high)
    rates = firing_rates(step, np.linspace(low, high, 9), steps)[:, 0]
    assert rates[0] == 0 < rates[-1]
    assert rates[-1] * steps >= 5
    if name in MOST_RATE:
        assert rates[-1] < MOST_RATE[name]
    else:
        assert rates[-1] >= 0.45
    assert (low < 0) == (name == "eif")
    assert (rates > 0).sum() >= 4


def test_a_neuron_in_volt_and_ampere_has_a_curve_and_a_plane(ax: Axes) -> None:
    """Its inputs are of nA; the default once began at 0 and ended at some volts."""
    lnm.plot.fi_curve(adex(), ax=ax)
    x, rate = ax.lines[0].get_data()
    assert x[0] == 0 == rate[0]
    assert 1e-10 < x[-1] < 1e-6
    assert (rate > 0).mean() > 0.3
    other = lnm.plot.phase_plane(adex(), ax=Figure().subplots())
    assert np.ptp(other.get_xlim()) < 0.2
    assert np.ptp(other.get_ylim()) < 1e-6


def test_scales_do_not_depend_on_units(ax: Axes) -> None:
    """A second state in units of 1e-9 has 1e-9 of the scale."""

    def scales(unit: float) -> np.ndarray:
        v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
        charge = {v: 0.9 * v + x - w / unit, w: 0.8 * w + 0.05 * unit * v}
        return state_scales(StepMap(lnm.Neuron(charge=charge, fire=v - 1, name="n")))

    assert scales(1.0).tolist() == [1, 1]
    assert scales(1e-9)[1] == pytest.approx(1e-9 * scales(100.0)[1] / 100, rel=1e-6)


def test_a_neuron_that_always_fires_has_a_curve_around_0() -> None:
    v, x = lnm.state("v"), lnm.input("x")
    step = StepMap(lnm.Neuron(charge={v: 0.5 * v + lnm.tanh(x)}, fire=v + 5, name="n"))
    low, high = inputs_of(step)
    assert low == -high < 0


def test_a_neuron_without_spikes_has_4_scales() -> None:
    assert inputs_of(StepMap(lnm.get("li"))) == (0, 4)
