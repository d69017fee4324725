"""Generated kernels under autograd: forward and backward of a sequence."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeAlias

import torch
from torch import Tensor

from lnm_codegen.backends.plan import Plan
from lnm_codegen.errors import UnsupportedError
from lnm_codegen.nn.arguments import require_plain_gradients
from lnm_codegen.nn.layout import Layout, rearranged
from lnm_codegen.nn.memory import empty_like

Arguments: TypeAlias = Sequence[Tensor | int | None]
"""Fields of a kernel in order: tensors, strides, and None for null."""

LayerResults: TypeAlias = tuple[
    tuple[Tensor, ...], dict[str, Tensor], Sequence[Any], Sequence[Tensor]
]
"""Results of a layer: outputs (T, N, *), final states (N, *) (empty if not requested), counts, and
the results `extra` of its kernels."""


class Kernels(ABC):
    """Forward and backward kernel of a model on one target.

    Both take `plan.SIZES`, then the fields of `plan.forward_fields` or `plan.backward_fields`,
    whose order `forward_arguments` and `backward_arguments` have. The names of the plan are copied
    here to save microseconds of a call.
    """

    where = "NeuronLayer"
    """Place of an error in a backward."""
    extra: tuple[str, ...] = ()
    """Names of the results of `run` that a plan does not have."""
    options = ""
    """What an operator takes after the tensors, in its schema."""

    def __init__(self, model: Plan, counts: tuple[str, ...]) -> None:
        self.inputs, self.outputs, self.params = model.inputs, model.outputs, model.params
        self.states = model.states
        own = len(self.inputs) + len(self.states)
        self.learns = (*[True] * own, *(p.learnable for p in self.params))
        self.grads = tuple(k for k, learns in enumerate(self.learns) if learns)
        self.no_states: list[Tensor | None] = [None] * len(self.states)
        self.counts = counts
        self.real: torch.dtype = getattr(torch, model.real)

    @abstractmethod
    def saved_size(self, time_steps: int, neurons: int) -> int:
        """Return the number of elements in the saved states."""

    @abstractmethod
    def forward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the forward kernel.

        The caller zeroes the count buffers in `arguments`; the kernel adds to them.
        """

    @abstractmethod
    def backward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the backward kernel."""

    def run(
        self,
        layout: Layout,
        tensors: Sequence[Tensor],
        returns_states: bool,
        saves_states: bool,
        into: Tensor | None = None,
    ) -> Results:
        """Run the forward on inputs (T, N, *), initial states and parameters.

        The first output is written to `into`, which may be the first input.
        """
        results = empty_results(self, layout, tensors[0], returns_states, saves_states, into)
        total = results.counts
        counts = () if total is None else [total[k : k + 1] for k in range(len(self.counts))]
        arguments = forward_arguments(
            self._shared(layout, tensors), results.outputs,
            results.finals or self.no_states, counts, results.saved,
        )  # fmt: skip
        self.forward(layout[:5], arguments)
        return results

    def run_backward(
        self,
        layout: Layout,
        tensors: Sequence[Tensor],
        saved: Tensor | None,
        grads: Sequence[Tensor | None],
        needed: Sequence[bool],
        into: Tensor | None = None,
        kept: Any = None,
    ) -> list[Tensor | None]:
        """Run the backward and return the gradients of the forward's tensors.

        Args:
            layout: That of the forward.
            tensors: Those of the forward, then its results `extra`.
            saved: The saved states.
            grads: Gradients of the outputs and, if the forward returned them, of the final states.
            needed: Whether the gradient of each tensor is needed.
            into: Memory for the gradient of the first input.
            kept: `Results.kept` of the forward, or None.
        """
        outputs = len(self.outputs)
        tensors = rearranged(layout, tensors, len(self.inputs), len(self.states))
        sequences: list[Any] = []
        for grad in grads[:outputs]:
            sequence = _zero_row(layout, tensors[0]) if grad is None else layout.sequence(grad)
            sequences += (sequence, time_stride(sequence, layout))
        finals = [None if g is None else layout.step(g) for g in grads[outputs:]]
        results = empty_gradients(self, layout, tensors, needed, into)
        arguments = backward_arguments(
            self._shared(layout, tensors), None if saved is None else layout.rows(saved),
            sequences, finals or self.no_states, [results[k] for k in self.grads],
        )  # fmt: skip
        self.backward(layout[:5], arguments)
        return results

    def empty_extra(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Allocate the results `extra` of a forward on these tensors."""
        return ()

    def _shared(self, layout: Layout, tensors: Sequence[Tensor]) -> list[Any]:
        """Return the first arguments of both kernels."""
        inputs, states = len(self.inputs), len(self.states)
        arguments: list[Any] = []
        for k, x in enumerate(tensors[:inputs]):
            arguments += (x, time_stride(x, layout))
            if k:
                arguments += layout.sharing(x)
        for value in tensors[inputs : inputs + states]:
            arguments += (value, int(value.numel() > 1))
        arguments += tensors[inputs + states :]
        return arguments


def forward_arguments(
    shared: Sequence[Any],
    outputs: Sequence[Any],
    finals: Sequence[Any],
    sums: Sequence[Any],
    saved: Any,
) -> list[Any]:
    """Return the arguments of a forward kernel in the order of `Plan.forward_fields`.

    `shared` are each input and its strides, each initial state and its stride, the parameters.
    """
    return [*shared, *outputs, *finals, *sums, saved]


def backward_arguments(
    shared: Sequence[Any],
    saved: Any,
    grads: Sequence[Any],
    finals: Sequence[Any],
    results: Sequence[Any],
) -> list[Any]:
    """Return the arguments of a backward kernel in the order of `Plan.backward_fields`.

    `grads` are the gradient of each output and its stride, `finals` those of the final states, and
    `results` those of the inputs, the initial states and the learnable parameters.
    """
    return [*shared, saved, *grads, *finals, *results]


def device_of(arguments: Arguments) -> torch.device:
    """Return the device of the first tensor."""
    return next(a.device for a in arguments if isinstance(a, Tensor))


def addresses(arguments: Arguments) -> list[int]:
    """Return arguments as 64-bit words: addresses, 0 for null, strides."""
    return [a if isinstance(a, int) else 0 if a is None else a.data_ptr() for a in arguments]


class FusedCall(NamedTuple):
    """Arguments of a forward other than tensors. `Fused` adds the kernel's counts to `counts`."""

    kernels: Kernels
    layout: Layout
    returns_states: bool
    saves_states: bool
    counts: list[float]


class Results(NamedTuple):
    """Results of the forward kernel; those that are not requested, or empty, are [] or None.

    The saved states are (rows, N, *) in the layout of the call.
    """

    outputs: list[Tensor]
    finals: list[Tensor]
    saved: Tensor | None
    counts: Tensor | None
    extra: tuple[Tensor, ...] = ()  # those of `Kernels.extra`
    kept: Any = None  # for the backward, if it is of the same call


def needs_backward(tensors: Sequence[Tensor]) -> bool:
    """Report whether a backward may follow."""
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor.requires_grad:
                return True
    return False


def save_call(ctx: Any, call: Any, *tensors: Tensor | None) -> None:
    """Save a call and tensors in the context of an `autograd.Function`."""
    ctx.call = call
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def saved_tensors(
    ctx: Any, grads: Sequence[Tensor | None], where: str = "NeuronLayer"
) -> tuple[Any, ...]:
    """Return the tensors that `save_call` saved, for the backward of the gradients `grads`.

    Raises:
        UnsupportedError: Double backward (create_graph=True) was requested, the kernels cannot
            read a gradient, or an earlier backward has freed what was saved.
    """
    if torch.is_grad_enabled():
        refuse_double_backward(where)
    require_plain_gradients(where, grads)
    try:
        found: tuple[Any, ...] = ctx.saved_tensors
        return found
    except RuntimeError as error:
        if "a second time" not in str(error):
            raise
        raise UnsupportedError(
            where,
            "a backward passes through the graph of a call a second time, and the first freed it",
            remedy="If the layer keeps its states, call reset() or detach() before the next call."
            " Otherwise set retain_graph=True in the first backward.",
        ) from None


def refuse_double_backward(where: str) -> NoReturn:
    """Raise UnsupportedError for the gradient of a gradient."""
    raise UnsupportedError(
        where,
        "double backward (create_graph=True) through the generated kernels is not supported",
        remedy="Use backend='torch' for higher derivatives.",
    )


def empty_results(
    kernels: Kernels,
    layout: Layout,
    x: Tensor,
    returns_states: bool,
    saves_states: bool,
    into: Tensor | None = None,
) -> Results:
    """Allocate the results of a forward on the first input `x`."""
    names = kernels.outputs if into is None else kernels.outputs[1:]
    device, real, count, saved = x.device, kernels.real, len(kernels.counts), None
    if into is None and len(names) == 1 and x.is_contiguous():
        outputs = [empty_like(x)]  # the usual call, faster than with strides
    else:
        outputs = [layout.empty_sequence(x) for _ in names]
    if saves_states:
        rows = kernels.saved_size(layout.time_steps, 1)
        saved = layout.empty_rows(x, rows, real) if rows * layout.neurons else None
    return Results(
        outputs if into is None else [into, *outputs],
        [layout.empty_step(real, device) for _ in kernels.states] if returns_states else [],
        saved,
        torch.zeros(count, dtype=torch.float64, device=device) if count else None,
    )


def run_in_place(call: FusedCall, tensors: Sequence[Tensor]) -> LayerResults:
    """Run the forward kernel in place, without saving states for a backward."""
    x = tensors[0]
    written = call.kernels.run(call.layout, tensors, call.returns_states, False, into=x)
    torch.autograd.graph.increment_version(x)
    counts = [] if written.counts is None else written.counts.tolist()
    return (x,), dict(zip(call.kernels.states, written.finals, strict=False)), counts, ()


def empty_gradients(
    kernels: Kernels,
    layout: Layout,
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    into: Tensor | None = None,
) -> list[Tensor | None]:
    """Allocate the gradients of `tensors`.

    An entry is None if its gradient is not needed or its parameter is not learnable.
    """
    inputs, own = len(kernels.inputs), len(kernels.inputs) + len(kernels.states)
    results: list[Tensor | None] = [None] * len(tensors)
    for k, tensor in enumerate(tensors):
        if not (needed[k] and kernels.learns[k]):
            continue
        if k >= own:
            results[k] = torch.empty_like(tensor, memory_format=torch.contiguous_format)
        elif k >= inputs:
            results[k] = layout.empty_step(tensor.dtype, tensor.device)
        elif k == 0 and into is not None:
            results[k] = into
        elif k == 0 and tensor.is_contiguous():
            results[k] = empty_like(tensor)  # as in `empty_results`
        else:
            results[k] = layout.empty_sequence(tensor)
    return results


def time_stride(x: Tensor, layout: Layout) -> int:
    """Return the stride of time in a sequence, in elements."""
    return x.stride(0) if layout.time_steps > 1 else layout.neurons


def _zero_row(layout: Layout, like: Tensor) -> Tensor:
    """Return a gradient of zeros: one step of memory, with time stride 0."""
    step = layout.empty_step(like.dtype, like.device).zero_()
    return step.expand(max(layout.time_steps, 1), *step.shape)


class Fused(torch.autograd.Function):
    """Forward and backward of a sequence, one call of `Kernels` each.

    Takes a `FusedCall`, then inputs (T, N, *), initial states (N, *) or (1,) and parameters, all
    in the layout of the call. Returns the outputs (T, N, *), if the call returns states the final
    states (N, *), and the results `extra` of the kernels, without a gradient.
    """

    @staticmethod
    def forward(ctx: Any, call: FusedCall, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the forward kernel."""
        kernels, layout, returns_states, saves_states, totals = call
        results = kernels.run(layout, tensors, returns_states, saves_states)
        outputs, finals, saved, counts, extra, kept = results
        if counts is not None:
            totals.extend(counts.tolist())
        if saves_states:
            save_call(ctx, (kernels, layout, kept), *tensors, *extra, saved)
        if extra:
            ctx.mark_non_differentiable(*extra)
        return (*outputs, *finals, *extra)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel."""
        kernels, layout, kept = ctx.call
        *tensors, saved = saved_tensors(ctx, grads, kernels.where)
        if kernels.extra:
            grads = grads[: -len(kernels.extra)]
        needed = ctx.needs_input_grad[1:]
        return None, *kernels.run_backward(layout, tensors, saved, grads, needed, None, kept)


run_fused: Callable[..., tuple[Tensor, ...]] = super(torch.autograd.Function, Fused).apply
"""`Fused.apply` without its support for torch.func, whose tensors do not reach it. It is faster."""
