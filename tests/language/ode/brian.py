"""Neurons of Brian2, and the script that records their runs in `brian.json`.

    python tests/language/ode/brian.py      with Brian2 2.9 in an environment of its own

Each model has three neurons, whose currents differ. The file has, per case, the steps of the spikes
and the states before every 50th step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_suffix(".json")
EVERY = 50

LIF = {
    "text": """
        # conductance-based synapses
        dv/dt = (g_l*(E_l - v) + g_e*(E_e - v) + g_i*(E_i - v)
                 + I)/C : volt (unless refractory)
        dg_e/dt = (1.5*nS*cos(I/(100*pA))**2 - g_e)/tau_e : siemens
        dg_i/dt = -g_i/tau_i : siemens
        I : amp
        """,
    "parameters": {
        "g_l": "10*nS", "E_l": "-70*mV", "E_e": "0*mV", "E_i": "-80*mV", "C": "200*pF",
        "tau_e": "5*ms", "tau_i": "10*ms", "V_t": "-50*mV", "V_r": "-60*mV",
    },
    "threshold": "v > V_t",
    "reset": "v = V_r; g_i += 2*nS",
    "refractory": "2*ms",
    "init": {"v": "-70*mV"},
    "scale": 4e-10,
}  # fmt: skip

ADEX = {
    "text": """
        dv/dt = (g_l*(E_l - v) + g_l*D*exp((v - V_t)/D) + I - w)/C : volt
        dw/dt = (a*(v - E_l) - w)/tau_w : amp
        I : amp
        """,
    "parameters": {
        "g_l": "30*nS", "E_l": "-70.6*mV", "C": "281*pF", "D": "2*mV", "V_t": "-50.4*mV",
        "a": "4*nS", "tau_w": "144*ms", "b": "0.0805*nA", "V_r": "-70.6*mV",
    },
    "threshold": "v > V_t + 5*D",
    "reset": "v = V_r; w += b",
    "refractory": None,
    "init": {"v": "-70.6*mV"},
    "scale": 8e-10,
}  # fmt: skip

HODGKIN_HUXLEY = {
    "text": """
        dv/dt = (I - I_Na - I_K - g_l*(v - E_l))/C : volt
        I_Na = g_Na*m**3*h*(v - E_Na) : amp
        I_K = g_K*n**4*(v - E_K) : amp
        dm/dt = a_m*(1 - m) - b_m*m : 1
        dn/dt = a_n*(1 - n) - b_n*n : 1
        dh/dt = a_h*(1 - h) - b_h*h : 1
        a_m = 0.32*4/exprel((13*mV - v + V_T)/(4*mV))/ms : hertz
        b_m = 0.28*5/exprel((v - V_T - 40*mV)/(5*mV))/ms : hertz
        a_h = 0.128*exp((17*mV - v + V_T)/(18*mV))/ms : hertz
        b_h = 4./(1 + exp((40*mV - v + V_T)/(5*mV)))/ms : hertz
        a_n = 0.032*5/exprel((15*mV - v + V_T)/(5*mV))/ms : hertz
        b_n = .5*exp((10*mV - v + V_T)/(40*mV))/ms : hertz
        I : amp
        """,
    "parameters": {
        "C": "200*pF", "g_l": "10*nS", "E_l": "-65*mV", "g_Na": "20*uS", "E_Na": "50*mV",
        "g_K": "6*uS", "E_K": "-90*mV", "V_T": "-63*mV",
    },
    "threshold": "v > -40*mV",
    "reset": None,
    "refractory": "v > -40*mV",
    "init": {"v": "-65*mV", "n": 0.1, "h": 0.8},
    "scale": 3e-10,
}  # fmt: skip

CURRENT = {
    "text": """
        dv/dt = (R*s - v)/tau : volt (unless refractory)
        ds/dt = (I - s)/tau_s : amp
        I : amp
        """,
    "parameters": {"R": "80*Mohm", "tau": "12*ms", "tau_s": "5*ms"},
    "threshold": "v > 15*mV",
    "reset": "v = 0*mV",
    "refractory": "3*ms",
    "init": {},
    "scale": 3e-10,
}

CASES = {
    "lif-euler": (LIF, "euler", "0.1*ms", 2000),
    "lif-exponential_euler": (LIF, "exponential_euler", "0.1*ms", 2000),
    "lif-rk4": (LIF, "rk4", "0.1*ms", 2000),
    "adex-euler": (ADEX, "euler", "0.1*ms", 2000),
    "adex-rk2": (ADEX, "rk2", "0.1*ms", 2000),
    "adex-rk4": (ADEX, "rk4", "0.1*ms", 2000),
    "hodgkin_huxley-exponential_euler": (HODGKIN_HUXLEY, "exponential_euler", "0.02*ms", 2500),
    "hodgkin_huxley-rk4": (HODGKIN_HUXLEY, "rk4", "0.02*ms", 2500),
    "current-exact": (CURRENT, "exact", "0.1*ms", 2000),
}
"""Case -> its model, method, dt and number of steps."""


def currents(scale: float, steps: int) -> np.ndarray:
    """Return the current of each step and neuron, in amperes: steps and sines."""
    t = np.arange(steps)[:, None]
    strength = np.array([0.8, 1.3, 2.1])
    wave = 1 + 0.5 * np.sin(2 * np.pi * t / (300 * strength))
    return scale * strength * wave * (t >= 20)


def record(model: dict[str, Any], method: str, dt: str, steps: int) -> dict[str, Any]:
    """Return the run of one case in Brian2."""
    import brian2 as b2

    b2.prefs.codegen.target = "numpy"
    b2.start_scope()
    units = {name: getattr(b2, name) for name in ("mV", "ms", "nS", "uS", "pA", "nA", "pF", "Mohm")}

    def value(given: Any) -> Any:
        return eval(given, {}, units) if isinstance(given, str) else given  # our own texts, above

    b2.defaultclock.dt = value(dt)
    stimulus = b2.TimedArray(currents(model["scale"], steps) * b2.amp, dt=value(dt))
    text = model["text"].replace("I : amp", "I = stimulus(t, i) : amp (constant over dt)")
    namespace = {name: value(v) for name, v in model["parameters"].items()} | {"stimulus": stimulus}
    refractory = model["refractory"] or False
    if isinstance(refractory, str) and ">" not in refractory:
        refractory = value(refractory)
    group = b2.NeuronGroup(
        3, text, method=method, threshold=model["threshold"], reset=model["reset"] or "",
        refractory=refractory, namespace=namespace,
    )  # fmt: skip
    for name, start in model["init"].items():
        setattr(group, name, value(start))
    names = [name for name in group.equations.diff_eq_names]
    states = b2.StateMonitor(group, names, record=True, when="start")
    spikes = b2.SpikeMonitor(group)
    b2.run(steps * value(dt))
    fired = np.round(np.asarray(spikes.t / value(dt))).astype(int)
    return {
        "spikes": [sorted(int(k) for k in fired[spikes.i == i]) for i in range(3)],
        "states": {
            name: [[float(x) for x in row] for row in np.asarray(getattr(states, name))[:, ::EVERY]]
            for name in sorted(names)
        },
    }


def main() -> None:
    """Run every case and write the file."""
    found = {name: record(*case) for name, case in CASES.items()}
    lines = (f"{json.dumps(name)}: {json.dumps(case)}" for name, case in found.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    for name, case in found.items():
        print(name, [len(s) for s in case["spikes"]])


if __name__ == "__main__":
    main()
