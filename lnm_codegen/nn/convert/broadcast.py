"""Layer whose parameters per neuron may have fewer axes, or more of length 1, than a sample."""

from __future__ import annotations

from torch import Size, Tensor

from lnm_codegen.nn.layer import NeuronLayer


class BroadcastLayer(NeuronLayer):
    """A layer in which some parameters broadcast to a sample (C, *), as in PyTorch.

    A call gives them the shape of the sample; the parameters keep their own. The gradient of one
    is the sum over the neurons that share an element. `broadcast` are the names of the parameters.
    """

    broadcast: tuple[str, ...] = ()

    def _require_axes(self, shape: Size) -> None:
        """Accept samples to whose shape the parameters broadcast, or raise ShapeError."""
        sample, params = tuple(shape[2:]), self.neuron.params
        own = {p.name: axes for p, axes in zip(params, self._axes, strict=True) if p.per != "layer"}
        if set(own) == set(self.broadcast) and all(_fits(a, sample) for a in own.values()):
            found = [sample if p.name in own else () for p in params]
            if found != self._shapes:
                self._shapes = found
        else:
            super()._require_axes(shape)

    def _values(self) -> list[Tensor]:
        """Return the parameters in order, in the shapes of the last call."""
        values = super()._values()
        if not self.broadcast:
            return values
        return [_expanded(v, s) for v, s in zip(values, self._shapes, strict=True)]


def _fits(axes: tuple[int, ...] | None, sample: tuple[int, ...]) -> bool:
    """Report whether the axes without the first ones of length 1 are the last of a sample."""
    while axes and axes[0] == 1:
        axes = axes[1:]
    return bool(axes) and sample[-len(axes or ()) :] == axes


def _expanded(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    if tuple(value.shape) == shape:
        return value
    more = max(0, value.dim() - len(shape))  # axes of length 1
    return value.reshape(value.shape[more:]).expand(shape).contiguous()
