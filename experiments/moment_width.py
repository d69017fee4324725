"""Width of a rectangular surrogate by the moment rule, for the base row of the ablations.

    python experiments/moment_width.py

For each layer of the untrained network of seed 0: mean and deviation of the potential after the
reset and of the input, over the training samples; from them the deviation of the charged potential
(`analysis.charge_spread`), which is half the window's width; alpha = 1 / (2 * half-width). All
layers share one surrogate, so the ablation uses the mean of their widths.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from lnm_codegen.analysis import charge_spread
from lnm_codegen.nn import NeuronLayer
from lnm_codegen.train.runs.origin import dataset_of, network_of

sys.path.insert(0, str(Path(__file__).parent))
import places


def main() -> None:
    """Print the numbers of each layer and the mean of the widths."""
    config = places.read_plan("mnist1d_ablations").rows[0].config
    data = dataset_of(config)
    network = network_of(config, data)
    widths: list[float] = []

    def watch(layer: NeuronLayer, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        x, (theta, after) = inputs[0], potentials(layer, inputs[0])
        spread = (float(after.mean()), float(after.std()), float(x.std()))
        _, width = charge_spread(theta, *spread)
        widths.append(width)
        print(
            f"layer {len(widths)}: v {spread[0]:.3f} ± {spread[1]:.3f}, x ± {spread[2]:.3f},"
            f" half-width {width:.3f}, alpha {1 / (2 * width):.3f}"
        )

    for layer in network.neurons:
        layer.register_forward_hook(watch)
    x, _ = next(data.batches(data.train, len(data.train)))
    with torch.no_grad():
        network(x)
    mean = sum(widths) / len(widths)
    print(f"mean half-width {mean:.3f}, alpha {1 / (2 * mean):.3f}")


def potentials(layer: NeuronLayer, x: Tensor) -> tuple[list[float], Tensor]:
    """Return theta of the first channel, and the potentials before each step after the first."""
    learned: Tensor = layer.get_parameter("theta").detach()
    theta = learned.reshape(-1, learned.shape[-1])[0].tolist()
    twin = NeuronLayer(layer.neuron, channels=x.shape[2], backend="c", record=("v",))
    twin.load_state_dict(layer.state_dict())
    spikes, record = twin(x)
    return theta, (record["v"] - spikes)[:-1]  # soft reset by a threshold of 1


if __name__ == "__main__":
    main()
