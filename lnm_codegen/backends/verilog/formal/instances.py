"""Instances and source files of a core, as the proofs read them from its text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lnm_codegen.backends.verilog.parts import CircuitDesign


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance in the core: its module without the prefix, its name, its parameters."""

    module: str
    name: str
    parameters: Mapping[str, int]


def instances_of(name: str, core: str) -> tuple[Instance, ...]:
    """Return the instances in the text of a core."""
    pattern = re.compile(rf"{name}_(\w+) #\((.*)\)\s+(\w+) \(")
    return tuple(
        Instance(m[1], m[3], {k: int(v) for k, v in re.findall(r"\.(\w+)\((\d+)\)", m[2])})
        for m in pattern.finditer(core)
    )


def widest(instances: tuple[Instance, ...]) -> int:
    """Return one bit more than the widest factor, so that a box extends every factor."""
    widths = [v for i in instances for k, v in i.parameters.items() if k in ("A_WIDTH", "B_WIDTH")]
    return max(widths, default=1) + 1


def sources_of(design: CircuitDesign, files: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files of the core, relative to formal/."""
    words = ("mul", "delay", "clamp", "step", "core")
    paths = [f"rtl/{design.name}_{word}.v" for word in words]
    paths += [p for p in files if p.startswith("sim/")]
    return tuple(f"../{p}" for p in paths if p in files)


def base_names(paths: tuple[str, ...]) -> str:
    """Return the names of files without their folders: sby copies all files into one folder."""
    return " ".join(p.rpartition("/")[2] for p in paths)
