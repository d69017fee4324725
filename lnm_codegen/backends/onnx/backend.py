"""ONNX backend: a model in the textual syntax of ONNX, with the time steps inside one Scan.

The file is for inference: ONNX has no gradients, so `backward` is not printed. `function` prints
the same Scan as a function of a domain, for a layer in the graph of a network (`nn/onnx/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.onnx.expr import TYPES
from lnm_codegen.backends.onnx.scan import SUM, Ports, ports_of, scan_view
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import Granularity, Param

IR_VERSION: Final = 8
OPSET: Final = 18
"""Versions of the format of a model, and of its operators. PyTorch builds graphs in this opset."""

AXES: Final = ("N", "C", "I")
"""Axes of a step in a model by itself: batch, channels, and the axes after them as one."""

_OWN_AXES: Final[dict[Granularity, tuple[str, ...]]] = {
    "layer": (), "channel": ("C",), "neuron": ("C", "I"),
}  # fmt: skip


class Onnx:
    """The ONNX backend."""

    def emit(self, model: Model) -> Source:
        """Return one model of the operators of ONNX, as text.

        Raises:
            UnsupportedError: Two inputs or outputs of the graph have the same name.
        """
        ports = ports_of(model)
        own = dict(
            family=model.family,
            equations=model.equations,
            notes=tuple(_notes(model, ports)),
            ir_version=IR_VERSION,
            opset=OPSET,
            name=model.name,
            takes=_listed(_takes(model, ports)),
            gives=_listed(_gives(model, ports)),
            defaults=_listed(_defaults(model, ports)),
        )
        view = scan_view(model, ports, len(AXES), shares_inputs=True)
        path = f"{model.name}.onnxtxt"
        return Source({path: render("onnx/model.onnxtxt.j2", own | view)}, path)


def function(model: Model, name: str, domain: str, axes: int) -> str:
    """Return a function as text: inputs, initial states, parameters -> outputs, finals, counts.

    Args:
        model: The model.
        name: Name of the function.
        domain: Its domain.
        axes: Axes of a step, (N, *).
    """
    ports = ports_of(model)
    own = dict(
        name=name,
        domain=domain,
        opset=OPSET,
        takes=", ".join(ports.taken),
        gives=", ".join(ports.given),
    )
    view = scan_view(model, ports, axes, shares_inputs=False)
    return render("onnx/function.onnxtxt.j2", own | view)


def _takes(model: Model, ports: Ports) -> Iterator[str]:
    """Yield the inputs with their types. Axes that may have length 1 have names of their own."""
    io, real = TYPES[model.dtype], TYPES[model.real]
    first, *more = ports.inputs
    yield f"{_typed(io, ('T', *AXES))} {first}"
    for name in more:
        yield f"{_typed(io, (f'{name}_{axis}' for axis in ('T', *AXES)))} {name}"
    for name in ports.states:
        yield f"{_typed(real, (f'{name}_{axis}' for axis in AXES))} {name}"
    for p in model.params:
        axes = [f"{p.name}_{axis}" for axis in _OWN_AXES[p.per]]
        yield f"{_typed(real, (*axes, *_size(p)))} {p.name}"


def _gives(model: Model, ports: Ports) -> Iterator[str]:
    """Yield the outputs with their types."""
    io, real = TYPES[model.dtype], TYPES[model.real]
    yield from (f"{_typed(io, ('T', *AXES))} {name}" for name in ports.outputs)
    yield from (f"{_typed(real, AXES)} {name}" for name in ports.finals)
    yield from (f"{TYPES[SUM]} {name}" for name in ports.counts)


def _defaults(model: Model, ports: Ports) -> Iterator[str]:
    """Yield the default values of the inputs that have one; they broadcast."""
    pairs = zip(ports.states, model.states, strict=True)
    inits = [(name, s.init, ["1"] * len(AXES)) for name, s in pairs]
    inits += [(p.name, p.init, [*("1" for _ in _OWN_AXES[p.per]), *_size(p)]) for p in model.params]
    for name, init, axes in inits:
        if not callable(init):
            values = np.broadcast_to(np.asarray(init, model.real), tuple(map(int, axes)))
            numbers = ", ".join(map(str, values.reshape(-1)))
            yield f"{_typed(TYPES[model.real], axes)} {name} = {{{numbers}}}"


def _notes(model: Model, ports: Ports) -> Iterator[str]:
    """Yield the shapes of the inputs."""
    first, *more = ports.inputs
    yield f"{first}: (T, N, C, I)."
    if more:
        yield f"{', '.join(more)}: the same, with length 1 on axes along which the input repeats."
    if ports.states:
        yield f"{', '.join(ports.states)}: (N, C, I), or length 1 on any axis."
    for p in model.params:
        shape = ", ".join((*_OWN_AXES[p.per], *_size(p)))
        if shape:
            yield f"{p.name}: ({shape}), one value per {p.per}; C and I may be 1."


def _size(p: Param) -> tuple[str, ...]:
    return () if p.size is None else (str(p.size),)


def _typed(kind: str, axes: Iterable[str]) -> str:
    """Return the type of a tensor."""
    listed = ", ".join(axes)
    return f"{kind}[{listed}]" if listed else kind


def _listed(lines: Iterator[str]) -> tuple[str, ...]:
    """Return lines with commas between them."""
    return tuple(",\n".join(lines).splitlines())
