"""Generated kernels as `torch.library` operators, for `torch.compile` and `torch.export`.

Eager PyTorch calls the kernels through `autograd.Function`, which is faster. The name of an
operator has its neuron and a hash of its program. Each operator has its own schema:

    lnm::<name>_<hash>(Tensor x_seq, ..., Tensor v_init, ..., Tensor theta, ...,
                       bool returns_states, bool saves_states)
        -> (Tensor spike_seq, ..., Tensor v_final, ..., Tensor checkpoints, Tensor counts)

Results that are not requested have no elements. The result `checkpoints` has the saved
states, (rows, N, *) in the layout of `x_seq`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from lnm_codegen.backends.base import Model
from lnm_codegen.compiler.emit import model_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import REAL
from lnm_codegen.nn.function import (
    FusedCall,
    Kernels,
    LayerResults,
    Results,
    empty_gradients,
    empty_results,
    refuse_double_backward,
    run_backward,
    run_forward,
    save_call,
)
from lnm_codegen.nn.layout import arranged, readable
from lnm_codegen.nn.select import kernels_of

NAMESPACE = "lnm"


class Operator:
    """Forward operator of one neuron on one backend, with its backward, for every type."""

    def __init__(self, model: Model, backend: str, load: Callable[[torch.dtype], Kernels]) -> None:
        self._load, self._params = load, model.params
        self._inputs, self._states = len(model.inputs), len(model.states)
        self._outputs, self.model = len(model.outputs), model
        self._tensors = self._inputs + self._states + len(model.params)
        self.name = name = operator_name(model, backend)
        self._library = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
        define(self._library, name, _forward_schema(model), self._run, self._fake)
        schema, adjoint = _backward_schema(model), (self._run_adjoint, self._fake_adjoint)
        self._adjoint = define(self._library, f"{name}_backward", schema, *adjoint)
        differentiate(self._library, name, self._gradients, _keep, "NeuronLayer")

    def _run(self, *arguments: Any) -> tuple[Tensor, ...]:
        *given, returns_states, saves_states = arguments
        layout, tensors = arranged(self._params, given, self._inputs, self._states)
        call = FusedCall(self._load(given[0].dtype), layout, returns_states, saves_states, [])
        return flat_results(given[0], run_forward(call, tensors), self._states)

    def _fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        *given, returns_states, saves_states = arguments
        x, layout = readable(self._params, given[0])
        call = FusedCall(self._load(x.dtype), layout, returns_states, saves_states, [])
        return flat_results(x, empty_results(call, x), self._states)

    def _run_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, needed = arguments
        given, (saved, *grads) = tensors[: self._tensors], tensors[self._tensors :]
        kernels = self._load(given[0].dtype)
        layout, own = arranged(self._params, given, self._inputs, self._states)
        found = run_backward(kernels, layout, own, optional(saved), grads, needed)
        first = self._inputs + self._states
        back = layout.from_memory_order(self._params, found[first:])
        found = [*found[:first], *back]
        return tuple(nothing(given[0]) if g is None else g for g in found)

    def _fake_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, needed = arguments
        x, layout = readable(self._params, tensors[0])
        found = empty_gradients(self._load(x.dtype), layout, tensors[: self._tensors], needed)
        return tuple(nothing(x) if g is None else g for g in found)

    def _gradients(self, ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, saved = ctx.saved_tensors
        needed = list(ctx.needs_input_grad[: self._tensors])
        returns_states = ctx.call
        sent = grads[: self._outputs + (self._states if returns_states else 0)]
        sent = (*sent, *[None] * (self._outputs + self._states - len(sent)))
        found = self._adjoint(*tensors, saved, *sent, needed)
        own = (g if need else None for g, need in zip(found, needed, strict=True))
        return (*own, None, None)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, returns_states, _ = inputs
    save_call(ctx, returns_states, *tensors, output[-2])


def define(library: torch.library.Library, name: str, schema: str, run: Any, fake: Any) -> Any:
    """Define an operator with its implementation and its shapes, and return it."""
    library.define(f"{name}{schema}")  # type: ignore[no-untyped-call]
    library.impl(name, run, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def differentiate(
    library: torch.library.Library, name: str, gradients: Any, keep: Any, where: str
) -> None:
    """Register the gradient of an operator, and refuse that of its backward."""
    operator = f"{NAMESPACE}::{name}"
    torch.library.register_autograd(operator, gradients, setup_context=keep, lib=library)

    def refuse(*_: Any) -> NoReturn:
        refuse_double_backward(where)

    torch.library.register_autograd(f"{operator}_backward", refuse, lib=library)


def flat_results(x: Tensor, results: Results, states: int) -> tuple[Tensor, ...]:
    """Return results as those of an operator, of a neuron with so many states.

    They must not share memory: each absent one is a tensor of its own.
    """
    return (
        *results.outputs,
        *(results.finals or [nothing(x) for _ in range(states)]),
        nothing(x) if results.saved is None else results.saved,
        x.new_empty(0, dtype=torch.float64) if results.counts is None else results.counts,
    )


def nothing(like: Tensor) -> Tensor:
    """Return a tensor without elements, in the type of the arithmetic."""
    return like.new_empty(0, dtype=REAL[like.dtype])


def optional(saved: Tensor) -> Tensor | None:
    """Return saved states, or None where they have no elements."""
    return saved if saved.numel() else None


def _forward_schema(model: Model) -> str:
    taken = ", ".join(f"Tensor {n}" for n in taken_names(model))
    given = [f"{o}_seq" for o in model.outputs] + [f"{s.name}_final" for s in model.states]
    results = ", ".join(f"Tensor {n}" for n in (*given, "checkpoints", "counts"))
    return f"({taken}, bool returns_states, bool saves_states) -> ({results})"


def _backward_schema(model: Model) -> str:
    taken = [f"Tensor {n}" for n in (*taken_names(model), "checkpoints")]
    taken += [f"Tensor? grad_{o}_seq" for o in model.outputs]
    taken += [f"Tensor? grad_{s.name}_final" for s in model.states]
    results = ", ".join(f"Tensor grad_{n}" for n in taken_names(model))
    return f"({', '.join(taken)}, bool[] needed) -> ({results})"


def taken_names(model: Model) -> list[str]:
    """Return the names of the tensors that an operator takes."""
    names = [f"{x}_seq" for x in model.inputs]
    names += [f"{s.name}_init" for s in model.states]
    return names + [p.name for p in model.params]


def operator_name(model: Model, backend: str) -> str:
    """Return the name of the operator of a model, with a hash of its content."""
    shapes = [(p.name, p.size, p.per, p.learnable) for p in model.params]
    states = [s.name for s in model.states]
    content = f"{model.program}\n{shapes}\n{states}\n{model.inputs}\n{model.outputs}"
    return f"{model.name}_{backend}_{hashlib.sha256(content.encode()).hexdigest()[:16]}"


_DEFINED: dict[str, Operator] = {}
LOCK = threading.Lock()
"""Held while an operator is defined."""


def operator_of(neuron: Neuron, backend: str) -> Operator:
    """Return the operator of a neuron; equal neurons share one."""
    model = model_of(neuron)
    name = operator_name(model, backend)
    with LOCK:
        if name not in _DEFINED:  # a layer with "auto" may have this operator
            load = partial(kernels_of, neuron, backend, is_auto=True)
            _DEFINED[name] = Operator(model, backend, load)
        return _DEFINED[name]


def defined_operators() -> dict[str, Model]:
    """Return the operators that are defined so far: name -> model."""
    with LOCK:
        return {name: operator.model for name, operator in _DEFINED.items()}


def run_operator(
    name: str,
    states: Sequence[str],
    tensors: Sequence[Tensor],
    returns_states: bool,
    saves_states: bool,
) -> LayerResults:
    """Call the operator of a name; `states` are those of its neuron."""
    *results, _, counts = getattr(torch.ops.lnm, name)(*tensors, returns_states, saves_states)
    count = len(results) - len(states)
    final = dict(zip(states, results[count:], strict=True)) if returns_states else {}
    # A program with an unbind into nothing cannot be loaded.
    return tuple(results[:count]), final, counts.unbind() if counts.shape[0] else ()
