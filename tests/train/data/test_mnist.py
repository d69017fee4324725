"""The idx format, and the sets read from it: the reader is strict, every layout works."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.train.data import load
from lnm_codegen.train.data.images import read_idx
from tests.refusals import refused
from tests.train.data.idx_files import idx_bytes, write_fashion

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


MALFORMED = {
    b"": ("not an idx file", "MNIST"),
    idx_bytes(IMAGES)[:9]: ("not an idx file", "MNIST"),
    b"PK" + bytes(40): ("not an idx file", "MNIST"),
    idx_bytes(IMAGES, kind=0x0D): ("idx type 0x0d with 3 axes", "0x08 with 3 axes"),
    idx_bytes(np.zeros(24, np.uint8)): ("0x08 with 1 axes", "0x08 with 3 axes"),
    idx_bytes(IMAGES)[:-1]: ("23 bytes of data", "24, as its header has shape (2, 3, 4)"),
    idx_bytes(IMAGES) + b"x": ("25 bytes of data", "24, as its header has shape (2, 3, 4)"),
}


def test_files(tmp_path: Path) -> None:
    """They are read back as they were written, or refused whole in one line."""
    path, packed = tmp_path / "a-ubyte", tmp_path / "a-ubyte.gz"
    whole = idx_bytes(IMAGES)
    path.write_bytes(whole)
    packed.write_bytes(gzip.compress(whole))
    for one in (path, packed):
        assert np.array_equal(read_idx(one, axes=3), IMAGES)
    for content, parts in MALFORMED.items():
        path.write_bytes(content)
        with refused(ToolError, path, *parts):
            read_idx(path, axes=3)
    for content in (*(gzip.compress(whole)[:cut] for cut in (3, 30, -4)), whole):
        packed.write_bytes(content)
        problem = "cannot be read: " + "Not a gzipped file" * (content == whole)
        with refused(ToolError, packed, problem, "", "Get the file again."):
            read_idx(packed, axes=3)


def test_layouts(tmp_path: Path) -> None:
    """Debian's .gz, plain files, torchvision's folder, and that of the package on npm.

    On the unit scale pixels are divided by 255, so that black is zero.
    """
    for k, (name, below, gz) in enumerate((
        ("fashion-mnist", "", True), ("fashion-mnist", "", False),
        ("fashion-mnist", "FashionMNIST/raw", False), ("mnist", "", False),
        ("mnist", "MNIST/raw", False), ("mnist", "package/data", False),
    )):  # fmt: skip
        write_fashion(tmp_path / str(k) / below, gz)
        data = load(name, tmp_path / str(k))
        assert data.train.images.shape == (40, 1, 8, 8)
        assert (len(data.train), len(data.test)) == (40, 20)
        images, labels = next(data.batches(data.train, 40))
        assert images.dtype == torch.float32
        assert abs(float(images.mean())) < 1e-5
        assert abs(float(images.std()) - 1) < 1e-4
        assert labels[:9].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    for name in ("fashion-mnist", "mnist"):
        data = load(name, tmp_path / "1", scale="unit")
        images, _ = next(data.batches(data.test, 20))
        assert torch.equal(images, data.test.images.float() / 255)


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    name, folder = "fashion-mnist", write_fashion(tmp_path, gz=False)
    layout = (
        "train-images-idx3-ubyte or train-images-idx3-ubyte.gz in the folder or in FashionMNIST",
        "Run apt-get install dataset-fashion-mnist, or name the folder",
    )
    with refused(ToolError, f"data: {name}", f"{tmp_path}/none does not exist", *layout):
        load(name, tmp_path / "none")
    with refused(ModelError, "data: mnist-sequential", "pixels is 5", "a divisor of 64"):
        load("mnist-sequential", folder, pixels=5)
    test, labels = folder / "t10k-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    test.write_bytes(idx_bytes(np.zeros((20, 9, 9), np.uint8)))
    problem = "training images of (8, 8), test images of (9, 9)"
    with refused(ToolError, folder, problem, "one size"):
        load(name, folder)
    labels.write_bytes(idx_bytes(np.zeros(39, np.uint8)))
    problem = "40 images in train-images-idx3-ubyte and 39 labels in train-labels-idx1-ubyte"
    with refused(ToolError, folder, problem, "equal numbers > 0"):
        load(name, folder)
    labels.write_bytes(idx_bytes(np.full(40, 10, np.uint8)))
    with refused(ToolError, labels, "a label is 10", "0 to 9"):
        load(name, folder)


def test_columns_are_columns(tmp_path: Path) -> None:
    """Step t is column t of the image, over 255."""
    write_fashion(tmp_path)
    images, columns = load("fashion-mnist", tmp_path), load("fashion-columns", tmp_path)
    assert columns.sample == (8, 8)
    x, labels = next(columns.batches(columns.train, 40))
    pixels = images.train.images[:, 0]
    for t in range(8):
        assert torch.equal(x[t], pixels[:, :, t].float() / 255)
    assert torch.equal(labels, images.train.labels)
    data = load("fashion-columns", tmp_path, scale="standard")
    x, _ = next(data.batches(data.train, 40))
    assert abs(float(x.mean())) < 1e-5
    assert abs(float(x.std()) - 1) < 1e-5


@pytest.mark.parametrize("pixels", [1, 4, 64])
def test_sequential_and_permuted_pixels(tmp_path: Path, pixels: int) -> None:
    """Sequential is the image read row by row; permuted is one order of it, the same for all."""
    write_fashion(tmp_path)
    flat = load("mnist", tmp_path).train.images.flatten(1)
    plain = load("mnist-sequential", tmp_path, pixels=pixels)
    assert plain.sample == (64 // pixels, pixels)
    assert torch.equal(plain.train.images.flatten(1), flat)
    mixed = load("mnist-permuted", tmp_path, pixels=pixels, seed=3)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(mixed.train.images.flatten(1), flat[:, order])
    other = load("mnist-permuted", tmp_path, pixels=pixels, seed=4)
    assert not torch.equal(mixed.test.images, other.test.images)
