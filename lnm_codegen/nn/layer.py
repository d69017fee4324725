"""`NeuronLayer`: a neuron as a `torch.nn.Module`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lnm_codegen.compiler import model_of
from lnm_codegen.errors import ModelError, ShapeError, ToolError
from lnm_codegen.functions import did_you_mean
from lnm_codegen.granularity import Extent
from lnm_codegen.neuron import Neuron
from lnm_codegen.nn.eager import run_eager
from lnm_codegen.nn.function import Call, Fused
from lnm_codegen.nn.load import compiler, load_c
from lnm_codegen.symbols import Param

BACKENDS = ("auto", "c", "torch")
_TYPES = {torch.float32: "float32", torch.float64: "float64"}


class NeuronLayer(nn.Module):
    """A layer of one neuron model, over a sequence or step by step.

    Every parameter of the model is an attribute of its name: an `nn.Parameter` if it is
    learnable, else a buffer. Its shape is () or (size,) per layer, (C,) or (C, size) per channel,
    `shape` or (*shape, size) per neuron.

    Args:
        neuron: The definition, `lnm.get("lnm", degree=3)` or your own.
        channels: C, needed where a parameter is per channel.
        shape: Shape of one sample's neurons, (C, *), needed where a parameter is per neuron.
        backend: "c" (fused CPU kernels), "torch" (eager, any device), or "auto": "c" for CPU
            tensors, "torch" elsewhere, and where no C++ compiler is found, with one warning.
        step_mode: "m": x is (T, N, *), each call starts from the initial states unless `state`
            is given. "s": x is (N, *), and the states are kept until `reset()`.
        detach_reset: Overrides the neuron's own.
        record: Names of states whose charged values are returned too.
        dtype: Of the parameters; float32 by default.

    Shape:
        x_seq (T, N, *) -> (T, N, *), the channel axis of per-channel parameters being 2; without
        T in single-step mode. float32 or float64. A tuple where the model names several outputs.

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
        backend: str = "auto",
        step_mode: str = "m",
        detach_reset: bool | None = None,
        record: tuple[str, ...] = (),
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(neuron, Neuron):
            raise ModelError(
                f"NeuronLayer: neuron is {neuron!r}. Accepted: an lnm.Neuron, such as"
                " lnm.get('lif')."
            )
        _check_choice("backend", backend, BACKENDS)
        _check_choice("step_mode", step_mode, ("m", "s"))
        if detach_reset is not None:
            neuron = neuron.with_detach_reset(detach_reset)
        self.neuron = neuron
        self.backend = backend
        self.step_mode = step_mode
        self.record = (record,) if isinstance(record, str) else tuple(record)
        self._recorded = _recording(neuron, self.record)
        self._rows = {p.name: self._rows_of(p, channels, shape) for p in neuron.params}
        for param in neuron.params:
            self._register(param, dtype or torch.float32)
        self._state: dict[str, Tensor] | None = None

    def _rows_of(
        self, param: Param, channels: int | None, shape: tuple[int, ...] | None
    ) -> tuple[int, ...]:
        if param.per == "layer":
            return ()
        if param.per == "channel" and (channels or shape):
            return (int(channels or shape[0]),)  # type: ignore[index]
        if param.per == "neuron" and shape:
            return tuple(int(s) for s in shape)
        missing = "channels=C" if param.per == "channel" else "shape=(C, *)"
        raise ModelError(
            f"NeuronLayer: parameter {param.name!r} of {self.neuron.name} is per {param.per}."
            f" Give {missing}."
        )

    def _register(self, param: Param, dtype: torch.dtype) -> None:
        if hasattr(self, param.name):
            raise ModelError(
                f"NeuronLayer: parameter {param.name!r} has the name of an attribute of"
                " nn.Module. Rename it in the model."
            )
        shape = (*self._rows[param.name], *((param.size,) if param.size is not None else ()))
        if callable(param.init):
            value = torch.as_tensor(param.init(torch.default_generator, shape))
            if value.shape != shape:
                raise ShapeError(
                    f"NeuronLayer: the init of {param.name!r} gave shape {tuple(value.shape)};"
                    f" expected {shape}."
                )
        else:
            value = torch.tensor(param.init).expand(shape)
        value = value.to(dtype).clone()
        if param.learnable:
            self.register_parameter(param.name, nn.Parameter(value))
        else:
            self.register_buffer(param.name, value)

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
            dicts by name.
        """
        inputs = self._inputs((x_seq, *more_inputs))
        single = self.step_mode == "s"
        if single:
            inputs = tuple(x.unsqueeze(0) for x in inputs)
        given = self._state if single and state is None else state
        keeps = single or return_state
        outputs, final = self._run(inputs, dict(given or {}), keeps)
        if single:
            outputs = tuple(o.squeeze(0) for o in outputs)
            self._state = final
        count = len(self.neuron.output)
        out = outputs[0] if count == 1 else outputs[:count]
        extras: list[Any] = [final] if return_state else []
        if self.record:
            extras.append(dict(zip(self.record, outputs[count:], strict=True)))
        return (out, *extras) if extras else out

    def reset(self) -> None:
        """Forget the state that single-step mode has kept."""
        self._state = None

    def extra_repr(self) -> str:
        """Describe the layer in `print(network)`."""
        return f"{self.neuron.name}, backend={self.backend!r}, step_mode={self.step_mode!r}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_state": None}

    def _inputs(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        name, axes = self.neuron.name, 2 if self.step_mode == "m" else 1
        expected = "(T, N, *)" if axes == 2 else "(N, *)"
        if len(inputs) != len(self.neuron.inputs):
            names = ", ".join(s.name for s in self.neuron.inputs)
            raise ShapeError(f"{name}: {len(inputs)} inputs given; the model takes {names}.")
        for symbol, x in zip(self.neuron.inputs, inputs, strict=True):
            if not isinstance(x, Tensor):
                raise ShapeError(
                    f"{name}: input {symbol.name!r} is a {type(x).__name__}; expected a tensor."
                )
            if x.dim() < axes:
                raise ShapeError(
                    f"{name}: input {symbol.name!r} has shape {tuple(x.shape)}; expected"
                    f" {expected} with at least {axes} axes."
                )
            if x.shape != inputs[0].shape or x.dtype != inputs[0].dtype:
                raise ShapeError(
                    f"{name}: input {symbol.name!r} is {tuple(x.shape)} {x.dtype}, the first"
                    f" {tuple(inputs[0].shape)} {inputs[0].dtype}; expected the same."
                )
            if x.dtype not in _TYPES:
                raise ShapeError(
                    f"{name}: input {symbol.name!r} is {x.dtype}. Accepted: float32, float64. Use"
                    " x.float()."
                )
        return inputs

    def _extent(self, shape: torch.Size) -> Extent:
        """Return (batch, channels, inner) of (T, N, C, *) and check the parameters' rows."""
        name = self.neuron.name
        pers = {p.per for p in self.neuron.params}
        if pers <= {"layer"}:
            return Extent(1, 1, shape[1:].numel())
        for param in self.neuron.params:
            rows = self._rows[param.name]
            seen = tuple(shape[2:3]) if param.per == "channel" else tuple(shape[2:])
            if param.per != "layer" and seen != rows:
                raise ShapeError(
                    f"{name}: x_seq has shape {tuple(shape)}, so {seen} for what is per"
                    f" {param.per}; parameter {param.name!r} was made for {rows}."
                )
        channels = shape[2] if len(shape) > 2 else 1
        return Extent(shape[1], channels, shape[3:].numel())

    def _start(self, inputs: tuple[Tensor, ...], given: dict[str, Any]) -> list[Tensor]:
        x, name = inputs[0], self.neuron.name
        states = {s.name: s for s in self.neuron.states}
        for word in given:
            if word not in states:
                raise ShapeError(
                    f"{name}: no state {word!r}. Declared: {', '.join(states) or 'none'}."
                    f"{did_you_mean(word, states)}"
                )
        start = []
        for word, symbol in states.items():
            value = given.get(word, symbol.decl.init)  # type: ignore[union-attr]
            if callable(value):
                value = value(torch.default_generator, tuple(x.shape[1:]))
            value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
            if value.dim() == 0 and not value.requires_grad:
                value = value.reshape(1)
            elif value.shape != x.shape[1:]:
                try:
                    value = value.expand(x.shape[1:])
                except RuntimeError:
                    raise ShapeError(
                        f"{name}: state {word!r} has shape {tuple(value.shape)}; expected"
                        f" {tuple(x.shape[1:])}."
                        + (" Call reset() before a new batch size." if self._state else "")
                    ) from None
            start.append(value)
        return start

    def _run(
        self, inputs: tuple[Tensor, ...], given: dict[str, Any], keeps: bool
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        x = inputs[0]
        extent = self._extent(x.shape)
        start = self._start(inputs, given)
        params = [getattr(self, p.name).to(x.dtype) for p in self.neuron.params]
        if self._backend(x) == "torch":
            return run_eager(self._recorded, inputs, start, params)
        kernel = load_c(model_of(self._recorded, dtype=_TYPES[x.dtype]))
        call = Call(kernel, extent, x.shape, keeps)
        results = Fused.apply(  # type: ignore[no-untyped-call]
            call, *inputs, *start, *(p.contiguous() for p in params)
        )
        count = len(kernel.plan.model.outputs)
        names = [s.name for s in self.neuron.states]
        return results[:count], dict(zip(names, results[count:], strict=keeps))

    def _backend(self, x: Tensor) -> str:
        if self.backend == "auto":
            if x.device.type != "cpu":
                return "torch"
            try:
                compiler()
            except ToolError as error:
                _warn_once(str(error))
                return "torch"
            return "c"
        if self.backend == "c" and x.device.type != "cpu":
            raise ToolError(
                f"{self.neuron.name}: backend 'c' runs on the CPU; the input is on {x.device}."
                " Use backend='torch', or move the input."
            )
        return self.backend


_WARNED: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _WARNED:
        _WARNED.add(message)
        warnings.warn(f"{message} Running eager PyTorch instead.", RuntimeWarning, stacklevel=4)


def _check_choice(word: str, value: Any, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        choices = ", ".join(repr(a) for a in accepted)
        raise ModelError(
            f"NeuronLayer: {word} is {value!r}. Accepted: {choices}."
            f"{did_you_mean(str(value), accepted)}"
        )


def _recording(neuron: Neuron, record: tuple[str, ...]) -> Neuron:
    """Return the neuron with the charged value of each recorded state as a further output."""
    states = {s.name: s for s in neuron.states}
    for word in record:
        if word not in states:
            raise ModelError(
                f"NeuronLayer: record names {word!r}. Accepted: {', '.join(states)}."
                f"{did_you_mean(word, states)}"
            )
    return neuron.with_outputs(**{f"{w}_seq_recorded": states[w] for w in record})
