"""Figures of matplotlib, drawn without a display. The extra `train` installs matplotlib."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from lnm_codegen.validation import require_package

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def require_matplotlib(where: str) -> None:
    """Raise ToolError, with the command that installs it, if matplotlib is not installed."""
    require_package(where, "matplotlib", "matplotlib", extra="train")


def new_figure(where: str, width: float, height: float) -> Figure:
    """Return an empty figure, in inches.

    Raises:
        ToolError: matplotlib is not installed.
    """
    require_matplotlib(where)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, dpi: int = 100) -> bytes:
    """Return a figure as PNG."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=dpi)
    return data.getvalue()
