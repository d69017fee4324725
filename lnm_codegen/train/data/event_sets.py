"""Event-camera sets as frames over time, (T, 2, H, W), recorded or simulated.

A batch reads its recordings, cuts them into slices and counts events. The frames are then kept in
memory as 16-bit integers (`keep`), since counting can take longer than training. Channel 0 is OFF
(darker), 1 is ON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.augment import DRAWS, roll
from lnm_codegen.train.data.dataset import LARGEST, Augment, Dataset, Split, source_split
from lnm_codegen.train.data.encoders import saccade_events
from lnm_codegen.train.data.framing import Framing, cached
from lnm_codegen.train.data.mnist import DEBIAN_FOLDER, read_idx_folder
from lnm_codegen.train.data.recordings import Part, class_folders, class_part, numbered, trials
from lnm_codegen.train.data.store import Store, class_files, missing, open_stores
from lnm_codegen.validation import require_bool, require_integer, require_number

_AT_ONCE = 256
"""Images whose saccades are simulated together."""


def n_mnist(
    folder: Path, limit: int | None = None, time_steps: int = 10, binning: str = "count",
    keep: bool = True,
) -> Dataset:  # fmt: skip
    """Return N-MNIST: digits before a moving event camera, 34 x 34. Augmented by rolling.

    The options are those of `Framing`; a sample takes 46 kB at T = 10. The folder holds Train/ and
    Test/ with a folder of .bin or .npz files per digit, or .bs2 files beside train1K.txt and
    test100.txt. It may be an archive of either.
    """
    framing = Framing("n-mnist", time_steps, 34, 34, binning, keep)
    bases = ("", "extract/", "events_np/", "NMNISTsmall/", "test/test_files/NMNISTsmall/")
    for store, base in _places(folder, bases, ("nmnist-small.tar.xz",)):
        parts = class_folders(store, base, (".bin", ".npz"), 10, 34) or numbered(store, base)
        if parts is not None:
            return _event_set(framing, *parts, 10, limit)
    layouts = (
        "Train/<digit>/*.bin and Test/<digit>/*.bin, in the folder or in extract/",
        "train/<digit>/*.npz and test/<digit>/*.npz, in the folder or in events_np/",
        "*.bs2 with train1K.txt and test100.txt, in the folder, in NMNISTsmall/ or in"
        " nmnist-small.tar.xz",
    )
    raise missing("n-mnist", folder, layouts)


def cifar10_dvs(
    folder: Path, limit: int | None = None, time_steps: int = 10, binning: str = "count",
    size: int = 128, keep: bool = True, train_per_class: int = 900,
) -> Dataset:  # fmt: skip
    """Return CIFAR10-DVS: moving CIFAR-10 images before an event camera, 128 x 128.

    There is no official split. As in most papers, the first 900 recordings of a class
    (`train_per_class`), by their numbers, are the training split and the rest the test split.
    Augmented by rolling and flipping. The other options are those of `Framing`; a sample takes
    655 kB at T = 10, and 92 kB at the usual size of 48. The folder holds a folder of .aedat or .npz
    files for each class.
    """
    framing = Framing("cifar10-dvs", time_steps, 128, size, binning, keep)
    cut = require_integer("data: cifar10-dvs", "train_per_class", train_per_class, 1, LARGEST)
    for store, base in _places(folder, ("", "extract/", "events_np/")):
        groups = list(class_files(store, base, (".aedat", ".npz")).values())
        if len(groups) != 10:
            continue
        most = max(len(group) for group in groups)
        if most <= cut:
            problem, accepted = f"at most {most} recordings in a class", f"more than {cut}"
            remedy = "Get the whole set, or lower train_per_class."
            raise ToolError(folder, problem, accepted, remedy)
        train, test = (
            class_part(store, [group[part] for group in groups], 128)
            for part in (slice(None, cut), slice(cut, None))
        )
        return _event_set(framing, train, test, 10, limit, flip=True)
    layouts = (
        "ten folders <class>/*.aedat or <class>/*.npz, in the folder, in extract/ or in events_np/",
    )
    raise missing("cifar10-dvs", folder, layouts)


def dvs_gesture(
    folder: Path, limit: int | None = None, time_steps: int = 16, binning: str = "count",
    size: int = 128, keep: bool = True,
) -> Dataset:  # fmt: skip
    """Return DVS-Gesture: 11 gestures before an event camera, 128 x 128. Augmented by rolling.

    trials_to_train.txt and trials_to_test.txt list the recordings, whose tables give the start and
    the end of each trial, the end excluded: 1,176 and 288 trials. The options are those of
    `Framing`; a sample takes 1 MB at T = 16. The folder holds these two lists, .aedat files and
    their _labels.csv; or train/ and test/ with a folder of .npz files for each class.
    """
    framing = Framing("dvs-gesture", time_steps, 128, size, binning, keep)
    for store, base in _places(folder, ("", "DvsGesture/", "extract/DvsGesture/", "events_np/")):
        parts = trials(store, base) or class_folders(store, base, (".npz",), 11, 128)
        if parts is not None:
            return _event_set(framing, *parts, 11, limit)
    layouts = (
        "trials_to_train.txt and trials_to_test.txt with the .aedat and _labels.csv files that they"
        " name, in the folder or in DvsGesture/",
        "train/<class>/*.npz and test/<class>/*.npz, in the folder or in events_np/",
    )
    raise missing("dvs-gesture", folder, layouts)


def _places(
    folder: Path, bases: Sequence[str], archives: Sequence[str] = ()
) -> Iterator[tuple[Store, str]]:
    """Yield each base of the folder, then those of each archive."""
    return ((store, base) for store in open_stores(folder, archives) for base in bases)


def _event_set(
    framing: Framing, train: Part, test: Part, classes: int, limit: int | None, flip: bool = False
) -> Dataset:
    first = framing.split(*train, roll(flip)).first(limit)
    second = framing.split(*test, None).first(limit)
    return Dataset(framing.name, first, second, classes, "sequence", framing.shape, draws=DRAWS)


def fashion_events(
    folder: Path = DEBIAN_FOLDER,
    limit: int | None = None,
    time_steps: int = 10,
    threshold: float = 0.25,
    keep: bool = True,
) -> Dataset:
    """Return Fashion-MNIST under simulated saccades, (T, 2, 34, 34). Augmented by rolling.

    No event camera recorded it: see `encoders.saccade_events`. It tests a network on event frames,
    not its memory: every slice shows the class. T is 1 to 90, and the contrast `threshold` between
    levels is in (0, 10]. `keep` holds the frames in memory, 46 kB a sample at T = 10; the
    simulation of one takes 5 ms.
    """
    where = "data: fashion-events"
    require_integer(where, "time_steps", time_steps, 1, 90)
    require_number(where, "threshold", threshold, above=0, high=10)
    require_bool(where, "keep", keep)
    parts = read_idx_folder("fashion-mnist", folder)
    # A border of 3 pixels on each side: the amplitude of a saccade.
    shape = (time_steps, 2, *(side + 6 for side in parts[0][0].shape[1:]))

    def split(images: Tensor, labels: Tensor, augment: Augment | None) -> Split:
        def simulate(rows: Tensor) -> Tensor:
            events = [
                saccade_events(images[some].to(torch.float32) / 255, time_steps, threshold)
                for some in torch.split(rows, _AT_ONCE)
            ]
            return torch.cat(events, dim=1).transpose(0, 1).to(torch.int16)

        labels = labels[:limit]
        source = cached(simulate, len(labels), shape) if keep else simulate
        return source_split(source, labels, augment)

    train, test = split(*parts[0], roll(flip=False)), split(*parts[1], None)
    return Dataset("fashion-events", train, test, 10, "sequence", shape, draws=DRAWS)
