"""The processes of a run: one, or as many as `torchrun` has started.

Each takes its share of every batch; gradients are averaged by DistributedDataParallel, which with
losses scaled by `share` gives the gradient of the whole batch's mean. Not so with what looks at a
batch as a whole: batch norm takes each process's own statistics, of which process 0's are kept, and
TET's pull towards the threshold counts unlabelled steps too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lnm_codegen.errors import LnmError, ModelError

_GROUPS: list[object] = []
"""Process groups, kept until the interpreter ends: Gloo's destructor waits, holding Python's lock,
for threads that may need that lock to give back the tensors of the last operation."""


@dataclass(frozen=True, slots=True)
class World:
    """This process among `size`."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process shows progress and writes files."""
        return self.rank == 0

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return the network whose backward averages gradients over the processes."""
        if self.size == 1:
            return network
        ids = None if self.device.type == "cpu" else [self.device.index]
        return DistributedDataParallel(network, device_ids=ids)

    def share(self, count: int, whole: int) -> float:
        """Return what scales a mean over `count` of the batch's `whole` samples here."""
        return 1.0 if self.size == 1 else count * self.size / whole

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums over all processes."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(s) for s in sums.tolist()]

    def alike(self, module: nn.Module) -> None:
        """Give every process the buffers of process 0: each has its own running statistics."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do in process 0 what may be refused; where it is, every process raises what that said."""
        said: list[LnmError | None] = [None]
        try:
            yield
        except LnmError as error:
            said = [error]
        if self.size > 1:
            dist.broadcast_object_list(said, src=0)
        if said[0] is not None:
            raise said[0]

    def check_alike(self, epoch: int) -> None:
        """Refuse to go on where processes would go on after different epochs.

        Raises:
            ModelError: Not all of them read the same checkpoint.
        """
        if self.summed([epoch, epoch * epoch]) != [self.size * epoch, self.size * epoch * epoch]:
            raise ModelError(
                "train: --resume",
                "the processes do not read the same checkpoint",
                "a run folder that all of them see",
                "Put it on a file system that they share.",
            )


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Give this process its place; under `torchrun`, join the others while this is open.

    Args:
        device: "cpu", "cuda" or "cuda:1"; with several processes on a machine, "cuda" is the one of
            the process's number.

    Raises:
        ModelError: A device that is not there.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ModelError("train", f"device is {device!r}", "cpu, cuda, cuda:1") from None
    if place.type not in ("cpu", "cuda"):
        raise ModelError("train", f"device is {device!r}", "cpu, cuda, cuda:1")
    if place.type == "cuda":
        count = torch.cuda.device_count()
        index = local if place.index is None else place.index
        if index >= count:
            raise ModelError("train", f"device is {device!r}, but PyTorch sees {count} GPUs here")
        place = torch.device("cuda", index)
        torch.cuda.set_device(place)
    if size == 1 or dist.is_initialized():
        yield World(0, 1, place)
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    _GROUPS.append(dist.group.WORLD)
    try:
        yield World(dist.get_rank(), size, place)
        dist.barrier()  # what process 0 writes is there when any of them returns
    finally:
        dist.destroy_process_group()
