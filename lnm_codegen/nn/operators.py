"""Generated kernels as `torch.library` operators, for `torch.compile` and `torch.export`.

Eager PyTorch calls the kernels through `autograd.Function`, which is faster. The name of an
operator has its neuron and a hash of its program. Each operator has its own schema:

    lnm::<name>_<hash>(Tensor x_seq, ..., Tensor v_init, ..., Tensor theta, ...,
                       bool returns_states, bool saves_states)
        -> (Tensor spike_seq, ..., Tensor v_final, ..., Tensor checkpoints, Tensor counts)

Results that are not requested have no elements. The result `checkpoints` has the saved
states, (rows, N, *) in the layout of `x_seq`.

A normalised neuron with the statistics of the batch has an operator of its own:

    lnm::<name>_<hash>_batch(..., Tensor weight, Tensor bias, float eps, str? group,
                             bool returns_states, bool saves_states)
        -> (..., Tensor counts, Tensor moments)

`group` names the processes whose statistics are combined.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from lnm_codegen.backends.plan import Plan
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import REAL
from lnm_codegen.nn.function import (
    Kernels,
    LayerResults,
    Results,
    empty_gradients,
    empty_results,
    refuse_double_backward,
    save_call,
)
from lnm_codegen.nn.layout import arranged, readable
from lnm_codegen.nn.norm.function import NormKernels, batch_kernels_of, batch_model
from lnm_codegen.nn.select import kernels_of

NAMESPACE = "lnm"


class Operator:
    """Forward operator of one neuron on one backend, with its backward, for every type.

    Args:
        name: Its name.
        model: The model, whose parameters are those of the kernels.
        load: Function of a type of sequences and the options that returns the kernels.
        kind: Class of the kernels.
    """

    def __init__(
        self,
        name: str,
        model: Plan,
        load: Callable[..., Kernels],
        kind: type[Kernels] = Kernels,
    ) -> None:
        self.name, self.model, self.kind = name, model, kind
        self._load, self._params = load, model.params
        self._inputs, self._states = len(model.inputs), len(model.states)
        self._results = len(model.outputs) + self._states
        self._tensors = self._inputs + self._states + len(model.params)
        self._extra = len(kind.extra)
        self._library = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
        options, self._options = kind.options, kind.options.count(",")
        taken, given = taken_names(model), [f"{o}_seq" for o in model.outputs]
        given += [f"{s}_final" for s in model.states]
        tensors = ", ".join(f"Tensor {n}" for n in taken)
        results = ", ".join(f"Tensor {n}" for n in (*given, "checkpoints", "counts", *kind.extra))
        schema = f"({tensors}, {options}bool returns_states, bool saves_states) -> ({results})"
        define(self._library, name, schema, self._run, self._fake)
        tensors = ", ".join(f"Tensor {n}" for n in (*taken, "checkpoints", *kind.extra))
        grads = ", ".join(f"Tensor? grad_{n}" for n in given)
        results = ", ".join(f"Tensor grad_{n}" for n in taken)
        schema = f"({tensors}, {grads}, {options}bool[] needed) -> ({results})"
        adjoint = f"{name}_backward"
        self._adjoint = define(
            self._library, adjoint, schema, self._run_adjoint, self._fake_adjoint
        )
        torch.library.register_autograd(
            f"{NAMESPACE}::{name}", self._gradients, setup_context=self._keep, lib=self._library
        )

        def refuse(*_: Any) -> NoReturn:
            refuse_double_backward(kind.where)

        torch.library.register_autograd(f"{NAMESPACE}::{adjoint}", refuse, lib=self._library)

    def _run(self, *arguments: Any) -> tuple[Tensor, ...]:
        given, (*options, returns_states, saves_states) = self._split(arguments)
        layout, tensors = arranged(self._params, given, self._inputs, self._states)
        kernels = self._load(given[0].dtype, *options)
        return self._flat(given[0], kernels.run(layout, tensors, returns_states, saves_states))

    def _fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        given, (*options, returns_states, saves_states) = self._split(arguments)
        x, layout = readable(self._params, given[0])
        kernels = self._load(x.dtype, *options)
        results = empty_results(kernels, layout, x, returns_states, saves_states)
        return self._flat(x, results._replace(extra=kernels.empty_extra(given)))

    def _split(self, arguments: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Return the tensors of a forward or a backward, and what follows them."""
        return arguments[: self._tensors], arguments[self._tensors :]

    def _flat(self, x: Tensor, results: Results) -> tuple[Tensor, ...]:
        """Return the results of a forward. They must not share memory: each absent one is new."""
        return (
            *results.outputs,
            *(results.finals or [nothing(x) for _ in range(self._states)]),
            nothing(x) if results.saved is None else results.saved,
            x.new_empty(0, dtype=torch.float64) if results.counts is None else results.counts,
            *results.extra,
        )

    def _run_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        given, (saved, *rest, needed) = self._split(arguments)
        extra, rest = rest[: self._extra], rest[self._extra :]
        grads, options = rest[: self._results], rest[self._results :]
        kernels = self._load(given[0].dtype, *options)
        layout, own = arranged(self._params, given, self._inputs, self._states)
        saved = saved if saved.numel() else None
        found = kernels.run_backward(layout, [*own, *extra], saved, grads, needed)
        first = self._inputs + self._states
        found = [*found[:first], *layout.from_memory_order(self._params, found[first:])]
        return tuple(nothing(given[0]) if g is None else g for g in found)

    def _fake_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        given, (*rest, needed) = self._split(arguments)
        x, layout = readable(self._params, given[0])
        kernels = self._load(x.dtype, *rest[len(rest) - self._options :])
        found = empty_gradients(kernels, layout, given, needed)
        return tuple(nothing(x) if g is None else g for g in found)

    def _keep(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        tensors, (*call, _) = self._split(inputs)
        saved, _, *extra = output[self._results :]
        save_call(ctx, call, *tensors, saved, *extra)

    def _gradients(self, ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        needed = list(ctx.needs_input_grad[: self._tensors])
        *options, returns_states = ctx.call
        sent = list(grads[: self._results])
        if not returns_states:
            sent[self._results - self._states :] = [None] * self._states
        found = self._adjoint(*ctx.saved_tensors, *sent, *options, needed)
        own = (g if need else None for g, need in zip(found, needed, strict=True))
        return (*own, *[None] * (self._options + 2))


def define(library: torch.library.Library, name: str, schema: str, run: Any, fake: Any) -> Any:
    """Define an operator with its implementation and its shapes, and return it."""
    library.define(f"{name}{schema}")  # type: ignore[no-untyped-call]
    library.impl(name, run, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=library)
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def nothing(like: Tensor) -> Tensor:
    """Return a tensor without elements, in the type of the arithmetic."""
    return like.new_empty(0, dtype=REAL[like.dtype])


def taken_names(model: Plan) -> list[str]:
    """Return the names of the tensors that an operator takes."""
    names = [f"{x}_seq" for x in model.inputs]
    names += [f"{s}_init" for s in model.states]
    return names + [p.name for p in model.params]


def operator_name(model: Plan, backend: str) -> str:
    """Return the name of the operator of a model, with a hash of its content."""
    shapes = [(p.name, p.size, p.per, p.learnable) for p in model.params]
    states = list(model.states)
    content = f"{model.program}\n{shapes}\n{states}\n{model.inputs}\n{model.outputs}"
    return f"{model.name}_{backend}_{hashlib.sha256(content.encode()).hexdigest()[:16]}"


_DEFINED: dict[str, Operator] = {}
_LOCK = threading.Lock()


def operator_of(neuron: Neuron, backend: str) -> Operator:
    """Return the operator of a neuron; equal neurons share one."""
    model = plan_of(neuron)
    # A layer with "auto" may have this operator.
    load = partial(kernels_of, neuron, backend, is_auto=True)
    return _defined(operator_name(model, backend), model, load)


def batch_operator_of(neuron: Neuron, backend: str) -> Operator:
    """Return the operator of a normalised neuron with the statistics of the batch."""
    model = plan_of(neuron)
    load = partial(batch_kernels_of, neuron, backend, is_auto=True)
    return _defined(f"{operator_name(model, backend)}_batch", batch_model(model), load, NormKernels)


def _defined(name: str, *arguments: Any) -> Operator:
    with _LOCK:
        if name not in _DEFINED:
            _DEFINED[name] = Operator(name, *arguments)
        return _DEFINED[name]


def defined_operators() -> dict[str, Plan]:
    """Return the operators of neurons that are defined so far: name -> model."""
    with _LOCK:
        return {n: one.model for n, one in _DEFINED.items() if one.kind is Kernels}


def run_operator(
    name: str,
    outputs: int,
    states: Sequence[str],
    tensors: Sequence[Tensor],
    returns_states: bool,
    saves_states: bool,
    options: Sequence[Any] = (),
) -> LayerResults:
    """Call the operator of a name, of a neuron with so many outputs and these states."""
    operator = getattr(torch.ops.lnm, name)
    found = operator(*tensors, *options, returns_states, saves_states)
    end = outputs + len(states)
    final = dict(zip(states, found[outputs:end], strict=True)) if returns_states else {}
    _, counts, *extra = found[end:]
    # A program with an unbind into nothing cannot be loaded.
    return tuple(found[:outputs]), final, counts.unbind() if counts.shape[0] else (), extra
