"""Sets and splits: what `load` accepts, how a batch is drawn, what is held out."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lnm_codegen.train.data import DATASETS, Dataset, load
from lnm_codegen.train.data.dataset import memory_split, standard_scale
from lnm_codegen.train.data.images import channel_scale
from tests.refusals import assert_refused


def toy(count: int, classes: int = 3, steps: int | None = None) -> Dataset:
    """Return `count` samples whose inputs are their row; labels per step if `steps` is set."""
    shape = (1, 2, 2) if steps is None else (steps, 2)
    rows = torch.arange(count, dtype=torch.float32).view(-1, *(1 for _ in shape))
    labels = torch.arange(count) % classes
    if steps is not None:
        labels = labels[:, None].repeat(1, steps)
    split = memory_split(rows.expand(count, *shape).clone(), labels, augment_toy)
    kind = "image" if steps is None else "sequence"
    return Dataset("toy", split, split, classes, kind, shape, per_step=steps is not None, draws=2)


def augment_toy(inputs: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    return inputs + chance.sum(1).view(-1, *(1 for _ in inputs.shape[1:])).float()


@settings(max_examples=40)
@given(
    count=st.integers(1, 40), size=st.integers(1, 15), world=st.integers(1, 4),
    seed=st.integers(0, 5), augment=st.booleans(), steps=st.sampled_from([None, 3]),
)  # fmt: skip
def test_ranks_partition_the_batch_of_one_process(
    count: int, size: int, world: int, seed: int, augment: bool, steps: int | None
) -> None:
    """Row i of a whole batch is row i // world of process i % world, its augmentation too."""
    data = toy(count, steps=steps)

    def batches(rank: int, world: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        return list(data.batches(data.train, size, generator, augment, rank, world))

    batch_axis = 0 if steps is None else 1
    whole, parts = batches(0, 1), [batches(rank, world) for rank in range(world)]
    assert {len(part) for part in parts} == {len(whole)} == {-(-count // size)}
    for k, batch in enumerate(whole):
        for each in (0, 1):
            axis = batch_axis if each == 0 or data.per_step else 0
            rows = batch[each].unbind(axis)
            for i, row in enumerate(rows):
                assert torch.equal(parts[i % world][k][each].select(axis, i // world), row)
            assert sum(part[k][each].shape[axis] for part in parts) == len(rows)


@settings(max_examples=40)
@given(count=st.integers(1, 40), size=st.integers(1, 15), seed=st.integers(0, 99))
def test_an_epoch_is_a_permutation_that_depends_on_the_generator(
    count: int, size: int, seed: int
) -> None:
    data = toy(count)

    def order(generator: torch.Generator | None) -> list[float]:
        return [v for x, _ in data.batches(data.train, size, generator) for v in x[:, 0, 0, 0]]

    assert order(None) == list(range(count))
    generator = torch.Generator().manual_seed(seed)
    first, second = order(generator), order(generator)
    assert sorted(first) == list(range(count))
    again = torch.Generator().manual_seed(seed)
    assert (order(again), order(again)) == (first, second)


@settings(max_examples=40)
@given(st.data())
def test_held_out_is_a_stratified_partition(data: st.DataObject) -> None:
    """Each row is on one side; a class gives its share, rounded down or up."""
    labels = torch.tensor(data.draw(st.lists(st.integers(0, 4), min_size=2, max_size=60)))
    total = len(labels)
    count = data.draw(st.integers(1, total - 1))
    split = memory_split(torch.arange(total).view(-1, 1, 1, 1), labels)
    test = memory_split(torch.zeros(1, 1, 1, 1), labels[:1])
    whole = Dataset("toy", split, test, 5, "image", (1, 1, 1))
    part = whole.held_out(count, seed=data.draw(st.integers(0, 9)))
    left, out = part.train.images.flatten(), part.test.images.flatten()
    assert len(out) == len(part.test) == count
    assert torch.equal(torch.cat([left, out]).sort().values, torch.arange(total))
    assert torch.equal(part.train.labels, labels[left])
    assert torch.equal(part.test.labels, labels[out])
    for label in range(5):
        share = count * int((labels == label).sum()) / total
        assert abs(int((part.test.labels == label).sum()) - share) < 1


def test_held_out_depends_on_its_seed_alone() -> None:
    data = toy(30)
    first = data.held_out(10, seed=1)
    torch.manual_seed(5)
    assert torch.equal(data.held_out(10, seed=1).test.images, first.test.images)
    assert not torch.equal(data.held_out(10, seed=2).test.images, first.test.images)
    part = toy(10, steps=4).held_out(3)
    assert (len(part.train), len(part.test)) == (7, 3)
    assert part.test.labels.shape == (3, 4)


REFUSALS = """
data: toy >> from 1 to 9
    toy(10).held_out(0) >> the number held out is 0
    toy(10).held_out(10) >> the number held out is 10
    toy(10).held_out(-1) >> the number held out is -1
    toy(10).held_out(2.5) >> the number held out is 2.5
data: toy
    batch(size=0) >> size is 0 >> >= 1
    batch(size=2.5) >> size is 2.5 >> >= 1
    batch(size=1, rank=2, world=2) >> rank is 2 >> 0 to world - 1 = 1
    batch(size=1, augment=True) >> augment=True draws random numbers >> >> Give a generator.
data: digits >> an integer from 1 to
    load("digits", limit=0) >> limit is 0
    load("digits", limit=-1) >> limit is -1
    load("digits", limit=True) >> limit is True
    load("digits", limit=2.0) >> limit is 2.0
    load("digits", limit=2**31 + 1) >> limit is 2147483649
    load("digits", FOLDER) >> reads no files >> >> Leave out --data-dir.
    load("digits", scale="unit") >> no option 'scale' >> none
    next(digits.batches(digits.train, 4, Generator(), augment=True)) >> no augmentation
        >> >> augment=False
data: digits-rows
    load("digits-rows", scal="unit") >> no option 'scal' >> split, scale >> 'scale'?
    load("digits-rows", scale="log") >> scale is 'log' >> 'standard', 'unit'
data: fashion-mnist
    load("fashion-mnist", FOLDER, scale="log") >> scale is 'log' >> 'standard', 'unit'
data: mnist
    load("mnist") >> read from a folder >> >> with --data-dir
    load("mnist", FOLDER, scale="log") >> scale is 'log' >> 'standard', 'unit'
data: mnist1d
    load("mnist1d", shuffled=1) >> shuffled is 1 >> True, False
data: imagenet
    load("imagenet", FOLDER, size=300) >> short is 256 >> an integer from 300
data: time-series
    load("time-series", problem=3) >> problem is 3 >> text
data: ecg-qtdb
    load("ecg-qtdb", FOLDER, unlabelled="drop") >> unlabelled is 'drop' >> 'first', 'ignore'
data: cifar10-dvs
    load("cifar10-dvs", FOLDER, time_steps=0) >> time_steps is 0 >> an integer from 1 to
    load("cifar10-dvs", FOLDER, binning="fixed") >> binning is 'fixed' >> 'count', 'time'
    load("cifar10-dvs", FOLDER, size=129) >> size is 129 >> an integer from 1 to 128
    load("cifar10-dvs", FOLDER, keep=1) >> keep is 1 >> True, False
data: first-bound
    load("first-bound", bound=0.0) >> bound is 0.0 >> a number > 0
    load("first-bound", time_steps=3) >> time_steps is 3 >> an integer from 4 to
data: gated-memory
    load("gated-memory", pulses=0) >> pulses is 0 >> an integer from 1 to
    load("gated-memory", time_steps=5) >> time_steps is 5 >> an integer from 6 to
    load("gated-memory", distractor=1.0) >> distractor is 1.0 >> a number >= 0 and
data: delayed-xor
    load("delayed-xor", time_steps=19) >> time_steps is 19 >> an integer from 20 to
    load("delayed-xor", noise=0.0) >> noise is 0.0 >> a number > 0 and <= 1
    load("delayed-xor", channels=0) >> channels is 0 >> an integer from 1 to
    load("delayed-xor", train=0) >> train is 0 >> an integer from 1 to
    load("delayed-xor", seed=-1) >> seed is -1 >> an integer from 0 to
    load("delayed-xor", seed=2**31 + 1) >> seed is 2147483649 >> to 2147483648
data
    load("fashion_mnist") >> no set 'fashion_mnist' >> KNOWN >> 'fashion-mnist'?
"""


def test_refusals(tmp_path: Path, digits: Dataset) -> None:
    def batch(**arguments: Any) -> None:
        data = toy(4)
        next(data.batches(data.train, **arguments))

    names = {"FOLDER": tmp_path, "KNOWN": ", ".join(DATASETS[:5]), "Generator": torch.Generator}
    names |= {"batch": batch, "toy": toy, "load": load, "digits": digits}
    assert_refused(REFUSALS, names)


@settings(max_examples=40)
@given(
    st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False),
    st.integers(1, 5),
    st.integers(2, 300),
)
def test_equal_values_have_deviation_one(value: float, channels: int, count: int) -> None:
    """In float32 their deviation is not 0: 77/255 gave 3e-8."""
    images = torch.full((count, channels, 8, 8), value)
    for mean, std in (channel_scale(images), standard_scale(images, (0, 2, 3))):
        assert torch.equal(mean.flatten(), torch.full((channels,), value))
        assert torch.equal(std.flatten(), torch.ones(channels))


def test_batches_have_time_first_and_leave_the_kept_inputs_alone() -> None:
    """x (T, N, *features) and labels (T, N), contiguous."""
    x, labels = next((data := toy(6, steps=4)).batches(data.train, 5))
    assert (x.shape, labels.shape) == ((4, 5, 2), (4, 5))
    assert x.is_contiguous()
    assert labels.is_contiguous()
    assert x[2, :, 0].tolist() == [0, 1, 2, 3, 4]
    data = replace(toy(4), scale=(torch.tensor(1.0), torch.tensor(2.0)))
    x, _ = next(data.batches(data.train, 4))
    assert x[:, 0, 0, 0].tolist() == [-0.5, 0, 0.5, 1]
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_mean_and_deviation_over_axes() -> None:
    x = np.random.default_rng(0).normal(1e3, 1.0, (50, 3, 7)).astype(np.float32)
    wide = x.astype(np.float64)
    for correction in (0, 1):
        mean, std = standard_scale(torch.from_numpy(x), (0, 2), correction)
        assert np.allclose(mean, wide.mean((0, 2)), rtol=1e-7)
        assert np.allclose(std, wide.std((0, 2), ddof=correction), rtol=1e-7)
        assert (mean.dtype, std.dtype) == (torch.float32, torch.float32)


def test_digits_split_is_fixed_stratified_and_whole() -> None:
    first, second = load("digits"), load("digits")
    assert torch.equal(first.test.images, second.test.images)
    assert (len(first.train), len(first.test)) == (1437, 360)
    some = load("digits", limit=7)
    assert (len(some.train), len(some.test)) == (7, 7)
    assert torch.equal(some.train.images, first.train.images[:7])
    assert torch.equal(some.train.labels, first.train.labels[:7])
    counts = torch.bincount(first.test.labels)
    assert int(counts.max() - counts.min()) <= 2
    assert int(first.train.images.max()) == 16
    x, _ = next(first.batches(first.train, 1437))
    assert abs(float(x.mean())) < 1e-5
    assert abs(float(x.std()) - 1) < 1e-5


def test_digits_row_by_row() -> None:
    """Step t is row t over 16; "writers" are the last 360 of scikit-learn's order."""
    from sklearn.datasets import load_digits

    data = load("digits-rows", split="writers")
    assert (data.kind, data.sample, len(data.train), len(data.test)) == (
        "sequence", (8, 8), 1437, 360,
    )  # fmt: skip
    x, labels = next(data.batches(data.test, 360))
    bunch = load_digits()
    for t in range(8):
        assert np.array_equal(x[t].numpy(), bunch.images[-360:, t].astype(np.float32) / 16)
    assert np.array_equal(labels.numpy(), bunch.target[-360:])
    random = load("digits-rows")
    assert torch.equal(random.test.images, load("digits").test.images[:, 0])


def test_mnist1d_is_the_published_one_and_leaves_the_global_generators() -> None:
    """4,000 and 1,000 sequences of 40 of seed 42; NumPy's seed and Python's are given back."""
    pytest.importorskip("mnist1d")
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    data = load("mnist1d")
    after = np.random.random(), random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    assert after == (np.random.random(), random.random())  # noqa: NPY002
    assert (len(data.train), len(data.test), data.sample) == (4000, 1000, (40, 1))
    x, labels = next(data.batches(data.test, 1000))
    assert x.shape == (40, 1000, 1)
    assert x[:4, 0, 0].tolist() == pytest.approx(
        [-0.078771, -0.210732, -0.091751, 0.282671], abs=1e-5
    )
    assert labels[:8].tolist() == [2, 6, 3, 9, 4, 3, 1, 9]
    assert data.train.labels[:8].tolist() == [2, 6, 4, 5, 6, 6, 6, 0]
    assert float(x.double().square().sum()) == pytest.approx(40751.746, abs=0.05)
    assert abs(float(data.train.images.std()) - 1) < 0.02
