"""Sources whose text is held by its digest alone (`update_generated.py`): what defaults lack.

Each backend in each type; parameters per channel and per neuron; several states, inputs, outputs
and spikes; counts, normalisation and learned starts; circuits with ports, memories and ECP5's
multiplier; packages; networks. Slow tests compile, run or simulate such sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import lnm_codegen as lnm
from lnm_codegen.backends.network_c import emit_c
from lnm_codegen.backends.network_verilog.backend import emit_circuit
from lnm_codegen.ir.network.interpret import interpret_network
from tests.cases import CASES
from tests.networks import random_network, random_samples, rows


def counting() -> lnm.Neuron:
    """A neuron whose spikes, and whose neurons above a potential, are counted."""
    neuron = CASES["lif-learned"]()
    return neuron.with_counts(fired=lnm.spike, high=lnm.where(neuron.states[0] > 0.25, 1, 0))


def starting(per: Any = "channel") -> lnm.Neuron:
    """A neuron with two states that begin with one parameter, which the reset reads."""
    start, x = lnm.param("v_start", init=0.25, per=per), lnm.input("x")
    v, w = lnm.state("v", init=start), lnm.state("w", init=start)
    reset = {v: lnm.where(lnm.spike, start, v)}
    return lnm.Neuron(name="own", charge={v: v / 2 + w + x, w: w / 2}, fire=v - 1, reset=reset)


def mixture() -> lnm.Neuron:
    """Every pair of granularities meets in a prepared parameter."""
    v, x = lnm.state("v"), lnm.input("x")
    w, b = lnm.param("w", init=0.7), lnm.param("b", size=2, init=(0.2, -0.1))
    tau = lnm.param("tau", init=2.5, per="channel")
    gain = lnm.param("gain", init=0.8, per="neuron")
    return lnm.Neuron(
        charge={v: v * (w / tau) + x * (gain * w) + b[0] * b[1] + x * (gain / tau) + w * b[0]},
        fire=v - 1 / tau,
        reset=lnm.soft_reset(v, gain * b[1] + 1),
        name="mixture",
    )


def normalised() -> lnm.Neuron:
    return lnm.normalised(lnm.get("plif", per="channel"), shortcut=True)


NEURONS: dict[str, Callable[[], lnm.Neuron]] = {
    **CASES, "counting": counting, "starting": starting, "mixture": mixture,
    "normalised": normalised,
    "normalised-batch": lambda: lnm.normalised(lnm.get("lif"), "batch"),
}  # fmt: skip
SOFTWARE = """
    c float32: dendrite glif-steps normalised starting
    c float64: lnm-4 counting
    c bfloat16: lnm-pole decided
    c float16: normalised-batch held
    cuda float32: dendrite lnm-cubic counting normalised-batch mixture
    cuda float64: glif-steps gate
    cuda bfloat16: lnm-4 normalised
    cuda float16: decided starting
    triton float32: dendrite counting starting decided mixture
    triton float64: lnm-pole normalised
    triton bfloat16: lnm-4 gate
    triton float16: glif-steps normalised-batch
    torch float32: dendrite decided held gated
    onnx float32: dendrite lnm-4 decided
    onnx float64: counting held
    onnx float16: gated
"""
"""Backend and type, and neurons; each neuron is in several backends."""
Q, Q12 = lnm.Fixed, lnm.Fixed(16, 12, "truncate")
MIXED = lnm.FixedSpec(Q12, {"v": Q(20, 14), "x": Q(11, 6)})
THETA = (0.02, 0.85, 0.11, -0.06)
CHANNELS = {"theta": ((0.5, 0.1, -0.2), (0.25, 0.3, 0.1), (0.1, 0.7, 0.05))}


def rtl(**options: Any) -> lnm.Rtl:
    return lnm.Rtl(vectors=8, neurons=6, **options)


FIXED: dict[str, tuple[lnm.Neuron, str, dict[str, Any]]] = {
    "c-coupled": (CASES["lnm-matrix"](), "c", {"spec": Q(18, 13, "convergent")}),
    "c-wide": (CASES["gated"](), "c", {"spec": Q(31, 16), "scheme": "estrin"}),
    "c-mixed": (CASES["izhikevich-learned"](), "c", {"spec": MIXED}),
    "c-decided": (CASES["decided"](), "c", {"spec": Q(12, 8, "truncate")}),
    "ports": (lnm.get("izhikevich"), "verilog",
              {"spec": Q(18, 8, "convergent"), "rtl": rtl(coefficients="port", multiplier="ecp5")}),
    "memory": (lnm.get("lnm", degree=2, per="channel"), "verilog",
               {"spec": Q12, "values": CHANNELS,
                "rtl": rtl(forms=("array",), coefficients="memory")}),
    "estrin": (lnm.get("lnm", states=2, degree=3, v_min=-1.5, w_max=1.0), "verilog",
               {"spec": Q(14, 9), "scheme": "estrin", "rtl": rtl(shift_add=0)}),
    **{f"seq-{k}": (neuron, "verilog",
                    {"spec": spec, "rtl": rtl(forms=("seq",), coefficients=where)})
       for k, (neuron, spec, where) in enumerate((
           (lnm.get("lnm", degree=3, theta=THETA, v_reset=None), Q12, "port"),
           (lnm.get("lnm", degree=3, theta=THETA), Q(16, 12, "convergent"), "port"),
           (lnm.get("lnm", degree=3, theta=THETA), Q(8, 5), "constant"),
           (lnm.get("if"), Q12, "constant"), (lnm.get("cuba_lif"), Q(16, 12), "constant"),
           (lnm.get("li", tau=3.0), Q(16, 12, "convergent"), "constant"),
           (lnm.get("izhikevich", tau=3.0, a=0.3, b=0.2), Q12, "port"),
           (lnm.get("ternary", decay=0.3), Q(16, 12), "constant"),
           (lnm.get("adlif"), Q(18, 12), "constant"),
           (lnm.get("lnm", states=2, degree=3, v_reset=0.0), Q12, "constant"),
           (CASES["decided"](), Q(16, 12), "constant"),
       ))},
}  # fmt: skip
"""Key -> neuron, backend and options of `emit`, in fixed point."""


def sources() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the folder and the files of each variant."""
    for line in SOFTWARE.split("\n"):
        kind, _, names = line.partition(":")
        for name in names.split():
            backend, dtype = kind.split()
            made = lnm.emit(NEURONS[name](), backend, dtype=dtype)  # type: ignore[arg-type]
            yield f"{backend}-{dtype}/{name}", made.files
    for key, (neuron, backend, options) in FIXED.items():
        yield f"fixed/{key}", lnm.emit(neuron, backend, **options).files  # type: ignore[arg-type]
    for backend, name in (("c", "dendrite"), ("cuda", "starting"), ("triton", "lnm-4")):
        yield f"package/{name}", lnm.package(NEURONS[name](), backend).files  # type: ignore[arg-type]
    for seed, accumulation in ((2, "events"), (3, "dense"), (6, "events")):
        rng = np.random.default_rng(seed)
        network = random_network(rng)
        samples = random_samples(rng, network, 2)
        scores = interpret_network(network, samples).scores
        made = emit_c(network, rows(network, samples), scores, accumulation)
        yield f"network-c/{seed}", made.source.files
    for seed, loadable in ((1, True), (4, False)):
        rng = np.random.default_rng(seed)
        network = random_network(rng, as_circuit=True)
        circuit = emit_circuit(network, random_samples(rng, network, 2), seed, loadable)
        yield f"network-verilog/{seed}", circuit.source.files
