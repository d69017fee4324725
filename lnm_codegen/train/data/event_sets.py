"""Event-camera sets as frames over time, (T, 2, H, W), recorded or simulated.

A batch reads its recordings, cuts them into slices and counts events. The frames are then kept in
memory as 16-bit integers (`keep`), since counting can take longer than training. Channel 0 is OFF
(darker), 1 is ON.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.augment import DRAWS, roll
from lnm_codegen.train.data.dataset import LARGEST, Augment, Dataset, Split
from lnm_codegen.train.data.encoders import saccade_events
from lnm_codegen.train.data.framing import Framing, frame_split
from lnm_codegen.train.data.mnist import DEBIAN_FOLDER, read_idx_folder
from lnm_codegen.train.data.recordings import Part, class_folders, class_part, numbered, trials
from lnm_codegen.train.data.store import class_files, missing, open_stores
from lnm_codegen.validation import require_bool, require_integer, require_number

_AT_ONCE = 256
"""Images whose saccades are simulated together."""


def n_mnist(
    folder: Path, limit: int | None = None, time_steps: int = 10, binning: str = "count",
    keep: bool = True,
) -> Dataset:  # fmt: skip
    """Return N-MNIST: digits before a moving event camera, 34 x 34. Augmented by rolling.

    Args:
        folder: Folder of Train/ and Test/ with a folder of .bin or .npz files per digit; or of .bs2
            files beside train1K.txt and test100.txt; or an archive of either.
        limit: Largest number of samples in each split.
        time_steps: T.
        binning: "count" or "time": the quantity that is equal in all slices.
        keep: Keep the frames in memory: 46 kB each at T = 10.
    """
    framing = Framing("n-mnist", time_steps, 34, 34, binning, keep)
    for store in open_stores(folder, ("nmnist-small.tar.xz",)):
        for base in ("", "extract/", "events_np/", "NMNISTsmall/", "test/test_files/NMNISTsmall/"):
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

    There is no official split. As in most papers, the first 900 recordings of a class, by their
    numbers, are the training split and the rest the test split. Augmented by rolling and flipping.

    Args:
        folder: Folder that holds a folder of .aedat or .npz files for each class.
        limit: Largest number of samples in each split.
        time_steps: T.
        binning: "count" or "time": the quantity that is equal in all slices.
        size: Pixels along a side of a frame, 128 or fewer (often 48).
        keep: Keep the frames in memory: 655 kB each at T = 10, 92 kB at size 48.
        train_per_class: Number of training recordings of each class.
    """
    framing = Framing("cifar10-dvs", time_steps, 128, size, binning, keep)
    cut = require_integer("data: cifar10-dvs", "train_per_class", train_per_class, 1, LARGEST)
    for store in open_stores(folder):
        for base in ("", "extract/", "events_np/"):
            groups = list(class_files(store, base, (".aedat", ".npz")).values())
            if len(groups) != 10:
                continue
            most = max(len(group) for group in groups)
            if most <= cut:
                raise ToolError(
                    folder,
                    f"at most {most} recordings in a class",
                    f"more than train_per_class = {cut}",
                    "Get the whole set, or lower train_per_class.",
                )
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
    the end of each trial, the end excluded: 1,176 and 288 trials.

    Args:
        folder: Folder of these two, .aedat files and their _labels.csv; or of train/ and test/ with
            a folder of .npz files for each class.
        limit: Largest number of samples in each split.
        time_steps: T.
        binning: "count" or "time": the quantity that is equal in all slices.
        size: Pixels along a side of a frame, 128 or fewer.
        keep: Keep the frames in memory: 1 MB each at T = 16.
    """
    framing = Framing("dvs-gesture", time_steps, 128, size, binning, keep)
    for store in open_stores(folder):
        for base in ("", "DvsGesture/", "extract/DvsGesture/", "events_np/"):
            parts = trials(store, base) or class_folders(store, base, (".npz",), 11, 128)
            if parts is not None:
                return _event_set(framing, *parts, 11, limit)
    layouts = (
        "trials_to_train.txt and trials_to_test.txt with the .aedat and _labels.csv files that they"
        " name, in the folder or in DvsGesture/",
        "train/<class>/*.npz and test/<class>/*.npz, in the folder or in events_np/",
    )
    raise missing("dvs-gesture", folder, layouts)


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
    not its memory: every slice shows the class.

    Args:
        folder: Folder of the four idx files.
        limit: Largest number of samples in each split.
        time_steps: T, 1 to 90.
        threshold: Contrast between levels, in (0, 10].
        keep: Keep the frames in memory, 46 kB each at T = 10; the simulation of one takes 5 ms.
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

        return frame_split(simulate, labels[:limit], shape, keep, augment)

    train, test = split(*parts[0], roll(flip=False)), split(*parts[1], None)
    return Dataset("fashion-events", train, test, 10, "sequence", shape, draws=DRAWS)
