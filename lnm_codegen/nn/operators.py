"""Generated kernels as `torch.library` operators, for `torch.compile` and `torch.export`.

Eager PyTorch takes the shorter way through `autograd.Function`. An operator is named by its neuron
and a hash of the program behind it, and has a schema of its own:

    lnm::<name>_<hash>(Tensor x_seq, ..., Tensor v_init, ..., Tensor theta, ...,
                       bool keeps_states, bool trains)
        -> (Tensor spike_seq, ..., Tensor v_final, ..., Tensor checkpoints, Tensor counts)

What a call does not keep is returned with no elements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.backends.base import Model
from lnm_codegen.compiler.pipeline import model_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import REAL
from lnm_codegen.nn.choice import kernels_of
from lnm_codegen.nn.function import Kernels, Ran, run_backward, run_forward
from lnm_codegen.nn.layout import arranged, readable

NAMESPACE = "lnm"


class Operator:
    """The forward operator of one neuron on one backend, its adjoint behind it.

    Args:
        model: The neuron; its `dtype` does not matter here.
        backend: Part of the name.
        load: Gives the kernels for a type of sequences.
    """

    def __init__(self, model: Model, backend: str, load: Callable[[torch.dtype], Kernels]) -> None:
        self._load, self._params = load, model.params
        self._inputs, self._states = len(model.inputs), len(model.states)
        self._outputs = len(model.outputs)
        self._tensors = self._inputs + self._states + len(model.params)
        self.name = name = _name(model, backend)
        self._library = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
        self._define(name, _forward_schema(model), self._run, self._fake)
        self._adjoint = self._define(
            f"{name}_backward", _backward_schema(model), self._run_adjoint, self._fake_adjoint
        )
        torch.library.register_autograd(
            f"{NAMESPACE}::{name}", self._gradients, setup_context=_keep, lib=self._library
        )

    def _define(self, name: str, schema: str, run: Any, fake: Any) -> Any:
        self._library.define(f"{name}{schema}")  # type: ignore[no-untyped-call]
        self._library.impl(name, run, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=self._library)
        return getattr(getattr(torch.ops, NAMESPACE), name).default

    def _run(self, *arguments: Any) -> tuple[Tensor, ...]:
        *given, keeps_states, trains = arguments
        kernels = self._load(given[0].dtype)
        layout, tensors = arranged(self._params, given, self._inputs, self._states)
        results = run_forward(kernels, layout, tensors, keeps_states, trains)
        none = [_nothing(given[0]) for _ in range(self._states)]
        return (
            *results.outputs,
            *(results.finals or none),
            _nothing(given[0]) if results.checkpoints is None else results.checkpoints,
            _nothing(given[0]).double() if results.sums is None else results.sums,
        )

    def _fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        *given, keeps_states, trains = arguments
        x = given[0]
        kernels = self._load(x.dtype)
        _, layout = readable(self._params, x)
        kept = kernels.checkpoints(layout.time_steps, layout.neurons) if trains else 0
        return (
            *(layout.empty_sequence(x.dtype, x.device) for _ in kernels.outputs),
            *(
                layout.empty_step(kernels.real, x.device) if keeps_states else _nothing(x)
                for _ in kernels.states
            ),
            x.new_empty(kept, dtype=kernels.real),
            x.new_empty(len(kernels.counts), dtype=torch.float64),
        )

    def _run_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, needed = arguments
        given, (checkpoints, *grads) = tensors[: self._tensors], tensors[self._tensors :]
        kernels = self._load(given[0].dtype)
        layout, own = arranged(self._params, given, self._inputs, self._states)
        found = run_backward(kernels, layout, own, checkpoints, grads, needed)
        back = layout.from_memory_order(self._params, found[-len(self._params) :])
        found = [*found[: len(found) - len(self._params)], *back]
        return tuple(_nothing(given[0]) if g is None else g for g in found)

    def _fake_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, needed = arguments
        given = tensors[: self._tensors]
        x = given[0]
        _, layout = readable(self._params, x)
        kernels = self._load(x.dtype)
        shapes: list[Callable[[], Tensor]] = []
        shapes += [lambda: layout.empty_sequence(x.dtype, x.device)] * self._inputs
        shapes += [lambda: layout.empty_step(kernels.real, x.device)] * self._states
        made = [make() if need else _nothing(x) for make, need in zip(shapes, needed, strict=False)]
        learns = zip(kernels.learnable, given[len(shapes) :], needed[len(shapes) :], strict=True)
        rows = [torch.empty_like(p) if own and need else _nothing(x) for own, p, need in learns]
        return (*made, *rows)

    def _gradients(self, ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, checkpoints = ctx.saved_tensors
        needed = list(ctx.needs_input_grad[: self._tensors])
        sent = grads[: self._outputs + (self._states if ctx.keeps_states else 0)]
        sent = (*sent, *[None] * (self._outputs + self._states - len(sent)))
        found = self._adjoint(*tensors, checkpoints, *sent, needed)
        own = (g if need else None for g, need in zip(found, needed, strict=True))
        return (*own, None, None)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, keeps_states, _ = inputs
    ctx.keeps_states = keeps_states
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[-2])


def _nothing(like: Tensor) -> Tensor:
    """Return a tensor of no elements, in the type of the arithmetic."""
    return like.new_empty(0, dtype=REAL[like.dtype])


def _forward_schema(model: Model) -> str:
    taken = ", ".join(f"Tensor {n}" for n in _taken(model))
    given = [f"{o}_seq" for o in model.outputs] + [f"{s.name}_final" for s in model.states]
    results = ", ".join(f"Tensor {n}" for n in (*given, "checkpoints", "counts"))
    return f"({taken}, bool keeps_states, bool trains) -> ({results})"


def _backward_schema(model: Model) -> str:
    taken = [f"Tensor {n}" for n in (*_taken(model), "checkpoints")]
    taken += [f"Tensor? grad_{o}_seq" for o in model.outputs]
    taken += [f"Tensor? grad_{s.name}_final" for s in model.states]
    results = ", ".join(f"Tensor grad_{n}" for n in _taken(model))
    return f"({', '.join(taken)}, bool[] needed) -> ({results})"


def _taken(model: Model) -> list[str]:
    names = [f"{x}_seq" for x in model.inputs]
    names += [f"{s.name}_init" for s in model.states]
    return names + [p.name for p in model.params]


def _name(model: Model, backend: str) -> str:
    shapes = [(p.name, p.size, p.per, p.learnable) for p in model.params]
    states = [s.name for s in model.states]
    content = f"{model.program}\n{shapes}\n{states}\n{model.inputs}\n{model.outputs}"
    return f"{model.name}_{backend}_{hashlib.sha256(content.encode()).hexdigest()[:16]}"


_DEFINED: dict[str, Operator] = {}


def operator_of(neuron: Neuron, backend: str) -> Operator:
    """Return the operator of a neuron, defined at the first call; equal neurons share one."""
    model = model_of(neuron)
    name = _name(model, backend)
    if name not in _DEFINED:
        _DEFINED[name] = Operator(model, backend, partial(kernels_of, neuron, backend))
    return _DEFINED[name]


def run_operator(
    name: str, states: Sequence[str], tensors: Sequence[Tensor], keeps: bool, trains: bool
) -> Ran:
    """Call the operator of a name; `states` are those of its neuron."""
    *results, _, counts = getattr(torch.ops.lnm, name)(*tensors, keeps, trains)
    count = len(results) - len(states)
    final = dict(zip(states, results[count:], strict=True)) if keeps else {}
    return tuple(results[:count]), final, counts.unbind()
