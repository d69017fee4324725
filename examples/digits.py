"""From an equation to a trained network: define, compile, check, train, compare.

    .venv/bin/python examples/demo.py --data digits
    .venv/bin/python examples/demo.py --data fashion-mnist --epochs 2 --limit 20000

Everything runs on the CPU and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import lnm_codegen as lnm

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep
CONSOLE = Console(highlight=False)
DECAY = 0.5  # LIF's decay per step, 1 - 1/tau; LNM begins there too
DEGREES = (1, 2, 3, 4)
TIME_STEPS = 4


@lnm.family
def lnm_example(degree=3):
    v, x = lnm.state("v", init=0.0), lnm.input("x")
    theta = lnm.param("theta", size=degree + 1, init=[0, 0.5] + [0] * (degree - 1))
    v_threshold = lnm.param("v_threshold", init=1.0, learnable=False)
    return lnm.Neuron(
        charge={v: lnm.poly(v, theta) + x},
        fire=v - v_threshold,
        reset=lnm.hard_reset(v, 0.0),
        surrogate=lnm.surrogate.atan(alpha=2.0),
    )


def show_definition() -> None:
    """Print the equations, and the time step that the compiler generates from them."""
    CONSOLE.rule("1. A neuron is three equations")
    neuron = lnm_example(degree=3)
    for phase in ("charge", "fire", "reset"):
        for symbol, expr in getattr(neuron, phase):
            CONSOLE.print(f"  {phase:<7} {symbol} <- {expr}", markup=False)
    CONSOLE.print("\nOne step, in Horner form, and its adjoint (`print(lnm.lower(neuron))`):")
    program = lnm.lower(neuron, scheme="horner")
    for kernel in (program.forward, program.backward):
        CONSOLE.print(f"{kernel}\n", markup=False)


def check_kernels() -> None:
    """Generate C for each degree, compile it, and compare it with the interpreter."""
    import numpy as np
    import torch

    CONSOLE.rule("2. Its C kernels, against the interpreter")
    CONSOLE.print(
        "16 steps of 4,096 neurons in float32, x ~ N(0, 1). Largest difference of each result:\n"
    )
    table = Table(
        "degree", "lines of C++", "spikes that differ", "v", "grad x", "grad theta (rel.)"
    )
    rng = np.random.default_rng(0)
    x, grad_out = rng.standard_normal((2, 16, 4, 1024)).astype(np.float32)
    coefficients = (0.02, DECAY, 0.1, -0.05, 0.02)
    for degree in DEGREES:
        began = time.perf_counter()
        neuron = lnm_example(degree=degree)
        source = lnm.emit(neuron, "c")
        layer = lnm.nn.NeuronLayer(neuron, backend="c")
        theta = np.array(coefficients[: degree + 1], np.float32)
        layer.theta.data = torch.from_numpy(theta)
        x_seq = torch.from_numpy(x).requires_grad_()
        out, state = layer(x_seq, return_state=True)
        out.backward(torch.from_numpy(grad_out))
        want = lnm.interpret(neuron, x, theta=theta, grad_out=grad_out, dtype="float32")
        grad_theta = np.asarray(want.grads["theta"])
        far = np.abs(layer.theta.grad.numpy() - grad_theta).max() / np.abs(grad_theta).max()
        table.add_row(
            str(degree),
            str(sum(text.count("\n") for text in source.files.values())),
            str(int((out.detach().numpy() != want.out).sum())),
            f"{np.abs(state['v'].detach().numpy() - want.states['v']).max():.1e}",
            f"{np.abs(x_seq.grad.numpy() - want.grads['x']).max():.1e}",
            f"{far:.1e}",
        )
        seconds = time.perf_counter() - began
        CONSOLE.print(f"  degree {degree}: compiled, loaded and compared in {seconds:.1f} s")
    CONSOLE.print(table)


@dataclass(frozen=True)
class Outcome:
    """Results of one model over all seeds."""

    name: str
    accuracies: tuple[float, ...]
    seconds: float
    rates: tuple[float, ...]
    network: Any

    @property
    def mean(self) -> float:
        return statistics.mean(self.accuracies)

    @property
    def spread(self) -> float:
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0


def train_all(options: argparse.Namespace) -> tuple[list[Outcome], int]:
    """Train LIF and LNM of degree 1 to 3 under the same seeds; return also the test images."""
    from lnm_codegen.train import TrainConfig, load

    CONSOLE.rule("3. The same network with each neuron, through the C kernels")
    data = load(options.data, options.data_dir, options.limit)
    base = TrainConfig(
        data=options.data,
        epochs=options.epochs,
        batch=options.batch,
        backend="c",
        threads=options.threads,
        network_arguments={"time_steps": TIME_STEPS},
    )
    lif = {"tau": 1 / (1 - DECAY), "decay_input": False}
    models = {"LIF": replace(base, family="lif", arguments=lif)} | {
        f"LNM degree {d}": replace(base, family="lnm", arguments={"degree": d, "decay": DECAY})
        for d in (1, 2, 3)
    }
    CONSOLE.print(
        f"{options.data}: {len(data.train):,} training and {len(data.test):,} test images.\n"
        f"Epochs {options.epochs}, time steps {TIME_STEPS}, seeds {options.seeds}, threads"
        f" {options.threads}.\nLNM starts as the LIF neuron, h = {DECAY}*v + x, and its potential"
        f" is clamped at {base.v_min:g}.\n"
    )
    return [train_one(n, c, data, options.seeds) for n, c in models.items()], len(data.test)


def train_one(name: str, config: Any, data: Any, seeds: int) -> Outcome:
    """Train one model with each seed, a line for each run (for each epoch of a single one)."""
    from lnm_codegen.train import run

    results = []
    for seed in range(seeds):
        result = run(
            replace(config, seed=seed), data=data, console=CONSOLE, title=f"  {name:<13}",
            lines=seeds == 1,
        )  # fmt: skip
        results.append(result)
        last = result.epochs[-1]
        if seeds > 1:
            CONSOLE.print(
                f"  {name:<13} seed {seed}  loss {last.loss:.4f}  train {last.train_accuracy:.1%}"
                f"  test {last.test_accuracy:.2%}  {sum(e.seconds for e in result.epochs):.1f} s"
            )
    return Outcome(
        name,
        tuple(r.epochs[-1].test_accuracy for r in results),
        statistics.median(e.seconds for r in results for e in r.epochs),
        results[0].epochs[-1].rates,
        results[0].network,
    )


def show_outcomes(outcomes: list[Outcome], images: int) -> None:
    """Print the table, and for each model whether the difference from LIF is beyond chance."""
    from lnm_codegen.train.stability.layers import learned_text

    CONSOLE.rule("4. Results")
    table = Table(
        "neuron", "test accuracy", "theta of each layer, seed 0", "firing rates", "s/epoch"
    )
    for o in outcomes:
        learned = "\n".join(learned_text(n).removeprefix("theta = ") for n in o.network.neurons)
        spread = f" ± {100 * o.spread:.2f}" if len(o.accuracies) > 1 else ""
        table.add_row(
            o.name,
            f"{100 * o.mean:.2f}{spread} %",
            learned if o is not outcomes[0] else f"fixed: f(v) = {DECAY:g}*v",
            "\n".join(f"{r:.3f}" for r in o.rates),
            f"{o.seconds:.2f}",
        )
    CONSOLE.print(table)
    lif, *rest = outcomes
    for o in rest:
        CONSOLE.print(f"  {verdict(o, lif, images)}")


def verdict(model: Outcome, lif: Outcome, images: int) -> str:
    """Return whether `model` beats LIF by more than two standard errors, of seeds and images.

    The images alone give an accuracy p an error of sqrt(p*(1 - p)/images).
    """
    seeds = len(model.accuracies)
    error = math.sqrt(
        sum(o.spread**2 / seeds + o.mean * (1 - o.mean) / images for o in (model, lif))
    )
    gap, noise = 100 * (model.mean - lif.mean), 200 * error
    if abs(gap) > noise:
        claim = f"beyond chance (±{noise:.2f}): it {'beats' if gap > 0 else 'is worse than'} LIF"
    else:
        claim = f"within chance (±{noise:.2f}): it {'is not shown to' if gap > 0 else 'does not'}"
        claim += " beat LIF"
    return f"{model.name}: {gap:+.2f} points, {claim} here."


def save_figure(outcomes: list[Outcome], folder: Path) -> Path:
    """Draw the learned curve of every layer, and return the path."""
    from lnm_codegen.train import curves_figure

    path = folder / "learned_dynamics.png"
    curves_figure({o.name: o.network for o in outcomes}).savefig(path, dpi=120)
    return path


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options; their defaults depend on the data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("digits", "fashion-mnist"), default="digits")
    parser.add_argument("--data-dir", type=Path, help="folder of the four idx files")
    parser.add_argument("--epochs", type=int, help="digits 10, fashion-mnist 2")
    parser.add_argument("--seeds", type=int, help="number of seeds: digits 3, fashion-mnist 1")
    parser.add_argument("--threads", type=int, help="CPU threads: digits 1, fashion-mnist all")
    parser.add_argument("--limit", type=int, help="number of images: digits all, else 10000")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the figure")
    options = parser.parse_args(arguments)
    defaults = {"epochs": 10, "seeds": 3, "threads": 1, "batch": 32}
    if options.data == "fashion-mnist":
        defaults = {"epochs": 2, "seeds": 1, "threads": os.cpu_count(), "batch": 128}
        defaults["limit"] = 10_000
    for word, value in defaults.items():
        if getattr(options, word, None) is None:
            setattr(options, word, value)
    if options.seeds < 1:
        parser.error("--seeds: give 1 or more")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the demo."""
    options = parse(arguments)
    began = time.perf_counter()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"error: cannot make the folder {options.out}: {error.strerror}", file=sys.stderr)
        return 2
    try:
        show_definition()
        CONSOLE.print("Loading PyTorch ...")
        check_kernels()
        outcomes, images = train_all(options)
        show_outcomes(outcomes, images)
        path = save_figure(outcomes, options.out)
    except lnm.LnmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    CONSOLE.print(f"\nThe curves each layer learned, against LIF: {path}", soft_wrap=True)
    CONSOLE.print(f"Done in {time.perf_counter() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
