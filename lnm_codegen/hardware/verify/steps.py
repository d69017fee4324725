"""Verification steps of a circuit, run from its folder alone."""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, assert_never

import numpy as np

from lnm_codegen.errors import ModelError, ToolError
from lnm_codegen.hardware.folder import Circuit
from lnm_codegen.hardware.result import Check, StepResult, skipped, verdict
from lnm_codegen.hardware.tools import Completed, missing, run, temporary_folder
from lnm_codegen.hardware.verify.mutation import mutation
from lnm_codegen.hardware.verify.verilog import cocotb, formal, icarus, lint, synthesis, verilator
from lnm_codegen.ir.fixed import nodes as fx
from lnm_codegen.ir.fixed.nodes import SumOp
from lnm_codegen.ir.interpret import Array
from lnm_codegen.ir.interpret import run as interpret
from lnm_codegen.ir.kernel import Role
from lnm_codegen.ir.types import Bits, Rounding
from lnm_codegen.validation import require_known

# Verification step "model": NumPy, the C model and apytypes give the same integers.
#
# apytypes is an independent model of our integers. It shares only the kernel with the NumPy model:
# it aligns binary points, rounds (RND, TRN, RND_CONV) and saturates by itself.


VECTORS, SEED = 20_000, 1
_MODES = {
    Rounding.HALF_UP: "RND", Rounding.TRUNCATE: "TRN", Rounding.CONVERGENT: "RND_CONV",
}  # fmt: skip
_MOST_CORNERS = 5


def model(circuit: Circuit) -> StepResult:
    """Compare the models on random vectors and every combination of corners."""
    if circuit.program is None:
        reason = "there is no program.json in the folder"
        return StepResult("model", (skipped("model", reason),))
    kernel = circuit.program.kernel
    values = vectors(kernel, circuit.coefficients(), VECTORS)
    expected = interpret(kernel, values)
    checks = (_apytypes(kernel, values, expected), _c(circuit, kernel, values, expected))
    return StepResult("model", checks)


def vectors(
    kernel: fx.Kernel, coefficients: dict[str, tuple[int, ...]], count: int
) -> dict[str, Array]:
    """Return integers for each input of a kernel: corners of states and inputs, then random values.

    Coefficients are the folder's in the first half, and random in the second.
    """
    rng = np.random.default_rng(SEED)
    moving = kernel.input_vars(Role.STATE, Role.INPUT)
    corners = [_corners(v, len(moving)) for v in moving]
    grid = np.array(list(itertools.islice(itertools.product(*corners), count // 2)), np.int64)
    found: dict[str, Array] = {}
    for k, var in enumerate(moving):
        drawn = _drawn(var, count, rng)
        drawn[: len(grid)] = grid[:, k]
        found[var.name] = drawn
    for var in kernel.input_vars(Role.PARAM):
        drawn = _drawn(var, count, rng)
        held = coefficients.get(var.name)
        if held:
            drawn[: count // 2] = np.resize(np.array(held, np.int64), count // 2)
        found[var.name] = drawn
    return found


def _corners(var: fx.Var, several: int) -> list[int]:
    low, high = fx.bits_of(var).low, fx.bits_of(var).high
    one = min(1 << fx.bits_of(var).frac, high)
    all_ = [0, low, high, one, -1, 1, low + 1, high - 1, -one]
    return list(dict.fromkeys(all_ if several < _MOST_CORNERS else all_[:3]))


def _drawn(var: fx.Var, count: int, rng: np.random.Generator) -> Array:
    low, high = fx.bits_of(var).low, fx.bits_of(var).high
    wide = rng.integers(low, high, count, endpoint=True)
    near = np.clip(np.rint(rng.normal(0, 1, count) * 2.0 ** fx.bits_of(var).frac), low, high)
    return np.where(rng.random(count) < 0.5, wide, near.astype(np.int64))


def _apytypes(kernel: fx.Kernel, values: dict[str, Array], expected: dict[str, Array]) -> Check:
    name, begun = "NumPy = apytypes", time.monotonic()
    try:
        found = run_apytypes(kernel, values)
    except ToolError as error:
        return skipped(name, str(error).removeprefix("verify: "))
    return _comparison(name, found, expected, time.monotonic() - begun)


def _c(
    circuit: Circuit, kernel: fx.Kernel, values: dict[str, Array], expected: dict[str, Array]
) -> Check:
    name = "NumPy = C"
    header = f"model/{circuit.name}_model_step.h"
    reason: str | None = f"there is no {header} in the folder"
    if (circuit.folder / header).is_file():
        reason = missing("g++")
    if reason:
        return skipped(name, reason)
    begun = time.monotonic()
    given = np.stack([values[p.var.name] for p in kernel.inputs], axis=1).astype(np.int32)
    flags = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror")
    table = run_driver(circuit, driver(circuit.name, kernel), given, flags)
    if isinstance(table, Completed):
        errors = [line for line in table.output.splitlines() if "error" in line]
        detail = errors[0] if errors else table.last_line()
        return Check(name, verdict(False), seconds=table.seconds, detail=detail)
    found = {p.var.name: table[:, k] for k, p in enumerate(kernel.results)}
    return _comparison(name, found, expected, time.monotonic() - begun)


def run_driver(
    circuit: Circuit, text: str, given: Array, flags: Sequence[str], timeout: float = 120
) -> Array | Completed:
    """Compile a program with the C of model/, and run it on the file `given`, rows of integers.

    Return as many rows of the file `taken`, in the same type; or the run that failed.
    """
    with temporary_folder() as folder:
        (folder / "driver.cpp").write_text(text, encoding="utf-8")
        (folder / "given").write_bytes(given.tobytes())
        command = ("g++", *flags, f"-I{circuit.folder / 'model'}", "driver.cpp", "-o", "driver")
        done = run(command, folder, timeout=timeout)
        if done.passed:
            done = run((str(folder / "driver"),), folder, timeout=timeout)
        if not done.passed:
            return done
        return np.fromfile(folder / "taken", given.dtype).reshape(len(given), -1)


def driver(name: str, kernel: fx.Kernel) -> str:
    """Return a program that runs the C model's step on every row of a file of integers."""
    taken = ", ".join(f"row[{k}]" for k in range(len(kernel.inputs)))
    given = ", ".join(f"(int32_t)result.{p.var.name}" for p in kernel.results)
    return f"""#include "{name}_model_step.h"
#include <cstdio>

int main() {{
    std::FILE *from = std::fopen("given", "rb"), *to = std::fopen("taken", "wb");
    int32_t row[{len(kernel.inputs)}];
    if (!from || !to) return 1;
    while (std::fread(row, sizeof row, 1, from) == 1) {{
        const {name}_model_result result = {name}_model_step({taken});
        const int32_t results[] = {{{given}}};
        if (std::fwrite(results, sizeof results, 1, to) != 1) return 1;
    }}
    return std::fclose(to);
}}
"""


def _comparison(name: str, found: Any, expected: dict[str, Array], seconds: float) -> Check:
    count = 0
    for port, array in expected.items():
        count = len(array)
        wrong = np.flatnonzero(np.asarray(found[port]).astype(np.int64) != array.astype(np.int64))
        if len(wrong):
            k = int(wrong[0])
            detail = f"{len(wrong)} of {count} differ in {port}; first at {k}: {array[k]} expected"
            return Check(name, verdict(False), count, seconds, f"{detail}, {found[port][k]} found")
    return Check(name, verdict(True), count, seconds)


def run_apytypes(kernel: fx.Kernel, values: Mapping[str, Any]) -> dict[str, Array]:
    """Evaluate a kernel from `quantize` elementwise, as `ir.interpret.run` does.

    `values` are integers for each input port, which broadcast to one axis. Results are integers, or
    booleans for a spike. Without apytypes a ToolError is raised.
    """
    try:
        import apytypes
    except ImportError:
        raise ToolError(
            "verify", "apytypes is not installed", remedy="Install it: pip install apytypes."
        ) from None
    model = _Model(apytypes, max(np.size(v) for v in values.values()))
    for port in kernel.inputs:
        given = values[port.var.name]
        kind = port.var.type
        model.env[port.var.name] = model.array(given, kind) if isinstance(kind, Bits) else given
    for let in kernel.body:
        model.env[let.target.name] = model.of(let.value)
    results = {p.var.name: model.env[p.var.name] for p in kernel.results}
    return {
        n: np.asarray(v) if isinstance(v, np.ndarray) else model.integers(v)
        for n, v in results.items()
    }


class _Model:
    def __init__(self, library: Any, lanes: int) -> None:
        self._library, self._lanes = library, lanes
        self.env: dict[str, Any] = {}

    def array(self, integers: Any, bits: Bits) -> Any:
        """Return an array of apytypes from integers."""
        spread = np.broadcast_to(np.asarray(integers, np.int64).reshape(-1), (self._lanes,))
        return self._library.APyFixedArray(spread.tolist(), frac_bits=bits.frac, bits=bits.width)

    def integers(self, array: Any) -> Array:
        """Return the integers of an array of apytypes."""
        width = array.bits
        unsigned = [int(k) for k in array.to_bits()]
        return np.array([k - (k >> (width - 1) << width) for k in unsigned], np.int64)

    def of(self, e: fx.Expr) -> Any:
        """Return the value of `e`: an array of apytypes, or NumPy booleans."""
        of = self.of
        match e:
            case fx.Const(integer, bits, _):
                return self.array(integer, bits)
            case fx.Var(name, _):
                return self.env[name]
            case fx.Negate(arg):
                return -of(arg)
            case fx.Sum(op, lhs, rhs):
                return of(lhs) + of(rhs) if op is SumOp.ADD else of(lhs) - of(rhs)
            case fx.Product(lhs, rhs):
                return of(lhs) * of(rhs)
            case fx.Shift(arg, places):
                value = of(arg)
                return value.cast(int_bits=value.int_bits, frac_bits=value.frac_bits + places)
            case fx.Round(arg, places, rounding):
                value = of(arg)
                mode = getattr(self._library.QuantizationMode, _MODES[rounding])
                return value.cast(
                    int_bits=value.int_bits + 1,
                    frac_bits=value.frac_bits - places,
                    quantization=mode,
                )
            case fx.Saturate(arg, width):
                value, mode = of(arg), self._library.OverflowMode.SAT
                return value.cast(bits=width, frac_bits=value.frac_bits, overflow=mode)
            case fx.Compare(compare, lhs, rhs):
                return np.asarray(getattr(operator, compare.name.lower())(of(lhs), of(rhs)))
            case fx.Not(arg):
                return ~of(arg)
            case fx.Both(lhs, rhs):
                return of(lhs) & of(rhs)
            case fx.Either(lhs, rhs):
                return of(lhs) | of(rhs)
            case fx.Select(cond, then, orelse):
                selected = np.where(of(cond), self.integers(of(then)), self.integers(of(orelse)))
                return self.array(selected, fx.bits_of(e))
            case _:
                assert_never(e)


STEPS: dict[str, Callable[[Circuit], StepResult]] = {
    "model": model,
    "lint": lint,
    "icarus": icarus,
    "cocotb": cocotb,
    "verilator": verilator,
    "formal": formal,
    "synthesis": synthesis,
    "mutation": mutation,
}
"""Name -> verification step, in the order of execution."""

SIMULATIONS = ("icarus", "cocotb", "verilator")
"""Steps that simulate the circuit."""

QUICK = ("model", "lint", "icarus")
"""Steps that take seconds."""

TOOLS = ("g++", "iverilog", "verilator", "yosys", "sby", "boolector")
"""Tools whose versions the report states."""


def selected_steps(only: str | None, quick: bool = False) -> tuple[str, ...]:
    """Return the names of the steps that `--only` and `--quick` select, or raise ModelError."""
    if only is None:
        return QUICK if quick else tuple(STEPS)
    names = [word.strip() for word in only.split(",") if word.strip()]
    for name in names or [only]:
        if name not in STEPS and name.startswith("sim"):
            remedy = f"The simulations are {', '.join(SIMULATIONS)}."
            raise ModelError("verify: --only", f"no verification step {name!r}", STEPS, remedy)
        require_known("verify: --only", "verification step", name, STEPS)
    return tuple(name for name in STEPS if name in names)


def run_steps(circuit: Circuit, names: Sequence[str]) -> Iterator[StepResult]:
    """Yield the result of one step after another."""
    for name in names:
        begun = time.monotonic()
        found = STEPS[name](circuit)
        yield replace(found, seconds=time.monotonic() - begun)
