"""Progress on a terminal: a bar over the steps and a line per epoch."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lnm_codegen.train.engine import Epoch


class Report:
    """Shows a run while it is open; a line per epoch where the output is no terminal.

    Args:
        console: Where to; None for silence.
        title: What stands before the bar and each line.
        epochs: How many there will be.
        lines: Print a line per epoch, beside the bar.
    """

    def __init__(
        self, console: Console | None, title: str, epochs: int, lines: bool = True
    ) -> None:
        self._console = console or Console(quiet=True)
        self._title, self._epochs, self._lines = title, epochs, lines
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def on_batch(self, done: int, total: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=total)

    def on_epoch(self, epoch: Epoch) -> None:
        """Print the epoch's line."""
        if self._lines:
            self._console.print(f"{self._title}{epoch_text(epoch, self._epochs)}", highlight=False)


def epoch_text(epoch: Epoch, epochs: int) -> str:
    """Return an epoch as one line; rates are spikes per neuron and step, layer by layer."""
    rates = " ".join(f"{r:.3f}" for r in epoch.rates)
    return (
        f"epoch {epoch.number:>{len(str(epochs))}}/{epochs}  loss {epoch.loss:.4f}"
        f"  train {100 * epoch.train_accuracy:5.1f} %  test {100 * epoch.test_accuracy:5.1f} %"
        f"  rates {rates}  {epoch.seconds:.1f} s"
    )
