"""Image sets: the idx reader is strict, and a split is the same at every call."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.train.data import load
from lnm_codegen.train.idx import read_idx
from tests.train.idx_files import idx_bytes, write_fashion

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("name", ["a-ubyte", "a-ubyte.gz"])
def test_reads_back_what_was_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = idx_bytes(IMAGES)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert np.array_equal(read_idx(path, axes=3), IMAGES)


MALFORMED = {
    "empty": (b"", "not an idx file. Accepted: the idx files of MNIST and its kin."),
    "header cut": (
        idx_bytes(IMAGES)[:9],
        "not an idx file. Accepted: the idx files of MNIST and its kin.",
    ),
    "text": (b"PK" + bytes(40), "not an idx file. Accepted: the idx files of MNIST and its kin."),
    "floats": (
        idx_bytes(IMAGES, kind=0x0D),
        "idx type 0x0d with 3 axes. Accepted: 0x08 (unsigned byte) with 3.",
    ),
    "labels": (
        idx_bytes(np.zeros(24, np.uint8)),
        "idx type 0x08 with 1 axes. Accepted: 0x08 (unsigned byte) with 3.",
    ),
    "short": (
        idx_bytes(IMAGES)[:-1],
        "23 bytes of data; its header says 24, shape (2, 3, 4). Get the file again.",
    ),
    "long": (
        idx_bytes(IMAGES) + b"x",
        "25 bytes of data; its header says 24, shape (2, 3, 4). Get the file again.",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_file_is_refused_whole(tmp_path: Path, case: str) -> None:
    data, message = MALFORMED[case]
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(ToolError) as caught:
        read_idx(path, axes=3)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("cut", [3, 30, -4])
def test_broken_gzip_is_one_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(IMAGES))[:cut])
    with pytest.raises(
        ToolError, match=r"^.*images\.gz: cannot be read: .*\. Get the file again\.$"
    ):
        read_idx(path, axes=3)


def test_a_file_that_is_not_gzip_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(idx_bytes(IMAGES))
    with pytest.raises(ToolError, match="cannot be read: Not a gzipped file"):
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


def test_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as caught:
        load("fashion-mnist", tmp_path / "none")
    assert str(caught.value) == (
        f"data: train-images-idx3-ubyte not found in {tmp_path}/none. Looked for"
        " train-images-idx3-ubyte and train-images-idx3-ubyte.gz there and in FashionMNIST/raw"
        " below it. Run apt-get install dataset-fashion-mnist, or name the folder of the four idx"
        " files with --data-dir."
    )


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    folder = write_fashion(tmp_path, gz=False)
    labels = folder / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(39, np.uint8)))
    with pytest.raises(ToolError) as caught:
        load("fashion-mnist", folder)
    assert str(caught.value) == (
        f"{folder}: 40 images and 39 labels in train-images-idx3-ubyte and"
        " train-labels-idx1-ubyte. Expected as many of one as of the other, and some."
    )
    labels.write_bytes(idx_bytes(np.full(40, 10, np.uint8)))
    with pytest.raises(ToolError) as caught:
        load("fashion-mnist", folder)
    assert str(caught.value) == f"{labels}: a label is 10. Accepted: 0 to 9."


def test_digits_split_is_fixed_stratified_and_whole() -> None:
    first, second = load("digits"), load("digits")
    assert torch.equal(first.test.images, second.test.images)
    assert (len(first.train), len(first.test)) == (1437, 360)
    counts = torch.bincount(first.test.labels)
    assert int(counts.max() - counts.min()) <= 2
    assert int(first.train.images.max()) == 16


def test_digits_take_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load("digits", tmp_path)
    assert str(caught.value) == (
        "data: 'digits' comes with scikit-learn and takes no folder. Leave out --data-dir, or"
        " choose --data fashion-mnist."
    )


def test_unknown_set() -> None:
    with pytest.raises(ModelError) as caught:
        load("fashion_mnist")
    assert str(caught.value) == (
        "data: no set 'fashion_mnist'. Accepted: digits, fashion-mnist. Did you mean"
        " 'fashion-mnist'?"
    )
