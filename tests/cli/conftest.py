"""The command line in this process, tables of its refusals, and a folder of small runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lnm_codegen.cli import run
from lnm_codegen.train import TrainConfig, load
from lnm_codegen.train import run as train
from tests.refusals import assert_line

Call = Callable[..., tuple[int, str, str]]
SMALL = TrainConfig(
    arguments={"degree": 3}, network_arguments={"channels": (2, 3), "time_steps": 2}, epochs=1,
    batch=16, limit=32, backend="torch", threads=1,
)  # fmt: skip
DENSE = TrainConfig(
    family="lif", network="feedforward", network_arguments={"hidden": (24,), "time_steps": 3},
    epochs=4, batch=32, limit=400, lr=0.02, backend="torch", threads=1,
)  # fmt: skip


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line: status, standard output, standard error."""

    def call_(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([str(a) for a in arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call_


@pytest.fixture
def refuses(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Expect exit status 2, one line and no change of a file for each row of a table.

    A line at the margin begins the commands of the rows below it. A row is indented: `options >>
    place >> problem >> ...`, parts of the line in this order, the first at its beginning. A line
    that is indented further continues the one before. The working folder is `tmp_path`.
    """
    monkeypatch.chdir(tmp_path)

    def refuses_(table: str) -> None:
        begin, failed, count = "", [], 0
        for line in re.sub(r"\n {5,}", " ", table).strip("\n").splitlines():
            if not line.startswith(" "):
                begin = line
                continue
            options, *parts = (part.strip() for part in line.split(">>"))
            command, before = f"{begin} {options}", files_below(tmp_path)
            found = call(*shlex.split(command))
            count += 1
            try:
                assert found[:2] == (2, ""), found
                assert_line(found[2], *parts)
                assert files_below(tmp_path) == before, "files"
            except AssertionError as error:
                failed.append(f"{command}: {error}")
        assert not failed, "\n".join(failed)
        assert count

    return refuses_


def files_below(folder: Path) -> dict[str, bytes]:
    """Return path below a folder -> content; that of a folder or a link is empty."""
    found = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*"))}
    return {name: p.read_bytes() if p.is_file() else b"" for name, p in found.items()}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that no test changes but for `analysis.html`.

    Two neuron layers on images: lnm3, lif, per and neuron (theta per channel, per neuron), wide
    (lif in a wider network), few (lif on fewer samples). On vectors: dense.
    """
    folder = tmp_path_factory.mktemp("runs")
    lif = replace(SMALL, family="lif", arguments={"decay_input": False})
    line = replace(SMALL, arguments={"degree": 1})
    wider = {"channels": (2, 4), "time_steps": 2}
    for name, config in {
        "lnm3": SMALL,
        "lif": lif,
        "per": replace(line, arguments={"degree": 1, "per": "channel"}),
        "neuron": replace(line, arguments={"degree": 1, "per": "neuron"}),
        "wide": replace(lif, network_arguments=wider),
        "few": replace(lif, limit=16),
        "dense": DENSE,
    }.items():
        train(config, folder / name, data=load("digits", limit=config.limit))
    return folder
