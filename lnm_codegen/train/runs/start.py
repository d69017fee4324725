"""Begin a run with what the neurons of another have learned, in any order of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lnm_codegen.errors import ModelError
from lnm_codegen.train.models import Network
from lnm_codegen.train.runs.checkpoint import HISTORY


def begin_with(network: Network, run: Path | None, order: Sequence[int] | None) -> None:
    """Put the learned neuron parameters of `run` into `network`.

    Args:
        network: Changed in place.
        run: A run folder; None changes nothing.
        order: Layer k takes those of layer order[k] of the run, 0 the first; None is 0, 1, ...

    Raises:
        ModelError: No such run, an order that does not fit, parameters of another shape.
    """
    if run is None:
        return
    path = run / HISTORY
    try:
        held = load_file(path)
    except (OSError, SafetensorError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"train: neurons_from: {path}", said, "a folder that lnm train wrote"
        ) from None
    count = len(network.neurons)
    layers = tuple(range(count)) if order is None else tuple(order)
    if len(layers) != count:
        raise ModelError(
            "train", f"neurons_order is {layers}", f"{count} numbers, one for each layer"
        )
    with torch.no_grad():
        for k, (layer, source) in enumerate(zip(network.neurons, layers, strict=True)):
            for name, value in layer.named_parameters():
                found = held.get(f"{source}.{name}")
                if found is None or found.shape[1:] != value.shape:
                    have = "none" if found is None else str(tuple(found.shape[1:]))
                    raise ModelError(
                        f"train: neurons_from: {path}",
                        (
                            f"layer {k} takes {name} of shape {tuple(value.shape)}; layer {source} of the run "
                            f"has {have}"
                        ),
                        remedy="Name a run of the same neuron and sizes.",
                    )
                value.copy_(found[-1])
