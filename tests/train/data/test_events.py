"""Event files are read as they were written, in the usual layouts, and frames count events."""

from __future__ import annotations

import importlib.util
import io
import math
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data import load
from lnm_codegen.train.data.events import (
    Events,
    cached,
    frames,
    read_aedat2,
    read_aedat3,
    read_bin5,
    read_events,
    read_npz,
    require_inside,
)
from tests.refusals import refused
from tests.train.data.event_files import (
    aedat2,
    aedat3,
    bin5,
    some_events,
    write_bytes,
    write_gestures,
    write_npz,
)
from tests.train.data.image_files import pack


def saved(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def npz(events: Events) -> bytes:
    return saved(**{word: getattr(events, word) for word in "txyp"})


FORMATS = {"a.bin": (bin5, 34), "a.bs2": (bin5, 34), "b.aedat": (aedat2, 128),
           "c.aedat": (aedat3, 128), "d.npz": (npz, 300)}  # fmt: skip


def same(one: Events, other: Events) -> bool:
    return all(np.array_equal(getattr(one, k), getattr(other, k)) for k in "txyp")


@given(name=st.sampled_from(sorted(FORMATS)), count=st.integers(0, 30), seed=st.integers(0, 99))
def test_reads_back_what_was_written(name: str, count: int, seed: int) -> None:
    write, size = FORMATS[name]
    events = some_events(count, size, seed, last=2**23)
    assert same(read_events(write(events), name), events)


def test_aedat3_leaves_out_invalid_events_and_extends_time() -> None:
    """Time goes on above 31 bits by the header's count of overflows; other events are skipped."""
    early = some_events(20, 128)
    late = Events(early.t + (3 << 31), early.x, early.y, early.p)
    assert same(read_aedat3(aedat3(late, invalid=5), "a file"), late)


def test_broken_files_are_one_line() -> None:
    """An array of objects is not unpickled."""
    one, plain, cut = npz(some_events(1, 3)), io.BytesIO(), "the packet at byte 42 is cut off"
    np.save(plain, np.zeros(3))
    zero, no_arrays, whole = np.zeros(1), "no arrays t, x, y, p in it", "not a whole AEDAT 2.0 file"
    again = ("", "Get the file again.")
    cases: list[tuple[Any, bytes, tuple[str, ...]]] = [
        (read_bin5, bytes(7), ("7 bytes", "a multiple of 5", again[1])),
        (read_aedat2, aedat2(some_events(3, 128))[:-1], (whole, *again)),
        (read_aedat2, bytes(16), (whole, *again)),
        (read_aedat3, b"#!AER-DAT3.1\r\n", ("not an AEDAT 3.1 file", *again)),
        (read_aedat3, aedat3(some_events(3, 128))[:-37], (cut, *again)),
        (read_aedat3, aedat3(some_events(0, 128)) + bytes(5), (cut, *again)),
        (read_npz, b"PK no", ("cannot be read: ", *again)),
        (read_npz, plain.getvalue(), (no_arrays, *again)),
        (read_npz, one.replace(b"t.npy", b"u.npy"), (no_arrays, *again)),
        (read_npz, pickle.dumps(some_events(2, 3)), ("cannot be read: ",)),
        (read_npz, saved(t=np.array([print], dtype=object)),
         ("cannot be read: Object arrays cannot be loaded",)),
        (read_npz, saved(t=np.zeros(3), x=np.zeros(2), y=np.zeros(3), p=np.zeros(3)),
         ("t, x, y and p differ in shape", "(n,) for each of them")),
    ]  # fmt: skip
    for word, value in (("t", "a"), ("x", math.nan), ("y", 0.5)):
        arrays = {**dict.fromkeys("txyp", zero), word: np.array([value])}
        cases.append((read_npz, saved(**arrays), (f"{word} holds other values", "integers")))
    for read, raw, parts in cases:
        with refused(ToolError, "a file", *parts):
            read(raw, "a file")


@given(
    count=st.integers(0, 60), time_steps=st.integers(1, 9), side=st.sampled_from([2, 5, 7, 12]),
    binning=st.sampled_from(["count", "time"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_frames_count_every_event_once(
    count: int, time_steps: int, side: int, binning: str, seed: int
) -> None:
    """Against a loop over events; slices of a count have the rest in the last."""
    events = some_events(count, 12, seed, last=200)
    wanted = np.zeros((time_steps, 2, side, side), np.int64)
    for k in range(count):
        if binning == "count":
            each = max(count // time_steps, 1)
            at = min(k // each, time_steps - 1)
        else:
            span = int(events.t[-1] - events.t[0]) + 1
            at = int(events.t[k] - events.t[0]) * time_steps // span
        wanted[at, events.p[k], events.y[k] * side // 12, events.x[k] * side // 12] += 1
    found = frames(events, time_steps, 12, binning, side)
    assert found.dtype == np.int16
    assert np.array_equal(found, wanted)
    assert found.sum() == count


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """SpikingJelly's readers, loaded from their files: its package wants torchvision and tqdm."""
    spec = importlib.util.find_spec("spikingjelly")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("spikingjelly is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "datasets"
    for name in ("torchvision", "torchvision.transforms", "torchvision.datasets",
                 "torchvision.datasets.utils", "tqdm"):  # fmt: skip
        module: Any = types.ModuleType(name)
        module.__getattr__ = lambda attribute: type(attribute, (), {})
        monkeypatch.setitem(sys.modules, name, module)
    parent: Any = types.ModuleType("spikingjelly.datasets")
    parent.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, "spikingjelly.datasets", parent)
    for name in ("utils", "base", "cifar10_dvs"):
        full = f"spikingjelly.datasets.{name}"
        found = importlib.util.spec_from_file_location(full, folder / f"{name}.py")
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        monkeypatch.setitem(sys.modules, full, module)
        setattr(parent, name, module)
        found.loader.exec_module(module)
    return parent


@pytest.mark.peers
def test_readers_and_slices_are_spikingjellys(peer: Any, tmp_path: Path) -> None:
    """Axes, polarity and time of all three formats, and frames by count and by time."""
    events = some_events(1003, 34)
    path = tmp_path / "file"
    for write, read, theirs in (
        (bin5, read_bin5, peer.utils.load_ATIS_bin),
        (aedat2, read_aedat2, peer.cifar10_dvs._load_origin_data),
        (aedat3, read_aedat3, peer.utils.load_aedat_v3),
    ):
        path.write_bytes(write(events))
        found, wanted = read(path.read_bytes(), "file"), theirs(path)
        assert all(np.array_equal(getattr(found, k), wanted[k]) for k in "txyp"), read
    columns = {k: getattr(events, k) for k in "txyp"}
    wanted = peer.utils.integrate_events_by_fixed_frames_number(columns, "number", 10, 34, 34)
    assert np.array_equal(frames(events, 10, 34, "count"), wanted)


def test_events_outside_the_camera_and_at_the_ends_of_time() -> None:
    """Counts stop at the largest that a frame holds."""
    events, zeros = some_events(50, 34), np.zeros(2, np.int64)
    assert require_inside(events, 34, "a file") is events
    problem = f"x ranges from {events.x.min()} to {events.x.max()}"
    with refused(ToolError, "a file", problem, "0 to 29"):
        require_inside(events, 30, "a file")
    with refused(ToolError, "a file", "t ranges from 0 to 4611686018427387904"):
        require_inside(Events(np.array([0, 2**62]), zeros, zeros, zeros), 1, "a file")
    late = Events(np.array([0, 2**48 - 1]), zeros, zeros, zeros)
    found = frames(require_inside(late, 1, "a file"), 16, 1, "time")
    assert [int(found[k].sum()) for k in (0, 15)] == [1, 1]
    none = np.zeros(40_000, np.int64)
    found = frames(Events(none, none, none, none), 1, 1, "count")
    assert found.tolist() == [[[[32767]], [[0]]]]


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
