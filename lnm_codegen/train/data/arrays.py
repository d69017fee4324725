"""Data sets from arrays of your own: in memory, in an .npz file, or in a folder of .npy files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lnm_codegen.errors import ModelError, ToolError, reason
from lnm_codegen.files import DAMAGED_ARRAYS, unreadable
from lnm_codegen.nn.chain import IGNORED
from lnm_codegen.train.data.dataset import (
    Dataset,
    Kind,
    Scale,
    memory_split,
    standard_scale,
)
from lnm_codegen.validation import Accepted, require_known, wrong

NAMES = ("x_train", "y_train", "x_test", "y_test")
KINDS: dict[str, int] = {"sequence": 3, "image": 4}
_SHAPES = {"sequence": "(samples, T, features)", "image": "(samples, C, H, W)"}
_SCALES = ("standard", "raw")
_REPLACE = "Replace them, or leave these samples out."


def from_arrays(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    kind: Kind = "sequence",
    scale: str | tuple[ArrayLike, ArrayLike] = "standard",
    name: str = "arrays",
) -> Dataset:
    """Return a data set of your own arrays or CPU tensors, for `run(config, data=...)`.

    Args:
        x_train: Inputs for training: sequences (samples, T, *features), or images (samples, C, H,
            W). Numbers or booleans; they become float32.
        y_train: A label for each sample, (samples,): integers or text. Classes are numbered in the
            sorted order of the labels. Sequences may have integers (samples, T), each from 0: a
            label for each time step, -100 for none.
        x_test: Inputs for the reported accuracy, of the same shape but for the first axis.
        y_test: Their labels; each occurs in `y_train` too.
        kind: "sequence", or "image": each time step of a network has the same input.
        scale: "standard" subtracts the mean of each feature (of each channel of images) over the
            training samples, and divides by its deviation; "raw" leaves inputs as they are, as
            spikes should be. (mean, deviation) are your own: numbers, or arrays of the shape of a
            time step, (C, 1, 1) of images.
        name: Name of the samples in records and pages.

    Raises:
        ModelError: Arrays of other shapes or types, numbers that are masked or not finite, or test
            labels that training lacks.
    """
    given = dict(zip(NAMES, (x_train, y_train, x_test, y_test), strict=True))
    return _dataset("from_arrays", given, kind, scale, name)


def arrays(
    folder: Path, limit: int | None = None, kind: Annotated[Kind, Accepted()] = "sequence",
    scale: Annotated[Literal["standard", "raw"], Accepted()] = "standard",
) -> Dataset:  # fmt: skip
    """Return the set in an .npz file, or in a folder of .npy files; see `from_arrays`.

    The names of the arrays or files are x_train, y_train, x_test and y_test.
    """
    data = _dataset(f"data: {folder}", _read(folder), kind, scale, "arrays")
    return data.first(limit)


def _dataset(where: str, given: dict[str, Any], kind: str, scale: Any, name: str) -> Dataset:
    require_known(where, "kind", kind, tuple(KINDS))
    if isinstance(scale, str):
        require_known(where, "scale", scale, _SCALES)
    if type(name) is not str or not name:
        raise wrong(where, "name", name, "a text")
    inputs = [_inputs(where, word, given[word], kind) for word in ("x_train", "x_test")]
    train, test = inputs
    if train.shape[1:] != test.shape[1:]:
        raise _unfit(where, "x_test", tuple(test.shape), f"(samples, {_rest(train)}) as in x_train")
    found = [_numpy(where, word, given[word]) for word in ("y_train", "y_test")]
    for word, x, y in zip(("y_train", "y_test"), inputs, found, strict=True):
        steps = (len(x), x.shape[1])
        if y.shape != (len(x),) and not (kind == "sequence" and y.shape == steps):
            accepted = f"({len(x)},), a label for each sample"
            raise _unfit(where, word, y.shape, accepted + f", or {steps}" * (kind == "sequence"))
    if found[0].ndim != found[1].ndim:
        raise _unfit(where, "y_test", found[1].shape, "labels of the form of y_train")
    per_step = found[0].ndim == 2
    labels, classes = (_of_steps if per_step else _of_samples)(where, found)
    return Dataset(
        name,
        memory_split(train, labels[0]),
        memory_split(test, labels[1]),
        classes,
        "image" if kind == "image" else "sequence",
        tuple(train.shape[1:]),
        _scale(where, scale, train, kind),
        per_step,
    )


def _numpy(where: str, word: str, value: Any) -> NDArray[Any]:
    """Return an array; a list is one too. A tensor may require gradients."""
    if any(map(np.ma.is_masked, value if isinstance(value, list | tuple) else [value])):
        raise ModelError(where, f"{word} has masked values", "an array without a mask", _REPLACE)
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype is torch.bfloat16 else value
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        problem = f"{word} is no array: {reason(error)}"
        remedy = "Pad sequences of different lengths in front."
        raise ModelError(where, problem, "an array, a tensor or a list", remedy) from None
    is_text = found.dtype.kind in "OT" and all(isinstance(one, str) for one in found.flat)
    return found.astype(str) if is_text else found


def _inputs(where: str, word: str, value: Any, kind: str) -> Tensor:
    found = _numpy(where, word, value)
    if found.dtype.kind not in "buif":
        raise wrong(where, f"type of {word}", str(found.dtype), "numbers or booleans")
    least = KINDS[kind]
    if found.ndim < least or (kind == "image" and found.ndim > least) or not found.size:
        raise _unfit(where, word, found.shape, f"{_SHAPES[kind]}, none of them 0")
    with np.errstate(over="ignore"):
        numbers = torch.from_numpy(np.array(found, dtype=np.float32, order="C"))
    bad = int((~torch.isfinite(numbers)).flatten(1).any(1).sum())
    if bad:
        problem = f"{word} has numbers that are not finite in float32, in {bad} samples"
        raise ModelError(where, problem, remedy=_REPLACE)
    return numbers


def _of_samples(where: str, found: Sequence[NDArray[Any]]) -> tuple[list[Tensor], int]:
    """Return the number of each label in the sorted order of the training labels."""
    for word, y in zip(("y_train", "y_test"), found, strict=True):
        if y.dtype.kind not in "biuU":
            raise wrong(where, f"type of {word}", str(y.dtype), "integers or text")
    train, test = found
    known = np.unique(train)
    absent = np.setdiff1d(test, known)
    if absent.size:
        problem = f"y_test has the label {absent[0].item()!r}, which y_train lacks"
        shown = ", ".join(repr(label) for label in known[:10].tolist())
        raise ModelError(where, problem, shown + ", ..." * (len(known) > 10))
    numbers = [torch.from_numpy(np.searchsorted(known, y).astype(np.int64)) for y in found]
    return numbers, len(known)


def _of_steps(where: str, found: Sequence[NDArray[Any]]) -> tuple[list[Tensor], int]:
    """Return the labels of time steps, which are numbers of classes already."""
    for word, y in zip(("y_train", "y_test"), found, strict=True):
        if y.dtype.kind not in "iu":
            raise wrong(where, f"type of {word}", str(y.dtype), "integers, for each time step")
    most = found[0].max()
    for word, y in zip(("y_train", "y_test"), found, strict=True):
        bad = y[((y < 0) & (y != IGNORED)) | (y > most)]
        if bad.size or most < 0:
            accepted = f"0 to {most}, the largest in y_train, or {IGNORED} for none"
            raise wrong(where, f"a label in {word}", (*bad.tolist(), IGNORED)[0], accepted)
    return [torch.from_numpy(y.astype(np.int64)) for y in found], int(most) + 1


def _scale(where: str, scale: Any, train: Tensor, kind: str) -> Scale:
    """Return mean and deviation: of the training inputs, of none, or those that are given."""
    if isinstance(scale, str):
        raw = torch.tensor(0.0), torch.tensor(1.0)
        return _statistics(train, kind) if scale == "standard" else raw
    shape = (train.shape[1], 1, 1) if kind == "image" else tuple(train.shape[2:])
    try:
        mean, std = (
            torch.from_numpy(_numpy(where, "scale", part).astype(np.float32)) for part in scale
        )
        fits = {mean.shape, std.shape} <= {(), shape} and bool(
            torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).all()
        )
    except (ValueError, TypeError):
        fits = False
    if not fits:
        accepted = f"standard, raw, (mean, deviation > 0) as numbers, or as arrays of shape {shape}"
        raise wrong(where, "scale", scale, accepted)
    return mean, std


def _statistics(x: Tensor, kind: str) -> Scale:
    """Return mean and deviation of each feature over samples and time, or of each channel."""
    over = (0, 2, 3) if kind == "image" else (0, 1)
    mean, std = standard_scale(x, over)
    shape = (-1, 1, 1) if kind == "image" else mean.shape
    return mean.reshape(shape), std.reshape(shape)


def _read(path: Path) -> dict[str, Any]:
    """Return the four arrays of an .npz file or a folder of .npy files, without pickles."""
    try:
        if path.is_dir():
            files = {
                name: path / f"{name}.npy" for name in NAMES if (path / f"{name}.npy").exists()
            }
            found = {name: np.load(file, allow_pickle=False) for name, file in files.items()}
        elif isinstance(loaded := np.load(path, allow_pickle=False), NpzFile):
            with loaded:
                found = {name: loaded[name] for name in NAMES if name in loaded}
        else:
            found = {}
    except (OSError, UnpicklingError, *DAMAGED_ARRAYS) as error:
        remedy = "Write it with numpy.savez, as numbers or text."
        raise unreadable(f"data: {path}", error, remedy, ToolError) from None
    for name in NAMES:
        if name not in found:
            accepted = f"an .npz file with {', '.join(NAMES)}, or a folder with these as .npy files"
            raise ToolError(f"data: {path}", f"it has no {name}", accepted)
    return found


def _rest(x: Tensor) -> str:
    return ", ".join(str(size) for size in x.shape[1:])


def _unfit(where: str, word: str, shape: tuple[int, ...], accepted: str) -> ModelError:
    return ModelError(where, f"{word} has the shape {tuple(shape)}", accepted)
