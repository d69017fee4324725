"""Eigenvalues of neurons in the unit disc."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from lnm_codegen.analysis.linear.modes import POLE_CLASSES, Modes, modes_of_step
from lnm_codegen.ir.interpret import Array
from lnm_codegen.plot.axes import CLASS_COLORS, QUIET, add_legend, axes_of
from lnm_codegen.plot.subject import Subject, step_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_WIDE = 2.0
"""Least side of axes with more than three ticks, in inches."""
_SAME = 2e-3
"""Largest distance of eigenvalues that one point shows."""


def poles(subject: Subject, *, row: int | None = None, ax: Axes | None = None) -> Axes:
    """Draw the eigenvalues of the step without a spike, coloured by class, and the unit circle.

    A neuron forgets if its poles are inside the circle; off the real axis it oscillates. Of one
    parameter set, "×3" marks three eigenvalues at one point. See
    `lnm_codegen.analysis.linear` for the point and the classes.

    Args:
        subject: A neuron or a layer.
        row: Number of a parameter set, or None for all.
        ax: Axes to draw into; a new figure by default.

    Raises:
        ModelError: No neuron and no layer, or no such row.
        UnsupportedError: The neuron has no state.
        ToolError: matplotlib is not installed.
    """
    step = step_of("poles", subject, row)
    axes = axes_of("poles", ax)
    draw_poles(axes, modes_of_step(step))
    axes.set_title(f"{step.neuron.name}: poles")
    add_legend(axes, given=ax is not None, place="upper left")
    return axes


def draw_poles(axes: Axes, modes: Modes, history: Array | None = None) -> None:
    """Draw the eigenvalues of parameter sets.

    Args:
        axes: Axes to draw into.
        modes: The sets.
        history: Eigenvalues at each of E times, (E, R, n), drawn as paths; or None.
    """
    draw_circle(axes)
    if history is not None:
        for k, path in enumerate(continued(history).reshape(len(history), -1).T):
            axes.plot(path.real, path.imag, color=QUIET, linewidth=0.5, alpha=0.6, zorder=2,
                      label=None if k else "path in training")  # fmt: skip
        first = history[0].ravel()
        axes.plot(first.real, first.imag, "o", color=QUIET, markerfacecolor="none", markersize=2.5,
                  markeredgewidth=0.6, zorder=2, label="before training")  # fmt: skip
    counts = Counter(modes.labels)
    for label in POLE_CLASSES:
        own = modes.eigenvalues[[k for k, one in enumerate(modes.labels) if one == label]].ravel()
        if len(own):
            text = label if len(modes.labels) == 1 else f"{label} ({counts[label]})"
            axes.plot(own.real, own.imag, "o", color=CLASS_COLORS[label], label=text, zorder=3,
                      markersize=4.5, markeredgecolor="white", markeredgewidth=0.4)  # fmt: skip
    if len(modes.labels) == 1:
        _write_multiplicities(axes, modes.eigenvalues[0])
    shown = modes.eigenvalues.ravel()
    _set_limits(axes, shown if history is None else np.append(shown, history))


def _write_multiplicities(axes: Axes, values: Array) -> None:
    """Write the number of eigenvalues that one point shows, if these are several: "×3"."""
    left = [complex(value) for value in values if np.isfinite(value)]
    while left:
        first = left[0]
        same = [value for value in left if abs(value - first) <= _SAME]
        left = [value for value in left if abs(value - first) > _SAME]
        if len(same) > 1:
            axes.annotate(f"×{len(same)}", (first.real, first.imag), xytext=(5, 4),
                          textcoords="offset points", fontsize="small")  # fmt: skip


def draw_circle(axes: Axes) -> None:
    """Draw the unit circle and both axes of the complex plane."""
    angle = np.linspace(0, 2 * np.pi, 361)
    axes.axhline(0, color=QUIET, linewidth=0.5, zorder=1)
    axes.axvline(0, color=QUIET, linewidth=0.5, zorder=1)
    axes.plot(np.cos(angle), np.sin(angle), color=QUIET, linewidth=1, zorder=1, label="unit circle")
    axes.set_aspect("equal")
    box = axes.get_window_extent()
    wide = min(box.width, box.height) >= _WIDE * axes.figure.dpi
    axes.locator_params(nbins=5 if wide else 2)
    axes.set_xlabel("real part of the eigenvalue")
    axes.set_ylabel("imaginary part")


def continued(history: Array) -> Array:
    """Return eigenvalues (E, R, n) in an order that follows each of two from time to time."""
    if history.shape[2] != 2:
        return history
    found = history.copy()
    for now, then in zip(found[1:], found[:-1], strict=True):
        straight = np.abs(now - then).sum(1)
        crossed = np.abs(now[:, ::-1] - then).sum(1)
        swap = crossed < straight
        now[swap] = now[swap][:, ::-1]
    return found


def _set_limits(axes: Axes, values: Array) -> None:
    """Show the disc and the eigenvalues; those beyond modulus 3 are cut off."""
    flat = values.ravel()
    flat = flat[np.isfinite(flat)]
    size = np.abs(np.concatenate([flat.real, flat.imag, [1.0]])).max()
    reach = 1.08 * min(float(size), 3.0)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
