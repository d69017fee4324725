"""Sizes and launches of the kernels of a CUDA source, as its layout header has them.

A package has a copy of this module: it imports nothing of ours.
"""

from typing import NamedTuple

SUM_THREADS = 1024
"""Threads of a block of the reduction."""
SHARED = 40 * 1024
"""Bytes of dynamic shared memory of a block by default (48 KiB with the static memory)."""
MAX_GRID = 1 << 20
"""Largest number of blocks of a launch; the kernels stride over longer work, with equal results."""


class Launch(NamedTuple):
    """One launch: a kernel, its blocks, the threads of a block, bytes of dynamic shared memory.

    The arguments of a kernel are the struct of its direction, by value, and a pointer to the
    workspace. More than `SHARED` bytes must be requested before the launch
    (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES).
    """

    kernel: str
    grid: int
    block: int
    shared: int = 0


class Launches(NamedTuple):
    """Numbers of the kernels of a neuron, and sizes and launches by the sizes of a call.

    Args:
        name: First part of the names of the kernels.
        finest: Finest granularity of a parameter: "layer", "channel" or "neuron".
        tile: Neurons of a block.
        chunk: Time steps that the backward recomputes at a time.
        far: Time steps beyond which fewer states are saved.
        real_bytes: Bytes of a number of the arithmetic.
        states: Number of states.
        layer_terms: Number of terms that are summed over all neurons.
        row_terms: Number of terms that are summed over the batch.
        has_reduction: A parameter is learnable, so that a second kernel ends the backward.
        forward: Threads of a block of the forward, and its bytes of shared memory.
        backward: The same of the backward.
    """

    name: str
    finest: str
    tile: int
    chunk: int
    far: int
    real_bytes: int
    states: int
    layer_terms: int
    row_terms: int
    has_reduction: bool
    forward: tuple[int, int]
    backward: tuple[int, int]

    def width(self, sample: int) -> int:
        """Return the neurons of a sample in a tile, where tiles follow the axis of a sample."""
        width = 8
        while width < 128 and width < sample:
            width *= 2
        return width

    def batch_tiles(self, neurons: int, sample: int) -> int:
        """Return the number of tiles along the batch; 0 for an empty sample."""
        return -(-(neurons // max(sample, 1)) // (self.tile // self.width(sample)))

    def tiles(self, neurons: int, sample: int) -> int:
        """Return the number of tiles."""
        if self.finest == "layer":
            return -(-neurons // self.tile)
        return self.batch_tiles(neurons, sample) * -(-sample // self.width(sample))

    def spacing(self, time_steps: int) -> int:
        """Return the time steps from one saved state to the next."""
        chunks = 1
        if time_steps > self.far:
            while chunks * chunks * self.chunk < time_steps:
                chunks += 1
        return chunks * self.chunk

    def saved_size(self, time_steps: int, neurons: int) -> int:
        """Return the length of the saved states, in numbers of the arithmetic."""
        return max(time_steps - 1, 0) // self.spacing(time_steps) * self.states * neurons

    def backward_workspace(self, time_steps: int, neurons: int, sample: int) -> int:
        """Return the bytes of the backward's workspace."""
        numbers = _whole(self.layer_terms * self.tiles(neurons, sample))
        if self.finest != "layer":
            numbers += _whole(self.row_terms * self.batch_tiles(neurons, sample) * sample)
        starts = self.spacing(time_steps) // self.chunk - 1
        return self.real_bytes * (numbers + starts * self.states * neurons)

    def forward_launches(self, neurons: int, sample: int) -> tuple[Launch, ...]:
        """Return the launches of a forward: one. The caller sets sums of counts to zero first."""
        grid = _grid(self.tiles(neurons, sample))
        return (Launch(f"{self.name}_forward_kernel", grid, *self.forward),)

    def backward_launches(self, neurons: int, sample: int, channels: int) -> tuple[Launch, ...]:
        """Return the launches of a backward, in order; one if no parameter is learnable."""
        grid = _grid(self.tiles(neurons, sample))
        first = Launch(f"{self.name}_backward_kernel", grid, *self.backward)
        if not self.has_reduction:
            return (first,)
        rows = max(channels, -(-sample // SUM_THREADS))
        groups = {"layer": 1, "channel": channels, "neuron": rows}[self.finest]
        return first, Launch(f"{self.name}_sums_kernel", _grid(groups), SUM_THREADS)


def _grid(blocks: int) -> int:
    return max(1, min(blocks, MAX_GRID))


def _whole(numbers: int) -> int:
    """Return `numbers` rounded up, so that the next buffer is aligned."""
    return -(-numbers // 4) * 4
