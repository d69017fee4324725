"""Series of files, synthetic tasks and encoders, against their definitions."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from sklearn.linear_model import LogisticRegression

from lnm_codegen.errors import ModelError, ShapeError, ToolError
from lnm_codegen.train.data import load
from lnm_codegen.train.data.encoders import direct, latency, level_crossing, rate
from lnm_codegen.train.data.series import read_ts
from tests.refusals import assert_refused, refused

HEAD = "# a comment\n@problemName Toy\n@classLabel true a b\n@data\n"
TRAIN = f"{HEAD}1,2,3:10,20,30:b\n4,?:40,50:a\n"
TEST = f"{HEAD}\n5,6,7,8:1,1,1,1:a\n"


def write_toy(folder: Path, train: str = TRAIN, test: str = TEST) -> Path:
    place = folder / "Toy"
    place.mkdir(exist_ok=True)
    (place / "Toy_TRAIN.ts").write_text(train)
    (place / "Toy_TEST.ts").write_text(test)
    return place


def test_a_problem(tmp_path: Path) -> None:
    """Labels are numbered in order; the mean is in front of short series, and for lost values.

    The set has the values of the file, and its scale normalises them.
    """
    place = write_toy(tmp_path)
    for folder in (tmp_path, place):
        data = load("time-series", folder, problem="Toy")
        assert (data.kind, data.sample, data.classes) == ("sequence", (4, 2), 2)
        assert data.train.labels.tolist() == [1, 0]
        first = np.array([1, 2, 3, 4.0])
        second = np.array([10, 20, 30, 40, 50.0])
        assert data.train.images[0].tolist() == [[2.5, 30], [1, 10], [2, 20], [3, 30]]
        assert data.train.images[1].tolist() == [[2.5, 30], [2.5, 30], [4, 40], [2.5, 50]]
        x, _ = next(data.batches(data.train, 2))
        one = (np.array([1, 2, 3]) - first.mean()) / first.std()
        two = (np.array([10, 20, 30]) - second.mean()) / second.std()
        assert np.allclose(x[:, 0, 0], [0, *one], atol=1e-6)
        assert np.allclose(x[:, 0, 1], [0, *two], atol=1e-6)
        assert np.allclose(x[:, 1, 0], [0, 0, (4 - first.mean()) / first.std(), 0], atol=1e-6)
        x, labels = next(data.batches(data.test, 2))
        assert labels.tolist() == [0]
        assert np.allclose(x[:, 0, 1], (1 - second.mean()) / second.std(), atol=1e-6)


def test_a_constant_dimension_has_deviation_one(tmp_path: Path) -> None:
    """The mean of equal values in float32 differs from them, and test inputs were 9e6."""
    values = ",".join(["0.1"] * 27)
    write_toy(tmp_path, f"{HEAD}{values}:{values}:a\n", f"{HEAD}1,2:0.1,?:a\n")
    data = load("time-series", tmp_path, problem="Toy")
    mean, std = data.scale
    assert mean.tolist() == [np.float32(0.1)] * 2
    assert std.tolist() == [1, 1]
    x, _ = next(data.batches(data.test, 1))
    assert np.allclose(x[-2:, 0, 0], [0.9, 1.9])
    assert not x[:, 0, 1].any()
    write_toy(tmp_path, f"{HEAD}1,2:?,?:a\n", f"{HEAD}1,2:5,?:a\n")  # without values it is 0
    data = load("time-series", tmp_path, problem="Toy")
    assert [part.tolist() for part in data.scale] == [[1.5, 0], [0.5, 1]]
    x, _ = next(data.batches(data.test, 1))
    assert x[:, 0, 1].tolist() == [5, 0]


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
            st.sampled_from(["0", "one", "-1.5"]),
        ),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_reads_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[list[float], str]]
) -> None:
    path = tmp_path_factory.mktemp("ts") / "a.ts"
    lines = [f"{','.join(map(repr, values))}:{label}" for values, label in made]
    path.write_text("@DATA\n" + "\n".join(lines))
    found = read_ts(path)
    assert found.labels == tuple(label for _, label in made)
    for values, (wanted, _) in zip(found.values, made, strict=True):
        assert np.array_equal(values, np.array(wanted, np.float32)[:, None])


TOOL = """
a.ts
     >> no series in it >> lines after @data
    @data >> no series in it >> lines after @data
    @data/x,y:a >> line 2 is not a series >> dimensions of one length
    @data/1,2:1:a >> line 2 is not a series >> dimensions of one length
    @data/a >> line 2 is not a series >> dimensions of one length
    @targetlabel true/@data/1:2.5 >> labels are numbers to predict >> classes
    @classLabel false/@data/1:2.5 >> series have no labels >> classes
    @data/1,2:1,2:a//1,2:a >> line 4 is not a series >> as in the first series
    \udcff >> cannot be read: >> >> Get the file again.
"""


def test_broken_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("a.ts")

    def read(text: str) -> None:
        path.write_text(text.replace("/", "\n"), errors="surrogateescape")
        read_ts(path)

    assert_refused(TOOL.replace("\n     >>", "\n    / >>"), {}, ToolError, read)


def test_problems_that_are_not_there(tmp_path: Path) -> None:
    """Also splits that do not fit."""
    where, remedy = "data: time-series", "Run pip install --no-deps aeon"
    with refused(ToolError, where, f"{tmp_path}/none does not exist", remedy=remedy):
        load("time-series", tmp_path / "none")
    with refused(ToolError, where, f"{tmp_path} and the folders in it hold no", remedy=remedy):
        load("time-series", tmp_path)
    place = write_toy(tmp_path, test="@data\n1:2:c\n")
    test = place / "Toy_TEST.ts"
    with refused(ModelError, f"{where}: {tmp_path}", "no problem 'Toi'", "Toy", "mean 'Toy'?"):
        load("time-series", tmp_path, problem="Toi")
    with refused(ToolError, test, "label 'c' is not a training label", "a, b"):
        load("time-series", tmp_path, problem="Toy")
    test.write_text("@data\n1:a\n")
    with refused(ToolError, place, "2 training dimensions, 1 in test", "equal numbers"):
        load("time-series", tmp_path, problem="Toy")


AEON = {
    "JapaneseVowels": (270, 370, (29, 12), 9), "BasicMotions": (40, 40, (100, 6), 4),
    "OSULeaf": (200, 242, (427, 1), 6), "GunPoint": (50, 150, (150, 1), 2),
    "PickupGestureWiimoteZ": (50, 50, (361, 1), 10),
}  # fmt: skip


@pytest.mark.parametrize("problem", AEON)
def test_problems_of_the_package(problem: str) -> None:
    """Where aeon is installed: the sizes that the archive states."""
    if importlib.util.find_spec("aeon") is None:
        pytest.skip("aeon is not installed")
    data = load("time-series", problem=problem)
    found = len(data.train), len(data.test), data.sample, data.classes
    assert found == AEON[problem]
    x, _ = next(data.batches(data.train, 1000))
    assert bool(torch.isfinite(x).all())


STEPS = 7


def write_ecg(folder: Path, train: int = 5, test: int = 3) -> dict[str, np.ndarray]:
    """Write both files; the last step has no label. Return the training arrays."""
    rng = np.random.default_rng(0)
    for word, count in (("test", test), ("train", train)):
        classes = rng.integers(0, 6, (count, STEPS))
        y = np.eye(6, dtype=np.uint8)[classes]
        y[:, -1] = 0
        x = rng.integers(-1, 2, (count, STEPS, 4)).astype(np.int16)
        savemat(folder / f"QTDB_{word}.mat", {"x": x, "y": y, "t": classes})
    return {"x": x, "classes": classes}


def test_labels_per_step(tmp_path: Path) -> None:
    """x (T, N, 4) as it is and labels (T, N); a step without a label is class 0, or ignored."""
    made = write_ecg(tmp_path)
    data = load("ecg-qtdb", tmp_path)
    assert (data.kind, data.sample, data.per_step, data.classes) == ("sequence", (7, 4), True, 6)
    x, labels = next(data.batches(data.train, 5))
    assert np.array_equal(x.numpy(), made["x"].transpose(1, 0, 2))
    assert np.array_equal(labels[:-1].numpy(), made["classes"].T[:-1])
    assert labels[-1].tolist() == [0] * 5
    ignored = load("ecg-qtdb", tmp_path, unlabelled="ignore")
    _, labels = next(ignored.batches(ignored.train, 5))
    assert labels[-1].tolist() == [-100] * 5
    assert torch.equal(
        data.held_out(2).test.labels[:, :-1], ignored.held_out(2).test.labels[:, :-1]
    )


def test_missing_files(tmp_path: Path) -> None:
    problem, layout = (
        f"{tmp_path} holds no files of this set",
        "QTDB_train.mat and QTDB_test.mat in",
    )
    with refused(ToolError, "data: ecg-qtdb", problem, layout, "with --data-dir"):
        load("ecg-qtdb", tmp_path)


def test_malformed_files_are_one_line(tmp_path: Path) -> None:
    write_ecg(tmp_path)
    path = tmp_path / "QTDB_train.mat"
    whole = path.read_bytes()
    for broken in (b"", b"MATLAB", whole[:200], whole[: len(whole) // 3]):
        path.write_bytes(broken)
        with refused(ToolError, path, remedy="Get the file again."):
            load("ecg-qtdb", tmp_path)
    arrays = {"x": np.zeros((2, 3, 4)), "y": np.zeros((2, 4, 6))}
    sizes = "(beats, T, channels) and (beats, T, 6)"
    for content, *parts in (
        (arrays, "x is (2, 3, 4) and y is (2, 4, 6)", sizes),
        ({**arrays, "x": "text"}, "'x' holds <U4", "numbers"),
        ({"y": arrays["y"]}, "no array 'x' in it", "", "Get the file again."),
    ):
        savemat(path, content)
        with refused(ToolError, path, *parts):
            load("ecg-qtdb", tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ecg(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with refused(ToolError, "data: ecg-qtdb", "SciPy is not installed", "", "[train]"):
        load("ecg-qtdb", tmp_path)


def test_a_set_depends_on_its_seed_alone() -> None:
    for name in ("delayed-xor", "first-bound", "gated-memory"):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        first, second, other = (
            load(name, train=40, test=10, **k) for k in ({}, {"seed": 0}, {"seed": 1})
        )
        assert torch.equal(first.train.images, second.train.images)
        assert torch.equal(first.test.labels, second.test.labels)
        assert not torch.equal(first.train.images, other.train.images)
        assert (len(first.train), len(first.test)) == (40, 10)
        assert (set(first.train.images.unique().tolist()) == {0, 1}) == (name == "delayed-xor")


def test_delayed_xor_is_the_xor_of_two_bursts() -> None:
    """An oracle that counts both bursts is always right; no linear function of all spikes is."""
    data = load("delayed-xor", train=600, test=200)
    x, labels = data.train.images.numpy().astype(float), data.train.labels.numpy()
    rate = x[:, :10].mean((1, 2)), x[:, -10:].mean((1, 2))
    assert np.array_equal((rate[0] > 0.4) ^ (rate[1] > 0.4), labels.astype(bool))
    assert abs(labels.mean() - 0.5) < 0.1
    assert 0.005 < x[:, 10:-10].mean() < 0.015
    flat = np.stack([*rate], 1)
    linear = LogisticRegression().fit(flat, labels).score(flat, labels)
    assert linear < 0.62
    product = ((flat - 0.4).prod(1) < 0)[:, None]
    assert LogisticRegression().fit(product, labels).score(product, labels) == 1


def linear_score(x: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of a linear function of all steps on the second half of the samples."""
    half = len(x) // 2
    model = LogisticRegression(C=0.01, max_iter=500).fit(x[:half], labels[:half])
    return float(model.score(x[half:], labels[half:]))


def numbers(name: str, **options: float) -> tuple[np.ndarray, np.ndarray]:
    data = load(name, test=10, **options)
    assert data.sample[1:] == (1,)
    return data.train.images[..., 0].double().numpy(), data.train.labels.numpy()


@settings(max_examples=30)
@given(time_steps=st.integers(4, 30), bound=st.floats(0.1, 9), seed=st.integers(0, 99))
def test_first_bound_is_where_a_sum_first_leaves(time_steps: int, bound: float, seed: int) -> None:
    """A loop over the steps gives every label whose sum is clear of the bounds' rounding."""
    x, labels = numbers("first-bound", time_steps=time_steps, bound=bound, seed=seed, train=20)
    for row, label in zip(x, labels, strict=True):
        total, sure = 0.0, True
        for value in row:
            total += value
            sure &= abs(abs(total) - bound) > 1e-4
            if abs(total) >= bound:
                break
        if sure and abs(total) > 1e-4:
            assert label == (total > 0)


def test_no_linear_function_knows_the_first_bound() -> None:
    x, labels = numbers("first-bound", train=6000)
    assert abs(labels.mean() - 0.5) < 0.03
    assert linear_score(x, labels) < 0.89
    assert 0.72 < ((x.sum(1) > 0) == labels).mean() < 0.78
    onset = (x != 0).argmax(1)
    assert (onset.min(), onset.max()) == (0, 49)


@settings(max_examples=30)
@given(
    pulses=st.integers(1, 5), more=st.integers(0, 20), distractor=st.floats(0, 0.95),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_gated_memory_is_the_sign_of_the_last_large_pulse(
    pulses: int, more: int, distractor: float, seed: int
) -> None:
    x, labels = numbers(
        "gated-memory", time_steps=2 * pulses + more, pulses=pulses, distractor=distractor,
        seed=seed, train=20,
    )  # fmt: skip
    large = np.abs(x) >= 1
    assert np.abs(x[~large]).max(initial=0) <= distractor + 1e-6
    assert np.abs(x).max() <= 1.5
    assert (large.sum(1) == pulses).all()
    assert not large[:, x.shape[1] // 2 :].any()
    last = x.shape[1] - 1 - large[:, ::-1].argmax(1)
    assert np.array_equal(x[np.arange(len(x)), last] > 0, labels.astype(bool))


def test_no_linear_function_has_a_gated_memory() -> None:
    """A leak over the large pulses alone is right for most; over all pulses none is."""
    x, labels = numbers("gated-memory", train=6000)
    assert abs(labels.mean() - 0.5) < 0.03
    assert linear_score(x, labels) < 0.7
    leak = 0.9 ** np.arange(x.shape[1])[::-1]
    assert ((np.where(np.abs(x) >= 1, x, 0) @ leak > 0) == labels).mean() > 0.95
    assert ((x @ leak > 0) == labels).mean() < 0.6


def test_rate_has_the_probability_it_says() -> None:
    """Over 4,000 steps the mean is within five standard deviations of x, and 0 and 1 are exact."""
    x = torch.tensor([-0.5, 0.0, 0.1, 0.5, 0.93, 1.0, 2.0])
    steps = 4000
    spikes = rate(x, steps, torch.Generator().manual_seed(0))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    p = x.clamp(0, 1)
    assert bool(((spikes.mean(0) - p).abs() <= 5 * (p * (1 - p) / steps).sqrt()).all())
    again = rate(x, steps, torch.Generator().manual_seed(0))
    assert torch.equal(again, spikes)
    for dtype in (torch.float16, torch.bfloat16):  # 16 bits are 0 far more often than 1 in 1,000
        x = torch.full((1000,), 0.001, dtype=dtype)
        spikes, share = rate(x, 2000, torch.Generator().manual_seed(0)), float(x[0])
        assert spikes.dtype is dtype
        assert abs(float(spikes.double().mean()) - share) <= 5 * (share / 2e6) ** 0.5


def test_latency_is_when_an_integrator_fires() -> None:
    """The step is the first at which tau dv/dt = x - v, solved exactly, is at the threshold."""
    tau, threshold, steps = 5.0, 0.2, 40
    x = torch.linspace(0.201, 1.5, 300)
    step = latency(x, steps, tau, threshold).argmax(0)
    exact = [min(tau * math.log(v / (v - threshold)), steps - 1) for v in x.tolist()]
    assert np.abs(step.numpy() - exact).max() <= 0.5 + 1e-4
    v = x * (1 - torch.exp(-torch.tensor(exact) / tau))
    late = torch.tensor(exact) < steps - 1
    assert torch.allclose(v[late], torch.tensor(threshold))
    below = latency(torch.tensor([[0.0, 0.01, -1.0, 0.02]]), 6)  # it never fires
    assert below.sum(0).tolist() == [[0.0, 0.0, 0.0, 1.0]]


@pytest.mark.peers
@pytest.mark.parametrize(("tau", "threshold", "steps"), [(5.0, 0.01, 80), (1.0, 0.2, 20)])
def test_latency_is_snntorchs_bit_for_bit(tau: float, threshold: float, steps: int) -> None:
    spikegen = pytest.importorskip("snntorch.spikegen")
    x = torch.rand((4, 500), generator=torch.Generator().manual_seed(0))
    x = x[(x - threshold).abs() > 1e-3]
    theirs = spikegen.latency(x, num_steps=steps, tau=tau, threshold=threshold, clip=True)
    assert torch.equal(latency(x, steps, tau, threshold), theirs)


def crossings(x: list[float], delta: float) -> tuple[list[int], list[int]]:
    """Count levels one after the other: OFF and ON at each step."""
    off, on, level = [], [], 0
    for value in x:
        moved = (value - x[0]) / delta
        down = up = 0
        while moved - level >= 1:
            level, up = level + 1, up + 1
        while moved - level <= -1:
            level, down = level - 1, down + 1
        off.append(down)
        on.append(up)
    return off, on


@given(
    x=st.lists(st.integers(-64, 64), min_size=1, max_size=20),
    delta=st.sampled_from([0.25, 1.0, 2.5]),
)
def test_level_crossing_is_a_counter_of_levels(x: list[int], delta: float) -> None:
    """And x[0] + delta (ON - OFF), summed, stays within delta of x."""
    values = [v / 8 for v in x]
    x_seq = torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
    counts = level_crossing(x_seq, delta)
    assert counts.shape == (len(x), 1, 2, 1)
    off, on = crossings(values, delta)
    assert counts[:, 0, 0, 0].tolist() == off
    assert counts[:, 0, 1, 0].tolist() == on
    rebuilt = x_seq[0] + delta * (counts[:, :, 1] - counts[:, :, 0]).cumsum(0)
    assert bool(((rebuilt - x_seq).abs() < delta).all())


@pytest.mark.peers
def test_a_slow_drift_crosses_levels_but_not_snntorchs_delta() -> None:
    """The difference between sending on delta and comparing with the sample before."""
    spikegen = pytest.importorskip("snntorch.spikegen")
    drift = torch.linspace(0, 1, 101).view(-1, 1)
    assert float(level_crossing(drift, 0.1)[:, :, 1].sum()) in (9, 10)
    assert float(spikegen.delta(drift, threshold=0.1).sum()) == 0


REFUSALS = """
direct >> an integer >= 1
    direct(torch.ones(1), 0) >> time_steps is 0
    direct(torch.ones(1), 2.5) >> time_steps is 2.5
rate
    rate(torch.ones(1, dtype=torch.uint8), 2) >> x of torch.uint8 >> floating point, 0 to 1
        >> Divide bytes by 255.
latency
    latency(torch.ones(1), 3, tau=0) >> tau is 0.0 >> a number > 0
    latency(torch.tensor([math.inf]), 3) >> not finite >> finite numbers
level_crossing
    level_crossing(torch.ones(2, 1), math.nan) >> delta is nan >> a number > 0
"""


def test_arguments_of_every_form() -> None:
    """Scalars of NumPy and tensors are numbers; bytes do not wrap around modulo 256.

    `direct` repeats without a copy, and the results are on the device of the input.
    """
    assert_refused(REFUSALS, globals())
    with refused(ShapeError, "level_crossing", "x_seq has shape (3,)", "(T, N, *), T >= 1"):
        level_crossing(torch.ones(3), 1.0)
    x_seq = torch.tensor([[0.0], [1.0]])
    assert torch.equal(level_crossing(x_seq, torch.tensor(0.25)), level_crossing(x_seq, 0.25))
    x = torch.rand(2, 3)
    repeated = direct(x, np.int64(4))
    assert (repeated.shape, repeated.stride()[0]) == ((4, 2, 3), 0)
    assert all(torch.equal(step, x) for step in repeated)
    counts = level_crossing(torch.tensor([[10], [0], [10]], dtype=torch.uint8), 5)
    assert counts.dtype == torch.float32
    assert counts.squeeze().tolist() == [[0, 0], [2, 0], [0, 2]]  # OFF, ON
    currents = torch.tensor([0, 10, 255], dtype=torch.uint8)
    assert torch.equal(latency(currents, 5), latency(currents.float(), 5))
    x = torch.rand(2, 8, 8, device="meta")
    assert {out.device.type for out in (direct(x, 4), rate(x, 4), level_crossing(x, 0.5))} == {
        "meta"
    }
