"""Report of a conversion: one line for each spiking layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Status = Literal["exact", "approximate", "refused"]

_FINITE = "Exact: while potentials are finite; after infinity or NaN, spikes may differ."


@dataclass(frozen=True, slots=True)
class LayerConversion:
    """A spiking layer of a model and what `convert` makes of it.

    Attributes:
        source: Library and class: "spikingjelly.LIFNode".
        status: "exact": the same spikes and gradients up to rounding, while potentials are finite.
            After an infinite one, the old layer mostly has NaN. "approximate": see `reason`.
            "refused": the layer stays as it is, see `reason`.
        reason: Why the layer is not exact, or empty.
        neuron: Name of the new neuron, or empty where the layer is refused.
        differing_spikes: Share of outputs that differ on random input, 0 to 1, where measured.
        gradient_difference: Largest difference of the gradient of x there, as a share of the
            largest gradient, where measured.
        converted: False before `convert`, and for refused layers.
        path: Path in the model; a layer with several paths has the first.
    """

    source: str
    status: Status
    reason: str = ""
    neuron: str = ""
    differing_spikes: float | None = None
    gradient_difference: float | None = None
    converted: bool = False
    path: str = ""

    def at(self, path: str, converted: bool) -> LayerConversion:
        """Return the same at a path."""
        return replace(self, path=path, converted=converted)

    def __str__(self) -> str:
        """Return "features.2: snntorch.Leaky -> leaky, exact"."""
        target = f" -> {self.neuron}" if self.neuron else ""
        measured = ""
        if self.differing_spikes is not None:
            measured = f"; {self.differing_spikes:.2%} of the spikes differ"
        if self.gradient_difference is not None:
            measured += f", gradient by {self.gradient_difference:.2g} of its largest value"
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.path or '(model)'}: {self.source}{target}, {self.status}{reason}{measured}"


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """The spiking layers of a model, in its order. `print(report)` has a line for each."""

    layers: tuple[LayerConversion, ...] = ()

    def of(self, status: Status) -> tuple[LayerConversion, ...]:
        """Return the layers with a status."""
        return tuple(layer for layer in self.layers if layer.status == status)

    def __str__(self) -> str:
        """Return counts and a line for each layer."""
        if not self.layers:
            return "No spiking layer of SpikingJelly, snnTorch or Norse."
        kinds: tuple[Status, ...] = ("exact", "approximate", "refused")
        counts = ", ".join(f"{len(self.of(kind))} {kind}" for kind in kinds)
        open_ones = sum(not layer.converted and layer.status != "refused" for layer in self.layers)
        waiting = f" Not converted yet: {open_ones}." if open_ones else ""
        lines = [f"Layers: {counts}.{waiting}", *(f"  {one}" for one in self.layers)]
        return "\n".join([*lines, *([_FINITE] if self.of("exact") else [])])
