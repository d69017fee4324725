"""Processes of a training run: one, those that `torchrun` starts, or an existing process group.

Each process takes its share of every batch. DistributedDataParallel averages the gradients; with
losses scaled by `share` that gives the gradient of the whole batch's mean. Two quantities of a
whole batch differ from those of one process: batch norm uses the statistics of each process (and
keeps those of process 0), and the regulariser of TET also counts unlabelled time steps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.train.models.base import Network
from lnm_codegen.validation import wrong

_GROUPS: list[object] = []
"""Process groups, kept until the interpreter ends. Gloo's destructor holds Python's lock while it
waits for threads, and those may need the lock to free the tensors of the last operation."""


@dataclass(frozen=True, slots=True)
class World:
    """This process among `size` processes."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """True if this process shows progress and writes files."""
        return self.rank == 0

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return the network whose backward averages gradients over the processes."""
        if self.size == 1:
            return network
        ids = None if self.device.type == "cpu" else [self.device.index]
        is_own = not isinstance(network, Network)  # it may have parameters that a batch ignores
        return DistributedDataParallel(network, device_ids=ids, find_unused_parameters=is_own)

    def local(self, network: Any) -> AbstractContextManager[object]:
        """Return a context in which a backward of a `wrapped` network averages no gradients.

        The next backward outside averages their sum.
        """
        return nullcontext() if self.size == 1 else network.no_sync()

    def share(self, count: int, whole: int) -> float:
        """Return the factor of a mean over `count` of the batch's `whole` samples."""
        return 1.0 if self.size == 1 else count * self.size / whole

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums over all processes."""
        if self.size == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        return [float(s) for s in sums.tolist()]

    def synchronise(self, module: nn.Module) -> None:
        """Copy the buffers of process 0, such as running statistics, to every process."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    @contextmanager
    def synchronised_errors(self) -> Iterator[None]:
        """Raise in every process the LnmError that the body raises in process 0."""
        raised: list[LnmError | None] = [None]
        try:
            yield
        except LnmError as error:
            raised = [error]
        if self.size > 1:
            dist.broadcast_object_list(raised, src=0)
        if raised[0] is not None:
            raise raised[0]

    def require_same_epoch(self, epoch: int) -> None:
        """Raise ModelError unless all processes resume after the same epoch."""
        if self.summed([epoch, epoch * epoch]) != [self.size * epoch, self.size * epoch * epoch]:
            raise ModelError(
                "train: --resume",
                "the processes do not read the same checkpoint",
                "a run folder that all of them see",
                "Put it on a file system that they share.",
            )


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Yield this process among the others; under `torchrun`, join them while the context is open.

    A process group that the program has initialised is used, and remains.

    Args:
        device: "cpu", "cuda" or "cuda:1". With several processes on a machine, process k takes GPU
            k for "cuda".

    Raises:
        ModelError: A device that this machine or the process group does not have.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    unknown = wrong("train", "device", device, "cpu, cuda, cuda:1")
    try:
        place = torch.device(device)
    except RuntimeError:
        raise unknown from None
    if place.type not in ("cpu", "cuda"):
        raise unknown
    if place.type == "cuda":
        count = torch.cuda.device_count()
        index = local if place.index is None else place.index
        if index >= count:
            raise ModelError("train", f"device is {device!r}, but PyTorch sees {count} GPUs here")
        place = torch.device("cuda", index)
        torch.cuda.set_device(place)
    is_ours = not dist.is_initialized()
    if is_ours and size == 1:
        yield World(0, 1, place)
        return
    if is_ours:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
        _GROUPS.append(dist.group.WORLD)
    elif place.type == "cpu" and dist.get_backend() == "nccl":
        accepted, remedy = "cuda in a process group of NCCL", "Set device, or use a group of Gloo."
        raise wrong("train", "device", device, accepted, remedy)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), place)
        dist.barrier()  # the files of process 0 exist when any process returns
    finally:
        if is_ours:
            dist.destroy_process_group()
