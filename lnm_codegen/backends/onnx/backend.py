"""ONNX backend: a model in the textual syntax of ONNX, with the time steps inside one Scan.

The file is for inference: ONNX has no gradients, so `backward` is not printed. `function` prints
the same Scan as a function of a domain, for a layer in the graph of a network (`nn/onnx/`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from lnm_codegen.backends.base import Model, Source
from lnm_codegen.backends.onnx.expr import TYPES
from lnm_codegen.backends.onnx.scan import SUM, Ports, ports_of, scan_view
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import Granularity, Init

IR_VERSION: Final = 10
OPSET: Final = 20
"""Versions of a model's format and operators; onnxruntime reads them from 1.18 on."""

AXES: Final = ("N", "C", "I")
"""Axes of a step in a model by itself: batch, channels, and the axes after them as one."""

_SHARED: Final[dict[Granularity, tuple[str, ...]]] = {
    "layer": (), "channel": ("C",), "neuron": ("C", "I"),
}  # fmt: skip


class Onnx:
    """The ONNX backend."""

    name = "onnx"

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


def function(model: Model, name: str, domain: str, axes: int, opset: int) -> str:
    """Return a function as text: inputs, initial states, parameters -> outputs, finals, counts.

    Args:
        model: The model.
        name: Name of the function.
        domain: Its domain.
        axes: Axes of a step, (N, *).
        opset: Version of the operators.
    """
    ports = ports_of(model)
    own = dict(
        name=name,
        domain=domain,
        opset=opset,
        takes=", ".join(ports.taken),
        gives=", ".join(ports.given),
    )
    view = scan_view(model, ports, axes, shares_inputs=False)
    return render("onnx/function.onnxtxt.j2", own | view)


def _takes(model: Model, ports: Ports) -> Iterator[str]:
    """Yield the inputs with their types."""
    io, real, step = TYPES[model.dtype], TYPES[model.real], ", ".join(AXES)
    first, *more = ports.inputs
    yield f"{io}[T, {step}] {first}"
    for name in more:
        axes = ", ".join(f"{name}_{axis}" for axis in ("T", *AXES))
        yield f"{io}[{axes}] {name}"
    for name in ports.states:
        yield f"{real}[{', '.join(f'{name}_{axis}' for axis in AXES)}] {name}"
    for p in model.params:
        axes = ", ".join((*_SHARED[p.per], *([str(p.size)] if p.size else [])))
        yield f"{real}{f'[{axes}]' if axes else ''} {p.name}"


def _gives(model: Model, ports: Ports) -> Iterator[str]:
    """Yield the outputs with their types."""
    step = ", ".join(AXES)
    yield from (f"{TYPES[model.dtype]}[T, {step}] {name}" for name in ports.outputs)
    yield from (f"{TYPES[model.real]}[{step}] {name}" for name in ports.finals)
    yield from (f"{TYPES[SUM]} {name}" for name in ports.counts)


def _defaults(model: Model, ports: Ports) -> Iterator[str]:
    """Yield the default values of the inputs that have one: numbers that broadcast."""
    for state, name in zip(model.states, ports.states, strict=True):
        yield from _default(model, name, state.init, (1,) * len(AXES))
    for p in model.params:
        size = () if p.size is None else (p.size,)
        yield from _default(model, p.name, p.init, (*(1 for _ in _SHARED[p.per]), *size))


def _default(model: Model, name: str, init: Init, axes: tuple[int, ...]) -> Iterator[str]:
    if callable(init):
        return
    values = np.broadcast_to(np.asarray(init, model.real), axes).reshape(-1)
    shape = f"[{', '.join(map(str, axes))}]" if axes else ""
    yield f"{TYPES[model.real]}{shape} {name} = {{{', '.join(map(str, values))}}}"


def _notes(model: Model, ports: Ports) -> Iterator[str]:
    """Yield what each port is."""
    yield f"{ports.inputs[0]} (T, N, C, I)."
    if len(ports.inputs) > 1:
        more = ", ".join(ports.inputs[1:])
        yield f"{more}: the same, or an axis of length 1 where the input repeats."
    if ports.states:
        yield f"{', '.join(ports.states)}: (N, C, I), or axes of length 1."
    for p in model.params:
        if p.per != "layer":
            shape = ", ".join((*_SHARED[p.per], *([str(p.size)] if p.size else [])))
            yield f"{p.name}: ({shape}), or axes of length 1; one value per {p.per}."


def _listed(lines: Iterator[str]) -> tuple[str, ...]:
    """Return lines with commas between them."""
    return tuple(",\n".join(lines).splitlines())
