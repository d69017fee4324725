"""`lnm explain`: the kernel of a layer for a shape, the reason, and its memory traffic."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lnm_codegen.cli.options import Degree, Meta, Settings, family_arguments, parse_integers
from lnm_codegen.cli.output import print_json
from lnm_codegen.families.library import resolve
from lnm_codegen.options import BackendName, DtypeName
from lnm_codegen.validation import require_one_of


def explain(
    family: str,
    /,
    *,
    shape: Annotated[str, Meta("T,N,...")],
    degree: Degree = None,
    set_: Settings = None,
    dtype: DtypeName = "float32",
    device: str = "cpu",
    backend: BackendName = "auto",
    json: bool = False,
) -> None:
    """Show the kernel for a shape and its memory traffic.

    Options:
        shape: Shape of the input, T,N,C,H,W say.
        backend: Backend of the layer.
    """
    from lnm_codegen.nn.arguments import require_dtype
    from lnm_codegen.nn.explain import shaped
    from lnm_codegen.nn.layer import NeuronLayer

    sizes = parse_integers("explain", "shape", shape, "T,N or T,N,C,...", low=0, count=2)
    kind = require_dtype("explain", dtype)
    require_one_of("explain", "device", device, ("cpu", "cuda"))
    neuron = resolve(family, **family_arguments(set_, degree))
    rows = sizes[2:] or (1,)
    layer = NeuronLayer(neuron, channels=rows[0], shape=rows, backend=backend)
    found = layer.explain(*(shaped(sizes, kind, device) for _ in neuron.inputs))
    if json:
        print_json(asdict(found))
    else:
        typer.echo(str(found))
