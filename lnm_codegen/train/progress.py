"""Progress of a training run: on a terminal, and as events for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lnm_codegen.errors import ToolError
from lnm_codegen.train.runs.folder import Epoch


class ProgressBar:
    """A progress bar over the steps and a line per epoch; the bar needs a terminal.

    Args:
        console: The console; None prints nothing.
        title: Text before the bar and before each line.
        epochs: Number of epochs of the run.
        lines: Print a line per epoch, beside the bar.
        split: Word for the samples that are tested on.
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
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None, loss=float("nan"))

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_batch(self, done: int, total: int, loss: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, total=total, loss=loss)

    def on_begin(self, done: int) -> None:
        """Print the number of epochs that a resumed run has behind it."""
        if done:
            self._print(f"{done} of {self._epochs} epochs are done")

    def on_epoch(self, epoch: Epoch) -> None:
        """Print the epoch's line."""
        self._print(epoch_text(epoch, self._epochs, self._split))

    def _print(self, text: str) -> None:
        if self._lines:
            self._console.print(f"{self._title}{text}", highlight=False, markup=False)


def percent(share: float) -> str:
    """Return a share in percent: two digits, and no exponent if it is large."""
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def epoch_text(epoch: Epoch, epochs: int, split: str = "test") -> str:
    """Return an epoch as one line; `split` is the word for the samples it was tested on.

    Rates are spikes per neuron and time step, layer by layer. `outside` is the largest share of
    potentials outside the interval in any layer; 0 is left out.
    """
    text = f"epoch {epoch.number:>{len(str(epochs))}}/{epochs}  loss {epoch.loss:.4f}"
    parts = (
        ("train", epoch.train_accuracy, None, epoch.train_metric),
        (split, epoch.test_accuracy, epoch.test_loss, epoch.test_metric),
    )
    for word, accuracy, loss, metric in parts:
        text += "" if loss is None else f"  {word} loss {loss:.4f}"
        text += "" if accuracy is None else f"  {word} {100 * accuracy:5.1f} %"
        text += "" if metric is None else f"  {word} metric {metric:.4f}"
    if epoch.is_tested:
        text += f"  rates {' '.join(f'{r:.3f}' for r in epoch.rates)}"
        if any(epoch.outside):
            text += f"  outside {percent(max(epoch.outside))}"
    return f"{text}  {epoch.seconds:.1f} s"


def summary_writer() -> Any:
    """Return the class that writes events for TensorBoard, or raise ToolError without it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ToolError(
            "train",
            "tensorboard is not installed",
            remedy="Run pip install tensorboard, or leave tensorboard out; metrics.csv has the"
            " same numbers.",
        ) from None
    return SummaryWriter


class TensorBoardEvents:
    """Curves of a run as TensorBoard events; the package `tensorboard` is an optional extra.

    Args:
        folder: Folder of the events; None writes nothing.

    Raises:
        ToolError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None if folder is None else summary_writer()(str(folder))

    def on_epoch(self, epoch: Epoch) -> None:
        """Write the metrics of an epoch."""
        if self._writer is None:
            return
        found = {
            "loss": epoch.loss, "loss/test": epoch.test_loss,
            "accuracy/train": epoch.train_accuracy, "accuracy/test": epoch.test_accuracy,
            "metric/train": epoch.train_metric, "metric/test": epoch.test_metric,
        }  # fmt: skip
        values = {name: value for name, value in found.items() if value is not None}
        values |= {f"firing_rate/{k + 1}": r for k, r in enumerate(epoch.rates)}
        values |= {f"outside/{k + 1}": r for k, r in enumerate(epoch.outside)}
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch.number)
        self._writer.flush()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._writer is not None:
            self._writer.close()
