"""Functions of the IR in every table that lists them, and in the recipe of CONTRIBUTING.md."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import lnm_codegen as lnm
from lnm_codegen.analysis.interval import applied, point
from lnm_codegen.backends import expr
from lnm_codegen.backends.c.expr import CDialect
from lnm_codegen.backends.c.expr import math_functions as c_functions
from lnm_codegen.backends.expr import FUNCTIONS, LIBRARY
from lnm_codegen.backends.onnx import Nodes
from lnm_codegen.backends.triton.backend import TritonDialect
from lnm_codegen.backends.triton.backend import math_functions as triton_functions
from lnm_codegen.ir.interpret import run
from lnm_codegen.ir.kernel import Names
from lnm_codegen.ir.nodes import Call, Fn, Kernel, Role, Var
from lnm_codegen.nn.trace.operations import OPERATIONS
from tests.ir.kernels import lets
from tests.refusals import refused

ROOT = Path(__file__).parents[2]
X = Var("x")


def kernel_of(fn: Fn) -> Kernel:
    """Return y = fn(x)."""
    return lets(f"y = {fn.value}(x)", results="y", inputs={Role.INPUT: "x"})


@pytest.mark.parametrize("fn", Fn)
def test_a_function_has_its_value_and_its_derivative(fn: Fn) -> None:
    """From `lnm` to `interpret` and `backward`; the derivative is that of central differences."""
    v, x = lnm.state("v"), lnm.input("x")
    program = lnm.lower(lnm.Neuron(charge={v: getattr(lnm, fn.value)(x)}, output=v))
    at, h = 0.7, 2.0**-20
    values = {"v": 0.0, "x": np.array([at - h, at + h])}
    found = run(program.forward, values)["v_next"]
    assert np.array_equal(found, run(kernel_of(fn), values)["y"])
    seeds = dict.fromkeys(program.backward.input_names(Role.GRAD), 0.0) | {"grad_v_next": 1.0}
    slope = run(program.backward, {"v": 0.0, "x": at} | seeds)["grad_x"]
    assert slope == pytest.approx((found[1] - found[0]) / (2 * h), rel=1e-8)


@pytest.mark.parametrize("fn", Fn)
def test_a_function_is_known_everywhere(fn: Fn) -> None:
    """A backend defines a function, or its library has it; any other was printed all the same.

    `torch.<name>`, which `lnm.trace` reads too, and an operator of ONNX. Its range is its value,
    unless it is periodic: a function without a rule counted as not monotone.
    """
    assert (fn in FUNCTIONS) != (fn in LIBRARY)
    for dtype in ("float32", "float64"):
        if own := FUNCTIONS.get(fn, ""):
            dialects = (CDialect(dtype), TritonDialect(dtype))
            in_c, in_triton = (expr.text(Call(fn, X), d) for d in dialects)
            assert (in_c, in_triton) == (f"{own}(x)", f"_neuron_{fn.value}(x)")
            assert f"real {own}(real x) {{" in c_functions([kernel_of(fn)], dtype)
            assert f"def _neuron_{fn.value}(x):" in triton_functions([kernel_of(fn)], dtype)
    assert callable(getattr(torch, fn.value))
    assert fn.value in OPERATIONS
    printer = Nodes("float32", Names(set()))
    printer.values["x"] = "x"
    assert printer.value(Call(fn, X))
    half = point(Fraction(1, 2))
    if fn in (Fn.SIN, Fn.COS):
        with refused(lnm.UnsupportedError, "here", f"{fn.value!r} is not monotone"):
            applied(fn, half, "here")
    else:
        value = run(kernel_of(fn), {"x": 0.5})["y"]
        assert float(applied(fn, half, "here").low) == pytest.approx(value, rel=1e-15)


def test_the_recipe_names_every_module_that_lists_the_functions() -> None:
    """Found by the cosine, which no module needs for itself."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = page.partition("## Add a function\n")[2].partition("\n## ")[0]
    lists = re.compile(r'\bFn\.COS\b|"cos"|^class cos\b|^cos:', re.MULTILINE)
    package = ROOT / "lnm_codegen"
    found = [p for p in package.rglob("*.py") if lists.search(p.read_text(encoding="utf-8"))]
    assert len(found) > 5
    names = [path.relative_to(package).as_posix() for path in found]
    assert not [name for name in names if f"`{name}`" not in recipe]
