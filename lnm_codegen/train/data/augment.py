"""Augmentations of whole batches; each sample depends only on its own uniform numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from lnm_codegen.train.data.dataset import Augment

DRAWS = 3
"""Random numbers per sample: down, right, flip."""

BORDER, SHIFT = 4, 5


def crop_and_flip(images: Tensor, chance: Tensor) -> Tensor:
    """Return random crops of images (n, C, H, W) with a zero border of 4, half of them mirrored.

    This is the augmentation of CIFAR since He et al. 2016.
    """
    n, channels, height, width = images.shape
    down, right = _whole(chance, 2 * BORDER + 1)
    rows = down[:, None] + torch.arange(height)
    columns = right[:, None] + _mirrored(width, chance[:, 2] < 0.5)
    return pad(images, (BORDER,) * 4)[
        torch.arange(n)[:, None, None, None],
        torch.arange(channels)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def roll(flip: bool) -> Augment:
    """Return an augmentation that rolls frames (n, T, 2, H, W) by up to 5 pixels each way.

    All time steps of a sample get the same shift.

    Args:
        flip: Mirror half of the samples too. Not for digits, nor for gestures of one hand.
    """

    def rolled(frames: Tensor, chance: Tensor) -> Tensor:
        n, (height, width) = len(frames), frames.shape[-2:]
        down, right = (whole - SHIFT for whole in _whole(chance, 2 * SHIFT + 1))
        mirror = (chance[:, 2] < 0.5) & flip
        rows = (torch.arange(height) - down[:, None]) % height
        columns = (_mirrored(width, mirror) - right[:, None]) % width
        where = torch.arange(n)[:, None, None]
        found = frames[where, :, :, rows[:, :, None], columns[:, None, :]]  # (n, H, W, T, 2)
        return found.permute(0, 3, 4, 1, 2)

    return rolled


def _whole(chance: Tensor, values: int) -> tuple[Tensor, Tensor]:
    down, right = (chance[:, :2] * values).long().unbind(1)
    return down, right


def _mirrored(width: int, mirror: Tensor) -> Tensor:
    """Return column indices (n, width), in reverse order where `mirror` (n,) is true."""
    columns = torch.arange(width)
    return torch.where(mirror[:, None], columns.flip(0), columns)
