"""Phase plane of a neuron with two states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lnm_codegen.analysis.linear.modes import (
    distinct_points,
    eigenvalues,
    find_points,
    nearest_point,
    stability,
)
from lnm_codegen.analysis.linear.step import StepMap, Trajectory, simulate
from lnm_codegen.ir.interpret import Array
from lnm_codegen.plot.axes import (
    INK,
    KIND_FACES,
    QUIET,
    STATE_COLORS,
    WARM,
    add_legend,
    axes_of,
    integer_of,
    intervals_of,
    number_of,
    points_of,
    state_scales,
)
from lnm_codegen.plot.subject import Subject, require_states, step_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ends: TypeAlias = Sequence[tuple[float, float]]
"""Least and greatest value of each state."""
_GRID, _ARROWS, _STARTS = 201, 15, 3
_REACH, _PLACES, _DEEP, _FAR = 3.0, 61, 0.05, 1e150
"""Largest distance of a drawn state to the initial ones, in scales; places of each state where a
firing start is searched; least z of that start, in scales; largest length of an arrow."""
_PATH_COLORS = ("#1b1b1b", "#7a4fa3", "#2e7d5b")


def phase_plane(
    subject: Subject,
    x: float = 0.0,
    *,
    starts: Sequence[Sequence[float]] | None = None,
    steps: int = 60,
    span: Sequence[Sequence[float]] | None = None,
    row: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the plane of two states: nullclines, trajectories, resets and fixed points.

    On a nullcline the step without a spike keeps that state. Where the plane is shaded, the neuron
    fires in the next step. A trajectory shows the states after each step, with spikes; a square is
    its start. A dotted line is the reset of a spike, from the charged states to the states after
    it. Arrows show the direction of a step without a spike.

    Args:
        subject: A neuron or a layer with two states.
        x: The constant input; of several inputs, the first.
        starts: Initial states (v, w) of the trajectories. By default three around the fixed point:
            the first where the neuron fires, if it fires within 3 scales of the initial states; the
            others at 0.9 scales. The scale is the distance |z| of the initial states to the
            threshold; a state whose range is over 5 times larger or smaller than that of the
            potential has its own scale (`plot.ranges.state_scales`).
        steps: Length of a trajectory.
        span: ((low, high), (low, high)) of the states; by default that of the trajectories and the
            nearest part of the threshold.
        row: Number of the parameter set.
        ax: Axes to draw into; a new figure by default.

    Raises:
        ModelError: An argument has another value.
        UnsupportedError: The neuron has another number of states.
        ToolError: matplotlib is not installed.
    """
    where = "plot.phase_plane"
    x, steps = number_of(where, "x", x), integer_of(where, "steps", steps)
    step = step_of("phase_plane", subject, row)
    require_states("phase_plane", step, 2)
    begin = None if starts is None else points_of(where, "starts", starts)
    ends = None if span is None else intervals_of(where, "span", span, 2)
    axes = axes_of("phase_plane", ax)
    draw_plane(axes, step, {step.inputs[0]: x}, begin, steps, ends)
    axes.set_title(f"{step.neuron.name}: {step.inputs[0]} = {x:g}")
    add_legend(axes, given=ax is not None)
    return axes


def draw_plane(
    axes: Axes,
    step: StepMap,
    x: dict[str, float],
    starts: Array | None = None,
    steps: int = 60,
    span: Ends | None = None,
) -> None:
    """Draw the plane of one parameter set; starts are (2, S). See `phase_plane`."""
    found = find_points(step, x)
    centre = nearest_point(step, found)[0]
    scales = state_scales(step)[:, None]
    firing = _firing(step, x, centre, scales)
    begin = _starts(centre, firing, scales) if starts is None else starts
    path = simulate(step, x, steps, begin[:, :, None])
    points = distinct_points(step, found, x)
    ends = _span(step, path, np.hstack([points, firing]), scales) if span is None else span
    _draw_field(axes, step, x, ends)
    _draw_paths(axes, path)
    _draw_points(axes, step, points, x, ends)
    axes.set_xlim(*ends[0])
    axes.set_ylim(*ends[1])
    axes.set_xlabel(step.states[0])
    axes.set_ylabel(step.states[1])
    axes.legend(fontsize="x-small", loc="best", framealpha=0.8)


def _firing(step: StepMap, x: dict[str, float], centre: Array, scales: Array) -> Array:
    """Return the states nearest to a centre in which the neuron fires, (2, 1); (2, 0) if none."""
    sides = np.meshgrid(*[np.linspace(-_REACH, _REACH, _PLACES)] * 2)
    places = step.start() + np.stack(sides).reshape(2, -1) * scales
    fires = step.margin(places[..., None], x)[:, 0] >= _DEEP * step.scale()[0]
    distance = np.where(fires, np.hypot(*((places - centre) / scales)), np.inf)
    best = distance.argmin()
    return places[:, [best] if fires[best] else []]


def _starts(centre: Array, firing: Array, scales: Array) -> Array:
    """Return the firing states, and others around the centre at 0.9 scales, (2, S)."""
    first = 0.4 if not firing.size else float(np.arctan2(*((firing - centre) / scales)[::-1, 0]))
    angle = first + 2 * np.pi * np.arange(_STARTS) / _STARTS
    around = centre + 0.9 * scales * np.array([np.cos(angle), np.sin(angle)])
    return np.hstack([firing, around[:, firing.shape[1] :]])


def _span(
    step: StepMap, path: Trajectory, points: Array, scales: Array
) -> list[tuple[float, float]]:
    """Return the extent of trajectories and points, within 3 scales of the initial states."""
    start = step.start()[:, 0]
    ends = []
    for k, scale in enumerate(scales[:, 0]):
        near = np.concatenate([path.states[:, k].ravel(), path.charged[:, k].ravel(), points[k]])
        near = near[np.abs(near - start[k]) <= (_REACH + 1e-9) * scale]
        low, high = float(near.min(initial=start[k])), float(near.max(initial=start[k]))
        margin = max(0.08 * (high - low), 0.05 * scale)
        ends.append((low - margin, high + margin))
    return ends


def _draw_field(axes: Axes, step: StepMap, x: dict[str, float], ends: Ends) -> None:
    """Draw nullclines, the region that fires, and arrows."""
    v, w = (np.linspace(low, high, _GRID) for low, high in ends)
    grid = np.stack(np.meshgrid(v, w))[..., None]
    change, margin = (step.next(grid, x) - grid)[..., 0], step.margin(grid, x)[..., 0]
    if (margin >= 0).any():
        axes.contourf(v, w, margin, levels=[0, np.inf], colors=[WARM], alpha=0.13)
        axes.fill_between([], [], [], color=WARM, alpha=0.13, label="fires in the next step")
    for k, name in enumerate(step.states):
        if change[k].min() < 0 < change[k].max():
            axes.contour(v, w, change[k], levels=[0], colors=[STATE_COLORS[k]], linewidths=1.6)
        axes.plot([], [], color=STATE_COLORS[k], linewidth=1.6, label=f"nullcline of {name}")
    pick = np.linspace(0, _GRID - 1, _ARROWS + 2).round().astype(int)[1:-1]
    arrows = change[:, pick][:, :, pick]
    arrows = arrows / np.array([np.ptp(v), np.ptp(w)])[:, None, None]
    arrows = np.clip(arrows, -_FAR, _FAR)  # an exponential may overflow
    arrows /= np.maximum(np.hypot(*arrows), 1e-12)
    axes.quiver(v[pick], w[pick], *arrows, color=QUIET, alpha=0.5, angles="uv", units="height",
                scale=22, width=0.003, zorder=1)  # fmt: skip


def _draw_paths(axes: Axes, path: Trajectory) -> None:
    """Draw trajectories (T + 1, 2, S, 1), broken where the reset of a spike changes them."""
    fired = False
    for k in range(path.states.shape[2]):
        color = _PATH_COLORS[k % len(_PATH_COLORS)]
        states, charged = path.states[..., k, 0], path.charged[..., k, 0]
        line, jumps = [states[0]], []
        spikes = path.spikes[:, k, 0]
        for after, before, spike in zip(states[1:], charged, spikes, strict=True):
            if spike and not np.array_equal(after, before):
                line += [before, np.full(2, np.nan)]
                jumps += [before, after, np.full(2, np.nan)]
            line.append(after)
        v, w = np.array(line).T
        path_label, start_label = (None, None) if k else ("trajectory", "start")
        axes.plot(v, w, ".-", color=color, linewidth=0.9, markersize=3, zorder=3, label=path_label)
        axes.plot(*states[:1].T, "s", color=color, markersize=4, zorder=3, label=start_label)
        if jumps:
            v, w = np.array(jumps).T
            label = None if fired else "reset"
            axes.plot(v, w, ":", color=WARM, linewidth=1.2, zorder=3, label=label)
            fired = True


def _draw_points(axes: Axes, step: StepMap, points: Array, x: dict[str, float], ends: Ends) -> None:
    first = eigenvalues(step.jacobian(points[:, :, None], x)[0])[:, 0, 0]
    kinds = np.array([stability(abs(complex(value))) for value in first])
    inside = np.array([np.all([low <= v <= high for v, (low, high) in zip(at, ends, strict=True)])
                       for at in points.T], bool)  # fmt: skip
    for kind, face in KIND_FACES.items():
        own = points[:, inside & (kinds == kind)] if len(kinds) else points
        if own.size:
            axes.plot(*own, "o", color=INK, markerfacecolor=face, zorder=4,
                      label=f"{kind} fixed point")  # fmt: skip
