"""Numbers as bits: C against PyTorch, and back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lnm_codegen.nn import bits as packing
from lnm_codegen.nn.bits import BLOCK, LANES, pack, unpack
from tests.strategies import few

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
COUNTS = st.sampled_from((0, 1, 7, 63, 65, 511, 512, 513, 1000, 40000)) | st.integers(0, 3000)


def spikes(count: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, generator=generator) < 0.4).to(dtype)


@pytest.fixture(params=["c", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pack in C, or in PyTorch as where no compiler is."""
    name: str = request.param
    if name == "torch":
        monkeypatch.setattr(packing, "load_bits", lambda: None)
    elif packing.load_bits() is None:
        pytest.skip("no compiler")
    return name


@pytest.mark.needs_cc
@few
@given(COUNTS, st.sampled_from(TYPES), st.integers(0, 99))
def test_c_and_torch_agree(count: int, dtype: torch.dtype, seed: int) -> None:
    """Both write the same bytes, and both read them back."""
    numbers = spikes(count, dtype, seed)
    found = pack(numbers)
    assert found is not None
    assert found.shape == (-(-count // BLOCK), LANES)
    assert torch.equal(found, packing._packed_eager(numbers))
    for back in (unpack(found, dtype), packing._unpacked_eager(found, dtype)):
        assert back.dtype is dtype
        assert torch.equal(back[:count], numbers)
        assert not back[count:].any()


@pytest.mark.parametrize("dtype", TYPES)
def test_order_of_bits_and_other_numbers(path: str, dtype: torch.dtype) -> None:
    """Bit k of byte j of block b is number 512*b + 64*k + j; one other number is found anywhere."""
    for number in (0, 63, 64, 300, 511, 512, 1023, 1299):
        numbers = torch.zeros(1300, dtype=dtype)
        numbers[number] = 1
        found = pack(numbers)
        assert found is not None
        block, within = divmod(number, BLOCK)
        bit, byte = divmod(within, LANES)
        assert found.nonzero().tolist() == [[block, byte]]
        assert int(found[block, byte]) == 1 << bit
        for value in (0.5, 2.0, -1.0, float("nan"), float("inf"), 1 + 2**-7, 2**-14):
            numbers[number] = value
            assert pack(numbers) is None


@pytest.mark.needs_cc
def test_threads() -> None:
    """Any number of threads writes the same bits, and finds a wrong number in any block."""
    numbers, before = spikes(200_003, torch.float32), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = pack(numbers)
        torch.set_num_threads(3)
        several = pack(numbers)
        assert one is not None
        assert several is not None
        assert torch.equal(one, several)
        assert torch.equal(unpack(several, torch.float32)[: len(numbers)], numbers)
        numbers[100_000] = 3
        assert pack(numbers) is None
    finally:
        torch.set_num_threads(before)
