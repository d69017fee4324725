"""The C++ compiler of this machine: its command, its flags, the CPU, and whether it has OpenMP."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lnm_codegen.backends.c.backend import FLAGS
from lnm_codegen.errors import ToolError, reason

OPENMP = "-fopenmp"
"""Flag of threads and SIMD."""
SIMD = "-fopenmp-simd"
"""Flag that replaces it where the compiler lacks OpenMP's library: SIMD, one thread."""

_PROBE = """#include <omp.h>
int lnm_probe() {
    int n = 0;
#pragma omp parallel reduction(+ : n)
    n += omp_get_num_threads();
    return n;
}
"""
_SECONDS = 60


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: its command and the first line of its `--version`."""

    command: tuple[str, ...]
    version: str

    @property
    def path(self) -> str:
        """The executable."""
        return self.command[0]


@cache
def compiler() -> Compiler:
    """Return the C++ compiler: $CXX (with arguments, such as "ccache g++"), g++ or clang++.

    Raises:
        ToolError: None is found, or the system is Windows.
    """
    if sys.platform == "win32":
        raise ToolError("c", "Windows has no C kernels", remedy="Use backend='torch'.")
    wanted = os.environ.get("CXX")
    try:
        commands = [shlex.split(wanted)] if wanted else [["g++"], ["clang++"], ["c++"]]
    except ValueError as error:
        raise ToolError(
            "c", f"CXX is {wanted!r}: {reason(error)}", remedy="Give a command, such as g++."
        ) from None
    for words in commands:
        path = shutil.which(words[0]) if words else None
        if path:
            return _with_version((os.path.abspath(path), *words[1:]))  # builds run elsewhere
    raise ToolError(
        "c",
        f"no C++ compiler found ({wanted or 'g++, clang++ or c++'})",
        remedy="Install g++, or use backend='torch'.",
    )


def _with_version(command: tuple[str, ...]) -> Compiler:
    try:
        shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolError(
            "c", f"{command[0]} cannot be run: {reason(error)}", remedy="Set CXX to a C++ compiler."
        ) from None
    return Compiler(command, shown.stdout.splitlines()[0] if shown.stdout else command[0])


@cache
def openmp_error(tool: Compiler) -> str | None:
    """Return why a library with OpenMP does not build, or None if it does."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.cpp")
            source.write_text(_PROBE, encoding="utf-8")
            command = [*tool.command, OPENMP, "-shared", "-fPIC", str(source)]
            done = subprocess.run(
                [*command, "-o", f"{folder}/probe"],
                capture_output=True, text=True, timeout=_SECONDS, check=False,
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return reason(error)
    if done.returncode == 0:
        return None
    lines = [x for x in done.stderr.splitlines() if "error" in x] or ["no message"]
    return lines[0].rpartition("error: ")[2]


def flags() -> tuple[str, ...]:
    """Return the compiler flags: AVX-512 in whole vectors where the CPU has it."""
    wide = ("-mprefer-vector-width=512",) if "avx512f" in cpu() else ()
    return (*FLAGS, *wide)


@cache
def cpu() -> str:
    """Return the CPU's model and features, on which `-march=native` depends."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    lines = [x for x in text.splitlines() if x.startswith(("flags", "Features", "model name"))]
    return "\n".join(dict.fromkeys(lines))
