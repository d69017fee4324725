"""`RecurrentLayer`: neurons that receive their own outputs of earlier time steps, with weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lnm_codegen.errors import ModelError, ShapeError, UnsupportedError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import (
    REAL,
    default_dtype,
    is_autocast,
    lengths_of,
    parameters_as,
    require_inputs,
    widened,
)
from lnm_codegen.nn.bits import with_bits
from lnm_codegen.nn.call import Feed, Received, States, typed_call
from lnm_codegen.nn.delay import Delay
from lnm_codegen.nn.explain import Explanation
from lnm_codegen.nn.feedback import Feedback, without_blocks
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.parameters import LAZY
from lnm_codegen.validation import (
    is_integer,
    require_bool,
    require_integer,
    require_known,
    require_number,
    wrong,
)

_WHERE = "RecurrentLayer"
_OWN = {"weight", "bias", "recurrent", "mask", "feedback", "delay", "delays", "carry_limit"}
"""Names of the layer's own parameters, of its own state and of arguments that are set later."""

Form: TypeAlias = Literal["full", "diagonal"]


class RecurrentLayer(NeuronLayer):
    """A layer of neurons that receive their own outputs of earlier time steps.

        c[t] = W in[t] + b        x[t] = c[t] + U s[t - delay]        s[t] = neuron(x[t])

    s before the start is 0, or the given state. A call is one fused kernel in each direction: on a
    CPU for float32 and float64, on a GPU (Triton) if U, or a block of it, connects at most 512
    neurons. Otherwise it is a loop over time. On a GPU, sums have another order. After
    `torch.set_float32_matmul_precision("high")`, products use tensor cores. A product with spikes
    of the call then splits U exactly into three terms of bfloat16. Any other product is three of
    TF32, and so are all of a call with a given "feedback": their last bits may differ.

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
        delay: Time steps from an output to its effect, >= 1; or an `lnm.nn.Delay` of `size`
            channels with `least` of 1 or more, whose delays are learned.
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
    delays: Delay | None
    mask: Tensor | None

    def __init__(
        self,
        neuron: Neuron,
        size: int,
        inputs: int | Literal["lazy"] | None = None,
        *,
        recurrent: Form | Tensor = "full",
        blocks: int | None = None,
        bias: bool | None = None,
        recurrent_gain: float = 1.0,
        autapses: bool = True,
        delay: int | Delay = 1,
        carry_limit: float | None = None,
        feedback: str | None = None,
        into: str | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(neuron, Neuron):
            raise wrong(_WHERE, "neuron", neuron, "an lnm.Neuron, such as lnm.get('lif')")
        self.size = require_integer(_WHERE, "size", size)
        if not (inputs is None or inputs == "lazy" or (is_integer(inputs) and int(inputs) > 0)):
            raise wrong(_WHERE, "inputs", inputs, "an integer >= 1, 'lazy' or None")
        self.inputs = inputs
        if isinstance(delay, Delay) and (delay.size != size or delay.least < 1):
            problem = f"the delay is of size {delay.size} and from {delay.least} on"
            raise ModelError(_WHERE, problem, f"Delay({size}, largest, least=1)")
        learned = delay if isinstance(delay, Delay) else None
        steps = 1 if isinstance(delay, Delay) else _require_delay(delay)
        carry_limit = _require_limit(carry_limit)
        if bias is not None:
            require_bool(_WHERE, "bias", bias)
        self.autapses = require_bool(_WHERE, "autapses", autapses)
        self._gain = require_number(_WHERE, "recurrent_gain", recurrent_gain)
        for word in ("channels", "shape", "arithmetic", "inplace"):
            if options.get(word):
                raise ModelError(_WHERE, f"it takes no argument {word!r}", remedy="Leave it out.")
        self.form, mask = _form_of(size, recurrent, blocks, self.autapses)
        self.fed = _fed_of(neuron, feedback)
        self.into = _into_of(neuron, into)
        super().__init__(neuron, shape=(self.size,), **options)
        self._fixed -= _OWN  # a family may have an argument `bias`
        self.delays, self._delay, self._carry_limit = learned, steps, carry_limit
        self._sizes = None  # the layer looks at the sizes itself
        named = {p.name for p in neuron.params} | {s.name for s in neuron.states}
        for name in named & _OWN:
            problem = f"the neuron has a state or parameter {name!r}, as the layer does"
            raise ModelError(_WHERE, problem, remedy="Rename it in the model.")
        like = {"device": options.get("device"), "dtype": options.get("dtype") or default_dtype()}
        has_bias = inputs is not None if bias is None else bool(bias)
        self._register(mask, isinstance(recurrent, Tensor), has_bias, blocks, **like)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a `Delay` is an argument of the layer alone."""
        if name == "delay" and isinstance(value, nn.Module):
            problem, remedy = "delay is set to a module", "Make a layer with delay=."
            raise ModelError(_WHERE, problem, "an integer >= 1", remedy)
        super().__setattr__(name, value)

    @property
    def delay(self) -> int:
        """Time steps from an output to its effect; the largest of learned delays."""
        return self._delay if self.delays is None else self.delays.largest

    @delay.setter
    def delay(self, delay: int) -> None:
        if self.delays is not None:
            problem, remedy = "delay is set, and the delays are learned", "Set delays.delay."
            raise ModelError(_WHERE, problem, remedy=remedy)
        self._delay = _require_delay(delay)

    @property
    def carry_limit(self) -> float | None:
        """Bound of the gradients that are carried back in time, or None."""
        return self._carry_limit

    @carry_limit.setter
    def carry_limit(self, limit: float | None) -> None:
        self._carry_limit = _require_limit(limit)

    def _register(
        self,
        mask: Tensor | None,
        is_given: bool,
        has_bias: bool,
        blocks: Any,
        **like: Any,
    ) -> None:
        size, inputs = self.size, self.inputs
        if inputs == "lazy":
            self.weight = nn.UninitializedParameter(**like)
        else:
            self.weight = (
                None if inputs is None else nn.Parameter(torch.empty(size, inputs, **like))
            )
        self.bias = nn.Parameter(torch.empty(size, **like)) if has_bias else None
        shape = {
            "diagonal": (size,),
            "blocks": (blocks, size // (blocks or 1), size // (blocks or 1)),
        }
        self._shape_of_u = shape.get(self.form, (size, size))
        self.recurrent = nn.Parameter(torch.empty(self._shape_of_u, **like))
        mask = None if mask is None else mask.to(like["device"])
        self.register_buffer("mask", mask, persistent=is_given)  # else it follows from `autapses`
        self._reset_weights()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set every parameter to its initial value; W and b as `nn.Linear`."""
        super().reset_parameters()
        if "recurrent" in self._parameters:
            self._reset_weights()

    @torch.no_grad()
    def _reset_weights(self) -> None:
        self._reset_input()
        if self.form == "diagonal":
            nn.init.uniform_(self.recurrent, -self._gain, self._gain)
        else:
            for block in self.recurrent if self.form == "blocks" else (self.recurrent,):
                wide = block.new_empty(block.shape, dtype=REAL[block.dtype])  # QR takes no 16 bits
                block.copy_(nn.init.orthogonal_(wide, self._gain))

    @torch.no_grad()
    def _reset_input(self) -> None:
        """Set W and b as `nn.Linear` does; without W, b as a linear layer of `size` inputs."""
        if self.inputs == "lazy":
            return
        if self.weight is not None:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = (self.inputs or self.size) ** -0.5
            nn.init.uniform_(self.bias, -bound, bound)

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
        keeps, neuron = self._keeps_states(), self.neuron
        c, is_own = self._current(x_seq, lengths)
        inputs = self._sequences(c, more_inputs)
        feedback, c = self._feedback, inputs[self._feedback.place]
        given = self._initial(state)
        backend = feedback.dispatch.backend_of(c)
        params = parameters_as(neuron, self._shapes, self._values(), c)
        start = feedback.dispatch.start(c, given, self._state, params)
        before = self._before(given.get("feedback"), c)
        ends = None if lengths is None else lengths_of(self.neuron.name, lengths, c)
        taps = None if self.delays is None else self.delays.taps()[1:].to(REAL[c.dtype])
        found = feedback.run(
            backend, inputs, start, params, self._matrix(c), before, ends, taps, is_own=is_own
        )
        outputs, final, counts, _ = found
        outputs = with_bits(neuron, outputs)
        if self._watched:
            own = {name: value for name, value in given.items() if name != "feedback"}
            x_seq = self._unpadded(x_seq, lengths)
            again = self._sequences(self._driven(x_seq), more_inputs)  # c may be overwritten
            inputs, feeds = self._fed(x_seq, again, outputs, before)
            self._received = Received(inputs, own, outputs, lengths, feeds)
        if keeps or return_state:
            fed = outputs[feedback.fed_place]
            final = {**final, "feedback": feedback.after(before, fed, ends)}
        if self.step_mode == "s":
            outputs = tuple(o.squeeze(0) for o in outputs)
        return self._returned(outputs, final, counts, return_state)

    def _fed(
        self,
        x_seq: Tensor,
        inputs: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
        before: Tensor | None,
    ) -> tuple[tuple[Tensor, ...], dict[str, Feed]]:
        """Return the inputs of the neuron with U s, and the products of W and U."""
        place, s = self._feedback.place, outputs[self._feedback.fed_place]
        c, u = inputs[place], without_blocks(self._matrix(s))
        start = s.new_zeros(self.delay, *s.shape[1:]) if before is None else before
        whole = torch.cat([start, s])[: self.delay + len(s) - 1]  # from step -delay on
        at = self.delay - 1
        if self.delays is None:
            fed = whole[: len(s)]
        else:
            taps = self.delays.taps()[1:].to(s.dtype)
            fed = sum(
                (tap * whole[at - k : at - k + len(s)] for k, tap in enumerate(taps)),
                torch.zeros_like(s),
            )
        product = fed.to(u.dtype) * u if u.dim() == 1 else linear(fed.to(u.dtype), u)
        found = [*inputs]
        found[place] = (c.to(u.dtype) + product).to(c.dtype)
        size = torch.tensor(self.size)
        feeds = {}
        if self.weight is not None:
            values = x_seq if self.step_mode == "m" else x_seq[None]
            feeds["weight"] = Feed(values, self.weight.numel(), size.expand(self.weight.shape[1]))
        feeds["recurrent"] = Feed(fed, *self._connections())
        return tuple(found), feeds

    def _connections(self) -> tuple[int, Tensor]:
        """Return the number of weights of U, and the neurons that each output reaches."""
        if self.mask is not None:
            return int(self.mask.sum()), self.mask.sum(0)
        each = self.recurrent.numel() // self.size
        return self.recurrent.numel(), torch.full((self.size,), each)

    def explain(self, x_seq: Tensor, *more_inputs: Tensor) -> Explanation:
        """Return what `forward` runs on the currents of the neurons; see `NeuronLayer.explain`.

        Raises:
            ShapeError, ToolError: As for a call.
            UnsupportedError: The layer computes in integers.
        """
        with torch.no_grad():
            c, is_own = self._current(x_seq)
        inputs, backend = self._sequences(c, more_inputs), self._dispatch.backend_of(c)
        found = super().explain(*(x[0] if self.step_mode == "s" else x for x in inputs))
        steps, u = len(inputs[0]), self._matrix(inputs[0])
        reason = self._feedback.loop_reason(backend, inputs[0], u)
        if reason:
            schedule, text = found.schedule, f"a loop over {steps} steps: {reason}"
            if schedule is not None:
                each = (steps * schedule.forward_launches, steps * schedule.backward_launches)
                schedule = replace(schedule, forward_launches=each[0], backward_launches=each[1])
            return replace(found, schedule=schedule, feedback=text)
        kept = found.bytes_kept + inputs[0].numel() * inputs[0].element_size()
        where = "in place of c" if is_own else "beside c"
        text = f"one kernel in each direction; c + U s is saved {where}"
        return replace(found, bytes_kept=kept, feedback=text)

    @property
    def _feedback(self) -> Feedback:
        return Feedback(self._dispatch, self.fed, self.into, self.delay, self.carry_limit)

    def _current(self, x_seq: Any, lengths: Any = None) -> tuple[Any, bool]:
        """Return c of a call, and whether its memory is the layer's own.

        W multiplies zeros in the place of padding, which may be NaN.
        """
        if self.weight is None:
            fits = isinstance(x_seq, Tensor) and x_seq.shape[-1:] == (self.size,)
            c = self._driven(x_seq) if fits else x_seq
            return c, c is not x_seq
        if not isinstance(x_seq, Tensor):
            return x_seq, False
        if self.inputs == "lazy":
            self._materialise_weight(x_seq.shape[-1])
        inputs, axes = self.weight.shape[1], ("T", "N") if self.step_mode == "m" else ("N",)
        if x_seq.layout is not torch.strided or x_seq.is_nested:
            return x_seq, False  # refused as an input of the neuron
        if x_seq.dim() != len(axes) + 1 or x_seq.shape[-1] != inputs:
            problem = f"x_seq has shape {tuple(x_seq.shape)}"
            raise ShapeError(self.neuron.name, problem, f"({', '.join(axes)}, {inputs})")
        x_seq = self._unpadded(x_seq, lengths)
        is_cast = is_autocast(x_seq)
        if not is_cast and x_seq.dtype != self.weight.dtype:
            problem = f"x_seq is {x_seq.dtype}, and the weight {self.weight.dtype}"
            raise ShapeError(self.neuron.name, problem, remedy="Use torch.autocast, or layer.to().")
        c = self._driven(x_seq)
        return (c.to(self.weight.dtype) if is_cast else c), True

    def _driven(self, x: Tensor) -> Tensor:
        """Return W x + b of values (*, inputs), or x + b without W."""
        if self.weight is None:
            return x if self.bias is None else x + self.bias
        return linear(x, self.weight, self.bias)

    def _unpadded(self, x_seq: Tensor, lengths: Any) -> Tensor:
        """Return a sequence with 0 in the place of padding, if W multiplies it."""
        if lengths is None or self.weight is None or self.step_mode == "s":
            return x_seq
        ends = lengths_of(self.neuron.name, lengths, x_seq)
        steps = torch.arange(len(x_seq), device=x_seq.device)[:, None]
        return x_seq.masked_fill((steps >= ends)[:, :, None], 0)

    @torch.compiler.disable(reason=LAZY)  # type: ignore[untyped-decorator, no-untyped-call]
    def _materialise_weight(self, inputs: int) -> None:
        self._require_no_transform()
        with torch.inference_mode(False), torch.no_grad():
            if isinstance(self.weight, nn.UninitializedParameter):
                self.weight.materialize((self.size, inputs))
            self.inputs = inputs
            self._reset_input()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """Load the parameters as `nn.Module` does; a lazy W first takes the loaded shape."""
        loaded = state_dict.get(f"{prefix}weight")
        if self.inputs == "lazy" and isinstance(loaded, Tensor) and loaded.dim() == 2:
            self._materialise_weight(loaded.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _sequences(self, c: Any, more: Sequence[Any]) -> tuple[Tensor, ...]:
        """Return the inputs of a call as sequences (T, N, size), in the order of the neuron."""
        place = self._feedback.place
        names = [s.name for s in self.neuron.inputs]
        names.insert(0, names.pop(place))
        axes = ("T", "N") if self.step_mode == "m" else ("N",)
        dense = isinstance(c, Tensor) and not c.is_nested
        if dense and (c.dim() != len(axes) + 1 or c.shape[-1] != self.size):
            problem = f"input {names[0]!r} has shape {tuple(c.shape)}"
            expected = f"({', '.join(axes)}, {self.size})"
            raise ShapeError(self.neuron.name, problem, expected)
        given = widened((c, *more))
        found = list(require_inputs(self.neuron.name, names, given, self.step_mode))
        found.insert(place, found.pop(0))
        return tuple(x.unsqueeze(0) for x in found) if self.step_mode == "s" else tuple(found)

    def extra_repr(self) -> str:
        """Describe the layer in `print(network)`."""
        own = f"size={self.size}, inputs={self.inputs!r}, recurrent={self.form!r}"
        own += f", delay={self.delay}" if self.delay > 1 else ""
        return f"{own}, {super().extra_repr()}"

    def _matrix(self, c: Tensor) -> Tensor:
        """Return U in the type of the arithmetic, as `Feedback.run` takes it."""
        if self.recurrent.shape != self._shape_of_u:
            problem = f"'recurrent' has shape {tuple(self.recurrent.shape)}"
            raise ShapeError(self.neuron.name, problem, str(self._shape_of_u))
        u = self.recurrent.to(REAL[c.dtype])
        return u if self.mask is None else without_blocks(u) * self.mask

    def _before(self, value: Any, c: Tensor) -> Tensor | None:
        """Return the outputs before the start, (delay, N, size), or None for 0."""
        if value is None:
            return None
        shape = (self.delay, c.shape[1], self.size)
        found = torch.as_tensor(value, dtype=c.dtype, device=c.device)
        if found.shape != shape:
            problem = f"state 'feedback' has shape {tuple(found.shape)}"
            raise ShapeError(self.neuron.name, problem, str(shape))
        return found


def matrix_of(layer: RecurrentLayer) -> Tensor:
    """Return U as one matrix (size, size), zero where nothing is connected."""
    u = without_blocks(layer._matrix(layer.recurrent))
    return u.diag() if u.dim() == 1 else u


def _require_delay(value: Any) -> int:
    if not (is_integer(value) and value >= 1):
        raise wrong(_WHERE, "delay", value, "an integer >= 1, or an lnm.nn.Delay")
    return int(value)


def _require_limit(value: Any) -> float | None:
    found: float | None = require_number(_WHERE, "carry_limit", value, above=0, optional=True)
    return found


def _form_of(size: int, recurrent: Any, blocks: Any, autapses: bool) -> tuple[str, Tensor | None]:
    """Return the form of U and its mask."""
    mask = recurrent if isinstance(recurrent, Tensor) else None
    if mask is None and not (isinstance(recurrent, str) and recurrent in ("full", "diagonal")):
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
        mask = (
            ~torch.eye(size, dtype=torch.bool)
            if mask is None
            else mask & ~torch.eye(size, dtype=torch.bool)
        )
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
