"""`lnm explain`: what a layer would run on a shape, why, and what that moves and keeps."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lnm_codegen.cli.options import (
    DegreeOption,
    FamilyArgument,
    JsonOption,
    SetOption,
    family_arguments,
)
from lnm_codegen.cli.output import print_json
from lnm_codegen.errors import ModelError
from lnm_codegen.families.library import resolve


def explain(
    family: FamilyArgument,
    shape: Annotated[
        str, typer.Option("--shape", metavar="T,N,...", help="Of the input: T,N,C,H,W, say.")
    ],
    degree: DegreeOption = None,
    settings: SetOption = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32, float64, bfloat16 or float16.")
    ] = "float32",
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    backend: Annotated[
        str, typer.Option("--backend", help="auto, c, triton, cuda or torch.")
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Say which kernel would run, and what it moves."""
    from lnm_codegen.nn import NeuronLayer
    from lnm_codegen.nn.arguments import TYPES
    from lnm_codegen.nn.explain import shaped

    sizes = _sizes(shape)
    types = {word: kind for kind, word in TYPES.items()}
    if dtype not in types:
        raise ModelError("explain", f"dtype is {dtype!r}", types)
    if device not in ("cpu", "cuda"):
        raise ModelError("explain", f"device is {device!r}", "cpu, cuda")
    neuron = resolve(family, **family_arguments(settings, degree))
    rows = sizes[2:] or (1,)
    layer = NeuronLayer(neuron, channels=rows[0], shape=rows, backend=backend)
    found = layer.explain(*(shaped(sizes, types[dtype], device) for _ in neuron.inputs))
    if json:
        print_json(asdict(found))
    else:
        typer.echo(str(found))


def _sizes(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if len(words) < 2 or not all(w.strip().isdecimal() for w in words):
        raise ModelError("explain", f"shape is {text!r}", "T,N or T,N,C,..., say 16,32,64,8,8")
    return tuple(int(w) for w in words)
