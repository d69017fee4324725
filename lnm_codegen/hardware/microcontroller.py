"""Bytes of code of generated C on a Cortex-M4, measured with GCC for Arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lnm_codegen.errors import ToolError
from lnm_codegen.hardware.tools import find, run, temporary_folder

COMPILER = "arm-none-eabi-gcc"
FLAGS = ("-std=c99", "-O2", "-mcpu=cortex-m4", "-mthumb", "-ffreestanding")


@dataclass(frozen=True, slots=True)
class ProgramSize:
    """Bytes of the sections of an object file."""

    code: int  # .text
    constants: int  # .rodata
    memory: int  # .data and .bss


def program_size(files: Mapping[str, str], entry: str) -> ProgramSize | None:
    """Return the size of a C file, compiled beside its headers; None without the compiler.

    Raises:
        ToolError: The compiler refuses the file.
    """
    if find(COMPILER) is None:
        return None
    with temporary_folder() as folder:
        for name, text in files.items():
            if "/" not in name:
                (folder / name).write_text(text, encoding="utf-8")
        done = run([COMPILER, *FLAGS, "-c", "-o", "program.o", entry], folder)
        if not done.passed:
            raise ToolError(COMPILER, done.last_line())
        return _sections(folder)


def _sections(folder: Path) -> ProgramSize:
    program = str(Path(find(COMPILER) or COMPILER).with_name("arm-none-eabi-size"))
    done = run([program, "-A", "program.o"], folder)
    if not done.passed:
        raise ToolError("arm-none-eabi-size", done.last_line())
    sizes = {"text": 0, "rodata": 0, "data": 0, "bss": 0}
    for line in done.output.splitlines():
        words = line.split()
        section = words[0].removeprefix(".").split(".")[0] if words else ""
        if section in sizes:
            sizes[section] += int(words[1])
    return ProgramSize(sizes["text"], sizes["rodata"], sizes["data"] + sizes["bss"])
