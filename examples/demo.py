"""A neuron that learns its dynamics: define, train beside LIF and PLIF, look, check, simulate.

    .venv/bin/python examples/demo.py
    .venv/bin/python examples/demo.py --data digits        # polynomials of one state, on digits

Everything runs on the CPU, and nothing is downloaded.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import lnm_codegen as lnm

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads sleep
sys.path.insert(0, str(Path(__file__).parent))
CONSOLE = Console(highlight=False)
RESULTS = Path(__file__).parents[1] / "experiments" / "results" / "mnist1d_neurons.csv"
PUBLISHED = {"GRU": 91, "CNN": 94}
"""Test accuracy in percent that the data set's authors report for networks without spikes."""


def two_states() -> lnm.Neuron:
    """Return two coupled states with a soft reset: `lnm.get("lnm", states=2, degree=1)` is it."""
    v, w, x = lnm.state("v"), lnm.state("w"), lnm.input("x")
    a = [lnm.param(f"a{k}", init=i) for k, i in enumerate((0.8, -0.3, 0.3, 0.8))]
    return lnm.Neuron(
        charge={v: a[0] * v + a[1] * w + x, w: a[2] * v + a[3] * w},
        fire=v - 1,
        reset=lnm.soft_reset(v, 1.0),
        surrogate=lnm.surrogate.atan(alpha=2.0),
        name="two_states",
    )


MODELS: dict[str, dict[str, Any]] = {
    "LIF": {
        "family": "lif", "arguments": {"tau": 1.5, "decay_input": False, "v_reset": None},
        "lr": 4e-2, "lr_neuron": 0.0,
    },
    "PLIF, a learned leak per channel": {
        "family": "plif", "arguments": {"per": "channel", "decay_input": False, "v_reset": None},
        "lr": 8e-2, "lr_neuron": 1e-1,
    },
    "LNM, two states": {
        "family": "lnm", "arguments": {"states": 2, "degree": 1, "per": "channel"},
        "lr": 8e-2, "lr_neuron": 1e-2,
    },
}  # fmt: skip
"""Name -> neuron and learning rates, those of the committed results."""
COMMITTED = {
    "LIF": "LIF",
    "PLIF, a learned leak per channel": "PLIF",
    "LNM, two states": "LNM two states, degree 1, free, channel",
}
"""Name -> row of the committed results."""


def show_definition() -> None:
    """Print the equations of a neuron of two coupled states."""
    CONSOLE.rule("1. A neuron is a few equations")
    CONSOLE.print(str(two_states()), markup=False)
    CONSOLE.print(
        "\nThe four numbers of the matrix are learned, for each channel. Its eigenvalues may be"
        " complex: then the\nneuron oscillates, and answers to a pattern in time."
    )


def train_all(options: argparse.Namespace) -> dict[str, Any]:
    """Train the three networks, one seed each."""
    from lnm_codegen.train import TrainConfig, load, run

    CONSOLE.rule("2. The same network with three neurons, on MNIST-1D")
    data = load("mnist1d", None, options.limit)
    CONSOLE.print(
        f"MNIST-1D: {len(data.train):,} training and {len(data.test):,} test signals of 40 samples,"
        f" one sample a time step.\nTwo layers of 128 neurons, {options.epochs} epochs, seed"
        f" {options.seed}, the same budget for each.\n"
    )
    found = {}
    for name, settings in MODELS.items():
        config = TrainConfig(
            data="mnist1d", network="feedforward", epochs=options.epochs, batch=100, backend="c",
            network_arguments={"hidden": (128, 128), "readout": "li"}, threads=options.threads,
            evaluate_every=0, seed=options.seed, **settings,
        )  # fmt: skip
        found[name] = run(config, data=data, console=CONSOLE, title=f"  {name:<33}", lines=False)
        seconds = sum(e.seconds for e in found[name].epochs)
        accuracy = found[name].epochs[-1].test_accuracy
        CONSOLE.print(f"  {name:<33} {accuracy:.1%} in {seconds:.0f} s")
    return found


def committed(name: str) -> str:
    """Return mean, half of its 95 % interval and number of seeds of a committed row.

    The text is empty without the file of results.
    """
    if not RESULTS.exists():
        return ""
    from lnm_codegen.train.comparison.table import mean_text

    with RESULTS.open(newline="", encoding="utf-8") as lines:
        found = [
            100 * float(r["accuracy"])
            for r in csv.DictReader(lines)
            if r["row"] == COMMITTED[name] and r["phase"] == "final"
        ]
    return f"{mean_text(found)} ({len(found)} seeds)"


def show_outcomes(found: dict[str, Any], epochs: int) -> None:
    """Print this run beside the committed results and the published marks."""
    CONSOLE.rule("3. Results")
    table = Table("network of", f"here, {epochs} epochs", "committed, 100 epochs", "parameters")
    for name, result in found.items():
        count = sum(p.numel() for p in result.network.parameters())
        here = f"{100 * result.epochs[-1].test_accuracy:.1f} %"
        table.add_row(name, here, committed(name), f"{count:,}")
    for name, accuracy in PUBLISHED.items():
        table.add_row(f"{name}, no spikes (published)", "", f"{accuracy}", "")
    CONSOLE.print(table)
    CONSOLE.print(
        "Here: test accuracy of one seed. Committed: mean over seeds ± half of its 95 %"
        " confidence interval (docs/evidence/results.md).\nPublished marks: the data set's"
        " authors; not run here."
    )


def save_figure(found: dict[str, Any], folder: Path) -> Path:
    """Draw impulse responses and poles of the learned channels of the first layer."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    path = folder / "learned_dynamics.png"
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for row, name in enumerate(list(found)[1:]):
        layer = found[name].network.neurons[0]
        lnm.plot.impulse_response(layer, ax=axes[row][0])
        axes[row][0].set_title(f"{name}: an impulse", fontsize=10)
        if len(layer.neuron.states) == 2:
            lnm.plot.poles(layer, ax=axes[row][1])
            axes[row][1].set_title(f"{name}: eigenvalues of every channel", fontsize=10)
        else:
            leak = 1 - layer.w.detach().sigmoid().numpy().reshape(-1)
            axes[row][1].hist(leak, bins=20)
            axes[row][1].set(xlabel="decay per step", ylabel="channels")
            axes[row][1].set_title(f"{name}: real decays", fontsize=10)
    figure.savefig(path, dpi=120)
    return path


def check_kernels() -> None:
    """Compare every backend that runs here with the interpreter, on the neuron defined above."""
    from lnm_codegen.nn.check import compare_backends

    CONSOLE.rule("4. Its kernels, against the interpreter")
    found = compare_backends(two_states())
    table = Table("backend", "type", "largest difference", "agrees")
    for r in found.runs:
        worst = max(r.differences.values())
        table.add_row(r.backend, r.dtype, f"{worst:.1e}", "yes" if r.agrees else "NO")
    CONSOLE.print(table)
    for backend, why in found.unavailable.items():
        CONSOLE.print(f"  {backend}: not run here: {why}", markup=False)
    if not found.agrees:
        raise lnm.InternalError("demo", "a backend differs from the interpreter")


def simulate_circuit() -> None:
    """Emit the neuron in fixed point as Verilog; lint and simulate it where tools are there."""
    from lnm_codegen.hardware.folder import read_circuit
    from lnm_codegen.hardware.verify.steps import run_steps

    CONSOLE.rule("5. Its circuit, in fixed point")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "circuit"
        rtl = lnm.Rtl(forms=("core",), vectors=500)
        source = lnm.emit(two_states(), "verilog", spec=lnm.Fixed(16, 12), rtl=rtl)
        source.write(folder)
        lines = sum(t.count("\n") for p, t in source.files.items() if p.startswith("rtl/"))
        CONSOLE.print(f"Q4.12, a pipeline: {lines} lines of Verilog, with testbench and proofs.")
        for step in run_steps(read_circuit(folder, "demo"), ("lint", "icarus")):
            reasons = {c.detail for c in step.checks if c.detail}
            CONSOLE.print(f"  {step.name:<8} {step.status} {' '.join(sorted(reasons))}".rstrip())
            if step.status == "failed":
                raise lnm.InternalError("demo", f"verification step {step.name} fails")


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and those that this demo does not know."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("mnist1d", "digits", "fashion-mnist"), default="mnist1d")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--limit", type=int, help="number of signals; default all")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder of the figure")
    options, others = parser.parse_known_args(arguments)
    if options.data == "mnist1d" and others:
        parser.error(f"unknown option {others[0]}")
    if options.epochs < 1:
        parser.error("--epochs: give 1 or more")
    return options, others


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo."""
    options, _ = parse(arguments)
    if options.data != "mnist1d":
        import digits

        return digits.main(arguments)
    began = time.perf_counter()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"error: cannot make the folder {options.out}: {error.strerror}", file=sys.stderr)
        return 2
    try:
        show_definition()
        CONSOLE.print("Loading PyTorch ...")
        found = train_all(options)
        show_outcomes(found, options.epochs)
        path = save_figure(found, options.out)
        CONSOLE.print(f"What the channels learned: {path}", soft_wrap=True)
        check_kernels()
        simulate_circuit()
    except lnm.LnmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    CONSOLE.print(f"Done in {time.perf_counter() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
