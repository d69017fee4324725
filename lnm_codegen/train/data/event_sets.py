"""Event-camera sets as frames over time, (T, 2, H, W), from a folder of the user's.

A recording is read, cut into slices and counted when a batch first asks for it; the frames are
then kept in memory as 16-bit integers (`keep`), since counting can take longer than training.
Channel 0 is OFF (darker), 1 is ON.
"""

from __future__ import annotations

from pathlib import Path

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.augment import DRAWS, roll
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.framing import Framing, recorded_split
from lnm_codegen.train.data.options import check_count, missing
from lnm_codegen.train.data.recordings import Part, class_folders, class_part, numbered, trials
from lnm_codegen.train.data.store import class_files, open_stores

_BASES = {
    "n-mnist": ("", "extract/", "events_np/", "NMNISTsmall/", "test/test_files/NMNISTsmall/"),
    "cifar10-dvs": ("", "extract/", "events_np/"),
    "dvs-gesture": ("", "DvsGesture/", "extract/DvsGesture/", "events_np/"),
}


def n_mnist(
    folder: Path, limit: int | None = None, time_steps: int = 10, binning: str = "count",
    keep: bool = True,
) -> Dataset:  # fmt: skip
    """Return N-MNIST: digits seen by an event camera that moves, 34 x 34. Augmented by rolling.

    Args:
        folder: It holds Train/ and Test/ with a folder of .bin or .npz files per digit; or .bs2
            files beside train1K.txt and test100.txt; or it is an archive of either.
        limit: Keep only so many of each split.
        time_steps: T.
        binning: "count" or "time": what the slices have in common.
        keep: Keep the frames in memory: 46 kB each at T = 10.
    """
    name, framing = "n-mnist", Framing(time_steps, 34, 34, binning, keep)
    framing.check(name)
    for store in open_stores(folder, ("nmnist-small.tar.xz",)):
        for base in _BASES[name]:
            found = class_folders(store, base, (".bin", ".npz"), 10, 34) or numbered(store, base)
            if found is not None:
                return _event_set(name, *found, 10, framing, limit, flip=False)
    layouts = (
        "Train/<digit>/*.bin and Test/<digit>/*.bin, there or in extract/",
        "train/<digit>/*.npz and test/<digit>/*.npz, there or in events_np/",
        "*.bs2 with train1K.txt and test100.txt, there, in NMNISTsmall/ or in nmnist-small.tar.xz",
    )
    raise missing(name, folder, layouts, "Name a folder of one of these with --data-dir.")


def cifar10_dvs(
    folder: Path, limit: int | None = None, time_steps: int = 10, binning: str = "count",
    size: int = 128, keep: bool = True, train_per_class: int = 900,
) -> Dataset:  # fmt: skip
    """Return CIFAR10-DVS: CIFAR-10 images moved before an event camera, 128 x 128.

    There is no official split: the first 900 recordings of a class, by their numbers, are to train
    on and the rest to test, as most papers have it. Augmented by rolling and flipping.

    Args:
        folder: It holds a folder of .aedat or .npz files for each class.
        limit: Keep only so many of each split.
        time_steps: T.
        binning: "count" or "time": what the slices have in common.
        size: Pixels along a side of a frame, 128 or fewer (often 48).
        keep: Keep the frames in memory: 655 kB each at T = 10, 92 kB at size 48.
        train_per_class: Where a class is cut in two.
    """
    name, framing = "cifar10-dvs", Framing(time_steps, 128, size, binning, keep)
    framing.check(name)
    check_count(name, "train_per_class", train_per_class)
    for store in open_stores(folder):
        for base in _BASES[name]:
            groups = list(class_files(store, base, (".aedat", ".npz")).values())
            if len(groups) != 10:
                continue
            if max(len(group) for group in groups) <= train_per_class:
                raise ToolError(
                    folder,
                    f"no class has more than {train_per_class} recordings, which leaves none to test on",
                    remedy="Get the whole set, or lower train_per_class.",
                )
            train = class_part(store, [group[:train_per_class] for group in groups], 128)
            test = class_part(store, [group[train_per_class:] for group in groups], 128)
            return _event_set(name, train, test, 10, framing, limit, flip=True)
    layouts = ("ten folders <class>/*.aedat or <class>/*.npz, there, in extract/ or in events_np/",)
    raise missing(name, folder, layouts, "Name the folder of these with --data-dir.")


def dvs_gesture(
    folder: Path, limit: int | None = None, time_steps: int = 16, binning: str = "count",
    size: int = 128, keep: bool = True,
) -> Dataset:  # fmt: skip
    """Return DVS-Gesture: 11 gestures before an event camera, 128 x 128. Augmented by rolling.

    The files that trials_to_train.txt and trials_to_test.txt name are cut where their tables say,
    start included and end not: 1,176 and 288 recordings.

    Args:
        folder: It holds these two, .aedat files and their _labels.csv; or train/ and test/ with a
            folder of .npz files for each class.
        limit: Keep only so many of each split.
        time_steps: T.
        binning: "count" or "time": what the slices have in common.
        size: Pixels along a side of a frame, 128 or fewer.
        keep: Keep the frames in memory: 1 MB each at T = 16.
    """
    name, framing = "dvs-gesture", Framing(time_steps, 128, size, binning, keep)
    framing.check(name)
    for store in open_stores(folder):
        for base in _BASES[name]:
            found = trials(store, base) or class_folders(store, base, (".npz",), 11, 128)
            if found is not None:
                return _event_set(name, *found, 11, framing, limit, flip=False)
    layouts = (
        "trials_to_train.txt and trials_to_test.txt with the .aedat and _labels.csv files that they"
        " name, there or in DvsGesture/",
        "train/<class>/*.npz and test/<class>/*.npz, there or in events_np/",
    )
    raise missing(name, folder, layouts, "Name a folder of one of these with --data-dir.")


def _event_set(
    name: str, train: Part, test: Part, classes: int, framing: Framing, limit: int | None,
    flip: bool,
) -> Dataset:  # fmt: skip
    first = recorded_split(*train, framing, roll(flip)).first(limit)
    second = recorded_split(*test, framing, None).first(limit)
    return Dataset(name, first, second, classes, "sequence", framing.shape, draws=DRAWS)
