"""Samples of your own: data sets and loaders of PyTorch, functions of a file, and refusals."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from typer.testing import CliRunner

from lnm_codegen.cli import app
from lnm_codegen.errors import ModelError
from lnm_codegen.insight.analysis import analyze_run
from lnm_codegen.train import from_arrays, from_datasets, load, load_run, run
from lnm_codegen.train.runs.saved import test_data as data_of_test
from tests.refusals import assert_refused, refused
from tests.train.data.event_files import some_events, write_npz
from tests.train.data.idx_files import write_fashion
from tests.train.small import ROWS

CONFIG = replace(ROWS, network_arguments={"hidden": [4]}, epochs=2, batch=4, limit=None)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(24, 5, 3, generator=GENERATOR)
Y = torch.arange(24) % 3


def pair(x: Tensor = X, y: Tensor = Y) -> tuple[TensorDataset, TensorDataset]:
    return TensorDataset(x[:16], y[:16]), TensorDataset(x[16:], y[16:])


class Own:
    """A class as a user writes it."""

    def __init__(self, make: Callable[[int], Any], count: int = 8) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Any:
        if row >= self.count:
            raise IndexError(row)
        return self.make(row)


def own(make: Callable[[int], Any]) -> tuple[Own, Own]:
    return Own(make), Own(make, 4)


def weights(network: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 99))
def test_batches_are_those_of_arrays(
    size: int, world: int, is_shuffled: bool, is_last: bool, seed: int
) -> None:
    """Order, share of a process and layout are those of the same samples in arrays."""
    x, y = X.movedim(1, -1) if is_last else X, Y
    sets = from_datasets(*pair(x, y), time_last=is_last)
    arrays = from_arrays(X[:16], Y[:16], X[16:], Y[16:], scale="raw")
    assert (sets.kind, sets.sample, sets.classes) == (arrays.kind, arrays.sample, arrays.classes)
    for rank in range(world):
        for data in (sets, arrays):
            order = torch.Generator().manual_seed(seed) if is_shuffled else None
            first, *_ = data.batches(data.train, size, order, rank=rank, world=world)
            if data is sets:
                want = first
        assert all(map(torch.equal, first, want))


def test_forms_of_inputs_and_labels() -> None:
    forms: list[tuple[Any, Any]] = [
        (lambda x: x, int),
        (lambda x: x.numpy(), np.int64),
        (lambda x: x.double(), torch.tensor),
        (lambda x: x.numpy()[:, ::-1].copy()[:, ::-1], np.uint8),
        (lambda x: x.to_sparse(), lambda y: np.array(y)),
        (lambda x: x.clone().requires_grad_(), lambda y: torch.tensor(y, dtype=torch.uint8)),
    ]
    for convert, label in forms:
        samples = [(convert(X[k]), label(k % 3)) for k in range(8)]
        for form in (tuple, list, lambda s: {"label": s[1], "input": s[0]}):
            data = from_datasets(*own([form(s) for s in samples].__getitem__))
            x, y = next(data.batches(data.train, 8))
            assert (data.name, data.classes) == ("Own", 3)
            assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
            assert torch.equal(x, X[:8].transpose(0, 1))
            assert y.tolist() == [k % 3 for k in range(8)]


def test_kinds_follow_the_axes() -> None:
    shapes = {(1, 4, 4): "image", (4, 3): "sequence", (4, 2, 3, 3): "sequence"}
    for shape, kind in shapes.items():
        data = from_datasets(*pair(torch.zeros(24, *shape)))
        assert (data.kind, data.sample) == (kind, shape)
    data = from_datasets(*pair(torch.zeros(24, 2, 3, 7)), time_last=True)
    assert (data.kind, data.sample) == ("sequence", (7, 2, 3))
    assert from_datasets(*pair(torch.zeros(24, 4, 2, 3)), kind="sequence").kind == "sequence"


def test_labels_of_steps() -> None:
    labels = torch.arange(24 * 5).reshape(24, 5) % 4
    labels[0, 0] = -100
    data = from_datasets(*pair(X, labels))
    assert (data.per_step, data.has_classes, data.classes) == (True, True, 4)
    _, y = next(data.batches(data.train, 16))
    assert torch.equal(y, labels[:16].T)
    assert not from_datasets(*pair(X, labels), per_step=False).has_classes


def test_named_classes_spare_a_reading_of_all_labels() -> None:
    read = []

    def make(row: int) -> Any:
        read.append(row)
        return X[row], row % 3

    train, test = own(make)
    data = from_datasets(train, test)
    assert (data.classes, len(set(read))) == (3, 8)
    read.clear()
    train.classes = ["a", "b", "c", "d"]  # type: ignore[attr-defined]
    assert from_datasets(Subset(train, range(6)), test).classes == 4  # type: ignore[arg-type]
    assert from_datasets(train, test, classes=9).classes == 9
    assert set(read) == {0}


WRONG = """
*
    X[k] >> a sample is a Tensor >> (input, label)
    (X[k], k, k) >> a sample is a tuple of 3 entries >> (input, label)
    {"x": X[k], "z": k} >> a sample is a dict of x, z >> label >> two columns
    ("text", 0) >> the input is a str >> a tensor or an array
    (np.array(["a"]), 0) >> the input is a ndarray of <U1 >> a tensor
    (X[k] * 1j, 0) >> the input is a Tensor of torch.complex64 >> a tensor
    (np.zeros(3, dtype=[("t", int), ("x", int)]), 0) >> the input is a ndarray of [('t'
        >> >> frames (T, C, H, W)
    ({"t": [1], "x": [2]}, 0) >> the input is a dict >> >> counts events
    (Image.new("L", (4, 4)), 0) >> the input is a Image >> a tensor >> ToTensor()
    (X[k], "cat") >> the label is 'cat' >> an integer >> Number the classes
    (X[k, 0], 0) >> shape (3,) >> (C, H, W) >> Add an axis
    (X[k, : 5 - k % 2], 0) >> the input has the shape (4, 3) >> (5, 3) >> Pad
    (X[k], -1) >> the label is -1 >> 0 >> Number the classes from 0
    (X[k], k % 2 + 0.5 if k else 0) >> label is float32 >> integers of shape ()
    (X[k], torch.eye(5, dtype=torch.int64)[k % 5]) >> one 1 in 5 numbers, may be a class as one-hot
        >> >> y.argmax()
    1 / 0 >> reading sample 0 raised ZeroDivisionError: division by zero
"""
NO_SETS = """
*
    Stream() >> a Stream without len() and indices >> len() and indices >> into a list
    DataLoader(Stream()) >> a Stream without len() and indices >> >> into a list
    X.numpy() >> a ndarray, not a data set >> >> from_arrays
    TensorDataset >> the class TensorDataset >> >> Make one object
    TensorDataset(X[:0], Y[:0]) >> no samples
    DataLoader(pair()[0], batch_size=None) >> a DataLoader without batch_size
    3 >> a int without len() and indices
"""


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([])


def test_wrong_samples_are_refused() -> None:
    def read(text: str) -> None:
        sets = own(lambda k: eval(text, {**globals(), "k": k, "Image": PIL.Image}))
        data = from_datasets(*sets)
        list(data.batches(data.train, 3))

    assert_refused(WRONG, {}, run=read)
    with refused(ModelError, "data: Own: train: sample 0", "the label is -1"):
        read("(X[k], -1)")
    assert_refused(NO_SETS, {}, run=lambda text: from_datasets(eval(text, globals()), pair()[1]))
    train, test = pair()
    where, late = (
        "data: TensorDataset: test: sample 3",
        TensorDataset(X[:4], torch.tensor([0, 0, 0, 6])),
    )
    with refused(ModelError, where, "label is 6", "0 to 2", "classes="):
        from_datasets(train, late)
    data = from_datasets(late, test, classes=5)
    where = "data: TensorDataset: train: sample 3"
    with refused(ModelError, where, "the label is 6", "0 to 4"):
        list(data.batches(data.train, 2))


def test_bytes_of_images_are_noticed() -> None:
    """They are numbers up to 255, which is seldom meant."""
    images = torch.full((24, 1, 4, 4), 200, dtype=torch.uint8)
    with pytest.warns(RuntimeWarning, match="the images are bytes, here up to 200"):
        from_datasets(*pair(images))
    from_datasets(*pair(images // 200))
    from_datasets(*pair(torch.full((24, 5, 2, 4, 4), 31, dtype=torch.uint8)))  # counts of events
    with pytest.warns(RuntimeWarning, match="the sequences are bytes, here up to 200"):
        from_datasets(*pair(torch.full((24, 5, 2, 4, 4), 200, dtype=torch.uint8)))


def test_limit_and_validation_apply(tmp_path: Path) -> None:
    """Held-out samples are stratified, and a loaded run has the same ones."""
    config = replace(CONFIG, limit=12, validation=6)
    run(config, tmp_path, data=pair())
    saved = load_run(tmp_path, data=pair())
    assert (len(saved.data.train), len(saved.data.test)) == (6, 6)
    assert torch.bincount(saved.data.test.labels).tolist() == [2, 2, 2]
    assert saved.config.data == "TensorDataset"
    assert analyze_run(saved).split == "held-out"
    with refused(ModelError, None, "samples of your own, 'TensorDataset'", "", "data= of load_run"):
        load_run(tmp_path)
    changed = X.clone()
    changed[0] += 1
    with refused(ModelError, None, "the run has other inputs", "", "data= of load_run"):
        load_run(tmp_path, data=pair(changed))
    with refused(ModelError, None, "the run has other labels"):
        load_run(tmp_path, data=pair(X, Y.roll(1)))


def test_held_out_samples_of_your_own(tmp_path: Path) -> None:
    train, test = pair()
    three = (train, TensorDataset(X[:5], Y[:5]), test)
    run(CONFIG, tmp_path, data=three)
    saved = load_run(tmp_path, data=three)
    assert (len(saved.data.test), saved.data.is_held_out) == (5, True)
    assert (analyze_run(saved).split, analyze_run(saved).samples) == ("held-out", 5)
    tested = data_of_test(saved)
    assert (len(tested.test), tested.is_held_out) == (8, False)
    with refused(ModelError, "train", "validation is 2", "0 for data=(train, valid, test)"):
        run(replace(CONFIG, validation=2), data=three)


class Noisy:
    """Samples that differ at each reading, by one of three sources."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __len__(self) -> int:
        return 10

    def __getitem__(self, row: int) -> Any:
        noise = {
            "torch": lambda: torch.randn(5, 3),
            "numpy": lambda: torch.tensor(np.random.normal(size=(5, 3))),  # noqa: NPY002
            "python": lambda: torch.tensor([[random.gauss(0, 1)] * 3] * 5),
        }[self.source]()
        return X[row] + noise, row % 3


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
def test_random_transforms_follow_the_seed(source: str, tmp_path: Path) -> None:
    """A resumed run has the weights of one that was not stopped. The inputs are not compared."""
    data = (Noisy(source), pair()[1])
    whole = run(CONFIG, tmp_path / "whole", data=data)

    class Stopped(Exception):
        pass

    class Stop(Noisy):
        reads = 0

        def __getitem__(self, row: int) -> Any:
            self.reads += 1
            if self.reads > 34:  # in the second epoch
                raise Stopped
            return super().__getitem__(row)

    stopping = Stop(source)
    stopping.__class__.__name__ = "Noisy"
    with refused(ModelError, None, "raised Stopped", "", "Epoch 1 is saved"):
        run(CONFIG, tmp_path / "stopped", data=(stopping, data[1]))
    state = random.getstate()
    resumed = run(CONFIG, tmp_path / "stopped", data=data, resume=True)
    assert random.getstate() == state
    assert torch.equal(weights(whole.network), weights(resumed.network))
    other = run(replace(CONFIG, seed=1), data=data)
    assert not torch.equal(weights(whole.network), weights(other.network))


def loaders(**options: Any) -> tuple[DataLoader[Any], DataLoader[Any]]:
    train, test = pair()
    return DataLoader(train, 4, **options), DataLoader(test, 3)


def test_loaders(tmp_path: Path) -> None:
    """Without shuffling they give the batches of their data sets."""
    data = from_datasets(*loaders())
    sets = from_datasets(*pair())
    assert (data.name, len(data.train), len(data.test)) == ("TensorDataset", 16, 8)
    for size in (1, 4, 5, 16, 40):
        found, want = (list(d.batches(d.train, size)) for d in (data, sets))
        assert len(found) == len(want)
        for one, other in zip(found, want, strict=True):
            assert all(map(torch.equal, one, other))
    for limit in (1, 3, 5, 8):
        found = list(data.batches(data.test.first(limit), 2))
        assert sum(y.numel() for _, y in found) == limit
    whole = run(CONFIG, tmp_path, data=loaders(shuffle=True))
    again = run(CONFIG, data=loaders(shuffle=True))
    assert torch.equal(weights(whole.network), weights(again.network))
    saved = load_run(tmp_path, data=loaders(shuffle=True))
    assert analyze_run(saved).samples == 8


def test_what_loaders_cannot_do() -> None:
    for change, *words in (
        ({"batch": 8}, "batch is 8, and the loader's batch_size 4", "", "Set batch to 4"),
        ({"validation": 3}, "has no indices", "", "(train, valid, test)"),
        ({"limit": 3}, "limit applies to data sets", "", "Subset"),
        ({"augment": True}, "no augmentation"),
    ):
        with refused(ModelError, None, *words):
            run(replace(CONFIG, **change), data=loaders())


def test_a_loader_resumes_with_its_order(tmp_path: Path) -> None:
    """The order that PyTorch's own random numbers draw is part of the checkpoint."""
    whole = run(CONFIG, tmp_path / "whole", data=loaders(shuffle=True))
    calls = [0]

    def collate(items: Any) -> Any:
        calls[0] += 1
        if calls[0] == 9:
            raise ValueError("stopped")
        return torch.utils.data.default_collate(items)

    with refused(ModelError, None, "the loader raised ValueError: stopped"):
        run(CONFIG, tmp_path / "run", data=loaders(shuffle=True, collate_fn=collate))
    resumed = run(CONFIG, tmp_path / "run", data=loaders(shuffle=True), resume=True)
    assert torch.equal(weights(whole.network), weights(resumed.network))


FILE = """
import torch
from shutil import rmtree
from torch.utils.data import TensorDataset
from lnm_codegen.train import from_datasets

def samples(count=24, shift=0.0, triple=False):
    x = torch.linspace(0, 3, count * 15).reshape(count, 5, 3) + shift
    y = torch.arange(count) % 3
    train, test = TensorDataset(x[:16], y[:16]), TensorDataset(x[16:], y[16:])
    return (train, test, test) if triple else (train, test)

def layout():
    train, test = samples()
    return from_datasets(train, test, time_last=True)

def fails():
    return 1 / 0

def nothing():
    return None
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_function_of_a_file(file: Path, tmp_path: Path) -> None:
    """Readers of the run call it again, with the same options, and notice other samples."""
    out = tmp_path / "run"
    options = ["--family", "lif", "--network", "feedforward", "--net", "hidden=4", "--epochs", "1"]
    given = ["--data", f"{file}:samples", "--data-set", "count=20", "--train", "backend=torch"]
    assert CliRunner().invoke(app, ["train", *options, *given, "--out", str(out)]).exit_code == 0
    saved = load_run(out)
    assert (len(saved.data.test), saved.config.data_arguments) == (4, {"count": 20})
    assert saved.data.name == f"{file}:samples"
    for verb in (
        ["train", "--resume", "--out", str(out)],
        ["analyze", str(out)],
        ["deploy", str(out), "--backend", "c", "--out", str(tmp_path / "c")],
    ):
        found = CliRunner().invoke(app, verb)
        assert found.exit_code == 0, found.output
    file.write_text(FILE.replace("shift=0.0", "shift=0.5"))
    with refused(ModelError, None, "the run has other inputs", "", "Restore what it gives"):
        load_run(out)
    file.unlink()
    with refused(ModelError, None, f"{file} does not exist"):
        load_run(out)
    assert len(load_run(out, data=from_datasets(*pair())).data.test) == 8


def test_what_a_function_may_return(file: Path) -> None:
    assert load(f"{file}:layout").sample == (3, 5)
    assert load(f"{file}:samples", limit=4).loaded is not None
    assert load(f"{file}:samples", triple=True).is_held_out
    assert len(load(f"{file}:samples", limit=4).train) == 4


FUNCTIONS = """
*
    f("sample") >> no 'sample' in it >> samples >> Did you mean 'samples'?
    f("samples", n=3) >> no argument 'n' >> count, shift, triple
    f("fails") >> calling it raised ZeroDivisionError
    f("nothing") >> data is 'NoneType' >> (train, test)
    f("rmtree", path=".") >> it is imported there >> written in the file >> a function
    f("TensorDataset") >> a type >> a function that is written
"""


def test_functions_that_fail(file: Path) -> None:
    """Those of Python and packages are not called: a folder could name one that deletes files."""
    assert_refused(FUNCTIONS, {"f": lambda name, **given: load(f"{file}:{name}", **given)})
    package = torch.utils.data.dataset.__file__
    for reference in (f"{random.__file__}:_test", "shutil:rmtree", f"{package}:random_split"):
        problem = "a function of Python or of an installed"
        with refused(ModelError, f"data: {reference}", problem):
            load(reference)


LIBRARIES = """
from spikingjelly.datasets.n_mnist import NMNIST
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, RandomCrop, ToTensor

def events(folder):
    return [NMNIST(folder, train, "frame", 4, "number") for train in (True, False)]

def images(folder):
    random = Compose([RandomCrop(28, padding=2), ToTensor()])
    return MNIST(folder, True, random), MNIST(folder, False, ToTensor())
"""


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_classes_of_spikingjelly_and_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They train unchanged on made files, from the command line, and readers read the run."""
    if importlib.util.find_spec("torchaudio") is None:  # which SpikingJelly imports
        monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
    file = tmp_path / "mine.py"
    file.write_text(LIBRARIES)
    for split, count in (("train", 3), ("test", 2)):
        for k in range(2 * count):
            place = tmp_path / "nmnist" / "events_np" / split / str(k % 2) / f"{k}.npz"
            write_npz(place, some_events(60, 34, seed=k))
    write_fashion(tmp_path / "MNIST" / "raw", gz=False, side=28)
    network = ["--network", "feedforward", "--net", "hidden=4", "--family", "lif", "--epochs", "1"]
    for name, folder, shape, classes in (
        ("events", tmp_path / "nmnist", (4, 2, 34, 34), 2),
        ("images", tmp_path, (1, 28, 28), 10),
    ):
        out = tmp_path / name
        data = ["--data", f"{file}:{name}", "--data-dir", str(folder), "--out", str(out)]
        for verb in (["train", *network, *data], ["analyze", str(out)]):
            found = CliRunner().invoke(app, verb)
            assert found.exit_code == 0, found.output
        saved = load_run(out)
        assert (saved.data.sample, saved.data.classes) == (shape, classes)
        x, y = next(saved.data.batches(saved.data.train, 100))
        if name == "events":  # every event is in a frame, and the folders are the classes
            assert x.sum().item() == 60 * len(y)
            assert y.tolist() == [0, 0, 0, 1, 1, 1]
