"""The eager backend under `torch.export`: one scan over time, so that T stays dynamic.

A program with it needs PyTorch alone. It has no surrogates, since `torch.export` keeps only the
forward of an `autograd.Function`; so its outputs have no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_exporting() -> bool:
    """Report whether `torch.export` traces the call.

    The answer is found outside the trace, since `torch.compile` of PyTorch 2.11 gives True there.
    PyTorch 2.6 has no answer.
    """
    asked = getattr(torch.compiler, "is_exporting", None)
    return asked is not None and bool(asked())


def scan_steps(
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
