"""`NeuronLayer`: a neuron as a `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.ir.fixed.spec import FixedSpec
from lnm_codegen.ir.types import Fixed
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import (
    REAL,
    check_inputs,
    check_rows,
    given_states,
    parameters_of,
    refuse_strangers,
    start_states,
)
from lnm_codegen.nn.choice import choose, kernels_of
from lnm_codegen.nn.construction import check_choice, check_dtype, checked_neuron, checked_shape
from lnm_codegen.nn.eager import run_eager
from lnm_codegen.nn.explain import Explanation, explain
from lnm_codegen.nn.function import Call, Fused, Kernels, Ran, run_over
from lnm_codegen.nn.integer.arithmetic import Arithmetic, arithmetic_of, check_device
from lnm_codegen.nn.integer.eager import run_fixed_eager
from lnm_codegen.nn.integer.function import run_fixed_c
from lnm_codegen.nn.layout import arranged, is_rewritable
from lnm_codegen.nn.operators import operator_of, run_operator
from lnm_codegen.nn.parameters import declared_axes, register
from lnm_codegen.nn.record import checked_record, recorded, recording


class NeuronLayer(nn.Module):
    """A layer of one neuron model, over a sequence or step by step.

    Every parameter of the model is an attribute of its name: an `nn.Parameter` if it is
    learnable, else a buffer. Its shape is () or (size,) per layer, (C,) or (C, size) per channel,
    `shape` or (*shape, size) per neuron.

    Args:
        neuron: The definition, `lnm.get("lnm", degree=3)` or your own.
        channels: C, needed where a parameter is per channel.
        shape: Shape of one sample's neurons, (C, *), needed where a parameter is per neuron.
        arithmetic: Compute in the integers of a circuit: `lnm.Fixed(16, 12)`, or an
            `lnm.FixedSpec`. x, states and parameters are rounded to their formats, out and states
            come back as numbers, and gradients pass straight through (`nn/fixed.py`). NaN in x or
            in an initial state becomes 0, and its gradient is 0. On the CPU: with backend "c" in
            generated C, with "torch" in NumPy, step by step.
        backend: "c" (fused CPU kernels), "torch" (eager, any device), or "auto": "c" for CPU
            tensors, "torch" elsewhere, and where no C++ compiler is found, with one warning.
        step_mode: "m": x is (T, N, *), each call starts from the initial states unless `state`
            is given. "s": x is (N, *), and the states are kept until `reset()`; a copy or a
            pickle of the layer begins anew. May be changed later.
        detach_reset: Overrides the neuron's own.
        record: What is returned beside the outputs: names of states for their charged values,
            (T, N, *), and "stats" for counts made in the kernel (see `interval`).
        interval: With record=("stats",): the charged values of v, or of the first state where none
            has that name, that are not in [low, high], NaN among them, are counted as "outside";
            by default those that have run away.
        dtype: Of the parameters; float32 by default.
        inplace: Where no gradient is wanted, let the output overwrite x_seq, if the kernels are
            generated ones, the model has one input and one output, and x_seq is dense and
            contiguous in time.

    Shape:
        x_seq (T, N, *) -> (T, N, *), the channel axis of per-channel parameters being 2; without
        T in single-step mode. float32, float64, bfloat16 or float16; states and arithmetic are
        float32, float64 for float64. A tuple where the model names several outputs.

    Raises:
        ModelError: An argument outside what is said here.
        ShapeError: An input that does not fit, at the call.

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
        neuron = checked_neuron(neuron, backend, inplace, detach_reset)
        shape = checked_shape(shape, channels)
        check_dtype(dtype)
        self.neuron = neuron
        self._backend_asked = backend
        self.step_mode = step_mode
        self.inplace = inplace
        self.record = checked_record(record)
        self._recorded = recording(neuron, self.record, interval)
        self._arithmetic = arithmetic_of(self._recorded, arithmetic, backend, self.record)
        self.arithmetic = arithmetic
        self._axes = {p.name: declared_axes(neuron, p, channels, shape) for p in neuron.params}
        self._shapes = tuple(
            (*self._axes[p.name], *(() if p.size is None else (p.size,))) for p in neuron.params
        )
        for param, whole in zip(neuron.params, self._shapes, strict=True):
            register(self, param, whole, dtype or torch.float32)
        self._has_rows = any(p.per != "layer" for p in neuron.params)
        self._has_made_starts = any(callable(s.decl.init) for s in neuron.states)  # type: ignore[union-attr]
        self._names = tuple(p.name for p in neuron.params)
        self._state: dict[str, Tensor] | None = None
        self._kernels: dict[tuple[str, torch.dtype], Kernels] = {}
        self._chosen: dict[str, str] = {}
        self._starts: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}

    @property
    def step_mode(self) -> str:
        """Multi-step, "m", or single-step, "s"."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, mode: str) -> None:
        check_choice("step_mode", mode, ("m", "s"))
        self._step_mode = mode

    @property
    def backend(self) -> str:
        """The backend that was asked for."""
        return self._backend_asked

    def forward(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: Mapping[str, Any] | None = None,
        return_state: bool = False,
    ) -> Any:
        """Run the layer.

        Args:
            x_seq: The first input, (T, N, *), or (N, *) in single-step mode.
            more_inputs: Further inputs of the model, of the same shape.
            state: Initial value of states by name, (N, *) or a number.
            return_state: Return the final states too.

        Returns:
            out, (out, state), (out, recorded) or (out, state, recorded); state and recorded are
            dicts by name; recorded["stats"] is a dict of counts over steps and neurons, one by the
            name of each spike, and "outside".
        """
        inputs = check_inputs(self.neuron, (x_seq, *more_inputs), self.step_mode)
        single = self.step_mode == "s"
        if single:
            inputs = tuple(x.unsqueeze(0) for x in inputs)
        given = self._state if single and state is None else state
        keeps = single or return_state
        outputs, final, sums = self._run(inputs, given_states(self.neuron, given), keeps)
        if single:
            outputs = tuple(o.squeeze(0) for o in outputs)
            self._state = final
        count = len(self.neuron.output)
        out = outputs[0] if count == 1 else outputs[:count]
        extras: list[Any] = [final] if return_state else []
        if self.record:
            extras.append(recorded(self.neuron, self.record, outputs[count:], sums))
        return (out, *extras) if extras else out

    def explain(self, x_seq: Tensor, *more_inputs: Tensor) -> Explanation:
        """Say what a call would run and why, and what it would move and keep; nothing runs.

        Args:
            x_seq: The first input, (T, N, *) or, in single-step mode, (N, *).
            more_inputs: The others.

        Raises:
            ShapeError: An input that does not fit.
            ToolError: The backend that was named cannot run here.
            UnsupportedError: The layer computes in integers.
        """
        inputs = check_inputs(self.neuron, (x_seq, *more_inputs), self.step_mode)
        if self._arithmetic is not None:
            raise UnsupportedError(
                self.neuron.name,
                "explain speaks of floating-point kernels; this layer computes in integers",
                remedy="Ask a layer without arithmetic.",
            )
        if self.step_mode == "s":
            inputs = tuple(x.unsqueeze(0) for x in inputs)
        if self._has_rows:
            check_rows(self.neuron, self._axes, inputs[0].shape)
        backend = self._backend(inputs[0].device.type)
        return explain(self._recorded, self.backend, backend, inputs)

    def reset(self) -> None:
        """Forget the state that single-step mode has kept."""
        self._state = None

    def extra_repr(self) -> str:
        """Describe the layer in `print(network)`."""
        words = f"{self.neuron.name}, backend={self.backend!r}, step_mode={self.step_mode!r}"
        return words if self.arithmetic is None else f"{words}, arithmetic={self.arithmetic}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_state": None, "_kernels": {}, "_starts": {}, "_chosen": {}}

    def _run(self, inputs: tuple[Tensor, ...], given: dict[str, Any], keeps: bool) -> Ran:
        x, neuron = inputs[0], self.neuron
        if self._has_rows:
            check_rows(neuron, self._axes, x.shape)
        if self._arithmetic is not None:
            return self._run_fixed(self._arithmetic, inputs, given, keeps)  # type: ignore[no-any-return]
        traced = torch.compiler.is_compiling()
        backend = self._traced_backend(x.device.type) if traced else self._backend(x.device.type)
        start = self._start(x, given)
        params = parameters_of(neuron, self._shapes, [getattr(self, n) for n in self._names], x)
        if backend == "torch":
            return run_eager(self._recorded, inputs, start, params)
        tensors: Sequence[Tensor] = (*inputs, *start, *params)
        trains = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        if traced:
            return self._run_operator(backend, tensors, keeps, trains)
        refuse_strangers(neuron, f"the generated kernels of backend {backend!r}", tensors)
        kernels = self._kernels_of(backend, x.dtype)
        layout, tensors = arranged(neuron.params, tensors, len(inputs), len(start))
        count = len(kernels.outputs)
        free = self.inplace and not trains and len(inputs) == count == 1
        if free and is_rewritable(x, tensors[0], layout):
            return run_over(kernels, layout, tensors, keeps, x)
        call = Call(kernels, layout, keeps, trains, [])
        results = Fused.apply(call, *tensors)  # type: ignore[no-untyped-call]
        final = dict(zip(kernels.states, results[count:], strict=True)) if keeps else {}
        return results[:count], final, call.sums

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _run_fixed(
        self, arithmetic: Arithmetic, inputs: tuple[Tensor, ...], given: dict[str, Any], keeps: bool
    ) -> Ran:
        """Return what `_run` does, computed in integers."""
        x = inputs[0]
        check_device(arithmetic, x)
        start = self._start(x, given)
        values = [getattr(self, n) for n in self._names]
        params = parameters_of(self.neuron, self._shapes, values, x)
        backend, tensors = self._backend("cpu"), (*inputs, *start, *params)
        refuse_strangers(self.neuron, "the integer models", tensors, "Leave arithmetic out.")
        run = run_fixed_eager if backend == "torch" else run_fixed_c
        outputs, final = run(
            arithmetic, [i.to(REAL[x.dtype]) for i in inputs], start, params, keeps
        )
        return tuple(out.to(x.dtype) for out in outputs), final, []

    def _start(self, x: Tensor, given: dict[str, Any]) -> list[Tensor]:
        """Return the initial states; what is made of numbers alone is made once."""
        if given or self._has_made_starts:
            return start_states(self.neuron, x, given, kept=self._state or {})
        if torch.compiler.is_compiling():
            return start_states(self.neuron, x, given, kept={})
        key = (REAL[x.dtype], x.device)
        if key not in self._starts:
            with torch.inference_mode(False):  # else no later call could train with them
                self._starts[key] = start_states(self.neuron, x, given, kept={})
        return self._starts[key]

    def _run_operator(
        self, backend: str, tensors: Sequence[Tensor], keeps: bool, trains: bool
    ) -> Ran:
        """Return what `_run` does, from the operator that `torch.compile` keeps as one node."""
        names = [s.name for s in self.neuron.states]
        return run_operator(self._operator_name(backend), names, tensors, keeps, trains)

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
        if device not in self._chosen:
            self._chosen[device] = choose(self.neuron.name, self.backend, device)
        return self._chosen[device]
