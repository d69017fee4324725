"""From images in memory to a `Dataset`: of images, or of their rows, columns or pixels in time."""

from __future__ import annotations

import torch
from torch import Tensor

from lnm_codegen.train.data.dataset import Dataset, Scale
from lnm_codegen.train.data.options import check_choice
from lnm_codegen.train.data.split import Split, held

SCALES = ("standard", "unit")


def image_set(
    name: str, train: Split, test: Split, classes: int, limit: int | None = None, draws: int = 0
) -> Dataset:
    """Return a set of images (C, H, W), scaled by mean and deviation of each training channel.

    Args:
        name: Of the set.
        train: Images in memory.
        test: The same.
        classes: How many.
        limit: Keep only so many of each split.
        draws: Of the splits' augmentation.
    """
    train, test = train.first(limit), test.first(limit)
    images = train.images
    shape = tuple(images.shape[1:])
    return Dataset(name, train, test, classes, "image", shape, standard(images), draws=draws)


def standard(images: Tensor) -> Scale:
    """Return mean and deviation of each channel of images (N, C, H, W), both (C, 1, 1)."""
    found = [_moments(channel) for channel in images.unbind(1)]
    mean, std = (torch.stack(part) for part in zip(*found, strict=True))
    std = torch.where(std > 0, std, torch.ones_like(std))  # a constant channel, or a single pixel
    return mean.view(-1, 1, 1), std.view(-1, 1, 1)


def _moments(channel: Tensor) -> tuple[Tensor, Tensor]:
    values = channel.to(torch.float32)
    return values.mean(), values.std()


def pixel_sequences(
    name: str, train: Tensor, test: Tensor, labels: tuple[Tensor, Tensor], *,
    classes: int, limit: int | None, scale: str, top: int,
) -> Dataset:  # fmt: skip
    """Return a set of sequences made of pixels.

    Args:
        name: Of the set.
        train: (count, T, features), 0 to `top`.
        test: The same.
        labels: Of both.
        classes: How many.
        limit: Keep only so many of each split.
        scale: "unit" divides by `top`, so that nothing is 0; "standard" takes mean and deviation of
            all training values.
        top: The largest value.
    """
    check_choice(name, "scale", scale, SCALES)
    splits = [held(x, y).first(limit) for x, y in zip((train, test), labels, strict=True)]
    numbers: Scale = (torch.tensor(0.0), torch.tensor(float(top)))
    if scale == "standard":
        mean, std = standard(splits[0].images.unsqueeze(1))
        numbers = (mean.view(()), std.view(()))
    shape = tuple(train.shape[1:])
    return Dataset(name, splits[0], splits[1], classes, "sequence", shape, numbers)
