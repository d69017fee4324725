"""Triton kernels: the generated module, with launch sizes tuned on the current GPU.

Results do not depend on launch sizes. A search runs at the first forward that is large enough to
time. Its result is saved in the cache folder for each kernel, type and GPU. A search without a
result is repeated by a forward of twice the size, and in each process. The module's own defaults
apply before a search, with LNM_TUNE=0, and in a CUDA graph captured before a search.
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lnm_codegen.backends import BACKENDS
from lnm_codegen.backends.plan import Field, Plan
from lnm_codegen.backends.recurrent import RecurrentPlan
from lnm_codegen.backends.triton import recurrent
from lnm_codegen.backends.triton.backend import FORWARD_LANES, FORWARD_WARPS
from lnm_codegen.errors import ToolError, reason
from lnm_codegen.nn.function import Arguments, Kernels, device_of
from lnm_codegen.nn.load.cache import import_source, recall, remember

Sizes: TypeAlias = tuple[int, int]
"""Neurons of a program, and its warps."""

DEFAULT: Sizes = (FORWARD_LANES, FORWARD_WARPS)
CANDIDATES: tuple[Sizes, ...] = (DEFAULT, (256, 2), (1024, 4), (1024, 8), (2048, 8))

LEAST, SHORTEST = 1 << 22, 1e-5
"""Neurons times steps, and seconds, below which a launch is too short to time."""

MARGIN = 0.03
"""Part of the default's time that another candidate must save."""

ROUNDS, LAUNCHES, WAIT = 5, 8, 1 << 22
"""Measurements of a candidate, launches in each, and GPU cycles in which the host queues them."""

Run = Callable[[int, int], None]


class TritonKernels(Kernels):
    """Kernels of a model on a GPU, or in Triton's interpreter."""

    def __init__(self, plan: Plan, folder: Path | None = None) -> None:
        super().__init__(plan, plan.counts)
        source = BACKENDS["triton"].emit(plan)
        self._module = import_source(source, "triton", plan.name, folder)
        digest = hashlib.sha256(source.files[source.entry].encode()).hexdigest()[:16]
        self._key = f"{plan.name}-{digest}"
        self._sizes: Sizes | None = None
        self._least = 0  # neurons times steps of a call that looks for launch sizes
        self._saved = [field.name for field in plan.backward_fields].index("checkpoints")

    def saved_size(self, time_steps: int, neurons: int) -> int:
        """Return the number of elements in the saved states."""
        count: int = self._module.checkpoints(time_steps, neurons)
        return count

    def forward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the forward kernel."""

        def run(block: int, warps: int) -> None:
            self._module.forward(*sizes, *arguments, block=block, num_warps=warps)

        device, elements = device_of(arguments), sizes[0] * sizes[1]
        with current_device(device):
            looks = self._sizes is None and elements >= self._least
            if looks and not _overwrites(arguments):
                self._sizes = launch_sizes(self._key, elements, run, device)
                if not _is_capturing(device):
                    # Where nothing was found, only a call that takes longer looks again.
                    self._least = max(LEAST, 2 * elements)
            if self._sizes is None:
                self._module.forward(*sizes, *arguments)
            else:
                run(*self._sizes)

    def backward(self, sizes: Sequence[int], arguments: Arguments) -> None:
        """Run the backward kernels."""
        device, place = device_of(arguments), self._saved
        if arguments[place] is None:  # the kernel computes an address from it
            nothing = torch.empty(0, dtype=self.real, device=device)
            arguments = [*arguments[:place], nothing, *arguments[place + 1 :]]
        with current_device(device):
            self._module.backward(*sizes, *arguments)


class RecurrentTritonKernels:
    """Forward and backward of a recurrent layer on a GPU, or in Triton's interpreter."""

    def __init__(self, model: RecurrentPlan, folder: Path | None = None) -> None:
        self.model = model
        name = f"{model.plan.name}_recurrent"
        self._module = import_source(recurrent.emit(model), "triton", name, folder)

    def forward(self, words: Mapping[str, Any]) -> None:
        """Run the forward on fields by name; one that is missing is None."""
        self._run(self._module.forward, self.model.forward_fields, words)

    def backward(self, words: Mapping[str, Any]) -> None:
        """Run the backward on fields by name; one that is missing is None."""
        self._run(self._module.backward, self.model.backward_fields, words)

    def _run(self, run: Any, fields: tuple[Field, ...], words: Mapping[str, Any]) -> None:
        with current_device(words["_x"].device):
            run(*(words.get(f.name) for f in fields))


def _is_capturing(device: torch.device) -> bool:
    """Report whether a CUDA graph is being captured, during which nothing can be timed."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _overwrites(arguments: Arguments) -> bool:
    """Report whether an output shares memory with an input, so that no launch can be repeated."""
    places = [a.data_ptr() for a in arguments if isinstance(a, Tensor) and a.numel()]
    return len(places) != len(set(places))


@contextmanager
def current_device(device: torch.device) -> Iterator[None]:
    """Make a GPU the current one, on which kernels are launched.

    Raises:
        ToolError: Triton or its assembler refuses the kernel for this GPU.
    """
    from triton.errors import TritonError

    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    except TritonError as error:
        raise ToolError("triton", reason(error), remedy="Use another backend.") from error


def launch_sizes(key: str, elements: int, run: Run, device: torch.device) -> Sizes | None:
    """Return (block, warps) for a forward, or None for the defaults.

    The key names kernel and type; `elements` are neurons times steps of this call. The search calls
    `run` many times.
    """
    if os.environ.get("LNM_TUNE") == "0" or device.type != "cuda":
        return None
    key = f"launch {key} on {torch.cuda.get_device_name(device)}"
    known = recall(key)
    if isinstance(known, list) and tuple(known) in CANDIDATES:
        return known[0], known[1]
    if elements < LEAST or _is_capturing(device):
        return None
    best = fastest(run)
    if best is not None:
        remember(key, list(best))
    return best


def fastest(run: Run) -> Sizes | None:
    """Return the fastest candidate, or None if the time of the default cannot be measured.

    Clocks and other work affect all candidates equally: each round times every candidate. The first
    round compiles and warms up.
    """
    times: dict[Sizes, list[float]] = {sizes: [] for sizes in CANDIDATES}
    for k in range(1 + ROUNDS):
        for sizes, found in times.items():
            taken = seconds(run, *sizes)
            if k:
                found.append(taken)
    medians = {sizes: statistics.median(found) for sizes, found in times.items()}
    if not SHORTEST <= medians[DEFAULT] < math.inf:
        return None
    best = min(CANDIDATES, key=lambda sizes: medians[sizes])
    return best if medians[best] < (1 - MARGIN) * medians[DEFAULT] else DEFAULT


def seconds(run: Run, block: int, warps: int) -> float:
    """Return the time of a launch among several that the GPU runs without a pause.

    The GPU waits while the host queues them. Infinity if the host takes longer than that.
    """
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda._sleep(WAIT)  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(LAUNCHES):
        run(block, warps)
    end.record()
    had_begun = start.query()  # type: ignore[no-untyped-call]
    end.synchronize()
    return math.inf if had_begun else float(start.elapsed_time(end)) / 1e3 / LAUNCHES


@cache
def load_triton(plan: Plan, folder: Path | None = None) -> TritonKernels:
    """Import the Triton kernels of a model; `folder` takes the place of the cache folder.

    Raises:
        UnsupportedError: Triton cannot express the model.
        ToolError: The cache folder cannot be used.
    """
    return TritonKernels(plan, folder)
