"""Constants, buffer sizes and launches of the CUDA kernels.

`<name>_layout.h` has the same formulas for C and for the kernels; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lnm_codegen.backends.plan import BYTES, FAR, Plan, chunks_per_saved_state, saved_size
from lnm_codegen.errors import UnsupportedError

TILES = (1024, 512, 256, 128)
"""Numbers of neurons of a block. The least is the largest width of a tile in a sample."""
SUM_THREADS = 1024
SHARED = 40 * 1024
"""Bytes of dynamic shared memory of a block by default (48 KiB with the static memory)."""
MAX_SHARED = 99 * 1024
"""Bytes of shared memory that a block may request, static memory included: the least of the GPUs of
compute capability 8.0 or later (8.6 and 8.9)."""
MAX_GRID = 1 << 20
"""Largest number of blocks of a launch; the kernels stride over longer work, with equal results."""

_BUDGET = {"float32": 170, "float64": 140, "bfloat16": 160, "float16": 160}
"""Registers of 32 bits for the values of a thread. Measured: ptxas then spills no register."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: a kernel, its blocks, the threads of a block, bytes of dynamic shared memory.

    The arguments of a kernel are the struct of its direction, by value, and a pointer to the
    workspace. More than `SHARED` bytes must be requested before the launch
    (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES).
    """

    kernel: str
    grid: int
    block: int
    shared: int = 0


@dataclass(frozen=True)
class CudaPlan:
    """The constants of the CUDA kernels of a plan, and buffer sizes by the sizes of a call."""

    plan: Plan

    @property
    def name(self) -> str:
        """First part of the names of the kernels."""
        return self.plan.model.name

    @property
    def real_bytes(self) -> int:
        """Bytes of a number of the arithmetic."""
        return BYTES[self.plan.model.real]

    @property
    def io_bytes(self) -> int:
        """Bytes of a number of a sequence."""
        return BYTES[self.plan.model.dtype]

    @cached_property
    def tile(self) -> int:
        """Neurons of a block: the most of `TILES` whose terms and counts fit shared memory.

        Raises:
            UnsupportedError: Even those of the smallest tile do not fit.
        """
        terms, counts = len(self.plan.terms), len(self.plan.counts)
        if max(len(self.layer_terms), counts) <= TILES[-1]:  # a thread sums up each
            for tile in TILES:
                if self.shared(tile) <= MAX_SHARED:
                    return tile
        raise UnsupportedError(
            f"cuda: {self.name}",
            f"{terms} gradient terms and {counts} counts do not fit a block",
            f"{MAX_SHARED} bytes of shared memory for {TILES[-1]} neurons, and {TILES[-1]} terms of"
            " parameters per layer",
            "Use fewer learnable parameters or backend 'triton'.",
        )

    def shared(self, tile: int) -> int:
        """Return the bytes of shared memory of a block, static memory included.

        It is the larger of two: the terms of the backward and the counts of the forward, with the
        sums of 8 warps.
        """
        backward = self.real_bytes * (tile * len(self.plan.terms) + 8 * len(self.layer_terms))
        forward = (self.real_bytes * tile + 8 * 9) * len(self.plan.counts)
        return max(forward, backward)

    @property
    def forward_lanes(self) -> int:
        """Neurons of a thread of the forward: 16 bytes of a state, if four warps share them."""
        return min(16 // self.real_bytes, self.tile // 128)

    @property
    def backward_lanes(self) -> int:
        """Neurons of a thread of the backward, limited by registers: 4, or 2 for float64.

        Fewer in a small tile, whose many terms need more registers.
        """
        return min(16 // self.real_bytes, max(1, self.tile // 256))

    @property
    def forward_threads(self) -> int:
        """Threads of a block of the forward."""
        return min(256, self.tile // self.forward_lanes)

    @property
    def backward_threads(self) -> int:
        """Threads of a block of the backward: the most that may have 255 registers each."""
        return min(256, self.tile)

    @property
    def by_rows(self) -> bool:
        """True if a parameter is per channel or neuron; tiles then follow the axis of a sample."""
        return self.plan.finest != "layer"

    @property
    def layer_terms(self) -> tuple[str, ...]:
        """Terms that are summed over all neurons."""
        return self.plan.split(self.plan.terms)[0]

    @property
    def row_terms(self) -> tuple[str, ...]:
        """Terms that are summed over the batch, and within a channel if they are per channel."""
        return self.plan.split(self.plan.terms)[1]

    @property
    def chunk(self) -> int:
        """Time steps that the backward recomputes at a time.

        16, 8 or 4, the most whose values fit the 255 registers of a thread (`_BUDGET`); else 2.
        """
        budget = _BUDGET[self.plan.model.dtype]
        return next((k for k in (16, 8, 4) if self._registers(k) <= budget), 2)

    @property
    def ahead(self) -> int:
        """Time steps whose inputs the forward loads at once: 64 bytes of a thread."""
        return min(4 * self.real_bytes // self.io_bytes, self.chunk)

    @property
    def ahead_backward(self) -> int:
        """Time steps whose gradients the backward loads at once, fewer if registers are short."""
        return min(4 if self._registers(self.chunk) <= 150 else 2, self.chunk)

    def _registers(self, chunk: int) -> float:
        """Return the number of 32-bit registers that the backward of a chunk needs.

        They hold the states and inputs of every step of the chunk, a sum for each term, the
        prepared parameters and the gradients of the states.
        """
        words, io_words = self.real_bytes // 4, self.io_bytes / 4
        pers = [self.plan.per[q] for q in self.plan.prepared]
        shared = pers.count("layer")
        states, terms = len(self.plan.states), len(self.plan.terms)
        step = words * states + io_words * len(self.plan.model.inputs)
        beside = words * (terms + len(pers) - shared + 2 * states)
        return self.backward_lanes * (chunk * step + beside) + words * shared

    @property
    def constants(self) -> dict[str, object]:
        """The part of the views of the interface and of a package's launches."""
        return dict(
            family=self.plan.model.family,
            name=self.name,
            tile=self.tile,
            chunk=self.chunk,
            far=FAR,
            by_rows=self.by_rows,
            has_reduction=self.plan.backward_launches == 2,
            forward_threads=self.forward_threads,
            backward_threads=self.backward_threads,
            forward_shared=self.forward_shared,
            backward_shared=self.backward_shared,
            shared=SHARED,
            sum_threads=SUM_THREADS,
            max_grid=MAX_GRID,
        )

    # ---- sizes ----

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
        if not self.by_rows:
            return -(-neurons // self.tile)
        return self.batch_tiles(neurons, sample) * -(-sample // self.width(sample))

    def spacing(self, time_steps: int) -> int:
        """Return the time steps from one saved state to the next."""
        return chunks_per_saved_state(time_steps, self.chunk, FAR) * self.chunk

    def saved_size(self, time_steps: int, neurons: int) -> int:
        """Return the length of the saved states, in numbers of `real`."""
        return saved_size(time_steps, neurons, len(self.plan.states), self.chunk, FAR)

    def backward_workspace(self, time_steps: int, neurons: int, sample: int) -> int:
        """Return the bytes of the backward's workspace."""
        numbers = _whole(len(self.layer_terms) * self.tiles(neurons, sample))
        if self.by_rows:
            numbers += _whole(len(self.row_terms) * self.batch_tiles(neurons, sample) * sample)
        starts = self.spacing(time_steps) // self.chunk - 1
        return self.real_bytes * (numbers + starts * len(self.plan.states) * neurons)

    # ---- launches ----

    def forward_launches(self, neurons: int, sample: int) -> tuple[Launch, ...]:
        """Return the launches of a forward: one. The caller sets sums of counts to zero first."""
        grid = self._grid(neurons, sample)
        name = f"{self.name}_forward_kernel"
        return (Launch(name, grid, self.forward_threads, self.forward_shared),)

    @property
    def forward_shared(self) -> int:
        """Bytes of shared memory of the forward: the counts of each neuron of a tile."""
        return self.real_bytes * self.tile * len(self.plan.counts)

    @property
    def backward_shared(self) -> int:
        """Bytes of shared memory of the backward: the terms of each neuron of a tile."""
        return self.real_bytes * self.tile * len(self.plan.terms)

    def backward_launches(self, neurons: int, sample: int, channels: int) -> tuple[Launch, ...]:
        """Return the launches of a backward, in order; one if no parameter is learnable."""
        grid = self._grid(neurons, sample)
        first = Launch(
            f"{self.name}_backward_kernel", grid, self.backward_threads, self.backward_shared
        )
        if self.plan.backward_launches == 1:
            return (first,)
        groups = {
            "layer": 1,
            "channel": channels,
            "neuron": max(channels, -(-sample // SUM_THREADS)),
        }[self.plan.finest]
        grid = max(1, min(groups, MAX_GRID))
        return first, Launch(f"{self.name}_sums_kernel", grid, SUM_THREADS)

    def _grid(self, neurons: int, sample: int) -> int:
        return max(1, min(self.tiles(neurons, sample), MAX_GRID))


def _whole(numbers: int) -> int:
    """Return `numbers` rounded up, so that the next buffer is aligned."""
    return -(-numbers // 4) * 4
