"""Report of `lnm.nn.fuse`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FusedPair:
    """A batch normalisation that the layer after it computes.

    Attributes:
        norm: Path of the normalisation in the model: "blocks.0.first.norm".
        neuron: Path of the layer.
        shortcut: The layer also adds a shortcut, the second input of its calls.
    """

    norm: str
    neuron: str
    shortcut: bool = False

    def __str__(self) -> str:
        """Return "bn -> neuron"."""
        return f"{self.norm} -> {self.neuron}{' (+ shortcut)' if self.shortcut else ''}"


@dataclass(frozen=True, slots=True)
class UnfusedNorm:
    """A batch normalisation that stays as it is, and the reason."""

    norm: str
    reason: str

    def __str__(self) -> str:
        """Return "bn: reason"."""
        return f"{self.norm}: {self.reason}"


@dataclass(frozen=True, slots=True)
class FuseReport:
    """The batch normalisations of a model, in its order: those that were fused, and the others.

    `print(report)` has a line for each.
    """

    fused: tuple[FusedPair, ...] = ()
    left: tuple[UnfusedNorm, ...] = ()

    def __str__(self) -> str:
        """Return one line for each batch normalisation."""
        if not (self.fused or self.left):
            return "No batch normalisation."
        lines = [f"Fused: {len(self.fused)}.", *(f"  {pair}" for pair in self.fused)]
        lines += [f"Left as they are: {len(self.left)}.", *(f"  {one}" for one in self.left)]
        return "\n".join(lines)
