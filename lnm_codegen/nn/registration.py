"""Registration of a neuron's operator, before a program of `torch.export` is loaded."""

from __future__ import annotations

from lnm_codegen.errors import UnsupportedError
from lnm_codegen.language.neuron import Neuron
from lnm_codegen.language.normalisation import normalised
from lnm_codegen.nn.arguments import recording, require_record
from lnm_codegen.nn.layer import NeuronLayer
from lnm_codegen.nn.norm.layer import NormNeuron
from lnm_codegen.nn.operators import NAMESPACE, batch_operator_of, operator_of
from lnm_codegen.nn.select import FUSED
from lnm_codegen.validation import require_bool, require_known, wrong


def register(
    neuron_or_layer: Neuron | NeuronLayer,
    backend: str = "c",
    detach_reset: bool | None = None,
    record: tuple[str, ...] = (),
) -> str:
    """Register the operator of a neuron with PyTorch, and return its name.

    `torch.export.load` of a program with this operator needs it in a process that has not exported
    such a layer. Parameters are inputs of the operator, so their values do not matter. The operator
    of training of a `NormNeuron` is registered with that of evaluation.

    Args:
        neuron_or_layer: The neuron of the exported layer, or an equal layer.
        backend: Backend of the exported layer: "c", "triton" or "cuda". A program with the backend
            "torch" has no operator.
        detach_reset: As in the exported layer; None keeps that of the neuron.
        record: As in the exported layer; () keeps that of a layer. To give an `interval`, give the
            layer.

    Raises:
        ModelError: An argument is outside these ranges.
        UnsupportedError: The layer computes in integers.

    Example:
        >>> import lnm_codegen as lnm
        >>> lnm.nn.register(lnm.get("lif")).startswith("lnm::lif_c_")
        True
    """
    where = "register"
    require_known(where, "backend with operators", backend, FUSED)
    names = require_record(record)
    if isinstance(neuron_or_layer, NeuronLayer):
        neuron, interval = neuron_or_layer.neuron, neuron_or_layer.interval
        names = names or neuron_or_layer.record
        if neuron_or_layer.arithmetic is not None:
            problem = "this layer computes in integers, which have no operator"
            remedy = "Use a layer without arithmetic."
            raise UnsupportedError(neuron.name, problem, remedy=remedy)
    elif isinstance(neuron_or_layer, Neuron):
        neuron, interval = neuron_or_layer, (-1e30, 1e30)
    else:
        raise wrong(where, "neuron_or_layer", neuron_or_layer, "an lnm.Neuron or a NeuronLayer")
    if detach_reset is not None:
        neuron = neuron.with_detach_reset(require_bool(where, "detach_reset", detach_reset))
    if isinstance(neuron_or_layer, NormNeuron):
        neuron = normalised(neuron, neuron_or_layer.shortcut)
    neuron = recording(neuron, names, interval)
    if neuron.prologue is not None:
        batch_operator_of(neuron, backend)
    return f"{NAMESPACE}::{operator_of(neuron, backend).name}"
