"""`RecurrentLayer`: neurons whose outputs of earlier steps are an input, fused over time.

    c[t] = W in[t] + b        x[t] = c[t] + U s[t - delay]        s[t] = neuron(x[t])

On a CPU, all time steps are one call of C++ in each direction. Elsewhere a loop calls the step of
the neuron's backend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lnm_codegen.backends.c.recurrent import Recurrent
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import (
    REAL,
    TYPES,
    default_dtype,
    is_autocast,
    parameters_as,
    recorded,
    require_inputs,
    require_plain_memory,
)
from lnm_codegen.nn.call import States, typed_call
from lnm_codegen.nn.dispatch import READER
from lnm_codegen.nn.function import LayerResults, needs_backward, save_call, saved_tensors
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.load.cache import anywhere
from lnm_codegen.nn.load.recurrent import RecurrentKernels, load_recurrent
from lnm_codegen.nn.memory import empty
from lnm_codegen.validation import (
    require_bool,
    require_integer,
    require_known,
    require_number,
    wrong,
)

_WHERE = "RecurrentLayer"
_OWN = {"weight", "bias", "recurrent", "mask", "feedback"}
"""Names of the layer's own parameters and of its own state."""

Feedback: TypeAlias = Literal["full", "diagonal"]


class RecurrentLayer(NeuronLayer):
    """A layer of neurons that receive their own outputs of earlier time steps.

        c[t] = W in[t] + b        x[t] = c[t] + U s[t - delay]        s[t] = neuron(x[t])

    s before the start is 0, or the given state. On a CPU, a call is one fused kernel in each
    direction, for float32 and float64. Elsewhere it is a loop over time.

    Args:
        neuron: The definition.
        size: H, the number of neurons.
        inputs: Size of W's input; "lazy": the first call shows it; None: there is no W, and the
            input of a call is c itself.
        recurrent: Form of U: "full", (size, size) as the weight of `nn.Linear`, orthogonal;
            "diagonal", (size,), uniform in +-`recurrent_gain`; or a boolean mask (size, size), 0
            where it is False.
        blocks: k: U has k blocks on its diagonal, (k, size/k, size/k), each orthogonal.
        bias: Add b; by default where there is a W.
        recurrent_gain: Factor of the initial U.
        autapses: Whether a neuron receives its own output. False masks the diagonal of U.
        delay: Time steps from an output to its effect, >= 1.
        carry_limit: Bound of the gradients that are carried back in time, as a multiple of the
            largest gradient of an output or a final state of the call; None for no bound.
        feedback: Output that U reads; by default the first spike.
        into: Input to which the product is added; by default the first.
        options: Arguments of `NeuronLayer`, except for `channels`, `shape`, `arithmetic` and
            `inplace`.

    Attributes:
        weight: W, (size, inputs), or None.
        bias: b, (size,), or None.
        recurrent: U.
        state: As in `NeuronLayer`; "feedback" has the last outputs, (delay, N, size), oldest first.

    Shape:
        in (T, N, inputs) -> (T, N, size). In single-step mode T is absent.

    Raises:
        ModelError: An argument is outside these ranges.
        ShapeError, ToolError, UnsupportedError: As for `NeuronLayer`.

    Example:
        >>> import torch, lnm_codegen as lnm
        >>> layer = lnm.nn.RecurrentLayer(lnm.get("lif"), 3, inputs=5, backend="torch")
        >>> layer(torch.rand(4, 2, 5)).shape
        torch.Size([4, 2, 3])
    """

    _own_states = ("feedback",)
    weight: Tensor | None
    bias: Tensor | None
    recurrent: Tensor
    mask: Tensor | None

    def __init__(
        self,
        neuron: Neuron,
        size: int,
        inputs: int | Literal["lazy"] | None = None,
        *,
        recurrent: Feedback | Tensor = "full",
        blocks: int | None = None,
        bias: bool | None = None,
        recurrent_gain: float = 1.0,
        autapses: bool = True,
        delay: int = 1,
        carry_limit: float | None = None,
        feedback: str | None = None,
        into: str | None = None,
        **options: Any,
    ) -> None:
        self.size = require_integer(_WHERE, "size", size)
        if inputs != "lazy" and inputs is not None:
            require_integer(_WHERE, "inputs", inputs)
        self.inputs = inputs
        self.delay = require_integer(_WHERE, "delay", delay)
        self.autapses = require_bool(_WHERE, "autapses", autapses)
        self._gain = require_number(_WHERE, "recurrent_gain", recurrent_gain)
        self.carry_limit: float | None = require_number(
            _WHERE, "carry_limit", carry_limit, above=0, optional=True
        )
        for word in ("channels", "shape", "arithmetic", "inplace"):
            if options.get(word):
                raise ModelError(_WHERE, f"it takes no argument {word!r}", remedy="Leave it out.")
        self.form, mask = _form_of(size, recurrent, blocks, self.autapses)
        self.fed = _fed_of(neuron, feedback)
        self.into = _into_of(neuron, into)
        super().__init__(neuron, shape=(self.size,), **options)
        self._sizes = None  # the layer looks at the sizes itself
        named = {p.name for p in neuron.params} | {s.name for s in neuron.states}
        for name in named & _OWN:
            problem = f"the neuron has a state or parameter {name!r}, as the layer does"
            raise ModelError(_WHERE, problem, remedy="Rename it in the model.")
        like = {"device": options.get("device"), "dtype": options.get("dtype") or default_dtype()}
        self._register(mask, inputs is not None if bias is None else bool(bias), blocks, **like)

    def _register(self, mask: Tensor | None, has_bias: bool, blocks: Any, **like: Any) -> None:
        size, inputs = self.size, self.inputs
        if inputs == "lazy":
            self.weight = nn.UninitializedParameter(**like)
        else:
            self.weight = None if inputs is None else nn.Parameter(torch.empty(size, inputs, **like))
        self.bias = nn.Parameter(torch.empty(size, **like)) if has_bias else None
        shape = {"diagonal": (size,), "blocks": (blocks, size // (blocks or 1), size // (blocks or 1))}
        u = torch.empty(shape.get(self.form, (size, size)), **like)
        self.recurrent = nn.Parameter(u)
        self.register_buffer("mask", None if mask is None else mask.to(like["device"]))
        self._reset_weights()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set every parameter to its initial value; W and b as `nn.Linear`."""
        super().reset_parameters()
        if "recurrent" in self._parameters:
            self._reset_weights()

    @torch.no_grad()
    def _reset_weights(self) -> None:
        fan = self.size
        if self.weight is not None and not nn.parameter.is_lazy(self.weight):
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
            fan = self.weight.shape[1]
        if self.bias is not None:
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan), 1 / math.sqrt(fan))
        if self.form == "diagonal":
            nn.init.uniform_(self.recurrent, -self._gain, self._gain)
        else:
            for block in self.recurrent if self.form == "blocks" else (self.recurrent,):
                nn.init.orthogonal_(block, self._gain)

    @typed_call
    def forward(
        self,
        x_seq: Tensor,
        *more_inputs: Tensor,
        state: States | None = None,
        lengths: Tensor | None = None,
        return_state: bool = False,
    ) -> Any:
        """Run the layer.

        Args:
            x_seq: (T, N, inputs), or c without W; (N, *) in single-step mode.
            more_inputs: Further inputs of the model, in its order without the one that is fed.
            state: Initial values of states, and of "feedback", (delay, N, size).
            lengths: (N,) integers in 1..T. From step lengths[n] on, outputs of sample n are 0,
                its states stay, and gradients are 0.
            return_state: Return the final states too.

        Returns:
            As `NeuronLayer`.
        """
        is_single_step = self.step_mode == "s"
        c, is_own = self._current(x_seq)
        inputs = self._inputs(*self._ordered(c, more_inputs))
        c = inputs[self._place]
        steps, batch, _ = c.shape
        keeps, neuron, dispatch = is_single_step or self.carry_state, self.neuron, self._dispatch
        given = self._initial(state)
        ends = None if lengths is None else _lengths_of(lengths, c)
        backend = dispatch.backend_of(c)
        params = parameters_as(neuron, self._shapes, self._values(), c)
        start = dispatch.start(c, given, self._state, params)
        before = self._before(given.get("feedback"), c)
        call = (inputs, start, params, self._matrix(c), before, ends)
        fused = backend == "c" and c.dtype is REAL[c.dtype] and not torch.compiler.is_compiling()
        run = partial(self._run_fused, is_own) if fused else partial(self._run_steps, backend)
        outputs, final, counts, _ = run(*call, keeps or return_state)
        if keeps or return_state:
            final = {**final, "feedback": self._after(before, outputs[self._fed_place], ends)}
        if is_single_step:
            outputs = tuple(o.squeeze(0) for o in outputs)
        count = len(neuron.output)
        out = outputs[0] if count == 1 else dispatch.named(outputs[:count])
        records = recorded(neuron, self._record, outputs[count:], counts) if self._record else {}
        if keeps or records:
            self._keep(final, records)
        extras: list[Any] = [dict(final)] if return_state else []
        extras += [records] if records and self.return_recorded else []
        return (out, *extras) if extras else out

    def _current(self, x_seq: Any) -> tuple[Any, bool]:
        """Return c of a call, and whether its memory is the layer's own."""
        if self.weight is None:
            is_own = False
            c = x_seq if self.bias is None or not isinstance(x_seq, Tensor) else x_seq + self.bias
            return c, c is not x_seq
        if not isinstance(x_seq, Tensor):
            return x_seq, False
        if nn.parameter.is_lazy(self.weight):
            self._materialise_weight(x_seq)
        inputs = self.weight.shape[1]
        if x_seq.shape[-1:] != (inputs,):
            axes = "T, N" if self.step_mode == "m" else "N"
            problem = f"x_seq has shape {tuple(x_seq.shape)}"
            raise ShapeError(self.neuron.name, problem, f"({axes}, {inputs})")
        is_cast = is_autocast(x_seq)
        c = linear(x_seq, self.weight, self.bias)
        return (c.to(self.weight.dtype) if is_cast else c), True

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _materialise_weight(self, x_seq: Tensor) -> None:
        assert isinstance(self.weight, nn.UninitializedParameter)
        with torch.inference_mode(False), torch.no_grad():
            self.weight.materialize((self.size, x_seq.shape[-1]))
        self.inputs = x_seq.shape[-1]
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    @property
    def _place(self) -> int:
        return [s.name for s in self.neuron.inputs].index(self.into)

    @property
    def _fed_place(self) -> int:
        return [name for name, _ in self.neuron.output].index(self.fed)

    def _ordered(self, c: Any, more: Sequence[Any]) -> tuple[Any, ...]:
        """Return c and the further inputs in the order of the neuron."""
        return (*more[: self._place], c, *more[self._place :])

    def _inputs(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the inputs of a call as sequences (T, N, size)."""
        place = self._place
        names = [s.name for s in self.neuron.inputs]
        first = [names[place], *names[:place], *names[place + 1 :]]
        given = [tensors[place], *tensors[:place], *tensors[place + 1 :]] if place < len(tensors) else tensors
        axes = 3 if self.step_mode == "m" else 2
        c = given[0]
        if isinstance(c, Tensor) and c.dim() != axes or isinstance(c, Tensor) and c.shape[-1] != self.size:
            expected = f"({'T, N' if axes == 3 else 'N'}, {self.size})"
            problem = f"input {names[place]!r} has shape {tuple(c.shape)}"
            raise ShapeError(self.neuron.name, problem, expected)
        found = list(require_inputs(self.neuron.name, first, tuple(given), self.step_mode))
        found.insert(place, found.pop(0))
        return tuple(x.unsqueeze(0) for x in found) if self.step_mode == "s" else tuple(found)

    def _matrix(self, c: Tensor) -> Tensor:
        """Return U in the type of the arithmetic, (size, size), or (size,) if it is diagonal."""
        u = self.recurrent.to(REAL[c.dtype])
        if self.form == "blocks":
            u = torch.block_diag(*u)
        return u if self.mask is None else u * self.mask

    def _before(self, value: Any, c: Tensor) -> Tensor | None:
        """Return the outputs before the start, (delay, N, size), or None for 0."""
        if value is None:
            return None
        shape = (self.delay, c.shape[1], self.size)
        value = torch.as_tensor(value, dtype=c.dtype, device=c.device)
        if value.shape != shape:
            problem = f"state 'feedback' has shape {tuple(value.shape)}"
            raise ShapeError(self.neuron.name, problem, str(shape))
        return value

    def _after(self, before: Tensor | None, s: Tensor, ends: Tensor | None) -> Tensor:
        """Return the last `delay` outputs of each sample, (delay, N, size), oldest first."""
        if before is None:
            before = s.new_zeros(self.delay, *s.shape[1:])
        whole = torch.cat([before, s])
        if ends is None:
            return whole[len(whole) - self.delay :].clone()
        at = ends + torch.arange(self.delay, device=s.device)[:, None]
        return whole.gather(0, at[:, :, None].expand(-1, -1, self.size))

    def _run_steps(
        self,
        backend: str,
        inputs: tuple[Tensor, ...],
        start: Sequence[Tensor],
        params: list[Tensor],
        u: Tensor,
        before: Tensor | None,
        ends: Tensor | None,
        returns_states: bool,
    ) -> LayerResults:
        """Run the loop over time through the neuron's backend."""
        place, dispatch = self._place, self._dispatch
        c, names = inputs[place], [s.name for s in self.neuron.states]
        bound = None if self.carry_limit is None else GradientBound(self.carry_limit)
        fed = [] if before is None else list(before.unbind(0))
        late = self.delay if before is None else 0
        states = [v.expand(c.shape[1:]) if ends is not None else v for v in start]
        results: list[tuple[Tensor, ...]] = []
        totals: list[Any] = []
        for t in range(len(c)):
            step = [x[t] for x in inputs]
            if t >= late:
                s = fed[t - late]
                with torch.autocast(c.device.type, enabled=False):
                    s = s.to(u.dtype)
                    product = s * u if u.dim() == 1 else linear(s, u)
                    step[place] = (step[place].to(u.dtype) + product).to(c.dtype)
            if bound is not None:
                step[place] = bound.hooked(step[place])
            carried = [bound.hooked(v) for v in states] if bound is not None and t else states
            run = dispatch.run(backend, tuple(x[None] for x in step), carried, params, True)
            outputs, final, counts, _ = run
            outputs = tuple(o[0] for o in outputs)
            later = [final[n] for n in names]
            if ends is not None:
                live = (t < ends)[:, None]
                outputs = tuple(torch.where(live, o, 0) for o in outputs)
                later = [torch.where(live, new, old) for new, old in zip(later, states, strict=True)]
            states = later
            results.append(outputs)
            totals.append(counts)
            fed.append(outputs[self._fed_place])
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

    def _run_fused(
        self,
        is_own: bool,
        inputs: tuple[Tensor, ...],
        start: Sequence[Tensor],
        params: list[Tensor],
        u: Tensor,
        before: Tensor | None,
        ends: Tensor | None,
        returns_states: bool,
    ) -> LayerResults:
        """Run the kernels of the CPU."""
        c = inputs[self._place]
        others = (*inputs[: self._place], *inputs[self._place + 1 :])
        read = [p for p, q in zip(params, self.neuron.params, strict=True) if q in self._dispatch.neuron.step_params]
        tensors = (c, u, *others, *start, *read)
        require_plain_memory(self.neuron.name, READER["c"], tensors)
        plan = plan_of(self._dispatch.neuron, dtype=TYPES[c.dtype])
        model = Recurrent(plan, self.fed, self.into)
        load = partial(anywhere, load_recurrent) if self.backend == "auto" else load_recurrent
        call = _Call(load(model), self.delay, self.carry_limit, is_own, needs_backward(tensors), [])
        found = Fused.apply(call, ends, before, *tensors)  # type: ignore[no-untyped-call]
        count, states = len(plan.outputs), plan.states
        final = dict(zip(states, found[count:], strict=True))
        return found[:count], final, call.counts, ()


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


class _Call(NamedTuple):
    """Arguments of a forward other than tensors; the kernel's counts are added to `counts`."""

    kernels: RecurrentKernels
    delay: int
    carry_limit: float | None
    is_own: bool
    saves: bool
    counts: list[float]


class Fused(torch.autograd.Function):
    """Forward and backward of all time steps, one call of C++ each.

    Takes a `_Call`, `lengths` or None, the outputs before the start or None, then c, U, the
    further inputs, the initial states and the parameters. Returns outputs and final states.
    """

    @staticmethod
    def forward(
        ctx: Any, call: _Call, ends: Tensor | None, before: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the forward kernel."""
        model, (c, u, *rest) = call.kernels.model, tensors
        plan, (steps, batch, size) = model.plan, c.shape
        if c.stride()[1:] != (size, 1):
            c = c.contiguous()
        owns = call.is_own and (steps < 2 or c.stride(0) == batch * size)
        sequence = (steps, batch, size), (batch * size, size, 1)
        x = c if owns else empty(c, *sequence)
        outputs = [empty(c, *sequence) for _ in plan.outputs]
        finals = [c.new_empty(batch, size) for _ in plan.states]
        rows = model.saved_rows(steps) if call.saves else 0
        saved = empty(c, (rows, batch, size), (batch * size, size, 1)) if rows else None
        ends = None if ends is None else ends.to(torch.int32).contiguous()
        before = None if before is None else before.contiguous()
        shared = _shared(call, x, u, ends, rest)
        sums = torch.zeros(len(plan.counts), dtype=torch.float64)
        call.kernels.forward(
            shared
            | {"_feedback": before, f"{model.into}_seq": c, f"{model.into}_stride": c.stride(0)}
            | {f"{o}_seq": v for o, v in zip(plan.outputs, outputs, strict=True)}
            | {f"{s}_final": v for s, v in zip(plan.states, finals, strict=True)}
            | {f"{q}_sum": sums[k : k + 1] for k, q in enumerate(plan.counts)}
            | {"_saved": saved}
        )
        call.counts.extend(sums.tolist())
        if call.saves:
            fed = outputs[plan.outputs.index(model.fed)]
            save_call(ctx, call, ends, before, x, u, *rest, fed, saved)
        return (*outputs, *finals)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Run the backward kernel; the gradient of U is one product after it."""
        call, model = ctx.call, ctx.call.kernels.model
        ends, before, x, u, *rest, fed, saved = saved_tensors(ctx, grads, _WHERE)
        plan, (steps, batch, size) = model.plan, x.shape
        needs_before, needs_c, needs_u, *needed = ctx.needs_input_grad[2:]
        count, others, states = len(plan.outputs), len(model.others), len(plan.states)
        words = _shared(call, x, u, ends, rest) | {"_saved": saved}
        limit = None
        if call.carry_limit is not None:
            largest = [float(g.abs().max()) for g in grads if g is not None and g.numel()]
            limit = torch.tensor([call.carry_limit * max(largest, default=0.0)], dtype=torch.float64)
        words["_limit"] = limit
        kept = []  # keeps copies alive
        for name, grad in zip(plan.outputs, grads[:count], strict=True):
            if grad is not None:
                grad = grad if grad.stride()[1:] == (size, 1) else grad.contiguous()
                kept.append(grad)
                words |= {f"grad_{name}_seq": grad, f"grad_{name}_stride": grad.stride(0)}
        for name, grad in zip(plan.states, grads[count:], strict=True):
            words[f"grad_{name}_final"] = None if grad is None else grad.contiguous()
        e = empty(x, x.shape, (batch * size, size, 1))
        words[f"grad_{model.into}_seq"] = e
        results: list[Tensor | None] = [None] * len(rest)
        names = [f"grad_{z}_seq" for z in model.others] + [f"grad_{s}_init" for s in plan.states]
        names += [f"grad_{p.name}" if p.learnable else "" for p in plan.params]
        for k, (name, needs) in enumerate(zip(names, needed, strict=True)):
            if name and needs:
                if k < others:
                    results[k] = torch.empty_like(e)
                elif k < others + states:
                    results[k] = e.new_empty(batch, size)
                else:
                    results[k] = torch.empty_like(rest[k], memory_format=torch.contiguous_format)
                words[name] = results[k]
        grad_before = e.new_empty(call.delay, batch, size) if needs_before else None
        words["_grad_feedback"] = grad_before
        call.kernels.backward(words)
        grad_u = _grad_of_u(u, e, fed, before, call.delay) if needs_u else None
        return None, None, grad_before, e if needs_c else None, grad_u, *results


def _shared(
    call: _Call, x: Tensor, u: Tensor, ends: Tensor | None, rest: Sequence[Tensor]
) -> dict[str, Any]:
    """Return the words of both kernels; `rest` are further inputs, initial states, parameters."""
    model, (steps, batch, size) = call.kernels.model, x.shape
    plan, others = model.plan, len(model.others)
    words: dict[str, Any] = {
        "time_steps": steps, "samples": batch, "sample": size, "channels": size, "inner": 1,
        "_delay": call.delay, "_threads": torch.get_num_threads(), "_diagonal": int(u.dim() == 1),
        "_u": u.contiguous(), "_lengths": ends, "_x": x,
    }  # fmt: skip
    for z, value in zip(model.others, rest, strict=False):
        words |= {f"{z}_seq": value, f"{z}_stride": value.stride(0)}
        words |= {f"_{z}_sample": value.stride(1), f"_{z}_neuron": value.stride(2)}
    for s, value in zip(plan.states, rest[others:], strict=False):
        words |= {f"{s}_init": value.contiguous(), f"{s}_init_stride": int(value.numel() > 1)}
    values = rest[others + len(plan.states) :]
    return words | {p.name: v.contiguous() for p, v in zip(plan.params, values, strict=True)}


def _grad_of_u(
    u: Tensor, e: Tensor, s: Tensor, before: Tensor | None, delay: int
) -> Tensor:
    """Return the gradient of U: the sum over steps of e[t] s[t - delay]^T."""
    pairs = [(e[delay:], s[: max(len(s) - delay, 0)])]
    if before is not None:
        pairs.append((e[:delay], before[: len(e)]))
    if u.dim() == 1:
        return sum((a * b).sum((0, 1)) for a, b in pairs)  # type: ignore[return-value]
    return sum(a.flatten(0, 1).t() @ b.flatten(0, 1) for a, b in pairs)  # type: ignore[return-value]


def _form_of(size: int, recurrent: Any, blocks: Any, autapses: bool) -> tuple[str, Tensor | None]:
    """Return the form of U and its mask."""
    mask = recurrent if isinstance(recurrent, Tensor) else None
    if mask is None and recurrent not in ("full", "diagonal"):
        raise wrong(_WHERE, "recurrent", recurrent, "'full', 'diagonal' or a boolean mask")
    if mask is not None and (mask.dtype is not torch.bool or mask.shape != (size, size)):
        problem = f"recurrent is {mask.dtype} of shape {tuple(mask.shape)}"
        raise ModelError(_WHERE, problem, f"a boolean mask ({size}, {size})")
    if recurrent is not mask and recurrent == "diagonal":
        if blocks is not None or not autapses:
            what = "blocks" if blocks is not None else "autapses=False"
            raise ModelError(_WHERE, f"a diagonal U with {what}", remedy="Leave one of them out.")
        return "diagonal", None
    if blocks is not None:
        require_integer(_WHERE, "blocks", blocks)
        if mask is not None:
            raise ModelError(_WHERE, "a mask with blocks", remedy="Leave one of them out.")
        if size % blocks:
            raise ModelError(_WHERE, f"size {size} is no multiple of blocks {blocks}")
    if not autapses:
        mask = ~torch.eye(size, dtype=torch.bool) if mask is None else mask & ~torch.eye(size, dtype=torch.bool)
    return "blocks" if blocks is not None else "full", mask


def _fed_of(neuron: Neuron, feedback: str | None) -> str:
    names = [name for name, _ in neuron.output]
    if feedback is not None:
        require_known(_WHERE, "feedback", feedback, names)
        return feedback
    spikes = [name for name in names if name in neuron.spikes]
    if not spikes:
        problem = f"{neuron.name} has no output that is a spike"
        raise UnsupportedError(_WHERE, problem, remedy="Name the output that U reads: feedback=.")
    return spikes[0]


def _into_of(neuron: Neuron, into: str | None) -> str:
    names = [s.name for s in neuron.inputs]
    if into is not None:
        require_known(_WHERE, "into", into, names)
        return into
    return names[0]


def _lengths_of(lengths: Any, c: Tensor) -> Tensor:
    """Return the lengths of samples as int64 on the device of c, or raise ShapeError."""
    steps, batch, _ = c.shape
    found = torch.as_tensor(lengths)
    if found.shape != (batch,) or found.is_floating_point() or found.dtype is torch.bool:
        problem = f"lengths is {found.dtype} of shape {tuple(found.shape)}"
        raise ShapeError(_WHERE, problem, f"integers, ({batch},)")
    if batch and not (1 <= int(found.min()) and int(found.max()) <= steps):
        problem = f"lengths are from {int(found.min())} to {int(found.max())}"
        raise ShapeError(_WHERE, problem, f"1 to T = {steps}")
    return found.to(device=c.device, dtype=torch.int64)
