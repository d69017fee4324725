"""What a caller of the CUDA kernels needs: chunk, lanes, checkpoints, workspace, launches.

The formulas of sizes stand here for Python, and in `<name>_layout.h` for C and the kernels; a test
holds them to each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from lnm_codegen.backends.plan import BYTES, FAR, Plan, checkpoints, chunks_per_checkpoint
from lnm_codegen.ir.nodes import Role

TILE = 1024
SUM_THREADS = 1024
SHARED = 40 * 1024
"""Bytes of dynamic shared memory that a block gets without asking (48 KiB with the static ones)."""
MAX_GRID = 1 << 20
"""Blocks of a launch at most; the kernels stride over what is left. No result depends on it."""

_BUDGET = {"float32": 170, "float64": 140, "bfloat16": 160, "float16": 160}


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: the kernel's name, blocks, threads of a block, bytes of dynamic shared memory.

    The arguments of every kernel are the struct of its direction, by value, and a pointer to the
    workspace. Above `SHARED` bytes the kernel must first be allowed that much
    (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES).
    """

    kernel: str
    grid: int
    block: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class CudaPlan:
    """A plan with the constants of its CUDA kernels, and sizes as functions of a call's.

    `neurons` and `sample` are those of `plan.SIZES`.
    """

    plan: Plan

    @property
    def name(self) -> str:
        """What the kernels' names begin with."""
        return self.plan.model.name

    @property
    def real_bytes(self) -> int:
        """Bytes of a number of the arithmetic."""
        return BYTES[self.plan.model.real]

    @property
    def io_bytes(self) -> int:
        """Bytes of a number of a sequence."""
        return BYTES[self.plan.model.dtype]

    @property
    def forward_lanes(self) -> int:
        """Neurons of a thread of the forward: 16 bytes of a sequence."""
        return 16 // self.io_bytes

    @property
    def backward_lanes(self) -> int:
        """Neurons of a thread of the backward: what a chunk's registers allow, 4 or (float64) 2."""
        return 16 // self.real_bytes

    @property
    def forward_threads(self) -> int:
        """Threads of a block of the forward."""
        return min(256, TILE // self.forward_lanes)

    @property
    def backward_threads(self) -> int:
        """Threads of a block of the backward: as many as may have 255 registers."""
        return 256

    @property
    def by_rows(self) -> bool:
        """Whether neurons differ in a parameter, so that a tile keeps to the sample's axis."""
        return self.plan.finest != "layer"

    @property
    def layer_terms(self) -> tuple[str, ...]:
        """Terms that are summed over all neurons."""
        return tuple(q for q in self.plan.terms if self.plan.per[q] == "layer")

    @property
    def row_terms(self) -> tuple[str, ...]:
        """Terms that are summed over the batch, and by channel or not at all over the sample."""
        return tuple(q for q in self.plan.terms if self.plan.per[q] != "layer")

    @property
    def chunk(self) -> int:
        """Steps that the backward reruns at a time, from 16 down: what 255 registers hold.

        The budget is what was seen to leave ptxas room for everything else.
        """
        budget = _BUDGET[self.plan.model.dtype]
        return next((k for k in (16, 8, 4) if self._registers(k) <= budget), 2)

    @property
    def ahead(self) -> int:
        """Steps whose inputs are in flight at once in the forward."""
        return min(4, self.chunk)

    @property
    def ahead_backward(self) -> int:
        """Steps whose gradients are in flight at once; fewer where registers are short."""
        return min(4 if self._registers(self.chunk) <= 150 else 2, self.chunk)

    def _registers(self, chunk: int) -> float:
        """Return how many registers hold what the backward keeps: 32 bits each.

        Those are the states and inputs of every step of a chunk, a sum for each term, the prepared
        parameters, and the carried gradients.
        """
        words, io_words = self.real_bytes // 4, self.io_bytes / 4
        pers = [self.plan.per[q] for q in self.plan.prepare.result_names(Role.PARAM)]
        shared = pers.count("layer")
        states, terms = len(self.plan.states), len(self.plan.terms)
        step = words * states + io_words * len(self.plan.model.inputs)
        beside = words * (terms + len(pers) - shared + 2 * states)
        return self.backward_lanes * (chunk * step + beside) + words * shared

    # ---- sizes ----

    def width(self, sample: int) -> int:
        """Return how many neurons of a sample a tile spans, where it keeps to the sample's axis."""
        width = 8
        while width < 128 and width < sample:
            width *= 2
        return width

    def batch_tiles(self, neurons: int, sample: int) -> int:
        """Return into how many parts the tiles cut the batch."""
        return -(-(neurons // sample) // (TILE // self.width(sample)))

    def tiles(self, neurons: int, sample: int) -> int:
        """Return the number of tiles."""
        if not self.by_rows:
            return -(-neurons // TILE)
        return self.batch_tiles(neurons, sample) * -(-sample // self.width(sample))

    def spacing(self, time_steps: int) -> int:
        """Return the steps between two checkpoints."""
        return chunks_per_checkpoint(time_steps, self.chunk, FAR) * self.chunk

    def checkpoints(self, time_steps: int, neurons: int) -> int:
        """Return how many numbers (of `real`) `checkpoints` holds."""
        return checkpoints(time_steps, neurons, len(self.plan.states), self.chunk, FAR)

    def backward_workspace(self, time_steps: int, neurons: int, sample: int) -> int:
        """Return the bytes of the backward's workspace."""
        numbers = _whole(len(self.layer_terms) * self.tiles(neurons, sample))
        if self.by_rows:
            numbers += _whole(len(self.row_terms) * self.batch_tiles(neurons, sample) * sample)
        starts = self.spacing(time_steps) // self.chunk - 1
        return self.real_bytes * (numbers + starts * len(self.plan.states) * neurons)

    # ---- launches ----

    def forward_launches(self, neurons: int, sample: int) -> tuple[Launch, ...]:
        """Return the launches of a forward: one, which adds to sums of counts that are zero."""
        grid = self._grid(neurons, sample)
        name = f"{self.name}_forward_kernel"
        return (Launch(name, grid, self.forward_threads, self.forward_shared),)

    @property
    def forward_shared(self) -> int:
        """Bytes of shared memory of the forward: what each neuron of a tile counted."""
        return self.real_bytes * TILE * len(self.plan.counts)

    @property
    def backward_shared(self) -> int:
        """Bytes of shared memory of the backward: each neuron's sum of each term."""
        return self.real_bytes * TILE * len(self.plan.terms)

    def backward_launches(self, neurons: int, sample: int, channels: int) -> tuple[Launch, ...]:
        """Return the launches of a backward, in order; one only where nothing is learned."""
        grid = self._grid(neurons, sample)
        first = Launch(
            f"{self.name}_backward_kernel", grid, self.backward_threads, self.backward_shared
        )
        if not self.sums:
            return (first,)
        groups = {
            "layer": 1,
            "channel": channels,
            "neuron": max(channels, -(-sample // SUM_THREADS)),
        }[self.plan.finest]
        sums = Launch(f"{self.name}_sums_kernel", max(1, min(groups, MAX_GRID)), SUM_THREADS)
        return first, sums

    @property
    def sums(self) -> bool:
        """Whether a parameter is learnable, so that a second launch adds up its gradient."""
        return bool(self.plan.learnable)

    def _grid(self, neurons: int, sample: int) -> int:
        return max(1, min(self.tiles(neurons, sample), MAX_GRID))


def _whole(numbers: int) -> int:
    """Return `numbers` rounded up, so that what follows is aligned."""
    return -(-numbers // 4) * 4
