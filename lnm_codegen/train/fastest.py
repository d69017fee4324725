"""The fastest precision and memory format of a run, by two steps of each before it."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lnm_codegen.errors import DivergedError
from lnm_codegen.nn.hooks import evaluating
from lnm_codegen.nn.states import reset
from lnm_codegen.options import MemoryFormatName
from lnm_codegen.train.data.dataset import Dataset
from lnm_codegen.train.distributed import World
from lnm_codegen.train.losses import Objective
from lnm_codegen.train.runs.config import AUTO, MEASURED, TrainConfig
from lnm_codegen.train.trainer import Trainer

_CANDIDATES = {"precision": ("float32", "bfloat16"), "memory_format": get_args(MemoryFormatName)}
"""What each value AUTO may become; float16 needs a scaled loss, so it is asked for by name."""
_STEPS = 2


def is_measured(config: TrainConfig) -> bool:
    """Report whether a config leaves an option to a measurement."""
    return any(getattr(config, name) == AUTO for name in MEASURED)


def fastest(
    config: TrainConfig,
    network: nn.Module,
    data: Dataset,
    world: World | None = None,
    objective: Objective | None = None,
) -> tuple[TrainConfig, dict[str, float]]:
    """Return the config with the fastest values of the options that are "auto".

    Each candidate trains a copy of the network on the first batch: one step, then two that count,
    by turns. The least time of a step counts, summed over processes. A candidate that diverges is
    no candidate, unless all do.

    Returns:
        The config, and milliseconds of a step by "precision, memory_format".
    """
    world = World() if world is None else world
    asked = {name: getattr(config, name) for name in MEASURED}
    words = [_CANDIDATES[name] if word == AUTO else (word,) for name, word in asked.items()]
    candidates = [dict(zip(MEASURED, values, strict=True)) for values in product(*words)]
    device = world.device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        generator = torch.Generator().manual_seed(config.seed)
        batches = data.batches(
            data.train, config.batch, generator, config.augment, world.rank, world.size
        )
        batch = next(iter(batches))
        if any(map(is_lazy, (*network.parameters(), *network.buffers()))):  # no copy before
            with torch.no_grad(), evaluating(network):
                network(batch[0][: config.tbptt].to(device))
            reset(network)
        trainers = []
        for values in candidates:
            given: Mapping[str, Any] = values
            own = copy.deepcopy(network).train()
            trainers.append(Trainer(replace(config, **given), own, data, world, objective))
        times = [[_seconds(trainer, *batch) for trainer in trainers] for _ in range(1 + _STEPS)]
    least = [min(own) for own in zip(*times[1:], strict=True)]
    least = world.summed(least)
    chosen: Mapping[str, Any] = candidates[least.index(min(least))]
    shown = [1e3 * seconds / world.size for seconds in least]
    names = [", ".join(values.values()) for values in candidates]
    found = {n: ms for n, ms in zip(names, shown, strict=True) if math.isfinite(ms)}
    return replace(config, **chosen), found


def _seconds(trainer: Trainer, x: Tensor, labels: Tensor) -> float:
    """Return the time of a step, or infinity where it diverges."""
    device = trainer.world.device
    began = _now(device)
    try:
        trainer.step(x, labels)
    except DivergedError:
        return math.inf
    return _now(device) - began


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measured_text(config: TrainConfig, times: Mapping[str, float]) -> str:
    """Return a line that says what was chosen, and the times."""
    chosen = ", ".join(getattr(config, name) for name in MEASURED)
    each = "; ".join(f"{name} {ms:.3g} ms" for name, ms in times.items())
    return f"fastest: {chosen} (a step of {each})"
