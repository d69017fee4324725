"""Arguments of kernels: each has the place of the plan's field of its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.nn.function import Kernels
from lnm_codegen.nn.layout import layout_of
from lnm_codegen.nn.parameters import initial_values


class Recorded(Kernels):
    """Kernels that compute nothing, and keep their arguments."""

    arguments: Sequence[Any] = ()

    def saved_size(self, time_steps: int, neurons: int) -> int:
        return time_steps * neurons

    def forward(self, sizes: Sequence[int], arguments: Sequence[Any]) -> None:
        self.arguments = arguments

    backward = forward


def two_inputs() -> lnm.Neuron:
    v, x, g = lnm.state("v"), lnm.input("x"), lnm.input("g")
    tau = lnm.param("tau", init=2.0, per="channel")
    return lnm.Neuron(charge={v: v + (g * x - v) / tau}, fire=v - 1, reset=lnm.hard_reset(v, 0.0))


NEURONS = {
    "lif": lambda: lnm.get("lif", learn_tau=True),
    "two states": lambda: lnm.get("lnm", states=2, degree=2),
    "two inputs": two_inputs,
    "counts": lambda: two_inputs().with_counts(spikes=two_inputs().fire[0][0]),
}


@pytest.mark.parametrize("name", NEURONS)
def test_arguments_follow_the_fields_of_the_plan(name: str) -> None:
    model = plan_of(NEURONS[name]())
    plan = model
    kernels = Recorded(model, plan.counts)
    inputs = [torch.rand(4, 2, 3) for _ in model.inputs]
    starts = [torch.zeros(1), *(torch.zeros(2, 3) for _ in plan.states[1:])]
    axes = [(p, () if p.per == "layer" else (3,)) for p in model.params]
    params = [value.contiguous() for value in initial_values(axes)]
    layout = layout_of(inputs[0], True)
    assert layout is not None

    results = kernels.run(layout, [*inputs, *starts, *params], True, True)
    fields = [f.name for f in plan.forward_fields]
    given = dict(zip(fields, kernels.arguments, strict=True))
    shared = dict(zip((f"{x}_seq" for x in model.inputs), inputs, strict=True))
    shared |= dict(zip((f"{s}_init" for s in plan.states), starts, strict=True))
    shared |= dict(zip((p.name for p in model.params), params, strict=True))
    expected = dict(zip((f"{o}_seq" for o in model.outputs), results.outputs, strict=True))
    expected |= dict(zip((f"{s}_final" for s in plan.states), results.finals, strict=True))
    expected |= {"checkpoints": results.saved}
    assert all(given[n] is value for n, value in (shared | expected).items())
    for k, count in enumerate(plan.counts):
        assert results.counts is not None
        assert given[f"{count}_sum"].data_ptr() == results.counts[k].data_ptr()
    strides = {f"{x}_stride": 6 for x in model.inputs}
    strides |= {f"{s}_init_stride": int(k > 0) for k, s in enumerate(plan.states)}
    strides |= {f"{x}_{word}": 0 for x in model.inputs[1:] for word in ("inner", "count")}
    assert {n: given[n] for n in strides} == strides

    grads = [torch.rand(4, 2, 3) for _ in model.outputs]
    ends = [torch.rand(2, 3) for _ in plan.states]
    tensors = [*inputs, *starts, *params]
    found = kernels.run_backward(
        layout, tensors, results.saved, [*grads, *ends], [True] * len(tensors)
    )
    fields = [f.name for f in plan.backward_fields]
    given = dict(zip(fields, kernels.arguments, strict=True))
    expected = dict(zip((f"grad_{o}_seq" for o in model.outputs), grads, strict=True))
    expected |= dict(zip((f"grad_{s}_final" for s in plan.states), ends, strict=True))
    expected |= {"checkpoints": results.saved}
    assert all(given[n] is value for n, value in (shared | expected).items())
    names = [f"grad_{x}_seq" for x in model.inputs] + [f"grad_{s}_init" for s in plan.states]
    names += [f"grad_{p.name}" for p in model.params]
    for word, value in zip(names, found, strict=True):
        assert (word in given) == (value is not None)
        assert given.get(word) is value
    assert {n: given[n] for n in strides} == strides
    assert all(given[f"grad_{o}_stride"] == 6 for o in model.outputs)
