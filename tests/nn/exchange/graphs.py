"""Graphs of NIR for tests, and the equations of their neurons in NumPy."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch

from lnm_codegen.nn.layer import NeuronLayer

nir = pytest.importorskip("nir")

EULER = {
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "w_in", "v_threshold", "v_reset"),
    "Threshold": ("threshold",),
}


def graph_of(nodes, edges, shape, last=None):
    """Return a graph with an input of a shape and an output; edges are "a>b" in a text."""
    ends = {"input": nir.Input({"input": np.array(shape)})} | nodes
    ends["output"] = nir.Output({"output": None if last is None else np.array(last)})
    return nir.NIRGraph(ends, [tuple(e.split(">")) for e in edges.split()], type_check=False)


def chain(*nodes, shape, last=None):
    """Return the graph of nodes one after the other, "n0", "n1", ..."""
    named = {f"n{k}": node for k, node in enumerate(nodes)}
    names = ["input", *named, "output"]
    return graph_of(named, " ".join(f"{a}>{b}" for a, b in pairwise(names)), shape, last)


def eager(network):
    """Return a network whose layers run in PyTorch, so that nothing is compiled."""
    for module in network.modules():
        if isinstance(module, NeuronLayer):
            module.backend = "torch"
    return network


def euler(node, x, dt):
    """Return the outputs (T, N, *) of a node by the equations of NIR, in NumPy."""
    p = {f: np.asarray(getattr(node, f)) for f in EULER[type(node).__name__]}
    v = np.zeros(x.shape[1:]) + p.get("v_leak", 0.0)
    i, out = np.zeros(x.shape[1:]), []
    for now in x:
        drive = now
        if "tau_syn" in p:
            i = i + dt / p["tau_syn"] * (p["w_in"] * now - i)
            drive = i
        if "threshold" in p:
            out.append((now > p["threshold"]).astype(float))
            continue
        tau = p.get("tau", p.get("tau_mem"))
        v = (
            v + dt * p["r"] * drive
            if tau is None
            else v + dt / tau * (p["v_leak"] - v + p["r"] * drive)
        )
        if "v_threshold" not in p:
            out.append(v)
            continue
        spikes = v > p["v_threshold"]
        out.append(spikes.astype(float))
        v = np.where(spikes, p["v_reset"], v)
    return np.stack(out)


def fields(kind, rng, shape, dt):
    """Return random fields of a node of a class, stable for a step dt."""
    span = {
        "tau": (0.6, 20), "tau_syn": (0.6, 20), "tau_mem": (0.6, 20), "r": (0.5, 2),
        "v_leak": (-0.3, 0.3), "v_threshold": (0.1, 1), "v_reset": (-0.5, 0.05),
        "w_in": (0.5, 2), "threshold": (0, 1),
    }  # fmt: skip
    found = {f: rng.uniform(*span[f], shape) for f in EULER[kind]}
    for field in found:
        if field.startswith("tau"):
            found[field] *= dt
    if kind in ("I", "IF"):
        found["r"] /= dt
    return found


@contextmanager
def float64():
    """Make modules with float64 parameters."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
