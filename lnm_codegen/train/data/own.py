"""Samples of your own: data sets and loaders of PyTorch as a `Dataset`.

A data set is read when a batch needs its samples. Python's, NumPy's and PyTorch's random numbers
are seeded around each reading and restored after it, so random transforms follow the seed of a run.
A loader is used as it is: its order, its workers and its transforms are its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from lnm_codegen.errors import LnmError, ModelError, reason
from lnm_codegen.nn.chain import IGNORED
from lnm_codegen.nn.load.warn import warn_once
from lnm_codegen.train.data.dataset import (
    FEW,
    LARGEST,
    READ_AT_ONCE,
    Dataset,
    Kind,
    Split,
    padded_to,
)
from lnm_codegen.validation import (
    counted,
    require_bool,
    require_integer,
    require_one_of,
    shown,
    wrong,
)

LABELS = ("label", "labels", "target", "y")
"""Names of the label in a sample that is a dict."""
_ACCEPTED = "a data set with len() and indices, or a DataLoader of one"
_PAIR = f"(input, label), or a dict of an input and one of {', '.join(LABELS)}"
_ARRAY = "a tensor or an array of numbers"
_CLASS = "an integer, the number of a class; one for each time step; or numbers, with loss="
_LARGEST_COUNT = 31
"""Largest byte of a sequence that may be a number of events, without a warning."""


def from_datasets(
    train: Any,
    test: Any,
    *,
    valid: Any = None,
    kind: Kind | None = None,
    time_last: bool = False,
    per_step: bool | None = None,
    classes: int | None = None,
    name: str | None = None,
    longest: int | None = None,
) -> Dataset:
    """Return a data set of PyTorch data sets or loaders, for `run(config, data=...)`.

    `run(config, data=(train, test))` calls it with its defaults.

    Args:
        train: Samples for training: any object with `len()` and indices, such as a
            `torch.utils.data.Dataset`, or a `DataLoader` of one. A sample is (input, label), or a
            dict with two entries, one of them `label`, `labels`, `target` or `y`. Inputs are
            tensors or arrays of equal shapes; they become float32 and are not normalised.
        test: Samples for the reported accuracy.
        valid: Held-out samples. A run tests on them, and `with_test` gives the set with `test`.
        kind: "image", (C, H, W), or "sequence", (T, *features). None counts axes: three are an
            image, any other number is a sequence.
        time_last: Sequences are (*features, T).
        per_step: Labels or targets have a first axis of T time steps. None decides by the length of
            that axis.
        classes: Labels are 0 to classes - 1. None takes the number of the attribute `classes` of
            `train`, else reads all labels first. For targets that are no classes: the length of the
            output of a built-in network, by default that of a target.
        name: Name of the samples in records and pages; by default that of the class of `train`.
        longest: T, for sequences of different lengths. Shorter ones end with steps of NaN, which
            built-in networks leave out; a network of yours calls `unpadded` on its input first.

    A label is an integer, or integers (T,), -100 for a time step without one. Any other target, of
    floats or of another shape, needs a loss function, `run(loss=...)`.

    Raises:
        ModelError: An object that is no such data set, samples of another form or of unequal
            shapes, or labels out of range.
    """
    title = _name(train) if name is None else name
    if not isinstance(title, str) or not title:
        raise wrong("from_datasets", "name", name, "a text, or None")
    where = f"data: {title}"
    require_bool(where, "time_last", time_last)
    require_one_of(where, "kind", kind, ("image", "sequence", None))
    require_one_of(where, "per_step", per_step, (True, False, None))
    require_integer(where, "classes", classes, 1, LARGEST, optional=True)
    require_integer(where, "longest", longest, 1, LARGEST, optional=True)
    given = {"train": train, "valid": valid, "test": test}
    parts = {word: part for word, part in given.items() if word != "valid" or part is not None}
    for word, part in parts.items():
        _require_data_set(where, word, part)
    firsts = {word: _first(where, word, part) for word, part in parts.items()}
    form = _form(f"{where}: train", firsts["train"], kind, time_last, per_step)
    if longest is not None:
        form = _padded(where, form, longest, list(parts.values()))
    known = classes if classes is not None or not form.has_classes else _named_classes(train)
    splits = {word: _split(where, word, part, form) for word, part in parts.items()}
    if form.has_classes and known is None:
        read = [split.labels for split in splits.values()]  # those of `test` are checked below
        known = 1 + max(int(read[0].max()), 0)
    outputs = form.outputs if known is None else known
    form = replace(form, classes=outputs)
    made = {word: split.checked(form) for word, split in splits.items()}
    for word, first in firsts.items():
        _, label = form.pair(first, f"{where}: {word}", 0)
        form.require_in_range(label[None], f"{where}: {word}", [0])
    held_out = "valid" in made
    return Dataset(
        title,
        made["train"],
        made["valid" if held_out else "test"],
        outputs,
        form.kind,
        form.sample,
        per_step=form.per_step,
        is_held_out=held_out,
        has_classes=form.has_classes,
        unread_test=made["test"] if held_out else None,
        padded=form.longest is not None,
    )


def samples_of(where: str, data: Any) -> Dataset:
    """Return a `Dataset`, or that of a pair (train, test) or a triple (train, valid, test).

    Raises:
        ModelError: Another object, or samples that `from_datasets` refuses.
    """
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        accepted = "a Dataset, (train, test) or (train, valid, test)"
        remedy = "Make one of arrays with lnm_codegen.train.from_arrays."
        raise wrong(where, "data", type(data).__name__, accepted, remedy)
    try:
        return from_datasets(data[0], data[-1], valid=data[1] if len(data) == 3 else None)
    except LnmError as error:
        raise error.within(where) from error.__cause__


@dataclass(frozen=True)
class _Form:
    """What all samples of a set have in common.

    Attributes:
        kind: As in `Dataset`.
        shape: Shape of an input as it is given.
        time_last: Time is the last axis of an input.
        per_step: A target has a first axis of T time steps.
        target: Shape of a target.
        has_classes: Targets are classes.
        classes: Labels are below it; None as long as it is not known.
        longest: T of sequences of different lengths, else None.
    """

    kind: Kind
    shape: tuple[int, ...]
    time_last: bool
    per_step: bool
    target: tuple[int, ...]
    has_classes: bool
    classes: int | None = None
    longest: int | None = None

    @property
    def sample(self) -> tuple[int, ...]:
        """Shape of an input, time first."""
        steps, *rest = (self.shape[-1], *self.shape[:-1]) if self.time_last else self.shape
        return (self.longest or steps, *rest)

    @property
    def outputs(self) -> int:
        """Length of the output for targets that are no classes."""
        rest = self.target[1:] if self.per_step else self.target
        return rest[-1] if rest else 1

    def pair(self, item: Any, where: str, row: int) -> tuple[Tensor, Tensor]:
        """Return input and target of a sample, after a check of both."""
        x, y = _pair(where, item)
        return self.input(x, where, row), self.label(y, where, row)

    def input(self, value: Any, where: str, row: int) -> Tensor:
        """Return an input, time first."""
        x = _input(f"{where}: sample {row}", value)
        have = f"the input has the shape {tuple(x.shape)}"
        if self.longest is not None:
            x = x.movedim(-1, 0) if self.time_last and x.dim() else x
            if bool(x.isnan().any()):
                problem = "the input has NaN, which marks the steps behind a shorter sequence"
                raise ModelError(f"{where}: sample {row}", problem, "numbers, with longest")
            if x.shape[1:] != self.sample[1:] or not 1 <= len(x) <= self.longest:
                accepted = f"1 to {self.longest} steps of {self.sample[1:]}"
                raise ModelError(f"{where}: sample {row}", have, accepted, "Raise longest.")
            return padded_to(self.longest, x)
        if tuple(x.shape) != self.shape:
            remedy = "Pad shorter sequences, or give longest= of from_datasets."
            accepted = f"{self.shape}, as the first training sample"
            raise ModelError(f"{where}: sample {row}", have, accepted, remedy)
        return x.movedim(-1, 0) if self.time_last else x

    def label(self, value: Any, where: str, row: int) -> Tensor:
        """Return a label or a target. `require_in_range` checks many labels at once."""
        y = _target(f"{where}: sample {row}", value)
        if self.longest is not None and self.per_step:
            y = _padded_labels(y, self.longest, self.has_classes)
        if tuple(y.shape) != self.target or (self.has_classes and y.is_floating_point()):
            have = f"the label is {y.dtype} of shape {tuple(y.shape)}".replace("torch.", "")
            kind = "integers" if self.has_classes else "numbers"
            accepted = f"{kind} of shape {self.target}, as in the first training sample"
            raise ModelError(f"{where}: sample {row}", have, accepted)
        return y if self.has_classes else y.float()

    def require_in_range(self, labels: Tensor, where: str, rows: Sequence[int]) -> None:
        """Raise ModelError for a label (n, *) that is no class. The message names its row."""
        if not self.has_classes:
            return
        bad = labels < 0
        if self.classes is not None:
            bad |= labels >= self.classes
        if self.per_step:
            bad &= labels != IGNORED
        if bool(bad.any()):
            high = "" if self.classes is None else f" to {self.classes - 1}"
            accepted = f"0{high}" + f", or {IGNORED} for none" * self.per_step
            remedy = "Number the classes from 0, or give classes= of from_datasets."
            row = rows[int(bad.reshape(len(bad), -1).any(1).nonzero()[0])]
            raise wrong(
                f"{where}: sample {row}", "the label", int(labels[bad][0]), accepted, remedy
            )


def _padded(where: str, form: _Form, longest: int, parts: list[Any]) -> _Form:
    """Return the form of sequences of at most `longest` steps."""
    if form.kind != "sequence":
        raise ModelError(where, f"longest is {longest}, and samples are images", "sequences")
    if any(isinstance(part, DataLoader) for part in parts):
        problem = f"longest is {longest}, and the samples are those of a DataLoader"
        raise ModelError(where, problem, remedy="Give its data set, or pad in collate_fn.")
    if form.per_step and not form.has_classes:
        problem = "targets of each time step that are no classes, with longest"
        raise ModelError(where, problem, "labels of classes")
    target = (longest, *form.target[1:]) if form.per_step else form.target
    return replace(form, longest=longest, target=target)


def _padded_labels(y: Tensor, longest: int, has_classes: bool) -> Tensor:
    """Return the labels of the steps of a sample, with none behind its end."""
    if not has_classes or y.dim() != 1 or len(y) > longest:
        return y
    return torch.cat([y, y.new_full((longest - len(y),), IGNORED)])


class _Samples(Split):
    """Some rows of a data set with indices, read when a batch needs them."""

    def __init__(
        self, samples: Any, form: _Form, where: str, rows: Tensor, labels: Tensor | None = None
    ) -> None:
        self._samples, self._form, self._where = samples, form, where
        self._rows, self._labels = rows, labels

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def known_labels(self) -> Tensor | None:
        return self._labels

    @property
    def labels(self) -> Tensor:
        if self._labels is None:
            found = [
                self._form.label(_pair(self._where, item)[1], self._where, row)
                for rows in torch.split(self._rows, 64)
                for row, item in zip(rows.tolist(), self._read(rows, 0), strict=True)
            ]
            self._labels = torch.stack(found) if found else torch.zeros(0, dtype=torch.int64)
            self._form.require_in_range(self._labels, self._where, self._rows.tolist())
        return self._labels

    def checked(self, form: _Form) -> _Samples:
        """Return the split with a form that knows the number of classes."""
        if self._labels is not None:
            form.require_in_range(self._labels, self._where, self._rows.tolist())
        return _Samples(self._samples, form, self._where, self._rows, self._labels)

    def subset(self, rows: Tensor) -> Split:
        labels = None if self._labels is None else self._labels[rows]
        return _Samples(self._samples, self._form, self._where, self._rows[rows], labels)

    def pairs(
        self,
        rows: Tensor,
        chance: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        seed = 0 if generator is None else int(torch.randint(2**31, (), generator=generator))
        return self._stacked(rows, seed)

    def few(self, seed: int) -> tuple[Tensor, Tensor] | None:
        rows = torch.linspace(0, len(self) - 1, min(FEW, len(self))).long()
        return self._stacked(rows, seed)

    def _stacked(self, rows: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        own = self._rows[rows]
        items = self._read(own, seed)
        found = [
            self._form.pair(item, self._where, row)
            for row, item in zip(own.tolist(), items, strict=True)
        ]
        if not found:  # the share of a process in a small last batch
            target = torch.zeros(0, *self._form.target)
            empty = torch.zeros(0, *self._form.sample)
            return empty, target.long() if self._form.has_classes else target
        labels = torch.stack([y for _, y in found])
        self._form.require_in_range(labels, self._where, own.tolist())
        return torch.stack([x for x, _ in found]), labels

    def _read(self, rows: Tensor, seed: int) -> list[Any]:
        """Return samples as the data set gives them, with random numbers that follow a seed."""
        if not len(rows):
            return []
        numbers = rows.tolist()
        row = numbers[0]
        with _seeded(seed + row), _named(self._where, f"reading sample {row}"):
            if hasattr(self._samples, "__getitems__"):
                return list(self._samples.__getitems__(numbers))
            found = []
            for row in numbers:
                found.append(self._samples[row])
            return found


class _Batches(Split):
    """The samples of a `DataLoader`, in the batches that it yields."""

    def __init__(
        self, loader: DataLoader[Any], form: _Form, where: str, count: int, is_whole: bool = True
    ) -> None:
        self._loader, self._form, self._where = loader, form, where
        self._count, self._is_whole = count, is_whole
        self.batch = loader.batch_size

    def __len__(self) -> int:
        return self._count

    @property
    def known_labels(self) -> Tensor | None:
        return None

    @property
    def labels(self) -> Tensor:
        with _seeded(0):
            return torch.cat([y for _, y in self.read_batches(READ_AT_ONCE, None, 0, 0, 1)])

    def checked(self, form: _Form) -> _Batches:
        """Return the split with a form that knows the number of classes."""
        return _Batches(self._loader, form, self._where, self._count, self._is_whole)

    def first(self, limit: int | None) -> Split:
        if limit is None or limit >= self._count:
            return self
        return _Batches(self._loader, self._form, self._where, limit, False)

    def subset(self, rows: Tensor) -> Split:
        raise self._no_indices()

    def pairs(
        self, rows: Tensor, chance: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        raise self._no_indices()

    def few(self, seed: int) -> tuple[Tensor, Tensor] | None:
        samples: Any = self._loader.dataset
        rows = torch.linspace(0, len(samples) - 1, min(FEW, len(samples))).long()
        try:
            return _Samples(samples, self._form, self._where, rows).few(seed)
        except ModelError:  # the loader's own collate_fn makes samples of its own
            return None

    def read_batches(
        self,
        size: int,
        generator: torch.Generator | None,
        draws: int,
        rank: int,
        world: int,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if world > 1:
            problem = "a DataLoader cannot be shared by several processes"
            remedy = "Give its data set: each process then reads its share of every batch."
            raise ModelError(self._where, problem, remedy=remedy)
        waiting: list[tuple[Tensor, Tensor]] = []
        left, read = size, 0
        for x, y in self._parts():
            read += len(x)
            while len(x) >= left:
                waiting.append((x[:left], y[:left]))
                yield _joined(waiting)
                x, y, waiting, left = x[left:], y[left:], [], size
            if len(x):
                waiting.append((x, y))
                left -= len(x)
        if waiting:
            yield _joined(waiting)
        if read != self._count:
            problem = f"the loader gave {read} samples, and its length says {self._count}"
            raise ModelError(self._where, problem, remedy="Correct the length of its sampler.")

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what the loader yields, up to the number of samples of this split."""
        left, batches = self._count, iter(self._loader)
        while left > 0 or self._is_whole:
            with _named(self._where, "the loader"):
                item = next(batches, None)
            if item is None:
                return
            x, y = self._batch(item)
            x, y = (x, y) if self._is_whole else (x[:left], y[:left])
            left -= len(x)
            yield x, y

    def _batch(self, item: Any) -> tuple[Tensor, Tensor]:
        x, y = _pair(self._where, item)
        inputs, labels = _input(self._where, x), _target(self._where, y)
        form = self._form
        if tuple(inputs.shape[1:]) != form.shape or tuple(labels.shape[1:]) != form.target:
            have = f"a batch has the shapes {tuple(inputs.shape)} and {tuple(labels.shape)}"
            accepted = f"(N, *{form.shape}) and (N, *{form.target})"
            raise ModelError(self._where, have, accepted, "Pad sequences to one length.")
        form.require_in_range(labels, f"{self._where}: a batch", range(len(labels)))
        labels = labels if form.has_classes else labels.float()
        return inputs.movedim(-1, 1) if form.time_last else inputs, labels

    def _no_indices(self) -> ModelError:
        problem = "a DataLoader has no indices, so that no sample can be held out of it"
        remedy = "Give (train, valid, test), or the data set in place of its loader."
        return ModelError(self._where, problem, remedy=remedy)


def _name(samples: Any) -> str:
    samples = samples.dataset if isinstance(samples, DataLoader) else samples
    while isinstance(samples, Subset):
        samples = samples.dataset
    return type(samples).__name__


def _named_classes(samples: Any) -> int | None:
    """Return the number of the classes that a data set names, as those of torchvision do."""
    samples = samples.dataset if isinstance(samples, DataLoader) else samples
    while isinstance(samples, Subset):
        samples = samples.dataset
    names = getattr(samples, "classes", None)
    is_list = isinstance(names, Sized) and not isinstance(names, str)
    return len(names) or None if is_list else None  # type: ignore[arg-type]


def _require_data_set(where: str, word: str, samples: Any) -> None:
    """Raise ModelError unless samples have indices and a length, and a loader batches of one."""
    place = f"{where}: {word}"
    loader = samples if isinstance(samples, DataLoader) else None
    own = samples if loader is None else loader.dataset
    if isinstance(own, np.ndarray | Tensor):
        remedy = "Give arrays to lnm_codegen.train.from_arrays, or tensors to a TensorDataset."
        raise ModelError(place, f"a {type(own).__name__}, not a data set", _ACCEPTED, remedy)
    is_map = all(hasattr(own, method) for method in ("__getitem__", "__len__"))
    if isinstance(own, type) or not is_map or isinstance(own, str | Mapping | IterableDataset):
        kind = f"the class {own.__name__}" if isinstance(own, type) else f"a {type(own).__name__}"
        lacks = " without len() and indices" * (not is_map)
        remedy = "Make one object of it." if isinstance(own, type) else ""
        if isinstance(own, IterableDataset):
            remedy = "Read its samples into a list, and give the list."
        raise ModelError(place, f"{kind}{lacks}", _ACCEPTED, remedy)
    if not len(own):  # type: ignore[arg-type]
        raise ModelError(place, "no samples", "one or more")
    if loader is not None and loader.batch_size is None:
        remedy = "Give batch_size to the loader, or give its data set."
        raise ModelError(place, "a DataLoader without batch_size", _ACCEPTED, remedy)


def _split(where: str, word: str, samples: Any, form: _Form) -> _Samples | _Batches:
    place = f"{where}: {word}"
    if not isinstance(samples, DataLoader):
        return _Samples(samples, form, place, torch.arange(len(samples)))
    size = samples.batch_size or 1
    sampler: Any = samples.sampler
    count = len(samples) * size if samples.drop_last else len(sampler)
    return _Batches(samples, form, place, count)


def _first(where: str, word: str, samples: Any) -> tuple[Any, Any]:
    """Return input and label of the first sample, or of the first in a loader's first batch."""
    place = f"{where}: {word}"
    is_loader = isinstance(samples, DataLoader)
    with _seeded(0), _named(place, "the loader" if is_loader else "reading sample 0"):
        item = next(iter(samples)) if is_loader else samples[0]
    x, y = _pair(place, item)
    if not is_loader:
        return x, y
    return _input(place, x)[0], _target(place, y)[0]


def _form(
    where: str, first: tuple[Any, Any], kind: Kind | None, time_last: bool, per_step: bool | None
) -> _Form:
    """Return the form of samples of which this is the first."""
    x, y = _input(where, first[0]), _target(where, first[1])
    shape, target = tuple(x.shape), tuple(y.shape)
    found: Kind = kind or ("image" if len(shape) == 3 and not time_last else "sequence")
    if found == "image" and (len(shape) != 3 or time_last):
        have = f"the input has the shape {shape}" + ", with time last" * time_last
        raise ModelError(where, have, "(C, H, W) for images", "Set kind to sequence for others.")
    if len(shape) < 2 or 0 in shape:
        accepted = "(C, H, W) of an image, (T, *features) of a sequence, or (*features, T)"
        remedy = "Add an axis: x[:, None] has one feature in each time step."
        raise ModelError(where, f"the input has the shape {shape}", accepted, remedy)
    steps = shape[-1] if time_last else shape[0]
    fits = found == "sequence" and target[:1] == (steps,)
    if per_step and not fits:
        have = f"the label has the shape {target}"
        raise ModelError(where, have, f"({steps}, *), for each time step of a sequence")
    steps_labelled = fits if per_step is None else per_step
    has_classes = not y.is_floating_point() and len(target) == int(steps_labelled)
    if per_step is None and steps_labelled and has_classes and _is_one_hot(y):
        raise ModelError(
            where,
            f"the label of the first sample, one 1 in {len(y)} numbers, may be a class as one-hot,"
            " or a label for each time step",
            remedy="Give y.argmax(), or from_datasets(train, test, per_step=True).",
        )
    largest = int(x.max()) if x.dtype is torch.uint8 else 0
    if largest > (1 if found == "image" else _LARGEST_COUNT):
        warn_once(
            f"{where}: the {found}s are bytes, here up to {largest}, and are taken as these"
            " numbers. Scale them in the data set, as torchvision.transforms.ToTensor does."
        )
    return _Form(found, shape, time_last, steps_labelled, target, has_classes)


def _is_one_hot(y: Tensor) -> bool:
    return len(y) > 1 and int(y.sum()) == 1 and bool(((y == 0) | (y == 1)).all())


def _pair(where: str, item: Any) -> tuple[Any, Any]:
    """Return input and label of what a data set or a loader gives."""
    if isinstance(item, Mapping):
        labels = [key for key in item if key in LABELS]
        rest = [key for key in item if key not in LABELS]
        if len(labels) == len(rest) == 1:
            return item[rest[0]], item[labels[0]]
        problem = f"a sample is a dict of {', '.join(map(str, item)) or 'nothing'}"
        raise ModelError(where, problem, _PAIR, "Select two columns.")
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    have = type(item).__name__
    have += f" of {counted(len(item), 'entry').replace('entrys', 'entries')}" * isinstance(
        item, Sequence
    )
    raise ModelError(where, f"a sample is a {have}", _PAIR)


def _input(where: str, value: Any) -> Tensor:
    """Return an input, or a batch of them, as a tensor on the CPU."""
    remedy = "Give the data set a transform that makes a tensor of it."
    if hasattr(value, "getbands"):  # an image of Pillow
        remedy = "Give the data set transform=torchvision.transforms.ToTensor()."
    elif isinstance(value, Mapping) or getattr(getattr(value, "dtype", None), "names", None):
        remedy = "Give the data set a transform that counts events in frames (T, C, H, W)."
    found = _tensor(value)
    if found is None:
        kind = type(value).__name__
        dtype = getattr(value, "dtype", None)
        have = f"the input is a {kind}" + f" of {dtype}" * (dtype is not None)
        raise ModelError(where, have, _ARRAY, remedy)
    return found


def _target(where: str, value: Any) -> Tensor:
    """Return a label, a target, or a batch of them: int64 or float32."""
    is_list = isinstance(value, list | tuple) and all(isinstance(v, int | float) for v in value)
    if isinstance(value, bool | int | float) or is_list:
        value = torch.tensor(value)
    found = _tensor(value)
    if found is None:
        remedy = "Number the classes from 0." if isinstance(value, str) else ""
        raise ModelError(where, f"the label is {shown(value)}", _CLASS, remedy)
    return found.float() if found.is_floating_point() else found.long()


def _tensor(value: Any) -> Tensor | None:
    """Return a tensor on the CPU that shares no memory with an array, or None."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in "biuf":
            return None
        kind = value.dtype.newbyteorder("=")
        if kind.kind == "u" and kind.itemsize > 1:
            kind = np.dtype(np.int64)
        elif kind.kind == "f" and kind.itemsize > 8:
            kind = np.dtype(np.float64)
        return torch.from_numpy(np.array(value, dtype=kind, order="C"))
    if not isinstance(value, Tensor) or value.is_nested or value.is_complex():
        return None
    found: Tensor = value.detach().cpu()
    return found if found.layout is torch.strided else found.to_dense()


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if len(parts) == 1:
        return parts[0]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


@contextmanager
def _named(where: str, doing: str) -> Iterator[None]:
    """Raise exceptions of the user's code as ModelError."""
    try:
        yield
    except LnmError:
        raise
    except Exception as error:
        problem = f"{doing} raised {type(error).__name__}: {reason(error)}"
        remedy = "Pad sequences to one length in the data set, or in collate_fn."
        remedy *= "equal size" in str(error)
        raise ModelError(where, problem, remedy=remedy) from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the random numbers of Python, NumPy and PyTorch, and restore them at the end."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (transforms use the global numbers)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
