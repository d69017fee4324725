"""Eager PyTorch backend of a layer: the generated module, on any device.

The module as it is written serves `torch.compile` and the transforms of `torch.func`. A copy with
quicker Functions serves plain autograd.

`torch.export` records one scan over time, so that T stays dynamic. Such a program needs PyTorch
alone. Its outputs have no gradient, since `torch.export` keeps only the forward of a Function.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.autograd import Function

from lnm_codegen.compiler.emit import emit
from lnm_codegen.compiler.pipeline import lower
from lnm_codegen.errors import ToolError
from lnm_codegen.ir.nodes import Detach, Expr, Role, Var
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.nn.arguments import REAL, converted
from lnm_codegen.nn.function import LayerResults
from lnm_codegen.nn.load.cache import import_source, import_text
from lnm_codegen.nn.parameters import broadcastable

GENERATED = ModuleType("lnm_generated")
"""Generated modules by name. A trace reads an attribute anew, but `sys.modules` only once."""


@cache
def eager_module(neuron: Neuron) -> ModuleType:
    """Return the generated PyTorch module of a neuron. `torch.compile` finds it by its name."""
    module = _loaded(neuron)
    module = sys.modules.setdefault(module.__name__, module)
    setattr(GENERATED, module.__name__, module)
    return module


def _loaded(neuron: Neuron) -> ModuleType:
    source = emit(neuron, "torch")
    try:
        module = import_source(source, "torch", neuron.name)
    except ToolError:  # the cache folder cannot be used: nothing needs the file
        module = import_text(source, neuron.name)
    module.SHARED = _shared(neuron)  # type: ignore[attr-defined]
    return module


def _shared(neuron: Neuron) -> frozenset[str]:
    """Return the states that are the tensor of an input, a parameter or another state.

    The latter may be of the step before, in which it was an input.
    """
    kernel, found = lower(neuron).forward, set()
    values = ((let.target, let.value) for let in kernel.body)
    bare = ((target, e.arg if isinstance(e, Detach) else e) for target, e in values)
    copies = {target: e for target, e in bare if isinstance(e, Var)}
    seen: set[Expr] = {p.var for p in kernel.inputs}
    ends = (p.var for p in kernel.results if p.role is Role.STATE)
    for state, end in zip(neuron.states, ends, strict=True):
        source = end
        while source in copies:
            source = copies[source]
        if source in seen:
            found.add(state.name)
        seen.add(source)
    return frozenset(found)


def run_eager(
    neuron: Neuron,
    inputs: tuple[Tensor, ...],
    start: Sequence[Tensor],
    params: Sequence[Tensor],
    module: ModuleType | None = None,
) -> LayerResults:
    """Return the outputs (T, N, *), the final states (N, *) and the counts.

    `module` is `eager_module(neuron)` in a traced call, which cannot load it.
    """
    if module is None:
        module = eager_module(neuron) if _is_transformed() else _quick_module(neuron)
    dtype, shape = inputs[0].dtype, inputs[0].shape
    inputs = tuple(converted(x, REAL[dtype]) for x in inputs)
    axes = inputs[0].dim() - 2
    shaped = {
        p.name: broadcastable(p, value, axes)
        for p, value in zip(neuron.step_params, params, strict=True)
    }
    count, ends = len(neuron.output), len(neuron.output) + len(neuron.states)
    if torch.compiler.is_compiling() and is_exporting():
        results = _scan_steps(module, inputs, start, shaped, count, len(neuron.counts))
    else:
        results = module.multi_step(*inputs, *start, **shaped)
    states = {
        s.name: _own(r, shape[1:], start, s.name in module.SHARED)
        for s, r in zip(neuron.states, results[count:], strict=False)
    }
    outputs = _anchored(results[:count], tuple(states.values()))
    return tuple(out.to(dtype) for out in outputs), states, results[ends:], ()


def _own(state: Tensor, shape: torch.Size, start: Sequence[Tensor], is_shared: bool) -> Tensor:
    """Return a final state in a shape, as a tensor whose elements share no memory.

    A copy is needed for an initial state, which a state may keep, for another shared tensor, and
    for a value that repeats.
    """
    is_whole = state.shape == shape and not is_shared and not any(state is v for v in start)
    return state if is_whole else state.expand(shape).clone()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_exporting() -> bool:
    """Report whether `torch.export` traces the call.

    The answer is found outside the trace, since `torch.compile` of PyTorch 2.11 gives True there.
    PyTorch 2.6 has no answer.
    """
    asked = getattr(torch.compiler, "is_exporting", None)
    return asked is not None and bool(asked())


def _scan_steps(
    module: ModuleType,
    inputs: Sequence[Tensor],
    start: Sequence[Tensor],
    params: Mapping[str, Tensor],
    outputs: int,
    counts: int,
) -> tuple[Tensor, ...]:
    """Return what `multi_step` of a generated module returns, for T >= 1.

    Args:
        module: The generated module.
        inputs: Inputs, (T, N, *).
        start: Initial states, which broadcast to (N, *).
        params: Parameter -> value that broadcasts against (N, *).
        outputs: Number of outputs.
        counts: Number of counts.
    """
    x, states, ends = inputs[0], len(start), outputs + len(start)
    prepared = module.prepare(**{name: value.detach() for name, value in params.items()})
    own = [value.clone() for value in prepared]  # a scan takes no two views of one tensor

    def step(carried: list[Tensor], given: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        results, like = module.step(*carried[:states], *given, *own), given[0]
        whole = [
            torch.as_tensor(r, dtype=like.dtype).expand_as(like).clone() for r in results[:ends]
        ]
        sums = [
            total + added.sum(dtype=total.dtype)
            for total, added in zip(carried[states:], results[ends:], strict=False)
        ]
        unused = [c.clone() for c in carried[states + counts :]]
        return [*whole[outputs:], *sums, *unused], whole[:outputs]

    carried = [v.detach().expand(x.shape[1:]).clone() for v in start]
    scalars = counts if carried else max(counts, 1)  # a scan carries at least one tensor
    carried += [x.new_zeros((), dtype=torch.float64) for _ in range(scalars)]
    ended, sequences = scan(step, carried, [x.detach().clone() for x in inputs])
    return (*sequences, *ended[: states + counts])


def _is_transformed() -> bool:
    """Report whether the call is inside a transform of `torch.func`."""
    return torch._C._are_functorch_transforms_active()


@cache
def _quick_module(neuron: Neuron) -> ModuleType:
    module = _loaded(neuron)
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and issubclass(value, Function):
            setattr(module, name, _quick(value))
    return module


def _quick(function: type[Function]) -> type[Function]:
    """Return the same Function for calls outside of `torch.compile` and `torch.func`.

    PyTorch inspects the signature of `forward` at each call of a Function with `setup_context`,
    which takes 14 us.
    """

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = function.forward(*inputs)
        function.setup_context(ctx, inputs, output)
        return output

    none = Function.setup_context
    members = {"forward": staticmethod(forward), "setup_context": staticmethod(none)}
    return type(function.__name__, (function,), members)


class _Anchor(Function):
    """Outputs whose backward adds a zero gradient to the final states.

    The backward kernels begin with that zero. So 0 * inf is NaN in both backends, or in neither.
    An output is no view to autograd and no state is saved, so that both may be changed in place.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.detach() for t in tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.count, *tensors = inputs
        ctx.zeros = [(s.shape, s.dtype, s.device) for s in tensors[ctx.count :]]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        zeros = (torch.zeros(s, dtype=d, device=where) for s, d, where in ctx.zeros)
        return (None, *grads, *zeros)


class _DualAnchor(_Anchor):
    """The same with forward mode. `torch.compile` traces no Function that has it."""

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.view_as(t) for t in tangents[: ctx.count])


_QUICK_ANCHOR = _quick(_DualAnchor)


def _anchored(outputs: tuple[Any, ...], states: tuple[Tensor, ...]) -> tuple[Any, ...]:
    if not any(s.requires_grad for s in states):
        return outputs
    if torch.compiler.is_compiling():
        anchor: type[Function] = _Anchor
    else:
        anchor = _DualAnchor if _is_transformed() else _QUICK_ANCHOR
    return tuple(anchor.apply(len(outputs), *outputs, *states))  # type: ignore[no-untyped-call]
