"""Dispatch of calls that normalise with the statistics of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress

import torch
from torch import Tensor

from lnm_codegen.errors import ShapeError
from lnm_codegen.nn.dispatch import Dispatch
from lnm_codegen.nn.function import FusedCall, LayerResults, needs_backward
from lnm_codegen.nn.norm.function import NormCall, arranged_call, passes_of, run_norm
from lnm_codegen.nn.norm.operators import norm_operator_of, run_norm_operator
from lnm_codegen.nn.norm.statistics import Passes
from lnm_codegen.nn.onnx.exporting import require_evaluation
from lnm_codegen.validation import counted


@dataclass(eq=False)
class NormDispatch(Dispatch):
    """Runner of one normalised neuron. `run` takes the coefficients as its last parameters."""

    _passes: dict[tuple[str, torch.dtype], Passes] = field(default_factory=dict, init=False)

    def inputs_of(self, tensors: tuple[Tensor, ...], step_mode: str) -> tuple[Tensor, ...]:
        """Return the inputs of a call, validated."""
        count, names = len(tensors), self.input_names
        if count != len(names):
            lacking = ", ".join(names[count:])
            remedy = f"Give {lacking} too. With shortcut=True, r is the shortcut."
            problem = f"the call has {counted(count, 'input')}"
            raise ShapeError(self.name, problem, names, remedy if lacking else "")
        return super().inputs_of(tensors, step_mode)

    def run_batch(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        start: Sequence[Tensor],
        params: Sequence[Tensor],
        returns_states: bool,
        *,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        group: str | None,
    ) -> tuple[LayerResults, Tensor]:
        """Return the results of a call of generated kernels, and the moments of its input.

        `params` are the parameters without those of the prologue.
        """
        if self._selectors:
            params = list(compress(params, self._selectors))  # the last three select no more
        self._require_learnable(params)
        tensors = (*inputs, *start, *params, weight, bias)
        saves_states = needs_backward(tensors)
        if torch.compiler.is_compiling():
            require_evaluation(self.name)
            name = self._norm_operator_name(self._key, backend)
            flags = (returns_states, saves_states)
            return run_norm_operator(name, self._states, tensors, eps, group, *flags)
        self.require_readable(backend, tensors)
        dtype = tensors[0].dtype
        kernels, passes = self._kernels_of(backend, dtype), self._passes_of(backend, dtype)
        layout, own = arranged_call(
            self.neuron.step_params, tensors, len(kernels.inputs), len(kernels.states)
        )
        fused = FusedCall(kernels, layout, returns_states, saves_states, [])
        *results, moments = run_norm(NormCall(fused, passes, eps, group, []), *own)
        count = len(kernels.outputs)
        final = dict(zip(kernels.states, results[count:], strict=True)) if returns_states else {}
        return (tuple(results[:count]), final, fused.counts), moments

    def batch_backend_of(self, backend: str, dtype: torch.dtype) -> str:
        """Return the backend of a call with the statistics of the batch; see `Dispatch.on`."""
        if torch.compiler.is_compiling():
            return self._traced_batch_backend(self._key, backend, dtype)  # type: ignore[no-any-return]
        load = partial(self._passes_of, backend, dtype)
        return self.loadable(("batch", backend, dtype), backend, load)

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _traced_batch_backend(self, key: str, backend: str, dtype: torch.dtype) -> str:
        load = partial(self._passes_of, backend, dtype)
        return self.loadable(("batch", backend, dtype), backend, load)

    def _passes_of(self, backend: str, dtype: torch.dtype) -> Passes:
        key = (backend, dtype)
        found = self._passes.get(key)
        if found is None:
            found = self._passes[key] = passes_of(backend, dtype, self.backend == "auto")
        return found

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _norm_operator_name(self, key: str, backend: str) -> str:
        return norm_operator_of(self.neuron, backend).name
