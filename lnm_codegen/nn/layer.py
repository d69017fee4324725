"""`NeuronLayer`: a neuron as a `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lnm_codegen.analysis.charge import degree_of, reset_words
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.families import FAMILIES
from lnm_codegen.ir.declarations import finest
from lnm_codegen.ir.types import Fixed, FixedSpec
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import (
    TYPES,
    Sizes,
    default_dtype,
    lengths_of,
    parameters_as,
    recorded,
    recording,
    require_record,
    require_sizes,
    sizes_of,
    widened,
)
from lnm_codegen.nn.bits import with_bits
from lnm_codegen.nn.call import (
    LayerCall,
    Received,
    StatefulModule,
    States,
    require_starts,
    typed_call,
)
from lnm_codegen.nn.dispatch import Dispatch
from lnm_codegen.nn.explain import Explanation, explain
from lnm_codegen.nn.function import LayerResults
from lnm_codegen.nn.integer import arithmetic_of
from lnm_codegen.nn.parameters import LAZY
from lnm_codegen.nn.select import BACKENDS
from lnm_codegen.options import BackendName, StepMode
from lnm_codegen.validation import require_known, require_one_of, wrong


class NeuronLayer(StatefulModule):
    """A layer of neurons of one model, over a sequence or step by step.

    Every parameter of the model is an attribute of its name: an `nn.Parameter` if it is
    learnable, else a buffer. `layer.tau = 4.0` sets its values. Its shape is () or (size,) per
    layer, (C,) or (C, size) per channel, `shape` or (*shape, size) per neuron. `arithmetic`,
    `backend`, `step_mode`, `carry_state`, `record`, `return_recorded`, `interval` and `inplace` are
    attributes that may be set later.

    Args:
        neuron: The definition, `lnm.get("lnm", degree=3)` or your own. It is an attribute too: pass
            `layer.neuron`, which has the layer's `detach_reset`, to `lnm.emit` or `lnm.package`.
        channels: C, the size of parameters per channel. If it is not given, they are lazy, as in
            `nn.LazyLinear`: the first input gives them their shape. If it is given, the input of
            each call must have C channels, also where no parameter is per channel.
        shape: Shape of one sample's neurons, (C, *), for parameters per neuron; lazy or required
            likewise.
        arithmetic: Compute in the integers of a circuit: `lnm.Fixed(16, 12)`, or an
            `lnm.FixedSpec`. x, states and parameters are rounded to their formats; outputs and
            states are returned as numbers; gradients pass straight through. NaN in x or in an
            initial state becomes 0, with gradient 0. CPU only: backend "c", or "torch" (NumPy).
        backend: "c" (fused CPU kernels), "triton" or "cuda" (fused GPU kernels), "torch" (eager,
            any device), or "auto". "auto" selects "c" for CPU tensors, "triton" for CUDA tensors
            and "torch" elsewhere. If a tool is missing or fails, or no folder can be written, it
            selects "torch" and warns once.
        step_mode: "m" (multi-step): x is (T, N, *). "s" (single-step): x is (N, *), and the layer
            keeps its states from call to call until `reset()`.
        carry_state: Keep the states from call to call in multi-step mode too. Otherwise each call
            begins with the initial states, unless `state` is given.
        detach_reset: Replaces `neuron.detach_reset`; None keeps it.
        record: Names of states whose charged potential h is recorded, (T, N, *); "stats" records
            counts (see `interval`).
        return_recorded: Return the records of a call beside its output. False leaves them in
            `layer.recorded` alone, so that the layer fits into `nn.Sequential`.
        interval: [low, high] of record=("stats",): charged values of v (or of the first state)
            outside it, NaN included, are counted as "outside". The default counts diverged values.
        device: Device of the parameters; PyTorch's default device by default.
        dtype: Type of the parameters; by default float64 if PyTorch's default is, else float32.
        inplace: Write the output into x_seq. Applies only if (1) no gradient is needed, (2) the
            kernels have one input and one output, (3) x_seq is dense and contiguous in time.

    Attributes:
        state: State -> value after the last call, (N, *), if the layer keeps its states; empty
            before the first call. Each is also an attribute of its name, `layer.v`, unless a
            module has one of that name. Both may be set: the next call begins with that number or
            (N, *). A mode that keeps no states discards them.
        recorded: Records of the last call by name; empty before the first call. Copies and pickles
            have neither.

    Shape:
        x_seq (T, N, *) -> (T, N, *). Axis 2 is the channel axis. In single-step mode T is absent. A
        model with several outputs returns a named tuple, `out.spike`. x_seq is float32, float64,
        bfloat16 or float16. States and arithmetic are float64 for float64, else float32.

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
        backend: BackendName = "auto",
        step_mode: StepMode = "m",
        carry_state: bool = False,
        detach_reset: bool | None = None,
        record: tuple[str, ...] = (),
        return_recorded: bool = True,
        interval: tuple[float, float] = (-1e30, 1e30),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        inplace: bool = False,
    ) -> None:
        if not isinstance(neuron, Neuron):
            raise wrong("NeuronLayer", "neuron", neuron, "an lnm.Neuron, such as lnm.get('lif')")
        if detach_reset is not None:
            neuron = neuron.with_detach_reset(detach_reset)
        require_one_of("NeuronLayer", "dtype", dtype, (None, *TYPES))
        shape = require_sizes(shape, channels)
        super().__init__()
        self.neuron = neuron
        self.reset()
        self._watched, self._received = 0, None  # its own, so that copies share a compiled graph
        self.step_mode, self.carry_state = step_mode, carry_state
        self.return_recorded, self.inplace = return_recorded, inplace
        self._set_up(backend, record, interval, arithmetic)
        self._declare(channels, shape, dtype=dtype or default_dtype(), device=device)
        self._sizes = sizes_of(neuron.params, channels, shape)
        self._state_names = frozenset(s.name for s in neuron.states if not hasattr(self, s.name))
        family = FAMILIES.get(neuron.name)
        arguments = family.signature.parameters if family is not None else ()
        self._fixed = frozenset(n for n in arguments if not hasattr(self, n)) - self._state_names

    def _set_up(self, backend: BackendName, record: Any, interval: Any, arithmetic: Any) -> None:
        """Prepare calls with these options, or raise an error and change nothing."""
        require_known("NeuronLayer", "backend", backend, BACKENDS)
        names = require_record(record)
        self._dispatch: Dispatch = self._dispatch_of(names, backend, interval, arithmetic)
        self._interval: tuple[float, float] = interval
        self._arithmetic: Fixed | FixedSpec | None = arithmetic
        self._record = names

    def _dispatch_of(
        self, names: tuple[str, ...], backend: BackendName, interval: Any, arithmetic: Any
    ) -> Dispatch:
        """Return the runner of calls with these records."""
        neuron = recording(self.neuron, names, interval)
        integers = arithmetic_of(neuron, arithmetic, backend, names)
        outputs = tuple(name for name, _ in self.neuron.output)
        return Dispatch(neuron, backend, integers, outputs=outputs)

    @property
    def backend(self) -> BackendName:
        """Backend that the user named, or "auto"."""
        return self._dispatch.backend

    @backend.setter
    def backend(self, backend: BackendName) -> None:
        self._set_up(backend, self._record, self._interval, self._arithmetic)

    @property
    def record(self) -> tuple[str, ...]:
        """Names of the records of a call."""
        return self._record

    @record.setter
    def record(self, record: tuple[str, ...]) -> None:
        self._set_up(self.backend, record, self._interval, self._arithmetic)
        self.recorded = {}

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of record=("stats",)."""
        return self._interval

    @interval.setter
    def interval(self, interval: tuple[float, float]) -> None:
        self._set_up(self.backend, self._record, interval, self._arithmetic)

    @property
    def arithmetic(self) -> Fixed | FixedSpec | None:
        """Format of integer arithmetic, or None."""
        return self._arithmetic

    @arithmetic.setter
    def arithmetic(self, arithmetic: Fixed | FixedSpec | None) -> None:
        self._set_up(self.backend, self._record, self._interval, arithmetic)

    __call__: LayerCall  # `forward` and its hooks
    _sizes: Sizes | None = None

    @typed_call
    def forward(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: States | None = None,
        return_state: bool = False,
        lengths: Tensor | None = None,
    ) -> Any:
        """Run the layer.

        Args:
            x_seq: First input, (T, N, *), or (N, *) in single-step mode.
            more_inputs: Further inputs of the model: (T,), one number for each step, or any shape
                that broadcasts to x_seq's. (T,) is an error where the last axis has T elements.
                They are not expanded in memory; `explain` names those that are copied. In
                single-step mode: any shape that broadcasts to (N, *).
            state: State -> initial value: a number, or any shape that broadcasts to (N, *). A state
                that is not given begins with its initial value, not with a kept one.
            return_state: Return the final states too.
            lengths: Lengths of the samples, N integers in 1..T. From step lengths[n] on, outputs
                and gradients of sample n are 0, its states stay, and no record counts it.

        Returns:
            out, (out, state), (out, recorded) or (out, state, recorded); state and recorded are
            dicts by name; recorded["stats"] is a dict of counts over steps and neurons: one for
            each spike, and "outside".
        """
        inputs, is_single_step = self._inputs(x_seq, *more_inputs), self.step_mode == "s"
        keeps, neuron = is_single_step or self.carry_state, self.neuron
        dispatch, x, given = self._dispatch, inputs[0], self._initial(state)
        if keeps and state is None and torch.compiler.is_compiling():
            dispatch.require_not_exporting()
        backend = dispatch.backend_of(x)
        if self._has_axes:
            if self._is_lazy:
                self._require_first(backend, inputs, given)
            self._require_axes(x.shape)
        params = parameters_as(neuron, self._shapes, self._values(), x)
        returns = keeps or return_state
        copies = bool(self._watched) and self.inplace  # the call overwrites its input
        seen = tuple(x.clone() for x in inputs) if copies else inputs
        if lengths is None:
            found = self._run(backend, inputs, given, params, returns)
        else:
            ends = lengths_of(neuron.name, lengths, x)
            found = self._run_padded(backend, inputs, given, params, returns, ends)
        outputs, final, counts, _ = found
        outputs = with_bits(neuron, outputs)
        if self._watched:
            own = self._received_by_neuron(seen)
            self._received = Received(own, dict(given), outputs, lengths)
        if is_single_step:
            outputs = tuple(o.squeeze(0) for o in outputs)
        return self._returned(outputs, final, counts, return_state)

    def _received_by_neuron(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the inputs of the neuron in a call on these sequences."""
        return inputs

    def _returned(
        self,
        outputs: tuple[Tensor, ...],
        final: dict[str, Tensor],
        counts: Sequence[Any],
        returns_states: bool,
    ) -> Any:
        """Keep the states and records of a call; return what `forward` returns."""
        neuron = self.neuron
        count = len(neuron.output)
        out = outputs[0] if count == 1 else self._dispatch.named(outputs[:count])
        records = recorded(neuron, self._record, outputs[count:], counts) if self._record else {}
        if records or self._keeps_states():
            self._keep(final, records)
        extras: list[Any] = [dict(final)] if returns_states else []
        extras += [records] if records and self.return_recorded else []
        return (out, *extras) if extras else out

    @torch.compiler.disable(reason=LAZY)  # type: ignore[untyped-decorator, no-untyped-call]
    def _require_first(self, backend: str, inputs: tuple[Tensor, ...], given: States) -> None:
        """Raise the errors of a call before it gives lazy parameters their sizes."""
        self._require_sizable(inputs[0].device)
        require_starts(self.neuron, inputs[0], given, self._state)
        starts = (value for value in given.values() if isinstance(value, Tensor))
        self._dispatch.require_readable(backend, (*inputs, *starts))

    def _run(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        given: States,
        params: list[Tensor],
        returns_states: bool,
    ) -> LayerResults:
        """Return the results of a call; `given` are initial states."""
        start = self._dispatch.start(inputs[0], given, self._state, params)
        return self._dispatch.run(backend, inputs, start, params, returns_states, self.inplace)

    @torch.compiler.disable(reason="the lengths of samples are data")  # type: ignore[untyped-decorator, no-untyped-call]
    def _run_padded(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        given: States,
        params: list[Tensor],
        returns_states: bool,
        ends: Tensor,
    ) -> LayerResults:
        """Return the results of a call whose samples end at different steps.

        The samples are sorted, the longest first. A run takes those that have not ended from one
        end to the next, so that no step of padding runs.
        """
        x, names = inputs[0], [s.name for s in self.neuron.states]
        order = ends.argsort(descending=True, stable=True)
        start = self._dispatch.start(x, given, self._state, params)
        states: dict[str, Any] = {
            n: v[order] if v.shape == x.shape[1:] else v for n, v in zip(names, start, strict=True)
        }
        inputs = tuple(one[:, order] for one in inputs)
        stops, runs = sorted(set(ends.tolist())), []
        ended: list[dict[str, Tensor]] = []
        for begin, stop in zip([0, *stops], stops, strict=False):
            live, later = int((ends > begin).sum()), int((ends > stop).sum())
            part = tuple(one[begin:stop, :live] for one in inputs)
            run = self._run(backend, part, states, params, True)
            runs.append(run)
            ended.append({n: v[later:] for n, v in run[1].items()})
            states = {n: v[:later] for n, v in run[1].items()}
        back = order.argsort()
        rest = len(x) - (stops[-1] if stops else 0)
        outputs = []
        for one in zip(*(outputs for outputs, *_ in runs), strict=True):
            rows = [_with_samples(o, x.shape[1]) for o in one]
            rows += [rows[0].new_zeros(rest, *x.shape[1:])] if rest else []
            outputs.append(torch.cat(rows)[:, back])
        final = {n: torch.cat([e[n] for e in reversed(ended)])[back] for n in names}
        counts = [sum(one) for one in zip(*(run[2] for run in runs), strict=True)]
        return tuple(outputs), final if returns_states else {}, counts, ()

    def explain(self, x_seq: Tensor, *more_inputs: Tensor) -> Explanation:
        """Return the backend, schedule and memory traffic of `forward`, without running it.

        Raises:
            ShapeError, ToolError: As for a call.
            UnsupportedError: The layer computes in integers.
        """
        inputs = self._inputs(x_seq, *more_inputs)
        if self.arithmetic is not None:
            problem = "explain describes floating-point kernels; this layer computes in integers"
            remedy = "Use a layer without arithmetic."
            raise UnsupportedError(self.neuron.name, problem, remedy=remedy)
        dispatch, x = self._dispatch, inputs[0]
        backend = dispatch.expected_on(x.device.type, x.dtype)
        if self._has_axes:
            self._require_axes(x.shape)
        return explain(dispatch.neuron, self.backend, backend, inputs, dispatch.refused)

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def extra_repr(self) -> str:
        """Describe the layer in `print(network)`."""
        neuron = self.neuron
        per = finest(p.per for p in neuron.params)
        axes = next((a for p, a in zip(neuron.params, self._axes, strict=True) if p.per == per), ())
        lazy = "lazy" if axes is None else None
        words = {
            "degree": degree_of(neuron),
            "per": per,
            "channels": (axes[0] if axes else lazy) if per == "channel" else None,
            "shape": (lazy or axes) if per == "neuron" else None,
            **reset_words(neuron),
            "backend": self.backend,
            "step_mode": self.step_mode,
            "carry_state": self.carry_state or None,
            "record": self._record or None,
        }
        given = [f"{word}={value!r}" for word, value in words.items() if value is not None]
        given += [] if self.arithmetic is None else [f"arithmetic={self.arithmetic}"]
        return ", ".join([neuron.name, *given])

    def _inputs(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the inputs of a call as sequences; T is 1 in single-step mode."""
        inputs = self._dispatch.inputs_of(widened(tensors), self.step_mode)
        if self._sizes is not None:
            self._sizes.require(self.neuron.name, inputs[0], self.step_mode)
        return tuple(x.unsqueeze(0) for x in inputs) if self.step_mode == "s" else inputs


def _with_samples(x: Tensor, count: int) -> Tensor:
    """Return (T, N, *) with zeros for further samples up to `count`."""
    missing = count - x.shape[1]
    if not missing:
        return x
    return torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], 1)
