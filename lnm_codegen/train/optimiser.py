"""Optimiser of a run: parameter groups, learning-rate schedule, gradient clipping, its state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lnm_codegen.train.models import parameter_groups
from lnm_codegen.train.runs.config import TrainConfig


def optimizer_of(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of a config; the neurons' parameters are its second group."""
    weights, learned = parameter_groups(network)
    groups = [
        {"params": weights, "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": learned, "lr": config.lr_neuron, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr)


def schedule_of(config: TrainConfig, optimizer: torch.optim.Optimizer, per_epoch: int) -> LambdaLR:
    """Return the schedule of both learning rates, with `per_epoch` steps in an epoch.

    After s of S steps, W of them warm-up, the factor is (s + 1)/W while s < W, then 1, or
    (1 + cos(pi*(s - W)/(S - W)))/2.
    """
    warm, total = config.warmup * per_epoch, config.epochs * per_epoch

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if config.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))

    return LambdaLR(optimizer, factor)


def clipped(groups: Sequence[Sequence[nn.Parameter]], largest: float) -> bool:
    """Clip the gradient norm of each group to `largest`, and report whether all are finite.

    If a gradient is not finite, all stay as they are.
    """
    norms = [(group, _norm([p.grad for p in group if p.grad is not None])) for group in groups]
    if not all(bool(torch.isfinite(norm)) for _, norm in norms):
        return False
    for group, norm in norms:
        if math.isfinite(largest):
            nn.utils.clip_grads_with_norm_(group, largest, norm)
    return True


def _norm(grads: list[Tensor]) -> Tensor:
    """Return the norm of all gradients, in float64 if their squares overflow float32."""
    norm = nn.utils.get_total_norm(grads)
    if bool(torch.isfinite(norm)) or not all(bool(torch.isfinite(g).all()) for g in grads):
        return norm
    return nn.utils.get_total_norm([g.double() for g in grads])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's moments, `optimizer.<number of the parameter>.<name>`."""
    return {
        f"optimizer.{k}.{name}": torch.as_tensor(value)
        for k, moments in optimizer.state_dict()["state"].items()
        for name, value in moments.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the moments; parameter groups and learning rates stay."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, moment = name.split(".", 2)
            state.setdefault(int(number), {})[moment] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
