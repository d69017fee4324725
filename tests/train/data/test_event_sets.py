"""Event-camera sets from the usual layouts of their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data import load
from lnm_codegen.train.data.events import cached, frames
from tests.refusals import refused
from tests.train.data.event_files import (
    aedat2,
    bin5,
    some_events,
    write_bytes,
    write_gestures,
    write_npz,
)
from tests.train.data.image_files import pack


def write_digits(folder: Path, layout: str) -> None:
    """Write N-MNIST: two training recordings a digit and one for test, each of its own seed."""
    for k, word in ((0, "Train"), (1, "Train"), (2, "Test")):
        for digit in range(10):
            events = some_events(60, 34, seed=10 * k + digit)
            if layout == "bin":
                write_bytes(folder / word / str(digit) / f"{k:05d}.bin", bin5(events))
            elif layout == "npz":
                write_npz(folder / "events_np" / word.lower() / str(digit) / f"{k}.npz", events)
            else:
                write_bytes(folder / "NMNISTsmall" / f"{10 * k + digit}.bs2", bin5(events))
    if layout == "bs2":
        for name, numbers in (("train1K", range(20)), ("test100", range(20, 30))):
            lines = ["#sample #class", *(f"{n}\t{n % 10}" for n in numbers)]
            (folder / "NMNISTsmall" / f"{name}.txt").write_text("\n".join(lines))


def test_n_mnist(tmp_path: Path) -> None:
    """x (T, N, 2, 34, 34) counts events; the first ten are one of each digit."""
    for layout in ("bin", "npz", "bs2"):
        write_digits(tmp_path / layout, layout)
        data = load("n-mnist", tmp_path / layout, time_steps=4)
        assert (data.kind, data.sample, data.classes) == ("sequence", (4, 2, 34, 34), 10)
        assert data.train.labels.tolist() == [*range(10), *range(10)]
        x, labels = next(data.batches(data.test, 10))
        assert labels.tolist() == list(range(10))
        for digit in range(10):
            wanted = frames(some_events(60, 34, seed=20 + digit), 4, 34, "count")
            assert np.array_equal(x[:, digit].numpy(), wanted)
    pack(tmp_path / "bs2", tmp_path / "nmnist-small.tar.xz", "w:xz")
    for place in (tmp_path, tmp_path / "nmnist-small.tar.xz"):
        found = load("n-mnist", place, time_steps=4).train.images
        assert torch.equal(found, data.train.images)


@pytest.mark.parametrize("suffix", [".aedat", ".npz"])
def test_cifar10_dvs(tmp_path: Path, suffix: str) -> None:
    """The first of each class by number are to train on; a smaller frame sums pixels."""
    for label in range(10):
        for number in (0, 1, 2, 10):
            path = tmp_path / f"class{label}" / f"cifar10_class{label}_{number}{suffix}"
            events = some_events(80, 128, seed=100 * label + number)
            if suffix == ".npz":
                write_npz(path, events)
            else:
                write_bytes(path, aedat2(events))
    data = load("cifar10-dvs", tmp_path, time_steps=3, size=48, train_per_class=3, binning="time")
    assert (len(data.train), len(data.test), data.sample) == (30, 10, (3, 2, 48, 48))
    x, labels = next(data.batches(data.test, 10))
    assert labels.tolist() == list(range(10))
    wanted = frames(some_events(80, 128, seed=410), 3, 128, "time", 48)
    assert np.array_equal(x[:, 4].numpy(), wanted)
    problem, accepted = "at most 4 recordings in a class", "more than 900"
    with refused(ToolError, tmp_path, problem, accepted, "or lower train_per_class"):
        load("cifar10-dvs", tmp_path)


@pytest.mark.parametrize("below", ["", "DvsGesture"])
def test_dvs_gesture_is_cut_where_its_tables_say(tmp_path: Path, below: str) -> None:
    (tmp_path / below).mkdir(exist_ok=True)
    made = write_gestures(tmp_path / below)
    data = load("dvs-gesture", tmp_path, time_steps=5, size=64)
    assert (len(data.train), len(data.test), data.classes) == (3, 3, 11)
    for word, split in (("train", data.train), ("test", data.test)):
        for trial in range(3):
            events, label = made[f"{word}{trial}"]
            assert int(split.labels[trial]) == label
            found = split.take(torch.tensor([trial]))[0]
            assert np.array_equal(found.numpy(), frames(events, 5, 128, "count", 64))


def test_dvs_gesture_from_npz(tmp_path: Path) -> None:
    """Classes are numbers: 10 comes after 2."""
    for word in ("train", "test"):
        for label in range(11):
            path = tmp_path / "events_np" / word / str(label) / f"user_{label}.npz"
            write_npz(path, some_events(20, 128, seed=label))
    data = load("dvs-gesture", tmp_path)
    assert data.sample == (16, 2, 128, 128)
    assert data.test.labels.tolist() == list(range(11))
    wanted = frames(some_events(20, 128, seed=10), 16, 128, "count")
    assert np.array_equal(data.test.take(torch.tensor([10]))[0].numpy(), wanted)


def test_rolled_batches_depend_on_the_generator_and_the_kept_frames_stay(tmp_path: Path) -> None:
    write_digits(tmp_path, "bin")
    data = load("n-mnist", tmp_path)
    before = data.train.images
    x = [
        next(data.batches(data.train, 20, torch.Generator().manual_seed(seed), augment=True))[0]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(x[0], x[1])
    assert not torch.equal(x[0], x[2])
    assert torch.equal(data.train.images, before)
    total = before.sum((1, 2, 3, 4))
    assert torch.equal(x[2].sum((0, 2, 3, 4)).sort().values, total.sort().values.float())


def test_frames_are_counted_when_needed_and_once() -> None:
    asked: list[int] = []

    def make(rows: torch.Tensor) -> torch.Tensor:
        asked.extend(rows.tolist())
        return rows.to(torch.int16)[:, None]

    read = cached(make, 9, (1,))
    assert read(torch.tensor([4, 2, 4])).flatten().tolist() == [4, 2, 4]
    assert read(torch.tensor([2, 8])).flatten().tolist() == [2, 8]
    assert asked == [2, 4, 8]


def test_nothing_is_read_before_a_batch_needs_it(tmp_path: Path) -> None:
    """A broken recording shows when its batch comes, with its name."""
    write_digits(tmp_path, "bin")
    path = tmp_path / "Train" / "3" / "00001.bin"
    path.write_bytes(b"abc")
    data = load("n-mnist", tmp_path)
    assert len(data.train.take(torch.arange(10))) == 10
    with refused(ToolError, path, "3 bytes", "a multiple of 5", "Get the file again."):
        data.train.take(torch.tensor([13]))
    path.write_bytes(bytes([34, 0, 0, 0, 0]))
    with refused(ToolError, path, "x ranges from 34 to 34", "0 to 33"):
        data.train.take(torch.tensor([13]))


LAYOUTS = {
    "n-mnist": "Train/<digit>/*.bin and Test/<digit>/*.bin, in the folder or in extract/;"
    " train/<digit>/*.npz and test/<digit>/*.npz, in the folder or in events_np/; *.bs2 with"
    " train1K.txt and test100.txt, in the folder, in NMNISTsmall/ or in nmnist-small.tar.xz",
    "cifar10-dvs": "ten folders <class>/*.aedat or <class>/*.npz, in the folder, in extract/ or in"
    " events_np/",
    "dvs-gesture": "trials_to_train.txt and trials_to_test.txt with the .aedat and _labels.csv"
    " files that they name, in the folder or in DvsGesture/; train/<class>/*.npz and"
    " test/<class>/*.npz, in the folder or in events_np/",
}


def test_missing_folders_name_the_layouts(tmp_path: Path) -> None:
    problem = f"{tmp_path} holds no files of this set"
    for name, layouts in LAYOUTS.items():
        with refused(ToolError, f"data: {name}", problem, layouts, "with --data-dir"):
            load(name, tmp_path)


def test_tables_and_classes_that_are_wrong(tmp_path: Path) -> None:
    write_gestures(tmp_path)
    table = tmp_path / "user01_lab_labels.csv"
    table.write_text("class,start,end\n12,0,1\n")
    with refused(ToolError, table, "the line '12,0,1'", "class (1 to 11), start, end"):
        load("dvs-gesture", tmp_path)
    table.unlink()
    with refused(ToolError, table, "cannot be read: No such file"):
        load("dvs-gesture", tmp_path)
    write_digits(tmp_path, "bin")
    (tmp_path / "Test" / "7" / "00002.bin").unlink()
    problem = "10 class folders in Train/ and 9 in Test/, and '7' is in one of them only"
    with refused(ToolError, tmp_path, problem, "folders 0 to 9 in both"):
        load("n-mnist", tmp_path)
