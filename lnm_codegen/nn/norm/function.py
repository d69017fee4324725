"""Batch statistics, a neuron over a sequence and their gradients as one autograd Function.

The backward kernel of the neuron writes scale*e to the gradient of c, e being the gradient of its
normalised input, and sums e and e*(c - mean) for each channel. A second pass corrects the gradient
in place. Gradients of weight and bias are those of this process, as in SyncBatchNorm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lnm_codegen.ir.declarations import Param
from lnm_codegen.language.normalisation import channel_sums, input_correction
from lnm_codegen.nn.function import (
    FusedCall,
    Results,
    run_backward,
    run_forward,
    save_call,
    saved_call,
)
from lnm_codegen.nn.layout import Layout, arranged
from lnm_codegen.nn.norm.numbers import (
    Coefficients,
    Gradients,
    centred_sums,
    coefficients,
    correction,
    inverse_deviation,
    numbers,
    rounded,
    tensors,
)
from lnm_codegen.nn.norm.statistics import Passes, batch_moments, correct, process_group
from lnm_codegen.nn.select import kernels_of


class _Kept(NamedTuple):
    """Numbers of a forward that its backward reads too."""

    found: Sequence[Any]  # moments, weight and bias in float64
    used: Coefficients[Any]
    constants: Sequence[Tensor]  # `used` as tensors


class NormCall(NamedTuple):
    """A call of a neuron's kernels, and of the two passes of its prologue.

    `group` names the processes whose statistics are combined, or is None. `kept` has the numbers of
    a forward (`_Kept`) for its backward; if it is empty, the backward computes them anew.
    """

    fused: FusedCall
    passes: Passes
    eps: float
    group: str | None
    kept: list[_Kept]


def passes_of(backend: str, dtype: torch.dtype, is_auto: bool = False) -> Passes:
    """Return the kernels of both passes for a type of sequences; see `kernels_of`."""
    neurons = channel_sums(), input_correction()
    return Passes(*(kernels_of(n, backend, dtype, is_auto) for n in neurons))


def arranged_call(
    params: Sequence[Param], tensors: Sequence[Tensor], inputs: int, states: int
) -> tuple[Layout, list[Tensor]]:
    """Return the layout of a call, and its tensors in that layout; see `layout.arranged`.

    The tensors end with weight and bias, where `params` end with mean, scale and shift.
    """
    *own, weight, bias = tensors
    layout, given = arranged(params, [*own, weight, weight, bias], inputs, states)
    return layout, [*given[:-3], *given[-2:]]


@np.errstate(all="ignore")  # NaN and infinity pass, as in PyTorch
def run_normalised(call: NormCall, given: Sequence[Tensor]) -> tuple[Results, Tensor]:
    """Return the results of a forward, and the moments.

    `given` are inputs, initial states, parameters of the neuron, weight and bias.
    """
    *own, weight, bias = given
    fused = call.fused
    moments = batch_moments(call.passes, fused.layout, own[0], call.group)
    kept = _numbers_of(call, moments, weight, bias)
    call.kept.append(kept)
    return run_forward(fused, [*own, *kept.constants]), moments


def _numbers_of(call: NormCall, moments: Tensor, weight: Tensor, bias: Tensor) -> _Kept:
    found = numbers(moments, weight, bias)
    used = coefficients(call.eps, call.fused.kernels.real, *found)
    return _Kept(found, used, tensors(*used))


@np.errstate(all="ignore")
def run_normalised_backward(
    call: NormCall,
    given: Sequence[Tensor],
    moments: Tensor,
    saved: Tensor | None,
    grads: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `given` of `run_normalised`."""
    c, *own, weight, bias = given
    kernels, layout, *_ = call.fused
    c = layout.sequence(c)
    kept = call.kept[0] if call.kept else _numbers_of(call, moments, weight, bias)
    (found, used, constants), real = kept, kernels.real
    sums_needed = needed[0] or needed[-2] or needed[-1]
    wanted = (*needed[:-2], False, sums_needed, sums_needed)
    own_grads = run_backward(kernels, layout, [c, *own, *constants], saved, grads, wanted)
    *results, _, scale, shift = own_grads
    if scale is None or shift is None:
        return [*results, None, None]
    sums = centred_sums(found[0], used.mean, *numbers(scale, shift))
    if results[0] is not None:
        whole = sums if call.group is None else _summed(sums, call.group)
        parts = tensors(*correction(found[0], used, call.eps, whole, real))
        correct(call.passes.correction, layout, results[0], c, (constants[0], *parts))
    of_weight = sums.of_scale * inverse_deviation(found[0], call.eps)
    return [*results, *tensors(rounded(of_weight, real), rounded(sums.of_shift, real))]


def _summed(sums: Gradients[Any], group: str) -> Gradients[Any]:
    """Return the sums over the elements of all processes."""
    both = torch.stack(tensors(*sums))
    dist.all_reduce(both, group=process_group(group))
    return Gradients(*numbers(*both.unbind()))


class Normalised(torch.autograd.Function):
    """The forward and the backward above.

    Takes a `NormCall` and the tensors, in the layout of the call. Returns the outputs (T, N, *), if
    the call returns states the final states (N, *), and the moments (3, C), without a gradient.
    """

    @staticmethod
    def forward(ctx: Any, call: NormCall, *given: Tensor) -> tuple[Tensor, ...]:
        """Compute the statistics and run the forward kernel."""
        results, moments = run_normalised(call, given)
        if results.counts is not None:
            call.fused.counts.extend(results.counts.tolist())
        if call.fused.saves_states:
            save_call(ctx, call, *given, moments, results.saved)
        ctx.mark_non_differentiable(moments)
        return (*results.outputs, *results.finals, moments)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel, and correct the gradient of the input."""
        call, (*given, moments, saved) = saved_call(ctx, grads, "NormNeuron")
        needed = ctx.needs_input_grad[1:]
        found = run_normalised_backward(call, given, moments, saved, grads[:-1], needed)
        return (None, *found)


run_norm: Callable[..., tuple[Tensor, ...]] = super(torch.autograd.Function, Normalised).apply
"""`Normalised.apply` without its support for torch.func; see `nn.function.run_fused`."""
