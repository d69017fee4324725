"""Random initial values of a package's layer, as lines of Python.

`nn.parameters.initial_values` draws those of a `NeuronLayer`. The lines call PyTorch's generator in
the same order, so both layers draw the same numbers after the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable

from lnm_codegen.backends.base import Model
from lnm_codegen.backends.render import render
from lnm_codegen.ir.declarations import Known, Matrix, Param, PolePair, Poles, Uniform

_AXES = {"layer": "()", "channel": "sample[:1]", "neuron": "sample"}
"""Granularity -> the leading axes of a parameter, in the package's words."""


def draw_files(model: Model) -> dict[str, str]:
    """Return the module that draws; none if no parameter is drawn. Every sample is `Known`."""
    drawn = [p for p in model.layer_params if p.draw is not None]
    if not drawn:
        return {}
    view = dict(
        family=model.family,
        lines=_draw_lines(drawn),
        has_vectors=any(p.size is not None for p in drawn),
    )
    return {"draws.py": render("package/draws.py.j2", view)}


def _draw_lines(params: Iterable[Param]) -> tuple[str, ...]:
    """Return the statements that add the drawn values to `values`."""
    current: dict[tuple[Known, str], dict[int, str]] = {}
    joint: list[tuple[Known, str, dict[int, str]]] = []
    for p in params:
        assert p.draw is not None
        assert isinstance(p.draw.sample, Known)
        key = (p.draw.sample, p.per)
        if key not in current or p.draw.part in current[key]:
            current[key] = {}
            joint.append((*key, current[key]))
        current[key][p.draw.part] = p.name
    return tuple(line for sample, per, names in joint for line in _lines(sample, _AXES[per], names))


def _lines(sample: Known, axes: str, names: dict[int, str]) -> tuple[str, ...]:
    """Return the statements of one draw; `names` are the parameters of its parts."""
    before: tuple[str, ...] = ()
    match sample:
        case Uniform(ends):
            values = {0: _uniform(axes, ends)}
        case Matrix(poles, first, size):
            before = (_poles(poles, axes), "c, s = phi.cos(), phi.sin()")
            rows = {0: "r * c, -r * s", 1: "r * s, r * c"}
            values = {k: f"coefficients({row}, {first}, {size})" for k, row in rows.items()}
        case PolePair(poles):
            before, values = (_poles(poles, axes),), {0: "r.logit()", 1: "phi"}
    return (*before, *(f'values["{name}"] = {values[part]}' for part, name in names.items()))


def _poles(poles: Poles, axes: str) -> str:
    return f"r, phi = {_uniform(axes, poles.radius)}, {_uniform(axes, poles.angle)}"


def _uniform(axes: str, ends: tuple[float, float]) -> str:
    return f"uniform({axes}, {ends[0]!r}, {ends[1]!r})"
