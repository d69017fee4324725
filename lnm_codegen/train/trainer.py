"""State of a training run, and one training step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from lnm_codegen.analysis.linear.affine import linear_part
from lnm_codegen.errors import DivergedError, ModelError
from lnm_codegen.families.common import LOWEST
from lnm_codegen.nn.bits import pack_spikes
from lnm_codegen.nn.states import reset
from lnm_codegen.train.chunks import RunningReadout, carrying, chunks, detach, require_chunks
from lnm_codegen.train.data.dataset import Dataset, unpadded
from lnm_codegen.train.distributed import World
from lnm_codegen.train.losses import (
    Objective,
    chunk_loss,
    count_correct,
    objective_of,
    require_reduction,
)
from lnm_codegen.train.models.base import Network, neurons_of, parameter_groups
from lnm_codegen.train.models.own import require_trainable
from lnm_codegen.train.runs.config import TrainConfig, clamp_of, takes_clamp
from lnm_codegen.train.stability.layers import slope_penalty
from lnm_codegen.train.stability.projection import clamp_parameters, project, require_projectable
from lnm_codegen.train.stability.projection import potential_interval as interval_of
from lnm_codegen.validation import is_number

MOST_SKIPPED = 20
"""Largest number of consecutive steps that the float16 scaler may skip.

Each skipped step halves its scale: 20 steps lower it from 2**16 to 1/16.
"""
_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer:
    """A network with its optimiser, schedule, moving average and random numbers.

    Args:
        config: The config of the run.
        network: The network, on the world's device; it is trained in place. Lazy parameters of a
            network of the user get their sizes.
        data: The training samples.
        world: This process among the others.
        objective: Loss and score; by default those of the config.

    Attributes:
        epoch: Number of complete epochs.
        done: Number of steps so far.
        total: Number of steps of the whole run.
        objective: Loss and score.
        shuffle: Random numbers for order and augmentation.
        neurons: The neuron layers of the network.
        intervals: Interval of the potential of each layer at the beginning of the run.

    Raises:
        ModelError: The network, the penalty or the projection does not fit the config or the
            samples.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: nn.Module,
        data: Dataset,
        world: World | None = None,
        objective: Objective | None = None,
    ) -> None:
        self.config, self.network, self.neurons = config, network, neurons_of(network)
        self.world = World() if world is None else world
        if not isinstance(network, Network):
            require_trainable(network, data, config)
        if config.tbptt is not None:
            require_chunks(network, data, config)
        if config.memory_format == "channels_last":
            for tensor in (*network.parameters(), *network.buffers()):
                if not is_lazy(tensor) and tensor.dim() == 4:  # of convolutions over two axes
                    tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        self._samples, self._is_padded = len(data.train), data.padded
        self._require_batches(data)
        per_epoch = math.ceil(self._samples / config.batch)
        self.epoch, self.done, self.total = 0, 0, per_epoch * config.epochs
        self._skipped = 0
        self._buffers = list(network.buffers())
        self._before = [b.detach().clone() for b in self._buffers]
        self._groups = parameter_groups(network)
        v_min = config.arguments.get("v_min", config.v_min)
        given = v_min if is_number(v_min) and v_min != LOWEST else None
        self.intervals = [interval_of(layer, given) for layer in self.neurons]
        self._require_intervals()
        self._optimizer = optimizer_of(config, network)
        if config.project is not None:
            for layer, (low, _) in zip(self.neurons, self.intervals, strict=True):
                require_projectable(layer, config.project, low, config.project_radius)
        self._schedule = schedule_of(config, self._optimizer, per_epoch)
        require_reduction(config.loss, config.network_arguments)
        self.objective = objective_of(config, data) if objective is None else objective
        self._average: AveragedModel | None = None
        if config.ema:
            average = moving_average(config.ema)
            self._average = AveragedModel(network, multi_avg_fn=average, use_buffers=True)
        half = config.precision == "float16"
        self._scaler = torch.amp.GradScaler(self.world.device.type, enabled=half)
        self.shuffle = torch.Generator().manual_seed(config.seed)
        self._run: nn.Module = self.world.wrapped(network)
        if config.compile:
            self._run = torch.compile(self._run, dynamic=False)  # type: ignore[assignment]

    @property
    def averaged(self) -> nn.Module:
        """The network to test and to save: the moving average, if there is one."""
        if self._average is None:
            return self.network
        return self._average.module

    def step(self, x: Tensor, labels: Tensor) -> tuple[float, float, int]:
        """Train on one batch.

        Returns:
            Mean loss without the penalty, sum of the scores, number of predictions; see
            `Objective.score`.

        Raises:
            DivergedError: The loss or a gradient is not finite; nothing has changed then.
        """
        device = self.world.device
        x, labels = x.to(device), labels.to(device)
        count = self.objective.count(labels)
        _copy(self._buffers, self._before)
        whole = min(self.config.batch, self._samples - self._steps_this_epoch() * self.config.batch)
        if self.objective.has_classes and labels.dim() > 1:  # the mean is over labelled time steps
            whole = max(int(self.world.summed([count])[0]), 1)
        self._optimizer.zero_grad()
        cuts = self.config.tbptt is not None and self.config.tbptt < len(x)
        run = self._in_chunks if cuts else self._at_once
        mean, *scores = run(x, labels, count, self.world.share(count, whole))
        self._scaler.unscale_(self._optimizer)
        finite = clipped(self._groups, self.config.clip)
        self._skipped = 0 if finite else self._skipped + 1
        if not (finite and math.isfinite(self.world.summed([mean])[0])):
            _copy(self._before, self._buffers)  # the forward pass moved normalisation statistics
            # A float16 gradient may overflow: the scaler then skips the step and lowers its scale.
            if finite or not self._scaler.is_enabled() or self._skipped > MOST_SKIPPED:
                raise self._diverged(x)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.done += 1
        if finite:
            self._after_step()
        return mean, scores[0], int(scores[1])

    def _at_once(
        self, x: Tensor, labels: Tensor, count: int, share: float
    ) -> tuple[float, float, int]:
        """Add the gradients of a batch; return its mean loss and its score."""
        reset(self.network)
        logits = self._logits(x)
        lengths = unpadded(x)[1] if self._is_padded else None
        loss = self.objective.loss(logits, labels, lengths) if count else 0.0 * logits.sum()
        scaled = self._scaler.scale(loss * share)
        torch.autograd.backward(scaled + self._scaler.scale(self.penalty()))
        return loss.item(), *self.objective.score(logits.detach(), labels, lengths)

    def _in_chunks(
        self, x: Tensor, labels: Tensor, count: int, share: float
    ) -> tuple[float, float, int]:
        """Do the same as `_at_once`, chunk by chunk; see `chunks` and `chunk_loss`."""
        config, readout, so_far = self.config, RunningReadout(self.network), x
        mean, correct, predictions, done = 0.0, 0, 0, 0
        with carrying(self.network):
            for part, own in chunks(x, labels, config.tbptt):
                done += len(part)
                is_last = done == len(x)
                with nullcontext() if is_last else self.world.local(self._run):
                    logits = self._logits(part)
                    so_far = readout.add(logits, len(part))
                    found, steps = (0, 0), len(part) / len(x)
                    shares = steps, steps
                    if own.dim() > 1:
                        found = count_correct(logits.detach(), own)
                        shares = steps, found[1] / max(count, 1)
                    loss = chunk_loss(
                        config.loss, logits, so_far, own, shares,
                        config.tet_weight, config.label_smoothing,
                    )  # fmt: skip
                    scaled = self._scaler.scale(loss * share)
                    if is_last:
                        scaled = scaled + self._scaler.scale(self.penalty())
                    torch.autograd.backward(scaled)
                detach(self.network)
                mean += loss.item()
                correct, predictions = correct + found[0], predictions + found[1]
        if labels.dim() == 1:
            correct, predictions = count_correct(so_far.detach(), labels)
        return mean, correct, predictions

    def _logits(self, x: Tensor) -> Tensor:
        """Run the network in the precision of the config."""
        kind, device = self.config.precision, self.world.device.type
        as_bits = pack_spikes() if self.config.pack_spikes else nullcontext()
        try:
            with torch.autocast(device, _TYPES.get(kind), enabled=kind in _TYPES), as_bits:
                return cast(Tensor, self._run(x))
        except ValueError as error:  # of PyTorch's batch normalisation
            if "more than 1 value per channel" not in str(error):
                raise
            raise self._without_statistics() from None

    def _after_step(self) -> None:
        """Update learning rates, bound the neurons' parameters, and update the moving average."""
        self._schedule.step()
        clamp_parameters(self.network)
        if self.config.project is not None:
            radius = self.config.project_radius
            for layer, (low, _) in zip(self.neurons, self.intervals, strict=True):
                project(layer, self.config.project, v_min=low, r_max=radius)
        if self._average is not None:
            self._average.update_parameters(self.network)

    def end_epoch(self) -> None:
        """Count a complete epoch and synchronise the buffers of all processes."""
        self.epoch += 1
        self.world.synchronise(self.network)
        if self._average is not None:
            self.world.synchronise(self.averaged)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint."""
        found = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        found |= optimizer_tensors(self._optimizer)
        if self._average is not None:
            found |= {f"average.{k}": v for k, v in self._average.state_dict().items()}
        found["random.shuffle"] = self.shuffle.get_state()
        found["random.torch"] = torch.get_rng_state()
        if self.world.device.type == "cuda":
            found["random.cuda"] = torch.cuda.get_rng_state(self.world.device)
        return found

    def facts(self) -> dict[str, Any]:
        """Return the facts of a checkpoint, for JSON."""
        return {
            "epoch": self.epoch,
            "done": self.done,
            "intervals": self.intervals,
            "scaler": self._scaler.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.network.load_state_dict(without_prefix("network", tensors))
        load_optimizer(self._optimizer, tensors)
        if self._average is not None:
            self._average.load_state_dict(without_prefix("average", tensors))
        self.shuffle.set_state(tensors["random.shuffle"])
        torch.set_rng_state(tensors["random.torch"])
        if "random.cuda" in tensors and self.world.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.world.device)
        self._scaler.load_state_dict(facts["scaler"])
        self.epoch, self.done = facts["epoch"], facts["done"]
        self.intervals = [(low, high) for low, high in facts.get("intervals", self.intervals)]
        self._schedule.load_state_dict(facts["schedule"])
        for group, rate in zip(
            self._optimizer.param_groups, self._schedule.get_last_lr(), strict=True
        ):
            group["lr"] = rate

    def _steps_this_epoch(self) -> int:
        return self.done - self.epoch * (self.total // self.config.epochs)

    def penalty(self) -> Tensor:
        """Return the weighted penalty on steep slopes, a term of the loss."""
        if not self.config.penalty:
            return torch.zeros((), device=self.world.device)
        layers = zip(self.neurons, self.intervals, strict=True)
        allowed = self.config.penalty_slope
        terms = [slope_penalty(layer, *interval, allowed) for layer, interval in layers]
        return self.config.penalty * torch.stack(terms).sum()

    def _require_intervals(self) -> None:
        """Raise ModelError if the penalty or the projection has an empty interval to act on."""
        for k, (low, high) in enumerate(self.intervals, 1):
            if low >= high and (self.config.penalty or self.config.project is not None):
                raise ModelError(
                    "train",
                    f"penalty and project act on potentials from {low:g} to the threshold"
                    f" {high:g} of layer {k}",
                    remedy="Give the neuron an initial potential below its threshold, or its"
                    f" charge a lower clamp below {high:g}.",
                )

    def _require_batches(self, data: Dataset) -> None:
        """Raise ModelError unless each process has a sample of every batch, and its statistics."""
        batch, world = self.config.batch, self.world
        last = self._samples % batch or min(batch, self._samples)
        if last < world.size:
            raise ModelError(
                "train",
                f"the last of the batches of {batch} has {last} of {self._samples} samples, for"
                f" {world.size} processes",
                "one sample or more for each process",
                "Choose another batch.",
            )
        steps = getattr(self.network, "time_steps", None) or data.sample[0]
        modules = self.network.modules() if isinstance(self.network, Network) else ()
        has_batch_norm = any(getattr(m, "batch_norm", False) for m in modules)
        if last // world.size == 1 == steps and has_batch_norm:
            raise self._without_statistics()

    def _without_statistics(self) -> ModelError:
        """Return the error of a batch with one value in a channel."""
        return ModelError(
            "train",
            f"the last of the batches of {self.config.batch} has one sample of one time step, which"
            " has no batch statistics",
            remedy="Choose another batch, two or more time_steps, or another norm.",
        )

    def _diverged(self, x: Tensor) -> DivergedError:
        """Return the error that names the last layer whose gradient is not finite.

        The backward pass runs from the last layer to the first, so the error began there.
        """
        name = ""
        for known, parameter in self.network.named_parameters():
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                name = known
        place = f"the gradient of {name}" if name else "the loss"
        return DivergedError(
            "train",
            f"{place} is not finite at step {self.done + 1}, epoch {self.epoch + 1}; the network is"
            " as it was before this step",
            remedy=self._remedy(x),
        )

    def _remedy(self, x: Tensor) -> str:
        """Return the remedy for the likely cause."""
        x = unpadded(x)[0] if self._is_padded else x
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            return "Some samples of the batch are not finite: correct the data."
        if not any(p.requires_grad for n in self.neurons for p in n.parameters()):
            return "Lower lr or clip."
        config = self.config
        if takes_clamp(config.family, config.arguments) and clamp_of(config) is None:
            return "Lower lr_neuron, or give v_min, such as -2."
        parts = (linear_part(n.neuron) for n in self.neurons)
        if config.project is None and any(p and p.scaled is not None for p in parts):
            return "Lower lr_neuron, or give project, such as 1.0."
        return "Lower lr_neuron or lr."


@torch.no_grad()
def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    for a, b in zip(source, target, strict=True):
        b.copy_(a)


# Optimiser of a run: parameter groups, learning-rate schedule, gradient clipping, its state.


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


def moving_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """Return the update of an `AveragedModel`.

    The n-th update has the decay min(decay, (n + 1)/(n + 10)). Otherwise a short run would keep
    a part of the first weights, and of the first statistics of a batch normalisation.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], count: Tensor | int) -> None:
        done = float(count)
        share = 1 - min(decay, (done + 1) / (done + 10))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, share)
        else:
            torch._foreach_copy_(averages, values)

    return update


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


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix.`, under the rest of their names."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
