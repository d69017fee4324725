"""A network of one's own in integers: an `nn.Sequential` on (T, N, *), or a module with a chain."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from lnm_codegen.backends.network_c.layers import Accumulation
from lnm_codegen.deploy.integers.chains import WHERE, chained, require_outputs
from lnm_codegen.deploy.integers.convert import default_network, real_network
from lnm_codegen.deploy.integers.emit import EmittedNetwork, NetworkTarget, emit_integers
from lnm_codegen.deploy.integers.layers import differing_notes, zero_notes
from lnm_codegen.deploy.integers.weights import WeightFormat
from lnm_codegen.deploy.network import trace_layers
from lnm_codegen.errors import ModelError, ShapeError
from lnm_codegen.ir.network.nodes import OverTime
from lnm_codegen.language.symbols import require_name
from lnm_codegen.nn.hooks import evaluating
from lnm_codegen.options import NetworkTargetName
from lnm_codegen.validation import require_integer, require_one_of, require_type


def emit_network(
    module: nn.Module,
    samples: Tensor,
    backend: NetworkTargetName = "c",
    *,
    name: str = "network",
    over: OverTime | None = None,
    weights: int = 8,
    vectors: int | None = None,
    accumulate: Accumulation | None = None,
    lanes: int | None = None,
    load_port: bool = False,
) -> EmittedNetwork:
    """Return a trained network of your own in integers, as C or Verilog.

    It runs in eval mode on the samples. The numbers of the neurons have 16 bits, the input 12.

    Args:
        module: An `nn.Sequential` of linear layers, neuron layers and more, from (T, N, *) to
            outputs (T, N, classes); nested ones too. Or a module whose method `chain()` returns a
            `Chain`, such as the networks `feedforward` and `conv` of `lnm.train.build`.
        samples: Inputs of the module, some hundred training samples: formats hold the values that
            occur on them. The first are those of the example in C, or of the testbench.
        backend: "c" or "verilog".
        name: Prefix of files and functions.
        over: Scores of an `nn.Sequential`: "mean" (default), "last" or "max" of its outputs over
            time.
        weights: Bits of a weight, 2 to 16.
        vectors: Samples of the example, by default 4, or of the testbench, by default 8.
        accumulate: Sums in C: "events" (default) adds the weights of inputs that are not zero,
            "dense" multiplies all.
        lanes: Weights that a layer in Verilog adds in a cycle, by default 4.
        load_port: A port in Verilog by which weights are loaded.

    Raises:
        ModelError: Another argument, a number that is not finite or does not fit its format, or a
            `chain()` with other outputs than the module.
        ShapeError: `samples` have another shape or type.
        UnsupportedError: A module or a neuron has no form in integers; the place has its path.
    """
    require_type(WHERE, "module", module, nn.Module, "a torch.nn.Module")
    require_type(WHERE, "samples", samples, Tensor, "a tensor, inputs of the module")
    require_one_of(WHERE, "backend", backend, get_args(NetworkTargetName))
    require_integer(WHERE, "weights", weights, 2, 16)
    target = NetworkTarget(backend, vectors, accumulate, lanes, load_port)
    target.require(WHERE)
    require_name(f"{WHERE}: name", name)
    if samples.dtype not in (torch.float32, torch.float64):
        problem, remedy = f"samples are {samples.dtype}", "Convert them: samples.float()."
        raise ShapeError(WHERE, problem, "torch.float32, torch.float64", remedy)
    others = samples[~samples.isfinite()]
    if others.numel():
        raise ModelError(WHERE, f"samples hold {float(others[0]):g}", "finite numbers")
    network, chain = chained(module, samples, over)
    axes = 1 if chain.time_steps is None else 0
    if samples.dim() < axes + 2 or samples.numel() == 0:
        accepted = "(T, N, *)" if axes else "(N, *)"
        raise ShapeError(WHERE, f"samples have shape {tuple(samples.shape)}", accepted)
    if vectors is not None:
        require_integer(WHERE, "vectors", vectors, 1, samples.shape[axes])
    sample = (*samples.shape[:axes], *samples.shape[axes + 1 :])
    with evaluating(network):
        real = real_network(name, network, chain, sample)
        require_outputs(network, chain, samples)
        integers = default_network(real, samples.detach(), WeightFormat(weights))
        _, traces = trace_layers(network, samples)
    notes = zero_notes(integers, real.neurons) + differing_notes(real.neurons, integers, traces)
    return emit_integers(integers, samples.detach(), target, notes)
