"""`Residual`: modules with a shortcut, whose outputs are added."""

from __future__ import annotations

from torch import Tensor, nn

from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.validation import require_type


class Residual(nn.Module):
    """Modules in sequence, and a shortcut that is added to their output.

        y = body(x) + x        or body(x) + shortcut(x)

    It adds spikes where the body ends with neurons. It adds currents where it ends with weights or
    a normalisation, for neurons after the block.

    Args:
        *modules: The body, in order.
        shortcut: A module for the shortcut, such as a convolution of 1 x 1 where the body changes
            the number of channels; by default the identity.

    Shape:
        Those of the body; the shortcut has the same output shape.

    Raises:
        ModelError: No modules.
        ShapeError: The outputs of the body and of the shortcut have different shapes.

    Source: He et al. 2016, arXiv 1512.03385; with spikes, Fang et al. 2021, arXiv 2102.04159.

    Examples:
        >>> import torch
        >>> import lnm_codegen as lnm
        >>> from torch import nn
        >>> lif = lnm.nn.NeuronLayer(lnm.get("lif"), backend="torch")
        >>> block = lnm.nn.Residual(nn.Linear(3, 3), lif)
        >>> block(torch.zeros(4, 2, 3)).shape
        torch.Size([4, 2, 3])
    """

    def __init__(self, *modules: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        if not modules:
            raise ModelError("Residual", "no modules", "one or more")
        self.body = nn.Sequential(*modules)
        if shortcut is not None:
            require_type("Residual", "shortcut", shortcut, nn.Module, "a torch.nn.Module")
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both outputs."""
        own, other = self.body(x), self.shortcut(x)
        if own.shape != other.shape:
            problem = f"the body has outputs {tuple(own.shape)}, the shortcut {tuple(other.shape)}"
            raise ShapeError("Residual", problem, "two equal shapes", "Give shortcut=.")
        total: Tensor = own + other
        return total
