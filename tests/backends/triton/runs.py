"""Run a generated Triton module on arguments of the tests; in Triton's interpreter."""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch

import lnm_codegen as lnm
from lnm_codegen.backends.plan import SIZES, Plan
from lnm_codegen.backends.triton.backend import Triton
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.compiler.interpret import extent_of
from lnm_codegen.ir.nodes import Role
from tests.cases import Results
from tests.strategies import Arguments, distinct, rows_of

FOLDER = Path(tempfile.mkdtemp(prefix="lnm-triton-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


@dataclass(frozen=True)
class Built:
    """A neuron, its plan, and the module that was generated for it."""

    neuron: lnm.Neuron
    plan: Plan
    module: ModuleType


@cache
def build(neuron: lnm.Neuron, dtype: str = "float32") -> Built:
    model = replace(plan_of(neuron), dtype=dtype)
    source = Triton().emit(model)
    folder = FOLDER / str(len(list(FOLDER.iterdir())))
    source.write(folder)
    name = f"generated_{folder.name}_{model.name}"
    spec = importlib.util.spec_from_file_location(name, folder / source.entry)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return Built(neuron, model, module)


def sizes_of(built: Built, shape: tuple[int, ...]) -> dict[str, int]:
    e = extent_of(built.neuron.params, shape)
    values = (shape[0], e.neurons, e.channels * e.inner, e.channels, e.inner)
    if built.plan.finest == "layer":
        values = (shape[0], e.neurons, 1, 1, e.neurons)
    return dict(zip(SIZES, values, strict=True))


def run(
    built: Built,
    a: Arguments,
    stretch: int = 1,
    wanted: bool = True,
    scalar_state: bool = False,
    shift: int = 0,
    sharing: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    **layout: Any,
) -> Results:
    """Run forward and backward; `stretch` spaces the rows of sequences, 0 for one row of x.

    Initial states miss the alignment of vectors by `shift` numbers. `sharing` has inner and count
    of further inputs that neurons share.
    """
    plan, module = built.plan, built.module
    io, real = getattr(torch, plan.dtype), getattr(torch, plan.real)
    shape = a.x_seq[0].shape
    sizes = sizes_of(built, shape)
    steps, neurons = shape[0], sizes["neurons"]

    def sequence(array: np.ndarray) -> tuple[torch.Tensor, int]:
        rows = torch.as_tensor(np.array(array)).to(io).reshape(steps, neurons)
        if stretch == 0:
            return rows[:1].clone(), 0
        wide = torch.full((steps, stretch * neurons), float("nan"), dtype=io)
        wide[:, :neurons] = rows
        return wide, stretch * neurons

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.array(array)).to(real).reshape(-1).contiguous()

    def empty(count: int, kind: torch.dtype = real) -> torch.Tensor:
        return torch.full((count,), float("nan"), dtype=kind)

    table: dict[str, Any] = dict(sizes)
    for s, x in zip(built.neuron.inputs, a.x_seq, strict=True):
        inner, count = sharing.get(s.name, (0, 0))
        table |= {f"{s.name}_inner": inner, f"{s.name}_count": count}
        table[f"{s.name}_seq"], table[f"{s.name}_stride"] = sequence(x)
        if count:
            numbers = torch.as_tensor(distinct(x, inner, count)).to(io)
            table[f"{s.name}_seq"], table[f"{s.name}_stride"] = numbers, count
    for name, value in a.state.items():
        wide = torch.cat([torch.full((shift,), float("nan"), dtype=real), tensor(value)])
        table[f"{name}_init"], table[f"{name}_init_stride"] = wide[shift:], 1
        if scalar_state:
            table[f"{name}_init"], table[f"{name}_init_stride"] = tensor(value)[:1], 0
    for p in built.neuron.params:
        size = rows_of(p.per, shape) + (() if p.size is None else (p.size,))
        table[p.name] = tensor(np.broadcast_to(a.params[p.name], size))
    outputs = plan.forward.result_names(Role.OUTPUT)
    table |= {f"{o}_seq": empty(steps * neurons, io) for o in outputs}
    table |= {f"{s}_final": empty(neurons) if wanted else None for s in plan.states}
    table |= {f"{q}_sum": empty(1, torch.float64) if wanted else None for q in plan.counts}
    table["checkpoints"] = empty(module.checkpoints(steps, neurons))
    module.forward(*(table[n] for n in [*SIZES, *(f.name for f in plan.forward_fields)]), **layout)
    for o, g in zip(outputs, a.grad_out, strict=True):
        keep, stretch = stretch, max(stretch, 1)
        table[f"grad_{o}_seq"], table[f"grad_{o}_stride"] = sequence(g)
        stretch = keep
    for s in plan.states:
        table[f"grad_{s}_final"] = tensor(a.grad_state[s]) if s in a.grad_state else None
        table[f"grad_{s}_init"] = empty(neurons) if wanted else None
    table |= {f"grad_{x}_seq": empty(steps * neurons, io) for x in built.plan.inputs}
    table |= {f"grad_{p.name}": torch.full_like(table[p.name], 7.0) for p in plan.learnable}
    module.backward(*(table[n] for n in [*SIZES, *(f.name for f in plan.backward_fields)]))

    def array(name: str, size: tuple[int, ...]) -> np.ndarray:
        value = table[name]
        value = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
        return value.numpy().reshape(size)

    grads = {x: array(f"grad_{x}_seq", shape) for x in plan.inputs}
    if wanted:
        grads |= {s: array(f"grad_{s}_init", shape[1:]) for s in plan.states}
    for p in plan.learnable:
        size = rows_of(p.per, shape) + (() if p.size is None else (p.size,))
        grads[p.name] = array(f"grad_{p.name}", size)
    finals = {s: array(f"{s}_final", shape[1:]) for s in plan.states} if wanted else {}
    counts = {q: float(table[f"{q}_sum"]) for q in plan.counts} if wanted else {}
    named = {o: array(f"{o}_seq", shape) for o in outputs}
    return Results(named, finals | {f"count {q}": np.float64(c) for q, c in counts.items()}, grads)
