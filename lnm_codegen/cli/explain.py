"""`lnm explain`: the kernel of a layer for a shape, the reason, and its memory traffic."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, cast, get_args

import typer

from lnm_codegen.cli.options import (
    DegreeOption,
    DeviceOption,
    DtypeOption,
    FamilyArgument,
    JsonOption,
    SetOption,
    family_arguments,
    parse_integers,
)
from lnm_codegen.cli.output import print_json
from lnm_codegen.families.library import resolve
from lnm_codegen.options import BackendName
from lnm_codegen.validation import require_one_of


def explain(
    family: FamilyArgument,
    shape: Annotated[
        str,
        typer.Option("--shape", metavar="T,N,...", help="Shape of the input, T,N,C,H,W say."),
    ],
    degree: DegreeOption = None,
    settings: SetOption = None,
    dtype: DtypeOption = "float32",
    device: DeviceOption = "cpu",
    backend: Annotated[
        str, typer.Option("--backend", help=f"{', '.join(get_args(BackendName))}.")
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Show the kernel for a shape and its memory traffic."""
    from lnm_codegen.nn import NeuronLayer
    from lnm_codegen.nn.arguments import require_dtype
    from lnm_codegen.nn.explain import shaped

    sizes = parse_integers("explain", "shape", shape, "T,N or T,N,C,...", low=0, count=2)
    kind = require_dtype("explain", dtype)
    require_one_of("explain", "device", device, ("cpu", "cuda"))
    neuron = resolve(family, **family_arguments(settings, degree))
    rows = sizes[2:] or (1,)
    name = cast("BackendName", backend)  # which the layer validates
    layer = NeuronLayer(neuron, channels=rows[0], shape=rows, backend=name)
    found = layer.explain(*(shaped(sizes, kind, device) for _ in neuron.inputs))
    if json:
        print_json(asdict(found))
    else:
        typer.echo(str(found))
