"""`NeuronLayer`: a neuron as a `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import (
    REAL,
    TYPES,
    parameters_as,
    recorded,
    recording,
    require_axes,
    require_inputs,
    require_plain_memory,
    require_record,
    require_sizes,
    require_states,
    start_states,
)
from lnm_codegen.nn.eager import run_eager
from lnm_codegen.nn.explain import Explanation, explain
from lnm_codegen.nn.function import (
    Fused,
    FusedCall,
    Kernels,
    LayerResults,
    needs_backward,
    run_in_place,
)
from lnm_codegen.nn.integer.arithmetic import arithmetic_of, require_cpu
from lnm_codegen.nn.integer.eager import run_fixed_eager
from lnm_codegen.nn.integer.function import run_fixed_c
from lnm_codegen.nn.layout import arranged, is_rewritable
from lnm_codegen.nn.operators import operator_of, run_operator
from lnm_codegen.nn.parameters import declared_axes, register
from lnm_codegen.nn.select import BACKENDS, kernels_of, select
from lnm_codegen.validation import require_bool, require_known, require_one_of, wrong


class NeuronLayer(nn.Module):
    """A layer of neurons of one model, over a sequence or step by step.

    Every parameter of the model is an attribute of its name: an `nn.Parameter` if it is
    learnable, else a buffer. Its shape is () or (size,) per layer, (C,) or (C, size) per channel,
    `shape` or (*shape, size) per neuron.

    Args:
        neuron: The model, `lnm.get("lnm", degree=3)` or your own.
        channels: C, required by parameters per channel.
        shape: Shape of one sample's neurons, (C, *), required by parameters per neuron.
        arithmetic: Compute in the integers of a circuit: `lnm.Fixed(16, 12)`, or an
            `lnm.FixedSpec`. x, states and parameters are rounded to their formats; outputs and
            states are returned as numbers; gradients pass straight through. NaN in x or in an
            initial state becomes 0, with gradient 0. CPU only: backend "c", or "torch" (NumPy).
        backend: "c" (fused CPU kernels), "triton" or "cuda" (fused GPU kernels), "torch" (eager,
            any device), or "auto". "auto" selects "c" for CPU tensors, "triton" for CUDA tensors
            and "torch" elsewhere. If a tool is missing, it selects "torch" and warns once.
        step_mode: "m" (multi-step): x is (T, N, *), and each call begins with the initial states
            unless `state` is given. "s" (single-step): x is (N, *), and the layer keeps its states
            until `reset()`; copies and pickles do not have them. May be changed later.
        detach_reset: Replaces `neuron.detach_reset`; None keeps it.
        record: Names of states whose charged potential h is returned, (T, N, *); "stats" returns
            counts (see `interval`).
        interval: [low, high] of record=("stats",): charged values of v (or of the first state)
            outside it, NaN included, are counted as "outside". The default counts diverged values.
        dtype: Type of the parameters; float32 by default.
        inplace: Write the output into x_seq. Applies only if (1) no gradient is needed, (2) the
            kernels have one input and one output, (3) x_seq is dense and contiguous in time.

    Shape:
        x_seq (T, N, *) -> (T, N, *). Axis 2 is the channel axis. In single-step mode T is absent. A
        model with several outputs returns a tuple. x_seq is float32, float64, bfloat16 or float16.
        States and arithmetic are float64 for float64, else float32.

    Raises:
        ModelError: An argument is outside these ranges.
        ShapeError: An input of a call does not fit.
        ToolError: The selected backend lacks a tool, or cannot run on the input's device.
        UnsupportedError: The backend cannot run the model or this call.

    Example:
        >>> import torch, lnm_codegen as lnm
        >>> layer = lnm.nn.NeuronLayer(lnm.get("lif"), backend="torch")
        >>> layer(torch.ones(4, 1, 3)).shape
        torch.Size([4, 1, 3])
    """

    def __init__(
        self,
        neuron: Neuron,
        *,
        channels: int | None = None,
        shape: tuple[int, ...] | None = None,
        arithmetic: Fixed | FixedSpec | None = None,
        backend: str = "auto",
        step_mode: str = "m",
        detach_reset: bool | None = None,
        record: tuple[str, ...] = (),
        interval: tuple[float, float] = (-1e30, 1e30),
        dtype: torch.dtype | None = None,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron):
            raise wrong("NeuronLayer", "neuron", neuron, "an lnm.Neuron, such as lnm.get('lif')")
        if detach_reset is not None:
            neuron = neuron.with_detach_reset(detach_reset)
        shape = require_sizes(shape, channels)
        require_one_of("NeuronLayer", "dtype", dtype, (None, *TYPES))
        self.neuron = neuron
        self._backend_argument = require_known("NeuronLayer", "backend", backend, BACKENDS)
        self.step_mode = step_mode
        self.inplace = require_bool("NeuronLayer", "inplace", inplace)
        self.record = require_record(record)
        self._recorded = recording(neuron, self.record, interval)
        self._arithmetic = arithmetic_of(self._recorded, arithmetic, backend, self.record)
        self.arithmetic = arithmetic
        self._axes = {p.name: declared_axes(neuron, p, channels, shape) for p in neuron.params}
        self._shapes = tuple(
            (*self._axes[p.name], *(() if p.size is None else (p.size,))) for p in neuron.params
        )
        for param, whole in zip(neuron.params, self._shapes, strict=True):
            register(self, param, whole, dtype or torch.float32)
        self._has_axes = any(p.per != "layer" for p in neuron.params)
        self._draws_starts = any(callable(s.decl.init) for s in neuron.states)  # type: ignore[union-attr]
        self._names = tuple(p.name for p in neuron.params)
        self._state: dict[str, Tensor] | None = None
        self._kernels: dict[tuple[str, torch.dtype], Kernels] = {}
        self._selected: dict[str, str] = {}
        self._starts: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}

    @property
    def step_mode(self) -> str:
        """Multi-step ("m") or single-step ("s")."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, mode: str) -> None:
        self._step_mode = require_one_of("NeuronLayer", "step_mode", mode, ("m", "s"))

    @property
    def backend(self) -> str:
        """Backend that the layer was made with."""
        return self._backend_argument

    def forward(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: Mapping[str, Any] | None = None,
        return_state: bool = False,
    ) -> Any:
        """Run the layer.

        Args:
            x_seq: First input, (T, N, *), or (N, *) in single-step mode.
            more_inputs: Further inputs of the model, of the same shape.
            state: State -> initial value, (N, *) or a number.
            return_state: Return the final states too.

        Returns:
            out, (out, state), (out, recorded) or (out, state, recorded); state and recorded are
            dicts by name; recorded["stats"] is a dict of counts over steps and neurons: one for
            each spike, and "outside".
        """
        inputs, is_single_step = self._inputs(x_seq, *more_inputs), self.step_mode == "s"
        given = self._state if is_single_step and state is None else state
        start, returns_states = require_states(self.neuron, given), is_single_step or return_state
        outputs, final, counts = self._run(inputs, start, returns_states)
        if is_single_step:
            outputs = tuple(o.squeeze(0) for o in outputs)
            self._state = final
        count = len(self.neuron.output)
        out = outputs[0] if count == 1 else outputs[:count]
        extras: list[Any] = [final] if return_state else []
        if self.record:
            extras.append(recorded(self.neuron, self.record, outputs[count:], counts))
        return (out, *extras) if extras else out

    def explain(self, x_seq: Tensor, *more_inputs: Tensor) -> Explanation:
        """Return the backend, schedule and memory traffic of `forward`, without running it.

        Raises:
            ShapeError, ToolError: As for a call.
            UnsupportedError: The layer computes in integers.
        """
        inputs = self._inputs(x_seq, *more_inputs)
        if self._arithmetic is not None:
            problem = "explain describes floating-point kernels; this layer computes in integers"
            remedy = "Use a layer without arithmetic."
            raise UnsupportedError(self.neuron.name, problem, remedy=remedy)
        backend = self._backend(inputs[0].device.type)
        return explain(self._recorded, self.backend, backend, inputs)

    def reset(self) -> None:
        """Discard the states of single-step mode."""
        self._state = None

    def extra_repr(self) -> str:
        """Describe the layer in `print(network)`."""
        words = f"{self.neuron.name}, backend={self.backend!r}, step_mode={self.step_mode!r}"
        return words if self.arithmetic is None else f"{words}, arithmetic={self.arithmetic}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_state": None, "_kernels": {}, "_starts": {}, "_selected": {}}

    def _inputs(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the inputs of a call as sequences; T is 1 in single-step mode."""
        inputs = require_inputs(self.neuron, tensors, self.step_mode)
        if self.step_mode == "s":
            inputs = tuple(x.unsqueeze(0) for x in inputs)
        if self._has_axes:
            require_axes(self.neuron, self._axes, inputs[0].shape)
        return inputs

    def _run(
        self, inputs: tuple[Tensor, ...], given: dict[str, Any], returns_states: bool
    ) -> LayerResults:
        x, neuron = inputs[0], self.neuron
        if self._arithmetic is not None:
            return self._run_fixed(inputs, given, returns_states)  # type: ignore[no-any-return]
        traced = torch.compiler.is_compiling()
        backend = self._traced_backend(x.device.type) if traced else self._backend(x.device.type)
        start = self._start(x, given)
        params = parameters_as(neuron, self._shapes, [getattr(self, n) for n in self._names], x)
        if backend == "torch":
            return run_eager(self._recorded, inputs, start, params)
        tensors: Sequence[Tensor] = (*inputs, *start, *params)
        saves_states = needs_backward(tensors)
        if traced:
            name, states = self._operator_name(backend), [s.name for s in neuron.states]
            return run_operator(name, states, tensors, returns_states, saves_states)
        require_plain_memory(neuron, f"the generated kernels of backend {backend!r}", tensors)
        kernels = self._kernels_of(backend, x.dtype)
        layout, tensors = arranged(neuron.params, tensors, len(inputs), len(start))
        count = len(kernels.outputs)
        call = FusedCall(kernels, layout, returns_states, saves_states, [])
        may_overwrite = self.inplace and not saves_states and len(inputs) == count == 1
        if may_overwrite and is_rewritable(x, tensors[0], layout):
            return run_in_place(call, tensors)
        results = Fused.apply(call, *tensors)  # type: ignore[no-untyped-call]
        final = dict(zip(kernels.states, results[count:], strict=True)) if returns_states else {}
        return results[:count], final, call.counts

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _run_fixed(
        self, inputs: tuple[Tensor, ...], given: dict[str, Any], returns_states: bool
    ) -> LayerResults:
        """Return the results of `_run`, computed in integers."""
        arithmetic, neuron, x = self._arithmetic, self.neuron, inputs[0]
        assert arithmetic is not None
        require_cpu(arithmetic, x)
        start = self._start(x, given)
        params = parameters_as(neuron, self._shapes, [getattr(self, n) for n in self._names], x)
        backend, tensors = self._backend("cpu"), (*inputs, *start, *params)
        require_plain_memory(neuron, "the integer models", tensors, "Leave arithmetic out.")
        run = run_fixed_eager if backend == "torch" else run_fixed_c
        numbers = [i.to(REAL[x.dtype]) for i in inputs]
        outputs, final = run(arithmetic, numbers, start, params, returns_states)
        return tuple(out.to(x.dtype) for out in outputs), final, []

    def _start(self, x: Tensor, given: dict[str, Any]) -> list[Tensor]:
        """Return the initial states. Constant initial states are cached."""
        if given or self._draws_starts:
            return start_states(self.neuron, x, given, previous=self._state or {})
        if torch.compiler.is_compiling():
            return start_states(self.neuron, x, given, previous={})
        key = (REAL[x.dtype], x.device)
        if key not in self._starts:
            with torch.inference_mode(False):  # so that later calls can train with them
                self._starts[key] = start_states(self.neuron, x, given, previous={})
        return self._starts[key]

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _operator_name(self, backend: str) -> str:
        return operator_of(self._recorded, backend).name

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def _traced_backend(self, device: str) -> str:
        return self._backend(device)

    def _kernels_of(self, backend: str, dtype: torch.dtype) -> Kernels:
        key = (backend, dtype)
        if key not in self._kernels:
            self._kernels[key] = kernels_of(self._recorded, backend, dtype)
        return self._kernels[key]

    def _backend(self, device: str) -> str:
        """Return the backend that runs on a type of device."""
        if device not in self._selected:
            self._selected[device] = select(self.neuron.name, self.backend, device)
        return self._selected[device]
