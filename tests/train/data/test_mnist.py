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


@pytest.mark.parametrize("name", ["a-ubyte", "a-ubyte.gz"])
def test_reads_back_what_was_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = idx_bytes(IMAGES)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert np.array_equal(read_idx(path, axes=3), IMAGES)


MALFORMED = {
    "empty": (b"", "not an idx file", "MNIST"),
    "header cut": (idx_bytes(IMAGES)[:9], "not an idx file", "MNIST"),
    "text": (b"PK" + bytes(40), "not an idx file", "MNIST"),
    "floats": (idx_bytes(IMAGES, kind=0x0D), "idx type 0x0d with 3 axes", "0x08 with 3 axes"),
    "labels": (idx_bytes(np.zeros(24, np.uint8)), "0x08 with 1 axes", "0x08 with 3 axes"),
    "short": (idx_bytes(IMAGES)[:-1], "23 bytes of data", "24, as its header has shape (2, 3, 4)"),
    "long": (idx_bytes(IMAGES) + b"x", "25 bytes of data", "24, as its header has shape (2, 3, 4)"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_file_is_refused_whole(tmp_path: Path, case: str) -> None:
    data, problem, accepted = MALFORMED[case]
    path = tmp_path / "images"
    path.write_bytes(data)
    with refused(ToolError, path, problem, accepted):
        read_idx(path, axes=3)


@pytest.mark.parametrize("cut", [3, 30, -4])
def test_broken_gzip_is_one_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(IMAGES))[:cut])
    with refused(ToolError, path, "cannot be read: ", remedy="Get the file again."):
        read_idx(path, axes=3)


def test_a_file_that_is_not_gzip_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(idx_bytes(IMAGES))
    with refused(ToolError, path, "cannot be read: Not a gzipped file"):
        read_idx(path, axes=3)


@pytest.mark.parametrize(("below", "gz"), [("", True), ("", False), ("FashionMNIST/raw", False)])
def test_fashion_mnist_layouts(tmp_path: Path, below: str, gz: bool) -> None:
    """Debian's .gz, plain files, and torchvision's folder all work."""
    write_fashion(tmp_path / below, gz)
    data = load("fashion-mnist", tmp_path)
    assert data.train.images.shape == (40, 1, 8, 8)
    assert (len(data.train), len(data.test)) == (40, 20)
    images, labels = next(data.batches(data.train, 40))
    assert images.dtype == torch.float32
    assert abs(float(images.mean())) < 1e-5
    assert abs(float(images.std()) - 1) < 1e-4
    assert labels[:9].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_black_is_zero_on_the_unit_scale(tmp_path: Path) -> None:
    """Pixels divided by 255; the scale is validated."""
    write_fashion(tmp_path)
    for name in ("fashion-mnist", "mnist"):
        data = load(name, tmp_path, scale="unit")
        images, _ = next(data.batches(data.test, 20))
        assert torch.equal(images, data.test.images.float() / 255)
        with refused(ModelError, f"data: {name}", "scale is 'log'", "'standard', 'unit'"):
            load(name, tmp_path, scale="log")


def test_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with refused(
        ToolError, "data: fashion-mnist", f"{tmp_path}/none does not exist",
        "train-images-idx3-ubyte or train-images-idx3-ubyte.gz in the folder or in FashionMNIST",
        "Run apt-get install dataset-fashion-mnist, or name the folder",
    ):  # fmt: skip
        load("fashion-mnist", tmp_path / "none")


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    folder = write_fashion(tmp_path, gz=False)
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(39, np.uint8)))
    problem = "40 images in train-images-idx3-ubyte and 39 labels in train-labels-idx1-ubyte"
    with refused(ToolError, folder, problem, "equal numbers > 0"):
        load("fashion-mnist", folder)
    labels.write_bytes(idx_bytes(np.full(40, 10, np.uint8)))
    with refused(ToolError, labels, "a label is 10", "0 to 9"):
        load("fashion-mnist", folder)


def test_sizes_that_differ_between_the_splits(tmp_path: Path) -> None:
    write_fashion(tmp_path, gz=False)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((20, 9, 9), np.uint8)))
    problem = "training images of (8, 8), test images of (9, 9)"
    with refused(ToolError, tmp_path, problem, "one size"):
        load("fashion-mnist", tmp_path)


@pytest.mark.parametrize("below", ["", "MNIST/raw", "package/data"])
def test_mnist_layouts(tmp_path: Path, below: str) -> None:
    """Four files, torchvision's folder, and that of the package on npm."""
    write_fashion(tmp_path / below, gz=False)
    assert load("mnist", tmp_path).train.images.shape == (40, 1, 8, 8)


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


def test_standard_scale_of_a_sequence(tmp_path: Path) -> None:
    write_fashion(tmp_path)
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


def test_pixels_that_do_not_divide(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    with refused(ModelError, "data: mnist-sequential", "pixels is 5", "a divisor of 64"):
        load("mnist-sequential", tmp_path, pixels=5)
