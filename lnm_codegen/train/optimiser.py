"""The optimiser of a run: two groups of parameters, their learning rates over time, clipping."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from lnm_codegen.train.models import parameter_groups
from lnm_codegen.train.runs.config import TrainConfig


def optimizer_of(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser that `config` names; what the neurons learn is its second group."""
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
    """Return what sets both rates before each of `per_epoch` steps of every epoch.

    With s steps done of S, W of them warm-up: (s + 1)/W while s < W, then 1, or
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
    """Scale the gradients of each group down to a norm of `largest`; False if one is not finite.

    Gradients that are not finite stay as they are.
    """
    norms = [(group, _norm([p.grad for p in group if p.grad is not None])) for group in groups]
    if not all(bool(torch.isfinite(norm)) for _, norm in norms):
        return False
    for group, norm in norms:
        if math.isfinite(largest):
            nn.utils.clip_grads_with_norm_(group, largest, norm)
    return True


def _norm(grads: list[Tensor]) -> Tensor:
    """Return the norm of all; in float64 where squares overflow float32, as they may over time."""
    norm = nn.utils.get_total_norm(grads)
    if bool(torch.isfinite(norm)) or not all(bool(torch.isfinite(g).all()) for g in grads):
        return norm
    return nn.utils.get_total_norm([g.double() for g in grads])
