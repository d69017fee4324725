"""`Trainer`: all that changes while a network is trained, and one step of it."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lnm_codegen.errors import DivergedError, ModelError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.data import Dataset
from lnm_codegen.train.distributed import World
from lnm_codegen.train.losses import IGNORED, answers, loss_of
from lnm_codegen.train.models import Network, parameter_groups
from lnm_codegen.train.models.norm import threshold_of
from lnm_codegen.train.optimiser import clipped, optimizer_of, schedule_of
from lnm_codegen.train.runs import checkpoint
from lnm_codegen.train.runs.config import TrainConfig, takes_clamp
from lnm_codegen.train.stability.curve import LOWEST, slope_penalty
from lnm_codegen.train.stability.stability import check_projectable, project

SKIPS = 20
"""Steps that float16's scaler may skip in a row: from 2**16 it has then come down to 1/16."""
_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer:
    """A network, its optimiser, schedule, average and random numbers.

    Args:
        config: How.
        network: Trained in place; already on the world's device.
        data: What it is trained on.
        world: This process among others.

    Attributes:
        epoch: Epochs that are complete.
        done: Steps that are done.
        total: Steps of the whole run.
        shuffle: The random numbers of order and augmentation.
    """

    def __init__(
        self, config: TrainConfig, network: Network, data: Dataset, world: World | None = None
    ) -> None:
        self.config, self.network = config, network
        self.world = World() if world is None else world
        self._check_batches(len(data.train))
        per_epoch = math.ceil(len(data.train) / config.batch)
        self.epoch, self.done, self.total = 0, 0, per_epoch * config.epochs
        self._skipped = 0
        self._buffers = list(network.buffers())
        self._before = [b.detach().clone() for b in self._buffers]
        self._samples = len(data.train)
        self._groups = parameter_groups(network)
        self._low = LOWEST if config.v_min is None else config.v_min
        self._high = [_threshold_of(layer) for layer in network.neurons]
        self._optimizer = optimizer_of(config, network)
        if config.project is not None:
            for layer in network.neurons:
                check_projectable(layer, config.project, v_min=self._low)
        self._schedule = schedule_of(config, self._optimizer, per_epoch)
        self._loss = loss_of(config.loss, config.tet_weight, config.label_smoothing)
        self._average: AveragedModel | None = None
        if config.ema:
            average = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
        half = config.precision == "float16"
        self._scaler = torch.amp.GradScaler(self.world.device.type, enabled=half)
        self.shuffle = torch.Generator().manual_seed(config.seed)
        self._run: nn.Module = self.world.wrapped(network)
        if config.compile:
            self._run = torch.compile(self._run, dynamic=False)  # type: ignore[assignment]

    @property
    def averaged(self) -> Network:
        """The network that is tested and kept: the moving average, if there is one."""
        if self._average is None:
            return self.network
        return cast(Network, self._average.module)

    def step(self, x: Tensor, labels: Tensor) -> tuple[float, int, int]:
        """Train on one batch; return its mean loss, without penalty, right answers, and answers.

        Raises:
            DivergedError: The loss or a gradient is not finite; nothing has changed then.
        """
        device, kind = self.world.device, self.config.precision
        x, labels = x.to(device), labels.to(device)
        count = labels.shape[-1]  # labels are (N,), or (T, N)
        _copy(self._buffers, self._before)
        with torch.autocast(device.type, _TYPES.get(kind), enabled=kind in _TYPES):
            logits = self._run(x)
        whole = min(self.config.batch, self._samples - self._met() * self.config.batch)
        if self.world.size > 1 and labels.dim() > 1:  # the mean is over steps that have a label
            count = int((labels != IGNORED).sum())
            whole = max(int(self.world.summed([count])[0]), 1)
        loss = self._loss(logits, labels) if count else 0.0 * logits.sum()
        self._optimizer.zero_grad()
        scaled = self._scaler.scale(loss * self.world.share(count, whole))
        torch.autograd.backward(scaled + self._scaler.scale(self.penalty()))
        self._scaler.unscale_(self._optimizer)
        finite = clipped(self._groups, self.config.clip)
        self._skipped = 0 if finite else self._skipped + 1
        # A float16 gradient may overflow: the scaler then skips the step and lowers its scale.
        if not finite:  # the pass has moved the statistics of normalisations
            _copy(self._before, self._buffers)
        if not finite and (not self._scaler.is_enabled() or self._skipped > SKIPS):
            self._refuse(x)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.done += 1
        if finite:
            self._follow()
        return loss.item(), *answers(logits.detach(), labels)

    def _follow(self) -> None:
        """Do what follows a step of the optimiser: rates, projection, average."""
        self._schedule.step()
        if self.config.project is not None:
            for layer in self.network.neurons:
                project(layer, self.config.project, v_min=self._low)
        if self._average is not None:
            self._average.update_parameters(self.network)

    def end_epoch(self) -> None:
        """Count a complete pass; the statistics of process 0 become those of all."""
        self.epoch += 1
        self.world.alike(self.network)
        if self._average is not None:
            self.world.alike(self.averaged)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that a checkpoint keeps."""
        kept = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        kept |= checkpoint.optimizer_tensors(self._optimizer)
        if self._average is not None:
            kept |= {f"average.{k}": v for k, v in self._average.state_dict().items()}
        kept["random.shuffle"] = self.shuffle.get_state()
        kept["random.torch"] = torch.get_rng_state()
        if self.world.device.type == "cuda":
            kept["random.cuda"] = torch.cuda.get_rng_state(self.world.device)
        return kept

    def facts(self) -> dict[str, Any]:
        """Return the rest, as JSON writes it."""
        return {
            "epoch": self.epoch,
            "done": self.done,
            "scaler": self._scaler.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on where a checkpoint was written."""
        self.network.load_state_dict(checkpoint.under("network", tensors))
        checkpoint.load_optimizer(self._optimizer, tensors)
        if self._average is not None:
            self._average.load_state_dict(checkpoint.under("average", tensors))
        self.shuffle.set_state(tensors["random.shuffle"])
        torch.set_rng_state(tensors["random.torch"])
        if "random.cuda" in tensors and self.world.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.world.device)
        self._scaler.load_state_dict(facts["scaler"])
        self.epoch, self.done = facts["epoch"], facts["done"]
        self._schedule.load_state_dict(facts["schedule"])
        for group, rate in zip(
            self._optimizer.param_groups, self._schedule.get_last_lr(), strict=True
        ):
            group["lr"] = rate

    def _met(self) -> int:
        """Return the steps that are done of this epoch."""
        return self.done - self.epoch * (self.total // self.config.epochs)

    def penalty(self) -> Tensor:
        """Return what is added to the loss for slopes too steep."""
        if not self.config.penalty:
            return torch.zeros((), device=self.world.device)
        layers = zip(self.network.neurons, self._high, strict=True)
        most = self.config.penalty_slope
        terms = [slope_penalty(layer, self._low, high, most) for layer, high in layers]
        return self.config.penalty * torch.stack(terms).sum()

    def _check_batches(self, samples: int) -> None:
        left = samples % self.config.batch or min(self.config.batch, samples)
        if left < self.world.size:
            raise ModelError(
                "train",
                (
                    f"{samples} samples in batches of {self.config.batch} leave a last one of {left} "
                    f"for {self.world.size} processes"
                ),
                "one sample or more for each",
                "Choose another batch.",
            )

    def _refuse(self, x: Tensor) -> None:
        """Raise DivergedError, naming the last layer whose gradient is not finite.

        Gradients run from the last layer to the first, so the last one that is not finite is where
        it began.
        """
        where = ""
        for name, parameter in self.network.named_parameters():
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                where = name
        what = f"the gradient of {where}" if where else "the loss"
        raise DivergedError(
            "train",
            f"{what} is not finite at step {self.done + 1}, epoch {self.epoch + 1}",
            remedy=f"The network is as it was before this step. {self._remedy(x)}",
        )

    def _remedy(self, x: Tensor) -> str:
        """Return what to do, by what may be the cause."""
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            return "Its samples hold numbers that are not finite: mend the data."
        if not any(p.requires_grad for n in self.network.neurons for p in n.parameters()):
            return "Lower lr or clip."
        if takes_clamp(self.config.family) and self.config.v_min is None:
            return "Lower lr_neuron, or give v_min, such as -2."
        return "Lower lr_neuron or lr."


def _threshold_of(layer: NeuronLayer) -> float:
    """Return the layer's threshold at the start, its mean over rows; see `threshold_of`."""
    threshold = getattr(layer, "v_threshold", None)
    return threshold_of(layer.neuron) if threshold is None else float(threshold.detach().mean())


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    for a, b in zip(source, target, strict=True):
        b.copy_(a)
