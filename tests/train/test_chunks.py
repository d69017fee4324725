"""Sequences in chunks (`tbptt`): losses, gradients, tests, memory, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

import lnm_codegen as lnm
from lnm_codegen.errors import LnmError, ModelError
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.nn.chain import IGNORED
from lnm_codegen.train import TrainConfig, from_arrays, run
from lnm_codegen.train.chunks import RunningReadout, carrying, chunks, detach
from lnm_codegen.train.engine import evaluate
from lnm_codegen.train.losses import chunk_loss
from lnm_codegen.train.runs.origin import network_of
from lnm_codegen.train.trainer import Trainer
from tests.refusals import refused

T, N, F, C = 10, 6, 3, 4
NETWORKS = {
    "feedforward": ("feedforward", {}),
    "max": ("feedforward", {"over": "max"}),
    "last": ("feedforward", {"over": "last", "readout": "linear"}),
    "layer": ("recurrent", {}),
    "down": ("recurrent", {"feedback": "down", "carry_limit": 100.0}),
}

CASES = pytest.mark.parametrize(
    ("which", "backend"),
    [
        *((which, "torch") for which in NETWORKS),
        *(pytest.param(w, "c", marks=[pytest.mark.needs_cc, pytest.mark.slow]) for w in NETWORKS
          if w != "down"),
        pytest.param("down", "c", marks=pytest.mark.needs_cc),
    ],
)  # fmt: skip


def data(per_step: bool = False, steps: int = T) -> Any:
    """Samples; of labels per step some are absent."""
    draw = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(N, steps, F, generator=draw)
    y = torch.randint(0, C, (N, steps) if per_step else (N,), generator=draw)
    y.flatten()[:C] = torch.arange(C)
    if per_step:
        y[:, ::3] = IGNORED
    return from_arrays(x, y, x, y, name="drawn", scale="raw")


def config_of(which: str, backend: str = "torch", **options: Any) -> TrainConfig:
    name, own = NETWORKS[which]
    return TrainConfig(
        family="lif", arguments={"v_threshold": 0.4}, network=name, epochs=1, batch=N, threads=1,
        network_arguments={"hidden": (8, 7), "gain": 2.0, **own}, backend=backend, **options,
    )  # fmt: skip


def step(config: TrainConfig, samples: Any, network: Any = None) -> tuple[Any, Any, Tensor]:
    """Return results of a test, of a training step, and its gradients."""
    network = network_of(config, samples) if network is None else network
    trainer = Trainer(config, network, samples)
    tested = evaluate(network, samples, samples.test, N, tbptt=config.tbptt)
    network.train()
    found = trainer.step(*next(samples.batches(samples.train, N)))
    grads = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return tested, found, torch.cat(grads)


@CASES
def test_one_chunk_is_the_sequence_bit_for_bit(which: str, backend: str) -> None:
    """States that are carried change nothing in a call that begins anew."""
    config, samples = config_of(which, backend), data()
    whole, same = (step(replace(config, tbptt=k), samples) for k in (None, T))
    assert whole[:2] == same[:2]
    assert torch.equal(whole[2], same[2])
    network = network_of(config, samples)
    x, _ = next(samples.batches(samples.train, N))
    want = network(x)
    with carrying(network):
        found = network(x)
    assert torch.equal(found, want)
    assert torch.equal(network(x), want)


@CASES
@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_losses_of_chunks(which: str, backend: str, steps: int) -> None:
    """With labels per step they sum to the loss of the sequence; tests are equal in all cases."""
    for per_step, loss in ((False, "mean"), (True, "mean"), (True, "tet")):
        if which in ("max", "last") and per_step:
            continue  # a network with labels per step reduces nothing
        config, samples = config_of(which, backend, loss=loss), data(per_step)
        whole, cut = (step(replace(config, tbptt=k), samples) for k in (None, steps))
        assert cut[0] == whole[0]
        assert cut[1][1:] == whole[1][1:]
        if per_step:
            assert cut[1][0] == pytest.approx(whole[1][0], rel=1e-5)
        assert not torch.allclose(cut[2], whole[2], rtol=1e-3)


@pytest.mark.needs_cc
@pytest.mark.parametrize("which", ["feedforward", "layer", "down"])
def test_gradients_of_chunks_on_two_backends(which: str) -> None:
    """The C loop takes the spikes of the chunk before; the other one is autograd over layers."""
    for per_step in (False, True):
        samples = data(per_step)
        found = [step(config_of(which, b, tbptt=3), samples) for b in ("torch", "c")]
        assert found[0][1][0] == pytest.approx(found[1][1][0], rel=1e-5)
        assert torch.allclose(found[0][2], found[1][2], rtol=1e-3, atol=1e-6)


def test_gradients_add_up_to_one_step() -> None:
    """Those of one graph, cut between the chunks, in which every loss is the documented one."""
    config, samples = config_of("layer", clip=float("inf"), tbptt=4), data()
    network = network_of(config, samples)
    x, labels = next(samples.batches(samples.train, N))
    total, readout, done = torch.zeros(()), RunningReadout(network), 0
    with carrying(network):
        for part, own in chunks(x, labels, 4):
            so_far = readout.add(network(part), len(part))
            mean = nn.functional.cross_entropy(so_far, own)
            total, done = total + mean * len(part) / T, done + len(part)
            detach(network)
    total.backward()  # type: ignore[no-untyped-call]
    want = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    _, found, grads = step(config, samples)
    assert done == T
    assert found[0] == pytest.approx(float(total.detach()))
    assert torch.allclose(grads, want, rtol=1e-4, atol=1e-7)
    unlabelled = torch.full((2, N), IGNORED)  # a chunk without labels adds nothing
    logits = torch.randn(2, N, C, requires_grad=True)
    assert float(chunk_loss("mean", logits, logits.mean(0), unlabelled, (0.2, 0.0)).detach()) == 0


def test_a_readout_so_far_ends_as_that_of_the_sequence() -> None:
    """Steps of different chunks have equal weights."""
    logits = torch.randn(7, 2, 3)
    network: Any = nn.Identity()
    readout = RunningReadout(network)
    found = [readout.add(part, len(part)) for part in logits.split(3)]
    assert torch.allclose(found[-1], logits.mean(0), atol=1e-6)
    assert torch.allclose(found[1], logits[:6].mean(0), atol=1e-6)


@CASES
def test_memory_does_not_grow_with_the_sequence(which: str, backend: str) -> None:
    """Bytes that autograd saves at the same time, counted by storage, without the input's."""

    def most(steps: int, tbptt: int | None) -> int:
        samples = data(steps=steps)
        config = config_of(which, backend, tbptt=tbptt)
        trainer = Trainer(config, network_of(config, samples), samples)
        x, labels = next(samples.batches(samples.train, N))
        saved: dict[int, int] = {}
        peaks: list[int] = [0]

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() != x.untyped_storage().data_ptr():
                saved[storage.data_ptr()] = storage.nbytes()
            peaks.append(sum(saved.values()))
            return tensor

        run_chunk = trainer._logits

        def begun(part: Tensor) -> Tensor:
            saved.clear()  # the graph of the chunk before is gone
            return run_chunk(part)

        trainer._logits = begun  # type: ignore[method-assign]
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            trainer.step(x, labels)
        return max(peaks)

    assert most(40, 5) <= 1.2 * most(10, 5)
    assert most(40, None) > 2 * most(10, None)


class Steps(nn.Module):
    """A network of the user with feedback of its own, kept in a local or in an attribute."""

    def __init__(self, keeps: bool = True, over: bool = False, single: bool = True) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.keeps, self.over = keeps, over
        self.first, self.back, self.last = nn.Linear(F, 5), nn.Linear(5, 5), nn.Linear(5, C)
        mode: Any = "s" if single else "m"
        neuron = lnm.get("lif", v_threshold=0.2)
        self.layer = NeuronLayer(neuron, step_mode=mode, backend="torch")
        self.spikes: Tensor | None = None

    def reset(self) -> None:
        self.spikes = None

    def detach(self) -> None:
        self.spikes = None if self.spikes is None else self.spikes.detach()

    def forward(self, x: Tensor) -> Tensor:
        spikes, out = self.spikes, []
        for current in self.first(x):
            spikes = self.layer(current if spikes is None else current + self.back(spikes))
            out.append(self.last(spikes))
        self.spikes = spikes if self.keeps else None
        logits = torch.stack(out)
        return logits.mean(0) if self.over else logits


class Plain(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(1)
        lif = lnm.get("lif", v_threshold=0.2)
        layers = NeuronLayer(lif, backend="torch"), NeuronLayer(lnm.get("li"), backend="torch")
        super().__init__(nn.Linear(F, 5), layers[0], nn.Linear(5, C), layers[1])


@pytest.mark.parametrize("network", [Steps, Plain])
def test_a_network_of_the_user(network: Any) -> None:
    config, samples = TrainConfig(batch=N, threads=1, backend="torch"), data(per_step=True)
    whole, cut = (step(replace(config, tbptt=k), samples, network()) for k in (None, 3))
    assert cut[0] == whole[0]
    assert cut[1] == pytest.approx(whole[1], rel=1e-5)


class Twice(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + super().forward(x)


@pytest.mark.filterwarnings("ignore:lnm.nn.reset")
def test_what_has_no_chunks_is_refused() -> None:
    """Feedback in a local, an output that is reduced, a layer that runs several times.

    Functions of the user may read the whole sequence.
    """
    config = TrainConfig(batch=N, threads=1, backend="torch", tbptt=3, epochs=1)
    for network in (Steps(keeps=False), Steps(over=True), Twice()):
        with refused(ModelError, problem="are not those of the whole sequence", remedy="reset()"):
            run(config, data=data(), network=network)
    for word in ("loss", "metric"):
        function: Any = {word: lambda out, _: out.square().mean()}
        with refused(ModelError, problem=f"with a {word} function of your own"):
            run(config, data=data(), network=Plain(), **function)
    x, y = torch.rand(6, 1, 4, 4), torch.arange(6) % 2
    images = from_arrays(x, y, x, y, name="drawn", kind="image")
    config = TrainConfig(network_arguments={"channels": (2,)}, tbptt=2, batch=6, backend="torch")
    with pytest.raises(LnmError, match="the samples of drawn are images"):
        run(config, data=images)


def test_a_run_in_chunks_resumes(tmp_path: Path) -> None:
    """`tbptt` is part of the run, and its options apply."""
    samples = data()
    for k, options in enumerate((
        {"ema": 0.9, "pack_spikes": True}, {"precision": "bfloat16"},
        {"penalty": 1.0, "validation": 2},
    )):  # fmt: skip
        config, out = replace(config_of("layer", tbptt=4), batch=2, **options), tmp_path / str(k)
        result = run(config, out, data=samples)
        assert run(config, out, data=samples, resume=True).epochs == result.epochs
        with refused(ModelError, problem="tbptt is 4"):
            run(replace(config, tbptt=5), out, data=samples, resume=True)
