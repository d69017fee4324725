"""Event files are read as they were written, by us and by SpikingJelly, and frames count events."""

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
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data.events import (
    Events,
    frames,
    read_aedat2,
    read_aedat3,
    read_bin5,
    read_events,
    read_npz,
    require_inside,
)
from tests.refusals import refused
from tests.train.data.event_files import aedat2, aedat3, bin5, some_events


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
