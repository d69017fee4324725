"""Data sets from images in memory: the images, or their rows, columns or pixels over time."""

from __future__ import annotations

import torch
from torch import Tensor

from lnm_codegen.train.data.dataset import Dataset, Scale, Split, memory_split, standard_scale
from lnm_codegen.validation import require_one_of

Labelled = tuple[Tensor, Tensor]
"""Inputs (count, *), and labels (count,)."""


SCALES = ("standard", "unit")
"""Words of the option `scale`."""


def image_set(
    name: str,
    train: Split,
    test: Split,
    classes: int,
    limit: int | None = None,
    draws: int = 0,
    scale: str = "standard",
) -> Dataset:
    """Return a set of images (C, H, W).

    `scale` is "standard", mean and deviation of each training channel; or "unit", bytes divided by
    255, so that black is 0.
    """
    require_one_of(f"data: {name}", "scale", scale, SCALES)
    train, test = train.first(limit), test.first(limit)
    images = train.images
    numbers = _unit(255) if scale == "unit" else channel_scale(images)
    return Dataset(
        name, train, test, classes, "image", tuple(images.shape[1:]), numbers, draws=draws
    )


def _unit(top: int) -> Scale:
    return torch.tensor(0.0), torch.tensor(float(top))


def channel_scale(images: Tensor) -> Scale:
    """Return mean and deviation of each channel of images (N, C, H, W), both (C, 1, 1)."""
    scales = (standard_scale(channel, correction=1) for channel in images.unbind(1))
    mean, std = map(torch.stack, zip(*scales, strict=True))
    return mean.view(-1, 1, 1), std.view(-1, 1, 1)


def pixel_sequences(
    name: str, train: Labelled, test: Labelled, limit: int | None, scale: str, top: int
) -> Dataset:
    """Return a set of sequences of pixels, with ten classes.

    Args:
        name: Name of the set.
        train: (count, T, features), values 0 to `top`; and labels.
        test: The same.
        limit: Largest number of samples in each split.
        scale: "unit" divides by `top`, so that black is 0; "standard" normalises by mean and
            deviation of all training values.
        top: The value of white.
    """
    require_one_of(f"data: {name}", "scale", scale, SCALES)
    first, second = (memory_split(*part).first(limit) for part in (train, test))
    numbers = _unit(top)
    if scale == "standard":
        mean, std = channel_scale(first.images.unsqueeze(1))
        numbers = (mean.view(()), std.view(()))
    return Dataset(name, first, second, 10, "sequence", tuple(train[0].shape[1:]), numbers)
