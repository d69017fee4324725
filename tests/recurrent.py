"""A plain loop over single steps, beside which a `RecurrentLayer` is compared.

Weights are multiples of 2^-6, whose sums are exact: another order of a sum would flip spikes.
"""

from __future__ import annotations

import torch
from torch.func import functional_call

import lnm_codegen as lnm
from lnm_codegen.nn import NeuronLayer, RecurrentLayer
from tests.cases import CASES

LIF = lnm.get("lif")
TWO = lnm.get("lnm", states=2, degree=1, per="channel")
DENDRITE = CASES["dendrite"]()  # two inputs, three states, three outputs
IZHIKEVICH = lnm.get("izhikevich")


def exact(layer: RecurrentLayer, grid: int = 64) -> RecurrentLayer:
    """Round weights to 1/grid and delays of a layer, so that sums are exact; return the layer."""
    with torch.no_grad():
        for p in (layer.weight, layer.bias, layer.recurrent):
            if p is not None:
                p.copy_(torch.round(p * grid) / grid)
        if layer.delays is not None:
            layer.delays.delay.copy_(torch.round(layer.delays.delay * 4) / 4)
    return layer


def drawn(layer, steps, batch, dtype=torch.float32, seed=0):
    """Return x_seq, further inputs and states for a layer, on a grid of 1/64."""
    g = torch.Generator().manual_seed(seed)

    def grid(*shape, low=-64, high=128):
        return (torch.randint(low, high, shape, generator=g) / 64).to(dtype)

    size, count = layer.size, len(layer.neuron.inputs)
    x = 2 * grid(steps, batch, layer.inputs or size)
    more = [grid(steps, batch, size) for _ in range(count - 1)]
    state = {s.name: grid(batch, size, high=64) for s in layer.neuron.states}
    state["feedback"] = (torch.rand(layer.delay, batch, size, generator=g) < 0.3).to(dtype)
    return x, more, state


def plain(layer, x, more, state, lengths=None):
    """Return outputs and final states of a loop over single steps of a `NeuronLayer`."""
    backend = "c" if layer.backend == "triton" else layer.backend
    step = NeuronLayer(
        layer.neuron, shape=(layer.size,), backend=backend, dtype=layer.recurrent.dtype
    )
    params = {n: getattr(layer, n) for n in (p.name for p in layer.neuron.params)}
    names = [name for name, _ in layer.neuron.output]
    place = [s.name for s in layer.neuron.inputs].index(layer.into)
    u = torch.block_diag(*layer.recurrent) if layer.form == "blocks" else layer.recurrent
    u = u if layer.mask is None else u * layer.mask
    taps = None if layer.delays is None else layer.delays.taps()[1:]
    c = x if layer.weight is None else x @ layer.weight.T
    c = c if layer.bias is None else c + layer.bias
    past, states, found = (
        list(state["feedback"]),
        {k: state[k] for k in state if k != "feedback"},
        [],
    )
    for t in range(len(c)):
        if taps is None:
            s = past[t]
        else:
            s = sum(tap * past[t + layer.delay - 1 - i] for i, tap in enumerate(taps))
        inputs = [z[t] for z in more]
        inputs.insert(place, c[t] + (u * s if u.dim() == 1 else s @ u.T))
        call = {"state": states, "return_state": True}
        outs, new = functional_call(step, params, tuple(i[None] for i in inputs), call)
        outs = [o[0] for o in (outs if len(names) > 1 else (outs,))]
        if lengths is not None:
            live = (t < lengths)[:, None]
            outs = [torch.where(live, o, 0) for o in outs]
            new = {k: torch.where(live, new[k], states[k]) for k in new}
        states = new
        found.append(outs)
        past.append(outs[names.index(layer.fed)])
    ends = torch.full((x.shape[1],), len(c)) if lengths is None else lengths
    rows = [[past[int(e) + j][n] for n, e in enumerate(ends)] for j in range(layer.delay)]
    states["feedback"] = torch.stack([torch.stack(row) for row in rows])
    return [torch.stack(o) for o in zip(*found, strict=True)], states


def compared(layer, steps, batch, lengths=None, dtype=torch.float32, close=0.0):
    """Compare a layer with the plain loop: bits of the results, or within `close`; gradients."""
    x, more, state = drawn(layer, steps, batch, dtype)
    results = []
    for run in (layer, plain):
        leaves = [v.clone().requires_grad_() for v in (x, *more, *state.values())]
        own = (
            leaves[0],
            leaves[1 : 1 + len(more)],
            dict(zip(state, leaves[1 + len(more) :], strict=True)),
        )
        if run is layer:
            out, final = layer(own[0], *own[1], state=own[2], lengths=lengths, return_state=True)
            out = list(out) if isinstance(out, tuple) else [out]
        else:
            out, final = plain(layer, *own, lengths)
        g = torch.Generator().manual_seed(1)
        given = [torch.randn(v.shape, generator=g, dtype=dtype) for v in (*out, *final.values())]
        loss = sum((v * w).sum() for v, w in zip((*out, *final.values()), given, strict=True))
        grads = torch.autograd.grad(loss, [*leaves, *layer.parameters()], allow_unused=True)
        results.append((out, final, grads))
    (out, final, grads), (wanted, states, expected) = results
    for a, b in zip((*out, *final.values()), (*wanted, *(states[k] for k in final)), strict=True):
        torch.testing.assert_close(a, b, rtol=close, atol=close)
    bound = 1e-10 if dtype is torch.float64 else 1e-5
    for a, b in zip(grads, expected, strict=True):
        a, b = (torch.zeros(()) if v is None else v for v in (a, b))
        assert (a - b).abs().max() <= bound * max(float(b.abs().max()), 1)
