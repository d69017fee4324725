"""Data sets from arrays: classes, scales and labels of steps, files, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typer.testing import CliRunner

from lnm_codegen.cli import app
from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.insight.analysis import analyze_run
from lnm_codegen.train import Dataset, from_arrays, load, load_run, run
from lnm_codegen.train.data.arrays import NAMES
from lnm_codegen.train.runs.saved import test_data as data_of_test
from tests.refusals import assert_refused, refused
from tests.train.small import ROWS

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(3.0, 2.0, (12, 5, 3))
Y = np.array([2, 7, 7] * 4)
CONFIG = replace(ROWS, network_arguments={"hidden": [4]}, batch=4, limit=10, validation=3)
GIVEN: dict[str, Any] = {
    "x_train": X, "y_train": Y, "x_test": X[:4] + 1, "y_test": Y[:4],
}  # fmt: skip


def test_sequences() -> None:
    """Classes are numbered in order; mean and deviation are those of the training features."""
    data = from_arrays(**GIVEN, name="mine")
    assert (data.name, data.kind, data.sample, data.classes) == ("mine", "sequence", (5, 3), 2)
    assert data.train.labels.tolist() == [0, 1, 1] * 4
    x, _ = next(data.batches(data.train, 12))
    assert x.shape == (5, 12, 3)
    assert np.allclose(x.mean((0, 1)), 0, atol=1e-6)
    assert np.allclose(x.std((0, 1), correction=0), 1, atol=1e-6)
    assert np.allclose(x.transpose(0, 1)[0], (X[0] - X.mean((0, 1))) / X.std((0, 1)), atol=1e-5)
    x, _ = next(data.batches(data.test, 4))
    assert np.allclose(x.transpose(0, 1), (X[:4] + 1 - X.mean((0, 1))) / X.std((0, 1)), atol=1e-5)


def test_images_and_constant_channels() -> None:
    x = RANDOM.normal(size=(6, 2, 4, 3))
    x[:, 1] = 5.0
    labels = ["b", "a", "b", "c", "a", "c"]
    data = from_arrays(torch.tensor(x), labels, x[:2], ["c", "a"], kind="image")
    assert (data.kind, data.sample, data.classes) == ("image", (2, 4, 3), 3)
    assert data.test.labels.tolist() == [2, 0]
    found, _ = next(data.batches(data.train, 6))
    assert np.allclose(found[:, 0], (x[:, 0] - x[:, 0].mean()) / x[:, 0].std(), atol=1e-5)
    assert not found[:, 1].any()


def test_raw_spikes_and_labels_of_steps() -> None:
    spikes = RANDOM.random((6, 5, 3)) < 0.3
    labels = RANDOM.integers(0, 3, (6, 5))
    labels[0, 0], labels[1, 1] = -100, 2
    data = from_arrays(spikes, labels, spikes[:2], labels[:2], scale="raw")
    assert data.per_step
    assert data.classes == 3
    x, found = next(data.batches(data.train, 6))
    assert np.array_equal(x.transpose(0, 1), spikes)
    assert np.array_equal(found.t(), labels)


def test_the_arrays_are_copied() -> None:
    x = X.astype(np.float32)
    data = from_arrays(
        x, Y.astype(str).astype(object), torch.tensor(x[:4]).bfloat16(), Y[:4].astype(str)
    )
    x[:] = 0
    assert data.train.images.any()
    assert data.test.labels.tolist() == [0, 1, 1, 0]


def test_a_file_is_the_arrays(tmp_path: Path) -> None:
    """A run on it loads by itself."""
    file, folder = tmp_path / "mine.npz", tmp_path / "folder"
    np.savez(file, **GIVEN)
    folder.mkdir()
    for name, value in GIVEN.items():
        np.save(folder / f"{name}.npy", value)
    want = from_arrays(**GIVEN)
    for place in (file, folder):
        data = load("arrays", place, limit=3)
        assert torch.equal(data.train.images, want.train.images[:3])
        assert torch.equal(data.test.labels, want.test.labels[:3])
        assert all(map(torch.equal, data.scale, want.scale))
    run(replace(CONFIG, data="arrays", data_dir=file), tmp_path / "run")
    saved = load_run(tmp_path / "run")
    assert len(saved.data.test) == 3
    assert len(data_of_test(saved).test) == 4


REFUSALS = """
from_arrays
    given(x_train=X[0]) >> x_train has the shape (5, 3) >> (samples, T, features)
    given(x_train=X.astype(str)) >> type of x_train is '<U >> numbers or booleans
    given(x_train=np.where(X > X.mean(), np.nan, X)) >> not finite in float32, in 12 samples
    given(x_train=X * 1e60) >> not finite in float32
    given(x_train=[[1.0], [1.0, 2.0]]) >> x_train is no array >> an array >> Pad sequences
    given(x_train=np.ma.masked_less(X, 1.0)) >> x_train has masked values >> without a mask
        >> Replace
    given(x_test=list(np.ma.masked_less(X[:4], 2.0))) >> x_test has masked values
    given(y_train=np.ma.masked_equal(Y, 2)) >> y_train has masked values >> without a mask
        >> or leave
    given(x_train=X[:0]) >> x_train has the shape (0, 5, 3) >> none of them 0
    given(x_test=X[:4, :3]) >> x_test has the shape (4, 3, 3) >> (samples, 5, 3) as in x_train
    given(y_train=Y[:-1]) >> y_train has the shape (11,) >> (12,), a label for each sample
    given(y_train=Y.astype(object)) >> type of y_train is 'object' >> integers or text
    given(y_train=Y / 2) >> type of y_train is 'float64' >> integers or text
    given(y_test=[2, 7, 9, 7]) >> y_test has the label 9, which y_train lacks >> 2, 7
    given(y_test=np.zeros((4, 5), int)) >> y_test has the shape (4, 5) >> form of y_train
    given(kind="video") >> no kind 'video' >> sequence, image
    given(scale=None) >> scale is None >> standard, raw
    given(scale="fast") >> no scale 'fast' >> standard, raw
    given(name="") >> name is ''
    steps(-1) >> a label in y_test is
    steps(3) >> a label in y_test is
    from_arrays(X, STEPS.astype(str), X[:4], STEPS[:4].astype(str)) >> type of y_train is '<U
        >> for each time step
from_arrays >> arrays of shape (3,)
    given(scale=(1.0,)) >> scale is
    given(scale=(0.0, 0.0)) >> scale is
    given(scale=(np.zeros(2), 1.0)) >> scale is
    given(scale=(0.0, np.nan)) >> scale is
    given(scale=("a", 1.0)) >> scale is
    given(scale=(1.0, 2.0, 3.0)) >> scale is
    given(scale=2) >> scale is
"""
STEPS = np.tile(np.arange(3), (12, 2))[:, :5]


def given(**changes: Any) -> Dataset:
    return from_arrays(**{**GIVEN, **changes})


def steps(value: int) -> Dataset:
    other = STEPS[:4].copy()
    other[0, 0] = value
    return from_arrays(X, STEPS, X[:4], other)


def test_refusals() -> None:
    """A mask that hides nothing is accepted."""
    assert_refused(REFUSALS, globals())
    found = given(x_train=np.ma.masked_invalid(X))
    assert torch.equal(found.train.images, given().train.images)
    assert set(NAMES) == set(GIVEN)


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "three.npz", **{k: v for k, v in GIVEN.items() if k != "x_test"})
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "text.npz").write_text("not an archive")
    np.savez(tmp_path / "objects.npz", **{**GIVEN, "y_train": np.array([None] * 12)})
    (tmp_path / "empty").mkdir()
    for name, word in (
        ("three.npz", "it has no x_test"),
        ("one.npy", "it has no x_train"),
        ("empty", "it has no x_train"),
        ("text.npz", "cannot be read"),
        ("objects.npz", "cannot be read"),
        ("absent.npz", "cannot be read"),
    ):
        with refused(ToolError, f"data: {tmp_path / name}", word):
            load("arrays", tmp_path / name)
    file = tmp_path / "mine.npz"
    np.savez_compressed(file, **GIVEN)
    whole = file.read_bytes()
    for byte in (0x40, 0x80, 0x200):  # the error of zlib once was called a bug of lnm_codegen
        damaged = bytes(value ^ 0xFF for value in whole[byte : byte + 16])
        file.write_bytes(whole[:byte] + damaged + whole[byte + 16 :])
        with refused(ToolError, f"data: {file}", "cannot be read", remedy="numpy.savez"):
            load("arrays", file)


def test_a_run_applies_limit_and_validation_and_names_the_samples(tmp_path: Path) -> None:
    mine = from_arrays(**GIVEN, name="mine")
    out = tmp_path / "run"
    run(CONFIG, out, data=mine)
    with refused(ModelError, None, "samples of your own, 'mine'", "", "data= of load_run"):
        load_run(out)
    saved = load_run(out, data=mine.first(10).held_out(3))
    assert saved.config.data == "mine"
    found = analyze_run(saved)
    assert (found.split, found.samples) == ("held-out", 3)
    with refused(ModelError, f"run: {out}", "the test set of mine is unknown"):
        data_of_test(saved)
    with refused(ModelError, None, "the run has other samples", "", "data= of load_run"):
        load_run(out, data=mine.held_out(3))  # limit comes first
    found = analyze_run(load_run(out, data=mine))
    assert (found.split, found.samples) == ("test", 4)
    again = run(CONFIG, out, data=mine, resume=True)
    same = run(CONFIG, data=mine.first(10).held_out(3))  # limit and validation apply to it no more
    assert [e.loss for e in again.epochs] == [e.loss for e in same.epochs]


def test_own_samples_with_the_name_of_a_set_are_own(tmp_path: Path) -> None:
    """Neither loading nor resuming looks for a set of that name, in Python or as a command."""
    for name in ("arrays", "digits"):
        mine, out = from_arrays(**GIVEN, name=name), tmp_path / name
        config, said = replace(CONFIG, data=name), f"the run has samples of your own, '{name}'"
        run(config, out, data=mine)
        with refused(ModelError, None, said):
            load_run(out)
        with refused(ModelError, "data", said):
            run(config, out, resume=True)
        failed = CliRunner().invoke(app, ["train", "--resume", "--out", str(out)])
        assert said in str(failed.exception)
        with refused(ModelError, f"run: {out}", f"the test set of {name} is unknown"):
            data_of_test(load_run(out, data=mine.first(10).held_out(3)))
    none: Any = (X, Y)
    parts = ("a ndarray, not a data set", "", "from_arrays")
    with refused(ModelError, "train: data: ndarray: train", *parts):
        run(CONFIG, data=none)
    with refused(ModelError, "load_run: data: ndarray: train", *parts):
        load_run(tmp_path, data=none)


def test_new_samples_have_the_scale_of_the_run(tmp_path: Path) -> None:
    """They were normalised by their own mean and deviation, so another mix of classes was moved."""
    mine = from_arrays(**GIVEN)
    run(replace(CONFIG, validation=0, limit=None), tmp_path, data=mine)
    new = {**GIVEN, "x_train": 5 * X + 9}
    mean, deviation = mine.scale
    for scale in ("standard", "raw", (1.0, 2.0)):
        found = load_run(tmp_path, data=from_arrays(**new, scale=scale)).data
        assert torch.equal(found.scale[0], mean)
        assert torch.equal(found.scale[1], deviation)
    spikes = {**GIVEN, "x_train": X > 3, "x_test": X[:4] > 3}  # they stay spikes
    run(replace(CONFIG, validation=0), tmp_path / "raw", data=from_arrays(**spikes, scale="raw"))
    found = load_run(tmp_path / "raw", data=from_arrays(**spikes)).data
    x, _ = next(found.batches(found.test, 4))
    assert x.unique().tolist() == [0, 1]


def test_a_limit_leaves_the_scale_of_the_run(tmp_path: Path) -> None:
    """The run normalises by all samples; loading by name computes them after the limit."""
    data = load("digits-rows", scale="standard")
    run(replace(CONFIG, limit=40, validation=4), tmp_path, data=data)
    saved = load_run(tmp_path)
    for found in (saved.data, data_of_test(saved)):
        assert torch.equal(torch.stack(found.scale), torch.stack(data.scale))
    assert run(saved.config, tmp_path, resume=True).config == saved.config
    first = load("digits-rows", limit=60).first(40)  # their number is the limit of the run
    run(replace(CONFIG, limit=None), tmp_path / "first", data=first)
    assert load_run(tmp_path / "first").config.limit == 40
    assert run(load_run(tmp_path / "first").config, tmp_path / "first", resume=True).epochs


def test_scales_of_your_own() -> None:
    """They are numbers or arrays of a time step, such as the scale of another set."""
    of_features = from_arrays(**GIVEN).scale
    for scale, mean in ((of_features, of_features[0]), ((3.0, np.full(3, 2.0)), 3.0)):
        data = from_arrays(**GIVEN, scale=scale)
        x, _ = next(data.batches(data.train, 12))
        want = (X - np.asarray(mean)) / np.asarray(scale[1])
        assert np.allclose(x.transpose(0, 1), want, atol=1e-5)
    images = {**GIVEN, "x_train": X[:, None], "x_test": X[:4, None], "kind": "image"}
    scale = from_arrays(**images).scale
    assert torch.equal(from_arrays(**images, scale=scale).scale[0], scale[0])
