"""Dispatch of a layer's calls: eager code, a fused kernel, an operator, or integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import Tensor

from lnm_codegen.errors import ToolError, UnsupportedError
from lnm_codegen.ir.declarations import State
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.text.digest import step_digest
from lnm_codegen.nn.arguments import (
    REAL,
    converted,
    is_exporting_onnx,
    is_plain,
    require_evaluation,
    require_inputs,
    require_plain_memory,
    require_table,
)
from lnm_codegen.nn.call import outputs_type, start_states
from lnm_codegen.nn.eager import GENERATED, eager_module, is_exporting, run_eager
from lnm_codegen.nn.function import (
    FusedCall,
    Kernels,
    LayerResults,
    needs_backward,
    run_fused,
    run_in_place,
)
from lnm_codegen.nn.integer import (
    Arithmetic,
    adjoint_of,
    library_of,
    narrowed,
    require_cpu,
    require_exact,
    run_fixed_c,
    run_fixed_eager,
)
from lnm_codegen.nn.layout import arranged, is_rewritable
from lnm_codegen.nn.norm.function import batch_kernels_of
from lnm_codegen.nn.operators import batch_operator_of, operator_of, run_operator
from lnm_codegen.nn.select import FUSED, kernels_of, replaced, select
from lnm_codegen.options import BackendName

READER: dict[str, str] = {name: f"the generated kernels of backend {name!r}" for name in FUSED}
"""Backend -> its kernels, in the words of an error."""


LIVE: WeakSet[Dispatch] = WeakSet()
"""The runners of all layers that exist: `onnx_table` registers their operators."""


@dataclass(eq=False)
class Dispatch:
    """Runner of one neuron, with caches. A copy or a pickle has empty caches.

    Attributes:
        neuron: The neuron; its records are further outputs and counts.
        backend: Backend that the user named, or "auto".
        arithmetic: Integer arithmetic of the neuron, or None.
        name: Name of the layer in errors; that of the neuron by default.
        input_names: Names of the inputs in errors; those of the neuron by default.
        outputs: Names of the outputs of a call, without records.
        refused: Backend that "auto" would select -> why its kernels cannot be loaded.
    """

    neuron: Neuron
    backend: BackendName
    arithmetic: Arithmetic | None
    name: str = ""
    input_names: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    refused: dict[str, str] = field(default_factory=dict, init=False)
    _selected: dict[tuple[Any, ...], str] = field(default_factory=dict, init=False)
    _kernels: dict[tuple[Any, ...], Kernels] = field(default_factory=dict, init=False)
    _starts: dict[tuple[torch.dtype, torch.device], list[Tensor]] = field(
        default_factory=dict, init=False
    )

    def __post_init__(self) -> None:
        LIVE.add(self)
        self.name = self.name or self.neuron.name
        self.input_names = self.input_names or tuple(s.name for s in self.neuron.inputs)
        self._outputs_type = outputs_type(self.outputs)
        self._key = f"{self.backend} {step_digest(self.neuron)}"
        starts = [cast("State", s.decl) for s in self.neuron.states]
        self._changes_starts = any(callable(s.init) or s.param for s in starts)
        self._states = [s.name for s in starts]
        params, read = self.neuron.params, self.neuron.step_params
        self._selectors = [p in read for p in params] if len(read) < len(params) else []

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the arguments of a copy."""
        own = (self.neuron, self.backend, self.arithmetic, self.name, self.input_names)
        return type(self), (*own, self.outputs)

    def inputs_of(self, tensors: tuple[Tensor, ...], step_mode: str) -> tuple[Tensor, ...]:
        """Return the inputs of a call, validated; see `require_inputs`."""
        return require_inputs(self.name, self.input_names, tensors, step_mode)

    def backend_of(self, x: Tensor) -> str:
        """Return the backend of a call on `x`, or raise ToolError."""
        if self.arithmetic is not None:
            require_cpu(self.arithmetic, x)
        place = (x.device.type, x.dtype) if self.arithmetic is None else ("cpu", None)
        if torch.compiler.is_compiling():
            return self._constant(self._key, "on", *place)  # type: ignore[no-any-return]
        return self.on(*place)

    def run(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        start: Sequence[Tensor],
        params: Sequence[Tensor],
        returns_states: bool,
        inplace: bool = False,
        norm: tuple[Tensor, ...] = (),
        options: tuple[Any, ...] = (),
    ) -> LayerResults:
        """Return the results of a call.

        Args:
            backend: The selected one.
            inputs: (T, N, *).
            start: Initial states.
            params: Parameters of the neuron, in order.
            returns_states: Return the final states.
            inplace: Write the output into the input where that is possible.
            norm: Weight and bias of a normalisation with the statistics of the batch.
            options: eps of the normalisation, and the group of processes.
        """
        if self._selectors:
            params = list(compress(params, self._selectors))  # those of `norm` select no more
        if backend != "torch":
            self._require_learnable(params)
        if self.arithmetic is not None:
            return self._run_integers(backend, inputs, start, params, returns_states)  # type: ignore[no-any-return]
        traced = torch.compiler.is_compiling()
        if backend == "torch":
            module = None
            if traced:
                module = getattr(GENERATED, self._constant(self._key, "_module_name"))
            return run_eager(self.neuron, inputs, start, params, module)
        tensors: Sequence[Tensor] = (*inputs, *start, *params, *norm)
        saves_states = needs_backward(tensors)
        if traced:
            if is_exporting_onnx():
                (require_evaluation if options else require_table)(self.name)
                saves_states = False  # ONNX has no backward, and T stays dynamic
            name = self._constant(self._key, "_operator_name", backend, bool(options))
            count, flags = len(self.neuron.output), (returns_states, saves_states)
            return run_operator(name, count, self._states, tensors, *flags, options)
        require_plain_memory(self.name, READER[backend], tensors)
        x = inputs[0]
        key = (backend, x.dtype, *options)
        kernels = self._kernels.get(key) or self._kernels_of(*key)
        layout, tensors = arranged(kernels.params, tensors, len(inputs), len(start))
        end = count = len(kernels.outputs)
        call = FusedCall(kernels, layout, returns_states, saves_states, [])
        if inplace and not saves_states and len(inputs) == count == 1:
            if is_rewritable(x, tensors[0], layout):
                return run_in_place(call, tensors)
        results, final = run_fused(call, *tensors), {}
        if returns_states:
            end += len(start)
            final = dict(zip(kernels.states, results[count:end], strict=True))
        return results[:count], final, call.counts, results[end:]

    def named(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return several outputs of a call as a named tuple.

        In a program of `torch.export`, which another process loads, it is a plain tuple.
        """
        if torch.compiler.is_compiling() and is_exporting():
            return outputs
        found: tuple[Tensor, ...] = self._outputs_type(*outputs)
        return found

    def require_readable(self, backend: str, tensors: Sequence[Tensor]) -> None:
        """Raise UnsupportedError where a tensor has no plain memory that a backend can read."""
        if self.arithmetic is not None:
            require_plain_memory(self.name, "the integer models", tensors, "Leave arithmetic out.")
        elif backend != "torch":
            require_plain_memory(self.name, READER[backend], tensors)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _run_integers(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        start: Sequence[Tensor],
        params: Sequence[Tensor],
        returns_states: bool,
    ) -> LayerResults:
        """Return the results of `run`, computed in integers."""
        arithmetic, x = self.arithmetic, inputs[0]
        assert arithmetic is not None
        tensors = (*inputs, *start, *params)
        self.require_readable(backend, tensors)
        if backend != "torch" and needs_backward(tensors):
            load = partial(adjoint_of, arithmetic, REAL[x.dtype])
            backend = self.loadable(("adjoint", x.dtype), backend, load)
        require_exact(arithmetic, REAL[x.dtype], returns_states)
        numbers = [converted(i, REAL[x.dtype]) for i in inputs]
        given = (arithmetic, numbers, start, params)
        if backend == "torch":
            outputs, final = run_fixed_eager(*given)
        else:
            outputs, final = run_fixed_c(*given, returns_states)
        return narrowed(arithmetic, outputs, x.dtype), final, [], ()

    def start(
        self,
        x: Tensor,
        given: Mapping[str, Any],
        previous: Mapping[str, Tensor],
        params: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        """Return the initial states of a call on `x`. Constant initial states are cached.

        `previous` are the final states of the last call, if the layer keeps them, and `params` the
        parameters in order.
        """
        if given or self._changes_starts:
            return start_states(self.neuron, x, given, params, previous=previous)
        if torch.compiler.is_compiling():
            return start_states(self.neuron, x, given, params, previous={})
        key = (x.dtype, x.device)
        found = self._starts.get(key)
        if found is None:
            with torch.inference_mode(False):  # so that later calls can train with them
                found = start_states(self.neuron, x, given, params, previous={})
            if all(is_plain(value) for value in found) and not _is_captured():
                if x.is_cuda:  # another stream, which does not wait for this one, may read them
                    torch.cuda.current_stream(x.device).synchronize()
                self._starts[key] = found
        return found

    def _require_learnable(self, params: Sequence[Tensor]) -> None:
        """Raise UnsupportedError if a constant needs a gradient, which the kernels do not have."""
        if not torch.is_grad_enabled():
            return
        for param, value in zip(self.neuron.step_params, params, strict=False):
            if value.requires_grad and not param.learnable:
                problem = f"constant {param.name!r} requires a gradient, which no kernel computes"
                remedy = "Make it learnable in the definition, or use backend='torch' or no_grad()."
                raise UnsupportedError(self.name, problem, remedy=remedy)

    def on(self, device: str, dtype: torch.dtype | None = None) -> str:
        """Return the backend that runs on a type of device, or raise ToolError; see `select`.

        Its kernels are loaded. "auto" selects eager PyTorch where they cannot be.
        """
        found = self._selected.get((device, dtype))
        if found is None:
            backend = self.expected_on(device, dtype)
            found = self.loadable((device, dtype), backend, partial(self._load, backend, dtype))
        return found

    def expected_on(self, device: str, dtype: torch.dtype | None = None) -> str:
        """Return the same backend, without loading or compiling."""
        program = None if self.arithmetic is None else self.arithmetic.program
        found = self._selected.get((device, dtype))
        return found or select(self.neuron, self.backend, device, dtype, program)

    def loadable(self, key: tuple[Any, ...], backend: str, load: Callable[[], object]) -> str:
        """Return a backend after `load` of its kernels, or "torch" where "auto" cannot load them.

        The answer is kept under `key`.
        """
        found = self._selected.get(key, "")
        if not found:
            found = backend
            try:
                if backend != "torch":
                    load()
            except ToolError as error:
                if self.backend != "auto":
                    raise
                self.refused[backend] = error.problem
                found = replaced(error)
            self._selected[key] = found
        return found

    def _load(self, backend: str, dtype: torch.dtype | None) -> None:
        if self.arithmetic is not None:
            library_of(self.arithmetic)
        elif dtype is not None:
            self._kernels_of(backend, dtype)

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def require_not_exporting(self) -> None:
        """Raise UnsupportedError if `torch.export` traces a call that begins with kept states."""
        if is_exporting():
            problem = "torch.export keeps no states from call to call, but the layer does"
            accepted = "carry_state=False with step_mode='m', or state= and return_state=True"
            remedy = "Set carry_state to False on every NeuronLayer of the model."
            raise UnsupportedError(self.name, problem, accepted, remedy)

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _constant(self, key: str, method: str, *arguments: Any) -> Any:
        """Return the result of a method, which a graph of `torch.compile` keeps.

        `torch.compile` guards the arguments alone: `key` makes another neuron, or the same on
        another backend, compile.
        """
        return getattr(self, method)(*arguments)

    def constant(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return function(neuron, ...), which a graph of `torch.compile` keeps."""
        return self._constant(self._key, "_applied", function, *arguments)

    def _applied(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(self.neuron, *arguments)

    def _module_name(self) -> str:
        return eager_module(self.neuron).__name__

    def _operator_name(self, backend: str, is_batch: bool) -> str:
        return (batch_operator_of if is_batch else operator_of)(self.neuron, backend).name

    def _kernels_of(self, backend: str, dtype: torch.dtype, *options: Any) -> Kernels:
        """Return the kernels of a type of sequences, and load them if this is their first call."""
        key = (backend, dtype, *options)
        if key not in self._kernels:
            load: Callable[..., Kernels] = batch_kernels_of if options else kernels_of
            is_auto = self.backend == "auto"
            self._kernels[key] = load(self.neuron, backend, dtype, *options, is_auto=is_auto)
        return self._kernels[key]


def _is_captured() -> bool:
    """Report whether a CUDA graph captures the call, which fills a tensor at each replay only."""
    ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(ready) and torch.cuda.is_current_stream_capturing()
