"""Folder of a training run.

    config.json               the config, the versions, and the origin: see `origin`
    metrics.csv               a row per epoch
    model.safetensors         the network after the last epoch
    history.safetensors       the neurons' parameters after each epoch, `<layer>.<parameter>`
    checkpoint.safetensors    everything that `--resume` needs: tensors, and JSON ("facts")
    figure.png                the learned curves, written at the end
    neuron.toml               the definition of a neuron from a file or module: see `config`
    events/                   for TensorBoard, if `tensorboard` is set
    .lock                     while a run writes into the folder: see `claimed`

Every file is written whole and then renamed, so an interrupted run leaves the files of its last
complete epoch. A reader never unpickles anything. PyTorch is imported where tensors are read or
written, so that `lnm train` refuses a folder before it loads PyTorch.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, FileLock, Timeout

from lnm_codegen.analysis.canvas import png
from lnm_codegen.errors import LnmError, ModelError, reason
from lnm_codegen.files import unreadable, unwritable, write_whole
from lnm_codegen.options import VERSION
from lnm_codegen.train.runs.config import (
    AUTO,
    DEFINITION,
    MEASURED,
    OWN,
    TrainConfig,
    read_json,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from lnm_codegen.train.stability.layers import Unstable

EVENTS = "events"
CHECKPOINT = "checkpoint.safetensors"
MODEL = "model.safetensors"
HISTORY = "history.safetensors"
FILES = ("config.json", "metrics.csv", MODEL, HISTORY, CHECKPOINT, "figure.png", DEFINITION)
"""Names of the files of a run."""
LOCK = ".lock"
REMEDY = "Replace the run with --force in place of --resume, or choose another folder with --out."
_CHOOSE = "Choose another folder with --out."
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of `flock` on a file system without locks, such as NFS without its daemon."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Results of one pass over the training samples.

    Attributes:
        number: 1 for the first.
        loss: Mean loss over the predictions that `train_accuracy` counts, without the penalty.
        train_accuracy: Share of correct predictions on the training samples during the pass; one
            prediction per sample, or per time step if each step has a label. None where a `metric`
            takes its place, and for targets that are no classes.
        test_accuracy: Share of correct predictions on the test samples after the epoch; None also
            if the epoch was not tested. With `validation` it is the validation accuracy.
        rates: Spikes per neuron and time step in each neuron layer, on the test samples.
        outside: Share of the charged potentials of each neuron layer that a clamp v_min holds,
            diverged or NaN, on the test samples.
        seconds: Duration of the training, without the test.
        unstable: Unstable rows of each neuron layer, after the last epoch of a run; else empty.
        test_loss: Mean loss on the test samples, of a loss function of your own; else None.
        train_metric: Mean of the `metric` over the batches, weighted by their samples; None
            without a metric.
        test_metric: The same on the test samples.
    """

    number: int
    loss: float
    train_accuracy: float | None
    test_accuracy: float | None
    rates: tuple[float, ...]
    outside: tuple[float, ...]
    seconds: float
    unstable: tuple[Unstable, ...] = ()
    test_loss: float | None = None
    train_metric: float | None = None
    test_metric: float | None = None

    @property
    def is_tested(self) -> bool:
        """The network was tested after the epoch."""
        return any(v is not None for v in (self.test_accuracy, self.test_loss, self.test_metric))


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Under `claimed`, call `require_free` or `resumable`, then `create`, then `save_*`.
    """

    path: Path

    def require_free(self, force: bool = False) -> None:
        """Raise ModelError unless the folder is empty or absent; with `force` it may hold files."""
        require_free(self.path, force)

    def resumable(self, config: TrainConfig | None) -> TrainConfig | None:
        """Return the config of the run in the folder, or None if the folder is empty.

        `config` may have the default family where the network of the run has neurons of its own.

        Raises:
            ModelError: The folder holds something else, or a run of another config than `config`.
        """
        if not is_taken(self.path):
            return None
        found = read_json(self.path / "config.json", REMEDY)
        files = (self.path / MODEL, self.path / CHECKPOINT)
        if files[0].exists() and not files[1].exists():
            problem = f"{self.path} holds a trained network, but no {CHECKPOINT}"
            raise ModelError("train", problem, remedy=REMEDY)
        if config is None:
            return found
        if found.family == OWN:
            from lnm_codegen.train.models.own import require_no_family, with_own_neurons

            require_no_family(config, f"network: {config.network}")
            config = with_own_neurons(config)
        want, have = (json.loads(_json(c.as_json())) for c in (config, found))
        for name, value in want.items():
            if have[name] != value and not (name in MEASURED and value == AUTO):
                raise ModelError(
                    "train",
                    f"{self.path} holds a run whose {name} is {have[name]!r}, not {value!r}",
                    remedy="Resume it with its own config, or choose another folder with --out.",
                )
        return config

    def measured(self, config: TrainConfig) -> TrainConfig:
        """Return a config with what the run in the folder found to be the fastest."""
        found = read_json(self.path / "config.json", REMEDY)
        own: dict[str, Any] = {
            name: getattr(found, name) for name in MEASURED if getattr(config, name) == AUTO
        }
        return replace(config, **own)

    def create(
        self, config: TrainConfig, origin: Mapping[str, Any], definition: str | None = None
    ) -> None:
        """Make the folder, delete the files of an earlier run, and write config.json.

        A text `definition` becomes neuron.toml.
        """
        import torch

        versions = {
            "lnm_codegen": VERSION,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (*FILES, "analysis.html"):
                (self.path / name).unlink(missing_ok=True)
            for file in (self.path / EVENTS).glob("events.out.tfevents.*"):
                file.unlink()
            with suppress(OSError):  # it is absent, or holds other files
                (self.path / EVENTS).rmdir()
        except OSError as error:
            raise unusable(self.path, error) from None
        self.sweep()
        content = {"config": config.as_json(), "versions": versions, "origin": origin}
        self._write("config.json", _json(content) + "\n")
        if definition is not None:
            self._write(DEFINITION, definition)

    def sweep(self) -> None:
        """Delete the temporary files of killed writes."""
        try:
            for file in unfinished(self.path):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise unusable(self.path, error) from None

    def save_metrics(
        self,
        epochs: Sequence[Epoch],
        layers: int,
        counted: Sequence[int] = (),
        further: Sequence[str] = (),
    ) -> None:
        """Write metrics.csv: a row per epoch, numbers as the shortest text that reads back.

        Args:
            epochs: The epochs so far.
            layers: Number of neuron layers.
            counted: Indices of the layers with a column of diverging rows.
            further: Further fields of an epoch, each a column at the end.
        """
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rates = [f"firing_rate_{k + 1}" for k in range(layers)]
        outside = [f"outside_{k + 1}" for k in range(layers)]
        names = ("epoch", "loss", "train_accuracy", "test_accuracy", *rates, *outside, "seconds")
        rows.writerow([*names, *(f"diverging_{k + 1}" for k in counted), *further])
        for e in epochs:
            tested = (*e.rates, *e.outside) or ("",) * (2 * layers)
            found = [e.unstable[k].diverging if e.unstable else "" for k in counted]
            found += [getattr(e, name) for name in further]
            accuracies = (e.train_accuracy, e.test_accuracy)
            rows.writerow([e.number, e.loss, *accuracies, *tested, round(e.seconds, 3), *found])
        self._write("metrics.csv", text.getvalue())

    def save_tensors(
        self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, object] | None = None
    ) -> None:
        """Write a safetensors file: the checkpoint, the model or the history."""
        self._write(name, packed(tensors, facts))

    def save_figure(self, figure: Figure) -> None:
        """Write figure.png."""
        self._write("figure.png", png(figure, 120))

    def _write(self, name: str, data: str | bytes) -> None:
        try:
            write_whole(self.path / name, data)
        except OSError as error:
            raise unusable(self.path, error) from None


def _json(value: object) -> str:
    return json.dumps(value, indent=2, default=str)


# Files of tensors.


def packed(tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> bytes:
    """Return the bytes of a safetensors file; facts are JSON, which keeps floats exactly."""
    from safetensors.torch import save

    copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    return save(copies, metadata=None if facts is None else {"facts": json.dumps(facts)})


def read_tensors(task: str, path: Path, remedy: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; errors name the task and the path.

    Raises:
        ModelError: The file cannot be read, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with path.open("rb"):  # the error of safetensors would not name the path
            pass
        return load_file(path)
    except OSError as error:
        raise unreadable(f"{task}: {path}", error, remedy) from None
    except (SafetensorError, ValueError, KeyError) as error:
        problem = f"not a complete safetensors file: {reason(error)}"
        raise ModelError(f"{task}: {path}", problem, remedy=remedy) from None


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and facts, or None if the folder has no checkpoint.

    Raises:
        ModelError: The file is damaged, or not a checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if not isinstance(facts, dict) or type(facts.get("epoch")) is not int:
            raise ValueError("the number of its last epoch is missing")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        problem = f"incomplete checkpoint: {reason(error)}"
        raise ModelError(f"train: {path}", problem, remedy=REMEDY) from None
    return tensors, facts


# Claim of a run folder: one run at a time writes into it.


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a run folder and hold its lock; at the end, delete the lock and folders left empty.

    A file system without locks is used without one, or with a file that a killed run leaves.

    Raises:
        ModelError: Another run holds the lock, or the folder cannot be made.
    """
    require_folder(folder)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(lock)
    except Timeout:
        remedy = f"Wait until it ends. If none is running, delete {folder / LOCK}."
        raise ModelError("train", f"another run is writing into {folder}", remedy=remedy) from None
    except OSError as error:
        raise unusable(folder, error) from None
    try:
        yield
    finally:
        with suppress(OSError):  # the folder was deleted meanwhile, or is read-only now
            (folder / LOCK).unlink()  # before the release: afterwards it may be another run's
        lock.release()
        with suppress(OSError):  # it is not empty
            for place in made:
                place.rmdir()


def _acquire(lock: BaseFileLock) -> None:
    """Acquire a lock, unless the file system has none."""
    try:
        lock.acquire()
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def require_free(path: Path, force: bool = False) -> None:
    """Raise ModelError unless a folder is empty or absent; with `force` it may hold files."""
    if is_taken(path) and not force:
        raise ModelError(
            "train",
            f"{path} is not empty",
            remedy="Choose another folder with --out, resume the run in it with --resume, or"
            " replace it with --force.",
        )


def is_taken(path: Path) -> bool:
    """Report whether a folder holds files, other than a lock and those of killed writes of a run.

    Raises:
        ModelError: The path is no folder, or the folder cannot be read.
    """
    require_folder(path)
    try:
        return path.is_dir() and not set(path.iterdir()) <= {*unfinished(path), path / LOCK}
    except OSError as error:
        raise unusable(path, error) from None


def require_folder(path: Path) -> None:
    """Raise ModelError if a path is no folder; it may be absent."""
    try:
        is_other = path.exists() and not path.is_dir()
    except OSError as error:
        raise unusable(path, error) from None
    if is_other:
        remedy = "Choose another with --out."
        raise ModelError("train", f"{path} is not a folder", remedy=remedy)


def unfinished(path: Path) -> list[Path]:
    """Return the temporary files of `write_whole` that killed writes of a run left.

    `tempfile.mkstemp` ends their names with 8 characters; `.config.json.swp` is an editor's.
    """
    return [file for name in FILES for file in path.glob(f".{name}.{'?' * 8}")]


def unusable(path: Path, error: OSError) -> LnmError:
    """Return the error of a folder that the system refuses to read or to write."""
    return unwritable("train", path, error, _CHOOSE)
