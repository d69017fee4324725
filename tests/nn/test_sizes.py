"""`channels` and `shape` of a layer against the inputs of its calls, and tensors of other kinds."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_sequence

import lnm_codegen as lnm
from lnm_codegen.errors import ShapeError
from lnm_codegen.nn.parameters import needed_sizes
from tests.refusals import assert_refused, refused

# PyTorch instantiates a Function while it traces one, and warns of nested tensors.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
]

LIF = lnm.get("lif")
LAST, STILL = "x.movedim(-1, 0)", "x[None]"


def layer(backend: Any = "torch", **options: Any) -> Any:
    return lnm.nn.NeuronLayer(LIF, backend=backend, **options)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=5),
    st.integers(1, 3),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.sampled_from(["m", "s"]),
)
def test_sizes_are_required_as_they_were_given(
    shape: list[int], channels: int, sample: list[int], step_mode: str
) -> None:
    """A call runs if and only if its axes after the batch begin with C, or are the sample."""
    x, first = torch.rand(shape), 2 if step_mode == "m" else 1
    if len(shape) < first:
        return
    for options, fits in (
        ({"channels": channels}, shape[first : first + 1] == [channels]),
        ({"shape": tuple(sample)}, shape[first:] == sample),
        ({"channels": sample[0], "shape": tuple(sample)}, shape[first:] == sample),
    ):
        one = layer(step_mode=step_mode, **options)
        if fits:
            assert one(x).shape == x.shape
        else:
            with pytest.raises(ShapeError):
                one(x)
            assert not one.state


SHAPES = """
lif
    layer(channels=32)(rand(4, 2, 5)) >> (4, 2, 5) >> (T, N, 32, *) >> axis 2 the channels
    layer(channels=32)(rand(4, 2)) >> x_seq has shape (4, 2) >> (T, N, 32, *) >> axis 2 the channels
    layer(channels=32)(rand(4, 32, 9)) >> (4, 32, 9) >> (T, N, 32, *) >> LAST
    layer(channels=32)(rand(4, 32, 8, 8)) >> (4, 32, 8, 8) >> (T, N, 32, *) >> STILL
    layer(channels=3)(rand(4, 2, 8, 8, 3)) >> (4, 2, 8, 8, 3) >> (T, N, 3, *) >> x.movedim(-1, 2)
    layer(shape=(3, 8, 8))(rand(2, 3, 8, 8)) >> (2, 3, 8, 8) >> (T, N, 3, 8, 8) >> STILL
    layer(shape=(3, 8, 8))(rand(2, 3, 8, 8, 4)) >> (2, 3, 8, 8, 4) >> (T, N, 3, 8, 8) >> LAST
    layer(shape=(3, 8, 8))(rand(4, 2, 3, 8, 9)) >> (4, 2, 3, 8, 9) >> (T, N, 3, 8, 8) >>
      axis 2 the channels
    layer(channels=32, step_mode='s')(rand(4, 2, 32)) >> (4, 2, 32) >> (N, 32, *) >> step_mode='m'
    layer(shape=(3, 8), step_mode='s')(rand(4, 2, 3, 8)) >> (4, 2, 3, 8) >> (N, 3, 8) >>
      step_mode='m'
    block(shape=(32, 4))(rand(3, 2, 32, 5)) >> shape=(32, 4) >> (T, N, 32, 4)
    block()(rand(3, 32, 9)) >> (3, 32, 9) >> (T, N, 32, *) >> LAST
lnm
    channel()(rand(4, 32, 9)) >> (4, 32, 9) >> the size of parameter 'theta' per channel >> LAST
    channel(step_mode='s')(rand(4, 2, 32)) >> x_seq has shape (4, 2, 32) >> >> step_mode='m'
    neuron()(rand(4, 32, 9)) >> (4, 32, 9) >> the size of parameter 'theta' per neuron >> LAST
    neuron(step_mode='s')(rand(4, 2, 32)) >> x_seq has shape (4, 2, 32) >> >> step_mode='m'
"""


def test_the_error_says_what_the_input_looks_like() -> None:
    """Its remedy, applied to an input of that form, gives one that the layer takes.

    A parameter that shows the sizes has the same remedies; single-step mode shows no T.
    """
    make = partial(lnm.nn.NeuronLayer, backend="torch")
    names = {
        "layer": layer,
        "block": partial(lnm.nn.NormNeuron, LIF, 32, backend="torch"),
        "channel": partial(make, lnm.get("lnm", degree=2, per="channel"), channels=32),
        "neuron": partial(make, lnm.get("lnm", degree=2, per="neuron"), shape=(32,)),
        "rand": torch.rand,
        "LAST": LAST,
        "STILL": STILL,
    }
    assert_refused(SHAPES, names, ShapeError)
    assert names["channel"]()._sizes is names["neuron"]()._sizes is None
    assert names["block"](shape=(32, 4))(torch.rand(3, 2, 32, 4)).shape == (3, 2, 32, 4)


def test_sizes_in_copies_and_transforms() -> None:
    """The axes of a batch of vmap do not count; a program keeps T and N dynamic."""
    one = layer(channels=3)
    x = torch.rand(4, 2, 3, 5)
    assert torch.func.vmap(one, in_dims=3, out_dims=3)(x).shape == x.shape
    with refused(ShapeError, "lif", "channels=3"):
        torch.func.vmap(one, in_dims=2, out_dims=2)(x)
    sizes = ({0: torch.export.Dim("T"), 1: torch.export.Dim("N")},)
    program = torch.export.export(one, (x[..., 0],), dynamic_shapes=sizes)
    assert program.module()(torch.rand(7, 6, 3)).shape == (7, 6, 3)
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        with refused(ShapeError, "lif", "channels=3"):
            other(x[:, :, :2])
    with refused(ShapeError, "lif", "channels=3"):
        one.explain(x[:, :, :2])


def test_tensors_that_are_not_dense() -> None:
    """A nested tensor of either layout and a packed sequence; each remedy runs."""
    samples = [torch.rand(3, 4), torch.rand(5, 4)]
    one = layer()
    for layout in (torch.strided, torch.jagged):
        nested = torch.nested.nested_tensor(samples, layout=layout)
        with refused(ShapeError, "lif", "'x' is a nested tensor", "one dense tensor") as caught:
            one(nested)
        call = caught.value.remedy.split("Use ")[1].split(" for ")[0]
        assert one(eval(call, {"torch": torch, "x": nested})).shape == (5, 2, 4)
    packed = pack_sequence(samples[::-1])
    with refused(ShapeError, "lif", "is of type PackedSequence", "a tensor") as caught:
        one(packed)
    call = caught.value.remedy.split("Use ")[1].split(", whose")[0]
    assert one(eval(call, {"torch": torch, "x": packed})).shape == (5, 2, 4)


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_a_layer_for_a_measurement_has_the_sizes_that_it_needs(per: Any) -> None:
    """A copy of a layer, made from the shape of one call, takes what the layer takes."""
    neuron, x = lnm.get("lif", learn_tau=True, per=per), torch.rand(3, 2, 4, 5)
    made = lnm.nn.NeuronLayer(neuron, backend="torch", **needed_sizes(neuron, (4, 5)))
    assert not made._is_lazy
    made(x)
    if per == "neuron":
        with refused(ShapeError, "lif"):
            made(x[..., :3])
    else:
        made(x[..., :3])
