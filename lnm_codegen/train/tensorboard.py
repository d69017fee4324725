"""The curves of a run as TensorBoard's events; the package `tensorboard` is an optional extra."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from lnm_codegen.errors import ToolError
from lnm_codegen.train.engine import Epoch


class Events:
    """Writes `<run>/events` while it is open.

    Args:
        folder: Of the run; None writes nothing.

    Raises:
        ToolError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ToolError(
                "train",
                "tensorboard is not installed",
                remedy=(
                    "Run pip install tensorboard, or leave tensorboard out; metrics.csv has the same "
                    "numbers."
                ),
            ) from None
        self._writer = SummaryWriter(str(folder / "events"))

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def on_epoch(self, epoch: Epoch) -> None:
        """Write an epoch's numbers."""
        if self._writer is None:
            return
        values = {"loss": epoch.loss, "accuracy/train": epoch.train_accuracy}
        if epoch.test_accuracy is not None:
            values["accuracy/test"] = epoch.test_accuracy
        values |= {f"firing_rate/{k + 1}": r for k, r in enumerate(epoch.rates)}
        values |= {f"outside/{k + 1}": r for k, r in enumerate(epoch.outside)}
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch.number)
        self._writer.flush()
