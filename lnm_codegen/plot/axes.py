"""Axes of plots: colours, scales, curves, legends, default ranges, arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from lnm_codegen.analysis.canvas import require_matplotlib
from lnm_codegen.analysis.charge import potential_of
from lnm_codegen.analysis.linear.step import StepMap, firing_rates, simulate
from lnm_codegen.ir.interpret import Array
from lnm_codegen.language.misuse import as_number, as_numbers
from lnm_codegen.validation import (
    is_number,
    require_integer,
    require_interval,
    require_number,
    wrong,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend


# Colours of plots, distinct also for readers who are colour-blind (Okabe and Ito).


INK, QUIET, WARM, COOL, GREEN = "#0072B2", "#8c8c8c", "#D55E00", "#dbe7f3", "#009E73"
"""Main curve; reference lines; threshold; shaded interval; ends of an invariant interval."""
STATE_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
"""Of the states, in the order of declaration."""
CLASS_COLORS = {
    "leaky": "#0072B2", "integrator": "#009E73", "quadratic-like": "#CC79A7",
    "bistable": "#D55E00", "self-exciting": "#E69F00", "oscillating": "#56B4E9",
    "other": "#777777", "real poles": "#0072B2", "oscillator": "#56B4E9", "resonator": "#CC79A7",
    "alternating": "#E69F00", "unstable but reset": "#8c6d00", "diverging": "#D55E00",
}  # fmt: skip
"""Of the classes of behaviour."""
KIND_FACES = {"stable": INK, "unstable": "white", "neutral": QUIET}
"""Face of the mark of a fixed point."""


# Axes for states of different scale: states whose ranges differ much have a y axis each.


Ends: TypeAlias = tuple[float, float]
"""Least and greatest value."""
MOST_RATIO = 5.0
"""Largest ratio of the range of shared axes to the range of a state on them."""
_APART = 50
"""Distance between the second y axis and each further one, in points."""


def color_axis(axes: Axes, color: str) -> None:
    """Colour the y axis of one state as its line, so that a further axis shows whose it is."""
    axes.tick_params(axis="y", colors=color)
    axes.yaxis.label.set_color(color)
    axes.spines[axes.yaxis.get_label_position()].set_color(color)


def ends_of(values: Array) -> Ends:
    """Return the least and the greatest finite value; (0, 0) without any."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def grouped(ends: Sequence[Ends]) -> list[list[int]]:
    """Return the numbers of the states that share axes, in the order of declaration.

    A state joins the first group whose common range is at most `MOST_RATIO` times the range of
    each of its states. A constant state has no range, and so limits no group.
    """
    groups: list[list[int]] = []
    for k in range(len(ends)):
        home = next((g for g in groups if _fit([ends[i] for i in (*g, k)])), None)
        if home is None:
            groups.append([k])
        else:
            home.append(k)
    return groups


def _fit(ends: Sequence[Ends]) -> bool:
    whole = max(high for _, high in ends) - min(low for low, _ in ends)
    sizes = [high - low for low, high in ends if not _is_constant((low, high))]
    return not sizes or whole <= MOST_RATIO * min(sizes)


def _is_constant(ends: Ends) -> bool:
    return ends[1] - ends[0] <= 1e-9 * max(abs(ends[0]), abs(ends[1]))


def padded(ends: Ends) -> Ends:
    """Return the limits of an axis with a margin; around a constant, a tenth of it or 1."""
    low, high = ends
    if _is_constant(ends):
        size = 0.1 * abs(high) or 1.0
        return low - size, high + size
    return low - 0.08 * (high - low), high + 0.12 * (high - low)


def twin_axes(axes: Axes, count: int) -> list[Axes]:
    """Return the axes and `count - 1` more, with the same x axis and a y axis each at the right.

    The given axes stay on top, so that their legend covers the lines of the others.
    """
    found = [axes]
    for k in range(count - 1):
        twin = axes.twinx()
        twin.spines["right"].set_position(("outward", _APART * k))
        found.append(twin)
    if count > 1:
        found[1].patch.set(visible=True, facecolor=axes.get_facecolor())
        axes.patch.set_visible(False)
        axes.set_zorder(found[-1].get_zorder() + 1)
    return found


# Curves of parameter sets, coloured by class.


def draw_curves(
    axes: Axes, x: Array, y: Array, labels: Sequence[str] = (), label: str | None = None
) -> None:
    """Draw a curve for each parameter set; many are thin.

    Args:
        axes: Axes to draw into.
        x: (P,).
        y: (P, R).
        labels: Class of each set, for its colour; the legend names each class once.
        label: Name of the curves in the legend, without classes.
    """
    many = y.shape[1] > 1
    named: set[str | None] = set()
    for k in range(y.shape[1]):
        own = labels[k] if labels else label
        color = CLASS_COLORS.get(own or "", INK)
        shown = None if own in named else own
        axes.plot(x, y[:, k], color=color, linewidth=0.7 if many else 1.8,
                  alpha=0.7 if many else 1.0, zorder=3, label=shown)  # fmt: skip
        named.add(own)


# Legends of plots: below the axes in figures of our own, small and inside given axes.


Place: TypeAlias = Literal["best", "upper right", "upper left", "lower right", "lower left"]
"""Place of a legend inside axes."""
MOST_COVERED = 0.15
"""Largest share of given axes that a legend covers; a larger one is omitted."""
_CORNERS: tuple[Place, ...] = ("upper right", "upper left", "lower right", "lower left")
_BELOW = 0.5
"""Height of the tick labels and the label of the x axis, in inches."""


def legend_below(axes: Axes, *twins: Axes, columns: int = 3, font: str = "small") -> None:
    """Put the legend of axes, and of axes that share their x axis, below the axes.

    A constrained layout leaves space for it.
    """
    from matplotlib.transforms import ScaledTranslation

    down = ScaledTranslation(0, -_BELOW, axes.figure.dpi_scale_trans)
    axes.legend(*_entries(axes, *twins), fontsize=font, loc="upper center", ncols=columns,
                bbox_to_anchor=(0.5, 0), bbox_transform=axes.transAxes + down,
                borderaxespad=0, frameon=False)  # fmt: skip


def legend_inside(axes: Axes, *twins: Axes, place: Place = "best") -> None:
    """Put a small legend inside given axes, or none if it covers too much of them."""
    axes.apply_aspect()
    places = _CORNERS if twins else (place,)  # "best" ignores the lines of other axes
    hidden = [_points_behind(_small(axes, twins, one), axes, *twins) for one in places]
    legend = _small(axes, twins, places[hidden.index(min(hidden))])
    box, inside = legend.get_window_extent(), axes.get_window_extent()
    if box.width * box.height > MOST_COVERED * inside.width * inside.height:
        legend.remove()


def _small(axes: Axes, twins: tuple[Axes, ...], place: Place) -> Legend:
    return axes.legend(*_entries(axes, *twins), fontsize="x-small", framealpha=0.7, loc=place)


def _points_behind(legend: Legend, *axes: Axes) -> int:
    """Return the number of points of lines that a legend covers."""
    box = legend.get_window_extent()
    lines = [line for one in axes for line in one.lines]
    return sum(
        box.count_contains(line.get_transform().transform(line.get_xydata())) for line in lines
    )


def add_legend(axes: Axes, *twins: Axes, given: bool, place: Place = "best") -> None:
    """Put a legend inside the axes that a caller has `given`, or below axes of our own."""
    if given:
        legend_inside(axes, *twins, place=place)
    else:
        legend_below(axes, *twins)


def _entries(*axes: Axes) -> tuple[list[Artist], list[str]]:
    """Return the handles and labels of all axes."""
    handles: list[Artist] = []
    labels: list[str] = []
    for one in axes:
        own, names = one.get_legend_handles_labels()
        handles += own
        labels += [str(name) for name in names]
    return handles, labels


# Default ranges of plots, for neurons in any units: of a constant input, and of the states.


RATE_STEPS, MORE_STEPS, FEW_SPIKES = 256, 1024, 8
"""Steps of a firing rate; steps for a neuron with fewer spikes than these in the former."""
_EXPONENTS = np.arange(-60, 61)
"""The inputs that are tried are the scale times these powers of 2."""
_HALF, _TOP = 0.5, 0.95
"""Rate at the right end of an f-I curve; share of the greatest rate, if that is less."""


def inputs_of(step: StepMap, steps: int = RATE_STEPS) -> tuple[float, float]:
    """Return inputs from silence to a rate of 1/2, for the f-I curve of a neuron.

    The inputs tried are powers of 2 times the scale, which is the distance |z| of the initial
    states to the threshold. Rates are the medians over the parameter sets, in at most 256 steps.

        high   the first input after the first spike with a rate of at least 1/2, or of 95 % of the
               rate at which it stops to rise; at least twice the first input that fires
        low    0 where the neuron is silent, else the first negative input without a spike

    Without any spike the result is 0 and 4 scales; without a silent input, low is -high.
    """
    low, _, high = _search(step, min(steps, RATE_STEPS))
    return low, high


def _search(step: StepMap, steps: int) -> tuple[float, float, float]:
    """Return the least input, the first that fires more than the input 0, and the greatest."""
    scale = float(np.median(step.scale()))
    tried = scale * 2.0**_EXPONENTS
    rates = _rates(step, np.concatenate([[0.0], tried, -tried]), steps)
    at_rest, positive, negative = rates[0], rates[1 : len(tried) + 1], rates[len(tried) + 1 :]
    first = _first(positive > at_rest) if at_rest else _first(positive > 0)
    if first is None:
        return (-scale, scale, scale) if at_rest else (0.0, scale, 4 * scale)
    falls = _first(np.diff(positive[first:]) < 0)
    rising = positive[first:] if falls is None else positive[first : first + falls + 1]
    top = min(_HALF, _TOP * float(rising.max()))
    last = first + max(int(np.argmax(rising >= top)), min(1, len(rising) - 1))
    least, high = float(tried[first]), float(tried[last])
    if not at_rest:
        return 0.0, least, high
    silent = _first(negative == 0)
    return (-high if silent is None else float(-tried[silent])), least, high


def rate_steps(step: StepMap, x: float) -> int:
    """Return the number of steps in which a neuron has several spikes at an input."""
    rate = float(_rates(step, np.array([x]), RATE_STEPS)[0])
    return RATE_STEPS if rate * RATE_STEPS >= FEW_SPIKES else MORE_STEPS


def state_scales(step: StepMap) -> Array:
    """Return the scale of each state of one parameter set, (n,), for its phase plane.

    The scale of the potential is the distance |z| of the initial states to the threshold. Another
    state has the same scale, or, where its range is over 5 times larger or smaller than that of the
    potential under the first input that fires, the scale times the ratio of both ranges.
    """
    scale = float(step.scale()[0])
    path = simulate(step, {step.inputs[0]: _search(step, RATE_STEPS)[1]}, RATE_STEPS)
    moved = np.abs(np.concatenate([path.states, path.charged]) - step.start())[..., 0]
    own = np.where(np.isfinite(moved), moved, 0).max(0)
    potential = own[step.states.index(potential_of(step.neuron).name)]
    if not potential:
        return np.full(len(own), scale)
    ratio = own / potential
    other = (ratio > 0) & ((ratio > MOST_RATIO) | (ratio < 1 / MOST_RATIO))
    return np.where(other, ratio, 1.0) * scale


def _rates(step: StepMap, currents: Array, steps: int) -> Array:
    with np.errstate(all="ignore"):  # the largest inputs overflow
        return np.asarray(np.median(firing_rates(step, currents, steps), axis=1))


def _first(where: Array) -> int | None:
    return int(where.argmax()) if where.any() else None


# Arguments of a plot: numbers, also those of NumPy, and axes.


def number_of(where: str, word: str, value: Any, *, optional: bool = False) -> Any:
    """Return a finite number as a float, or None if `optional`.

    Raises:
        ModelError: The value is not a finite number.
    """
    found = require_number(where, word, as_number(value), optional=optional)
    return None if found is None else float(found)


def integer_of(where: str, word: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return an integer of at least `low` and at most `high`.

    Raises:
        ModelError: The value is not such an integer.
    """
    return int(require_integer(where, word, as_number(value), low, high))


def interval_of(where: str, word: str, value: Any) -> tuple[float, float]:
    """Return a pair (low, high) of finite numbers with low < high.

    Raises:
        ModelError: The value is not such a pair.
    """
    low, high = require_interval(where, word, _plain(value))
    return float(low), float(high)


def intervals_of(where: str, word: str, value: Any, count: int) -> list[tuple[float, float]]:
    """Return `count` pairs (low, high) of finite numbers with low < high.

    Raises:
        ModelError: The value is anything else. The message shows all of it.
    """
    pairs = _pairs(value)
    if pairs is None or len(pairs) != count or not all(low < high for low, high in pairs):
        accepted = f"({', '.join(['(low, high)'] * count)}) with low < high, finite"
        raise wrong(where, word, value, accepted)
    return pairs


def points_of(where: str, word: str, value: Any) -> Array:
    """Return pairs of numbers ((v, w), ...) as an array (2, S).

    Raises:
        ModelError: The value is anything else.
    """
    pairs = _pairs(value)
    if not pairs:
        raise wrong(where, word, value, "pairs of numbers, ((v, w), ...)")
    return np.array(pairs).T


def axes_of(where: str, ax: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure of pyplot.

    Raises:
        ModelError: `ax` is neither None nor axes of matplotlib.
        ToolError: matplotlib is not installed.
    """
    require_matplotlib(f"plot.{where}")
    from matplotlib.axes import Axes

    if isinstance(ax, Axes):
        return ax
    if ax is not None:
        raise wrong(f"plot.{where}", "ax", ax, "one Axes, or None for a new figure")
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def _plain(value: Any) -> Any:
    """Return a sequence, or an array, with numbers of Python."""
    value = as_numbers(value)
    if isinstance(value, list | tuple):
        return type(value)([_plain(one) for one in value])
    return value


def _pairs(value: Any) -> list[tuple[float, float]] | None:
    """Return pairs of finite numbers, or None for anything else."""
    found = _plain(value)
    if not isinstance(found, list | tuple) or not all(map(_is_pair, found)):
        return None
    return [(float(a), float(b)) for a, b in found]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_number, value))
