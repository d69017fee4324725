"""Neurons whose output of earlier time steps is added to an input: their runs over time.

    x[t] = c[t] + U s[t - delay]        s[t] = neuron(x[t])

All time steps are one call of C++ in each direction, or on a GPU one launch of Triton. Where there
is no such kernel, a loop calls the step of the neuron's backend.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.nn.functional import linear

from lnm_codegen.backends.recurrent import WIDEST, RecurrentPlan
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import REAL, TYPES, parameters_as, require_plain_memory
from lnm_codegen.nn.bits import mark, packable
from lnm_codegen.nn.dispatch import READER, Dispatch
from lnm_codegen.nn.function import (
    LayerResults,
    needs_backward,
    refuse_double_backward,
    save_call,
    saved_tensors,
)
from lnm_codegen.nn.load.cache import anywhere
from lnm_codegen.nn.load.recurrent import RecurrentCKernels, RecurrentKernels, load_recurrent
from lnm_codegen.nn.memory import empty
from lnm_codegen.nn.operators import NAMESPACE, define, nothing, operator_name

if TYPE_CHECKING:
    from lnm_codegen.nn.layer import NeuronLayer


@dataclass(frozen=True)
class Feedback:
    """How an output of a neuron feeds one of its inputs.

    Attributes:
        dispatch: Runner of the neuron.
        fed: Output that U multiplies.
        into: Input to which the product is added.
        delay: Time steps from an output to its effect, >= 1.
        carry_limit: Bound of the gradients that a step carries back, in units of the largest
            gradient of an output or a final state; None for no bound.
    """

    dispatch: Dispatch
    fed: str
    into: str
    delay: int = 1
    carry_limit: float | None = None

    @property
    def place(self) -> int:
        """Index of `into` among the inputs."""
        return [s.name for s in self.dispatch.neuron.inputs].index(self.into)

    @property
    def fed_place(self) -> int:
        """Index of `fed` among the outputs."""
        return [name for name, _ in self.dispatch.neuron.output].index(self.fed)

    def run(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        start: Sequence[Tensor],
        params: Sequence[Tensor],
        u: Tensor,
        before: Tensor | None = None,
        ends: Tensor | None = None,
        taps: Tensor | None = None,
        *,
        is_own: bool = False,
    ) -> LayerResults:
        """Return the results of a call, with final states.

        Args:
            backend: The selected one.
            inputs: (T, N, H) each; that of `into` is c.
            start: Initial states, (N, H) or (1,).
            params: Parameters of the neuron, in order.
            u: U, (H, H), [to][from]; (H,) where it is diagonal; blocks (k, H/k, H/k).
            before: Outputs before the start, (delay, N, H), oldest first; None for 0.
            ends: Time step from which on a sample is padding, (N,); None for T.
            taps: Factors of s[t-1], s[t-2], ... of each neuron, (delay, H), in place of s[t-delay].
            is_own: The memory of c may be overwritten.
        """
        c = inputs[self.place]
        reason = self.loop_reason(backend, c, u)
        if reason or backend != "triton":
            u = without_blocks(u)
        if not reason:
            return self._run_fused(backend, inputs, start, params, u, before, ends, taps, is_own)
        return self._run_steps(backend, inputs, start, params, u, before, ends, taps)

    def loop_reason(self, backend: str, c: Tensor, u: Tensor) -> str:
        """Return why a call on c is a loop over time, or "" where it is one kernel."""
        if self.dispatch.arithmetic is not None:
            return "integers"
        if backend not in ("c", "triton"):
            return f"backend {backend!r} has no kernel for it"
        if backend == "triton" and u.dim() > 1 and u.shape[-1] > WIDEST:
            return f"U connects {u.shape[-1]} neurons, and the kernel at most {WIDEST}"
        if backend == "c" and c.dtype is not REAL[c.dtype]:
            return f"{TYPES[c.dtype]} has no kernel for it"
        return ""

    def after(self, before: Tensor | None, s: Tensor, ends: Tensor | None) -> Tensor:
        """Return the last `delay` outputs of each sample, (delay, N, H), oldest first."""
        if before is None:
            before = s.new_zeros(self.delay, *s.shape[1:])
        whole = torch.cat([before, s])
        if ends is None:
            return whole[len(whole) - self.delay :].clone()
        at = ends + torch.arange(self.delay, device=s.device)[:, None]
        return whole.gather(0, at[:, :, None].expand(-1, -1, s.shape[2]))

    def _run_steps(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        start: Sequence[Tensor],
        params: Sequence[Tensor],
        u: Tensor,
        before: Tensor | None,
        ends: Tensor | None,
        taps: Tensor | None,
    ) -> LayerResults:
        """Run the loop over time through the neuron's backend."""
        place, dispatch = self.place, self.dispatch
        c, names = inputs[place], [s.name for s in dispatch.neuron.states]
        bound = None if self.carry_limit is None else GradientBound(self.carry_limit)
        fed = [] if before is None else list(before.unbind(0))
        first = 0 if before is None else self.delay  # place in `fed` of the output of step 0
        states = [v.expand(c.shape[1:]) if ends is not None else v for v in start]
        results: list[tuple[Tensor, ...]] = []
        totals: list[Any] = []
        for t in range(len(c)):
            step = [x[t] for x in inputs]
            s = self._fed_at(fed, first + t, taps)
            if s is not None:
                with torch.autocast(c.device.type, enabled=False):
                    s = s.to(u.dtype)
                    product = s * u if u.dim() == 1 else linear(s, u)
                    step[place] = (step[place].to(u.dtype) + product).to(c.dtype)
            if bound is not None:
                step[place] = bound.hooked(step[place])
            carried = [bound.hooked(v) for v in states] if bound is not None and t else states
            rows = None if ends is None else _live(ends, t)
            if rows is not None:
                step, carried = [x[rows] for x in step], [v[rows] for v in carried]
            run = dispatch.run(backend, tuple(x[None] for x in step), carried, params, True)
            outputs, final, counts, _ = run
            outputs = tuple(o[0] for o in outputs)
            later = [final[n] for n in names]
            if rows is not None:
                outputs = tuple(torch.zeros_like(c[t]).index_copy(0, rows, o) for o in outputs)
                pairs = zip(states, later, strict=True)
                later = [old.index_copy(0, rows, new) for old, new in pairs]
            states = later
            results.append(outputs)
            totals.append(counts)
            fed.append(outputs[self.fed_place])
        count = len(dispatch.neuron.output)
        if results:
            found = tuple(map(torch.stack, zip(*results, strict=True)))
        else:
            found = tuple(torch.empty_like(c) for _ in range(count))
            states = [v.expand(c.shape[1:]).clone() for v in states]
        if bound is not None:
            for value in (*found, *states):
                if value.requires_grad:
                    value.register_hook(bound.measure)  # type: ignore[no-untyped-call]
        sums = [sum(one) for one in zip(*totals, strict=True)]
        return found, dict(zip(names, states, strict=True)), sums, ()

    def _fed_at(self, fed: list[Tensor], at: int, taps: Tensor | None) -> Tensor | None:
        """Return what U multiplies at a step, whose own output is `fed[at]`; None for 0."""
        if taps is None:
            return fed[at - self.delay] if at >= self.delay else None
        found = None
        for i, tap in enumerate(taps[:at]):
            part = tap * fed[at - 1 - i]
            found = part if found is None else found + part
        return found

    def _run_fused(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        start: Sequence[Tensor],
        params: Sequence[Tensor],
        u: Tensor,
        before: Tensor | None,
        ends: Tensor | None,
        taps: Tensor | None,
        is_own: bool,
    ) -> LayerResults:
        """Run the kernels over time."""
        c, neuron = inputs[self.place], self.dispatch.neuron
        others = (*inputs[: self.place], *inputs[self.place + 1 :])
        read = [p for p, q in zip(params, neuron.params, strict=True) if q in neuron.step_params]
        tensors = (c, u, *others, *start, *read)
        count, states = len(neuron.output), [s.name for s in neuron.states]
        saves = needs_backward([t for t in (*tensors, before, taps) if t is not None])
        if torch.compiler.is_compiling():
            name = self.dispatch.constant(operator_of, backend, self.fed, self.into, c.dtype)
            operator = getattr(torch.ops.lnm, name)
            found = operator(*tensors, before, taps, ends, self.delay, self.carry_limit, saves)
            sums = found[-1]
            final = dict(zip(states, found[count:], strict=False))
            return found[:count], final, sums.unbind() if sums.shape[0] else (), ()
        require_plain_memory(self.dispatch.name, READER[backend], tensors)
        is_auto = self.dispatch.backend == "auto"
        kernels = loaded(neuron, backend, self.fed, self.into, c.dtype, is_auto)
        call = FeedbackCall(kernels, self.delay, self.carry_limit, ends)
        counts: list[Any] = []
        found = FusedFeedback.apply(call, is_own, saves, counts, before, taps, *tensors)  # type: ignore[no-untyped-call]
        return found[:count], dict(zip(states, found[count:], strict=True)), counts, ()


def _threads(numbers: int) -> int:
    """Return the threads of a kernel on so many numbers: a team for few of them takes longer."""
    return max(1, min(torch.get_num_threads(), numbers >> 14))


def without_blocks(u: Tensor) -> Tensor:
    """Return U as one matrix, if it is given by its blocks (k, H/k, H/k)."""
    return torch.block_diag(*u) if u.dim() == 3 else u  # type: ignore[no-untyped-call]


def run_layer(
    layer: NeuronLayer,
    c: Tensor,
    u: Tensor,
    *,
    before: Tensor | None = None,
    ends: Tensor | None = None,
    carry_limit: float | None = None,
) -> LayerResults:
    """Return the results of neurons that receive c[t] + U s[t-1], s their first output.

    They begin with the states that the layer keeps. `before` is s before the start, (N, H).
    """
    feedback = _own_feedback(layer, carry_limit)
    params = parameters_as(layer.neuron, layer._shapes, layer._values(), c)
    start = layer._dispatch.start(c, layer.state, layer.state, params)
    backend, u = layer._dispatch.backend_of(c), u.to(REAL[c.dtype])
    before = None if before is None else before[None]
    return feedback.run(backend, (c,), start, params, u, before, ends)


def has_kernel(layer: NeuronLayer, c: Tensor, u: Tensor) -> bool:
    """Report whether `run_layer` on c and U is one kernel in each direction."""
    return not _own_feedback(layer).loop_reason(layer._dispatch.backend_of(c), c, u)


def _own_feedback(layer: NeuronLayer, carry_limit: float | None = None) -> Feedback:
    (fed, _), *_ = layer.neuron.output
    return Feedback(layer._dispatch, fed, layer.neuron.inputs[0].name, 1, carry_limit)


def _live(ends: Tensor, t: int) -> Tensor:
    """Return the samples that have a step t. Padding does not run: it could diverge."""
    return (t < ends).nonzero().squeeze(1)


def model_of(neuron: Neuron, fed: str, into: str, dtype: torch.dtype) -> RecurrentPlan:
    """Return what the kernels are emitted from, for a type of sequences."""
    return RecurrentPlan(plan_of(neuron, dtype=TYPES[dtype]), fed, into, fed in packable(neuron))


def loaded(
    neuron: Neuron, backend: str, fed: str, into: str, dtype: torch.dtype, is_auto: bool
) -> RecurrentKernels:
    """Return the kernels of a neuron with feedback; see `kernels_of`.

    A call looks them up by the neuron's identity: the hash of its expressions takes 0.3 ms.
    """
    key = (id(neuron), backend, fed, into, dtype, is_auto)
    if key not in _LOADED:
        _LOADED[key] = neuron, kernels_of(backend, model_of(neuron, fed, into, dtype), is_auto)
    return _LOADED[key][1]


_LOADED: dict[tuple[int, str, str, str, torch.dtype, bool], tuple[Neuron, RecurrentKernels]] = {}
"""Kernels, beside the neuron, whose identity stays its own as long as it is here."""


def kernels_of(backend: str, model: RecurrentPlan, is_auto: bool) -> RecurrentKernels:
    """Return the kernels of a model; the first call compiles them.

    With `is_auto`, they are compiled in a private folder where the cache folder cannot be used.

    Raises:
        ToolError: They cannot be compiled, written or loaded.
    """
    given = (backend, model)
    return anywhere(load_recurrent, *given) if is_auto else load_recurrent(*given)


SPARSE_SIZE, SPARSE = 64, 0.15
"""Neurons from which, and share of nonzero outputs up to which, the gradient of U is a sum over
spikes: with more of them, or for smaller products, one product of matrices takes less time."""


class GradientBound:
    """Clamp of gradients to a multiple of the largest gradient of an output or a final state."""

    def __init__(self, carry_limit: float) -> None:
        self._carry_limit, self._limit = carry_limit, 0.0

    def measure(self, grad: Tensor) -> None:
        """Raise the bound to that of a gradient; each of these exists before any other."""
        if grad.numel():
            self._limit = max(self._limit, self._carry_limit * float(grad.abs().max()))

    def _clamp(self, grad: Tensor) -> Tensor:
        return grad.clamp(-self._limit, self._limit)

    def hooked(self, value: Tensor) -> Tensor:
        """Return a value whose gradient is clamped."""
        if value.requires_grad:
            value = value.view_as(value)
            value.register_hook(self._clamp)  # type: ignore[no-untyped-call]
        return value


class Forward(NamedTuple):
    """Results of a forward: outputs, final states, x, saved states, counts."""

    outputs: list[Tensor]
    finals: list[Tensor]
    x: Tensor
    saved: Tensor | None
    counts: Tensor


class FeedbackCall(NamedTuple):
    """Arguments of a forward and of its backward other than tensors with gradients.

    `tensors` of its methods are c, U, the further inputs, the initial states and the parameters.
    In a backward x has the place of c.
    """

    kernels: RecurrentKernels
    delay: int
    carry_limit: float | None
    ends: Tensor | None = None

    def empty(self, c: Tensor, saves: bool, into: Tensor | None = None) -> Forward:
        """Return uninitialised results; x is `into`."""
        model, (steps, batch, size) = self.kernels.model, c.shape
        plan, strides = model.plan, (batch * size, size, 1)
        real = REAL[c.dtype]
        rows = model.saved_rows(steps) if saves else 0
        has_rows = not isinstance(rows, int) or rows > 0  # T of an export may be any number
        return Forward(
            [empty(c, c.shape, strides) for _ in plan.outputs],
            [c.new_empty(batch, size, dtype=real) for _ in plan.states],
            empty(c, c.shape, strides) if into is None else into,
            empty(c, (rows * batch * size,), (1,), real) if has_rows else None,
            torch.zeros(len(plan.counts), dtype=torch.float64, device=c.device),
        )

    def forward(
        self,
        tensors: Sequence[Tensor],
        before: Tensor | None,
        taps: Tensor | None,
        saves: bool,
        is_own: bool = False,
    ) -> Forward:
        """Run the forward kernel. With `is_own`, x may take the memory of c."""
        model, (c, u, *rest) = self.kernels.model, tensors
        plan, (steps, batch, size) = model.plan, c.shape
        if c.stride()[1:] != (size, 1):
            c = c.contiguous()
        owns = is_own and (steps < 2 or c.stride(0) == batch * size)
        found = self.empty(c, saves, c if owns else None)
        self.kernels.forward(
            self._shared(found.x, u, rest, before, taps)
            | {f"{model.into}_seq": c, f"{model.into}_stride": c.stride(0)}
            | {f"{o}_seq": v for o, v in zip(plan.outputs, found.outputs, strict=True)}
            | {f"{s}_final": v for s, v in zip(plan.states, found.finals, strict=True)}
            | {f"{q}_sum": found.counts[k : k + 1] for k, q in enumerate(plan.counts)}
            | {"_saved": found.saved}
        )
        return found

    def backward(
        self,
        tensors: Sequence[Tensor],
        before: Tensor | None,
        taps: Tensor | None,
        fed: Tensor,
        saved: Tensor | None,
        grads: Sequence[Tensor | None],
        needed: Sequence[bool],
    ) -> list[Tensor | None]:
        """Run the backward; return the gradients of `before`, `taps` and the forward's tensors.

        Args:
            tensors: x, and those of the forward but the first.
            before: That of the forward.
            taps: Those of the forward.
            fed: The output that U multiplies.
            saved: The saved states.
            grads: Gradients of the outputs and of the final states.
            needed: Whether each gradient is needed.
        """
        model, (x, u, *rest) = self.kernels.model, tensors
        plan, (_, batch, size) = model.plan, x.shape
        x, fed = x.contiguous(), fed.contiguous()  # hooks of saved tensors may change strides
        count, others, states = len(plan.outputs), len(model.others), len(plan.states)
        real = REAL[x.dtype]
        words = self._shared(x, u, rest, before, taps) | {"_limit": self._limit(grads)}
        words["_saved"] = None if saved is None else saved.contiguous()
        for name, grad in zip(plan.outputs, grads[:count], strict=True):
            if grad is not None:
                grad = grad if grad.stride()[1:] == (size, 1) else grad.contiguous()
                words |= {f"grad_{name}_seq": grad, f"grad_{name}_stride": grad.stride(0)}
        for name, grad in zip(plan.states, grads[count:], strict=True):
            words[f"grad_{name}_final"] = None if grad is None else grad.contiguous()
        needs_before, needs_taps, needs_c, needs_u, *needs = needed
        e = words[f"grad_{model.into}_seq"] = empty(x, x.shape, (batch * size, size, 1))
        results: list[Tensor | None] = [None] * len(rest)
        names = [f"grad_{z}_seq" for z in model.others] + [f"grad_{s}_init" for s in plan.states]
        names += [f"grad_{p.name}" if p.learnable else "" for p in plan.params]
        for k, (name, value) in enumerate(zip(names, rest, strict=True)):
            if name and needs[k]:
                if k < others:
                    results[k] = torch.empty_like(e)
                elif k < others + states:
                    results[k] = e.new_empty(batch, size, dtype=real)
                else:
                    kept = torch.contiguous_format
                    results[k] = torch.empty_like(value, memory_format=kept)
                words[name] = results[k]
        grad_before = e.new_empty(self.delay, batch, size) if needs_before else None
        words["_grad_feedback"] = grad_before
        grad_taps, delay, s = None, self.delay, fed
        if taps is not None:
            words["_s"] = s
            words |= {n: torch.empty_like(e, dtype=real) for n in ("_fed", "_grad_fed")}
        self.kernels.backward(words)
        if taps is not None:
            grad_taps = _grad_of_taps(words["_grad_fed"], s, before, delay) if needs_taps else None
            before, fed, delay = None, words["_fed"], 0
        grad_u = self._grad_of_u(u, e, fed, before, delay) if needs_u else None
        return [grad_before, grad_taps, e if needs_c else None, grad_u, *results]

    def _grad_of_u(
        self, u: Tensor, e: Tensor, s: Tensor, before: Tensor | None, delay: int
    ) -> Tensor:
        """Return the gradient of U: the sum over steps of e[t] s[t - delay]^T."""
        pairs = [(e[delay:], s[: max(len(s) - delay, 0)])]
        if before is not None:
            pairs.append((e[:delay], before[: len(e)]))
        pairs = [(a.flatten(0, 1).to(u.dtype), b.flatten(0, 1).to(u.dtype)) for a, b in pairs]
        if u.dim() == 1:
            return sum((a * b).sum(0) for a, b in pairs)  # type: ignore[return-value]
        if u.dim() == 3:
            parts = [[x.view(-1, *u.shape[:2]).transpose(0, 1) for x in two] for two in pairs]
            return sum((a.mT @ b for a, b in parts), torch.zeros_like(u))
        kernels = self.kernels
        is_sparse = len(u) >= SPARSE_SIZE and isinstance(kernels, RecurrentCKernels)
        if not is_sparse or _density(s) > SPARSE:
            return sum((a.t() @ b for a, b in pairs[1:]), pairs[0][0].t() @ pairs[0][1])
        assert isinstance(kernels, RecurrentCKernels)
        found, threads = torch.zeros_like(u), _threads(s.numel())
        for a, b in pairs:
            words = {"_rows": len(a), "sample": len(u), "_threads": threads}
            kernels.outer(words | {"_e": a, "_s": b.contiguous(), "_outer": found})
        return found.t()

    def _limit(self, grads: Sequence[Tensor | None]) -> Tensor | None:
        if self.carry_limit is None:
            return None
        largest = [g.abs().max().double() for g in grads if g is not None and g.numel()]
        return self.carry_limit * torch.stack(largest).amax(0, keepdim=True) if largest else None

    def _shared(
        self,
        x: Tensor,
        u: Tensor,
        rest: Sequence[Tensor],
        before: Tensor | None,
        taps: Tensor | None,
    ) -> dict[str, Any]:
        """Return the words of both kernels; `rest` are the tensors after U."""
        model, (steps, batch, size) = self.kernels.model, x.shape
        plan, others = model.plan, len(model.others)
        words: dict[str, Any] = {
            "time_steps": steps, "_samples": batch, "sample": size, "channels": size, "inner": 1,
            "_delay": self.delay, "_threads": _threads(x.numel()),
            "_diagonal": int(u.dim() == 1), "_u": u.contiguous(), "_x": x,
            "_feedback": None if before is None else before.contiguous(),
            "_taps": None if taps is None else taps.contiguous(),
            "_lengths": None if self.ends is None else self.ends.to(torch.int32).contiguous(),
        }  # fmt: skip
        for z, value in zip(model.others, rest, strict=False):
            words |= {f"{z}_seq": value, f"{z}_stride": value.stride(0)}
            words |= {f"_{z}_sample": value.stride(1), f"_{z}_neuron": value.stride(2)}
        for s, value in zip(plan.states, rest[others:], strict=False):
            words |= {f"{s}_init": value.contiguous(), f"{s}_init_stride": int(value.numel() > 1)}
        values = rest[others + len(plan.states) :]
        return words | {p.name: v.contiguous() for p, v in zip(plan.params, values, strict=True)}


class FusedFeedback(torch.autograd.Function):
    """Forward and backward of all time steps, one call of the kernels each.

    Takes a `FeedbackCall`, whether c is the call's own, whether a backward follows, a list for the
    counts, `before` and `taps` or None, then the tensors of `FeedbackCall`. Returns outputs and
    final states.
    """

    @staticmethod
    def forward(
        ctx: Any,
        call: FeedbackCall,
        is_own: bool,
        saves: bool,
        counts: list[Any],
        before: Tensor | None,
        taps: Tensor | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run the forward kernel."""
        outputs, finals, x, saved, sums = call.forward(tensors, before, taps, saves, is_own)
        counts.extend(sums.tolist() if sums.is_cpu else sums)
        if saves:
            model = call.kernels.model
            fed = outputs[model.plan.outputs.index(model.fed)]
            if model.is_spike:
                mark(fed)
            save_call(ctx, call, before, taps, fed, saved, x, *tensors[1:])
        return (*outputs, *finals)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel; the gradient of U is one product after it."""
        before, taps, fed, saved, *tensors = saved_tensors(ctx, grads, "RecurrentLayer")
        needed = ctx.needs_input_grad[4:]
        found = ctx.call.backward(tensors, before, taps, fed, saved, grads, needed)
        return (None, None, None, None, *found)


class FeedbackOperator:
    """The kernels of a recurrent layer as `torch.library` operators, for `torch.compile`.

        lnm::<name>(Tensor c, Tensor u, ..., Tensor? before, Tensor? taps, Tensor? ends,
                    int delay, float? carry_limit, bool saves)
            -> (outputs, final states, Tensor x, Tensor saved, Tensor counts)

    Results that are not requested have no elements.
    """

    def __init__(
        self, name: str, model: RecurrentPlan, load: Callable[[], RecurrentKernels]
    ) -> None:
        plan = self._plan = model.plan
        self.name, self._model, self._load = name, model, load
        self._tensors = 2 + len(model.others) + len(plan.states) + len(plan.params)
        self._results = len(plan.outputs) + len(plan.states)
        self._library = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
        taken = "".join(f"Tensor t{k}, " for k in range(self._tensors))
        call = "Tensor? before, Tensor? taps, Tensor? ends, int delay, float? carry_limit"
        given = ", ".join(["Tensor"] * (self._results + 3))
        schema = f"({taken}{call}, bool saves) -> ({given})"
        define(self._library, name, schema, self._run, self._fake)
        grads = "".join(f", Tensor? g{k}" for k in range(self._results))
        given = ", ".join(["Tensor"] * (self._tensors + 2))
        schema = f"({taken}{call}, Tensor fed, Tensor saved{grads}, bool[] needed) -> ({given})"
        self._adjoint = define(
            self._library, f"{name}_backward", schema, self._run_adjoint, self._fake_adjoint
        )
        torch.library.register_autograd(
            f"{NAMESPACE}::{name}", self._gradients, setup_context=self._keep, lib=self._library
        )

        def refuse(*_: Any) -> NoReturn:
            refuse_double_backward("RecurrentLayer")

        adjoint = f"{NAMESPACE}::{name}_backward"
        torch.library.register_autograd(adjoint, refuse, lib=self._library)

    def _call(self, arguments: Sequence[Any]) -> tuple[FeedbackCall, Any, Any]:
        before, taps, ends, delay, carry_limit = arguments[self._tensors : self._tensors + 5]
        return FeedbackCall(self._load(), delay, carry_limit, ends), before, taps

    def _run(self, *arguments: Any) -> tuple[Tensor, ...]:
        call, before, taps = self._call(arguments)
        tensors = [t.contiguous() if k else t for k, t in enumerate(arguments[: self._tensors])]
        return self._flat(call.forward(tensors, before, taps, arguments[-1]))

    def _fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        call, *_ = self._call(arguments)
        return self._flat(call.empty(arguments[0], arguments[-1]))

    def _flat(self, found: Forward) -> tuple[Tensor, ...]:
        saved = nothing(found.x) if found.saved is None else found.saved
        return (*found.outputs, *found.finals, found.x, saved, found.counts)

    def _run_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        call, before, taps = self._call(arguments)
        fed, saved, *grads, needed = arguments[self._tensors + 5 :]
        tensors, saved = arguments[: self._tensors], saved if saved.numel() else None
        found = call.backward(tensors, before, taps, fed, saved, grads, needed)
        return tuple(nothing(tensors[0]) if g is None else g for g in found)

    def _fake_adjoint(self, *arguments: Any) -> tuple[Tensor, ...]:
        x, u, *rest = arguments[: self._tensors]
        before, taps = arguments[self._tensors : self._tensors + 2]
        others, needed = len(self._model.others), arguments[-1]
        learns = [p.learnable for p in self._plan.params]
        learns = [True] * (4 + others + len(self._plan.states)) + learns
        like: list[Any] = [x if v is None else v for v in (before, taps)] + [x, u]
        like += [x] * others
        like += [x.new_empty(x.shape[1:], dtype=REAL[x.dtype])] * len(self._plan.states)
        like += rest[others + len(self._plan.states) :]
        return tuple(
            torch.empty_like(value, memory_format=torch.contiguous_format)
            if needs and own
            else nothing(x)
            for value, needs, own in zip(like, needed, learns, strict=True)
        )

    def _keep(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        before, taps, ends, *options, _ = inputs[self._tensors :]
        fed = output[self._plan.outputs.index(self._model.fed)]
        x, saved, _ = output[self._results :]
        save_call(ctx, options, x, *inputs[1 : self._tensors], before, taps, ends, fed, saved)

    def _gradients(self, ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, before, taps, ends, fed, saved = ctx.saved_tensors
        end = self._tensors
        needed = [*ctx.needs_input_grad[end : end + 2], *ctx.needs_input_grad[:end]]
        given = (*tensors, before, taps, ends, *ctx.call, fed, saved)
        found = self._adjoint(*given, *grads[: self._results], needed)
        own = [g if need else None for g, need in zip(found, needed, strict=True)]
        return (*own[2:], *own[:2], None, None, None, None)


_DEFINED: dict[str, FeedbackOperator] = {}
_LOCK = threading.Lock()


def operator_of(neuron: Neuron, backend: str, fed: str, into: str, dtype: torch.dtype) -> str:
    """Return the name of the operator of a neuron with feedback; equal ones share it."""
    model = model_of(neuron, fed, into, dtype)
    plan, load = model.plan, partial(kernels_of, backend, model, True)
    name = f"{operator_name(plan, backend)}_{plan.dtype}_{model.fed}_{model.into}_recurrent"
    with _LOCK:
        if name not in _DEFINED:
            _DEFINED[name] = FeedbackOperator(name, model, load)
    return name


def _grad_of_taps(r: Tensor, s: Tensor, before: Tensor | None, delay: int) -> Tensor:
    """Return the gradient of taps, (delay, H), from that of what U multiplies."""
    steps = len(r)
    if before is None:
        before = s.new_zeros(delay, *s.shape[1:])
    whole = torch.cat([before, s])
    rows = [(r * whole[delay - 1 - i : delay - 1 - i + steps]).sum((0, 1)) for i in range(delay)]
    return torch.stack(rows)


def _density(s: Tensor) -> float:
    """Return the share of numbers other than 0, of some steps."""
    some = s[:: max(len(s) // 16, 1)]
    return float(some.count_nonzero()) / max(some.numel(), 1)
