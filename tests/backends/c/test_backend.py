"""The C backend: text that compiles without a warning, functions within their ulp, refusals."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.backends import expr
from lnm_codegen.backends.c.backend import FLAGS
from lnm_codegen.backends.c.expr import CDialect, math_functions
from lnm_codegen.compiler.emit import plan_of
from lnm_codegen.ir import nodes as ir
from lnm_codegen.ir.interpret import evaluate
from lnm_codegen.ir.nodes import Kernel, Let, Phase, Port, Role, Var
from lnm_codegen.ir.types import BOOL
from lnm_codegen.nn.load.c import build, compiler
from lnm_codegen.options import DtypeName, TargetName
from tests.backends.test_expr import TABLE
from tests.cases import CASES, FEW, layer_of
from tests.refusals import refused
from tests.strategies import Arguments

pytestmark = pytest.mark.needs_cc

STRICT = ["-Wall", "-Wextra", "-Werror"]
SYNTAX = ["-std=c++17", "-fsyntax-only", *STRICT]


def check_output(command: list[Any], folder: Path) -> str:
    """Run a command; a failure shows what it said."""
    done = subprocess.run(
        [str(c) for c in command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def c_compiler() -> str:
    path = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if path is None:
        pytest.skip("no C compiler found (gcc, clang, cc)")
    return path


def unread() -> lnm.Neuron:
    """A neuron without parameters, with a state that no expression reads."""
    v, u, x = lnm.state("v"), lnm.state("u"), lnm.input("x")
    return lnm.Neuron(charge={v: v / 2 + x}, fire=v - 1, reset={u: lnm.spike}, name="unread")


def named(word: str) -> lnm.Neuron:
    v, x, p = lnm.state("v"), lnm.input("x"), lnm.param(word, init=0.5)
    return lnm.Neuron(charge={v: p * v + x}, fire=v - 1, reset=lnm.hard_reset(v), name="mine")


# ---- the text ----


NO_FLOAT16 = ["-fopenmp", "-U__FLT16_MANT_DIG__", "-D_Float16=none"]


@pytest.mark.parametrize(
    ("make", "options", "more"),
    [
        (unread, {}, ["-fopenmp"]),
        (lambda: lnm.get("lif"), {}, ["-fopenmp-simd"]),  # one thread
        (lambda: lnm.get("lif"), {"spec": lnm.Fixed(16, 12)}, ["-fopenmp-simd"]),
        # as g++ before 12 and clang++ before 15 on x86-64
        (lambda: lnm.get("if"), {"dtype": "float16"}, NO_FLOAT16),
    ],
    ids=["unread", "one thread", "integers", "no float16"],
)
def test_no_warning(make: Any, options: Any, more: list[str], tmp_path: Path) -> None:
    """Beyond `test_c_names.py`, which reads every case in every type without OpenMP."""
    source = lnm.emit(make(), "c", **options)
    source.write(tmp_path)
    entry = next(name for name in source.files if name.endswith(".cpp"))
    check_output([compiler().path, *SYNTAX, *more, entry], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["lif", "lnm-4"])
def test_no_warning_of_the_optimiser(case: str, tmp_path: Path) -> None:
    """With the flags that kernels are built with, too: uninitialised values show only there."""
    source = lnm.emit(CASES[case](), "c")
    source.write(tmp_path)
    check_output([compiler().path, *FLAGS, *STRICT, "-o", "x.so", source.entry], tmp_path)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c == "dendrite" else pytest.mark.slow) for c in FEW]
)
def test_the_example_prints_what_the_layer_computes(case: str, tmp_path: Path) -> None:
    """The caller in C99 against the layer: sums of outputs and input gradients."""
    neuron = CASES[case]()
    lnm.emit(neuron, "c").write(tmp_path)
    library = build(plan_of(neuron))
    command = [c_compiler(), "-std=c99", "example.c", library, f"-Wl,-rpath,{library.parent}"]
    check_output([*command, "-o", "example"], tmp_path)
    printed = check_output(["./example"], tmp_path)
    shown = dict(re.findall(r"^(?:sum of )?(\w+(?:\[\d+\])?) (\S+)$", printed, re.MULTILINE))

    k = torch.arange(20 * 30).reshape(20, 2, 3, 5)
    xs = [((k % 97) / 48 - 0.5).float().requires_grad_() for _ in neuron.inputs]
    x = tuple(x.detach().numpy() for x in xs)
    layer = layer_of(neuron, Arguments(x, {}, {}, ()), "c", torch.float32)
    out = layer(*xs)
    outs = out if isinstance(out, tuple) else (out,)
    sum(o.sum() for o in outs).backward()
    names = lnm.lower(neuron).forward.result_names(Role.OUTPUT)
    expected = dict(zip(names, outs, strict=True))
    expected |= {f"grad_{s.name}": x.grad for s, x in zip(neuron.inputs, xs, strict=True)}
    for name, array in expected.items():
        values = array.detach().double()
        close = pytest.approx(float(values.sum()), rel=1e-5, abs=2e-6 * float(values.abs().sum()))
        assert float(shown[name]) == close
    for p in neuron.params:
        grads = getattr(layer, p.name).grad.reshape(-1) if p.learnable else torch.zeros(0)
        for i, grad in enumerate(grads.tolist()):
            assert float(shown[f"grad_{p.name}[{i}]"]) == pytest.approx(grad, 1e-4, 1e-5)


@pytest.mark.slow
def test_the_commands_in_the_example_work(tmp_path: Path) -> None:
    """What example.c tells its reader to type, typed, for a kernel with the example's name."""
    source = lnm.emit(lnm.get("lif"), "c", name="example")
    source.write(tmp_path)
    comment = source.files["example.c"].split("*/")[0]
    script = "\n".join(re.findall(r"^ \*     (.*)$", comment, re.MULTILINE))
    assert script.count("g++") == 2
    assert check_output(["sh", "-ec", script], tmp_path).startswith("sum of spike ")


def test_the_name_of_a_surrogate_is_no_text_of_a_file() -> None:
    """Any text is a name; one with the end of a comment would add code."""
    slope = lnm.surrogate.from_slope(lambda z: 1 / (1 + z**2), "*/ evil")
    source = lnm.emit(lnm.get("lif", surrogate=slope), "c")
    assert " *     slope   d spike/dz = 1/(z**2 + 1)\n" in source.files["lif.h"]
    assert not any("evil" in text for text in source.files.values())


@pytest.mark.parametrize("backend", ["c", "cuda"])
def test_files(backend: TargetName) -> None:
    """`name` names the files and every function in them."""
    source = lnm.emit(lnm.get("lif"), backend, name="mine")
    layout = ["mine_step.h", "mine_layout.h", "mine.cu", "mine_launch.h", "mine_launch.cpp"]
    both = {
        "c": (["mine_step.h", "mine.h", "mine.cpp", "example.c"], "mine.cpp"),
        "cuda": ([*layout, "example.cpp"], "mine.cu"),
    }
    assert ([*source.files], source.entry) == both[backend]
    for text in source.files.values():
        assert "lif_" not in text.replace("`lif`", "")
        assert not re.search(r"[ \t]+$|\n\n\n", text, re.MULTILINE)


def test_names_that_meet_are_refused() -> None:
    """A parameter called as a field of the interface is: once an error of the C++ compiler."""
    rows = "checkpoints x_seq x_stride v_init v_final spike_seq inner threads time_steps neurons"
    for word in (*rows.split(), "sample", "channels"):
        problem = f"arguments of the kernels have the name {word!r}"
        with refused(lnm.UnsupportedError, "mine", problem, remedy="Rename"):
            lnm.emit(named(word), "c")
    with refused(lnm.UnsupportedError, "mine", "have the name 'checkpoints'", remedy="Rename"):
        lnm.emit(named("checkpoints"), "cuda")
    for macro in ("MINE_ABI", "MINE_TILE", "MINE_LAUNCH_H"):
        with refused(lnm.UnsupportedError, "cuda: mine", f"the name '{macro}'", remedy="Rename"):
            lnm.emit(named(macro), "cuda")


@pytest.mark.slow
@pytest.mark.parametrize("word", ["tiles", "p", "a", "tile", "row", "n", "w_rows", "total_w", "k"])
def test_names_that_the_loops_use_are_free(word: str, tmp_path: Path) -> None:
    """The template's own words do not meet the model's, per channel either."""
    source = lnm.emit(named(word).with_per("channel"), "c")
    source.write(tmp_path)
    command = [compiler().path, *SYNTAX, "-Wno-unknown-pragmas", source.entry]
    check_output(command, tmp_path)


# ---- operators and functions, printed, compiled and run ----


def rows() -> list[ir.Expr]:
    """Every expression of the table, conditions as 1 or 0."""
    return [ir.Select(e, ir.ONE, ir.ZERO) if ir.type_of(e) is BOOL else e for e, _, _ in TABLE]


def compiled(expressions: list[ir.Expr], dtype: str, folder: Path) -> Any:
    """Compile a function of arrays (7, n) of a, b, c, d, p, q, fired to (rows, n)."""
    dialect = CDialect(dtype)
    lets = tuple(Let(Var(f"r{k}"), e, Phase.CHARGE) for k, e in enumerate(expressions))
    kernel = Kernel("all", (), lets, tuple(Port(x.target, Role.OUTPUT) for x in lets))
    body = [f"to[{k} * n + i] = {expr.text(e, dialect)};" for k, e in enumerate(expressions)]
    take = [f"const real {x} = from[{k} * n + i];" for k, x in enumerate("abcd")]
    take += [f"const bool {x} = from[{4 + k} * n + i] != 0;"
             for k, x in enumerate(("p", "q", "fired"))]  # fmt: skip
    text = "\n".join(
        [
            "#include <math.h>", "#include <stdint.h>", "#include <string.h>",
            "#define NEURON_FUNCTION static inline __attribute__((always_inline))",
            f"typedef {dialect.real} real;", math_functions((kernel,), dtype),
            'extern "C" void run(const real *__restrict from, real *__restrict to, int64_t n) {',
            "    for (int64_t i = 0; i < n; ++i) {", *take, *body, "    }", "}",
        ]
    )  # fmt: skip
    (folder / "all.cpp").write_text(text, encoding="utf-8")
    check_output([compiler().path, *FLAGS, "-o", "all.so", "all.cpp"], folder)
    return ctypes.CDLL(str(folder / "all.so")).run


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_every_operator_and_function_means_what_the_interpreter_says(
    dtype: str, tmp_path: Path
) -> None:
    """The rows of test_expr.py on ordinary numbers, infinities, NaN and both zeros.

    The same bits; rows with a function within 4 ulp, rows with an fma up to the rounding of the
    interpreter, which has none in float64, and a float32 one through float64.
    """
    kind = np.dtype(dtype)
    expressions = rows()
    run = compiled(expressions, dtype, tmp_path)
    rng = np.random.default_rng(0)
    special = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-30, 3e30])
    grid = np.stack(np.meshgrid(special, special, special)).reshape(3, -1)
    grid = np.concatenate([grid, grid[::-1][:1]])
    reals = np.concatenate([grid, rng.uniform(-3, 3, (4, 2000))], axis=1)
    bits = rng.integers(0, 2, (3, reals.shape[1]))
    values = np.ascontiguousarray(np.concatenate([reals, bits]), kind)
    n = values.shape[1]
    got = np.empty((len(expressions), n), kind)
    run(ctypes.c_void_p(values.ctypes.data), ctypes.c_void_p(got.ctypes.data), ctypes.c_int64(n))

    env: dict[str, Any] = dict(zip("abcd", values, strict=False))
    env |= dict(zip(("p", "q", "fired"), values[4:] != 0, strict=True))
    with np.errstate(all="ignore"):
        for row, e in zip(got, expressions, strict=True):
            expected = np.broadcast_to(np.asarray(evaluate(e, env, kind), kind), n)
            nodes = list(ir.walk(e))
            if any(isinstance(x, ir.Call) for x in nodes):
                same_kind(row, expected, str(e))
                finite = np.isfinite(expected)
                np.testing.assert_allclose(
                    row[finite], expected[finite], rtol=4 * np.finfo(kind).eps, atol=0
                )
            elif any(isinstance(x, ir.Fma) for x in nodes):
                ordinary = slice(grid.shape[1], None)
                if kind == np.float32:
                    same_kind(row, expected, str(e))
                    np.testing.assert_array_equal(row[ordinary], expected[ordinary], str(e))
                    np.testing.assert_allclose(row, expected, 1.2e-7)
                else:
                    np.testing.assert_allclose(row[ordinary], expected[ordinary], 1e-13, 1e-14)
            else:
                same_kind(row, expected, str(e))
                np.testing.assert_array_equal(row, expected, err_msg=str(e))


def same_kind(got: np.ndarray, expected: np.ndarray, what: str) -> None:
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), err_msg=what)
    real = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[real]), np.signbit(expected[real]), err_msg=what)


x_ = lnm.input("x")
FUNCTIONS: dict[str, tuple[Any, Callable[[Any], Any], float]] = {
    "exp": (lnm.exp(x_), np.exp, 1.5),
    "log": (lnm.log(x_), np.log, 2.0),
    "tanh": (lnm.tanh(x_), np.tanh, 3.0),
    "sigmoid": (lnm.sigmoid(x_), lambda x: 1 / (1 + np.exp(-x)), 3.0),
    "sqrt": (lnm.sqrt(x_), np.sqrt, 0.5),
    "sin": (lnm.sin(x_), np.sin, 1.0),
    "cos": (lnm.cos(x_), np.cos, 1.0),
}
"""Function -> (expression, reference, stated bound in ulp).

exp, log, tanh and sigmoid are our own polynomials; measured 1.03, 1.96, 2.49 and 2.33 ulp. The
others are libm's. A sigmoid below the smallest normal number is flushed to 0 or off by at most
that number: 1 / (1 + exp(-x)) overflows there.
"""


def arguments_of(kind: np.dtype[Any], rng: np.random.Generator) -> np.ndarray:
    """Draw numbers of every exponent, of the ranges where functions bend, and special ones."""
    info, bits = np.finfo(kind), kind.itemsize * 8
    wide = 110 if kind == np.float32 else 760
    any_bits = rng.integers(0, 2**bits, 1 << 16, dtype=np.uint64).astype(f"u{kind.itemsize}")
    tiny = float(info.smallest_subnormal)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, info.tiny, -info.tiny, tiny, -tiny, info.max,
               -info.max, 1.0, -1.0]  # fmt: skip
    parts = [
        any_bits.view(kind),
        rng.uniform(-wide, wide, 1 << 16),
        rng.uniform(-2, 2, 1 << 16),
        1 + rng.uniform(-1e-2, 1e-2, 1 << 16),
        rng.uniform(-0.02, 0.02, 1 << 16),
        rng.uniform(0, 1, 1 << 14) * float(info.tiny),  # subnormals
        np.log(float(info.tiny)) + rng.uniform(-40, 1, 1 << 14),  # exp is subnormal
        np.log(float(info.max)) + rng.uniform(-1, 1, 1 << 12),  # exp overflows
        special,
    ]
    with np.errstate(over="ignore"):
        return np.concatenate([np.asarray(p).astype(kind) for p in parts])


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_functions_have_no_undefined_behaviour(dtype: DtypeName, tmp_path: Path) -> None:
    """The bits of NaN, zero and negative numbers once overflowed in shifts and differences."""
    x = lnm.input("x")
    functions = (lnm.exp, lnm.sigmoid, lnm.tanh, lnm.log)
    neuron = lnm.Neuron(output={f"y{k}": f(x) for k, f in enumerate(functions)}, name="functions")
    lnm.emit(neuron, "c", dtype=dtype).write(tmp_path)
    call = """#include "functions_step.h"
int main() {
    const double xs[] = {NAN, -NAN, HUGE_VAL, -HUGE_VAL, 0.0, -0.0, 0.3, -0.5, 1e-310, 900.0};
    real y[4];
    for (double x : xs) step_forward(real(x), y[0], y[1], y[2], y[3]);
}
"""
    (tmp_path / "main.cpp").write_text(call, encoding="utf-8")
    stop = ("-fsanitize=undefined", "-fsanitize-undefined-trap-on-error")
    check_output([compiler().path, "-std=c++17", *stop, "main.cpp", "-o", "main"], tmp_path)
    check_output([tmp_path / "main"], tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_within_their_ulp(dtype: str) -> None:
    """Against NumPy in a wider type (float64; for float64 long double), NaN, inf and +-0 exactly.

    One kernel with seven outputs. Where no type is wider, the reference's own half ulp is added.
    """
    kind, info = np.dtype(dtype), np.finfo(dtype)
    outputs = {f"{n}_x": e for n, (e, _, _) in FUNCTIONS.items()}
    layer = lnm.nn.NeuronLayer(lnm.Neuron(output=outputs, name="functions"), backend="c")
    x = arguments_of(kind, np.random.default_rng(0))
    results = layer(torch.from_numpy(x).reshape(1, -1))
    wide = np.float64 if kind == np.float32 else np.longdouble
    for (name, (_, reference, bound)), result in zip(FUNCTIONS.items(), results, strict=True):
        got = result.numpy()[0]
        bound += 0.5 * (np.finfo(wide).nmant <= info.nmant)
        with np.errstate(all="ignore"):
            exact = reference(x.astype(wide))
            nearest = exact.astype(kind)
        kept = np.ones(x.shape, bool)
        if name == "sigmoid":
            kept = ~(exact < float(info.tiny))
            assert (np.abs(got - exact)[~kept & ~np.isnan(x)] <= float(info.tiny)).all()
        same_kind(got[kept], nearest[kept], name)
        np.testing.assert_array_equal(np.isinf(got[kept]), np.isinf(nearest[kept]))
        np.testing.assert_array_equal(got[kept] == 0, nearest[kept] == 0)
        finite = kept & np.isfinite(nearest)
        ulp = np.abs(got[finite].astype(wide) - exact[finite])
        ulp /= np.spacing(np.abs(nearest[finite])).astype(wide)
        worst = np.argmax(ulp)
        assert ulp[worst] <= bound, f"{name}({x[finite][worst]!r}): {float(ulp[worst])} ulp"
