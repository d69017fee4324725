"""Data sets of images."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from lnm_codegen.errors import ToolError, reason
from lnm_codegen.train.data.dataset import (
    LARGEST,
    Augment,
    Dataset,
    LabelledSplit,
    Scale,
    Seed,
    Size,
    Split,
    memory_split,
    source_split,
    standard_scale,
)
from lnm_codegen.train.data.store import (
    Folder,
    Store,
    class_files,
    damaged,
    interleaved,
    missing,
    open_stores,
    read_image,
    unequal_classes,
)
from lnm_codegen.validation import Accepted, require_integer, require_package, wrong

# Data sets from images in memory: the images, or their rows, columns or pixels over time.


Labelled = tuple[Tensor, Tensor]
"""Inputs (count, *), and labels (count,)."""


Scaling: TypeAlias = Annotated[Literal["standard", "unit"], Accepted()]


def image_set(
    name: str,
    train: Split,
    test: Split,
    classes: int,
    limit: int | None = None,
    draws: int = 0,
    scale: str = "standard",
) -> Dataset:
    """Return a set of images (C, H, W).

    `scale` is "standard", mean and deviation of each training channel; or "unit", bytes divided by
    255, so that black is 0.
    """
    train, test = train.first(limit), test.first(limit)
    images = train.images
    numbers = _unit(255) if scale == "unit" else channel_scale(images)
    return Dataset(
        name, train, test, classes, "image", tuple(images.shape[1:]), numbers, draws=draws
    )


def _unit(top: int) -> Scale:
    return torch.tensor(0.0), torch.tensor(float(top))


def channel_scale(images: Tensor) -> Scale:
    """Return mean and deviation of each channel of images (N, C, H, W), both (C, 1, 1)."""
    scales = (standard_scale(channel, correction=1) for channel in images.unbind(1))
    mean, std = map(torch.stack, zip(*scales, strict=True))
    return mean.view(-1, 1, 1), std.view(-1, 1, 1)


def pixel_sequences(
    name: str, train: Labelled, test: Labelled, limit: int | None, scale: str, top: int
) -> Dataset:
    """Return a set of sequences of pixels, with ten classes.

    Args:
        name: Name of the set.
        train: (count, T, features), values 0 to `top`; and labels.
        test: The same.
        limit: Largest number of samples in each split.
        scale: "unit" divides by `top`, so that black is 0; "standard" normalises by mean and
            deviation of all training values.
        top: The value of white.
    """
    first, second = (memory_split(*part).first(limit) for part in (train, test))
    numbers = _unit(top)
    if scale == "standard":
        mean, std = channel_scale(first.images.unsqueeze(1))
        numbers = (mean.view(()), std.view(()))
    return Dataset(name, first, second, 10, "sequence", tuple(train[0].shape[1:]), numbers)


# Augmentations of whole batches; each sample depends only on its own uniform numbers.


DRAWS = 3
"""Random numbers per sample: down, right, flip."""

BORDER, SHIFT = 4, 5


def crop_and_flip(images: Tensor, chance: Tensor) -> Tensor:
    """Return random crops of images (n, C, H, W) with a zero border of 4, half of them mirrored.

    This is the augmentation of CIFAR since He et al. 2016.
    """
    n, channels, height, width = images.shape
    down, right = _whole(chance, 2 * BORDER + 1)
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + _mirrored(width, chance[:, 2] < 0.5)
    return pad(images, (BORDER,) * 4)[
        torch.arange(n)[:, None, None, None],
        torch.arange(channels)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def roll(flip: bool) -> Augment:
    """Return an augmentation that rolls frames (n, T, 2, H, W) by up to 5 pixels each way.

    All time steps of a sample get the same shift.

    Args:
        flip: Mirror half of the samples too. Not for digits, nor for gestures of one hand.
    """

    def rolled(frames: Tensor, chance: Tensor) -> Tensor:
        n, (height, width) = len(frames), frames.shape[-2:]
        down, right = (whole - SHIFT for whole in _whole(chance, 2 * SHIFT + 1))
        mirror = (chance[:, 2] < 0.5) & flip
        rows = (torch.arange(height) - down[:, None]) % height
        columns = (_mirrored(width, mirror) - right[:, None]) % width
        where = torch.arange(n)[:, None, None]
        found = frames[where, :, :, rows[:, :, None], columns[:, None, :]]  # (n, H, W, T, 2)
        return found.permute(0, 3, 4, 1, 2)

    return rolled


def _whole(chance: Tensor, values: int) -> tuple[Tensor, Tensor]:
    down, right = (chance[:, :2] * values).long().unbind(1)
    return down, right


def _mirrored(width: int, mirror: Tensor) -> Tensor:
    """Return column indices (n, width), in reverse order where `mirror` (n,) is true."""
    columns = torch.arange(width)
    return torch.where(mirror[:, None], columns.flip(0), columns)


# A reader of pickles that hold dicts, lists, numbers, text and arrays of bytes only.
#
# CIFAR's Python batches are pickles, and a pickle can call any function by its name. This reader
# accepts five names and replaces each by a stand-in. None of NumPy's own types is built, because a
# pickle can put its dtypes and arrays into a state that crashes the interpreter. The stand-ins
# record the arguments, and the reader builds the array at the end.


class _Dtype:
    """Stand-in for numpy.dtype: a byte, and no other."""

    def __init__(self, kind: Any, *flags: Any) -> None:
        if kind not in ("u1", "|u1"):
            raise pickle.UnpicklingError(f"an array of {kind!r}, not of bytes")

    def __setstate__(self, state: Any) -> None:
        """Ignore the state: a byte has none that matters."""


class _Array:
    """Stand-in for numpy.ndarray, and for the function that makes an empty one."""

    def __init__(self, *empty: Any) -> None:
        self.array: NDArray[np.uint8] | None = None

    def __setstate__(self, state: Any) -> None:
        """Build the array from (version, shape, dtype, column-major order, bytes)."""
        _, shape, dtype, by_columns, raw = state
        is_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not (is_shape and type(dtype) is _Dtype and type(raw) is bytes):
            raise pickle.UnpicklingError("an array without shape, type or bytes")
        if len(raw) != math.prod(shape):
            raise pickle.UnpicklingError(f"{len(raw)} bytes for an array of {shape}")
        flat = np.frombuffer(raw, np.uint8)
        self.array = flat.reshape(shape, order="F" if by_columns else "C")


class _Latin1:
    """Stand-in for `_codecs.encode`, by which Python 3 writes bytes in old protocols.

    It is not a function: a pickle could change a function's defaults for the whole process.
    """

    def __new__(cls, text: str, encoding: str = "latin1") -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"the encoding {encoding!r} is not allowed")
        return str(text).encode("latin1")

    def __setstate__(self, state: Any) -> None:
        """Take no state: no object has this type."""


_ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _Latin1,
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]


def read_pickle(raw: bytes, where: str) -> Any:
    """Return the content of a pickle; text of Python 2 is read as Latin-1.

    Args:
        raw: The pickle.
        where: Its name, for messages.

    Raises:
        ToolError: The pickle is broken, or has a name or a type that is not allowed.
    """
    try:
        found = _Restricted(io.BytesIO(raw), encoding="latin1").load()
        if isinstance(found, dict):
            return {key: _plain(value) for key, value in found.items()}
        return _plain(found)
    except Exception as error:  # a broken pickle raises nearly anything
        accepted = "pickles of dicts, lists, numbers, text and arrays of bytes"
        raise damaged(where, f"refused: {reason(error)}", accepted) from None


def _plain(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value


# Digits: the 1,797 images of 8x8 in scikit-learn itself, values 0 to 16.
#
# There is no official split. Ours is drawn at random with seed 0, stratified by class, so the same
# people wrote training and test images. The last 360 in scikit-learn's order come from other
# people: a harder test, whose accuracies do not compare with ours.


TEST, SEED = 360, 0


def digits(limit: int | None = None) -> Dataset:
    """Return the images (1, 8, 8); 1,437 for training, 360 for test."""
    train, test = (memory_split(x.unsqueeze(1), y) for x, y in _digits("random"))
    return image_set("digits", train, test, 10, limit)


def digits_rows(
    limit: int | None = None,
    split: Annotated[Literal["random", "writers"], Accepted()] = "random",
    scale: Scaling = "unit",
) -> Dataset:
    """Return the images row by row: T = 8 steps of 8 pixels.

    `split` is "random", that of `digits`, or "writers": the last 360, of other people. `scale` is
    "unit" (0 to 1) or "standard".
    """
    return pixel_sequences("digits-rows", *_digits(split), limit, scale, top=16)


def _digits(split: str) -> tuple[Labelled, Labelled]:
    require_package("data: digits", "sklearn", "scikit-learn", extra="train")
    from sklearn.datasets import load_digits  # takes a second
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8))
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    rows = np.arange(len(labels))
    if split == "writers":
        train, test = rows[:-TEST], rows[-TEST:]
    else:
        train, test = train_test_split(
            rows, test_size=TEST, stratify=bunch.target, random_state=SEED
        )
    return (images[train], labels[train]), (images[test], labels[test])


# Fashion-MNIST and MNIST from a folder of four idx files: as images, by columns, by pixels.
#
# An idx file, plain or gzipped:
#
#     bytes 0, 1   zero
#     byte  2      0x08, unsigned byte
#     byte  3      number of axes
#     then         each axis as a big-endian unsigned 32-bit integer, then the bytes, row-major


DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LARGEST_FILE = 2**31
"""Bytes of an idx file, unpacked: forty times Fashion-MNIST."""

_BELOW = {"fashion-mnist": ("FashionMNIST/raw",), "mnist": ("MNIST/raw", "package/data", "data")}
_REMEDY = {
    "fashion-mnist": "Run apt-get install dataset-fashion-mnist, or name the folder of the four idx"
    " files with --data-dir.",
    "mnist": "Name the folder of the four idx files with --data-dir.",
}


def fashion_mnist(
    folder: Path = DEBIAN_FOLDER, limit: int | None = None, scale: Scaling = "standard"
) -> Dataset:
    """Return the images (1, 28, 28) of clothes; 60,000 for training, 10,000 for test.

    `scale` is that of `mnist`.
    """
    return _idx_images("fashion-mnist", folder, limit, scale)


def fashion_columns(
    folder: Path = DEBIAN_FOLDER, limit: int | None = None, scale: Scaling = "unit"
) -> Dataset:
    """Return Fashion-MNIST column by column: T = 28 steps, from the left, of 28 rows.

    `scale` is "unit" (0 to 1, as in the published figures) or "standard".
    """
    train, test = ((x.transpose(1, 2), y) for x, y in read_idx_folder("fashion-mnist", folder))
    return pixel_sequences("fashion-columns", train, test, limit, scale, top=255)


def mnist(folder: Path, limit: int | None = None, scale: Scaling = "standard") -> Dataset:
    """Return the images (1, 28, 28) of digits; 60,000 for training, 10,000 for test.

    `scale` is "standard" (mean and deviation), or "unit" (0 to 1): a black pixel is then no event.
    """
    return _idx_images("mnist", folder, limit, scale)


def mnist_sequential(
    folder: Path, limit: int | None = None, pixels: Size = 1, scale: Scaling = "unit"
) -> Dataset:
    """Return MNIST pixel by pixel, row after row: T = 784 steps of one pixel (S-MNIST).

    A step may have more `pixels`, a divisor of those of an image; this is not the standard task.
    `scale` is "unit" (0 to 1) or "standard".
    """
    return _pixel_by_pixel("mnist-sequential", folder, limit, pixels, scale, None)


def mnist_permuted(
    folder: Path,
    limit: int | None = None,
    pixels: Size = 1,
    scale: Scaling = "unit",
    seed: Seed = 0,
) -> Dataset:
    """Return MNIST pixel by pixel in an order drawn once for all images (PS-MNIST).

    The order is `torch.randperm` of `seed`. Each paper has its own order, so accuracies compare
    only up to that draw. The other options are those of `mnist_sequential`.
    """
    return _pixel_by_pixel("mnist-permuted", folder, limit, pixels, scale, seed)


def _idx_images(name: str, folder: Path, limit: int | None, scale: str) -> Dataset:
    train, test = (memory_split(x.unsqueeze(1), y) for x, y in read_idx_folder(name, folder))
    return image_set(name, train, test, 10, limit, scale=scale)


def _pixel_by_pixel(
    name: str, folder: Path, limit: int | None, pixels: int, scale: str, seed: int | None
) -> Dataset:
    parts = read_idx_folder("mnist", folder)
    size = parts[0][0][0].numel()
    if size % pixels:
        raise wrong(f"data: {name}", "pixels", pixels, f"a divisor of {size}")
    order = torch.arange(size)
    if seed is not None:
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    train, test = ((x.flatten(1)[:, order].view(len(x), -1, pixels), y) for x, y in parts)
    return pixel_sequences(name, train, test, limit, scale, top=255)


def read_idx_folder(name: str, folder: Path) -> tuple[Labelled, Labelled]:
    """Return the training and the test images (count, H, W), as bytes, with their labels.

    Args:
        name: "fashion-mnist" or "mnist".
        folder: Folder of the four files, plain or .gz, or one in torchvision's layout.

    Raises:
        ToolError: A file is missing, malformed, or does not fit another.
    """
    train, test = (_read_split(name, folder, word) for word in ("train", "t10k"))
    shape, other = (tuple(x.shape[1:]) for x, _ in (train, test))
    if shape != other:
        raise ToolError(folder, f"training images of {shape}, test images of {other}", "one size")
    return train, test


def _read_split(name: str, folder: Path, word: str) -> Labelled:
    images_file = _find(name, folder, f"{word}-images-idx3-ubyte")
    labels_file = _find(name, folder, f"{word}-labels-idx1-ubyte")
    images, labels = read_idx(images_file, axes=3), read_idx(labels_file, axes=1)
    if len(images) != len(labels) or not len(images):
        raise ToolError(
            folder,
            f"{len(images)} images in {images_file.name} and {len(labels)} labels in"
            f" {labels_file.name}",
            "equal numbers > 0",
        )
    if min(images.shape[1:]) < 4:
        raise ToolError(images_file, f"images of shape {images.shape[1:]}", "4 by 4 pixels or more")
    if labels.max() > 9:
        raise ToolError(labels_file, f"a label is {labels.max()}", "0 to 9")
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def _find(name: str, folder: Path, stem: str) -> Path:
    """Return the file, plain or gzipped, in the folder or in the layouts of other packages."""
    for base in (folder, *(folder / below for below in _BELOW[name])):
        for path in (base / stem, base / f"{stem}.gz"):
            if path.is_file():
                return path
    layouts = (f"{stem} or {stem}.gz in the folder or in {', '.join(_BELOW[name])} below it",)
    raise missing(name, folder, layouts, _REMEDY[name])


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the array of an idx file; a name ending in .gz is decompressed.

    Args:
        path: The file.
        axes: Required number of axes: 3 for images, 1 for labels.

    Raises:
        ToolError: The file cannot be read, or its content differs from its header.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from None
    if len(raw) > LARGEST_FILE:
        raise ToolError(path, "too many bytes", f"{LARGEST_FILE} or fewer")
    head = 4 + 4 * axes
    if len(raw) < head or raw[:2] != b"\0\0":
        raise ToolError(path, "not an idx file", "idx files such as those of MNIST")
    kind, found = raw[2], raw[3]
    if kind != 8 or found != axes:
        problem, accepted = f"idx type 0x{kind:02x} with {found} axes", f"0x08 with {axes} axes"
        raise ToolError(path, problem, accepted)
    shape = struct.unpack(f">{axes}I", raw[4:head])
    if len(raw) - head != math.prod(shape):
        accepted = f"{math.prod(shape)}, as its header has shape {shape}"
        raise damaged(path, f"{len(raw) - head} bytes of data", accepted)
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)


# CIFAR-10 and CIFAR-100 from a folder or archive of the user's, in the usual layouts.


SIZE = 3 * 32 * 32
CIFAR_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


class _Published(NamedTuple):
    """Names in the published archives of a set, which differ between CIFAR-10 and CIFAR-100."""

    classes: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    python: str
    binary: str
    archives: tuple[str, ...]


_CIFAR10 = _Published(
    10, tuple(f"data_batch_{k}" for k in range(1, 6)), ("test_batch",), "labels",
    "cifar-10-batches-py/", "cifar-10-batches-bin/",
    ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar10-jpeg.tar.xz"),
)  # fmt: skip
_CIFAR100 = _Published(
    100, ("train",), ("test",), "fine_labels", "cifar-100-python/", "cifar-100-binary/",
    ("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
)  # fmt: skip


def cifar10(folder: Path, limit: int | None = None) -> Dataset:
    """Return CIFAR-10 (3, 32, 32); 50,000 for training, 10,000 for test.

    Augmented by crop and flip. A JPEG copy differs from the original, so its accuracies do not
    compare exactly.
    """
    return _cifar("cifar10", folder, limit, _CIFAR10)


def cifar100(folder: Path, limit: int | None = None) -> Dataset:
    """Return CIFAR-100 with its fine labels; otherwise as `cifar10`."""
    return _cifar("cifar100", folder, limit, _CIFAR100)


def _cifar(name: str, folder: Path, limit: int | None, names: _Published) -> Dataset:
    for store in open_stores(folder, names.archives):
        splits = (
            _batches(store, names, names.python, "", _pickled)
            or _batches(store, names, names.binary, ".bin", _records)
            or _folders(store, names.classes)
        )
        if splits is not None:
            train, test = (
                part.first(limit).in_memory(augment)
                for part, augment in zip(splits, (crop_and_flip, None), strict=True)
            )
            return image_set(name, train, test, names.classes, draws=DRAWS)
    first = names.train[0]
    layouts = (
        f"Python batches ({first}, in the folder or in {names.python})",
        f"binary batches ({first}.bin, in the folder or in {names.binary})",
        "image folders (train/<class>/*.png or .jpg, test/<class>/)",
        f"an archive of these ({', '.join(names.archives)}, or a .tar.* of another name in place of"
        " the folder)",
    )
    raise missing(name, folder, layouts)


def _batches(
    store: Store, names: _Published, below: str, suffix: str,
    read: Callable[[bytes, str, _Published], Batch],
) -> tuple[Split, Split] | None:  # fmt: skip
    """Return both splits from batch files, which `read` decodes, or None without such files."""

    def split(base: str, files: Sequence[str]) -> Split:
        batches = []
        for path in (f"{base}{file}{suffix}" for file in files):
            if not store.has(path):
                raise ToolError(store.root / path, "missing, although files beside it exist")
            data, labels = read(store.read(path), where := str(store.root / path), names)
            if not len(labels) or not 0 <= labels.min() <= labels.max() < names.classes:
                raise ToolError(where, "wrong labels", f"labels from 0 to {names.classes - 1}")
            batches.append((data, labels))
        images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
        return memory_split(torch.from_numpy(images).view(-1, 3, 32, 32), torch.from_numpy(labels))

    for base in ("", below):
        if store.has(f"{base}{names.train[0]}{suffix}"):
            return split(base, names.train), split(base, names.test)
    return None


def _pickled(raw: bytes, where: str, names: _Published) -> Batch:
    """Read a pickled dict: data (count, 3072), colour by colour, and a list of labels."""
    content = read_pickle(raw, where)
    if not isinstance(content, dict) or "data" not in content or names.labels not in content:
        raise damaged(where, "no images in it", f"a dict with 'data' and {names.labels!r}")
    data, labels = content["data"], content[names.labels]
    is_bytes = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2
    if not is_bytes or data.shape[1] != SIZE or not _are_labels(labels, len(data)):
        accepted = f"'data' of (count, {SIZE}) bytes and as many integers in {names.labels!r}"
        raise damaged(where, "no images in it", accepted)
    return data, np.asarray(labels, np.int64)


def _are_labels(labels: Any, count: int) -> bool:
    return (
        isinstance(labels, list)
        and len(labels) == count
        and all(type(one) is int and abs(one) < 2**31 for one in labels)
    )


def _records(raw: bytes, where: str, names: _Published) -> Batch:
    """Read records of a label byte (CIFAR-100: coarse and fine) and the bytes of an image."""
    head = 1 if names.classes == 10 else 2
    if not raw or len(raw) % (head + SIZE):
        raise damaged(where, f"{len(raw)} bytes", f"a multiple of {head + SIZE}")
    records = np.frombuffer(raw, np.uint8).reshape(-1, head + SIZE)
    return records[:, head:], records[:, head - 1].astype(np.int64)


def _folders(store: Store, classes: int) -> tuple[Split, Split] | None:
    """Read train/<class>/<image>; classes are numbered in the order of their names."""
    words = ("train/", "test/")
    train, test = (class_files(store, word, CIFAR_SUFFIXES) for word in words)
    if not train and not test:
        return None
    if list(train) != list(test) or len(train) != classes:
        raise unequal_classes(store.root, words, (train, test), f"the same {classes} in both")
    return _images(store, list(train.values())), _images(store, list(test.values()))


def _images(store: Store, groups: Sequence[Sequence[str]]) -> Split:
    paths, labels = interleaved(groups)

    def decode(path: str) -> Tensor:
        pixels = np.asarray(read_image(store, path, FORMATS))
        high, wide, _ = pixels.shape
        if (high, wide) != (32, 32):
            raise ToolError(store.root / path, f"{wide} x {high} pixels", "32 x 32 pixels")
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    return source_split(lambda rows: torch.stack([decode(paths[k]) for k in rows.tolist()]), labels)


# ImageNet from class folders on disk: a batch decodes its own images.


SUFFIXES = (".jpeg", ".jpg", ".png")
SCALE: Scale = (
    255 * torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1),
    255 * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1),
)
"""The usual mean and deviation of the channels over the training images."""

LONGEST = 16
"""Largest ratio of the long side to the short side of an image that is resized whole."""
TRIES = 10
IMAGENET_DRAWS = 4 * TRIES + 1

Box = tuple[int, int, int, int]


def imagenet(
    folder: Path,
    limit: int | None = None,
    size: Size = 224,
    short: Size = 256,
    threads: Annotated[int, Accepted(low=1, high=1024)] = 4,
) -> Dataset:
    """Return ImageNet, (3, size, size); as many classes as there are folders (1,000).

    The augmentation of a training image is a random crop of 8 to 100 % of its area, resized, and a
    flip. Without it, and in the test split (val/), the short side is resized to `short` pixels,
    `size` or more, and the centre is cut out. `limit` keeps the classes balanced. Up to 1,024
    `threads` decode.
    """
    words = ("train/", "val/")
    require_integer("data: imagenet", "short", short, size, LARGEST)
    store = Folder(folder)
    train, val = (class_files(store, word, SUFFIXES) for word in words)
    layouts = ("train/<class>/*.JPEG and val/<class>/*.JPEG",)
    if not train or not val:
        if any(Path(name).suffix.lower() in SUFFIXES for name in store.names("val")):
            remedy = "Move each image of val/ into val/<class>/ of its class."
            raise missing("imagenet", folder, layouts, remedy)
        raise missing("imagenet", folder, layouts)
    if list(train) != list(val):
        raise unequal_classes(folder, words, (train, val), "the same in both")
    first, second = (
        _split(store, list(part.values()), size, short, threads).first(limit)
        for part in (train, val)
    )
    shape = (3, size, size)
    return Dataset(
        "imagenet", first, second, len(train), "image", shape, SCALE, draws=IMAGENET_DRAWS
    )


def _split(
    store: Folder, groups: Sequence[Sequence[str]], size: int, short: int, threads: int
) -> Split:
    paths, labels = interleaved(groups)

    def read(rows: Tensor, chance: Tensor | None) -> Tensor:
        numbers = [None] * len(rows) if chance is None else chance.tolist()
        with ThreadPoolExecutor(threads) as pool:  # Pillow decodes and resizes without the lock
            found = list(pool.map(one, rows.tolist(), numbers))
        return torch.stack(found) if found else torch.empty((0, 3, size, size), dtype=torch.uint8)

    def one(row: int, numbers: Sequence[float] | None) -> Tensor:
        image = read_image(store, paths[row], ("JPEG", "PNG"))
        pixels = _sized(image, size, short, numbers)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    return LabelledSplit(labels, read)


def _sized(image: Any, size: int, short: int, numbers: Sequence[float] | None) -> Any:
    """Cut and resize (bilinear, averaging where it shrinks); return bytes (size, size, 3)."""
    from PIL.Image import Resampling, Transpose

    if numbers is not None:
        crop = image.crop(random_box(image.width, image.height, numbers))
        crop = crop.resize((size, size), Resampling.BILINEAR)
        return np.asarray(crop.transpose(Transpose.FLIP_LEFT_RIGHT) if numbers[-1] < 0.5 else crop)
    ratio = short / min(image.size)
    wide, high = (max(short, int(side * ratio)) for side in image.size)
    if max(wide, high) > LONGEST * short:  # a strip: its ends are cut off first
        middle = [(side - min(side, LONGEST * min(image.size))) / 2 for side in image.size]
        image = image.crop((*middle, *(s - m for s, m in zip(image.size, middle, strict=True))))
        return _sized(image, size, short, numbers)
    whole = image.resize((wide, high), Resampling.BILINEAR)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(whole.crop((left, top, left + size, top + size)))


def random_box(width: int, height: int, numbers: Sequence[float]) -> Box:
    """Return the (left, top, right, bottom) of a random part of an image.

    The part has 8 to 100 % of the area and a ratio of width to height of 3/4 to 4/3, uniform in
    the logarithm. It is the first of `TRIES` that fits. Otherwise it is the centre, as near to
    these ratios as the image allows. Each try takes four of the uniform `numbers` in [0, 1).
    """
    low, high = 3 / 4, 4 / 3
    for k in range(0, 4 * TRIES, 4):
        part, shape, x, y = numbers[k : k + 4]
        area = width * height * (0.08 + 0.92 * part)
        ratio = low * (high / low) ** shape
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, max(1, round(height * high))), min(height, max(1, round(width / low)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
