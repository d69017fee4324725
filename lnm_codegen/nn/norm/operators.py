"""Batch statistics, a neuron over a sequence and their gradients as operators of `torch.library`.

    lnm::<name>_<hash>_batch(Tensor x_raw_seq, ..., Tensor v_init, ..., Tensor theta, ...,
                             Tensor weight, Tensor bias, float eps, str? group,
                             bool returns_states, bool saves_states)
        -> (Tensor spike_seq, ..., Tensor v_final, ..., Tensor checkpoints, Tensor counts,
            Tensor moments)

Compare `lnm_codegen.nn.operators`. `group` names the processes whose statistics are combined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.backends.base import Model
from lnm_codegen.compiler.emit import model_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.function import (
    FusedCall,
    Kernels,
    LayerResults,
    empty_gradients,
    empty_results,
    save_call,
)
from lnm_codegen.nn.layout import readable
from lnm_codegen.nn.norm.function import (
    NormCall,
    arranged_call,
    passes_of,
    run_normalised,
    run_normalised_backward,
)
from lnm_codegen.nn.operators import (
    LOCK,
    NAMESPACE,
    define,
    differentiate,
    flat_results,
    nothing,
    operator_name,
    optional,
    taken_names,
)
from lnm_codegen.nn.select import kernels_of

_OPTIONS = 4
"""Arguments of the forward after its tensors."""


class NormOperator:
    """Forward operator of one normalised neuron on one backend, with its backward."""

    def __init__(self, model: Model, backend: str, load: Callable[[torch.dtype], Kernels]) -> None:
        self._load, self._backend, self._params = load, backend, model.params
        self._inputs, self._states = len(model.inputs), len(model.states)
        self._outputs = len(model.outputs)
        self._taken = [*taken_names(model)[:-3], "weight", "bias"]
        self.name = name = norm_operator_name(model, backend)
        self._library = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
        define(self._library, name, self._schema(model), self._run, self._fake)
        schema, adjoint = self._adjoint_schema(model), (self._run_adjoint, self._fake_adjoint)
        self._adjoint = define(self._library, f"{name}_backward", schema, *adjoint)
        differentiate(self._library, name, self._gradients, _keep, "NormNeuron")

    def _schema(self, model: Model) -> str:
        taken = ", ".join(f"Tensor {n}" for n in self._taken)
        given = [f"{o}_seq" for o in model.outputs] + [f"{s.name}_final" for s in model.states]
        results = ", ".join(f"Tensor {n}" for n in (*given, "checkpoints", "counts", "moments"))
        options = "float eps, str? group, bool returns_states, bool saves_states"
        return f"({taken}, {options}) -> ({results})"

    def _adjoint_schema(self, model: Model) -> str:
        taken = [f"Tensor {n}" for n in (*self._taken, "checkpoints", "moments")]
        taken += [f"Tensor? grad_{o}_seq" for o in model.outputs]
        taken += [f"Tensor? grad_{s.name}_final" for s in model.states]
        results = ", ".join(f"Tensor grad_{n}" for n in self._taken)
        return f"({', '.join(taken)}, float eps, str? group, bool[] needed) -> ({results})"

    def _call(
        self,
        given: Sequence[Tensor],
        eps: float,
        group: str | None,
        returns_states: bool = False,
        saves_states: bool = False,
    ) -> tuple[NormCall, list[Tensor]]:
        dtype = given[0].dtype
        layout, tensors = arranged_call(self._params, given, self._inputs, self._states)
        fused = FusedCall(self._load(dtype), layout, returns_states, saves_states, [])
        return NormCall(fused, passes_of(self._backend, dtype, True), eps, group, []), tensors

    def _run(self, *arguments: Any) -> tuple[Tensor, ...]:
        given, options = arguments[:-_OPTIONS], arguments[-_OPTIONS:]
        results, moments = run_normalised(*self._call(given, *options))
        return (*flat_results(given[0], results, self._states), moments)

    def _fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        *given, _, _, returns_states, saves_states = arguments
        x, layout = readable(self._params, given[0])
        call = FusedCall(self._load(x.dtype), layout, returns_states, saves_states, [])
        results = empty_results(call, x)
        moments = x.new_empty((3, given[-1].shape[0]), dtype=torch.float64)
        return (*flat_results(x, results, self._states), moments)

    def _run_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, eps, group, needed = arguments
        count = len(self._taken)
        given, (saved, moments, *grads) = tensors[:count], tensors[count:]
        call, own = self._call(given, eps, group)
        found = run_normalised_backward(call, own, moments, optional(saved), grads, needed)
        first = self._inputs + self._states
        own_params = self._params[:-3]
        back = call.fused.layout.from_memory_order(own_params, found[first:-2])
        found = [*found[:first], *back, *found[-2:]]
        return tuple(nothing(given[0]) if g is None else g for g in found)

    def _fake_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        *tensors, _, _, needed = arguments
        x, layout = readable(self._params, tensors[0])
        own, ends = tensors[: len(self._taken) - 2], tensors[len(self._taken) - 2 :][:2]
        # The gradients of the last two parameters of the kernel have the shape of these.
        wanted = (*needed[:-2], False, True, True)
        kernels = self._load(x.dtype)
        *found, _, weight, bias = empty_gradients(kernels, layout, [*own, ends[0], *ends], wanted)
        some = needed[0] or needed[-2] or needed[-1]
        found += [weight, bias] if some else [None, None]
        return tuple(nothing(x) if g is None else g for g in found)

    def _gradients(self, ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, saved, moments = ctx.saved_tensors
        count = len(self._taken)
        needed = list(ctx.needs_input_grad[:count])
        eps, group, returns_states = ctx.call
        sent = grads[: self._outputs + (self._states if returns_states else 0)]
        sent = (*sent, *[None] * (self._outputs + self._states - len(sent)))
        found = self._adjoint(*tensors, saved, moments, *sent, eps, group, needed)
        own = (g if need else None for g, need in zip(found, needed, strict=True))
        return (*own, *[None] * _OPTIONS)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, eps, group, returns_states, _ = inputs
    save_call(ctx, (eps, group, returns_states), *tensors, output[-3], output[-1])


def norm_operator_name(model: Model, backend: str) -> str:
    """Return the name of the operator of a normalised model."""
    return f"{operator_name(model, backend)}_batch"


_DEFINED: dict[str, NormOperator] = {}


def norm_operator_of(neuron: Neuron, backend: str) -> NormOperator:
    """Return the operator of a normalised neuron; equal neurons share one."""
    model = model_of(neuron)
    name = norm_operator_name(model, backend)
    with LOCK:
        if name not in _DEFINED:
            load = partial(kernels_of, neuron, backend, is_auto=True)
            _DEFINED[name] = NormOperator(model, backend, load)
        return _DEFINED[name]


def run_norm_operator(
    name: str,
    states: Sequence[str],
    tensors: Sequence[Tensor],
    eps: float,
    group: str | None,
    returns_states: bool,
    saves_states: bool,
) -> tuple[LayerResults, Tensor]:
    """Call the operator of a name; `states` are those of its neuron. The moments come last."""
    operator = getattr(torch.ops.lnm, name)
    *results, _, counts, moments = operator(*tensors, eps, group, returns_states, saves_states)
    count = len(results) - len(states)
    final = dict(zip(states, results[count:], strict=True)) if returns_states else {}
    counted = counts.unbind() if counts.shape[0] else ()
    return (tuple(results[:count]), final, counted), moments
