"""`fashion-events`: Fashion-MNIST converted to events with simulated saccades.

Not recorded by an event camera: see `encoders.saccade_events`. It tests the path of event frames,
not memory: the class is in every slice.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lnm_codegen.train.data.augment import DRAWS, roll
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.data.encoders import saccade_events
from lnm_codegen.train.data.framing import made_split
from lnm_codegen.train.data.idx_sets import DEBIAN_FOLDER, read_idx_folder
from lnm_codegen.train.data.options import check_choice, check_count, check_number
from lnm_codegen.train.data.split import Augment, Split

AT_ONCE = 256


def fashion_events(
    folder: Path = DEBIAN_FOLDER,
    limit: int | None = None,
    time_steps: int = 10,
    threshold: float = 0.25,
    keep: bool = True,
) -> Dataset:
    """Return the events of Fashion-MNIST as frames, (T, 2, 34, 34). Augmented by rolling.

    Args:
        folder: Of the four idx files.
        limit: Keep only so many of each split.
        time_steps: T, 1 to 90.
        threshold: Contrast between levels, in (0, 10].
        keep: Keep the frames in memory, 46 kB each at T = 10; one takes 5 ms to make.
    """
    name = "fashion-events"
    check_count(name, "time_steps", time_steps, 1, 90)
    check_number(name, "threshold", threshold, 0, 10)
    check_choice(name, "keep", keep, (False, True))
    images, labels = read_idx_folder("fashion-mnist", folder)
    train, test = (
        _split(x[:limit], y[:limit], time_steps, threshold, keep, augment)
        for x, y, augment in zip(images, labels, (roll(flip=False), None), strict=True)
    )
    shape = _shape(images[0], time_steps)
    return Dataset(name, train, test, 10, "sequence", shape, draws=DRAWS)


def _split(
    images: Tensor, labels: Tensor, time_steps: int, threshold: float, keep: bool,
    augment: Augment | None,
) -> Split:  # fmt: skip
    def make(rows: Tensor) -> Tensor:
        parts = [
            saccade_events(images[some].to(torch.float32) / 255, time_steps, threshold)
            for some in torch.split(rows, AT_ONCE)
        ]
        return torch.cat(parts, dim=1).transpose(0, 1).to(torch.int16)

    return made_split(make, labels, _shape(images, time_steps), keep, augment)


def _shape(images: Tensor, time_steps: int) -> tuple[int, ...]:
    """Return (T, 2, H, W): an image has a border of 3 pixels, the length of a saccade."""
    return (time_steps, 2, *(side + 6 for side in images.shape[1:]))
