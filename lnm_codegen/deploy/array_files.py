"""Files of a network's arrays: a folder for each array; README.md and network.json beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lnm_codegen.backends.base import Source
from lnm_codegen.backends.render import render
from lnm_codegen.deploy.arrays import LayerArray

VERSION = 1


def sources_of(
    arrays: Sequence[LayerArray], title: str, origin: str, place: Path
) -> dict[Path, Source]:
    """Return the files of a network by folder.

    Args:
        arrays: From `arrays_of`.
        title: Title of the README.
        origin: Name of the network in a sentence: "the run runs/lnm3".
        place: Folder of README.md and network.json. Each array has a folder of its name in it.
    """
    view = {
        "title": title,
        "origin": origin,
        "time_steps": arrays[0].time_steps,
        "rows": tuple(_row(a) for a in arrays),
        "layers": tuple((a.path, _lines(a)) for a in arrays),
    }
    network = {
        "network": VERSION,
        "origin": origin,
        "time_steps": arrays[0].time_steps,
        "layers": [_as_dict(a) for a in arrays],
    }
    shared = {
        "README.md": render("verilog/array/network.md.j2", view),
        "network.json": json.dumps(network, indent=2, allow_nan=False) + "\n",
    }
    return {place: Source(shared, "README.md"), **{place / a.name: a.source for a in arrays}}


def _row(a: LayerArray) -> str:
    neurons = f"{a.neurons}" if a.copies == 1 else f"{a.copies} x {a.neurons}"
    cells = (a.path, f"`{a.name}/`", neurons, a.channels, a.input_format, a.cycles)
    return f"| {' | '.join(str(c) for c in cells)} |"


def _lines(a: LayerArray) -> tuple[str, ...]:
    """Return the list items of a layer in the README."""
    low, high = (float(end) for end in a.input_format.bits.interval)
    lines = [f"* x: {a.input_format}, {low:g} to {high:g}."]
    if a.norm is None:
        lines.append("* No batch normalisation stands directly before the layer: x is its input.")
    else:
        scale, offset = (f"{v.min():.4g} to {v.max():.4g}" for v in (a.norm.scale, a.norm.offset))
        lines.append(f"* Normalisation `{a.norm.name}`: scale {scale}, offset {offset}.")
    if a.copies > 1:
        lines.append(
            f"* The layer has {a.copies * a.neurons} neurons, more than one array holds. It needs"
            f" {a.copies} arrays of {a.neurons} neurons; the golden vectors are those of the first."
        )
    held = "one row per channel, in a memory" if a.channels > 1 else "constants in the source"
    lines.append(f"* Coefficients: {held}.")
    starts = (
        f"{name} = {float(a.spec[name].bits.value(integer)):g}"
        for name, integer in a.manifest["initial_states"].items()
    )
    lines.append(f"* Initial states: {', '.join(starts)}.")
    lines.append(f"* Golden vectors: {a.images} images of {a.time_steps} ticks.")
    return tuple(lines)


def _as_dict(a: LayerArray) -> dict[str, Any]:
    low, high = (float(end) for end in a.input_format.bits.interval)
    norm = a.norm and {
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
