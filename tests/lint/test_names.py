"""Public names: `__all__`, `dir()`, and `py.typed`."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import lnm_codegen as lnm
from lnm_codegen import options
from lnm_codegen.backends import BACKENDS, FIXED_BACKENDS
from lnm_codegen.backends.package import TARGETS
from lnm_codegen.ir.passes.polynomials import SCHEMES
from lnm_codegen.ir.types import Rounding
from lnm_codegen.nn.select import FUSED

ROOT = Path(__file__).parents[2]


def test_each_public_name_is_there() -> None:
    """`__all__` has no name twice and none that is missing, and `dir()` shows it."""
    for name in ("lnm_codegen", "lnm_codegen.nn", "lnm_codegen.train"):
        module = importlib.import_module(name)
        assert len(set(module.__all__)) == len(module.__all__)
        assert set(module.__all__) <= set(dir(module))
        for one in dir(module):
            assert getattr(module, one) is not None


def test_what_a_process_loads() -> None:
    """`dir()` shows the folders that load PyTorch; a family, built or refused, loads none of it.

    Nor does `lnm.plot`, which loads no matplotlib either.

    `lnm.nn` and `lnm.train` show their public names alone. The first unit imports pint.
    """
    code = (
        "import sys, lnm_codegen as lnm; print(*dir(lnm)); lnm.get('lif'); lnm.ode\n"
        "try:\n    lnm.surrogate.from_slope(lambda z: 1 if 2*z > 0 else 0)\n"
        "except lnm.ModelError as error:\n    print('lnm.where' in str(error))\n"
        "print(callable(lnm.plot.poles), {'torch', 'pint', 'matplotlib'} & set(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    names, *found = done.stdout.splitlines()
    assert {"nn", "train", "Neuron", "__version__"} <= set(names.split())
    assert "importlib" not in names.split()
    assert found == ["True", "True set()"]
    assert dir(lnm.nn) == sorted(lnm.nn.__all__)
    assert dir(lnm.train) == sorted(lnm.train.__all__)


def test_the_public_names_of_train_are_those_of_api() -> None:
    """A type checker reads them there."""
    from lnm_codegen.train import api

    assert set(lnm.train.__all__) == {n for n in vars(api) if not n.startswith("__")}


def test_the_package_is_typed() -> None:
    """As its classifier says; what a type checker accepts is what runs."""
    assert (Path(lnm.__file__).parent / "py.typed").read_text(encoding="utf-8") == ""
    for kind, table in (
        (options.SchemeName, SCHEMES),
        (options.TargetName, [*BACKENDS, "verilog"]),
        (options.TargetName, dict.fromkeys([*BACKENDS, *FIXED_BACKENDS])),
        (options.PackageName, TARGETS),
        (options.RoundingName, [r.value for r in Rounding]),
        (options.BackendName, ["auto", *FUSED, "torch"]),
    ):
        assert list(get_args(kind)) == list(table)
