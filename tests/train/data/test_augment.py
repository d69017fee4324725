"""Augmentation of a batch is, sample by sample, a crop or a roll and a flip that chance decides."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from lnm_codegen.train.data.images import crop_and_flip, roll


def chances(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, 3), generator=generator, dtype=torch.float64)


@given(
    n=st.integers(0, 5), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_crop_and_flip_one_by_one(n: int, height: int, width: int, seed: int) -> None:
    images = torch.arange(n * 3 * height * width).view(n, 3, height, width).to(torch.uint8)
    chance = chances(n, seed)
    out = crop_and_flip(images, chance)
    assert (out.shape, out.dtype) == (images.shape, torch.uint8)
    for image, changed, (down, right, flip) in zip(images, out, chance.tolist(), strict=True):
        top, left = int(down * 9), int(right * 9)
        wanted = pad(image, (4, 4, 4, 4))[:, top : top + height, left : left + width]
        assert torch.equal(changed, wanted.flip(2) if flip < 0.5 else wanted)


@given(n=st.integers(0, 4), height=st.integers(1, 9), width=st.integers(1, 9),
       flip=st.booleans(), seed=st.integers(0, 99))  # fmt: skip
def test_roll_one_by_one(n: int, height: int, width: int, flip: bool, seed: int) -> None:
    """The same at every step and in both polarities; what leaves comes back on the other side."""
    shape = (n, 3, 2, height, width)
    frames = torch.arange(n * 6 * height * width, dtype=torch.int16).view(shape)
    chance = chances(n, seed)
    out = roll(flip)(frames, chance)
    assert (out.shape, out.dtype) == (frames.shape, torch.int16)
    for one, changed, (down, right, mirror) in zip(frames, out, chance.tolist(), strict=True):
        wanted = one.roll((int(down * 11) - 5, int(right * 11) - 5), (2, 3))
        assert torch.equal(changed, wanted.flip(3) if flip and mirror < 0.5 else wanted)


def test_every_crop_and_both_flips_are_equally_likely() -> None:
    """81 crops and 2 mirrorings of 10,000 samples: each share within five standard deviations."""
    count = 10_000
    images = torch.arange(1, 82, dtype=torch.uint8).view(1, 1, 9, 9).expand(count, 1, 9, 9)
    out = crop_and_flip(images, chances(count, 0))[:, 0, 4].int()
    shares = torch.bincount(100 * out[:, 4] + out[:, 5]).float()
    shares = shares[shares > 0]
    expected = count / 162
    assert len(shares) == 162
    assert float((shares - expected).abs().max()) < 5 * expected**0.5
