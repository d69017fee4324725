"""The files of a network's arrays: a folder for each, and README.md and network.json above them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.render import render
from lnm_codegen.deploy.arrays import LayerArray

VERSION = 1


def sources_of(
    arrays: Sequence[LayerArray], title: str, origin: str, place: Path
) -> dict[Path, Source]:
    """Return the files of a network below `place`, by folder.

    Args:
        arrays: Of `arrays_of`.
        title: Of the README.
        origin: What the network is, for a sentence: "the run runs/lnm3".
        place: Folder of README.md and network.json; each array is in a folder of its name in it.
    """
    readme, listed = _readme(arrays, title, origin), _network(arrays, origin)
    above = Source({"README.md": readme, "network.json": listed}, "README.md")
    return {place: above, **{place / a.name: a.source for a in arrays}}


@dataclass(frozen=True, slots=True)
class _Layer:
    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _View:
    title: str
    origin: str
    time_steps: int
    rows: tuple[str, ...]
    layers: tuple[_Layer, ...]


def _readme(arrays: Sequence[LayerArray], title: str, origin: str) -> str:
    view = _View(
        title=title,
        origin=origin,
        time_steps=arrays[0].time_steps,
        rows=tuple(_row(a) for a in arrays),
        layers=tuple(_Layer(a.path, _lines(a)) for a in arrays),
    )
    return render("verilog/array/network.md.j2", view)


def _row(a: LayerArray) -> str:
    neurons = f"{a.neurons}" if a.copies == 1 else f"{a.copies} x {a.neurons}"
    cells = (a.path, f"`{a.name}/`", neurons, a.channels, a.input_format, a.cycles)
    return f"| {' | '.join(str(c) for c in cells)} |"


def _lines(a: LayerArray) -> tuple[str, ...]:
    """Return what is said of a layer, a line an item."""
    low, high = (float(end) for end in a.input_format.bits.interval)
    lines = [f"* x: {a.input_format}, {low:g} to {high:g}."]
    if a.norm is None:
        lines.append("* No batch normalisation stands directly before the layer: x is its input.")
    else:
        scale, offset = (_span(v) for v in (a.norm.scale, a.norm.offset))
        lines.append(f"* Normalisation `{a.norm.name}`: scale {scale}, offset {offset}.")
    if a.copies > 1:
        lines.append(
            f"* {a.copies * a.neurons} neurons are more than an array holds: {a.copies} like it,"
            f" for {a.neurons} neurons each; the golden vectors are those of the first."
        )
    held = "a row a channel, in a memory" if a.channels > 1 else "constants of the source"
    lines.append(f"* Coefficients: {held}.")
    starts = ", ".join(f"{n} = {_state(a, n, k)}" for n, k in a.manifest["initial_states"].items())
    lines.append(f"* Initial states: {starts}.")
    lines.append(f"* Golden vectors: {a.images} images of {a.time_steps} ticks.")
    return tuple(lines)


def _state(a: LayerArray, name: str, integer: int) -> str:
    return f"{float(a.spec[name].bits.value(integer)):g}"


def _span(values: Any) -> str:
    return f"{float(values.min()):.4g} to {float(values.max()):.4g}"


def _network(arrays: Sequence[LayerArray], origin: str) -> str:
    content = {
        "network": VERSION,
        "origin": origin,
        "time_steps": arrays[0].time_steps,
        "layers": [_as_dict(a) for a in arrays],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _as_dict(a: LayerArray) -> dict[str, Any]:
    low, high = (float(end) for end in a.input_format.bits.interval)
    norm = None
    if a.norm is not None:
        norm = {
            "name": a.norm.name,
            "scale": a.norm.scale.tolist(),
            "offset": a.norm.offset.tolist(),
        }
    return {
        "path": a.path,
        "folder": a.name,
        "neurons": a.neurons,
        "copies": a.copies,
        "channels": a.channels,
        "x": {
            "format": str(a.input_format),
            "width": a.input_format.width,
            "frac": a.input_format.frac,
            "low": low,
            "high": high,
            "rounding": "half_up",
        },
        "normalisation": norm,
        "initial_states": a.manifest["initial_states"],
        "cycles_per_image": a.cycles,
        "golden_images": a.images,
    }
