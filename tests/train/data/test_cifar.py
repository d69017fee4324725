"""CIFAR from every layout is the same set, and no file of a user's makes anything run."""

from __future__ import annotations

import os
import pickle
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lnm_codegen.errors import ToolError
from lnm_codegen.train.data import load
from lnm_codegen.train.data.images import read_pickle
from tests.refusals import refused
from tests.train.data.image_files import LAYOUTS, cifar_arrays, pack, write_batch, write_cifar

BELOW = {
    (10, "python"): "cifar-10-batches-py", (10, "binary"): "cifar-10-batches-bin",
    (100, "python"): "cifar-100-python", (100, "binary"): "cifar-100-binary",
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path: Path, layout: str) -> None:
    """Python batches, binary batches, image folders; the batches also where archives put them."""
    for classes, inside in ((10, False), (100, False), (10, True), (100, True)):
        folder = tmp_path / f"{classes} {inside}"
        below = BELOW.get((classes, layout), "") if inside else ""
        each = 5 if classes == 10 else 2
        (x, y), (x_test, y_test) = write_cifar(folder / below, classes, layout, each)
        data = load(f"cifar{classes}", folder)
        assert (data.kind, data.sample, data.classes) == ("image", (3, 32, 32), classes)
        assert np.array_equal(data.train.images.numpy(), x)
        assert np.array_equal(data.train.labels.numpy(), y)
        assert np.array_equal(data.test.images.numpy(), x_test)
        assert np.array_equal(data.test.labels.numpy(), y_test)
        batch, _ = next(data.batches(data.train, len(x)))
        assert float(batch.mean((0, 2, 3)).abs().max()) < 1e-5
        assert float((batch.std((0, 2, 3)) - 1).abs().max()) < 1e-4
        if layout == "folders" and inside:
            break  # they have no place in an archive


def test_an_archive_of_any_layout(tmp_path: Path) -> None:
    """Found by its name in the folder, or named itself; read without unpacking."""
    for layout, name, mode in (
        ("python", "cifar-10-python.tar.gz", "w:gz"),
        ("binary", "cifar-10-binary.tar.gz", "w:gz"),
        ("folders", "cifar10-jpeg.tar.xz", "w:xz"),
        ("folders", "mine.tar", "w"),
    ):
        folder = tmp_path / name / "beside"
        (x, y), _ = write_cifar(tmp_path / name / "in", 10, layout, each=1)
        folder.mkdir()
        pack(tmp_path / name / "in", folder / name, mode)
        for place in (folder / name, *([folder] if name != "mine.tar" else [])):
            data = load("cifar10", place)
            assert np.array_equal(data.train.images.numpy(), x)
            assert np.array_equal(data.train.labels.numpy(), y)
        assert [p.name for p in folder.iterdir()] == [name]


def test_jpeg_and_limit(tmp_path: Path) -> None:
    """The first of an image folder are balanced; a JPEG is nearly what it was made from."""
    (x, _), _ = write_cifar(tmp_path, 10, "folders", suffix=".jpg")
    data = load("cifar10", tmp_path, limit=10)
    assert data.train.labels.tolist() == data.test.labels.tolist() == list(range(10))
    assert np.abs(data.train.images.numpy().astype(int) - x[:10]).mean() < 3


def test_augmented_training_batches(tmp_path: Path) -> None:
    """Driven by the generator; the test split has none."""
    write_cifar(tmp_path, 10, "binary")
    data = load("cifar10", tmp_path)

    def batch(seed: int, augment: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return next(data.batches(data.train, 50, generator, augment))[0]

    assert torch.equal(batch(1, True), batch(1, True))
    assert not torch.equal(batch(1, True), batch(1, False))
    generator = torch.Generator().manual_seed(0)
    x, labels = next(data.batches(data.test, 10, generator, augment=True))
    mean, std = data.scale
    wanted = (data.test.images.float() - mean) / std
    assert torch.equal(x[labels.argsort()], wanted)


class Evil:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load, pickle.loads])
def test_a_malicious_batch_is_refused_and_nothing_runs(tmp_path: Path, function: Any) -> None:
    """It names the function, which is not called: no file appears."""
    write_cifar(tmp_path, 10, "python", each=1)
    proof, path = tmp_path / "proof", tmp_path / "data_batch_3"
    problem = f".{function.__name__}, which is not allowed"
    accepted = "pickles of dicts, lists, numbers, text and arrays of bytes"
    for protocol in range(6):
        path.write_bytes(pickle.dumps({"data": Evil(function, f"touch {proof}")}, protocol))
        with refused(ToolError, path, problem, accepted, "Get the file again."):
            load("cifar10", tmp_path)
    assert not proof.exists()


def test_an_encoding_other_than_latin1_is_refused() -> None:
    """`_codecs.encode` is there for bytes alone."""
    import codecs

    raw = pickle.dumps(Evil(codecs.encode, "x", "rot13"))
    with pytest.raises(ToolError, match="the encoding 'rot13' is not allowed"):
        read_pickle(raw, "a file")


def test_stand_ins_take_no_state() -> None:
    """A state put into a function would stay: its defaults, for every file that is read after."""
    raw = b"c_codecs\nencode\n(N}U\x0c__defaults__(U\x05rot13tstb."
    for state in (raw, b"c_codecs\nencode\n}U\x01xK\x01sb."):
        with pytest.raises(ToolError, match="refused"):
            read_pickle(state, "a file")
    honest = pickle.dumps({"b": b"\xff"}, 2)
    assert read_pickle(honest, "a file") == {"b": b"\xff"}


def test_honest_pickles_are_read() -> None:
    content = {"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1, 2], "b": b"\xff"}
    for protocol in range(5):
        found = read_pickle(pickle.dumps(content, protocol), "a file")
        assert np.array_equal(found.pop("data"), content["data"])
        assert found == {"labels": [1, 2], "b": b"\xff"}


def test_no_byte_of_a_pickle_brings_the_interpreter_down() -> None:
    """A dtype's flags, say, which NumPy would believe; what is read is an array of bytes."""
    raw = pickle.dumps({"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1]}, 2)
    for place in range(len(raw)):
        for value in (0, 1, 63, 255):
            try:
                found = read_pickle(raw[:place] + bytes([value]) + raw[place + 1 :], "a file")
            except ToolError:
                continue
            data = found.get("data") if isinstance(found, dict) else None
            assert not isinstance(data, np.ndarray) or data.dtype == np.uint8


def test_no_image_is_handed_to_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow renders EPS by Ghostscript, whatever the file is called."""
    write_cifar(tmp_path, 10, "folders")
    path = next(tmp_path.glob("train/*/*.png"))
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n")

    def called(*arguments: Any, **named: Any) -> None:
        raise AssertionError(f"called {arguments}")

    monkeypatch.setattr(subprocess, "check_call", called)
    with pytest.raises(ToolError, match=r"not an image"):
        load("cifar10", tmp_path)


def test_batches_that_are_not_cifar(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, "python", each=1)
    one = np.zeros((1, 3072), np.uint8)
    batches: list[Any] = [[1], {"data": one}, {"data": one.astype(float), "labels": [0]}]
    batches += [{"data": one[:, 1:], "labels": [0]}, {"data": np.vstack([one] * 2), "labels": [0]}]
    batches += [{"data": one, "labels": [label]} for label in ("cat", 2**70, 10)]
    for content in (b"", b"hello", *map(pickle.dumps, batches)):
        (tmp_path / "test_batch").write_bytes(content)
        with pytest.raises(ToolError, match=r"^[^\n]*test_batch: [^\n]*\.$"):
            load("cifar10", tmp_path)


def test_broken_and_missing_files(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, "binary")
    (tmp_path / "data_batch_2.bin").write_bytes(bytes(3072))
    path = tmp_path / "data_batch_2.bin"
    with refused(ToolError, path, "3072 bytes", "a multiple of 3073", "Get the file again."):
        load("cifar10", tmp_path)
    path.unlink()
    with refused(ToolError, path, "missing, although files beside it exist"):
        load("cifar10", tmp_path)


def test_image_folders_that_do_not_fit(tmp_path: Path) -> None:
    write_cifar(tmp_path, 10, "folders")
    odd = tmp_path / "train" / "class03" / "3.png"
    Image.new("RGB", (30, 32)).save(odd)
    with refused(ToolError, odd, "30 x 32 pixels", "32 x 32 pixels"):
        load("cifar10", tmp_path)
    odd.write_bytes(b"no image")
    with refused(ToolError, odd, "not an image: ", remedy="Get the file again."):
        load("cifar10", tmp_path)
    (tmp_path / "test" / "class09" / "9.png").unlink()
    problem = "10 class folders in train/ and 9 in test/, and 'class09' is in one of them only"
    with refused(ToolError, tmp_path, problem, "the same 10 in both"):
        load("cifar10", tmp_path)


def test_a_missing_folder_names_the_layouts(tmp_path: Path) -> None:
    accepted = (
        "Python batches (train, in the folder or in cifar-100-python/); binary batches (train.bin,"
        " in the folder or in cifar-100-binary/); image folders (train/<class>/*.png or .jpg,"
        " test/<class>/); an archive of these (cifar-100-python.tar.gz, cifar-100-binary.tar.gz,"
    )
    problem = f"{tmp_path}/none does not exist"
    with refused(ToolError, "data: cifar100", problem, accepted, "with --data-dir"):
        load("cifar100", tmp_path / "none")


def test_archives_that_are_refused(tmp_path: Path) -> None:
    """A member is known by the name in the archive; a link in it is not followed."""
    path, secret, links = (tmp_path / n for n in ("cifar.tar.xz", "secret", "links.tar"))
    for content in (b"", b"not a tar", bytes(2000)):
        path.write_bytes(content)
        with pytest.raises(ToolError, match=r"^[^\n]*cifar\.tar\.xz[^\n]*\.$"):
            load("cifar10", path)
    write_batch(secret, cifar_arrays(10)[0], 10)
    with tarfile.open(links, "w") as out:
        for name in ("data_batch_1", "test_batch"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, str(secret)
            out.addfile(member)
    with pytest.raises(ToolError, match="holds no files of this set"):
        load("cifar10", links)
