"""The C kernels as an `autograd.Function`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.errors import ToolError, UnsupportedError
from lnm_codegen.granularity import Extent
from lnm_codegen.nn.load import CKernel


@dataclass(frozen=True, slots=True)
class Call:
    """What a call of the kernels needs beside its tensors."""

    kernel: CKernel
    extent: Extent
    shape: torch.Size
    keeps_states: bool
    trains: bool
    sums: Tensor

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many inputs and states there are; parameters follow them."""
        model = self.kernel.plan.model
        return len(model.inputs), len(model.states)

    def sizes(self) -> dict[str, int]:
        """Return the fields that both kernels share."""
        e = self.extent
        return {
            "time_steps": self.shape[0],
            "batch": e.batch,
            "channels": e.channels,
            "inner": e.inner,
            "threads": torch.get_num_threads(),
        }


class Fused(torch.autograd.Function):
    """Forward and backward of a sequence, each one call of a generated kernel.

    Takes a `Call`, then inputs (T, N, *), initial states (N, *) or (1,), parameters. Gives the
    outputs (T, N, *) and, if the call keeps states, the final states (N, *). What the kernel counts
    it writes to `call.sums`.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the forward kernel."""
        model, kernel = call.kernel.plan.model, call.kernel
        like = tensors[0]
        fields = call.sizes()
        inputs = call.counts[0]
        tensors = tuple(
            _per_step(t) if k < inputs else t.resolve_neg().contiguous()
            for k, t in enumerate(tensors)
        )
        _set_shared(fields, call, tensors)
        outputs = [like.new_empty(call.shape) for _ in model.outputs]
        fields |= {f"{o}_seq": t.data_ptr() for o, t in zip(model.outputs, outputs, strict=True)}
        finals = []
        if call.keeps_states:
            finals = [like.new_empty(call.shape[1:]) for _ in model.states]
            for state, final in zip(model.states, finals, strict=True):
                fields[f"{state.name}_final"] = final.data_ptr()
        for k, name in enumerate(kernel.plan.counts):
            fields[f"{name}_sum"] = call.sums[k:].data_ptr()
        checkpoints = None
        if call.trains:
            count = kernel.checkpoints(call.shape[0], call.extent.neurons)
            checkpoints = like.new_empty(count)
            fields["checkpoints"] = checkpoints.data_ptr()
        _run(kernel.forward, kernel.forward_arguments(**fields))
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, checkpoints)
        return (*outputs, *finals)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel."""
        if torch.is_grad_enabled():
            raise UnsupportedError(
                "NeuronLayer: double backward (create_graph=True) through the generated kernels is"
                " not supported. Use backend='torch' for higher derivatives."
            )
        call: Call = ctx.call
        model, kernel = call.kernel.plan.model, call.kernel
        *tensors, checkpoints = ctx.saved_tensors
        like = tensors[0]
        fields = call.sizes()
        _set_shared(fields, call, tensors)
        fields["checkpoints"] = checkpoints.data_ptr()
        kept = []  # holds what the kernel reads until it has run
        for o, grad in zip(model.outputs, grads, strict=False):
            tensor = like.new_zeros((1, *call.shape[1:])) if grad is None else _per_step(grad)
            kept.append(tensor)
            fields[f"grad_{o}_seq"] = tensor.data_ptr()
            fields[f"grad_{o}_stride"] = 0 if grad is None else tensor.stride(0)
        for state, grad in zip(model.states, grads[len(model.outputs) :], strict=False):
            if grad is not None:
                kept.append(grad.resolve_neg().contiguous())
                fields[f"grad_{state.name}_final"] = kept[-1].data_ptr()
        results = _gradients(ctx.needs_input_grad[1:], call, tensors, fields)
        _run(kernel.backward, kernel.backward_arguments(**fields))
        return (None, *results)


def _gradients(
    needed: tuple[bool, ...], call: Call, tensors: list[Tensor], fields: dict[str, int]
) -> list[Tensor | None]:
    """Allocate the gradients that are needed and enter them into the fields."""
    model = call.kernel.plan.model
    inputs, states = call.counts
    names = [f"grad_{x}_seq" for x in model.inputs]
    names += [f"grad_{s.name}_init" for s in model.states]
    names += [f"grad_{p.name}" if p.learnable else "" for p in model.params]
    results: list[Tensor | None] = []
    for k, (name, tensor, need) in enumerate(zip(names, tensors, needed, strict=True)):
        if not need or not name:
            results.append(None)
            continue
        shape = call.shape if k < inputs else tensor.shape
        if inputs <= k < inputs + states:
            shape = call.shape[1:]
        grad = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
        fields[name] = grad.data_ptr()
        results.append(grad)
    return results


def _set_shared(fields: dict[str, int], call: Call, tensors: Sequence[Tensor]) -> None:
    model = call.kernel.plan.model
    inputs, states = call.counts
    for name, x in zip(model.inputs, tensors, strict=False):
        fields[f"{name}_seq"] = x.data_ptr()
        fields[f"{name}_stride"] = x.stride(0) if call.shape[0] > 1 else call.extent.neurons
    for state, value in zip(model.states, tensors[inputs:], strict=False):
        fields[f"{state.name}_init"] = value.data_ptr()
        fields[f"{state.name}_init_stride"] = int(value.shape == call.shape[1:])
    for param, value in zip(model.params, tensors[inputs + states :], strict=True):
        fields[param.name] = value.data_ptr()


def _per_step(x: Tensor) -> Tensor:
    """Return `x` with each step contiguous; time may be strided or expanded."""
    x = x.resolve_neg()
    if x.is_contiguous() or (x.dim() > 1 and x.shape[0] > 0 and x[0].is_contiguous()):
        return x
    return x.contiguous()


def _run(function: Any, arguments: ctypes.Structure) -> None:
    if function(ctypes.byref(arguments)):
        raise ToolError("c: out of memory while running the kernel. Use a smaller batch.")
