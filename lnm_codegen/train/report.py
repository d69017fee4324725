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
        split: The word for the samples that are tested on.
    """

    def __init__(
        self,
        console: Console | None,
        title: str,
        epochs: int,
        lines: bool = True,
        split: str = "test",
    ) -> None:
        self._split = split
        self._console = console or Console(quiet=True)
        self._title, self._epochs, self._lines = title, epochs, lines
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None, loss=float("nan"))

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

    def on_batch(self, done: int, total: int, loss: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=total, loss=loss)

    def on_begin(self, done: int) -> None:
        """Say where a run goes on."""
        if self._lines and done:
            said = f"{done} of {self._epochs} epochs are done"
            self._console.print(f"{self._title}{said}", highlight=False)

    def on_epoch(self, epoch: Epoch) -> None:
        """Print the epoch's line."""
        if self._lines:
            said = epoch_text(epoch, self._epochs, self._split)
            self._console.print(f"{self._title}{said}", highlight=False)


def percent(share: float) -> str:
    """Return a share in percent: two digits, and no exponent where it is large."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def epoch_text(epoch: Epoch, epochs: int, split: str = "test") -> str:
    """Return an epoch as one line; `split` is the word for the samples it was tested on.

    Rates are spikes per neuron and step, layer by layer; `outside`, said where it is not 0, is the
    largest share of potentials outside the interval in any layer.
    """
    text = (
        f"epoch {epoch.number:>{len(str(epochs))}}/{epochs}  loss {epoch.loss:.4f}"
        f"  train {100 * epoch.train_accuracy:5.1f} %"
    )
    if epoch.test_accuracy is not None:
        text += f"  {split} {100 * epoch.test_accuracy:5.1f} %"
        text += f"  rates {' '.join(f'{r:.3f}' for r in epoch.rates)}"
        if any(epoch.outside):
            text += f"  outside {percent(max(epoch.outside))}"
    return f"{text}  {epoch.seconds:.1f} s"
