"""Neurons on which backends are compared, with arguments for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

import lnm_codegen as lnm
from lnm_codegen.ir.nodes import Role
from tests.strategies import Arguments, rows_of


def dendrite() -> lnm.Neuron:
    """Two inputs, three states, one of them set by reset alone, two spikes, every function."""
    x, drive = lnm.input("x"), lnm.input("drive")
    v, u, last = lnm.state("v"), lnm.state("u", init=0.25), lnm.state("s_prev")
    w, tau = lnm.param("w", init=0.3), lnm.param("tau", init=2.5, per="channel")
    gain = lnm.param("gain", size=2, init=(0.4, -0.2), per="neuron")
    spike, low = lnm.spike, lnm.spike_named("s_low")
    return lnm.Neuron(
        charge={
            v: v + (x * lnm.sigmoid(w) - lnm.sin(v)) / tau + gain[0] * lnm.cos(drive) - last / 4,
            u: lnm.tanh(u + drive) * lnm.exp(-w) + gain[1] * lnm.log(2 + lnm.tanh(v)),
        },
        fire={spike: v - lnm.sqrt(1 + u**2) / 2, low: -v - lnm.max(u, 0.5)},
        reset={v: lnm.where(low, u / 2, v - spike * lnm.abs(u)), last: spike},
        output={"graded": spike * v, "count": spike + low, "potential": lnm.clip(u, -1, 0.75)},
        surrogate={spike: lnm.surrogate.erf(), low: lnm.surrogate.triangle(alpha=0.5)},
        name="dendrite",
    )


def gated() -> lnm.Neuron:
    """Conditions joined by and, or, not; a `where` of parameters alone; a constant reset."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    a, b = lnm.param("a", init=0.5), lnm.param("b", init=0.7, per="channel")
    quiet = (v < 0.25) & (x < 0.5) | ~(w > -0.5)
    return lnm.Neuron(
        charge={v: lnm.where(quiet, a * v, b * v) + x, w: w * lnm.where(a > 0, 0.5, 0.25) + v},
        fire=lnm.min(v, 2 - v) - 0.5 * lnm.abs(b),
        reset={w: 0.125, v: lnm.where(lnm.spike, v * 0.5, v)},
        output={"spike": lnm.spike, "kept": w},
        surrogate=lnm.surrogate.rectangle(alpha=0.5),
        name="gated",
    )


def gate() -> lnm.Neuron:
    """No state at all."""
    x, level = lnm.input("x"), lnm.param("level", init=0.5)
    return lnm.Neuron(fire=x - level, surrogate=lnm.surrogate.sigmoid(), name="gate")


def decided() -> lnm.Neuron:
    """Spikes and conditions that depend on parameters alone, true and false."""
    v, x = lnm.state("v"), lnm.input("x")
    w, b = lnm.param("w", init=0.5), lnm.param("b", init=-0.3, per="channel")
    on, off, low = lnm.spike, lnm.spike_named("s_off"), lnm.spike_named("s_low")
    return lnm.Neuron(
        charge={v: lnm.where((w > 0.25) & (v < 0.5), w, b) * v + lnm.where(b > 0, v, x)},
        fire={on: w - 0.2, off: b * w, low: -v - lnm.where(w < 2, w, v)},
        reset={v: lnm.where(off, b, v - on * w - low / 4)},
        output={"graded": on * v + off, "gain": on * w, "count": on + off + low},
        name="decided",
    )


def held() -> lnm.Neuron:
    """Gradients that stop: in the step, in an expression of parameters, at a spike, used twice."""
    v, x = lnm.state("v"), lnm.input("x")
    a, b = lnm.param("a", init=0.5, per="channel"), lnm.param("b", init=0.25)
    stop = lnm.stop_gradient
    return lnm.Neuron(
        charge={v: (a + stop(a) * b) * v - v * stop(v * v) / 8 + stop(b) * x},
        fire=v - stop(b) + 0.125,
        reset={v: v - stop(lnm.spike) * (v - stop(v) / 4)},
        output={"spike": lnm.spike, "kept": v * stop(v), "still": stop(v)},
        name="held",
    )


def fitzhugh(
    k: int = 2, bind: Callable[[Any, str], Any] = lnm.bind, dt: Fraction = Fraction(1, 4)
) -> lnm.Neuron:
    """FitzHugh-Nagumo: k sub-steps of the classical Runge-Kutta method in a time step.

    dv/dt = v - v**3/3 - w + x        dw/dt = epsilon*(v + a - 4*w/5)
    """
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    a, epsilon = lnm.param("a", init=0.75, per="channel"), lnm.param("epsilon", init=0.125)
    half = dt / k / 2

    def slopes(v: Any, w: Any) -> tuple[Any, Any]:
        return v - v**3 / 3 - w + x, epsilon * (v + a - 4 * w / 5)

    def step(*now: Any) -> tuple[Any, ...]:
        stages = [now]
        for n, reach in enumerate((0, half, half, 2 * half)):
            at = (s + reach * d if reach else s for s, d in zip(now, stages[-1], strict=True))
            stages.append(
                tuple(bind(e, f"k{n + 1}_{s}") for s, e in zip("vw", slopes(*at), strict=True))
            )
        steps = zip(now, *stages[1:], strict=True)
        return tuple(s + (d1 + 2 * d2 + 2 * d3 + d4) * half / 3 for s, d1, d2, d3, d4 in steps)

    after = {v: v, w: w}
    if bind is lnm.bind:
        after = dict(zip(after, lnm.substeps(k, step, v=v, w=w), strict=True))
    else:
        after = dict(zip(after, step(v, w), strict=True))
    return lnm.Neuron(
        charge=after, fire=v - 1, output={"spike": lnm.spike, "potential": v}, name="fitzhugh"
    )


def _lnm(degree: int, **arguments: Any) -> Callable[[], lnm.Neuron]:
    theta = (0.05, 0.5, 0.125, -0.0625, 0.03, -0.02, 0.015, 0.01, -0.005)[: degree + 1]
    return lambda: lnm.get("lnm", degree=degree, **({"theta": theta} | arguments))


MIXED = {"theta": "channel", "v_threshold": "neuron"}

CASES: dict[str, Callable[[], lnm.Neuron]] = {
    "if": lambda: lnm.get("if"),
    "lif": lambda: lnm.get("lif"),
    "lif-learned": lambda: lnm.get(
        "lif", decay_input=False, v_reset=None, v_rest=0.1, learn_tau=True, per="channel"
    ),
    "plif": lambda: lnm.get("plif", tau=3.0, v_reset=0.125),
    "plif-neuron": lambda: lnm.get("plif", decay_input=False, v_reset=None, per="neuron"),
    "glif-steps": lambda: lnm.get(
        "glif", g_per_step=True, alpha=0.7, per={"w_tau": "channel", "w_v_threshold": "neuron"}
    ),
    "alif": lambda: lnm.get("alif", tau_m=4.0, tau_adp=12.0, per="channel"),
    "qif": lambda: lnm.get("qif"),
    "qif-learned": lambda: lnm.get("qif", learnable=True, per="channel"),
    "cuba_lif": lambda: lnm.get("cuba_lif"),
    "cuba_lif-learned": lambda: lnm.get("cuba_lif", v_reset=None, learnable=True, per="neuron"),
    "izhikevich": lambda: lnm.get("izhikevich"),
    "izhikevich-learned": lambda: lnm.get(
        "izhikevich", a=0.1, b=0.25, learnable=True, per="channel"
    ),
    "li": lambda: lnm.get("li"),
    "li-learned": lambda: lnm.get("li", decay_input=False, learn_tau=True, per="neuron"),
    "ternary": lambda: lnm.get("ternary"),
    "ternary-learned": lambda: lnm.get("ternary", learn_amplitude=True, per="channel"),
    "lnm-1": _lnm(1),
    "lnm-2": _lnm(2, v_reset=None, v_min=-1.5),
    "lnm-3": _lnm(3),
    "lnm-4": _lnm(4, learn_threshold=True, v_min=-1.0, per=MIXED),
    "lnm-8": _lnm(8, v_min=-1.0),
    "lnm-B": _lnm(2, form="B", v_min=-1.0, v_reset=-0.125, detach_reset=True, per="channel"),
    "lnm-C": _lnm(
        3, form="C", theta=(-0.5, 0.125, -0.0625), learn_theta_0=False, learn_threshold=True,
        v_reset=None, per="neuron",
    ),
    "lnm-legendre": lambda: lnm.get(
        "lnm", degree=4, basis="legendre", theta=(-0.2, 0.75, 0.125, -0.0625, 0.03), v_min=-1.0,
        per="channel",
    ),
    "lnm-matrix": lambda: lnm.get(
        "lnm", states=2, degree=1, radius=0.65, angle=0.6, v_threshold=0.5, per="channel"
    ),
    "lnm-cubic": lambda: lnm.get(
        "lnm", states=2, degree=3, learn_theta_0=True, learn_threshold=True,
        theta_v=(0.05, 0.4, -0.35, 0.1, -0.05, 0.04, -0.03, 0.02, -0.02, 0.01),
        theta_w=(-0.05, 0.35, 0.4, -0.04, 0.1, 0.05, 0.01, -0.02, 0.02, -0.03),
        v_min=-1.5, w_min=-1.0, w_max=1.25, per={"theta_v": "channel", "theta_w": "neuron"},
    ),
    "lnm-pole": lambda: lnm.get(
        "lnm", states=2, degree=2, parametrisation="pole", radius=0.8, angle=0.7, reset="both",
        v_reset=-0.125, theta_v=(0.1, -0.05, 0.04), theta_w=(-0.04, 0.1, 0.05), v_threshold=0.5,
        v_min=-1.5, v_max=2.0, per={"rho": "neuron", "phi": "channel"},
    ),
    "brf": lambda: lnm.get(
        "brf", omega=3.0, b_offset=2.0, dt=0.125, v_threshold=0.25, per={"omega": "channel"}
    ),
    "adlif": lambda: lnm.get(
        "adlif", tau_v=3.0, tau_w=8.0, a=0.3, b=0.8, q=4.0, v_threshold=0.25, per="channel"
    ),
    "lnm-detached": _lnm(3, v_reset=None, v_min=-1.5, learn_threshold=True, detach_reset=True),
    "dendrite": dendrite,
    "gated": gated,
    "gate": gate,
    "decided": decided,
    "held": held,
    "fitzhugh": fitzhugh,
}  # fmt: skip

ZOO: dict[str, Callable[[], lnm.Neuron]] = {
    "klif": lambda: lnm.get("klif", k=1.25, per="channel"),
    "klif-scaled": lambda: lnm.get("klif", k=1.25, scale_reset=True, v_reset=None),
    "eif": lambda: lnm.get("eif", learnable=True, per="channel"),
    "adex": lambda: lnm.get("adex", tau=3.0, tau_w=8.0, a=0.5, tau_syn=2.0, learnable=True),
    "clif": lambda: lnm.get("clif", learn_tau=True, per="neuron"),
    "i_lif": lambda: lnm.get("i_lif", v_threshold=0.25, learn_tau=True, per="channel"),
    "tc_lif": lambda: lnm.get("tc_lif", beta_d=0.4, per={"w_s": "neuron"}),
    "refractory_lif": lambda: lnm.get("refractory_lif", tau=2.0, refractory=3, v_threshold=0.25),
    "leaky": lambda: lnm.get("leaky", learn_beta=True, learn_threshold=True, per="channel"),
    "leaky-at-once": lambda: lnm.get("leaky", reset="zero", reset_delay=False, learn_beta=True),
    "lapicque": lambda: lnm.get("lapicque", v_threshold=0.25, learnable=True),
    "synaptic": lambda: lnm.get("synaptic", reset="zero", learn_alpha=True, learn_beta=True),
    "fitzhugh_nagumo": lambda: lnm.get("fitzhugh_nagumo", v_threshold=0.25, learnable=True),
    "silif": lambda: lnm.get(
        "silif", rate_v=120.0, rate_w=5.0, a=0.5, b=1.0, v_threshold=0.25, per="channel"
    ),
    "csilif": lambda: lnm.get("csilif", dt=0.2, omega=0.5, b=0.5, v_threshold=0.25),
}
"""Further families, which slow runs alone compare, but for `clif`.

`hodgkin_huxley` and `izhikevich` in mV need other arguments: `tests/nn/check` compares them.
"""

BLOCKS: dict[str, Callable[[], lnm.Neuron]] = {
    "lif-normalised": lambda: lnm.normalised(lnm.get("lif")),
    "plif-shortcut": lambda: lnm.normalised(lnm.get("plif", per="channel"), shortcut=True),
}
"""Neurons with the normalisation before them, one with a shortcut; `tests/ptx` runs them."""

FEW = (
    "lif", "lif-learned", "plif", "izhikevich-learned", "li", "lnm-3", "lnm-4", "lnm-C",
    "lnm-matrix", "dendrite", "gate",
)  # fmt: skip
"""Cases whose examples in C are run."""


def fixed_zoo() -> list[str]:
    """Return the names in `ZOO` that have a fixed-point form: no function of a state."""
    names = []
    for name, make in ZOO.items():
        with suppress(lnm.UnsupportedError):
            lnm.quantize(make(), lnm.Fixed(16, 12))
            names.append(name)
    return names


def exact(array: Any) -> np.ndarray:
    """Return float64 numbers that float32 holds too: all types get the same arguments."""
    return np.asarray(array, np.float32).astype(np.float64)


def arguments(neuron: lnm.Neuron, rng: np.random.Generator, shape: tuple[int, ...]) -> Arguments:
    """Draw arguments near the declared parameters."""

    def uniform(size: tuple[int, ...], width: float) -> np.ndarray:
        return exact(rng.uniform(-width, width, size))

    params = {}
    for p in neuron.params:
        size = rows_of(p.per, shape) + (() if p.size is None else (p.size,))
        init = np.asarray(p.init, np.float64)
        params[p.name] = exact(init + np.abs(init) * rng.uniform(-0.1, 0.1, size))
    return Arguments(
        x_seq=tuple(uniform(shape, 1.25) for _ in neuron.inputs),
        state={s.name: uniform(shape[1:], 0.75) for s in neuron.states},
        params=params,
        grad_out=tuple(uniform(shape, 1.0) for _ in neuron.output),
        grad_state={s.name: uniform(shape[1:], 1.0) for s in neuron.states},
    )


@dataclass
class Results:
    """Results of a layer, as NumPy arrays by name."""

    outputs: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all results in one dict, for bit-exact comparisons."""
        return {
            **{f"output {n}": a for n, a in self.outputs.items()},
            **{f"final {n}": a for n, a in self.states.items()},
            **{f"grad {n}": a for n, a in self.grads.items()},
        }


def layer_of(
    neuron: lnm.Neuron, a: Arguments, backend: str, dtype: torch.dtype
) -> lnm.nn.NeuronLayer:
    """Return a layer that holds the parameters of `a`."""
    shape = tuple(a.x_seq[0].shape[2:])
    needs = {p.per for p in neuron.params}
    layer = lnm.nn.NeuronLayer(
        neuron,
        backend=backend,
        dtype=dtype,
        channels=shape[0] if "channel" in needs else None,
        shape=shape if "neuron" in needs else None,
    )
    with torch.no_grad():
        for name, value in a.params.items():
            getattr(layer, name).copy_(torch.as_tensor(value, dtype=dtype))
    return layer


def run(neuron: lnm.Neuron, a: Arguments, backend: str, dtype: str, **layout: Any) -> Results:
    """Run a layer forward and backward on `a`; `layout` maps over inputs and their gradients."""
    kind = getattr(torch, dtype)
    place = layout.get("place", lambda t: t)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, dtype=kind).clone()

    layer = layer_of(neuron, a, backend, kind)
    xs = [place(tensor(x)).requires_grad_() for x in a.x_seq]
    state = {n: tensor(v).requires_grad_() for n, v in a.state.items()}
    out, final = layer(*xs, state=state, return_state=True)
    outs = out if isinstance(out, tuple) else (out,)
    names = list(lnm.lower(neuron).forward.result_names(Role.OUTPUT))
    learned = [p.name for p in neuron.params if p.learnable]
    leaves = {s.name: x for s, x in zip(neuron.inputs, xs, strict=True)}
    leaves |= state | {n: getattr(layer, n) for n in learned}
    ends = [*outs, *(final[n] for n in state)]
    seeds = [*a.grad_out, *(a.grad_state[n] for n in state)]
    seeds = [tensor(g) for g in seeds]
    seeds[: len(outs)] = [place(g) for g in seeds[: len(outs)]]
    reached = [(e, g) for e, g in zip(ends, seeds, strict=True) if e.requires_grad]
    grads: list[Any] = [None] * len(leaves)
    if reached:
        grads = list(
            torch.autograd.grad(
                [e for e, _ in reached],
                list(leaves.values()),
                [g for _, g in reached],
                allow_unused=True,
            )
        )
    return Results(
        {n: o.detach().numpy() for n, o in zip(names, outs, strict=True)},
        {n: s.detach().numpy() for n, s in final.items()},
        {
            n: np.zeros(leaf.shape, dtype) if g is None else g.numpy()
            for (n, leaf), g in zip(leaves.items(), grads, strict=True)
        },
    )
